//! Bindings copied out of the location for the store, and rows of the store on their way into it: a buffer that is used again and
//! again, so that once it has grown it allocates nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::binding::Held;
use super::contact_index::Place;
use super::homes::HomeId;
use super::packed_flow::PackedFlow;
use super::ruid::Origins;
use crate::datagram::{Flow, ListenerId, Transport};
use crate::time::Instant;

/// What is to be done with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The store is not known to have it: it is written, whether it is there or not.
    Insert,
    /// The store has it: it is changed.
    Update,
    /// It is taken out. Of such a row `ruid` and `aor` alone are filled in.
    Delete,
    /// The store has told of it: it is to enter the location.
    Load,
    /// All rows of this AoR have been told of. `aor` alone is filled in.
    Complete,
}

/// One binding as the store keeps it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// What is to be done with it.
    pub work: Work,
    /// Its name, unique in the table.
    pub ruid: &'a [u8],
    /// The AoR in canonical form.
    pub aor: &'a [u8],
    /// The contact's URI.
    pub contact: &'a [u8],
    /// The values of Path, comma-separated.
    pub path: &'a [u8],
    /// The Call-ID of the last REGISTER.
    pub call_id: &'a [u8],
    /// Its User-Agent.
    pub user_agent: &'a [u8],
    /// `+sip.instance`, empty without one.
    pub instance: &'a [u8],
    /// The flow by which the last REGISTER came.
    pub flow: Flow,
    /// Whether that flow is the way back, whatever the contact says.
    pub received: bool,
    /// Whether it came by a listener of ours, and not by another server's of the same table.
    pub is_ours: bool,
    /// Which server's, where that is known.
    pub home: HomeId,
    /// When it ends.
    pub expires: Instant,
    /// When it was last saved.
    pub modified: Instant,
    /// The q value in thousandths.
    pub q: Option<u16>,
    /// The CSeq of the last REGISTER.
    pub cseq: u32,
    /// `reg-id`, 0 without one.
    pub reg_id: u32,
}

impl<'a> Row<'a> {
    /// The note that all rows of an AoR have been told of.
    #[must_use]
    pub const fn complete(aor: &'a [u8]) -> Self {
        Self {
            work: Work::Complete,
            ruid: b"",
            aor,
            contact: b"",
            path: b"",
            call_id: b"",
            user_agent: b"",
            instance: b"",
            flow: NO_FLOW,
            received: false,
            is_ours: true,
            home: HomeId::NONE,
            expires: Instant::EPOCH,
            modified: Instant::EPOCH,
            q: None,
            cseq: 0,
            reg_id: 0,
        }
    }
}

/// A buffer of rows.
#[derive(Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    lengths: [u16; TEXTS],
    work: Work,
    q: Option<u16>,
    place: Place,
    flow: PackedFlow,
    home: HomeId,
    expires: Instant,
    modified: Instant,
    cseq: u32,
    reg_id: u32,
}

impl Rows {
    /// Makes a buffer with room for `len` rows of the usual lengths.
    #[must_use]
    pub fn with_capacity(len: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(len * ROW_LEN),
            entries: Vec::with_capacity(len),
        }
    }

    /// Forgets all rows and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// Adds a row that does not come from the location.
    pub fn push(&mut self, row: &Row<'_>) {
        let texts = [
            row.ruid,
            row.aor,
            row.contact,
            row.path,
            row.call_id,
            row.user_agent,
            row.instance,
        ];
        let start = self.start();
        for text in texts {
            self.bytes.extend_from_slice(text);
        }
        self.entries.push(Entry {
            start,
            lengths: texts.map(length),
            work: row.work,
            q: row.q,
            place: Place::NOWHERE,
            flow: PackedFlow::pack(&row.flow)
                .with_received(row.received)
                .with_foreign(!row.is_ours),
            home: row.home,
            expires: row.expires,
            modified: row.modified,
            cseq: row.cseq,
            reg_id: row.reg_id,
        });
    }

    /// Copies a binding.
    pub(super) fn copy(
        &mut self,
        work: Work,
        aor: &[u8],
        (binding, home): (Held<'_>, HomeId),
        place: Place,
        origins: &Origins,
    ) {
        let start = self.start();
        origins.write(binding.ruid, binding.name(), &mut self.bytes);
        let ruid = self.bytes.len() - start as usize;
        let others = if work == Work::Delete {
            [aor, b"", b"", b"", b"", b""]
        } else {
            [
                aor,
                binding.contact(),
                binding.path(),
                binding.call_id(),
                binding.user_agent(),
                binding.instance(),
            ]
        };
        let mut lengths = [0; TEXTS];
        lengths[0] = u16::try_from(ruid).unwrap_or(u16::MAX);
        for (len, text) in lengths.iter_mut().skip(1).zip(others) {
            *len = length(text);
            self.bytes.extend_from_slice(text);
        }
        self.entries.push(Entry {
            start,
            lengths,
            work,
            q: binding.q(),
            place,
            flow: binding.flow(),
            home,
            expires: binding.expires,
            modified: binding.modified,
            cseq: binding.cseq,
            reg_id: binding.reg_id,
        });
    }

    /// Bytes taken from the allocator.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The row at `index`.
    #[must_use]
    pub fn row(&self, index: usize) -> Option<Row<'_>> {
        self.entries.get(index).map(|entry| self.row_of(entry))
    }

    /// The rows in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> + Clone {
        self.entries.iter().map(|entry| self.row_of(entry))
    }

    /// Where the row at `index` was copied from, and what for.
    pub(super) fn place(&self, index: usize) -> Option<(Place, Work)> {
        self.entries
            .get(index)
            .map(|entry| (entry.place, entry.work))
    }

    fn row_of(&self, entry: &Entry) -> Row<'_> {
        let mut rest = self.bytes.get(entry.start as usize..).unwrap_or_default();
        let texts: [&[u8]; TEXTS] = entry.lengths.map(|len| {
            let (text, behind) = rest.split_at_checked(usize::from(len)).unwrap_or_default();
            rest = behind;
            text
        });
        let [ruid, aor, contact, path, call_id, user_agent, instance] = texts;
        Row {
            work: entry.work,
            ruid,
            aor,
            contact,
            path,
            call_id,
            user_agent,
            instance,
            flow: entry.flow.unpack(),
            received: entry.flow.received(),
            is_ours: !entry.flow.is_foreign(),
            home: entry.home,
            expires: entry.expires,
            modified: entry.modified,
            q: entry.q,
            cseq: entry.cseq,
            reg_id: entry.reg_id,
        }
    }

    fn start(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("a batch of the longest rows is far below 4 GiB")
    }
}

fn length(text: &[u8]) -> u16 {
    u16::try_from(text.len()).unwrap_or(u16::MAX)
}

/// The flow of what came by none.
const NO_FLOW: Flow = Flow {
    listener: ListenerId(0),
    transport: Transport::Udp,
    peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
};
const TEXTS: usize = 7;
/// What a row's texts usually take.
const ROW_LEN: usize = 256;
