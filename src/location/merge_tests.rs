//! The rules of `docs/cluster.md` by which one state of a contact stays, each by a scenario of its own.

use std::sync::Arc;

use super::*;
use crate::datagram::{Flow, Transport};
use crate::limits::{EXPIRY_GRACE, LOCATION_SHARDS};
use crate::time::Duration;

const START: Instant = Instant::from_micros(1_700_000_000_000_000);
const BOB: &[u8] = b"sip:bob@10.0.0.9";

fn location(server_id: u16, tombstones_max: usize) -> Location {
    let settings = LocationSettings {
        hash_key: [3; 16],
        bindings_max: 10_000,
        contacts_max: 4,
    };
    let replica = ReplicaSettings {
        server_id,
        nat_cflags: 0,
        tombstones_max,
        stores_all: false,
    };
    let homes = Arc::new(Homes::new(server_id));
    Location::new(&settings).with_cluster(b"uloc-", replica, homes)
}

fn flow() -> Flow {
    Flow {
        listener: ListenerId(0),
        transport: Transport::Udp,
        peer: "198.51.100.7:40000".parse().expect("an address"),
    }
}

/// A phone registers; 0 seconds: it takes its contact away.
fn register(location: &Location, now: Instant, aor: &str, cseq: u32, seconds: u64) -> Access {
    let registration = Registration {
        call_id: b"call",
        cseq,
        user_agent: b"",
        path: b"",
        flow: flow(),
    };
    let change = Change {
        uri: BOB,
        expires: Duration::from_secs(seconds),
        q: None,
        received: true,
        instance: b"",
        reg_id: 0,
    };
    let mut targets = Targets::new();
    let (result, access) =
        location.apply(now, aor.as_bytes(), &registration, &[change], &mut targets);
    result.expect("room");
    access
}

fn all(location: &Location, now: Instant, since: u64) -> Deltas {
    let (mut cursor, mut out) = (SweepCursor::new(0, 1), Deltas::default());
    while !location.walk(now, &mut cursor, since, 1_000, &mut out) {}
    out
}

/// All that other nodes were not told of yet; from now on they are.
fn tell(location: &Location, now: Instant) -> Deltas {
    let (mut cursor, mut out) = (SweepCursor::new(0, 1), Deltas::default());
    for _ in 0..LOCATION_SHARDS {
        location.gather(now, &mut cursor, &mut out, usize::MAX);
    }
    out
}

/// The one state of a contact that is held.
fn state(location: &Location, now: Instant) -> (u32, Facts) {
    let all = all(location, now, 0);
    let delta = all.iter().find(|delta| !delta.is_removal()).expect("one");
    (delta.row.cseq, delta.facts)
}

/// What another node says of Bob.
fn row(cseq: u32, expires: Instant) -> Row<'static> {
    Row {
        work: Work::Update,
        ruid: b"uloc-2-1",
        contact: BOB,
        call_id: b"call",
        flow: flow(),
        received: true,
        is_ours: false,
        expires,
        modified: START,
        cseq,
        ..Row::complete(b"bob")
    }
}

fn hour(now: Instant) -> Instant {
    now + Duration::from_secs(3_600)
}

fn merge(location: &Location, now: Instant, row: Row<'_>, state: (u64, u16)) -> Merge {
    let facts = Facts::own(state.0, state.1, 0);
    location.merge(now, &Delta { row, facts }, Judge::Version)
}

#[test]
fn the_cseq_is_judged_where_the_phone_registers_and_nowhere_else() {
    let location = location(1, 65_536);
    register(&location, START, "bob", 9, 600);
    let version = state(&location, START).1.version;
    let older = row(3, hour(START));
    assert_eq!(
        merge(&location, START, older, (version + 1, 2)),
        Merge::Taken
    );
    assert_eq!(state(&location, START).0, 3);
}

#[test]
fn a_version_is_later_than_the_clock_and_than_any_that_was_seen() {
    let location = location(1, 65_536);
    register(&location, START, "bob", 1, 600);
    assert_eq!(state(&location, START).1.version, START.as_micros());
    // In the same moment, and with a node seen whose clock is ahead.
    register(&location, START, "bob", 2, 600);
    assert_eq!(state(&location, START).1.version, START.as_micros() + 1);
    let ahead = START.as_micros() + 5_000_000;
    assert_eq!(
        merge(&location, START, row(7, hour(START)), (ahead, 2)),
        Merge::Taken
    );
    register(&location, START, "bob", 8, 600);
    let (cseq, facts) = state(&location, START);
    assert_eq!((cseq, facts.version, facts.server_id), (8, ahead + 1, 1));
}

#[test]
fn equal_versions_are_told_apart_by_the_node_and_then_by_the_content() {
    let version = START.as_micros();
    let (low, high) = (row(1, hour(START)), row(2, hour(START)));
    for order in [[(low, 2), (high, 3)], [(high, 3), (low, 2)]] {
        let location = location(1, 65_536);
        for (row, server_id) in order {
            merge(&location, START, row, (version, server_id));
        }
        assert_eq!(state(&location, START).1.server_id, 3);
    }
    let ends = [[low, high], [high, low]].map(|order| {
        let location = location(1, 65_536);
        let _ = order.map(|row| merge(&location, START, row, (version, 2)));
        state(&location, START).0
    });
    assert_eq!(ends[0], ends[1]);
    // A contact outlives a removal of the same version by the same node, on every node.
    let removal = Row {
        work: Work::Delete,
        ..low
    };
    for order in [[low, removal], [removal, low]] {
        let location = location(1, 65_536);
        let _ = order.map(|row| merge(&location, START, row, (version, 2)));
        assert_eq!(location.bindings(), 1);
    }
}

