//! Other proxies before and behind us: strict routers, the upstream that takes what is foreign, and maddr.

use super::bed::*;
use std::sync::Arc;
use strowger::counters::Counter;
use strowger::proxy::{Settings, Trunk};

const CARRIER: &str = "198.51.100.7:5060";

fn with_trunk(settings: &mut Settings) {
    let network = |text: &str| text.parse().expect("a network");
    settings.peers = vec![network("203.0.113.0/29"), network("198.51.100.0/24")];
    settings.trunk = Some(Arc::new(Trunk {
        addresses: vec![network("198.51.100.0/24")],
        host: "198.51.100.7".to_owned(),
        port: None,
        transport: None,
    }));
}

#[test]
fn our_users_calls_abroad_go_to_the_trunk() {
    let mut bed = Bed::with_settings(1, with_trunk);
    let call = request("INVITE", "sip:+4930123@pstn.example.net", ALICE, "t1", "");
    bed.receive(ALICE, &call);
    let relayed = bed.sent_two().1;
    assert_eq!(relayed.to(), CARRIER);
    assert_eq!(
        relayed.start_line(),
        "INVITE sip:+4930123@pstn.example.net SIP/2.0"
    );
    bed.receive(CARRIER, &relayed.answer(200, ""));
    assert_eq!(bed.sent_one().status(), 200);
}

#[test]
fn what_the_carrier_sends_abroad_does_not_go_back_to_it() {
    let mut bed = Bed::with_settings(1, with_trunk);
    let call = request("OPTIONS", "sip:x@198.18.0.9", CARRIER, "t2", "");
    bed.receive(CARRIER, &call);
    assert_eq!(bed.sent_one().to(), "198.18.0.9:5060");
    // Nor is the trunk there for users who are not ours.
    let other = request("OPTIONS", "sip:x@198.18.0.9", ALICE, "t3", "")
        .replace("alice@example.com", "alice@elsewhere.example");
    bed.receive(ALICE, &other);
    assert_eq!(bed.sent_one().to(), "198.18.0.9:5060");
}

#[test]
fn a_trunk_that_is_a_name_is_looked_up() {
    let mut bed = Bed::with_settings(1, |settings| {
        with_trunk(settings);
        let mut trunk = settings.trunk.as_deref().cloned().expect("set");
        trunk.host = "carrier.example.net".to_owned();
        settings.trunk = Some(Arc::new(trunk));
    });
    bed.receive(
        ALICE,
        &request("INVITE", "sip:1@pstn.example.net", ALICE, "t4", ""),
    );
    bed.sent();
    bed.resolve(
        "carrier.example.net",
        &[(strowger::datagram::Transport::Udp, CARRIER)],
    );
    assert_eq!(bed.sent_one().to(), CARRIER);
}

#[test]
fn strangers_do_not_reach_the_trunk() {
    let mut bed = Bed::with_settings(1, with_trunk);
    bed.receive(
        BOB,
        &request("INVITE", "sip:1@pstn.example.net", BOB, "t5", ""),
    );
    assert_eq!(bed.sent_one().status(), 403);
    assert_eq!(bed.count(Counter::RefusedForeign), 1);
}

#[test]
fn a_strict_router_behind_us_gets_itself_as_the_target() {
    let mut bed = Bed::with_settings(1, with_trunk);
    let routes = format!("Route: <sip:{PROXY};lr>\nRoute: <sip:198.18.0.5>, <sip:198.18.0.6;lr>\n");
    bed.receive(
        ALICE,
        &request("OPTIONS", "sip:x@198.18.0.9;a=b", ALICE, "s1", &routes),
    );
    let relayed = bed.sent_one();
    // RFC 3261 16.6 step 6.
    assert_eq!(relayed.to(), "198.18.0.5:5060");
    assert_eq!(relayed.start_line(), "OPTIONS sip:198.18.0.5 SIP/2.0");
    assert_eq!(
        relayed.headers("Route"),
        ["<sip:198.18.0.6;lr>", "<sip:x@198.18.0.9;a=b>"]
    );
    let alone = "Route: <sip:198.18.0.5>\n";
    bed.receive(
        ALICE,
        &request("OPTIONS", "sip:x@198.18.0.9", ALICE, "s2", alone),
    );
    let relayed = bed.sent_one();
    assert_eq!(relayed.start_line(), "OPTIONS sip:198.18.0.5 SIP/2.0");
    assert_eq!(relayed.headers("Route"), ["<sip:x@198.18.0.9>"]);
}

#[test]
fn an_maddr_that_is_not_ours_is_a_foreign_target() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(
        ALICE,
        &request(
            "INVITE",
            "sip:bob@example.com;maddr=198.18.0.1",
            ALICE,
            "m1",
            "",
        ),
    );
    assert_eq!(bed.sent_one().status(), 403);
    bed.receive(
        ALICE,
        &request(
            "MESSAGE",
            "sip:bob@example.com;maddr=192.0.2.1",
            ALICE,
            "m2",
            "",
        ),
    );
    assert_eq!(bed.sent_one().to(), BOB);
}
