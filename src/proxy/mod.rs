//! The proxy and registrar core (RFC 3261 16 and 10), one step a file. Sans-IO: it is told the time and what arrived, and acts
//! through [`Output`] alone; the same core runs over AF_XDP, over plain sockets and in a simulator.
//!
//! `on_datagram` reads like the walk of a message: keepalive or parse; a response to its branch (`respond`); a request
//! that we answer ourselves (`answer`, [`register`]); else steer, match a transaction, `validate`, `route`, `forward`.
#![forbid(unsafe_code)]

mod answer;
mod authenticate;
mod best;
mod branch;
mod cancel;
mod challenge;
mod compose;
pub mod domains;
mod edge;
mod flows;
mod foresight;
mod fork;
mod forward;
mod gruu;
mod homes;
mod identity;
mod keepalive;
mod lookup;
mod next_hop;
mod output;
mod overload;
mod parked;
pub mod register;
mod relay;
mod request;
mod respond;
mod route;
mod settings;
pub mod steer;
mod stun;
mod timeout;
pub mod token;
mod undelivered;
mod validate;
mod waits;

use std::sync::Arc;

pub use self::challenge::AuthSettings;
pub use self::keepalive::{Keepalive, KeepaliveSettings};
pub use self::output::{
    MailboxFull, NotForCluster, Output, Question, QuestionId, ResolverFull, SendError, StoreFull,
    SubscriberQuestion,
};
pub use self::overload::{Account, Backlog, Turn};
pub use self::settings::{Edge, Keys, Listener, PathRule, Settings, Trunk};

use self::answer::{Response, Tags};
use self::challenge::Authenticator;
use self::edge::Edges;
use self::foresight::Foresight;
use self::gruu::GruuCodec;
use self::identity::Identity;
use self::keepalive::Keeper;
use self::lookup::WaitingAcks;
use self::overload::{Admission, Overload};
use self::register::{RegisterScratch, Registrar};
use self::relay::{Leg, Relay};
use self::steer::{Glance, Steering};
use self::stun::BindingRequest;
use self::token::TokenCodec;
use self::waits::{Waited, Waits};
use crate::counters::{Counter, Counters};
use crate::datagram::{Datagram, Destination, Flow, Transport, WorkerId};
use crate::flow_token::FlowCodec;
use crate::keyed_hash::Quick;
use crate::limits::{FIRED_MAX, MESSAGE_LEN_MAX};
use crate::location::{Location, Secrets, Targets};
use crate::sip::edit::Edits;
use crate::sip::error::NotSip;
use crate::sip::index::Index;
use crate::sip::message::{Message, Parsed, parse};
use crate::sip::method::Method;
use crate::time::Instant;
use crate::transaction::id::BranchCodec;
use crate::transaction::key::ServerKeys;
use crate::transaction::table::Table;

/// The core of one worker.
#[derive(Debug)]
pub struct Proxy {
    settings: Settings,
    identity: Identity,
    steering: Steering,
    steering_glance: Glance,
    branches: BranchCodec,
    tokens: TokenCodec,
    flows: FlowCodec,
    gruus: GruuCodec,
    edges: Edges,
    tags: Tags,
    server_keys: ServerKeys,
    quick: Quick,
    /// The Request-URI that was last found to be ours and to name no user: the phones of a domain write it alike.
    home_uri: Vec<u8>,
    registrar: Registrar,
    location: Arc<Location>,
    table: Table<Relay, Leg>,
    acks: WaitingAcks,
    authenticator: Option<Authenticator>,
    /// What keeps contacts alive, where it is wanted.
    keeper: Option<Box<Keeper>>,
    waits: Waits,
    /// What the request at work has waited for, where it is taken up anew.
    waited: Option<Waited>,
    /// Whether the store could say, while what waited for its word of a user is taken up anew.
    store_said: Option<Result<(), StoreSilent>>,
    counters: Arc<Counters>,
    is_draining: bool,
    overload: Overload,
    foresight: Foresight,
    /// Whether the datagram at hand is to be answered 503, if it is new work.
    is_refusing: bool,
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
    /// What the store says of a user.
    Subscriber {
        /// Who, as it was asked.
        aor: &'a [u8],
        /// The user's secrets; none: there is no such user. An error: the store cannot say.
        found: Result<Option<Secrets>, StoreSilent>,
    },
    /// All rows of an AoR have entered the location, before their turn.
    Loaded {
        /// Which, as it was wanted.
        aor: &'a [u8],
    },
    /// All rows of the store have entered the location.
    AllLoaded,
    /// The store has settled a batch, or has begun to take changes or to fail.
    Settled {
        /// Whether it takes changes.
        takes: bool,
    },
    /// The answer to a question.
    Resolved {
        /// Which.
        id: QuestionId,
        /// Where, in the order in which to try (RFC 3263 4.2, RFC 2782, RFC 7984); none where nothing was found.
        destinations: &'a [Destination],
    },
}

