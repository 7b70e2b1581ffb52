//! Many nodes in virtual time: each a location and a cluster, over a network that loses, repeats, delays and parts. Whatever happened,
//! soon after it heals all hold the newest state of every contact.

mod restless;
mod storms;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Cluster, Errand, NodeAddress, Output, Parcel, Reception, Seals, Settings};
use crate::counters::{Counter, Counters};
use crate::datagram::{Flow, ListenerId, Transport};
use crate::flow_token::FlowCodec;
use crate::limits::CORRECTIONS_MAX;
use crate::location::{
    Change, Deltas, Homes, Location, LocationSettings, Lookup, Merge, Page, Registration,
    ReplicaSettings, SweepCursor, Targets,
};
use crate::time::{Duration, Instant};

const START: Instant = Instant::from_micros(1_700_000_000_000_000);
const TICK: Duration = Duration::from_millis(5);

/// Numbers that look random and are the same for one seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// By AoR and URI: CSeq, Call-ID, version and who gave it.
pub(super) type Contacts = BTreeMap<(Vec<u8>, Vec<u8>), (u32, Vec<u8>, u64, u16)>;

pub(super) struct Node {
    pub(super) location: Location,
    cluster: Cluster,
    exit: Exit,
    gather: SweepCursor,
    /// Ahead of true time, in microseconds.
    skew: u64,
    cseq: u32,
    /// Tells this start from every other.
    start: u64,
}

#[derive(Default)]
struct Exit {
    sent: Vec<(SocketAddr, Vec<u8>)>,
    spare: Vec<Parcel>,
    given: Vec<Parcel>,
}

impl Output for Exit {
    fn send(&mut self, to: NodeAddress, message: &[u8]) {
        self.sent.push((to.socket, message.to_vec()));
    }

    fn blank(&mut self) -> Option<Parcel> {
        self.spare.pop()
    }

    fn blank_for_walk(&mut self) -> Option<Parcel> {
        let has_enough = self.spare.len() > 16;
        has_enough.then(|| self.spare.pop()).flatten()
    }

    fn give_back(&mut self, parcel: Parcel) {
        self.spare.push(parcel);
    }

    fn give(&mut self, _: usize, parcel: Parcel) {
        if !matches!(parcel.errand, Errand::Fresh) {
            self.given.push(parcel);
        }
    }
}

pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    now: Instant,
    pub(super) random: Random,
    /// Messages on their way, by when they arrive.
    network: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    count: u64,
    pub(super) loss_percent: u64,
    /// Which side each node is on.
    pub(super) sides: Vec<bool>,
    /// Which nodes are dead.
    down: Vec<bool>,
    /// Starts so far.
    starts: u64,
}

fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(n + 1).expect("few")], 5_062))
}

fn location((n, start): (usize, u64), homes: Arc<Homes>) -> Location {
    let settings = LocationSettings {
        hash_key: [u8::try_from(n).expect("few"); 16],
        bindings_max: 10_000,
        contacts_max: 10,
    };
    let number = u16::try_from(n + 1).expect("few");
    Location::new(&settings).with_cluster(
        format!("uloc-{number}-{start:x}-").as_bytes(),
        ReplicaSettings {
            server_id: number,
            nat_cflags: 64,
            tombstones_max: 65_536,
            stores_all: false,
        },
        homes,
    )
}

impl Node {
    fn new(n: usize, of: usize, skew: u64) -> Self {
        let now = Instant::from_micros(START.as_micros() + skew);
        Self::started(n, of, (now, skew), n as u64)
    }

