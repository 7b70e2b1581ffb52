//! What comes back: what a response means to the attempt that it is for (RFC 3261 8.1.3, 12.1.2, 13.2.2, 17.1.1.3).

use std::net::SocketAddr;

use super::{Agent, Wire};
use crate::limits::{LOAD_RING_TIME, T2};
use crate::load::compose::Branch;
use crate::load::credentials::Credentials;
use crate::load::operation::{Operation, Step};
use crate::load::pen::Pen;
use crate::load::tally::{Delay, Failure, Kind};
use crate::sip::{Contact, HeaderName, Message, Uri};
use crate::time::Instant;

impl Agent {
    pub(super) fn on_response(
        &mut self,
        now: Instant,
        response: &Message<'_>,
        wire: &mut impl Wire,
    ) {
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

    /// Takes what an echo sent back: the answer to the request that it is.
    pub(super) fn on_echo(&mut self, now: Instant, message: &Message<'_>) {
        let branch = message.top_via().branch().and_then(Branch::read);
        let Some(operation) = branch.and_then(|branch| self.operations.take_by(branch)) else {
            self.strays += 1;
            return;
        };
        self.tally(operation.kind).received += 1;
        self.answered(operation, now);
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
        if operation.kind != Kind::Invite {
            return self.answered(operation, now);
        }
        self.record_answer(&operation, now);
        let is_over = span > self.pen.settings.threshold;
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

    /// Ends an attempt that its answer ends, by whether it came in time.
    fn answered(&mut self, operation: Box<Operation>, now: Instant) {
        self.record_answer(&operation, now);
        if now.since(operation.intended) > self.pen.settings.threshold {
            self.fail(operation, Failure::OverThreshold);
        } else {
            self.succeed(operation);
        }
    }

    fn record_answer(&mut self, operation: &Operation, now: Instant) {
        self.record(operation, Delay::Answer, now.since(operation.intended));
        let from_sending = now.since(operation.sent_at);
        self.record(operation, Delay::AnswerFromSending, from_sending);
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
}

/// The address that a URI names without asking anybody.
fn literal(uri: &[u8]) -> Option<SocketAddr> {
    let uri = Uri::parse(uri).ok()?;
    Some(SocketAddr::new(uri.host.ip()?, uri.port.unwrap_or(5060)))
}

/// Challenges that one attempt answers: one for its first nonce, one more for a stale one.
const CHALLENGES_MAX: u8 = 2;
