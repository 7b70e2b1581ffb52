//! Changes on their way between this node's location and others': a row each, and what only nodes tell each other.
//!
//! A buffer of them is used again and again, so that once it has grown it allocates nothing.

use super::homes::HomeId;
use super::rows::{Row, Rows, Work};

/// What a binding has beside its row where the location is shared with other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Orders the states of a contact: microseconds since 1970, at least one more than any seen before.
    pub version: u64,
    /// The node that gave this version.
    pub server_id: u16,
    /// Where it registered, if it was another node.
    pub home: HomeId,
    /// Kamailio's flags of the contact.
    pub flags: u32,
    /// Kamailio's branch flags.
    pub cflags: u32,
    /// Kamailio's mask of the methods that the contact allows.
    pub methods: u32,
}

/// One change.
#[derive(Clone, Copy, Debug)]
pub struct Delta<'a> {
    /// The contact; with [`Work::Delete`] its removal, of which `aor` and `ruid` alone count.
    pub row: Row<'a>,
    /// What nodes tell each other.
    pub facts: Facts,
}

/// A buffer of changes.
#[derive(Debug, Default)]
pub struct Deltas {
    rows: Rows,
    facts: Vec<Facts>,
}

impl Facts {
    /// What a contact has that registered here.
    #[must_use]
    pub const fn own(version: u64, server_id: u16, cflags: u32) -> Self {
        Self {
            version,
            server_id,
            home: HomeId::NONE,
            flags: 0,
            cflags,
            methods: METHODS_ALL,
        }
    }
}

impl Delta<'_> {
    /// Whether the contact is removed.
    #[must_use]
    pub fn is_removal(&self) -> bool {
        self.row.work == Work::Delete
    }
}

impl Deltas {
    /// A buffer with room for `len` changes of the usual lengths.
    #[must_use]
    pub fn with_capacity(len: usize) -> Self {
        Self {
            rows: Rows::with_capacity(len),
            facts: Vec::with_capacity(len),
        }
    }

    /// Gives those that registered elsewhere, nobody knows where, this home.
    pub fn house(&mut self, home: HomeId) {
        let rows = self.rows.iter().map(|row| row.is_ours);
        for (facts, is_ours) in self.facts.iter_mut().zip(rows) {
            if !facts.home.is_some() && !is_ours {
                facts.home = home;
            }
        }
    }

    /// Forgets all changes and keeps the room.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.facts.clear();
    }

    /// Adds a change.
    pub fn push(&mut self, delta: &Delta<'_>) {
        self.rows.push(&delta.row);
        self.facts.push(delta.facts);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// The change at `index`.
    #[must_use]
    pub fn delta(&self, index: usize) -> Option<Delta<'_>> {
        let facts = *self.facts.get(index)?;
        self.rows.row(index).map(|row| Delta { row, facts })
    }

    /// The changes in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Delta<'_>> {
        let both = self.rows.iter().zip(&self.facts);
        both.map(|(row, facts)| Delta { row, facts: *facts })
    }

    /// The rows, for a binding to be copied into; the caller adds its facts with [`Deltas::note`].
    pub(super) fn rows_mut(&mut self) -> &mut Rows {
        &mut self.rows
    }

    pub(super) fn note(&mut self, facts: Facts) {
        self.facts.push(facts);
    }
}

/// Every method, as Kamailio's table says of a contact that tells none.
pub const METHODS_ALL: u32 = u32::MAX;
