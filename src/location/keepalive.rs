//! Whose turn it is to be kept alive: a hand that goes round over the places of the bindings, once in each cycle.
//!
//! The shards are the spokes of a wheel: each has an equal part of the cycle, and each place of a shard an equal part of that. So a
//! contact has its own moment of the cycle, what leaves is even however many there are, and finding whose turn it is looks at the
//! places between two moments and at no others. Each worker has a hand over its share of the shards. Nothing is kept beside
//! the binding, and in it only how many OPTIONS in a row were not answered, in four bits that its flow has to spare.

use std::ops::Range;

use super::contact_index::Place;
use super::packed_flow::PackedFlow;
use super::shard::Shard;
use super::tally::Tally;
use super::{Location, SweepCursor};
use crate::datagram::Flow;
use crate::limits::{KEEPALIVE_CONTACTS, KEEPALIVE_LATE_MAX, KEEPALIVE_PLACES, KEEPALIVE_TICK};
use crate::time::{Duration, Instant};

/// Which contacts are kept alive, and what becomes of those that are silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepalivePolicy {
    /// Only those reached by the flow of their REGISTER: behind a NAT, or on a connection.
    pub nat_only: bool,
    /// Whether an answer is expected, and its lack counted.
    pub is_answered: bool,
    /// A contact that left so many unanswered is removed at its next turn; 0: never.
    pub silent_max: u8,
}

/// The hand of one worker.
#[derive(Clone, Debug)]
pub struct KeepaliveWheel {
    shards: Range<usize>,
    cycle: Duration,
    /// When the round under way began.
    origin: Instant,
    shard: usize,
    place: u32,
    /// When there is something to do.
    next: Instant,
    has_begun: bool,
}

/// Names a contact for as long as it holds its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptContact {
    /// Its place.
    pub place: u32,
    /// The keyed hash of its contact.
    pub hash: u32,
}

/// Contacts whose turn it is, and those that were removed: a worker's reusable scratch.
#[derive(Debug)]
pub struct DueContacts {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    removed: Vec<(Range<usize>, Range<usize>)>,
}

/// A contact whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueContact<'a> {
    /// Its name.
    pub contact: KeptContact,
    /// Its URI, as the phone wrote it.
    pub uri: &'a [u8],
    /// The flow by which it registered.
    pub flow: Flow,
    /// Whether that flow is the way back, whatever the URI says.
    pub received: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    uri: Range<usize>,
    contact: KeptContact,
    flow: PackedFlow,
}

impl Location {
    /// Moves a hand to where it is to be at `now`, and copies out the contacts that it passed, [`KEEPALIVE_CONTACTS`] at most. What is
    /// left is due at once. A contact that was silent for too long is removed, as if it had expired.
    pub fn due_contacts(
        &self,
        now: Instant,
        wheel: &mut KeepaliveWheel,
        policy: &KeepalivePolicy,
        due: &mut DueContacts,
    ) {
        due.clear();
        wheel.begin(now);
        let mut budget = KEEPALIVE_PLACES;
        while let Some(guarded) = self.shards.get(wheel.shard).filter(|_| budget > 0) {
            let (start, end) = wheel.window();
            if now < start {
                return wheel.rest(now, start);
            }
            let mut shard = guarded.0.lock();
            let places = shard.bindings.slots();
            let reached = wheel.reached(now, places);
            let stop = reached
                .min(wheel.place.saturating_add(budget))
                .max(wheel.place);
            let place = shard.due_contacts(now, wheel.place..stop, policy, &self.tally, due);
            drop(shard);
            // A shard costs as well: most are empty where there are few contacts.
            budget = budget.saturating_sub(1 + place.saturating_sub(wheel.place));
            wheel.place = place;
            if place < reached {
                wheel.next = wheel.due_at(place, places);
                return;
            }
            if now < end {
                let next = if place < places {
                    wheel.due_at(place, places)
                } else {
                    end
                };
                return wheel.rest(now, next);
            }
            wheel.advance();
        }
        wheel.next = wheel.window().0.min(now);
    }

    /// Notes that a contact answered; gives whether it is still there.
    pub fn is_answered_by(&self, now: Instant, contact: KeptContact) -> bool {
        let place = Place::from_bits(contact.place);
        let Some(shard) = self.shards.get(place.shard()) else {
            return false;
        };
        let mut shard = shard.0.lock();
        let held = shard.bindings.value_mut(place.index());
        let held = held.filter(|held| held.contact_hash == contact.hash && held.is_live(now));
        held.map(|held| held.note_silence(0)).is_some()
    }
}

