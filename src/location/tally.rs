//! How many bindings the whole location holds, and the bound on them.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts of all shards together.
#[derive(Debug)]
pub(super) struct Tally {
    held_max: usize,
    /// Bindings in memory, tombstones and expired ones too.
    held: AtomicUsize,
    /// Bindings that are not removed.
    bindings: AtomicUsize,
}

impl Tally {
    pub(super) const fn new(held_max: usize) -> Self {
        Self {
            held_max,
            held: AtomicUsize::new(0),
            bindings: AtomicUsize::new(0),
        }
    }

    /// Takes room for `n` more; false, and nothing taken, where there is not so much.
    pub(super) fn reserve(&self, n: usize) -> bool {
        let more = |held: usize| held.checked_add(n).filter(|held| *held <= self.held_max);
        n == 0
            || self
                .held
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
                .is_ok()
    }

    pub(super) fn release(&self, n: usize) {
        self.held.fetch_sub(n, Ordering::Relaxed);
    }

    /// Notes that a binding came to be (or ended) where it was not (or was) before.
    pub(super) fn note(&self, was: bool, is: bool) {
        match (was, is) {
            (false, true) => self.bindings.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.bindings.fetch_sub(1, Ordering::Relaxed),
            (true, true) | (false, false) => return,
        };
    }

    pub(super) fn bindings(&self) -> usize {
        self.bindings.load(Ordering::Relaxed)
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}
