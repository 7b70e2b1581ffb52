//! What the location promises, scenario by scenario.

mod model;

use std::net::SocketAddr;

use super::*;
use crate::datagram::Transport;
use crate::limits::{CONTACT_AORS_MAX, TOMBSTONE};
use crate::time::Duration;

const START: Instant = Instant::from_micros(1_700_000_000_000_000);

fn location() -> Location {
    bounded(1_000_000, 8)
}

fn bounded(bindings_max: usize, contacts_max: usize) -> Location {
    Location::new(&LocationSettings {
        hash_key: [7; 16],
        bindings_max,
        contacts_max,
    })
}

fn after(secs: u64) -> Instant {
    START + Duration::from_secs(secs)
}

fn flow() -> Flow {
    let peer: SocketAddr = "198.51.100.7:40000".parse().expect("an address");
    Flow {
        listener: ListenerId(2),
        transport: Transport::Udp,
        peer,
    }
}

fn registration(call_id: &str, cseq: u32) -> Registration<'_> {
    Registration {
        call_id: call_id.as_bytes(),
        cseq,
        user_agent: b"Phone 1.0",
        path: b"",
        flow: flow(),
    }
}

fn change(uri: &str, expires_s: u64) -> Change<'_> {
    let expires = Duration::from_secs(expires_s);
    Change {
        uri: uri.as_bytes(),
        expires,
        q: None,
        received: false,
        instance: b"",
        reg_id: 0,
    }
}

