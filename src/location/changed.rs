//! What the store is to be told: the bindings of a shard that have changed, in a list through the bindings themselves.
//!
//! The location is the queue. A binding stands in the list once, however often it changes, and is copied out as it is then: so the
//! newest change wins, what waits is bounded by the bindings and their removals, and a store that is away costs no memory. A
//! shard's rows are with the store in one batch at a time; what changes meanwhile enters the list anew. So when a batch that took
//! the whole list is committed, every change up to that moment is.

use super::aor::AorKey;
use super::binding::{Binding, Stored};
use super::contact_index::Place;
use super::rows::{Rows, Work};
use super::ruid::Origins;
use super::shard::Shard;
use super::slab::{NIL, Slab};
use crate::time::Instant;

/// A binding's place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    next: u32,
    before: u32,
}

/// The list of one shard.
#[derive(Debug)]
pub(super) struct Changed {
    /// Whether there is a store at all; without one nothing is listed.
    is_kept: bool,
    head: u32,
    tail: u32,
    len: u32,
    /// Whether a batch with rows of this shard is with the store.
    in_flight: bool,
    /// The shard's number of changes when that batch took the whole list.
    taken_through: Option<u64>,
    /// Every change up to this number is committed.
    committed: u64,
}

impl Link {
    /// In no list.
    pub(super) const UNLISTED: Self = Self {
        next: OUT,
        before: OUT,
    };

    pub(super) fn is_listed(self) -> bool {
        self.next != OUT
    }
}

impl Changed {
    pub(super) const fn new() -> Self {
        Self {
            is_kept: false,
            head: NIL,
            tail: NIL,
            len: 0,
            in_flight: false,
            taken_through: None,
            committed: 0,
        }
    }

    /// Begins to list what changes.
    pub(super) fn keep(&mut self) {
        self.is_kept = true;
    }

    /// Whether there is a store.
    pub(super) const fn is_kept(&self) -> bool {
        self.is_kept
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Every change up to this number is committed, of `sequence` in all.
    pub(super) fn committed(&self, sequence: u64) -> u64 {
        let nothing_waits = self.head == NIL && !self.in_flight;
        if nothing_waits {
            sequence
        } else {
            self.committed
        }
    }

    /// Puts a binding at the end of the list, if it stands nowhere in it.
    pub(super) fn list(&mut self, bindings: &mut Slab<Binding>, index: u32) {
        let before = self.tail;
        let Some(binding) = bindings.value_mut(index) else {
            return;
        };
        if !self.is_kept || binding.link.is_listed() {
            return;
        }
        binding.link = Link { next: NIL, before };
        match bindings.value_mut(before) {
            Some(last) => last.link.next = index,
            None => self.head = index,
        }
        self.tail = index;
        self.len += 1;
    }

    /// Takes a binding out of the list, wherever it stands.
    pub(super) fn unlist(&mut self, bindings: &mut Slab<Binding>, index: u32) {
        let Some(binding) = bindings.value_mut(index) else {
            return;
        };
        let link = std::mem::replace(&mut binding.link, Link::UNLISTED);
        if !link.is_listed() {
            return;
        }
        match bindings.value_mut(link.before) {
            Some(before) => before.link.next = link.next,
            None => self.head = link.next,
        }
        match bindings.value_mut(link.next) {
            Some(next) => next.link.before = link.before,
            None => self.tail = link.before,
        }
        self.len -= 1;
    }
}

impl Shard {
    /// Copies what has changed into `rows`, as long as those are no more than `len_max`; says whether it took anything.
    ///
    /// Nothing is taken while a batch of this shard is with the store.
    pub(super) fn collect(
        &mut self,
        now: Instant,
        origins: &Origins,
        rows: &mut Rows,
        len_max: usize,
    ) -> bool {
        if self.changed.in_flight {
            return false;
        }
        let before = rows.len();
        while self.changed.head != NIL && rows.len() < len_max {
            let index = self.changed.head;
            self.changed.unlist(&mut self.bindings, index);
            self.copy_out(now, index, origins, rows);
        }
        let is_whole = self.changed.head == NIL;
        if rows.len() == before {
            // Nothing of what was listed concerns the store: it was gone before it came to that.
            return false;
        }
        self.changed.in_flight = true;
        self.changed.taken_through = is_whole.then_some(self.sequence());
        true
    }

    /// Notes for one row of a batch that it is in the store, or that it may not be.
    pub(super) fn settle(&mut self, index: u32, work: Work, is_committed: bool) {
        let Some(binding) = self.bindings.value_mut(index) else {
            return;
        };
        if is_committed {
            binding.stored = match (work, binding.stored) {
                (Work::Delete, _) => Stored::Never,
                (_, Stored::Refused) => Stored::Refused,
                (_, Stored::Never | Stored::Perhaps | Stored::Known) => Stored::Known,
            };
        } else {
            if work == Work::Delete {
                binding.stored = Stored::Perhaps;
            }
            self.changed.list(&mut self.bindings, index);
        }
    }

    /// Notes for a row of a batch that is to be settled as committed that the store has refused it.
    pub(super) fn refuse(&mut self, index: u32) {
        if let Some(binding) = self.bindings.value_mut(index) {
            binding.stored = Stored::Refused;
        }
    }

    /// Whether an AoR has a live contact that the store has refused.
    pub(super) fn has_refused(&self, now: Instant, key: AorKey<'_>) -> bool {
        self.bindings_of(self.find(key))
            .any(|(_, binding)| binding.is_live(now) && binding.stored == Stored::Refused)
    }

    /// Notes that all rows of a batch are settled.
    pub(super) fn land(&mut self, is_committed: bool) {
        self.changed.in_flight = false;
        if let Some(through) = self.changed.taken_through.take().filter(|_| is_committed) {
            self.changed.committed = through;
        }
    }

    /// Lists every binding that the store is to have, from `from` on within `budget` places: its table has lost rows. Gives the
    /// place to go on from.
    pub(super) fn relist(&mut self, from: u32, budget: u32) -> Option<u32> {
        let end = self.bindings.slots();
        let stop = from.saturating_add(budget).min(end);
        for index in from..stop {
            let Some(binding) = self.bindings.value_mut(index) else {
                continue;
            };
            if binding.stored == Stored::Known {
                binding.stored = Stored::Perhaps;
                self.changed.list(&mut self.bindings, index);
            }
        }
        (stop < end).then_some(stop)
    }

    fn copy_out(&mut self, now: Instant, index: u32, origins: &Origins, rows: &mut Rows) {
        let number = self.number();
        let Some(binding) = self.bindings.value_mut(index) else {
            return;
        };
        let work = match (binding.is_live(now), binding.stored) {
            (false, Stored::Never) => return,
            (false, Stored::Perhaps | Stored::Known | Stored::Refused) => Work::Delete,
            (true, Stored::Never | Stored::Perhaps | Stored::Refused) => Work::Insert,
            // Another node may write the row of what it has lost to this one: its newer state stays.
            (true, Stored::Known) if binding.is_foreign() => Work::Insert,
            (true, Stored::Known) => Work::Update,
        };
        if work == Work::Insert {
            binding.stored = Stored::Perhaps;
        }
        let aor = binding.aor;
        let home = self.home_of(index);
        let Some(binding) = self.binding(index) else {
            return;
        };
        rows.copy(
            work,
            self.aor_text(aor),
            (binding, home),
            Place::new(number, index),
            origins,
        );
    }
}

/// Of a binding in no list.
const OUT: u32 = NIL - 1;

const _: () = assert!(
    OUT > 1 << super::slab::INDEX_BITS,
    "no index is taken for it"
);
