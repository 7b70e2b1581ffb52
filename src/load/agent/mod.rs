//! The emulated agents (RFC 7501 3.2.1): the user agents' side of registrations, queries and sessions, for all phones at once.
//!
//! It reads no clock and opens no socket: moments are handed in, and messages leave by a [`Wire`]. Retransmission is a real
//! user agent's (RFC 3261 17.1.1.2, 17.1.2.2).

mod answers;

use std::net::SocketAddr;

use crate::datagram::{Datagram, Flow, ListenerId, Transport};
use crate::limits::{LOAD_OPERATIONS_MAX, T1, T1_64, T2};
use crate::load::callee::Callees;
use crate::load::compose::Branch;
use crate::load::operation::{Operation, Operations, Step};
use crate::load::pen::Pen;
use crate::load::phones::Phones;
use crate::load::tally::{Delay, Failure, Kind, Tally};
use crate::sip::{Index, Parsed, parse};
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
    /// OPTIONS are for the phones, and not for the server itself.
    pub(super) is_through: bool,
    /// The target sends back what it gets, and that is the answer.
    pub(super) is_echo: bool,
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
            Parsed::Good(message) if self.pen.settings.is_echo => self.on_echo(now, &message),
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

    /// Gives up all that is under way: it has had its time.
    pub(super) fn abandon(&mut self) {
        while let Some(operation) = self.operations.take_any() {
            self.fail(operation, Failure::Abandoned);
        }
    }

    /// Sets the Establishment Threshold Time.
    pub(super) const fn judge_by(&mut self, threshold: Duration) {
        self.pen.settings.threshold = threshold;
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

/// The branch of ours that stands first in a message, which may be cut.
fn branch_in(payload: &[u8]) -> Option<Branch> {
    let at = memchr::memmem::find(payload, b";branch=")? + b";branch=".len();
    Branch::read(payload.get(at..at + BRANCH_LEN)?)
}

/// The length of a branch's text.
const BRANCH_LEN: usize = 33;

#[cfg(test)]
mod tests;
