//! RFC 4475 against a server that runs: each of the 49 messages gets its verdict, and what is passed on is exact to the octet.
//!
//! `tests/torture/EXPECT.tsv` has the verdicts. "process" is seen, not believed: the request arrives at a registered phone (or at the
//! next hop of its Route), unchanged but for what a proxy must change, and the phone's answer comes back; or it is a REGISTER, and the
//! binding is there.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use strowger::sip::{self, Index, Message, Parsed};

use super::bed::{Bed, Family};
use super::calls::{Backend, configuration};
use super::ends::{ANSWER_PHRASE, Callee, Sender, Transport};
use super::exactness::{Hop, compare};
use super::recovery::{assert_nothing_left, live};
use super::scratch::Scratch;
use super::server::{Metrics, Server};

/// One line of the table, and its message.
#[derive(Clone, Debug)]
struct Case {
    name: String,
    section: String,
    verdicts: Vec<String>,
    bytes: Vec<u8>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// It was passed on, so many times, and the callee's answer came back.
    Routed(usize),
    /// The server answered it, with these Contacts.
    Answered(u16, Vec<String>),
    /// The first of two was answered 200, and the second passed on.
    Both,
    /// Nobody answered; these counters of drops rose.
    Dropped(Vec<String>),
    /// Nobody answered, and the server closed the connection or waits for more.
    Unanswered { is_closed: bool },
    /// Something that nothing may become.
    Wrong(String),
}

/// A server with phones, and the way to it.
struct Trial<'b> {
    bed: &'b Bed,
    server: Server<'b>,
    transport: Transport,
    sender: Sender,
    phone: Callee,
    /// Where the Route of `mpart01` leads.
    next_hop: Callee,
}

#[test]
fn every_torture_message_gets_its_verdict_from_a_running_server() {
    let cases = cases();
    assert_eq!(cases.len(), 49);
    let cases = &cases;
    let by_transport: Vec<Vec<Fate>> = std::thread::scope(|scope| {
        let passes: Vec<_> = TRANSPORTS
            .iter()
            .map(|&transport| scope.spawn(move || pass(transport, cases)))
            .collect();
        passes
            .into_iter()
            .map(|pass| pass.join().expect("a pass ends"))
            .collect()
    });
    let (table, wrong) = judge(cases, &by_transport);
    println!("{table}");
    assert!(wrong.is_empty(), "{table}\n{wrong:#?}");
}

/// The table to print, and what is wrong in it.
fn judge(cases: &[Case], by_transport: &[Vec<Fate>]) -> (String, Vec<String>) {
    let mut table = format!("{:<12}{:<10}{:<14}", "message", "section", "expected");
    for transport in TRANSPORTS {
        let _ = write!(table, "{:<34}", format!("over {transport:?}"));
    }
    table.push_str("verdict\n");
    let mut wrong = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let _ = write!(
            table,
            "{:<12}{:<10}{:<14}",
            case.name,
            case.section,
            case.verdicts.join("|")
        );
        let mut is_right = true;
        for (transport, fates) in TRANSPORTS.iter().zip(by_transport) {
            let fate = &fates[index];
            let _ = write!(table, "{:<34}", fate.to_string());
            if !is_as_expected(case, *transport, fate) {
                wrong.push(format!("{} over {transport:?}: {fate}", case.name));
                is_right = false;
            }
        }
        table.push_str(if is_right { "ok\n" } else { "WRONG\n" });
    }
    (table, wrong)
}

fn is_as_expected(case: &Case, transport: Transport, fate: &Fate) -> bool {
    let is_expected = |verdict: &str| case.verdicts.iter().any(|expected| expected == verdict);
    if transport == Transport::Tcp {
        match case.name.as_str() {
            // The octets that are missing never come.
            "clerr" => return matches!(fate, Fate::Unanswered { is_closed: true }),
            // Without a Content-Length it cannot be framed: 400, or only the end of the connection.
            "inv2543" => {
                return matches!(
                    fate,
                    Fate::Answered(400, _) | Fate::Unanswered { is_closed: true }
                );
            }
            // The second message of the stream is a real one: an INVITE that reaches its phone, beside the REGISTER's answer.
            "dblreq" => return *fate == Fate::Both,
            _ => {}
        }
    }
    match fate {
        Fate::Routed(count) => *count == 1 && is_expected("process"),
        Fate::Answered(200, contacts) => {
            let wanted = REGISTERED.iter().find(|(name, _)| *name == case.name);
            is_expected("200")
                || is_expected("process")
                    && wanted.is_some_and(|(_, wanted)| {
                        wanted
                            .iter()
                            .all(|uri| contacts.iter().any(|contact| contact.contains(uri)))
                    })
        }
        // No REGISTER, but a request of an unknown method for nobody.
        Fate::Answered(404, _) if case.name == "esc02" => true,
        Fate::Answered(status, _) => is_expected(&status.to_string()),
        Fate::Dropped(reasons) if is_expected("drop") => reasons.len() == 1,
        // A stray, which the RFC's client may be, is no parse error.
        Fate::Dropped(reasons) => is_expected("process") && *reasons == ["stray_response"],
        Fate::Both | Fate::Unanswered { .. } | Fate::Wrong(_) => false,
    }
}

