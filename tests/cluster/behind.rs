//! A Kamailio that cannot keep up: it costs bounded memory, falls behind, and is repaired.

use std::net::SocketAddr;
use std::time::Duration;

use super::folder::Folder;
use super::kamailio::Kamailio;
use super::load::Load;
use super::node::Node;
use super::pair::{asked, wait_for};
use super::together::assert_alike;

#[test]
fn a_kamailio_that_cannot_keep_up_is_repaired_from_bounded_memory() {
    let folder = Folder::new(99);
    let address = |last| SocketAddr::from(([127, 0, 99, last], 5_060));
    let kamailio = Kamailio::start(
        &folder.path,
        address(1),
        &[SocketAddr::from(([127, 0, 99, 3], 5_062))],
    );
    let node = Node::start(&folder.path, address(3), &[address(1)]);
    let (asked, rate) = (asked("STROWGER_BEHIND_PHONES", 10_000), 5_000);
    let users = || (0..asked).map(|n| format!("load{n}"));
    let count = asked.to_string();
    let refresh = |seconds: &str| {
        let further = ["--phones", &count, "--time", seconds, "--port", "22000"];
        Load::start(node.sip(), rate, &further)
    };
    let further = ["--phones", &count, "--count", &count, "--port", "22000"];
    Load::start(node.sip(), rate, &further).finish();
    let is_synced =
        || kamailio.count() == node.count() && node.call("cluster.status")["synced"] == true;
    wait_for("Kamailio has all", Duration::from_secs(60), is_synced);

    // It stands still while all are refreshed, more than once.
    let before = node.memory_of("VmRSS");
    kamailio.signal("-STOP");
    let result = refresh("4").finish();
    let told = node.call("dmq.list_nodes")[1].clone();
    let grown = node.memory_of("VmHWM").saturating_sub(before);
    println!(
        "beside a Kamailio that stands still {} refreshes, q99.9 {} ms; {} contacts wait for it, behind: {}, lag {} ms; the process grew by {grown} bytes",
        result["successes"],
        result["kinds"][0]["latency_ms"]["q99.9"],
        told["waiting"],
        told["behind"],
        told["lag_ms"]
    );
    assert_eq!(result["kinds"][0]["success_percent"], 100.0, "{result:#}");
    assert_eq!(told["behind"], true, "{told:#}");
    assert!(
        told["waiting"].as_u64() <= Some(4_096 + 32 * 150),
        "{told:#}"
    );
    assert!(grown < 16 << 20, "{grown}");
    kamailio.signal("-CONT");
    let took = wait_for("it is repaired", Duration::from_secs(60), is_synced);
    println!("it has what it missed {took:?} after it goes on");
    assert_alike(
        "Kamailio and the node",
        &kamailio.dump(users()),
        &node.dump(),
    );
}
