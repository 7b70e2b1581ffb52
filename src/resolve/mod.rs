//! Where a next hop's name leads (RFC 3263): one thread that asks the DNS, so that no worker ever waits for it.
//!
//! A worker asks at its [`Desk`], which copies the question into a bounded queue and goes on; the answer comes back through
//! the desk, one for each question and within `timeout_ms`, whatever the DNS servers do. A file a noun: `desk` is a worker's
//! side, `office` the thread's (cache, flights, stale answers), `locate` the procedure of RFC 3263, `names` the lookups by
//! hickory, `plan` what was found, `order` how it is put in order (RFC 2782), `preference` how addresses compare (RFC 6724).

mod cache;
mod desk;
mod locate;
mod lots;
mod names;
mod naptr;
mod office;
mod order;
mod plan;
mod preference;
mod servers;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread;

use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tracing::warn;

use self::desk::{Line, Tray};
use self::names::Names;
use self::office::Office;
use crate::counters::Counters;
use crate::datagram::Transport;
use crate::latency::Histogram;
use crate::limits::BATCH;
use crate::time::Duration;

pub use self::desk::{Answer, Bell, Desk};

/// What the resolver is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The DNS servers; none: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Names of which the answers are kept.
    pub names_max: usize,
    /// How long an answer is used past its time while the DNS fails (RFC 8767); zero: never.
    pub stale_max: Duration,
    /// The addresses that we send from: of a family that none is of, no address is asked for.
    pub sources: Vec<IpAddr>,
    /// The transports that we speak, the one to try first in front.
    pub transports: Vec<Transport>,
    /// The seed of the lots that SRV's weights are drawn by.
    pub seed: u64,
}

/// The resolver's thread; dropping it ends it.
#[derive(Debug)]
pub struct Resolver {
    line: Arc<Line>,
    counters: Arc<Counters>,
    times: Arc<Histogram>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// There is no thread or no poller for it.
    #[error("the resolver's thread does not start: {0}")]
    Thread(#[from] io::Error),
    /// The DNS client does not take its settings.
    #[error("[dns]: the resolver cannot be set up: {0}")]
    Client(String),
}

impl Resolver {
    /// Starts the thread; gives it and a desk for each bell, in their order. A bell wakes the desk's worker.
    ///
    /// # Errors
    /// When there is no thread, or no DNS client.
    pub fn start(
        settings: &Settings,
        workers: Vec<(Bell, Arc<Counters>)>,
    ) -> Result<(Self, Vec<Desk>), ResolverError> {
        let counters = Arc::new(Counters::new());
        let line = Arc::new(Line::new(workers.len()));
        let mut trays = Vec::with_capacity(workers.len());
        let mut desks = Vec::with_capacity(workers.len());
        for (number, (bell, its_counters)) in workers.into_iter().enumerate() {
            let tray = Arc::new(Tray::new(bell));
            trays.push(Arc::clone(&tray));
            desks.push(Desk::new(number, Arc::clone(&line), tray, its_counters));
        }
        let servers = servers::choose(&settings.servers);
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let names = Names::new(settings, servers, Arc::clone(&counters))?;
        let times = Arc::new(Histogram::new());
        let (its_line, settings) = (Arc::clone(&line), settings.clone());
        let measures = (Arc::clone(&counters), Arc::clone(&times));
        let body = move || {
            let office = Office::new(&settings, names, trays, measures);
            LocalSet::new().block_on(&runtime, attend(&its_line, &office));
        };
        let thread = thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(body)?;
        let resolver = Self {
            line,
            counters,
            times,
            thread: Some(thread),
        };
        Ok((resolver, desks))
    }

    /// What the thread counts.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// How long the answers take, from the question's arrival at the thread.
    #[must_use]
    pub fn times(&self) -> Arc<Histogram> {
        Arc::clone(&self.times)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.line.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the resolver died");
        }
    }
}

/// Takes questions until the line is closed. The lookups run between two batches.
async fn attend(line: &Line, office: &std::rc::Rc<Office>) {
    while !line.is_stopping() {
        for _ in 0..BATCH {
            let Some(asked) = line.next() else {
                line.wait().await;
                break;
            };
            office.take(asked);
        }
        tokio::task::yield_now().await;
    }
}
