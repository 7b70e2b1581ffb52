//! A response to a request, written by copying from it (RFC 3261 8.2.6, 18.2.1; RFC 3581 4).

use std::net::SocketAddr;

use super::message::Message;
use super::name::HeaderName;
use super::params::Params;
use super::span::Span;
use super::text::{Length, Sink, Text};
use super::via::Via;
use crate::scan;

/// A response that is about to be written. It never has a body.
///
/// Of an answerable request, whatever is missing is left out, and what is malformed is copied but for its line breaks.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    request: Message<'a>,
    status: u16,
    reason: &'a str,
    to_tag: Option<&'a [u8]>,
    source: Option<SocketAddr>,
    with_record_route: bool,
    headers: &'a [u8],
}

impl<'a> Reply<'a> {
    /// A response with `status` and `reason`, for now without a To-tag, and with the top Via as it came.
    #[must_use]
    pub const fn new(request: &Message<'a>, status: u16, reason: &'a str) -> Self {
        Self {
            request: *request,
            status,
            reason,
            to_tag: None,
            source: None,
            with_record_route: false,
            headers: b"",
        }
    }

    /// Adds a tag to To, where it has none (RFC 3261 8.2.6.2).
    #[must_use]
    pub const fn to_tag(mut self, tag: &'a [u8]) -> Self {
        self.to_tag = Some(tag);
        self
    }

    /// Puts the packet's source into the top Via, as [`Via::stamp`] does.
    #[must_use]
    pub const fn received(mut self, source: SocketAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Says whether Record-Route is copied (RFC 3261 12.1.1: into what sets up a dialog).
    #[must_use]
    pub const fn record_route(mut self, with: bool) -> Self {
        self.with_record_route = with;
        self
    }

    /// Adds header fields: whole lines, each with its CRLF.
    #[must_use]
    pub const fn headers(mut self, lines: &'a [u8]) -> Self {
        self.headers = lines;
        self
    }

    /// How long the response is.
    #[must_use]
    pub fn len(&self) -> usize {
        let mut length = Length::default();
        self.put(&mut length);
        length.0
    }

    /// Whether the response is empty; it never is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes the response; gives its length, or none where `out` is shorter than [`Reply::len`].
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let mut text = Text::new(out);
        self.put(&mut text);
        text.finish()
    }

    fn put(&self, out: &mut impl Sink) {
        out.put(b"SIP/2.0 ");
        out.put_decimal(u64::from(self.status));
        out.put(b" ");
        out.put(self.reason.as_bytes());
        out.put(b"\r\n");
        self.put_vias(out);
        self.put_copy(HeaderName::From, out);
        self.put_to(out);
        self.put_copy(HeaderName::CallId, out);
        self.put_copy(HeaderName::CSeq, out);
        if self.with_record_route {
            for field in self.request.headers(HeaderName::RecordRoute) {
                put_field(HeaderName::RecordRoute, field.value, b"", out);
            }
        }
        // RFC 3261 8.2.6.1: a 100 has the Timestamp of its request.
        if self.status == 100 {
            self.put_copy(HeaderName::Timestamp, out);
        }
        out.put(self.headers);
        out.put(b"Content-Length: 0\r\n\r\n");
    }

    /// All Vias in their order (RFC 3261 8.2.6.2), the topmost with the packet's source.
    fn put_vias(&self, out: &mut impl Sink) {
        let mut fields = self.request.headers(HeaderName::Via);
        if let (Some(first), Some(source)) = (fields.next(), self.source) {
            let via = self.request.top_via();
            out.put(b"Via: ");
            put_top(&self.request, &via, source, out);
            let rest = Span {
                start: via.span().end,
                end: first.value_span.end,
            };
            put_flat(self.request.text(rest), out);
            out.put(b"\r\n");
        } else {
            fields = self.request.headers(HeaderName::Via);
        }
        for field in fields {
            put_field(HeaderName::Via, field.value, b"", out);
        }
    }

    fn put_to(&self, out: &mut impl Sink) {
        let Some(to) = self.request.header(HeaderName::To) else {
            return;
        };
        match self.to_tag {
            Some(tag) if self.request.to_tag().is_none() => {
                out.put(b"To: ");
                put_flat(to.value, out);
                out.put(b";tag=");
                out.put(tag);
                out.put(b"\r\n");
            }
            _ => put_field(HeaderName::To, to.value, b"", out),
        }
    }

    /// Copies the first field called `name`, where there is one.
    fn put_copy(&self, name: HeaderName, out: &mut impl Sink) {
        if let Some(field) = self.request.header(name) {
            put_field(name, field.value, b"", out);
        }
    }
}

/// Writes the topmost Via with the packet's source in place of what the sender wrote.
fn put_top(request: &Message<'_>, via: &Via<'_>, source: SocketAddr, out: &mut impl Sink) {
    put_flat(
        request.text(Span {
            start: via.span().start,
            end: via.sent_by_end(),
        }),
        out,
    );
    if via.needs_received(source) {
        via.put_stamp(source, out);
    }
    // The parameters of an answerable request's Via may be malformed: they are told apart by name alone.
    let behind = Span {
        start: via.sent_by_end(),
        end: via.span().end,
    };
    for param in &Params::new(request.bytes(), behind) {
        let is_ours = param.name.eq_ignore_ascii_case(b"received")
            || param.name.eq_ignore_ascii_case(b"rport");
        if !is_ours {
            put_flat(request.text(param.span), out);
        }
    }
}

fn put_field(name: HeaderName, value: &[u8], behind: &[u8], out: &mut impl Sink) {
    out.put(name.as_str().as_bytes());
    out.put(b": ");
    put_flat(value, out);
    out.put(behind);
    out.put(b"\r\n");
}

/// Writes `text` on one line: a space for each CR and LF. Folding is whitespace (RFC 3261 7.3.1), and a bare CR or LF of a
/// request that is refused must not divide our response.
fn put_flat(text: &[u8], out: &mut impl Sink) {
    let mut rest = text;
    while let Some(at) = scan::find_line_break(rest, 0) {
        out.put(rest.get(..at).unwrap_or_default());
        out.put(b" ");
        rest = rest.get(at + 1..).unwrap_or_default();
    }
    out.put(rest);
}
