//! Outbound (RFC 5626) where we are the registrar and the first hop: flows, and what happens when one fails.

use super::bed::*;
use strowger::counters::Counter;
use strowger::datagram::Transport::{Tcp, Udp};
use strowger::time::Duration;

const INSTANCE: &str = "<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";
/// Where Bob's connections come from.
const FIRST: &str = "203.0.113.9:41001";
const SECOND: &str = "203.0.113.9:41002";

/// Bob's REGISTER of one flow: his contact says nothing of where he is.
fn flow(reg_id: u32, cseq: u32, extra: &str) -> String {
    format!(
        "REGISTER sip:example.com SIP/2.0\nVia: SIP/2.0/TCP 10.0.0.9:5060;branch=z9hG4bKf{reg_id}{cseq};rport\nMax-Forwards: 70\n\
         From: <sip:bob@example.com>;tag=reg\nTo: <sip:bob@example.com>\nCall-ID: flow-{reg_id}\nCSeq: {cseq} REGISTER\n\
         Supported: path, outbound\n\
         Contact: <sip:bob@10.0.0.9:5060;transport=tcp;ob>;reg-id={reg_id};+sip.instance=\"{INSTANCE}\"\n{extra}Content-Length: 0\n\n"
    )
}

/// Bob registers a flow by a connection that is open.
#[track_caller]
fn bind(bed: &mut Bed, reg_id: u32, cseq: u32, by: &str) -> Sent {
    bed.connect(by);
    bed.receive_by_tcp(by, &flow(reg_id, cseq, ""));
    let ok = bed.sent_one();
    assert_eq!((ok.status(), ok.to().as_str()), (200, by));
    ok
}

/// Alice calls; gives what was sent beside the 100.
fn call(bed: &mut Bed) -> Vec<Sent> {
    bed.receive(ALICE, &invite());
    let sent = bed.sent();
    assert_eq!(sent[0].status(), 100);
    sent[1..].to_vec()
}

#[test]
fn the_200_says_that_flows_are_kept_and_for_how_long() {
    let mut bed = Bed::with_registrar(|registrar, _| registrar.flow_timer_s = 90);
    let ok = bind(&mut bed, 1, 1, FIRST);
    assert_eq!(ok.header("Require"), Some("outbound"));
    assert!(ok.header("Supported").expect("told").contains("outbound"));
    assert_eq!(ok.header("Flow-Timer"), Some("90"));
    let contact = ok.header("Contact").expect("one");
    assert!(
        contact.contains(&format!(";+sip.instance=\"{INSTANCE}\";reg-id=1")),
        "{contact}"
    );
    assert!(ok.header("Date").expect("a Date").ends_with(" GMT"));
    // A retransmission gets the very same answer.
    bed.receive_by_tcp(FIRST, &flow(1, 1, ""));
    assert_eq!(bed.sent_one().text, ok.text);
    // Who does not ask for flows gets none.
    let text = register("carol", "203.0.113.7:5060", 1, "").replace(
        "<sip:carol@203.0.113.7:5060>",
        &format!("<sip:carol@203.0.113.7:5060>;reg-id=1;+sip.instance=\"{INSTANCE}\""),
    );
    bed.receive("203.0.113.7:5060", &text);
    let ok = bed.sent_one();
    assert_eq!(
        (ok.status(), ok.header("Require"), ok.header("Flow-Timer")),
        (200, None, None)
    );
    assert!(!ok.header("Contact").expect("one").contains("reg-id"));
}

#[test]
fn a_flow_registered_anew_takes_the_place_of_the_old_one() {
    let mut bed = Bed::new();
    bind(&mut bed, 1, 1, FIRST);
    bed.disconnect(FIRST);
    // From elsewhere, with another contact and Call-ID: but the same instance and number.
    let moved = flow(1, 1, "")
        .replace("10.0.0.9", "10.7.7.7")
        .replace("Call-ID: flow-1", "Call-ID: after-boot");
    bed.connect(SECOND);
    bed.receive_by_tcp(SECOND, &moved);
    let ok = bed.sent_one();
    assert_eq!(ok.headers("Contact").len(), 1, "{}", ok.text);
    assert!(ok.text.contains("sip:bob@10.7.7.7:5060"));
    let relayed = &call(&mut bed)[0];
    assert_eq!(
        (relayed.flow.transport, relayed.to().as_str()),
        (Tcp, SECOND)
    );
    assert!(
        relayed
            .start_line()
            .starts_with("INVITE sip:bob@10.7.7.7:5060;transport=tcp;ob ")
    );
    // The contact that it had leads nowhere any more; the one that it has does.
    let options = |uri: &str, branch| request("OPTIONS", uri, ALICE, branch, "");
    bed.receive(
        ALICE,
        &options("sip:bob@10.0.0.9:5060", "o1").replace("call-1", "o1"),
    );
    assert_eq!(bed.sent_one().status(), 403);
    bed.receive(
        ALICE,
        &options("sip:bob@10.7.7.7:5060", "o2").replace("call-1", "o2"),
    );
    assert_eq!(bed.sent_one().to(), SECOND);
}

