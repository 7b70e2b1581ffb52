//! Two nodes of a cluster on one Postgres: a row is written by the node whose contact it is, and by the other when that one is gone.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::cluster::Cluster;
use super::database::Database;
use super::phone::Phone;
use super::ports::free_port;
use super::server::Server;

/// A node's `[store]` and `[cluster]`.
fn sections(url: &str, id: u16, own: SocketAddr, peer: SocketAddr, flush_ms: u32) -> String {
    format!(
        "url = \"{url}\"\nflush_ms = {flush_ms}\n[cluster]\nserver_id = {id}\nlisten = \"{own}\"\npeers = [\"sip:{peer}\"]\nping_s = 1\n"
    )
}

#[test]
fn a_row_is_its_owners_and_falls_to_the_other_node_with_it() {
    let postgres = Cluster::start();
    let url = postgres.url();
    let address = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let (dmq_a, dmq_b) = (address(), address());
    let mut a = Server::start(&sections(&url, 1, dmq_a, dmq_b, 2_000));
    let b = Server::start(&sections(&url, 2, dmq_b, dmq_a, 100));
    let count = |condition: &str| {
        postgres.number(&format!("SELECT count(*) FROM location WHERE {condition}"))
    };
    let know = |server: &Server, count: u64| {
        server.wait_for("it knows the contacts", Duration::from_secs(20), |server| {
            server.metric("strowger_bindings") == count
        });
    };
    let wait = |what: &str, wanted: &dyn Fn() -> bool| {
        let patience = Duration::from_secs(40);
        b.wait_for(what, patience, |_| wanted());
    };
    // Ten phones at A: their rows are A's, and B writes none.
    let (mut at_a, mut at_b) = (Phone::new(a.sip()), Phone::new(b.sip()));
    at_a.register_all(0..10, 1, 600);
    at_a.register("short", 1, 20);
    know(&b, 11);
    a.settle();
    // Both began on an empty database: its tables were made once.
    for server in [&a, &b] {
        assert!(!server.log().contains("ERROR"), "{}", server.log());
    }
    assert_eq!((count("server_id = 1"), count("true")), (11, 11));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(count("server_id = 2"), 0);
    // A phone that moves takes its row with it; a row that is taken away from elsewhere is taken out by its owner.
    at_b.register("user0", 2, 600);
    at_b.register("user1", 2, 0);
    wait("the rows follow", &|| {
        count("server_id = 2") == 1 && count("username = 'user1'") == 0
    });
    let socket_a = format!("udp:{}", a.sip());
    assert_eq!(count(&format!("socket = '{socket_a}'")), 9);
    // What A has acknowledged and not written when it dies, B has heard, and writes: with A's socket, since it is A's.
    at_a.register("late", 1, 600);
    know(&b, 11);
    a.kill();
    assert_eq!(count("username = 'late'"), 0);
    wait("B has taken over", &|| {
        count("username = 'late'") == 1 && count("server_id = 2") >= 10
    });
    assert_eq!(
        count(&format!("username = 'late' AND socket = '{socket_a}'")),
        1
    );
    // What it has taken over it also ends, and takes away.
    at_b.register("user2", 2, 0);
    wait("what has ended has no row", &|| {
        count("username = 'short'") == 0 && count("username = 'user2'") == 0
    });
    // A is back: it has all, of the table and of B, and its contacts are its own again.
    a.restart_ended();
    know(&a, 9);
    let mut at_a = Phone::new(a.sip());
    at_a.register("user3", 3, 600);
    a.settle();
    wait("the row is A's", &|| {
        count("username = 'user3' AND server_id = 1 AND cseq = 3") == 1
    });
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(count("username = 'user3' AND server_id = 1"), 1);
    assert_eq!(count("true"), 9);
}
