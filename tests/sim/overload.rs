//! Ten times more calls than can be done, in virtual CPU time: one real core behind a queue that holds as much as a NIC's, whose
//! processor takes its time for each message, and callers who do not wait for each other and send again as RFC 3261 says.
//!
//! The processor is charged what the core itself was measured to take, for each kind of work in the same run (`cargo bench --bench
//! proxy_core -- call refusal glance`, docs/performance.md), times [`SLOWER`], so that a second holds few enough calls. The rings are
//! charged to nobody: the NIC puts what comes into memory, and what finds no room there is lost at no cost.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use strowger::counters::{Counter, Counters};
use strowger::datagram::{Datagram, Flow, ListenerId, Transport, WorkerId};
use strowger::limits::{BATCH, FRAMES_TO_RECEIVE, OVERLOAD_WINDOW};
use strowger::location::{Location, LocationSettings};
use strowger::proxy::domains::Domains;
use strowger::proxy::register::{Registrar, RegistrarSettings};
use strowger::proxy::{
    Backlog, Keys, Listener, MailboxFull, Output, Proxy, Question, ResolverFull, SendError,
    Settings, StoreFull, SubscriberQuestion,
};
use strowger::time::Instant;

use crate::sim::random::Random;

const PROXY: &str = "192.0.2.1:5060";
const CALLER: &str = "203.0.113.5:5060";
const CALLEE: &str = "203.0.113.9:5060";

/// What each message takes of the processor, in nanoseconds.
mod cost {
    /// An INVITE that is dropped.
    pub(super) const GLANCE: u64 = 15;
    /// An INVITE that is answered 503, and its ACK: half for each.
    pub(super) const REFUSAL: u64 = 1_000;
    /// A whole call, of which each message that is taken is a sixth.
    pub(super) const CALL: u64 = 13_000;
    /// A message that a timer sends again.
    pub(super) const REPEATED: u64 = 200;
}
/// The processor is so many times slower than the measured one.
const SLOWER: u64 = 75;
/// Calls that it can do in a second.
const CAPACITY: u64 = 1_000_000_000 / (cost::CALL * SLOWER);
/// One way between a phone and the server, in microseconds, and by how much it differs.
const WAY_US: (u64, u64) = (500, 200);
/// A caller who hears nothing for so long hangs up.
const PATIENCE_US: u64 = 4_000_000;

#[derive(Default)]
struct Exit(Vec<(SocketAddr, Vec<u8>)>);

impl Output for Exit {
    fn send(
        &mut self,
        flow: &Flow,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        let mut bytes = vec![0; len];
        write(&mut bytes);
        self.0.push((flow.peer, bytes));
        Ok(())
    }

    fn hand_off(&mut self, _: WorkerId, _: &Datagram<'_>) -> Result<(), MailboxFull> {
        Err(MailboxFull)
    }

    fn resolve(&mut self, _: &Question<'_>) -> Result<(), ResolverFull> {
        Err(ResolverFull)
    }

    fn ask_subscriber(&mut self, _: &SubscriberQuestion<'_>) -> Result<(), StoreFull> {
        Err(StoreFull)
    }

    fn want_rows(&mut self, _: &[u8]) -> Result<(), StoreFull> {
        Err(StoreFull)
    }

    fn is_connected(&self, _: &Flow) -> bool {
        false
    }
}

/// What happens at some moment.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A message reaches the server's queue, from this address.
    Arrives(SocketAddr, Vec<u8>),
    /// A message reaches a phone.
    Reaches(SocketAddr, Vec<u8>),
    /// The caller of this number looks whether it has been answered; so often it has sent its INVITE.
    Again(u32, u32),
}

/// How a call stands, to its caller.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    /// Nothing has come since it was begun, then.
    Unheard(u64),
    /// It is in progress.
    Heard,
    Established,
    Refused,
}

