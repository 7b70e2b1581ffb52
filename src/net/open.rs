//! Opening the network: what each listener asks for, what it gets, and why not where it gets less.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::attachments::Attachments;
use super::error::NetError;
use super::listener::{ListenerSpec, Mode};
use super::neighbor::{NeighborThread, Neighbors, Origin};
use super::plan::{self, DevicePlan};
use super::port::Receiver;
use super::privilege;
use super::report::{DeviceReport, Got, ListenerReport, QueueReport};
use super::transmitters::{ListenerTransmitter, Transmitters};
use super::udp::{UdpReceiver, UdpSocket, UdpTransmitter};
use super::xdp::program::Program;
use super::xdp::receiver::{Demultiplexer, XdpReceiver};
use super::xdp::socket::{self, QueueSocket, SocketError, Statistics};
use super::xdp::transmitter::XdpTransmitter;
use crate::counters::Counters;
use crate::datagram::ListenerId;
use crate::limits::{LISTENERS_MAX, WORKERS_MAX};

/// The open network.
#[derive(Debug)]
pub struct Opened {
    /// What each worker gets, by its number.
    pub workers: Vec<WorkerPorts>,
    /// What each listener got, in the order of the specifications.
    pub reports: Vec<ListenerReport>,
    /// What must live as long as the workers do.
    pub attachments: Attachments,
}

/// One worker's ports.
pub struct WorkerPorts {
    /// Where datagrams come from: its AF_XDP sockets first, then the kernel's.
    pub receivers: Vec<Box<dyn Receiver + Send>>,
    /// By which messages leave.
    pub transmitters: Transmitters,
    /// Whether the worker is never to sleep, but to ask its receivers again and again.
    pub busy_poll: bool,
}

impl fmt::Debug for WorkerPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPorts")
            .field("receivers", &self.receivers.len())
            .field("transmitters", &self.transmitters)
            .field("busy_poll", &self.busy_poll)
            .finish()
    }
}

/// Opens everything for `workers` workers, in the calling thread's network namespace. `counters` are the workers'.
///
/// # Errors
/// A listener that must have AF_XDP cannot, an address cannot be bound, or the arguments contradict each other. A listener
/// that may have either backend is an error only where it can have neither.
pub fn open(
    listeners: &[ListenerSpec],
    workers: usize,
    counters: &[Arc<Counters>],
) -> Result<Opened, NetError> {
    check(listeners, workers, counters)?;
    let (mut plans, mut refusals) = plan::plan(listeners, workers)?;
    // The kernel's sockets first: an address that is taken shows before anything is attached, and what the program does not
    // redirect yet has somewhere to go.
    let sockets = bind(listeners, workers)?;

    let neighbors = Arc::new(Neighbors::new().map_err(system("a descriptor"))?);
    let mut opened = Vec::new();
    for plan in plans.drain(..) {
        match open_device(&plan) {
            Ok(device) => opened.push((plan, device)),
            Err(error) if plan.is_required => return Err(error),
            Err(error) => {
                let why = error.to_string();
                refusals.extend(plan.listeners.iter().map(|(_, id)| (*id, why.clone())));
            }
        }
    }
    let mut assembly = Assembly::new(listeners, &sockets, counters);
    for (plan, device) in opened {
        assembly.add_device(&plan, device, &neighbors);
    }
    assembly.finish(listeners, &refusals, &neighbors)
}

/// What one interface yielded.
pub(super) struct OpenDevice {
    program: Program,
    queues: Vec<QueueSocket>,
    pub(super) report: DeviceReport,
}

/// Attaches the program and opens the sockets: in the mode that is asked for, or in the driver, or else in the kernel's core.
pub(super) fn open_device(plan: &DevicePlan) -> Result<OpenDevice, NetError> {
    let Some(mode) = plan.mode else {
        return match open_in_mode(plan, Mode::Driver, None) {
            // Another's program is in the way of either mode, and a privilege is missing for both.
            Err(error @ (NetError::Busy { .. } | NetError::Privilege { .. })) => Err(error),
            Err(error) => open_in_mode(plan, Mode::Generic, Some(error.to_string())),
            opened => opened,
        };
    };
    open_in_mode(plan, mode, None)
}

