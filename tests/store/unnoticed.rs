//! Phones go on registering, and wait no longer, while Postgres is stopped and while it is dead; when it is back the table is what
//! memory is.
//!
//! In CI a few seconds a phase, at a rate that a debug build and a busy machine can carry, and what is asked of the waits is
//! little. `OUTAGE_SECONDS=60` is the figure of the product: 10,000 REGISTER/s, 100,000 phones, the q99.9 the same within a factor
//! of 1.5, with the release build (`STROWGER_BINARY`) and the two cores to itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::cluster::Cluster;
use super::database::Database;
use super::load::{Load, q999_ms};
use super::ports::free_ports;
use super::server::Server;

/// What phones register: how many of them, how many a second, for how long.
#[derive(Clone, Copy, Debug)]
struct Refreshes {
    phones: u32,
    rate: u32,
    seconds: u32,
    /// The first of the ports that they send from: with the same one their contacts are the same.
    port: u16,
}

impl Refreshes {
    fn start(self, server: SocketAddr, further: &[&str]) -> Load {
        let Self {
            phones,
            seconds,
            port,
            ..
        } = self;
        let [phones, seconds, port] = [phones.to_string(), seconds.to_string(), port.to_string()];
        let all = [
            "--ports", "4", "--phones", &phones, "--time", &seconds, "--port", &port,
        ];
        Load::start(server, self.rate, &[&all, further].concat())
    }
}

/// One phase of the test.
struct Phase {
    name: &'static str,
    q999_ms: f64,
}

#[test]
fn registrations_are_as_fast_while_postgres_is_stopped_or_dead() {
    let seconds: Option<u32> = std::env::var("OUTAGE_SECONDS")
        .ok()
        .map(|text| text.parse().expect("OUTAGE_SECONDS is a number"));
    let refreshes = Refreshes {
        phones: if seconds.is_some() { 100_000 } else { 2_000 },
        rate: if seconds.is_some() { 10_000 } else { 1_000 },
        seconds: seconds.unwrap_or(2),
        port: free_ports(4),
    };
    let cluster = Cluster::start();
    let server = Server::start(&format!("url = \"{}\"", cluster.url()));
    let first = Refreshes {
        seconds: 1,
        ..refreshes
    };
    let rate = refreshes.rate.to_string();
    let all = ["--prepare", "--prepare-rate", &rate];
    let first = first.start(server.sip(), &all);
    assert_clean("the first registrations", &first.finish());
    server.settle();

    let mut phases = Vec::new();
    let mut phase = |name, refreshes: Refreshes, begin: &dyn Fn()| {
        let load = refreshes.start(server.sip(), &[]);
        // In the midst of the load, so that the outage's beginning is part of what is measured.
        std::thread::sleep(Duration::from_millis(500));
        begin();
        let result = load.finish();
        assert_clean(name, &result);
        let q999_ms = q999_ms(&result);
        eprintln!("{name}: {}", result["kinds"][0]["latency_ms"]);
        phases.push(Phase { name, q999_ms });
    };
    phase("healthy", refreshes, &|| {});
    phase("stopped", refreshes, &|| cluster.signal("STOP"));
    phase("continued", refreshes, &|| cluster.signal("CONT"));
    server.settle();
    phase("killed", refreshes, &|| cluster.signal("KILL"));
    phase("started again", refreshes, &|| cluster.resume());
    phase("healthy again", refreshes, &|| {});

    assert_equal(&server, &cluster, refreshes.phones);
    let [healthy, stopped, killed] = ["healthy", "stopped", "killed"].map(|name| {
        let phase = phases.iter().find(|phase| phase.name == name);
        phase.expect("it was measured").q999_ms
    });
    // Two seconds are too short, and a machine with other work too noisy, to compare more than the order of magnitude.
    let slack_ms = if seconds.is_some() { 0.0 } else { 100.0 };
    for (name, q999_ms) in [("stopped", stopped), ("killed", killed)] {
        assert!(
            q999_ms <= 1.5 * healthy + slack_ms && healthy <= 1.5 * q999_ms + slack_ms,
            "q99.9 healthy {healthy} ms, {name} {q999_ms} ms"
        );
    }
}

/// Asserts that each registration succeeded.
#[track_caller]
fn assert_clean(name: &str, result: &Value) {
    assert!(result["attempts"].as_u64() > Some(0), "{name}: {result:#}");
    assert_eq!(
        result["attempts"], result["successes"],
        "{name}: {result:#}"
    );
}

/// Asserts that the table has what memory has, row by row.
#[track_caller]
fn assert_equal(server: &Server, cluster: &Cluster, phones: u32) {
    server.settle();
    let (memory, table) = (memory(server), table(cluster));
    assert_eq!(memory.len(), phones as usize);
    assert_eq!(memory.len(), table.len());
    for (ruid, binding) in &memory {
        assert_eq!(Some(binding), table.get(ruid), "{ruid}");
    }
    assert_eq!(server.metric("strowger_bindings"), u64::from(phones));
}

/// What a binding is, in both places: user, contact, Call-ID, CSeq, and where it came from.
type Bindings = BTreeMap<String, [String; 5]>;

fn memory(server: &Server) -> Bindings {
    let mut bindings = Bindings::new();
    let mut cursor = Value::Null;
    loop {
        let params = if cursor.is_null() {
            serde_json::json!({ "limit": 10_000 })
        } else {
            serde_json::json!({ "limit": 10_000, "cursor": cursor })
        };
        let page = server.call("ul.dump", &params.to_string());
        for aor in page["aors"].as_array().expect("a list") {
            for contact in aor["contacts"].as_array().expect("a list") {
                let text = |key: &str| {
                    let value = &contact[key];
                    let number = || value.as_u64().map(|number| number.to_string());
                    let text = value.as_str().map(str::to_owned);
                    text.or_else(number).unwrap_or_default()
                };
                let user = aor["aor"].as_str().expect("a name").to_owned();
                let binding = [
                    user,
                    text("address"),
                    text("callid"),
                    text("cseq"),
                    text("received"),
                ];
                let was = bindings.insert(text("ruid"), binding);
                assert!(was.is_none(), "a ruid is given once");
            }
        }
        cursor = page["next"].clone();
        if cursor.is_null() {
            return bindings;
        }
    }
}

fn table(cluster: &Cluster) -> Bindings {
    let rows = cluster.query(
        "SELECT ruid, username, contact, callid, cseq, coalesce(received, '') FROM location ORDER BY ruid",
    );
    let binding = |line: &String| {
        let mut columns = line.split('|').map(str::to_owned);
        let mut next = || columns.next().expect("six columns");
        (next(), [next(), next(), next(), next(), next()])
    };
    rows.iter().map(binding).collect()
}
