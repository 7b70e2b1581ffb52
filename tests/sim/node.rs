//! A node: the real cores of one process over a shared location, with bounded mailboxes between them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use strowger::counters::{Counter, Counters};
use strowger::datagram::{Datagram, Flow, ListenerId, Transport, WorkerId};
use strowger::location::{Location, LocationSettings};
use strowger::proxy::domains::Domains;
use strowger::proxy::register::{Registrar, RegistrarSettings};
use strowger::proxy::{
    Listener, MailboxFull, Notice, Output, Proxy, Question, QuestionId, ResolverFull, SendError,
    Settings, StoreFull, SubscriberQuestion,
};
use strowger::time::Instant;

use super::random::Random;
use super::store::Store;

/// A process: its workers, and what they share.
pub(crate) struct Node {
    pub(crate) settings: Settings,
    pub(crate) is_up: bool,
    pub(crate) is_draining: bool,
    pub(crate) location: Arc<Location>,
    /// Where its bindings outlive it, if they do.
    pub(crate) store: Option<Store>,
    workers: Vec<Worker>,
    registrar: RegistrarSettings,
    mailbox_len: usize,
    /// Sends that fail for want of room, of a thousand.
    full_permille: u64,
    resolver_full_permille: u64,
    location_key: [u8; 16],
}

struct Worker {
    proxy: Proxy,
    counters: Arc<Counters>,
    mail: VecDeque<Letter>,
    /// The buffers of the mailbox that are free: it is full when there is none.
    free: Vec<Vec<u8>>,
}

struct Letter {
    buffer: Vec<u8>,
    packet: Rc<Packet>,
}

/// A message on its way to a node or an agent.
#[derive(Clone)]
pub(crate) struct Packet {
    pub(crate) bytes: Rc<[u8]>,
    pub(crate) transport: Transport,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// The listener that it arrives at, of a node.
    pub(crate) listener: ListenerId,
    pub(crate) is_corrupt: bool,
}

/// What one call of a core did.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) sent: Vec<Sent>,
    /// The worker that the datagram was handed to.
    pub(crate) handed_to: Option<usize>,
    /// How often it was handed over, or would have been.
    pub(crate) hand_offs: usize,
    pub(crate) questions: Vec<Asked>,
    /// How many names were asked for, in vain or not.
    pub(crate) asked: usize,
}

/// A message that a core sent, or tried to.
pub(crate) struct Sent {
    pub(crate) flow: Flow,
    pub(crate) bytes: Rc<[u8]>,
    pub(crate) error: Option<SendError>,
}

/// A question to the resolver.
pub(crate) struct Asked {
    pub(crate) id: QuestionId,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) transport: Option<Transport>,
}

/// What of the world a core can feel while it is called.
pub(crate) struct Surroundings<'a> {
    pub(crate) random: &'a mut Random,
    /// Addresses that the kernel has no route to.
    pub(crate) unroutable: &'a [SocketAddr],
    /// Connections, by our end and the other.
    pub(crate) connections: &'a [(SocketAddr, SocketAddr)],
}

struct Exit<'a, 'b> {
    outcome: Outcome,
    surroundings: &'a mut Surroundings<'b>,
    packet: Option<&'a Rc<Packet>>,
    node: Boxes<'a>,
    listeners: &'a [Listener],
    full_permille: u64,
    resolver_full_permille: u64,
}

/// The mailboxes of the other workers, with the place of the one that is at work.
struct Boxes<'a> {
    before: &'a mut [Worker],
    after: &'a mut [Worker],
}

impl Node {
    /// A node that is not up yet.
    pub(crate) fn new(
        settings: Settings,
        registrar: RegistrarSettings,
        random: &mut Random,
    ) -> Self {
        let location_key = random.next().to_le_bytes();
        let mut key = [0; 16];
        key[..8].copy_from_slice(&location_key);
        let mut node = Self {
            settings,
            is_up: false,
            is_draining: false,
            location: Arc::new(location(key)),
            store: None,
            workers: Vec::new(),
            registrar,
            mailbox_len: usize::try_from(random.range(1, 12)).expect("small"),
            full_permille: if random.chance(200) { 10 } else { 0 },
            resolver_full_permille: if random.chance(200) { 100 } else { 0 },
            location_key: key,
        };
        node.start();
        node
    }

    /// Starts the process with its keys, and with the location that it had or, where `forgets`, an empty one; of a node with a store, what
    /// that has.
    pub(crate) fn restart(&mut self, now: Instant, forgets: bool) {
        self.settings.epoch = self.settings.epoch.wrapping_add(0x1_0001);
        if let Some(store) = &self.store {
            self.location = Arc::new(stored_location(self.location_key, self.settings.epoch));
            store.load(now, &self.location);
        } else if forgets {
            self.location = Arc::new(location(self.location_key));
        }
        self.start();
    }

    /// Keeps what changes for a store, from now on. Nothing may be bound yet.
    pub(crate) fn list_changes(&mut self) {
        self.location = Arc::new(stored_location(self.location_key, self.settings.epoch));
        self.start();
    }