/// One attempt.
fn open_in_mode(
    plan: &DevicePlan,
    mode: Mode,
    why_not_driver: Option<String>,
) -> Result<OpenDevice, NetError> {
    let device = &plan.device;
    let last = plan.queues.iter().max().copied().unwrap_or(0);
    let mut program = Program::load(device.queues.max(last + 1))?;
    patiently(
        || program.attach(device.index, &device.name, mode),
        |error| matches!(error, NetError::Busy { .. }),
    )?;
    let mut queues = Vec::new();
    let mut reports = Vec::new();
    for queue in &plan.queues {
        let socket = patiently(
            || socket::open(&device.name, *queue, mode, plan.busy_poll),
            |error| error.source.raw_os_error() == Some(libc::EBUSY),
        );
        let socket = socket.map_err(|error| socket_error(error, &device.name, *queue))?;
        program
            .register(*queue, socket.statistics.fd())
            .map_err(NetError::Load)?;
        reports.push(QueueReport {
            queue: *queue,
            is_zero_copy: socket.is_zero_copy,
            huge_pages: socket.huge_pages,
        });
        queues.push(socket);
    }
    // Last of all: from here on packets come.
    for (address, id) in &plan.listeners {
        program.serve(*address, *id).map_err(NetError::Load)?;
    }
    let report = DeviceReport {
        interface: device.name.clone(),
        mode,
        why_not_driver,
        queues: reports,
    };
    Ok(OpenDevice {
        program,
        queues,
        report,
    })
}

/// Tries until it is no longer busy, for a while: the kernel lets go of what a killed process had a moment after its end.
pub(crate) fn patiently<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    is_busy: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let until = Instant::now() + BUSY_FOR;
    loop {
        match attempt() {
            Err(error) if is_busy(&error) && Instant::now() < until => thread::sleep(BUSY_STEP),
            result => return result,
        }
    }
}

/// Sorts a socket's failure.
fn socket_error(error: SocketError, interface: &str, queue: u32) -> NetError {
    let SocketError { what, source } = error;
    // ENOBUFS is what a UMEM beyond RLIMIT_MEMLOCK gets.
    if NetError::refused(&source) || source.raw_os_error() == Some(libc::ENOBUFS) {
        return NetError::Privilege {
            what: format!("no AF_XDP socket for queue {queue} of {interface}: {what}"),
            advice: privilege::advice(),
            source,
        };
    }
    NetError::Socket {
        interface: interface.to_owned(),
        queue,
        what,
        source,
    }
}

/// Binds the kernel's sockets: one a worker for each listener.
fn bind(listeners: &[ListenerSpec], workers: usize) -> Result<Vec<Vec<Arc<UdpSocket>>>, NetError> {
    let failed = |address| move |source| NetError::Udp { address, source };
    for listener in listeners {
        patiently(
            || UdpSocket::probe(listener.address),
            |error| error.kind() == io::ErrorKind::AddrInUse,
        )
        .map_err(failed(listener.address))?;
    }
    (0..workers)
        .map(|_| {
            listeners
                .iter()
                .map(|listener| {
                    let socket = UdpSocket::bind(listener.address);
                    socket.map(Arc::new).map_err(failed(listener.address))
                })
                .collect()
        })
        .collect()
}

/// The workers' ports as they come together.
struct Assembly {
    workers: Vec<WorkerAssembly>,
    programs: Vec<(String, Program)>,
    statistics: Vec<Statistics>,
    origins: Vec<Origin>,
    got: Vec<(ListenerId, DeviceReport)>,
    /// The addresses of all listeners.
    own: Arc<[IpAddr]>,
}

/// One worker's.
struct WorkerAssembly {
    receivers: Vec<Box<dyn Receiver + Send>>,
    kernel_receivers: Vec<UdpReceiver>,
    listeners: Vec<(ListenerId, ListenerTransmitter)>,
    queues: Vec<XdpTransmitter>,
    counters: Arc<Counters>,
    busy_poll: bool,
}

impl Assembly {
    /// Begins with the kernel's sockets.
    fn new(
        listeners: &[ListenerSpec],
        sockets: &[Vec<Arc<UdpSocket>>],
        counters: &[Arc<Counters>],
    ) -> Self {
        let workers = sockets.iter().zip(counters).map(|(sockets, counters)| {
            let mut worker = WorkerAssembly {
                receivers: Vec::new(),
                kernel_receivers: Vec::new(),
                listeners: Vec::new(),
                queues: Vec::new(),
                counters: Arc::clone(counters),
                busy_poll: false,
            };
            for (listener, socket) in listeners.iter().zip(sockets) {
                let receiver =
                    UdpReceiver::new(Arc::clone(socket), listener.id, Arc::clone(counters));
                worker.kernel_receivers.push(receiver);
                let kernel = UdpTransmitter::new(Arc::clone(socket), Arc::clone(counters));
                worker.listeners.push((
                    listener.id,
                    ListenerTransmitter {
                        kernel,
                        queue: None,
                    },
                ));
            }
            worker
        });
        Self {
            workers: workers.collect(),
            programs: Vec::new(),
            statistics: Vec::new(),
            origins: Vec::new(),
            got: Vec::new(),
            own: listeners
                .iter()
                .map(|listener| listener.address.ip())
                .collect(),
        }
    }

