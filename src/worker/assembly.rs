//! From the configuration to workers that are ready to run.

use std::net::SocketAddr;
use std::sync::Arc;

use tracing::{info, warn};

use super::clock::Clock;
use super::control::Control;
use super::cores::Cores;
use super::herald::Herald;
use super::mailbox::Mailbox;
use super::postman::Postman;
use super::run::{Measures, Shared, Worker};
use super::{ServeError, listeners, memory, places, storage, worker_id};
use crate::admin::{self, Errands, Registry, State, Way};
use crate::config::budget::Budget;
use crate::config::host::Host;
use crate::config::{Ack, Config};
use crate::counters::Counters;
use crate::datagram::{ListenerId, Transport};
use crate::latency::Latency;
use crate::limits::{
    BATCH, FRAME_LEN, FRAMES_PER_QUEUE, MAILBOX_LARGE_LEN, MAILBOX_LEN, MESSAGE_LEN_MAX,
    SMALL_BUFFER_LEN, TCP_OUTBOX_LARGE_LEN, TCP_OUTBOX_LEN, UDP_ARENA_LEN, UDP_SLOT_LEN,
};
use crate::location::{Homes, Location};
use crate::net::tcp::{Tcp, TcpSettings};
use crate::net::{self, Attachments, Got, ListenerReport, ListenerSpec, WorkerPorts};
use crate::peer::{Inlet, Peer};
use crate::resolve::{self, Bell, Desk, Resolver};
use crate::secret::Secret;
use crate::store::{self, Inquiries, Store};

/// Everything that is to run.
pub(super) struct Assembly {
    pub(super) workers: Vec<Worker>,
    pub(super) control: Arc<Control>,
    /// TCP, and who takes what comes by it.
    pub(super) tcp: Option<(Tcp, Postman)>,
    /// Where bindings outlive the process.
    pub(super) store: Option<Store>,
    /// The other nodes, and the clock that their changes are timed by.
    pub(super) peer: Option<(Peer, Clock)>,
    /// What the admin server shows; it also keeps the XDP programs attached.
    pub(super) state: Arc<State>,
    /// Ends with the workers.
    pub(super) resolver: Resolver,
}

impl Assembly {
    /// Opens the network and puts the workers together.
    pub(super) fn build(config: &Config, secret: &Secret) -> Result<Self, ServeError> {
        let budget = Budget::compute(config, &Host::read())?;
        for warning in budget.warnings() {
            warn!("{warning}");
        }
        super::descriptors::raise_to(budget.descriptors);
        let count = budget.workers;
        if budget.prefault > 0 {
            memory::prefault(budget.prefault, &places(count, &config.workers.cpus));
        }
        memory::touch_small_pages();
        let listeners = listeners::listeners(config)?;
        let specs: Vec<ListenerSpec> = listeners.iter().map(|(spec, _)| spec.clone()).collect();
        let measures: Vec<Measures> = (0..count).map(|_| Measures::new()).collect();
        let counters = counters(&measures);
        let opened = net::open(&specs, count, &counters)?;
        opened.reports.iter().for_each(listeners::announce);
        let tcp_counters = Arc::new(Counters::new());
        let tcp = open_tcp(config, &budget, &listeners, &tcp_counters)?;
        let epoch = random()?;
        let homes = Arc::new(Homes::new(storage::server_id(config)));
        let mut store = storage::open_store(config, &listeners, count, &homes)?;
        let held = Arc::clone(&homes);
        let location = storage::location(config, secret, &budget, store.as_ref(), epoch, held);
        let shared = Shared {
            control: Arc::new(Control::new(mailboxes(count)?)),
            location: Arc::new(location),
            trays: (0..count).map(|_| Arc::default()).collect(),
            clock: Clock::start(),
        };
        let net = (&opened, tcp.as_ref());
        let mut peer = super::nodes::open(config, &listeners, net, epoch, (&homes, secret))?;
        let mailboxes = shared.control.mailboxes();
        let (resolver, desks) = resolver(config, &specs, (mailboxes, &counters), peer.as_mut())?;
        let spoken = listeners::spoken(&listeners, tcp.is_some())?;
        let cores = Cores::new(config, secret, spoken, &budget, epoch);
        let users = storage::inquiries(config, store.as_mut(), shared.control.mailboxes());
        let beside = Beside {
            peer: peer.as_ref(),
            resolver: &resolver,
            store: store.as_ref(),
            tcp: tcp_counters,
            registry: registry(&shared, &cores),
            reserved: reserved(&budget, &opened.reports, store.is_some(), tcp.is_some()),
        };
        let shown = listeners::shown(&opened.reports, tcp.as_ref());
        let held = opened.attachments;
        let state = state(&measures, &shared.location, shown, held, beside);
        let equipped = Equipment {
            heralds: heralds(config, &shared, peer.as_ref(), count).into_iter(),
            ports: opened.workers,
            measures,
            desks,
            users: users.into_iter(),
            inlet: peer.as_ref().map(Peer::inlet),
        };
        let workers = equipped.hand_out(config, &shared, &cores, (tcp.as_ref(), store.as_ref()));
        let control = Arc::clone(&shared.control);
        let postman = Postman::new(control, shared.clock, &cores.settings)
            .with_inlet(peer.as_ref().map(Peer::inlet));
        let tcp = tcp.map(|tcp| (tcp, postman));
        Ok(Self {
            workers,
            tcp,
            store,
            peer: peer.map(|peer| (peer, shared.clock)),
            control: shared.control,
            state,
            resolver,
        })
    }
}

