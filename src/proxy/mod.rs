//! The proxy and registrar core (RFC 3261 16 and 10), one step a file. Sans-IO: it is told the time and what arrived, and acts
//! through [`Output`] alone; the same core runs over AF_XDP, over plain sockets and in a simulator.
//!
//! `on_datagram` reads like the walk of a message: keepalive or parse; a response to its branch (`respond`); a request
//! that we answer ourselves (`answer`, [`register`]); else steer, match a transaction, `validate`, `route`, `forward`.
#![forbid(unsafe_code)]

mod answer;
mod best;
mod branch;
mod cancel;
mod compose;
pub mod domains;
mod fork;
mod forward;
mod identity;
mod lookup;
mod next_hop;
mod output;
pub mod register;
mod relay;
mod respond;
mod route;
mod settings;
pub mod steer;
mod timeout;
pub mod token;
mod undelivered;
mod validate;

use std::sync::Arc;

pub use self::output::{MailboxFull, Output, Question, QuestionId, ResolverFull, SendError};
pub use self::settings::{Keys, Listener, Settings, Trunk};

use self::answer::{Response, Tags};
use self::identity::Identity;
use self::lookup::WaitingAcks;
use self::register::{RegisterScratch, Registrar};
use self::relay::{Leg, Relay};
use self::steer::Steering;
use self::token::TokenCodec;
use crate::counters::{Counter, Counters};
use crate::datagram::{Datagram, Destination, Flow, WorkerId};
use crate::limits::{FIRED_MAX, MESSAGE_LEN_MAX};
use crate::location::{Location, Targets};
use crate::sip::edit::Edits;
use crate::sip::error::NotSip;
use crate::sip::index::Index;
use crate::sip::message::{Message, Parsed, parse};
use crate::sip::method::Method;
use crate::sip::name::HeaderName;
use crate::sip::uri::Uri;
use crate::time::Instant;
use crate::transaction::id::BranchCodec;
use crate::transaction::key::{ServerKey, ServerKeys};
use crate::transaction::server::{ServerEvent, ServerSlot};
use crate::transaction::step::{Emit, Tell};
use crate::transaction::table::Table;

/// The core of one worker.
#[derive(Debug)]
pub struct Proxy {
    settings: Settings,
    identity: Identity,
    steering: Steering,
    branches: BranchCodec,
    tokens: TokenCodec,
    tags: Tags,
    server_keys: ServerKeys,
    registrar: Registrar,
    location: Arc<Location>,
    table: Table<Relay, Leg>,
    acks: WaitingAcks,
    counters: Arc<Counters>,
    is_draining: bool,
    /// Taken out while a message is at work, so that the message may borrow its index.
    scratch: Option<Box<Scratch>>,
}

/// What the shell tells the core beside messages and time.
#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    /// The process is to end: nothing new is begun, what is under way goes on.
    Drain,
    /// The network reported a destination unreachable, or a connection failed, with this message not delivered.
    Unreachable {
        /// The way that it was sent. Of ICMP errors the listener is not known, and 0.
        flow: Flow,
        /// What we had sent, as much of it as came back.
        sent: &'a [u8],
    },
    /// The answer to a question.
    Resolved {
        /// Which.
        id: QuestionId,
        /// Where, in the order in which to try (RFC 3263 4.2, RFC 2782, RFC 7984); none where nothing was found.
        destinations: &'a [Destination],
    },
}

/// What is reused from message to message, so that none is allocated.
#[derive(Debug)]
struct Scratch {
    index: Index,
    bench: Bench,
}

/// The part of the scratch that the steps work with.
#[derive(Debug)]
struct Bench {
    /// The index of a request that is read again from its transaction.
    stored: Index,
    edits: Edits,
    targets: Targets,
    register: RegisterScratch,
    /// Header lines or a whole message of our own.
    text: Vec<u8>,
    /// A request as a branch sent it.
    relayed: Vec<u8>,
    /// A request as it was received, while branches are opened for it.
    recalled: Vec<u8>,
    /// Contacts that were not tried yet.
    untried: Vec<u8>,
}

