//! The AoRs of a shard all of whose rows are in, while those of others are still to come.

use hashbrown::HashTable;

/// AoRs by their keyed hash.
#[derive(Debug, Default)]
pub(super) struct Complete {
    hashes: HashTable<u64>,
}

impl Complete {
    pub(super) const fn new() -> Self {
        Self {
            hashes: HashTable::new(),
        }
    }

    /// Adds an AoR. They are as many as were asked for while the store is read, which takes seconds.
    pub(super) fn add(&mut self, hash: u64) {
        if !self.has(hash) {
            self.hashes.insert_unique(hash, hash, |hash| *hash);
        }
    }

    pub(super) fn has(&self, hash: u64) -> bool {
        self.hashes.find(hash, |held| *held == hash).is_some()
    }

    /// Bytes taken from the allocator.
    pub(super) fn bytes(&self) -> usize {
        self.hashes.allocation_size()
    }

    /// Forgets all, and gives the room back: no AoR is incomplete any more.
    pub(super) fn end(&mut self) {
        self.hashes = HashTable::new();
    }
}
