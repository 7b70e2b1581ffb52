//! A KDMQ message: how the requests and the answers of nodes look on the wire, header by header as Kamailio writes them.

use std::net::SocketAddr;

use crate::sip::message::Message;
use crate::sip::name::HeaderName;
use crate::sip::{Uri, method::Method};

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
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
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
        let uri = Uri::parse(request.request_uri()).ok()?;
        match uri.user? {
            b"notification_peer" => Some(Self::Notification),
            b"usrloc" => Some(Self::Usrloc),
            _ => None,
        }
    }
}

impl Request<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (user, to, from) = (self.channel.as_str(), self.to, self.from);
        let head = format!(
            "KDMQ sip:{user}@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch={}\r\nTo: <sip:{user}@{to}>\r\n\
             From: <sip:{user}@{from}>;tag={}\r\nCSeq: 10 KDMQ\r\nCall-ID: {}@{}\r\nContent-Length: {}\r\n\
             User-Agent: {NAME}\r\nMax-Forwards: {}\r\nContent-Type: {}\r\n\r\n",
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
}

/// Writes the answer to a request; `body` is the list of nodes, or nothing.
pub(super) fn write_answer(
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
    let rest = format!(
        "{content_type}Server: {NAME}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(rest.as_bytes());
    out.extend_from_slice(body);
}

/// The node that a request says it is of: a literal address with a port.
pub(super) fn sender(request: &Message<'_>) -> Option<SocketAddr> {
    let uri = request.from().uri().ok()?;
    let ip = uri.host.ip()?;
    Some(SocketAddr::new(ip, uri.port.unwrap_or(5_060)))
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
