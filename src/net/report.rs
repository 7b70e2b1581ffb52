//! What the listeners got, to be logged and shown.

use std::fmt;
use std::net::SocketAddr;

use super::listener::Mode;
use crate::datagram::ListenerId;

/// What a listener got.
#[derive(Clone, Debug)]
pub struct ListenerReport {
    /// Which listener.
    pub id: ListenerId,
    /// Where it listens.
    pub address: SocketAddr,
    /// By what.
    pub got: Got,
}

/// By what a listener is served.
#[derive(Clone, Debug)]
pub enum Got {
    /// By AF_XDP, and the kernel's sockets for what that leaves over.
    AfXdp(DeviceReport),
    /// By the kernel's sockets alone; with the reason, where AF_XDP would have been preferred.
    Udp {
        /// Why it is not AF_XDP, and what to do about it.
        why_not: Option<String>,
    },
}

/// What an interface got.
#[derive(Clone, Debug)]
pub struct DeviceReport {
    /// Its name.
    pub interface: String,
    /// Where the XDP program runs.
    pub mode: Mode,
    /// Why it does not run in the driver, where that was tried.
    pub why_not_driver: Option<String>,
    /// Its queues, by the worker that serves each.
    pub queues: Vec<QueueReport>,
}

/// What a queue got.
#[derive(Clone, Copy, Debug)]
pub struct QueueReport {
    /// Its number.
    pub queue: u32,
    /// Whether packets reach us without being copied.
    pub is_zero_copy: bool,
    /// Whether its memory lies on huge pages.
    pub huge_pages: bool,
}

impl fmt::Display for ListenerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.address)?;
        match &self.got {
            Got::AfXdp(report) => write!(f, "{report}"),
            Got::Udp { why_not: None } => f.write_str("udp"),
            Got::Udp { why_not: Some(why) } => write!(f, "udp, not af_xdp: {why}"),
        }
    }
}

impl fmt::Display for DeviceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "af_xdp on {}, {} mode, ", self.interface, self.mode)?;
        for (worker, queue) in self.queues.iter().enumerate() {
            let comma = if worker == 0 { "" } else { ", " };
            let copy = if queue.is_zero_copy {
                "zero-copy"
            } else {
                "copy"
            };
            let pages = if queue.huge_pages {
                "huge pages"
            } else {
                "small pages"
            };
            write!(
                f,
                "{comma}queue {} ({copy}, {pages}) by worker {worker}",
                queue.queue
            )?;
        }
        match &self.why_not_driver {
            Some(why) => write!(f, "; not in driver mode: {why}"),
            None => Ok(()),
        }
    }
}
