//! What a seed stands for: a topology, its agents and their habits, the weather, and what will befall them.

use std::net::SocketAddr;

use strowger::datagram::{ListenerId, Transport};
use strowger::proxy::register::RegistrarSettings;
use strowger::proxy::{Keys, Listener, Settings};
use strowger::time::{Duration, Instant};

use super::agent::Agent;
use super::network::{Network, Weather};
use super::node::Node;
use super::random::Random;
use super::store::Store;
use super::trace::Trace;
use super::world::{Blow, Event, Order, START, World};

/// What the cores can do by now: a switch for each thing that the harness is ready for.
const WITH_NAMES: bool = true;
const WITH_TCP: bool = true;

/// Makes the world of a seed.
pub(crate) fn world(seed: u64, with_text: bool) -> World {
    let mut random = Random::new(seed);
    let weather = weather(&mut random);
    let nodes = nodes(&mut random);
    let agents = agents(&nodes, &mut random);
    let trace = Trace::new(with_text);
    let network = Network::new(weather);
    let mut world = World::new(random, network, nodes, agents, trace);
    let span = world.random.secs(20, 90);
    world.closing = START + span;
    let commits = seed % 4 == 1;
    if commits {
        world.nodes.iter_mut().for_each(Node::list_changes);
    }
    provision(&mut world);
    if commits {
        commit(&mut world, seed);
    }
    register(&mut world);
    place_calls(&mut world, span);
    befall(&mut world, span);
    world.schedule(START + Duration::from_secs(4), Event::CheckBindings);
    world
}

/// 10 % loss, 5 % duplication and reordering; one seed in four has a weather of its own.
fn weather(random: &mut Random) -> Weather {
    let own = random.chance(250);
    Weather {
        loss_permille: if own { random.range(0, 250) } else { 100 },
        double_permille: if own { random.range(0, 200) } else { 50 },
        jitter_millis: if own {
            random.range(0, 800)
        } else {
            random.range(20, 200)
        },
        straggler_permille: if own { 0 } else { random.range(0, 20) },
        corrupt_permille: if random.chance(150) {
            random.range(1, 30)
        } else {
            0
        },
    }
}

fn nodes(random: &mut Random) -> Vec<Node> {
    let count = random.pick(&[1, 1, 2, 2, 3_u8]);
    let is_cluster = random.chance(500);
    let shared = keys(random);
    let timer_c = random.pick(&[20, 45, 181, 181]);
    let (ring, failover) = (random.pick(&[5, 20]), random.pick(&[2, 4]));
    let has_inside = random.chance(300);
    let has_v6 = random.chance(300);
    (0..count)
        .map(|number| {
            let mut addresses = vec![SocketAddr::from(([192, 0, 2, 1 + number], 5060))];
            if has_inside {
                addresses.push(SocketAddr::from(([198, 51, 100, 1 + number], 5080)));
            }
            if has_v6 {
                addresses.push(SocketAddr::from((
                    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1 + u16::from(number)],
                    5060,
                )));
            }
            let listeners = addresses
                .iter()
                .zip(0..)
                .map(|(address, id)| Listener::new(ListenerId(id), *address));
            let keys = if is_cluster {
                shared.clone()
            } else {
                keys(random)
            };
            let mut settings = Settings::alone(
                keys,
                listeners.collect(),
                &["example.com", &node_name(usize::from(number))],
            );
            settings.workers = u8::try_from(random.range(1, 4)).expect("small");
            settings.server_id = u16::from(number);
            settings.epoch = random.next();
            settings.timer_c = Duration::from_secs(timer_c);
            settings.ring = Duration::from_secs(ring);
            settings.failover = Duration::from_secs(failover);
            // The nodes trust each other, and one trunk.
            settings.peers = ["192.0.2.0/24", "203.0.113.250/32"]
                .map(|network| network.parse().expect("a network"))
                .to_vec();
            if random.chance(30) {
                settings.transactions_max = u32::try_from(random.range(4, 20)).expect("small");
            }
            let registrar = RegistrarSettings {
                expires_default_s: 60,
                expires_min_s: 10,
                expires_max_s: 7_200,
                use_domain: false,
                ..RegistrarSettings::default()
            };
            Node::new(settings, registrar, random)
        })
        .collect()
}

