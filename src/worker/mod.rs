//! The running server: the workers' threads, what they share, and the life of the process from start to drain.
//!
//! This is the shell around [`crate::proxy`]: it opens the ports, reads the clock, pins the threads and heeds signals. A file
//! a noun: `run` is the loop of a worker, `exit` where its core's messages go, `mailbox` what other workers hand it, `memory` what it grows into,
//! `postman` what the TCP thread does, `clerk` what a worker does for the store, `herald` what it does for the cluster, `control` the signs between threads, `assembly` how all of it is put together from the configuration.

mod assembly;
mod beside;
mod clerk;
mod clock;
mod control;
mod cores;
mod descriptors;
mod exit;
mod herald;
mod intake;
mod listeners;
mod mailbox;
mod memory;
mod nodes;
mod overflow;
mod postman;
mod run;
mod served;
mod storage;

pub use self::memory::{prefault, touch_small_pages};
pub use self::storage::migrate_without_server;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{debug, error, info, warn};

use self::assembly::Assembly;
use self::control::Control;
use self::run::Worker;
use crate::admin::{Admin, AdminError, Phase};
use crate::config::{Config, Mistakes};
use crate::datagram::WorkerId;
use crate::net::tcp::TcpThread;
use crate::net::{self, NetError};
use crate::peer::{PeerError, PeerThread};
use crate::resolve::{Resolver, ResolverError};
use crate::secret::Secret;
use crate::store::{StoreError, StoreThread};

/// Why the server does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The limits do not fit the host.
    #[error("{0}")]
    Budget(#[from] Mistakes),
    /// The network does not open.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The admin server does not start.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The resolver does not start.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// The system refuses something that every process may have.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A wildcard address in a place where there is none of its family.
    #[error("[[listen]] {0}: this host has no address of that family; name one")]
    NoAddress(std::net::SocketAddr),
    /// Wildcards that stand for more addresses than there may be listeners.
    #[error("[[listen]] stands for {0} addresses, more than {max}; name the ones to serve", max = crate::limits::LISTENERS_MAX)]
    TooManyAddresses(usize),
    /// A worker's thread has died: a bug, after which calls would be lost in silence.
    #[error("worker {0} has died; the process ends so that its supervisor starts it anew")]
    WorkerDied(usize),
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store's thread has died: as above.
    #[error("the store's thread has died; the process ends so that its supervisor starts it anew")]
    StoreDied,
    /// The cluster's socket does not open.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The cluster's thread has died: as above.
    #[error(
        "the cluster's thread has died; the process ends so that its supervisor starts it anew"
    )]
    PeerDied,
    /// The TCP thread has died: as above.
    #[error("the TCP thread has died; the process ends so that its supervisor starts it anew")]
    TcpDied,
}

/// Serves until SIGTERM or SIGINT, then drains: what is under way ends within `drain_s`, nothing new is begun. A second signal
/// ends it at once.
///
/// # Errors
/// Whatever keeps the server from starting, before anything is served.
pub fn serve(config: &Config, secret: &Secret) -> Result<(), ServeError> {
    let system = |what| move |source| ServeError::System { what, source };
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(system("signals"))?;
    let assembly = Assembly::build(config, secret)?;
    let Assembly {
        workers,
        control,
        tcp,
        store,
        peer,
        state,
        resolver,
    } = assembly;
    let _admin = match &config.admin {
        Some(admin) => Some(net::patiently(
            || Admin::start(admin, Arc::clone(&state)),
            AdminError::is_busy,
        )?),
        None => None,
    };
    let wake = Arc::clone(&control);
    let store = store
        .map(|store| store.start(Box::new(move |worker| wake.wake_one(worker))))
        .transpose()?;
    let wake = Arc::clone(&control);
    let peer = peer
        .map(|(peer, clock)| {
            let wake = Box::new(move |worker| wake.wake_one(worker));
            peer.start(Arc::new(move || clock.now()), wake)
        })
        .transpose()?;
    let threads = spawn(workers, &config.workers.cpus)?;
    let tcp = tcp.map(|(tcp, postman)| tcp.start(postman)).transpose()?;
    state.phase.set(Phase::Serving);
    info!("serving");

    let mut life = Life {
        control,
        threads,
        tcp,
        store,
        peer,
        resolver,
        drain_until: None,
    };
    loop {
        for _ in signals.pending() {
            if life.drain_until.is_some() {
                warn!("a second signal: ending at once");
                return life.end();
            }
            info!(seconds = config.sip.drain.as_secs(), "draining");
            state.phase.set(Phase::Draining);
            life.control.drain();
            life.drain_until =
                Some(Instant::now() + Duration::from_secs(config.sip.drain.as_secs()));
        }
        if life.is_over()? {
            return life.end();
        }
        thread::sleep(LOOK);
    }
}

