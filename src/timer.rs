//! A hierarchical timer wheel: the timers of one worker.
//!
//! It owns the deadlines and one small payload each, and must not know what a payload means. The scheme is Varghese and
//! Lauck's hierarchical wheel ("Hashed and Hierarchical Timing Wheels", 1987): level 0 has a slot a tick of one
//! millisecond, each further level slots 64 times as wide, and ten levels cover every moment that [`Instant`] can
//! name, so that there is no horizon to fall off. A timer stands in the lowest level whose current turn contains it and moves
//! down as its time draws near. Scheduling, cancelling and rescheduling are O(1); one call does bounded work.
//!
//! A timer never fires early, and at most one tick late when [`Wheel::pop_expired`] is called in time.

#![forbid(unsafe_code)]

use crate::limits::WHEEL_MOVES_MAX;
use crate::prefetch;
use crate::time::Instant;

/// The timers of one worker, each with a payload of type `T`.
///
/// No operation allocates while at most the reserved number of timers is pending at once; past that the slab grows.
#[derive(Debug)]
pub struct Wheel<T> {
    entries: Vec<Entry<T>>,
    /// Head of the free entries, linked by `next`.
    free: u32,
    len: usize,
    /// Every timer due before this tick has fired, save those in the `DUE` list.
    elapsed: u64,
    /// The slot that is being emptied: it begins at `elapsed`, and time stands still until it is empty.
    draining: Option<u16>,
    /// A bit a slot: whether its list holds anything.
    occupied: [u64; LEVELS],
    lists: Box<[List; LISTS]>,
    moves_max: usize,
}

/// Names a pending timer; harmless once the timer has fired or was cancelled, even if its place is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    payload: T,
    tick: u64,
    previous: u32,
    next: u32,
    generation: u32,
    /// The list that the entry is linked into, `FREE` if none.
    list: u16,
}

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
}

