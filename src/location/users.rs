//! The users who prove who they are, shared by the workers: in as many shards as the bindings, each under a lock of its own that is
//! held for one operation.

use std::ops::Range;

use parking_lot::Mutex;
use siphasher::sip::SipHasher13;

use super::Padded;
use super::failure::Failures;
use super::refutation::{Refutations, Refuted};
use super::subscriber::{Known, NonceUse, PresentedNonce, Secrets, Subscribers};
use crate::limits::LOCATION_SHARDS;
use crate::time::Instant;

/// What is remembered of users, by AoR, and of those who failed to be one, by source.
#[derive(Debug)]
pub struct Users {
    shards: Box<[Padded<Mutex<UserShard>>]>,
    hasher: SipHasher13,
    failures: Failures,
}

#[derive(Debug, Default)]
struct UserShard {
    subscribers: Subscribers,
    refutations: Refutations,
}

impl Users {
    pub(super) fn new(hasher: SipHasher13) -> Self {
        Self {
            shards: (0..LOCATION_SHARDS).map(|_| Padded::default()).collect(),
            hasher,
            failures: Failures::new(hasher),
        }
    }

    /// Who failed, by source.
    #[must_use]
    pub const fn failures(&self) -> &Failures {
        &self.failures
    }

    /// What is known of a user.
    pub fn known(&self, now: Instant, aor: &[u8]) -> Known {
        let (shard, key) = self.shard(aor);
        shard.lock().subscribers.known(now, key)
    }

    /// Remembers until `until` what the store said of a user; none: there is no such user.
    pub fn learn(&self, aor: &[u8], secrets: Option<Secrets>, until: Instant) {
        let (shard, key) = self.shard(aor);
        shard.lock().subscribers.learn(key, secrets, until);
    }

    /// Holds on to what was known of a user, since the store cannot say; tells whether anything was.
    pub fn prolong(&self, aor: &[u8], until: Instant) -> bool {
        let (shard, key) = self.shard(aor);
        shard.lock().subscribers.prolong(key, until)
    }

    /// Forgets a user's secrets, or that there is none: that has changed.
    pub fn forget(&self, aor: &[u8]) {
        let (shard, key) = self.shard(aor);
        let mut shard = shard.lock();
        shard.subscribers.forget(key);
        shard.refutations.forget(key);
    }

    /// Whether somebody failed to be this user, of late.
    pub fn refuted(&self, now: Instant, aor: &[u8]) -> Refuted {
        let (shard, key) = self.shard(aor);
        shard.lock().refutations.of(now, key)
    }

    /// Remembers until `until` that somebody failed to be this user, the store having been asked for it.
    pub fn refute(&self, aor: &[u8], is_nobody: bool, until: Instant) {
        let (shard, key) = self.shard(aor);
        shard.lock().refutations.put(key, is_nobody, until);
    }

    /// Uses a nonce of a user.
    pub fn use_nonce(&self, aor: &[u8], nonce: &PresentedNonce) -> NonceUse {
        let (shard, key) = self.shard(aor);
        shard.lock().subscribers.use_nonce(key, nonce)
    }

    /// Bytes that a part of the shards takes from the allocator.
    pub(super) fn bytes(&self, shards: Range<usize>) -> usize {
        let shards = self.shards.get(shards).unwrap_or_default();
        let bytes = |shard: &Padded<Mutex<UserShard>>| shard.0.lock().subscribers.bytes();
        shards.iter().map(bytes).sum()
    }

    fn shard(&self, aor: &[u8]) -> (&Mutex<UserShard>, u64) {
        let key = self.hasher.hash(aor);
        let number = (key >> 32) as usize % LOCATION_SHARDS;
        (&self.shards[number].0, key)
    }
}
