//! What is on its way to one node: contacts that wait, messages without an answer, and how many of those there may be.
//!
//! A contact is in one unanswered message at a time, so that no retransmission can overtake a newer state of it: Kamailio takes
//! what comes last. What does not fit is not kept: the node is behind, and what it misses is found again by its version.

use std::collections::{BTreeMap, VecDeque};

use crate::limits::{
    KDMQ_GIVE_UP, KDMQ_RETRY_MAX, KDMQ_SCAN_MAX, KDMQ_SYNC_TIME, NODE_BYTES_IN_FLIGHT,
    NODE_HELD_MAX, NODE_WINDOW_START, T1,
};
use crate::time::{Duration, Instant};

/// A contact as it is written into a message.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) json: Box<[u8]>,
    /// Keyed by nothing: the hash of its name.
    pub(super) name: u64,
    pub(super) version: u64,
    /// Whether it has just changed here, and is not of a walk: then it is to be there soon.
    pub(super) is_live: bool,
}

/// What an unanswered message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The list of nodes.
    Notification,
    /// Contacts.
    Contacts,
    /// The wish for everything: Kamailio answers it late, and each time anew, so that it is sent once.
    Sync,
    /// The wish for everything, or for what is newer, to a node of our kind: it knows its retransmission for the same.
    Inquiry,
}

/// A message without an answer.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) number: u64,
    pub(super) kind: Kind,
    pub(super) message: Box<[u8]>,
    names: Box<[u64]>,
    /// The least version in it.
    oldest: u64,
    /// The least of those that have just changed here.
    oldest_live: Option<u64>,
    first_sent: Instant,
    due: Instant,
    interval: Duration,
    is_late: bool,
}

/// What is to be done with a message whose answer is overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// It is sent again.
    Again(usize),
    /// The node has been silent for too long.
    GivenUp(Kind),
}

/// The traffic to one node.
#[derive(Debug)]
pub(super) struct Session {
    held: VecDeque<Item>,
    flights: Vec<Flight>,
    /// The names in unanswered messages, each with how often.
    flying: BTreeMap<u64, u32>,
    bytes: usize,
    /// Messages of contacts that may be unanswered, in thousandths.
    window: u32,
    window_max: u32,
    has_lost: bool,
    /// The node misses what has at least this version.
    behind: Option<u64>,
}

impl Session {
    pub(super) const fn new(window_max: u32) -> Self {
        Self {
            held: VecDeque::new(),
            flights: Vec::new(),
            flying: BTreeMap::new(),
            bytes: 0,
            window: NODE_WINDOW_START * 1_000,
            window_max: window_max * 1_000,
            has_lost: false,
            behind: None,
        }
    }

    /// Has a contact sent; without room for it the node is behind.
    pub(super) fn push(&mut self, item: Item) {
        if self.held.len() < NODE_HELD_MAX {
            self.held.push_back(item);
        } else {
            self.fall_behind(item.version);
        }
    }

    /// Notes that the node misses what has at least this version.
    pub(super) fn fall_behind(&mut self, version: u64) {
        self.behind = Some(self.behind.map_or(version, |behind| behind.min(version)));
    }

    /// Since which version the node misses something; nobody is told twice.
    pub(super) fn take_behind(&mut self) -> Option<u64> {
        self.behind.take()
    }

    pub(super) const fn is_behind(&self) -> bool {
        self.behind.is_some()
    }

    /// Forgets all that waits and flies: the node is behind by it.
    pub(super) fn abandon(&mut self) {
        let held = self.held.drain(..).map(|item| item.version).min();
        let flying = self
            .flights
            .drain(..)
            .filter(|flight| flight.kind == Kind::Contacts);
        let flying = flying.map(|flight| flight.oldest).min();
        for version in held.into_iter().chain(flying) {
            self.fall_behind(version);
        }
        self.flying.clear();
        self.bytes = 0;
        self.window = NODE_WINDOW_START * 1_000;
        self.has_lost = false;
    }