/// What each worker gets of its own, by its number.
struct Equipment {
    ports: Vec<WorkerPorts>,
    measures: Vec<Measures>,
    desks: Vec<Desk>,
    users: std::vec::IntoIter<Inquiries>,
    heralds: std::vec::IntoIter<Herald>,
    inlet: Option<Arc<Inlet>>,
}

impl Equipment {
    /// Makes the workers.
    fn hand_out(
        self,
        config: &Config,
        shared: &Shared,
        cores: &Cores,
        (tcp, store): (Option<&Tcp>, Option<&Store>),
    ) -> Vec<Worker> {
        let count = self.ports.len();
        let (mut users, mut heralds) = (self.users, self.heralds);
        let tells = config.store.ack == Ack::Committed;
        let mut workers = Vec::with_capacity(count);
        let equipped = self.ports.into_iter().zip(self.measures).zip(self.desks);
        for (number, ((mut ports, measures), desk)) in equipped.enumerate() {
            if let Some(tcp) = tcp {
                let transmitter = tcp.transmitter(worker_id(number));
                ports.transmitters.set_tcp(transmitter);
            }
            let store_desk = store.and_then(|store| store.desk(number));
            let clerk =
                store_desk.map(|desk| shared.clerk(desk, number, count, config.store.flush));
            let proxy = cores.core(number, &shared.location, &measures.counters);
            let worker = Worker::new(worker_id(number), proxy, ports, desk, shared, measures);
            let users = users.next();
            let herald = heralds.next();
            let worker = worker.map(|worker| worker.with_clerk(clerk, tells).with_herald(herald));
            let worker = worker.map(|worker| worker.with_inlet(self.inlet.clone()));
            let worker = worker.map(|worker| worker.with_spin(config.workers.spin));
            workers.extend(worker.map(|worker| worker.with_subscribers(users)));
        }
        workers
    }
}

/// A herald for each worker, where there is a cluster.
fn heralds(config: &Config, shared: &Shared, peer: Option<&Peer>, workers: usize) -> Vec<Herald> {
    let Some((cluster, peer)) = config.cluster.as_ref().zip(peer) else {
        return Vec::new();
    };
    let desks = (0..workers).filter_map(|number| Some((number, peer.desk(number)?)));
    desks
        .map(|(number, desk)| shared.herald(desk, (number, workers), cluster.coalesce))
        .collect()
}

