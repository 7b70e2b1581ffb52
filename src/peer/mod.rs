//! The cluster's thread: DMQ's socket or a listener's, its clock, and the desks at which the workers hand over what changed.
//!
//! [`Cluster`] decides; this is the shell around it. It never touches the location. `inlet` is where the workers and the TCP threads leave
//! what they received, `exit` by what is sent, `names` where peers are found that are given by name, `bulletin` what an operator is shown.

mod bulletin;
mod desk;
mod exit;
mod inlet;
mod names;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::info;

pub use self::bulletin::Bulletin;
pub use self::desk::Desk;
pub use self::inlet::{Inlet, InletError};
pub use self::names::NamedPeer;

use self::desk::Bell;
use self::exit::{Exit, Porter};
use self::names::Names;
use crate::counters::Counters;
use crate::datagram::ListenerId;
use crate::latency::Histogram;
use crate::limits::{LEAVE_TIME, MESSAGE_LEN_MAX, PARCEL_LEN, WORK_PARCELS};
use crate::net::tcp::{Tcp, TcpThread, TcpTransmitter};
use crate::net::{self, NetError};
use crate::replication::{Cluster, NodeAddress, Parcel, Settings, Status};
use crate::resolve;
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
    /// The address is taken or not ours, by TCP.
    #[error("[cluster] listen: {0}")]
    Tcp(#[from] NetError),
    /// There is no thread or no descriptor.
    #[error("the cluster's thread does not start: {0}")]
    Thread(io::Error),
}

/// Wakes worker `n`.
pub type Wake = Box<dyn Fn(usize) + Send>;

/// The present moment, by the clock of the process.
pub type Now = Arc<dyn Fn() -> Instant + Send + Sync>;

/// At which address DMQ is spoken.
pub enum Door {
    /// At its own.
    Own,
    /// At a listener's.
    Listener {
        /// Which.
        id: ListenerId,
        /// A second handle of its socket, to send by.
        socket: UdpSocket,
        /// By what is sent over TCP, where that listener is served by TCP.
        tcp: Option<TcpTransmitter>,
    },
}

/// A cluster that is open, and whose thread does not run yet.
pub struct Peer {
    settings: Settings,
    socket: UdpSocket,
    listener: Option<ListenerId>,
    transmitter: Option<TcpTransmitter>,
    /// DMQ's own.
    tcp: Option<(Tcp, Arc<Counters>)>,
    names: Names,
    desks: Vec<Arc<Desk>>,
    inlet: Arc<Inlet>,
    bell: Arc<Bell>,
    bulletin: Arc<Bulletin>,
    counters: Arc<Counters>,
    lag: Arc<Histogram>,
}

/// The cluster's thread.
#[derive(Debug)]
pub struct PeerThread {
    thread: JoinHandle<()>,
    tcp: Option<TcpThread>,
    bell: Arc<Bell>,
    is_stopping: Arc<AtomicBool>,
}

impl Peer {
    /// Opens DMQ's address; `names` are peers to be looked up.
    ///
    /// # Errors
    /// The address, or a descriptor.
    pub fn open(settings: Settings, names: Vec<NamedPeer>, door: Door) -> Result<Self, PeerError> {
        let address = settings.address;
        let (socket, listener, transmitter, tcp) = match door {
            Door::Own => {
                let socket = exit::bind(address);
                let socket = socket.map_err(|error| PeerError::Bind { address, error })?;
                let counters = Arc::new(Counters::new());
                let own = [(OWN_LISTENER, address)];
                let tcp = Tcp::open(&own, exit::tcp_settings(), Arc::clone(&counters))?;
                let transmitter = tcp.transmitter(NO_WORKER);
                (socket, None, Some(transmitter), Some((tcp, counters)))
            }
            Door::Listener { id, socket, tcp } => (socket, Some(id), tcp, None),
        };
        let bell = Arc::new(Bell::new().map_err(PeerError::Thread)?);
        let desk = |_| Arc::new(Desk::new(Arc::clone(&bell)));
        let inlet = Inlet::new(settings.allow.clone(), listener).map_err(PeerError::Thread)?;
        inlet.set_seeds(settings.seeds.iter().map(NodeAddress::ip));
        Ok(Self {
            desks: (0..settings.workers).map(desk).collect(),
            inlet: Arc::new(inlet),
            names: Names::new(names, address.is_ipv4()),
            settings,
            socket,
            listener,
            transmitter,
            tcp,
            bulletin: Arc::new(Bulletin::new(Arc::clone(&bell))),
            bell,
            counters: Arc::new(Counters::new()),
            lag: Arc::new(Histogram::new()),
        })
    }

