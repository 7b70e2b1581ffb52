//! What phones send: REGISTER, OPTIONS, and the messages of a call, as phones of today write them.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::bed::Arrival;

/// The address of a phone: each has its own.
pub(crate) fn address(phone: u32) -> SocketAddr {
    let [_, b, c, d] = phone.to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, b, c, d)), 5_060)
}

/// The user that a phone registers.
pub(crate) fn user(phone: u32) -> String {
    format!("{}", 4_930_200_000_u64 + u64::from(phone))
}

/// A 32-bit number that looks drawn by lot, another for each input.
pub(crate) fn scattered(n: u32) -> u32 {
    let mut n = n.wrapping_mul(0x9e37_79b9);
    n ^= n >> 16;
    n = n.wrapping_mul(0x85eb_ca6b);
    n ^ (n >> 13)
}

/// A REGISTER of a phone. `at` is what its Contact and its Via name, `contact` follows the Contact's URI, `headers` the other lines.
pub(crate) fn register(
    phone: u32,
    cseq: u32,
    at: SocketAddr,
    contact: &str,
    headers: &str,
) -> Arrival {
    let (user, call, branch) = (user(phone), scattered(phone), scattered(phone ^ cseq << 20));
    let text = format!(
        "REGISTER sip:example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP {at};rport;branch=z9hG4bK-524287-1---{branch:08x}{cseq:08x}\r\n\
         Max-Forwards: 70\r\n\
         Contact: <sip:{user}@{at}>{contact}\r\n\
         To: <sip:{user}@example.com>\r\n\
         From: <sip:{user}@example.com>;tag={call:08x}\r\n\
         Call-ID: {call:08x}{:08x}@{}\r\n\
         CSeq: {cseq} REGISTER\r\n\
         Expires: 3600\r\n\
         Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, NOTIFY, UPDATE\r\n\
         User-Agent: Phone T46U 108.86.0.20\r\n\
         {headers}Content-Length: 0\r\n\r\n",
        scattered(call),
        at.ip()
    );
    Arrival {
        bytes: text.into_bytes(),
        source: address(phone),
    }
}

/// An OPTIONS to the server itself.
pub(crate) fn options(phone: u32, cseq: u32) -> Arrival {
    let at = address(phone);
    let (user, call) = (user(phone), scattered(phone));
    let text = format!(
        "OPTIONS sip:example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP {at};rport;branch=z9hG4bK{call:08x}{cseq:08x}\r\n\
         Max-Forwards: 70\r\n\
         To: <sip:example.com>\r\n\
         From: <sip:{user}@example.com>;tag={call:08x}\r\n\
         Call-ID: {call:08x}o@{}\r\n\
         CSeq: {cseq} OPTIONS\r\n\
         Accept: application/sdp\r\n\
         User-Agent: Phone T46U 108.86.0.20\r\n\
         Content-Length: 0\r\n\r\n",
        at.ip()
    );
    Arrival {
        bytes: text.into_bytes(),
        source: at,
    }
}

/// Who calls whom.
#[derive(Clone, Copy)]
pub(crate) struct Parties {
    pub(crate) call: u32,
    pub(crate) caller: u32,
    pub(crate) callee: u32,
}

impl Parties {
    /// A request of the caller outside of any dialog.
    pub(crate) fn first(&self, method: &str, kind: &str, body: &str) -> Arrival {
        let uri = format!("sip:{}@example.com", user(self.callee));
        self.request(
            (method, 1),
            (&uri, ""),
            "",
            "Supported: replaces, timer\r\n",
            (kind, body),
        )
    }

    /// A request of the caller within the dialog that `relayed` began.
    pub(crate) fn within(&self, method: &str, cseq: u32, record: &str) -> Arrival {
        let at = address(self.callee);
        let uri = format!("sip:{}@{at}", user(self.callee));
        let route = format!("Route: {record}\r\n");
        self.request(
            (method, cseq),
            (&uri, ";tag=callee"),
            &route,
            "",
            ("application/sdp", ""),
        )
    }

    fn request(
        &self,
        (method, cseq): (&str, u32),
        (uri, to_tag): (&str, &str),
        route: &str,
        headers: &str,
        (kind, body): (&str, &str),
    ) -> Arrival {
        let at = address(self.caller);
        let (caller, callee) = (user(self.caller), user(self.callee));
        let (call, branch) = (
            scattered(self.call),
            scattered(self.call ^ cseq << 24) ^ method.len() as u32,
        );
        let mut text = format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {at};rport;branch=z9hG4bK-524287-1---{branch:08x}{:08x}\r\n\
             Max-Forwards: 70\r\n{route}\
             Contact: <sip:{caller}@{at}>\r\n\
             To: <sip:{callee}@example.com>{to_tag}\r\n\
             From: <sip:{caller}@example.com>;tag={call:08x}\r\n\
             Call-ID: {:08x}{call:08x}@{}\r\n\
             CSeq: {cseq} {method}\r\n{headers}",
            self.call,
            self.call,
            at.ip()
        );
        if !body.is_empty() {
            let _ = write!(text, "Content-Type: {kind}\r\n");
        }
        let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
        Arrival {
            bytes: text.into_bytes(),
            source: at,
        }
    }

    /// What the callee answers to the request that reached it.
    pub(crate) fn answer(&self, relayed: &str, status: &str, body: &str) -> Arrival {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for line in relayed.lines().take_while(|line| !line.is_empty()) {
            let is_copied = ["Via:", "Record-Route:", "From:", "Call-ID:", "CSeq:"]
                .iter()
                .any(|name| line.starts_with(name));
            if is_copied {
                let _ = write!(text, "{line}\r\n");
            } else if line.starts_with("To:") {
                let tag = if line.contains(";tag=") {
                    ""
                } else {
                    ";tag=callee"
                };
                let _ = write!(text, "{line}{tag}\r\n");
            }
        }
        let at = address(self.callee);
        let _ = write!(
            text,
            "Contact: <sip:{}@{at}>\r\nUser-Agent: Phone T46U 108.86.0.20\r\n",
            user(self.callee)
        );
        if !body.is_empty() {
            text.push_str("Content-Type: application/sdp\r\n");
        }
        let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
        Arrival {
            bytes: text.into_bytes(),
            source: at,
        }
    }
}

/// What a phone offers to hear.
pub(crate) fn session_description(phone: u32) -> String {
    let at = address(phone).ip();
    format!(
        "v=0\r\no=- 20518 0 IN IP4 {at}\r\ns=-\r\nc=IN IP4 {at}\r\nt=0 0\r\n\
         m=audio 11780 RTP/AVP 9 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
    )
}
