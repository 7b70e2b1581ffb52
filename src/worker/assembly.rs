//! From the configuration to workers that are ready to run.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tracing::{info, warn};

use super::clock::Clock;
use super::control::Control;
use super::mailbox::Mailbox;
use super::postman::Postman;
use super::run::{Measures, Shared, Worker};
use super::{ServeError, worker_id};
use crate::admin::{self, Errands, Registry, State, Way};
use crate::config::budget::Budget;
use crate::config::host::Host;
use crate::config::{self, Config, HopHost};
use crate::counters::Counters;
use crate::datagram::{ListenerId, Transport};
use crate::latency::Latency;
use crate::limits::{
    LISTENERS_MAX, MAILBOX_LARGE_LEN, MAILBOX_LEN, MESSAGE_LEN_MAX, SMALL_BUFFER_LEN,
    TCP_OUTBOX_LARGE_LEN, TCP_OUTBOX_LEN, UDP_REQUEST_LEN_MAX,
};
use crate::location::{Location, LocationSettings};
use crate::net::tcp::{Tcp, TcpSettings};
use crate::net::{self, Attachments, BackendChoice, Got, ListenerReport, ListenerSpec};
use crate::proxy::domains::Domains;
use crate::proxy::register::{Registrar, RegistrarSettings};
use crate::proxy::{Keys, Listener, Proxy, Settings, Trunk};
use crate::resolve::{self, Bell, Desk, Resolver};
use crate::secret::Secret;

/// Everything that is to run.
pub(super) struct Assembly {
    pub(super) workers: Vec<Worker>,
    pub(super) control: Arc<Control>,
    /// TCP, and who takes what comes by it.
    pub(super) tcp: Option<(Tcp, Postman)>,
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
        let listeners = listeners(config)?;
        let specs: Vec<ListenerSpec> = listeners.iter().map(|(spec, _)| spec.clone()).collect();
        let measures: Vec<Measures> = (0..count).map(|_| Measures::new()).collect();
        let counters: Vec<Arc<Counters>> = measures
            .iter()
            .map(|measures| Arc::clone(&measures.counters))
            .collect();
        let opened = net::open(&specs, count, &counters)?;
        for report in &opened.reports {
            announce(report);
        }
        let tcp_counters = Arc::new(Counters::new());
        let tcp = open_tcp(config, &budget, &listeners, &tcp_counters)?;
        let location = Arc::new(Location::new(&LocationSettings {
            hash_key: secret.derive("location").current,
            bindings_max: usize::try_from(budget.bindings.count).unwrap_or(usize::MAX),
            contacts_max: config.registrar.contacts_max,
        }));
        let shared = Shared {
            control: Arc::new(Control::new(mailboxes(count)?)),
            location,
            trays: (0..count).map(|_| Arc::default()).collect(),
            clock: Clock::start(),
        };
        let (resolver, desks) = resolver(config, &specs, shared.control.mailboxes(), &counters)?;
        let spoken = spoken(&listeners, tcp.is_some())?;
        let cores = Cores::new(config, secret, spoken, &budget)?;
        let state = state(
            &measures,
            &resolver,
            &shared.location,
            &opened.reports,
            opened.attachments,
            tcp_counters,
            registry(&shared, &cores),
        );
        let workers = opened
            .workers
            .into_iter()
            .zip(measures)
            .zip(desks)
            .enumerate()
            .filter_map(|(number, ((mut ports, measures), desk))| {
                if let Some(tcp) = &tcp {
                    ports
                        .transmitters
                        .set_tcp(tcp.transmitter(worker_id(number)));
                }
                let proxy = cores.core(number, &shared.location, &measures.counters);
                Worker::new(worker_id(number), proxy, ports, desk, &shared, measures)
            })
            .collect();
        let postman = |tcp| {
            let control = Arc::clone(&shared.control);
            (tcp, Postman::new(control, shared.clock, &cores.settings))
        };
        let tcp = tcp.map(postman);
        Ok(Self {
            workers,
            tcp,
            control: shared.control,
            state,
            resolver,
        })
    }
}

/// The listeners as the core knows them.
fn spoken(
    listeners: &[(ListenerSpec, bool)],
    has_tcp_thread: bool,
) -> Result<Vec<Listener>, ServeError> {
    let interfaces = net::interfaces()?;
    let spoken = listeners.iter().map(|(spec, has_tcp)| Listener {
        tcp: *has_tcp && has_tcp_thread,
        udp_request_len_max: udp_request_len_max(spec, &interfaces),
        ..Listener::new(spec.id, spec.address)
    });
    Ok(spoken.collect())
}

