//! Peers that answer nothing, answer garbage, flood, or claim what is not theirs; and newer ones. Each is bounded and counted, and phones
//! are served meanwhile.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::folder::Folder;
use super::impostor::{Impostor, contact};
use super::node::Node;
use super::turn::Alone;

struct Bed {
    server: Node,
    peer: Impostor,
    _folder: Folder<Alone>,
}

impl Bed {
    /// A server, DMQ at the SIP listener's own address (where a flood hurts most) or not, and one peer.
    fn start(third: u8, is_shared: bool, more: &str) -> Self {
        let folder = Folder::alone(third);
        let sip = SocketAddr::from(([127, 0, third, 3], 5_060));
        let dmq = SocketAddr::new(sip.ip(), if is_shared { 5_060 } else { 5_062 });
        let peer = Impostor::start(SocketAddr::from(([127, 0, third, 9], 5_060)));
        let peers = [peer.address.to_string()];
        let server = Node::start_with(&folder.path, sip, dmq, &peers, more);
        let bed = Self {
            server,
            peer,
            _folder: folder,
        };
        bed.wait_for("it is active", || {
            bed.server.status_of(bed.peer.address) == "active"
        });
        bed
    }

    #[track_caller]
    fn wait_for(&self, what: &str, wanted: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !wanted() {
            assert!(Instant::now() < deadline, "not within 30 s: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn drops(&self, reason: &str) -> u64 {
        self.server.counter("cluster_drops", reason)
    }
}

/// Registrations and calls to nowhere, a hundred a second, and how long each took, in microseconds.
struct Served {
    /// In order.
    micros: Vec<u64>,
    /// Without an answer within 500 ms, T1.
    unanswered: usize,
}

impl Served {
    fn quantile(&self, q: f64) -> f64 {
        let last = self.micros.len().saturating_sub(1);
        let place = (last as f64 * q).round() as usize;
        *self.micros.get(place).unwrap_or(&u64::MAX) as f64 / 1_000.0
    }
}

impl std::fmt::Display for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} served, {} unanswered; median {:.3} ms, q99 {:.3} ms, max {:.3} ms",
            self.micros.len(),
            self.unanswered,
            self.quantile(0.5),
            self.quantile(0.99),
            self.quantile(1.0)
        )
    }
}

/// Serves phones for a while: each registers, and is called by somebody, whose INVITE is answered (404 where there is nobody).
fn serve_phones(at: SocketAddr, span: Duration) -> Served {
    let socket = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let own = socket.local_addr().expect("it is bound");
    let (begun, mut n) = (Instant::now(), 0_u32);
    let mut served = Served {
        micros: Vec::new(),
        unanswered: 0,
    };
    let mut buffer = [0; 65_536];
    while begun.elapsed() < span {
        n += 1;
        let due = begun + Duration::from_millis(10) * n;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (method, user) = if n.is_multiple_of(2) {
            ("INVITE", "nobody")
        } else {
            ("REGISTER", "phone")
        };
        let uri = if method == "INVITE" {
            "sip:nobody@example.com"
        } else {
            "sip:example.com"
        };
        let request = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bKh{n}h\r\nMax-Forwards: 70\r\n\
             From: <sip:phone@example.com>;tag=1\r\nTo: <sip:{user}@example.com>\r\nCall-ID: h{n}\r\nCSeq: {n} {method}\r\n\
             Contact: <sip:phone{n}@10.1.1.1>;expires=60\r\nContent-Length: 0\r\n\r\n"
        );
        let sent = Instant::now();
        socket
            .send_to(request.as_bytes(), at)
            .expect("a packet leaves");
        let wanted = format!("z9hG4bKh{n}h");
        let is_answered = loop {
            let left = T1.saturating_sub(sent.elapsed());
            if left.is_zero() {
                break false;
            }
            socket.set_read_timeout(Some(left)).expect("a timeout");
            let Ok((len, _)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            let text = String::from_utf8_lossy(&buffer[..len]);
            if text.contains(&wanted) && !text.starts_with("SIP/2.0 1") {
                break true;
            }
        };
        if is_answered {
            served
                .micros
                .push(u64::try_from(sent.elapsed().as_micros()).expect("short"));
        } else {
            served.unanswered += 1;
        }
    }
    served.micros.sort_unstable();
    served
}

