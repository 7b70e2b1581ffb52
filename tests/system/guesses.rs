//! Ten thousand attempts a second from one source: right answers, others unharmed, memory bounded, and no answer or time that tells an
//! unknown user from a wrong password.
//!
//! `STROWGER_GUESSES_S` (3) is how many seconds they last.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use strowger::auth::{Algorithm, Proof, Qop};
use strowger::store::{Database, migrate};

use super::namespace::{Namespace, run};
use super::registrants::{DOMAIN, Registrants, seed};
use super::scratch::Scratch;
use super::server::{Metrics, Server, admin_section, binary};

#[test]
fn ten_thousand_guesses_a_second_harm_nobody_and_learn_nothing() {
    let namespace = Namespace::new();
    let scratch = Scratch::new();
    let server = Server::start(&namespace, &scratch, &configuration(&scratch));
    let own = |last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    let seconds = number("STROWGER_GUESSES_S", 3);
    let mut others = namespace.inside(|| Registrants::new(0..PHONES, own(2), SERVER));
    let others_alone = namespace.inside(|| {
        others.register(0..PHONES, Duration::from_secs(1), PATIENCE);
        others.register(0..PHONES, Duration::from_secs(2), PATIENCE);
        quantiles(others.latencies().to_vec())
    });
    let mut guesser = namespace.inside(|| Guesser::new(SocketAddr::new(own(66), 0)));
    namespace.inside(|| guesser.run(Duration::from_millis(500)));
    guesser.heard.clear();
    let (before, sent_before) = (server.rss_kib(), guesser.sent);
    let (meanwhile, (heard, sent)) = std::thread::scope(|scope| {
        let guessing = scope.spawn(|| {
            namespace.inside(|| guesser.run(Duration::from_secs(seconds as u64)));
            (guesser.heard.clone(), guesser.sent - sent_before)
        });
        let meanwhile = namespace.inside(|| {
            let span = Duration::from_secs(seconds as u64) * 4 / 5;
            others.register(0..PHONES, span, PATIENCE);
            quantiles(others.latencies().to_vec())
        });
        (meanwhile, guessing.join().expect("it guesses"))
    });
    let after = server.rss_kib();
    println!("{sent} guesses in {seconds} s; memory {before} KiB, then {after} KiB");
    println!("answers by kind: {heard:?}");
    println!(
        "others' registrations (ms, median and q99): alone {others_alone:.2?}, meanwhile {meanwhile:.2?}"
    );
    right_answers(&heard, sent);
    assert!(
        after < before + MEMORY_GROWTH_KIB,
        "{before} KiB became {after} KiB"
    );
    let metrics = server.metrics();
    assert_eq!(
        metrics.sum("strowger_authentication_failure_sources", ""),
        1
    );
    one_source_is_to_blame(&namespace, &scratch, &metrics);
}

/// Each kind of attempt got the answer that it must get, and almost all got one.
fn right_answers(heard: &BTreeMap<(Kind, String), u32>, sent: u32) {
    let total: u32 = heard.values().sum();
    assert!(total > sent / 10 * 9, "{total} of {sent} were answered");
    for (kind, answer) in heard.keys() {
        let right: &[&str] = match kind {
            // The same for both, to the letter.
            Kind::WrongPassword | Kind::UnknownUser => &["401", "503"],
            Kind::Replayed => &["401 stale"],
            Kind::TamperedNonce | Kind::WrongRealm => &["401"],
        };
        assert!(right.contains(&answer.as_str()), "{kind:?}: {answer}");
    }
    let refused: u32 = heard
        .iter()
        .filter_map(|((_, answer), count)| (answer == "503").then_some(*count))
        .sum();
    assert!(
        refused < total / 10,
        "{refused} of {total} were not checked"
    );
}

