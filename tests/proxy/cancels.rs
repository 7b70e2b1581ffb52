//! CANCEL, from the caller and of our own.

use super::bed::*;
use strowger::time::Duration;

fn cancel() -> String {
    invite().replace("INVITE", "CANCEL")
}

#[test]
fn a_ringing_call_is_cancelled_and_ends_with_487() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    bed.receive(BOB, &relayed.answer(180, ""));
    bed.sent();
    bed.receive(ALICE, &cancel());
    let (ok, cancelled) = bed.sent_two();
    assert_eq!((ok.status(), ok.header("CSeq")), (200, Some("1 CANCEL")));
    assert_eq!(
        cancelled.start_line(),
        format!("CANCEL sip:bob@{BOB} SIP/2.0")
    );
    assert_eq!(cancelled.header("Via"), relayed.header("Via"));
    assert_eq!(cancelled.headers("Via").len(), 1);
    bed.receive(BOB, &cancelled.answer(200, ""));
    bed.sent_none();
    bed.receive(BOB, &relayed.answer(487, ""));
    let (ack, terminated) = bed.sent_two();
    assert_eq!(ack.start_line(), format!("ACK sip:bob@{BOB} SIP/2.0"));
    assert_eq!(ack.header("Via"), relayed.header("Via"));
    assert!(ack.header("To").is_some_and(|to| to.contains("tag=callee")));
    assert_eq!(
        (terminated.status(), terminated.to().as_str()),
        (487, ALICE)
    );
    bed.receive(ALICE, &ack_of(&invite(), &terminated));
    bed.sent_none();
    bed.wait(T1_64 + T1_64);
    bed.sent_none();
    bed.assert_empty();
}

#[test]
fn a_cancel_waits_for_the_first_sign_of_the_callee() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    bed.receive(ALICE, &cancel());
    assert_eq!(bed.sent_one().status(), 200);
    bed.receive(BOB, &relayed.answer(100, ""));
    assert!(bed.sent_one().start_line().starts_with("CANCEL"));
}

#[test]
fn a_cancel_that_is_lost_is_retransmitted_and_a_dead_callee_ends_the_call() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    bed.receive(BOB, &relayed.answer(180, ""));
    bed.receive(ALICE, &cancel());
    bed.sent();
    bed.wait(Duration::from_millis(600));
    assert!(bed.sent_one().start_line().starts_with("CANCEL"));
    bed.wait(T1_64);
    let sent = bed.sent();
    let first = sent.iter().map(Sent::status).find(|status| *status > 0);
    assert_eq!(first, Some(487));
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_caller_who_gave_up_on_a_phone_that_never_answered_hears_487() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(ALICE, &invite());
    bed.sent_two();
    bed.receive(ALICE, &cancel());
    assert_eq!(bed.sent_one().status(), 200);
    bed.wait(T1_64 + Duration::from_millis(600));
    let finals = bed.sent();
    let first = finals.iter().map(Sent::status).find(|status| *status > 0);
    assert_eq!(first, Some(487));
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn a_cancel_of_nothing_is_answered_481() {
    let mut bed = Bed::new();
    bed.receive(ALICE, &cancel());
    assert_eq!(bed.sent_one().status(), 481);
}

#[test]
fn timer_c_cancels_a_branch_that_rings_for_ever() {
    let mut bed = Bed::new();
    bed.register("bob", BOB);
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    bed.receive(BOB, &relayed.answer(180, ""));
    bed.sent();
    bed.wait(Duration::from_secs(180));
    bed.sent_none();
    // A further 180 restarts it.
    bed.receive(BOB, &relayed.answer(180, ""));
    bed.sent();
    bed.wait(Duration::from_secs(180));
    bed.sent_none();
    bed.wait(Duration::from_secs(2));
    assert!(bed.sent()[0].start_line().starts_with("CANCEL"));
    bed.wait(T1_64 + T1_64);
    bed.assert_empty();
}

#[test]
fn at_the_bound_of_transactions_a_cancel_goes_out_once_and_the_branch_ends_all_the_same() {
    let mut bed = Bed::with_settings(1, |settings| settings.transactions_max = 2);
    bed.register("bob", BOB);
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    bed.receive(BOB, &relayed.answer(180, ""));
    bed.sent();
    bed.receive(ALICE, &cancel());
    let (ok, cancelled) = bed.sent_two();
    assert_eq!(ok.status(), 200);
    assert!(cancelled.start_line().starts_with("CANCEL"));
    bed.wait(T1_64 + Duration::from_secs(1));
    assert_eq!(bed.sent().first().map(Sent::status), Some(487));
    bed.wait(T1_64 + T1_64);
    bed.sent();
    bed.assert_empty();
}