/// Sends every message to a server of its own by one transport.
fn pass(transport: Transport, cases: &[Case]) -> Vec<Fate> {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let link = bed.link();
    let phone = |port| SocketAddr::new(link.phone(Family::V4), port);
    let domains = format!("domains = {DOMAINS:?}");
    let configuration = configuration(&bed, Family::V4, Backend::Driver, 2)
        .replace("domains = [\"example.com\"]", &domains);
    let configuration = format!(
        "{configuration}\n[[peer]]\nname = \"tormentor\"\naddresses = [\"{}\"]\n",
        link.phone(Family::V4)
    );
    let mut trial = Trial {
        server: Server::start(&bed.server, &scratch, &configuration),
        transport,
        sender: Sender::open(&link.phones, transport, phone(5060), link.sip(Family::V4)),
        phone: Callee::open(&link.phones, phone(PHONE_PORT), ANSWER),
        next_hop: Callee::open(
            &bed.server,
            "127.0.0.1:5080".parse().expect("an address"),
            ANSWER,
        ),
        bed: &bed,
    };
    for (index, user) in USERS.iter().enumerate() {
        trial.register(index, user);
    }
    // The REGISTERs among them, which change where the others go, come last.
    let (last, first): (Vec<usize>, Vec<usize>) =
        (0..cases.len()).partition(|&index| cases[index].bytes.starts_with(b"REGISTER"));
    let mut fates = vec![Fate::Wrong("never sent".to_owned()); cases.len()];
    for index in first.into_iter().chain(last) {
        fates[index] = trial.run(&cases[index]);
    }
    let metrics = trial
        .server
        .wait_for("the transactions end", TIMERS_MAX, |metrics| {
            live(metrics) == 0
        });
    assert_nothing_left(&metrics);
    fates
}

