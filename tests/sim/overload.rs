//! Ten times more calls than can be done, in virtual CPU time: one real core behind a queue that holds as much as a NIC's, whose
//! processor takes its time for each message, and callers who do not wait for each other and send again as RFC 3261 says.
//!
//! What a message takes is in the proportions that were measured (docs/performance.md), a hundredfold, so that a second of it
//! is few enough calls: a call 2 ms, a 503 and its ACK a twentieth of that, a glance at what is dropped a four-hundredth.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use strowger::counters::{Counter, Counters};
use strowger::datagram::{Datagram, Flow, ListenerId, Transport, WorkerId};
use strowger::limits::{BATCH, FRAMES_PER_HALF};
use strowger::location::{Location, LocationSettings};
use strowger::proxy::domains::Domains;
use strowger::proxy::register::{Registrar, RegistrarSettings};
use strowger::proxy::{
    Keys, Listener, MailboxFull, Output, Proxy, Question, ResolverFull, SendError, Settings,
    StoreFull, SubscriberQuestion,
};
use strowger::time::Instant;

const PROXY: &str = "192.0.2.1:5060";
const CALLER: &str = "203.0.113.5:5060";
const CALLEE: &str = "203.0.113.9:5060";

/// What each message takes of the processor, in microseconds.
const GLANCE_US: u64 = 5;
const REFUSED_US: u64 = 70;
const ABSORBED_US: u64 = 30;
const TAKEN_US: u64 = 100;
const SENT_US: u64 = 200;
/// A call: six messages taken, seven sent.
const CALL_US: u64 = 6 * TAKEN_US + 7 * SENT_US;
/// One way between a phone and the server.
const WAY_US: u64 = 500;
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

/// What happens at some moment, in microseconds.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A message reaches the server's queue, from this address.
    Arrives(SocketAddr, Vec<u8>),
    /// A message reaches a phone.
    Reaches(SocketAddr, Vec<u8>),
    /// The caller of this number looks whether it has been answered: its INVITE, and how often it was sent.
    Again(u32, u32),
}

/// One core, its queue, its processor and its phones.
struct World {
    proxy: Proxy,
    counters: Arc<Counters>,
    queue: VecDeque<(SocketAddr, Vec<u8>)>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    serial: u64,
    /// Calls that wait for their final response, by number.
    waiting: HashMap<u32, u64>,
    /// When each call that was established was hung up, by its second.
    done: Vec<u64>,
}

impl World {
    fn new() -> Self {
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
            queue: VecDeque::new(),
            events: BinaryHeap::new(),
            serial: 0,
            waiting: HashMap::new(),
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

    fn at(&mut self, at_us: u64, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((at_us, self.serial, event)));
    }

