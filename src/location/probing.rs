//! A hash table whose entry for a hash begins at a place that can be named, and so be asked for before it is needed.
//!
//! Entries are a few bytes and stand one behind the other from that place on (linear probing, at most three quarters full): a lookup
//! touches one or two cache lines. What an entry's hash is, the caller says; so no entry has to keep all of it.

use crate::prefetch;

/// What a [`Probing`] holds.
pub(super) trait Entry: Copy {
    /// What stands where there is none.
    const EMPTY: Self;

    /// Whether this is none.
    fn is_empty(self) -> bool;
}

/// A table of entries by the hash of what they stand for; several may have one hash.
#[derive(Debug)]
pub(super) struct Probing<E> {
    /// A power of two, or none.
    slots: Vec<E>,
    len: usize,
}

impl<E> Default for Probing<E> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            len: 0,
        }
    }
}

impl<E: Entry> Probing<E> {
    pub(super) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            len: 0,
        }
    }

    /// Asks for the memory that a lookup of this hash begins at.
    pub(super) fn prefetch(&self, hash: u32) {
        if let Some(slot) = self.slots.get(self.home(hash)) {
            prefetch::value(slot);
        }
    }

    /// The entries among which those of this hash are.
    pub(super) fn near(&self, hash: u32) -> impl Iterator<Item = E> {
        let home = self.home(hash);
        let (before, from) = self.slots.split_at_checked(home).unwrap_or_default();
        let around = from.iter().chain(before).copied();
        around.take_while(|entry| !entry.is_empty())
    }

    /// Adds an entry, whether there is such a one or not.
    pub(super) fn insert(&mut self, hash: u32, entry: E, hash_of: impl Fn(E) -> u32) {
        if (self.len + 1) * FULL.1 > self.slots.len() * FULL.0 {
            self.grow(hash_of);
        }
        self.put(hash, entry);
        self.len += 1;
    }

    /// Takes out one of the entries of this hash that are meant, if there is one.
    pub(super) fn remove(
        &mut self,
        hash: u32,
        is_meant: impl Fn(E) -> bool,
        hash_of: impl Fn(E) -> u32,
    ) {
        let Some(found) = self.near(hash).position(is_meant) else {
            return;
        };
        let mask = self.mask();
        let mut gap = (self.home(hash) + found) & mask;
        self.len -= 1;
        // Those behind move up, unless they stand where they belong: no lookup may end at the gap before it has come to them.
        let mut next = gap;
        loop {
            next = (next + 1) & mask;
            let entry = self.slots[next];
            if entry.is_empty() {
                break;
            }
            let distance = next.wrapping_sub(self.home(hash_of(entry))) & mask;
            if distance >= next.wrapping_sub(gap) & mask {
                self.slots[gap] = entry;
                gap = next;
            }
        }
        self.slots[gap] = E::EMPTY;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes taken from the allocator.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<E>()
    }

    fn grow(&mut self, hash_of: impl Fn(E) -> u32) {
        let len = (2 * self.slots.len()).max(SLOTS_MIN);
        let old = std::mem::replace(&mut self.slots, vec![E::EMPTY; len]);
        for entry in old.into_iter().filter(|entry| !entry.is_empty()) {
            self.put(hash_of(entry), entry);
        }
    }

    /// Puts an entry into the first free slot; there is one.
    fn put(&mut self, hash: u32, entry: E) {
        let mask = self.mask();
        let mut slot = self.home(hash);
        while !self.slots[slot].is_empty() {
            slot = (slot + 1) & mask;
        }
        self.slots[slot] = entry;
    }

    /// Where the entries of a hash begin.
    fn home(&self, hash: u32) -> usize {
        spread(hash) & self.mask()
    }

    fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }
}

/// The bits of a hash that its place follows from: other bits than those by which entries are told apart, or shards chosen.
fn spread(hash: u32) -> usize {
    (u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize
}

/// How full a table may be.
const FULL: (usize, usize) = (3, 4);
const SLOTS_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Entry for u64 {
        const EMPTY: Self = u64::MAX;

        fn is_empty(self) -> bool {
            self == Self::EMPTY
        }
    }

    fn hash_of(entry: u64) -> u32 {
        (entry >> 32) as u32
    }

    proptest! {
        /// Few hashes, so that many entries stand where others belong.
        #[test]
        fn it_holds_what_a_list_holds(steps in prop::collection::vec((any::<bool>(), 0_u32..12, 0_u64..6), 0..400)) {
            let (mut table, mut list) = (Probing::new(), Vec::new());
            for (adds, hash, text) in steps {
                let entry = u64::from(hash) << 32 | text;
                if adds {
                    table.insert(hash, entry, hash_of);
                    list.push(entry);
                } else {
                    table.remove(hash, |held| held == entry, hash_of);
                    let found = list.iter().position(|held| *held == entry);
                    found.map(|found| list.swap_remove(found));
                }
                prop_assert_eq!(table.len(), list.len());
                let mut held: Vec<u64> = table.near(hash).filter(|held| hash_of(*held) == hash).collect();
                let mut wanted: Vec<u64> = list.iter().copied().filter(|held| hash_of(*held) == hash).collect();
                held.sort_unstable();
                wanted.sort_unstable();
                prop_assert_eq!(held, wanted);
            }
        }
    }

    #[test]
    fn an_empty_table_finds_nothing_and_takes_nothing() {
        let mut table: Probing<u64> = Probing::new();
        assert_eq!(table.near(7).count(), 0);
        table.remove(7, |_| true, hash_of);
        table.prefetch(7);
        assert_eq!((table.len(), table.bytes()), (0, 0));
    }
}
