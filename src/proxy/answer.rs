//! Answers of our own: stateless responses, their keyed To tags, and the ACKs that such a tag tells us to absorb.

use super::output::{Output, SendError};
use super::settings::Settings;
use crate::base32;
use crate::counters::{Counter, Counters};
use crate::datagram::{Flow, Transport};
use crate::keyed_hash::{self, Quick};
use crate::sip::message::Message;
use crate::sip::method::Method;
use crate::sip::reply::Reply;
use crate::sip::status;

/// Makes the To tags of our own responses, and knows them again.
#[derive(Clone)]
pub(super) struct Tags {
    keys: Vec<[u8; 16]>,
    /// For what no ACK will bring back, nor a CANCEL share: such a tag need not be unforgeable.
    quick: Quick,
}

/// The length of a To tag of ours.
pub(super) const TAG_LEN: usize = PREFIX.len() + ENCODED_LEN;

const PREFIX: &[u8] = b"stw";
const ENCODED_LEN: usize = (8_usize * 8).div_ceil(5);

impl Tags {
    /// Tags under the keys of the cluster.
    #[must_use]
    pub(super) fn new(settings: &Settings) -> Self {
        let keys = settings.keys.tags.clone();
        Self {
            quick: Quick::new(&keys.first().copied().unwrap_or_default()),
            keys,
        }
    }

    /// The To tag of our response to `request`: the same for each of its retransmissions.
    #[must_use]
    pub(super) fn tag(&self, request: &Message<'_>) -> [u8; TAG_LEN] {
        if !matches!(request.method(), Method::Register | Method::Options) {
            return tag_under(&self.keys.first().copied().unwrap_or_default(), request);
        }
        let number = request.cseq().number.to_le_bytes();
        let [call_id, from_tag] = dialog(request);
        written(self.quick.hash(&[call_id, from_tag, &number]))
    }

    /// Whether an ACK carries the To tag that we gave its INVITE: then it ends here.
    #[must_use]
    pub(super) fn is_ours(&self, ack: &Message<'_>) -> bool {
        ack.to_tag()
            .filter(|tag| tag.len() == TAG_LEN && tag.starts_with(PREFIX))
            .is_some_and(|tag| self.keys.iter().any(|key| tag_under(key, ack) == tag))
    }
}

impl std::fmt::Debug for Tags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tags")
    }
}

fn tag_under(key: &[u8; 16], request: &Message<'_>) -> [u8; TAG_LEN] {
    let number = request.cseq().number.to_le_bytes();
    written(keyed_hash::mac(key, &dialog(request), &number))
}

/// What a request and its retransmissions have in common, and its ACK and CANCEL with it.
fn dialog<'a>(request: &Message<'a>) -> [&'a [u8]; 2] {
    [request.call_id(), request.from_tag().unwrap_or_default()]
}

fn written(hash: u64) -> [u8; TAG_LEN] {
    let mut tag = [0; TAG_LEN];
    tag[..PREFIX.len()].copy_from_slice(PREFIX);
    base32::encode(&hash.to_be_bytes(), &mut tag[PREFIX.len()..]);
    tag
}

/// Where the responses to a request go.
///
/// RFC 3261 18.2.2 and RFC 3581 4: to the source address; to its port where rport was asked for, else to the port of
/// sent-by. A phone whose sent-by is another *address* than its packets' is behind a NAT, which lets answers in by the
/// source port alone: it gets them there though it did not ask. maddr is not heeded: it would make us a reflector.
#[must_use]
pub(super) fn reply_flow(request: &Message<'_>, source: &Flow) -> Flow {
    let via = request.top_via();
    let is_behind_nat = || {
        let sent_by = via.host().ok().and_then(|host| host.ip());
        sent_by.is_some_and(|ip| ip != source.peer.ip())
    };
    let mut flow = *source;
    if source.transport == Transport::Udp && via.rport_span().is_none() && !is_behind_nat() {
        flow.peer
            .set_port(via.port().unwrap_or(super::identity::PORT_DEFAULT));
    }
    flow
}

/// Answers `request` without a transaction. An ACK is never answered; a send that fails is counted.
pub(super) fn stateless(
    request: &Message<'_>,
    source: &Flow,
    response: &Response<'_>,
    tags: &Tags,
    counters: &Counters,
    out: &mut impl Output,
) {
    let tag = tags.tag(request);
    let reply = Reply::new(request, response.status, response.reason())
        .to_tag(&tag)
        .received(source.peer)
        .headers(response.headers);
    count_final(counters, response.status);
    let sent = send(&reply, &reply_flow(request, source), out);
    count_unsent(counters, sent);
}

/// Sends a response. One of a usual length is put together once and copied: that is less than to measure it first.
pub(super) fn send(reply: &Reply<'_>, flow: &Flow, out: &mut impl Output) -> Result<(), SendError> {
    let mut room = [0; USUAL_LEN];
    match reply.write(&mut room).and_then(|len| room.get(..len)) {
        Some(bytes) => out.send(flow, bytes.len(), |buffer| buffer.copy_from_slice(bytes)),
        None => out.send(flow, reply.len(), |buffer| {
            let _ = reply.write(buffer);
        }),
    }
}

/// Longer than most responses.
const USUAL_LEN: usize = 1_024;

/// A response of our own: its status, and header lines beside the copied ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Response<'a> {
    /// The status code.
    pub(super) status: u16,
    /// The reason phrase, where it is not the status code's own.
    pub(super) phrase: Option<&'a str>,
    /// Complete header lines.
    pub(super) headers: &'a [u8],
}

impl<'a> Response<'a> {
    /// A response with nothing but its status.
    #[must_use]
    pub(super) const fn new(status: u16) -> Self {
        Self {
            status,
            phrase: None,
            headers: b"",
        }
    }

    /// The same, with header lines.
    #[must_use]
    pub(super) const fn with_headers(mut self, headers: &'a [u8]) -> Self {
        self.headers = headers;
        self
    }

    /// The reason phrase.
    #[must_use]
    pub(super) fn reason(&self) -> &'a str {
        self.phrase.unwrap_or_else(|| status::reason(self.status))
    }
}

/// Counts a final response by its class.
pub(super) fn count_final(counters: &Counters, status: u16) {
    let counter = match status {
        200..=299 => Counter::Responses2xx,
        300..=399 => Counter::Responses3xx,
        400..=499 => Counter::Responses4xx,
        500..=599 => Counter::Responses5xx,
        600..=699 => Counter::Responses6xx,
        _ => return,
    };
    counters.increment(counter);
}

/// Counts a message that could not be sent.
pub(super) fn count_unsent(counters: &Counters, sent: Result<(), SendError>) {
    let counter = match sent {
        Ok(()) => return,
        Err(SendError::TooLarge) => Counter::DropTooLarge,
        Err(SendError::Full) => Counter::DropTransmitFull,
        Err(SendError::Unreachable | SendError::NoListener) => Counter::DropUnsendable,
    };
    counters.increment(counter);
}
