//! The monitor: it sees each call of each core, what went in and what came out, and holds both against the RFCs.
//!
//! It keeps its own account of every node's transactions, made of the messages alone.

mod request;
mod response;
mod untouched;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use strowger::datagram::{Flow, Transport};
use strowger::proxy::Settings;
use strowger::time::{Duration, Instant};

use super::ledger::Ledger;
use super::message::{Message, Name};
use super::node::{Packet, Sent};

/// What was done that must not be.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// The rule, in words.
    pub(crate) rule: &'static str,
    /// The call that it was about.
    pub(crate) call: Option<usize>,
    pub(crate) what: String,
}

/// One call of a core, as it looks from outside.
pub(crate) struct CoreCall<'a> {
    pub(crate) now: Instant,
    pub(crate) node: usize,
    pub(crate) cause: Cause<'a>,
    pub(crate) sent: &'a [Sent],
    /// How often the datagram was handed on, or would have been but for a full mailbox.
    pub(crate) hand_offs: usize,
    /// How many names were asked for.
    pub(crate) questions: usize,
}

/// Why a core was called.
#[derive(Clone, Copy)]
pub(crate) enum Cause<'a> {
    /// A datagram; `true` where another worker had handed it over.
    Datagram(&'a Rc<Packet>, bool),
    Timer,
    /// A message could not be delivered.
    Unreachable(&'a [u8]),
    /// A drain, an answer of the resolver.
    Notice,
}

/// The rules, and what they know of each node.
pub(crate) struct Monitor {
    nodes: Vec<NodeView>,
    pub(crate) violation: Option<Violation>,
    /// How often each kind of thing was seen: a rule that never had anything to judge is worth nothing.
    pub(crate) seen: Seen,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests_forwarded: u64,
    pub(crate) responses_forwarded: u64,
    pub(crate) successes_forwarded: u64,
    pub(crate) retransmissions: u64,
    pub(crate) cancels: u64,
    pub(crate) forks: u64,
    pub(crate) timer_c: u64,
    pub(crate) hand_offs: u64,
    pub(crate) mailboxes_full: u64,
    pub(crate) names: u64,
    pub(crate) streamed: u64,
    pub(crate) bindings_checked: u64,
    pub(crate) batches: u64,
    /// Restarts with what the store had.
    pub(crate) reloads: u64,
}

impl Seen {
    /// Adds what was seen elsewhere.
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, further) in self.numbers().into_iter().zip(other.clone().numbers()) {
            *sum += *further;
        }
    }

    /// Whether everything was seen.
    pub(crate) fn is_whole(mut self) -> bool {
        self.numbers().into_iter().all(|number| *number > 0)
    }

    fn numbers(&mut self) -> [&mut u64; 14] {
        [
            &mut self.requests_forwarded,
            &mut self.responses_forwarded,
            &mut self.successes_forwarded,
            &mut self.retransmissions,
            &mut self.cancels,
            &mut self.forks,
            &mut self.timer_c,
            &mut self.hand_offs,
            &mut self.mailboxes_full,
            &mut self.names,
            &mut self.streamed,
            &mut self.bindings_checked,
            &mut self.batches,
            &mut self.reloads,
        ]
    }
}

/// A node as the monitor knows it.
struct NodeView {
    addresses: Vec<SocketAddr>,
    timer_c: Duration,
    ring: Duration,
    failover: Duration,
    /// Whether it may hold so few transactions that a CANCEL finds no room for its own.
    is_tight: bool,
    servers: BTreeMap<String, ServerView>,
    branches: BTreeMap<String, BranchView>,
    /// ACKs of 2xx that wait until it is known where their next hop is, and where they came from.
    waiting: Vec<(Rc<[u8]>, SocketAddr)>,
}

/// A server transaction of a node.
struct ServerView {
    call: usize,
    method: String,
    /// The request as it was received first.
    request: Rc<[u8]>,
    flow: Flow,
    opened: Instant,
    /// Each final response sent, once: its status and bytes.
    finals: Vec<(u16, Rc<[u8]>)>,
    /// When the last copy of a failure left by Timer G, and what the interval was.
    repeated: Option<(Instant, Duration)>,
    answered: Option<Instant>,
    acked: Option<Instant>,
    is_cancelled: bool,
    /// A name was looked up for it: it may have a branch that nobody sees.
    has_asked: bool,
    /// The branches opened for it, in their order.
    branches: Vec<String>,
}

