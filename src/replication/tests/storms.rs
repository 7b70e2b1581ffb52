//! Storms: five nodes over a network that loses, repeats, delays and parts, with clocks that differ by seconds and nodes that die and come
//! back with nothing. A ledger holds what phones were told, and says what every node must have once the network has healed.

use std::collections::BTreeMap;

use super::{Contacts, Node, World};
use crate::location::{Deltas, SweepCursor};
use crate::time::{Duration, Instant};

/// A contact: AoR and URI.
type Key = (Vec<u8>, Vec<u8>);

/// A state of a contact, by which states are ordered.
type State = (u64, u16);

/// What phones were told.
#[derive(Default)]
struct Ledger {
    told: BTreeMap<Key, Vec<Told>>,
    /// Registrations that ended with the one node that knew of them.
    died: usize,
}

/// One 200.
struct Told {
    state: State,
    /// Whether a node that lived had it, or what is newer, whenever another died.
    is_owed: bool,
}

impl Ledger {
    /// A node has answered 200.
    fn note(&mut self, key: Key, state: State) {
        let is_owed = true;
        self.told
            .entry(key)
            .or_default()
            .push(Told { state, is_owed });
    }

    /// A node dies: what it alone had is not owed any more.
    fn bury(&mut self, survivors: &[BTreeMap<Key, State>]) {
        for (key, told) in &mut self.told {
            let best = survivors.iter().filter_map(|held| held.get(key)).max();
            for told in told.iter_mut().filter(|told| told.is_owed) {
                told.is_owed = best.is_some_and(|best| *best >= told.state);
                self.died += usize::from(!told.is_owed);
            }
        }
    }

    /// What every node has to have: that which was told last or what is newer, and nothing that nobody was told.
    fn check(&self, held: &BTreeMap<Key, State>, what: &str) {
        for (key, told) in &self.told {
            let state = held.get(key).copied();
            let owed = told.iter().filter(|told| told.is_owed);
            if let Some(owed) = owed.map(|told| told.state).max() {
                assert!(
                    state.is_some_and(|state| state >= owed),
                    "{what}: {key:?} is {state:?}, and {owed:?} was acknowledged"
                );
            }
        }
        for (key, state) in held {
            let told = self.told.get(key).into_iter().flatten();
            let mut states = told.map(|told| told.state);
            assert!(
                states.any(|told| told == *state),
                "{what}: {key:?} is {state:?}, which nobody was told"
            );
        }
    }
}

impl Node {
    /// The newest state of each contact that it holds, of the removed ones too.
    fn states(&self, now: Instant) -> BTreeMap<Key, State> {
        let (mut cursor, mut all) = (SweepCursor::new(0, 1), Deltas::default());
        while !self.location.walk(now, &mut cursor, 0, 1_000, &mut all) {}
        let mut states = BTreeMap::new();
        for delta in all.iter() {
            let key = (delta.row.aor.to_vec(), delta.row.contact.to_vec());
            let state = (delta.facts.version, delta.facts.server_id);
            let newest = states.entry(key).or_insert(state);
            *newest = state.max(*newest);
        }
        states
    }
}

/// A world and what was told in it.
struct Storm {
    world: World,
    ledger: Ledger,
}

impl Storm {
    fn new(seed: u64) -> Self {
        Self {
            world: World::new(NODES, seed, 5_000_000),
            ledger: Ledger::default(),
        }
    }

    /// A phone registers, or takes its contact away, at some node that lives.
    fn act(&mut self) {
        let world = &mut self.world;
        let n = world.random_node();
        if world.is_down(n) {
            return;
        }
        let (user, contact) = (world.random.below(12), 1 + world.random.below(2));
        let expires_s = if world.random.below(4) == 0 { 0 } else { 3_600 };
        let now = world.local(n);
        let node = &mut world.nodes[n];
        let before = node.states(now);
        node.register(now, user, contact, expires_s);
        for (key, state) in node.states(now) {
            if before.get(&key) != Some(&state) {
                self.ledger.note(key, state);
            }
        }
    }

    /// A node dies.
    fn kill(&mut self) {
        let n = self.world.random_node();
        if self.world.is_down(n) {
            return;
        }
        self.world.stop(n);
        let world = &self.world;
        let survivors = (0..NODES).filter(|n| !world.is_down(*n));
        let survivors = survivors.map(|n| world.nodes[n].states(world.local(n)));
        let survivors: Vec<BTreeMap<Key, State>> = survivors.collect();
        self.ledger.bury(&survivors);
    }