    /// Takes the contacts of the next message, if one may be sent: no more than `len_max` and `bytes_max`.
    pub(super) fn next_batch(&mut self, len_max: usize, bytes_max: usize) -> Vec<Item> {
        let mut batch: Vec<Item> = Vec::new();
        if self.held.is_empty() || !self.has_room() {
            return batch;
        }
        let (mut bytes, mut kept) = (0, VecDeque::new());
        for _ in 0..KDMQ_SCAN_MAX {
            let Some(item) = self.held.pop_front() else {
                break;
            };
            // Later states of what has to wait wait behind it.
            let must_wait = self.flying.contains_key(&item.name)
                || kept.iter().any(|before: &Item| before.name == item.name);
            if must_wait {
                kept.push_back(item);
                continue;
            }
            // A key of `multi`, quotes and commas.
            let len = item.json.len() + 8;
            if !batch.is_empty() && (batch.len() >= len_max || bytes + len > bytes_max) {
                kept.push_back(item);
                break;
            }
            bytes += len;
            batch.push(item);
        }
        while let Some(item) = kept.pop_back() {
            self.held.push_front(item);
        }
        batch
    }

    /// Notes that a message was sent.
    pub(super) fn launch(
        &mut self,
        now: Instant,
        number: u64,
        kind: Kind,
        (message, is_reliable): (&[u8], bool),
        batch: &[Item],
    ) {
        // A stream loses nothing while it stands, and says so when it falls.
        let interval = if is_reliable { KDMQ_GIVE_UP } else { T1 };
        for item in batch {
            *self.flying.entry(item.name).or_default() += 1;
        }
        self.bytes += message.len();
        self.flights.push(Flight {
            number,
            kind,
            message: message.into(),
            names: batch.iter().map(|item| item.name).collect(),
            oldest: batch
                .iter()
                .map(|item| item.version)
                .min()
                .unwrap_or(u64::MAX),
            oldest_live: batch
                .iter()
                .filter(|item| item.is_live)
                .map(|item| item.version)
                .min(),
            first_sent: now,
            due: now + interval,
            interval,
            is_late: false,
        });
    }

    /// Notes the answer to a message; gives what it was, with how many contacts, and the oldest version of those that had just changed.
    pub(super) fn land(&mut self, number: u64) -> Option<(Kind, usize, Option<u64>)> {
        let place = self
            .flights
            .iter()
            .position(|flight| flight.number == number)?;
        let flight = self.flights.swap_remove(place);
        let was_full = self.flying_messages() + 2 >= self.window / 1_000;
        self.release(&flight);
        if flight.kind == Kind::Contacts && !flight.is_late && was_full {
            let step = if self.has_lost {
                1_000_000 / self.window.max(1_000)
            } else {
                1_000
            };
            self.window = (self.window + step).min(self.window_max);
        }
        Some((flight.kind, flight.names.len(), flight.oldest_live))
    }

