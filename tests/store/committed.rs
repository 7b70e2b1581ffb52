//! `ack = "committed"` with real databases: a 200 says that the row is there, whatever happens next; and `relaxed`, whose loss is counted.
//!
//! `STROWGER_KILL_ROUNDS` says how often the server is killed under load (3 by default; 100 for the record).

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::database::{Database, SqliteFile};
use super::phone::{DOMAIN, Phone, expected};
use super::scratch::Scratch;
use super::server::Server;

fn rounds() -> usize {
    let rounds = std::env::var("STROWGER_KILL_ROUNDS").ok();
    rounds.map_or(3, |rounds| rounds.parse().expect("a number of rounds"))
}

fn section(database: &impl Database, ack: &str) -> String {
    format!(
        "url = \"{}\"\nack = \"{ack}\"\nflush_ms = {FLUSH_MS}",
        database.url()
    )
}

/// What one line of phones was told: of each user the last CSeq that was sent, when, and the last that got its 200.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    sent: u32,
    acknowledged: u32,
    acknowledged_at: Option<Instant>,
}

/// Phones that register and refresh without a pause, many at a time, and never ask twice.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Told>>,
}

impl Load {
    /// `told` is what these users were told before.
    fn start(server: SocketAddr, line: usize, mut told: Vec<Told>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let body = move || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
            socket
                .set_read_timeout(Some(Duration::from_millis(5)))
                .expect("a timeout");
            let own = socket.local_addr().expect("it is bound");
            let mut buffer = [0; 4_096];
            let mut next = 0;
            while !is_over.load(Ordering::Relaxed) {
                for _ in 0..AT_ONCE {
                    let user = next % told.len();
                    next += 1;
                    told[user].sent += 1;
                    let text = request(own, server, line, user, told[user].sent);
                    // Nobody is there while it is dead.
                    let _ = socket.send_to(text.as_bytes(), server);
                }
                while let Ok((len, _)) = socket.recv_from(&mut buffer) {
                    note(&String::from_utf8_lossy(&buffer[..len]), &mut told);
                }
            }
            // What is on its way still counts: it was given before the end.
            while let Ok((len, _)) = socket.recv_from(&mut buffer) {
                note(&String::from_utf8_lossy(&buffer[..len]), &mut told);
            }
            told
        };
        Self {
            stop,
            thread: std::thread::spawn(body),
        }
    }

    fn end(self) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it has not failed")
    }
}

fn request(own: SocketAddr, server: SocketAddr, line: usize, user: usize, cseq: u32) -> String {
    let name = name(line, user);
    format!(
        "REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bK{line}x{user}x{cseq}\r\nMax-Forwards: 70\r\n\
         From: <sip:{name}@{DOMAIN}>;tag=1\r\nTo: <sip:{name}@{DOMAIN}>\r\nCall-ID: {user}-{line}@{server}\r\nCSeq: {cseq} REGISTER\r\n\
         Contact: <sip:{name}@10.1.2.3:5060>;expires=3600\r\nContent-Length: 0\r\n\r\n"
    )
}

fn name(line: usize, user: usize) -> String {
    format!("line{line}user{user}")
}

/// Reads an answer: a 200 is for the user that its Call-ID begins with.
fn note(answer: &str, told: &mut [Told]) {
    if !answer.starts_with("SIP/2.0 200") {
        return;
    }
    let field = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name));
    let user = field("Call-ID: ").and_then(|value| value.split('-').next()?.parse::<usize>().ok());
    let cseq = field("CSeq: ").and_then(|value| value.split(' ').next()?.parse().ok());
    let (Some(user), Some(cseq)) = (user, cseq) else {
        panic!("no answer of ours: {answer}");
    };
    if cseq > told[user].acknowledged {
        told[user].acknowledged = cseq;
        told[user].acknowledged_at = Some(Instant::now());
    }
}

