//! A database that is away, in every way: nobody notices, and when it is back the table is what memory is.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::cluster::Cluster;
use super::database::{Database, SqliteFile};
use super::phone::{Phone, expected};
use super::scratch::Scratch;
use super::server::Server;

/// A server with 100 users registered, and its phone.
fn served(url: &str) -> (Server, Phone) {
    let server = Server::start(&format!("url = \"{url}\"\nflush_ms = 20"));
    let mut phone = Phone::new(server.sip());
    phone.register_all(0..100, 1, 600);
    server.settle();
    (server, phone)
}

/// Refreshes, adds and removes while the database is away.
fn live_on(phone: &mut Phone, cseq: u32) {
    let slowest = phone
        .register_all(0..100, cseq, 600)
        .max(phone.register_all(100..150, cseq, 600));
    phone.register_all(0..10, cseq + 1, 0);
    // A registration that waited for the database would have waited for its timeout.
    assert!(
        slowest < Duration::from_secs(2),
        "a phone waited {slowest:?}"
    );
}

/// Waits until everything is written, and compares.
#[track_caller]
fn assert_reconciled(server: &Server, database: &impl Database, cseq: u32) {
    server.settle();
    assert_eq!(database.table(), expected(10..150, cseq));
    assert_eq!(server.metric("strowger_bindings"), 140);
}

#[test]
fn postgres_killed_and_started_again() {
    let cluster = Cluster::start();
    let (server, mut phone) = served(&cluster.url());
    cluster.crash();
    live_on(&mut phone, 2);
    server.wait_until_down();
    assert!(
        server.health().contains("\"up\":false"),
        "{}",
        server.health()
    );
    // A batch that was under way comes back first.
    server.wait_for("everything waits", Duration::from_secs(5), |server| {
        server.metric("strowger_store_backlog") >= 150
    });
    live_on(&mut phone, 4);
    cluster.resume();
    assert_reconciled(&server, &cluster, 4);
    assert!(
        server.health().contains("\"up\":true"),
        "{}",
        server.health()
    );
    assert!(
        server.log().contains("takes changes again"),
        "{}",
        server.log()
    );
}

#[test]
fn postgres_stopped_in_mid_work() {
    let cluster = Cluster::start();
    let (server, mut phone) = served(&cluster.url());
    for (cseq, pause) in [(2, Duration::from_secs(2)), (4, Duration::from_secs(14))] {
        cluster.signal("STOP");
        live_on(&mut phone, cseq);
        std::thread::sleep(pause);
        // A pause that is shorter than an answer may take is none.
        if pause > Duration::from_secs(10) {
            server.wait_until_down();
        }
        cluster.signal("CONT");
        assert_reconciled(&server, &cluster, cseq);
    }
}

#[test]
fn postgres_comes_back_without_its_rows() {
    let cluster = Cluster::start();
    let (server, mut phone) = served(&cluster.url());
    live_on(&mut phone, 2);
    server.settle();
    // All of it is lost while the server looks on; one refresh shows it.
    cluster.query("TRUNCATE location");
    phone.register("user50", 3, 600);
    server.wait_for("the rows are there again", Duration::from_secs(20), |_| {
        cluster.number("SELECT count(*) FROM location") == 140
    });
    phone.register_all(10..150, 4, 600);
    assert_reconciled(&server, &cluster, 4);
}

#[test]
fn postgres_comes_back_with_an_older_state() {
    let cluster = Cluster::start();
    let (server, mut phone) = served(&cluster.url());
    cluster.crash();
    cluster.back_up();
    cluster.resume();
    live_on(&mut phone, 2);
    assert_reconciled(&server, &cluster, 2);
    // The backup knows nothing of what was written since, and has rows that were removed since.
    cluster.crash();
    cluster.restore();
    cluster.resume();
    server.wait_for("it is noticed", Duration::from_secs(20), |server| {
        server.log().contains("it has lost what it had committed")
    });
    server.wait_for("the tables are equal", Duration::from_secs(20), |_| {
        cluster.table() == expected(10..150, 2)
    });
    server.settle();
}

#[test]
fn postgres_fails_over_to_the_second_host() {
    let primary = Cluster::start();
    let standby = primary.standby();
    let url = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/strowger",
        primary.port(),
        standby.port()
    );
    let (server, mut phone) = served(&url);
    primary.crash();
    live_on(&mut phone, 2);
    server.wait_until_down();
    standby.promote();
    assert_reconciled(&server, &standby, 2);
}

