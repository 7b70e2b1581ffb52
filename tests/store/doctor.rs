//! `strowger doctor --config FILE`: what it says of a database before a server uses it.

use std::process::Command;

use serde_json::Value;

use super::binary::binary;
use super::cluster::Cluster;
use super::database::{Database, SqliteFile};
use super::phone::Phone;
use super::scratch::Scratch;
use super::server::Server;

/// What it finds of the store with this URL, by subject: level, text and cure.
fn findings(url: &str) -> Vec<(String, String, String, String)> {
    let scratch = Scratch::new();
    let file = scratch.path().join("strowger.toml");
    let text = format!(
        "[[listen]]\naddress = \"127.0.0.1:5060\"\nbackend = \"udp\"\n[store]\nurl = \"{url}\"\n"
    );
    std::fs::write(&file, text).expect("a file of ours");
    let output = Command::new(binary())
        .args(["doctor", "--interface", "lo", "--json", "--config"])
        .arg(&file)
        .output()
        .expect("the binary that cargo built");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let store = report["store"].as_array().expect("a list").iter();
    let of = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    store
        .map(|finding| {
            (
                of(finding, "subject"),
                of(finding, "level"),
                of(finding, "text"),
                of(finding, "cure"),
            )
        })
        .collect()
}

#[track_caller]
fn level(findings: &[(String, String, String, String)], subject: &str) -> String {
    let found = findings.iter().find(|(name, ..)| name == subject);
    found.expect("it is looked at").1.clone()
}

#[test]
fn a_postgres_is_looked_at_and_a_sequence_that_runs_out_is_warned_of() {
    let cluster = Cluster::start();
    let empty = findings(&cluster.url());
    assert_eq!(level(&empty, "store"), "ok", "{empty:?}");
    assert_eq!(level(&empty, "sync"), "ok", "{empty:?}");
    assert!(
        empty
            .iter()
            .any(|(_, _, text, _)| text.contains("location, ")),
        "{empty:?}"
    );
    assert!(
        cluster
            .query("SELECT 1 FROM pg_tables WHERE tablename = 'location'")
            .is_empty()
    );

    let mut server = Server::start(&format!("url = \"{}\"", cluster.url()));
    Phone::new(server.sip()).register_all(0..3, 1, 600);
    server.end();
    let fresh = findings(&cluster.url());
    assert!(
        fresh.iter().all(|(_, level, ..)| level == "ok"),
        "{fresh:?}"
    );
    let of_location = |(name, _, text, _): &&(String, String, String, String)| {
        name == "sequence" && text.starts_with("location: ")
    };
    let used = fresh.iter().find(of_location).expect("it has one");
    assert!(used.2.starts_with("location: 3 of 2147483647 "), "{used:?}");

    cluster.query("SELECT setval('location_id_seq', 1073741824)");
    let worn = findings(&cluster.url());
    let used = worn.iter().find(of_location).expect("it has one");
    assert_eq!(used.1, "warn", "{used:?}");
    assert!(used.3.contains("bigint"), "{used:?}");
    // The cure is one: what it names can be run as it stands, and the server goes on with it.
    let (cure, _) = used
        .3
        .split_once(" (it rewrites")
        .expect("statements, and a remark");
    cluster.query(cure);
    let cured = findings(&cluster.url());
    assert!(
        cured.iter().all(|(_, level, ..)| level == "ok"),
        "{cured:?}"
    );
    server.restart_ended();
    Phone::new(server.sip()).register_all(3..6, 1, 600);
    server.settle();
    assert_eq!(cluster.number("SELECT count(*) FROM location"), 6);

    cluster.query("UPDATE version SET table_version = 8 WHERE table_name = 'location'");
    assert_eq!(level(&findings(&cluster.url()), "tables"), "fail");
    cluster.query("ALTER SYSTEM SET full_page_writes = off");
    cluster.query("SELECT pg_reload_conf()");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(level(&findings(&cluster.url()), "sync"), "warn");
    cluster.crash();
    assert_eq!(level(&findings(&cluster.url()), "store"), "fail");
}

#[test]
fn a_file_of_sqlites_is_looked_at_and_not_made() {
    let scratch = Scratch::new();
    let file = scratch.path().join("bindings.db");
    let database = SqliteFile(&file);
    let url = database.url();
    assert_eq!(level(&findings(&url), "store"), "ok");
    assert!(!file.exists());
    let mut server = Server::start(&format!("url = \"{url}\""));
    Phone::new(server.sip()).register_all(0..3, 1, 600);
    server.settle();
    let beside = findings(&url);
    assert!(
        beside.iter().all(|(_, level, ..)| level == "ok"),
        "{beside:?}"
    );
    server.end();
    let rows = beside
        .iter()
        .find(|(_, _, text, _)| text.starts_with("location: 3 of "));
    assert!(rows.is_some(), "{beside:?}");
    std::fs::write(&file, "no database").expect("a file of ours");
    assert_eq!(level(&findings(&url), "store"), "fail");
}