    /// The desk of worker `n`.
    #[must_use]
    pub fn desk(&self, n: usize) -> Option<Arc<Desk>> {
        self.desks.get(n).map(Arc::clone)
    }

    /// Where KDMQ that came by a listener is left.
    #[must_use]
    pub fn inlet(&self) -> Arc<Inlet> {
        Arc::clone(&self.inlet)
    }

    /// What it counts, thread by thread.
    pub fn counters(&self) -> impl Iterator<Item = Arc<Counters>> {
        let tcp = self.tcp.as_ref().map(|(_, counters)| Arc::clone(counters));
        std::iter::once(Arc::clone(&self.counters)).chain(tcp)
    }

    /// Wakes its thread, and what that thread counts: for a desk at the resolver's.
    #[must_use]
    pub fn bell(&self) -> (resolve::Bell, Arc<Counters>) {
        let bell = Arc::clone(&self.bell);
        (Box::new(move || bell.ring()), Arc::clone(&self.counters))
    }

    /// Looks names up at this desk.
    pub fn set_resolver(&mut self, desk: resolve::Desk) {
        self.names.set_desk(desk);
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
    pub fn bulletin(&self) -> Arc<Bulletin> {
        Arc::clone(&self.bulletin)
    }

    /// Starts the thread; `wake` wakes a worker.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(self, now: Now, wake: Wake) -> Result<PeerThread, PeerError> {
        let (bell, is_stopping) = (Arc::clone(&self.bell), Arc::new(AtomicBool::new(false)));
        let porter = |counters| Porter {
            inlet: Arc::clone(&self.inlet),
            now: Arc::clone(&now),
            counters,
        };
        let tcp = self.tcp.map(|(tcp, counters)| tcp.start(porter(counters)));
        let tcp = tcp.transpose()?;
        let cluster = Cluster::new(now(), self.settings, Arc::clone(&self.counters));
        let cluster = cluster.with_lag(self.lag);
        let spare = (0..WORK_PARCELS).map(|_| Parcel::new(PARCEL_LEN));
        let office = Office {
            cluster,
            exit: Exit {
                socket: self.socket,
                listener: self.listener.unwrap_or(OWN_LISTENER),
                tcp: self.transmitter,
                spare: spare.collect(),
                desks: self.desks,
                wake,
                counters: self.counters,
            },
            has_own_socket: self.listener.is_none(),
            names: self.names,
            inlet: self.inlet,
            bell: self.bell,
            bulletin: self.bulletin,
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
            tcp,
            bell,
            is_stopping,
        })
    }
}

impl PeerThread {
    /// Whether it has died.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.thread.is_finished() || self.tcp.as_ref().is_some_and(TcpThread::is_dead)
    }

    /// Has it tell the others that we leave, and ends it. What comes by a listener's workers is heard as long as they work.
    pub fn stop(self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.bell.ring();
        // A thread that panicked has said so already.
        let _ = self.thread.join();
        if let Some(tcp) = self.tcp {
            tcp.stop();
        }
    }
}

/// What the thread works with.
struct Office {
    cluster: Cluster,
    exit: Exit,
    /// Whether it receives, too, by the socket that it sends by.
    has_own_socket: bool,
    names: Names,
    inlet: Arc<Inlet>,
    bell: Arc<Bell>,
    bulletin: Arc<Bulletin>,
    now: Now,
    next_report: Instant,
    is_stopping: Arc<AtomicBool>,
}

impl Office {
    /// Works until it is told to stop, and takes leave.
    fn run(mut self) {
        info!(address = %self.cluster.address(), "a node of a cluster");
        // Phones go before nodes; without this the thread works all the same.
        let _ = net::give_way(NICE);
        let mut buffer = vec![0; MESSAGE_LEN_MAX + 1];
        while !self.is_stopping.load(Ordering::SeqCst) {
            let now = (self.now)();
            self.turn(now, &mut buffer);
        }
        let now = (self.now)();
        self.cluster.leave(now, &mut self.exit);
        let deadline = now + LEAVE_TIME;
        while self.cluster.is_taking_leave() && (self.now)() < deadline {
            let now = (self.now)();
            self.turn(now, &mut buffer);
        }
    }