/// `strowger ctl auth.failures` names the one who guesses, first, with what it failed at.
fn one_source_is_to_blame(namespace: &Namespace, scratch: &Scratch, metrics: &Metrics) {
    let file = scratch.path().join("strowger.toml");
    let mut ctl = namespace.command(&binary());
    ctl.args(["ctl", "--config"]).arg(file).arg("auth.failures");
    let shown: serde_json::Value = serde_json::from_str(&run(&mut ctl)).expect("JSON");
    let worst = &shown["sources"][0];
    assert_eq!(worst["source"], "127.0.0.66", "{shown}");
    assert_eq!(shown["known"], 1, "{shown}");
    let failures = worst["failures"].as_u64().expect("a number");
    let counted = metrics.sum("strowger_authentication_failures_total", "");
    assert!(
        failures >= 1_000 && failures <= counted + 1_000,
        "{failures}, {counted}"
    );
    for reason in ["wrong", "replayed", "foreign_nonce"] {
        assert!(worst["reasons"][reason].as_u64() > Some(0), "{shown}");
    }
}

#[test]
fn the_table_of_sources_is_bounded_and_keeps_the_worst() {
    let namespace = Namespace::new();
    let scratch = Scratch::new();
    let server = Server::start(&namespace, &scratch, &configuration(&scratch));
    let worst = SocketAddr::from(([127, 0, 0, 66], 0));
    namespace.inside(|| {
        let mut guesser = Guesser::new(worst);
        guesser.run(Duration::from_millis(300));
        // More sources than there is room for, each with one tampered nonce.
        let line = guesser.line(Kind::TamperedNonce, "u1");
        for n in 0..SOURCES {
            let from = Ipv4Addr::from_bits(0x7f10_0000 + n);
            let socket = UdpSocket::bind((from, 0)).expect("a port");
            let message = message(&socket, "u1", u64::from(n), &line);
            socket
                .send_to(message.as_bytes(), SERVER)
                .expect("it leaves");
            if n % 64 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
    let metrics = server.wait_for("sources are evicted", Duration::from_secs(10), |metrics| {
        metrics.sum("strowger_authentication_failure_sources_evicted_total", "") > 0
    });
    let sources = metrics.sum("strowger_authentication_failure_sources", "");
    println!("{sources} sources known after {SOURCES}");
    assert!(sources <= 16_384 && sources > 8_192);
    let file = scratch.path().join("strowger.toml");
    let mut ctl = namespace.command(&binary());
    ctl.args(["ctl", "--config"])
        .arg(file)
        .args(["auth.failures", "3"]);
    let shown: serde_json::Value = serde_json::from_str(&run(&mut ctl)).expect("JSON");
    assert_eq!(shown["sources"][0]["source"], "127.0.0.66", "{shown}");
    assert_eq!(shown["sources"].as_array().map(Vec::len), Some(3));
}

#[test]
fn no_time_tells_an_unknown_user_from_a_wrong_password() {
    let namespace = Namespace::new();
    let scratch = Scratch::new();
    let server = Server::start(&namespace, &scratch, &configuration(&scratch));
    let (first, second) = namespace.inside(|| {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        // The secrets of these are at hand; those of the next hundreds are not.
        let mut phones = Registrants::new(0..PROBED, local, SERVER);
        phones.register(0..PROBED, Duration::from_millis(500), PATIENCE);
        let mut guesser = Guesser::new(SocketAddr::new(local, 0));
        let known = |n| format!("u{n}");
        let away = |n| format!("u{}", n + PROBED);
        let nobody = |n| format!("nobody{n}");
        let mut round = || {
            let mut times: [Vec<Duration>; 3] = Default::default();
            for n in 0..PROBED {
                // In turns, so that whatever else this machine does falls on all alike.
                for kind in 0..3 {
                    let kind = (kind + n) % 3;
                    let user = [known(n), away(n), nobody(n)][kind].clone();
                    times[kind].push(guesser.time(&user));
                }
            }
            times.map(|times| quantiles(times)[0])
        };
        (round(), round())
    });
    println!(
        "median ms to the 401 at the first attempt: secrets at hand, not at hand, no such user: {first:.3?}; at the second: {second:.3?}"
    );
    for times in [first, second] {
        let (least, most) = (
            times.iter().copied().fold(f64::MAX, f64::min),
            times.iter().copied().fold(0.0, f64::max),
        );
        assert!(most < least * 1.5 + 0.2, "{times:?}");
    }
    drop(server);
}

/// What a guesser tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    WrongPassword,
    UnknownUser,
    Replayed,
    TamperedNonce,
    WrongRealm,
}

const KINDS: [Kind; 5] = [
    Kind::WrongPassword,
    Kind::UnknownUser,
    Kind::Replayed,
    Kind::TamperedNonce,
    Kind::WrongRealm,
];

/// One who guesses, at [`RATE`] a second.
struct Guesser {
    socket: UdpSocket,
    nonce: String,
    /// A right answer of somebody, overheard: it has been used.
    overheard: String,
    sent: u32,
    heard: BTreeMap<(Kind, String), u32>,
}

impl Guesser {
    fn new(from: SocketAddr) -> Self {
        let socket = UdpSocket::bind(from).expect("a port");
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .expect("it can");
        let mut guesser = Self {
            socket,
            nonce: String::new(),
            overheard: String::new(),
            sent: 0,
            heard: BTreeMap::new(),
        };
        guesser.nonce = nonce_of(&guesser.ask("u0", u64::MAX, ""));
        // Used once, in the name of the last user, whom no phone of this test registers.
        let last = format!("u{}", USERS - 1);
        guesser.overheard = answer(
            &last,
            &format!("secret{}", USERS - 1),
            DOMAIN,
            &guesser.nonce,
            1,
        );
        let overheard = guesser.overheard.clone();
        let registered = guesser.ask(&last, u64::MAX - 1, &overheard);
        assert!(registered.starts_with("SIP/2.0 200"), "{registered}");
        guesser
    }

    /// Guesses for `span`, and counts what it hears.
    fn run(&mut self, span: Duration) {
        self.socket.set_nonblocking(true).expect("it can");
        let _ = socket2::SockRef::from(&self.socket).set_recv_buffer_size(4 << 20);
        let start = Instant::now();
        let mut sent = 0_u32;
        while start.elapsed() < span {
            let due = (start.elapsed().as_secs_f64() * f64::from(RATE)) as u32;
            for _ in 0..(due - sent).min(64) {
                self.guess();
                sent += 1;
            }
            self.listen();
            std::thread::sleep(Duration::from_micros(200));
        }
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            self.listen();
            std::thread::sleep(Duration::from_millis(1));
        }
        self.socket.set_nonblocking(false).expect("it can");
    }

    fn guess(&mut self) {
        let n = self.sent;
        self.sent += 1;
        let kind = KINDS[n as usize % KINDS.len()];
        let user = match kind {
            Kind::WrongPassword | Kind::TamperedNonce | Kind::WrongRealm => {
                format!("u{}", n as usize % USERS)
            }
            Kind::UnknownUser => format!("nobody{n}"),
            Kind::Replayed => format!("u{}", USERS - 1),
        };
        let line = self.line(kind, &user);
        let number = u64::from(n) * 8 + kind as u64;
        let message = message(&self.socket, &user, number, &line);
        let _ = self.socket.send_to(message.as_bytes(), SERVER);
    }

    fn line(&self, kind: Kind, user: &str) -> String {
        match kind {
            Kind::WrongPassword | Kind::UnknownUser => {
                answer(user, "guess", DOMAIN, &self.nonce, self.sent)
            }
            Kind::Replayed => self.overheard.clone(),
            Kind::TamperedNonce => {
                let first = if self.nonce.starts_with('0') {
                    "1"
                } else {
                    "0"
                };
                let nonce = format!("{first}{}", &self.nonce[1..]);
                answer(user, "guess", DOMAIN, &nonce, 1)
            }
            Kind::WrongRealm => answer(user, "guess", "elsewhere.example", &self.nonce, 1),
        }
    }

    fn listen(&mut self) {
        let mut buffer = [0; 2_048];
        while let Ok(len) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            let Some(number) = number_of(&text) else {
                continue;
            };
            let kind = KINDS[(number % 8) as usize];
            let stale = if text.contains("stale=true") {
                " stale"
            } else {
                ""
            };
            let answer = format!("{}{stale}", &text[8..11]);
            *self.heard.entry((kind, answer)).or_default() += 1;
        }
    }

    /// How long a wrong password for a user takes to be refused.
    fn time(&mut self, user: &str) -> Duration {
        self.sent += 1;
        let line = answer(user, "guess", DOMAIN, &self.nonce, self.sent);
        let start = Instant::now();
        let text = self.ask(user, u64::from(self.sent) * 8, &line);
        let took = start.elapsed();
        assert!(
            text.starts_with("SIP/2.0 401") && !text.contains("stale"),
            "{text}"
        );
        took
    }

    fn ask(&self, user: &str, number: u64, line: &str) -> String {
        let message = message(&self.socket, user, number, line);
        self.socket
            .send_to(message.as_bytes(), SERVER)
            .expect("it leaves");
        let mut buffer = [0; 2_048];
        loop {
            let len = self.socket.recv(&mut buffer).expect("an answer");
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if number_of(&text) == Some(number) {
                return text;
            }
        }
    }
}