    /// Acknowledges only what `store` has, from now on. Nothing may be under way yet.
    pub(crate) fn commit_to(&mut self, store: Store) {
        self.settings.commit = Some(store.flush());
        self.store = Some(store);
        self.start();
    }

    fn start(&mut self) {
        self.is_up = true;
        self.is_draining = false;
        let addresses: Vec<_> = self.listeners().map(|(_, at)| at.ip()).collect();
        self.workers = (0..self.settings.workers)
            .map(|number| {
                let mut settings = self.settings.clone();
                settings.worker = WorkerId(number);
                let counters = Arc::new(Counters::new());
                let domains = Domains::new(["example.com"], addresses.iter().copied());
                let registrar = Registrar::new(
                    Arc::clone(&self.location),
                    Arc::new(domains),
                    self.registrar.clone(),
                );
                Worker {
                    proxy: Proxy::new(
                        settings,
                        Arc::clone(&self.location),
                        registrar,
                        Arc::clone(&counters),
                    ),
                    counters,
                    mail: VecDeque::new(),
                    free: vec![Vec::new(); self.mailbox_len],
                }
            })
            .collect();
    }

    /// The process is gone, and all that it held.
    pub(crate) fn kill(&mut self) {
        self.is_up = false;
        self.workers.clear();
        if let Some(store) = &mut self.store {
            store.cut_off();
        }
    }

    /// A packet arrives at a worker.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        worker: usize,
        packet: &Rc<Packet>,
        surroundings: &mut Surroundings<'_>,
    ) -> Outcome {
        let datagram = datagram(packet, &packet.bytes, now, false);
        self.with_exit(worker, Some(packet), surroundings, |proxy, exit| {
            proxy.on_datagram(now, &datagram, exit);
        })
    }

    /// A worker takes one letter out of its mailbox.
    pub(crate) fn take_mail(
        &mut self,
        now: Instant,
        worker: usize,
        surroundings: &mut Surroundings<'_>,
    ) -> Option<(Rc<Packet>, Outcome)> {
        let Letter { mut buffer, packet } = self.workers.get_mut(worker)?.mail.pop_front()?;
        let datagram = datagram(&packet, &buffer, now, true);
        let outcome = self.with_exit(worker, Some(&packet), surroundings, |proxy, exit| {
            proxy.on_datagram(now, &datagram, exit);
        });
        buffer.clear();
        let worker = &mut self.workers[worker];
        if worker.free.len() < self.mailbox_len {
            worker.free.push(buffer);
        }
        Some((packet, outcome))
    }

    /// A worker acts on its timers.
    pub(crate) fn on_timeout(
        &mut self,
        now: Instant,
        worker: usize,
        surroundings: &mut Surroundings<'_>,
    ) -> Outcome {
        self.with_exit(worker, None, surroundings, |proxy, exit| {
            proxy.on_timeout(now, exit)
        })
    }

    /// A worker takes a notice.
    pub(crate) fn on_notice(
        &mut self,
        now: Instant,
        worker: usize,
        notice: Notice<'_>,
        surroundings: &mut Surroundings<'_>,
    ) -> Outcome {
        self.with_exit(worker, None, surroundings, |proxy, exit| {
            proxy.on_notice(now, notice, exit)
        })
    }

    /// The worker that a report of an undelivered message is for, as the shell finds it out.
    pub(crate) fn owner_of_sent(&mut self, sent: &[u8]) -> Option<usize> {
        let worker = self.workers.first_mut()?;
        let owner = worker.proxy.owner_of_sent(sent)?;
        Some(usize::from(owner.0)).filter(|owner| *owner < self.workers.len())
    }

    /// When a worker's timers are next due.
    pub(crate) fn next_deadline(&self, worker: usize) -> Option<Instant> {
        self.workers.get(worker)?.proxy.next_deadline()
    }

    /// How many workers there are while it is up.
    pub(crate) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Its addresses.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (ListenerId, SocketAddr)> {
        let listeners = self.settings.listeners.iter();
        listeners.map(|listener| (listener.id, listener.address))
    }

    /// The address of a listener.
    pub(crate) fn address_of(&self, id: ListenerId) -> SocketAddr {
        let mut listeners = self.listeners();
        let found = listeners.find(|(other, _)| *other == id);
        found.expect("a core names its own listeners").1
    }

    /// A counter, over all workers.
    pub(crate) fn count(&self, counter: Counter) -> u64 {
        let workers = self.workers.iter();
        workers.map(|worker| worker.counters.read(counter)).sum()
    }

    /// What is left in any worker: nothing may be when all is over.
    pub(crate) fn left_behind(&self) -> Option<String> {
        for (number, worker) in self.workers.iter().enumerate() {
            let held = worker.proxy.held();
            if held != (0, 0, 0) || worker.proxy.pending() != 0 {
                let pending = worker.proxy.pending();
                return Some(format!(
                    "worker {number} holds {held:?} (transactions, timers, messages), {pending} pending"
                ));
            }
            if worker.free.len() != self.mailbox_len || !worker.mail.is_empty() {
                return Some(format!("worker {number} has lost a mailbox buffer"));
            }
            for (kind, live, created, freed) in [
                (
                    "server",
                    Counter::TransactionsLiveServer,
                    Counter::TransactionsCreatedServer,
                    Counter::TransactionsFreedServer,
                ),
                (
                    "client",
                    Counter::TransactionsLiveClient,
                    Counter::TransactionsCreatedClient,
                    Counter::TransactionsFreedClient,
                ),
            ] {
                let read = |counter| worker.counters.read(counter);
                if read(live) != 0 || read(created) != read(freed) {
                    return Some(format!(
                        "worker {number}: {} {kind} transactions live, {} created, {} freed",
                        read(live),
                        read(created),
                        read(freed)
                    ));
                }
            }
        }
        None
    }

    fn with_exit(
        &mut self,
        worker: usize,
        packet: Option<&Rc<Packet>>,
        surroundings: &mut Surroundings<'_>,
        call: impl FnOnce(&mut Proxy, &mut Exit<'_, '_>),
    ) -> Outcome {
        let (before, rest) = self.workers.split_at_mut(worker);
        let (this, after) = rest.split_first_mut().expect("there is such a worker");
        let mut exit = Exit {
            outcome: Outcome::default(),
            surroundings,
            packet,
            node: Boxes { before, after },
            listeners: &self.settings.listeners,
            full_permille: self.full_permille,
            resolver_full_permille: self.resolver_full_permille,
        };
        call(&mut this.proxy, &mut exit);
        exit.outcome
    }
}