impl Proxy {
    /// Makes the core of one worker over the shared location.
    #[must_use]
    pub fn new(
        settings: Settings,
        location: Arc<Location>,
        registrar: Registrar,
        counters: Arc<Counters>,
    ) -> Self {
        let bench = Bench {
            stored: Index::new(),
            edits: Edits::new(),
            targets: Targets::default(),
            register: RegisterScratch::new(),
            text: Vec::with_capacity(MESSAGE_LEN_MAX),
            relayed: Vec::with_capacity(MESSAGE_LEN_MAX),
            recalled: Vec::with_capacity(MESSAGE_LEN_MAX),
            untried: Vec::new(),
        };
        Self {
            identity: Identity::new(&settings),
            steering: Steering::new(settings.keys.steering, settings.workers),
            branches: BranchCodec::new(
                settings.server_id,
                settings.epoch,
                settings.keys.branches.clone(),
            ),
            tokens: TokenCodec::new(settings.keys.tokens.clone()),
            tags: Tags::new(&settings),
            server_keys: ServerKeys::new(settings.keys.transactions),
            table: Table::with_limits(
                settings.worker,
                settings.transactions_max,
                settings.message_bytes_max,
                Arc::clone(&counters),
            ),
            acks: lookup::waiting_acks(),
            settings,
            registrar,
            location,
            counters,
            is_draining: false,
            scratch: Some(Box::new(Scratch {
                index: Index::new(),
                bench,
            })),
        }
    }

    /// Takes one datagram. Gives the method it is about (a response's is that of its CSeq), for the latency tables.
    pub fn on_datagram(
        &mut self,
        now: Instant,
        datagram: &Datagram<'_>,
        out: &mut impl Output,
    ) -> Option<Method> {
        let mut scratch = self.scratch.take()?;
        let Scratch { index, bench } = &mut *scratch;
        let mut parsed = parse(datagram.bytes, index);
        if datagram.flow.transport.is_reliable() {
            parsed = parsed.by_stream();
        }
        if !datagram.handed_off {
            self.count_parsed(&parsed);
        }
        let method = match parsed {
            Parsed::Good(request) if request.is_request() => {
                self.on_request(now, &request, datagram, bench, out);
                Some(request.method())
            }
            Parsed::Good(response) => {
                self.on_response(now, &response, datagram, bench, out);
                Some(Method::parse(response.cseq().method))
            }
            Parsed::Answerable(request, rejection) => {
                let response = Response {
                    status: rejection.status(),
                    phrase: Some(rejection.reason()),
                    headers: b"",
                };
                self.refuse(&request, &datagram.flow, &response, out);
                Some(request.method())
            }
            Parsed::NotSip(cause) => {
                self.on_not_sip(cause, datagram, out);
                None
            }
        };
        self.scratch = Some(scratch);
        method
    }

    /// Acts on the timers that are due, at most [`FIRED_MAX`] of them; the rest are due at the next call.
    pub fn on_timeout(&mut self, now: Instant, out: &mut impl Output) {
        let Some(mut scratch) = self.scratch.take() else {
            return;
        };
        for _ in 0..FIRED_MAX {
            let Some(fired) = self.table.pop_fired(now) else {
                break;
            };
            self.on_fired(now, fired, &mut scratch.bench, out);
        }
        self.scratch = Some(scratch);
    }

    /// Takes a notice.
    pub fn on_notice(&mut self, now: Instant, notice: Notice<'_>, out: &mut impl Output) {
        match notice {
            Notice::Drain => self.is_draining = true,
            Notice::Unreachable { flow, sent } => self.on_unreachable(now, &flow, sent, out),
            Notice::Resolved { id, destinations } => {
                let Some(mut scratch) = self.scratch.take() else {
                    return;
                };
                self.on_resolved(now, id, destinations, &mut scratch.bench, out);
                self.scratch = Some(scratch);
            }
        }
    }