/// A client transaction of a node.
struct BranchView {
    server: String,
    method: String,
    flow: Flow,
    /// The request as it was first sent.
    request: Rc<[u8]>,
    opened: Instant,
    last_sent: Instant,
    interval: Duration,
    /// When the last provisional response but 100 came, or any before it.
    rang: Option<Instant>,
    has_provisional: bool,
    /// When the first provisional response came.
    first_heard: Option<Instant>,
    /// The first final response, and when it came.
    ended: Option<(u16, Instant)>,
    cancelled: Option<Instant>,
    wants_cancel: bool,
    /// Another is tried in its place: it may be cancelled.
    may_cancel: bool,
    /// The transport failed: it may be over.
    is_broken: bool,
}

/// T1 and T2 of RFC 3261 table 4.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const T4: Duration = Duration::from_secs(5);
const T1_64: Duration = Duration::from_secs(32);
/// How late a timer may be: the harness calls cores late, and the wheel has ticks.
const LATE: Duration = Duration::from_millis(100);

impl Monitor {
    /// A monitor of nodes at these addresses.
    pub(crate) fn new<'n>(nodes: impl IntoIterator<Item = &'n Settings>) -> Self {
        let view = |settings: &Settings| NodeView {
            addresses: settings.listeners.iter().map(|own| own.address).collect(),
            timer_c: settings.timer_c,
            ring: settings.ring,
            failover: settings.failover,
            is_tight: settings.transactions_max < 100,
            servers: BTreeMap::new(),
            branches: BTreeMap::new(),
            waiting: Vec::new(),
        };
        Self {
            nodes: nodes.into_iter().map(view).collect(),
            violation: None,
            seen: Seen::default(),
        }
    }

    /// The node was killed: its transactions are no more, and their branches are stale.
    pub(crate) fn forget(&mut self, node: usize) {
        self.nodes[node].servers.clear();
        self.nodes[node].branches.clear();
        self.nodes[node].waiting.clear();
    }

    /// Looks at one call of a core.
    pub(crate) fn observe(&mut self, call: &CoreCall<'_>, ledger: &Ledger) {
        self.note_questions(call);
        match call.cause {
            Cause::Datagram(packet, was_handed) => {
                self.observe_datagram(call, packet, was_handed, ledger);
            }
            Cause::Unreachable(sent) => {
                self.note_unreachable(call.node, sent);
                self.observe_sent(call, None, ledger);
            }
            Cause::Timer | Cause::Notice => self.observe_sent(call, None, ledger),
        }
        self.check_broken_sends(call);
        self.seen.names += call.questions as u64;
        let streamed = call
            .sent
            .iter()
            .filter(|sent| sent.flow.transport.is_reliable());
        self.seen.streamed += streamed.count() as u64;
    }

    /// Names are looked up for the request that came, or for one that waited: whose is not seen.
    fn note_questions(&mut self, call: &CoreCall<'_>) {
        if call.questions == 0 {
            return;
        }
        let view = &mut self.nodes[call.node];
        for server in view.servers.values_mut() {
            server.has_asked |= server.finals.is_empty();
        }
    }

    fn observe_datagram(
        &mut self,
        call: &CoreCall<'_>,
        packet: &Rc<Packet>,
        was_handed: bool,
        ledger: &Ledger,
    ) {
        if call.hand_offs > 0 {
            self.seen.hand_offs += 1;
            if was_handed || call.hand_offs > 1 || !call.sent.is_empty() {
                let what = format!(
                    "handed before: {was_handed}, handed on {} times, {} messages sent",
                    call.hand_offs,
                    call.sent.len()
                );
                self.fail(
                    "a datagram is handed on once, or acted upon",
                    ledger.call_of(&packet.bytes),
                    what,
                );
            }
            return;
        }
        let known = ledger.call_of(&packet.bytes);
        // That holds of a corrupt one, too.
        let is_answer = |sent: &Sent| sent.bytes.starts_with(b"SIP/2.0 ");
        if packet.bytes.starts_with(b"ACK ") && call.sent.iter().any(is_answer) {
            self.fail("an ACK is not answered", known, String::new());
        }
        let is_trusted = known.is_some_and(|call| !ledger.record(call).is_tainted);
        let message = Message::parse(&packet.bytes).filter(|_| is_trusted && !packet.is_corrupt);
        let (Some(message), Some(number)) = (message, known) else {
            return;
        };
        if message.is_request() {
            self.request_arrived(call, &message, packet, number, ledger);
        } else {
            self.response_arrived(call, &message, ledger);
        }
    }

    /// Judges all that a call sent.
    fn observe_sent(&mut self, call: &CoreCall<'_>, cause: Option<&Message<'_>>, ledger: &Ledger) {
        for sent in call.sent {
            let number = ledger.call_of(&sent.bytes);
            let Some(number) = number.filter(|number| !ledger.record(*number).is_tainted) else {
                continue;
            };
            let Some(message) = Message::parse(&sent.bytes) else {
                self.fail("what is sent is SIP", Some(number), String::new());
                continue;
            };
            if message.is_request() {
                self.request_sent(call, cause, &message, sent, number);
            } else {
                self.response_sent(call, cause, &message, sent, number);
            }
        }
    }

    /// What could not be sent at all ends its branch; the monitor must not expect it to live on.
    fn check_broken_sends(&mut self, call: &CoreCall<'_>) {
        for sent in call.sent.iter().filter(|sent| sent.error.is_some()) {
            self.note_unreachable(call.node, &sent.bytes);
        }
    }

    fn note_unreachable(&mut self, node: usize, sent: &[u8]) {
        if let Some(message) = Message::parse(sent)
            && let Some(branch) = message.top_via().and_then(|via| via.branch())
            && let Some(branch) = self.nodes[node].branches.get_mut(branch)
        {
            branch.is_broken = true;
        }
    }

    /// What holds when all is over: each request was answered, none was left ringing.
    pub(crate) fn observe_end(&mut self, ledger: &Ledger) {
        for node in 0..self.nodes.len() {
            let view = &self.nodes[node];
            let unanswered = view.servers.values().find(|server| {
                let is_trusted = !ledger.record(server.call).is_tainted;
                let may_be_silent = server.method != "INVITE"
                    && (server.branches.is_empty()
                        || server.branches.iter().any(|branch| {
                            view.branches.get(branch).is_none_or(|branch| {
                                branch.is_broken || matches!(branch.ended, None | Some((408, _)))
                            })
                        }));
                server.finals.is_empty() && is_trusted && !may_be_silent
            });
            if let Some(server) = unanswered {
                let what = format!(
                    "node {node} never answered a {} with {} branches",
                    server.method,
                    server.branches.len()
                );
                let call = server.call;
                self.fail(
                    "every request that was taken up is answered",
                    Some(call),
                    what,
                );
            }
        }
    }

    fn fail(&mut self, rule: &'static str, call: Option<usize>, what: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { rule, call, what });
        }
    }
}

