//! `ack = "committed"`: the 200 of a REGISTER says that the store has it, whichever way it is asked for.

use super::bed::*;
use strowger::counters::Counter;
use strowger::limits::{COMMIT_TIME, COMMITS_WAITING_MAX};
use strowger::location::{Rows, SweepCursor, Taken};
use strowger::proxy::{Notice, Settings};
use strowger::time::Duration;

const FLUSH: Duration = Duration::from_millis(100);

fn committed(settings: &mut Settings) {
    settings.commit = Some(FLUSH);
}

fn bed() -> Bed {
    Bed::with_store(1, false, committed)
}

/// A batch under way.
struct Flight {
    rows: Rows,
    taken: Taken,
}

/// Everything that has changed goes to the store.
fn take_off(bed: &Bed) -> Flight {
    let (mut rows, mut taken) = (Rows::default(), Taken::new());
    let mut cursor = SweepCursor::new(0, 1);
    loop {
        assert!(
            bed.location
                .collect(bed.now, &mut cursor, &mut rows, &mut taken, 1_000)
        );
        if cursor.is_at_start() {
            return Flight { rows, taken };
        }
    }
}

/// The batch comes back.
fn land(bed: &mut Bed, mut flight: Flight, is_committed: bool) {
    let Flight { rows, taken } = &mut flight;
    assert_eq!(
        bed.location.settle(rows, taken, is_committed, 0, 1_000),
        None
    );
    bed.notice(Notice::Settled {
        takes: is_committed,
    });
}

fn commit(bed: &mut Bed) {
    let flight = take_off(bed);
    land(bed, flight, true);
}

#[test]
fn the_answer_comes_with_the_commit_and_retransmissions_join_it() {
    let mut bed = bed();
    let request = register("bob", BOB, 1, "");
    bed.receive(BOB, &request);
    bed.receive(BOB, &request);
    bed.sent_none();
    assert_eq!(bed.location.bindings(), 1);
    // Another request for the same user waits like the first: the change that it tells of is not in the store either.
    let query = register("bob", BOB, 1, "")
        .replace("Contact: <sip:bob@203.0.113.9:5070>\n", "")
        .replace("z9hG4bKreg", "z9hG4bKquery");
    bed.receive(BOB, &query);
    // And so does the same CSeq by another branch, as a phone sends it that has lost its transaction.
    bed.receive(BOB, &request.replace("z9hG4bKreg", "z9hG4bKagain"));
    bed.sent_none();
    assert_eq!(bed.workers[0].waiting(), 3);
    let flight = take_off(&bed);
    bed.wait(FLUSH);
    bed.sent_none();
    land(&mut bed, flight, true);
    let sent = bed.sent();
    assert_eq!(sent.len(), 3);
    for sent in &sent {
        assert_eq!(sent.status(), 200);
        assert_eq!(
            sent.header("Contact"),
            Some("<sip:bob@203.0.113.9:5070>;expires=3600")
        );
    }
    // From now on there is nothing to wait for.
    bed.receive(BOB, &request);
    assert_eq!(bed.sent_one().status(), 200);
    bed.receive(BOB, &query);
    assert_eq!(bed.sent_one().status(), 200);
    assert_eq!(bed.count(Counter::CommitAwaited), 3);
    bed.assert_empty();
}

#[test]
fn a_change_that_comes_while_the_batch_is_away_waits_for_the_next() {
    let mut bed = bed();
    bed.receive(BOB, &register("bob", BOB, 1, ""));
    let first = take_off(&bed);
    bed.receive(BOB, &register("bob", BOB, 2, ""));
    // Of the first answer the list is that of its own moment.
    land(&mut bed, first, true);
    assert_eq!(bed.sent_one().header("CSeq"), Some("1 REGISTER"));
    bed.receive(BOB, &register("bob", BOB, 3, "Expires: 0\n"));
    bed.sent_none();
    commit(&mut bed);
    let (second, third) = bed.sent_two();
    assert_eq!(second.header("CSeq"), Some("2 REGISTER"));
    assert_eq!(third.header("CSeq"), Some("3 REGISTER"));
    assert_eq!(third.header("Contact"), None);
    bed.assert_empty();
}

#[test]
fn what_was_not_committed_is_not_acknowledged_and_stays() {
    let mut bed = bed();
    bed.receive(BOB, &register("bob", BOB, 1, ""));
    let flight = take_off(&bed);
    land(&mut bed, flight, false);
    let refused = bed.sent_one();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.header("Retry-After"), Some("5"));
    assert_eq!(bed.location.bindings(), 1);
    // While the store is known to be away nobody waits.
    for request in [
        register("bob", BOB, 1, ""),
        register("bob", BOB, 2, ""),
        register("alice", ALICE, 1, ""),
    ] {
        bed.receive(BOB, &request);
        assert_eq!(bed.sent_one().status(), 503);
    }
    assert_eq!(bed.count(Counter::CommitFailed), 4);
    assert_eq!(bed.count(Counter::RefusedUncommitted), 4);
    // It is back.
    bed.notice(Notice::Settled { takes: true });
    bed.receive(BOB, &register("bob", BOB, 3, ""));
    bed.sent_none();
    commit(&mut bed);
    assert_eq!(bed.sent_one().status(), 200);
    assert_eq!(bed.location.backlog(), 0);
    bed.assert_empty();
}