    /// When [`Self::on_timeout`] should next be called; never later than a timer is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.table.next_deadline()
    }

    /// Transactions in Trying, Proceeding or Calling: those that hold an exit.
    #[must_use]
    pub const fn pending(&self) -> usize {
        self.table.pending()
    }

    /// Transactions in being; timers that run; messages stored. All zero when nothing is left behind.
    #[must_use]
    pub fn held(&self) -> (usize, usize, usize) {
        (
            self.table.len(),
            self.table.timers(),
            self.table.arena().live(),
        )
    }

    /// Bytes that transactions and their stored messages have taken from the system.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.table.footprint()
    }

    fn on_not_sip(&self, cause: NotSip, datagram: &Datagram<'_>, out: &mut impl Output) {
        let counter = match cause {
            // RFC 5626 3.5.1: a double CRLF is a ping, a single one its pong.
            NotSip::Keepalive if datagram.bytes.len() >= 4 => {
                let sent = out.send(&datagram.flow, 2, |buffer| buffer.copy_from_slice(b"\r\n"));
                answer::count_unsent(&self.counters, sent);
                Counter::Keepalives
            }
            NotSip::Keepalive => Counter::KeepalivePongs,
            NotSip::MalformedAck(_) => Counter::DropMalformedAck,
            NotSip::MalformedResponse(_) | NotSip::Status => Counter::DropMalformedResponse,
            NotSip::TooLong => Counter::DropTooLarge,
            NotSip::Empty | NotSip::StartLine | NotSip::Unanswerable(_) => Counter::DropNotSip,
        };
        self.counters.increment(counter);
    }

    fn on_request(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        datagram: &Datagram<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let is_for_us = self.is_for_us(request);
        if is_for_us && request.method() == Method::Register {
            return self.on_register(now, request, &datagram.flow, bench, out);
        }
        if is_for_us && request.method() == Method::Options {
            return self.on_options(request, &datagram.flow, bench, out);
        }
        let owner = self.steering.owner(request.call_id());
        if owner != self.settings.worker && !datagram.handed_off {
            return self.hand_off(owner, datagram, out);
        }
        self.count_request(request.method());
        if request.method() == Method::Ack {
            self.on_ack(now, request, &datagram.flow, bench, out);
        } else if request.method() == Method::Cancel {
            let invite = self.server_key(request, b"INVITE");
            self.on_cancel(now, request, (&datagram.flow, invite), bench, out);
        } else {
            self.on_new_or_repeated(now, request, &datagram.flow, bench, out);
        }
    }

    /// A request that has, or gets, a server transaction.
    fn on_new_or_repeated(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        source: &Flow,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let key = self.server_key(request, request.method_bytes());
        if let Some(server) = self.table.find_server(key) {
            return self.on_repeated(now, request, server, out);
        }
        if self.is_draining && request.method() == Method::Invite && request.to_tag().is_none() {
            return self.refuse_draining(request, source, out);
        }
        let mut headers = std::mem::take(&mut bench.text);
        let refusal = self.validate(request, &mut headers).err();
        let is_refused = refusal.is_some();
        if let Some(refusal) = refusal {
            self.count_refusal(refusal.counter);
            self.refuse(request, source, &refusal.response, out);
        }
        bench.text = headers;
        if is_refused {
            return;
        }
        match self.route(now, request, source, &mut bench.targets) {
            Ok(plan) => self.forward(now, request, (source, key), &plan, bench, out),
            Err(refusal) => {
                self.count_refusal(refusal.counter);
                self.refuse(request, source, &refusal.response, out);
            }
        }
    }

    /// A retransmission (RFC 3261 17.2): answered with what was answered last, or absorbed.
    fn on_repeated(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        server: ServerSlot,
        out: &mut impl Output,
    ) {
        self.counters.increment(Counter::RetransmitRequestReceived);
        let outcome = self.table.server_event(now, server, ServerEvent::Request);
        if outcome.is_some_and(|outcome| outcome.emit == Emit::Again) {
            let Some(entry) = self.table.server(server) else {
                return;
            };
            if self.table.response_of(entry).is_some() {
                self.send_response_again(server, out);
            } else if entry.state().is_pending() {
                self.send_trying(request, server, out);
            }
        }
    }

    /// An ACK: of a failed INVITE it ends here, of a 2xx it goes on, without a transaction.
    fn on_ack(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        source: &Flow,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let key = self.server_key(request, b"INVITE");
        if let Some(server) = self.table.find_server(key) {
            let outcome = self.table.server_event(now, server, ServerEvent::Ack);
            let is_absorbed = outcome.is_none_or(|outcome| outcome.tell != Tell::Message);
            self.close_server_if_over(server);
            if is_absorbed {
                return;
            }
        }
        if self.tags.is_ours(request) {
            return self.counters.increment(Counter::AcksAbsorbed);
        }
        let is_valid = {
            let mut headers = std::mem::take(&mut bench.text);
            let is_valid = self.validate(request, &mut headers).is_ok();
            bench.text = headers;
            is_valid
        };
        // An ACK is never answered: what may not go on is dropped (RFC 3261 16.3).
        match self.route(now, request, source, &mut bench.targets) {
            Ok(plan) if is_valid => self.forward_statelessly(request, source, &plan, bench, out),
            Ok(_) | Err(_) => self.counters.increment(Counter::DropUnroutableAck),
        }
    }

    fn on_register(
        &self,
        now: Instant,
        request: &Message<'_>,
        source: &Flow,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        self.count_request(Method::Register);
        if self.is_draining {
            return self.refuse_draining(request, source, out);
        }
        let answer = self
            .registrar
            .register(now, request, source, &mut bench.register);
        self.count_refusal(answer.counted);
        let response = Response {
            status: answer.status,
            phrase: Some(answer.reason),
            headers: answer.headers,
        };
        answer::stateless(request, source, &response, &self.tags, &self.counters, out);
    }

    /// RFC 3261 11: OPTIONS to ourselves, which is also how peers see that we live.
    fn on_options(
        &self,
        request: &Message<'_>,
        source: &Flow,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        self.count_request(Method::Options);
        bench.text.clear();
        let mut status = 200;
        for required in request
            .values(HeaderName::Require)
            .chain(request.values(HeaderName::ProxyRequire))
        {
            // RFC 3261 8.2.2.3: we speak no extension that OPTIONS could require.
            status = 420;
            bench.text.extend_from_slice(b"Unsupported: ");
            bench.text.extend_from_slice(required.bytes());
            bench.text.extend_from_slice(b"\r\n");
        }
        if status == 200 {
            bench.text.extend_from_slice(OPTIONS_HEADERS);
        }
        let response = Response::new(status).with_headers(&bench.text);
        answer::stateless(request, source, &response, &self.tags, &self.counters, out);
    }

    /// Whether a REGISTER or an OPTIONS is for this element rather than to be passed on: its Request-URI is ours and names
    /// no user, and so is every Route. A request that may go no further is answered here, too (RFC 3261 11).
    fn is_for_us(&self, request: &Message<'_>) -> bool {
        let Ok(uri) = Uri::parse(request.request_uri()) else {
            return false;
        };
        let names_no_user =
            uri.user.is_none_or(<[u8]>::is_empty) || request.method() == Method::Register;
        let is_last_hop = request.max_forwards() == Some(0) && request.method() == Method::Options;
        let routes_are_ours = || {
            request.values(HeaderName::Route).all(|value| {
                value
                    .address()
                    .and_then(|address| address.uri())
                    .is_ok_and(|uri| self.identity.is_ours(&uri))
            })
        };
        is_last_hop || (names_no_user && self.identity.is_ours(&uri) && routes_are_ours())
    }

    /// RFC 3261 17.2.3: branch, sent-by and method; of an RFC 2543 client, the fields that stand in for the branch.
    fn server_key(&self, request: &Message<'_>, method: &[u8]) -> ServerKey {
        let via = request.top_via();
        match via.branch() {
            Some(branch) if via.is_rfc3261() => {
                self.server_keys.rfc3261(branch, via.sent_by(), method)
            }
            _ => self.server_keys.rfc2543(&[
                request.request_uri(),
                request.from_tag().unwrap_or_default(),
                request.call_id(),
                &request.cseq().number.to_le_bytes(),
                via.bytes(),
                method,
            ]),
        }
    }

    fn refuse_draining(&self, request: &Message<'_>, source: &Flow, out: &mut impl Output) {
        self.counters.increment(Counter::RefusedDraining);
        let response = Response::new(503).with_headers(b"Retry-After: 10\r\n");
        self.refuse(request, source, &response, out);
    }

    /// Answers without a transaction; an ACK is dropped instead.
    fn refuse(
        &self,
        request: &Message<'_>,
        source: &Flow,
        response: &Response<'_>,
        out: &mut impl Output,
    ) {
        if request.method() == Method::Ack {
            return self.counters.increment(Counter::DropMalformedAck);
        }
        answer::stateless(request, source, response, &self.tags, &self.counters, out);
    }

    fn hand_off(&self, to: WorkerId, datagram: &Datagram<'_>, out: &mut impl Output) {
        match out.hand_off(to, datagram) {
            Ok(()) => self.counters.increment(Counter::HandedOff),
            Err(MailboxFull) => self.counters.increment(Counter::DropMailboxFull),
        }
    }

    fn count_parsed(&self, parsed: &Parsed<'_>) {
        self.counters.increment(match parsed {
            Parsed::Good(request) if request.is_request() => Counter::ParsedRequest,
            Parsed::Good(_) => Counter::ParsedResponse,
            Parsed::Answerable(..) => Counter::ParsedMalformedRequest,
            Parsed::NotSip(_) => Counter::ParsedNotSip,
        });
    }

    fn count_refusal(&self, counter: Option<Counter>) {
        if let Some(counter) = counter {
            self.counters.increment(counter);
        }
    }

    fn count_request(&self, method: Method) {
        self.counters.increment(match method {
            Method::Invite => Counter::RequestInvite,
            Method::Ack => Counter::RequestAck,
            Method::Bye => Counter::RequestBye,
            Method::Cancel => Counter::RequestCancel,
            Method::Register => Counter::RequestRegister,
            Method::Options => Counter::RequestOptions,
            Method::Prack
            | Method::Update
            | Method::Info
            | Method::Subscribe
            | Method::Notify
            | Method::Refer
            | Method::Message
            | Method::Publish
            | Method::Kdmq
            | Method::Other => Counter::RequestOther,
        });
    }
}

/// What we say of ourselves.
const OPTIONS_HEADERS: &[u8] = b"Accept: */*\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, PRACK, UPDATE, INFO, SUBSCRIBE, NOTIFY, REFER, MESSAGE, PUBLISH\r\nSupported: path\r\n";
