//! A message, read through its index: cheap to copy, borrowed from the bytes that came.

use super::address::Address;
use super::contact::Contact;
use super::cseq::CSeq;
use super::error::{NotSip, Rejection, SipError};
use super::index::{Entry, Index, NONE, Outcome};
use super::method::Method;
use super::name::HeaderName;
use super::span::Span;
use super::value::{Value, Values};
use super::via::Via;

/// What came of parsing.
#[derive(Clone, Copy, Debug)]
pub enum Parsed<'a> {
    /// A message whose mandatory fields are there and well formed.
    Good(Message<'a>),
    /// A request that is wrong, but has a Via to answer it by. What is missing or malformed reads as empty.
    Answerable(Message<'a>, Rejection),
    /// Nothing that can be answered.
    NotSip(NotSip),
}

/// A SIP message: the bytes that came, and the index of their places.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    index: &'a Index,
}

/// One header field.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// The name, as far as we know it.
    pub name: HeaderName,
    /// The name as it is written.
    pub name_bytes: &'a [u8],
    /// The value without whitespace around it; folding within it stays.
    pub value: &'a [u8],
    /// Where the value stands.
    pub value_span: Span,
    /// Where the whole field stands: name, value and line break, with all lines of a folded one.
    pub line_span: Span,
}

/// Parses one message, using `index` as scratch.
///
/// Line breaks before the first line are passed over (RFC 3261 7.5): all offsets count from the first line.
pub fn parse<'a>(bytes: &'a [u8], index: &'a mut Index) -> Parsed<'a> {
    let start = bytes
        .iter()
        .position(|&byte| byte != b'\r' && byte != b'\n');
    let Some(bytes) = start.and_then(|start| bytes.get(start..)) else {
        return Parsed::NotSip(if bytes.is_empty() {
            NotSip::Empty
        } else {
            NotSip::Keepalive
        });
    };
    let outcome = index.read(bytes);
    let bytes = bytes.get(..usize::from(index.body.end)).unwrap_or(bytes);
    let message = Message { bytes, index };
    match outcome {
        Outcome::Good => Parsed::Good(message),
        Outcome::Answerable(rejection) => Parsed::Answerable(message, rejection),
        Outcome::NotSip(cause) => Parsed::NotSip(cause),
    }
}

impl<'a> Message<'a> {
    /// The whole message: from the first line to the end of the body. What came past it is no part of it
    /// (RFC 3261 18.3).
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How long the whole message is.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it is a request.
    #[must_use]
    pub const fn is_request(&self) -> bool {
        self.index.is_request()
    }

    /// The request's method; [`Method::Other`] of a response, whose method its [`CSeq`] tells.
    #[must_use]
    pub const fn method(&self) -> Method {
        self.index.start_line.method
    }