impl Shard {
    /// Copies out the contacts of some places; gives the place to go on from.
    fn due_contacts(
        &mut self,
        now: Instant,
        places: Range<u32>,
        policy: &KeepalivePolicy,
        tally: &Tally,
        due: &mut DueContacts,
    ) -> u32 {
        let number = self.number();
        for index in places.clone() {
            if due.is_full() {
                return index;
            }
            let Some(binding) = self.binding(index) else {
                continue;
            };
            let is_wanted = binding.path().is_empty() && (binding.received() || !policy.nat_only);
            if !is_wanted || !binding.is_live(now) || !self.is_ours(index, binding) {
                continue;
            }
            // Of a contact that was taken over, silence may be the NAT's, which lets its own node in alone.
            let is_answered = policy.is_answered && !binding.is_foreign();
            let (uri, silence) = (due.copy(binding.contact()), binding.silence());
            if is_answered && policy.silent_max > 0 && silence >= policy.silent_max {
                let aor = due.copy(self.aor_text(binding.aor));
                due.removed.push((aor, uri));
                self.evict(now, index, tally);
                continue;
            }
            due.entries.push(Entry {
                uri,
                contact: KeptContact {
                    place: Place::new(number, index).bits(),
                    hash: binding.contact_hash,
                },
                flow: binding.flow(),
            });
            if let Some(binding) = self.bindings.value_mut(index).filter(|_| is_answered) {
                binding.note_silence(silence + 1);
            }
        }
        places.end
    }
}

impl KeepaliveWheel {
    /// A hand over share `share` of `shares`, as even as can be, that goes round once in each `cycle`.
    #[must_use]
    pub fn new(share: usize, shares: usize, cycle: Duration) -> Self {
        let shards = SweepCursor::new(share, shares).shards;
        Self {
            shard: shards.start,
            shards,
            cycle,
            origin: Instant::EPOCH,
            place: 0,
            next: Instant::EPOCH,
            has_begun: false,
        }
    }

    /// When [`Location::due_contacts`] is to be called next.
    #[must_use]
    pub const fn next_deadline(&self) -> Instant {
        self.next
    }

    /// Begins the first round; later it forgives the hand what it is late by, where that is too much to catch up with.
    fn begin(&mut self, now: Instant) {
        if !self.has_begun {
            (self.has_begun, self.origin) = (true, now);
        } else if now.since(self.next) > KEEPALIVE_LATE_MAX {
            self.origin = self.origin + now.since(self.next);
        }
    }

    /// Waits until `next`, and a tick at the least.
    fn rest(&mut self, now: Instant, next: Instant) {
        self.next = next.max(now + KEEPALIVE_TICK);
    }

    /// Goes to the next shard, or begins the next round.
    fn advance(&mut self) {
        self.place = 0;
        self.shard += 1;
        if self.shard >= self.shards.end {
            self.shard = self.shards.start;
            self.origin = self.origin + self.cycle;
        }
    }

    /// The part of the round that belongs to the shard under the hand.
    fn window(&self) -> (Instant, Instant) {
        let number = (self.shard - self.shards.start) as u64;
        let shares = self.shards.len().max(1) as u64;
        let bound = |number: u64| {
            self.origin + Duration::from_micros(self.cycle.as_micros() * number / shares)
        };
        (bound(number), bound(number + 1))
    }

    /// How many of the shard's places have had their turn at `now`.
    fn reached(&self, now: Instant, places: u32) -> u32 {
        let (start, end) = self.window();
        if now >= end {
            return places;
        }
        let span = end.since(start).as_micros().max(1);
        let passed = now.since(start).as_micros() * u64::from(places) / span;
        places.min(u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// When a place of the shard has its turn.
    fn due_at(&self, place: u32, places: u32) -> Instant {
        let (start, end) = self.window();
        let passed = end.since(start).as_micros() * u64::from(place);
        start + Duration::from_micros(passed.div_ceil(u64::from(places.max(1))))
    }
}

impl DueContacts {
    /// Makes a scratch with room for one turn.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(KEEPALIVE_CONTACTS * CONTACT_LEN),
            entries: Vec::with_capacity(KEEPALIVE_CONTACTS),
            removed: Vec::with_capacity(KEEPALIVE_CONTACTS),
        }
    }

    /// The contacts whose turn it is.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = DueContact<'_>> {
        self.entries.iter().map(|entry| DueContact {
            contact: entry.contact,
            uri: self.text(&entry.uri),
            flow: entry.flow.unpack(),
            received: entry.flow.received(),
        })
    }

    /// The contacts that were removed, each behind its AoR.
    pub fn removed(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        let texts = self.removed.iter();
        texts.map(|(aor, contact)| (self.text(aor), self.text(contact)))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.removed.clear();
    }

    fn is_full(&self) -> bool {
        self.entries.len() + self.removed.len() >= KEEPALIVE_CONTACTS
    }

    fn copy(&mut self, text: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        start..self.bytes.len()
    }

    fn text(&self, place: &Range<usize>) -> &[u8] {
        self.bytes.get(place.clone()).unwrap_or_default()
    }
}

