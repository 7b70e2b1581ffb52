//! What the configuration asks of a listener, in this layer's words.

use std::fmt;
use std::net::SocketAddr;

use crate::datagram::ListenerId;

/// How a listener is to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BackendChoice {
    /// AF_XDP where it can be had, else the kernel's sockets; the report says why.
    #[default]
    Auto,
    /// AF_XDP, or an error.
    AfXdp,
    /// The kernel's sockets.
    Udp,
}

/// Where in the kernel the XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before the kernel has made anything of the packet.
    Driver,
    /// In the kernel's core, for drivers that have no XDP of their own.
    Generic,
}

impl Mode {
    /// The name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Generic => "generic",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One `[[listen]]` entry.
#[derive(Clone, Debug)]
pub struct ListenerSpec {
    /// Its place in the configuration; no two are equal.
    pub id: ListenerId,
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is to be served.
    pub backend: BackendChoice,
    /// The device for AF_XDP; none: the one that carries the address.
    pub interface: Option<String>,
    /// The device's queues to be served, worker i serving the i-th; none: all.
    pub queues: Option<Vec<u32>>,
    /// Where the XDP program is to run; none: in the driver, else in the kernel's core.
    pub mode: Option<Mode>,
    /// Whether the AF_XDP sockets ask for preferred busy polling; their workers then never sleep.
    pub busy_poll: bool,
}

impl ListenerSpec {
    /// A listener with everything at its default.
    #[must_use]
    pub const fn new(id: ListenerId, address: SocketAddr) -> Self {
        Self {
            id,
            address,
            backend: BackendChoice::Auto,
            interface: None,
            queues: None,
            mode: None,
            busy_poll: false,
        }
    }
}
