//! Serial forking: contacts of a lower q are tried when those of a higher one have failed, or have rung long enough; and the
//! breadth of a request (RFC 5393), which no fork exceeds.

use super::bed::*;
use strowger::counters::Counter;
use strowger::time::Duration;

const DESK: &str = "203.0.113.21:5060";
const MOBILE: &str = "203.0.113.22:5060";
const VOICEMAIL: &str = "203.0.113.23:5060";

/// Registers Bob at a contact with a q.
fn register_q(bed: &mut Bed, contact: &str, q: &str) {
    let text = register("bob", contact, 1, "").replace(
        &format!("<sip:bob@{contact}>"),
        &format!("<sip:bob@{contact}>;q={q}"),
    );
    bed.receive(contact, &text);
    assert_eq!(bed.sent_one().status(), 200);
}

/// Bob's desk rings first; his voicemail is last. Gives the INVITE that reached the desk.
fn ring_desk(bed: &mut Bed) -> Sent {
    register_q(bed, DESK, "1.0");
    register_q(bed, VOICEMAIL, "0.1");
    bed.receive(ALICE, &invite());
    let (trying, desk) = bed.sent_two();
    assert_eq!((trying.status(), desk.to().as_str()), (100, DESK));
    desk
}

fn breadth(sent: &Sent) -> u8 {
    let said = sent.header("Max-Breadth").expect("every request has one");
    said.parse().expect("a number")
}