impl Default for DueContacts {
    fn default() -> Self {
        Self::new()
    }
}

/// What a contact usually takes.
const CONTACT_LEN: usize = 128;

const _: () = assert!(KEEPALIVE_PLACES as usize > KEEPALIVE_CONTACTS);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::datagram::{ListenerId, Transport};
    use crate::location::{Change, LocationSettings, Lookup, Registration, Row, Targets};

    const START: Instant = Instant::from_micros(1_700_000_000_000_000);
    const CYCLE: Duration = Duration::from_secs(30);
    const POLICY: KeepalivePolicy = KeepalivePolicy {
        nat_only: true,
        is_answered: true,
        silent_max: 3,
    };

    fn location() -> Location {
        Location::new(&LocationSettings {
            hash_key: [5; 16],
            bindings_max: 1_000_000,
            contacts_max: 16,
        })
    }

    fn register(location: &Location, now: Instant, user: &str, cseq: u32, received: bool) {
        let registration = Registration {
            call_id: b"call-1",
            cseq,
            user_agent: b"",
            path: b"",
            flow: Flow {
                listener: ListenerId(0),
                transport: Transport::Udp,
                peer: "198.51.100.7:40000".parse().expect("an address"),
            },
        };
        let uri = format!("sip:{user}@10.0.0.1");
        let change = Change {
            uri: uri.as_bytes(),
            expires: Duration::from_secs(3_600),
            q: None,
            received,
            instance: b"",
            reg_id: 0,
        };
        let mut targets = Targets::new();
        let (result, _) =
            location.apply(now, user.as_bytes(), &registration, &[change], &mut targets);
        result.expect("room");
    }

    /// Who had a turn and when, as the hand of a worker that is never late goes round for `span`.
    fn go_round(
        location: &Location,
        wheel: &mut KeepaliveWheel,
        (from, span): (Instant, Duration),
        mut each: impl FnMut(Instant, DueContact<'_>),
    ) {
        let (mut now, end) = (from, from + span);
        let mut due = DueContacts::new();
        while now < end {
            location.due_contacts(now, wheel, &POLICY, &mut due);
            due.iter().for_each(|contact| each(now, contact));
            now = wheel.next_deadline().max(now);
        }
    }

    #[test]
    fn a_hundred_thousand_contacts_leave_evenly_and_each_once_a_cycle() {
        const CONTACTS: usize = 100_000;
        let location = location();
        for n in 0..CONTACTS {
            register(&location, START, &format!("user{n}"), 1, true);
        }
        for (share, shares) in [(0, 1), (1, 2)] {
            let mut wheel = KeepaliveWheel::new(share, shares, CYCLE);
            let mut slots = vec![0_usize; 3_000];
            let mut turns: BTreeMap<u32, Vec<Instant>> = BTreeMap::new();
            go_round(
                &location,
                &mut wheel,
                (START, Duration::from_millis(60_100)),
                |now, due| {
                    location.is_answered_by(now, due.contact);
                    let slot = now.since(START).as_micros() / 10_000;
                    if slot < 3_000 {
                        slots[slot as usize] += 1;
                    }
                    turns.entry(due.contact.place).or_default().push(now);
                },
            );
            let sent: usize = slots.iter().sum();
            let expected = CONTACTS / shares;
            assert!(sent.abs_diff(expected) < expected / 10, "{sent}");
            let (most, mean) = (slots.iter().max().expect("there are"), sent / 3_000);
            // A shard has 98 contacts, give or take 10, in 29 ms of the cycle: the largest of so many is that uneven and no more.
            assert!(
                2 * most < 3 * mean,
                "{most} in one slot, {mean} in the mean"
            );
            assert!(slots.iter().all(|sent| *sent > 0));
            for times in turns.values() {
                let [first, second, ..] = times[..] else {
                    panic!("{times:?}")
                };
                let apart = second.since(first).as_micros();
                assert!(apart.abs_diff(CYCLE.as_micros()) < 10_000, "{apart}");
            }
            // The last of a round may leave a tick into the next.
            assert!(turns.len() >= sent && turns.len() < sent + 50);
            println!("{share}/{shares}: {most} in the fullest 10 ms, {mean} in the mean");
        }
    }

    #[test]
    fn two_workers_have_all_contacts_between_them() {
        let location = location();
        for n in 0..1_000 {
            register(&location, START, &format!("user{n}"), 1, true);
        }
        let mut seen = Vec::new();
        for share in 0..3 {
            let mut wheel = KeepaliveWheel::new(share, 3, CYCLE);
            go_round(&location, &mut wheel, (START, CYCLE), |_, due| {
                seen.push(due.contact.place);
            });
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1_000);
    }

    #[test]
    fn a_worker_that_was_held_up_sends_no_burst() {
        let location = location();
        for n in 0..10_000 {
            register(&location, START, &format!("user{n}"), 1, true);
        }
        let mut wheel = KeepaliveWheel::new(0, 1, CYCLE);
        let mut due = DueContacts::new();
        location.due_contacts(START, &mut wheel, &POLICY, &mut due);
        let late = START + Duration::from_secs(10);
        let mut at_once = 0;
        go_round(
            &location,
            &mut wheel,
            (late, Duration::from_millis(10)),
            |_, _| at_once += 1,
        );
        assert!(at_once < 10, "{at_once} of 3,333 that were missed");
    }

    #[test]
    fn who_is_silent_is_removed_unless_it_answered_or_registered_in_between() {
        let location = location();
        for user in ["silent", "answers", "refreshes"] {
            register(&location, START, user, 1, true);
        }
        register(&location, START, "no-nat", 1, false);
        let mut wheel = KeepaliveWheel::new(0, 1, CYCLE);
        let mut removed = Vec::new();
        let mut due = DueContacts::new();
        let mut now = START;
        let mut cseq = 1;
        while now < START + CYCLE.times(5) {
            location.due_contacts(now, &mut wheel, &POLICY, &mut due);
            for contact in due.iter() {
                match contact.uri {
                    b"sip:answers@10.0.0.1" => {
                        assert!(location.is_answered_by(now, contact.contact))
                    }
                    b"sip:refreshes@10.0.0.1" => {
                        cseq += 1;
                        register(&location, now, "refreshes", cseq, true);
                    }
                    b"sip:silent@10.0.0.1" => {}
                    other => panic!("{}", other.escape_ascii()),
                }
            }
            let gone = due.removed();
            removed.extend(gone.map(|(aor, uri)| (now, aor.to_vec(), uri.to_vec())));
            now = wheel.next_deadline().max(now);
        }
        let [(at, aor, uri)] = &removed[..] else {
            panic!("{removed:?}")
        };
        assert_eq!(
            (&aor[..], &uri[..]),
            (&b"silent"[..], &b"sip:silent@10.0.0.1"[..])
        );
        assert!(*at > START + CYCLE.times(3) && *at < START + CYCLE.times(4));
        let mut targets = Targets::new();
        let (found, _) = location.contacts(*at, b"silent", &mut targets);
        assert_eq!((found, location.bindings()), (Lookup::NoContacts, 3));
        register(&location, now, "silent", 2, true);
        assert_eq!(location.bindings(), 4);
    }

    #[test]
    fn another_servers_contacts_are_left_to_it_until_they_register_here() {
        let location = location().with_store(b"uloc-1-", false);
        let row = |user: &'static str, is_ours| Row {
            ruid: user.as_bytes(),
            aor: user.as_bytes(),
            contact: b"sip:phone@10.0.0.1",
            flow: Flow {
                listener: ListenerId(0),
                transport: Transport::Udp,
                peer: "198.51.100.9:40000".parse().expect("an address"),
            },
            received: true,
            is_ours,
            expires: START + CYCLE.times(10),
            modified: START,
            ..Row::complete(b"")
        };
        location.admit(START, &row("own", true));
        location.admit(START, &row("other", false));
        let mut wheel = KeepaliveWheel::new(0, 1, CYCLE);
        let mut kept = Vec::new();
        go_round(&location, &mut wheel, (START, CYCLE), |_, due| {
            kept.push(due.flow.peer.to_string());
        });
        assert_eq!(kept, ["198.51.100.9:40000"]);
        kept.clear();
        register(&location, START + CYCLE, "other", 1, true);
        let round = (START + CYCLE, CYCLE);
        go_round(&location, &mut wheel, round, |_, due| {
            kept.push(due.flow.peer.to_string());
        });
        kept.sort_unstable();
        assert_eq!(kept, ["198.51.100.7:40000", "198.51.100.9:40000"]);
    }

    #[test]
    fn a_name_is_good_for_the_contact_that_had_it_alone() {
        let location = location();
        register(&location, START, "alice", 1, true);
        let mut wheel = KeepaliveWheel::new(0, 1, CYCLE);
        let mut contact = None;
        go_round(&location, &mut wheel, (START, CYCLE), |_, due| {
            contact = Some(due.contact);
        });
        let contact = contact.expect("one");
        let other = KeptContact {
            hash: contact.hash ^ 1,
            ..contact
        };
        assert!(location.is_answered_by(START, contact));
        assert!(!location.is_answered_by(START, other));
        for place in [contact.place + 1, u32::MAX] {
            assert!(!location.is_answered_by(START, KeptContact { place, ..contact }));
        }
        let after = START + Duration::from_secs(3_601);
        assert!(!location.is_answered_by(after, contact), "it has expired");
    }
}
