//! Figures of the store: rows a second, the start with a full table, what a million refreshes take of a sequence. A run of all tests is content
//! with few rows and asks for little; `STROWGER_ROWS=1000000` asks for what the project promises, of a release build.

use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::crowd::Crowd;
use super::database::{Database, SqliteFile};
use super::scratch::Scratch;
use super::server::Server;

/// How many rows, and whether what is promised for a million is asked for.
fn rows() -> (usize, bool) {
    let asked = std::env::var("STROWGER_ROWS").ok();
    let rows = asked.map_or(30_000, |rows| rows.parse().expect("a number"));
    (rows, rows >= 1_000_000)
}

/// Rows a second of what waits for a store that was away: the phones register with memory first, then the store takes it all.
fn upserts_per_s(database: &impl Database, rows: usize) -> (Server, f64) {
    let server = Server::start(&format!("url = \"{}\"\nflush_ms = 100", database.url()));
    server.settle();
    let crowd = Crowd::new(server.sip(), rows, 7_200);
    let start = Instant::now();
    let registered = crowd.register(1);
    server.settle();
    let stored = start.elapsed();
    assert_eq!(
        database.number("SELECT count(*) FROM location"),
        i64::try_from(rows).expect("few")
    );
    println!(
        "{rows} REGISTERs in {registered:?}, all stored after {stored:?}: {:.0} new rows/s at least",
        rows as f64 / stored.as_secs_f64()
    );
    let rate = rows as f64 / stored.as_secs_f64();
    (server, rate)
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
    let (mut server, rate) = upserts_per_s(&cluster, rows);
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
    let (mut server, rate) = upserts_per_s(&SqliteFile(&file), rows);
    let (serving, loaded) = restart(&mut server, rows);
    assert!(rate > 1_000.0, "{rate} rows/s");
    assert!(serving < Duration::from_secs(5), "{serving:?}");
    if is_full {
        assert!(rate >= 40_000.0, "{rate} rows/s");
        assert!(serving < Duration::from_secs(1), "{serving:?}");
        assert!(loaded < Duration::from_secs(5), "{loaded:?}");
    }
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
