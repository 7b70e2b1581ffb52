//! Requests that wait for the slow path, in a list in the order in which they came. A bounded number of them, each for a bounded time; their
//! retransmissions join them.

use hashbrown::HashTable;

use crate::datagram::Flow;
use crate::location::Access;
use crate::time::{Duration, Instant};
use crate::transaction::arena::Stored;
use crate::transaction::key::ServerKey;
use crate::transaction::slab::Slab;

/// The requests that wait at one worker for one kind of thing.
#[derive(Debug)]
pub(super) struct Parked {
    /// How long each may wait.
    time: Duration,
    requests: Slab<Place>,
    by_key: HashTable<u32>,
    /// Several may wait for one reason.
    by_reason: HashTable<u32>,
    /// All have the same time: who came first is overdue first.
    first: Option<u32>,
    last: Option<u32>,
    /// The next that is looked at, while [`Self::look`] has not come to the end.
    looked_from: Option<u32>,
    /// Whether there is reason to look at all of them once more.
    must_look: bool,
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
    /// Of a REGISTER that has done its work: its answer.
    pub(super) answer: Option<Withheld>,
}

/// A 200 that is not given yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Withheld {
    /// The change, or what the answer tells of, that must be in the store first.
    pub(super) access: Access,
    /// The stored request's length; the answer's own header lines stand behind it.
    pub(super) request_len: usize,
}

/// What a look at those who wait came to.
#[derive(Debug)]
pub(super) enum Look {
    /// This one waits no more.
    Over(Waiting),
    /// There are more to look at, another time.
    More,
    /// That was all.
    End,
}

#[derive(Debug)]
struct Place {
    waiting: Waiting,
    deadline: Instant,
    before: Option<u32>,
    behind: Option<u32>,
}

impl Parked {
    /// Nothing waits; `len_max` may, each for `time`.
    pub(super) fn new(len_max: u32, time: Duration) -> Self {
        Self {
            time,
            requests: Slab::with_limit(len_max),
            by_key: HashTable::new(),
            by_reason: HashTable::new(),
            first: None,
            last: None,
            looked_from: None,
            must_look: false,
        }
    }

    /// Keeps a request; gives it back where no more may wait.
    pub(super) fn park(&mut self, now: Instant, waiting: Waiting) -> Result<(), Waiting> {
        let (key, reason) = (waiting.key, waiting.reason);
        let mut place = Some(Place {
            waiting,
            deadline: now + self.time,
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

    /// Has all who wait now looked at.
    pub(super) fn must_look(&mut self) {
        self.must_look = self.first.is_some();
    }

    /// Whether some are to be looked at.
    pub(super) fn is_looking(&self) -> bool {
        self.must_look || self.looked_from.is_some()
    }

    /// Goes on looking until one is found that `is_over` for, and takes it out; of `budget` that many less are left.
    pub(super) fn look(&mut self, budget: &mut usize, is_over: impl Fn(&Waiting) -> bool) -> Look {
        loop {
            if self.looked_from.is_none() && std::mem::take(&mut self.must_look) {
                self.looked_from = self.first;
            }
            let Some(slot) = self.looked_from else {
                return Look::End;
            };
            if *budget == 0 {
                return Look::More;
            }
            *budget -= 1;
            let Some(place) = self.requests.at(slot) else {
                self.looked_from = None;
                continue;
            };
            self.looked_from = place.behind;
            if is_over(&place.waiting)
                && let Some(waiting) = self.remove(slot)
            {
                return Look::Over(waiting);
            }
        }
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
        if self.looked_from == Some(slot) {
            self.looked_from = place.behind;
        }
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
    use crate::limits::{PARKED_MAX, PARKED_TIME};
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
            answer: None,
        }
    }

    #[test]
    fn requests_leave_for_their_reason_or_when_their_time_is_over() {
        let mut arena = Arena::with_limit(1 << 20);
        let mut parked = Parked::new(PARKED_MAX, PARKED_TIME);
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
        let mut parked = Parked::new(PARKED_MAX, PARKED_TIME);
        for n in 0..PARKED_MAX {
            let waiting = waiting(&mut arena, n, 1);
            parked.park(Instant::EPOCH, waiting).expect("room");
        }
        let one_more = waiting(&mut arena, PARKED_MAX, 1);
        let key = one_more.key;
        assert!(parked.park(Instant::EPOCH, one_more).is_err());
        assert!(!parked.has(key));
    }

    #[test]
    fn a_look_goes_on_where_it_stopped_and_begins_anew_where_there_is_reason() {
        let mut arena = Arena::with_limit(1 << 20);
        let mut parked = Parked::new(PARKED_MAX, PARKED_TIME);
        for n in 0..10 {
            let waiting = waiting(&mut arena, n, u64::from(n));
            parked.park(Instant::EPOCH, waiting).expect("room");
        }
        let look = |parked: &mut Parked, mut budget: usize, limit: u64| {
            let mut found = Vec::new();
            loop {
                match parked.look(&mut budget, |waiting| waiting.reason < limit) {
                    Look::Over(waiting) => found.push(waiting.reason),
                    Look::More => return (found, true),
                    Look::End => return (found, false),
                }
            }
        };
        assert_eq!(look(&mut parked, 5, 10), (vec![], false));
        parked.must_look();
        assert_eq!(look(&mut parked, 3, 2), (vec![0, 1], true));
        // The one that is next leaves for another reason, and there is news meanwhile.
        assert_eq!(parked.take_for(3).map(|waiting| waiting.reason), Some(3));
        parked.must_look();
        assert_eq!(look(&mut parked, 2, 10), (vec![4, 5], true));
        assert!(parked.is_looking());
        assert_eq!(look(&mut parked, 100, 10), (vec![6, 7, 8, 9, 2], false));
        assert_eq!((parked.len(), parked.is_looking()), (0, false));
    }
}
