//! Next hops that are names: the branch waits for the answer, and tries its destinations in turn.

use super::bed::*;
use strowger::counters::Counter;
use strowger::datagram::Transport::{Tcp, Udp};
use strowger::proxy::Settings;
use strowger::time::Duration;

const GATEWAY: &str = "198.18.0.1:5060";
const SPARE: &str = "198.18.0.2:5080";

/// Alice is a peer and may call anybody.
fn trusting(settings: &mut Settings) {
    settings.peers = vec!["203.0.113.0/29".parse().expect("a network")];
}

fn abroad(method: &str, extra: &str) -> String {
    request(method, "sip:bob@gw.example.net", ALICE, "n1", extra)
}

/// Alice calls the gateway, which is a name; gives the INVITE that reached the first destination.
fn call(bed: &mut Bed, found: &[(strowger::datagram::Transport, &str)]) -> Sent {
    bed.receive(ALICE, &abroad("INVITE", ""));
    assert_eq!(bed.sent_one().status(), 100);
    bed.resolve("gw.example.net", found);
    bed.sent_one()
}

#[test]
fn a_call_waits_for_the_answer_and_its_retransmission_asks_no_more() {
    let mut bed = Bed::with_settings(1, trusting);
    bed.receive(ALICE, &abroad("INVITE", ""));
    assert_eq!(bed.sent_one().status(), 100);
    let id = bed.asked("gw.example.net");
    bed.receive(ALICE, &abroad("INVITE", ""));
    assert_eq!(bed.sent_one().status(), 100);
    bed.asked_none();
    bed.answer(id, &[(Udp, GATEWAY)]);
    let relayed = bed.sent_one();
    assert_eq!(relayed.to(), GATEWAY);
    assert_eq!(
        relayed.start_line(),
        "INVITE sip:bob@gw.example.net SIP/2.0"
    );
    // A second answer to the same question is nobody's.
    bed.answer(id, &[(Udp, SPARE)]);
    bed.sent_none();
    bed.receive(GATEWAY, &relayed.answer(200, ""));
    assert_eq!(bed.sent_one().status(), 200);
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_name_that_is_nowhere_is_told_to_the_caller() {
    let mut bed = Bed::with_settings(1, trusting);
    bed.receive(ALICE, &abroad("INVITE", ""));
    bed.sent();
    bed.resolve("gw.example.net", &[]);
    assert_eq!(bed.sent_one().status(), 500);
    bed.receive(ALICE, &abroad("MESSAGE", ""));
    bed.resolve("gw.example.net", &[(Udp, "224.0.0.1:5060")]);
    assert_eq!(bed.sent_one().status(), 500);
    assert_eq!(bed.count(Counter::RefusedUnresolvable), 2);
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_resolver_that_takes_or_gives_nothing_holds_nobody() {
    let mut bed = Bed::with_settings(1, trusting);
    bed.receive(ALICE, &abroad("MESSAGE", ""));
    bed.asked("gw.example.net");
    bed.wait(Duration::from_secs(11));
    // RFC 4320 4.1: after 3.5 s it hears that we are at work.
    let (trying, failed) = bed.sent_two();
    assert_eq!((trying.status(), failed.status()), (100, 500));
    bed.fill_resolver();
    bed.receive(ALICE, &abroad("MESSAGE", "").replace("n1", "n2"));
    assert_eq!(bed.sent_one().status(), 500);
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_caller_who_gives_up_while_the_name_is_looked_up_gets_487() {
    let mut bed = Bed::with_settings(1, trusting);
    bed.receive(ALICE, &abroad("INVITE", ""));
    bed.sent();
    let id = bed.asked("gw.example.net");
    bed.receive(ALICE, &abroad("CANCEL", ""));
    let (ok, gone) = bed.sent_two();
    assert_eq!((ok.status(), gone.status()), (200, 487));
    bed.answer(id, &[(Udp, GATEWAY)]);
    bed.sent_none();
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_503_goes_to_the_next_destination_and_not_to_the_caller() {
    let mut bed = Bed::with_settings(1, trusting);
    let first = call(&mut bed, &[(Udp, GATEWAY), (Udp, SPARE)]);
    assert_eq!(first.to(), GATEWAY);
    bed.receive(GATEWAY, &first.answer(503, "Retry-After: 9\n"));
    let (ack, second) = bed.sent_two();
    assert!(ack.start_line().starts_with("ACK"));
    assert_eq!(second.to(), SPARE);
    assert_ne!(second.header("Via"), first.header("Via"));
    // The first one's retransmission is acknowledged, by its own branch.
    bed.receive(GATEWAY, &first.answer(503, ""));
    assert_eq!(bed.sent_one().text, ack.text);
    bed.receive(SPARE, &second.answer(200, ""));
    assert_eq!(bed.sent_one().status(), 200);
    assert_eq!(bed.count(Counter::Failovers), 1);
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn when_every_destination_says_503_the_caller_hears_500() {
    let mut bed = Bed::with_settings(1, trusting);
    let first = call(&mut bed, &[(Udp, GATEWAY), (Udp, SPARE)]);
    bed.receive(GATEWAY, &first.answer(503, ""));
    let second = bed.sent_two().1;
    bed.receive(SPARE, &second.answer(503, ""));
    let (ack, failed) = bed.sent_two();
    assert!(ack.start_line().starts_with("ACK"));
    assert_eq!(failed.status(), 500);
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_silent_destination_is_passed_over_and_cancelled_if_it_wakes() {
    let mut bed = Bed::with_settings(1, trusting);
    let first = call(&mut bed, &[(Udp, GATEWAY), (Udp, SPARE)]);
    bed.wait(Duration::from_millis(4_100));
    let sent = bed.sent();
    let second = sent.last().expect("the second destination's");
    assert_eq!(second.to(), SPARE);
    bed.receive(GATEWAY, &first.answer(180, ""));
    let sent = bed.sent();
    assert!(
        sent.iter()
            .any(|sent| sent.start_line().starts_with("CANCEL") && sent.to() == GATEWAY)
    );
    bed.receive(SPARE, &second.answer(486, ""));
    bed.sent();
    bed.receive(GATEWAY, &first.answer(487, ""));
    let sent = bed.sent();
    assert!(sent.iter().any(|sent| sent.status() == 486), "{sent:#?}");
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_destination_that_says_trying_is_waited_for() {
    let mut bed = Bed::with_settings(1, trusting);
    let first = call(&mut bed, &[(Udp, GATEWAY), (Udp, SPARE)]);
    bed.receive(GATEWAY, &first.answer(100, ""));
    bed.wait(Duration::from_secs(60));
    bed.sent_none();
    // Timer C: 181 s after the 100 at the most.
    bed.wait(Duration::from_secs(125));
    assert!(
        bed.sent()
            .iter()
            .all(|sent| sent.start_line().starts_with("CANCEL"))
    );
    bed.wait(T1_64 + T1_64);
    bed.wait(T1_64);
    bed.assert_empty();
}

#[test]
fn a_refused_connection_or_port_is_passed_over_at_once() {
    let mut bed = Bed::with_settings(1, trusting);
    bed.receive(ALICE, &abroad("MESSAGE", ""));
    bed.resolve("gw.example.net", &[(Tcp, GATEWAY), (Udp, SPARE)]);
    let first = bed.sent_one();
    assert_eq!(first.flow.transport, Tcp);
    assert!(
        first
            .header("Via")
            .expect("a Via")
            .starts_with("SIP/2.0/TCP ")
    );
    bed.undelivered(&first);
    let second = bed.sent_one();
    assert_eq!((second.flow.transport, second.to().as_str()), (Udp, SPARE));
    assert!(
        second
            .header("Via")
            .expect("a Via")
            .starts_with("SIP/2.0/UDP ")
    );
    bed.receive(SPARE, &second.answer(200, ""));
    assert_eq!(bed.sent_one().status(), 200);
    bed.wait(T1_64);
    bed.assert_empty();
}

#[test]
fn the_ack_of_a_2xx_waits_for_its_name_too() {
    let mut bed = Bed::with_settings(1, trusting);
    let invite = call(&mut bed, &[(Udp, GATEWAY)]);
    bed.receive(
        GATEWAY,
        &invite.answer(200, "Contact: <sip:gw.example.net>\n"),
    );
    let ok = bed.sent_one();
    let route = format!("Route: {}\n", invite.header("Record-Route").expect("ours"));
    let ack = request("ACK", "sip:gw.example.net", ALICE, "ack", &route).replace(
        "To: <sip:bob@example.com>",
        &format!("To: {}", ok.header("To").expect("a To")),
    );
    bed.receive(ALICE, &ack);
    bed.sent_none();
    bed.resolve("gw.example.net", &[(Udp, GATEWAY)]);
    let relayed = bed.sent_one();
    assert!(relayed.start_line().starts_with("ACK sip:gw.example.net"));
    assert_eq!(relayed.to(), GATEWAY);
    // One whose name is nowhere is dropped, and counted.
    bed.receive(ALICE, &ack);
    bed.resolve("gw.example.net", &[]);
    bed.sent_none();
    assert_eq!(bed.count(Counter::DropUnroutableAck), 1);
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_path_that_is_a_name_is_looked_up_like_any_other() {
    let mut bed = Bed::new();
    let path = "Supported: path\nPath: <sip:edge.example.net;lr>\n";
    bed.receive(BOB, &register("bob", BOB, 1, path));
    assert_eq!(bed.sent_one().status(), 200);
    bed.receive(ALICE, &invite());
    assert_eq!(bed.sent_one().status(), 100);
    bed.resolve("edge.example.net", &[(Udp, GATEWAY)]);
    let relayed = bed.sent_one();
    assert_eq!(relayed.to(), GATEWAY);
    assert_eq!(relayed.headers("Route"), ["<sip:edge.example.net;lr>"]);
}

#[test]
fn a_name_that_is_found_after_the_request_was_answered_is_tried_no_more() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    // Another proxy passed this one on: the contact is where its name says.
    let by_name = register(
        "bob",
        "desk.example.net",
        1,
        "Via: SIP/2.0/UDP 198.18.0.9\n",
    );
    bed.receive("198.18.0.1:5060", &by_name);
    assert_eq!(bed.sent_one().status(), 200);
    let message = request("MESSAGE", "sip:bob@example.com", ALICE, "m1", "");
    bed.receive(ALICE, &message);
    let relayed = bed.sent_one();
    assert_eq!(relayed.to(), BOB);
    let id = bed.asked("desk.example.net");
    bed.receive(BOB, &relayed.answer(200, ""));
    assert_eq!(bed.sent_one().status(), 200);
    bed.answer(id, &[(Udp, GATEWAY)]);
    bed.sent_none();
    bed.wait(T1_64 + T1_64);
    bed.sent_none();
    bed.assert_empty();
}