const T1: Duration = Duration::from_millis(500);

/// Sends what `make` gives as fast as it goes, or as `rate` a second, while phones are served; gives how many left, and how phones fared.
fn flood(
    bed: &Bed,
    rate: u64,
    span: Duration,
    make: impl Fn(u64) -> Vec<u8> + Sync,
) -> (u64, Served) {
    let (is_over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let begun = Instant::now();
            while !is_over.load(Ordering::Relaxed) {
                let n = count.fetch_add(1, Ordering::Relaxed);
                bed.peer.send(bed.server.dmq, &make(n));
                let due = begun + Duration::from_micros(n * 1_000_000 / rate);
                if n.is_multiple_of(32) {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
            }
        });
        let served = serve_phones(bed.server.sip, span);
        is_over.store(true, Ordering::Relaxed);
        (count.load(Ordering::Relaxed), served)
    })
}

/// Phones are served beside a flood: none waits for T1, so that nobody retransmits, and nearly all wait no longer than a slice of the
/// two processors that the test has with the flood itself.
#[track_caller]
fn assert_served(what: &str, alone: &Served, beside: &Served) {
    println!("{what}\n  alone:  {alone}\n  beside: {beside}");
    assert!(
        beside.unanswered * 200 <= beside.micros.len(),
        "{what}: {beside}"
    );
    let bound = (alone.quantile(0.99) * 3.0).max(20.0);
    assert!(
        beside.quantile(0.99) <= bound,
        "{what}: {beside} (alone: {alone})"
    );
}

fn seconds() -> Duration {
    let wanted = std::env::var("STROWGER_FLOOD_SECONDS").ok();
    Duration::from_secs(wanted.and_then(|wanted| wanted.parse().ok()).unwrap_or(2))
}

/// What the server may grow by while it is flooded: its queues, once they have been full.
const GROWTH_MAX: usize = 48 * 1_024 * 1_024;

#[test]
fn a_flood_is_bounded_and_counted_and_phones_are_served() {
    for (third, is_shared) in [(101, false), (102, true)] {
        let bed = Bed::start(third, is_shared, "");
        let alone = serve_phones(bed.server.sip, seconds());
        let before = bed.server.memory();
        // Lists of nodes of a peer's, 50,000 a second.
        let list = bed.peer.list(&[]);
        let request = bed.peer.request(bed.server.dmq, "notification_peer", &list);
        let (sent, beside) = flood(&bed, 50_000, seconds(), |n| {
            request
                .replace("z9hG4bKi", &format!("z9hG4bKf{n}f"))
                .into_bytes()
        });
        let place = if is_shared {
            "the listener's address"
        } else {
            "an address of its own"
        };
        assert_served(&format!("{sent} lists at {place}"), &alone, &beside);
        // Garbage, KDMQ of strangers, and KDMQ that says to be of strangers.
        let (sent, beside) = flood(&bed, 50_000, seconds(), |n| match n % 3 {
            0 => b"KDMQ garbage".to_vec(),
            1 => request.replace("@127.0", "@10.0").into_bytes(),
            _ => vec![b'{'; 1_000],
        });
        assert_served(&format!("{sent} of garbage at {place}"), &alone, &beside);
        let grown = bed.server.memory().saturating_sub(before);
        assert!(grown < GROWTH_MAX, "{grown} bytes");
        bed.wait_for("it is still active", || {
            bed.server.status_of(bed.peer.address) == "active"
        });
        let counted = bed.drops("not_allowed") + bed.drops("malformed") + bed.drops("inlet_full");
        assert!(counted > 0, "nothing is counted");
    }
}

