//! Users whom somebody failed to be, of late: the store has said of them what there is to say.
//!
//! Whoever fails is answered only when the store was asked for the failure's sake, within [`REFUTATION_TIME`] before; whether there is
//! such a user or not. So the time that an answer takes says nothing of it, though the secrets of users who are here are known and
//! those of nobody are not. And a password that was changed in the database holds at its first use.
//!
//! It is bounded, in sets of [`WAYS`] places: at the bound the one that ends first goes, and the store is asked again.

use crate::limits::REFUTATIONS_PER_SHARD;
use crate::time::Instant;

/// What is known of those who failed to be a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuted {
    /// Nobody failed of late, or it is forgotten: the store must be asked.
    No,
    /// There was a user, whose secrets were others.
    User,
    /// There was no such user.
    Nobody,
}

/// The refutations of one shard.
#[derive(Debug, Default)]
pub(super) struct Refutations {
    places: Box<[Place]>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    key: u64,
    until: Instant,
    is_nobody: bool,
}

impl Refutations {
    /// Whether somebody failed to be the user `key`.
    pub(super) fn of(&self, now: Instant, key: u64) -> Refuted {
        let found = self
            .places
            .get(set(key))
            .into_iter()
            .flatten()
            .find(|place| place.key == key && place.until > now);
        match found {
            None => Refuted::No,
            Some(place) if place.is_nobody => Refuted::Nobody,
            Some(_) => Refuted::User,
        }
    }

    /// Remembers until `until` that somebody failed to be `key`, the store having been asked.
    pub(super) fn put(&mut self, key: u64, is_nobody: bool, until: Instant) {
        if self.places.is_empty() {
            self.places = vec![FREE; REFUTATIONS_PER_SHARD].into_boxed_slice();
        }
        let ways = self.places.get_mut(set(key)).unwrap_or_default();
        // Its own place, else the one that ends first.
        let chosen = ways
            .iter_mut()
            .min_by_key(|place| (place.key != key, place.until));
        if let Some(place) = chosen {
            *place = Place {
                key,
                until,
                is_nobody,
            };
        }
    }

    /// Forgets it: the user has changed.
    pub(super) fn forget(&mut self, key: u64) {
        let ways = self.places.get_mut(set(key)).unwrap_or_default();
        for place in ways.iter_mut().filter(|place| place.key == key) {
            *place = FREE;
        }
    }
}

/// The places that may hold `key`.
fn set(key: u64) -> std::ops::Range<usize> {
    // The high half chose the shard.
    let first = (key & 0xffff_ffff) as usize % (REFUTATIONS_PER_SHARD / WAYS) * WAYS;
    first..first + WAYS
}

const WAYS: usize = 4;
const FREE: Place = Place {
    key: 0,
    until: Instant::EPOCH,
    is_nobody: false,
};

const _: () = assert!(REFUTATIONS_PER_SHARD.is_multiple_of(WAYS));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    const NOW: Instant = Instant::from_micros(1_800_000_000_000_000);

    fn later(secs: u64) -> Instant {
        NOW + Duration::from_secs(secs)
    }

    #[test]
    fn a_refutation_holds_its_time_and_is_forgotten_with_the_user() {
        let mut refutations = Refutations::default();
        assert_eq!(refutations.of(NOW, 1), Refuted::No);
        refutations.put(1, false, later(30));
        refutations.put(2, true, later(30));
        assert_eq!(refutations.of(later(29), 1), Refuted::User);
        assert_eq!(refutations.of(later(29), 2), Refuted::Nobody);
        assert_eq!(refutations.of(later(30), 1), Refuted::No);
        refutations.forget(1);
        assert_eq!(refutations.of(NOW, 1), Refuted::No);
        refutations.put(2, false, later(40));
        assert_eq!(refutations.of(NOW, 2), Refuted::User);
    }

    #[test]
    fn at_the_bound_the_first_to_end_goes() {
        let mut refutations = Refutations::default();
        let sets = (REFUTATIONS_PER_SHARD / WAYS) as u64;
        for n in 0..=WAYS as u64 {
            refutations.put(1 + n * sets, true, later(30 + n));
        }
        assert_eq!(refutations.of(NOW, 1), Refuted::No);
        for n in 1..=WAYS as u64 {
            assert_eq!(refutations.of(NOW, 1 + n * sets), Refuted::Nobody);
        }
        assert_eq!(refutations.places.len(), REFUTATIONS_PER_SHARD);
    }
}