/// One core, its queue, its processor and its phones. Times are nanoseconds.
struct World {
    proxy: Proxy,
    counters: Arc<Counters>,
    random: Random,
    queue: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Messages that found no room, and whether there were any when it was last asked.
    lost: u64,
    told: (u64, bool),
    next_look: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    serial: u64,
    calls: HashMap<u32, Call>,
    /// Callers below this number have gone.
    first: u32,
    /// When each call that was established was hung up, and what number it had.
    done: Vec<(u64, u32)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let keys = Keys {
            steering: [1; 16],
            transactions: [2; 16],
            branches: vec![[3; 16]],
            tokens: vec![[4; 16]],
            tags: vec![[5; 16]],
            nonces: vec![[6; 16]],
        };
        let address: SocketAddr = PROXY.parse().expect("an address");
        let listeners = vec![Listener::new(ListenerId(0), address)];
        let settings = Settings::alone(keys, listeners, &["example.com"]);
        let location = Arc::new(Location::new(&LocationSettings {
            hash_key: [9; 16],
            bindings_max: 10,
            contacts_max: 10,
        }));
        let domains = Arc::new(Domains::new(["example.com"], [address.ip()]));
        let registrar = RegistrarSettings {
            keys: vec![[4; 16]],
            ..RegistrarSettings::default()
        };
        let registrar = Registrar::new(Arc::clone(&location), domains, registrar);
        let counters = Arc::new(Counters::new());
        let proxy = Proxy::new(settings, location, registrar, Arc::clone(&counters));
        let mut world = Self {
            proxy,
            counters,
            random: Random::new(seed),
            queue: VecDeque::new(),
            lost: 0,
            told: (0, false),
            next_look: 0,
            events: BinaryHeap::new(),
            serial: 0,
            calls: HashMap::new(),
            first: 0,
            done: Vec::new(),
        };
        let register = format!(
            "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {CALLEE};branch=z9hG4bKr\r\nMax-Forwards: 70\r\n\
             From: <sip:bob@example.com>;tag=r\r\nTo: <sip:bob@example.com>\r\nCall-ID: r\r\nCSeq: 1 REGISTER\r\n\
             Contact: <sip:bob@{CALLEE}>\r\nContent-Length: 0\r\n\r\n"
        );
        world.take(1, CALLEE.parse().expect("an address"), register.as_bytes());
        world
    }

    fn at(&mut self, at: u64, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((at, self.serial, event)));
    }

    /// The way from here to there.
    fn way(&mut self) -> u64 {
        let (way, more) = WAY_US;
        (way + self.random.below(more)) * 1_000
    }

    /// The processor takes one message; gives how long that takes it.
    fn take(&mut self, now: u64, peer: SocketAddr, bytes: &[u8]) -> u64 {
        let datagram = Datagram {
            bytes,
            flow: Flow {
                listener: ListenerId(0),
                transport: Transport::Udp,
                peer,
            },
            received_at: moment(now),
            handed_off: false,
        };
        let count = |counters: &Counters| {
            [
                Counter::DropOverload,
                Counter::RefusedOverload,
                Counter::AcksAbsorbed,
            ]
            .map(|counter| counters.read(counter))
        };
        let before = count(&self.counters);
        let mut exit = Exit::default();
        self.proxy.on_datagram(moment(now), &datagram, &mut exit);
        let after = count(&self.counters);
        let special = (0..3).find(|place| after[*place] > before[*place]);
        let costs = [cost::GLANCE, cost::REFUSAL / 2, cost::REFUSAL / 2];
        let taken = special.map_or(cost::CALL / 6, |place| costs[place]);
        self.send(now, exit);
        taken * SLOWER
    }

    fn send(&mut self, now: u64, exit: Exit) {
        for (to, bytes) in exit.0 {
            let way = self.way();
            self.at(now + way, Event::Reaches(to, bytes));
        }
    }

    /// Everything that happens until then outside of the server.
    fn happen(&mut self, until: u64) {
        while let Some(Reverse((at, ..))) = self.events.peek()
            && *at <= until
        {
            let Some(Reverse((at, _, event))) = self.events.pop() else {
                return;
            };
            match event {
                Event::Arrives(from, bytes) if self.queue.len() < FRAMES_TO_RECEIVE => {
                    self.queue.push_back((from, bytes));
                }
                // What finds no room is lost, as by a NIC.
                Event::Arrives(..) => self.lost += 1,
                Event::Reaches(phone, bytes) => self.answer(at, phone, &bytes),
                Event::Again(number, times) => self.send_invite(at, number, times),
            }
        }
    }

    /// A caller sends its INVITE, and sends it again while nothing comes (Timer A).
    fn send_invite(&mut self, now: u64, number: u32, times: u32) {
        if number < self.first {
            return;
        }
        match *self.calls.entry(number).or_insert(Call::Unheard(now)) {
            Call::Unheard(begun) if now <= begun + PATIENCE_US * 1_000 => {}
            Call::Unheard(_) | Call::Heard | Call::Established | Call::Refused => return,
        }
        let invite = format!(
            "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bKi{number}\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@example.com>;tag={number}\r\nTo: <sip:bob@example.com>\r\nCall-ID: {number}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:alice@{CALLER}>\r\nContent-Length: 0\r\n\r\n"
        );
        let from = CALLER.parse().expect("an address");
        let way = self.way();
        self.at(now + way, Event::Arrives(from, invite.into_bytes()));
        let pause = 500_000_000 << times;
        self.at(now + pause, Event::Again(number, times + 1));
    }

    /// A phone takes a message.
    fn answer(&mut self, now: u64, phone: SocketAddr, bytes: &[u8]) {
        let said = Said(String::from_utf8_lossy(bytes).into_owned());
        let (number, cseq) = (said.number(), said.line("CSeq:"));
        let mut answers = Vec::new();
        if said.0.starts_with("INVITE") {
            answers.push(said.respond("180 Ringing", ""));
            let contact = format!("Contact: <sip:bob@{CALLEE}>\r\n");
            answers.push(said.respond("200 OK", &contact));
        } else if said.0.starts_with("BYE") {
            answers.push(said.respond("200 OK", ""));
        } else if said.0.starts_with("SIP/2.0 1") {
            if let Some(Call::Unheard(_)) = self.calls.get(&number) {
                self.calls.insert(number, Call::Heard);
            }
        } else if said.0.starts_with("SIP/2.0 200") && cseq.ends_with("INVITE") {
            answers.push(said.request("ACK", 1));
            // A 200 that comes again is acknowledged again, and that is all.
            if self.calls.insert(number, Call::Established) != Some(Call::Established) {
                answers.push(said.request("BYE", 2));
            }
        } else if said.0.starts_with("SIP/2.0 200") && cseq.ends_with("BYE") {
            self.done.push((now, number));
        } else if said.0.starts_with("SIP/2.0 5") {
            self.calls.insert(number, Call::Refused);
            answers.push(said.acknowledge());
        }
        for answer in answers {
            let way = self.way();
            self.at(now + way, Event::Arrives(phone, answer.into_bytes()));
        }
    }

    /// How the queue stands, as a worker finds it: what was lost is asked once a window, and only where more waits.
    fn backlog(&mut self, now: u64, is_full: bool) -> Backlog {
        if !is_full {
            return Backlog::Short;
        }
        if now >= self.next_look {
            self.told = (self.lost, self.lost != self.told.0);
            self.next_look = now + OVERLOAD_WINDOW.as_micros() * 1_000;
        }
        if self.told.1 {
            Backlog::Overflowing
        } else {
            Backlog::Full
        }
    }

    /// `rate` calls a second for `span_s` seconds from `from_s` on; gives how many of them ended well in each second. Numbers begin at
    /// `first`; callers of lower ones ask no more, and what is left of their calls counts for nothing.
    fn run(&mut self, rate: u64, (from_s, span_s): (u64, u64), first: u32) -> Vec<u64> {
        const SECOND: u64 = 1_000_000_000;
        let gap = SECOND / rate;
        for call in 0..rate * span_s {
            let at = from_s * SECOND + call * gap + self.random.below(gap);
            let number = first + u32::try_from(call).expect("few calls");
            self.at(at, Event::Again(number, 0));
        }
        self.done.clear();
        self.first = first;
        let mut now = from_s * SECOND;
        while now < (from_s + span_s) * SECOND {
            now += self.turn(now);
        }
        let mut seconds = vec![0; usize::try_from(span_s).expect("few")];
        for (at, _) in self.done.iter().filter(|(_, number)| *number >= first) {
            let second = usize::try_from(at / SECOND - from_s).expect("few");
            if let Some(count) = seconds.get_mut(second) {
                *count += 1;
            }
        }
        seconds
    }

    /// A turn of the worker; gives how long it took.
    fn turn(&mut self, begun: u64) -> u64 {
        self.happen(begun);
        let mut now = begun;
        let batch = self.queue.len().min(BATCH);
        for _ in 0..batch {
            if let Some((from, bytes)) = self.queue.pop_front() {
                now += self.take(now, from, &bytes);
            }
        }
        let backlog = self.backlog(begun, batch == BATCH);
        self.proxy.observe_backlog(moment(begun), backlog);
        if self
            .proxy
            .next_deadline()
            .is_some_and(|due| due <= moment(now))
        {
            let mut exit = Exit::default();
            self.proxy.on_timeout(moment(now), &mut exit);
            now += exit.0.len() as u64 * cost::REPEATED * SLOWER;
            self.send(now, exit);
        }
        if batch == 0 {
            // It sleeps until something happens.
            let next = self.events.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
            now = next.clamp(now + 1_000, now + 1_000_000);
        }
        now - begun
    }
}