#[test]
fn postgres_refuses_and_relents() {
    let cluster = Cluster::start();
    cluster.query("CREATE ROLE edge LOGIN; ALTER DATABASE strowger OWNER TO edge; GRANT CREATE ON SCHEMA public TO edge");
    let url = cluster.url().replace("postgres@", "edge@");
    let (server, mut phone) = served(&url);
    cluster.query("ALTER TABLE location OWNER TO postgres; REVOKE ALL ON location FROM edge");
    live_on(&mut phone, 2);
    server.wait_until_down();
    assert!(server.metric("strowger_store_errors_total{kind=\"refused\"}") > 0);
    assert!(
        server.log().contains("permission denied"),
        "{}",
        server.log()
    );
    cluster.query("GRANT ALL ON location, location_id_seq TO edge");
    assert_reconciled(&server, &cluster, 2);
}

#[test]
fn postgres_is_slow() {
    let cluster = Cluster::start();
    let (server, mut phone) = served(&cluster.url());
    cluster.query(
        "CREATE FUNCTION slow() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END' LANGUAGE plpgsql; \
         CREATE TRIGGER slow AFTER INSERT OR UPDATE OR DELETE ON location FOR EACH STATEMENT EXECUTE FUNCTION slow()",
    );
    live_on(&mut phone, 2);
    live_on(&mut phone, 4);
    // Slow is not away; what waits is seen.
    assert!(server.metric("strowger_store_backlog") > 0);
    assert_eq!(server.metric("strowger_store_up"), 1);
    assert_reconciled(&server, &cluster, 4);
    let (micros, batches) = (
        server.metric("strowger_store_flush_micros_total"),
        server.metric("strowger_store_batches_total{outcome=\"committed\"}"),
    );
    assert!(micros > 1_000_000 && batches > 0, "{micros} {batches}");
}

#[test]
fn postgres_has_no_room_on_its_disk() {
    let cluster = Cluster::start();
    let scratch = Scratch::new();
    let folder = scratch.path().join("small");
    std::fs::create_dir(&folder).expect("a folder");
    let _unmount = mount(&folder, "4m");
    own(&folder);
    let url = cluster.url();
    let (server, mut phone) = served(&url);
    // The table moves to a disk of its own, which is filled.
    let place = folder.display();
    cluster.query(&format!("CREATE TABLESPACE small LOCATION '{place}'"));
    cluster.query("ALTER TABLE location SET TABLESPACE small");
    let filler = folder.join("filler");
    let _ = std::fs::write(&filler, vec![0; 8 << 20]);
    live_on(&mut phone, 2);
    phone.register_all(200..1_200, 1, 600);
    server.wait_until_down();
    assert!(
        server.metric("strowger_store_errors_total{kind=\"refused\"}") > 0,
        "{}",
        server.log()
    );
    assert!(
        server.log().contains("No space left on device"),
        "{}",
        server.log()
    );
    std::fs::remove_file(&filler).expect("it is there");
    server.settle();
    assert_eq!(
        cluster.number("SELECT count(*) FROM location WHERE cseq < 3"),
        1_140
    );
    phone.register_all(200..1_200, 2, 0);
    live_on(&mut phone, 4);
    assert_reconciled(&server, &cluster, 4);
}

#[test]
fn a_column_that_is_missing_is_named_until_it_is_there() {
    let cluster = Cluster::start();
    let (mut server, mut phone) = served(&cluster.url());
    cluster.query("ALTER TABLE location RENAME COLUMN user_agent TO agent");
    live_on(&mut phone, 2);
    server.wait_until_down();
    assert!(server.metric("strowger_store_errors_total{kind=\"unfit\"}") > 0);
    assert!(server.log().contains("user_agent"), "{}", server.log());
    cluster.query("ALTER TABLE location RENAME COLUMN agent TO user_agent");
    assert_reconciled(&server, &cluster, 2);
    server.end();
}

#[test]
fn a_table_of_another_version_is_not_touched() {
    let cluster = Cluster::start();
    cluster.query("CREATE TABLE version (id SERIAL PRIMARY KEY NOT NULL, table_name VARCHAR(32) NOT NULL UNIQUE, table_version INTEGER DEFAULT 0 NOT NULL)");
    cluster.query("CREATE TABLE location (id SERIAL PRIMARY KEY, ruid VARCHAR(64))");
    cluster.query(
        "INSERT INTO version (table_name, table_version) VALUES ('version', 1), ('location', 8)",
    );
    let server = Server::start(&format!("url = \"{}\"", cluster.url()));
    let mut phone = Phone::new(server.sip());
    phone.register_all(0..10, 1, 600);
    server.wait_for("it says so", Duration::from_secs(20), |server| {
        server
            .log()
            .contains("the table location has version 8, and 9 is needed")
    });
    assert_eq!(server.metric("strowger_store_up"), 0);
    assert_eq!(cluster.number("SELECT count(*) FROM location"), 0);
    cluster.query("DROP TABLE location; DELETE FROM version WHERE table_name = 'location'");
    server.settle();
    assert_eq!(cluster.table(), expected(0..10, 1));
}

