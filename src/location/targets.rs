//! Contacts copied out of the location: a worker's reusable scratch, so that no lock is held while they are used.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::binding::Held;
use super::homes::HomeId;
use super::packed_flow::PackedFlow;
use crate::datagram::{Flow, ListenerId, Transport};
use crate::time::Instant;

/// The contacts that the last operation gave out. Once it has grown to its greatest use it allocates nothing.
#[derive(Debug, Default)]
pub struct Targets {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    replaced: u32,
}

/// One contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The contact's URI, as the phone wrote it.
    pub uri: &'a [u8],
    /// The values of Path (RFC 3327), comma-separated, the first to be visited first; empty without one.
    pub path: &'a [u8],
    /// The q value in thousandths.
    pub q: Option<u16>,
    /// When the binding ends.
    pub expires: Instant,
    /// Our listener that it registered at.
    pub listener: ListenerId,
    /// The flow to use instead of what the URI says, where the phone is behind a NAT or on a connection.
    pub received: Option<Flow>,
    /// `+sip.instance` (RFC 5626), empty without one.
    pub instance: &'a [u8],
    /// The number of its flow (RFC 5626), 0 without one.
    pub reg_id: u32,
    /// The Call-ID of its REGISTER.
    pub call_id: &'a [u8],
    /// The CSeq of its REGISTER.
    pub cseq: u32,
    /// The node that it registered at, if it is another.
    pub home: HomeId,
}

impl Target<'_> {
    /// The q value in thousandths. RFC 3841 7.2.3: a contact without one counts as 1.0.
    #[must_use]
    pub fn q(&self) -> u16 {
        self.q.unwrap_or(Q_DEFAULT)
    }

    /// Whether it is one of the flows of an instance (RFC 5626).
    #[must_use]
    pub fn is_flow(&self) -> bool {
        self.reg_id > 0 && !self.instance.is_empty()
    }

    /// Whether both are flows of one instance, of which one is used at a time (RFC 5626 7).
    #[must_use]
    pub fn is_alternative_to(&self, other: &Target<'_>) -> bool {
        self.is_flow() && other.is_flow() && self.instance == other.instance
    }

    /// Whether it is reached by the flow of its REGISTER and by nothing else.
    #[must_use]
    pub fn is_by_flow(&self) -> bool {
        self.is_flow() && self.path.is_empty() && self.received.is_some()
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    uri: u16,
    path: u16,
    instance: u16,
    call_id: u16,
    reg_id: u32,
    cseq: u32,
    q: Option<u16>,
    received: bool,
    flow: PackedFlow,
    home: HomeId,
    expires: Instant,
    modified: Instant,
    /// Its place in the AoR's list: what came first stands first.
    rank: u32,
}

