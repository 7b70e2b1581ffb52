//! Requests that wait for what only the slow path knows, as a user's secrets. A bounded number of them, each for a bounded time; their
//! retransmissions join them. When the answer is there they are taken up anew, as if they had just come.

use hashbrown::HashTable;

use crate::datagram::Flow;
use crate::limits::{PARKED_MAX, PARKED_TIME};
use crate::time::Instant;
use crate::transaction::arena::Stored;
use crate::transaction::key::ServerKey;
use crate::transaction::slab::Slab;

/// The requests that wait at one worker.
#[derive(Debug)]
pub(super) struct Parked {
    requests: Slab<Place>,
    by_key: HashTable<u32>,
    /// Several may wait for one reason.
    by_reason: HashTable<u32>,
    /// All have the same time: who came first is overdue first.
    first: Option<u32>,
    last: Option<u32>,
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The request as it was received.
    pub(super) request: Stored,
    /// Whence it came.
    pub(super) source: Flow,
    /// Its server transaction's key, or what stands for it.
    pub(super) key: ServerKey,
    /// What it waits for: a uniform hash.
    pub(super) reason: u64,
}

#[derive(Debug)]
struct Place {
    waiting: Waiting,
    deadline: Instant,
    before: Option<u32>,
    behind: Option<u32>,
}

impl Parked {
    /// Nothing waits.
    pub(super) fn new() -> Self {
        Self {
            requests: Slab::with_limit(PARKED_MAX),
            by_key: HashTable::new(),
            by_reason: HashTable::new(),
            first: None,
            last: None,
        }
    }

    /// Keeps a request; gives it back where no more may wait.
    pub(super) fn park(&mut self, now: Instant, waiting: Waiting) -> Result<(), Waiting> {
        let (key, reason) = (waiting.key, waiting.reason);
        let mut place = Some(Place {
            waiting,
            deadline: now + PARKED_TIME,
            before: self.last,
            behind: None,
        });
        let slot = self
            .requests
            .insert_with(|_, _| place.take().expect("a slab calls its maker once"));
        let Some(slot) = slot else {
            return place.map_or(Ok(()), |place| Err(place.waiting));
        };
        match self.last.and_then(|last| self.requests.at_mut(last)) {
            Some(last) => last.behind = Some(slot),
            None => self.first = Some(slot),
        }
        self.last = Some(slot);
        let requests = &self.requests;
        let at = |slot: &u32| requests.at(*slot).map(|place| &place.waiting);
        self.by_key.insert_unique(key.folded(), slot, |slot| {
            at(slot).map_or(0, |waiting| waiting.key.folded())
        });
        self.by_reason.insert_unique(reason, slot, |slot| {
            at(slot).map_or(0, |waiting| waiting.reason)
        });
        Ok(())
    }

    /// Takes out one request that waits for `reason`.
    pub(super) fn take_for(&mut self, reason: u64) -> Option<Waiting> {
        let slot = *self
            .by_reason
            .find(reason, |slot| self.waits_for(*slot, reason))?;
        self.remove(slot)
    }

    /// Takes out a request by its key.
    pub(super) fn take(&mut self, key: ServerKey) -> Option<Waiting> {
        let slot = self.find(key)?;
        self.remove(slot)
    }

