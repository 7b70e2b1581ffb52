//! Bindings outlive the process, however it ends.

use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::database::{Database, SqliteFile};
use super::phone::{Phone, expected};
use super::scratch::Scratch;
use super::server::Server;

fn store(database: &impl Database) -> String {
    format!("url = \"{}\"", database.url())
}

/// Registers, refreshes and removes, kills the server, and sees what it knows afterwards.
fn survives_a_kill(database: &impl Database) {
    let mut server = Server::start(&store(database));
    let mut phone = Phone::new(server.sip());
    phone.register_all(0..600, 1, 600);
    phone.register_all(0..300, 2, 600);
    phone.register_all(0..100, 3, 0);
    server.settle();
    assert_eq!(database.number("SELECT count(*) FROM location"), 500);
    server.restart();
    server.settle();
    assert_eq!(server.metric("strowger_bindings"), 500);
    for n in [0, 99, 100, 299, 300, 599] {
        let held = phone.contacts(&format!("user{n}"));
        assert_eq!(held.len(), usize::from(n >= 100), "user{n}: {held:?}");
    }
    // A CSeq of before the restart is still out of order, and a refresh is still the same row.
    let rows = database.query("SELECT ruid FROM location ORDER BY ruid");
    let stale = phone.ask(
        "REGISTER",
        "user200",
        1,
        "Contact: <sip:user200@10.1.2.3:5060>;expires=600\r\n",
    );
    assert!(stale.starts_with("SIP/2.0 500"), "{stale}");
    phone.register_all(100..600, 4, 600);
    server.settle();
    assert_eq!(database.table(), expected(100..600, 4));
    assert_eq!(
        database.query("SELECT ruid FROM location ORDER BY ruid"),
        rows
    );
    // What comes last is written before an orderly end.
    phone.register_all(600..700, 1, 600);
    server.end();
    assert_eq!(database.number("SELECT count(*) FROM location"), 600);
}

#[test]
fn bindings_in_sqlite_survive_a_kill() {
    let scratch = Scratch::new();
    survives_a_kill(&SqliteFile(&scratch.path().join("bindings.db")));
}

#[test]
fn bindings_in_postgres_survive_a_kill() {
    survives_a_kill(&Cluster::start());
}

#[test]
fn who_is_not_loaded_yet_is_looked_up_on_demand() {
    let cluster = Cluster::start();
    let mut server = Server::start(&store(&cluster));
    let mut phone = Phone::new(server.sip());
    phone.register_all(0..200, 1, 600);
    server.settle();
    server.end();
    // Reading all of the table takes five seconds; what is looked for by its index comes at once.
    cluster.query("ALTER TABLE location RENAME TO held");
    cluster.query(
        "CREATE FUNCTION pause(username text) RETURNS boolean AS \
         'BEGIN IF username = ''user0'' THEN PERFORM pg_sleep(5); END IF; RETURN true; END' LANGUAGE plpgsql COST 100000; \
         CREATE VIEW location AS SELECT * FROM held WHERE pause(username)",
    );
    server.restart_ended();
    let start = Instant::now();
    assert_eq!(phone.contacts("user150").len(), 1);
    let answer = phone.ask("INVITE", "nobody", 1, "");
    assert!(answer.starts_with("SIP/2.0 404"), "{answer}");
    // A removal finds what it removes, and a CSeq of before is still out of order.
    phone.register("user151", 2, 0);
    let contact = "Contact: <sip:user152@10.1.2.3:5060>;expires=600\r\n";
    let stale = phone.ask("REGISTER", "user152", 0, contact);
    assert!(stale.starts_with("SIP/2.0 500"), "{stale}");
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(server.metric("strowger_store_up"), 0, "it still loads");
    assert!(server.metric("strowger_row_waits_total{outcome=\"loaded\"}") >= 4);
    server.settle();
    assert_eq!(server.metric("strowger_bindings"), 199);
    assert_eq!(cluster.number("SELECT count(*) FROM held"), 199);
}

#[test]
fn refreshes_take_no_number_of_the_sequence() {
    let cluster = Cluster::start();
    let server = Server::start(&store(&cluster));
    let mut phone = Phone::new(server.sip());
    phone.register_all(0..200, 1, 600);
    server.settle();
    let before = cluster.number("SELECT last_value FROM location_id_seq");
    for cseq in 2..12 {
        phone.register_all(0..200, cseq, 600);
        server.settle();
    }
    assert_eq!(cluster.table(), expected(0..200, 11));
    assert_eq!(
        cluster.number("SELECT last_value FROM location_id_seq"),
        before
    );
}

#[test]
fn what_expired_while_nobody_was_there_is_not_loaded_and_goes() {
    let scratch = Scratch::new();
    let cluster = Cluster::start();
    let file = scratch.path().join("bindings.db");
    let sqlite = SqliteFile(&file);
    let databases: [&dyn Database; 2] = [&cluster, &sqlite];
    for database in databases {
        let mut server = Server::start(&format!("url = \"{}\"", database.url()));
        let mut phone = Phone::new(server.sip());
        phone.register_all(0..50, 1, 2);
        phone.register_all(50..60, 1, 600);
        server.end();
        std::thread::sleep(Duration::from_millis(2_500));
        server.restart_ended();
        server.settle();
        assert_eq!(server.metric("strowger_bindings"), 10);
        server.wait_for("they are purged", Duration::from_secs(10), |_| {
            database.number("SELECT count(*) FROM location") == 10
        });
    }
}

#[test]
fn a_removed_or_expired_binding_leaves_the_table() {
    let scratch = Scratch::new();
    let file = scratch.path().join("bindings.db");
    let database = SqliteFile(&file);
    let server = Server::start(&store(&database));
    let mut phone = Phone::new(server.sip());
    phone.register_all(0..20, 1, 2);
    phone.register_all(20..40, 1, 600);
    phone.register_all(20..30, 2, 0);
    server.wait_for("the dead are gone", Duration::from_secs(30), |_| {
        database.table() == expected(30..40, 1)
    });
}
