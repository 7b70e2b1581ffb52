//! What the store is told: whatever happens, and however batches fail, its table ends as the location is.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::datagram::{Flow, ListenerId, Transport};
use crate::limits::TOMBSTONE;
use crate::time::Duration;

const START: Instant = Instant::from_micros(1_700_000_000_000_000);

fn location() -> Location {
    let settings = LocationSettings {
        hash_key: [7; 16],
        bindings_max: 1_000,
        contacts_max: 3,
    };
    Location::new(&settings).with_store(b"uloc-1-abc-", false)
}

fn flow() -> Flow {
    Flow {
        listener: ListenerId(2),
        transport: Transport::Udp,
        peer: "198.51.100.7:40000".parse().expect("an address"),
    }
}

fn after(secs: u64) -> Instant {
    START + Duration::from_secs(secs)
}

fn register(
    location: &Location,
    now: Instant,
    aor: &str,
    contact: &str,
    cseq: u32,
    expires_s: u64,
) -> Access {
    let registration = Registration {
        call_id: b"call",
        cseq,
        user_agent: b"Phone",
        path: b"",
        flow: flow(),
    };
    let change = Change {
        uri: contact.as_bytes(),
        expires: Duration::from_secs(expires_s),
        q: Some(500),
        received: true,
        instance: b"",
        reg_id: 0,
    };
    let (result, access) = location.apply(
        now,
        aor.as_bytes(),
        &registration,
        &[change],
        &mut Targets::new(),
    );
    result.expect("it is served");
    access
}

/// A table, and the batches on their way to it.
#[derive(Default)]
struct Database {
    /// By name: AoR, contact, CSeq, end.
    rows: BTreeMap<String, (String, String, u32, Instant)>,
    missed: usize,
    works: Vec<Work>,
}

struct Flight {
    rows: Rows,
    taken: Taken,
}

impl Database {
    fn write(&mut self, rows: &Rows) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for row in rows.iter() {
            self.works.push(row.work);
            let name = text(row.ruid);
            let values = (text(row.aor), text(row.contact), row.cseq, row.expires);
            match row.work {
                Work::Delete => drop(self.rows.remove(&name)),
                Work::Update => {
                    self.missed += usize::from(self.rows.insert(name, values).is_none())
                }
                Work::Insert => drop(self.rows.insert(name, values)),
                Work::Load | Work::Complete => unreachable!("the location makes no such row"),
            }
        }
    }
}

fn collect(location: &Location, now: Instant, share: usize) -> Option<Flight> {
    let (mut rows, mut taken) = (Rows::default(), Taken::new());
    let mut cursor = SweepCursor::new(share, 2);
    loop {
        if !location.collect(now, &mut cursor, &mut rows, &mut taken, 4) || cursor.is_at_start() {
            return (!rows.is_empty()).then_some(Flight { rows, taken });
        }
    }
}

fn settle(location: &Location, mut flight: Flight, is_committed: bool) {
    let mut from = 0;
    while let Some(next) = location.settle(&flight.rows, &mut flight.taken, is_committed, from, 1) {
        from = next;
    }
}

/// Brings everything that waits to the table.
fn flush(location: &Location, now: Instant, database: &mut Database) {
    for share in [0, 1] {
        while let Some(flight) = collect(location, now, share) {
            database.write(&flight.rows);
            settle(location, flight, true);
        }
    }
}

fn sweep(location: &Location, now: Instant) {
    let mut cursor = SweepCursor::new(0, 1);
    for _ in 0..2 * LOCATION_SHARDS {
        location.sweep(now, &mut cursor, 1_000);
    }
}

#[test]
fn a_refresh_changes_the_row_and_a_removal_takes_it_out() {
    let (location, mut database) = (location(), Database::default());
    let first = register(&location, START, "alice", "sip:a@h", 1, 60);
    assert_eq!(
        (location.waiting(None), location.is_committed(first)),
        (1, false)
    );
    flush(&location, START, &mut database);
    assert_eq!(
        (location.waiting(None), location.is_committed(first)),
        (0, true)
    );
    let name = database.rows.keys().next().expect("one row").clone();
    assert!(name.starts_with("uloc-1-abc-"), "{name}");
    register(&location, after(1), "alice", "sip:a@h", 2, 60);
    register(&location, after(2), "alice", "sip:a@h", 3, 60);
    flush(&location, after(2), &mut database);
    assert_eq!(database.rows[&name].2, 3);
    register(&location, after(3), "alice", "sip:a@h", 4, 0);
    flush(&location, after(3), &mut database);
    assert!(database.rows.is_empty());
    assert_eq!(database.works, [Work::Insert, Work::Update, Work::Delete]);
    sweep(&location, after(3) + TOMBSTONE);
    assert_eq!(location.held(), 0);
}