    /// The node at a start that nobody has seen yet.
    fn started(n: usize, of: usize, (now, skew): (Instant, u64), start: u64) -> Self {
        let settings = Settings {
            server_id: u16::try_from(n + 1).expect("few"),
            address: address(n),
            seeds: (0..of).map(address).map(NodeAddress::udp).collect(),
            allow: Vec::new(),
            seals: Seals::default(),
            unsealed: None,
            skew: Duration::from_secs(1),
            ping: Duration::from_secs(5),
            contacts_max: 50,
            bytes_max: 20_000,
            walk_rate: None,
            workers: 1,
            epoch: start + 77,
            reception: Reception {
                server_id: u16::try_from(n + 1).expect("few"),
                homes: Arc::new(Homes::new(u16::try_from(n + 1).expect("few"))),
                ip: address(n).ip(),
                listeners: vec![(ListenerId(0), address(n))],
                use_domain: false,
                domains: Vec::new(),
                flows: FlowCodec::new(Vec::new()),
                tells_paths: false,
            },
        };
        let homes = Arc::clone(&settings.reception.homes);
        let spare = (0..32).map(|_| Parcel::new(64)).collect();
        Self {
            location: location((n, start), homes),
            cluster: Cluster::new(now, settings, Arc::new(Counters::new())),
            exit: Exit {
                spare,
                ..Exit::default()
            },
            gather: SweepCursor::new(0, 1),
            skew,
            cseq: 0,
            start,
        }
    }

    /// What the workers do in a turn.
    fn turn(&mut self, now: Instant) {
        for mut parcel in std::mem::take(&mut self.exit.given) {
            match parcel.errand.clone() {
                Errand::Fresh => {}
                Errand::Merge { judge, .. } => {
                    for index in 0..parcel.deltas.len() {
                        let delta = parcel.deltas.delta(index).expect("there");
                        let merge = self.location.merge(now, &delta, judge);
                        if merge == Merge::Older {
                            let answers = &mut parcel.answers;
                            self.location.state_of(now, &delta.row, answers);
                        }
                        parcel.merges.push(merge);
                    }
                }
                Errand::Walk(mut walk, cursor) => {
                    let mut cursor = cursor.unwrap_or_else(|| SweepCursor::new(0, 1));
                    for _ in 0..200 {
                        let deltas = &mut parcel.deltas;
                        walk.is_over = self.location.walk(now, &mut cursor, walk.since, 64, deltas);
                        if walk.is_over {
                            break;
                        }
                    }
                    parcel.errand = Errand::Walk(walk, Some(cursor));
                }
            }
            self.cluster.on_parcel(now, 0, parcel, &mut self.exit);
        }
        let mut fresh = Parcel::new(64);
        loop {
            self.location
                .gather(now, &mut self.gather, &mut fresh.deltas, 10_000);
            if self.gather.is_at_start() {
                break;
            }
        }
        if !fresh.deltas.is_empty() {
            self.cluster.on_parcel(now, 0, fresh, &mut self.exit);
        }
        self.cluster.on_timeout(now, &mut self.exit);
    }

    pub(super) fn register(&mut self, now: Instant, user: u64, contact: u64, expires_s: u64) {
        self.cseq += 1;
        let flow = Flow {
            listener: ListenerId(0),
            transport: Transport::Udp,
            peer: "198.51.100.7:40000".parse().expect("an address"),
        };
        let call_id = format!("call-{}-{user}-{contact}", self.start);
        let registration = Registration {
            call_id: call_id.as_bytes(),
            cseq: self.cseq,
            user_agent: b"phone/1",
            path: b"",
            flow,
        };
        let uri = format!("sip:u{user}@192.0.2.{contact}");
        let change = Change {
            uri: uri.as_bytes(),
            expires: Duration::from_secs(expires_s),
            q: None,
            received: true,
            instance: b"",
            reg_id: 0,
        };
        let mut targets = Targets::new();
        let aor = format!("u{user}");
        let (result, _) =
            self.location
                .apply(now, aor.as_bytes(), &registration, &[change], &mut targets);
        result.expect("room");
    }

    /// Every live contact: by AoR and URI, its CSeq, its Call-ID, its version and who gave it.
    pub(super) fn contacts(&self, now: Instant) -> Contacts {
        let (mut cursor, mut all, mut found) =
            (SweepCursor::new(0, 1), Deltas::default(), BTreeMap::new());
        while !self.location.walk(now, &mut cursor, 0, 1_000, &mut all) {}
        for delta in all.iter().filter(|delta| !delta.is_removal()) {
            let row = delta.row;
            found.insert(
                (row.aor.to_vec(), row.contact.to_vec()),
                (
                    row.cseq,
                    row.call_id.to_vec(),
                    delta.facts.version,
                    delta.facts.server_id,
                ),
            );
        }
        found
    }
}