impl NodeView {
    fn is_own(&self, sent_by: &str) -> bool {
        self.addresses
            .iter()
            .any(|address| address.to_string() == sent_by)
    }
}

impl ServerView {
    fn is_in_dialog(&self) -> bool {
        Message::parse(&self.request).is_some_and(|request| request.tag(Name::To).is_some())
    }

    /// Whether the transaction is over, or about to be: then a late copy of its request begins another one.
    fn may_be_over(&self, now: Instant) -> bool {
        let Some(answered) = self.answered else {
            // RFC 4320 4.2: given up without an answer, by then at the latest.
            return self.method != "INVITE" && now + LATE > self.opened + T1_64;
        };
        now + LATE > answered + T1_64 || self.acked.is_some_and(|acked| now + LATE > acked + T4)
    }
}

impl BranchView {
    fn is_reliable(&self) -> bool {
        self.flow.transport == Transport::Tcp
    }

    /// Whether the transaction surely lives still: a 2xx by it must then be forwarded.
    fn surely_lives(&self, now: Instant, timer_c: Duration) -> bool {
        if self.is_broken {
            return false;
        }
        let within = |since: Instant, span: Duration| now + LATE < since + span;
        if self.method != "INVITE" {
            return self.ended.is_none() && within(self.opened, T1_64);
        }
        match (self.ended, self.cancelled) {
            (Some((200..=299, at)), _) => within(at, T1_64),
            (Some(_), _) => false,
            (None, Some(at)) => within(at, T1_64),
            (None, None) if self.has_provisional => {
                within(self.rang.unwrap_or(self.opened), timer_c)
            }
            (None, None) => within(self.opened, T1_64.min(timer_c)),
        }
    }
}

/// The key of the server transaction that a request belongs to, or that a response is sent by: RFC 3261 17.2.3.
fn server_key(message: &Message<'_>, via: usize, method: &str) -> Option<String> {
    let via = super::message::Via::new(message.values(Name::Via).nth(via)?);
    match via.branch() {
        Some(branch) if branch.starts_with("z9hG4bK") => {
            Some(format!("{branch} {} {method}", via.sent_by))
        }
        _ => Some(format!(
            "{} {} {} {} {method}",
            via.bare(),
            message.call_id(),
            message.cseq(),
            message.tag(Name::From).unwrap_or_default()
        )),
    }
}