#[test]
fn what_the_store_never_saw_leaves_no_deletion() {
    let (location, mut database) = (location(), Database::default());
    register(&location, START, "alice", "sip:a@h", 1, 60);
    let removal = register(&location, after(1), "alice", "sip:a@h", 2, 0);
    assert_eq!(
        (location.waiting(None), location.is_committed(removal)),
        (0, true)
    );
    register(&location, START, "bob", "sip:b@h", 1, 60);
    flush(&location, after(60), &mut database);
    assert_eq!((database.works.len(), location.waiting(None)), (0, 0));
}

#[test]
fn an_expired_binding_is_kept_until_its_row_is_gone() {
    let (location, mut database) = (location(), Database::default());
    register(&location, START, "alice", "sip:a@h", 1, 60);
    flush(&location, START, &mut database);
    sweep(&location, after(60));
    assert_eq!(
        (location.held(), location.bindings(), location.waiting(None)),
        (1, 0, 1)
    );
    let flight = collect(&location, after(60), 0).or_else(|| collect(&location, after(60), 1));
    settle(&location, flight.expect("a deletion"), false);
    sweep(&location, after(90));
    assert_eq!((location.held(), location.waiting(None)), (1, 1));
    flush(&location, after(90), &mut database);
    sweep(&location, after(90));
    assert_eq!((location.held(), database.rows.len()), (0, 0));
}

#[test]
fn a_shard_has_one_batch_under_way_and_claims_no_more_than_was_committed() {
    let (location, mut database) = (location(), Database::default());
    let first = register(&location, START, "alice", "sip:a@h", 1, 60);
    let take = |now| collect(&location, now, 0).or_else(|| collect(&location, now, 1));
    let flight = take(START).expect("the first");
    let second = register(&location, after(1), "alice", "sip:a@h", 2, 60);
    assert!(take(after(1)).is_none());
    database.write(&flight.rows);
    settle(&location, flight, true);
    assert_eq!(
        (location.is_committed(first), location.is_committed(second)),
        (true, false)
    );
    flush(&location, after(1), &mut database);
    assert!(location.is_committed(second));
}

#[test]
fn a_table_that_has_lost_its_rows_gets_all_of_them_again() {
    let (location, mut database) = (location(), Database::default());
    for n in 0..50 {
        register(&location, START, &format!("user {n}"), "sip:a@h", 1, 60);
    }
    flush(&location, START, &mut database);
    database.rows.clear();
    let mut cursor = SweepCursor::new(0, 1);
    while !location.relist(&mut cursor, 10) {}
    flush(&location, after(1), &mut database);
    assert_eq!((database.rows.len(), database.missed), (50, 0));
}

fn row<'a>(ruid: &'a str, contact: &'a str, cseq: u32, modified_s: u64) -> Row<'a> {
    Row {
        work: Work::Load,
        ruid: ruid.as_bytes(),
        aor: b"alice",
        contact: contact.as_bytes(),
        path: b"",
        call_id: b"call",
        user_agent: b"",
        instance: b"",
        flow: flow(),
        received: true,
        is_ours: true,
        home: super::HomeId::NONE,
        expires: after(100),
        modified: after(modified_s),
        q: None,
        cseq,
        reg_id: 0,
    }
}

fn uris(location: &Location, now: Instant) -> Vec<String> {
    let mut targets = Targets::new();
    location.contacts(now, b"alice", &mut targets);
    targets
        .iter()
        .map(|target| String::from_utf8_lossy(target.uri).into_owned())
        .collect()
}

#[test]
fn a_row_becomes_a_binding_under_its_own_name() {
    let (location, mut database) = (location(), Database::default());
    let names = ["uloc-6b029c7b-68b3-2", "a name of another kind"];
    for (name, contact) in names.iter().zip(["sip:a@h", "sip:b@h"]) {
        assert_eq!(
            location.admit(START, &row(name, contact, 1, 0)),
            Admission::Admitted
        );
        assert_eq!(
            location.admit(START, &row(name, contact, 1, 0)),
            Admission::Known
        );
    }
    assert_eq!(
        location.admit(after(100), &row("x-1", "sip:c@h", 1, 0)),
        Admission::Expired
    );
    assert_eq!(uris(&location, START), ["sip:a@h", "sip:b@h"]);
    assert!(location.registered_contact(START, b"sip:b@h").is_some());
    assert_eq!(location.waiting(None), 0);
    register(&location, after(1), "alice", "sip:a@h", 2, 60);
    register(&location, after(1), "alice", "sip:b@h", 2, 60);
    register(&location, after(2), "alice", "sip:b@h", 3, 0);
    flush(&location, after(2), &mut database);
    assert_eq!(database.rows.keys().collect::<Vec<_>>(), [names[0]]);
    assert_eq!(database.works, [Work::Update, Work::Delete]);
}

