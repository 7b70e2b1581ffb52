//! Which peers are connected: written by the TCP thread alone, asked by every worker without waiting for anybody.
//!
//! A set of 64-bit keyed hashes in buckets of one cache line; a peer stands in its own bucket or in one of the next few.
//! Two peers with one hash are taken for one another once in 2^64, and then only a connection is opened that need not be.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::datagram::ListenerId;

/// The connected peers of each listener.
#[derive(Debug)]
pub(super) struct Roster {
    buckets: Box<[Bucket]>,
    hasher: RandomState,
}

#[derive(Debug)]
#[repr(align(64))]
struct Bucket([AtomicU64; BUCKET_LEN]);

impl Roster {
    /// A roster with room for `connections`; past it, a peer may be missing from it.
    pub(super) fn new(connections: usize) -> Self {
        let buckets = (connections.max(1) * 2)
            .div_ceil(BUCKET_LEN)
            .next_power_of_two();
        Self {
            buckets: (0..buckets)
                .map(|_| Bucket(std::array::from_fn(|_| AtomicU64::new(NOBODY))))
                .collect(),
            hasher: RandomState::new(),
        }
    }

    /// Notes that a peer is connected; it may be noted once only. For the TCP thread alone.
    pub(super) fn add(&self, listener: ListenerId, peer: SocketAddr) {
        let mark = self.mark(listener, peer);
        if let Some(place) = self
            .places(mark)
            .find(|place| place.load(Ordering::Relaxed) == NOBODY)
        {
            place.store(mark, Ordering::Release);
        }
    }

    /// Notes that a peer is connected no more. For the TCP thread alone.
    pub(super) fn remove(&self, listener: ListenerId, peer: SocketAddr) {
        let mark = self.mark(listener, peer);
        if let Some(place) = self
            .places(mark)
            .find(|place| place.load(Ordering::Relaxed) == mark)
        {
            place.store(NOBODY, Ordering::Release);
        }
    }

    /// Whether a peer is connected.
    pub(super) fn has(&self, listener: ListenerId, peer: SocketAddr) -> bool {
        let mark = self.mark(listener, peer);
        self.places(mark)
            .any(|place| place.load(Ordering::Acquire) == mark)
    }

    fn mark(&self, listener: ListenerId, peer: SocketAddr) -> u64 {
        match self.hasher.hash_one((listener, peer)) {
            NOBODY => 1,
            mark => mark,
        }
    }

    /// Where a mark may stand.
    fn places(&self, mark: u64) -> impl Iterator<Item = &AtomicU64> {
        let mask = self.buckets.len() - 1;
        let first = usize::try_from(mark >> 32).unwrap_or(0);
        (0..PROBES)
            .filter_map(move |step| self.buckets.get((first + step) & mask))
            .flat_map(|bucket| &bucket.0)
    }
}

const BUCKET_LEN: usize = 8;
/// Buckets in which a peer is looked for.
const PROBES: usize = 4;
const NOBODY: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u32) -> SocketAddr {
        SocketAddr::new(
            std::net::Ipv4Addr::from_bits(n / 1_000 + 0x0a00_0000).into(),
            1_024 + (n % 1_000) as u16,
        )
    }

    #[test]
    fn a_full_roster_knows_everybody_and_forgets_who_left() {
        let roster = Roster::new(10_000);
        for n in 0..10_000 {
            roster.add(ListenerId(1), peer(n));
        }
        for n in 0..10_000 {
            assert!(roster.has(ListenerId(1), peer(n)), "{n}");
            assert!(!roster.has(ListenerId(0), peer(n)), "{n}");
            if n % 2 == 0 {
                roster.remove(ListenerId(1), peer(n));
            }
        }
        for n in 0..20_000 {
            assert_eq!(
                roster.has(ListenerId(1), peer(n)),
                n < 10_000 && n % 2 == 1,
                "{n}"
            );
        }
    }

    #[test]
    fn without_connections_there_is_still_a_roster() {
        let roster = Roster::new(0);
        assert!(!roster.has(ListenerId(0), peer(1)));
    }
}