impl Trial<'_> {
    /// Registers the phone for one user, by a datagram from its own address.
    fn register(&self, index: usize, user: &str) {
        let phone = SocketAddr::new(self.bed.link().phone(Family::V4), PHONE_PORT);
        let parameter = match self.transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
        };
        let request = format!(
            "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {phone};branch=z9hG4bKreg{index}\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}>;tag=r\r\nTo: <sip:{user}>\r\nCall-ID: register-{index}\r\nCSeq: 1 REGISTER\r\n\
             Contact: <sip:callee@{phone}{parameter}>\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = self
            .phone
            .ask(self.bed.link().sip(Family::V4), request.as_bytes());
        assert!(
            answer.starts_with(b"SIP/2.0 200"),
            "{user}: {}",
            answer.escape_ascii()
        );
    }

    /// Sends one message, and sees what becomes of it.
    fn run(&mut self, case: &Case) -> Fate {
        if self.transport == Transport::Tcp {
            let link = self.bed.link();
            let local = SocketAddr::new(link.phone(Family::V4), 0);
            self.sender = Sender::open(&link.phones, Transport::Tcp, local, link.sip(Family::V4));
        }
        if self.transport == Transport::Tcp && case.name == "dblreq" {
            return self.run_double(&case.bytes);
        }
        let before = self.server.metrics();
        self.sender.send(&case.bytes);
        if self.transport == Transport::Tcp && !has_whole_head(&case.bytes) {
            // `baddn` ends without its empty line, which only a datagram may.
            self.sender.send(b"\r\n");
        }
        let patience = match (self.transport, case.name.as_str()) {
            (Transport::Tcp, "clerr") => SLOW_SENDER_MAX,
            _ if case.bytes.starts_with(b"SIP/2.0") => SILENCE,
            _ => ANSWER_MAX,
        };
        let fate = self.await_fate(&case.bytes, patience);
        if self.transport == Transport::Tcp
            && matches!(case.name.as_str(), "mcl01" | "ncl")
            && !self.closes()
        {
            return Fate::Wrong(format!("{fate}, and the connection stays open"));
        }
        if fate != (Fate::Unanswered { is_closed: false }) {
            return fate;
        }
        let reasons = risen(&before, &self.server.metrics());
        if reasons.is_empty() {
            fate
        } else {
            Fate::Dropped(reasons)
        }
    }

    /// Waits for the final answer to `sent`, and compares what the callee got.
    fn await_fate(&mut self, sent: &[u8], patience: Duration) -> Fate {
        let deadline = Instant::now() + patience;
        let mut passed_on = Vec::new();
        loop {
            // The ACK of the callee's refusal is the server's own.
            let taken = self.phone.take().into_iter().chain(self.next_hop.take());
            passed_on.extend(taken.filter(|bytes| !bytes.starts_with(b"ACK ")));
            let answers: Vec<Answer> = self
                .sender
                .take()
                .iter()
                .filter_map(|bytes| Answer::read(bytes))
                .collect();
            for answer in &answers {
                self.acknowledge(sent, answer);
            }
            if let Some(answer) = answers.into_iter().rfind(|answer| answer.status >= 200) {
                return self.fate_of(sent, &passed_on, answer);
            }
            if self.sender.is_closed() || Instant::now() >= deadline {
                let is_closed = self.sender.is_closed();
                return match passed_on.len() {
                    0 => Fate::Unanswered { is_closed },
                    count => Fate::Wrong(format!("passed on {count} times, and no answer")),
                };
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn fate_of(&self, sent: &[u8], passed_on: &[Vec<u8>], answer: Answer) -> Fate {
        if !answer.is_callees {
            return match passed_on.len() {
                0 => Fate::Answered(answer.status, answer.contacts),
                count => Fate::Wrong(format!(
                    "passed on {count} times, and answered {}",
                    answer.status
                )),
            };
        }
        let sent = &sent[..first_len(sent)];
        let hop = Hop {
            source: self.sender.address(),
            proxy: self.bed.link().sip(Family::V4),
        };
        for copy in passed_on {
            if let Err(difference) = compare(sent, copy, hop) {
                return Fate::Wrong(difference);
            }
        }
        Fate::Routed(passed_on.len())
    }

    /// `dblreq` over a connection: its second message is a real one. What stands behind the length that this one gives is none, so the
    /// connection ends when both are answered.
    fn run_double(&mut self, both: &[u8]) -> Fate {
        let (first, second) = both.split_at(first_len(both));
        let second = second.trim_ascii_start();
        let second = &second[..first_len(second)];
        self.sender.send(both);
        let deadline = Instant::now() + ANSWER_MAX;
        let (mut statuses, mut passed_on) = (Vec::new(), Vec::new());
        while Instant::now() < deadline && !(self.sender.is_closed() && passed_on.len() == 1) {
            let answers = self.sender.take();
            statuses.extend(
                answers
                    .iter()
                    .filter_map(|bytes| Answer::read(bytes))
                    .map(|answer| answer.status),
            );
            // The ACK of the callee's refusal is the server's own.
            let taken = self.phone.take().into_iter();
            passed_on.extend(taken.filter(|bytes| !bytes.starts_with(b"ACK ")));
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(first.starts_with(b"REGISTER") && second.starts_with(b"INVITE"));
        let is_answered = statuses.contains(&200) && statuses.contains(&ANSWER);
        if !is_answered || passed_on.len() != 1 || !self.sender.is_closed() {
            return Fate::Wrong(format!("{statuses:?}, passed on {} times", passed_on.len()));
        }
        let hop = Hop {
            source: self.sender.address(),
            proxy: self.bed.link().sip(Family::V4),
        };
        match compare(second, &passed_on[0], hop) {
            Ok(()) => Fate::Both,
            Err(difference) => Fate::Wrong(difference),
        }
    }

    /// Whether the server closes the connection soon.
    fn closes(&mut self) -> bool {
        let deadline = Instant::now() + ANSWER_MAX;
        while !self.sender.is_closed() && Instant::now() < deadline {
            self.sender.take();
            std::thread::sleep(Duration::from_millis(2));
        }
        self.sender.is_closed()
    }

    /// RFC 3261 17.1.1.3: so that nothing is sent again.
    fn acknowledge(&mut self, sent: &[u8], answer: &Answer) {
        let mut index = Index::new();
        let Parsed::Good(invite) = sip::parse(sent, &mut index) else {
            return;
        };
        if invite.method() == sip::Method::Invite && answer.status >= 300 {
            self.sender.send(&ack_of(&invite, answer));
        }
    }
}

/// A response, as much of it as a verdict needs.
#[derive(Debug)]
struct Answer {
    status: u16,
    contacts: Vec<String>,
    to: Vec<u8>,
    is_callees: bool,
}

impl Answer {
    fn read(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let status = text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()?;
        let values = |wanted: &'static str| {
            let fields = text.lines().filter_map(|line| line.split_once(':'));
            fields
                .filter(move |(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.trim().to_owned())
        };
        Some(Self {
            status,
            contacts: values("Contact").collect(),
            to: values("To").next().unwrap_or_default().into_bytes(),
            is_callees: status == ANSWER && text.contains(ANSWER_PHRASE),
        })
    }
}

fn ack_of(invite: &Message<'_>, answer: &Answer) -> Vec<u8> {
    let mut ack = Vec::new();
    let number = invite.cseq().number.to_string();
    for part in [
        b"ACK ",
        invite.request_uri(),
        b" SIP/2.0\r\nVia: ",
        invite.top_via().bytes(),
        b"\r\nMax-Forwards: 70\r\nFrom: ",
        invite
            .header(sip::HeaderName::From)
            .expect("a good request has one")
            .value,
        b"\r\nTo: ",
        &answer.to,
        b"\r\nCall-ID: ",
        invite.call_id(),
        b"\r\nCSeq: ",
        number.as_bytes(),
        b" ACK\r\nContent-Length: 0\r\n\r\n",
    ] {
        ack.extend_from_slice(part);
    }
    ack
}

/// The length of the first message of `bytes`; all of it where that cannot be told.
fn first_len(bytes: &[u8]) -> usize {
    let mut index = Index::new();
    match sip::parse(bytes, &mut index) {
        Parsed::Good(message) => message.end(),
        Parsed::Answerable(..) | Parsed::NotSip(_) => bytes.len(),
    }
}

fn has_whole_head(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|window| window == b"\r\n\r\n")
}

/// The reasons of drops that were counted between two moments.
fn risen(before: &Metrics, after: &Metrics) -> Vec<String> {
    let count = |metrics: &Metrics, reason: &str| {
        metrics.sum("strowger_drops_total", &format!("reason=\"{reason}\""))
    };
    let reasons = [
        "not_sip",
        "malformed_response",
        "malformed_ack",
        "stray_response",
        "forged_branch",
        "stray_ack",
        "unroutable_ack",
    ];
    let risen = reasons
        .iter()
        .filter(|reason| count(after, reason) > count(before, reason));
    risen.map(|&reason| reason.to_owned()).collect()
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture");
    let table = std::fs::read_to_string(folder.join("EXPECT.tsv")).expect("the table is there");
    let case = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        Case {
            name: fields[0].to_owned(),
            section: fields[1].to_owned(),
            verdicts: fields[3].split('|').map(str::to_owned).collect(),
            bytes: std::fs::read(folder.join(format!("{}.dat", fields[0])))
                .expect("every message of the table"),
        }
    };
    table.lines().skip(1).map(case).collect()
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Routed(1) => write!(f, "routed, exact, {ANSWER} came back"),
            Self::Routed(count) => write!(f, "routed {count} times"),
            Self::Answered(200, contacts) if !contacts.is_empty() => {
                write!(f, "200, {} bindings", contacts.len())
            }
            Self::Answered(status, _) => write!(f, "{status}"),
            Self::Both => f.write_str("200; second routed, exact, 486"),
            Self::Dropped(reasons) => write!(f, "dropped: {}", reasons.join(", ")),
            Self::Unanswered { is_closed: true } => f.write_str("closed"),
            Self::Unanswered { is_closed: false } => f.write_str("no answer"),
            Self::Wrong(what) => f.write_str(what),
        }
    }
}