#[test]
fn a_row_that_comes_back_from_the_dead_is_taken_out_and_others_rows_are_not() {
    let (location, mut database) = (location(), Database::default());
    register(&location, START, "alice", "sip:a@h", 1, 60);
    flush(&location, START, &mut database);
    let before = database.rows.clone();
    let name = before.keys().next().expect("one row");
    location.verify(&row(name, "sip:a@h", 1, 0));
    assert_eq!(location.waiting(None), 0);
    register(&location, after(1), "alice", "sip:a@h", 2, 0);
    flush(&location, after(1), &mut database);
    for _ in 0..2 {
        database.rows = before.clone();
        location.verify(&row(name, "sip:a@h", 1, 0));
        flush(&location, after(2), &mut database);
        assert_eq!(database.rows.len(), 0);
    }
    sweep(&location, after(1) + TOMBSTONE);
    database.rows = before.clone();
    location.verify(&row(name, "sip:a@h", 1, 0));
    location.verify(&row("uloc-another-1", "sip:a@h", 1, 0));
    flush(&location, after(50), &mut database);
    assert_eq!(
        (database.rows.len(), database.works.last()),
        (0, Some(&Work::Delete))
    );
    sweep(&location, after(50));
    assert_eq!((location.held(), location.bindings()), (0, 0));
}

#[test]
fn nobody_is_unknown_while_rows_are_still_to_come() {
    let settings = LocationSettings {
        hash_key: [7; 16],
        bindings_max: 10,
        contacts_max: 3,
    };
    let location = Location::new(&settings).with_store(b"uloc-1-abc-", true);
    let found = |aor: &str| {
        location
            .lookup(START, aor.as_bytes(), &mut Targets::new())
            .0
    };
    register(&location, START, "bob", "sip:b@h", 1, 60);
    assert_eq!(
        (found("alice"), found("bob"), found("carol")),
        (Lookup::NotLoaded, Lookup::Found, Lookup::NotLoaded)
    );
    location.admit(START, &row("uloc-6b-1-1", "sip:a@h", 1, 0));
    location.complete(b"carol");
    assert_eq!(
        (found("alice"), found("carol"), found("dave")),
        (Lookup::Found, Lookup::Unknown, Lookup::NotLoaded)
    );
    location.all_is_loaded();
    assert_eq!(found("dave"), Lookup::Unknown);
}

#[test]
fn what_registered_before_its_row_came_is_newer() {
    let (location, mut database) = (location(), Database::default());
    register(&location, START, "alice", "sip:a@h", 7, 60);
    assert_eq!(
        location.admit(START, &row("uloc-6b-68b3-2", "sip:a@h", 3, 0)),
        Admission::Superseded
    );
    register(&location, START, "alice", "sip:b@h", 8, 60);
    register(&location, START, "alice", "sip:b@h", 9, 0);
    assert_eq!(
        location.admit(START, &row("uloc-6b-68b3-3", "sip:b@h", 3, 0)),
        Admission::Superseded
    );
    assert_eq!(uris(&location, START), ["sip:a@h"]);
    flush(&location, START, &mut database);
    let rows: Vec<_> = database
        .rows
        .iter()
        .map(|(name, row)| (name.as_str(), row.2))
        .collect();
    assert_eq!(rows, [("uloc-6b-68b3-2", 7)]);
    assert_eq!(database.works, [Work::Update, Work::Delete]);
}

#[test]
fn of_two_rows_of_one_contact_the_newer_stays() {
    for order in [[0, 1], [1, 0]] {
        let (location, mut database) = (location(), Database::default());
        let rows = [
            row("uloc-6b-1-1", "sip:a@h", 3, 10),
            row("uloc-6b-1-2", "sip:a@h", 4, 20),
        ];
        for n in order {
            database.rows.insert(
                String::from_utf8_lossy(rows[n].ruid).into_owned(),
                Default::default(),
            );
            location.admit(START, &rows[n]);
        }
        assert_eq!(uris(&location, START), ["sip:a@h"]);
        flush(&location, START, &mut database);
        sweep(&location, after(30));
        assert_eq!(database.rows.keys().collect::<Vec<_>>(), ["uloc-6b-1-2"]);
        assert_eq!((location.held(), location.bindings()), (1, 1));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Register {
        aor: usize,
        contact: usize,
        expires_s: u64,
    },
    Pass(u64),
    Sweep,
    Collect(usize),
    /// Whether the batch arrived, and whether that was heard.
    Settle {
        arrives: bool,
        is_heard: bool,
    },
    Relist,
}

const AORS: [&str; 3] = ["alice", "bob", "carol"];
const CONTACTS: [&str; 4] = ["sip:a@h", "sip:b@h", "sip:c@h", "sip:d@h"];

fn step() -> impl Strategy<Value = Step> {
    let expires = prop_oneof![1 => Just(0_u64), 2 => 20..100_u64];
    prop_oneof![
        8 => (0..AORS.len(), 0..CONTACTS.len(), expires)
            .prop_map(|(aor, contact, expires_s)| Step::Register { aor, contact, expires_s }),
        2 => (1..40_u64).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
        4 => (0..2_usize).prop_map(Step::Collect),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(arrives, is_heard)| Step::Settle { arrives, is_heard }),
        1 => Just(Step::Relist),
    ]
}