/// A REGISTER for alice.
fn register(
    location: &Location,
    now: Instant,
    call_id: &str,
    cseq: u32,
    changes: &[Change<'_>],
) -> Result<Vec<String>, Refusal> {
    let mut targets = Targets::new();
    location
        .apply(
            now,
            b"alice",
            &registration(call_id, cseq),
            changes,
            &mut targets,
        )
        .0?;
    Ok(uris(&targets))
}

fn uris(targets: &Targets) -> Vec<String> {
    targets
        .iter()
        .map(|target| String::from_utf8_lossy(target.uri).into_owned())
        .collect()
}

fn lookup(location: &Location, now: Instant) -> (Lookup, Vec<String>) {
    let mut targets = Targets::new();
    let (found, _) = location.lookup(now, b"alice", &mut targets);
    (found, uris(&targets))
}

fn sweep_all(location: &Location, now: Instant) -> usize {
    let mut cursor = SweepCursor::new(0, 1);
    let mut freed = 0;
    // Twice round: a slice ends at the end of a shard, or where it has freed its share.
    for _ in 0..4 * LOCATION_SHARDS {
        freed += location.sweep(now, &mut cursor, 1_000);
    }
    freed
}

fn indexed(location: &Location) -> usize {
    location
        .contacts
        .iter()
        .map(|index| index.0.lock().len())
        .sum()
}

#[test]
fn a_contact_is_found_until_it_expires() {
    let location = location();
    assert_eq!(lookup(&location, START).0, Lookup::Unknown);
    assert_eq!(
        register(&location, START, "a", 1, &[change("sip:a@h", 60)]),
        Ok(vec!["sip:a@h".into()])
    );
    assert_eq!(
        lookup(&location, after(59)),
        (Lookup::Found, vec!["sip:a@h".into()])
    );
    assert_eq!(lookup(&location, after(60)), (Lookup::NoContacts, vec![]));
    assert_eq!(
        (location.bindings(), sweep_all(&location, after(60))),
        (1, 1)
    );
    assert_eq!(lookup(&location, after(60)).0, Lookup::Unknown);
    assert_eq!(
        (location.bindings(), location.held(), indexed(&location)),
        (0, 0, 0)
    );
    assert_eq!(location.blocks_held(), 0);
}

#[test]
fn a_retransmission_changes_nothing_and_gets_the_same_answer() {
    let location = location();
    let first = register(&location, START, "a", 1, &[change("sip:a@h", 60)]);
    let (_, before) = location.contacts(START, b"alice", &mut Targets::new());
    assert_eq!(
        register(&location, after(10), "a", 1, &[change("sip:a@h", 60)]),
        first
    );
    let mut targets = Targets::new();
    let (_, access) = location.contacts(after(10), b"alice", &mut targets);
    assert_eq!(
        targets.target(0).map(|target| target.expires),
        Some(after(60))
    );
    assert_eq!(access, before, "no change, no number");
}

#[test]
fn a_late_request_of_the_same_call_changes_nothing_at_all() {
    let location = location();
    register(&location, START, "a", 5, &[change("sip:a@h", 60)]).expect("the first");
    let both = [change("sip:b@h", 60), change("sip:a@h", 60)];
    assert_eq!(
        register(&location, START, "a", 4, &both),
        Err(Refusal::OutOfOrder)
    );
    assert_eq!(lookup(&location, START).1, ["sip:a@h"], "all or nothing");
    // Another Call-ID is a restarted phone: its CSeq says nothing of order.
    assert!(register(&location, after(30), "b", 1, &[change("sip:a@h", 60)]).is_ok());
    assert_eq!(lookup(&location, after(80)).1, ["sip:a@h"]);
}

#[test]
fn a_late_duplicate_cannot_revive_a_removed_contact() {
    let location = location();
    register(&location, START, "a", 1, &[change("sip:a@h", 60)]).expect("added");
    assert_eq!(
        register(&location, START, "a", 2, &[change("sip:a@h", 0)]),
        Ok(vec![])
    );
    assert_eq!(lookup(&location, START).0, Lookup::NoContacts);
    assert_eq!(
        register(&location, after(1), "a", 1, &[change("sip:a@h", 60)]),
        Err(Refusal::OutOfOrder)
    );
    assert_eq!(
        register(&location, after(1), "a", 2, &[change("sip:a@h", 0)]),
        Ok(vec![])
    );
    assert_eq!(location.bindings(), 0);
    let over = START + TOMBSTONE;
    assert_eq!(sweep_all(&location, over - Duration::from_micros(1)), 0);
    assert_eq!(sweep_all(&location, over), 1);
    assert_eq!(
        register(&location, over, "a", 1, &[change("sip:a@h", 60)]),
        Ok(vec!["sip:a@h".into()])
    );
}

#[test]
fn a_later_removal_moves_the_tombstone_on() {
    let location = location();
    register(&location, START, "a", 1, &[change("sip:a@h", 60)]).expect("added");
    register(&location, START, "a", 2, &[change("sip:a@h", 0)]).expect("removed");
    register(&location, START, "a", 4, &[change("sip:a@h", 0)]).expect("removed again");
    assert_eq!(
        register(&location, after(1), "a", 3, &[change("sip:a@h", 60)]),
        Err(Refusal::OutOfOrder)
    );
    assert_eq!(
        register(&location, after(1), "a", 5, &[change("sip:a@h", 60)]),
        Ok(vec!["sip:a@h".into()])
    );
}

#[test]
fn all_contacts_go_at_once_and_a_late_duplicate_spares_what_came_since() {
    let location = location();
    let mut targets = Targets::new();
    register(&location, START, "a", 1, &[change("sip:a@h", 60)]).expect("added");
    register(&location, START, "b", 1, &[change("sip:b@h", 60)]).expect("added");
    assert_eq!(
        location
            .remove_all(START, b"alice", b"a", 1, &mut targets)
            .0,
        Ok(()),
        "a retransmission"
    );
    assert_eq!(targets.len(), 2);
    assert_eq!(
        location
            .remove_all(START, b"alice", b"a", 0, &mut targets)
            .0,
        Err(Refusal::OutOfOrder)
    );
    assert_eq!(
        location
            .remove_all(START, b"alice", b"a", 2, &mut targets)
            .0,
        Ok(())
    );
    assert_eq!((targets.len(), location.bindings()), (0, 0));
    register(&location, after(1), "c", 1, &[change("sip:c@h", 60)]).expect("another phone");
    assert_eq!(
        location
            .remove_all(after(2), b"alice", b"a", 2, &mut targets)
            .0,
        Ok(()),
        "the duplicate"
    );
    assert_eq!(uris(&targets), ["sip:c@h"]);
    assert_eq!(
        location
            .remove_all(after(2), b"bob", b"a", 2, &mut targets)
            .0,
        Ok(()),
        "of nobody"
    );
}

#[test]
fn contacts_come_by_q_then_by_age_and_no_more_than_a_request_can_fork_to() {
    let location = bounded(1_000, 100);
    for (n, q) in [(1, Some(300)), (2, None), (3, Some(1_000)), (4, Some(300))] {
        let uri = format!("sip:{n}@h");
        let one = Change {
            q,
            ..change(&uri, 600)
        };
        register(&location, after(n), &format!("call {n}"), 1, &[one]).expect("added");
    }
    assert_eq!(
        lookup(&location, after(9)).1,
        ["sip:3@h", "sip:2@h", "sip:4@h", "sip:1@h"]
    );
    for n in 5..40 {
        register(
            &location,
            after(n),
            &format!("call {n}"),
            1,
            &[change(&format!("sip:{n}@h"), 600)],
        )
        .expect("added");
    }
    let found = lookup(&location, after(60)).1;
    assert_eq!((found.len(), found[0].as_str()), (BRANCHES_MAX, "sip:39@h"));
}

#[test]
fn a_target_tells_how_the_phone_is_reached() {
    let location = location();
    let mut targets = Targets::new();
    let registration = Registration {
        path: b"<sip:edge;lr>",
        ..registration("a", 1)
    };
    let changes = [
        Change {
            received: true,
            q: Some(700),
            ..change("sip:a@10.0.0.1", 60)
        },
        change("sip:b@h", 60),
    ];
    assert_eq!(
        location
            .apply(START, b"alice", &registration, &changes, &mut targets)
            .0,
        Ok(())
    );
    let first = targets.target(0).expect("two contacts");
    assert_eq!(
        (first.uri, first.path, first.q),
        (&b"sip:a@10.0.0.1"[..], &b"<sip:edge;lr>"[..], Some(700))
    );
    assert_eq!(
        (first.received, first.listener),
        (Some(flow()), ListenerId(2))
    );
    assert_eq!(targets.target(1).map(|target| target.received), Some(None));
    let reached = location
        .registered_contact(START, b"sip:a@10.0.0.1")
        .expect("it is registered");
    assert_eq!(
        (reached.received, reached.listener),
        (Some(flow()), ListenerId(2))
    );
    assert_eq!(location.registered_contact(START, b"sip:z@h"), None);
    assert_eq!(
        location.registered_contact(after(60), b"sip:a@10.0.0.1"),
        None
    );
}

#[test]
fn an_aor_has_no_more_contacts_than_it_may_but_refreshes_those_it_has() {
    let location = bounded(1_000, 2);
    let two = [change("sip:a@h", 60), change("sip:b@h", 60)];
    register(&location, START, "a", 1, &two).expect("two fit");
    assert_eq!(
        register(&location, START, "b", 1, &[change("sip:c@h", 60)]),
        Err(Refusal::TooManyContacts)
    );
    assert!(register(&location, START, "a", 2, &two).is_ok());
    let swap = [change("sip:a@h", 0), change("sip:c@h", 60)];
    assert_eq!(
        register(&location, START, "a", 3, &swap).map(|uris| uris.len()),
        Ok(2)
    );
}

#[test]
fn a_phone_that_changes_its_contact_without_end_leaves_a_bounded_trail() {
    let location = bounded(1_000, 2);
    for n in 1..500 {
        let (old, new) = (format!("sip:{}@h", n - 1), format!("sip:{n}@h"));
        register(
            &location,
            START,
            "a",
            n,
            &[change(&old, 0), change(&new, 60)],
        )
        .expect("one live contact");
        assert!(
            location.held() <= 5,
            "two lists' worth, and the one that was just added"
        );
        assert_eq!(location.bindings(), 1);
        assert_eq!(indexed(&location), location.held());
    }
}

#[test]
fn at_the_bound_a_new_binding_is_refused_and_a_refresh_is_not() {
    let location = bounded(2, 8);
    register(&location, START, "a", 1, &[change("sip:a@h", 60)]).expect("the first");
    let mut targets = Targets::new();
    let two = [change("sip:b@h", 60), change("sip:c@h", 60)];
    let (refused, _) = location.apply(START, b"bob", &registration("b", 1), &two, &mut targets);
    assert_eq!((refused, location.held()), (Err(Refusal::Full), 1));
    register(&location, START, "a", 2, &[change("sip:b@h", 60)]).expect("the second");
    assert_eq!(
        register(&location, START, "a", 3, &[change("sip:c@h", 60)]),
        Err(Refusal::Full)
    );
    assert!(register(&location, after(1), "a", 4, &[change("sip:a@h", 90)]).is_ok());
    // What is dead makes room, in its own shard at least.
    assert_eq!(
        register(&location, after(70), "a", 5, &[change("sip:c@h", 60)]).map(|uris| uris.len()),
        Ok(2)
    );
    assert_eq!((location.held(), indexed(&location)), (2, 2));
}

#[test]
fn a_cursor_sweeps_its_share_and_no_other() {
    let location = location();
    let mut targets = Targets::new();
    for n in 0..500 {
        let aor = format!("user {n}");
        let _ = location.apply(
            START,
            aor.as_bytes(),
            &registration("a", 1),
            &[change("sip:a@h", 60)],
            &mut targets,
        );
    }
    let mut cursors = [0, 1, 2].map(|share| SweepCursor::new(share, 3));
    let mut freed = [0; 3];
    for (cursor, freed) in cursors.iter_mut().zip(&mut freed) {
        for _ in 0..LOCATION_SHARDS {
            *freed += location.sweep(after(60), cursor, 4);
        }
    }
    assert_eq!(freed.iter().sum::<usize>(), 500);
    assert!(freed.iter().all(|freed| *freed > 100));
}

#[test]
fn a_contact_that_a_thousand_aors_share_is_known_by_a_few_of_them() {
    let location = location();
    let mut targets = Targets::new();
    for n in 0..1_000 {
        let aor = format!("user {n}");
        let (result, _) = location.apply(
            START,
            aor.as_bytes(),
            &registration("a", 1),
            &[change("sip:a@h", 60)],
            &mut targets,
        );
        assert_eq!(result, Ok(()));
    }
    assert_eq!(indexed(&location), CONTACT_AORS_MAX);
    assert!(location.registered_contact(START, b"sip:a@h").is_some());
    assert_eq!(sweep_all(&location, after(60)), 1_000);
    assert_eq!((indexed(&location), location.held()), (0, 0));
}

#[test]
fn workers_in_parallel_leave_a_consistent_location() {
    let location = location();
    std::thread::scope(|scope| {
        for worker in 0..4_u64 {
            let location = &location;
            scope.spawn(move || {
                let mut targets = Targets::new();
                let call_id = format!("worker {worker}");
                for n in 0..2_000_u32 {
                    let aor = format!("user {}", n % 50);
                    let uri = format!("sip:{}@h", (u64::from(n) + worker) % 7);
                    let expires_s = if n % 3 == 0 { 0 } else { 60 };
                    let registration = registration(&call_id, n);
                    let _ = location.apply(
                        START,
                        aor.as_bytes(),
                        &registration,
                        &[change(&uri, expires_s)],
                        &mut targets,
                    );
                    location.lookup(START, aor.as_bytes(), &mut targets);
                    location.registered_contact(START, uri.as_bytes());
                }
            });
        }
    });
    let held: usize = location
        .shards
        .iter()
        .map(|shard| shard.0.lock().held().1)
        .sum();
    assert_eq!((location.held(), indexed(&location)), (held, held));
    sweep_all(&location, after(100));
    assert_eq!(
        (location.held(), location.bindings(), indexed(&location)),
        (0, 0, 0)
    );
}
