//! The requests that the emulated agents send, and the branch by which a response finds its operation.

use std::net::SocketAddr;

use crate::limits::MAX_FORWARDS_DEFAULT;
use crate::sip::Sink;

/// A message that is being written.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft(pub(super) Vec<u8>);

impl Sink for Draft {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// What tells one client transaction of a load from all others; it is the Via branch's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    /// Which load: a random number.
    pub(super) run: u32,
    /// Which operation.
    pub(super) slot: u32,
    /// Which use of its place.
    pub(super) generation: u32,
    /// Which of its transactions.
    pub(super) serial: u8,
}

/// One request, but for what is the same in all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) uri: &'a [u8],
    /// Whence it is sent.
    pub(super) source: SocketAddr,
    pub(super) branch: Branch,
    /// The value of From, with its tag; so for To.
    pub(super) from: &'a [u8],
    pub(super) to: &'a [u8],
    pub(super) call_id: &'a [u8],
    pub(super) cseq: u32,
    /// Whole lines: Route, Contact, credentials, ...
    pub(super) headers: &'a [u8],
    /// A session description, or nothing.
    pub(super) body: &'a [u8],
}

impl Request<'_> {
    /// Writes it.
    pub(super) fn write(&self, out: &mut Draft) {
        out.0.clear();
        out.put(self.method.as_bytes());
        out.put(b" ");
        out.put(self.uri);
        out.put(b" SIP/2.0\r\nVia: SIP/2.0/UDP ");
        put_address(self.source, out);
        // RFC 3581: a load may run behind a NAT as well as any phone.
        out.put(b";rport;branch=");
        self.branch.write(out);
        out.put(b"\r\nMax-Forwards: ");
        out.put_decimal(u64::from(MAX_FORWARDS_DEFAULT));
        out.put(b"\r\nFrom: ");
        out.put(self.from);
        out.put(b"\r\nTo: ");
        out.put(self.to);
        out.put(b"\r\nCall-ID: ");
        out.put(self.call_id);
        out.put(b"\r\nCSeq: ");
        out.put_decimal(u64::from(self.cseq));
        out.put(b" ");
        out.put(self.method.as_bytes());
        out.put(b"\r\n");
        out.put(self.headers);
        out.put(b"User-Agent: strowger-load\r\n");
        put_body(self.body, out);
    }
}

/// Ends a message with its body.
pub(super) fn put_body(body: &[u8], out: &mut Draft) {
    if !body.is_empty() {
        out.put(b"Content-Type: application/sdp\r\n");
    }
    out.put(b"Content-Length: ");
    out.put_decimal(body.len() as u64);
    out.put(b"\r\n\r\n");
    out.put(body);
}

/// Puts an address and its port, as a URI and a sent-by have them.
pub(super) fn put_address(address: SocketAddr, out: &mut Draft) {
    out.put_host_ip(address.ip());
    out.put(b":");
    out.put_decimal(u64::from(address.port()));
}

/// A session description of one audio stream, held at `address`.
pub(super) fn session_description(address: SocketAddr) -> Vec<u8> {
    let (ip, family) = match address {
        SocketAddr::V4(address) => (address.ip().to_string(), "IP4"),
        SocketAddr::V6(address) => (address.ip().to_string(), "IP6"),
    };
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio 49170 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )
    .into_bytes()
}

impl Branch {
    /// Writes it, magic cookie and all.
    pub(super) fn write(self, out: &mut Draft) {
        out.put(COOKIE);
        out.put_hex(u64::from(self.run), 8);
        out.put_hex(u64::from(self.slot), 8);
        out.put_hex(u64::from(self.generation), 8);
        out.put_hex(u64::from(self.serial), 2);
    }

    /// Reads it; nothing where it is not one of ours.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let digits = text.strip_prefix(COOKIE)?;
        if digits.len() != DIGITS || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let number = |from: usize, to: usize| {
            let part = std::str::from_utf8(digits.get(from..to)?).ok()?;
            u32::from_str_radix(part, 16).ok()
        };
        Some(Self {
            run: number(0, 8)?,
            slot: number(8, 16)?,
            generation: number(16, 24)?,
            serial: u8::try_from(number(24, 26)?).ok()?,
        })
    }
}

const COOKIE: &[u8] = b"z9hG4bK";
const DIGITS: usize = 26;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{Index, Method, Parsed, parse};

    #[test]
    fn a_request_is_what_it_says_to_a_parser() {
        let branch = Branch {
            run: 0xdead_beef,
            slot: 7,
            generation: 9,
            serial: 2,
        };
        let body = session_description(([192, 0, 2, 1], 5070).into());
        let mut draft = Draft::default();
        let request = Request {
            method: "INVITE",
            uri: b"sip:bob@example.com",
            source: "[2001:db8::1]:5070".parse().expect("an address"),
            branch,
            from: b"<sip:alice@example.com>;tag=1",
            to: b"<sip:bob@example.com>",
            call_id: b"a@b",
            cseq: 3,
            headers: b"Contact: <sip:alice@192.0.2.1>\r\n",
            body: &body,
        };
        request.write(&mut draft);
        let mut index = Index::new();
        let Parsed::Good(message) = parse(&draft.0, &mut index) else {
            panic!("{}", String::from_utf8_lossy(&draft.0));
        };
        assert_eq!(message.method(), Method::Invite);
        assert_eq!(message.body(), body);
        assert_eq!(message.top_via().sent_by(), b"[2001:db8::1]:5070");
        let text = message.top_via().branch().expect("a branch");
        assert_eq!(Branch::read(text), Some(branch));
    }

    #[test]
    fn the_branches_of_others_are_not_ours() {
        for text in [
            &b""[..],
            b"z9hG4bK",
            b"z9hG4bK00000000000000000000000000-",
            b"z9hG4bK+0000000000000000000000000",
        ] {
            assert_eq!(Branch::read(text), None);
        }
    }
}