#[test]
fn a_node_that_was_away_since_before_the_oldest_removal_that_is_remembered_gets_everything() {
    let (few, many) = (location(1, 1_024), location(1, 1_048_576));
    let old = Duration::from_secs(100);
    for location in [&few, &many] {
        for n in 0..2_000 {
            register(location, START, &format!("stays{n}"), 1, 3_600);
        }
        for n in 0..3_000 {
            register(location, START, &format!("goes{n}"), 1, 3_600);
            register(location, START + old, &format!("goes{n}"), 2, 0);
        }
        tell(location, START + old);
    }
    let now = START + old + old;
    // Since then nothing has happened: a removal that is forgotten might have, before.
    let since = START.as_micros() + 50_000_000;
    let told = |location: &Location, is_removal: bool| {
        let all = all(location, now, since);
        all.iter()
            .filter(|delta| delta.is_removal() == is_removal)
            .count()
    };
    assert_eq!((told(&many, true), told(&many, false)), (3_000, 0));
    assert!(told(&few, true) <= 1_024);
    assert!(told(&few, false) > 1_500, "{}", told(&few, false));
}

#[test]
fn a_removal_that_nobody_was_told_of_outlives_the_bound_until_it_is_told() {
    let location = location(1, 1_024);
    for cseq in [1, 2] {
        for n in 0..5_000 {
            let expires_s = if cseq == 1 { 3_600 } else { 0 };
            register(&location, START, &format!("goes{n}"), cseq, expires_s);
        }
        let told = tell(&location, START);
        let removals = told.iter().filter(Delta::is_removal).count();
        assert_eq!(removals, if cseq == 1 { 0 } else { 5_000 });
    }
    let remembered = all(&location, START, 0);
    assert!(remembered.iter().filter(Delta::is_removal).count() <= 1_024);
}

#[test]
fn a_contact_of_another_nodes_is_kept_for_a_grace_past_its_end_and_ones_own_is_not() {
    let location = location(1, 65_536);
    register(&location, START, "alice", 1, 600);
    let ends = START + Duration::from_secs(600);
    merge(&location, START, row(1, ends), (START.as_micros(), 2));
    let found = |aor: &str, now: Instant| {
        let mut targets = Targets::new();
        location.lookup(now, aor.as_bytes(), &mut targets).0 == Lookup::Found
    };
    let moment = Duration::from_micros(1);
    assert!(found("alice", Instant::from_micros(ends.as_micros() - 1)));
    assert!(!found("alice", ends) && found("bob", ends));
    assert!(found(
        "bob",
        Instant::from_micros((ends + EXPIRY_GRACE).as_micros() - 1)
    ));
    assert!(!found("bob", ends + EXPIRY_GRACE));
    // Past it, it is not let in any more, and what was let in is swept.
    let late = ends + EXPIRY_GRACE + moment;
    assert_eq!(
        merge(&location, late, row(2, ends), (late.as_micros(), 2)),
        Merge::Expired
    );
    let mut cursor = SweepCursor::new(0, 1);
    for _ in 0..4_096 {
        location.sweep(late, &mut cursor, 64);
    }
    assert_eq!(location.bindings(), 0);
}

#[test]
fn a_node_takes_over_pings_and_rows_of_one_that_is_gone_and_gives_them_back() {
    let location = location(1, 65_536).with_store(b"uloc-", false);
    let homes = location.homes().expect("a cluster");
    let home = homes.id_of(Home {
        server_id: 2,
        socket: None,
        is_told: true,
    });
    let facts = Facts {
        home,
        ..Facts::own(START.as_micros(), 2, 0)
    };
    let row = row(1, hour(START));
    location.merge(START, &Delta { row, facts }, Judge::Version);
    let pinged = |from: Instant| {
        let policy = KeepalivePolicy {
            nat_only: true,
            is_answered: true,
            silent_max: 1,
        };
        let mut wheel = KeepaliveWheel::new(0, 1, Duration::from_secs(1));
        let (mut due, mut count, mut now) = (DueContacts::new(), 0, from);
        while now < from + Duration::from_secs(3) {
            location.due_contacts(now, &mut wheel, &policy, &mut due);
            (count, now) = (count + due.iter().len(), wheel.next_deadline().max(now));
        }
        count
    };
    let written = || {
        let (mut cursor, mut rows, mut taken) =
            (SweepCursor::new(0, 1), Rows::default(), Taken::new());
        let mut over = SweepCursor::new(0, 1);
        while !location.take_over(&mut over, 1_000) {}
        for _ in 0..crate::limits::LOCATION_SHARDS {
            location.collect(START, &mut cursor, &mut rows, &mut taken, 100);
        }
        let count = rows.len();
        location.settle(&rows, &mut taken, true, 0, 100);
        count
    };
    homes.publish(&[1, 2], |_| Standing::Strowger);
    assert_eq!((pinged(START), written()), (0, 0));
    // It answers nobody who is not its node: that is no reason to take it for dead.
    homes.publish(&[1], |_| Standing::Gone);
    assert!(pinged(START) >= 2 && location.bindings() == 1);
    assert_eq!((written(), written()), (1, 0));
    homes.publish(&[1, 2], |_| Standing::Strowger);
    assert_eq!((pinged(START), written()), (0, 0));
    // It registers here: then it is this node's whoever is there.
    register(&location, START + Duration::from_secs(1), "bob", 2, 600);
    assert_eq!(written(), 1);
}