/// The name by which the resolver knows a node.
pub(crate) fn node_name(node: usize) -> String {
    format!("node{node}.sim.test")
}

fn keys(random: &mut Random) -> Keys {
    let mut key = || {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&random.next().to_le_bytes());
        key[8..].copy_from_slice(&random.next().to_le_bytes());
        key
    };
    Keys {
        steering: key(),
        transactions: key(),
        branches: vec![key()],
        tokens: vec![key()],
        tags: vec![key()],
        nonces: vec![[6; 16]],
    }
}

fn agents(nodes: &[Node], random: &mut Random) -> Vec<Agent> {
    let count = random.range(2, 7);
    let mut agents = Vec::new();
    for (id, host) in (0..usize::try_from(count).expect("small")).zip(10_u8..) {
        let node = &nodes[random.index(nodes.len())];
        let listeners: Vec<_> = node.listeners().map(|(_, address)| address).collect();
        let first_hop = random.pick(&listeners);
        let is_trunk = id == 0 && random.chance(300) && first_hop.is_ipv4();
        let public = if first_hop.is_ipv6() {
            SocketAddr::from(([0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(host)], 5060))
        } else if is_trunk {
            SocketAddr::from(([203, 0, 113, 250], 5060))
        } else {
            let port = random.pick(&[5060, 5060, 5062, 40_000]);
            SocketAddr::from(([203, 0, 113, host], port))
        };
        let mut agent = Agent::new(id, public, first_hop);
        if WITH_TCP && random.chance(200) {
            agent.transport = Transport::Tcp;
        }
        let habits = &mut agent.habits;
        habits.asks_rport = random.chance(700);
        habits.is_old = random.chance(50);
        habits.is_compact = random.chance(200);
        habits.silent_permille = random.pick(&[0, 0, 50, 300, 1_000]);
        habits.refuse_permille = random.range(0, 500);
        habits.ring_permille = random.pick(&[0, 50, 100]);
        if WITH_NAMES && random.chance(150) {
            habits.has_name = true;
        } else if first_hop.is_ipv4() && !is_trunk && random.chance(250) {
            // Behind a NAT.
            agent.local = SocketAddr::from(([10, 0, 0, host], 5060));
        }
        // Several phones of one user: they are of one proxy, so that they are called together.
        let former: Option<&Agent> = agents.last();
        if let Some(former) =
            former.filter(|former| former.first_hop == first_hop && random.chance(500))
        {
            agent.user = former.user.clone();
        }
        agent.registration.q = random.pick(&[None, None, Some("1.0"), Some("0.5"), Some("0.1")]);
        agents.push(agent);
    }
    agents
}

/// One seed in four acknowledges only what is committed, with a store and chances of its own: the worlds of the others are not touched.
fn commit(world: &mut World, seed: u64) {
    for number in 0..world.nodes.len() {
        let own = seed.rotate_left(32) ^ u64::try_from(number).expect("small");
        let store = Store::new(Random::new(own));
        let at = START + store.flush();
        let node = &mut world.nodes[number];
        node.commit_to(store);
        let epoch = node.settings.epoch;
        world.schedule(at, Event::Flush(number, epoch));
    }
}

/// Bindings that nobody refreshes: users of one node that another node knows to be there.
fn provision(world: &mut World) {
    let mut bindings = Vec::new();
    for node in 0..world.nodes.len() {
        for agent in &world.agents {
            let own: Vec<_> = world.nodes[node].listeners().map(|(_, at)| at).collect();
            if own.contains(&agent.first_hop) || !world.random.chance(700) {
                continue;
            }
            let speaks = own
                .iter()
                .any(|own| own.is_ipv4() == agent.first_hop.is_ipv4());
            if !speaks {
                continue;
            }
            let home = world.node_at(agent.first_hop).expect("it is a node's");
            // Another node is known by its address or by its name.
            let host = if WITH_NAMES && world.random.chance(400) {
                node_name(home)
            } else {
                agent.first_hop.to_string()
            };
            bindings.push((node, agent.user.clone(), agent.first_hop, host));
        }
    }
    for (place, (node, user, at, host)) in bindings.into_iter().enumerate() {
        world.provision(node, &register_text(place, &user, &host), at);
    }
}