/// The CSeqs in the table, by line and user.
fn stored(database: &impl Database) -> Vec<Vec<u32>> {
    let mut stored = vec![vec![0; USERS]; LINES];
    for row in database.query("SELECT username, cseq FROM location WHERE username LIKE 'line%'") {
        let (name, cseq) = row.split_once('|').expect("two columns");
        let (line, user) = name
            .trim_start_matches("line")
            .split_once("user")
            .expect("a name of ours");
        let (line, user): (usize, usize) = (
            line.parse().expect("a number"),
            user.parse().expect("a number"),
        );
        stored[line][user] = cseq.parse().expect("a number");
    }
    stored
}

/// A round: load, a kill in the midst of it, a restart. Gives when it was killed, and what each line was told.
fn kill_under_load(
    server: &mut Server,
    told: Vec<Vec<Told>>,
    round: usize,
) -> (Instant, Vec<Vec<Told>>) {
    server.settle();
    let loads: Vec<Load> = told
        .into_iter()
        .enumerate()
        .map(|(line, told)| Load::start(server.sip(), line, told))
        .collect();
    // At another moment of the batches' turn each time.
    std::thread::sleep(Duration::from_millis(250 + (round as u64 * 37) % 150));
    let killed = Instant::now();
    server.kill();
    let told = loads.into_iter().map(Load::end).collect();
    server.restart_ended();
    (killed, told)
}

/// Whatever got its 200 is there afterwards: in the table, and for a caller.
fn loses_nothing(database: &impl Database) {
    let mut server = Server::start(&section(database, "committed"));
    let mut told = vec![vec![Told::default(); USERS]; LINES];
    let (mut acknowledged, mut looked_up) = (0_u64, 0);
    let rounds = rounds();
    for round in 0..rounds {
        let before: u64 = total(&told);
        let (_, after) = kill_under_load(&mut server, told, round);
        told = after;
        let gained = total(&told) - before;
        assert!(
            gained > 0,
            "round {round}: nothing was acknowledged\n{}",
            server.log()
        );
        acknowledged += gained;
        let stored = stored(database);
        let mut phone = Phone::new(server.sip());
        for (line, users) in told.iter().enumerate() {
            for (user, told) in users.iter().enumerate() {
                assert!(
                    stored[line][user] >= told.acknowledged,
                    "round {round}: {} was told that CSeq {} is there, and the table has {}",
                    name(line, user),
                    told.acknowledged,
                    stored[line][user]
                );
                assert!(stored[line][user] <= told.sent, "{}", name(line, user));
                if told.acknowledged > 0 && (user + round) % 97 == 0 {
                    let contacts = phone.contacts(&name(line, user));
                    assert_eq!(contacts.len(), 1, "round {round}: {}", name(line, user));
                    looked_up += 1;
                }
            }
        }
    }
    eprintln!(
        "committed: {rounds} kills, {acknowledged} registrations acknowledged, none lost; {looked_up} looked up"
    );
}

fn total(told: &[Vec<Told>]) -> u64 {
    let users = told.iter().flatten();
    users.map(|told| u64::from(told.acknowledged)).sum()
}

/// What got its 200 before the last batches is there afterwards; the rest is counted.
fn loses_little(database: &impl Database) {
    let mut server = Server::start(&section(database, "relaxed"));
    let mut told = vec![vec![Told::default(); USERS]; LINES];
    let rounds = rounds();
    let (mut acknowledged, mut lost_all, mut oldest) = (0, 0, Duration::ZERO);
    for round in 0..rounds {
        let total_before = total(&told);
        let (killed, after) = kill_under_load(&mut server, told, round);
        acknowledged += total(&after).saturating_sub(total_before);
        told = after;
        let stored = stored(database);
        for (line, users) in told.iter_mut().enumerate() {
            for (user, told) in users.iter_mut().enumerate() {
                if stored[line][user] < told.acknowledged {
                    lost_all += 1;
                    // Of several that were lost the last one's time is known: a lower bound of the age of the first.
                    let age = told
                        .acknowledged_at
                        .map(|at| killed.saturating_duration_since(at));
                    oldest = oldest.max(age.unwrap_or_default());
                    // What was lost once is not lost again in the next round.
                    told.acknowledged = stored[line][user];
                }
            }
        }
    }
    eprintln!(
        "relaxed: {rounds} kills, {acknowledged} registrations acknowledged; {lost_all} users whose last one was lost, the oldest of those \
         {oldest:?} old"
    );
    // flush_ms, the batch in flight and the one behind it; the host is busy.
    assert!(
        oldest < Duration::from_secs(3),
        "{oldest:?} is more than the batch in flight"
    );
}