    /// Those that died come back, with nothing.
    fn raise(&mut self) {
        for n in 0..NODES {
            self.world.restart(n);
        }
    }

    fn rage(&mut self) {
        self.world.run(Duration::from_secs(2));
        self.world.loss_percent = 30;
        for _ in 0..6 {
            let sides = self.world.random.below(1 << NODES);
            self.world.sides = (0..NODES).map(|n| sides >> n & 1 == 1).collect();
            for _ in 0..20 {
                match self.world.random.below(40) {
                    0 => self.kill(),
                    1 => self.raise(),
                    _ => self.act(),
                }
                let pause = Duration::from_millis(20 + self.world.random.below(300));
                self.world.run(pause);
            }
        }
    }

    /// The network heals; two seconds later all is told and nothing is lost.
    fn heal(&mut self, what: &str) {
        self.raise();
        self.world.sides = vec![false; NODES];
        self.world.loss_percent = 0;
        self.world.run(Duration::from_secs(2));
        self.world.assert_equal(what);
        for n in 0..NODES {
            let held = self.world.nodes[n].states(self.world.local(n));
            self.ledger.check(&held, &format!("{what}, node {n}"));
        }
    }
}

/// One world from its beginning to its end; gives how many registrations died with the only node that had them, and what is left.
fn storm(seed: u64) -> (usize, Contacts) {
    let mut storm = Storm::new(seed);
    storm.rage();
    storm.heal(&format!("seed {seed}"));
    let contacts = storm.world.nodes[0].contacts(storm.world.local(0));
    (storm.ledger.died, contacts)
}

/// Runs the seeds on all processors; gives how many registrations died with the only node that had them.
fn storms(seeds: std::ops::Range<u64>) -> usize {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let share = |thread: usize| {
            let seeds = seeds.clone().skip(thread).step_by(threads);
            scope.spawn(move || seeds.map(|seed| storm(seed).0).sum::<usize>())
        };
        let threads: Vec<_> = (0..threads).map(share).collect();
        let ends = threads.into_iter().map(|thread| thread.join());
        ends.map(|end| end.expect("no seed fails")).sum()
    })
}

/// How many worlds: `STROWGER_CLUSTER_SEEDS` has more.
fn seeds() -> u64 {
    let wanted = std::env::var("STROWGER_CLUSTER_SEEDS").ok();
    wanted
        .and_then(|wanted| wanted.parse().ok())
        .unwrap_or(SEEDS)
}

#[test]
fn five_nodes_agree_and_nothing_acknowledged_is_lost_whatever_befalls_them() {
    let died = storms(1..seeds() + 1);
    println!(
        "{} seeds; {died} registrations died with the only node that had them",
        seeds()
    );
}

#[test]
fn and_so_it_is_in_worlds_that_nobody_has_seen() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let first = 1_000_000 + now.expect("after 1970").as_secs() % 1_000_000_000;
    storms(first..first + FRESH_SEEDS);
}

#[test]
fn a_seed_is_the_same_world_each_time() {
    assert_eq!(storm(7), storm(7));
}

#[test]
fn the_ledger_sees_what_is_lost() {
    let mut ledger = Ledger::default();
    let key = (b"a".to_vec(), b"sip:a@h".to_vec());
    ledger.note(key.clone(), (5, 1));
    let held = |state| BTreeMap::from([(key.clone(), state)]);
    ledger.check(&held((5, 1)), "it is there");
    let fails = |held: BTreeMap<Key, State>, ledger: &Ledger| {
        let check =
            std::panic::AssertUnwindSafe(|| ledger.check(&held, "a ledger that is to fail"));
        std::panic::catch_unwind(check).is_err()
    };
    assert!(fails(BTreeMap::new(), &ledger));
    assert!(fails(held((4, 9)), &ledger));
    assert!(fails(held((6, 1)), &ledger), "nobody was told that");
    // Where another has it, its death takes nothing; where nobody has, it does.
    ledger.bury(&[BTreeMap::new(), held((5, 1))]);
    assert!(fails(BTreeMap::new(), &ledger) && ledger.died == 0);
    ledger.bury(&[BTreeMap::new(), held((4, 1))]);
    assert!(!fails(BTreeMap::new(), &ledger) && ledger.died == 1);
}

const NODES: usize = 5;
/// Worlds of each run of the tests.
const SEEDS: u64 = 150;
const FRESH_SEEDS: u64 = 50;
