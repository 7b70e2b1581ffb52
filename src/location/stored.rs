//! The location's side of the store: what has changed is copied out in batches, what was committed is noted, and what the
//! store held at the start comes in. Like every access it is a worker's, within its own share of the shards.

use std::sync::atomic::Ordering;

use super::change::Access;
use super::contact::contact_hash;
use super::restore::Admission;
use super::rows::{Row, Rows, Work};
use super::ruid::Origins;
use super::shard::Moved;
use super::{Location, SweepCursor};
use crate::limits::LOCATION_SHARDS;
use crate::time::Instant;

/// The shards whose rows are in a batch.
#[derive(Debug, Default)]
pub struct Taken {
    shards: Vec<u16>,
}

impl Taken {
    /// Makes room for all shards, so that it never grows.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shards: Vec::with_capacity(LOCATION_SHARDS),
        }
    }
}

impl Location {
    /// Begins to keep what changes for a store; names of rows begin with `ruid_beginning`, which no other start of any server has.
    ///
    /// With `is_loading` its rows are still to come, and nobody is known to be unknown until [`Location::all_is_loaded`].
    #[must_use]
    pub fn with_store(mut self, ruid_beginning: &[u8], is_loading: bool) -> Self {
        self.origins = Origins::new(ruid_beginning);
        self.is_loading.store(is_loading, Ordering::Release);
        for shard in &self.shards {
            shard.0.lock().changed.keep();
        }
        self
    }

    /// Copies what has changed in the cursor's shard into `rows`, up to `len_max` of them, and moves the cursor on. Gives false
    /// where there is no room for the whole shard beside what is in `rows` already; then the cursor stays.
    pub fn collect(
        &self,
        now: Instant,
        cursor: &mut SweepCursor,
        rows: &mut Rows,
        taken: &mut Taken,
        len_max: usize,
    ) -> bool {
        let number = cursor.shard;
        let Some(shard) = self.shards.get(number) else {
            return true;
        };
        let waiting = shard.0.changed.load(Ordering::Relaxed) as usize;
        if waiting > 0 {
            if !rows.is_empty() && rows.len() + waiting > len_max {
                return false;
            }
            let before = rows.len();
            if shard.0.lock().collect(now, &self.origins, rows, len_max) {
                taken.shards.push(u16::try_from(number).unwrap_or(u16::MAX));
                self.in_flight
                    .fetch_add(rows.len() - before, Ordering::Relaxed);
            }
        }
        cursor.go_on(None);
        true
    }

    /// Notes what became of the rows of a batch from `from` on, `budget` of them; gives where to go on, or `None` when all of it is
    /// noted.
    pub fn settle(
        &self,
        rows: &Rows,
        taken: &mut Taken,
        is_committed: bool,
        from: usize,
        budget: usize,
    ) -> Option<usize> {
        let stop = from.saturating_add(budget).min(rows.len());
        for index in from..stop {
            let Some((place, work)) = rows.place(index) else {
                continue;
            };
            if let Some(shard) = self.shards.get(place.shard()) {
                shard.0.lock().settle(place.index(), work, is_committed);
            }
        }
        if stop < rows.len() {
            return Some(stop);
        }
        for number in taken.shards.drain(..) {
            if let Some(shard) = self.shards.get(usize::from(number)) {
                shard.0.lock().land(is_committed);
            }
        }
        self.in_flight.fetch_sub(rows.len(), Ordering::Relaxed);
        // In one order with the signs by which a worker says that it sleeps.
        self.settled.fetch_add(1, Ordering::SeqCst);
        None
    }

    /// Notes that the store has refused these rows of a batch, which is to be settled as committed: they live in memory alone.
    pub fn refuse(&self, rows: &Rows, refused: &[u32]) {
        for index in refused {
            let place = rows.place(*index as usize);
            let Some((place, Work::Insert | Work::Update)) = place else {
                continue;
            };
            if let Some(shard) = self.shards.get(place.shard()) {
                shard.0.lock().refuse(place.index());
                self.has_refused.store(true, Ordering::Release);
            }
        }
    }

