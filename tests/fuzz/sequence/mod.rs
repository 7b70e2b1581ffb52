//! The whole core under a script: registrations, requests, answers, retransmissions, time, failures and names that are looked up, in
//! any order. Nothing panics, whatever leaves is a good message, and once all timers have run out nothing is held.

mod agents;
mod script;
mod wire;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use strowger::counters::{Counter, Counters};
use strowger::datagram::{Datagram, Destination, Flow, ListenerId, Transport, WorkerId};
use strowger::location::{Location, LocationSettings};
use strowger::proxy::domains::Domains;
use strowger::proxy::register::{Registrar, RegistrarSettings};
use strowger::proxy::{Keys, Listener, Notice, Proxy, QuestionId, Settings};
use strowger::time::{Duration, Instant};

use script::Script;
use wire::{Passed, REMEMBERED_MAX, Wire};

/// One node, and what has passed it.
struct World {
    workers: Vec<Proxy>,
    counters: Vec<Arc<Counters>>,
    wire: Wire,
    received: VecDeque<Passed>,
    now: Instant,
    branches: u32,
}

/// The script's choices are bytes; the first says what the node is like.
pub(crate) fn run(data: &[u8]) {
    let mut script = Script(data);
    let mut world = World::new(&mut script);
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
    }
    world.settle();
}

impl World {
    fn new(script: &mut Script<'_>) -> Self {
        let shape = script.byte();
        let keys = Keys {
            steering: [1; 16],
            transactions: [2; 16],
            branches: vec![[3; 16]],
            tokens: vec![[4; 16]],
            tags: vec![[5; 16]],
            nonces: vec![[6; 16]],
        };
        let listeners: Vec<Listener> = LISTENERS
            .iter()
            .zip(0..)
            .map(|(&address, id)| Listener {
                tcp: shape & 1 != 0,
                ..Listener::new(ListenerId(id), addr(address))
            })
            .collect();
        let workers = 1 + (shape >> 1) % 3;
        let location = Arc::new(Location::new(&LocationSettings {
            hash_key: [9; 16],
            bindings_max: 64,
            contacts_max: 6,
        }));
        let domains = Arc::new(Domains::new(
            ["example.com"],
            listeners.iter().map(|listener| listener.address.ip()),
        ));
        let mut world = Self {
            workers: Vec::new(),
            counters: Vec::new(),
            wire: Wire::default(),
            received: VecDeque::new(),
            now: Instant::from_micros(1_800_000_000_000_000),
            branches: 0,
        };
        for worker in 0..workers {
            let mut settings = Settings::alone(keys.clone(), listeners.clone(), &["example.com"]);
            settings.worker = WorkerId(worker);
            settings.workers = workers;
            settings.epoch = 11;
            settings.peers = vec![PEER_NETWORK.parse().expect("a network")];
            if shape & 0x10 != 0 {
                // So small that every bound is met.
                settings.transactions_max = 12;
                settings.message_bytes_max = 8_192;
            }
            let counters = Arc::new(Counters::new());
            let registrar = Registrar::new(
                Arc::clone(&location),
                Arc::clone(&domains),
                RegistrarSettings {
                    expires_default_s: 3_600,
                    expires_min_s: 60,
                    expires_max_s: 7_200,
                    use_domain: false,
                    ..RegistrarSettings::default()
                },
            );
            world.workers.push(Proxy::new(
                settings,
                Arc::clone(&location),
                registrar,
                Arc::clone(&counters),
            ));
            world.counters.push(counters);
        }
        world
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 16 {
            0..=1 => self.register(script),
            2..=4 => self.request(script),
            5..=7 => self.answer(script),
            8 => self.acknowledge(script),
            9 => self.cancel(script),
            10 => self.within_dialog(script),
            11 => self.repeat(script),
            12 => self.wait(script.pick(&SPANS)),
            13 => self.notice(script),
            14 => self.break_something(script),
            _ => self.corrupt(script),
        }
    }

    fn repeat(&mut self, script: &mut Script<'_>) {
        if let Some(place) = script.place(self.received.len()) {
            let again = self.received[place].clone();
            self.deliver(script, again);
        }
    }

