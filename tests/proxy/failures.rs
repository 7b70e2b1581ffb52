//! Calls that fail, and how that ends on both sides.

use super::bed::*;
use strowger::proxy::Notice;
use strowger::time::Duration;

#[test]
fn a_failure_is_acknowledged_below_retransmitted_above_and_then_forgotten() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    bed.receive(BOB, &relayed.answer(486, ""));
    let (ack, busy) = bed.sent_two();
    assert!(ack.start_line().starts_with("ACK"));
    assert_eq!(busy.status(), 486);
    // Bob's retransmission is acknowledged again and goes no further.
    bed.receive(BOB, &relayed.answer(486, ""));
    assert_eq!(bed.sent_one().text, ack.text);
    // Timer G.
    bed.wait(Duration::from_millis(600));
    assert_eq!(bed.sent_one().text, busy.text);
    bed.receive(ALICE, &ack_of(&invite(), &busy));
    bed.wait(Duration::from_secs(10));
    bed.sent_none();
    bed.wait(T1_64);
    bed.assert_empty();
}

#[test]
fn a_caller_that_never_acknowledges_is_given_up() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    bed.receive(BOB, &relayed.answer(486, ""));
    bed.wait(T1_64 + Duration::from_secs(1));
    let repeated = bed
        .sent()
        .iter()
        .filter(|sent| sent.status() == 486)
        .count();
    assert!((10..=12).contains(&repeated), "{repeated}");
    bed.assert_empty();
}

#[test]
fn a_callee_that_never_answers_is_408() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(ALICE, &invite());
    bed.sent();
    bed.wait(T1_64 + Duration::from_millis(10));
    let sent = bed.sent();
    // Timer A: 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s.
    assert_eq!(sent.iter().filter(|sent| sent.status() == 0).count(), 6);
    assert_eq!(sent.last().map(Sent::status), Some(408));
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_request_other_than_invite_is_never_answered_408() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(
        ALICE,
        &request("MESSAGE", "sip:bob@example.com", ALICE, "m1", ""),
    );
    assert_eq!(bed.sent_one().to(), BOB);
    bed.wait(T1_64 + Duration::from_secs(1));
    // RFC 4320 4.2; Timer E: 0.5, 1.5, 3.5, then every 4 s.
    let (requests, responses): (Vec<Sent>, Vec<Sent>) =
        bed.sent().into_iter().partition(|sent| sent.status() == 0);
    assert_eq!(requests.len(), 10);
    // RFC 4320 4.1: a 100 when Timer E has come to T2, and no other response.
    assert!(
        responses.iter().all(|sent| sent.status() == 100),
        "{responses:#?}"
    );
    assert_eq!(responses.len(), 1);
    bed.wait(T1_64);
    bed.assert_empty();
}

#[test]
fn a_contact_that_cannot_be_reached_fails_the_call_at_once() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.kill(BOB);
    bed.receive(ALICE, &invite());
    let (trying, failed) = bed.sent_two();
    assert_eq!((trying.status(), failed.status()), (100, 500));
}

#[test]
fn icmp_ends_the_wait_for_a_callee_that_is_gone() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    bed.notice(Notice::Unreachable {
        flow: relayed.flow,
        sent: relayed.text.as_bytes(),
    });
    assert_eq!(bed.sent_one().status(), 500);
    bed.wait(T1_64 + T1_64);
    bed.sent();
    bed.assert_empty();
}

#[test]
fn a_503_from_below_is_not_passed_on_as_such() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    bed.receive(BOB, &relayed.answer(503, ""));
    assert_eq!(bed.sent_two().1.status(), 500);
}

#[test]
fn responses_that_match_nothing_are_dropped_and_counted() {
    use strowger::counters::Counter;
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    let good = relayed.answer(200, "");
    bed.receive(BOB, &good.replace("CSeq: 1 INVITE", "CSeq: 2 INVITE"));
    assert_eq!(bed.count(Counter::DropStrayResponse), 1);
    let via = relayed.header("Via").expect("ours");
    let forged = format!(
        "{}{}",
        &via[..via.len() - 1],
        if via.ends_with('0') { '1' } else { '0' }
    );
    bed.receive(BOB, &good.replace(via, &forged));
    let dropped = bed.count(Counter::DropForgedBranch) + bed.count(Counter::DropStrayResponse);
    assert_eq!(dropped, 2);
    bed.sent_none();
    bed.restart();
    bed.receive(BOB, &good);
    bed.sent_none();
    assert_eq!(bed.count(Counter::DropStrayResponse), 1);
}

#[test]
fn a_408_from_below_is_no_answer_to_a_request_other_than_invite() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(
        ALICE,
        &request("MESSAGE", "sip:bob@example.com", ALICE, "m1", ""),
    );
    let relayed = bed.sent_one();
    bed.receive(BOB, &relayed.answer(408, ""));
    bed.sent_none();
    // Alice, who has no answer, retransmits.
    bed.wait(T1_64 - Duration::from_millis(500));
    bed.receive(
        ALICE,
        &request("MESSAGE", "sip:bob@example.com", ALICE, "m1", ""),
    );
    bed.sent_none();
    bed.wait(T1_64);
    bed.assert_empty();
}

#[test]
fn a_408_is_never_preferred_where_it_is_no_answer() {
    let mut bed = Bed::new();
    let (one, other) = ("203.0.113.31:5060", "203.0.113.32:5060");
    bed.register("bob", one);
    bed.register("bob", other);
    bed.receive(
        ALICE,
        &request("MESSAGE", "sip:bob@example.com", ALICE, "m1", ""),
    );
    let (first, second) = bed.sent_two();
    bed.receive(&first.to(), &first.answer(408, ""));
    bed.sent_none();
    bed.receive(&second.to(), &second.answer(500, ""));
    assert_eq!(bed.sent_one().status(), 500);
}

#[test]
fn a_request_other_than_invite_gets_no_provisional_response_from_below() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(
        ALICE,
        &request("MESSAGE", "sip:bob@example.com", ALICE, "m1", ""),
    );
    let relayed = bed.sent_one();
    bed.receive(BOB, &relayed.answer(183, ""));
    bed.sent_none();
    bed.receive(BOB, &relayed.answer(200, ""));
    assert_eq!(bed.sent_one().status(), 200);
}

#[test]
fn a_late_copy_of_a_request_that_was_given_up_is_absorbed() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    let message = request("MESSAGE", "sip:bob@example.com", ALICE, "m1", "");
    bed.receive(ALICE, &message);
    bed.wait(T1_64 + Duration::from_secs(1));
    bed.sent();
    bed.receive(ALICE, &message);
    bed.sent_none();
    bed.wait(T1_64);
    bed.assert_empty();
}