/// What a phone was told, and what it says to that.
struct Said(String);

impl Said {
    fn line(&self, name: &str) -> &str {
        let mut lines = self.0.lines();
        lines.find(|line| line.starts_with(name)).unwrap_or("")
    }

    fn lines(&self, name: &str) -> String {
        let lines = self.0.lines().filter(|line| line.starts_with(name));
        lines.map(|line| format!("{line}\r\n")).collect()
    }

    fn number(&self) -> u32 {
        let number = self.line("Call-ID:").strip_prefix("Call-ID: ");
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    fn common(&self) -> String {
        format!("{}\r\n{}\r\n", self.line("From:"), self.line("Call-ID:"))
    }

    fn respond(&self, status: &str, more: &str) -> String {
        let to = self.line("To:");
        let tag = if to.contains("tag=") { "" } else { ";tag=b" };
        format!(
            "SIP/2.0 {status}\r\n{}{}{}{to}{tag}\r\n{}\r\n{more}Content-Length: 0\r\n\r\n",
            self.lines("Via:"),
            self.lines("Record-Route:"),
            self.common(),
            self.line("CSeq:")
        )
    }

    /// A request within the dialog: by the proxy's Record-Route, which is the only one (RFC 3261 12.2.1.1).
    fn request(&self, method: &str, cseq: u32) -> String {
        let number = self.number();
        let route = self
            .lines("Record-Route:")
            .replacen("Record-Route", "Route", 1);
        format!(
            "{method} sip:bob@{CALLEE} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK{method}{number}\r\n\
             Max-Forwards: 70\r\n{route}{}{}\r\nCSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n",
            self.common(),
            self.line("To:")
        )
    }

    /// The ACK of a refusal (RFC 3261 17.1.1.3).
    fn acknowledge(&self) -> String {
        let number = self.number();
        format!(
            "ACK sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bKi{number}\r\nMax-Forwards: 70\r\n\
             {}{}\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
            self.common(),
            self.line("To:")
        )
    }
}

fn moment(ns: u64) -> Instant {
    Instant::from_micros(1_800_000_000_000_000 + ns / 1_000)
}

/// Calls that end well a second, once it has gone on for three.
fn steady(seconds: &[u64]) -> u64 {
    let steady = &seconds[3..];
    steady.iter().sum::<u64>() / steady.len() as u64
}

/// The most that is done, whatever is offered near to what can be done.
fn peak(seed: u64) -> u64 {
    let of = |percent| World::new(seed).run(CAPACITY * percent / 100, (1, 6), 0);
    let peak = [80, 90, 95, 100, 105, 110].map(|percent| steady(&of(percent)));
    peak.into_iter().max().unwrap_or(0)
}

/// So many times what can be done, and then half of it.
fn overload(seed: u64, times: u64, peak: u64) {
    let mut world = World::new(seed);
    let seconds = world.run(CAPACITY * times, (1, 8), 0);
    let goodput = steady(&seconds);
    let turned_away = [Counter::RefusedOverload, Counter::DropOverload]
        .map(|counter| world.counters.read(counter));
    println!(
        "seed {seed}: capacity {CAPACITY}, peak {peak}, {times} times as many: {goodput} calls/s ({:.1} %): {seconds:?}; refused, dropped: \
         {turned_away:?}; lost {}",
        100.0 * goodput as f64 / peak as f64,
        world.lost
    );
    assert!(goodput * 10 >= peak * 9, "{goodput} of {peak}");

    // The load is gone; two seconds later it is as if nothing had been.
    let normal = CAPACITY / 2;
    let after = world.run(normal, (9, 5), 10_000_000);
    println!("seed {seed}: afterwards {after:?} of {normal} calls/s");
    let is_normal = |calls: &u64| *calls * 100 >= normal * 97;
    assert!(after[2..].iter().all(is_normal), "{after:?} of {normal}");
    assert!(!world.proxy.is_overloaded());
}

#[test]
fn overload_costs_a_tenth_of_the_calls_at_most() {
    std::thread::scope(|scope| {
        for seed in 1..=SEEDS {
            scope.spawn(move || {
                let peak = peak(seed);
                assert!(peak * 100 >= CAPACITY * 95, "{peak} of {CAPACITY}");
                for times in [2, 10] {
                    overload(seed, times, peak);
                }
            });
        }
    });
}

/// Worlds that are tried, each with lots of its own.
const SEEDS: u64 = 3;