impl Output for Exit<'_, '_> {
    fn send(
        &mut self,
        flow: &Flow,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        let mut buffer = vec![b'!'; len];
        write(&mut buffer);
        let error = if self.surroundings.unroutable.contains(&flow.peer) {
            Some(SendError::Unreachable)
        } else if !flow.transport.is_reliable()
            && self.surroundings.random.chance(self.full_permille)
        {
            Some(SendError::Full)
        } else {
            None
        };
        self.outcome.sent.push(Sent {
            flow: *flow,
            bytes: buffer.into(),
            error,
        });
        error.map_or(Ok(()), Err)
    }

    fn hand_off(&mut self, to: WorkerId, datagram: &Datagram<'_>) -> Result<(), MailboxFull> {
        self.outcome.hand_offs += 1;
        let packet = self.packet.expect("only a datagram is handed over");
        let number = usize::from(to.0);
        let own = self.node.before.len();
        let worker = if number < own {
            &mut self.node.before[number]
        } else {
            assert!(
                number > own && number - own <= self.node.after.len(),
                "a hand-off to nobody else"
            );
            &mut self.node.after[number - own - 1]
        };
        // A connection is read no further while the mailbox is full: what it carries waits, and is not lost.
        let waits = packet.transport.is_reliable();
        let spare = worker.free.pop().or_else(|| waits.then(Vec::new));
        let mut buffer = spare.ok_or(MailboxFull)?;
        buffer.extend_from_slice(datagram.bytes);
        worker.mail.push_back(Letter {
            buffer,
            packet: Rc::clone(packet),
        });
        self.outcome.handed_to = Some(number);
        Ok(())
    }

    fn resolve(&mut self, question: &Question<'_>) -> Result<(), ResolverFull> {
        self.outcome.asked += 1;
        if self.surroundings.random.chance(self.resolver_full_permille) {
            return Err(ResolverFull);
        }
        self.outcome.questions.push(Asked {
            id: question.id,
            host: String::from_utf8_lossy(question.host).into_owned(),
            port: question.port,
            transport: question.transport,
        });
        Ok(())
    }

    fn ask_subscriber(&mut self, _: &SubscriberQuestion<'_>) -> Result<(), StoreFull> {
        Err(StoreFull)
    }

    fn want_rows(&mut self, _: &[u8]) -> Result<(), StoreFull> {
        Err(StoreFull)
    }

    fn is_connected(&self, flow: &Flow) -> bool {
        let own = self
            .listeners
            .iter()
            .find(|listener| listener.id == flow.listener);
        own.is_some_and(|own| {
            self.surroundings
                .connections
                .contains(&(own.address, flow.peer))
        })
    }
}

fn datagram<'a>(
    packet: &Packet,
    bytes: &'a [u8],
    received_at: Instant,
    handed_off: bool,
) -> Datagram<'a> {
    Datagram {
        bytes,
        flow: Flow {
            listener: packet.listener,
            transport: packet.transport,
            peer: packet.from,
        },
        received_at,
        handed_off,
    }
}

fn location(hash_key: [u8; 16]) -> Location {
    Location::new(&LocationSettings {
        hash_key,
        bindings_max: 1_000,
        contacts_max: 10,
    })
}

/// A location that lists what changes for a store.
fn stored_location(hash_key: [u8; 16], epoch: u64) -> Location {
    let beginning = format!("uloc-0-{epoch:016x}-");
    location(hash_key).with_store(beginning.as_bytes(), false)
}