fn message(socket: &UdpSocket, user: &str, number: u64, line: &str) -> String {
    let own = socket.local_addr().expect("it is bound");
    format!(
        "REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKg{number};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:{user}@{DOMAIN}>;tag=g\r\nTo: <sip:{user}@{DOMAIN}>\r\nCall-ID: guess-{number}\r\nCSeq: 1 REGISTER\r\n\
         Contact: <sip:{user}@{own}>\r\n{line}Content-Length: 0\r\n\r\n"
    )
}

fn answer(user: &str, password: &str, realm: &str, nonce: &str, nc: u32) -> String {
    let uri = format!("sip:{DOMAIN}");
    let count = format!("{nc:08x}");
    let proof = Proof {
        method: b"REGISTER",
        uri: uri.as_bytes(),
        nonce: nonce.as_bytes(),
        qop: Some(Qop {
            name: b"auth",
            nc: count.as_bytes(),
            cnonce: b"c0ffee",
        }),
    };
    let ha1 = Algorithm::Sha256.ha1(user.as_bytes(), realm.as_bytes(), password.as_bytes());
    let response = Algorithm::Sha256.response(ha1.as_bytes(), &proof);
    format!(
        "Authorization: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm=SHA-256, qop=auth, \
         nc={count}, cnonce=\"c0ffee\", response=\"{}\"\r\n",
        String::from_utf8_lossy(response.as_bytes())
    )
}

