//! The neighbour cache: by which MAC address a destination is reached.
//!
//! Workers look up without a lock and without waiting; what is not there they leave to a question, and send that one message
//! by the kernel's socket. One thread answers the questions from netlink, and keeps the answers true by netlink's events.

mod resolver;
mod table;

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_queue::ArrayQueue;

use self::resolver::Resolver;
use self::table::{Answer, Table};
use super::device::Device;
use super::poll::EventFd;
use crate::datagram::ListenerId;
use crate::limits::NEIGHBOR_QUESTIONS_MAX;
use crate::wire::ethernet::Mac;

/// What the cache says of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// A frame to this MAC address gets there.
    Known {
        /// The next hop's.
        mac: Mac,
        /// The path's MTU, where it is narrower than the interface's.
        mtu: usize,
    },
    /// The destination is reached by another interface, by a tunnel, or not at all: the kernel knows.
    Kernel,
    /// Not known yet.
    Unknown,
}

/// The cache.
#[derive(Debug)]
pub(super) struct Neighbors {
    table: Table,
    questions: ArrayQueue<(ListenerId, IpAddr)>,
    wake: EventFd,
    /// Whether the thread has been woken and has not looked yet.
    is_woken: AtomicBool,
    is_over: AtomicBool,
}

/// The thread that fills the cache; dropping this ends it.
#[derive(Debug)]
pub(super) struct NeighborThread {
    neighbors: Arc<Neighbors>,
    thread: Option<JoinHandle<()>>,
}

/// A listener whose destinations are to be looked up.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) listener: ListenerId,
    /// The source address of what it sends.
    pub(super) address: IpAddr,
    /// The interface whose AF_XDP sockets send for it.
    pub(super) device: Arc<Device>,
}

impl Neighbors {
    /// An empty cache that nobody fills.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            table: Table::new(),
            questions: ArrayQueue::new(NEIGHBOR_QUESTIONS_MAX),
            wake: EventFd::new()?,
            is_woken: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        })
    }

    /// Looks a destination up; a question is asked where there is no answer yet.
    pub(super) fn look_up(&self, listener: ListenerId, destination: IpAddr) -> Lookup {
        match self.table.find(listener, destination) {
            Some(Answer::NextHop { hop, mtu }) => match self.table.mac(hop) {
                Some(mac) => Lookup::Known {
                    mac,
                    mtu: usize::from(mtu),
                },
                // The kernel resolves it for the message that it is about to get, and its event tells us.
                None => Lookup::Unknown,
            },
            Some(Answer::Kernel) => Lookup::Kernel,
            None => {
                self.ask(listener, destination);
                Lookup::Unknown
            }
        }
    }

    /// Has a destination looked up anew: the path's MTU has changed.
    pub(super) fn ask(&self, listener: ListenerId, destination: IpAddr) {
        // Full: it is asked again at the next message.
        let _ = self.questions.push((listener, destination));
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.wake.wake();
        }
    }
}

impl NeighborThread {
    /// Starts the thread, in the calling thread's network namespace.
    pub(super) fn start(neighbors: Arc<Neighbors>, origins: Vec<Origin>) -> io::Result<Self> {
        let mut resolver = Resolver::new(Arc::clone(&neighbors), origins)?;
        let thread = thread::Builder::new()
            .name("neighbors".to_owned())
            .spawn(move || resolver.run())?;
        Ok(Self {
            neighbors,
            thread: Some(thread),
        })
    }
}

impl Drop for NeighborThread {
    fn drop(&mut self) {
        self.neighbors.is_over.store(true, Ordering::Release);
        self.neighbors.wake.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of its own it has reported already.
            let _ = thread.join();
        }
    }
}

impl AsFd for Neighbors {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
