//! What phones write, and what left, as they read it.

use strowger::datagram::Flow;

/// A message that left.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) flow: Flow,
    pub(crate) text: String,
}

impl Sent {
    /// The status of a response; 0 of a request.
    pub(crate) fn status(&self) -> u16 {
        let status = self
            .text
            .strip_prefix("SIP/2.0 ")
            .and_then(|rest| rest.get(..3));
        status
            .and_then(|status| status.parse().ok())
            .unwrap_or_default()
    }

    /// The start line.
    pub(crate) fn start_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// The first value of a header, to the letter.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).into_iter().next()
    }

    /// All values of a header.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let head = self.text.split("\r\n\r\n").next().unwrap_or_default();
        head.lines()
            .filter_map(|line| line.split_once(':'))
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// Where it went.
    pub(crate) fn to(&self) -> String {
        self.flow.peer.to_string()
    }

    /// The response that a user agent gives to this request.
    pub(crate) fn answer(&self, status: u16, extra: &str) -> String {
        let mut text = format!("SIP/2.0 {status} Whatever\r\n");
        for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
            for value in self.headers(name) {
                let tag = if name == "To" && status > 100 && !value.contains(";tag=") {
                    ";tag=callee"
                } else {
                    ""
                };
                text.push_str(&format!("{name}: {value}{tag}\r\n"));
            }
        }
        format!("{text}{extra}Content-Length: 0\r\n\r\n")
    }
}

/// A REGISTER of `user` at `contact`.
pub(crate) fn register(user: &str, contact: &str, cseq: u32, extra: &str) -> String {
    format!(
        "REGISTER sip:example.com SIP/2.0\nVia: SIP/2.0/UDP {contact};branch=z9hG4bKreg{user}{cseq}\n\
         Max-Forwards: 70\nFrom: <sip:{user}@example.com>;tag=reg\nTo: <sip:{user}@example.com>\n\
         Call-ID: reg-{user}-{contact}\nCSeq: {cseq} REGISTER\nContact: <sip:{user}@{contact}>\n{extra}Content-Length: 0\n\n"
    )
}

/// A request from a phone at `via`, outside a dialog.
pub(crate) fn request(method: &str, uri: &str, via: &str, branch: &str, extra: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\nVia: SIP/2.0/UDP {via};branch=z9hG4bK{branch}\nMax-Forwards: 70\n\
         From: \"Alice\" <sip:alice@example.com>;tag=caller\nTo: <sip:bob@example.com>\nCall-ID: call-1\n\
         CSeq: 1 {method}\nContact: <sip:alice@{via}>\n{extra}Content-Length: 0\n\n"
    )
}

/// The ACK of a failed INVITE: same branch, the To of the response.
pub(crate) fn ack_of(invite: &str, response: &Sent) -> String {
    let to = format!("To: {}", response.header("To").unwrap_or_default());
    invite
        .replace("INVITE", "ACK")
        .replace("To: <sip:bob@example.com>", &to)
}

/// Where Alice's phone is.
pub(crate) const ALICE: &str = "203.0.113.5:5060";
/// Where Bob's phone is.
pub(crate) const BOB: &str = "203.0.113.9:5070";

/// Alice's INVITE to Bob.
pub(crate) fn invite() -> String {
    request("INVITE", "sip:bob@example.com", ALICE, "inv1", "")
}