fn number_of(text: &str) -> Option<u64> {
    let rest = &text[text.find("z9hG4bKg")? + 8..];
    rest[..rest.find([';', '\r'])?].parse().ok()
}

fn nonce_of(text: &str) -> String {
    let from = text.find("nonce=\"").expect("a challenge") + 7;
    text[from..from + text[from..].find('"').expect("its end")].to_owned()
}

/// The median and the 99th percentile, in milliseconds.
fn quantiles(mut times: Vec<Duration>) -> [f64; 2] {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    [0.5, 0.99].map(|share| at(share).as_secs_f64() * 1_000.0)
}

fn configuration(scratch: &Scratch) -> String {
    let file = scratch.path().join("guesses.db");
    migrate(&Database::Sqlite(file.clone())).expect("the tables are made");
    let connection = rusqlite::Connection::open(&file).expect("it was made");
    connection
        .execute_batch(&seed(USERS))
        .expect("a statement of ours");
    format!(
        "[[listen]]\naddress = \"{SERVER}\"\nbackend = \"udp\"\n[workers]\ncount = 2\n[sip]\ndomains = [\"{DOMAIN}\"]\n[auth]\n\
         [store]\nurl = \"sqlite:{}\"\n{}",
        file.display(),
        admin_section()
    )
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5060);
const USERS: usize = 2_000;
const PHONES: usize = 300;
/// Users of each kind whose answers are timed.
const PROBED: usize = 300;
/// Guesses a second.
const RATE: u32 = 10_000;
/// Sources that fail once.
const SOURCES: u32 = 40_000;
/// What the server may grow by: what has been touched for the first time, and nothing that grows with the attempts.
const MEMORY_GROWTH_KIB: u64 = 16 * 1_024;
const PATIENCE: Duration = Duration::from_secs(30);
