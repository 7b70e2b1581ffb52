//! What a shard remembers of the users who prove who they are: their secrets for a while, and what their nonces were used for.
//!
//! It is bounded: at the bound the user who was away longest is forgotten, and asked for again. What was forgotten cannot be
//! replayed: nonces as old as those of a forgotten window are refused, and their bearers get new ones.

use hashbrown::HashTable;

use super::window::{Use, Window};
use crate::limits::{NONCES_MAX, SUBSCRIBERS_PER_SHARD_MAX};
use crate::time::Instant;

/// The secrets of a user: HA1 of each algorithm, raw, in the order SHA-512-256, SHA-256, MD5.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Secrets {
    /// HA1 with SHA-512-256.
    pub sha512_256: Option<[u8; 32]>,
    /// HA1 with SHA-256.
    pub sha256: Option<[u8; 32]>,
    /// HA1 with MD5.
    pub md5: Option<[u8; 16]>,
}

/// What is known of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing, or nothing that still holds: the store must be asked.
    Unknown,
    /// There is no such user.
    Absent,
    /// The user's secrets.
    Secrets(Secrets),
}

/// What becomes of a nonce and its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceUse {
    /// It is good.
    Good,
    /// The same request again.
    Again,
    /// It was used, or may have been: its bearer must take a new one.
    Replayed,
}

/// A nonce as it is presented.
#[derive(Clone, Copy, Debug)]
pub struct PresentedNonce {
    /// What tells it from every other.
    pub id: u64,
    /// When it was made, in milliseconds since the Unix epoch.
    pub made_ms: u64,
    /// Its count.
    pub count: u32,
    /// What tells this request from any other.
    pub request: u64,
}

/// The users that one shard remembers.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    entries: Vec<Entry>,
    index: HashTable<u32>,
    newest: u32,
    oldest: u32,
    floor_ms: u64,
}

#[derive(Debug)]
struct Entry {
    key: u64,
    newer: u32,
    older: u32,
    until: Instant,
    secrets: Option<Secrets>,
    windows: [Window; NONCES_MAX],
    floor_ms: u64,
}

impl Subscribers {
    /// What is known of a user, who is remembered the longer for it.
    pub(super) fn known(&mut self, now: Instant, key: u64) -> Known {
        let Some(place) = self.find(key) else {
            return Known::Unknown;
        };
        self.touch(place);
        match self.at(place) {
            Some(entry) if entry.until <= now => Known::Unknown,
            Some(entry) => entry.secrets.map_or(Known::Absent, Known::Secrets),
            None => Known::Unknown,
        }
    }

    /// Remembers until `until` what the store said of a user; none: there is no such user.
    pub(super) fn learn(&mut self, key: u64, secrets: Option<Secrets>, until: Instant) {
        let place = match self.find(key) {
            Some(place) => place,
            None => self.insert(key),
        };
        if let Some(entry) = self.at_mut(place) {
            entry.secrets = secrets;
            entry.until = until;
        }
        self.touch(place);
    }

    /// Holds on to what was known of a user, since the store cannot say; tells whether anything was.
    pub(super) fn prolong(&mut self, key: u64, until: Instant) -> bool {
        let Some(entry) = self.find(key).and_then(|place| self.at_mut(place)) else {
            return false;
        };
        // What was never learnt is not known to be absent.
        let is_known = entry.until > Instant::EPOCH;
        if is_known {
            entry.until = until;
        }
        is_known
    }