/// The store cannot answer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSilent;

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
    /// The flows of an instance that are to be tried after one.
    flows: Vec<u8>,
    /// A request that had waited for the slow path.
    anew: Vec<u8>,
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
            flows: Vec::new(),
            anew: Vec::new(),
        };
        Self {
            identity: Identity::new(&settings),
            steering: Steering::new(settings.keys.steering, settings.workers),
            steering_glance: Glance::new(),
            branches: BranchCodec::new(
                settings.server_id,
                settings.epoch,
                settings.keys.branches.clone(),
            ),
            tokens: TokenCodec::new(settings.keys.tokens.clone()),
            flows: FlowCodec::new(settings.keys.tokens.clone()),
            gruus: GruuCodec::new(settings.keys.tokens.clone()),
            edges: Edges::new(&settings.edges),
            tags: Tags::new(&settings),
            server_keys: ServerKeys::new(settings.keys.transactions),
            quick: Quick::new(&settings.keys.transactions),
            home_uri: Vec::with_capacity(request::HOME_URI_LEN_MAX),
            table: Table::with_limits(
                settings.worker,
                settings.transactions_max,
                settings.message_bytes_max,
                Arc::clone(&counters),
            ),
            acks: lookup::waiting_acks(),
            authenticator: Authenticator::of(&settings),
            keeper: Keeper::of(&settings).map(Box::new),
            waits: Waits::new(&settings),
            waited: None,
            store_said: None,
            settings,
            registrar,
            location,
            counters,
            is_draining: false,
            overload: Overload::new(),
            foresight: Foresight::new(),
            is_refusing: false,
            scratch: Some(Box::new(Scratch {
                index: Index::new(),
                bench,
            })),
        }
    }

    /// Glances at a datagram of a batch; [`Self::look_ahead`] follows, and then [`Self::on_datagram`] for each.
    pub fn glance(&mut self, bytes: &[u8]) {
        // In overload most of what comes is dropped.
        if !self.overload.is_there() {
            let worker = self.settings.worker;
            self.foresight
                .glance(bytes, worker, &self.registrar, &self.location);
        }
    }

    /// Which other worker a message looks to belong to, where that can be told before it is read. That one reads it, and counts it.
    #[must_use]
    pub fn is_anothers(&self, bytes: &[u8]) -> Option<WorkerId> {
        let owner = self.steering_glance.owner(&self.steering, bytes)?;
        (owner != self.settings.worker).then_some(owner)
    }

    /// Asks for the memory that what was glanced at will need.
    pub fn look_ahead(&mut self) {
        self.foresight.look_ahead(&self.location, &self.table);
    }

    /// Takes one datagram. Gives the method it is about (a response's is that of its CSeq), for the latency tables.
    pub fn on_datagram(
        &mut self,
        now: Instant,
        datagram: &Datagram<'_>,
        out: &mut impl Output,
    ) -> Option<Method> {
        self.is_refusing = false;
        if !datagram.flow.transport.is_reliable() {
            let is_ours = |rest: &[u8]| self.identity.ends_aor(rest);
            let admission = self.overload.admit(datagram.bytes, is_ours);
            if admission == Admission::Dropped {
                self.counters.increment(Counter::DropOverload);
                return None;
            }
            self.is_refusing = admission == Admission::Refused;
        }
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
            // Before steering and Max-Forwards, which means something else in it.
            Parsed::Good(message)
                if is_of_nodes(&message) && self.give_to_cluster(datagram, out) =>
            {
                Some(Method::Kdmq)
            }
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

    /// Takes notice of how the worker's queues stand: in overload new work is turned away. Says when that begins or ends.
    pub fn observe_backlog(&mut self, now: Instant, backlog: Backlog) -> Option<Turn> {
        self.overload.observe(now, backlog)
    }

    /// Whether new work is turned away.
    #[must_use]
    pub const fn is_overloaded(&self) -> bool {
        self.overload.is_there()
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
        self.look_at_waiting(now, out);
        self.refuse_overdue(now, out);
        self.keep_alive(now, out);
    }

    /// Takes a notice.
    pub fn on_notice(&mut self, now: Instant, notice: Notice<'_>, out: &mut impl Output) {
        match notice {
            Notice::Drain => self.is_draining = true,
            Notice::Unreachable { flow, sent } => self.on_unreachable(now, &flow, sent, out),
            Notice::Subscriber { aor, found } => self.on_subscriber(now, aor, found, out),
            Notice::Loaded { aor } => self.on_loaded(now, aor, out),
            Notice::AllLoaded => self.on_all_loaded(now, out),
            Notice::Settled { takes } => self.on_settled(now, takes, out),
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
        let keeper = self.keeper.as_ref().filter(|_| !self.is_draining);
        let deadlines = [
            self.table.next_deadline(),
            self.waits.next_deadline(),
            keeper.map(|keeper| keeper.next_deadline()),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Transactions in Trying, Proceeding or Calling: those that hold an exit.
    #[must_use]
    pub const fn pending(&self) -> usize {
        self.table.pending() + self.waits.len()
    }

    /// Requests that wait for the slow path.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waits.len()
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

    /// Of these, the bytes of the stored messages.
    #[must_use]
    pub const fn stored_bytes(&self) -> usize {
        self.table.arena().footprint()
    }

    fn on_not_sip(&self, cause: NotSip, datagram: &Datagram<'_>, out: &mut impl Output) {
        let flow = &datagram.flow;
        if flow.transport == Transport::Udp
            && let Some(request) = BindingRequest::parse(datagram.bytes)
        {
            // RFC 5626 8: the keepalive of flows of datagrams; unanswered, the phone would take its flow for lost.
            let len = BindingRequest::answer_len(flow.peer);
            let sent = out.send(flow, len, |buffer| request.answer(flow.peer, buffer));
            answer::count_unsent(&self.counters, sent);
            return self.counters.increment(Counter::KeepaliveBindings);
        }
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

    fn hand_off(&self, to: WorkerId, datagram: &Datagram<'_>, out: &mut impl Output) {
        match out.hand_off(to, datagram) {
            Ok(()) => self.counters.increment(Counter::HandedOff),
            Err(MailboxFull) => self.counters.increment(Counter::DropMailboxFull),
        }
    }

    /// Leaves a message of other nodes for the cluster; false where it is not the cluster's.
    fn give_to_cluster(&self, datagram: &Datagram<'_>, out: &mut impl Output) -> bool {
        match out.give_to_cluster(datagram) {
            Ok(()) => {}
            Err(NotForCluster::Elsewhere) => return false,
            Err(NotForCluster::NotAllowed) => {
                self.counters.increment(Counter::ClusterDropNotAllowed);
            }
            Err(NotForCluster::Full) => self.counters.increment(Counter::ClusterDropInletFull),
        }
        true
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
}

/// Whether a message is KDMQ: a request, or the answer to one.
fn is_of_nodes(message: &Message<'_>) -> bool {
    if message.is_request() {
        message.method() == Method::Kdmq
    } else {
        message.cseq().method == b"KDMQ"
    }
}
