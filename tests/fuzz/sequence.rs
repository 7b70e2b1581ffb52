//! The whole core under a script: registrations, requests, answers, retransmissions, time, failures and names that are looked up, in
//! any order. Nothing panics, whatever leaves is a good message, and once all timers have run out nothing is held.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use strowger::counters::{Counter, Counters};
use strowger::datagram::{Datagram, Destination, Flow, ListenerId, Transport, WorkerId};
use strowger::location::{Location, LocationSettings};
use strowger::proxy::domains::Domains;
use strowger::proxy::register::{Registrar, RegistrarSettings};
use strowger::proxy::{
    Keys, Listener, MailboxFull, Notice, Output, Proxy, Question, QuestionId, ResolverFull,
    SendError, Settings, StoreFull, SubscriberQuestion,
};
use strowger::sip::{self, HeaderName, Index, Parsed, Reply};
use strowger::time::{Duration, Instant};

/// The script: each choice takes a byte; where it has ended, every choice is the first.
struct Script<'d>(&'d [u8]);

impl Script<'_> {
    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()].clone()
    }

    /// True for one byte in so many, zero among them.
    fn is_one_in(&mut self, count: u8) -> bool {
        self.byte().is_multiple_of(count)
    }

    /// One of `len` places, if there are any.
    fn place(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| usize::from(self.byte()) % len)
    }
}

/// A message on its way.
#[derive(Clone, Debug)]
struct Passed {
    flow: Flow,
    bytes: Vec<u8>,
}

/// The world outside the cores.
#[derive(Default)]
struct Wire {
    sent: VecDeque<Passed>,
    handed_off: VecDeque<(WorkerId, Passed)>,
    asked: VecDeque<(WorkerId, QuestionId)>,
    worker: u8,
    /// Sends to these fail.
    dead: Vec<SocketAddr>,
    /// The next send finds no room, the next question and the next hand-off neither.
    is_full: bool,
    is_connected: bool,
}

impl Output for Wire {
    fn send(
        &mut self,
        flow: &Flow,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        if std::mem::take(&mut self.is_full) {
            return Err(SendError::Full);
        }
        if self.dead.contains(&flow.peer) {
            return Err(SendError::Unreachable);
        }
        let mut bytes = vec![UNWRITTEN; len];
        write(&mut bytes);
        assert!(
            !bytes.contains(&UNWRITTEN),
            "written whole: {}",
            bytes.escape_ascii()
        );
        assert_good(&bytes);
        self.sent.push_back(Passed { flow: *flow, bytes });
        if self.sent.len() > REMEMBERED_MAX {
            self.sent.pop_front();
        }
        Ok(())
    }

    fn hand_off(&mut self, to: WorkerId, datagram: &Datagram<'_>) -> Result<(), MailboxFull> {
        assert!(!datagram.handed_off, "handed on once at most");
        if std::mem::take(&mut self.is_full) {
            return Err(MailboxFull);
        }
        let passed = Passed {
            flow: datagram.flow,
            bytes: datagram.bytes.to_vec(),
        };
        self.handed_off.push_back((to, passed));
        Ok(())
    }

    fn resolve(&mut self, question: &Question<'_>) -> Result<(), ResolverFull> {
        assert!(!question.host.is_empty() && question.host.len() <= 255);
        if std::mem::take(&mut self.is_full) {
            return Err(ResolverFull);
        }
        self.asked.push_back((WorkerId(self.worker), question.id));
        Ok(())
    }

    fn ask_subscriber(&mut self, _: &SubscriberQuestion<'_>) -> Result<(), StoreFull> {
        Err(StoreFull)
    }

    fn want_rows(&mut self, _: &[u8]) -> Result<(), StoreFull> {
        Err(StoreFull)
    }

    fn is_connected(&self, _: &Flow) -> bool {
        self.is_connected
    }
}

