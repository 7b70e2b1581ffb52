//! While the store is still being read: whoever needs an AoR whose rows are not in waits for them.

use super::bed::*;
use strowger::counters::Counter;
use strowger::datagram::{Flow, ListenerId, Transport};
use strowger::limits::PARKED_TIME;
use strowger::location::{Row, Work};
use strowger::proxy::Notice;
use strowger::time::Duration;

fn bed() -> Bed {
    Bed::with_store(1, true, |_| {})
}

/// The rows of `user` come in: one, at this contact.
fn admit(bed: &Bed, user: &str, contact: &str) {
    let contact = format!("sip:{user}@{contact}");
    bed.location.admit(
        bed.now,
        &Row {
            work: Work::Load,
            is_ours: true,
            ruid: format!("uloc-0-0-{user}").as_bytes(),
            contact: contact.as_bytes(),
            call_id: b"before",
            flow: Flow {
                listener: ListenerId(0),
                transport: Transport::Udp,
                peer: addr(BOB),
            },
            expires: bed.now + Duration::from_secs(600),
            modified: bed.now,
            cseq: 1,
            ..Row::complete(user.as_bytes())
        },
    );
}

fn complete(bed: &mut Bed, user: &str) {
    bed.location.complete(user.as_bytes());
    bed.notice(Notice::Loaded {
        aor: user.as_bytes(),
    });
}

#[test]
fn a_call_waits_for_the_rows_of_its_callee() {
    let mut bed = bed();
    bed.receive(ALICE, &invite());
    assert_eq!(bed.sent_one().status(), 100);
    bed.receive(ALICE, &invite());
    bed.sent_none();
    assert_eq!(bed.wanted(), ["bob"]);
    // Another call to the same user asks no second time.
    let second = request("MESSAGE", "sip:bob@example.com", ALICE, "msg", "");
    bed.receive(ALICE, &second);
    assert!(bed.wanted().is_empty());
    bed.sent_none();
    admit(&bed, "bob", BOB);
    complete(&mut bed, "bob");
    let sent = bed.sent();
    let started: Vec<_> = sent.iter().map(Sent::start_line).collect();
    assert_eq!(
        started
            .iter()
            .filter(|line| line.starts_with("INVITE sip:bob@203.0.113.9"))
            .count(),
        1,
        "{started:?}"
    );
    assert!(started.iter().any(|line| line.starts_with("MESSAGE")));
    assert_eq!(bed.count(Counter::RowsAwaited), 2);
}

#[test]
fn one_who_has_no_row_is_unknown_then_and_not_before() {
    let mut bed = bed();
    bed.receive(ALICE, &invite());
    assert_eq!(bed.sent_one().status(), 100);
    complete(&mut bed, "bob");
    assert_eq!(bed.sent_one().status(), 404);
    bed.wanted();
    bed.receive(
        ALICE,
        &request("MESSAGE", "sip:carol@example.com", ALICE, "m", ""),
    );
    bed.sent_none();
    bed.location.all_is_loaded();
    bed.notice(Notice::AllLoaded);
    assert_eq!(bed.sent_one().status(), 404);
    bed.assert_empty();
}

#[test]
fn a_registration_knows_of_the_rows_that_it_changes() {
    let mut bed = bed();
    // A removal of what is still to come; a query; and a further contact.
    let removal = register("bob", BOB, 1, "Expires: 0\n");
    let query =
        register("carol", BOB, 1, "").replace("Contact: <sip:carol@203.0.113.9:5070>\n", "");
    let further = register("dave", ALICE, 1, "");
    for request in [&removal, &query, &further] {
        bed.receive(BOB, request);
        bed.sent_none();
    }
    assert_eq!(bed.wanted(), ["bob", "carol", "dave"]);
    for user in ["bob", "carol", "dave"] {
        admit(&bed, user, BOB);
        complete(&mut bed, user);
    }
    let sent = bed.sent();
    let listed: Vec<_> = sent
        .iter()
        .map(|sent| (sent.status(), sent.headers("Contact").len()))
        .collect();
    assert_eq!(listed, [(200, 0), (200, 1), (200, 2)]);
    bed.assert_empty();
}

#[test]
fn nobody_waits_for_ever() {
    let mut bed = bed();
    bed.receive(
        ALICE,
        &request("MESSAGE", "sip:bob@example.com", ALICE, "m", ""),
    );
    bed.receive(BOB, &register("carol", BOB, 1, ""));
    bed.sent_none();
    bed.wait(PARKED_TIME + Duration::from_millis(1));
    let sent = bed.sent();
    // A phone that registers is newer than any row: memory takes it.
    let mut statuses: Vec<_> = sent.iter().map(Sent::status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
    let refused = sent.iter().find(|sent| sent.status() == 503);
    assert_eq!(
        refused.and_then(|sent| sent.header("Retry-After")),
        Some("1")
    );
    assert_eq!(bed.count(Counter::RefusedLoading), 1);
    assert_eq!(bed.count(Counter::RowsLate), 2);
    bed.assert_empty();
}

#[test]
fn while_the_store_is_away_nobody_waits_for_its_rows() {
    let mut bed = bed();
    bed.receive(ALICE, &invite());
    assert_eq!(bed.sent_one().status(), 100);
    bed.notice(Notice::Settled { takes: false });
    assert_eq!(bed.sent_one().status(), 503);
    bed.wanted();
    bed.receive(BOB, &register("bob", BOB, 1, ""));
    assert_eq!(bed.sent_one().status(), 200);
    bed.receive(
        ALICE,
        &request("MESSAGE", "sip:carol@example.com", ALICE, "m", ""),
    );
    assert_eq!(bed.sent_one().status(), 503);
    assert!(bed.wanted().is_empty());
    bed.assert_empty();
}

#[test]
fn a_store_that_is_asked_too_much_holds_up_no_phone() {
    let mut bed = bed();
    bed.fill_store();
    bed.receive(BOB, &register("bob", BOB, 1, ""));
    assert_eq!(bed.sent_one().status(), 200);
    bed.receive(
        ALICE,
        &request("MESSAGE", "sip:carol@example.com", ALICE, "m", ""),
    );
    assert_eq!(bed.sent_one().status(), 503);
    bed.assert_empty();
}

#[test]
fn a_caller_who_gives_up_while_it_waits_is_answered() {
    let mut bed = bed();
    bed.receive(ALICE, &invite());
    assert_eq!(bed.sent_one().status(), 100);
    bed.receive(ALICE, &invite().replace("INVITE", "CANCEL"));
    let (cancelled, ended) = bed.sent_two();
    assert_eq!((cancelled.status(), ended.status()), (200, 487));
    complete(&mut bed, "bob");
    bed.sent_none();
    bed.assert_empty();
}