    /// Bytes taken from the allocator.
    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.index.allocation_size()
    }

    /// Forgets a user's secrets, and nothing of the nonces.
    pub(super) fn forget(&mut self, key: u64) {
        if let Some(entry) = self.find(key).and_then(|place| self.at_mut(place)) {
            entry.until = Instant::EPOCH;
        }
    }

    /// Uses a nonce of a user.
    pub(super) fn use_nonce(&mut self, key: u64, nonce: &PresentedNonce) -> NonceUse {
        let shard_floor_ms = self.floor_ms;
        let Some(entry) = self.find(key).and_then(|place| self.at_mut(place)) else {
            return NonceUse::Replayed;
        };
        let known = entry
            .windows
            .iter_mut()
            .find(|window| window.nonce == nonce.id && window.made_ms == nonce.made_ms);
        if let Some(window) = known {
            return match window.take(nonce.count, nonce.request) {
                Use::First => NonceUse::Good,
                Use::Again => NonceUse::Again,
                Use::Replay => NonceUse::Replayed,
            };
        }
        if nonce.made_ms <= entry.floor_ms.max(shard_floor_ms) {
            return NonceUse::Replayed;
        }
        let begun = Window::begin(nonce.id, nonce.made_ms, nonce.count, nonce.request);
        let oldest = entry.windows.iter_mut().min_by_key(|window| window.made_ms);
        if let Some(oldest) = oldest {
            entry.floor_ms = entry.floor_ms.max(oldest.made_ms);
            *oldest = begun;
        }
        NonceUse::Good
    }

    fn find(&self, key: u64) -> Option<u32> {
        self.index
            .find(key, |place| {
                self.at(*place).is_some_and(|entry| entry.key == key)
            })
            .copied()
    }

    /// Makes an entry for a user, in the place of the one who was away longest where there is no more room.
    fn insert(&mut self, key: u64) -> u32 {
        let fresh = Entry {
            key,
            newer: NONE,
            older: NONE,
            until: Instant::EPOCH,
            secrets: None,
            windows: [Window::default(); NONCES_MAX],
            floor_ms: 0,
        };
        let place = if self.entries.len() < SUBSCRIBERS_PER_SHARD_MAX {
            self.entries.push(fresh);
            u32::try_from(self.entries.len() - 1).unwrap_or(NONE)
        } else {
            let place = self.oldest;
            self.unlink(place);
            if let Some(entry) = self.at_mut(place) {
                let former = std::mem::replace(entry, fresh);
                let last_ms = former.windows.iter().map(|window| window.made_ms).max();
                self.floor_ms = self.floor_ms.max(last_ms.unwrap_or(0)).max(former.floor_ms);
                if let Ok(indexed) = self.index.find_entry(former.key, |other| *other == place) {
                    indexed.remove();
                }
            }
            place
        };
        self.link(place);
        let entries = &self.entries;
        self.index.insert_unique(key, place, |place| {
            entries.get(*place as usize).map_or(0, |entry| entry.key)
        });
        place
    }

    fn touch(&mut self, place: u32) {
        if self.newest != place || self.entries.len() == 1 {
            self.unlink(place);
            self.link(place);
        }
    }

    fn link(&mut self, place: u32) {
        let former = self.newest;
        let is_first = self.entries.len() == 1;
        if let Some(entry) = self.at_mut(place) {
            entry.newer = NONE;
            entry.older = if is_first { NONE } else { former };
        }
        if is_first {
            self.oldest = place;
        } else if let Some(entry) = self.at_mut(former) {
            entry.newer = place;
        }
        self.newest = place;
    }

    fn unlink(&mut self, place: u32) {
        let Some((newer, older)) = self.at(place).map(|entry| (entry.newer, entry.older)) else {
            return;
        };
        match self.at_mut(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.at_mut(older) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn at(&self, place: u32) -> Option<&Entry> {
        self.entries.get(place as usize)
    }

    fn at_mut(&mut self, place: u32) -> Option<&mut Entry> {
        self.entries.get_mut(place as usize)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

/// No entry.
const NONE: u32 = u32::MAX;

const _: () = assert!(SUBSCRIBERS_PER_SHARD_MAX < NONE as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    const NOW: Instant = Instant::from_micros(1_800_000_000_000_000);

    fn later(secs: u64) -> Instant {
        NOW + Duration::from_secs(secs)
    }

    fn secrets(byte: u8) -> Secrets {
        Secrets {
            md5: Some([byte; 16]),
            ..Secrets::default()
        }
    }

    fn nonce(id: u64, made_ms: u64, count: u32) -> PresentedNonce {
        PresentedNonce {
            id,
            made_ms,
            count,
            request: u64::from(count),
        }
    }

    #[test]
    fn what_was_learnt_holds_its_time_and_is_held_on_to_where_the_store_is_silent() {
        let mut subscribers = Subscribers::default();
        assert_eq!(subscribers.known(NOW, 1), Known::Unknown);
        assert!(!subscribers.prolong(1, later(60)));
        subscribers.learn(1, Some(secrets(7)), later(60));
        subscribers.learn(2, None, later(10));
        assert_eq!(subscribers.known(later(59), 1), Known::Secrets(secrets(7)));
        assert_eq!(subscribers.known(later(9), 2), Known::Absent);
        assert_eq!(subscribers.known(later(60), 1), Known::Unknown);
        assert!(subscribers.prolong(1, later(120)));
        assert_eq!(subscribers.known(later(61), 1), Known::Secrets(secrets(7)));
        subscribers.forget(1);
        assert_eq!(subscribers.known(later(61), 1), Known::Unknown);
    }

    #[test]
    fn the_one_who_was_away_longest_is_forgotten_and_cannot_be_replayed() {
        let mut subscribers = Subscribers::default();
        let count = SUBSCRIBERS_PER_SHARD_MAX as u64;
        for key in 0..count {
            subscribers.learn(key, Some(secrets(1)), later(60));
        }
        assert_eq!(
            subscribers.use_nonce(0, &nonce(50, 1_000, 1)),
            NonceUse::Good
        );
        // 0 is used again, 1 is now the oldest.
        assert_ne!(subscribers.known(NOW, 0), Known::Unknown);
        subscribers.learn(count, Some(secrets(1)), later(60));
        assert_ne!(subscribers.known(NOW, 0), Known::Unknown);
        assert_eq!(subscribers.known(NOW, 1), Known::Unknown);
        // Everybody changes, 0 too: what its nonce was used for is forgotten, and therefore refused.
        for key in 0..=count {
            subscribers.learn(1_000 + key, Some(secrets(1)), later(60));
        }
        subscribers.learn(0, Some(secrets(1)), later(60));
        assert_eq!(
            subscribers.use_nonce(0, &nonce(50, 1_000, 1)),
            NonceUse::Replayed
        );
        assert_eq!(
            subscribers.use_nonce(0, &nonce(51, 1_001, 1)),
            NonceUse::Good
        );
        assert_eq!(subscribers.entries.len(), SUBSCRIBERS_PER_SHARD_MAX);
        assert_eq!(subscribers.index.len(), SUBSCRIBERS_PER_SHARD_MAX);
    }

    #[test]
    fn a_user_with_many_nonces_loses_the_oldest_first() {
        let mut subscribers = Subscribers::default();
        subscribers.learn(1, Some(secrets(1)), later(60));
        for n in 1..=NONCES_MAX as u64 + 1 {
            assert_eq!(subscribers.use_nonce(1, &nonce(n, n, 1)), NonceUse::Good);
        }
        assert_eq!(
            subscribers.use_nonce(1, &nonce(1, 1, 2)),
            NonceUse::Replayed
        );
        assert_eq!(subscribers.use_nonce(1, &nonce(2, 2, 1)), NonceUse::Again);
        assert_eq!(subscribers.use_nonce(1, &nonce(2, 2, 2)), NonceUse::Good);
    }
}