    /// What is overdue next; called until there is nothing more.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Overdue> {
        let place = self.flights.iter().position(|flight| flight.due <= now)?;
        let flight = self.flights.get_mut(place)?;
        let kind = flight.kind;
        if kind != Kind::Sync && now < flight.first_sent + KDMQ_GIVE_UP {
            let was_late = std::mem::replace(&mut flight.is_late, true);
            flight.interval = flight.interval.doubled().min(KDMQ_RETRY_MAX);
            flight.due = now + flight.interval;
            if kind == Kind::Contacts && !was_late {
                self.has_lost = true;
                self.window = (self.window / 2).max(1_000);
            }
            return Some(Overdue::Again(place));
        }
        if kind == Kind::Sync && now < flight.first_sent + KDMQ_SYNC_TIME {
            flight.due = flight.first_sent + KDMQ_SYNC_TIME;
            return self.overdue(now);
        }
        self.give_up(place).map(Overdue::GivenUp)
    }

    /// Gives a message up that did not get away; says what it was.
    pub(super) fn fail(&mut self, number: u64) -> Option<Kind> {
        let mut flights = self.flights.iter();
        let place = flights.position(|flight| flight.number == number)?;
        self.give_up(place)
    }

    pub(super) fn flight(&self, place: usize) -> Option<&Flight> {
        self.flights.get(place)
    }

    /// Whether the answer to a message is still to come.
    pub(super) fn waits_for(&self, number: u64) -> bool {
        self.flights.iter().any(|flight| flight.number == number)
    }

    /// Whether such a message is unanswered.
    pub(super) fn has(&self, kind: Kind) -> bool {
        self.flights.iter().any(|flight| flight.kind == kind)
    }

    /// How many such messages are unanswered.
    pub(super) fn count(&self, kind: Kind) -> usize {
        let flights = self.flights.iter();
        flights.filter(|flight| flight.kind == kind).count()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.flights.iter().map(|flight| flight.due).min()
    }

    /// The oldest version that changed here and that the node has not acknowledged; none of a full send.
    pub(super) fn oldest_live(&self) -> Option<u64> {
        let held = self.held.iter().filter(|item| item.is_live);
        let held = held.map(|item| item.version);
        let flying = self.flights.iter().filter_map(|flight| flight.oldest_live);
        let behind = self.behind.filter(|behind| *behind > 0);
        held.chain(flying).chain(behind).min()
    }

    /// Contacts that wait for their message.
    pub(super) fn waiting(&self) -> usize {
        self.held.len()
    }

    /// Contacts in unanswered messages.
    pub(super) fn unanswered(&self) -> usize {
        self.flights.iter().map(|flight| flight.names.len()).sum()
    }

    pub(super) const fn window(&self) -> u32 {
        self.window / 1_000
    }

    fn give_up(&mut self, place: usize) -> Option<Kind> {
        if place >= self.flights.len() {
            return None;
        }
        let flight = self.flights.swap_remove(place);
        self.release(&flight);
        if flight.kind == Kind::Contacts {
            self.fall_behind(flight.oldest);
        }
        Some(flight.kind)
    }

    /// Whether a message of contacts may be sent.
    fn has_room(&self) -> bool {
        let is_first = self.flying_messages() == 0;
        is_first
            || (self.flying_messages() < self.window / 1_000 && self.bytes < NODE_BYTES_IN_FLIGHT)
    }

    fn flying_messages(&self) -> u32 {
        u32::try_from(self.count(Kind::Contacts)).unwrap_or(u32::MAX)
    }

    fn release(&mut self, flight: &Flight) {
        self.bytes = self.bytes.saturating_sub(flight.message.len());
        for name in &flight.names {
            if let Some(count) = self.flying.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.flying.remove(name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_micros(1_700_000_000_000_000);

    fn item(name: u64, version: u64) -> Item {
        Item {
            json: vec![b'x'; 100].into(),
            name,
            version,
            is_live: true,
        }
    }

    fn send(session: &mut Session, now: Instant, number: u64) -> Vec<(u64, u64)> {
        let batch = session.next_batch(3, 10_000);
        if !batch.is_empty() {
            session.launch(now, number, Kind::Contacts, (&[0; 300], false), &batch);
        }
        batch.iter().map(|item| (item.name, item.version)).collect()
    }

    #[test]
    fn a_contact_is_in_one_unanswered_message_and_its_states_keep_their_order() {
        let mut session = Session::new(16);
        for (name, version) in [(1, 1), (2, 2), (1, 3)] {
            session.push(item(name, version));
        }
        assert_eq!(send(&mut session, START, 1), [(1, 1), (2, 2), (1, 3)]);
        for (name, version) in [(1, 4), (3, 5), (1, 6)] {
            session.push(item(name, version));
        }
        assert_eq!(send(&mut session, START, 2), [(3, 5)]);
        assert!(send(&mut session, START, 3).is_empty());
        session.land(1);
        assert_eq!(send(&mut session, START, 4), [(1, 4), (1, 6)]);
    }

    #[test]
    fn a_silent_node_costs_a_bounded_window_and_falls_behind() {
        let mut session = Session::new(4);
        let (mut now, mut number) = (START, 0);
        for n in 0..NODE_HELD_MAX as u64 + 10 {
            session.push(item(n, 1_000 + n));
        }
        assert!(session.is_behind() && session.waiting() == NODE_HELD_MAX);
        while !send(&mut session, now, number).is_empty() {
            number += 1;
        }
        assert!(number <= 4, "{number}");
        let (mut again, mut given_up) = (0, 0);
        for _ in 0..400 {
            now = now + Duration::from_millis(100);
            while let Some(overdue) = session.overdue(now) {
                match overdue {
                    Overdue::Again(_) => again += 1,
                    Overdue::GivenUp(_) => given_up += 1,
                }
            }
        }
        assert_eq!((session.window(), given_up), (1, number));
        assert!(again < 12 * number, "{again}");
        assert_eq!(session.take_behind(), Some(1_000));
        session.abandon();
        assert_eq!(session.waiting(), 0);
        assert_eq!(session.take_behind(), Some(1_000 + 3 * number));
    }

    #[test]
    fn the_window_grows_with_the_answers_up_to_its_bound() {
        let mut session = Session::new(16);
        let mut number = 0;
        for _ in 0..50 {
            let first = number;
            for n in 0..200 {
                session.push(item(number * 1_000 + n, 1));
            }
            while !send(&mut session, START, number).is_empty() {
                number += 1;
            }
            assert!(number - first <= 16);
            for number in first..number {
                session.land(number);
            }
        }
        assert_eq!(session.window(), 16);
    }
}
