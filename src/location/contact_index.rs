//! From a contact's canonical form to the bindings that hold it: whether a Request-URI is a registered contact.
//!
//! It keeps eight bytes a binding: a keyed hash and the binding's place. A place is a hint: the shard it names is asked, under
//! its own lock and after this one's is free, whether the binding still is what the hash says. Should one worker free a binding
//! before another, which has just added it, comes to add its reference here, that reference stays behind: it leads to nothing, and
//! the next contact with that hash at that place takes it over.

use super::probing::{Entry, Probing};
use super::slab::INDEX_BITS;
use crate::limits::{CONTACT_AORS_MAX, LOCATION_SHARDS, REGISTER_CONTACTS_MAX};

/// Where a binding stands: its shard and its index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

/// A binding by the hash of its contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContactRef {
    pub(super) hash: u32,
    pub(super) place: Place,
}

/// A few references, on the stack: what an operation on a shard tells this index once the shard's lock is free.
#[derive(Debug)]
pub(super) struct ContactRefs {
    refs: [ContactRef; REFS_MAX],
    len: usize,
}

/// The references whose hash falls to one lock.
#[derive(Debug, Default)]
pub(super) struct ContactIndex {
    refs: Probing<ContactRef>,
}

impl Entry for ContactRef {
    const EMPTY: Self = Self {
        hash: 0,
        place: Place::NOWHERE,
    };

    fn is_empty(self) -> bool {
        self.place == Place::NOWHERE
    }
}

impl Place {
    /// The place of what is in no shard.
    pub(super) const NOWHERE: Self = Self(u32::MAX);

    pub(super) fn new(shard: u16, index: u32) -> Self {
        Self((index << SHARD_BITS) | u32::from(shard))
    }

    /// The place with this number, whether there is one or not.
    pub(super) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Its number.
    pub(super) const fn bits(self) -> u32 {
        self.0
    }

    pub(super) fn shard(self) -> usize {
        self.0 as usize % LOCATION_SHARDS
    }

    pub(super) fn index(self) -> u32 {
        self.0 >> SHARD_BITS
    }
}

impl ContactRef {
    /// The lock of the index that this reference falls to.
    pub(super) fn home(hash: u32) -> usize {
        (hash >> (u32::BITS - SHARD_BITS)) as usize
    }
}

impl ContactRefs {
    pub(super) const fn new() -> Self {
        Self {
            refs: [ContactRef {
                hash: 0,
                place: Place(0),
            }; REFS_MAX],
            len: 0,
        }
    }

    /// Adds one; the caller has seen that there is room.
    pub(super) fn push(&mut self, reference: ContactRef) {
        if let Some(slot) = self.refs.get_mut(self.len) {
            *slot = reference;
            self.len += 1;
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.len == REFS_MAX
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ContactRef> {
        self.refs.iter().take(self.len).copied()
    }
}

impl ContactIndex {
    /// Adds a reference, unless its contact has as many as it may: so no contact, however many AoRs share it, makes the
    /// table slow.
    pub(super) fn insert(&mut self, reference: ContactRef) {
        let alike = self.refs.near(reference.hash);
        let mut count = 0;
        for held in alike.filter(|held| held.hash == reference.hash) {
            count += 1;
            if held == reference || count == CONTACT_AORS_MAX {
                return;
            }
        }
        self.refs
            .insert(reference.hash, reference, |held| held.hash);
    }

    pub(super) fn remove(&mut self, reference: ContactRef) {
        let is_it = |held| held == reference;
        self.refs.remove(reference.hash, is_it, |held| held.hash);
    }

    /// Those of this hash.
    pub(super) fn of_hash(&self, hash: u32) -> impl Iterator<Item = ContactRef> {
        self.refs.near(hash).filter(move |held| held.hash == hash)
    }

    /// Asks for the memory that those of this hash begin at.
    pub(super) fn prefetch(&self, hash: u32) {
        self.refs.prefetch(hash);
    }

    /// Those of this hash, as far as `found` has room.
    pub(super) fn find(&self, hash: u32, found: &mut ContactRefs) {
        for held in self.of_hash(hash) {
            if found.is_full() {
                return;
            }
            found.push(held);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.refs.len()
    }

    /// Bytes taken from the allocator.
    pub(super) fn bytes(&self) -> usize {
        self.refs.bytes()
    }
}

/// Bits of a shard's number.
pub(super) const SHARD_BITS: u32 = LOCATION_SHARDS.trailing_zeros();
/// What one operation on a shard may add or free.
pub(super) const REFS_MAX: usize = 2 * REGISTER_CONTACTS_MAX;

const _: () = assert!(CONTACT_AORS_MAX <= REFS_MAX, "a lookup sees all of them");

const _: () = assert!(LOCATION_SHARDS.is_power_of_two() && SHARD_BITS + INDEX_BITS <= u32::BITS);