    /// One turn; sleeps where there was nothing to do.
    fn turn(&mut self, now: Instant, buffer: &mut [u8]) {
        let mut worked = self.receive(now, buffer);
        worked |= self.take_letters(now);
        worked |= self.collect(now);
        if self.names.turn(now) {
            let named = self.names.nodes();
            self.cluster.set_named_seeds(now, &named);
            let seeds: Vec<IpAddr> = self.cluster.seeds().map(|node| node.ip()).collect();
            self.inlet.set_seeds(seeds.into_iter());
        }
        if self.cluster.next_deadline().is_some_and(|due| due <= now) {
            self.cluster.on_timeout(now, &mut self.exit);
        }
        if now >= self.next_report || self.bulletin.is_asked() {
            self.next_report = now + REPORT_INTERVAL;
            self.report(now);
        }
        if !worked {
            self.sleep(now);
        }
    }

    fn receive(&mut self, now: Instant, buffer: &mut [u8]) -> bool {
        for taken in 0..RECEIVE_BATCH {
            // Without a parcel for it, it waits in the socket.
            if self.exit.spare.is_empty() || !self.has_own_socket {
                return taken > 0;
            }
            // Nothing there, a signal, or an ICMP error: the next call goes on.
            let Ok((len, from)) = self.exit.socket.recv_from(buffer) else {
                return taken > 0;
            };
            if let Some(bytes) = buffer.get(..len) {
                let from = NodeAddress::udp(from);
                self.cluster.on_message(now, from, bytes, &mut self.exit);
            }
        }
        true
    }

    fn take_letters(&mut self, now: Instant) -> bool {
        for taken in 0..RECEIVE_BATCH {
            // As above: it waits in the inlet.
            let letter = if self.exit.spare.is_empty() {
                None
            } else {
                self.inlet.take()
            };
            let Some(letter) = letter else {
                return taken > 0;
            };
            let node = letter.label.node;
            if letter.label.is_undelivered {
                self.cluster.on_undelivered(now, node, letter.bytes());
            } else {
                let exit = &mut self.exit;
                self.cluster.on_message(now, node, letter.bytes(), exit);
            }
            self.inlet.discard(letter);
        }
        true
    }

    fn collect(&mut self, now: Instant) -> bool {
        let mut worked = false;
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
        let question = self.bulletin.question();
        let nodes = self.cluster.report(now);
        let before = self.bulletin.post(nodes.clone(), question);
        for node in &nodes {
            let before = before.iter().find(|before| before.address == node.address);
            let was = before.map_or(Status::NotActive, |before| before.status);
            if was != node.status && !node.is_local {
                info!(node = %node.address, status = node.status.as_str(), "a node of the cluster");
            }
        }
    }

    fn sleep(&self, now: Instant) {
        self.bell.fall_asleep();
        let is_waiting_for_parcels = self.exit.spare.is_empty();
        let has_letters = !self.inlet.may_sleep() && !is_waiting_for_parcels;
        let has_post = self.exit.desks.iter().any(|desk| desk.has_post());
        let must_go_on =
            has_letters || has_post || self.names.has_answer() || self.bulletin.is_asked();
        let mut was_rung = false;
        if !must_go_on {
            let dues = [self.cluster.next_deadline(), self.names.next_deadline()];
            let due = dues
                .into_iter()
                .flatten()
                .fold(self.next_report, Instant::min);
            // A slice that waits for a parcel is not waited for without a pause.
            let span = due.since(now).as_micros().max(PAUSE_MICROS);
            let timeout = Timespec {
                tv_sec: i64::try_from(span / 1_000_000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(span % 1_000_000).unwrap_or(0) * 1_000,
            };
            let mut fds = [
                PollFd::from_borrowed_fd(self.bell.fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.inlet.as_fd(), PollFlags::IN),
                PollFd::new(&self.exit.socket, PollFlags::IN),
            ];
            // A listener's socket is its worker's to read. Without a parcel, what comes has to wait anyway.
            let polled = if self.has_own_socket && !is_waiting_for_parcels {
                &mut fds[..]
            } else {
                &mut fds[..2]
            };
            // Interrupted or failed, the next turn looks everywhere anyway.
            let _ = poll(polled, Some(&timeout));
            was_rung = fds[1].revents().contains(PollFlags::IN);
        }
        self.bell.awake();
        self.inlet.awake(was_rung);
    }
}

/// How much the thread yields to the workers: a third of their weight.
const NICE: i32 = 5;
/// DMQ's own address, where that is no listener's.
const OWN_LISTENER: ListenerId = ListenerId(0);
/// No worker sends by DMQ's own TCP.
const NO_WORKER: crate::datagram::WorkerId = crate::datagram::WorkerId(0);
/// Datagrams that are taken in one turn.
const RECEIVE_BATCH: usize = 64;
/// How often what is shown is brought up to date.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);
/// The shortest sleep.
const PAUSE_MICROS: u64 = 500;