#[test]
fn sqlite_loses_nothing_that_was_acknowledged() {
    let scratch = Scratch::new();
    let file = scratch.path().join("bindings.db");
    loses_nothing(&SqliteFile(&file));
}

#[test]
fn postgres_loses_nothing_that_was_acknowledged() {
    loses_nothing(&Cluster::start());
}

#[test]
fn relaxed_loses_no_more_than_the_batch_in_flight() {
    let scratch = Scratch::new();
    let file = scratch.path().join("bindings.db");
    loses_little(&SqliteFile(&file));
    loses_little(&Cluster::start());
}

#[test]
fn each_commit_is_synced_and_the_log_says_so() {
    let scratch = Scratch::new();
    let file = scratch.path().join("bindings.db");
    let sqlite = SqliteFile(&file);
    let server = Server::start(&section(&sqlite, "committed"));
    assert!(server.log().contains("synchronous=2"), "{}", server.log());
    assert_eq!(sqlite.query("PRAGMA journal_mode"), ["wal"]);
    drop(server);

    // Whatever the server's default is, the session that writes has its own.
    let cluster = Cluster::start();
    cluster.query("ALTER SYSTEM SET synchronous_commit = off");
    cluster.query("SELECT pg_reload_conf()");
    let server = Server::start(&section(&cluster, "committed"));
    server.settle();
    Phone::new(server.sip()).register("alice", 1, 600);
    let log = server.log();
    assert!(log.contains("synchronous_commit=\"on\""), "{log}");
    assert!(
        log.contains("fsync=\"on\"") && !log.contains("fsync off"),
        "{log}"
    );
    drop(server);
    cluster.query("ALTER SYSTEM SET fsync = off");
    cluster.query("SELECT pg_reload_conf()");
    let server = Server::start(&section(&cluster, "committed"));
    server.settle();
    let log = server.log();
    assert!(
        log.contains("fsync off") && log.contains("set fsync = on"),
        "{log}"
    );
}

#[test]
fn the_answer_waits_for_a_slow_database_and_is_503_where_there_is_none() {
    let cluster = Cluster::start();
    let server = Server::start(&section(&cluster, "committed"));
    let mut phone = Phone::new(server.sip());
    server.settle();
    phone.register_all(0..20, 1, 600);
    assert_eq!(cluster.table(), expected(0..20, 1));

    // Slow: each commit takes 400 ms. The phone retransmits and gets one 200, when the row is there.
    cluster.query(SLOW);
    let took = phone.register("user0", 2, 600);
    assert!(took >= Duration::from_millis(400), "{took:?}");
    assert_eq!(
        cluster.number("SELECT cseq FROM location WHERE username = 'user0'"),
        2
    );
    cluster.query("DROP TRIGGER slow ON location");

    // Dead: 503 at once, and memory keeps what was asked.
    cluster.crash();
    let contact = |user: u32| format!("Contact: <sip:user{user}@10.1.2.3:5060>;expires=600\r\n");
    server.wait_for("it is noticed", Duration::from_secs(10), |server| {
        server.metric("strowger_store_up") == 0
    });
    let start = Instant::now();
    for user in 0..20 {
        let refused = phone.ask("REGISTER", &format!("user{user}"), 3, &contact(user));
        assert!(refused.starts_with("SIP/2.0 503"), "{refused}");
        assert!(refused.contains("Retry-After: "), "{refused}");
    }
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert!(server.metric("strowger_commit_waits_total{outcome=\"store_away\"}") >= 19);
    assert!(server.health().contains("\"up\":false"));
    cluster.resume();
    // The phone's next one is as good as any.
    server.wait_for("it is back", Duration::from_secs(30), |server| {
        server.metric("strowger_store_up") == 1
    });
    phone.register_all(0..20, 4, 600);
    assert_eq!(cluster.table(), expected(0..20, 4));
}