    fn notice(&mut self, script: &mut Script<'_>) {
        match script.byte() % 8 {
            0 => self.tell_all(Notice::Drain),
            1..=4 => {
                if let Some((worker, id)) = self.wire.asked.pop_front() {
                    let count = usize::from(script.byte() % 4);
                    let found: Vec<Destination> = (0..count)
                        .map(|_| Destination {
                            transport: script.pick(&[Transport::Udp, Transport::Tcp]),
                            address: addr(script.pick(&PHONES)),
                        })
                        .collect();
                    self.tell(
                        worker,
                        Notice::Resolved {
                            id,
                            destinations: &found,
                        },
                    );
                }
            }
            5 => {
                // An answer that nobody waits for.
                let id = QuestionId(script.byte().into());
                self.tell_all(Notice::Resolved {
                    id,
                    destinations: &[],
                });
            }
            _ => {
                if let Some(place) = script.place(self.wire.sent.len()) {
                    let Passed { flow, bytes } = self.wire.sent[place].clone();
                    let quoted = &bytes[..bytes.len().min(40 + 8 * usize::from(script.byte()))];
                    self.tell_all(Notice::Unreachable { flow, sent: quoted });
                }
            }
        }
    }

    fn break_something(&mut self, script: &mut Script<'_>) {
        match script.byte() % 4 {
            0 => self.wire.is_full = true,
            1 => self.wire.is_connected = !self.wire.is_connected,
            2 => self.wire.dead.clear(),
            _ => self.wire.dead.push(addr(script.pick(&PHONES))),
        }
    }

    /// A message that was received comes again with some bytes changed.
    fn corrupt(&mut self, script: &mut Script<'_>) {
        let Some(place) = script.place(self.received.len()) else {
            return;
        };
        let mut passed = self.received[place].clone();
        for _ in 0..=script.byte() % 4 {
            let at = (usize::from(script.byte()) << 2 | usize::from(script.byte() & 3))
                % passed.bytes.len().max(1);
            match script.byte() % 3 {
                0 => passed.bytes[at] = script.byte() & 0x7F,
                1 => drop(passed.bytes.drain(at..(at + 5).min(passed.bytes.len()))),
                _ => {
                    let token = script.pick(&TOKENS);
                    passed.bytes.splice(at..at, token.bytes());
                }
            }
            if passed.bytes.is_empty() {
                return;
            }
        }
        self.deliver(script, passed);
    }

    fn receive(&mut self, script: &mut Script<'_>, from: &str, bytes: Vec<u8>) {
        let peer = addr(from);
        let transport = if script.is_one_in(8) {
            Transport::Tcp
        } else {
            Transport::Udp
        };
        let listener = if peer.is_ipv4() {
            ListenerId(script.byte() % 2)
        } else {
            ListenerId(2)
        };
        self.deliver(
            script,
            Passed {
                flow: Flow {
                    listener,
                    transport,
                    peer,
                },
                bytes,
            },
        );
    }

    /// A message arrives at one of the workers; hand-offs are carried out, and what is sent to ourselves arrives, within a bound.
    fn deliver(&mut self, script: &mut Script<'_>, passed: Passed) {
        let worker = script.place(self.workers.len()).unwrap_or_default();
        self.received.push_back(passed.clone());
        if self.received.len() > REMEMBERED_MAX {
            self.received.pop_front();
        }
        let before = self.wire.sent.len();
        self.take(worker, &passed, false);
        let mut looped: VecDeque<Passed> = self.sent_to_ourselves(before);
        for _ in 0..LOOPED_MAX {
            let Some(passed) = looped.pop_front() else {
                break;
            };
            let before = self.wire.sent.len();
            self.take(worker, &passed, false);
            looped.extend(self.sent_to_ourselves(before));
        }
    }

    fn take(&mut self, worker: usize, passed: &Passed, handed_off: bool) {
        let datagram = Datagram {
            bytes: &passed.bytes,
            flow: passed.flow,
            received_at: self.now,
            handed_off,
        };
        self.wire.worker = u8::try_from(worker).expect("few workers");
        self.workers[worker].on_datagram(self.now, &datagram, &mut self.wire);
        if let Some((to, passed)) = self.wire.handed_off.pop_front() {
            assert!(!handed_off);
            self.take(usize::from(to.0), &passed, true);
        }
    }

