//! A call from INVITE to BYE, and what is retransmitted on the way.

use super::bed::*;
use strowger::counters::Counter;
use strowger::time::Duration;

/// The route set that a user agent takes from a Record-Routed message, as Route header lines.
pub(crate) fn route_lines(record_routes: &[&str], reversed: bool) -> String {
    let mut routes: Vec<&str> = record_routes.to_vec();
    if reversed {
        routes.reverse();
    }
    routes
        .iter()
        .map(|route| format!("Route: {route}\n"))
        .collect()
}

/// A request within the dialog of [`set_up`].
fn in_dialog(
    method: &str,
    cseq: u32,
    uri: &str,
    via: &str,
    (from, to): (&str, &str),
    routes: &str,
) -> String {
    format!(
        "{method} {uri} SIP/2.0\nVia: SIP/2.0/UDP {via};branch=z9hG4bK{method}{cseq}\nMax-Forwards: 70\n\
         From: <sip:x@example.com>;tag={from}\nTo: <sip:y@example.com>;tag={to}\nCall-ID: call-1\n\
         CSeq: {cseq} {method}\n{routes}Content-Length: 0\n\n"
    )
}

/// Alice calls Bob, who answers; gives the 200 as Alice saw it and the INVITE as Bob did.
pub(crate) fn set_up(bed: &mut Bed) -> (Sent, Sent) {
    bed.register("bob", BOB);
    bed.receive(ALICE, &invite());
    let (trying, relayed) = bed.sent_two();
    assert_eq!((trying.status(), trying.to().as_str()), (100, ALICE));
    assert_eq!(
        relayed.start_line(),
        format!("INVITE sip:bob@{BOB} SIP/2.0")
    );
    assert_eq!(relayed.to(), BOB);
    bed.receive(BOB, &relayed.answer(180, ""));
    let ringing = bed.sent_one();
    assert_eq!((ringing.status(), ringing.to().as_str()), (180, ALICE));
    bed.receive(
        BOB,
        &relayed.answer(200, &format!("Contact: <sip:bob@{BOB}>\n")),
    );
    let answered = bed.sent_one();
    assert_eq!((answered.status(), answered.to().as_str()), (200, ALICE));
    assert_eq!(answered.headers("Via").len(), 1);
    (answered, relayed)
}

#[test]
fn a_call_goes_from_invite_to_bye_and_leaves_nothing_behind() {
    let mut bed = Bed::new();
    let (answered, relayed) = set_up(&mut bed);
    assert_eq!(relayed.header("Max-Forwards"), Some("69"));
    assert_eq!(relayed.headers("Record-Route").len(), 1);
    let routes = route_lines(&answered.headers("Record-Route"), true);

    bed.receive(
        ALICE,
        &in_dialog(
            "ACK",
            1,
            &format!("sip:bob@{BOB}"),
            ALICE,
            ("caller", "callee"),
            &routes,
        ),
    );
    let ack = bed.sent_one();
    assert_eq!(ack.start_line(), format!("ACK sip:bob@{BOB} SIP/2.0"));
    assert_eq!((ack.to().as_str(), ack.headers("Route").len()), (BOB, 0));

    bed.receive(
        ALICE,
        &in_dialog(
            "BYE",
            2,
            &format!("sip:bob@{BOB}"),
            ALICE,
            ("caller", "callee"),
            &routes,
        ),
    );
    let bye = bed.sent_one();
    assert_eq!(
        (bye.start_line().split(' ').next(), bye.to().as_str()),
        (Some("BYE"), BOB)
    );
    bed.receive(BOB, &bye.answer(200, ""));
    assert_eq!(bed.sent_one().status(), 200);

    bed.wait(T1_64 + T1_64);
    bed.sent_none();
    bed.assert_empty();
}

