//! A KDMQ message: how the requests and the answers of nodes look on the wire, header by header as Kamailio writes them.

use super::address::NodeAddress;
use super::seal::{Seal, Seals};
use crate::sip::message::Message;
use crate::sip::method::Method;
use crate::sip::name::HeaderName;
use crate::time::Instant;

/// What a message is about: the user of its Request-URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// Membership.
    Notification,
    /// Contacts.
    Usrloc,
}

/// A request of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) channel: Channel,
    /// Ourselves, by the transport that the other node is spoken to by.
    pub(super) from: NodeAddress,
    pub(super) to: NodeAddress,
    /// Its branch, with the magic cookie.
    pub(super) branch: &'a str,
    /// Unique, without the host.
    pub(super) call_id: &'a str,
    pub(super) tag: &'a str,
    /// How far it goes: not 70, but the hops of gossip that are left.
    pub(super) max_forwards: u8,
    pub(super) body: &'a [u8],
}

impl Channel {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Notification => "notification_peer",
            Self::Usrloc => "usrloc",
        }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Notification => "text/plain",
            Self::Usrloc => "application/json",
        }
    }

    /// The channel that a request is for.
    pub(super) fn of(request: &Message<'_>) -> Option<Self> {
        let uri = request.read_request_uri().ok()?;
        match uri.user? {
            b"notification_peer" => Some(Self::Notification),
            b"usrloc" => Some(Self::Usrloc),
            _ => None,
        }
    }
}

impl Request<'_> {
    pub(super) fn write(&self, now: Instant, seals: &Seals, out: &mut Vec<u8>) {
        let (user, to, from) = (self.channel.as_str(), self.to, self.from);
        let seal = self.seal(now, seals);
        let head = format!(
            "KDMQ sip:{user}@{to} SIP/2.0\r\nVia: SIP/2.0/{} {};branch={}\r\nTo: <sip:{user}@{to}>\r\n\
             From: <sip:{user}@{from}>;tag={}\r\nCSeq: 10 KDMQ\r\nCall-ID: {}@{}\r\nContent-Length: {}\r\n\
             User-Agent: {NAME}\r\nMax-Forwards: {}\r\n{seal}Content-Type: {}\r\n\r\n",
            from.transport.as_str(),
            from.socket,
            self.branch,
            self.tag,
            self.call_id,
            from.ip(),
            self.body.len(),
            self.max_forwards,
            self.channel.content_type(),
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(self.body);
    }

    fn seal(&self, now: Instant, seals: &Seals) -> String {
        if seals.is_empty() {
            return String::new();
        }
        let user = self.channel.as_str();
        let (to, from) = (self.to, self.from);
        let parts: [&[u8]; 7] = [
            REQUEST,
            &format!("sip:{user}@{to}").into_bytes(),
            &format!("sip:{user}@{from}").into_bytes(),
            &format!("{}@{}", self.call_id, from.ip()).into_bytes(),
            self.branch.as_bytes(),
            &[self.max_forwards],
            self.body,
        ];
        seals.line(now, &parts)
    }
}

/// What the seal of a message is worth.
pub(super) fn seal_of(now: Instant, seals: &Seals, message: &Message<'_>) -> Seal {
    let branch = message.top_via().branch().unwrap_or_default();
    if !message.is_request() {
        let status = message.status().to_be_bytes();
        let parts = [ANSWER, &status, message.call_id(), branch, message.body()];
        return seals.check(now, message, &parts);
    }
    let hops = message.max_forwards().unwrap_or(0);
    let parts = [
        REQUEST,
        message.request_uri(),
        message.from().uri_bytes(),
        message.call_id(),
        branch,
        &[hops],
        message.body(),
    ];
    seals.check(now, message, &parts)
}

/// Writes the answer to a request; `body` is the list of nodes, or nothing.
pub(super) fn write_answer(
    (now, seals): (Instant, &Seals),
    request: &Message<'_>,
    status: (u16, &str),
    tag: &str,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(format!("SIP/2.0 {} {}\r\n", status.0, status.1).as_bytes());
    for header in request.all_headers() {
        let copied = COPIED.iter().find(|(name, _)| *name == header.name);
        let Some((name, text)) = copied else {
            continue;
        };
        out.extend_from_slice(text);
        // A folded line is put on one.
        let value = header.value.iter();
        out.extend(value.map(|byte| match byte {
            b'\r' | b'\n' => b' ',
            byte => *byte,
        }));
        if *name == HeaderName::To && request.to_tag().is_none() {
            out.extend_from_slice(b";tag=");
            out.extend_from_slice(tag.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    let content_type = if body.is_empty() {
        ""
    } else {
        "Content-Type: text/plain\r\n"
    };
    let branch = request.top_via().branch().unwrap_or_default();
    let code = status.0.to_be_bytes();
    let seal = seals.line(now, &[ANSWER, &code, request.call_id(), branch, body]);
    let rest = format!(
        "{seal}{content_type}Server: {NAME}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(rest.as_bytes());
    out.extend_from_slice(body);
}

/// The node that a request says it is of; one that says a name is known by the address that it sends from.
pub(super) fn sender(request: &Message<'_>, from: NodeAddress) -> Option<NodeAddress> {
    NodeAddress::of(&request.from().uri().ok()?, Some(from.ip()))
}

/// Whether a message is of ours.
pub(super) fn is_kdmq(message: &Message<'_>) -> bool {
    if message.is_request() {
        message.method() == Method::Kdmq
    } else {
        message.cseq().method == b"KDMQ"
    }
}

/// Whether the other side is of our kind: it says so.
pub(super) fn is_strowger(message: &Message<'_>) -> bool {
    [HeaderName::UserAgent, HeaderName::Server]
        .iter()
        .filter_map(|name| message.header(*name))
        .any(|header| header.value.starts_with(b"strowger"))
}

/// Tells a seal on a request from one on an answer.
const REQUEST: &[u8] = b"request";
const ANSWER: &[u8] = b"answer";
/// What an answer copies from its request.
const COPIED: &[(HeaderName, &[u8])] = &[
    (HeaderName::Via, b"Via: "),
    (HeaderName::From, b"From: "),
    (HeaderName::To, b"To: "),
    (HeaderName::CallId, b"Call-ID: "),
    (HeaderName::CSeq, b"CSeq: "),
];
/// What we call ourselves.
const NAME: &str = concat!("strowger/", env!("CARGO_PKG_VERSION"));
