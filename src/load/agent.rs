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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::Reply;

    /// What was sent, each with the number of its source.
    #[derive(Default)]
    struct Sent(Vec<(u8, String)>);

    impl Wire for Sent {
        fn send(&mut self, flow: &Flow, bytes: &[u8]) {
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.0.push((flow.listener.0, text));
        }
    }

    struct Bed {
        agent: Agent,
        sent: Sent,
        index: Index,
    }

    const TARGET: &str = "192.0.2.1:5060";

    fn at(ms: u64) -> Instant {
        Instant::from_micros(1_000_000 + ms * 1_000)
    }

    impl Bed {
        fn new(phones: usize, password: Option<&str>) -> Self {
            let settings = Settings {
                target: TARGET.parse().expect("an address"),
                sources: vec![
                    "192.0.2.2:5070".parse().expect("an address"),
                    "192.0.2.2:5071".parse().expect("an address"),
                ],
                domain: "example.com".to_owned(),
                expires_s: 600,
                callee: None,
                hold: Duration::from_millis(100),
                ring: Duration::ZERO,
                threshold: T1_64.doubled(),
            };
            let accounts = (0..phones).map(|n| (format!("u{n}"), password.map(str::to_owned)));
            Self {
                agent: Agent::new(7, settings, Phones::new(accounts, 2)),
                sent: Sent::default(),
                index: Index::new(),
            }
        }

        fn begin(&mut self, kind: Kind, now_ms: u64, intended_ms: u64) {
            self.agent
                .begin(kind, at(now_ms), at(intended_ms), true, &mut self.sent);
        }

        /// Answers the request that was sent as the `number`th.
        fn answer(&mut self, now_ms: u64, number: usize, status: u16, headers: &str) {
            let mut index = Index::new();
            let (listener, request) = self.sent.0[number].clone();
            let Parsed::Good(message) = parse(request.as_bytes(), &mut index) else {
                panic!("{request}");
            };
            let reply = Reply::new(&message, status, "Whatever")
                .to_tag(b"t")
                .headers(headers.as_bytes());
            let mut response = vec![0; reply.len()];
            reply.write(&mut response).expect("its own length");
            self.receive(now_ms, listener, &response);
        }

        fn receive(&mut self, now_ms: u64, listener: u8, bytes: &[u8]) {
            let datagram = Datagram {
                bytes,
                flow: Flow {
                    listener: ListenerId(listener),
                    transport: Transport::Udp,
                    peer: TARGET.parse().expect("an address"),
                },
                received_at: at(now_ms),
                handed_off: false,
            };
            let Self { agent, sent, index } = self;
            agent.on_datagram(at(now_ms), &datagram, index, sent);
        }

        /// Lets time pass up to `end_ms`; gives when something was sent.
        fn pass(&mut self, end_ms: u64) -> Vec<u64> {
            let mut moments = Vec::new();
            while let Some(deadline) = self.agent.next_deadline()
                && deadline <= at(end_ms)
            {
                let before = self.sent.0.len();
                self.agent.on_timeout(deadline, &mut self.sent);
                let ms = (deadline.as_micros() - 1_000_000) / 1_000;
                moments.extend((before..self.sent.0.len()).map(|_| ms));
            }
            moments
        }

        fn tally(&self, kind: Kind) -> &Tally {
            &self.agent.tallies()[kind as usize]
        }
    }

    fn line(message: &str, name: &str) -> String {
        let found = message.lines().find_map(|line| line.strip_prefix(name));
        found
            .unwrap_or_else(|| panic!("no {name} in {message}"))
            .to_owned()
    }

    #[test]
    fn a_refresh_has_the_contact_and_call_id_of_before_and_the_next_cseq() {
        let mut bed = Bed::new(2, None);
        for number in 0..4 {
            bed.begin(Kind::Register, 10, 0);
            bed.answer(10, number, 200, "");
        }
        assert_eq!(bed.tally(Kind::Register).successes, 4);
        let [first, other, again] = [0, 1, 2].map(|number| bed.sent.0[number].clone());
        for name in ["Contact: ", "Call-ID: "] {
            assert_eq!(line(&first.1, name), line(&again.1, name));
            assert_ne!(line(&first.1, name), line(&other.1, name));
        }
        assert_eq!(line(&first.1, "CSeq: "), "1 REGISTER");
        assert_eq!(line(&again.1, "CSeq: "), "2 REGISTER");
        assert_eq!((first.0, other.0, again.0), (0, 1, 0));
    }

    #[test]
    fn delays_count_from_when_an_attempt_was_due() {
        let mut bed = Bed::new(1, None);
        bed.begin(Kind::Options, 900, 100);
        bed.answer(1_000, 0, 200, "");
        let tally = bed.tally(Kind::Options);
        let times = [Delay::Answer, Delay::AnswerFromSending, Delay::Lateness];
        let ms = times.map(|delay| tally.times(delay).max_ms());
        assert_eq!(ms.map(|ms| ms as u64), [900, 100, 800]);
    }

    #[test]
    fn a_request_is_sent_again_as_timers_a_and_e_say_and_given_up_by_b_and_f() {
        for (kind, expected) in [
            (
                Kind::Register,
                vec![
                    500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
                ],
            ),
            (Kind::Invite, vec![500, 1_500, 3_500, 7_500, 15_500, 31_500]),
        ] {
            let mut bed = Bed::new(2, None);
            bed.begin(kind, 0, 0);
            assert_eq!(bed.pass(31_999), expected, "{kind:?}");
            assert!(bed.sent.0.iter().all(|sent| *sent == bed.sent.0[0]));
            assert_eq!(bed.tally(kind).retransmissions, expected.len() as u64);
            assert_eq!(bed.tally(kind).failed(), 0);
            assert!(bed.pass(40_000).is_empty());
            assert_eq!(bed.tally(kind).failures(), "timeout: 1");
            assert_eq!(bed.agent.under_way(), 0);
            // What comes now is for nobody.
            bed.answer(40_000, 0, 200, "");
            assert_eq!((bed.agent.strays, bed.tally(kind).successes), (1, 0));
        }
    }

    #[test]
    fn a_phone_has_one_registration_under_way() {
        let mut bed = Bed::new(1, None);
        bed.begin(Kind::Register, 0, 0);
        bed.begin(Kind::Register, 1, 1);
        let tally = bed.tally(Kind::Register);
        assert_eq!((tally.attempts, tally.unsent, bed.sent.0.len()), (2, 1, 1));
    }

    #[test]
    fn a_challenge_is_part_of_the_attempt_and_its_nonce_is_used_again() {
        let challenge = |nonce: &str| {
            format!(
                "WWW-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\", qop=\"auth\", algorithm=SHA-256\r\n"
            )
        };
        let mut bed = Bed::new(1, Some("secret"));
        bed.begin(Kind::Register, 0, 0);
        bed.answer(100, 0, 401, &challenge("one"));
        assert!(line(&bed.sent.0[1].1, "Authorization: ").contains("nc=00000001"));
        bed.answer(200, 1, 200, "");
        bed.begin(Kind::Register, 300, 300);
        assert!(line(&bed.sent.0[2].1, "Authorization: ").contains("nc=00000002"));
        // Stale: a new nonce is no refusal. The same one again is.
        bed.answer(400, 2, 401, &challenge("two"));
        bed.answer(500, 3, 401, &challenge("two"));
        let tally = bed.tally(Kind::Register);
        assert_eq!((tally.successes, tally.challenges), (1, 2));
        assert_eq!(tally.failures(), "401: 1");
        assert_eq!(tally.times(Delay::Answer).max_ms() as u64, 200);
        assert_eq!(line(&bed.sent.0[3].1, "CSeq: "), "4 REGISTER");
    }

    #[test]
    fn a_session_is_established_held_and_ended() {
        let mut bed = Bed::new(2, None);
        bed.begin(Kind::Invite, 0, 0);
        bed.answer(10, 0, 100, "");
        bed.answer(20, 0, 180, "");
        let headers = "Contact: <sip:u1@192.0.2.9:5080>\r\nRecord-Route: <sip:a@192.0.2.7:5066;lr>\r\n\
                       Record-Route: <sip:b@192.0.2.1;lr>\r\n";
        bed.answer(30, 0, 200, headers);
        bed.answer(40, 0, 200, headers);
        let acks: Vec<&String> = bed.sent.0[1..].iter().map(|(_, text)| text).collect();
        assert_eq!(
            acks.len(),
            2,
            "a 2xx that comes again is acknowledged again"
        );
        assert_eq!(acks[0], acks[1]);
        assert!(acks[0].starts_with("ACK sip:u1@192.0.2.9:5080 SIP/2.0\r\n"));
        assert_eq!(line(acks[0], "Route: "), "<sip:b@192.0.2.1;lr>");
        assert!(line(acks[0], "To: ").ends_with(";tag=t"));
        assert!(bed.pass(129).is_empty());
        assert_eq!(bed.pass(131), [130]);
        let bye = bed.sent.0.len() - 1;
        assert!(bed.sent.0[bye].1.starts_with("BYE sip:u1@192.0.2.9:5080 "));
        assert_eq!(line(&bed.sent.0[bye].1, "CSeq: "), "2 BYE");
        bed.answer(150, bye, 200, "");
        let tally = bed.tally(Kind::Invite);
        assert_eq!((tally.established, tally.successes), (1, 1));
        let ms = [Delay::Ring, Delay::Answer, Delay::Disconnect]
            .map(|delay| tally.times(delay).max_ms());
        assert_eq!(ms.map(|ms| ms as u64), [20, 30, 20]);
    }

    #[test]
    fn a_refused_session_is_acknowledged_and_failed() {
        let mut bed = Bed::new(2, None);
        bed.begin(Kind::Invite, 0, 0);
        bed.answer(10, 0, 486, "");
        let ack = &bed.sent.0[1].1;
        assert!(ack.starts_with("ACK sip:u1@example.com "));
        assert_eq!(line(ack, "Via: "), line(&bed.sent.0[0].1, "Via: "));
        assert_eq!(bed.tally(Kind::Invite).failures(), "486: 1");
    }

    #[test]
    fn the_called_side_rings_answers_and_is_hung_up() {
        let mut bed = Bed::new(2, None);
        bed.begin(Kind::Invite, 0, 0);
        let invite = bed.sent.0[0].1.clone();
        for _ in 0..2 {
            bed.receive(1, 1, invite.as_bytes());
        }
        let said: Vec<String> = bed.sent.0[1..]
            .iter()
            .map(|(_, text)| text[..11].to_owned())
            .collect();
        assert_eq!(said, ["SIP/2.0 180", "SIP/2.0 200", "SIP/2.0 200"]);
        assert!(line(&bed.sent.0[2].1, "Contact: ").contains("192.0.2.2:5071"));
        assert!(bed.sent.0[2].1.contains("m=audio"));
        // Until its ACK comes the 200 is sent again.
        bed.receive(400, 1, invite.replace("INVITE", "ACK").as_bytes());
        let before = bed.sent.0.len();
        bed.pass(1_400);
        let after = &bed.sent.0[before..];
        assert!(after.iter().all(|(_, text)| text.starts_with("INVITE")));
        bed.receive(1_500, 1, invite.replace("INVITE", "BYE").as_bytes());
        assert!(
            bed.sent
                .0
                .last()
                .expect("an answer")
                .1
                .starts_with("SIP/2.0 200")
        );
        let taken = bed.agent.callees().taken();
        assert_eq!(
            (
                taken.sessions,
                taken.acknowledged,
                taken.ended,
                taken.repeated
            ),
            (1, 1, 1, 1)
        );
    }

    #[test]
    fn what_cannot_be_delivered_fails_at_once() {
        let mut bed = Bed::new(1, None);
        bed.begin(Kind::Register, 0, 0);
        let quoted = bed.sent.0[0].1.as_bytes()[..200].to_vec();
        bed.agent.on_unreachable(&quoted);
        bed.agent.on_unreachable(b"REGISTER");
        assert_eq!(bed.tally(Kind::Register).failures(), "unreachable: 1");
        assert_eq!(bed.agent.under_way(), 0);
    }
}
