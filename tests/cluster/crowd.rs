//! A crowd of phones behind one socket, each another: they register as fast as the node answers, and each asks again until it is answered.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Who speaks for all of them.
pub(crate) struct Crowd(UdpSocket);

/// Numbers that look random; the first is printed, so that a run can be had again.
pub(crate) struct Random(u64);

impl Crowd {
    pub(crate) fn new(node: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket.connect(node).expect("loopback");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self(socket)
    }

    /// Registers these users, one contact each; each answer is a 200.
    #[track_caller]
    pub(crate) fn register(&self, users: Range<usize>) {
        self.change(users, 0);
    }

    /// The same, for the first time in turn 0: in odd turns their contacts are removed, in even ones they are back.
    #[track_caller]
    pub(crate) fn change(&self, users: Range<usize>, turn: usize) {
        let (start, first) = (Instant::now(), users.start);
        let mut is_answered = vec![false; users.len()];
        let (mut next, mut out, mut answered) = (users.start, 0_usize, 0);
        let mut buffer = [0; 4_096];
        while answered < is_answered.len() {
            assert!(
                start.elapsed() < LONGEST,
                "{answered} of {users:?} are answered"
            );
            if next == users.end && out == 0 {
                next = first;
            }
            while out < WINDOW && next < users.end {
                if !is_answered[next - first] {
                    self.0
                        .send(request(next, turn).as_bytes())
                        .expect("a packet leaves");
                    out += 1;
                }
                next += 1;
            }
            let Ok(len) = self.0.recv(&mut buffer) else {
                // Some were lost: whoever has no answer asks again.
                (next, out) = (first, 0);
                continue;
            };
            let answer = String::from_utf8_lossy(&buffer[..len]);
            out = out.saturating_sub(1);
            assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
            let (_, id) = answer.split_once("Call-ID: ").expect("a Call-ID");
            let user: usize = id
                .split('-')
                .next()
                .and_then(|n| n.parse().ok())
                .expect("ours");
            // A late answer to what was asked before is none to this.
            let asked = format!("CSeq: {} REGISTER\r\n", cseq(user, turn));
            if !answer.contains(&asked) {
                continue;
            }
            if !std::mem::replace(&mut is_answered[user - first], true) {
                answered += 1;
            }
        }
    }
}

/// What phone `n` says in a turn: its fields differ from its neighbours'.
const fn cseq(n: usize, turn: usize) -> usize {
    n % 1_000 + 1 + turn
}

fn request(n: usize, turn: usize) -> String {
    let (high, low, q) = (n >> 8 & 0xff, n & 0xff, n % 10);
    let agent = AGENTS[n % AGENTS.len()];
    let path = match n % 3 {
        0 => format!("Supported: path\r\nPath: <sip:edge{q}.example.com;lr>\r\n"),
        _ => String::new(),
    };
    let instance = match n % 4 {
        0 => String::new(),
        _ => format!(";+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{n:012}>\""),
    };
    let reg_id = if n % 4 == 1 { ";reg-id=1" } else { "" };
    let expires_s = if turn.is_multiple_of(2) {
        3_600 + n % 3_600
    } else {
        0
    };
    format!(
        "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.77.{high}.{low}:5060;rport;branch=z9hG4bK{n}x{turn}\r\nMax-Forwards: 70\r\n\
         From: <sip:user{n}@example.com>;tag={n}\r\nTo: <sip:user{n}@example.com>\r\nCall-ID: {n}-3848276@10.77.{high}.{low}\r\n\
         CSeq: {} REGISTER\r\nUser-Agent: {agent}\r\n{path}\
         Contact: <sip:user{n}@10.77.{high}.{low}:5060;ob>;q=0.{q};expires={expires_s}{instance}{reg_id}\r\nContent-Length: 0\r\n\r\n",
        cseq(n, turn)
    )
}

impl Random {
    pub(crate) fn new() -> Self {
        let asked = std::env::var("STROWGER_SEED").ok();
        let clock = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
        let seed = asked.map_or(clock.as_micros() as u64, |seed| {
            seed.parse().expect("a number")
        });
        println!("STROWGER_SEED={seed}");
        Self(seed | 1)
    }

    /// A number less than `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % n
    }
}

/// What phones call themselves.
const AGENTS: [&str; 4] = [
    "Yealink SIP-T46S 66.86.0.15",
    "PolycomVVX-VVX_411-UA/6.4.3.5156",
    "\"quoted\" \\ UA/\u{fc}",
    "Cisco-CP-8845/14.2.1",
];
/// Requests on their way at one time: they fit the node's receive buffer.
const WINDOW: usize = 100;
/// How long an answer may take before it counts as lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long all of it may take.
const LONGEST: Duration = Duration::from_secs(120);
