//! The network: AF_XDP sockets and the kernel's UDP sockets behind one face.
//!
//! [`open()`] gives every worker its [`WorkerPorts`]: receivers, each one AF_XDP socket of a queue or one UDP socket of a
//! listener, and [`Transmitters`]. What must live beside the workers is in [`Attachments`].
//!
//! This layer knows packets and sockets; of SIP it knows where a message ends in a stream, for [`tcp`], and no more. It starts
//! two threads: one keeps the neighbour cache, and one has the TCP connections.

mod attachments;
mod conveyor;
mod device;
mod error;
pub(crate) mod ethtool;
mod listener;
mod neighbor;
mod netlink;
mod open;
mod plan;
mod poll;
mod port;
pub mod privilege;
mod report;
mod slice;
mod survey;
pub mod tcp;
mod transmitters;
mod udp;
mod xdp;

pub use attachments::Attachments;
pub use conveyor::{Conveyor, Parcel};
pub use error::NetError;
pub use listener::{BackendChoice, ListenerSpec, Mode};
pub(crate) use open::patiently;
pub use open::{Opened, WorkerPorts, open};
pub use port::{Backend, Intake, Link, Receiver, SendError, Unreachable};
pub use report::{DeviceReport, Got, ListenerReport, QueueReport};
pub use slice::{give_way, shorten_slices};
pub use survey::{Interface, interfaces, probe};
pub use transmitters::Transmitters;
pub use xdp::program::{Program, Verdict, Verdicts};

/// The addresses that this host has now, link-local ones left out.
///
/// # Errors
/// When the kernel does not answer.
pub fn local_addresses() -> std::io::Result<Vec<std::net::IpAddr>> {
    netlink::Requests::new()?.addresses()
}