/// What the main thread watches over.
struct Life {
    control: Arc<Control>,
    threads: Vec<thread::JoinHandle<()>>,
    tcp: Option<TcpThread>,
    store: Option<StoreThread>,
    peer: Option<PeerThread>,
    resolver: Resolver,
    drain_until: Option<Instant>,
}

impl Life {
    /// Looks after things once; says whether draining is over.
    fn is_over(&self) -> Result<bool, ServeError> {
        if let Some(dead) = self
            .threads
            .iter()
            .position(thread::JoinHandle::is_finished)
        {
            return Err(ServeError::WorkerDied(dead));
        }
        if self.tcp.as_ref().is_some_and(TcpThread::is_dead) {
            return Err(ServeError::TcpDied);
        }
        if self.store.as_ref().is_some_and(StoreThread::is_dead) {
            return Err(ServeError::StoreDied);
        }
        if self.peer.as_ref().is_some_and(PeerThread::is_dead) {
            return Err(ServeError::PeerDied);
        }
        let Some(until) = self.drain_until else {
            return Ok(false);
        };
        let is_late = Instant::now() >= until;
        if is_late && !self.control.is_drained() {
            warn!("drain_s is over with transactions still under way");
        }
        Ok(is_late || self.control.is_drained())
    }

    /// Takes leave of the other nodes, whose answers may come by the workers; stops those and waits for them; then TCP, so that what they sent last leaves, and the store, so that what they
    /// handed over last is written.
    fn end(self) -> Result<(), ServeError> {
        if let Some(peer) = self.peer {
            peer.stop();
        }
        self.control.stop();
        for (number, thread) in self.threads.into_iter().enumerate() {
            if thread.join().is_err() {
                error!(worker = number, "died");
            }
        }
        if let Some(tcp) = self.tcp {
            tcp.stop();
        }
        if let Some(store) = self.store {
            store.stop(STORE_PATIENCE);
        }
        drop(self.resolver);
        info!("ended");
        Ok(())
    }
}

/// Starts the workers' threads, each pinned to its processor where there are enough.
fn spawn(workers: Vec<Worker>, cpus: &[usize]) -> Result<Vec<thread::JoinHandle<()>>, ServeError> {
    let mut threads = Vec::with_capacity(workers.len());
    let places = places(workers.len(), cpus);
    for (number, (worker, core)) in workers.into_iter().zip(places).enumerate() {
        if core.is_none() {
            warn!(worker = number, "not pinned: no processor of its own");
        }
        let body = move || {
            if let Some(core) = core
                && !core_affinity::set_for_current(core)
            {
                warn!(worker = number, cpu = core.id, "cannot be pinned");
            }
            if let Err(error) = net::shorten_slices() {
                debug!(worker = number, %error, "keeps the slices of the system");
            }
            worker.run();
        };
        let thread = thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(body)
            .map_err(|source| ServeError::System {
                what: "a worker's thread",
                source,
            })?;
        threads.push(thread);
    }
    Ok(threads)
}

/// The processors of so many workers.
fn places(count: usize, cpus: &[usize]) -> Vec<Option<CoreId>> {
    let available = core_affinity::get_core_ids().unwrap_or_default();
    let place = |number| match cpus.get(number) {
        Some(cpu) => available.iter().find(|core| core.id == *cpu).copied(),
        // Two workers on one processor are better left to the scheduler.
        None if count <= available.len() => available.get(number).copied(),
        None => None,
    };
    (0..count).map(place).collect()
}

/// The number of a worker.
fn worker_id(number: usize) -> WorkerId {
    WorkerId(u8::try_from(number).expect("workers are at most limits::WORKERS_MAX"))
}

/// How long the store may take to end when every batch has been settled.
const STORE_PATIENCE: Duration = Duration::from_secs(1);
/// How often the main thread looks after things.
const LOOK: Duration = Duration::from_millis(50);