    /// Takes out a request whose time is over.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Option<Waiting> {
        let first = self.first?;
        let is_overdue = self.requests.at(first)?.deadline <= now;
        is_overdue.then(|| self.remove(first)).flatten()
    }

    /// Whether this request waits already.
    pub(super) fn has(&self, key: ServerKey) -> bool {
        self.find(key).is_some()
    }

    /// Whether any request waits for `reason`.
    pub(super) fn has_reason(&self, reason: u64) -> bool {
        self.by_reason
            .find(reason, |slot| self.waits_for(*slot, reason))
            .is_some()
    }

    /// When [`Self::take_overdue`] has something to give.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        Some(self.requests.at(self.first?)?.deadline)
    }

    /// How many wait.
    pub(super) const fn len(&self) -> usize {
        self.requests.len()
    }

    fn find(&self, key: ServerKey) -> Option<u32> {
        let is_it = |slot: &u32| {
            self.requests
                .at(*slot)
                .is_some_and(|place| place.waiting.key == key)
        };
        self.by_key.find(key.folded(), is_it).copied()
    }

    fn waits_for(&self, slot: u32, reason: u64) -> bool {
        self.requests
            .at(slot)
            .is_some_and(|place| place.waiting.reason == reason)
    }

    fn remove(&mut self, slot: u32) -> Option<Waiting> {
        let place = self.requests.remove(slot)?;
        match place.before.and_then(|before| self.requests.at_mut(before)) {
            Some(before) => before.behind = place.behind,
            None => self.first = place.behind,
        }
        match place.behind.and_then(|behind| self.requests.at_mut(behind)) {
            Some(behind) => behind.before = place.before,
            None => self.last = place.before,
        }
        let waiting = place.waiting;
        for (table, hash) in [
            (&mut self.by_key, waiting.key.folded()),
            (&mut self.by_reason, waiting.reason),
        ] {
            if let Ok(entry) = table.find_entry(hash, |other| *other == slot) {
                entry.remove();
            }
        }
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::{ListenerId, Transport};
    use crate::time::Duration;
    use crate::transaction::arena::Arena;
    use crate::transaction::key::ServerKeys;

    fn waiting(arena: &mut Arena, n: u32, reason: u64) -> Waiting {
        let key = ServerKeys::new([1; 16]).rfc3261(&n.to_le_bytes(), b"", b"INVITE");
        Waiting {
            request: arena.store(&n.to_le_bytes()).expect("room"),
            source: Flow {
                listener: ListenerId(0),
                transport: Transport::Udp,
                peer: "192.0.2.1:5060".parse().expect("an address"),
            },
            key,
            reason,
        }
    }

    #[test]
    fn requests_leave_for_their_reason_or_when_their_time_is_over() {
        let mut arena = Arena::with_limit(1 << 20);
        let mut parked = Parked::new();
        let at = |ms| Instant::EPOCH + Duration::from_millis(ms);
        for n in 0..6 {
            let waiting = waiting(&mut arena, n, u64::from(n % 2));
            parked.park(at(u64::from(n)), waiting).expect("room");
        }
        let of = |taken: Option<Waiting>, arena: &Arena| {
            taken.map(|taken| arena.bytes(&taken.request)[0])
        };
        let mut odd: Vec<u8> = std::iter::from_fn(|| of(parked.take_for(1), &arena)).collect();
        odd.sort_unstable();
        assert_eq!(odd, [1, 3, 5]);
        assert!(parked.has_reason(0) && !parked.has_reason(1));
        assert_eq!(parked.next_deadline(), Some(at(0) + PARKED_TIME));
        let overdue = at(2) + PARKED_TIME;
        assert_eq!(of(parked.take_overdue(overdue), &arena), Some(0));
        assert_eq!(of(parked.take_overdue(overdue), &arena), Some(2));
        assert!(parked.take_overdue(overdue).is_none());
        assert_eq!(parked.len(), 1);
        assert_eq!(of(parked.take_for(0), &arena), Some(4));
        assert_eq!((parked.len(), parked.next_deadline()), (0, None));
    }

    #[test]
    fn at_the_bound_a_request_is_given_back() {
        let mut arena = Arena::with_limit(1 << 24);
        let mut parked = Parked::new();
        for n in 0..PARKED_MAX {
            let waiting = waiting(&mut arena, n, 1);
            parked.park(Instant::EPOCH, waiting).expect("room");
        }
        let one_more = waiting(&mut arena, PARKED_MAX, 1);
        let key = one_more.key;
        assert!(parked.park(Instant::EPOCH, one_more).is_err());
        assert!(!parked.has(key));
    }
}
