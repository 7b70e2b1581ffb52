//! Contacts copied out of the location: a worker's reusable scratch, so that no lock is held while they are used.

use super::binding::Held;
use super::packed_flow::PackedFlow;
use crate::datagram::{Flow, ListenerId};
use crate::time::Instant;

/// The contacts that the last operation gave out. Once it has grown to its greatest use it allocates nothing.
#[derive(Debug, Default)]
pub struct Targets {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
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
}

impl Target<'_> {
    /// The q value in thousandths. RFC 3841 7.2.3: a contact without one counts as 1.0.
    #[must_use]
    pub fn q(&self) -> u16 {
        self.q.unwrap_or(Q_DEFAULT)
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    uri: u16,
    path: u16,
    q: Option<u16>,
    received: bool,
    flow: PackedFlow,
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
        }
    }

    /// Forgets all contacts and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a binding's texts are shorter than 64 KiB, an AoR's than 4 GiB"
    )]
    pub(super) fn push(&mut self, binding: Held<'_>) {
        let (uri, path) = (binding.contact(), binding.path());
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(uri);
        self.bytes.extend_from_slice(path);
        self.entries.push(Entry {
            start,
            uri: uri.len() as u16,
            path: path.len() as u16,
            q: binding.q(),
            received: binding.received(),
            flow: binding.flow(),
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

    /// The contacts in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Target<'_>> + Clone {
        self.entries.iter().map(|entry| self.target_of(entry))
    }

    /// The contact at `index` of the order.
    #[must_use]
    pub fn target(&self, index: usize) -> Option<Target<'_>> {
        self.entries.get(index).map(|entry| self.target_of(entry))
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

    fn target_of(&self, entry: &Entry) -> Target<'_> {
        let start = entry.start as usize;
        let middle = start + usize::from(entry.uri);
        let flow = entry.flow.unpack();
        Target {
            uri: self.bytes.get(start..middle).unwrap_or_default(),
            path: self
                .bytes
                .get(middle..middle + usize::from(entry.path))
                .unwrap_or_default(),
            q: entry.q,
            expires: entry.expires,
            listener: flow.listener,
            received: entry.received.then_some(flow),
        }
    }
}

/// The q of a contact that has none.
const Q_DEFAULT: u16 = 1_000;
/// Room for texts and contacts to begin with.
const BYTES: usize = 4_096;
const ENTRIES: usize = 16;