    /// What was sent since, to an address of ours: as it arrives there.
    fn sent_to_ourselves(&self, before: usize) -> VecDeque<Passed> {
        let sent = self.wire.sent.iter().skip(before.min(self.wire.sent.len()));
        let to_us = sent.filter_map(|passed| {
            let listener = LISTENERS
                .iter()
                .zip(0..)
                .find(|(address, _)| addr(address) == passed.flow.peer)?
                .1;
            let peer = addr(LISTENERS[usize::from(passed.flow.listener.0)]);
            let flow = Flow {
                listener: ListenerId(listener),
                peer,
                ..passed.flow
            };
            Some(Passed {
                flow,
                bytes: passed.bytes.clone(),
            })
        });
        to_us.collect()
    }

    fn tell_all(&mut self, notice: Notice<'_>) {
        for worker in 0..self.workers.len() {
            self.tell(WorkerId(u8::try_from(worker).expect("few workers")), notice);
        }
    }

    fn tell(&mut self, worker: WorkerId, notice: Notice<'_>) {
        self.wire.worker = worker.0;
        self.workers[usize::from(worker.0)].on_notice(self.now, notice, &mut self.wire);
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..TIMEOUTS_MAX {
            let next = self.workers.iter().filter_map(Proxy::next_deadline).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = next.max(self.now);
            for (worker, proxy) in self.workers.iter_mut().enumerate() {
                self.wire.worker = u8::try_from(worker).expect("few workers");
                proxy.on_timeout(self.now, &mut self.wire);
            }
        }
        panic!("timers that never end");
    }

    /// Answers what was asked, lets every timer run out, and sees that nothing is left.
    fn settle(&mut self) {
        self.wire.is_full = false;
        for _ in 0..QUESTIONS_MAX {
            let Some((worker, id)) = self.wire.asked.pop_front() else {
                self.wait(Duration::from_secs(600));
                if self.wire.asked.is_empty() {
                    break;
                } else {
                    continue;
                }
            };
            self.tell(
                worker,
                Notice::Resolved {
                    id,
                    destinations: &[],
                },
            );
        }
        let count = |counter| {
            self.counters
                .iter()
                .map(|counters| counters.read(counter))
                .sum::<u64>()
        };
        for proxy in &self.workers {
            assert_eq!(
                (proxy.held(), proxy.pending()),
                ((0, 0, 0), 0),
                "transactions, timers, messages; pending"
            );
        }
        assert_eq!(
            count(Counter::TransactionsCreatedServer),
            count(Counter::TransactionsFreedServer)
        );
        assert_eq!(
            count(Counter::TransactionsCreatedClient),
            count(Counter::TransactionsFreedClient)
        );
        assert_eq!(
            count(Counter::TransactionsLiveServer) + count(Counter::TransactionsLiveClient),
            0
        );
    }

    fn branch(&mut self) -> String {
        self.branches += 1;
        format!("z9hG4bK{}", self.branches)
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

const LISTENERS: [&str; 3] = ["192.0.2.1:5060", "198.51.100.1:5060", "[2001:db8::1]:5060"];
const PHONES: [&str; 5] = [
    "203.0.113.5:5060",
    "203.0.113.9:5070",
    "[2001:db8::9]:5060",
    "198.51.100.9:5060",
    "10.0.0.7:5080",
];
const PEER_NETWORK: &str = "198.51.100.8/31";
const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const TOKENS: [&str; 12] = [
    "\r\n",
    ";",
    ",",
    "<",
    ">",
    "\"",
    ":",
    "Via: SIP/2.0/UDP h\r\n",
    "\r\nRoute: <sip:192.0.2.1;lr>\r\n",
    ";tag=x",
    ";lr",
    "99999999999",
];
const SPANS: [Duration; 6] = [
    Duration::from_millis(10),
    Duration::from_millis(500),
    Duration::from_secs(4),
    Duration::from_secs(33),
    Duration::from_secs(200),
    Duration::from_secs(4_000),
];
const STEPS_MAX: usize = 200;
/// How many messages to ourselves one message may become before they get lost.
const LOOPED_MAX: usize = 100;
const TIMEOUTS_MAX: usize = 100_000;
const QUESTIONS_MAX: usize = 10_000;
