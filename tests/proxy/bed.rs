//! A bed for cores: they share a location, their messages are collected, and time stands until it is moved.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use strowger::counters::{Counter, Counters};
use strowger::datagram::{Datagram, Destination, Flow, ListenerId, Transport, WorkerId};
use strowger::location::{Homes, Location, LocationSettings, ReplicaSettings, Rules, Secrets};
use strowger::proxy::domains::Domains;
use strowger::proxy::register::{Registrar, RegistrarSettings};
use strowger::proxy::{
    Keys, Listener, MailboxFull, Notice, Output, Proxy, Question, QuestionId, ResolverFull,
    SendError, Settings, StoreFull, StoreSilent, SubscriberQuestion,
};
use strowger::time::{Duration, Instant};

pub(crate) use super::message::{ALICE, BOB, Sent, ack_of, invite, register, request};

/// The address that phones know us by.
pub(crate) const PROXY: &str = "192.0.2.1:5060";
/// Our second interface.
pub(crate) const PROXY_INSIDE: &str = "198.51.100.1:5060";

/// Workers of one node, and what they sent.
pub(crate) struct Bed {
    pub(crate) workers: Vec<Proxy>,
    pub(crate) counters: Vec<Arc<Counters>>,
    pub(crate) location: Arc<Location>,
    pub(crate) now: Instant,
    wire: Wire,
    settings: Settings,
    registrar: RegistrarSettings,
}

/// What a core did through its exit.
#[derive(Default)]
struct Wire {
    sent: VecDeque<Sent>,
    handed_off: VecDeque<(WorkerId, Vec<u8>, Flow)>,
    dead: Vec<SocketAddr>,
    asked: VecDeque<(QuestionId, String)>,
    resolver_is_full: bool,
    asked_for: VecDeque<Vec<u8>>,
    wanted: VecDeque<Vec<u8>>,
    store_is_full: bool,
    connected: Vec<SocketAddr>,
}

impl Output for Wire {
    fn send(
        &mut self,
        flow: &Flow,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        if self.dead.contains(&flow.peer) {
            return Err(SendError::Unreachable);
        }
        let mut buffer = vec![b'!'; len];
        write(&mut buffer);
        let text = String::from_utf8_lossy(&buffer).into_owned();
        self.sent.push_back(Sent { flow: *flow, text });
        Ok(())
    }

    fn hand_off(&mut self, to: WorkerId, datagram: &Datagram<'_>) -> Result<(), MailboxFull> {
        self.handed_off
            .push_back((to, datagram.bytes.to_vec(), datagram.flow));
        Ok(())
    }

    fn resolve(&mut self, question: &Question<'_>) -> Result<(), ResolverFull> {
        if self.resolver_is_full {
            return Err(ResolverFull);
        }
        let name = String::from_utf8_lossy(question.host).into_owned();
        self.asked.push_back((question.id, name));
        Ok(())
    }

    fn ask_subscriber(&mut self, question: &SubscriberQuestion<'_>) -> Result<(), StoreFull> {
        if self.store_is_full {
            return Err(StoreFull);
        }
        self.asked_for.push_back(question.aor.to_vec());
        Ok(())
    }

    fn want_rows(&mut self, aor: &[u8]) -> Result<(), StoreFull> {
        if self.store_is_full {
            return Err(StoreFull);
        }
        self.wanted.push_back(aor.to_vec());
        Ok(())
    }

    fn is_connected(&self, flow: &Flow) -> bool {
        flow.transport == Transport::Tcp && self.connected.contains(&flow.peer)
    }
}

impl Bed {
    /// One worker, domain example.com, two interfaces.
    pub(crate) fn new() -> Self {
        Self::with_workers(1)
    }

    /// Several workers of one node.
    pub(crate) fn with_workers(workers: u8) -> Self {
        Self::with_settings(workers, |_| {})
    }

