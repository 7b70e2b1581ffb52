//! The location's side of a cluster: what changed here is copied out for other nodes, and what a node missed is found again by its
//! version. Like every access it is a worker's, within its own share of the shards.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::delta::Deltas;
use super::homes::Homes;
use super::replica::ReplicaSettings;
use super::ruid::Origins;
use super::{Location, SweepCursor};
use crate::time::Instant;

impl Location {
    /// Begins to keep what nodes tell each other. Names of contacts begin with `ruid_beginning`, which no other start of any node has.
    #[must_use]
    pub fn with_cluster(
        mut self,
        ruid_beginning: &[u8],
        settings: ReplicaSettings,
        homes: Arc<Homes>,
    ) -> Self {
        self.origins = Origins::new(ruid_beginning);
        for shard in &self.shards {
            shard.0.lock().replica.keep(settings, Arc::clone(&homes));
        }
        self.homes = Some(homes);
        self
    }

    /// Copies what changed here in the cursor's shard, as long as there are no more than `len_max` in `out`; moves the cursor on unless
    /// there was no room for all.
    pub fn gather(&self, now: Instant, cursor: &mut SweepCursor, out: &mut Deltas, len_max: usize) {
        if let Some(shard) = self.shards.get(cursor.shard)
            && shard.0.fresh.load(Ordering::Relaxed) > 0
        {
            if out.len() >= len_max {
                return;
            }
            let mut shard = shard.0.lock();
            shard.gather(now, &self.origins, out, len_max);
            if shard.replica.waiting() > 0 {
                return;
            }
        }
        cursor.go_on(None);
    }

    /// Copies what has a version of at least `since` within `budget` places of the cursor's shard; says whether a round of the
    /// cursor's share is complete.
    pub fn walk(
        &self,
        now: Instant,
        cursor: &mut SweepCursor,
        since: u64,
        budget: u32,
        out: &mut Deltas,
    ) -> bool {
        let Some(shard) = self.shards.get(cursor.shard) else {
            return true;
        };
        let from = (cursor.place, since);
        let next = shard.0.lock().walk(now, from, budget, &self.origins, out);
        cursor.go_on(next);
        cursor.is_at_start()
    }

    /// Lists for the store what this node has taken over within `budget` places of the cursor's shard; says whether a round of the
    /// cursor's share is complete.
    pub fn take_over(&self, cursor: &mut SweepCursor, budget: u32) -> bool {
        let Some(shard) = self.shards.get(cursor.shard) else {
            return true;
        };
        let next = shard.0.lock().take_over(cursor.place, budget);
        cursor.go_on(next);
        cursor.is_at_start()
    }

    /// Changes that were made here and that nobody was told of yet.
    #[must_use]
    pub fn fresh(&self) -> usize {
        let fresh = |shard: &super::Padded<super::Guarded>| shard.0.fresh.load(Ordering::Relaxed);
        self.shards.iter().map(|shard| fresh(shard) as usize).sum()
    }
}
