//! Why the network could not be opened: each message names what is missing and what to do about it.

use std::io;
use std::net::SocketAddr;

use super::listener::Mode;

/// A failure to set up. The hot path has [`super::SendError`].
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The arguments contradict each other: a mistake of the caller.
    #[error("{0}")]
    Arguments(&'static str),
    /// A wildcard address asks for AF_XDP.
    #[error(
        "{address} is a wildcard, and AF_XDP needs a concrete address: write one, or backend = \"udp\""
    )]
    Wildcard {
        /// What was to be listened on.
        address: SocketAddr,
    },
    /// No interface carries the address.
    #[error(
        "no interface has the address {address}: add it (`ip address add`), or name the interface of its network"
    )]
    NoInterface {
        /// What was to be listened on.
        address: SocketAddr,
    },
    /// No interface has the name.
    #[error("there is no interface {interface}: `ip link` lists them")]
    UnknownInterface {
        /// The name.
        interface: String,
    },
    /// The loopback interface, chosen by the address and not by name.
    #[error(
        "{address} is on the loopback interface, which gains nothing from AF_XDP: name it (interface = \"lo\") to have \
         it in generic mode all the same"
    )]
    Loopback {
        /// What was to be listened on.
        address: SocketAddr,
    },
    /// More queues than workers.
    #[error(
        "{interface} has {queues} queues to serve and there are {workers} workers, one a queue: set [workers] count = \
         {queues}, or name fewer queues (queues = [..]), or have fewer (`ethtool -L {interface} combined {workers}`)"
    )]
    TooManyQueues {
        /// The interface.
        interface: String,
        /// Queues to be served.
        queues: usize,
        /// Workers there are.
        workers: usize,
    },
    /// A queue that the interface does not have, or one named twice.
    #[error(
        "queue {queue} of {interface} is named twice or does not exist: it has queues 0 to {last} (`ethtool -l {interface}`)"
    )]
    NoSuchQueue {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// The last queue that it has.
        last: u32,
    },
    /// Two listeners ask different things of one interface.
    #[error(
        "the listeners on {interface} differ in `{setting}`, and one XDP program serves them all: write the same for each"
    )]
    Conflict {
        /// The interface.
        interface: String,
        /// The setting's name.
        setting: &'static str,
    },
    /// The kernel refuses for want of privilege.
    #[error("{what}: the kernel refuses ({source}); {advice}")]
    Privilege {
        /// What was attempted.
        what: String,
        /// What to do.
        advice: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The XDP program does not load.
    #[error("the XDP program does not load: {0}; Linux 5.18 or later is needed")]
    Load(#[source] libbpf_rs::Error),
    /// Another XDP program is on the interface.
    #[error(
        "another XDP program is attached to {interface}: `ip link set dev {interface} xdp off` (or xdpgeneric) removes one \
         that an earlier process left behind"
    )]
    Busy {
        /// The interface.
        interface: String,
    },
    /// The program cannot be attached.
    #[error("the XDP program cannot be attached to {interface} in {mode} mode: {source}")]
    Attach {
        /// The interface.
        interface: String,
        /// Where it was to run.
        mode: Mode,
        /// What the kernel said.
        source: io::Error,
    },
    /// An AF_XDP socket cannot be had.
    #[error(
        "no AF_XDP socket for queue {queue} of {interface}: {what}: {source}{}",
        socket_advice(source)
    )]
    Socket {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// The step that failed.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel's UDP socket cannot be had.
    #[error("cannot listen on {address} (UDP): {source}{}", bind_advice(source))]
    Udp {
        /// What was to be listened on.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The address cannot be listened on for TCP.
    #[error("cannot listen on {address} (TCP): {source}{}", listen_advice(source))]
    Tcp {
        /// What was to be listened on.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Netlink, or another system call that does not fail on a sound host.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl NetError {
    /// Sorts a refusal out of other failures: EPERM and EACCES, and ENOBUFS where memory is to be pinned, ask for advice.
    pub(super) fn refused(source: &io::Error) -> bool {
        matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES))
    }
}

/// What to add where an AF_XDP socket was refused.
fn socket_advice(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EBUSY) => "; another process has an AF_XDP socket there (`ss --xdp -p`)",
        Some(libc::EAFNOSUPPORT) => "; this kernel is built without CONFIG_XDP_SOCKETS",
        _ => "",
    }
}

/// What to add where a bind for TCP failed.
fn listen_advice(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            "; `ss -tlpn` shows who has it, and tcp = false in its [[listen]] does without"
        }
        _ => bind_advice(source),
    }
}

/// What to add where a bind failed.
fn bind_advice(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => "; `ss -ulpn` shows who has it",
        Some(libc::EADDRNOTAVAIL) => "; `ip address` shows what this host has",
        Some(libc::EACCES) => "; a port below 1024 takes CAP_NET_BIND_SERVICE",
        _ => "",
    }
}
