//! What may happen in a world, and in which order it does.

use std::net::SocketAddr;
use std::rc::Rc;

use strowger::datagram::Flow;
use strowger::time::{Duration, Instant};

use super::super::agent::Timer;
use super::super::node::{Asked, Packet};

/// What happens at some moment.
pub(crate) enum Event {
    /// A packet arrives.
    Packet(Rc<Packet>),
    /// A worker looks into its mailbox.
    Mail(usize, usize),
    /// A worker is called for its timers.
    Alarm(usize, usize),
    /// An agent's timer.
    Agent(usize, Timer),
    /// An agent is told to do something.
    Order(usize, Order),
    /// ICMP, or a broken connection: this was not delivered.
    Undelivered(usize, Flow, Rc<[u8]>),
    /// The resolver answers.
    Resolved(usize, usize, u64, Asked),
    /// A node's store takes what has changed.
    Flush(usize, u64),
    /// What it took comes back.
    Landed(usize, u64),
    /// Something befalls a node.
    Node(usize, Blow),
    /// A link is cut for a while.
    Cut(SocketAddr, Option<SocketAddr>, Duration),
    /// An agent goes, or comes back.
    Absent(usize, bool),
    /// The bindings are held against what the phones were told.
    CheckBindings,
}

/// What an agent is told.
pub(crate) enum Order {
    Begin(&'static str, String),
    Register,
}

/// What befalls a node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Blow {
    /// It is killed.
    Kill,
    /// It is started; `true` where it forgets its bindings.
    Start(bool),
    Drain,
}

/// An event in its place.
pub(super) struct Scheduled {
    pub(super) at: Instant,
    pub(super) number: u64,
    pub(super) event: Event,
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}