/// A mailbox for each worker.
fn mailboxes(count: usize) -> Result<Vec<Arc<Mailbox>>, ServeError> {
    (0..count)
        .map(|_| Mailbox::new().map(Arc::new))
        .collect::<Result<_, _>>()
        .map_err(|source| ServeError::System {
            what: "an eventfd",
            source,
        })
}

impl Measures {
    fn new() -> Self {
        Self {
            counters: Arc::new(Counters::new()),
            latency: Arc::new(Latency::new()),
        }
    }
}

/// Listens for TCP where that is wanted; not at all where there may be no connection.
fn open_tcp(
    config: &Config,
    budget: &Budget,
    listeners: &[(ListenerSpec, bool)],
    counters: &Arc<Counters>,
) -> Result<Option<Tcp>, ServeError> {
    let addresses: Vec<(ListenerId, SocketAddr)> = listeners
        .iter()
        .filter(|(_, has_tcp)| *has_tcp)
        .map(|(spec, _)| (spec.id, spec.address))
        .collect();
    let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let settings = TcpSettings {
        connections_max: count(budget.tcp_connections.count),
        per_source_max: count(config.limits.tcp_connections_per_source),
        idle: config.limits.tcp_idle,
    };
    if addresses.is_empty() || settings.connections_max == 0 {
        return Ok(None);
    }
    let tcp = Tcp::open(&addresses, settings, Arc::clone(counters))?;
    for (_, address) in tcp.addresses() {
        info!("listening on {address}: tcp");
    }
    Ok(Some(tcp))
}

/// The resolver, and a desk for each worker; the cluster has one, too. It is told which families and transports our listeners speak.
fn resolver(
    config: &Config,
    specs: &[ListenerSpec],
    (mailboxes, counters): (&[Arc<Mailbox>], &[Arc<Counters>]),
    peer: Option<&mut Peer>,
) -> Result<(Resolver, Vec<Desk>), ServeError> {
    let nodes = config.cluster.iter().map(|cluster| cluster.listen.ip());
    let own = specs.iter().map(|spec| spec.address.ip());
    let settings = resolve::Settings {
        servers: config.dns.servers.clone(),
        timeout: config.dns.timeout,
        names_max: config.dns.cache_size,
        stale_max: config.dns.stale_max,
        sources: own.chain(nodes).collect(),
        transports: vec![Transport::Udp, Transport::Tcp],
        seed: random()?,
    };
    let bell = |mailbox: &Arc<Mailbox>| -> Bell {
        let mailbox = Arc::clone(mailbox);
        Box::new(move || mailbox.rouse())
    };
    let workers = mailboxes.iter().map(bell).zip(counters.iter().cloned());
    let asking = workers.chain(peer.as_ref().map(|peer| peer.bell()));
    let (resolver, mut desks) = Resolver::start(&settings, asking.collect())?;
    if let Some((peer, desk)) = peer.and_then(|peer| Some((peer, desks.pop()?))) {
        peer.set_resolver(desk);
    }
    Ok((resolver, desks))
}

/// What each worker counts.
fn counters(measures: &[Measures]) -> Vec<Arc<Counters>> {
    let of_one = |measures: &Measures| Arc::clone(&measures.counters);
    measures.iter().map(of_one).collect()
}

/// What is shown beside the workers, the location and the listeners.
struct Beside<'a> {
    resolver: &'a Resolver,
    store: Option<&'a Store>,
    peer: Option<&'a Peer>,
    tcp: Arc<Counters>,
    registry: Registry,
    reserved: admin::Reserved,
}

