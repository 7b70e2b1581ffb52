//! A server on the network's API: it sends back what it gets, or what the message asks for.
//!
//! | message | answer |
//! |---|---|
//! | `LOOKUP ...` | itself, by the neighbour cache and not the way it came |
//! | `GROW n` | n bytes |
//! | `TO l a text` | nothing; `text` goes by listener l to address a |
//! | anything else | itself, the way it came |
#![expect(unsafe_code, reason = "poll(2) has no wrapper in std")]

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use strowger::counters::{Counter, Counters};
use strowger::datagram::{Datagram, Flow, ListenerId, Transport};
use strowger::net::{
    self, Attachments, Backend, Link, ListenerReport, ListenerSpec, NetError, Transmitters,
    WorkerPorts,
};
use strowger::time::Instant;

use crate::bed;

/// What ICMP said: the peer, and the datagram's payload.
type Reports = Arc<Mutex<Vec<(SocketAddr, Vec<u8>)>>>;

/// A running echo server.
pub(crate) struct Echo {
    pub(crate) counters: Vec<Arc<Counters>>,
    pub(crate) reports: Vec<ListenerReport>,
    pub(crate) attachments: Attachments,
    pub(crate) unreachable: Reports,
    is_over: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Leaks>>,
}

/// Frames that are not where they should be when a worker ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaks {
    pub(crate) received: usize,
    pub(crate) sent: usize,
}

impl Echo {
    /// Opens the network in a namespace and starts the workers.
    pub(crate) fn start(
        namespace: &str,
        listeners: &[ListenerSpec],
        workers: usize,
    ) -> Result<Self, NetError> {
        let counters: Vec<_> = (0..workers).map(|_| Arc::new(Counters::new())).collect();
        let opened = bed::inside(namespace, || net::open(listeners, workers, &counters))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let unreachable = Arc::new(Mutex::new(Vec::new()));
        let workers = opened
            .workers
            .into_iter()
            .zip(&counters)
            .map(|(ports, counters)| {
                let worker = Worker {
                    ports,
                    counters: Arc::clone(counters),
                    is_over: Arc::clone(&is_over),
                    unreachable: Arc::clone(&unreachable),
                };
                thread::spawn(move || worker.run())
            });
        Ok(Self {
            workers: workers.collect(),
            counters,
            reports: opened.reports,
            attachments: opened.attachments,
            unreachable,
            is_over,
        })
    }

    /// A counter's sum over the workers.
    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.counters
            .iter()
            .map(|counters| counters.read(counter))
            .sum()
    }

    /// Waits until something is so.
    pub(crate) fn eventually(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..500 {
            if is_so(self) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("not within 5 s: {what}");
    }

    /// Ends the workers; every frame must be back.
    pub(crate) fn stop(self) {
        self.is_over.store(true, Ordering::Release);
        for worker in self.workers {
            let leaks = worker.join().expect("the worker ends well");
            assert_eq!(leaks, Leaks::default());
        }
    }
}

/// One worker's thread.
struct Worker {
    ports: WorkerPorts,
    counters: Arc<Counters>,
    is_over: Arc<AtomicBool>,
    unreachable: Reports,
}

impl Worker {
    fn run(mut self) -> Leaks {
        while !self.is_over.load(Ordering::Acquire) {
            self.turn();
            self.sleep();
        }
        // What the device still holds comes back soon.
        for _ in 0..500 {
            self.ports.transmitters.flush();
            if self.ports.transmitters.frames_outstanding() == 0 {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Leaks {
            received: self
                .ports
                .receivers
                .iter()
                .map(|receiver| receiver.frames_missing())
                .sum(),
            sent: self.ports.transmitters.frames_outstanding(),
        }
    }

    /// Serves each receiver once.
    fn turn(&mut self) {
        let Self {
            ports:
                WorkerPorts {
                    receivers,
                    transmitters,
                    ..
                },
            counters,
            ..
        } = self;
        for receiver in receivers {
            let received = match receiver.backend() {
                Backend::AfXdp => Counter::ReceivedAfXdp,
                Backend::Udp => Counter::ReceivedUdp,
            };
            receiver.receive(Instant::EPOCH, &mut |datagram: Datagram<'_>, link| {
                counters.increment(received);
                answer(transmitters, &datagram, link);
            });
            receiver.receive_errors(&mut |error| {
                let mut unreachable = self.unreachable.lock().expect("nobody panics with it");
                unreachable.push((error.peer, error.payload.to_vec()));
            });
        }
        transmitters.flush();
        transmitters.failures(&mut |error| {
            let mut unreachable = self.unreachable.lock().expect("nobody panics with it");
            unreachable.push((error.peer, error.payload.to_vec()));
        });
    }

    /// Waits for a datagram, if nothing is to be flushed.
    fn sleep(&self) {
        let mut fds: Vec<_> = self
            .ports
            .receivers
            .iter()
            .map(|receiver| libc::pollfd {
                fd: receiver.fd().as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        let is_awake = self.ports.busy_poll || !self.ports.transmitters.is_idle();
        let timeout_ms = if is_awake { 0 } else { 20 };
        // SAFETY: the vector is live for the call, and its length is what is said.
        unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) };
    }
}

/// Does what a message asks for.
fn answer(transmitters: &mut Transmitters, datagram: &Datagram<'_>, link: Option<Link>) {
    let text = std::str::from_utf8(datagram.bytes).unwrap_or_default();
    let words: Vec<_> = text.splitn(4, ' ').collect();
    // A refusal is counted, and the tests read the counters.
    let _ = match words.as_slice() {
        ["LOOKUP", ..] => send(transmitters, &datagram.flow, None, datagram.bytes),
        ["GROW", len, ..] => {
            let bytes = vec![b'g'; len.parse().expect("a length")];
            send(transmitters, &datagram.flow, link, &bytes)
        }
        ["TO", listener, peer, text] => {
            let flow = Flow {
                listener: ListenerId(listener.parse().expect("a number")),
                transport: Transport::Udp,
                peer: peer.parse().expect("an address"),
            };
            send(transmitters, &flow, None, text.as_bytes())
        }
        _ => send(transmitters, &datagram.flow, link, datagram.bytes),
    };
}

/// Sends bytes.
fn send(
    transmitters: &mut Transmitters,
    flow: &Flow,
    link: Option<Link>,
    bytes: &[u8],
) -> Result<(), net::SendError> {
    transmitters.send(flow, link, bytes.len(), |buffer| {
        buffer.copy_from_slice(bytes)
    })
}
