//! What passes between the shell and the core: a received message, and the way an outgoing one takes.

use std::net::SocketAddr;

use crate::time::Instant;

/// A worker: a thread that owns a core, a queue of every interface, and its transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u8);

/// A `[[listen]]` entry, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u8);

/// The transport protocol of a [`Flow`] (RFC 3261 18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One message a datagram; transactions retransmit.
    Udp,
    /// A stream, framed by Content-Length; transactions do not retransmit.
    Tcp,
}

impl Transport {
    /// Whether the transport itself delivers or reports failure, so that Timers A, E and G stay off (RFC 3261 17).
    #[must_use]
    pub const fn is_reliable(self) -> bool {
        matches!(self, Self::Tcp)
    }

    /// The name in a Via's sent-protocol.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// The way between us and a neighbour: which of our listeners, by which transport, and the other end's address.
///
/// A message came in by a flow, or leaves by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Our end.
    pub listener: ListenerId,
    /// The transport.
    pub transport: Transport,
    /// The other end: what the packet's source was, or what its destination will be.
    pub peer: SocketAddr,
}

/// Where a next hop may be reached: one of the answers to a [question](crate::proxy::Question) (RFC 3263 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The transport.
    pub transport: Transport,
    /// The address and port.
    pub address: SocketAddr,
}

/// One message as it came off the wire.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The payload, borrowed from the ring that received it.
    pub bytes: &'a [u8],
    /// Whence it came.
    pub flow: Flow,
    /// When the worker that first received it took it from the ring.
    pub received_at: Instant,
    /// Whether another worker has handed it to this one already: then it is not handed on again.
    pub handed_off: bool,
}
