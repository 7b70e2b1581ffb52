//! The messages of an agent, plain and odd.

use std::fmt::Write as _;

use super::super::message::{Message, Name};
use super::super::random::Random;
use super::{Agent, Context};

/// What of a request is not the same for all.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) uri: &'a str,
    /// The value of Via.
    pub(super) via: &'a str,
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) call_id: &'a str,
    pub(super) cseq: u32,
    pub(super) routes: &'a [String],
    /// Whole lines.
    pub(super) extra: &'a str,
    pub(super) body: Vec<u8>,
}

impl Agent {
    /// A Via value with a branch of its own; of an old agent one without the cookie.
    pub(super) fn via(&mut self) -> String {
        let (id, number) = (self.id, self.name());
        let mut via = format!("SIP/2.0/{} {}", self.transport.as_str(), self.local);
        if self.habits.asks_rport {
            via.push_str(";rport");
        }
        let cookie = if self.habits.is_old { "" } else { "z9hG4bK" };
        let _ = write!(via, ";branch={cookie}a{id}n{number}");
        via
    }

    /// A tag of its own.
    pub(super) fn new_tag(&mut self) -> String {
        let number = self.name();
        format!("t{}x{number}", self.id)
    }

    /// Its Contact URI.
    pub(crate) fn contact(&self) -> String {
        let transport = if self.transport.is_reliable() {
            ";transport=tcp"
        } else {
            ""
        };
        if self.habits.has_name {
            format!("sip:{}@{}{transport}", self.user, self.host_name())
        } else {
            format!("sip:{}@{}{transport}", self.user, self.local)
        }
    }

    /// The name by which the resolver knows it.
    pub(crate) fn host_name(&self) -> String {
        format!("phone{}.sim.test", self.id)
    }

    /// Writes a request.
    pub(super) fn request(&self, request: &Request<'_>, random: &mut Random) -> Vec<u8> {
        let compact = self.habits.is_compact;
        let name = |long, short| if compact { short } else { long };
        let mut text = format!(
            "{} {} SIP/2.0\r\n{}: {}\r\n",
            request.method,
            request.uri,
            name("Via", "v"),
            request.via
        );
        for route in request.routes {
            let _ = write!(text, "Route: {route}\r\n");
        }
        // RFC 2543 had no Max-Forwards in every request.
        if !self.habits.is_old {
            text.push_str("Max-Forwards: 70\r\n");
        }
        let _ = write!(
            text,
            "{}: {}\r\n{}: {}\r\n{}: {}\r\nCSeq: {} {}\r\n{}",
            name("From", "f"),
            request.from,
            name("To", "t"),
            request.to,
            name("Call-ID", "i"),
            request.call_id,
            request.cseq,
            request.method,
            request.extra
        );
        put_oddities(&mut text, random);
        finish(text, request.body.clone())
    }

    /// Writes a response to a request.
    pub(super) fn response(
        &self,
        request: &Message<'_>,
        status: u16,
        to_tag: &str,
        extra: &str,
        ctx: &mut Context<'_>,
    ) -> Vec<u8> {
        let mut text = format!("SIP/2.0 {status} {}\r\n", reason(status));
        let vias: Vec<&str> = request.values(Name::Via).collect();
        if ctx.random.chance(300) {
            let _ = write!(text, "Via: {}\r\n", vias.join(", "));
        } else {
            let via = if self.habits.is_compact { "v" } else { "VIA" };
            for value in vias {
                let _ = write!(text, "{via}: {value}\r\n");
            }
        }
        let is_dialog = matches!(request.method(), "INVITE") && (101..300).contains(&status);
        if is_dialog {
            for value in request.values(Name::RecordRoute) {
                let _ = write!(text, "Record-Route: {value}\r\n");
            }
        }
        let to = request.first(Name::To).unwrap_or_default();
        let tag = if status > 100 && request.tag(Name::To).is_none() {
            format!(";tag={to_tag}")
        } else {
            String::new()
        };
        let _ = write!(
            text,
            "From: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n{extra}",
            request.first(Name::From).unwrap_or_default(),
            request.call_id(),
            request.first(Name::CSeq).unwrap_or_default(),
        );
        put_oddities(&mut text, ctx.random);
        finish(text, body(ctx.random))
    }
}

/// What a body holds: mostly nothing, else anything at all.
pub(super) fn body(random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => (0..random.range(1, 300))
            .map(|_| u8::try_from(random.below(256)).expect("a byte"))
            .collect(),
        1 => b"v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\n\r\n\r\n".to_vec(),
        _ => Vec::new(),
    }
}

/// Fields that a proxy does not know, written in ways that it must not tidy up.
fn put_oddities(text: &mut String, random: &mut Random) {
    const ODDITIES: &[&str] = &[
        "X-Empty:\r\n",
        "x-spaced   :    a  b\t c   \r\n",
        "X-Folded: one,\r\n  two,\r\n\tthree\r\n",
        "X-Utf8: \"J\u{00fc}rgen\" <sip:\u{4e2d}@example.org>\r\n",
        "Subject: Via: not a Via\r\n",
        "s: compact\r\n",
        "X-Comma: a,, b;tag=no\r\n",
        "Allow: INVITE, ACK,BYE\r\n",
        "Supported:\r\n",
        "P-Asserted-Identity: <sip:x@example.org>;q=\"a,b\"\r\n",
    ];
    for _ in 0..random.below(3) {
        text.push_str(random.pick(ODDITIES));
    }
}

fn finish(mut text: String, body: Vec<u8>) -> Vec<u8> {
    let _ = write!(text, "Content-Length: {}\r\n\r\n", body.len());
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}

fn reason(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        200 => "OK",
        486 => "Busy Here",
        487 => "Request Terminated",
        _ => "As It Is",
    }
}