    /// Whether an AoR has a live contact that the store has refused.
    #[must_use]
    pub fn has_refused(&self, now: Instant, aor: &[u8]) -> bool {
        if !self.has_refused.load(Ordering::Acquire) {
            return false;
        }
        let (number, key) = self.key(aor);
        self.shards[number].0.lock().has_refused(now, key)
    }

    /// Lets a row of the store in.
    pub fn admit(&self, now: Instant, row: &Row<'_>) -> Admission {
        let hash = contact_hash(&self.hasher, row.contact);
        let (number, key) = self.key(row.aor);
        let mut moved = Moved::new();
        let mut shard = self.shards[number].0.lock();
        let admission = shard.admit(now, key, row, hash, &self.origins, &self.tally, &mut moved);
        drop(shard);
        self.insert(&moved.added);
        admission
    }

    /// Sees whether a row that the table has is still a binding, where it is one of ours; if not, it is taken out.
    pub fn verify(&self, row: &Row<'_>) {
        if !self.origins.knows(row.ruid) {
            return;
        }
        let hash = contact_hash(&self.hasher, row.contact);
        let (number, key) = self.key(row.aor);
        let mut moved = Moved::new();
        let mut shard = self.shards[number].0.lock();
        shard.verify(key, row, hash, &self.origins, &self.tally, &mut moved);
        drop(shard);
        self.insert(&moved.added);
    }

    /// Notes that all rows of an AoR are in.
    pub fn complete(&self, aor: &[u8]) {
        let (number, key) = self.key(aor);
        self.shards[number].0.lock().complete.add(key.hash);
    }

    /// Whether all rows of an AoR are in.
    #[must_use]
    pub fn is_loaded(&self, aor: &[u8]) -> bool {
        let (number, key) = self.key(aor);
        !self.is_loading() || self.shards[number].0.lock().complete.has(key.hash)
    }

    /// Lists every binding that the store should have within `budget` places of the cursor's shard, since its table has lost rows;
    /// says whether a round of the cursor's share is complete.
    pub fn relist(&self, cursor: &mut SweepCursor, budget: u32) -> bool {
        let Some(shard) = self.shards.get(cursor.shard) else {
            return true;
        };
        let next = shard.0.lock().relist(cursor.place, budget);
        cursor.go_on(next);
        cursor.is_at_start()
    }

    /// Whether the change that gave this access, and all before it in its shard, are in the store.
    #[must_use]
    pub fn is_committed(&self, access: Access) -> bool {
        let shard = self.shards.get(usize::from(access.shard));
        shard.is_some_and(|shard| shard.0.committed.load(Ordering::Acquire) >= access.sequence)
    }

    /// Batches settled so far: while it stands, no change has come to be committed.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::SeqCst)
    }

    /// Changes that wait to be copied out, all shards together or those of a cursor's share.
    #[must_use]
    pub fn waiting(&self, share: Option<&SweepCursor>) -> usize {
        let shards = share.map_or(0..self.shards.len(), |cursor| cursor.shards.clone());
        let shards = self.shards.get(shards).unwrap_or_default();
        shards
            .iter()
            .map(|shard| shard.0.changed.load(Ordering::Relaxed) as usize)
            .sum()
    }

    /// Changes that are not known to be in the store: those that wait, and those on their way.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.waiting(None) + self.in_flight.load(Ordering::Relaxed)
    }

    /// Notes that no further row is to come.
    pub fn all_is_loaded(&self) {
        self.is_loading.store(false, Ordering::Release);
        for shard in &self.shards {
            shard.0.lock().complete.end();
        }
    }

    /// Whether rows of the store are still to come.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.is_loading.load(Ordering::Acquire)
    }
}