#[test]
fn the_next_q_is_tried_when_the_first_has_failed() {
    let mut bed = Bed::new();
    let desk = ring_desk(&mut bed);
    bed.receive(DESK, &desk.answer(486, ""));
    let (ack, voicemail) = bed.sent_two();
    assert!(ack.start_line().starts_with("ACK"));
    assert_eq!(voicemail.to(), VOICEMAIL);
    bed.receive(VOICEMAIL, &voicemail.answer(200, ""));
    assert_eq!(bed.sent_one().status(), 200);
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn the_best_of_all_that_failed_is_what_the_caller_hears() {
    let mut bed = Bed::new();
    let desk = ring_desk(&mut bed);
    bed.receive(DESK, &desk.answer(404, ""));
    let voicemail = bed.sent_two().1;
    bed.receive(VOICEMAIL, &voicemail.answer(480, ""));
    let (_, answer) = bed.sent_two();
    assert_eq!(answer.status(), 404);
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_decline_or_a_caller_who_gives_up_ends_the_search() {
    let mut bed = Bed::new();
    let desk = ring_desk(&mut bed);
    bed.receive(DESK, &desk.answer(603, ""));
    let (_, answer) = bed.sent_two();
    assert_eq!(answer.status(), 603);
    bed.wait(T1_64 + T1_64);
    bed.sent();
    bed.assert_empty();

    bed.receive(
        ALICE,
        &invite().replace("inv1", "inv2").replace("call-1", "call-2"),
    );
    let desk = bed.sent_two().1;
    bed.receive(DESK, &desk.answer(180, ""));
    bed.sent();
    let cancel = invite()
        .replace("INVITE", "CANCEL")
        .replace("inv1", "inv2")
        .replace("call-1", "call-2");
    bed.receive(ALICE, &cancel);
    bed.sent();
    bed.receive(DESK, &desk.answer(487, ""));
    let (_, answer) = bed.sent_two();
    assert_eq!(answer.status(), 487);
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_phone_that_rings_on_yields_to_the_next() {
    let mut bed = Bed::new();
    let desk = ring_desk(&mut bed);
    bed.receive(DESK, &desk.answer(180, ""));
    bed.sent();
    bed.wait(Duration::from_secs(10));
    // Its further signs of life do not put off the next one's turn.
    bed.receive(DESK, &desk.answer(180, ""));
    bed.sent();
    bed.wait(Duration::from_millis(10_100));
    let (cancel, voicemail) = bed.sent_two();
    assert!(cancel.start_line().starts_with("CANCEL"));
    assert_eq!(
        (cancel.to().as_str(), voicemail.to().as_str()),
        (DESK, VOICEMAIL)
    );
    bed.receive(DESK, &desk.answer(487, ""));
    assert!(bed.sent_one().start_line().starts_with("ACK"));
    bed.receive(VOICEMAIL, &voicemail.answer(200, ""));
    assert_eq!(bed.sent_one().status(), 200);
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_phone_that_is_gone_yields_too() {
    let mut bed = Bed::new();
    ring_desk(&mut bed);
    bed.wait(Duration::from_millis(20_100));
    assert_eq!(bed.sent().last().map(Sent::to).as_deref(), Some(VOICEMAIL));
    bed.wait(T1_64 + T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_phone_that_answers_while_its_cancel_is_under_way_gets_the_call() {
    let mut bed = Bed::new();
    let desk = ring_desk(&mut bed);
    bed.receive(DESK, &desk.answer(180, ""));
    bed.sent();
    bed.wait(Duration::from_millis(20_100));
    let voicemail = bed.sent_two().1;
    bed.receive(VOICEMAIL, &voicemail.answer(180, ""));
    bed.sent();
    bed.receive(DESK, &desk.answer(200, ""));
    let (answer, cancel) = bed.sent_two();
    assert_eq!(answer.status(), 200);
    assert_eq!(cancel.to(), VOICEMAIL);
}

#[test]
fn the_challenges_of_all_branches_go_out_together() {
    let mut bed = Bed::new();
    bed.register("bob", DESK);
    bed.register("bob", MOBILE);
    bed.receive(ALICE, &invite());
    let sent = bed.sent();
    let (one, two) = (&sent[1], &sent[2]);
    bed.receive(
        &one.to(),
        &one.answer(401, "WWW-Authenticate: Digest realm=\"one\", nonce=\"1\"\n"),
    );
    bed.sent();
    bed.receive(
        &two.to(),
        &two.answer(
            407,
            "Proxy-Authenticate: Digest realm=\"two\", nonce=\"2\"\n",
        ),
    );
    let (_, answer) = bed.sent_two();
    assert_eq!(answer.status(), 401);
    assert_eq!(
        answer.headers("WWW-Authenticate"),
        ["Digest realm=\"one\", nonce=\"1\""]
    );
    assert_eq!(
        answer.headers("Proxy-Authenticate"),
        ["Digest realm=\"two\", nonce=\"2\""]
    );
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn the_breadth_is_shared_out_among_those_that_ring() {
    let mut bed = Bed::new();
    bed.register("bob", DESK);
    bed.register("bob", MOBILE);
    bed.receive(ALICE, &invite());
    let sent = bed.sent();
    // RFC 5393 5.3.3.1: 60 where the request says nothing.
    assert_eq!((breadth(&sent[1]), breadth(&sent[2])), (30, 30));
    let narrow = request(
        "INVITE",
        "sip:bob@example.com",
        ALICE,
        "b2",
        "Max-Breadth: 5\n",
    )
    .replace("call-1", "call-2");
    bed.receive(ALICE, &narrow);
    let sent = bed.sent();
    assert_eq!((breadth(&sent[1]), breadth(&sent[2])), (3, 2));
    assert_eq!(sent[1].headers("Max-Breadth").len(), 1);
}

#[test]
fn a_breadth_of_one_is_tried_one_after_the_other_and_none_is_refused() {
    let mut bed = Bed::new();
    bed.register("bob", DESK);
    bed.register("bob", MOBILE);
    bed.receive(
        ALICE,
        &request(
            "INVITE",
            "sip:bob@example.com",
            ALICE,
            "b1",
            "Max-Breadth: 1\n",
        ),
    );
    let (_, first) = bed.sent_two();
    assert_eq!(breadth(&first), 1);
    bed.receive(&first.to(), &first.answer(486, ""));
    let (_, second) = bed.sent_two();
    assert_ne!(second.to(), first.to());
    assert_eq!(breadth(&second), 1);
    bed.receive(&second.to(), &second.answer(486, ""));
    assert_eq!(bed.sent_two().1.status(), 486);
    bed.wait(T1_64 + T1_64);
    bed.sent();
    bed.assert_empty();

    bed.receive(
        ALICE,
        &request(
            "INVITE",
            "sip:bob@example.com",
            ALICE,
            "b0",
            "Max-Breadth: 0\n",
        ),
    );
    assert_eq!(bed.sent_one().status(), 440);
    assert_eq!(bed.count(Counter::RefusedMaxBreadth), 1);
}

#[test]
fn a_desk_that_was_silent_when_the_caller_gave_up_is_cancelled_when_it_rings_at_last() {
    let mut bed = Bed::new();
    let desk = ring_desk(&mut bed);
    bed.receive(ALICE, &invite().replace("INVITE", "CANCEL"));
    assert_eq!(bed.sent_one().status(), 200);
    // Longer than the next contact would have waited, and still within Timer B.
    bed.wait(Duration::from_secs(25));
    let repeated = bed.sent();
    assert!(
        repeated.iter().all(|sent| sent.to() == DESK),
        "{repeated:#?}"
    );
    bed.receive(DESK, &desk.answer(180, ""));
    let (cancel, ringing) = bed.sent_two();
    assert!(cancel.start_line().starts_with("CANCEL"));
    assert_eq!((cancel.to().as_str(), ringing.status()), (DESK, 180));
    bed.receive(DESK, &desk.answer(487, ""));
    assert_eq!(bed.sent_two().1.status(), 487);
    bed.wait(T1_64 + T1_64);
    bed.sent();
    bed.assert_empty();
}