/// By what the messages are sent.
const TRANSPORTS: &[Transport] = &[Transport::Udp, Transport::Tcp];

/// The domains of the messages' Request-URIs and of the one Route that is ours.
const DOMAINS: &[&str] = &[
    "example.com",
    "example.net",
    "example.org",
    "company.com",
    "chair-dnrc.example.com",
    "services.example.com",
    "registrar.example.com",
];

/// The users whom the messages ask for.
const USERS: &[&str] = &[
    "vivekg@chair-dnrc.example.com",
    "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com",
    "sips%3Auser%40example.com@example.net",
    "user@example.com",
    "user;par=u%40example.net@example.com",
    "t.watson@example.org",
    "remote-target@example.com",
    "joe@example.com",
    "UserB@example.com",
];

/// What the location knows after a REGISTER that is processed.
const REGISTERED: &[(&str, &[&str])] = &[
    (
        "escnull",
        &[
            "<sip:%00@host5.example.com>",
            "<sip:%00%00@host5.example.com>",
        ],
    ),
    ("dblreq", &["<sip:j.user@host.example.com>"]),
    ("regbadct", &[]),
    ("regaut01", &[]),
    ("cparam01", &["<sip:+19725552222@gw1.example.net>"]),
    (
        "cparam02",
        &["<sip:+19725552222@gw1.example.net;unknownparam>"],
    ),
    (
        "regescrt",
        &["<sip:user@example.com?Route=%3Csip:sip.example.com%3E>"],
    ),
];

/// What the phones answer.
const ANSWER: u16 = 486;
const PHONE_PORT: u16 = 5070;
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long we listen where no answer is to come.
const SILENCE: Duration = Duration::from_millis(300);
/// How long the server waits for the rest of a message.
const SLOW_SENDER_MAX: Duration = Duration::from_secs(40);
/// 64*T1 and T4, and some time more.
const TIMERS_MAX: Duration = Duration::from_secs(45);