impl<T: Copy> Wheel<T> {
    /// Makes an empty wheel with room for `capacity` timers; the memory is touched only as timers come.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            entries: Vec::with_capacity(capacity),
            free: NIL,
            len: 0,
            elapsed: 0,
            draining: None,
            occupied: [0; LEVELS],
            lists: Box::new(
                [List {
                    head: NIL,
                    tail: NIL,
                }; LISTS],
            ),
            moves_max: WHEEL_MOVES_MAX,
        }
    }

    /// Asks for the memory of a timer that is soon to be moved.
    pub fn prefetch(&self, id: TimerId) {
        if let Some(entry) = self.entries.get(id.index as usize) {
            prefetch::value(entry);
        }
    }

    /// The same of those that it is linked to: what [`Wheel::prefetch`] asked for is read here.
    pub fn prefetch_neighbours(&self, id: TimerId) {
        let entry = self.entries.get(id.index as usize);
        for index in entry
            .into_iter()
            .flat_map(|entry| [entry.previous, entry.next])
        {
            if let Some(neighbour) = self.entries.get(index as usize) {
                prefetch::value(neighbour);
            }
        }
    }

    /// Schedules a timer for `deadline`; one that is past already fires at the next [`Wheel::pop_expired`].
    pub fn schedule(&mut self, now: Instant, deadline: Instant, payload: T) -> TimerId {
        self.catch_up(now);
        let tick = tick_at_or_after(deadline);
        let index = self.allocate(payload, tick);
        self.place(index);
        self.len += 1;
        TimerId {
            index,
            generation: self.entries[index as usize].generation,
        }
    }

    /// Cancels a timer and gives its payload back; `None` if it has fired or was cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        self.pending(id)?;
        self.unlink(id.index);
        Some(self.release(id.index))
    }

    /// Moves a pending timer to another deadline, its id and payload unchanged; false if it is no longer pending.
    pub fn reschedule(&mut self, now: Instant, id: TimerId, deadline: Instant) -> bool {
        if self.pending(id).is_none() {
            return false;
        }
        self.unlink(id.index);
        // With this entry out of its list the wheel may be empty of others: then it may catch up too.
        self.len -= 1;
        self.catch_up(now);
        self.len += 1;
        self.entries[id.index as usize].tick = tick_at_or_after(deadline);
        self.place(id.index);
        true
    }

    /// Takes one timer whose deadline has come, the earliest tick first; the caller bounds how many it takes in a turn.
    ///
    /// `None` means that nothing is due, or that this call has done its share of moving timers down the levels; in
    /// the latter case [`Wheel::next_deadline`] is not after `now`, and the caller comes back after its next batch.
    /// `now` must not go back.
    pub fn pop_expired(&mut self, now: Instant) -> Option<T> {
        let now_tick = now.as_micros() / TICK_US;
        let mut moves = 0;
        loop {
            let due = self.lists[DUE as usize].head;
            if due != NIL {
                self.unlink(due);
                return Some(self.release(due));
            }
            let Some(list) = self.draining else {
                if !self.advance(now_tick) {
                    return None;
                }
                continue;
            };
            let head = self.lists[list as usize].head;
            if head == NIL {
                self.draining = None;
                continue;
            }
            if self.entries[head as usize].tick > self.elapsed && moves == self.moves_max {
                return None;
            }
            self.unlink(head);
            if self.entries[head as usize].tick <= self.elapsed {
                return Some(self.release(head));
            }
            self.place(head);
            moves += 1;
        }
    }

    /// The moment at which [`Wheel::pop_expired`] is to be called next: perhaps early, never late; `None` if empty.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.len == 0 {
            return None;
        }
        if self.draining.is_some() || self.lists[DUE as usize].head != NIL {
            return Some(moment_of(self.elapsed));
        }
        self.next_slot().map(|(_, start)| moment_of(start))
    }

    /// How many timers are pending.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes taken from the system.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.entries.capacity() * size_of::<Entry<T>>()
    }

    /// Whether no timer is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether this timer has neither fired nor been cancelled.
    #[must_use]
    pub fn is_pending(&self, id: TimerId) -> bool {
        self.pending(id).is_some()
    }

    fn pending(&self, id: TimerId) -> Option<&Entry<T>> {
        let entry = self.entries.get(id.index as usize)?;
        (entry.generation == id.generation && entry.list != FREE).then_some(entry)
    }

    /// An empty wheel has nothing to step over: it starts at `now`, so that timers stand as low as they can.
    fn catch_up(&mut self, now: Instant) {
        if self.len == 0 {
            self.draining = None;
            self.elapsed = self.elapsed.max(now.as_micros() / TICK_US);
        }
    }

    /// Moves time to the first occupied slot that begins by `now_tick` and starts to empty it; if none does, to
    /// `now_tick`, and returns false.
    fn advance(&mut self, now_tick: u64) -> bool {
        match self.next_slot() {
            Some((list, start)) if start <= now_tick => {
                self.elapsed = start;
                self.draining = Some(list);
                true
            }
            // No occupied slot begins in between, so no timer changes its level by this.
            Some(_) | None => {
                self.elapsed = self.elapsed.max(now_tick);
                false
            }
        }
    }

    /// The first occupied slot and the tick at which it begins.
    ///
    /// All that stands in a level lies within the current slot of the level above, so the lowest occupied level has it.
    fn next_slot(&self) -> Option<(u16, u64)> {
        let (level, bits) = self
            .occupied
            .iter()
            .enumerate()
            .find(|(_, bits)| **bits != 0)?;
        let slot = u64::from(bits.trailing_zeros());
        let width = SLOT_BITS * level as u32;
        let turn = self.elapsed >> width >> SLOT_BITS;
        let start = ((turn << SLOT_BITS) | slot) << width;
        Some((list_of(level, slot), start))
    }

    /// Links an entry, whose tick is set, into the list where it belongs.
    fn place(&mut self, index: u32) {
        let tick = self.entries[index as usize].tick;
        if tick <= self.elapsed {
            self.link(index, DUE);
            return;
        }
        // The highest bit in which the tick differs from the present names the level.
        let level = (63 - (tick ^ self.elapsed).leading_zeros()) / SLOT_BITS;
        let slot = (tick >> (SLOT_BITS * level)) & (SLOTS as u64 - 1);
        let level = level as usize;
        self.link(index, list_of(level, slot));
        self.occupied[level] |= 1 << slot;
    }

    fn link(&mut self, index: u32, list: u16) {
        let ends = &mut self.lists[list as usize];
        let tail = ends.tail;
        ends.tail = index;
        if tail == NIL {
            ends.head = index;
        } else {
            self.entries[tail as usize].next = index;
        }
        let entry = &mut self.entries[index as usize];
        (entry.previous, entry.next, entry.list) = (tail, NIL, list);
    }

    fn unlink(&mut self, index: u32) {
        let Entry {
            previous,
            next,
            list,
            ..
        } = self.entries[index as usize];
        let ends = &mut self.lists[list as usize];
        if previous == NIL {
            ends.head = next;
        } else {
            self.entries[previous as usize].next = next;
        }
        if next == NIL {
            ends.tail = previous;
        } else {
            self.entries[next as usize].previous = previous;
        }
        if ends.head == NIL && list < DUE {
            self.occupied[list as usize / SLOTS] &= !(1 << (list as usize % SLOTS));
        }
    }

    fn allocate(&mut self, payload: T, tick: u64) -> u32 {
        if self.free != NIL {
            let index = self.free;
            let entry = &mut self.entries[index as usize];
            let next = entry.next;
            self.free = next;
            (entry.payload, entry.tick) = (payload, tick);
            if let Some(next) = self.entries.get(next as usize) {
                prefetch::value(next);
            }
            return index;
        }
        let index =
            u32::try_from(self.entries.len()).expect("fewer timers than 2^32 fit any memory");
        self.entries.push(Entry {
            payload,
            tick,
            previous: NIL,
            next: NIL,
            generation: 0,
            list: FREE,
        });
        index
    }

    /// Frees an entry that stands in no list; from here on its id names nothing.
    fn release(&mut self, index: u32) -> T {
        let entry = &mut self.entries[index as usize];
        entry.list = FREE;
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = self.free;
        self.free = index;
        self.len -= 1;
        entry.payload
    }
}