#[test]
fn postgres_is_not_there_at_the_start() {
    let cluster = Cluster::start();
    let (mut server, mut phone) = served(&cluster.url());
    server.end();
    cluster.crash();
    server.restart_ended();
    live_on(&mut phone, 2);
    // Somebody who may be in the table is not said to be unknown.
    let answer = phone.ask("INVITE", "nobody", 1, "");
    assert!(answer.starts_with("SIP/2.0 503"), "{answer}");
    cluster.resume();
    assert_reconciled(&server, &cluster, 2);
    let answer = phone.ask("INVITE", "nobody", 2, "");
    assert!(answer.starts_with("SIP/2.0 404"), "{answer}");
}

#[test]
fn a_row_that_the_table_refuses_keeps_no_other_out() {
    let cluster = Cluster::start();
    let (server, mut phone) = served(&cluster.url());
    cluster.query("ALTER TABLE location ADD CHECK (username <> 'user7') NOT VALID");
    cluster.query("DELETE FROM location WHERE username = 'user7'");
    phone.register_all(0..20, 2, 600);
    server.settle();
    assert_eq!(
        cluster.number("SELECT count(*) FROM location WHERE cseq = 2"),
        19
    );
    assert_eq!(phone.contacts("user7").len(), 1);
    assert!(server.metric("strowger_store_rows_unstorable_total") > 0);
}

#[test]
fn a_file_that_is_locked_full_or_gone() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("small");
    std::fs::create_dir(&folder).expect("a folder");
    // Room for a journal at its longest: SQLite takes it over into the file at 1,000 pages of 4 KiB, which a busy machine reaches.
    let _unmount = mount(&folder, "16m");
    let file = folder.join("bindings.db");
    let database = SqliteFile(&file);
    let (server, mut phone) = served(&database.url());

    // Locked by somebody else.
    let other = rusqlite::Connection::open(&file).expect("the file");
    other.execute_batch("BEGIN EXCLUSIVE").expect("it is free");
    live_on(&mut phone, 2);
    server.wait_until_down();
    other.execute_batch("ROLLBACK").expect("it was begun");
    drop(other);
    assert_reconciled(&server, &database, 2);

    // The disk is full.
    let filler = folder.join("filler");
    let _ = std::fs::write(&filler, vec![0; 32 << 20]);
    live_on(&mut phone, 4);
    phone.register_all(200..1_200, 1, 600);
    server.wait_until_down();
    assert!(
        server.metric("strowger_store_errors_total{kind=\"refused\"}") > 0,
        "{}",
        server.log()
    );
    std::fs::remove_file(&filler).expect("it is there");
    server.settle();
    assert_eq!(database.number("SELECT count(*) FROM location"), 1_140);
    phone.register_all(200..1_200, 2, 0);

    // Somebody has removed it.
    server.settle();
    for name in ["bindings.db", "bindings.db-wal", "bindings.db-shm"] {
        std::fs::remove_file(folder.join(name)).expect("it is there");
    }
    live_on(&mut phone, 6);
    server.wait_for(
        "all is written to a new file",
        Duration::from_secs(20),
        |server| {
            server.metric("strowger_store_backlog") == 0
                && file.exists()
                && database.number("SELECT count(*) FROM sqlite_master") > 0
        },
    );
    assert_reconciled(&server, &database, 6);
    let mode = std::fs::metadata(&file)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(
        mode & 0o077,
        0,
        "others can read who is registered, and the hashes of passwords"
    );
}

/// Makes a folder a small file system.
fn mount(folder: &Path, size: &str) -> Unmount {
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
        .arg(folder)
        .status();
    assert!(
        mounted.expect("mount").success(),
        "this test fills a small file system: run it as root"
    );
    Unmount(folder.to_owned())
}

/// Gives a folder to Postgres' user.
fn own(folder: &Path) {
    let status = Command::new("chown").arg("postgres").arg(folder).status();
    assert!(status.expect("chown").success());
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