#[test]
fn a_row_that_the_table_refuses_is_not_acknowledged() {
    let scratch = Scratch::new();
    let file = scratch.path().join("bindings.db");
    let (sqlite, cluster) = (SqliteFile(&file), Cluster::start());
    let databases: [(&dyn Database, &[&str]); 2] = [
        (
            &sqlite,
            &[
                "CREATE TRIGGER picky BEFORE INSERT ON location WHEN new.username = 'user7' BEGIN SELECT RAISE(ABORT, 'no'); END",
            ],
        ),
        (
            &cluster,
            &["ALTER TABLE location ADD CHECK (username <> 'user7')"],
        ),
    ];
    for (database, picky) in databases {
        let server = Server::start(&format!(
            "url = \"{}\"\nack = \"committed\"\nflush_ms = {FLUSH_MS}",
            database.url()
        ));
        server.settle();
        for sql in picky {
            database.query(sql);
        }
        let mut phone = Phone::new(server.sip());
        let contact = "Contact: <sip:user7@10.1.2.3:5060>;expires=600\r\n";
        let refused = phone.ask("REGISTER", "user7", 1, contact);
        assert!(refused.starts_with("SIP/2.0 500"), "{refused}");
        phone.register("user8", 1, 600);
        assert_eq!(database.table(), expected(8..9, 1));
        // What no row can hold is refused before memory has it.
        let long = "u".repeat(65);
        let refused = phone.ask("REGISTER", &long, 1, contact);
        assert!(refused.starts_with("SIP/2.0 400"), "{refused}");
        assert_eq!(server.metric("strowger_bindings"), 2);
    }
}

#[test]
fn a_database_that_says_nothing_keeps_no_phone_until_it_gives_up() {
    let cluster = Cluster::start();
    let server = Server::start(&section(&cluster, "committed"));
    let mut phone = Phone::new(server.sip());
    server.settle();
    phone.register("user0", 1, 600);
    cluster.signal("STOP");
    let start = Instant::now();
    let refused = phone.ask_patiently(
        "REGISTER",
        "user0",
        2,
        "Contact: <sip:user0@10.1.2.3:5060>;expires=600\r\n",
    );
    let took = start.elapsed();
    assert!(refused.starts_with("SIP/2.0 503"), "{refused}");
    assert!(took < Duration::from_secs(12), "{took:?}");
    cluster.signal("CONT");
    server.settle();
    // What was not acknowledged was not lost either.
    assert_eq!(cluster.table(), expected(0..1, 2));
    phone.register("user0", 3, 600);
    assert_eq!(cluster.table(), expected(0..1, 3));
}

#[test]
fn who_waits_is_answered_before_an_orderly_end() {
    let cluster = Cluster::start();
    let mut server = Server::start(&section(&cluster, "committed"));
    let mut phone = Phone::new(server.sip());
    server.settle();
    cluster.query(SLOW);
    let (sip, started) = (server.sip(), Arc::new(AtomicBool::new(false)));
    let begun = Arc::clone(&started);
    let waiting = std::thread::spawn(move || {
        let mut phone = Phone::new(sip);
        begun.store(true, Ordering::SeqCst);
        phone.register("alice", 1, 600);
    });
    server.wait_for("it waits", Duration::from_secs(10), |server| {
        started.load(Ordering::SeqCst) && server.metric("strowger_requests_waiting") == 1
    });
    server.end();
    waiting.join().expect("it got its 200");
    assert_eq!(cluster.number("SELECT count(*) FROM location"), 1);
    server.restart_ended();
    server.settle();
    assert_eq!(phone.contacts("alice").len(), 1);
}

/// Each statement that changes the table takes 400 ms.
const SLOW: &str = "CREATE OR REPLACE FUNCTION slow() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END' LANGUAGE plpgsql; \
    CREATE TRIGGER slow AFTER INSERT OR UPDATE OR DELETE ON location FOR EACH STATEMENT EXECUTE FUNCTION slow()";
const FLUSH_MS: u32 = 20;
/// Phones at one socket.
const USERS: usize = 1_000;
/// Sockets.
const LINES: usize = 2;
/// REGISTERs that leave before answers are read.
const AT_ONCE: usize = 16;