#[test]
fn nobody_waits_until_its_transaction_is_over() {
    let mut bed = bed();
    bed.receive(BOB, &register("bob", BOB, 1, ""));
    bed.wait(COMMIT_TIME + FLUSH - Duration::from_millis(1));
    bed.sent_none();
    bed.wait(Duration::from_millis(2));
    let refused = bed.sent_one();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.header("Retry-After"), Some("5"));
    assert_eq!(bed.count(Counter::CommitLate), 1);
    // Late is not lost.
    commit(&mut bed);
    bed.receive(BOB, &register("bob", BOB, 1, ""));
    assert_eq!(bed.sent_one().status(), 200);
    bed.assert_empty();
}

#[test]
fn a_worker_answers_what_another_has_settled() {
    let mut bed = Bed::with_store(2, false, committed);
    bed.receive_at(0, 0, BOB, &register("bob", BOB, 1, ""));
    bed.receive_at(1, 0, ALICE, &register("alice", ALICE, 1, ""));
    bed.sent_none();
    commit(&mut bed);
    let (one, other) = bed.sent_two();
    assert_eq!((one.status(), other.status()), (200, 200));
    bed.assert_empty();
}

#[test]
fn as_many_wait_as_may_and_each_gets_its_answer_in_slices() {
    let mut bed = bed();
    let request =
        |n: u32| register("bob", BOB, 1, "").replace("z9hG4bKregbob1", &format!("z9hG4bKreg{n}"));
    for n in 0..COMMITS_WAITING_MAX {
        bed.receive(BOB, &request(n));
    }
    bed.sent_none();
    bed.receive(BOB, &request(COMMITS_WAITING_MAX));
    assert_eq!(bed.sent_one().status(), 503);
    assert_eq!(bed.count(Counter::CommitCrowded), 1);
    commit(&mut bed);
    let at_once = bed.sent().len();
    assert!((1..1_000).contains(&at_once), "{at_once} in one call");
    bed.wait(Duration::from_millis(1));
    let later = bed.sent();
    assert!(later.iter().all(|sent| sent.status() == 200));
    assert_eq!(at_once + later.len(), COMMITS_WAITING_MAX as usize);
    bed.assert_empty();
}

#[test]
fn a_refusal_and_what_changes_nothing_wait_for_nothing() {
    let mut bed = bed();
    bed.receive(BOB, &register("bob", BOB, 1, "Expires: 1\n"));
    assert_eq!(bed.sent_one().status(), 423);
    bed.receive(BOB, &register("bob", BOB, 1, "Expires: 0\n"));
    assert_eq!(bed.sent_one().status(), 200);
    bed.assert_empty();
}

#[test]
fn what_no_row_can_hold_is_not_promised() {
    let mut bed = bed();
    let long = "u".repeat(65);
    bed.receive(BOB, &register(&long, BOB, 1, ""));
    let refused = bed.sent_one();
    assert_eq!(refused.start_line(), "SIP/2.0 400 Cannot Be Stored");
    assert_eq!(bed.count(Counter::RefusedUnstorable), 1);
    assert_eq!(bed.location.bindings(), 0);
    bed.receive(BOB, &register(&long[..64], BOB, 1, ""));
    bed.sent_none();
    commit(&mut bed);
    assert_eq!(bed.sent_one().status(), 200);
}

#[test]
fn what_the_store_refuses_is_not_acknowledged() {
    let mut bed = bed();
    bed.receive(BOB, &register("bob", BOB, 1, ""));
    bed.receive(ALICE, &register("alice", ALICE, 1, ""));
    let flight = take_off(&bed);
    let place = flight.rows.iter().position(|row| row.aor == b"bob");
    let place = u32::try_from(place.expect("a row")).expect("small");
    bed.location.refuse(&flight.rows, &[place]);
    land(&mut bed, flight, true);
    let sent = bed.sent();
    let of = |user: &str| {
        let mut sent = sent
            .iter()
            .filter(|sent| sent.text.contains(&format!("<sip:{user}@")));
        sent.next().expect("an answer").status()
    };
    assert_eq!((of("bob"), of("alice")), (500, 200));
    // Memory has it, and whoever asks hears the same.
    assert_eq!(bed.location.bindings(), 2);
    bed.receive(BOB, &register("bob", BOB, 1, ""));
    assert_eq!(bed.sent_one().start_line(), "SIP/2.0 500 Cannot Be Stored");
    // The next state of it is tried anew.
    bed.receive(BOB, &register("bob", BOB, 2, ""));
    commit(&mut bed);
    assert_eq!(bed.sent_one().status(), 200);
    bed.assert_empty();
}

#[test]
fn who_waits_is_answered_though_the_process_is_to_end() {
    let mut bed = bed();
    bed.receive(BOB, &register("bob", BOB, 1, ""));
    bed.notice(Notice::Drain);
    assert_eq!(bed.workers[0].pending(), 1);
    // A retransmission still joins; a new one is refused.
    bed.receive(BOB, &register("bob", BOB, 1, ""));
    bed.sent_none();
    bed.receive(ALICE, &register("alice", ALICE, 1, ""));
    assert_eq!(bed.sent_one().status(), 503);
    commit(&mut bed);
    assert_eq!(bed.sent_one().status(), 200);
    bed.assert_empty();
}