/// What leaves is a keepalive's answer, or a message that its receiver can read.
fn assert_good(bytes: &[u8]) {
    if bytes == b"\r\n" {
        return;
    }
    let mut index = Index::new();
    match sip::parse(bytes, &mut index) {
        Parsed::Good(_) => {}
        Parsed::Answerable(_, rejection) => panic!("{rejection:?}: {}", bytes.escape_ascii()),
        // What is passed back keeps the faults that its callee, or the request that it answers, put into it.
        Parsed::NotSip(cause) => assert!(
            bytes.starts_with(b"SIP/2.0 "),
            "{cause:?}: {}",
            bytes.escape_ascii()
        ),
    }
}

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

    fn register(&mut self, script: &mut Script<'_>) {
        let (user, phone) = (script.pick(&USERS), script.pick(&PHONES));
        let contact = match script.byte() % 12 {
            0 => "Contact: *\r\nExpires: 0\r\n".to_owned(),
            1 => String::new(),
            2 => format!("Contact: <sip:{user}@{}>\r\n", LISTENERS[0]),
            3 => format!("Contact: <sip:{}@example.com>\r\n", script.pick(&USERS)),
            4 => "Contact: <sip:x@far.example.org>;q=0.3\r\n".to_owned(),
            5 => format!("Contact: <sip:{user}@{phone};transport=tcp>;q=0.7\r\n"),
            6 => format!(
                "Contact: <sip:{user}@{phone}>;q=0.2, <sip:{user}2@{phone}>;q=0.2;expires=90\r\n"
            ),
            7 => format!("Contact: <sip:{user}@{phone}>;expires=0\r\n"),
            8 => format!(
                "Path: <sip:{};lr>\r\nSupported: path\r\nContact: <sip:{user}@{phone}>\r\n",
                script.pick(&PHONES)
            ),
            9 => "Contact: <sip:a@10.0.0.7:5080>\r\n".to_owned(),
            _ => format!("Contact: <sip:{user}@{phone}>\r\n"),
        };
        let branch = self.branch();
        let text = format!(
            "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {phone};branch={branch}\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@example.com>;tag=r\r\nTo: <sip:{user}@example.com>\r\nCall-ID: reg-{user}-{phone}\r\n\
             CSeq: {} REGISTER\r\n{contact}Content-Length: 0\r\n\r\n",
            self.branches
        );
        self.receive(script, phone, text.into_bytes());
    }

    fn request(&mut self, script: &mut Script<'_>) {
        let (method, phone, user) = (
            script.pick(&METHODS),
            script.pick(&PHONES),
            script.pick(&USERS),
        );
        let uri = match script.byte() % 12 {
            0 => format!("sip:{user}@{}", LISTENERS[0]),
            1 => format!("sip:{user}@{}", script.pick(&PHONES)),
            2 => "sip:x@foreign.example.org".to_owned(),
            3 => "sip:x@foreign.example.org:5080;transport=tcp".to_owned(),
            4 => "sips:alice@example.com".to_owned(),
            5 => "tel:+15551234".to_owned(),
            6 => "sip:example.com".to_owned(),
            _ => format!("sip:{user}@example.com"),
        };
        let route = match script.byte() % 10 {
            0 => format!("Route: <sip:{};lr>\r\n", LISTENERS[1]),
            1 => format!("Route: <sip:{}>\r\n", script.pick(&PHONES)),
            2 => "Route: <sip:far.example.org;lr>, <sip:x@y>\r\n".to_owned(),
            3 => format!(
                "Route: <sip:{};lr>\r\nRoute: <sip:{};lr>\r\n",
                LISTENERS[0],
                script.pick(&PHONES)
            ),
            _ => String::new(),
        };
        let extra = script.pick(&EXTRAS);
        let branch = self.branch();
        let call = script.byte() % 8;
        let to_tag = if script.is_one_in(8) {
            ";tag=callee"
        } else {
            ""
        };
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {phone};branch={branch}\r\n{route}\
             From: <sip:a@example.com>;tag=caller\r\nTo: <{uri}>{to_tag}\r\nCall-ID: call-{call}\r\nCSeq: {} {method}\r\n\
             {extra}Contact: <sip:a@{phone}>\r\nContent-Length: 4\r\n\r\nbody",
            1 + call
        );
        self.receive(script, phone, text.into_bytes());
    }

    /// A user agent answers one of the requests that were sent on, perhaps not for the first time.
    fn answer(&mut self, script: &mut Script<'_>) {
        let Some(place) = script.place(self.wire.sent.len()) else {
            return;
        };
        let Passed { flow, bytes } = self.wire.sent[place].clone();
        let status = script.pick(&STATUSES);
        let tag = script.pick(&["callee", "other"]);
        let extra = script.pick(&[
            "",
            "Retry-After: 5\r\n",
            "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n",
            "Require: x\r\n",
        ]);
        let mut index = Index::new();
        let Parsed::Good(request) = sip::parse(&bytes, &mut index) else {
            return;
        };
        if !request.is_request() || request.method() == sip::Method::Ack {
            return;
        }
        let reply = Reply::new(&request, status, "Whatever")
            .to_tag(tag.as_bytes())
            .record_route(true)
            .headers(extra.as_bytes());
        let mut out = vec![0; reply.len()];
        if reply.write(&mut out).is_some() {
            self.deliver(script, Passed { flow, bytes: out });
        }
    }

    /// The caller acknowledges a final response: hop by hop, or end to end by the route that it learned.
    fn acknowledge(&mut self, script: &mut Script<'_>) {
        let Some(place) = script.place(self.wire.sent.len()) else {
            return;
        };
        let Passed { flow, bytes } = self.wire.sent[place].clone();
        let mut index = Index::new();
        let Parsed::Good(response) = sip::parse(&bytes, &mut index) else {
            return;
        };
        if response.is_request() || response.status() < 200 || response.cseq().method != b"INVITE" {
            return;
        }
        let text = |name| {
            String::from_utf8_lossy(response.header(name).map_or(b"", |field| field.value))
                .into_owned()
        };
        let (via, route) = if response.status() >= 300 {
            let via = String::from_utf8_lossy(response.top_via().bytes()).into_owned();
            (via, String::new())
        } else {
            let route = text(HeaderName::RecordRoute);
            let route = if route.is_empty() {
                route
            } else {
                format!("Route: {route}\r\n")
            };
            (
                format!("SIP/2.0/UDP {};branch={}", flow.peer, self.branch()),
                route,
            )
        };
        let uri = script.pick(&[
            "sip:alice@example.com",
            "sip:bob@example.com",
            "sip:alice@203.0.113.9:5070",
        ]);
        let ack = format!(
            "ACK {uri} SIP/2.0\r\nVia: {via}\r\n{route}Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\n\
             CSeq: {} ACK\r\nContent-Length: 0\r\n\r\n",
            text(HeaderName::From),
            text(HeaderName::To),
            String::from_utf8_lossy(response.call_id()),
            response.cseq().number
        );
        self.deliver(
            script,
            Passed {
                flow,
                bytes: ack.into_bytes(),
            },
        );
    }

    fn cancel(&mut self, script: &mut Script<'_>) {
        let Some(place) = script.place(self.received.len()) else {
            return;
        };
        let Passed { flow, bytes } = self.received[place].clone();
        if let Some(rest) = bytes.strip_prefix(b"INVITE ") {
            let text = String::from_utf8_lossy(rest).replacen(" INVITE\r\n", " CANCEL\r\n", 1);
            self.deliver(
                script,
                Passed {
                    flow,
                    bytes: format!("CANCEL {text}").into_bytes(),
                },
            );
        }
    }

    /// BYE or re-INVITE by the Record-Route of a request that was sent on, from either end.
    fn within_dialog(&mut self, script: &mut Script<'_>) {
        let Some(place) = script.place(self.wire.sent.len()) else {
            return;
        };
        let Passed { flow, bytes } = self.wire.sent[place].clone();
        let mut index = Index::new();
        let Parsed::Good(message) = sip::parse(&bytes, &mut index) else {
            return;
        };
        let Some(recorded) = message.header(HeaderName::RecordRoute) else {
            return;
        };
        let route = String::from_utf8_lossy(recorded.value).into_owned();
        let method = script.pick(&["BYE", "INVITE", "UPDATE", "ACK"]);
        let (from, to) = script.pick(&[
            ("caller", "callee"),
            ("callee", "caller"),
            ("caller", "stranger"),
        ]);
        let target = script.pick(&[
            "sip:alice@203.0.113.9:5070",
            "sip:bob@far.example.org",
            "sip:bob@example.com",
            "sip:10.0.0.9",
        ]);
        // A strict router puts the route into the Request-URI, and the target last.
        let (uri, route) = if script.is_one_in(4) {
            let uri = route
                .trim_start_matches('<')
                .split('>')
                .next()
                .unwrap_or_default()
                .to_owned();
            (uri, format!("<{target}>"))
        } else {
            (target.to_owned(), route)
        };
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch={}\r\nRoute: {route}\r\nMax-Forwards: 70\r\n\
             From: <sip:a@example.com>;tag={from}\r\nTo: <sip:b@example.com>;tag={to}\r\nCall-ID: {}\r\nCSeq: 7 {method}\r\n\
             Content-Length: 0\r\n\r\n",
            flow.peer,
            self.branch(),
            String::from_utf8_lossy(message.call_id())
        );
        self.deliver(
            script,
            Passed {
                flow,
                bytes: text.into_bytes(),
            },
        );
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
const METHODS: [&str; 12] = [
    "INVITE",
    "INVITE",
    "INVITE",
    "OPTIONS",
    "MESSAGE",
    "SUBSCRIBE",
    "REFER",
    "BYE",
    "ACK",
    "CANCEL",
    "FOO",
    "REGISTER",
];
const EXTRAS: [&str; 10] = [
    "Max-Forwards: 70\r\n",
    "Max-Forwards: 70\r\n",
    "Max-Forwards: 70\r\nMax-Breadth: 2\r\n",
    "Max-Forwards: 1\r\n",
    "Max-Forwards: 0\r\n",
    "",
    "Max-Forwards: 70\r\nProxy-Require: x\r\n",
    "Max-Forwards: 70\r\nRecord-Route: <sip:10.1.1.1;lr>\r\nVia: SIP/2.0/UDP 10.1.1.1;branch=z9hG4bKb\r\n",
    "Max-Forwards: 70\r\nMax-Breadth: 0\r\n",
    "Max-Forwards: 70\r\nExpires: 1\r\nRequire: 100rel\r\nSupported: path\r\n",
];
const STATUSES: [u16; 18] = [
    100, 180, 183, 200, 200, 202, 301, 400, 401, 404, 407, 408, 480, 486, 487, 500, 503, 603,
];
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
const REMEMBERED_MAX: usize = 64;
/// How many messages to ourselves one message may become before they get lost.
const LOOPED_MAX: usize = 100;
const TIMEOUTS_MAX: usize = 100_000;
const QUESTIONS_MAX: usize = 10_000;
/// A byte that no message here has.
const UNWRITTEN: u8 = 0xFF;
