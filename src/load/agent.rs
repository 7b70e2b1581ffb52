//! The emulated agents (RFC 7501 3.2.1): the user agents' side of registrations, queries and sessions, for all phones at once.
//!
//! It reads no clock and opens no socket: moments are handed in, and messages leave by a [`Wire`]. Retransmission is a real
//! user agent's (RFC 3261 17.1.1.2, 17.1.2.2).

use std::net::SocketAddr;

use super::callee::Callees;
use super::compose::Branch;
use super::credentials::Credentials;
use super::operation::{Operation, Operations, Step};
use super::pen::Pen;
use super::phones::Phones;
use super::tally::{Delay, Failure, Kind, Tally};
use crate::datagram::{Datagram, Flow, ListenerId, Transport};
use crate::limits::{LOAD_OPERATIONS_MAX, LOAD_RING_TIME, T1, T1_64, T2};
use crate::sip::{Contact, HeaderName, Index, Message, Parsed, Uri, parse};
use crate::time::{Duration, Instant};
use crate::timer::Wheel;

/// By what messages leave.
pub(super) trait Wire {
    /// Sends a message; whether it left is for the other side to find out.
    fn send(&mut self, flow: &Flow, bytes: &[u8]);
}

/// What the agents are told.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Where requests are sent.
    pub(super) target: SocketAddr,
    /// The sources, by the listener's number.
    pub(super) sources: Vec<SocketAddr>,
    /// The domain of all phones.
    pub(super) domain: String,
    /// What a registration asks for.
    pub(super) expires_s: u32,
    /// Whom calls are for, where not for the phones themselves.
    pub(super) callee: Option<String>,
    /// How long a session is held (RFC 7501 3.3.3).
    pub(super) hold: Duration,
    /// How long a called phone rings.
    pub(super) ring: Duration,
    /// The Establishment Threshold Time (RFC 7501 3.3.2).
    pub(super) threshold: Duration,
}

/// All agents of a load.
pub(super) struct Agent {
    pen: Pen,
    phones: Phones,
    operations: Operations,
    wheel: Wheel<(u32, u32)>,
    tallies: [Tally; Kind::ALL.len()],
    callees: Callees,
    /// Responses to nothing that is under way.
    pub(super) strays: u64,
}

impl Agent {
    pub(super) fn new(run: u32, settings: Settings, phones: Phones) -> Self {
        let (sources, ring) = (settings.sources.clone(), settings.ring);
        let pen = Pen::new(settings);
        Self {
            callees: Callees::new(sources, pen.offers().to_vec(), ring),
            pen,
            phones,
            operations: Operations::new(run, LOAD_OPERATIONS_MAX),
            wheel: Wheel::with_capacity(1_024),
            tallies: Kind::ALL.map(Tally::new),
            strays: 0,
        }
    }

    /// Begins an attempt that was due at `intended`.
    pub(super) fn begin(
        &mut self,
        kind: Kind,
        now: Instant,
        intended: Instant,
        is_counted: bool,
        wire: &mut impl Wire,
    ) {
        if is_counted {
            self.tally(kind).attempts += 1;
        }
        let Some(phone) = self.phones.take() else {
            self.tally(kind).unsent += u64::from(is_counted);
            return;
        };
        let Some(branch) = self.operations.reserve() else {
            self.phones.release(phone);
            self.tally(kind).unsent += u64::from(is_counted);
            return;
        };
        let blank = self.operations.blank();
        let mut operation = blank.unwrap_or_else(|| Box::new(Operation::blank()));
        operation.kind = kind;
        operation.step = Step::Asking;
        operation.phone = phone;
        operation.is_counted = is_counted;
        operation.intended = intended;
        operation.branch = branch;
        operation.challenges = 0;
        operation.has_rung = false;
        operation.next_hop = self.pen.settings.target;
        self.pen.address(&mut operation, &mut self.phones);
        if is_counted {
            self.tally(kind)
                .record(Delay::Lateness, now.since(intended));
        }
        self.pen.compose(&mut operation, &mut self.phones);
        self.transmit(operation, now, wire);
    }

    /// Takes what came.
    pub(super) fn on_datagram(
        &mut self,
        now: Instant,
        datagram: &Datagram<'_>,
        index: &mut Index,
        wire: &mut impl Wire,
    ) {
        match parse(datagram.bytes, index) {
            Parsed::Good(message) if message.is_request() => {
                self.callees.on_request(now, &message, &datagram.flow, wire);
            }
            Parsed::Good(message) => self.on_response(now, &message, wire),
            Parsed::Answerable(..) | Parsed::NotSip(_) => self.strays += 1,
        }
    }

