//! The kernel's UDP sockets: the `udp` backend, and what AF_XDP leaves over.
//!
//! Every worker has one for each listener, on one (address, port) by SO_REUSEPORT. On a listener of AF_XDP they receive what
//! the XDP program passes (reassembled fragments, packets longer than a frame), hear of ICMP errors, and send what does not
//! fit the MTU or has no known next hop.

mod errors;
mod name;
mod receiver;
mod socket;
mod transmitter;

pub(super) use receiver::UdpReceiver;
pub(super) use socket::UdpSocket;
pub(super) use transmitter::UdpTransmitter;
