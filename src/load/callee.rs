//! The called side of sessions: it rings, answers, and hangs up when it is told to, for all phones at once.
//!
//! A session is found by its Call-ID: one phone takes it, whatever number of copies of its requests come. The 2xx is sent
//! again until its ACK comes (RFC 3261 13.3.1.4).

use std::collections::HashMap;
use std::net::SocketAddr;

use super::agent::Wire;
use super::compose::{Draft, put_address, put_body};
use crate::datagram::Flow;
use crate::limits::{LOAD_SESSIONS_MAX, T1, T1_64, T2};
use crate::sip::{Message, Method, Reply, Sink};
use crate::time::{Duration, Instant};
use crate::timer::{TimerId, Wheel};

/// What the called side has done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    /// INVITEs that began a session.
    pub(super) sessions: u64,
    /// Of them, those whose ACK came.
    pub(super) acknowledged: u64,
    /// Of them, those that a BYE ended.
    pub(super) ended: u64,
    /// Of them, those that were cancelled.
    pub(super) cancelled: u64,
    /// Requests that came again.
    pub(super) repeated: u64,
    /// 200s sent again.
    pub(super) retransmissions: u64,
    /// 200s that were never acknowledged.
    pub(super) unacknowledged: u64,
    /// INVITEs refused with 503, since there were too many sessions.
    pub(super) refused: u64,
}

/// All sessions that the phones have taken.
pub(super) struct Callees {
    sources: Vec<SocketAddr>,
    answers: Vec<Vec<u8>>,
    ring: Duration,
    sessions: HashMap<Vec<u8>, u32>,
    places: Vec<Session>,
    free: Vec<u32>,
    wheel: Wheel<(u32, u32)>,
    draft: Draft,
    taken: Taken,
}

/// One session.
#[derive(Debug, Default)]
struct Session {
    generation: u32,
    call_id: Vec<u8>,
    step: Step,
    /// The 200, as it is sent again.
    response: Vec<u8>,
    flow: Option<Flow>,
    /// When what is under way was begun.
    since: Instant,
    interval: Duration,
    timer: Option<TimerId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Ringing,
    /// The 200 is out, and its ACK not in.
    Answered,
    Established,
    /// Ended, and kept for requests that come again.
    Over,
}

impl Callees {
    pub(super) fn new(sources: Vec<SocketAddr>, answers: Vec<Vec<u8>>, ring: Duration) -> Self {
        Self {
            sources,
            answers,
            ring,
            sessions: HashMap::new(),
            places: Vec::new(),
            free: Vec::new(),
            wheel: Wheel::with_capacity(1_024),
            draft: Draft::default(),
            taken: Taken::default(),
        }
    }

    /// What has been done up to now.
    pub(super) const fn taken(&self) -> Taken {
        self.taken
    }

    /// Takes a request.
    pub(super) fn on_request(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        flow: &Flow,
        wire: &mut impl Wire,
    ) {
        let known = self.sessions.get(request.call_id()).copied();
        match (request.method(), known) {
            (Method::Invite, None) => self.on_invite(now, request, flow, wire),
            (Method::Invite, Some(place)) => self.on_invite_again(place, request, flow, wire),
            (Method::Ack, Some(place)) => self.on_ack(now, place),
            (Method::Ack, None) => {}
            (Method::Bye, Some(place)) => {
                self.on_bye(now, place);
                self.reply(request, 200, "OK", flow, wire);
            }
            (Method::Cancel, Some(place)) => {
                self.reply(request, 200, "OK", flow, wire);
                self.on_cancel(now, place, wire);
            }
            // RFC 3261 15.1.2, 9.2: there is no such session.
            (Method::Bye | Method::Cancel, None) => {
                self.reply(request, 481, "Call/Transaction Does Not Exist", flow, wire);
            }
            (Method::Options, _) => self.reply(request, 200, "OK", flow, wire),
            _ => self.reply(request, 501, "Not Implemented", flow, wire),
        }
    }