    /// Takes the report that a message did not arrive (RFC 3261 8.1.3.1): it begins with what was sent.
    pub(super) fn on_unreachable(&mut self, payload: &[u8]) {
        let Some(branch) = branch_in(payload) else {
            return;
        };
        if let Some(operation) = self.operations.take_by(branch) {
            if operation.step == Step::Holding || operation.branch.serial != branch.serial {
                self.operations.put(operation);
            } else {
                self.fail(operation, Failure::Unreachable);
            }
        }
    }

    /// Does what is due.
    pub(super) fn on_timeout(&mut self, now: Instant, wire: &mut impl Wire) {
        while let Some((slot, generation)) = self.wheel.pop_expired(now) {
            if let Some(mut operation) = self.operations.take(slot, generation) {
                operation.timer = None;
                self.expire(operation, now, wire);
            }
        }
        self.callees.on_timeout(now, wire);
    }

    /// When [`Agent::on_timeout`] is to be called next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.wheel.next_deadline(), self.callees.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// How many attempts are under way.
    pub(super) const fn under_way(&self) -> usize {
        self.operations.len()
    }

    /// The counts of all kinds, by [`Kind`].
    pub(super) const fn tallies(&self) -> &[Tally; Kind::ALL.len()] {
        &self.tallies
    }

    /// Begins to count anew; gives what was counted.
    pub(super) fn reset(&mut self) -> [Tally; Kind::ALL.len()] {
        self.phones.rewind();
        std::mem::replace(&mut self.tallies, Kind::ALL.map(Tally::new))
    }

    /// The called side, for its counts.
    pub(super) const fn callees(&self) -> &Callees {
        &self.callees
    }

    /// How many phones there are.
    pub(super) const fn phones(&self) -> usize {
        self.phones.len()
    }

    fn on_response(&mut self, now: Instant, response: &Message<'_>, wire: &mut impl Wire) {
        let branch = response.top_via().branch().and_then(Branch::read);
        let Some(mut operation) = branch.and_then(|branch| self.operations.take_by(branch)) else {
            self.strays += 1;
            return;
        };
        self.tally(operation.kind).received += 1;
        let is_current = branch.is_some_and(|branch| branch.serial == operation.branch.serial);
        if operation.step == Step::Holding {
            // RFC 3261 13.2.2.4: each 2xx that comes again is acknowledged again.
            if response.cseq().method == b"INVITE" && (200..300).contains(&response.status()) {
                self.send(&operation, wire);
            }
            self.operations.put(operation);
            return;
        }
        if !is_current {
            self.strays += 1;
            self.operations.put(operation);
            return;
        }
        match response.status() {
            ..200 => {
                self.on_provisional(&mut operation, now, response.status());
                self.operations.put(operation);
            }
            200..300 => self.on_success(operation, now, response, wire),
            status => self.on_refusal(operation, now, response, status, wire),
        }
    }

    fn on_provisional(&mut self, operation: &mut Operation, now: Instant, status: u16) {
        let is_invite = operation.kind == Kind::Invite && operation.step == Step::Asking;
        if !is_invite {
            // RFC 3261 17.1.2.2: in Proceeding, Timer E is T2.
            operation.interval = Some(T2);
            return;
        }
        // RFC 3261 17.1.1.2: a provisional response ends Timers A and B.
        if operation.interval.take().is_some() {
            operation.deadline = now + LOAD_RING_TIME;
            self.schedule(operation, now, operation.deadline);
        }
        if status > 100 && !operation.has_rung {
            operation.has_rung = true;
            self.record(operation, Delay::Ring, now.since(operation.intended));
        }
    }