    /// One worker whose registrar is changed by `change`.
    pub(crate) fn with_registrar(change: impl FnOnce(&mut RegistrarSettings, &mut Rules)) -> Self {
        let (mut registrar, mut rules) = (registrar(), Rules::default());
        change(&mut registrar, &mut rules);
        let mut bed = Self::over(1, |location| location.with_rules(rules), |_| {});
        bed.registrar = registrar;
        bed.start();
        bed
    }

    /// Workers whose settings are changed by `change`.
    pub(crate) fn with_settings(workers: u8, change: impl FnOnce(&mut Settings)) -> Self {
        Self::over(workers, |location| location, change)
    }

    /// Workers over a location that is kept for a store, whose rows are still to come where `is_loading`.
    pub(crate) fn with_store(
        workers: u8,
        is_loading: bool,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let keep = |location: Location| location.with_store(b"uloc-0-1-", is_loading);
        Self::over(workers, keep, change)
    }

    /// A node of a cluster with one worker, number `server_id`, which listens on this address alone.
    pub(crate) fn with_cluster(
        server_id: u16,
        address: &str,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let replica = ReplicaSettings {
            server_id,
            nat_cflags: 0,
            tombstones_max: 1_024,
            stores_all: true,
        };
        let homes = Arc::new(Homes::new(server_id));
        let keep = |location: Location| location.with_cluster(b"uloc-", replica, homes);
        Self::over(1, keep, |settings| {
            settings.server_id = server_id;
            settings.listeners = vec![Listener::new(ListenerId(0), addr(address))];
            change(settings);
        })
    }

    fn over(
        workers: u8,
        keep: impl FnOnce(Location) -> Location,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let keys = Keys {
            steering: [1; 16],
            transactions: [2; 16],
            branches: vec![[3; 16]],
            tokens: vec![[4; 16]],
            tags: vec![[5; 16]],
            nonces: vec![[6; 16]],
        };
        let listener = |id, address: &str| Listener::new(ListenerId(id), addr(address));
        let listeners = vec![
            listener(0, PROXY),
            listener(1, PROXY_INSIDE),
            listener(2, "[2001:db8::1]:5060"),
        ];
        let mut settings = Settings::alone(keys, listeners, &["example.com"]);
        settings.workers = workers;
        settings.epoch = 11;
        change(&mut settings);
        let location = Arc::new(keep(Location::new(&LocationSettings {
            hash_key: [9; 16],
            bindings_max: 1_000,
            contacts_max: 10,
        })));
        let mut bed = Self {
            workers: Vec::new(),
            counters: Vec::new(),
            location,
            now: Instant::from_micros(1_800_000_000_000_000),
            wire: Wire::default(),
            settings,
            registrar: registrar(),
        };
        bed.start();
        bed
    }

    /// Kills every worker and starts new ones: keys and location stay, transactions and the epoch do not.
    pub(crate) fn restart(&mut self) {
        self.settings.epoch += 1;
        self.start();
    }

    fn start(&mut self) {
        self.workers.clear();
        self.counters.clear();
        for worker in 0..self.settings.workers {
            let mut settings = self.settings.clone();
            settings.worker = WorkerId(worker);
            let counters = Arc::new(Counters::new());
            let registrar = Registrar::new(
                Arc::clone(&self.location),
                Arc::new(Domains::new(
                    ["example.com"],
                    settings
                        .listeners
                        .iter()
                        .map(|listener| listener.address.ip()),
                )),
                self.registrar.clone(),
            )
            .that_stores(settings.commit.is_some());
            let proxy = Proxy::new(
                settings,
                Arc::clone(&self.location),
                registrar,
                Arc::clone(&counters),
            );
            self.workers.push(proxy);
            self.counters.push(counters);
        }
    }

    /// A message arrives at worker 0 from `source` by the first listener (or the IPv6 one).
    pub(crate) fn receive(&mut self, source: &str, text: &str) {
        let listener = if addr(source).is_ipv4() { 0 } else { 2 };
        self.receive_at(0, listener, source, text);
    }