    /// Does what is due.
    pub(super) fn on_timeout(&mut self, now: Instant, wire: &mut impl Wire) {
        while let Some((place, generation)) = self.wheel.pop_expired(now) {
            let session = self.places.get_mut(place as usize);
            let Some(session) = session.filter(|session| session.generation == generation) else {
                continue;
            };
            session.timer = None;
            match session.step {
                Step::Ringing => self.answer(now, place, wire),
                Step::Answered if now >= session.since + T1_64 => {
                    self.taken.unacknowledged += 1;
                    self.forget(place);
                }
                Step::Answered => self.answer_again(now, place, wire),
                Step::Established | Step::Over => self.forget(place),
            }
        }
    }

    /// When [`Callees::on_timeout`] is to be called next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next_deadline()
    }

    fn on_invite(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        flow: &Flow,
        wire: &mut impl Wire,
    ) {
        let Some(place) = self.acquire(request.call_id()) else {
            self.taken.refused += 1;
            return self.reply(request, 503, "Service Unavailable", flow, wire);
        };
        self.taken.sessions += 1;
        self.reply(request, 180, "Ringing", flow, wire);
        let response = self.compose_answer(request, flow);
        if let Some(session) = self.places.get_mut(place as usize) {
            session.response = response;
            session.flow = Some(*flow);
            session.step = Step::Ringing;
            session.since = now;
        }
        if self.ring == Duration::ZERO {
            self.answer(now, place, wire);
        } else {
            self.schedule(now, place, now + self.ring);
        }
    }

    fn on_invite_again(
        &mut self,
        place: u32,
        request: &Message<'_>,
        flow: &Flow,
        wire: &mut impl Wire,
    ) {
        self.taken.repeated += 1;
        let step = self.places.get(place as usize).map(|session| session.step);
        match step {
            Some(Step::Ringing) => self.reply(request, 180, "Ringing", flow, wire),
            Some(Step::Answered | Step::Established) => self.send(place, wire),
            Some(Step::Over) | None => {}
        }
    }

    /// Sends the 200 for the first time.
    fn answer(&mut self, now: Instant, place: u32, wire: &mut impl Wire) {
        if let Some(session) = self.places.get_mut(place as usize) {
            session.step = Step::Answered;
            session.since = now;
            session.interval = T1;
        }
        self.send(place, wire);
        self.schedule(now, place, now + T1);
    }

    fn answer_again(&mut self, now: Instant, place: u32, wire: &mut impl Wire) {
        self.taken.retransmissions += 1;
        self.send(place, wire);
        let mut at = now;
        if let Some(session) = self.places.get_mut(place as usize) {
            session.interval = session.interval.doubled().min(T2);
            at = (now + session.interval).min(session.since + T1_64);
        }
        self.schedule(now, place, at);
    }

    fn on_ack(&mut self, now: Instant, place: u32) {
        let Some(session) = self.places.get_mut(place as usize) else {
            return;
        };
        if session.step != Step::Answered {
            return;
        }
        session.step = Step::Established;
        self.taken.acknowledged += 1;
        // Whoever never hangs up is forgotten some time.
        self.schedule(now, place, now + FORGOTTEN_AFTER);
    }

    fn on_bye(&mut self, now: Instant, place: u32) {
        let Some(session) = self.places.get_mut(place as usize) else {
            return;
        };
        if session.step == Step::Over {
            self.taken.repeated += 1;
            return;
        }
        // RFC 3261 15: the BYE of one who has no ACK out shows that the 2xx arrived.
        session.step = Step::Over;
        // Nothing is sent again of what is over.
        session.response = Vec::new();
        self.taken.ended += 1;
        self.schedule(now, place, now + T1_64);
    }

    fn on_cancel(&mut self, now: Instant, place: u32, wire: &mut impl Wire) {
        let Some(session) = self.places.get_mut(place as usize) else {
            return;
        };
        if session.step != Step::Ringing {
            return;
        }
        session.step = Step::Over;
        let response = std::mem::take(&mut session.response);
        // What was to be the 200 becomes the 487: the head is the same.
        session.response = terminated(&response);
        self.taken.cancelled += 1;
        self.send(place, wire);
        self.schedule(now, place, now + T1_64);
    }

    /// The 200 to an INVITE.
    fn compose_answer(&self, request: &Message<'_>, flow: &Flow) -> Vec<u8> {
        let source = usize::from(flow.listener.0);
        let mut contact = Draft(b"Contact: <sip:".to_vec());
        if let Ok(uri) = request.read_request_uri()
            && let Some(user) = uri.user
        {
            contact.put(user);
            contact.put(b"@");
        }
        if let Some(address) = self.sources.get(source) {
            put_address(*address, &mut contact);
        }
        contact.put(b">\r\n");
        let tag = tag(request);
        let reply = Reply::new(request, 200, "OK")
            .to_tag(&tag)
            .received(flow.peer)
            .record_route(true)
            .headers(&contact.0);
        let mut response = vec![0; reply.len()];
        if reply.write(&mut response).is_none() {
            return Vec::new();
        }
        // In place of the end of a response without a body.
        response.truncate(response.len() - NO_BODY.len());
        let mut draft = Draft(response);
        let answer = self.answers.get(source).map_or(&b""[..], |answer| answer);
        put_body(answer, &mut draft);
        draft.0
    }

    /// Answers a request at once.
    fn reply(
        &mut self,
        request: &Message<'_>,
        status: u16,
        reason: &str,
        flow: &Flow,
        wire: &mut impl Wire,
    ) {
        let tag = tag(request);
        let reply = Reply::new(request, status, reason)
            .to_tag(&tag)
            .received(flow.peer)
            .record_route(status < 300);
        self.draft.0.resize(reply.len(), 0);
        if reply.write(&mut self.draft.0).is_some() {
            wire.send(flow, &self.draft.0);
        }
    }

    fn send(&self, place: u32, wire: &mut impl Wire) {
        if let Some(session) = self.places.get(place as usize)
            && let Some(flow) = &session.flow
        {
            wire.send(flow, &session.response);
        }
    }

    fn acquire(&mut self, call_id: &[u8]) -> Option<u32> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.places.len() < LOAD_SESSIONS_MAX => {
                self.places.push(Session::default());
                u32::try_from(self.places.len() - 1).ok()?
            }
            None => return None,
        };
        let session = self.places.get_mut(place as usize)?;
        session.call_id = call_id.to_vec();
        self.sessions.insert(call_id.to_vec(), place);
        Some(place)
    }

    fn forget(&mut self, place: u32) {
        let Some(session) = self.places.get_mut(place as usize) else {
            return;
        };
        if let Some(timer) = session.timer.take() {
            self.wheel.cancel(timer);
        }
        session.generation = session.generation.wrapping_add(1);
        self.sessions.remove(&session.call_id);
        self.free.push(place);
    }

    fn schedule(&mut self, now: Instant, place: u32, at: Instant) {
        let Some(session) = self.places.get_mut(place as usize) else {
            return;
        };
        let is_moved = session
            .timer
            .is_some_and(|timer| self.wheel.reschedule(now, timer, at));
        if !is_moved {
            session.timer = Some(self.wheel.schedule(now, at, (place, session.generation)));
        }
    }
}

/// The To-tag of a phone's answers: the same for all copies of a request.
fn tag(request: &Message<'_>) -> Vec<u8> {
    let mut tag = Draft::default();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in request.call_id() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    tag.put_hex(hash, 16);
    tag.0
}

/// Makes a 487 of a 200: without body and Contact.
fn terminated(answer: &[u8]) -> Vec<u8> {
    let mut response = b"SIP/2.0 487 Request Terminated\r\n".to_vec();
    let text = answer.split_inclusive(|byte| *byte == b'\n').skip(1);
    for line in text.take_while(|line| *line != b"\r\n") {
        let is_of_200 = [&b"Contact:"[..], b"Content-", b"Record-Route:"]
            .iter()
            .any(|name| line.starts_with(name));
        if !is_of_200 {
            response.extend_from_slice(line);
        }
    }
    response.extend_from_slice(NO_BODY);
    response
}

/// How a response without a body ends.
const NO_BODY: &[u8] = b"Content-Length: 0\r\n\r\n";
/// How long an established session is remembered that nobody ends.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);
