//! The users who prove who they are, shared by the workers: in as many shards as the bindings, each under a lock of its own that is
//! held for one operation.

use std::ops::Range;

use parking_lot::Mutex;
use siphasher::sip::SipHasher13;

use super::Padded;
use super::subscriber::{Known, NonceUse, PresentedNonce, Secrets, Subscribers};
use crate::limits::LOCATION_SHARDS;
use crate::time::Instant;

/// What is remembered of users, by AoR.
#[derive(Debug)]
pub struct Users {
    shards: Box<[Padded<Mutex<Subscribers>>]>,
    hasher: SipHasher13,
}

impl Users {
    pub(super) fn new(hasher: SipHasher13) -> Self {
        Self {
            shards: (0..LOCATION_SHARDS).map(|_| Padded::default()).collect(),
            hasher,
        }
    }

    /// What is known of a user.
    pub fn known(&self, now: Instant, aor: &[u8]) -> Known {
        let (shard, key) = self.shard(aor);
        shard.lock().known(now, key)
    }

    /// Remembers until `until` what the store said of a user; none: there is no such user.
    pub fn learn(&self, aor: &[u8], secrets: Option<Secrets>, until: Instant) {
        let (shard, key) = self.shard(aor);
        shard.lock().learn(key, secrets, until);
    }

    /// Holds on to what was known of a user, since the store cannot say; tells whether anything was.
    pub fn prolong(&self, aor: &[u8], until: Instant) -> bool {
        let (shard, key) = self.shard(aor);
        shard.lock().prolong(key, until)
    }

    /// Forgets a user's secrets: they have changed.
    pub fn forget(&self, aor: &[u8]) {
        let (shard, key) = self.shard(aor);
        shard.lock().forget(key);
    }

    /// Uses a nonce of a user.
    pub fn use_nonce(&self, aor: &[u8], nonce: &PresentedNonce) -> NonceUse {
        let (shard, key) = self.shard(aor);
        shard.lock().use_nonce(key, nonce)
    }

    /// Bytes that a part of the shards takes from the allocator.
    pub(super) fn bytes(&self, shards: Range<usize>) -> usize {
        let shards = self.shards.get(shards).unwrap_or_default();
        shards.iter().map(|shard| shard.0.lock().bytes()).sum()
    }

    fn shard(&self, aor: &[u8]) -> (&Mutex<Subscribers>, u64) {
        let key = self.hasher.hash(aor);
        let number = (key >> 32) as usize % LOCATION_SHARDS;
        (&self.shards[number].0, key)
    }
}