    /// The request's method as it is written; empty in a response.
    #[must_use]
    pub fn method_bytes(&self) -> &'a [u8] {
        self.text(self.index.start_line.method_span)
    }

    /// The Request-URI; empty in a response.
    #[must_use]
    pub fn request_uri(&self) -> &'a [u8] {
        self.text(self.index.start_line.uri)
    }

    /// Where the Request-URI stands.
    #[must_use]
    pub const fn request_uri_span(&self) -> Span {
        self.index.start_line.uri
    }

    /// Where `SIP/2.0` stands in the first line; it may be in lower case, which a sender must not write
    /// (RFC 3261 7.1).
    #[must_use]
    pub const fn version_span(&self) -> Span {
        self.index.start_line.version
    }

    /// The response's status code, 100 to 699; zero of a request.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.index.start_line.status
    }

    /// The response's reason phrase, which may be empty.
    #[must_use]
    pub fn reason(&self) -> &'a [u8] {
        self.text(self.index.start_line.reason)
    }

    /// Where the first line stands, with its line break.
    #[must_use]
    pub const fn start_line_span(&self) -> Span {
        self.index.start_line_span
    }

    /// Where the empty line behind the headers begins: a new field may be put there.
    #[must_use]
    pub const fn headers_end(&self) -> u16 {
        self.index.headers_end
    }

    /// The body: as many octets as Content-Length says, or all that came.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.text(self.index.body)
    }

    /// The bytes at `span`.
    #[inline]
    #[must_use]
    pub fn text(&self, span: Span) -> &'a [u8] {
        span.of(self.bytes)
    }

    /// The first field called `name`, in constant time.
    #[inline]
    #[must_use]
    pub fn header(&self, name: HeaderName) -> Option<Header<'a>> {
        self.index.first(name).map(|entry| self.field(entry))
    }

    /// All fields called `name`, in their order.
    pub fn headers(&self, name: HeaderName) -> Headers<'a> {
        Headers {
            message: *self,
            next: self.index.first_place(name),
        }
    }

    /// All fields in their order.
    pub fn all_headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let message = *self;
        self.index
            .entries()
            .iter()
            .map(move |entry| message.field(entry))
    }

    /// The elements of all fields called `name`: divided at commas outside quotes and `<>`.
    pub fn values(&self, name: HeaderName) -> Values<'a> {
        Values::new(*self, name)
    }

    /// What to cut so that the one element `value` goes; as [`Value::removal_span`].
    #[must_use]
    pub const fn removal_span(&self, value: &Value<'a>) -> Span {
        value.removal_span()
    }

    /// What to cut so that the first `count` elements of the fields called `name` go: one span for each field touched.
    pub fn removal_of_first(
        &self,
        name: HeaderName,
        count: usize,
    ) -> impl Iterator<Item = Span> + use<'a> {
        let mut left = count;
        let mut values = self.values(name);
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let first = values.next()?;
            left -= 1;
            let mut last = first;
            while !last.is_last() {
                if left == 0 {
                    return Some(Span {
                        start: first.span().start,
                        end: last.next_start(),
                    });
                }
                last = values.next()?;
                left -= 1;
            }
            Some(first.line_span())
        })
    }

    /// The Call-ID.
    #[inline]
    #[must_use]
    pub fn call_id(&self) -> &'a [u8] {
        self.text(self.index.call_id)
    }

    /// The CSeq.
    #[must_use]
    pub fn cseq(&self) -> CSeq<'a> {
        CSeq {
            number: self.index.cseq_number,
            method: self.text(self.index.cseq_method),
        }
    }

    /// From.
    #[must_use]
    pub const fn from(&self) -> Address<'a> {
        Address::from_parts(self.bytes, self.index.from)
    }

    /// To.
    #[must_use]
    pub const fn to(&self) -> Address<'a> {
        Address::from_parts(self.bytes, self.index.to)
    }

    /// From's tag; a caller of RFC 2543 may have none.
    #[must_use]
    pub fn from_tag(&self) -> Option<&'a [u8]> {
        self.from().tag()
    }

    /// To's tag; there is none outside a dialog.
    #[must_use]
    pub fn to_tag(&self) -> Option<&'a [u8]> {
        self.to().tag()
    }

    /// The topmost Via. Even of an answerable message it is good as far as sent-by.
    #[must_use]
    pub const fn top_via(&self) -> Via<'a> {
        Via::from_parts(self.bytes, self.index.via)
    }

    /// Max-Forwards, where a request has one.
    #[must_use]
    pub const fn max_forwards(&self) -> Option<u8> {
        self.index.max_forwards
    }

    /// The Expires field in seconds, where a request has one.
    #[must_use]
    pub const fn expires(&self) -> Option<u32> {
        self.index.expires_s
    }

    /// The Contacts of all Contact fields.
    pub fn contacts(&self) -> impl Iterator<Item = Result<Contact<'a>, SipError>> + use<'a> {
        self.values(HeaderName::Contact)
            .map(|value| value.contact())
    }

    /// The index, for the walks.
    pub(super) const fn index(&self) -> &'a Index {
        self.index
    }

    /// The field at an entry of the index.
    fn field(&self, entry: &Entry) -> Header<'a> {
        Header {
            name: entry.name,
            name_bytes: self.text(Span {
                start: entry.start,
                end: entry.name_end,
            }),
            value: self.text(entry.value),
            value_span: entry.value,
            line_span: Span {
                start: entry.start,
                end: entry.line_end,
            },
        }
    }
}

/// The walk of [`Message::headers`].
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    message: Message<'a>,
    next: Option<u8>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        let entry = self.message.index.entry(self.next?)?;
        self.next = (entry.next != NONE).then_some(entry.next);
        Some(self.message.field(entry))
    }
}