    /// Adds an interface: its i-th queue is worker i's.
    fn add_device(&mut self, plan: &DevicePlan, opened: OpenDevice, neighbors: &Arc<Neighbors>) {
        let demultiplexer = Demultiplexer::new(
            Arc::clone(&plan.device),
            plan.listeners.clone(),
            Arc::clone(&self.own),
        );
        for (worker, queue) in self.workers.iter_mut().zip(opened.queues) {
            let receiver = XdpReceiver::new(
                queue.rx,
                demultiplexer.clone(),
                Arc::clone(&worker.counters),
            );
            worker.receivers.push(Box::new(receiver));
            let place = worker.queues.len();
            // Apart by a prime, so that two queues' identifications meet late.
            let seed = u16::try_from(self.statistics.len())
                .unwrap_or(0)
                .wrapping_mul(10_007);
            worker.queues.push(XdpTransmitter::new(
                queue.tx,
                Arc::clone(&plan.device),
                Arc::clone(neighbors),
                seed,
            ));
            for (id, listener) in &mut worker.listeners {
                if plan.listeners.iter().any(|(_, planned)| planned == id) {
                    listener.queue = Some(place);
                }
            }
            for receiver in &mut worker.kernel_receivers {
                if plan
                    .listeners
                    .iter()
                    .any(|(_, planned)| *planned == receiver.listener())
                {
                    receiver.tell(Arc::clone(neighbors));
                }
            }
            worker.busy_poll |= plan.busy_poll;
            self.statistics.push(queue.statistics);
        }
        for (address, id) in &plan.listeners {
            self.origins.push(Origin {
                listener: *id,
                address: address.ip(),
                device: Arc::clone(&plan.device),
            });
            self.got.push((*id, opened.report.clone()));
        }
        self.programs
            .push((opened.report.interface, opened.program));
    }

    /// Starts the neighbour thread, if anybody needs it, and hands everything out.
    fn finish(
        self,
        listeners: &[ListenerSpec],
        refusals: &[(ListenerId, String)],
        neighbors: &Arc<Neighbors>,
    ) -> Result<Opened, NetError> {
        let thread = if self.origins.is_empty() {
            None
        } else {
            let thread = NeighborThread::start(Arc::clone(neighbors), self.origins);
            Some(thread.map_err(system("the neighbour thread cannot be started"))?)
        };
        let reports = listeners
            .iter()
            .map(|listener| {
                let device = self.got.iter().find(|(id, _)| *id == listener.id);
                let refusal = refusals.iter().find(|(id, _)| *id == listener.id);
                let got = device.map_or_else(
                    || Got::Udp {
                        why_not: refusal.map(|(_, why)| why.clone()),
                    },
                    |(_, report)| Got::AfXdp(report.clone()),
                );
                ListenerReport {
                    id: listener.id,
                    address: listener.address,
                    got,
                }
            })
            .collect();
        let workers = self
            .workers
            .into_iter()
            .map(WorkerAssembly::finish)
            .collect();
        let attachments = Attachments::new(self.programs, self.statistics, thread);
        Ok(Opened {
            workers,
            reports,
            attachments,
        })
    }
}

impl WorkerAssembly {
    /// The finished ports.
    fn finish(mut self) -> WorkerPorts {
        for receiver in self.kernel_receivers {
            self.receivers.push(Box::new(receiver));
        }
        WorkerPorts {
            receivers: self.receivers,
            transmitters: Transmitters::new(self.listeners, self.queues, self.counters),
            busy_poll: self.busy_poll,
        }
    }
}

/// Refuses arguments that contradict each other.
fn check(
    listeners: &[ListenerSpec],
    workers: usize,
    counters: &[Arc<Counters>],
) -> Result<(), NetError> {
    if workers == 0 || workers > WORKERS_MAX || counters.len() != workers {
        return Err(NetError::Arguments(
            "from 1 to 64 workers are needed, each with its counters",
        ));
    }
    if listeners.is_empty() || listeners.len() > LISTENERS_MAX {
        return Err(NetError::Arguments("from 1 to 16 listeners are needed"));
    }
    let is_twice = listeners.iter().enumerate().any(|(place, listener)| {
        let earlier = listeners.iter().take(place);
        earlier
            .into_iter()
            .any(|other| other.id == listener.id || other.address == listener.address)
    });
    if is_twice {
        return Err(NetError::Arguments(
            "two listeners have the same address or the same number",
        ));
    }
    Ok(())
}

/// A failure of a system call that a sound host does not refuse.
fn system(what: &'static str) -> impl Fn(std::io::Error) -> NetError {
    move |source| NetError::System { what, source }
}

/// How long what a killed process had may stay busy: its memory is taken back first, then its sockets, then its program.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// The time between two attempts.
const BUSY_STEP: Duration = Duration::from_millis(10);
