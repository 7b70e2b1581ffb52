//! Failed authentications by source: who guesses, how often, since when and how.
//!
//! The table is bounded and costs one look into [`FAILURE_WAYS`] places. A source is an IPv4 address or the /64 of an IPv6 one,
//! which is what one customer has. At the bound the source with the lowest score goes: its failures, halved for each
//! [`FAILURE_HALF_LIFE`] of silence. So a flood of sources that fail once each drives out its own kind, never who guesses in earnest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use parking_lot::Mutex;
use siphasher::sip::SipHasher13;

use super::Padded;
use crate::limits::{FAILURE_HALF_LIFE, FAILURE_SOURCES_MAX, FAILURE_WAYS};
use crate::time::Instant;

/// Why an authentication failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No such user, or a wrong password: it is not said which.
    Wrong,
    /// A nonce that was used.
    Replayed,
    /// A nonce that is none of ours: tampered with, or another server's.
    Nonce,
    /// Credentials of one user in the name of another.
    Identity,
    /// Time-limited credentials whose time is over.
    Expired,
}

/// What one source failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The network: an IPv4 address, or the first address of a /64.
    pub network: IpAddr,
    /// How many failures there were of each kind, in the order of [`FailureKind::ALL`].
    pub counts: [u32; FailureKind::ALL.len()],
    /// When it first failed, as far as the table remembers.
    pub first: Instant,
    /// When it last did.
    pub last: Instant,
    score: u32,
}

/// What became of a failure in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// The source was known.
    Known,
    /// It took a free place.
    New,
    /// It took the place of another.
    Evicted,
}

/// The places of one part of the table; none until somebody fails.
type Places = Box<[Option<Source>]>;

/// The table of all sources.
#[derive(Debug)]
pub struct Failures {
    shards: Box<[Padded<Mutex<Places>>]>,
    hasher: SipHasher13,
}

impl FailureKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Wrong,
        Self::Replayed,
        Self::Nonce,
        Self::Identity,
        Self::Expired,
    ];

    /// Its name, as metrics and `auth.failures` have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Replayed => "replayed",
            Self::Nonce => "foreign_nonce",
            Self::Identity => "another_user",
            Self::Expired => "expired",
        }
    }
}

impl Source {
    /// All its failures.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().copied().map(u64::from).sum()
    }

    /// What it weighs now: its failures, halved for each [`FAILURE_HALF_LIFE`] of silence.
    #[must_use]
    pub fn score(&self, now: Instant) -> u32 {
        let silent = now.since(self.last).as_micros();
        let halvings = silent / FAILURE_HALF_LIFE.as_micros();
        u32::try_from(halvings)
            .ok()
            .and_then(|halvings| self.score.checked_shr(halvings))
            .unwrap_or(0)
    }
}

impl Failures {
    pub(super) fn new(hasher: SipHasher13) -> Self {
        Self {
            shards: (0..SHARDS)
                .map(|_| Padded(Mutex::new(Box::default())))
                .collect(),
            hasher,
        }
    }

    /// Notes that `from` failed.
    pub fn note(&self, now: Instant, from: IpAddr, kind: FailureKind) -> Noted {
        let network = network_of(from);
        let hash = self.hash(network);
        let Some(shard) = self.shards.get(hash as usize % SHARDS) else {
            return Noted::Known;
        };
        let mut places = shard.0.lock();
        if places.is_empty() {
            *places = vec![None; SHARD_LEN].into_boxed_slice();
        }
        let Some(ways) = places.get_mut(set(hash)) else {
            return Noted::Known;
        };
        let known = ways.iter_mut().flatten();
        if let Some(source) = known.into_iter().find(|source| source.network == network) {
            source.add(now, kind);
            return Noted::Known;
        }
        // None stands before all: a free place is taken first.
        let chosen = ways.iter_mut().min_by_key(|place| {
            place
                .as_ref()
                .map(|source| (source.score(now), source.last))
        });
        let Some(place) = chosen else {
            return Noted::Known;
        };
        let mut fresh = Source {
            network,
            counts: [0; FailureKind::ALL.len()],
            first: now,
            last: now,
            score: 0,
        };
        fresh.add(now, kind);
        if place.replace(fresh).is_some() {
            Noted::Evicted
        } else {
            Noted::New
        }
    }

    /// What a source weighs now; 0 where it is not known.
    #[must_use]
    pub fn score(&self, now: Instant, from: IpAddr) -> u32 {
        let network = network_of(from);
        let hash = self.hash(network);
        let Some(shard) = self.shards.get(hash as usize % SHARDS) else {
            return 0;
        };
        let places = shard.0.lock();
        let ways = places.get(set(hash)).unwrap_or_default();
        let known = ways.iter().flatten();
        let found = known.into_iter().find(|source| source.network == network);
        found.map_or(0, |source| source.score(now))
    }