#[test]
fn the_callee_can_hang_up_too() {
    let mut bed = Bed::new();
    let (_, relayed) = set_up(&mut bed);
    let routes = route_lines(&relayed.headers("Record-Route"), false);
    bed.receive(
        BOB,
        &in_dialog(
            "BYE",
            7,
            &format!("sip:alice@{ALICE}"),
            BOB,
            ("callee", "caller"),
            &routes,
        ),
    );
    let bye = bed.sent_one();
    assert_eq!(bye.to(), ALICE);
    bed.receive(ALICE, &bye.answer(200, ""));
    assert_eq!(bed.sent_one().to(), BOB);
}

#[test]
fn an_invite_is_retransmitted_until_something_comes_back() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(ALICE, &invite());
    let first = bed.sent_two().1;
    // Timer A: 500 ms, 1 s, 2 s after one another.
    for n in 0..3 {
        bed.wait(Duration::from_millis(500 << n) - Duration::from_millis(5));
        bed.sent_none();
        bed.wait(Duration::from_millis(10));
        assert_eq!(bed.sent_one().text, first.text, "retransmission {n}");
        bed.wait(Duration::ZERO);
        bed.now = bed.now - Duration::from_millis(5);
    }
    bed.receive(BOB, &first.answer(180, ""));
    bed.sent();
    bed.wait(Duration::from_secs(30));
    bed.sent_none();
}

#[test]
fn a_retransmitted_invite_is_answered_with_what_was_answered_last() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    bed.receive(ALICE, &invite());
    assert_eq!(bed.sent_one().status(), 100);
    bed.receive(BOB, &relayed.answer(180, ""));
    bed.sent();
    bed.receive(ALICE, &invite());
    assert_eq!(bed.sent_one().status(), 180);
    bed.receive(BOB, &relayed.answer(200, ""));
    bed.sent();
    // RFC 6026: absorbed after a 2xx; the 2xx itself is the callee's to retransmit, and each one is passed on.
    bed.receive(ALICE, &invite());
    bed.sent_none();
    bed.receive(BOB, &relayed.answer(200, ""));
    assert_eq!(bed.sent_one().status(), 200);
    assert_eq!(bed.count(Counter::RetransmitRequestReceived), 3);
}

#[test]
fn a_retransmitted_bye_gets_the_same_response() {
    let mut bed = Bed::new();
    let (answered, _) = set_up(&mut bed);
    let routes = route_lines(&answered.headers("Record-Route"), true);
    let bye = in_dialog(
        "BYE",
        2,
        &format!("sip:bob@{BOB}"),
        ALICE,
        ("caller", "callee"),
        &routes,
    );
    bed.receive(ALICE, &bye);
    let relayed = bed.sent_one();
    bed.receive(ALICE, &bye);
    bed.sent_none();
    bed.receive(BOB, &relayed.answer(200, ""));
    let first = bed.sent_one();
    bed.receive(ALICE, &bye);
    assert_eq!(bed.sent_one().text, first.text);
}

#[test]
fn a_phone_behind_nat_is_reached_and_hung_up_at_its_source() {
    let mut bed = Bed::new();
    let (inside, outside) = ("10.0.0.7:5060", "203.0.113.77:4711");
    bed.register_from("bob", inside, outside);
    let call = request("INVITE", "sip:bob@example.com", "10.0.0.8:5060", "nat", "");
    bed.receive("203.0.113.78:4712", &call);
    let (trying, relayed) = bed.sent_two();
    assert_eq!(trying.to(), "203.0.113.78:4712");
    assert_eq!(
        relayed.start_line(),
        format!("INVITE sip:bob@{inside} SIP/2.0")
    );
    assert_eq!(relayed.to(), outside);
    assert!(relayed.headers("Via")[1].contains(";received=203.0.113.78"));
    bed.receive(outside, &relayed.answer(200, ""));
    let answered = bed.sent_one();
    assert_eq!(answered.to(), "203.0.113.78:4712");
    let routes = route_lines(&answered.headers("Record-Route"), false);
    let bye = in_dialog(
        "BYE",
        3,
        "sip:alice@10.0.0.8:5060",
        inside,
        ("callee", "caller"),
        &routes,
    );
    bed.receive(outside, &bye);
    assert_eq!(bed.sent_one().to(), "203.0.113.78:4712");
}