/// RFC 3261 18.1.1: 1,300 bytes where the path's MTU is not known; no more than the link's less 200 in any case.
fn udp_request_len_max(spec: &ListenerSpec, interfaces: &[net::Interface]) -> usize {
    let link = interfaces
        .iter()
        .find(|interface| Some(&interface.name) == spec.interface.as_ref());
    link.map_or(UDP_REQUEST_LEN_MAX, |link| {
        let fitting = usize::try_from(link.mtu)
            .unwrap_or(usize::MAX)
            .saturating_sub(200);
        fitting.min(UDP_REQUEST_LEN_MAX)
    })
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

/// What every worker's core is made from.
struct Cores {
    settings: Settings,
    domains: Arc<Domains>,
    registrar: RegistrarSettings,
}

impl Cores {
    fn new(
        config: &Config,
        secret: &Secret,
        listeners: Vec<Listener>,
        budget: &Budget,
    ) -> Result<Self, ServeError> {
        let workers = budget.workers;
        let all = |label| secret.derive(label).iter().collect::<Vec<_>>();
        let settings = Settings {
            worker: worker_id(0),
            workers: u8::try_from(workers).unwrap_or(u8::MAX),
            server_id: 0,
            epoch: random()?,
            keys: Keys {
                steering: secret.derive("steer").current,
                transactions: secret.derive("transactions").current,
                branches: all("branches"),
                tokens: all("tokens"),
                tags: all("tags"),
            },
            listeners,
            domains: config.sip.domains.clone(),
            use_domain: config.registrar.use_domain,
            peers: config
                .peers
                .iter()
                .flat_map(|peer| peer.addresses.iter().copied())
                .collect(),
            trunk: trunk(config),
            timer_c: config.sip.timer_c,
            ring: config.sip.ring,
            failover: config.sip.failover,
            transactions_max: share(budget.transactions.count, workers),
            message_bytes_max: usize::try_from(budget.transactions.bytes()).unwrap_or(usize::MAX)
                / workers.max(1),
        };
        let addresses = settings
            .listeners
            .iter()
            .map(|listener| listener.address.ip());
        let domains = config.sip.domains.iter().map(String::as_str);
        let domains = Arc::new(Domains::new(domains, addresses));
        Ok(Self {
            settings,
            domains,
            registrar: RegistrarSettings {
                expires_default_s: config.registrar.expires_default_s,
                expires_min_s: config.registrar.expires_min_s,
                expires_max_s: config.registrar.expires_max_s,
                use_domain: config.registrar.use_domain,
            },
        })
    }

    fn core(&self, number: usize, location: &Arc<Location>, counters: &Arc<Counters>) -> Proxy {
        let mut settings = self.settings.clone();
        settings.worker = worker_id(number);
        Proxy::new(
            settings,
            Arc::clone(location),
            self.registrar(location),
            Arc::clone(counters),
        )
    }

    fn registrar(&self, location: &Arc<Location>) -> Registrar {
        Registrar::new(
            Arc::clone(location),
            Arc::clone(&self.domains),
            self.registrar,
        )
    }
}

impl Measures {
    fn new() -> Self {
        Self {
            counters: Arc::new(Counters::new()),
            latency: Arc::new(Latency::new()),
        }
    }
}

/// The listeners of the configuration; a wildcard becomes one for each address of its family that the host has now, since a
/// proxy names its own address in every Via and Record-Route.
///
/// Each with whether it is served by TCP as well.
fn listeners(config: &Config) -> Result<Vec<(ListenerSpec, bool)>, ServeError> {
    let mut specs: Vec<(ListenerSpec, bool)> = Vec::new();
    let mut total = 0_usize;
    for listen in &config.listen {
        for address in concrete(listen.address)? {
            total += 1;
            let Some(id) = u8::try_from(specs.len())
                .ok()
                .filter(|_| specs.len() < LISTENERS_MAX)
            else {
                continue;
            };
            specs.push((spec(config, listen, ListenerId(id), address), listen.tcp));
        }
    }
    if total > specs.len() {
        return Err(ServeError::TooManyAddresses(total));
    }
    Ok(specs)
}

fn spec(
    config: &Config,
    listen: &config::Listen,
    id: ListenerId,
    address: SocketAddr,
) -> ListenerSpec {
    let mut spec = ListenerSpec::new(id, address);
    let is_wildcard = listen.address.ip().is_unspecified();
    spec.backend = match listen.backend {
        _ if is_wildcard => BackendChoice::Udp,
        config::Backend::Auto => BackendChoice::Auto,
        config::Backend::AfXdp => BackendChoice::AfXdp,
        config::Backend::Udp => BackendChoice::Udp,
    };
    spec.interface.clone_from(&listen.interface);
    spec.queues = (!listen.queues.is_empty()).then(|| listen.queues.clone());
    spec.mode = listen.mode.map(|mode| match mode {
        config::Mode::Driver => net::Mode::Driver,
        config::Mode::Generic => net::Mode::Generic,
    });
    spec.busy_poll = config.workers.busy_poll;
    spec
}

fn concrete(address: SocketAddr) -> Result<Vec<SocketAddr>, ServeError> {
    if !address.ip().is_unspecified() {
        return Ok(vec![address]);
    }
    let own = net::local_addresses().map_err(|source| ServeError::System {
        what: "the host's addresses",
        source,
    })?;
    let of_family: Vec<SocketAddr> = own
        .into_iter()
        .filter(|ip| ip.is_ipv4() == address.is_ipv4())
        .map(|ip| SocketAddr::new(ip, address.port()))
        .collect();
    if of_family.is_empty() {
        Err(ServeError::NoAddress(address))
    } else {
        Ok(of_family)
    }
}

/// The peer that takes our users' requests for foreign domains.
fn trunk(config: &Config) -> Option<Arc<Trunk>> {
    config.peers.iter().find_map(|peer| {
        let hop = peer.next_hop.as_ref()?;
        Some(Arc::new(Trunk {
            addresses: peer.addresses.clone(),
            host: match &hop.host {
                HopHost::Address(IpAddr::V6(ip)) => format!("[{ip}]"),
                HopHost::Address(IpAddr::V4(ip)) => ip.to_string(),
                HopHost::Name(name) => name.clone(),
            },
            port: hop.port,
            transport: hop.transport,
        }))
    })
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

/// The resolver, and a desk for each worker. It is told which families and transports our listeners speak.
fn resolver(
    config: &Config,
    specs: &[ListenerSpec],
    mailboxes: &[Arc<Mailbox>],
    counters: &[Arc<Counters>],
) -> Result<(Resolver, Vec<Desk>), ServeError> {
    let settings = resolve::Settings {
        servers: config.dns.servers.clone(),
        timeout: config.dns.timeout,
        names_max: config.dns.cache_size,
        stale_max: config.dns.stale_max,
        sources: specs.iter().map(|spec| spec.address.ip()).collect(),
        transports: vec![Transport::Udp, Transport::Tcp],
        seed: random()?,
    };
    let bell = |mailbox: &Arc<Mailbox>| -> Bell {
        let mailbox = Arc::clone(mailbox);
        Box::new(move || mailbox.rouse())
    };
    let workers = mailboxes.iter().map(bell).zip(counters.iter().cloned());
    Ok(Resolver::start(&settings, workers.collect())?)
}

/// Says in the log what a listener got; loudly where it is not what it might have been.
fn announce(report: &ListenerReport) {
    match &report.got {
        Got::Udp { why_not: Some(_) } => warn!("listening on {report}"),
        Got::Udp { why_not: None } | Got::AfXdp(_) => info!("listening on {report}"),
    }
}

/// What the admin server shows. What the kernel counts is read when it is asked for; so the state holds the attachments.
fn state(
    measures: &[Measures],
    resolver: &Resolver,
    location: &Arc<Location>,
    reports: &[ListenerReport],
    attachments: Attachments,
    tcp: Arc<Counters>,
    registry: Registry,
) -> Arc<State> {
    let kernel = Arc::new(Counters::new());
    let mut counters: Vec<Arc<Counters>> = measures
        .iter()
        .map(|measures| Arc::clone(&measures.counters))
        .collect();
    let others = [tcp, resolver.counters(), registry.errands.counters()];
    counters.extend(others.into_iter().chain([Arc::clone(&kernel)]));
    let latency = measures
        .iter()
        .map(|measures| Arc::clone(&measures.latency))
        .collect();
    let location = Arc::clone(location);
    let bindings = Box::new(move || location.bindings() as u64);
    let mut state = State::new(counters, latency, bindings);
    state.dns = Some(resolver.times());
    state.registry = Some(registry);
    state.buffers = buffers(measures.len());
    state.refresh = Box::new(move || attachments.publish(&kernel));
    // Set once, here: nobody else has the state yet.
    let _ = state.listeners.set(reports.iter().map(shown).collect());
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

/// The buffers of the mailboxes and of the TCP thread's outbox.
fn buffers(workers: usize) -> admin::Buffers {
    let bytes = |len: usize, large: usize| {
        (large * MESSAGE_LEN_MAX + (len - large) * SMALL_BUFFER_LEN) as u64
    };
    admin::Buffers {
        mailboxes: workers as u64 * bytes(MAILBOX_LEN, MAILBOX_LARGE_LEN),
        tcp_outbox: bytes(TCP_OUTBOX_LEN, TCP_OUTBOX_LARGE_LEN),
    }
}

/// A listener's report as the admin server shows it.
fn shown(report: &ListenerReport) -> admin::ListenerReport {
    let udp = admin::ListenerReport {
        address: report.address,
        backend: "udp",
        mode: None,
        zero_copy: false,
        interface: None,
        queues: Vec::new(),
        reason: None,
    };
    match &report.got {
        Got::Udp { why_not } => admin::ListenerReport {
            reason: why_not.clone(),
            ..udp
        },
        Got::AfXdp(device) => admin::ListenerReport {
            backend: "af_xdp",
            mode: Some(device.mode.as_str()),
            zero_copy: device.queues.iter().all(|queue| queue.is_zero_copy),
            interface: Some(device.interface.clone()),
            queues: device.queues.iter().map(|queue| queue.queue).collect(),
            reason: device.why_not_driver.clone(),
            ..udp
        },
    }
}

fn share(count: u64, workers: usize) -> u32 {
    let share = count / u64::try_from(workers.max(1)).unwrap_or(1);
    u32::try_from(share).unwrap_or(u32::MAX)
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
