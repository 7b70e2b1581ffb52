//! TCP beside UDP: which transport a message takes, what its Via and our Record-Route say, and what a lost connection does.

use super::bed::*;
use strowger::counters::Counter;
use strowger::datagram::Transport::{Tcp, Udp};
use strowger::proxy::Settings;
use strowger::time::Duration;

/// Where Bob's connection comes from.
const BOB_TCP: &str = "203.0.113.9:41000";
const ALICE_TCP: &str = "203.0.113.5:42000";

fn by_tcp(text: &str) -> String {
    text.replace("SIP/2.0/UDP", "SIP/2.0/TCP")
}

/// Bob registers over a connection.
fn register_bob(bed: &mut Bed) {
    let text = by_tcp(&register("bob", BOB, 1, "")).replace(
        &format!("<sip:bob@{BOB}>"),
        &format!("<sip:bob@{BOB};transport=tcp>"),
    );
    bed.receive_by_tcp(BOB_TCP, &text);
    let ok = bed.sent_one();
    assert_eq!(
        (ok.status(), ok.flow.transport, ok.to().as_str()),
        (200, Tcp, BOB_TCP)
    );
}

/// A long body.
fn body(len: usize) -> String {
    format!("Subject: {}\n", "x".repeat(len))
}

#[test]
fn a_call_is_bridged_from_udp_to_tcp_and_back() {
    let mut bed = Bed::new();
    register_bob(&mut bed);
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    assert_eq!(
        (relayed.flow.transport, relayed.to().as_str()),
        (Tcp, BOB_TCP)
    );
    assert!(
        relayed
            .header("Via")
            .expect("ours")
            .starts_with(&format!("SIP/2.0/TCP {PROXY}"))
    );
    // RFC 5658: two values, for the transports differ.
    let records = relayed.headers("Record-Route");
    assert_eq!(records.len(), 2, "{records:?}");
    assert!(records[0].contains(&format!("@{PROXY};transport=tcp;lr")));
    assert!(records[1].contains(&format!("@{PROXY};lr")));
    // Over TCP nothing is retransmitted; Timer B ends it all the same.
    bed.wait(Duration::from_secs(20));
    bed.sent_none();
    let answer = relayed.answer(200, &format!("Contact: <sip:bob@{BOB};transport=tcp>\n"));
    bed.receive_by_tcp(BOB_TCP, &answer);
    let ok = bed.sent_one();
    assert_eq!(
        (ok.status(), ok.flow.transport, ok.to().as_str()),
        (200, Udp, ALICE)
    );

    // Alice hangs up: by both of our values, over Bob's connection.
    let routes: String = relayed
        .headers("Record-Route")
        .iter()
        .rev()
        .map(|value| format!("Route: {value}\n"))
        .collect();
    let to = format!("To: {}", ok.header("To").expect("a To"));
    let bye = request(
        "BYE",
        &format!("sip:bob@{BOB};transport=tcp"),
        ALICE,
        "bye",
        &routes,
    )
    .replace("To: <sip:bob@example.com>", &to)
    .replace("1 BYE", "2 BYE");
    bed.receive(ALICE, &bye);
    let relayed_bye = bed.sent_one();
    assert!(relayed_bye.start_line().starts_with("BYE"));
    assert_eq!(
        (relayed_bye.flow.transport, relayed_bye.to().as_str()),
        (Tcp, BOB_TCP)
    );
    assert!(relayed_bye.headers("Route").is_empty());
    bed.receive_by_tcp(BOB_TCP, &relayed_bye.answer(200, ""));
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn the_callee_hangs_up_over_the_callers_connection() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive_by_tcp(ALICE_TCP, &by_tcp(&invite()));
    let relayed = bed.sent_two().1;
    assert_eq!((relayed.flow.transport, relayed.to().as_str()), (Udp, BOB));
    bed.receive(BOB, &relayed.answer(200, ""));
    let ok = bed.sent_one();
    assert_eq!((ok.flow.transport, ok.to().as_str()), (Tcp, ALICE_TCP));
    let routes: String = relayed
        .headers("Record-Route")
        .iter()
        .map(|value| format!("Route: {value}\n"))
        .collect();
    // From and To change places.
    let bye = format!(
        "BYE sip:alice@{ALICE} SIP/2.0\nVia: SIP/2.0/UDP {BOB};branch=z9hG4bKbye\nMax-Forwards: 70\n{routes}\
         From: {}\nTo: \"Alice\" <sip:alice@example.com>;tag=caller\nCall-ID: call-1\nCSeq: 1 BYE\nContent-Length: 0\n\n",
        ok.header("To").expect("a To")
    );
    bed.receive(BOB, &bye);
    let relayed_bye = bed.sent_one();
    assert_eq!(
        (relayed_bye.flow.transport, relayed_bye.to().as_str()),
        (Tcp, ALICE_TCP)
    );
}

#[test]
fn a_response_whose_connection_is_gone_goes_by_a_new_one() {
    let mut bed = Bed::new();
    bed.receive_by_tcp(ALICE_TCP, &by_tcp(&invite()));
    let missing = bed.sent_one();
    assert_eq!((missing.status(), missing.to().as_str()), (404, ALICE_TCP));
    bed.undelivered(&missing);
    let anew = bed.sent_one();
    // To where the sender says that it listens, at the address that it came from.
    assert_eq!((anew.flow.transport, anew.to().as_str()), (Tcp, ALICE));
    assert_eq!(anew.text, missing.text);
    bed.undelivered(&anew);
    bed.sent_none();
    assert_eq!(bed.count(Counter::DropUnsendable), 1);
}