    fn on_success(
        &mut self,
        mut operation: Box<Operation>,
        now: Instant,
        response: &Message<'_>,
        wire: &mut impl Wire,
    ) {
        let span = now.since(operation.intended);
        if operation.step == Step::Ending {
            self.record(&operation, Delay::Disconnect, span);
            return self.succeed(operation);
        }
        self.record(&operation, Delay::Answer, span);
        let from_sending = now.since(operation.sent_at);
        self.record(&operation, Delay::AnswerFromSending, from_sending);
        let is_over = span > self.pen.settings.threshold;
        if operation.kind != Kind::Invite {
            return if is_over {
                self.fail(operation, Failure::OverThreshold)
            } else {
                self.succeed(operation)
            };
        }
        if !self.establish(&mut operation, response) {
            return self.fail(operation, Failure::Malformed);
        }
        // The ACK of a 2xx is a transaction of its own.
        operation.branch.serial = operation.branch.serial.wrapping_add(1);
        self.pen.write(&mut operation, &mut self.phones, "ACK");
        self.send(&operation, wire);
        if operation.is_counted && !is_over {
            self.tally(Kind::Invite).established += 1;
        }
        operation.step = Step::Holding;
        let hang_up_at = now + self.pen.settings.hold;
        operation.deadline = hang_up_at;
        self.schedule(&mut operation, now, hang_up_at);
        self.operations.put(operation);
    }

    /// Takes the dialog from a 2xx (RFC 3261 12.1.2); false where it has no Contact.
    fn establish(&self, operation: &mut Operation, response: &Message<'_>) -> bool {
        let Some(Ok(contact)) = response.contacts().next() else {
            return false;
        };
        let Contact::Address(contact) = contact else {
            return false;
        };
        let contact = contact.address.uri_bytes();
        operation.uri.clear();
        operation.uri.extend_from_slice(contact);
        if let Some(to) = response.header(HeaderName::To) {
            operation.to.clear();
            operation.to.extend_from_slice(to.value);
        }
        let mut routes: Vec<&[u8]> = response
            .values(HeaderName::RecordRoute)
            .map(|value| value.bytes())
            .collect();
        routes.reverse();
        operation.routes.clear();
        for route in &routes {
            operation.routes.extend_from_slice(b"Route: ");
            operation.routes.extend_from_slice(route);
            operation.routes.extend_from_slice(b"\r\n");
        }
        let first = response
            .values(HeaderName::RecordRoute)
            .last()
            .and_then(|value| value.address().ok());
        let uri = first.map_or(contact, |address| address.uri_bytes());
        operation.next_hop = literal(uri).unwrap_or(self.pen.settings.target);
        true
    }

    fn on_refusal(
        &mut self,
        mut operation: Box<Operation>,
        now: Instant,
        response: &Message<'_>,
        status: u16,
        wire: &mut impl Wire,
    ) {
        if operation.kind == Kind::Invite && operation.step == Step::Asking {
            self.acknowledge(&mut operation, response, wire);
        }
        if matches!(status, 401 | 407) && self.take_challenge(&operation, response) {
            operation.challenges += 1;
            operation.branch.serial = operation.branch.serial.wrapping_add(1);
            operation.cseq = Pen::next_cseq(&operation, &mut self.phones);
            let sent_at = operation.sent_at;
            self.pen.compose(&mut operation, &mut self.phones);
            if operation.is_counted {
                self.tally(operation.kind).challenges += 1;
            }
            operation.sent_at = sent_at;
            self.dispatch(operation, now, wire);
            return;
        }
        self.fail(operation, Failure::Status(status));
    }

    /// Answers a final response other than 2xx to INVITE: the ACK is of its transaction (RFC 3261 17.1.1.3).
    fn acknowledge(
        &mut self,
        operation: &mut Operation,
        response: &Message<'_>,
        wire: &mut impl Wire,
    ) {
        let to = std::mem::take(&mut operation.to);
        if let Some(field) = response.header(HeaderName::To) {
            operation.to.extend_from_slice(field.value);
        }
        self.pen.write(operation, &mut self.phones, "ACK");
        operation.to = to;
        self.send(operation, wire);
    }

    /// Takes up a challenge; false where the phone has no password, or has proved itself in vain.
    fn take_challenge(&mut self, operation: &Operation, response: &Message<'_>) -> bool {
        let place = usize::from(operation.kind != Kind::Register);
        let Some(phone) = self.phones.at_mut(operation.phone) else {
            return false;
        };
        let Some(password) = &phone.password else {
            return false;
        };
        let Some(fresh) = Credentials::answer(response, &phone.user, password) else {
            return false;
        };
        let Some(slot) = phone.credentials.get_mut(place) else {
            return false;
        };
        let is_in_vain = slot.as_ref().is_some_and(|old| !old.is_outdated_by(&fresh));
        if is_in_vain || operation.challenges >= CHALLENGES_MAX {
            *slot = None;
            return false;
        }
        *slot = Some(Box::new(fresh));
        true
    }

