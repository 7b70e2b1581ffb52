//! After warm-up the hot path allocates nothing: a counting allocator proves it.
//!
//! The allocator counts what the thread under test takes while [`allocations_in`] runs, and nothing else: the test harness's
//! own threads go uncounted. Each test warms its part up, then counts.
#![expect(
    unsafe_code,
    reason = "an allocator that counts is an unsafe trait's implementation"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use strowger::counters::Counters;
use strowger::datagram::{Datagram, Flow, ListenerId, Transport, WorkerId};
use strowger::location::{
    Change, Location, LocationSettings, Registration, Rows, SweepCursor, Taken, Targets,
};
use strowger::proxy::domains::Domains;
use strowger::proxy::register::{RegisterScratch, Registrar, RegistrarSettings};
use strowger::proxy::{
    Keepalive, KeepaliveSettings, Keys, Listener, MailboxFull, Output, Proxy, Question, QuestionId,
    ResolverFull, SendError, Settings, StoreFull, SubscriberQuestion,
};
use strowger::resolve::{self, Resolver};
use strowger::sip::{Index, Parsed, Reply, parse};
use strowger::time::{Duration, Instant};
use strowger::timer::Wheel;

struct Counting;

thread_local! {
    /// `None` while this thread is not counted.
    static TAKEN: Cell<Option<u64>> = const { Cell::new(None) };
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending has no counter any more.
        let _ = TAKEN.try_with(|taken| taken.set(taken.get().map(|count| count + 1)));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` by `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations `work` makes on this thread.
fn allocations_in(work: impl FnOnce()) -> u64 {
    TAKEN.with(|taken| taken.set(Some(0)));
    work();
    TAKEN.with(|taken| taken.take()).unwrap_or_default()
}

const START: Instant = Instant::from_micros(1_700_000_000_000_000);

fn at(secs: u64) -> Instant {
    START + Duration::from_secs(secs)
}

fn flow() -> Flow {
    let peer = "198.51.100.7:40000".parse().expect("an address");
    Flow {
        listener: ListenerId(0),
        transport: Transport::Udp,
        peer,
    }
}

/// A registrar and what a worker keeps beside it.
struct Phones {
    location: Arc<Location>,
    registrar: Registrar,
    index: Index,
    scratch: RegisterScratch,
    reply: Vec<u8>,
}

impl Phones {
    fn new() -> Self {
        let settings = LocationSettings {
            hash_key: [1; 16],
            bindings_max: 10_000,
            contacts_max: 10,
        };
        let location = Arc::new(Location::new(&settings));
        let domains = Arc::new(Domains::new(["example.com"], []));
        let settings = RegistrarSettings {
            expires_default_s: 3_600,
            expires_min_s: 60,
            expires_max_s: 7_200,
            use_domain: false,
            ..RegistrarSettings::default()
        };
        let registrar = Registrar::new(Arc::clone(&location), domains, settings);
        let reply = vec![0; 4_096];
        Self {
            location,
            registrar,
            index: Index::new(),
            scratch: RegisterScratch::new(),
            reply,
        }
    }

    /// Parses a REGISTER, serves it, and writes the answer; gives its status.
    fn serve(&mut self, now: Instant, bytes: &[u8]) -> u16 {
        let Parsed::Good(message) = parse(bytes, &mut self.index) else {
            return 0;
        };
        let answer = self
            .registrar
            .register(now, &message, &flow(), &mut self.scratch);
        let reply = Reply::new(&message, answer.status, answer.reason)
            .to_tag(b"tag")
            .received(flow().peer)
            .headers(answer.headers);
        reply.write(&mut self.reply).map_or(0, |_| answer.status)
    }
}

fn register(user: u32, call_id: &str, cseq: u32, expires_s: u32) -> Vec<u8> {
    format!(
        "REGISTER sip:example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP 10.0.0.5:5060;rport;branch=z9hG4bK{cseq}-{user}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:user{user}@example.com>;tag=a{user}\r\n\
         To: <sip:user{user}@example.com>\r\n\
         Call-ID: {call_id}\r\n\
         CSeq: {cseq} REGISTER\r\n\
         Supported: path\r\n\
         Path: <sip:edge.example.com;lr>\r\n\
         Contact: <sip:user{user}@10.0.0.5:5060;ob>;q=0.5;expires={expires_s};+sip.instance=\"<urn:uuid:1>\"\r\n\
         User-Agent: Phone/1.0\r\n\
         Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations_in(|| drop(vec![0_u8; 100])), 1);
    assert_eq!(allocations_in(|| ()), 0);
}

#[test]
fn changes_are_copied_out_for_the_store_and_settled_without_an_allocation() {
    let settings = LocationSettings {
        hash_key: [1; 16],
        bindings_max: 10_000,
        contacts_max: 10,
    };
    let location = Location::new(&settings).with_store(b"uloc-0-1-", false);
    let mut targets = Targets::new();
    let (mut rows, mut taken) = (Rows::with_capacity(500), Taken::new());
    let mut cursor = SweepCursor::new(0, 1);
    let mut round = |cseq: u32| {
        for user in 0..200_u32 {
            let mut aor = *b"user0000";
            for (place, digit) in [1_000, 100, 10, 1].into_iter().enumerate() {
                aor[4 + place] = b'0' + u8::try_from(user / digit % 10).expect("a digit");
            }
            let registration = Registration {
                call_id: b"a-call-id@10.0.0.5",
                cseq,
                user_agent: b"Phone/1.0",
                path: b"",
                flow: flow(),
            };
            let change = Change {
                uri: b"sip:user@10.0.0.5:5060",
                expires: Duration::from_secs(600),
                q: None,
                received: true,
                instance: b"",
                reg_id: 0,
            };
            let applied = location.apply(START, &aor, &registration, &[change], &mut targets);
            assert_eq!(applied.0, Ok(()));
        }
        loop {
            let _ = location.collect(START, &mut cursor, &mut rows, &mut taken, 500);
            if cursor.is_at_start() {
                break;
            }
        }
        assert_eq!(rows.len(), 200);
        assert_eq!(location.settle(&rows, &mut taken, true, 0, 500), None);
        rows.clear();
    };
    round(1);
    round(2);
    assert_eq!(allocations_in(|| round(3)), 0);
    assert_eq!(location.waiting(None), 0);
}

#[test]
fn a_register_refresh_allocates_nothing() {
    let mut phones = Phones::new();
    // Warm-up: every phone is there and has refreshed once.
    for cseq in [1, 2] {
        for user in 0..50 {
            assert_eq!(
                phones.serve(at(0), &register(user, "call-aaaa", cseq, 600)),
                200
            );
        }
    }
    let refreshes: Vec<_> = (0..50)
        .map(|user| register(user, "call-aaaa", 3, 600))
        .collect();
    let others: Vec<_> = (0..50)
        .map(|user| register(user, "call-bbbb", 1, 600))
        .collect();
    let brief = register(7, "call-aaaa", 4, 5);
    let count = allocations_in(|| {
        for (refresh, other) in refreshes.iter().zip(&others) {
            assert_eq!(phones.serve(at(1), refresh), 200, "a refresh");
            assert_eq!(phones.serve(at(2), refresh), 200, "its retransmission");
            assert_eq!(
                phones.serve(at(3), other),
                200,
                "one with another Call-ID of the same length"
            );
        }
        assert_eq!(phones.serve(at(4), &brief), 423);
    });
    assert_eq!(count, 0);
}

#[test]
fn a_lookup_and_a_sweep_allocate_nothing() {
    let mut phones = Phones::new();
    for user in 0..50 {
        assert_eq!(phones.serve(at(0), &register(user, "call", 1, 600)), 200);
    }
    let mut targets = Targets::new();
    let mut cursor = SweepCursor::new(0, 1);
    let count = allocations_in(|| {
        phones.location.lookup(at(1), b"user7", &mut targets);
        assert_eq!(targets.len(), 1);
        assert!(
            phones
                .location
                .registered_contact(at(1), b"sip:user7@10.0.0.5")
                .is_some()
        );
        for _ in 0..strowger::limits::LOCATION_SHARDS {
            phones.location.sweep(at(601), &mut cursor, 1_000);
        }
        assert_eq!(phones.location.bindings(), 0);
    });
    assert_eq!(count, 0);
}

/// An exit that keeps the last message and no more.
struct LastSent {
    buffer: Vec<u8>,
    len: usize,
}

impl Output for LastSent {
    fn send(
        &mut self,
        _: &Flow,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        write(self.buffer.get_mut(..len).ok_or(SendError::TooLarge)?);
        self.len = len;
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

/// A whole core with phones around it; what is counted is only what the core allocates.
struct Calls {
    proxy: Proxy,
    sent: LastSent,
    now: Instant,
    allocations: u64,
}

impl Calls {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let phones = Phones::new();
        let listener = Listener::new(ListenerId(0), "192.0.2.1:5060".parse().expect("an address"));
        let keys = Keys {
            branches: vec![[1; 16]],
            tokens: vec![[2; 16]],
            tags: vec![[3; 16]],
            nonces: vec![[6; 16]],
            ..Keys::default()
        };
        let mut settings = Settings::alone(keys, vec![listener], &["example.com"]);
        change(&mut settings);
        let counters = Arc::new(Counters::new());
        let proxy = Proxy::new(settings, phones.location, phones.registrar, counters);
        let sent = LastSent {
            buffer: vec![0; 65_536],
            len: 0,
        };
        let mut calls = Self {
            proxy,
            sent,
            now: START,
            allocations: 0,
        };
        let bob = String::from_utf8(register(7, "call-aaaa", 1, 7_200)).expect("text");
        calls.receive(&bob.replace("Path: <sip:edge.example.com;lr>\r\n", ""));
        calls
    }

    /// A message arrives; gives the last that was sent for it.
    fn receive(&mut self, text: &str) -> String {
        let datagram = Datagram {
            bytes: text.as_bytes(),
            flow: flow(),
            received_at: self.now,
            handed_off: false,
        };
        let (proxy, sent, now) = (&mut self.proxy, &mut self.sent, self.now);
        self.allocations += allocations_in(|| {
            proxy.on_datagram(now, &datagram, sent);
        });
        String::from_utf8_lossy(&self.sent.buffer[..self.sent.len]).into_owned()
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(due) = self.proxy.next_deadline().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            let (proxy, sent, now) = (&mut self.proxy, &mut self.sent, self.now);
            self.allocations += allocations_in(|| proxy.on_timeout(now, sent));
        }
        self.now = end;
    }

    /// A call from INVITE to BYE; every other one is refused by the callee instead.
    fn call(&mut self, number: u32) {
        let relayed = self.receive(&request("INVITE", number, 1, ""));
        assert!(
            relayed.starts_with("INVITE sip:user7@10.0.0.5"),
            "{relayed}"
        );
        self.receive(&answer(&relayed, 180));
        if number % 2 == 1 {
            let busy = self.receive(&answer(&relayed, 486));
            assert!(busy.starts_with("SIP/2.0 486"), "{busy}");
            self.receive(&request("ACK", number, 1, ";tag=callee"));
            return;
        }
        let ok = self.receive(&answer(&relayed, 200));
        assert!(ok.starts_with("SIP/2.0 200"), "{ok}");
        let record = relayed
            .lines()
            .find_map(|line| line.strip_prefix("Record-Route: "))
            .expect("recorded");
        let route = format!(";tag=callee\r\nRoute: {record}");
        assert!(
            self.receive(&request("ACK", number, 1, &route))
                .starts_with("ACK ")
        );
        let bye = self.receive(&request("BYE", number, 2, &route));
        assert!(bye.starts_with("BYE "), "{bye}");
        self.receive(&answer(&bye, 200));
    }
}

/// A request of call `number`; `to` is what follows the To's address.
fn request(method: &str, number: u32, cseq: u32, to: &str) -> String {
    let branch = if to.contains("Route") {
        format!("{method}{number}")
    } else {
        format!("call{number}")
    };
    let sdp = "v=0\r\no=alice 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    format!(
        "{method} sip:user7@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK{branch}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=caller\r\nTo: <sip:user7@example.com>{to}\r\n\
         Call-ID: call-{number:08}\r\nCSeq: {cseq} {method}\r\nContact: <sip:alice@198.51.100.7:40000>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
}

/// What the callee answers to `relayed`.
fn answer(relayed: &str, status: u16) -> String {
    let copied = |line: &&str| {
        ["Via:", "Record-Route:", "From:", "Call-ID:", "CSeq:"]
            .iter()
            .any(|name| line.starts_with(name))
    };
    let lines: Vec<&str> = relayed.lines().filter(copied).collect();
    format!(
        "SIP/2.0 {status} Whatever\r\n{}\r\nTo: <sip:user7@example.com>;tag=callee\r\nContent-Length: 0\r\n\r\n",
        lines.join("\r\n")
    )
}

#[test]
fn a_call_allocates_nothing() {
    let mut calls = Calls::new();
    // Warm-up: as many calls at once as there will be, and their transactions' ends.
    for number in 0..200 {
        calls.call(number);
    }
    calls.wait(Duration::from_secs(100));
    assert!(calls.allocations > 0, "the warm-up fills slabs and arenas");
    assert_eq!(calls.proxy.held(), (0, 0, 0));
    calls.allocations = 0;
    for number in 200..350 {
        calls.call(number);
    }
    calls.wait(Duration::from_secs(100));
    assert_eq!(calls.proxy.held(), (0, 0, 0));
    assert_eq!(calls.allocations, 0);
}

#[test]
fn a_keepalive_and_its_answer_allocate_nothing() {
    let mut calls = Calls::with(|settings| {
        settings.keepalive = Some(KeepaliveSettings {
            keepalive: Keepalive::Options,
            cycle: Duration::from_secs(1),
            nat_only: true,
            silent_max: 3,
        });
    });
    for _ in 0..2 {
        calls.allocations = 0;
        for _ in 0..100 {
            calls.sent.len = 0;
            calls.wait(Duration::from_secs(1));
            let options =
                String::from_utf8_lossy(&calls.sent.buffer[..calls.sent.len]).into_owned();
            assert!(
                options.starts_with("OPTIONS sip:user7@10.0.0.5"),
                "{options}"
            );
            calls.receive(&answer(&options, 200));
        }
    }
    assert_eq!(calls.allocations, 0);
}

#[test]
fn a_timer_allocates_nothing() {
    let mut wheel = Wheel::with_capacity(1_000);
    let count = allocations_in(|| {
        for n in 0..5_000_u64 {
            let now = START + Duration::from_millis(n);
            let id = wheel.schedule(now, now + Duration::from_millis(500), n);
            wheel.schedule(now, now + Duration::from_millis(300 + n % 7), n);
            if n % 3 == 0 {
                wheel.cancel(id);
            }
            while wheel.pop_expired(now).is_some() {}
        }
        assert!(wheel.len() > 500);
    });
    assert_eq!(count, 0);
}

#[test]
fn a_worker_that_asks_for_a_name_allocates_nothing() {
    let settings = resolve::Settings {
        // Nobody answers at the discard port: what counts is the worker's side.
        servers: vec!["127.0.0.1:9".parse().expect("an address")],
        timeout: Duration::from_millis(500),
        names_max: 64,
        stale_max: Duration::from_secs(0),
        sources: vec!["127.0.0.1".parse().expect("an address")],
        transports: vec![Transport::Udp],
        seed: 1,
    };
    let worker = (Box::new(|| ()) as resolve::Bell, Arc::new(Counters::new()));
    let (_resolver, mut desks) = Resolver::start(&settings, vec![worker]).expect("it starts");
    let desk = &mut desks[0];
    let asked = 200;
    let allocations = allocations_in(|| {
        for id in 0..asked {
            let question = Question {
                id: QuestionId(id),
                host: b"Carrier.Example.net",
                port: None,
                transport: None,
            };
            desk.ask(&question).expect("room");
        }
    });
    assert_eq!(allocations, 0);
    let begun = std::time::Instant::now();
    let mut answered = 0;
    while answered < asked && begun.elapsed().as_secs() < 10 {
        let allocations = allocations_in(|| {
            while let Some(answer) = desk.take() {
                assert!(answer.destinations().is_empty());
                answered += 1;
            }
        });
        assert_eq!(allocations, 0);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(answered, asked, "each question has its answer");
}
