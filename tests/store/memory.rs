//! What a binding costs, judged by what the process grows by; and what the server itself says that it takes.

use super::crowd::Crowd;
use super::server::Server;

/// How many bindings: `STROWGER_BINDINGS` of them, else few enough for every run.
fn count() -> usize {
    let asked = std::env::var("STROWGER_BINDINGS").ok();
    asked.map_or(100_000, |count| count.parse().expect("a number"))
}

#[test]
fn a_binding_takes_little_memory() {
    let server = Server::start("url = \"none\"");
    let crowd = Crowd::new(server.sip(), count(), 3_600);
    let before = server.resident();
    let took = crowd.register(1);
    let after = server.resident();
    let each = (after - before) / count() as u64;
    println!(
        "{} bindings: {each} bytes each (RSS {before} -> {after}), registered in {took:?}",
        count()
    );
    println!("{}", server.call("core.shmmem", "[]"));
    let took = crowd.register(2);
    println!(
        "refreshed in {took:?}, {} bytes each",
        (server.resident() - before) / count() as u64
    );
    assert_eq!(server.metric("strowger_bindings"), count() as u64);
    assert!(each <= 450, "{each} bytes a binding");
}