#[test]
fn a_lost_connection_fails_the_branch_at_once() {
    let mut bed = Bed::new();
    register_bob(&mut bed);
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    bed.undelivered(&relayed);
    assert_eq!(bed.sent_one().status(), 500);
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn what_is_too_long_for_udp_takes_a_connection_that_is_open() {
    const PEER: &str = "203.0.113.6:5060";
    let trusting = |settings: &mut Settings| {
        settings.peers = vec!["203.0.113.0/29".parse().expect("a network")]
    };
    let mut bed = Bed::with_settings(1, trusting);
    let long = request(
        "MESSAGE",
        &format!("sip:x@{PEER}"),
        ALICE,
        "l1",
        &body(1_300),
    );
    bed.receive(ALICE, &long);
    // Nothing tells that the peer speaks TCP.
    assert_eq!(bed.sent_one().flow.transport, Udp);
    bed.connect(PEER);
    bed.receive(ALICE, &long.replace("l1", "l2"));
    let relayed = bed.sent_one();
    assert_eq!((relayed.flow.transport, relayed.to().as_str()), (Tcp, PEER));
    assert!(
        relayed
            .header("Via")
            .expect("ours")
            .starts_with("SIP/2.0/TCP")
    );
    // RFC 3261 18.1.1: refused, it goes by UDP after all.
    bed.undelivered(&relayed);
    assert_eq!(bed.sent_one().flow.transport, Udp);
    // What is short stays with UDP.
    let short = request("MESSAGE", &format!("sip:x@{PEER}"), ALICE, "l3", &body(300));
    bed.receive(ALICE, &short);
    assert_eq!(bed.sent_one().flow.transport, Udp);
}

#[test]
fn a_long_request_takes_the_tcp_of_the_names_records() {
    let trusting = |settings: &mut Settings| {
        settings.peers = vec!["203.0.113.0/29".parse().expect("a network")]
    };
    let mut bed = Bed::with_settings(1, trusting);
    for (len, transport) in [(100, Udp), (1_300, Tcp)] {
        let text = request(
            "MESSAGE",
            "sip:x@gw.example.net",
            ALICE,
            &format!("r{len}"),
            &body(len),
        );
        bed.receive(ALICE, &text);
        bed.resolve(
            "gw.example.net",
            &[(Udp, "198.18.0.1:5060"), (Tcp, "198.18.0.2:5060")],
        );
        assert_eq!(bed.sent_one().flow.transport, transport);
    }
}

#[test]
fn a_phone_that_registered_over_udp_is_never_sent_a_connection() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.connect(BOB);
    bed.receive(
        ALICE,
        &request("MESSAGE", "sip:bob@example.com", ALICE, "u1", &body(1_300)),
    );
    assert_eq!(bed.sent_one().flow.transport, Udp);
}

#[test]
fn what_came_without_a_length_gets_one_on_a_stream() {
    let mut bed = Bed::new();
    register_bob(&mut bed);
    let bare =
        |text: String, body: &str| text.replace("Content-Length: 0\n\n", &format!("\n{body}"));
    let message = bare(
        request("MESSAGE", "sip:bob@example.com", ALICE, "c1", ""),
        "hello",
    );
    bed.receive(ALICE, &message);
    let relayed = bed.sent_one();
    assert_eq!(relayed.headers("Content-Length"), ["5"]);
    assert!(relayed.text.ends_with("\r\n\r\nhello"));

    bed.register("carol", BOB);
    let by_tcp = by_tcp(&request(
        "MESSAGE",
        "sip:carol@example.com",
        ALICE,
        "c2",
        "",
    ));
    bed.receive_by_tcp(ALICE_TCP, &by_tcp);
    let relayed = bed.sent_one();
    bed.receive(
        BOB,
        &relayed.answer(486, "").replace("Content-Length: 0\r\n", ""),
    );
    assert_eq!(bed.sent_one().headers("Content-Length"), ["0"]);
}

#[test]
fn a_message_without_a_known_end_is_not_passed_on() {
    let mut bed = Bed::new();
    register_bob(&mut bed);
    // RFC 4475 3.4.1: the head was read as a stream's, and the body that it had is not there.
    let text = by_tcp(&invite()).replace("Content-Length: 0\n", "Content-Type: application/sdp\n");
    bed.receive_by_tcp(ALICE_TCP, &text);
    let refused = bed.sent_one();
    assert_eq!(refused.start_line(), "SIP/2.0 400 Missing Content-Length");
    assert_eq!(refused.to(), ALICE_TCP);
    // An ACK is never answered.
    bed.receive_by_tcp(ALICE_TCP, &text.replace("INVITE", "ACK"));
    bed.sent_none();
    assert_eq!(bed.count(Counter::DropMalformedAck), 1);
    // By a datagram it is whole.
    bed.receive(ALICE, &text);
    assert!(bed.sent_two().1.start_line().starts_with("INVITE"));
}
