//! The world of one seed: virtual time, its events in their order, and who acts on them.

mod carriage;
mod event;
mod verdict;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::rc::Rc;

use strowger::datagram::{Destination, Flow, ListenerId, Transport};
use strowger::proxy::{KeepaliveSettings, Notice, SendError};
use strowger::time::{Duration, Instant};

use super::agent::{Act, Agent, Context};
use super::ledger::Ledger;
use super::monitor::{Cause, CoreCall, Monitor, Violation};
use super::network::Network;
use super::node::{Asked, Node, Outcome, Packet, Surroundings};
use super::random::Random;
use super::scenario;
use super::trace::Trace;
use event::Scheduled;
pub(crate) use event::{Blow, Event, Order};

/// Everything there is.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) random: Random,
    pub(crate) network: Network,
    pub(crate) nodes: Vec<Node>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) ledger: Ledger,
    pub(crate) monitor: Monitor,
    pub(crate) trace: Trace,
    /// When nothing new is begun any more.
    pub(crate) closing: Instant,
    is_kept_alive: bool,
    /// Addresses that answer by ICMP, or to which the kernel knows no way.
    pub(crate) unroutable: Vec<SocketAddr>,
    /// Agents that are not there: packets to them are answered by ICMP.
    absent: Vec<usize>,
    events: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    /// For each worker of each node: when it is called for its timers next.
    alarms: Vec<Vec<Option<Instant>>>,
}

impl World {
    /// A world of these, at rest.
    pub(crate) fn new(
        random: Random,
        network: Network,
        nodes: Vec<Node>,
        agents: Vec<Agent>,
        trace: Trace,
    ) -> Self {
        Self {
            now: START,
            monitor: Monitor::new(nodes.iter().map(|node| &node.settings)),
            alarms: nodes
                .iter()
                .map(|node| vec![None; node.workers()])
                .collect(),
            random,
            network,
            nodes,
            agents,
            ledger: Ledger::default(),
            trace,
            closing: START,
            is_kept_alive: false,
            unroutable: Vec::new(),
            absent: Vec::new(),
            events: BinaryHeap::new(),
            scheduled: 0,
        }
    }