/// What the admin server shows. What the kernel counts is read when it is asked for; so the state holds the attachments.
fn state(
    measures: &[Measures],
    location: &Arc<Location>,
    reports: Vec<admin::ListenerReport>,
    attachments: Attachments,
    beside: Beside<'_>,
) -> Arc<State> {
    let Beside {
        resolver,
        store,
        peer,
        tcp,
        registry,
        reserved,
    } = beside;
    let kernel = Arc::new(Counters::new());
    let mut counters = counters(measures);
    let others = [tcp, resolver.counters(), registry.errands.counters()];
    counters.extend(others.into_iter().chain([Arc::clone(&kernel)]));
    counters.extend(store.map(Store::counters));
    counters.extend(peer.into_iter().flat_map(Peer::counters));
    let latency = measures
        .iter()
        .map(|measures| Arc::clone(&measures.latency))
        .collect();
    let location = Arc::clone(location);
    let (held, shared) = (Arc::clone(&location), Arc::clone(&location));
    let bindings = Box::new(move || held.bindings() as u64);
    let mut state = State::new(counters, latency, bindings);
    state.store = store.map(|store| {
        let status = store.status();
        let report = move || admin::StoreReport {
            up: status.is_up(),
            backlog: location.backlog() as u64,
        };
        Box::new(report) as admin::Gauge<admin::StoreReport>
    });
    state.accounts = store.map(storage::accounts);
    state.migrate = store.map(storage::migrate);
    state.cluster = peer.map(|peer| super::nodes::gauge(peer, &shared));
    state.dns = Some(resolver.times());
    state.registry = Some(registry);
    state.reserved = reserved;
    state.refresh = Box::new(move || attachments.publish(&kernel));
    // Set once, here: nobody else has the state yet.
    let _ = state.listeners.set(reports);
    Arc::new(state)
}

/// The admin server's way to the location: errands to the workers.
fn registry(shared: &Shared, cores: &Cores) -> Registry {
    let mailboxes = shared.control.mailboxes().iter();
    let ways = mailboxes.zip(&shared.trays).map(|(mailbox, tray)| -> Way {
        let mailbox = Arc::clone(mailbox);
        (Arc::clone(tray), Box::new(move || mailbox.rouse()))
    });
    let listeners = cores.settings.listeners.iter();
    Registry {
        errands: Errands::new(ways.collect()),
        registrar: cores.registrar(&shared.location),
        use_domain: cores.registrar.use_domain,
        expires_default_s: cores.registrar.expires_default_s,
        listeners: listeners.map(|own| (own.id, own.address)).collect(),
    }
}

/// What is set aside for buffers and frames.
fn reserved(
    budget: &Budget,
    reports: &[ListenerReport],
    has_store: bool,
    has_tcp: bool,
) -> admin::Reserved {
    let workers = budget.workers as u64;
    let bytes = |len: usize, large: usize| {
        (large * MESSAGE_LEN_MAX + (len - large) * SMALL_BUFFER_LEN) as u64
    };
    // Listeners of one device share its queues.
    let mut devices: Vec<_> = reports
        .iter()
        .filter_map(|report| match &report.got {
            Got::AfXdp(device) => Some((device.interface.as_str(), device.queues.len())),
            Got::Udp { .. } => None,
        })
        .collect();
    devices.sort_unstable();
    devices.dedup_by_key(|(interface, _)| *interface);
    let queues: usize = devices.iter().map(|(_, queues)| queues).sum();
    admin::Reserved {
        mailboxes: workers * bytes(MAILBOX_LEN, MAILBOX_LARGE_LEN),
        tcp_outbox: if has_tcp {
            bytes(TCP_OUTBOX_LEN, TCP_OUTBOX_LARGE_LEN)
        } else {
            0
        },
        sockets: workers * reports.len() as u64 * (BATCH * UDP_SLOT_LEN + UDP_ARENA_LEN) as u64,
        store: if has_store {
            store::batch_bytes(budget.workers) as u64
        } else {
            0
        },
        frames: (queues * FRAMES_PER_QUEUE * FRAME_LEN) as u64,
        limit: budget.memory,
    }
}

/// 64 random bits, as those that tell this start of the process from every other.
fn random() -> Result<u64, ServeError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| ServeError::System {
        what: "random bits",
        source: std::io::Error::other(error),
    })?;
    Ok(u64::from_ne_bytes(bytes))
}
