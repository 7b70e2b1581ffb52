//! Many nodes, one location: Kamailio's DMQ as a core without a socket and without a clock.
//!
//! [`Cluster`] knows the nodes, speaks KDMQ with them, and keeps what is on its way to each within bounds. What changed here comes to it in
//! parcels that the workers fill; what changed elsewhere goes to them in parcels; it never touches the location. `docs/cluster.md` tells
//! what is spoken and why.

#![forbid(unsafe_code)]

mod address;
mod contact;
mod exchange;
mod json;
mod kdmq;
mod membership;
mod node;
mod owners;
mod parcel;
mod path;
mod roster;
mod scribe;
mod seal;
mod session;
#[cfg(test)]
mod tests;

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use siphasher::sip::SipHasher13;

pub use self::address::NodeAddress;
pub use self::contact::{Dialect, Reception};
pub use self::node::{NodeReport, Status};
pub use self::parcel::{Errand, Parcel, Walk};
pub use self::seal::Seals;

use self::kdmq::{Channel, Request};
use self::node::Node;
use self::seal::Seal;
use self::session::{Item, Kind, Overdue};
use crate::counters::{Counter, Counters};
use crate::datagram::Transport;
use crate::latency::Histogram;
use crate::limits::MESSAGE_LEN_MAX;
use crate::sip::Uri;
use crate::sip::index::Index;
use crate::sip::message::{Message, Parsed, parse};
use crate::time::{Duration, Instant};

/// What a cluster is told beforehand.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our number.
    pub server_id: u16,
    /// Our address: what we listen on, send from and are known by.
    pub address: SocketAddr,
    /// The nodes that the configuration names.
    pub seeds: Vec<NodeAddress>,
    /// Who is listened to.
    pub allow: Vec<IpNet>,
    /// What messages are sealed with.
    pub seals: Seals,
    /// Who may speak without a seal; none: who has never spoken with one.
    pub unsealed: Option<Vec<IpNet>>,
    /// How far the nodes' clocks may differ.
    pub skew: Duration,
    /// How often each node is shown that we are there.
    pub ping: Duration,
    /// Contacts in one message.
    pub contacts_max: usize,
    /// Bytes of contacts in one message.
    pub bytes_max: usize,
    /// Contacts a second that a full or partial send may take; none: as many as the node takes.
    pub walk_rate: Option<u32>,
    /// How many workers there are.
    pub workers: usize,
    /// Tells this start from every other.
    pub epoch: u64,
    /// How contacts from elsewhere are read.
    pub reception: Reception,
}

/// The one exit of the cluster.
pub trait Output {
    /// Sends a message; what is lost is sent again.
    fn send(&mut self, to: NodeAddress, message: &[u8]);
    /// An empty parcel for what came, if there is one.
    fn blank(&mut self) -> Option<Parcel>;
    /// An empty parcel for a walk, if there are enough beside it for what comes.
    fn blank_for_walk(&mut self) -> Option<Parcel>;
    /// Gives back a parcel for which there was no use.
    fn give_back(&mut self, parcel: Parcel);
    /// Hands a parcel to a worker.
    fn give(&mut self, worker: usize, parcel: Parcel);
}

/// This node, and what it knows of the others.
#[derive(Debug)]
pub struct Cluster {
    settings: Settings,
    nodes: Vec<Node>,
    /// Messages and walks so far.
    number: u64,
    /// Whether we have told the others that we leave.
    is_leaving: bool,
    started: Instant,
    /// When the workers are to be told anew who is there.
    next_publish: Instant,
    counters: Arc<Counters>,
    /// How long what changed here took until another node acknowledged it.
    lag: Arc<Histogram>,
    /// Taken while a message is looked at.
    index: Option<Box<Index>>,
    /// A message of ours.
    message: Vec<u8>,
    /// Its body.
    body: Vec<u8>,
}

impl Cluster {
    /// Knows the seeds and has not spoken to anybody.
    #[must_use]
    pub fn new(now: Instant, settings: Settings, counters: Arc<Counters>) -> Self {
        let others = settings.seeds.iter().copied();
        let others = others.filter(|seed| seed.socket != settings.address);
        let nodes = others.map(|seed| Node::new(now, seed, true)).collect();
        Self {
            settings,
            nodes,
            number: 0,
            is_leaving: false,
            started: now,
            next_publish: now,
            counters,
            lag: Arc::new(Histogram::new()),
            index: None,
            message: Vec::with_capacity(MESSAGE_LEN_MAX),
            body: Vec::with_capacity(MESSAGE_LEN_MAX),
        }
    }