    /// Puts an event into its place.
    pub(crate) fn schedule(&mut self, at: Instant, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse(Scheduled {
            at,
            number: self.scheduled,
            event,
        }));
    }

    /// Lets all events happen, and judges the end.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        let mut events = 0_u32;
        while let Some(Reverse(Scheduled { at, event, .. })) = self.events.pop() {
            self.now = self.now.max(at);
            self.happen(event);
            if let Some(violation) = self.monitor.violation.take() {
                return Err(violation);
            }
            events += 1;
            if events > EVENTS_MAX {
                return Err(violation("the world comes to rest", None, String::new()));
            }
        }
        self.monitor.observe_end(&self.ledger);
        if let Some(violation) = self.monitor.violation.take() {
            return Err(violation);
        }
        self.check_agents()?;
        for (number, node) in self.nodes.iter().enumerate() {
            if let Some(what) = node.left_behind() {
                let what = format!("node {number}: {what}");
                return Err(violation("nothing is left behind", None, what));
            }
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Packet(packet) => self.arrive(&packet),
            Event::Mail(node, worker) => self.take_mail(node, worker),
            Event::Alarm(node, worker) => self.alarm(node, worker),
            Event::Agent(agent, timer) => {
                self.with_agent(agent, |agent, ctx| agent.fire(timer, ctx))
            }
            Event::Order(agent, order) => self.with_agent(agent, |agent, ctx| match order {
                Order::Begin(method, uri) => {
                    agent.begin(method, &uri, ctx);
                }
                Order::Register => agent.refresh(ctx),
            }),
            Event::Undelivered(node, flow, bytes) => self.undelivered(node, flow, &bytes),
            Event::Resolved(node, worker, epoch, asked) => {
                self.resolved(node, worker, epoch, &asked)
            }
            Event::Flush(node, epoch) => self.flush(node, epoch),
            Event::Landed(node, epoch) => self.landed(node, epoch),
            Event::Node(node, blow) => self.strike(node, blow),
            Event::Cut(one, other, span) => self.network.cut(one, other, self.now + span),
            Event::Absent(agent, is_absent) => {
                self.ledger.disturb_all();
                self.absent.retain(|other| *other != agent);
                if is_absent {
                    self.absent.push(agent);
                }
            }
            Event::CheckBindings => self.check_bindings(),
        }
    }

    /// Has every node keep its contacts alive, from now until the world comes to rest.
    pub(crate) fn keep_alive(&mut self, settings: KeepaliveSettings) {
        self.is_kept_alive = true;
        for node in 0..self.nodes.len() {
            self.nodes[node].settings.keepalive = Some(settings);
            // These worlds are about something else than the store.
            (self.nodes[node].store, self.nodes[node].settings.commit) = (None, None);
            self.nodes[node].restart(self.now, false);
            self.wind(node);
        }
    }

    /// Sets the first alarms of a node's workers.
    fn wind(&mut self, node: usize) {
        self.alarms[node] = vec![None; self.nodes[node].workers()];
        for worker in 0..self.nodes[node].workers() {
            self.set_alarm(node, worker);
        }
    }

    /// A REGISTER that was there before the world began.
    pub(crate) fn provision(&mut self, node: usize, text: &str, from: SocketAddr) {
        let (listener, to) = self.nodes[node].listeners().next().expect("it has one");
        let packet = Rc::new(Packet {
            bytes: text.as_bytes().into(),
            transport: Transport::Udp,
            from,
            to,
            listener,
            is_corrupt: false,
        });
        let now = self.now;
        let (nodes, mut surroundings) = self.surroundings();
        let outcome = nodes[node].receive(now, 0, &packet, &mut surroundings);
        let answer = outcome.sent.first().expect("a REGISTER is answered");
        assert!(answer.bytes.starts_with(b"SIP/2.0 200"), "it is bound");
    }

    // --- nodes ---------------------------------------------------------------------------------------------------

    fn arrive(&mut self, packet: &Rc<Packet>) {
        self.trace.packet(self.now, "arrives", packet);
        if let Some(node) = self.node_at(packet.to) {
            if !self.nodes[node].is_up {
                return self.lose(packet);
            }
            let worker = self.random.index(self.nodes[node].workers());
            let now = self.now;
            let (nodes, mut surroundings) = self.surroundings();
            let outcome = nodes[node].receive(now, worker, packet, &mut surroundings);
            return self.digest(node, worker, Cause::Datagram(packet, false), outcome);
        }
        let agent = self
            .agents
            .iter()
            .position(|agent| agent.public == packet.to);
        match agent {
            Some(agent) if self.absent.contains(&agent) => self.lose(packet),
            Some(agent) => {
                let (bytes, from) = (Rc::clone(&packet.bytes), packet.from);
                self.with_agent(agent, |agent, ctx| agent.receive(&bytes, from, ctx));
            }
            None => self.lose(packet),
        }
    }

    fn take_mail(&mut self, node: usize, worker: usize) {
        let now = self.now;
        let (nodes, mut surroundings) = self.surroundings();
        let Some((packet, outcome)) = nodes[node].take_mail(now, worker, &mut surroundings) else {
            return;
        };
        self.digest(node, worker, Cause::Datagram(&packet, true), outcome);
    }

    fn alarm(&mut self, node: usize, worker: usize) {
        let Some(due) = self.alarms[node].get_mut(worker).and_then(Option::take) else {
            return;
        };
        if due > self.now {
            // Another one is on its way.
            self.alarms[node][worker] = Some(due);
            return;
        }
        if self.nodes[node]
            .next_deadline(worker)
            .is_some_and(|next| next <= self.now)
        {
            let now = self.now;
            let (nodes, mut surroundings) = self.surroundings();
            let outcome = nodes[node].on_timeout(now, worker, &mut surroundings);
            return self.digest(node, worker, Cause::Timer, outcome);
        }
        self.set_alarm(node, worker);
    }

    /// Calls a worker when its timers are due; now and then a little late, as the loop of a busy one is.
    fn set_alarm(&mut self, node: usize, worker: usize) {
        let Some(next) = self.nodes[node].next_deadline(worker) else {
            return;
        };
        // Keepalives alone would never come to rest.
        let is_rest = self.is_kept_alive && self.now > self.closing + REST;
        if is_rest && self.nodes[node].left_behind().is_none() {
            return;
        }
        let current = self.alarms[node][worker];
        if current.is_some_and(|current| current <= next) {
            return;
        }
        let late = if self.random.chance(100) {
            self.random.millis(0, 10)
        } else {
            Duration::ZERO
        };
        let at = next.max(self.now) + late;
        self.alarms[node][worker] = Some(at);
        self.schedule(at, Event::Alarm(node, worker));
    }

    /// Shows the monitor what a core did, and carries it out.
    fn digest(&mut self, node: usize, worker: usize, cause: Cause<'_>, outcome: Outcome) {
        let call = CoreCall {
            now: self.now,
            node,
            cause,
            sent: &outcome.sent,
            hand_offs: outcome.hand_offs,
            questions: outcome.asked,
        };
        self.monitor.observe(&call, &self.ledger);
        match outcome.handed_to {
            Some(to) => {
                let at = self.now + self.random.millis(0, 20);
                self.schedule(at, Event::Mail(node, to));
            }
            None if outcome.hand_offs > 0 => {
                if let Cause::Datagram(packet, _) = cause {
                    self.monitor.seen.mailboxes_full += 1;
                    self.trace
                        .packet(self.now, "finds the mailbox full", packet);
                    self.lose(packet);
                }
            }
            None => {}
        }
        let epoch = self.nodes[node].settings.epoch;
        for asked in outcome.questions {
            let at = self.now + self.random.millis(1, 3_000);
            self.schedule(at, Event::Resolved(node, worker, epoch, asked));
        }
        for sent in outcome.sent {
            if is_passing_refusal(&sent.bytes)
                && let Some(call) = self.ledger.call_of(&sent.bytes)
            {
                self.ledger.record_mut(call).is_refused = true;
            }
            let from = self.nodes[node].address_of(sent.flow.listener);
            let packet = Rc::new(Packet {
                bytes: sent.bytes,
                transport: sent.flow.transport,
                from,
                to: sent.flow.peer,
                listener: ListenerId(0),
                is_corrupt: false,
            });
            if sent.error.is_some() {
                self.trace.packet(self.now, "cannot be sent", &packet);
                self.lose(&packet);
                if let Some(call) = self.ledger.call_of(&packet.bytes)
                    && sent.error != Some(SendError::Full)
                {
                    self.ledger.record_mut(call).is_disturbed = true;
                }
            } else {
                self.transmit(&packet, Some((node, sent.flow)));
            }
        }
        self.set_alarm(node, worker);
    }

    fn undelivered(&mut self, node: usize, flow: Flow, bytes: &Rc<[u8]>) {
        if !self.nodes[node].is_up {
            return;
        }
        // ICMP quotes what it likes of a datagram; the shell asks a core whose it is.
        let quoted = match flow.transport {
            Transport::Udp if self.random.chance(300) => 200 + self.random.index(400),
            Transport::Udp | Transport::Tcp => bytes.len(),
        };
        let quote: Rc<[u8]> = Rc::from(&bytes[..quoted.min(bytes.len())]);
        let Some(worker) = self.nodes[node].owner_of_sent(&quote) else {
            return;
        };
        if let Some(call) = self.ledger.call_of(bytes) {
            self.ledger.record_mut(call).is_disturbed = true;
        }
        let now = self.now;
        let notice = Notice::Unreachable { flow, sent: &quote };
        let (nodes, mut surroundings) = self.surroundings();
        let outcome = nodes[node].on_notice(now, worker, notice, &mut surroundings);
        self.digest(node, worker, Cause::Unreachable(bytes), outcome);
    }

    fn resolved(&mut self, node: usize, worker: usize, epoch: u64, asked: &Asked) {
        if !self.nodes[node].is_up || self.nodes[node].settings.epoch != epoch {
            return;
        }
        let destinations = self.destinations(asked);
        let now = self.now;
        let notice = Notice::Resolved {
            id: asked.id,
            destinations: &destinations,
        };
        let (nodes, mut surroundings) = self.surroundings();
        let outcome = nodes[node].on_notice(now, worker, notice, &mut surroundings);
        self.digest(node, worker, Cause::Notice, outcome);
    }

    /// What the resolver finds: now and then nothing, or first the address of a host that is gone.
    fn destinations(&mut self, asked: &Asked) -> Vec<Destination> {
        let mut agents = self.agents.iter();
        let agent = agents.find(|agent| agent.host_name() == asked.host);
        let mut nodes = self.nodes.iter().enumerate();
        let node = nodes.find(|(number, _)| scenario::node_name(*number) == asked.host);
        let found: Vec<(Transport, SocketAddr)> = match (agent, node) {
            (Some(agent), _) => vec![(agent.transport, agent.public)],
            (None, Some((_, node))) => node
                .listeners()
                .flat_map(|(_, own)| [(Transport::Udp, own), (Transport::Tcp, own)])
                .collect(),
            (None, None) => Vec::new(),
        };
        let mut destinations = Vec::new();
        if self.random.chance(100) {
            return destinations;
        }
        if self.random.chance(200) {
            let address = SocketAddr::new([198, 18, 0, 9].into(), 5060);
            let transport = self.random.pick(&[Transport::Udp, Transport::Tcp]);
            destinations.push(Destination { transport, address });
        }
        for (transport, address) in found {
            let is_asked = asked.transport.is_none_or(|asked| asked == transport);
            if is_asked && (destinations.is_empty() || self.random.chance(500)) {
                let port = asked.port.unwrap_or(address.port());
                let address = SocketAddr::new(address.ip(), port);
                destinations.push(Destination { transport, address });
            }
        }
        if self.random.chance(300) {
            destinations.reverse();
        }
        destinations
    }

    fn strike(&mut self, node: usize, blow: Blow) {
        self.trace.note(self.now, &format!("node {node}: {blow:?}"));
        match blow {
            // Two blows may overlap.
            Blow::Kill if !self.nodes[node].is_up => {}
            Blow::Start(_) if self.nodes[node].is_up => {}
            Blow::Kill => {
                self.ledger.disturb_all();
                self.monitor.forget(node);
                self.nodes[node].kill();
                let own: Vec<_> = self.nodes[node].listeners().map(|(_, at)| at).collect();
                self.network
                    .disconnect(|a, b| own.contains(&a) || own.contains(&b));
            }
            Blow::Start(forgets) => {
                self.nodes[node].restart(self.now, forgets);
                let has_store = self.nodes[node].store.is_some();
                let addresses: Vec<_> = self.nodes[node].listeners().map(|(_, at)| at).collect();
                for agent in &mut self.agents {
                    if !addresses.contains(&agent.first_hop) {
                        continue;
                    }
                    if has_store {
                        // No store keeps the memory of a removal: a late copy of an older REGISTER may count again.
                        agent.registration.unbound_since = None;
                    } else if forgets {
                        agent.forget_registration();
                    }
                }
                if has_store {
                    self.monitor.seen.reloads += 1;
                    let epoch = self.nodes[node].settings.epoch;
                    self.schedule(self.now, Event::Flush(node, epoch));
                }
                self.wind(node);
            }
            Blow::Drain if self.nodes[node].is_up => {
                self.nodes[node].is_draining = true;
                self.notify(node, Notice::Drain);
            }
            Blow::Drain => {}
        }
    }

    /// A store takes off with what has changed; it does so until long after all is over.
    fn flush(&mut self, node: usize, epoch: u64) {
        let now = self.now;
        let Node {
            is_up,
            settings,
            location,
            store,
            ..
        } = &mut self.nodes[node];
        let Some(store) = store.as_mut().filter(|_| *is_up && settings.epoch == epoch) else {
            return;
        };
        match store.take(now, location) {
            Some(span) => self.schedule(now + span, Event::Landed(node, epoch)),
            None if now < self.closing + Duration::from_secs(60) => {
                let at = now + store.flush();
                self.schedule(at, Event::Flush(node, epoch));
            }
            None => {}
        }
    }

    fn landed(&mut self, node: usize, epoch: u64) {
        let Node {
            is_up,
            settings,
            location,
            store,
            ..
        } = &mut self.nodes[node];
        let Some(store) = store.as_mut().filter(|_| *is_up && settings.epoch == epoch) else {
            return;
        };
        let is_committed = store.land(location);
        let at = self.now + store.flush();
        self.monitor.seen.batches += 1;
        self.notify(
            node,
            Notice::Settled {
                takes: is_committed,
            },
        );
        if !is_committed {
            // It is away for a moment, and back before it takes off again.
            self.notify(node, Notice::Settled { takes: true });
        }
        self.schedule(at, Event::Flush(node, epoch));
    }

    fn notify(&mut self, node: usize, notice: Notice<'_>) {
        for worker in 0..self.nodes[node].workers() {
            let now = self.now;
            let (nodes, mut surroundings) = self.surroundings();
            let outcome = nodes[node].on_notice(now, worker, notice, &mut surroundings);
            self.digest(node, worker, Cause::Notice, outcome);
        }
    }

    fn surroundings(&mut self) -> (&mut Vec<Node>, Surroundings<'_>) {
        let surroundings = Surroundings {
            random: &mut self.random,
            unroutable: &self.unroutable,
            connections: &self.network.connections,
        };
        (&mut self.nodes, surroundings)
    }

    /// The node at an address.
    pub(crate) fn node_at(&self, address: SocketAddr) -> Option<usize> {
        self.nodes
            .iter()
            .position(|node| node.listeners().any(|(_, own)| own == address))
    }

    // --- agents --------------------------------------------------------------------------------------------------

    fn with_agent(&mut self, agent: usize, act: impl FnOnce(&mut Agent, &mut Context<'_>)) {
        let mut context = Context {
            now: self.now,
            random: &mut self.random,
            ledger: &mut self.ledger,
            acts: Vec::new(),
            is_closing: self.now >= self.closing,
            complaint: None,
        };
        act(&mut self.agents[agent], &mut context);
        let Context {
            acts, complaint, ..
        } = context;
        if let Some((rule, call, what)) = complaint {
            let found = violation(rule, Some(call), format!("agent {agent}: {what}"));
            self.monitor.violation.get_or_insert(found);
        }
        for act in acts {
            match act {
                Act::Send { to, bytes } => {
                    let listener = self.listener_at(to);
                    let packet = Rc::new(Packet {
                        bytes: bytes.into(),
                        transport: self.agents[agent].transport,
                        from: self.agents[agent].public,
                        to,
                        listener,
                        is_corrupt: false,
                    });
                    if self.absent.contains(&agent) {
                        self.lose(&packet);
                    } else {
                        self.transmit(&packet, None);
                    }
                }
                Act::Wait { until, timer } => self.schedule(until, Event::Agent(agent, timer)),
            }
        }
    }
}

/// Whether this is a refusal that a node makes without a transaction, for a reason that may pass.
fn is_passing_refusal(bytes: &[u8]) -> bool {
    [b"SIP/2.0 404", b"SIP/2.0 480", b"SIP/2.0 503"]
        .iter()
        .any(|start| bytes.starts_with(*start))
        && super::message::find(bytes, b";tag=stw").is_some()
}

fn violation(rule: &'static str, call: Option<usize>, what: String) -> Violation {
    Violation { rule, call, what }
}

/// When every world begins.
pub(crate) const START: Instant = Instant::from_micros(1_800_000_000_000_000);
/// How long after the last order the keepalives go on.
const REST: Duration = Duration::from_secs(300);
/// A world that is not at rest by then never will be.
const EVENTS_MAX: u32 = 500_000;