#[test]
fn a_call_in_by_one_interface_and_out_by_the_other_is_recorded_twice() {
    let mut bed = Bed::new();
    let inner = "198.51.100.20:5060";
    bed.receive_at(0, 1, inner, &register("bob", inner, 1, ""));
    assert_eq!(bed.sent_one().status(), 200);
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    assert_eq!((relayed.flow.listener.0, relayed.to().as_str()), (1, inner));
    assert!(relayed.headers("Via")[0].contains(PROXY_INSIDE));
    let recorded = relayed.headers("Record-Route");
    assert!(recorded[0].contains(PROXY_INSIDE) && recorded[1].contains(PROXY));
    bed.receive_at(0, 1, inner, &relayed.answer(200, ""));
    let answered = bed.sent_one();
    assert_eq!(answered.flow.listener.0, 0);
    let routes = route_lines(&answered.headers("Record-Route"), true);
    let uri = "sip:bob@198.51.100.20:5060";
    bed.receive(
        ALICE,
        &in_dialog("ACK", 1, uri, ALICE, ("caller", "callee"), &routes),
    );
    let ack = bed.sent_one();
    assert_eq!((ack.flow.listener.0, ack.headers("Route").len()), (1, 0));
}

#[test]
fn what_the_proxy_need_not_touch_leaves_as_it_came() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    let odd = "X-Odd:   kept  as-is\t\nSubject : folded\n  over two lines\ns: compact\nAccept: a/b ,c/d\n";
    let body = "v=0\no=- 1 1 IN IP4 203.0.113.5\n";
    let call = invite().replace("Content-Length: 0\n\n", &format!("{odd}l: 33\n\n{body}"));
    bed.receive(ALICE, &call);
    let relayed = bed.sent_two().1;
    let sent = call.replace('\n', "\r\n");
    let (_, untouched) = sent.split_once("From:").expect("a From");
    assert!(
        relayed.text.ends_with(&format!("From:{untouched}")),
        "{}",
        relayed.text
    );
}

#[test]
fn our_record_route_stands_before_that_of_the_proxy_before_us() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    // As another node of ours relays it: its Record-Route line comes before its Via.
    let other = "Record-Route: <sip:st0@198.18.0.1:5060;lr>\nVia: SIP/2.0/UDP 198.18.0.1:5060;branch=z9hG4bKup\n";
    let call = invite().replace("Via:", &format!("{other}Via:"));
    bed.receive("198.18.0.1:5060", &call);
    let relayed = bed.sent_two().1;
    let recorded = relayed.headers("Record-Route");
    assert_eq!(recorded.len(), 2);
    assert!(recorded[0].contains(PROXY) && recorded[1].contains("198.18.0.1"));
}

#[test]
fn a_call_that_passes_us_twice_is_hung_up_at_the_source_of_a_phone_behind_nat() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    let forward = register("carol", PROXY, 1, "").replace("sip:carol@192", "sip:bob@192");
    bed.receive("203.0.113.30:5060", &forward);
    bed.sent();
    let outside = "203.0.113.78:4712";
    let call = request(
        "INVITE",
        "sip:carol@example.com",
        "10.0.0.8:5060",
        "nat",
        "",
    );
    bed.receive(outside, &call);
    let onward = bed.sent_two().1;
    bed.receive(PROXY, &onward.text);
    let rung = bed.sent_two().1;
    let routes = route_lines(&rung.headers("Record-Route"), false);
    let uri = "sip:alice@10.0.0.8:5060";
    let bye = in_dialog("BYE", 3, uri, BOB, ("callee", "caller"), &routes);
    bed.receive(BOB, &bye);
    assert_eq!(bed.sent_one().to(), outside);
}
