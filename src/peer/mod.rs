//! The cluster's thread: DMQ's socket, its clock, and the desks at which the workers hand over what changed.
//!
//! [`Cluster`] decides; this is the shell around it. It never touches the location.

mod desk;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::{debug, info, warn};

pub use self::desk::{Desk, Inlet};

use self::desk::Bell;
use crate::counters::{Counter, Counters};
use crate::latency::Histogram;
use crate::limits::{MESSAGE_LEN_MAX, PARCEL_LEN, UDP_SOCKET_BUFFER_LEN, WORK_PARCELS};
use crate::replication::{Cluster, NodeReport, Output, Parcel, Settings, Status};
use crate::time::{Duration, Instant};

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The address is taken or not ours.
    #[error("[cluster] listen {address}: {error}; free the address or choose another")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The cause.
        error: io::Error,
    },
    /// There is no thread or no descriptor.
    #[error("the cluster's thread does not start: {0}")]
    Thread(io::Error),
}

/// Wakes worker `n`.
pub type Wake = Box<dyn Fn(usize) + Send>;

/// The present moment, by the clock of the process.
pub type Now = Box<dyn Fn() -> Instant + Send>;

/// What is shown of the cluster.
pub type Nodes = Arc<Mutex<Vec<NodeReport>>>;

/// A cluster that is open, and whose thread does not run yet.
pub struct Peer {
    settings: Settings,
    socket: UdpSocket,
    names: Vec<(String, u16)>,
    desks: Vec<Arc<Desk>>,
    inlet: Arc<Inlet>,
    bell: Arc<Bell>,
    nodes: Nodes,
    counters: Arc<Counters>,
    lag: Arc<Histogram>,
}

/// The cluster's thread.
#[derive(Debug)]
pub struct PeerThread {
    thread: JoinHandle<()>,
    bell: Arc<Bell>,
    is_stopping: Arc<AtomicBool>,
}

impl Peer {
    /// Opens DMQ's own address; `names` are peers to be looked up, with their ports.
    ///
    /// # Errors
    /// The address, or a descriptor.
    pub fn open(settings: Settings, names: Vec<(String, u16)>) -> Result<Self, PeerError> {
        let address = settings.address;
        let socket = bind(address).map_err(|error| PeerError::Bind { address, error })?;
        let bell = Arc::new(Bell::new().map_err(PeerError::Thread)?);
        let desk = |_| Arc::new(Desk::new(Arc::clone(&bell)));
        Ok(Self {
            desks: (0..settings.workers).map(desk).collect(),
            inlet: Arc::new(Inlet::new(Arc::clone(&bell))),
            settings,
            socket,
            names,
            bell,
            nodes: Nodes::default(),
            counters: Arc::new(Counters::new()),
            lag: Arc::new(Histogram::new()),
        })
    }

    /// The desk of worker `n`.
    #[must_use]
    pub fn desk(&self, n: usize) -> Option<Arc<Desk>> {
        self.desks.get(n).map(Arc::clone)
    }

    /// What it counts.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Our number.
    #[must_use]
    pub const fn server_id(&self) -> u16 {
        self.settings.server_id
    }

    /// How long what changed here takes until another node acknowledges it.
    #[must_use]
    pub fn lag(&self) -> Arc<Histogram> {
        Arc::clone(&self.lag)
    }

    /// What is known of the nodes.
    #[must_use]
    pub fn nodes(&self) -> Nodes {
        Arc::clone(&self.nodes)
    }

    /// Starts the thread; `wake` wakes a worker.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(self, now: Now, wake: Wake) -> Result<PeerThread, PeerError> {
        let (bell, is_stopping) = (Arc::clone(&self.bell), Arc::new(AtomicBool::new(false)));
        let cluster = Cluster::new(now(), self.settings, Arc::clone(&self.counters));
        let cluster = cluster.with_lag(self.lag);
        let spare = (0..WORK_PARCELS).map(|_| Parcel::new(PARCEL_LEN));
        let office = Office {
            cluster,
            exit: Exit {
                socket: self.socket,
                spare: spare.collect(),
                desks: self.desks,
                wake,
                counters: self.counters,
            },
            names: self.names,
            inlet: self.inlet,
            bell: self.bell,
            nodes: self.nodes,
            now,
            next_report: Instant::EPOCH,
            is_stopping: Arc::clone(&is_stopping),
        };
        let builder = thread::Builder::new().name("cluster".to_owned());
        let thread = builder
            .spawn(move || office.run())
            .map_err(PeerError::Thread)?;
        Ok(PeerThread {
            thread,
            bell,
            is_stopping,
        })
    }
}

impl PeerThread {
    /// Whether it has died.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends it.
    pub fn stop(self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.bell.ring();
        // A thread that panicked has said so already.
        let _ = self.thread.join();
    }
}

/// What the thread works with.
struct Office {
    cluster: Cluster,
    exit: Exit,
    names: Vec<(String, u16)>,
    inlet: Arc<Inlet>,
    bell: Arc<Bell>,
    nodes: Nodes,
    now: Now,
    next_report: Instant,
    is_stopping: Arc<AtomicBool>,
}

struct Exit {
    socket: UdpSocket,
    spare: Vec<Parcel>,
    desks: Vec<Arc<Desk>>,
    wake: Wake,
    counters: Arc<Counters>,
}

