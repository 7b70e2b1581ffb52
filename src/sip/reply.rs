//! A response to a request, written by copying from it (RFC 3261 8.2.6, 18.2.1; RFC 3581 4).

use std::net::SocketAddr;

use super::message::{Header, Message};
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

#[expect(clippy::len_without_is_empty, reason = "a response is never empty")]
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

    /// Writes the response; gives its length, or none where `out` is shorter than [`Reply::len`].
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let mut text = Text::new(out);
        self.put(&mut text);
        text.finish()
    }

    fn put(&self, out: &mut impl Sink) {
        match (self.status, self.reason) {
            (200, "OK") => out.put(b"SIP/2.0 200 OK\r\n"),
            (100, "Trying") => out.put(b"SIP/2.0 100 Trying\r\n"),
            (status, reason) => {
                out.put(b"SIP/2.0 ");
                out.put_decimal(u64::from(status));
                out.put(b" ");
                out.put(reason.as_bytes());
                out.put(b"\r\n");
            }
        }
        self.put_vias(out);
        self.put_copy(HeaderName::From, out);
        self.put_to(out);
        self.put_copy(HeaderName::CallId, out);
        self.put_copy(HeaderName::CSeq, out);
        if self.with_record_route {
            for field in self.request.headers(HeaderName::RecordRoute) {
                self.put_field(&field, out);
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
            self.put_top(&via, source, out);
            let rest = Span {
                start: via.span().end,
                end: first.value_span.end,
            };
            self.put_flat(self.request.text(rest), out);
            out.put(b"\r\n");
        } else {
            fields = self.request.headers(HeaderName::Via);
        }
        for field in fields {
            self.put_field(&field, out);
        }
    }

    fn put_to(&self, out: &mut impl Sink) {
        let Some(to) = self.request.header(HeaderName::To) else {
            return;
        };
        match self.to_tag {
            Some(tag) if self.request.to_tag().is_none() => {
                out.put(b"To: ");
                self.put_flat(to.value, out);
                out.put(b";tag=");
                out.put(tag);
                out.put(b"\r\n");
            }
            _ => self.put_field(&to, out),
        }
    }

    /// Copies the first field called `name`, where there is one.
    fn put_copy(&self, name: HeaderName, out: &mut impl Sink) {
        if let Some(field) = self.request.header(name) {
            self.put_field(&field, out);
        }
    }

    /// Copies a field on one line: as it stands, where it is written as we would, else under its name.
    fn put_field(&self, field: &Header<'_>, out: &mut impl Sink) {
        let line = self.request.text(field.line_span);
        let name = field.name.as_str().as_bytes();
        let is_named_so =
            field.name_bytes == name && line.get(name.len()..name.len() + 2) == Some(b": ");
        let is_whole = line.len() == name.len() + field.value.len() + 4 && line.ends_with(b"\r\n");
        if is_named_so
            && is_whole
            && (self.request.is_plain() || scan::find_line_break(field.value, 0).is_none())
        {
            return out.put(line);
        }
        out.put(name);
        out.put(b": ");
        self.put_flat(field.value, out);
        out.put(b"\r\n");
    }

    /// Writes the topmost Via with the packet's source in place of what the sender wrote.
    fn put_top(&self, via: &Via<'_>, source: SocketAddr, out: &mut impl Sink) {
        let request = &self.request;
        self.put_flat(
            request.text(Span {
                start: via.span().start,
                end: via.sent_by_end(),
            }),
            out,
        );
        if via.needs_received(source) {
            via.put_stamp(source, out);
        }
        if let Some(spans) = via.stamp_spans() {
            let mut at = via.sent_by_end();
            for span in spans.into_iter().flatten() {
                out.put(request.text(Span {
                    start: at,
                    end: span.start,
                }));
                at = span.end;
            }
            return out.put(request.text(Span {
                start: at,
                end: via.span().end,
            }));
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
                self.put_flat(request.text(param.span), out);
            }
        }
    }

    /// Writes `text` on one line: a space for each CR and LF. Folding is whitespace (RFC 3261 7.3.1), and a bare CR or LF of a
    /// request that is refused must not divide our response.
    fn put_flat(&self, text: &[u8], out: &mut impl Sink) {
        if self.request.is_plain() {
            return out.put(text);
        }
        let mut rest = text;
        while let Some(at) = scan::find_line_break(rest, 0) {
            out.put(rest.get(..at).unwrap_or_default());
            out.put(b" ");
            rest = rest.get(at + 1..).unwrap_or_default();
        }
        out.put(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::index::Index;
    use crate::sip::message::{Parsed, parse};

    const REQUEST: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.1:5060;received=9.9.9.9;branch=z9hG4bK1;rport=1 , SIP/2.0/TCP\r\n h2;branch=z9hG4bK0\r\n\
        v: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK2\r\n\
        Record-Route: <sip:192.0.2.2;lr>\r\n\
        From: <sip:alice@example.com>\r\n ;tag=a1\r\n\
        To: sip:bob@example.com\r\n\
        i: c1\r\n\
        Timestamp: 5\r\n\
        CSeq: 7 INVITE\r\n\
        \r\n";

    fn written(request: &str, reply: impl FnOnce(Reply<'_>) -> Vec<u8>) -> String {
        let mut index = Index::new();
        let message = match parse(request.as_bytes(), &mut index) {
            Parsed::Good(message) | Parsed::Answerable(message, _) => message,
            Parsed::NotSip(cause) => panic!("{cause:?}"),
        };
        String::from_utf8(reply(Reply::new(&message, 200, "OK"))).expect("text")
    }

    fn bytes(reply: Reply<'_>) -> Vec<u8> {
        let mut out = vec![0; reply.len()];
        assert_eq!(reply.write(&mut out), Some(out.len()));
        let short = out.len() - 1;
        assert_eq!(reply.write(&mut vec![0; short]), None);
        out
    }

    fn source(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_response_copies_what_rfc_3261_says() {
        let text = written(REQUEST, |reply| {
            let source = source("203.0.113.7:40000");
            bytes(
                reply
                    .to_tag(b"t9")
                    .received(source)
                    .record_route(true)
                    .headers(b"Server: x\r\n"),
            )
        });
        assert_eq!(
            text,
            "SIP/2.0 200 OK\r\n\
             Via: SIP/2.0/UDP 192.0.2.1:5060;received=203.0.113.7;rport=40000;branch=z9hG4bK1 , SIP/2.0/TCP   h2;branch=z9hG4bK0\r\n\
             Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK2\r\n\
             From: <sip:alice@example.com>   ;tag=a1\r\n\
             To: sip:bob@example.com;tag=t9\r\n\
             Call-ID: c1\r\n\
             CSeq: 7 INVITE\r\n\
             Record-Route: <sip:192.0.2.2;lr>\r\n\
             Server: x\r\n\
             Content-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_trying_has_the_timestamp_and_no_tag() {
        let request = REQUEST.to_owned();
        let text = written(&request, |reply| {
            bytes(Reply {
                status: 100,
                reason: "Trying",
                ..reply
            })
        });
        assert!(text.starts_with(
            "SIP/2.0 100 Trying\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;received=9.9.9.9;"
        ));
        assert!(text.contains("\r\nTimestamp: 5\r\n"));
        assert!(text.contains("\r\nTo: sip:bob@example.com\r\n"));
    }

    #[test]
    fn a_tag_that_is_there_stays() {
        let request = REQUEST.replace(
            "To: sip:bob@example.com",
            "To: <sip:bob@example.com>;tag=theirs",
        );
        let text = written(&request, |reply| bytes(reply.to_tag(b"ours")));
        assert!(text.contains("To: <sip:bob@example.com>;tag=theirs\r\n"));
        assert!(!text.contains("ours"));
    }

    #[test]
    fn received_is_written_where_the_source_is_not_sent_by() {
        let top = |via: &str, from: &str| {
            let request = format!("OPTIONS sip:a SIP/2.0\r\nVia: {via}\r\n\r\n");
            let text = written(&request, |reply| bytes(reply.received(source(from))));
            text.lines()
                .nth(1)
                .map(|line| line.trim_start_matches("Via: ").to_owned())
                .expect("a Via")
        };
        let same = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1";
        assert_eq!(top(same, "192.0.2.1:5060"), same);
        assert_eq!(
            top(same, "192.0.2.1:9"),
            same,
            "without rport the port is that of sent-by"
        );
        assert_eq!(
            top("SIP/2.0/UDP h;branch=z9hG4bK1", "192.0.2.1:9"),
            "SIP/2.0/UDP h;received=192.0.2.1;branch=z9hG4bK1"
        );
        assert_eq!(
            top("SIP/2.0/UDP 192.0.2.1;RPORT", "192.0.2.1:9"),
            "SIP/2.0/UDP 192.0.2.1;received=192.0.2.1;rport=9"
        );
        assert_eq!(
            top("SIP/2.0/UDP [2001:db8::1] ;x", "[2001:db8::1]:9"),
            "SIP/2.0/UDP [2001:db8::1] ;x"
        );
        assert_eq!(
            top("SIP/2.0/UDP [2001:db8::1]", "[2001:db8::2]:9"),
            "SIP/2.0/UDP [2001:db8::1];received=2001:db8::2"
        );
        assert_eq!(
            top("SIP/2.0/UDP 192.0.2.15;;,;,,", "192.0.2.16:9"),
            "SIP/2.0/UDP 192.0.2.15;received=192.0.2.16;;,;,,"
        );
    }

    #[test]
    fn an_edited_request_has_the_same_stamp() {
        let mut index = Index::new();
        let Parsed::Good(message) = parse(REQUEST.as_bytes(), &mut index) else {
            panic!("a good request")
        };
        let mut edits = crate::sip::Edits::new();
        message
            .top_via()
            .stamp(source("203.0.113.7:40000"), &mut edits)
            .expect("it fits");
        let mut out = vec![0; edits.len(message.end())];
        assert_eq!(edits.write(message.bytes(), &mut out), Ok(out.len()));
        let text = String::from_utf8(out).expect("text");
        let top = "Via: SIP/2.0/UDP 192.0.2.1:5060;received=203.0.113.7;rport=40000;branch=z9hG4bK1 , SIP/2.0/TCP\r\n h2;";
        assert!(text.contains(top), "{text}");
    }

    #[test]
    fn what_a_request_lacks_its_response_lacks() {
        let text = written(
            "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n\r\n",
            |reply| bytes(reply.to_tag(b"t")),
        );
        assert_eq!(
            text,
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h\r\nContent-Length: 0\r\n\r\n"
        );
    }
}