/// The first tick that begins at or after `deadline`, so that nothing fires early.
fn tick_at_or_after(deadline: Instant) -> u64 {
    deadline.as_micros().div_ceil(TICK_US)
}

fn moment_of(tick: u64) -> Instant {
    Instant::from_micros(tick.saturating_mul(TICK_US))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "LISTS fits 16 bits, as asserted below"
)]
fn list_of(level: usize, slot: u64) -> u16 {
    level as u16 * SLOTS as u16 + slot as u16
}

const TICK_US: u64 = 1_000;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 10;
/// The list of what was past its deadline when it was scheduled; the lists before it are the slots.
const DUE: u16 = (LEVELS * SLOTS) as u16;
const LISTS: usize = LEVELS * SLOTS + 1;
const FREE: u16 = u16::MAX;
const NIL: u32 = u32::MAX;

const _: () = assert!(LISTS < FREE as usize);
const _: () = assert!(
    u64::MAX / TICK_US < 1 << (SLOT_BITS * LEVELS as u32),
    "every moment has its slot"
);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::time::Duration;

    const START: Instant = Instant::from_micros(1_700_000_000_123_456);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn drain(wheel: &mut Wheel<u64>, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| wheel.pop_expired(now)).collect()
    }

    #[test]
    fn a_timer_never_fires_early_and_at_most_a_tick_late() {
        for delay_us in [1, 999, 1_000, 500_000, 32_000_000, 181_000_000] {
            let mut wheel = Wheel::with_capacity(1);
            let deadline = START + Duration::from_micros(delay_us);
            wheel.schedule(START, deadline, 1);
            assert!(drain(&mut wheel, deadline - Duration::from_micros(1)).is_empty());
            assert_eq!(drain(&mut wheel, deadline + ms(1)), [1]);
            assert_eq!(wheel.next_deadline(), None);
        }
    }

    #[test]
    fn a_stale_id_is_harmless() {
        let mut wheel = Wheel::with_capacity(1);
        let first = wheel.schedule(START, START + ms(5), 1);
        assert_eq!(wheel.cancel(first), Some(1));
        let second = wheel.schedule(START, START + ms(5), 2);
        assert_eq!(first.index, second.index);
        assert_eq!(wheel.cancel(first), None);
        assert!(!wheel.reschedule(START, first, START));
        assert!(!wheel.is_pending(first) && wheel.is_pending(second));
        assert_eq!(drain(&mut wheel, START + ms(6)), [2]);
        assert_eq!(wheel.cancel(second), None);
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_once() {
        let mut wheel = Wheel::with_capacity(2);
        wheel.schedule(START, START + ms(60_000), 1);
        wheel.schedule(START, START - ms(60_000), 2);
        assert!(wheel.next_deadline().expect("two are pending") <= START);
        assert_eq!(drain(&mut wheel, START), [2]);
    }

    #[test]
    fn time_may_leap_over_every_level() {
        let mut wheel = Wheel::with_capacity(8);
        for power in 0..8 {
            wheel.schedule(START, START + ms(64_u64.pow(power)), u64::from(power));
        }
        assert_eq!(
            drain(&mut wheel, START + ms(64_u64.pow(7) + 1)),
            [0, 1, 2, 3, 4, 5, 6, 7]
        );
    }

    #[test]
    fn the_farthest_moment_is_held_and_never_due() {
        let mut wheel = Wheel::with_capacity(1);
        let end = Instant::from_micros(u64::MAX);
        let id = wheel.schedule(START, end, 1);
        assert_eq!(wheel.pop_expired(START + ms(1 << 40)), None);
        assert_eq!(wheel.cancel(id), Some(1));
    }

    #[test]
    fn one_call_moves_a_bounded_number_of_timers() {
        let mut wheel = Wheel::with_capacity(1_000);
        wheel.moves_max = 10;
        for n in 0..1_000 {
            wheel.schedule(START, START + ms(100_000 + n % 7), n);
        }
        let late = START + ms(200_000);
        let mut fired = Vec::new();
        let mut calls = 0;
        while let Some(next) = wheel.next_deadline() {
            assert!(next <= late, "there is more to do, and the wheel says so");
            fired.extend(wheel.pop_expired(late));
            calls += 1;
        }
        assert_eq!(fired.len(), 1_000);
        assert!(calls > 1_000 + 1_000 / 10);
        assert!(fired.is_sorted_by_key(|n| n % 7));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Schedule(u64),
        Cancel(usize),
        Reschedule(usize, u64),
        Pass(u64),
    }

    fn delay_us() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..5_000_u64,
            0..2_000_000_u64,
            0..200_000_000_u64,
            0..(1_u64 << 45)
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => delay_us().prop_map(Step::Schedule),
            1 => any::<prop::sample::Index>().prop_map(|i| Step::Cancel(i.index(1_000))),
            1 => (any::<prop::sample::Index>(), delay_us()).prop_map(|(i, d)| Step::Reschedule(i.index(1_000), d)),
            3 => delay_us().prop_map(Step::Pass),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn the_wheel_agrees_with_a_sorted_map(
            moves_max in prop_oneof![Just(1_usize), Just(1_000)],
            start in 0..(1_u64 << 52),
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let mut now = Instant::from_micros(start);
            let mut wheel = Wheel::with_capacity(4);
            wheel.moves_max = moves_max;
            // payload -> (id, deadline); the sorted map is what the wheel must agree with.
            let mut ids: Vec<TimerId> = Vec::new();
            let mut model: BTreeMap<u64, Instant> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Schedule(delay) => {
                        let deadline = now + Duration::from_micros(delay);
                        let payload = ids.len() as u64;
                        ids.push(wheel.schedule(now, deadline, payload));
                        model.insert(payload, deadline);
                    }
                    Step::Cancel(n) if !ids.is_empty() => {
                        let payload = (n % ids.len()) as u64;
                        let cancelled = wheel.cancel(ids[n % ids.len()]);
                        prop_assert_eq!(cancelled, model.remove(&payload).map(|_| payload));
                    }
                    Step::Reschedule(n, delay) if !ids.is_empty() => {
                        let payload = (n % ids.len()) as u64;
                        let deadline = now + Duration::from_micros(delay);
                        let moved = wheel.reschedule(now, ids[n % ids.len()], deadline);
                        prop_assert_eq!(moved, model.contains_key(&payload));
                        if moved {
                            model.insert(payload, deadline);
                        }
                    }
                    Step::Pass(span) => {
                        now = now + Duration::from_micros(span);
                        let mut last = 0;
                        while wheel.next_deadline().is_some_and(|next| next <= now) {
                            if let Some(payload) = wheel.pop_expired(now) {
                                let deadline = model.remove(&payload).expect("it fires once");
                                prop_assert!(deadline <= now);
                                let tick = tick_at_or_after(deadline);
                                prop_assert!(tick >= last || moves_max == 1, "earliest tick first");
                                last = tick;
                            }
                        }
                        prop_assert_eq!(wheel.pop_expired(now), None);
                        for deadline in model.values() {
                            prop_assert!(tick_at_or_after(*deadline) > now.as_micros() / TICK_US, "fires in time");
                        }
                    }
                    Step::Cancel(_) | Step::Reschedule(..) => {}
                }
                prop_assert_eq!(wheel.len(), model.len());
                let earliest = model.values().map(|deadline| moment_of(tick_at_or_after(*deadline))).min();
                prop_assert!(wheel.next_deadline().is_some() == earliest.is_some());
                prop_assert!(wheel.next_deadline() <= earliest, "never late");
            }
        }
    }
}