    /// A datagram that is no text arrives at worker 0 by the first listener.
    pub(crate) fn receive_bytes(&mut self, source: &str, bytes: &[u8]) {
        let flow = Flow {
            listener: ListenerId(0),
            transport: Transport::Udp,
            peer: addr(source),
        };
        self.deliver(0, bytes, flow, false);
    }

    /// A message arrives at worker 0 by a TCP connection from `source` to the first listener (or the IPv6 one).
    pub(crate) fn receive_by_tcp(&mut self, source: &str, text: &str) {
        let listener = if addr(source).is_ipv4() { 0 } else { 2 };
        let flow = Flow {
            listener: ListenerId(listener),
            transport: Transport::Tcp,
            peer: addr(source),
        };
        self.receive_by(0, flow, text);
    }

    /// A message arrives at a worker by a listener; hand-offs are carried out until none is left.
    pub(crate) fn receive_at(&mut self, worker: usize, listener: u8, source: &str, text: &str) {
        let flow = Flow {
            listener: ListenerId(listener),
            transport: Transport::Udp,
            peer: addr(source),
        };
        self.receive_by(worker, flow, text);
    }

    fn receive_by(&mut self, worker: usize, flow: Flow, text: &str) {
        let text = crlf(text);
        self.deliver(worker, text.as_bytes(), flow, false);
        while let Some((to, bytes, flow)) = self.wire.handed_off.pop_front() {
            self.deliver(usize::from(to.0), &bytes, flow, true);
        }
    }

    fn deliver(&mut self, worker: usize, bytes: &[u8], flow: Flow, handed_off: bool) {
        let datagram = Datagram {
            bytes,
            flow,
            received_at: self.now,
            handed_off,
        };
        self.workers[worker].on_datagram(self.now, &datagram, &mut self.wire);
    }

