//! What the proxy refuses, with which status, and that it keeps nothing of it.

use super::bed::*;
use strowger::counters::Counter;
use strowger::proxy::Notice;

#[track_caller]
fn refused(bed: &mut Bed, text: &str, status: u16) -> Sent {
    bed.receive(ALICE, text);
    let sent = bed.sent_one();
    assert_eq!(sent.status(), status, "{}", sent.text);
    bed.assert_empty();
    sent
}

#[test]
fn strangers_and_the_absent_are_told_apart() {
    let mut bed = Bed::new();
    refused(&mut bed, &invite(), 404);
    bed.register("bob", BOB);
    bed.receive(BOB, &register("bob", BOB, 2, "Expires: 0\n"));
    bed.sent();
    refused(&mut bed, &invite(), 480);
}

#[test]
fn we_are_no_open_relay() {
    let mut bed = Bed::new();
    let foreign = request("INVITE", "sip:bob@203.0.113.200", ALICE, "f1", "");
    refused(&mut bed, &foreign, 403);
    let preloaded = request(
        "INVITE",
        "sip:bob@203.0.113.200",
        ALICE,
        "f2",
        &format!("Route: <sip:{PROXY};lr>\n"),
    );
    refused(&mut bed, &preloaded, 403);
    let onward = format!("Route: <sip:{PROXY};lr>\nRoute: <sip:203.0.113.201;lr>\n");
    refused(
        &mut bed,
        &request("INVITE", "sip:bob@example.com", ALICE, "f3", &onward),
        403,
    );
    let in_dialog = foreign
        .replace(
            "To: <sip:bob@example.com>",
            "To: <sip:bob@example.com>;tag=x",
        )
        .replace("f1", "f4");
    refused(&mut bed, &in_dialog, 403);
    assert_eq!(bed.count(Counter::RefusedForeign), 4);
}

#[test]
fn a_peer_may_go_anywhere() {
    let mut bed = Bed::with_settings(1, |settings| {
        settings.peers = vec!["203.0.113.0/29".parse().expect("a network")]
    });
    bed.receive(
        ALICE,
        &request("OPTIONS", "sip:bob@198.18.0.1:5080", ALICE, "p1", ""),
    );
    assert_eq!(bed.sent_one().to(), "198.18.0.1:5080");
}

#[test]
fn the_tag_of_a_refusal_absorbs_its_ack() {
    let mut bed = Bed::new();
    let missing = refused(&mut bed, &invite(), 404);
    assert!(missing.header("To").is_some_and(|to| to.contains(";tag=")));
    bed.receive(ALICE, &ack_of(&invite(), &missing));
    bed.sent_none();
    assert_eq!(bed.count(Counter::AcksAbsorbed), 1);
}

#[test]
fn hops_run_out_with_483() {
    let mut bed = Bed::new();
    refused(
        &mut bed,
        &invite().replace("Max-Forwards: 70", "Max-Forwards: 0"),
        483,
    );
}

#[test]
fn a_request_that_comes_round_is_482() {
    let mut bed = Bed::new();
    bed.register("bob", PROXY);
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    bed.receive(
        PROXY,
        &relayed
            .text
            .replace(&format!("sip:bob@{PROXY}"), "sip:bob@example.com"),
    );
    assert_eq!(bed.sent_one().status(), 482);
}

#[test]
fn schemes_extensions_and_requirements_are_refused_by_their_own_codes() {
    let mut bed = Bed::new();
    refused(
        &mut bed,
        &request("INVITE", "tel:+4930123", ALICE, "s1", ""),
        416,
    );
    let required = refused(
        &mut bed,
        &request(
            "INVITE",
            "sip:bob@example.com",
            ALICE,
            "s2",
            "Proxy-Require: foo, bar\n",
        ),
        420,
    );
    assert_eq!(required.headers("Unsupported"), ["foo", "bar"]);
}

#[test]
fn a_malformed_request_gets_its_4xx_and_a_malformed_ack_nothing() {
    let mut bed = Bed::new();
    let torn = invite().replace("CSeq: 1 INVITE", "CSeq: one INVITE");
    refused(&mut bed, &torn, 400);
    bed.receive(ALICE, &torn.replace("INVITE", "ACK"));
    bed.sent_none();
    bed.receive(ALICE, "\n\n");
    assert_eq!(bed.sent_one().text, "\r\n");
    bed.receive(ALICE, "rubbish");
    bed.sent_none();
}

#[test]
fn options_to_us_is_answered() {
    let mut bed = Bed::new();
    let options = refused(
        &mut bed,
        &request("OPTIONS", "sip:example.com", ALICE, "o1", ""),
        200,
    );
    assert!(
        options
            .header("Allow")
            .is_some_and(|allow| allow.contains("INVITE"))
    );
    refused(
        &mut bed,
        &request("OPTIONS", &format!("sip:{PROXY}"), ALICE, "o2", ""),
        200,
    );
}

#[test]
fn draining_refuses_what_is_new_and_serves_what_is_under_way() {
    let mut bed = Bed::new();
    let (answered, _) = super::calls::set_up(&mut bed);
    bed.notice(Notice::Drain);
    let other =
        request("INVITE", "sip:bob@example.com", ALICE, "d1", "").replace("call-1", "call-2");
    bed.receive(ALICE, &other);
    let refused = bed.sent_one();
    assert_eq!(
        (refused.status(), refused.header("Retry-After").is_some()),
        (503, true)
    );
    bed.receive(BOB, &register("bob", BOB, 9, ""));
    assert_eq!(bed.sent_one().status(), 503);
    let routes = super::calls::route_lines(&answered.headers("Record-Route"), true);
    let bye = request("BYE", &format!("sip:bob@{BOB}"), ALICE, "d2", &routes)
        .replace(
            "To: <sip:bob@example.com>",
            "To: <sip:bob@example.com>;tag=callee",
        )
        .replace("CSeq: 1", "CSeq: 2");
    bed.receive(ALICE, &bye);
    assert_eq!(bed.sent_one().to(), BOB);
}

#[test]
fn at_the_bound_of_transactions_the_caller_is_asked_to_come_back() {
    let mut bed = Bed::with_settings(1, |settings| settings.transactions_max = 2);
    bed.register("bob", BOB);
    bed.receive(ALICE, &invite());
    bed.sent();
    bed.receive(
        ALICE,
        &invite().replace("inv1", "inv2").replace("call-1", "call-2"),
    );
    let full = bed.sent_one();
    assert_eq!(
        (full.status(), full.header("Retry-After").is_some()),
        (503, true)
    );
    assert_eq!(bed.count(Counter::RefusedTransactions), 1);
}
