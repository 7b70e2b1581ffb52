//! A real phone, baresip, with two flows to us (RFC 5626), by TCP and by UDP: it is called by either, its connection is cut, and it
//! comes back as the same instance after it had died.

use std::time::Duration;

use super::baresip::Baresip;
use super::bed::{Bed, Family, Link};
use super::calls::{Backend, configuration};
use super::namespace::run;
use super::scratch::Scratch;
use super::server::Server;

#[test]
fn a_phone_whose_connection_is_cut_is_called_by_its_other_flow() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let server = Server::start(
        &bed.server,
        &scratch,
        &configuration(&bed, Family::V4, Backend::Udp, 2),
    );
    let link = bed.link();
    let mut alice = Baresip::start(link, &scratch, "alice", 5070);
    let mut bob = Baresip::start_by_flows(link, &scratch, "bob", 5080);
    let bindings = || server.metrics().sum("strowger_bindings", "");
    assert_eq!(bindings(), 3, "Alice, and Bob's two flows");

    call(&mut alice, &mut bob);
    cut_connections(link);
    server.wait_for("the connection is gone", PATIENCE, |metrics| {
        metrics.sum("strowger_tcp_connections", "") == 0
    });
    // Whichever was the newest: the one that is left is taken, and once.
    call(&mut alice, &mut bob);
    let opened = |by: &str| {
        let metrics = server.metrics();
        metrics.sum("strowger_tcp_connections_opened_total", by)
    };
    assert_eq!(opened("by=\"us\""), 0, "a flow is never opened by us");

    // The phone dies, and comes back by another connection: its flows are the same two bindings.
    let mut bob = bob.start_again(link, 2);
    assert_eq!(bindings(), 3, "the new flows have replaced the old ones");
    call(&mut alice, &mut bob);
    assert_eq!(opened("by=\"peer\""), 2);
    assert_eq!(opened("by=\"us\""), 0);
}

/// Alice calls Bob, who rings once, and they hang up.
fn call(alice: &mut Baresip, bob: &mut Baresip) {
    alice.command("dial", "sip:bob@example.com");
    bob.await_event("CALL_INCOMING");
    alice.await_event("CALL_RINGING");
    bob.command("accept", "");
    alice.await_event("CALL_ESTABLISHED");
    bob.await_event("CALL_ESTABLISHED");
    std::thread::sleep(TALK);
    alice.command("hangup", "");
    alice.await_event("CALL_CLOSED");
    bob.await_event("CALL_CLOSED");
}

/// Cuts the phones' connections to the server, as a NAT that has lost its memory would.
fn cut_connections(link: &Link) {
    let server = link.sip(Family::V4);
    let killed =
        run(link
            .phones
            .command("ss")
            .args(["-K", "-t", "-H", "dst", &server.to_string()]));
    assert!(killed.contains("ESTAB"), "nothing was cut: {killed}");
}

/// How long they talk.
const TALK: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(5);