    /// Time passes; timers fire when they are due.
    pub(crate) fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let next = self.workers.iter().filter_map(Proxy::next_deadline).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = next.max(self.now);
            for worker in &mut self.workers {
                worker.on_timeout(self.now, &mut self.wire);
            }
        }
        self.now = end;
    }

    /// Sends to this address fail from now on.
    pub(crate) fn kill(&mut self, address: &str) {
        self.wire.dead.push(addr(address));
    }

    /// The connection to this address is closed.
    pub(crate) fn disconnect(&mut self, address: &str) {
        self.wire.connected.retain(|open| *open != addr(address));
    }

    /// A connection to this address is open from now on.
    pub(crate) fn connect(&mut self, address: &str) {
        self.wire.connected.push(addr(address));
    }

    /// The resolver takes no question from now on.
    pub(crate) fn fill_resolver(&mut self) {
        self.wire.resolver_is_full = true;
    }

    /// Takes the one question that was asked, for this name, and answers it.
    #[track_caller]
    pub(crate) fn resolve(&mut self, name: &str, found: &[(Transport, &str)]) {
        let id = self.asked(name);
        self.answer(id, found);
    }

    /// Takes the one question that was asked, for this name.
    #[track_caller]
    pub(crate) fn asked(&mut self, name: &str) -> QuestionId {
        let asked = std::mem::take(&mut self.wire.asked);
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_eq!(asked[0].1, name);
        asked[0].0
    }

    /// Asserts that no question was asked.
    #[track_caller]
    pub(crate) fn asked_none(&self) {
        assert!(self.wire.asked.is_empty(), "{:?}", self.wire.asked);
    }

    /// Answers a question.
    pub(crate) fn answer(&mut self, id: QuestionId, found: &[(Transport, &str)]) {
        let destinations: Vec<Destination> = found
            .iter()
            .map(|(transport, address)| Destination {
                transport: *transport,
                address: addr(address),
            })
            .collect();
        self.notice(Notice::Resolved {
            id,
            destinations: &destinations,
        });
    }

    /// The store takes no question from now on.
    pub(crate) fn fill_store(&mut self) {
        self.wire.store_is_full = true;
    }

    /// Takes the one user who was asked for.
    #[track_caller]
    pub(crate) fn asked_for(&mut self) -> String {
        let asked = std::mem::take(&mut self.wire.asked_for);
        assert_eq!(asked.len(), 1, "{asked:?}");
        String::from_utf8(asked[0].clone()).expect("a name")
    }

    /// Takes the AoRs whose rows were wanted.
    pub(crate) fn wanted(&mut self) -> Vec<String> {
        let wanted = self.wire.wanted.drain(..);
        wanted
            .map(|aor| String::from_utf8(aor).expect("a name"))
            .collect()
    }

    /// Asserts that no user was asked for.
    #[track_caller]
    pub(crate) fn asked_for_many(&mut self) -> usize {
        self.wire.asked_for.drain(..).count()
    }

    pub(crate) fn asked_for_none(&self) {
        assert!(self.wire.asked_for.is_empty(), "{:?}", self.wire.asked_for);
    }

    /// The store says what it knows of a user.
    pub(crate) fn tell(&mut self, aor: &str, found: Result<Option<Secrets>, StoreSilent>) {
        self.notice(Notice::Subscriber {
            aor: aor.as_bytes(),
            found,
        });
    }

    /// What was sent did not arrive.
    pub(crate) fn undelivered(&mut self, sent: &Sent) {
        self.notice(Notice::Unreachable {
            flow: sent.flow,
            sent: sent.text.as_bytes(),
        });
    }

    /// Every worker takes a notice.
    pub(crate) fn notice(&mut self, notice: Notice<'_>) {
        for worker in &mut self.workers {
            worker.on_notice(self.now, notice, &mut self.wire);
        }
    }

    /// Takes the one message that was sent.
    #[track_caller]
    pub(crate) fn sent_one(&mut self) -> Sent {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:#?}");
        sent.into_iter().next().expect("one")
    }

    /// Takes the two messages that were sent.
    #[track_caller]
    pub(crate) fn sent_two(&mut self) -> (Sent, Sent) {
        let sent: [Sent; 2] = self.sent().try_into().expect("two messages");
        sent.into()
    }

    /// Takes all messages that were sent.
    pub(crate) fn sent(&mut self) -> Vec<Sent> {
        self.wire.sent.drain(..).collect()
    }

    /// Asserts that nothing was sent.
    #[track_caller]
    pub(crate) fn sent_none(&mut self) {
        let sent = self.sent();
        assert!(sent.is_empty(), "{sent:#?}");
    }

    /// A counter, over all workers.
    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.counters
            .iter()
            .map(|counters| counters.read(counter))
            .sum()
    }

    /// Asserts that no transaction, timer or stored message is left, and that what was created was freed.
    #[track_caller]
    pub(crate) fn assert_empty(&self) {
        for worker in &self.workers {
            assert_eq!(worker.held(), (0, 0, 0));
            assert_eq!(worker.pending(), 0);
        }
        for (live, created, freed) in [
            (
                Counter::TransactionsLiveServer,
                Counter::TransactionsCreatedServer,
                Counter::TransactionsFreedServer,
            ),
            (
                Counter::TransactionsLiveClient,
                Counter::TransactionsCreatedClient,
                Counter::TransactionsFreedClient,
            ),
        ] {
            assert_eq!(self.count(live), 0);
            assert_eq!(self.count(created), self.count(freed));
        }
    }

    /// Registers `user` at `contact`, from there.
    #[track_caller]
    pub(crate) fn register(&mut self, user: &str, contact: &str) {
        self.register_from(user, contact, contact);
    }

    /// Registers `user` at `contact`, in a packet from `source`.
    #[track_caller]
    pub(crate) fn register_from(&mut self, user: &str, contact: &str, source: &str) {
        let text = register(user, contact, 1, "");
        self.receive(source, &text);
        assert_eq!(self.sent_one().status(), 200);
    }
}

fn registrar() -> RegistrarSettings {
    RegistrarSettings {
        keys: vec![[4; 16]],
        ..RegistrarSettings::default()
    }
}

/// An address.
pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Gives every line its CRLF.
fn crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

/// 64*T1.
pub(crate) const T1_64: Duration = Duration::from_secs(32);