#[test]
fn a_million_contacts_of_a_foreign_domain_are_refused_one_by_one() {
    let bed = Bed::start(103, false, "[registrar]\nuse_domain = true\n");
    let alone = serve_phones(bed.server.sip, seconds());
    let before = bed.server.memory();
    let million = std::env::var("STROWGER_FLOOD_SECONDS").is_ok();
    let wanted: u64 = if million { 1_000_000 } else { 60_000 };
    let begun = Instant::now();
    let mut refused = 0;
    let mut worst = Served {
        micros: vec![0],
        unanswered: 0,
    };
    let mut batch = 0_u64;
    while refused < wanted {
        let base = batch;
        let (_, beside) = flood(&bed, 2_000, seconds(), |n| {
            let contacts: Vec<String> = (0..50)
                .map(|k| {
                    format!(
                        "\"{k}\":{}",
                        contact(1, &format!("u{}@foreign.example", (base + n) * 50 + k), "")
                    )
                })
                .collect();
            let body = format!("{{\"multi\":{{{}}}}}", contacts.join(","));
            bed.peer
                .request(bed.server.dmq, "usrloc", &body)
                .into_bytes()
        });
        batch += 1_000_000;
        if beside.quantile(0.99) > worst.quantile(0.99) {
            worst = beside;
        }
        refused = bed.server.counter("cluster_contacts_received", "refused");
        assert!(begun.elapsed() < Duration::from_secs(200), "{refused} only");
    }
    assert_served(
        &format!("{refused} contacts of a foreign domain"),
        &alone,
        &worst,
    );
    let grown = bed.server.memory().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown} bytes");
    // The phones' own contacts alone.
    assert!(bed.server.count() < 5_000);
    // One of ours among them is held.
    let mixed = format!(
        "{{\"multi\":{{\"1\":{},\"2\":{}}}}}",
        contact(1, "them@foreign.example", ""),
        contact(1, "us@example.com", "")
    );
    assert_eq!(bed.peer.ask(bed.server.dmq, "usrloc", &mixed), Some(200));
    bed.wait_for("ours is held", || {
        bed.server.contacts("us@example.com").len() == 1
    });
}

#[test]
fn a_million_contacts_are_held_within_the_bound_of_the_configuration() {
    let bed = Bed::start(104, false, "[limits]\nbindings = 20000\n");
    let (_, beside) = flood(&bed, 1_000, Duration::from_secs(3), |n| {
        let contacts: Vec<String> = (0..50)
            .map(|k| format!("\"{k}\":{}", contact(1, &format!("u{}", n * 50 + k), "")))
            .collect();
        let body = format!("{{\"multi\":{{{}}}}}", contacts.join(","));
        bed.peer
            .request(bed.server.dmq, "usrloc", &body)
            .into_bytes()
    });
    println!("beside a flood of contacts: {beside}");
    assert!(bed.server.count() <= 20_000);
    assert!(bed.server.counter("cluster_contacts_received", "full") > 0);
}