#[test]
fn of_two_flows_one_is_used_and_the_other_when_it_fails() {
    let mut bed = Bed::new();
    bind(&mut bed, 1, 1, FIRST);
    bed.wait(Duration::from_secs(1));
    let ok = bind(&mut bed, 2, 1, SECOND);
    assert_eq!(ok.headers("Contact").len(), 2, "one URI, two flows");
    // The newest, and it alone.
    let relayed = call(&mut bed);
    assert_eq!(relayed.len(), 1);
    assert_eq!(relayed[0].to(), SECOND);
    // It fails on the way: the other one is tried at once, as a branch of its own.
    bed.undelivered(&relayed[0]);
    let next = bed.sent_one();
    assert_eq!(next.to(), FIRST);
    assert_ne!(next.header("Via"), relayed[0].header("Via"));
    assert_eq!(bed.count(Counter::Failovers), 1);
    bed.receive_by_tcp(FIRST, &next.answer(200, ""));
    assert_eq!(bed.sent_one().status(), 200);
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_connection_that_is_closed_is_passed_over_and_never_opened() {
    let mut bed = Bed::new();
    bind(&mut bed, 1, 1, FIRST);
    bed.wait(Duration::from_secs(1));
    bind(&mut bed, 2, 1, SECOND);
    bed.disconnect(SECOND);
    let relayed = call(&mut bed);
    assert_eq!(
        relayed.iter().map(Sent::to).collect::<Vec<_>>(),
        [FIRST.to_owned()]
    );
    bed.receive_by_tcp(FIRST, &relayed[0].answer(486, ""));
    bed.sent();
    // Neither is there: the caller is told at once, and not of flows (RFC 5626 11.5).
    bed.disconnect(FIRST);
    bed.receive(
        ALICE,
        &invite().replace("call-1", "call-2").replace("inv1", "inv2"),
    );
    let sent = bed.sent();
    assert_eq!(
        sent.iter().map(Sent::status).collect::<Vec<_>>(),
        [100, 480]
    );
    assert_eq!(bed.count(Counter::RefusedFlow), 3);
    // Bob's connection comes back.
    bed.receive(
        ALICE,
        &invite().replace("call-1", "call-3").replace("inv1", "inv3"),
    );
    assert_eq!(bed.sent().last().map(Sent::status), Some(480));
    bind(&mut bed, 1, 2, FIRST);
    bed.receive(
        ALICE,
        &invite().replace("call-1", "call-4").replace("inv1", "inv4"),
    );
    assert_eq!(bed.sent().last().map(Sent::to), Some(FIRST.to_owned()));
}

#[test]
fn a_430_or_a_408_of_a_flow_is_for_the_next_one_and_any_other_answer_is_final() {
    for (status, goes_on) in [(430, true), (408, true), (486, false), (503, true)] {
        let mut bed = Bed::new();
        bind(&mut bed, 1, 1, FIRST);
        bed.wait(Duration::from_secs(1));
        bind(&mut bed, 2, 1, SECOND);
        let relayed = call(&mut bed);
        bed.receive_by_tcp(SECOND, &relayed[0].answer(status, ""));
        let sent = bed.sent();
        let next = sent.iter().find(|sent| sent.to() == FIRST);
        assert_eq!(next.is_some(), goes_on, "{status}: {sent:#?}");
        if let Some(next) = next {
            bed.receive_by_tcp(FIRST, &next.answer(430, ""));
            let final_one = bed
                .sent()
                .into_iter()
                .find(|sent| sent.to() == ALICE && sent.status() >= 200);
            // A 430 is not for callers.
            let told = final_one.expect("an answer").status();
            assert!(told == 480 || told == 408, "{status}: {told}");
        }
        bed.wait(T1_64 + T1_64);
        bed.sent();
        bed.assert_empty();
    }
}

#[test]
fn two_phones_of_one_user_ring_at_once_each_by_one_flow() {
    let mut bed = Bed::new();
    bind(&mut bed, 1, 1, FIRST);
    bind(&mut bed, 2, 1, SECOND);
    let other = flow(1, 1, "")
        .replace("0A95A0E128", "0000000002")
        .replace("flow-1", "other");
    bed.connect("203.0.113.77:5");
    bed.receive_by_tcp("203.0.113.77:5", &other);
    assert_eq!(bed.sent_one().headers("Contact").len(), 3);
    let mut rung: Vec<String> = call(&mut bed).iter().map(Sent::to).collect();
    rung.sort();
    assert_eq!(rung.len(), 2, "{rung:?}");
    assert!(rung.contains(&"203.0.113.77:5".to_owned()));
}

#[test]
fn a_flow_of_datagrams_is_kept_to_whatever_the_contact_says() {
    let mut bed = Bed::new();
    // Nothing tells of a NAT: address and port of Via and Contact are those of the packet, and another port is named.
    let text = register("bob", BOB, 1, "Supported: outbound\n").replace(
        &format!("<sip:bob@{BOB}>"),
        &format!("<sip:bob@203.0.113.9:6000;ob>;reg-id=1;+sip.instance=\"{INSTANCE}\""),
    );
    bed.receive(BOB, &text);
    assert_eq!(bed.sent_one().status(), 200);
    let long = invite().replace(
        "Content-Length",
        &format!("Subject: {}\nContent-Length", "x".repeat(2_000)),
    );
    bed.connect(BOB);
    bed.receive(ALICE, &long);
    let relayed = bed.sent_two().1;
    // Not by the open connection to the same address, long as it is.
    assert_eq!((relayed.flow.transport, relayed.to().as_str()), (Udp, BOB));
    // ICMP says that it is gone.
    bed.undelivered(&relayed);
    assert_eq!(bed.sent_one().status(), 480);
}

#[test]
fn a_first_hop_that_keeps_no_flows_is_told_and_one_that_does_is_believed() {
    let mut bed = Bed::new();
    let by_edge = |path: &str| {
        flow(1, 1, path).replace(
            "Via: SIP/2.0/TCP",
            "Via: SIP/2.0/UDP 203.0.113.50;branch=z9hG4bKedge\nVia: SIP/2.0/TCP",
        )
    };
    bed.receive("203.0.113.50:5060", &by_edge(""));
    let refused = bed.sent_one();
    assert_eq!(
        refused.start_line(),
        "SIP/2.0 439 First Hop Lacks Outbound Support"
    );
    assert_eq!(bed.count(Counter::RefusedFirstHop), 1);
    bed.receive(
        "203.0.113.50:5060",
        &by_edge("Path: <sip:e@203.0.113.50;lr>\n"),
    );
    assert_eq!(bed.sent_one().status(), 439);
    // The last Path is the phone's neighbour's.
    bed.receive(
        "203.0.113.50:5060",
        &by_edge("Path: <sip:e2@203.0.113.51;lr>, <sip:e@203.0.113.50;lr;ob>\n"),
    );
    let ok = bed.sent_one();
    assert_eq!((ok.status(), ok.header("Require")), (200, Some("outbound")));
    assert_eq!(
        ok.header("Path"),
        Some("<sip:e2@203.0.113.51;lr>,<sip:e@203.0.113.50;lr;ob>")
    );
    assert_eq!(ok.header("Flow-Timer"), None, "the flow does not end here");
    // Its flow failed at the edge: there is no other.
    let relayed = &call(&mut bed)[0];
    assert_eq!(relayed.to(), "203.0.113.51:5060");
    bed.receive("203.0.113.51:5060", &relayed.answer(430, ""));
    let sent = bed.sent();
    assert_eq!(sent.last().map(Sent::status), Some(480), "{sent:#?}");
}

#[test]
fn one_register_binds_one_flow() {
    let mut bed = Bed::new();
    let two = flow(1, 1, "Contact: <sip:bob@10.0.0.9:6000>\n");
    bed.receive_by_tcp(FIRST, &two);
    assert_eq!(bed.sent_one().status(), 400);
    // Removals may stand beside each other.
    bind(&mut bed, 1, 2, FIRST);
    bind(&mut bed, 2, 2, SECOND);
    let gone = flow(1, 3, "").replace(";reg-id=1;", ";expires=0;reg-id=1;");
    bed.receive_by_tcp(FIRST, &gone);
    let ok = bed.sent_one();
    assert_eq!(ok.headers("Contact").len(), 1);
    assert!(ok.header("Contact").expect("one").contains("reg-id=2"));
}

#[test]
fn what_follows_in_a_dialog_goes_by_the_flow() {
    let mut bed = Bed::new();
    bind(&mut bed, 1, 1, FIRST);
    let relayed = call(&mut bed).remove(0);
    bed.receive_by_tcp(
        FIRST,
        &relayed.answer(200, "Contact: <sip:bob@10.0.0.9:5060;transport=tcp;ob>\n"),
    );
    let ok = bed.sent_one();
    let routes: String = relayed
        .headers("Record-Route")
        .iter()
        .rev()
        .map(|value| format!("Route: {value}\n"))
        .collect();
    let to = format!("To: {}", ok.header("To").expect("a To"));
    let bye = request(
        "BYE",
        "sip:bob@10.0.0.9:5060;transport=tcp;ob",
        ALICE,
        "bye",
        &routes,
    )
    .replace("To: <sip:bob@example.com>", &to)
    .replace("1 BYE", "2 BYE");
    bed.receive(ALICE, &bye);
    assert_eq!(bed.sent_one().to(), FIRST);
    // And when it is gone, nobody else's connection is taken for it.
    bed.disconnect(FIRST);
    bed.receive(ALICE, &bye.replace("z9hG4bKbye", "z9hG4bKbye2"));
    assert_eq!(bed.sent().last().map(Sent::status), Some(480));
}

#[test]
fn of_two_flows_with_one_contact_a_dialog_keeps_its_own() {
    let mut bed = Bed::new();
    bind(&mut bed, 1, 1, FIRST);
    bed.wait(Duration::from_secs(1));
    bind(&mut bed, 2, 1, SECOND);
    bed.disconnect(SECOND);
    // The call goes by the first flow, though the second is newer and has the same contact.
    let relayed = call(&mut bed).remove(0);
    assert_eq!(relayed.to(), FIRST);
    let contact = "sip:bob@10.0.0.9:5060;transport=tcp;ob";
    bed.receive_by_tcp(
        FIRST,
        &relayed.answer(200, &format!("Contact: <{contact}>\n")),
    );
    let ok = bed.sent_one();
    let routes: String = relayed
        .headers("Record-Route")
        .iter()
        .rev()
        .map(|value| format!("Route: {value}\n"))
        .collect();
    let to = format!("To: {}", ok.header("To").expect("a To"));
    for method in ["ACK", "BYE"] {
        let text = request(method, contact, ALICE, method, &routes)
            .replace("To: <sip:bob@example.com>", &to);
        bed.receive(ALICE, &text);
        assert_eq!(bed.sent_one().to(), FIRST, "{method}");
    }
}

#[test]
fn a_gruu_in_a_dialog_leads_to_a_flow_that_is_there() {
    let mut bed = Bed::new();
    bind(&mut bed, 1, 1, FIRST);
    bed.wait(Duration::from_secs(1));
    bind(&mut bed, 2, 1, SECOND);
    bed.disconnect(SECOND);
    let relayed = call(&mut bed).remove(0);
    let gruu = "sip:bob@example.com;gr=urn:uuid:00000000-0000-1000-8000-000A95A0E128";
    bed.receive_by_tcp(FIRST, &relayed.answer(200, &format!("Contact: <{gruu}>\n")));
    let ok = bed.sent_one();
    let routes: String = relayed
        .headers("Record-Route")
        .iter()
        .rev()
        .map(|value| format!("Route: {value}\n"))
        .collect();
    let to = format!("To: {}", ok.header("To").expect("a To"));
    for method in ["ACK", "BYE"] {
        let text =
            request(method, gruu, ALICE, method, &routes).replace("To: <sip:bob@example.com>", &to);
        bed.receive(ALICE, &text);
        assert_eq!(bed.sent_one().to(), FIRST, "{method}");
    }
}

#[test]
fn an_ack_to_a_gruu_bears_the_path_of_its_phone() {
    let mut bed = Bed::new();
    let text = flow(1, 1, "Path: <sip:e@203.0.113.50;lr;ob>\nSupported: gruu\n");
    bed.receive("203.0.113.50:5060", &text);
    assert_eq!(bed.sent_one().status(), 200);
    let gruu = "sip:bob@example.com;gr=urn:uuid:00000000-0000-1000-8000-000A95A0E128";
    bed.receive(ALICE, &request("ACK", gruu, ALICE, "ack", ""));
    let ack = bed.sent_one();
    assert_eq!(ack.to(), "203.0.113.50:5060");
    assert_eq!(ack.header("Route"), Some("<sip:e@203.0.113.50;lr;ob>"));
}

#[test]
fn a_stun_keepalive_is_answered_by_udp_alone() {
    let mut bed = Bed::new();
    let ping = "\0\u{1}\0\0!\u{12}";
    // Text cannot hold the whole request (the cookie is no UTF-8): what looks like one is dropped.
    bed.receive(BOB, ping);
    bed.sent_none();
    assert_eq!(bed.count(Counter::DropNotSip), 1);
    bed.receive_bytes(BOB, b"\0\x01\0\0\x21\x12\xa4\x42abcdefghijkl");
    let pong = bed.sent_one();
    assert_eq!((pong.to().as_str(), pong.flow.transport), (BOB, Udp));
    assert_eq!(bed.count(Counter::KeepaliveBindings), 1);
}
