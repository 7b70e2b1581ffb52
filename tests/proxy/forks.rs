//! Parallel forking: several contacts ring, one response is chosen.

use super::bed::*;
use strowger::time::Duration;

const DESK: &str = "203.0.113.21:5060";
const MOBILE: &str = "203.0.113.22:5060";

/// Bob has two phones, and both ring; gives the two INVITEs.
fn ring_both(bed: &mut Bed) -> (Sent, Sent) {
    bed.register("bob", DESK);
    bed.register("bob", MOBILE);
    bed.receive(ALICE, &invite());
    let mut sent = bed.sent();
    assert_eq!(sent.len(), 3);
    let (second, first) = (sent.pop().expect("two"), sent.pop().expect("one"));
    let (desk, mobile) = if first.to() == DESK {
        (first, second)
    } else {
        (second, first)
    };
    assert_ne!(desk.header("Via"), mobile.header("Via"));
    bed.receive(DESK, &desk.answer(180, ""));
    bed.receive(MOBILE, &mobile.answer(180, ""));
    assert_eq!(bed.sent().len(), 2);
    (desk, mobile)
}

#[test]
fn the_first_to_answer_gets_the_call_and_the_others_are_cancelled() {
    let mut bed = Bed::new();
    let (desk, mobile) = ring_both(&mut bed);
    bed.receive(DESK, &desk.answer(200, ""));
    let (answered, cancelled) = bed.sent_two();
    assert_eq!((answered.status(), answered.to().as_str()), (200, ALICE));
    assert_eq!(
        cancelled.start_line(),
        format!("CANCEL sip:bob@{MOBILE} SIP/2.0")
    );
    bed.receive(MOBILE, &cancelled.answer(200, ""));
    bed.receive(MOBILE, &mobile.answer(487, ""));
    // The 487 is acknowledged below and goes no further.
    assert!(bed.sent_one().start_line().starts_with("ACK"));
    bed.wait(T1_64 + T1_64);
    bed.sent_none();
    bed.assert_empty();
}

#[test]
fn two_that_answer_at_once_are_both_passed_on() {
    let mut bed = Bed::new();
    let (desk, mobile) = ring_both(&mut bed);
    bed.receive(DESK, &desk.answer(200, ""));
    bed.sent();
    bed.receive(MOBILE, &mobile.answer(200, ""));
    assert_eq!(bed.sent_one().status(), 200);
}

#[test]
fn a_late_second_answer_is_passed_on_as_long_as_its_own_branch_lives() {
    let mut bed = Bed::new();
    let (desk, mobile) = ring_both(&mut bed);
    bed.receive(DESK, &desk.answer(200, ""));
    let cancelled = bed.sent_two().1;
    // The mobile answers the CANCEL and does not heed it.
    bed.receive(MOBILE, &cancelled.answer(200, ""));
    bed.wait(Duration::from_secs(31));
    bed.receive(MOBILE, &mobile.answer(200, ""));
    assert_eq!(bed.sent_one().status(), 200);
    // Timer L of the first answer has fired, Timer M of the second has not.
    bed.wait(Duration::from_secs(4));
    bed.receive(MOBILE, &mobile.answer(200, ""));
    let again = bed.sent_one();
    assert_eq!((again.status(), again.to().as_str()), (200, ALICE));
    bed.wait(T1_64);
    bed.receive(MOBILE, &mobile.answer(200, ""));
    bed.sent_none();
    bed.assert_empty();
}

#[test]
fn the_best_of_two_failures_is_chosen() {
    let mut bed = Bed::new();
    let (desk, mobile) = ring_both(&mut bed);
    bed.receive(DESK, &desk.answer(404, ""));
    assert!(bed.sent_one().start_line().starts_with("ACK"));
    bed.receive(MOBILE, &mobile.answer(500, ""));
    let (ack, best) = bed.sent_two();
    assert!(ack.start_line().starts_with("ACK"));
    assert_eq!((best.status(), best.headers("Via").len()), (404, 1));
}

#[test]
fn a_6xx_ends_the_search() {
    let mut bed = Bed::new();
    let (desk, mobile) = ring_both(&mut bed);
    bed.receive(DESK, &desk.answer(603, ""));
    let (ack, cancelled) = bed.sent_two();
    assert!(ack.start_line().starts_with("ACK"));
    assert!(cancelled.start_line().starts_with("CANCEL"));
    bed.receive(MOBILE, &mobile.answer(487, ""));
    let (_, best) = bed.sent_two();
    assert_eq!(best.status(), 603);
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_phone_that_is_gone_does_not_keep_the_other_from_failing_the_call() {
    let mut bed = Bed::new();
    let (desk, _) = ring_both(&mut bed);
    bed.receive(DESK, &desk.answer(486, ""));
    bed.sent();
    // The mobile rings on until Timer C, is cancelled, and never says another word.
    bed.wait(Duration::from_secs(182) + T1_64);
    let statuses: Vec<u16> = bed
        .sent()
        .iter()
        .map(Sent::status)
        .filter(|status| *status > 0)
        .collect();
    assert_eq!(statuses[0], 486);
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_503_that_was_the_best_is_forgotten_with_its_message() {
    let mut bed = Bed::new();
    let (desk, mobile) = ring_both(&mut bed);
    bed.receive(DESK, &desk.answer(503, ""));
    assert!(bed.sent_one().start_line().starts_with("ACK"));
    bed.receive(MOBILE, &mobile.answer(503, ""));
    assert_eq!(bed.sent_two().1.status(), 500);
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_contact_that_names_another_user_of_ours_forwards_to_that_users_phones() {
    let mut bed = Bed::new();
    bed.register("bob", DESK);
    // Carol's phone registers a contact that is an address of ours.
    let forward = register("carol", PROXY, 1, "").replace("sip:carol@192", "sip:bob@192");
    bed.receive("203.0.113.30:5060", &forward);
    assert_eq!(bed.sent_one().status(), 200);
    let call = invite().replace("sip:bob@example.com", "sip:carol@example.com");
    bed.receive(ALICE, &call);
    let onward = bed.sent_two().1;
    assert_eq!(onward.to(), PROXY);
    bed.receive(PROXY, &onward.text);
    let rung = bed.sent_two().1;
    assert_eq!(rung.to(), DESK);
    assert_eq!(rung.header("Max-Forwards"), Some("68"));
    assert_eq!(rung.headers("Record-Route").len(), 2);
}

#[test]
fn header_components_of_a_contact_are_not_written_into_the_request_line() {
    let mut bed = Bed::new();
    // RFC 4475 3.3.14: the binding keeps them; RFC 3261 19.1.1: a Request-URI has none.
    let text = register("bob", BOB, 1, "").replace(
        &format!("<sip:bob@{BOB}>"),
        &format!("<sip:bob@{BOB};x=1?Route=%3Csip:evil.example.net%3E>"),
    );
    bed.receive(BOB, &text);
    let ok = bed.sent_one();
    assert!(
        ok.header("Contact")
            .expect("the binding")
            .contains("?Route=")
    );
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    assert_eq!(
        relayed.start_line(),
        format!("INVITE sip:bob@{BOB};x=1 SIP/2.0")
    );
    assert_eq!(relayed.header("Route"), None);
}