    /// The processor takes one message; gives how long that takes it.
    fn take(&mut self, now_us: u64, peer: SocketAddr, bytes: &[u8]) -> u64 {
        let datagram = Datagram {
            bytes,
            flow: Flow {
                listener: ListenerId(0),
                transport: Transport::Udp,
                peer,
            },
            received_at: moment(now_us),
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
        self.proxy.on_datagram(moment(now_us), &datagram, &mut exit);
        let after = count(&self.counters);
        let sent = exit.0.len() as u64;
        for (to, bytes) in exit.0 {
            self.at(now_us + WAY_US, Event::Reaches(to, bytes));
        }
        let costs = [GLANCE_US, REFUSED_US, ABSORBED_US];
        let special = (0..3).find(|place| after[*place] > before[*place]);
        special.map_or(TAKEN_US + sent * SENT_US, |place| costs[place])
    }

    /// Everything that happens up to `until_us` outside of the server.
    fn happen(&mut self, until_us: u64) {
        while let Some(Reverse((at_us, ..))) = self.events.peek()
            && *at_us <= until_us
        {
            let Some(Reverse((at_us, _, event))) = self.events.pop() else {
                return;
            };
            match event {
                // What finds no room is lost, as by a NIC.
                Event::Arrives(from, bytes) if self.queue.len() < FRAMES_PER_HALF => {
                    self.queue.push_back((from, bytes));
                }
                Event::Arrives(..) => {}
                Event::Reaches(phone, bytes) => self.answer(at_us, phone, &bytes),
                Event::Again(number, times) => self.send_invite(at_us, number, times),
            }
        }
    }

    /// A caller sends its INVITE, and sends it again while nobody answers (Timer A).
    fn send_invite(&mut self, now_us: u64, number: u32, times: u32) {
        let begun_us = *self.waiting.entry(number).or_insert(now_us);
        if times > 0 && (begun_us == 0 || now_us > begun_us + PATIENCE_US) {
            return;
        }
        let invite = format!(
            "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bKi{number}\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@example.com>;tag={number}\r\nTo: <sip:bob@example.com>\r\nCall-ID: {number}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:alice@{CALLER}>\r\nContent-Length: 0\r\n\r\n"
        );
        let from = CALLER.parse().expect("an address");
        self.at(now_us + WAY_US, Event::Arrives(from, invite.into_bytes()));
        self.at(now_us + (500_000 << times), Event::Again(number, times + 1));
    }

    /// A phone takes a message.
    fn answer(&mut self, now_us: u64, phone: SocketAddr, bytes: &[u8]) {
        let said = Said(String::from_utf8_lossy(bytes).into_owned());
        let (number, cseq) = (said.number(), said.line("CSeq:"));
        let mut answers = Vec::new();
        if said.0.starts_with("INVITE") {
            answers.push(said.respond("180 Ringing", ""));
            let contact = format!("Contact: <sip:bob@{CALLEE}>\r\n");
            answers.push(said.respond("200 OK", &contact));
        } else if said.0.starts_with("BYE") {
            answers.push(said.respond("200 OK", ""));
        } else if said.0.starts_with("SIP/2.0 200") && cseq.ends_with("INVITE") {
            answers.push(said.request("ACK", 1));
            // A 200 that comes again is acknowledged again, and that is all.
            if self.waiting.insert(number, 0) != Some(0) {
                answers.push(said.request("BYE", 2));
            }
        } else if said.0.starts_with("SIP/2.0 200") && cseq.ends_with("BYE") {
            self.done.push(now_us);
        } else if said.0.starts_with("SIP/2.0 5") {
            self.waiting.insert(number, 0);
            answers.push(said.acknowledge());
        }
        for answer in answers {
            self.at(now_us + WAY_US, Event::Arrives(phone, answer.into_bytes()));
        }
    }

    /// `rate` calls a second for `span_s` seconds from `from_us` on; gives how many ended well in each second. Numbers begin at `first`.
    fn run(&mut self, rate: u64, (from_us, span_s): (u64, u64), first: u32) -> Vec<u64> {
        for call in 0..rate * span_s {
            let at_us = from_us + call * 1_000_000 / rate;
            let number = first + u32::try_from(call).expect("few calls");
            self.at(at_us, Event::Again(number, 0));
        }
        self.done.clear();
        let end_us = from_us + span_s * 1_000_000;
        let mut now_us = from_us;
        while now_us < end_us {
            self.happen(now_us);
            let batch = self.queue.len().min(BATCH);
            let begun_us = now_us;
            for _ in 0..batch {
                if let Some((from, bytes)) = self.queue.pop_front() {
                    now_us += self.take(now_us, from, &bytes);
                }
            }
            self.proxy.observe_backlog(moment(begun_us), batch == BATCH);
            let mut exit = Exit::default();
            self.proxy.on_timeout(moment(now_us), &mut exit);
            for (to, bytes) in exit.0 {
                now_us += SENT_US;
                self.at(now_us + WAY_US, Event::Reaches(to, bytes));
            }
            if batch == 0 {
                now_us += 100;
            }
        }
        let mut seconds = vec![0; usize::try_from(span_s).expect("few")];
        for at_us in &self.done {
            let second = usize::try_from((at_us - from_us) / 1_000_000).expect("few");
            if let Some(count) = seconds.get_mut(second) {
                *count += 1;
            }
        }
        seconds
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

fn moment(us: u64) -> Instant {
    Instant::from_micros(1_800_000_000_000_000 + us)
}

/// Calls that end well a second, once it has gone on for three.
fn steady(seconds: &[u64]) -> u64 {
    let steady = &seconds[3..];
    steady.iter().sum::<u64>() / steady.len() as u64
}

#[test]
fn ten_times_as_many_calls_as_can_be_done_cost_a_tenth_of_them_at_most() {
    let capacity = 1_000_000 / CALL_US;
    let mut peak = 0;
    for percent in [80, 90, 100, 110] {
        let calls = World::new().run(capacity * percent / 100, (1_000_000, 8), 0);
        peak = peak.max(steady(&calls));
    }
    let mut world = World::new();
    let overloaded = world.run(capacity * 10, (1_000_000, 10), 0);
    let goodput = steady(&overloaded);
    println!(
        "capacity {capacity}, peak {peak}, at ten times as many {goodput} calls/s: {overloaded:?}"
    );
    assert!(goodput * 10 >= peak * 9, "{goodput} of {peak}");

    // What waits dies out; two seconds later it is as if nothing had been.
    let after = world.run(capacity / 2, (11_000_000, 6), 1_000_000);
    let normal = capacity / 2;
    println!("afterwards {after:?} of {normal} calls/s");
    assert!(
        after[2..5].iter().all(|calls| *calls + 5 >= normal),
        "{after:?}"
    );
}
