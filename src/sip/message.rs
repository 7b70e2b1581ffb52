//! A message, read through its index: cheap to copy, borrowed from the bytes that came.

use super::address::Address;
use super::contact::Contact;
use super::cseq::CSeq;
use super::elements::{Elements, Headers};
use super::error::{NotSip, Rejection, SipError};
use super::index::{Entry, Index, Outcome};
use super::method::Method;
use super::name::HeaderName;
use super::span::Span;
use super::uri::Uri;
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

    /// Reads the Request-URI.
    pub fn read_request_uri(&self) -> Result<Uri<'a>, SipError> {
        Uri::parse_within(self.bytes, self.index.start_line.uri)
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
        Headers::new(*self, self.index.first_place(name))
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

    /// Whether the topmost Via is the only one.
    #[must_use]
    pub fn has_one_via(&self) -> bool {
        let mut fields = self.headers(HeaderName::Via);
        let is_alone = fields
            .next()
            .is_some_and(|first| first.value_span.end == self.top_via().span().end);
        if is_alone && fields.next().is_none() {
            return true;
        }
        self.values(HeaderName::Via).nth(1).is_none()
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
    pub fn contacts(&self) -> Elements<'a, Contact<'a>> {
        Elements::new(*self, self.index.first_place(HeaderName::Contact))
    }

    /// The addresses of all fields called `name`: of Route and the like.
    pub fn addresses(&self, name: HeaderName) -> Elements<'a, Address<'a>> {
        Elements::new(*self, self.index.first_place(name))
    }

    /// Whether no line of the head is folded, and each ends with CRLF: then no value has a CR or an LF.
    pub(super) const fn is_plain(&self) -> bool {
        self.index.is_plain
    }

    /// The index, for the walks.
    pub(super) const fn index(&self) -> &'a Index {
        self.index
    }

    /// The field at an entry of the index.
    pub(super) fn field(&self, entry: &Entry) -> Header<'a> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::error::RejectionCause;
    use crate::sip::tests::{INVITE, dropped, good, rejection};

    #[test]
    fn the_fields_of_a_request_are_read() {
        good(INVITE, |message| {
            assert!(message.is_request());
            assert_eq!(message.method(), Method::Invite);
            assert_eq!(message.request_uri(), b"sip:bob@example.com");
            assert_eq!(message.text(message.version_span()), b"SIP/2.0");
            assert_eq!(message.call_id(), b"c1@192.0.2.1");
            assert_eq!(
                message.cseq(),
                CSeq {
                    number: 7,
                    method: b"INVITE"
                }
            );
            assert_eq!(message.from().display(), b"\"Alice, A.\"");
            assert_eq!(message.from_tag(), Some(&b"a1"[..]));
            assert_eq!(message.to_tag(), None);
            assert_eq!(message.max_forwards(), Some(70));
            assert_eq!(message.expires(), None);
            assert_eq!(message.top_via().branch(), Some(&b"z9hG4bK1"[..]));
            assert_eq!(message.top_via().rport(), Some(None));
            assert_eq!(message.body(), b"body");
            assert!(message.bytes().ends_with(b"\r\n\r\nbody"));
            assert_eq!(
                message.bytes().get(usize::from(message.headers_end())..),
                Some(&b"\r\nbody"[..])
            );
            assert_eq!(message.all_headers().count(), 11);
            let other = message.header(HeaderName::Other).expect("one");
            assert_eq!(
                (other.name_bytes, other.value),
                (&b"X-Unknown"[..], &b"one"[..])
            );
            assert_eq!(message.text(other.line_span), b"X-Unknown: one\r\n");
        });
    }

    #[test]
    fn the_fields_of_a_response_are_read() {
        let text = "SIP/2.0 180 Ringing here\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
            To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n";
        good(text, |message| {
            assert!(!message.is_request());
            assert_eq!(
                (message.status(), message.reason()),
                (180, &b"Ringing here"[..])
            );
            assert_eq!(message.method(), Method::Other);
            assert_eq!(message.method_bytes(), b"");
            assert_eq!(message.request_uri(), b"");
            assert_eq!(message.to_tag(), Some(&b"2"[..]));
        });
    }

    #[test]
    fn line_breaks_before_the_first_line_are_passed_over() {
        good(&format!("\r\n\r\n{INVITE}"), |message| {
            assert!(message.bytes().starts_with(b"INVITE"));
            assert_eq!(message.call_id(), b"c1@192.0.2.1");
        });
        assert_eq!(dropped("\r\n\r\n"), NotSip::Keepalive);
        assert_eq!(dropped(""), NotSip::Empty);
    }

    #[test]
    fn a_bare_line_break_is_refused_and_never_forwarded() {
        assert_eq!(
            rejection(&INVITE.replace("\r\n", "\n")),
            Some(RejectionCause::LineBreak)
        );
        assert_eq!(
            rejection(&INVITE.replace("X-Unknown: one", "X-Unknown: a\nVia: b")),
            Some(RejectionCause::LineBreak)
        );
        assert_eq!(
            rejection(&INVITE.replace("X-Unknown: one", "X-Unknown: a\rVia: b")),
            Some(RejectionCause::LineBreak)
        );
        assert_eq!(
            rejection(&INVITE.replace("\r\n\r\n", "\r\n\n")),
            Some(RejectionCause::LineBreak)
        );
        assert_eq!(
            rejection(&INVITE.replace("SIP/2.0\r\n", "SIP/2.0\n")),
            Some(RejectionCause::LineBreak)
        );
    }

    #[test]
    fn what_cannot_be_answered_is_dropped() {
        let no_via = INVITE.replace(
            "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport\r\nv:",
            "X:",
        );
        assert_eq!(dropped(&no_via), NotSip::Unanswerable(RejectionCause::Via));
        let ack = INVITE
            .replace("INVITE", "ACK")
            .replace("Max-Forwards: 70", "Max-Forwards: 999");
        assert_eq!(
            dropped(&ack),
            NotSip::MalformedAck(RejectionCause::MaxForwards)
        );
        let response = INVITE.replace("INVITE sip:bob@example.com SIP/2.0", "SIP/2.0 200 OK");
        assert_eq!(
            dropped(&response.replace("Content-Length: 4", "Content-Length: 999")),
            NotSip::MalformedResponse(RejectionCause::BodyTruncated)
        );
        assert_eq!(dropped(&"A".repeat(70_000)), NotSip::TooLong);
        assert_eq!(dropped("\0\x01\u{21}\u{12}"), NotSip::StartLine);
    }

    #[test]
    fn an_index_forgets_the_message_before() {
        let mut index = Index::new();
        assert!(matches!(
            parse(INVITE.as_bytes(), &mut index),
            Parsed::Good(_)
        ));
        let short = "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n\r\n";
        let Parsed::Answerable(message, _) = parse(short.as_bytes(), &mut index) else {
            panic!("answerable")
        };
        assert_eq!(message.all_headers().count(), 1);
        assert!(message.header(HeaderName::From).is_none());
        assert_eq!(
            (message.call_id(), message.max_forwards()),
            (&b""[..], None)
        );
        assert_eq!(message.from().uri_bytes(), b"");
        assert_eq!(message.values(HeaderName::Route).count(), 0);
    }
}