/// A REGISTER that another proxy passed on: its source says nothing of where the contact is.
fn register_text(place: usize, user: &str, at: &str) -> String {
    format!(
        "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.18.0.1;branch=z9hG4bKprov{place}\r\n\
         Via: SIP/2.0/UDP 198.18.0.2;branch=z9hG4bKprov{place}\r\nMax-Forwards: 70\r\n\
         From: <sip:{user}@example.com>;tag=p\r\nTo: <sip:{user}@example.com>\r\nCall-ID: provisioned-{place}\r\n\
         CSeq: 1 REGISTER\r\nContact: <sip:{user}@{at}>;expires=7200\r\nContent-Length: 0\r\n\r\n"
    )
}

fn register(world: &mut World) {
    for agent in 0..world.agents.len() {
        let at = START + world.random.millis(0, 3_000);
        world.schedule(at, Event::Order(agent, Order::Register));
    }
}

fn place_calls(world: &mut World, span: Duration) {
    for _ in 0..world.random.range(3, 14) {
        let caller = world.random.index(world.agents.len());
        let callee = &world.agents[world.random.index(world.agents.len())];
        let (user, home) = (callee.user.clone(), callee.first_hop);
        let is_trunk = world.agents[caller].public.ip().to_string() == "203.0.113.250";
        let uri = match world.random.below(20) {
            0 => "sip:nobody@example.com".to_owned(),
            1 => "sip:someone@198.18.0.7".to_owned(),
            2 => format!("sip:{user}@example.com;x=y"),
            _ if is_trunk && home.is_ipv4() => format!("sip:{user}@{home}"),
            _ => format!("sip:{user}@example.com"),
        };
        let method = world.random.pick(&[
            "INVITE",
            "INVITE",
            "INVITE",
            "INVITE",
            "MESSAGE",
            "OPTIONS",
            "SUBSCRIBE",
            "WHATEVER",
        ]);
        let at = within(world, span);
        world.schedule(at, Event::Order(caller, Order::Begin(method, uri)));
    }
}

/// Cuts, crashes, drains: none in one seed of three.
fn befall(world: &mut World, span: Duration) {
    if world.random.chance(350) {
        return;
    }
    for _ in 0..world.random.below(3) {
        let node = world.random.index(world.nodes.len());
        let one = world.nodes[node].listeners().next().expect("one").1;
        let other = if world.random.chance(700) {
            Some(world.agents[world.random.index(world.agents.len())].public)
        } else {
            None
        };
        let (at, long) = (within(world, span), world.random.secs(1, 40));
        world.schedule(at, Event::Cut(one, other, long));
    }
    if world.random.chance(300) {
        let node = world.random.index(world.nodes.len());
        let at = within(world, span);
        let long = world.random.millis(1, 20_000);
        if world.random.chance(300) {
            let early = world.random.secs(1, 10);
            world.schedule(at, Event::Node(node, Blow::Drain));
            world.schedule(at + early, Event::Node(node, Blow::Kill));
            world.schedule(at + early + long, Event::Node(node, Blow::Start(false)));
        } else {
            let forgets = world.random.chance(500);
            world.schedule(at, Event::Node(node, Blow::Kill));
            world.schedule(at + long, Event::Node(node, Blow::Start(forgets)));
        }
    }
    if world.random.chance(300) {
        let agent = world.random.index(world.agents.len());
        let (at, long) = (within(world, span), world.random.secs(1, 40));
        world.schedule(at, Event::Absent(agent, true));
        world.schedule(at + long, Event::Absent(agent, false));
    }
    if world.random.chance(100) {
        let agent = world.random.index(world.agents.len());
        let address = world.agents[agent].public;
        world.unroutable.push(address);
        world.ledger.disturb_all();
    }
}

fn within(world: &mut World, span: Duration) -> Instant {
    START
        + Duration::from_millis(3_000)
        + Duration::from_micros(world.random.below(span.as_micros()))
}