impl Targets {
    /// Makes a scratch with room for what most AoRs hold.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(BYTES),
            entries: Vec::with_capacity(ENTRIES),
            replaced: 0,
        }
    }

    /// Forgets all contacts and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.replaced = 0;
    }

    /// How many contacts the last operation removed to make room.
    #[must_use]
    pub const fn replaced(&self) -> u32 {
        self.replaced
    }

    pub(super) fn note_replaced(&mut self, replaced: u32) {
        self.replaced = replaced;
    }

    /// Leaves out what `keep` says no to.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Target<'_>) -> bool) {
        let bytes = &self.bytes;
        self.entries.retain(|entry| keep(&target_of(bytes, entry)));
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a binding's texts are shorter than 64 KiB, an AoR's than 4 GiB"
    )]
    pub(super) fn push(&mut self, binding: Held<'_>, home: HomeId) {
        let [uri, _, call_id, instance, address, path, _] = binding.all();
        let start = self.bytes.len() as u32;
        for text in [uri, path, instance, call_id] {
            self.bytes.extend_from_slice(text);
        }
        self.entries.push(Entry {
            start,
            uri: uri.len() as u16,
            path: path.len() as u16,
            instance: instance.len() as u16,
            call_id: call_id.len() as u16,
            reg_id: binding.reg_id,
            cseq: binding.cseq,
            q: binding.q(),
            received: binding.received(),
            flow: binding.flow_at(address),
            home,
            expires: binding.expires,
            modified: binding.modified,
            rank: self.entries.len() as u32,
        });
    }

    /// Puts the highest q first, among equals the newest, and leaves out what is past the first `len_max`.
    pub(super) fn rank(&mut self, len_max: usize) {
        let q = |entry: &Entry| entry.q.unwrap_or(Q_DEFAULT);
        self.entries.sort_unstable_by(|a, b| {
            q(b).cmp(&q(a))
                .then(b.modified.cmp(&a.modified))
                .then(a.rank.cmp(&b.rank))
        });
        self.entries.truncate(len_max);
    }

    /// Has the contact at `index` reached by a path that `write` appends, and by no flow of ours.
    pub fn lead(&mut self, index: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(mut entry) = self.entries.get(index).copied() else {
            return;
        };
        let whole = [entry.uri, entry.path, entry.instance, entry.call_id];
        let whole = whole.map(usize::from).iter().sum::<usize>();
        let (from, start) = (entry.start as usize, self.bytes.len());
        // Its texts stand behind each other: they are written anew, the path in its place.
        let uri_end = from + usize::from(entry.uri);
        let rest = uri_end + usize::from(entry.path)..from + whole;
        self.bytes.extend_from_within(from..uri_end);
        let path = self.bytes.len();
        write(&mut self.bytes);
        let path = u16::try_from(self.bytes.len() - path);
        self.bytes.extend_from_within(rest);
        let (Ok(path), Ok(start)) = (path, u32::try_from(start)) else {
            return;
        };
        (entry.start, entry.path, entry.received) = (start, path, false);
        if let Some(held) = self.entries.get_mut(index) {
            *held = entry;
        }
    }

    /// Makes a contact that is reached by a path, and by nothing else, the only one.
    pub fn lead_to(&mut self, uri: &[u8], listener: ListenerId, write: impl FnOnce(&mut Vec<u8>)) {
        self.clear();
        let Ok(len) = u16::try_from(uri.len()) else {
            return;
        };
        self.bytes.extend_from_slice(uri);
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let flow = Flow {
            listener,
            transport: Transport::Udp,
            peer,
        };
        self.entries.push(Entry {
            start: 0,
            uri: len,
            path: 0,
            instance: 0,
            call_id: 0,
            reg_id: 0,
            cseq: 0,
            q: None,
            received: false,
            flow: PackedFlow::pack(&flow),
            home: HomeId::NONE,
            expires: Instant::EPOCH,
            modified: Instant::EPOCH,
            rank: 0,
        });
        self.lead(0, write);
    }

    /// The contacts in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Target<'_>> + Clone {
        self.entries
            .iter()
            .map(|entry| target_of(&self.bytes, entry))
    }

    /// The contact at `index` of the order.
    #[must_use]
    pub fn target(&self, index: usize) -> Option<Target<'_>> {
        self.entries
            .get(index)
            .map(|entry| target_of(&self.bytes, entry))
    }

    /// How many contacts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[inline]
fn target_of<'a>(bytes: &'a [u8], entry: &Entry) -> Target<'a> {
    let mut rest = bytes.get(entry.start as usize..).unwrap_or_default();
    let [uri, path, instance, call_id] = [entry.uri, entry.path, entry.instance, entry.call_id]
        .map(|len| {
            let (text, behind) = rest.split_at_checked(usize::from(len)).unwrap_or_default();
            rest = behind;
            text
        });
    let flow = entry.flow.unpack();
    Target {
        uri,
        path,
        q: entry.q,
        expires: entry.expires,
        listener: flow.listener,
        received: entry.received.then_some(flow),
        instance,
        reg_id: entry.reg_id,
        call_id,
        cseq: entry.cseq,
        home: entry.home,
    }
}

/// The q of a contact that has none.
const Q_DEFAULT: u16 = 1_000;
/// Room for texts and contacts to begin with.
const BYTES: usize = 4_096;
const ENTRIES: usize = 16;
