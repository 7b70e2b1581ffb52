//! Figures of the store: rows a second, the start with a full table, what a million refreshes take of a sequence. A run of all tests is content
//! with few rows and asks for little; `STROWGER_ROWS=1000000` asks for what the project promises, of a release build.

use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::crowd::Crowd;
use super::database::{Database, SqliteFile};
use super::phone::Phone;
use super::scratch::Scratch;
use super::server::Server;

/// How many rows, and whether what is promised for a million is asked for.
fn rows() -> (usize, bool) {
    let asked = std::env::var("STROWGER_ROWS").ok();
    let rows = asked.map_or(30_000, |rows| rows.parse().expect("a number"));
    (rows, rows >= 1_000_000)
}

/// Rows a second of what waits for a store that was away: the phones register while `stop` keeps it, and after `go_on` it takes it all.
fn upserts_per_s(
    database: &impl Database,
    rows: usize,
    stop: impl FnOnce(),
    go_on: impl FnOnce(),
) -> (Server, f64) {
    let server = Server::start(&format!("url = \"{}\"", database.url()));
    server.settle();
    stop();
    let registered = Crowd::new(server.sip(), rows, 7_200).register(1);
    assert!(server.metric("strowger_store_backlog") >= rows as u64 / 2);
    go_on();
    server.wait_for("the store is back", Duration::from_secs(60), |server| {
        server.metric("strowger_store_up") == 1
    });
    let (start, waited) = (Instant::now(), server.metric("strowger_store_backlog"));
    server.settle();
    let rate = waited as f64 / start.elapsed().as_secs_f64();
    assert_eq!(
        database.number("SELECT count(*) FROM location"),
        i64::try_from(rows).expect("few")
    );
    println!(
        "{rows} registered in {registered:?}; then {waited} new rows stored at {rate:.0} rows/s"
    );
    (server, rate)
}

/// As above, at a file of SQLite's, on which another writer has its hand meanwhile.
fn upserts_per_s_of_sqlite(database: &SqliteFile<'_>, rows: usize) -> (Server, f64) {
    let other = std::cell::OnceCell::new();
    let stop = || {
        let connection = rusqlite::Connection::open(database.0).expect("the file");
        connection
            .execute_batch("BEGIN IMMEDIATE")
            .expect("nobody else writes");
        assert!(other.set(connection).is_ok());
    };
    let go_on = || {
        other
            .get()
            .expect("set")
            .execute_batch("COMMIT")
            .expect("a commit")
    };
    upserts_per_s(database, rows, stop, go_on)
}

/// Restarts a server with a full table: until it serves, and until all rows are in.
fn restart(server: &mut Server, rows: usize) -> (Duration, Duration) {
    let serving = server.restart();
    let start = Instant::now();
    server.wait_for("all is loaded", Duration::from_secs(120), |server| {
        server.metric("strowger_bindings") == rows as u64
    });
    let loaded = serving + start.elapsed();
    println!("serving after {serving:?}, all {rows} rows in after {loaded:?}");
    (serving, loaded)
}

#[test]
fn postgres_takes_rows_fast_and_gives_them_back_fast() {
    let (rows, is_full) = rows();
    let cluster = Cluster::start();
    let (mut server, rate) = upserts_per_s(&cluster, rows, || cluster.crash(), || cluster.resume());
    let (serving, loaded) = restart(&mut server, rows);
    assert!(rate > 1_000.0, "{rate} rows/s");
    assert!(serving < Duration::from_secs(5), "{serving:?}");
    if is_full {
        assert!(rate >= 40_000.0, "{rate} rows/s");
        assert!(serving < Duration::from_secs(1), "{serving:?}");
        assert!(loaded < Duration::from_secs(10), "{loaded:?}");
    }
}

#[test]
fn sqlite_takes_rows_fast_and_gives_them_back_fast() {
    let (rows, is_full) = rows();
    let scratch = Scratch::new();
    let file = scratch.path().join("bindings.db");
    let (mut server, rate) = upserts_per_s_of_sqlite(&SqliteFile(&file), rows);
    let (serving, loaded) = restart(&mut server, rows);
    assert!(rate > 1_000.0, "{rate} rows/s");
    assert!(serving < Duration::from_secs(5), "{serving:?}");
    if is_full {
        assert!(rate >= 40_000.0, "{rate} rows/s");
        assert!(serving < Duration::from_secs(1), "{serving:?}");
        assert!(loaded < Duration::from_secs(5), "{loaded:?}");
    }
}

/// All bindings of a full table expire at one moment: whoever asks meanwhile is answered soon, and in the end nothing is left of them.
fn all_expire_at_once(database: &impl Database, rows: usize, in_s: &dyn Fn(usize) -> String) {
    let mut server = Server::start(&format!("url = \"{}\"", database.url()));
    Crowd::new(server.sip(), rows, 7_200).register(1);
    server.end();
    let patience = 6 + rows / 50_000;
    database.query(&format!("UPDATE location SET expires = {}", in_s(patience)));
    let start = Instant::now();
    server.restart_ended();
    server.wait_for("all is loaded", Duration::from_secs(120), |server| {
        server.metric("strowger_bindings") == rows as u64
    });
    let mut phone = Phone::new(server.sip());
    let mut waits = Vec::new();
    let mut looked = Instant::now();
    loop {
        let asked = Instant::now();
        let answer = phone.ask("OPTIONS", "nobody", 1, "");
        assert!(answer.starts_with("SIP/2.0 404"), "{answer}");
        waits.push(asked.elapsed());
        std::thread::sleep(Duration::from_millis(1));
        if looked.elapsed() > Duration::from_millis(500) {
            if server.metric("strowger_bindings") == 0
                && database.number("SELECT count(*) FROM location") == 0
            {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(300), "they stay");
            looked = Instant::now();
        }
    }
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    println!(
        "{rows} that expire at once are gone, and their rows, {:?} later; answers meanwhile: median {:?}, p99 {:?}, longest {:?}",
        start.elapsed() - Duration::from_secs(patience as u64),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    assert!(at(0.99) < Duration::from_millis(400), "{:?}", at(0.99));
}

#[test]
fn a_crowd_that_expires_at_once_holds_nobody_up() {
    let (rows, _) = rows();
    let scratch = Scratch::new();
    let file = scratch.path().join("bindings.db");
    all_expire_at_once(&SqliteFile(&file), rows, &|seconds| {
        format!("julianday('now', '+{seconds} seconds')")
    });
}

#[test]
fn a_crowds_refreshes_take_no_number_of_the_sequence() {
    let (refreshes, _) = rows();
    let phones = refreshes.div_ceil(10).min(100_000);
    let cluster = Cluster::start();
    let server = Server::start(&format!("url = \"{}\"", cluster.url()));
    let crowd = Crowd::new(server.sip(), phones, 7_200);
    crowd.register(1);
    server.settle();
    let used = || cluster.number("SELECT last_value FROM location_id_seq");
    let before = used();
    let rounds = u32::try_from(refreshes / phones).expect("few");
    for cseq in 2..2 + rounds {
        crowd.register(cseq);
    }
    server.settle();
    let cseq = cluster.number("SELECT min(cseq) FROM location");
    assert_eq!(cseq, i64::from(1 + rounds), "the last refresh is stored");
    println!(
        "{refreshes} refreshes moved the sequence by {}",
        used() - before
    );
    assert_eq!(used(), before);
}
