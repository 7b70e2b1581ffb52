//! What a binding costs, judged by what the process grows by; and what the server itself says that it takes.

use super::crowd::Crowd;
use super::server::Server;

/// How many bindings: `STROWGER_BINDINGS` of them, else few enough for every run, and enough that the huge pages by which the allocator
/// grows do not count.
fn count() -> usize {
    let asked = std::env::var("STROWGER_BINDINGS").ok();
    asked.map_or(300_000, |count| count.parse().expect("a number"))
}

#[test]
fn a_binding_takes_little_memory_and_the_report_accounts_for_it() {
    let server = Server::start("url = \"none\"");
    let crowd = Crowd::new(server.sip(), count(), 3_600);
    let before = server.resident();
    // The first pay for what all others use: code, buffers, the allocator's own.
    let first = count() / 50;
    Crowd::new(server.sip(), first, 3_600).register(1);
    let (warm, reported) = (server.resident(), server.call("core.memory", "[]"));
    let took = crowd.register(2);
    let (after, report) = (server.resident(), server.call("core.memory", "[]"));
    let (grown, each) = (after - warm, (after - before) / count() as u64);
    println!(
        "{} bindings: {each} bytes each, registered in {took:?}",
        count()
    );
    println!("{report:#}");
    let took = crowd.register(3);
    let refreshed = (server.resident() - before) / count() as u64;
    println!("refreshed in {took:?}: {refreshed} bytes each");
    assert_eq!(server.metric("strowger_bindings"), count() as u64);
    assert!(
        each <= 450 && refreshed <= 450,
        "{each}, {refreshed} bytes a binding"
    );
    // What the server says of itself is what the kernel sees.
    let sum = |report: &serde_json::Value| report["sum"].as_u64().expect("a number");
    let accounted = sum(&report) - sum(&reported);
    println!("{accounted} of {grown} bytes are accounted for");
    assert!(
        accounted * 4 >= grown * 3 && accounted * 4 <= grown * 5,
        "{accounted} of {grown} bytes are accounted for"
    );
    let texts = report["categories"]["texts"].as_u64().expect("a number");
    assert_eq!(
        server.metric("strowger_memory_bytes{category=\"texts\"}"),
        texts
    );
    let kamailios = server.call("core.shmmem", "[]");
    assert!(
        kamailios["real_used"].as_u64() >= Some(after / 2),
        "{kamailios}"
    );
}