    /// Something that waited has waited long enough.
    fn expire(&mut self, mut operation: Box<Operation>, now: Instant, wire: &mut impl Wire) {
        if operation.step == Step::Holding {
            operation.step = Step::Ending;
            operation.intended = operation.deadline;
            operation.cseq += 1;
            operation.branch.serial = operation.branch.serial.wrapping_add(1);
            operation.challenges = 0;
            self.pen.write(&mut operation, &mut self.phones, "BYE");
            return self.transmit(operation, now, wire);
        }
        if now >= operation.deadline {
            if operation.interval.is_none() {
                // RFC 3261 9.1: what only rings is given up.
                self.pen.write(&mut operation, &mut self.phones, "CANCEL");
                self.send(&operation, wire);
            }
            return self.fail(operation, Failure::Timeout);
        }
        let Some(interval) = operation.interval else {
            return self.operations.put(operation);
        };
        let is_invite = operation.kind == Kind::Invite && operation.step == Step::Asking;
        // RFC 3261 17.1.1.2, 17.1.2.2: Timer A doubles, Timer E doubles up to T2.
        let next = if is_invite {
            interval.doubled()
        } else {
            interval.doubled().min(T2)
        };
        operation.interval = Some(next);
        let at = (now + next).min(operation.deadline);
        self.schedule(&mut operation, now, at);
        if operation.is_counted {
            self.tally(operation.kind).retransmissions += 1;
        }
        self.send(&operation, wire);
        self.operations.put(operation);
    }

    /// Begins a client transaction with the message as it stands.
    fn transmit(&mut self, mut operation: Box<Operation>, now: Instant, wire: &mut impl Wire) {
        operation.sent_at = now;
        self.dispatch(operation, now, wire);
    }

    fn dispatch(&mut self, mut operation: Box<Operation>, now: Instant, wire: &mut impl Wire) {
        operation.interval = Some(T1);
        operation.deadline = now + T1_64;
        self.schedule(&mut operation, now, now + T1);
        self.send(&operation, wire);
        self.operations.put(operation);
    }

    fn send(&mut self, operation: &Operation, wire: &mut impl Wire) {
        self.tally(operation.kind).sent += 1;
        let source = self
            .phones
            .at(operation.phone)
            .map_or(0, |phone| phone.source);
        let flow = Flow {
            listener: ListenerId(source),
            transport: Transport::Udp,
            peer: operation.next_hop,
        };
        wire.send(&flow, &operation.message.0);
    }

    fn schedule(&mut self, operation: &mut Operation, now: Instant, at: Instant) {
        let Branch {
            slot, generation, ..
        } = operation.branch;
        let is_moved = operation
            .timer
            .is_some_and(|timer| self.wheel.reschedule(now, timer, at));
        if !is_moved {
            operation.timer = Some(self.wheel.schedule(now, at, (slot, generation)));
        }
    }

    fn succeed(&mut self, operation: Box<Operation>) {
        if operation.is_counted {
            self.tally(operation.kind).successes += 1;
        }
        self.end(operation);
    }

    fn fail(&mut self, operation: Box<Operation>, failure: Failure) {
        if operation.is_counted {
            self.tally(operation.kind).fail(failure);
        }
        self.end(operation);
    }

    fn end(&mut self, mut operation: Box<Operation>) {
        if let Some(timer) = operation.timer.take() {
            self.wheel.cancel(timer);
        }
        self.phones.release(operation.phone);
        self.operations.end(operation);
    }

    fn record(&mut self, operation: &Operation, delay: Delay, span: Duration) {
        if operation.is_counted {
            self.tally(operation.kind).record(delay, span);
        }
    }

    fn tally(&mut self, kind: Kind) -> &mut Tally {
        &mut self.tallies[kind as usize]
    }
}

/// The address that a URI names without asking anybody.
fn literal(uri: &[u8]) -> Option<SocketAddr> {
    let uri = Uri::parse(uri).ok()?;
    Some(SocketAddr::new(uri.host.ip()?, uri.port.unwrap_or(5060)))
}

/// The branch of ours that stands first in a message, which may be cut.
fn branch_in(payload: &[u8]) -> Option<Branch> {
    let at = memchr::memmem::find(payload, b";branch=")? + b";branch=".len();
    Branch::read(payload.get(at..at + BRANCH_LEN)?)
}

/// Challenges that one attempt answers: one for its first nonce, one more for a stale one.
const CHALLENGES_MAX: u8 = 2;
/// The length of a branch's text.
const BRANCH_LEN: usize = 33;