    /// Records there how long what changed here takes until another node acknowledges it.
    #[must_use]
    pub fn with_lag(mut self, lag: Arc<Histogram>) -> Self {
        self.lag = lag;
        self
    }

    /// Our address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.settings.address
    }

    /// Takes one message.
    pub fn on_message(
        &mut self,
        now: Instant,
        from: NodeAddress,
        bytes: &[u8],
        out: &mut impl Output,
    ) {
        if !self.is_allowed(from.ip()) {
            return self.counters.increment(Counter::ClusterDropNotAllowed);
        }
        let mut index = self.index.take().unwrap_or_default();
        match parse(bytes, &mut index) {
            Parsed::Good(message) if kdmq::is_kdmq(&message) && message.is_request() => {
                self.on_request(now, from, &message, out);
            }
            Parsed::Good(message) if kdmq::is_kdmq(&message) => {
                self.on_answer(now, from, &message, out);
            }
            Parsed::Good(_) | Parsed::Answerable(..) | Parsed::NotSip(_) => {
                self.counters.increment(Counter::ClusterDropMalformed);
            }
        }
        self.index = Some(index);
    }

    /// A message of ours that no connection took to its node: it is not waited for.
    pub fn on_undelivered(&mut self, now: Instant, to: NodeAddress, message: &[u8]) {
        let mut index = self.index.take().unwrap_or_default();
        let number = match parse(message, &mut index) {
            Parsed::Good(message) if message.is_request() => {
                self.number_of(message.top_via().branch().unwrap_or_default())
            }
            Parsed::Good(_) | Parsed::Answerable(..) | Parsed::NotSip(_) => None,
        };
        self.index = Some(index);
        let place = self.place_of(to);
        let node = place.and_then(|place| self.nodes.get_mut(place));
        let kind = number
            .zip(node)
            .and_then(|(number, node)| node.session.fail(number));
        if let Some((place, kind)) = place.zip(kind) {
            self.on_given_up(now, place, kind);
        }
    }

    /// Tells every node that answers that we leave, once.
    pub fn leave(&mut self, now: Instant, out: &mut impl Output) {
        self.is_leaving = true;
        for place in 0..self.nodes.len() {
            if self.nodes.get(place).is_some_and(Node::is_active) {
                self.notify(now, place, 1, out);
            }
        }
    }

    /// Whether a list of nodes has still to be answered by one that is there.
    #[must_use]
    pub fn is_taking_leave(&self) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.any(|node| node.is_active() && node.session.has(Kind::Notification))
    }

    /// Acts on what is due.
    pub fn on_timeout(&mut self, now: Instant, out: &mut impl Output) {
        for place in 0..self.nodes.len() {
            self.chase(now, place, out);
            self.ping(now, place, out);
            self.inquire(now, place);
            self.ask(now, place, out);
            self.begin_walk(now, place);
            self.pump(now, place, out);
        }
        self.publish_in_time(now);
    }

    /// When [`Self::on_timeout`] should next be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.nodes.iter().map(|node| {
            let deadline = node.session.next_deadline().unwrap_or(node.next_ping);
            let others = node.ask_due().into_iter().chain(node.walk_due());
            let others = others.chain([node.next_ping]);
            others.fold(deadline, Instant::min)
        });
        deadlines.chain([self.next_publish]).min()
    }

    /// What is known of the nodes, ourselves first.
    #[must_use]
    pub fn report(&self, now: Instant) -> Vec<NodeReport> {
        let mut own = Node::new(now, NodeAddress::udp(self.settings.address), true);
        (own.status, own.dialect, own.last_heard) = (Status::Active, Dialect::Strowger, now);
        let own = NodeReport {
            is_local: true,
            ..own.report(now)
        };
        let others = self.nodes.iter().map(|node| node.report(now));
        std::iter::once(own).chain(others).collect()
    }

    /// The nodes that the configuration names, or its names lead to: they are listened to.
    pub fn seeds(&self) -> impl Iterator<Item = NodeAddress> {
        let seeds = self.nodes.iter().filter(|node| node.is_seed);
        seeds.map(|node| node.address)
    }

    fn on_request(
        &mut self,
        now: Instant,
        from: NodeAddress,
        request: &Message<'_>,
        out: &mut impl Output,
    ) {
        let Some(channel) = Channel::of(request) else {
            self.counters.increment(Counter::ClusterDropUnknownChannel);
            return self.answer(now, from, request, (404, "Not Found Peer ID"), out);
        };
        let sender = kdmq::sender(request, from).filter(|sender| self.is_allowed(sender.ip()));
        let Some(sender) = sender.filter(|sender| sender.socket != self.settings.address) else {
            return self.counters.increment(Counter::ClusterDropNotAllowed);
        };
        let known = self.place_of(sender);
        let seal = self.seal_of(now, known, request);
        if self.is_refused(known, sender.ip(), seal) {
            return;
        }
        let Some(place) = self.know(now, sender) else {
            return self.counters.increment(Counter::ClusterDropNodesFull);
        };
        self.introduce(now, place, request);
        self.note_seal(place, seal);
        self.hear(now, place, kdmq::is_strowger(request));
        match channel {
            Channel::Notification => self.on_notification(now, (from, place), request, out),
            Channel::Usrloc => self.on_contacts(now, (from, place), request, out),
        }
    }

    fn on_answer(
        &mut self,
        now: Instant,
        from: NodeAddress,
        answer: &Message<'_>,
        out: &mut impl Output,
    ) {
        let branch = answer.top_via().branch().unwrap_or_default();
        let number = self.number_of(branch);
        let waiting = number.and_then(|number| self.who_waits_for(number));
        let seal = self.seal_of(now, waiting, answer);
        if self.is_refused(waiting, from.ip(), seal) {
            return;
        }
        let place = self
            .nodes
            .iter()
            .position(|node| node.address.ip() == from.ip());
        // Several nodes may share an address: the number tells whose it is.
        let landed = number.and_then(|number| {
            let mut nodes = self.nodes.iter_mut().enumerate();
            nodes.find_map(|(place, node)| {
                let is_of = node.address.ip() == from.ip();
                let landed = is_of.then(|| node.session.land(number)).flatten();
                landed.map(|landed| (place, landed))
            })
        });
        let Some((place, (kind, contacts, oldest_live))) = landed else {
            // The answer to a retransmission of what was answered already.
            let counter = if place.is_some() && number.is_some() {
                Counter::ClusterAnswersRepeated
            } else {
                Counter::ClusterDropStrayAnswer
            };
            return self.counters.increment(counter);
        };
        self.counters.increment(Counter::ClusterReceivedAnswer);
        self.introduce(now, place, answer);
        self.note_seal(place, seal);
        self.hear(now, place, kdmq::is_strowger(answer));
        if let Some(node) = self.nodes.get_mut(place) {
            node.tally.acknowledged += contacts as u64;
        }
        if let Some(version) = oldest_live {
            self.lag.record(now.since(Instant::from_micros(version)));
        }
        if kind == Kind::Notification && (200..300).contains(&answer.status()) {
            self.activate(now, place);
            self.learn(now, place, answer.body());
        }
        self.pump(now, place, out);
    }

    /// The node whose answer to a message is still to come.
    fn who_waits_for(&self, number: u64) -> Option<usize> {
        let mut nodes = self.nodes.iter();
        nodes.position(|node| node.session.waits_for(number))
    }

    /// What a message's seal is worth; one for another node is of no worth here.
    fn seal_of(&self, now: Instant, place: Option<usize>, message: &Message<'_>) -> Seal {
        let seal = kdmq::seal_of(now, &self.settings.seals, message);
        let is_for_us = !message.is_request()
            || Uri::parse(message.request_uri())
                .ok()
                .and_then(|uri| NodeAddress::of(&uri, None))
                .is_some_and(|to| to.socket == self.settings.address);
        let is_awaited = message.is_request() || place.is_some();
        if seal == Seal::Good && !(is_for_us && is_awaited) {
            return Seal::Bad;
        }
        seal
    }

    /// Whether a message is not acted on for its seal, or for want of one; it is counted.
    fn is_refused(&self, place: Option<usize>, ip: IpAddr, seal: Seal) -> bool {
        if self.settings.seals.is_empty() || seal == Seal::Good {
            return false;
        }
        let node = place.and_then(|place| self.nodes.get(place));
        let is_known_to_seal = node.is_some_and(|node| node.seals);
        let may_lack_one = match &self.settings.unsealed {
            Some(networks) => networks.iter().any(|network| network.contains(&ip)),
            None => !is_known_to_seal,
        };
        let counter = match seal {
            Seal::Missing if may_lack_one => return false,
            Seal::Missing => Counter::ClusterDropUnsealed,
            Seal::Bad | Seal::Good => Counter::ClusterDropBadSeal,
        };
        self.counters.increment(counter);
        true
    }

    fn note_seal(&mut self, place: usize, seal: Seal) {
        if let Some(node) = self.nodes.get_mut(place) {
            node.seals |= seal == Seal::Good;
        }
    }

    /// Sends anew what is overdue, and gives up what was overdue for too long.
    fn chase(&mut self, now: Instant, place: usize, out: &mut impl Output) {
        loop {
            let Some(node) = self.nodes.get_mut(place) else {
                return;
            };
            match node.session.overdue(now) {
                Some(Overdue::Again(flight)) => {
                    if let Some(flight) = node.session.flight(flight) {
                        self.counters.increment(Counter::ClusterSentAgain);
                        out.send(node.address, &flight.message);
                    }
                }
                Some(Overdue::GivenUp(kind)) => self.on_given_up(now, place, kind),
                None => return,
            }
        }
    }

    fn on_given_up(&mut self, now: Instant, place: usize, kind: Kind) {
        match kind {
            Kind::Notification => self.lose(now, place),
            Kind::Contacts => self.counters.increment(Counter::ClusterGivenUp),
            Kind::Inquiry => {
                if let Some(node) = self.nodes.get_mut(place) {
                    node.want_again(now);
                }
            }
            Kind::Sync => {}
        }
    }

    /// Sends a request to a node and waits for its answer.
    fn request(
        &mut self,
        now: Instant,
        place: usize,
        (channel, kind, max_forwards): (Channel, Kind, u8),
        batch: &[Item],
        out: &mut impl Output,
    ) {
        let identity = self.identity();
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        self.number += 1;
        let (number, epoch) = (self.number, self.settings.epoch);
        let tag = identity.tag(number);
        let branch = format!("z9hG4bK{epoch:016x}.{number:x}");
        let call_id = format!("{number:x}-{epoch:016x}");
        let request = Request {
            channel,
            from: own(&self.settings, node.address.transport),
            to: node.address,
            branch: &branch,
            call_id: &call_id,
            tag: &tag,
            max_forwards,
            body: &self.body,
        };
        self.message.clear();
        request.write(now, &self.settings.seals, &mut self.message);
        node.tally.sent += batch.len() as u64;
        let is_reliable = node.address.transport.is_reliable();
        let message = (&*self.message, is_reliable);
        node.session.launch(now, number, kind, message, batch);
        out.send(node.address, &self.message);
        self.counters.increment(match kind {
            Kind::Notification => Counter::ClusterSentNotification,
            Kind::Contacts => Counter::ClusterSentContacts,
            Kind::Sync | Kind::Inquiry => Counter::ClusterSentSync,
        });
        self.counters
            .add(Counter::ClusterContactsSent, batch.len() as u64);
    }

    /// Answers a request, to where it came from; a list of nodes is in the body.
    fn answer(
        &mut self,
        now: Instant,
        to: NodeAddress,
        request: &Message<'_>,
        status: (u16, &str),
        out: &mut impl Output,
    ) {
        let tag = self.identity().tag(0);
        self.message.clear();
        let seals = (now, &self.settings.seals);
        kdmq::write_answer(seals, request, status, &tag, &self.body, &mut self.message);
        self.body.clear();
        self.counters.increment(Counter::ClusterSentAnswer);
        out.send(to, &self.message);
    }

    /// The number in a branch of ours.
    fn number_of(&self, branch: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(branch).ok()?.strip_prefix("z9hG4bK")?;
        let (epoch, number) = text.split_once('.')?;
        let is_ours = u64::from_str_radix(epoch, 16).ok()? == self.settings.epoch;
        u64::from_str_radix(number, 16).ok().filter(|_| is_ours)
    }

    fn is_allowed(&self, ip: IpAddr) -> bool {
        self.settings
            .allow
            .iter()
            .any(|network| network.contains(&ip))
            || self.seeds().any(|seed| seed.ip() == ip)
    }

    fn place_of(&self, address: NodeAddress) -> Option<usize> {
        self.nodes.iter().position(|node| node.address == address)
    }
}

/// Ourselves, as nodes know us that are spoken to by a transport.
fn own(settings: &Settings, transport: Transport) -> NodeAddress {
    NodeAddress {
        transport,
        socket: settings.address,
    }
}

/// The hash of a name, by which it is told from others on its way.
fn name_hash(name: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(name);
    hasher.finish()
}