impl World {
    pub(super) fn new(nodes: usize, seed: u64, skew_us: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let skews: Vec<u64> = (0..nodes).map(|_| random.below(skew_us + 1)).collect();
        Self {
            nodes: (0..nodes).map(|n| Node::new(n, nodes, skews[n])).collect(),
            now: START,
            random,
            network: BTreeMap::new(),
            count: 0,
            loss_percent: 0,
            sides: vec![false; nodes],
            down: vec![false; nodes],
            starts: nodes as u64,
        }
    }

    pub(super) fn local(&self, n: usize) -> Instant {
        Instant::from_micros(self.now.as_micros() + self.nodes[n].skew)
    }

    fn place(&self, of: SocketAddr) -> usize {
        (0..self.nodes.len())
            .find(|n| address(*n) == of)
            .expect("one of them")
    }

    fn tick(&mut self) {
        self.now = self.now + TICK;
        while let Some(entry) = self
            .network
            .first_entry()
            .filter(|entry| entry.key().0 <= self.now)
        {
            let (from, to, bytes) = entry.remove();
            let n = self.place(to);
            if self.down[n] {
                continue;
            }
            let now = self.local(n);
            let Node { cluster, exit, .. } = &mut self.nodes[n];
            cluster.on_message(now, NodeAddress::udp(from), &bytes, exit);
        }
        for n in 0..self.nodes.len() {
            if self.down[n] {
                continue;
            }
            let now = self.local(n);
            self.nodes[n].turn(now);
            for (to, bytes) in std::mem::take(&mut self.nodes[n].exit.sent) {
                let is_parted = self.sides[n] != self.sides[self.place(to)];
                let copies = 1 + u64::from(self.loss_percent > 0 && self.random.below(10) == 0);
                for _ in 0..copies {
                    if is_parted || self.random.below(100) < self.loss_percent {
                        continue;
                    }
                    self.count += 1;
                    let delay = Duration::from_millis(1 + self.random.below(40));
                    let key = (self.now + delay, self.count);
                    self.network.insert(key, (address(n), to, bytes.clone()));
                }
            }
        }
    }

    pub(super) fn run(&mut self, span: Duration) {
        let until = self.now + span;
        while self.now < until {
            self.tick();
        }
    }

    /// One of the nodes, dead or alive.
    pub(super) fn random_node(&mut self) -> usize {
        usize::try_from(self.random.below(self.nodes.len() as u64)).expect("few")
    }

    pub(super) fn is_down(&self, n: usize) -> bool {
        self.down[n]
    }

    /// A node dies.
    pub(super) fn stop(&mut self, n: usize) {
        self.down[n] = true;
    }

    /// One that died comes back with nothing in its memory.
    pub(super) fn restart(&mut self, n: usize) {
        if !std::mem::replace(&mut self.down[n], false) {
            return;
        }
        let skew = self.nodes[n].skew;
        self.starts += 1;
        self.nodes[n] = Node::started(n, self.nodes.len(), (self.local(n), skew), self.starts);
    }

    fn act(&mut self) {
        let n = usize::try_from(self.random.below(self.nodes.len() as u64)).expect("few");
        let (user, contact) = (self.random.below(12), 1 + self.random.below(2));
        let expires_s = if self.random.below(4) == 0 { 0 } else { 3_600 };
        let now = self.local(n);
        self.nodes[n].register(now, user, contact, expires_s);
    }