impl Office {
    /// Works until it is told to stop.
    fn run(mut self) {
        info!(address = %self.cluster.address(), "a node of a cluster");
        // Phones go before nodes; without this the thread works all the same.
        let _ = rustix::process::nice(NICE);
        self.look_names_up();
        let mut buffer = vec![0; MESSAGE_LEN_MAX + 1];
        while !self.is_stopping.load(Ordering::SeqCst) {
            let now = (self.now)();
            let mut worked = self.receive(now, &mut buffer);
            worked |= self.collect(now);
            if self.cluster.next_deadline().is_some_and(|due| due <= now) {
                self.cluster.on_timeout(now, &mut self.exit);
            }
            if now >= self.next_report {
                self.next_report = now + REPORT_INTERVAL;
                self.report(now);
            }
            if !worked {
                self.sleep(now);
            }
        }
    }

    fn receive(&mut self, now: Instant, buffer: &mut [u8]) -> bool {
        for taken in 0..RECEIVE_BATCH {
            // Without a parcel for it, it waits in the socket.
            if self.exit.spare.is_empty() {
                return taken > 0;
            }
            // Nothing there, a signal, or an ICMP error: the next call goes on.
            let Ok((len, from)) = self.exit.socket.recv_from(buffer) else {
                return taken > 0;
            };
            if let Some(bytes) = buffer.get(..len) {
                self.cluster.on_datagram(now, from, bytes, &mut self.exit);
            }
        }
        true
    }

    fn collect(&mut self, now: Instant) -> bool {
        let mut worked = false;
        while let Some((from, bytes)) = self.inlet.take() {
            self.cluster.on_datagram(now, from, &bytes, &mut self.exit);
            worked = true;
        }
        for worker in 0..self.exit.desks.len() {
            let Some(desk) = self.exit.desks.get(worker).map(Arc::clone) else {
                continue;
            };
            while let Some(parcel) = desk.collect() {
                self.cluster.on_parcel(now, worker, parcel, &mut self.exit);
                worked = true;
            }
        }
        worked
    }

    fn report(&self, now: Instant) {
        let fresh = self.cluster.report(now);
        let mut nodes = self.nodes.lock();
        for node in &fresh {
            let before = nodes.iter().find(|before| before.address == node.address);
            let was = before.map_or(Status::Pending, |before| before.status);
            if was != node.status && !node.is_local {
                info!(node = %node.address, status = node.status.as_str(), "a node of the cluster");
            }
        }
        *nodes = fresh;
    }

    fn sleep(&self, now: Instant) {
        self.bell.fall_asleep();
        let has_post = self.inlet.has_post() || self.exit.desks.iter().any(|desk| desk.has_post());
        if !has_post && !self.is_stopping.load(Ordering::SeqCst) {
            let due = self.cluster.next_deadline().unwrap_or(self.next_report);
            let span = due.min(self.next_report).since(now).as_micros();
            // A slice that waits for a parcel is not waited for without a pause.
            let span = span.max(PAUSE_MICROS);
            let timeout = Timespec {
                tv_sec: i64::try_from(span / 1_000_000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(span % 1_000_000).unwrap_or(0) * 1_000,
            };
            let mut fds = [
                PollFd::new(&self.exit.socket, PollFlags::IN),
                PollFd::from_borrowed_fd(self.bell.fd(), PollFlags::IN),
            ];
            // Interrupted or failed, the next turn looks everywhere anyway.
            let _ = poll(&mut fds, Some(&timeout));
        }
        self.bell.awake();
    }

    /// Peers that are named: each address that the name has is one.
    fn look_names_up(&mut self) {
        for (name, port) in &self.names {
            let found = std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), *port));
            match found {
                Ok(found) => {
                    let of_family =
                        |peer: &SocketAddr| peer.is_ipv4() == self.cluster.address().is_ipv4();
                    let found: Vec<SocketAddr> = found.filter(of_family).collect();
                    self.cluster.add_seeds((self.now)(), &found);
                }
                Err(error) => warn!(name, "a peer of the cluster has no address: {error}"),
            }
        }
    }
}

impl Output for Exit {
    fn send(&mut self, to: SocketAddr, message: &[u8]) {
        if let Err(error) = self.socket.send_to(message, to) {
            debug!(node = %to, "not sent: {error}");
            self.counters.increment(Counter::ClusterDropUnsendable);
        }
    }

    fn blank(&mut self) -> Option<Parcel> {
        self.spare.pop()
    }

    fn blank_for_walk(&mut self) -> Option<Parcel> {
        let has_enough = self.spare.len() > WORK_PARCELS / 2;
        has_enough.then(|| self.spare.pop()).flatten()
    }

    fn give_back(&mut self, parcel: Parcel) {
        self.spare.push(parcel);
    }

    fn give(&mut self, worker: usize, parcel: Parcel) {
        match self.desks.get(worker) {
            Some(desk) => {
                desk.give(parcel);
                (self.wake)(worker);
            }
            None => self.spare.push(parcel),
        }
    }
}

/// Binds DMQ's own address.
fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Less, where the system allows no more, is no error.
    let _ = socket.set_recv_buffer_size(UDP_SOCKET_BUFFER_LEN);
    let _ = socket.set_send_buffer_size(UDP_SOCKET_BUFFER_LEN);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// How much the thread yields to the workers: a third of their weight.
const NICE: i32 = 5;
/// Datagrams that are taken in one turn.
const RECEIVE_BATCH: usize = 64;
/// How often what is shown is brought up to date.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);
/// The shortest sleep.
const PAUSE_MICROS: u64 = 500;