/// The last change of each contact, as asked: its access, and the CSeq and end that its row is to have.
type Asked = BTreeMap<(usize, usize), (Access, Option<(u32, Instant)>)>;

/// What is said to be committed stands in the table, with the newest change of its contact.
fn check_claims(
    location: &Location,
    now: Instant,
    asked: &Asked,
    database: &Database,
) -> Result<(), TestCaseError> {
    for ((aor, contact), (access, row)) in asked {
        if !location.is_committed(*access) {
            continue;
        }
        let is_it = |held: &&(String, String, u32, Instant)| {
            held.0 == AORS[*aor] && held.1 == CONTACTS[*contact]
        };
        let held = database
            .rows
            .values()
            .find(is_it)
            .map(|held| (held.2, held.3));
        match row {
            // Nothing is done about the removal of what has expired; the sweep takes it out.
            None => prop_assert!(held.is_none_or(|held| held.1 <= now)),
            // It may have expired since, and have been taken out.
            Some(row) => prop_assert!(held.is_none_or(|held| held == *row)),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_table_ends_as_the_location_is(steps in prop::collection::vec(step(), 1..150)) {
        let (location, mut database) = (location(), Database::default());
        let mut flights: Vec<Flight> = Vec::new();
        let (mut now, mut cseq, mut asked) = (START, 0, Asked::new());
        for step in steps {
            match step {
                Step::Register { aor, contact, expires_s } => {
                    cseq += 1;
                    let live = {
                        let mut targets = Targets::new();
                        location.contacts(now, AORS[aor].as_bytes(), &mut targets);
                        targets.iter().any(|target| target.uri == CONTACTS[contact].as_bytes()) || targets.len() < 3
                    };
                    if live {
                        let access = register(&location, now, AORS[aor], CONTACTS[contact], cseq, expires_s);
                        let row = (expires_s > 0).then(|| (cseq, now + Duration::from_secs(expires_s)));
                        asked.insert((aor, contact), (access, row));
                    }
                }
                Step::Pass(secs) => now = now + Duration::from_secs(secs),
                Step::Sweep => sweep(&location, now),
                Step::Collect(share) => flights.extend(collect(&location, now, share)),
                Step::Settle { arrives, is_heard } if !flights.is_empty() => {
                    let flight = flights.remove(0);
                    if arrives {
                        database.write(&flight.rows);
                    }
                    settle(&location, flight, arrives && is_heard);
                }
                Step::Settle { .. } => {}
                Step::Relist => {
                    let mut cursor = SweepCursor::new(0, 1);
                    while !location.relist(&mut cursor, 1_000) {}
                }
            }
            check_claims(&location, now, &asked, &database)?;
        }
        for flight in flights {
            settle(&location, flight, false);
        }
        sweep(&location, now);
        flush(&location, now, &mut database);
        let mut live = BTreeMap::new();
        for aor in AORS {
            let mut targets = Targets::new();
            location.contacts(now, aor.as_bytes(), &mut targets);
            for target in targets.iter() {
                live.insert((aor.to_owned(), String::from_utf8_lossy(target.uri).into_owned()), target.expires);
            }
        }
        let table: BTreeMap<_, _> =
            database.rows.values().map(|row| ((row.0.clone(), row.1.clone()), row.3)).collect();
        prop_assert_eq!(database.rows.len(), table.len());
        prop_assert_eq!(table, live);
        prop_assert_eq!((database.missed, location.backlog()), (0, 0));
        // Sweeps find the dead, flushes take their rows out, and nothing is left behind.
        for _ in 0..2 {
            now = now + Duration::from_secs(1_000);
            sweep(&location, now);
            flush(&location, now, &mut database);
        }
        sweep(&location, now);
        prop_assert_eq!((location.held(), location.bindings(), database.rows.len()), (0, 0, 0));
        prop_assert_eq!(location.blocks_held(), 0);
    }
}