    /// Asserts that all nodes hold the same.
    pub(super) fn assert_equal(&self, what: &str) {
        let first = self.nodes[0].contacts(self.local(0));
        for n in 1..self.nodes.len() {
            let others = self.nodes[n].contacts(self.local(n));
            let differs = first
                .iter()
                .find(|(key, value)| others.get(*key) != Some(*value));
            let nodes = || self.nodes.iter().map(|node| node.cluster.report(self.now));
            assert!(
                first == others,
                "{what}: node {n}: {differs:?}\n{:#?}",
                nodes().collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn what_is_saved_anywhere_is_everywhere_within_a_tenth_of_a_second() {
    let mut world = World::new(3, 1, 1_000);
    world.run(Duration::from_secs(1));
    for user in 0..50 {
        let now = world.local(0);
        world.nodes[0].register(now, user, 1, 3_600);
    }
    world.run(Duration::from_millis(100));
    world.assert_equal("saved");
    let now = world.local(2);
    world.nodes[2].cseq = 1_000;
    world.nodes[2].register(now, 7, 1, 0);
    world.run(Duration::from_millis(100));
    world.assert_equal("removed");
    let mut page = Page::new();
    let found = world.nodes[1].location.page_of(now, b"u7", &mut page);
    assert_eq!(found, Lookup::NoContacts);
    assert_eq!(world.nodes[1].contacts(now).len(), 49);
}

#[test]
fn a_node_that_comes_back_empty_gets_everything_and_takes_nothing_away() {
    let mut world = World::new(3, 2, 1_000);
    world.run(Duration::from_secs(1));
    for user in 0..200 {
        let now = world.local(1);
        world.nodes[1].register(now, user, 1, 3_600);
    }
    world.run(Duration::from_secs(1));
    let (skew, before) = (world.nodes[0].skew, world.nodes[1].contacts(world.local(1)));
    world.nodes[0] = Node::new(0, 3, skew);
    world.run(Duration::from_secs(2));
    world.assert_equal("restarted");
    assert_eq!(world.nodes[2].contacts(world.local(2)), before);
}

#[test]
fn strangers_are_not_listened_to() {
    let mut world = World::new(2, 3, 0);
    world.run(Duration::from_secs(1));
    let body = br#"{"action":1,"aor":"eve","ruid":"r","c":"sip:eve@192.0.2.66"}"#;
    let message = format!(
        "KDMQ sip:usrloc@10.0.0.1:5062 SIP/2.0\r\nVia: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bK1\r\nTo: <sip:usrloc@10.0.0.1:5062>\r\n\
         From: <sip:usrloc@10.0.0.2:5062>;tag=1\r\nCSeq: 10 KDMQ\r\nCall-ID: 1\r\nContent-Length: {}\r\nMax-Forwards: 1\r\n\r\n{}",
        body.len(),
        String::from_utf8_lossy(body)
    );
    let now = world.local(0);
    let Node {
        cluster,
        exit,
        location,
        ..
    } = &mut world.nodes[0];
    let before = exit.sent.len();
    cluster.on_message(
        now,
        NodeAddress::udp("10.9.9.9:5060".parse().expect("one")),
        message.as_bytes(),
        exit,
    );
    assert_eq!(
        (exit.sent.len(), exit.given.len(), location.bindings()),
        (before, 0, 0)
    );
    // The same from where it says that it is from.
    cluster.on_message(now, NodeAddress::udp(address(1)), message.as_bytes(), exit);
    world.run(Duration::from_millis(50));
    assert_eq!(world.nodes[0].location.bindings(), 1);
}

#[test]
fn what_kamailio_cannot_stand_is_never_sent() {
    let mut world = World::new(3, 9, 1_000_000);
    world.loss_percent = 10;
    let mut seen = 0;
    for step in 0..400 {
        if step % 4 == 0 {
            world.act();
        }
        world.tick();
        for (_, _, bytes) in world.network.values() {
            let text = String::from_utf8_lossy(bytes);
            let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
            assert!(bytes.len() < 65_507);
            if head.contains("text/plain") {
                assert!(body.len() <= 1_000 && body.ends_with("\r\n"), "{text}");
                assert!(
                    body.lines().all(|line| line.ends_with(";status=active")),
                    "{text}"
                );
            } else if head.contains("application/json") {
                seen += 1;
                assert_ne!(body, "{}");
                // What a Kamailio may read has no version, and then no socket.
                assert!(
                    body.contains("\"v\":") || !body.contains("\"sock\""),
                    "{text}"
                );
                let contacts =
                    body.matches("\"action\":1").count() + body.matches("\"action\":2").count();
                for key in [
                    "aor",
                    "ruid",
                    "c",
                    "received",
                    "path",
                    "callid",
                    "user_agent",
                    "instance",
                ] {
                    let count = body.matches(&format!("\"{key}\":\"")).count();
                    assert_eq!(count, contacts, "{key}: {text}");
                }
                assert!(contacts > 0 || body == "{\"action\":3}", "{text}");
            }
        }
    }
    assert!(seen > 20);
}

/// A request as a Kamailio at the second address sends it to the first node.
fn kamailios(n: usize, channel: &str, kind: &str, body: &str) -> Vec<u8> {
    format!(
        "KDMQ sip:{channel}@10.0.0.1:5062 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2:5062;branch=z9hG4bKk{n}\r\n\
         To: <sip:{channel}@10.0.0.1:5062>\r\nFrom: <sip:{channel}@10.0.0.2:5062>;tag=k{n}\r\nCSeq: 10 KDMQ\r\nCall-ID: k{n}\r\n\
         Content-Length: {}\r\nUser-Agent: kamailio (5.6.3)\r\nMax-Forwards: 1\r\nContent-Type: {kind}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What that Kamailio answers to a request of ours.
fn answered(request: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(request).ok()?;
    let copied = ["Via:", "To:", "From:", "CSeq:", "Call-ID:"];
    let head = text.split("\r\n\r\n").next()?;
    let is_copied = |line: &&str| copied.iter().any(|name| line.starts_with(name));
    let lines: Vec<&str> = head.lines().filter(is_copied).collect();
    let rest = "Content-Length: 0\r\n\r\n";
    let answer = format!("SIP/2.0 200 OK\r\n{}\r\n{rest}", lines.join("\r\n"));
    text.starts_with("KDMQ ").then(|| answer.into_bytes())
}

#[test]
fn a_kamailio_that_is_behind_is_answered_with_ours_once_each_and_with_no_more_than_the_bound() {
    const LATE: u64 = 300;
    let mut node = Node::new(0, 2, 0);
    let from = NodeAddress::udp(address(1));
    let (mut now, mut sent) = (START, Vec::new());
    // It answers all that it is sent.
    let mut turn = |node: &mut Node, now: Instant, message: Option<Vec<u8>>| {
        let mut waiting: Vec<Vec<u8>> = message.into_iter().collect();
        while let Some(bytes) = waiting.pop() {
            node.cluster.on_message(now, from, &bytes, &mut node.exit);
            node.turn(now);
            for (_, bytes) in std::mem::take(&mut node.exit.sent) {
                waiting.extend(answered(&bytes));
                sent.push(bytes);
            }
        }
    };
    let list = "sip:10.0.0.2:5062;status=active\r\nsip:10.0.0.1:5062;status=active\r\n";
    let status = |n| Some(kamailios(n, "notification_peer", "text/plain", list));
    turn(&mut node, now, status(0));
    for user in 0..LATE {
        node.register(now, user, 1, 3_600);
    }
    for n in 0..40 {
        now = now + Duration::from_millis(50);
        turn(&mut node, now, status(1_000 + n));
    }
    // Within one second it tells of each what it was a hundred seconds ago.
    now = Instant::from_micros((now.unix_s() + 2) * 1_000_000);
    let before = node.contacts(now);
    for user in 0..LATE {
        let body = format!(
            "{{\"action\":1,\"aor\":\"u{user}\",\"ruid\":\"uloc-9-9-{user:x}\",\"c\":\"sip:u{user}@192.0.2.1\",\"received\":\"\",\"path\":\"\",\
             \"callid\":\"old\",\"user_agent\":\"\",\"instance\":\"\",\"expires\":{},\"cseq\":1,\"flags\":0,\"cflags\":0,\"q\":-1,\
             \"last_modified\":{},\"methods\":1,\"reg_id\":0,\"server_id\":0}}",
            now.unix_s() + 600,
            now.unix_s() - 100
        );
        let n = 2_000 + usize::try_from(user).expect("few");
        turn(
            &mut node,
            now,
            Some(kamailios(n, "usrloc", "application/json", &body)),
        );
    }
    assert!(node.contacts(now) == before, "nothing of it was newer");
    let count = |counter| node.cluster.counters.read(counter);
    assert_eq!(count(Counter::ClusterContactsOlder), LATE);
    let held = LATE - u64::from(CORRECTIONS_MAX);
    assert_eq!(count(Counter::ClusterCorrectionsHeld), held);
    let corrections = sent.iter().filter(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        text.starts_with("KDMQ sip:usrloc") && text.contains("\"action\":1")
    });
    let told: usize = corrections
        .map(|bytes| {
            String::from_utf8_lossy(bytes)
                .matches("\"action\":1")
                .count()
        })
        .sum();
    // Each contact once when it registered, and the corrections.
    assert_eq!(told as u64, LATE + u64::from(CORRECTIONS_MAX));
}