    /// Gives every source of one part of the table to `each`; there are [`Failures::PARTS`] of them.
    pub fn each_of(&self, part: usize, mut each: impl FnMut(&Source)) {
        if let Some(shard) = self.shards.get(part) {
            shard.0.lock().iter().flatten().for_each(&mut each);
        }
    }

    /// Into how many parts the table is divided, each looked through under one lock.
    pub const PARTS: usize = SHARDS;

    fn hash(&self, network: IpAddr) -> u64 {
        match network {
            IpAddr::V4(ip) => self.hasher.hash(&ip.octets()),
            IpAddr::V6(ip) => self.hasher.hash(&ip.octets()),
        }
    }
}

impl Source {
    fn add(&mut self, now: Instant, kind: FailureKind) {
        self.score = self.score(now).saturating_add(1);
        self.last = now;
        if let Some(count) = self.counts.get_mut(kind as usize) {
            *count = count.saturating_add(1);
        }
    }
}

/// What a source is counted as: its IPv4 address, or its /64.
fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits())),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
    }
}

/// The places that may hold a source.
const fn set(hash: u64) -> std::ops::Range<usize> {
    let first = (hash >> 32) as usize % SETS * FAILURE_WAYS;
    first..first + FAILURE_WAYS
}

/// Each under a lock of its own, which only those who fail take.
const SHARDS: usize = 64;
const SHARD_LEN: usize = FAILURE_SOURCES_MAX / SHARDS;
const SETS: usize = SHARD_LEN / FAILURE_WAYS;

const _: () = assert!(
    FAILURE_SOURCES_MAX.is_multiple_of(SHARDS * FAILURE_WAYS),
    "the table is full sets"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    const NOW: Instant = Instant::from_micros(1_800_000_000_000_000);

    fn failures() -> Failures {
        Failures::new(SipHasher13::new_with_key(&[7; 16]))
    }

    fn all(failures: &Failures) -> Vec<Source> {
        let mut found = Vec::new();
        for part in 0..Failures::PARTS {
            failures.each_of(part, |source| found.push(*source));
        }
        found.sort_by_key(|source| std::cmp::Reverse(source.total()));
        found
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn failures_add_up_by_address_and_by_prefix() {
        let failures = failures();
        for (from, kind) in [
            ("192.0.2.1", FailureKind::Wrong),
            ("::ffff:192.0.2.1", FailureKind::Replayed),
            ("2001:db8:1:2::1", FailureKind::Nonce),
            ("2001:db8:1:2:ffff::2", FailureKind::Nonce),
            ("2001:db8:1:2::3", FailureKind::Wrong),
            ("2001:db8:1:3::3", FailureKind::Expired),
        ] {
            failures.note(NOW, ip(from), kind);
        }
        let found = all(&failures);
        let shown: Vec<(String, u64)> = found
            .iter()
            .map(|source| (source.network.to_string(), source.total()))
            .collect();
        assert_eq!(
            shown,
            [
                ("2001:db8:1:2::".to_owned(), 3),
                ("192.0.2.1".to_owned(), 2),
                ("2001:db8:1:3::".to_owned(), 1),
            ]
        );
        assert_eq!(found[0].counts, [1, 0, 2, 0, 0]);
        assert_eq!(found[1].counts, [1, 1, 0, 0, 0]);
    }

    #[test]
    fn a_flood_of_sources_drives_out_its_own_kind_alone() {
        let failures = failures();
        let later = |secs| NOW + Duration::from_secs(secs);
        for n in 0..1_000 {
            failures.note(later(n / 100), ip("192.0.2.1"), FailureKind::Wrong);
        }
        let mut evicted = 0;
        for n in 0..4 * FAILURE_SOURCES_MAX as u32 {
            let from = Ipv4Addr::from_bits(0x0a00_0000 + n).into();
            if failures.note(later(10), from, FailureKind::Wrong) == Noted::Evicted {
                evicted += 1;
            }
        }
        let found = all(&failures);
        assert!(found.len() <= FAILURE_SOURCES_MAX && evicted >= 3 * FAILURE_SOURCES_MAX);
        assert_eq!(found[0].network, ip("192.0.2.1"));
        assert_eq!((found[0].total(), found[0].first), (1_000, NOW));
        // Nobody stays for ever: an hour later his thousand weighs nothing.
        assert_eq!(found[0].score(later(3_600)), 0);
        for n in 0..4 * FAILURE_SOURCES_MAX as u32 {
            let from = Ipv4Addr::from_bits(0x0b00_0000 + n).into();
            failures.note(later(3_600), from, FailureKind::Wrong);
        }
        assert_eq!(all(&failures)[0].total(), 1);
    }
}