#[test]
fn a_peer_that_answers_nothing_or_garbage_costs_a_bounded_window() {
    let bed = Bed::start(105, true, "ping_s = 1\n");
    let alone = serve_phones(bed.server.sip, seconds());
    let before = bed.server.memory();
    bed.peer.be_silent(true);
    // Garbage in the place of answers: not SIP, answers to what was never asked, answers of 400 and 999.
    let (_, beside) = flood(&bed, 5_000, seconds(), |n| {
        match n % 3 {
        0 => b"SIP/2.0 200".to_vec(),
        1 => format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {0};branch=z9hG4bK{n:016x}.{n:x}\r\nTo: <sip:a@b>\r\nFrom: <sip:a@b>;tag=1\r\nCSeq: 10 KDMQ\r\nCall-ID: {n}\r\nContent-Length: 0\r\n\r\n",
            bed.server.dmq
        )
        .into_bytes(),
        _ => vec![0xFF; 200],
    }
    });
    assert_served("answers of garbage", &alone, &beside);
    bed.wait_for("it is in timeout", || {
        bed.server.status_of(bed.peer.address) == "timeout"
    });
    // What changes meanwhile is not kept for it: it is behind, and that is all.
    let beside = serve_phones(bed.server.sip, seconds());
    assert_served("a silent peer", &alone, &beside);
    let nodes = bed.server.ctl(&["dmq.list_nodes"]);
    let waiting = nodes[1]["waiting"].as_u64().unwrap_or(u64::MAX);
    assert!(waiting <= 4_096, "{waiting}");
    assert!(bed.drops("stray_answer") > 0);
    let grown = bed.server.memory().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown} bytes");
    bed.peer.be_silent(false);
    bed.wait_for("it is active again", || {
        bed.server.status_of(bed.peer.address) == "active"
    });
}

#[test]
fn json_that_is_deep_huge_or_of_other_types_is_answered_and_does_nothing() {
    let bed = Bed::start(106, false, "");
    let (peer, to) = (&bed.peer, bed.server.dmq);
    let deep = |n: usize| format!("{{\"action\":1,\"x\":{}1{}}}", "[".repeat(n), "]".repeat(n));
    let good = contact(1, "typed", "");
    let other = |from: &str, to: &str| good.replacen(from, to, 1);
    let bodies = [
        deep(8),
        deep(30_000),
        format!("{{\"action\":1,\"aor\":\"{}\"}}", "a".repeat(60_000)),
        format!(
            "{{\"multi\":{{{}}}}}",
            "\"k\":{\"action\":1},".repeat(3_000)
        ),
        other("\"action\":1", "\"action\":\"1\""),
        other("\"action\":1", "\"action\":1e400"),
        other("\"aor\":\"typed\"", "\"aor\":7"),
        other("\"cseq\":1", "\"cseq\":{\"a\":1}"),
        other("\"expires\":", "\"expires\":-1,\"y\":"),
        contact(1, "q", "").replacen("\"q\":-1", "\"q\":99999999999999999999999", 1),
        other("\"sip:typed@10.9.9.9:5060\"", "\"sip:x@h\\r\\nVia: evil\""),
        other("\"path\":\"\"", "\"path\":\"<sip:a>\\u000d\\u000aX: y\""),
        "{\"multi\":7}".to_owned(),
        "{\"multi\":{\"1\":7}}".to_owned(),
        "[1,2]".to_owned(),
        "\u{0}\u{1}".to_owned(),
        "{\"action\":1}}".to_owned(),
    ];
    for body in &bodies {
        let shown: String = body.chars().take(90).collect();
        let answer = peer.ask(to, "usrloc", body);
        assert!(matches!(answer, Some(200 | 400)), "{answer:?}: {shown}");
    }
    // A newer peer's: an action that we do not know stands in the way of nothing else, nor do keys that we do not know.
    let newer = format!(
        "{{\"multi\":{{\"1\":{{\"action\":17,\"what\":[1,{{}}]}},\"2\":{}}}}}",
        contact(
            1,
            "beside",
            ",\"xavps\":{\"a\":[1]},\"domain\":\"location\",\"future\":{\"deep\":[[null,true]]}"
        )
    );
    assert_eq!(peer.ask(to, "usrloc", &newer), Some(200));
    bed.wait_for("what it told beside", || {
        bed.server.contacts("beside").len() == 1
    });
    assert_eq!(bed.server.contacts("typed").len(), 0);
    assert!(bed.drops("malformed") > 5);
    // Any method of membership that it has beside ours is answered as Kamailio answers what it does not know.
    assert_eq!(peer.ask(to, "htable", "{}"), Some(404));
    let served = serve_phones(bed.server.sip, Duration::from_millis(500));
    assert_eq!(served.unanswered, 0);
}
