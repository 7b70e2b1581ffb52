//! By what a node is known: an address, and the transport that it is spoken to by.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::datagram::Transport;
use crate::sip::Uri;

/// A node's address: what stands in its URI, and where its messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeAddress {
    /// The transport.
    pub transport: Transport,
    /// The address and port.
    pub socket: SocketAddr,
}

impl NodeAddress {
    /// One that is spoken to by UDP.
    #[must_use]
    pub const fn udp(socket: SocketAddr) -> Self {
        Self {
            transport: Transport::Udp,
            socket,
        }
    }

    /// The address without the port.
    #[must_use]
    pub const fn ip(&self) -> IpAddr {
        self.socket.ip()
    }

    /// What a node's URI says, with `named` for a name's address; none where that is not known, or of a transport that we do not speak.
    pub(super) fn of(uri: &Uri<'_>, named: Option<IpAddr>) -> Option<Self> {
        let transport = match uri.param(b"transport").flatten() {
            None => Transport::Udp,
            Some(name) if name.eq_ignore_ascii_case(b"udp") => Transport::Udp,
            Some(name) if name.eq_ignore_ascii_case(b"tcp") => Transport::Tcp,
            Some(_) => return None,
        };
        let socket = SocketAddr::new(uri.host.ip().or(named)?, uri.port.unwrap_or(SIP_PORT));
        let is_one_host = !socket.ip().is_unspecified() && !socket.ip().is_multicast();
        (socket.port() != 0 && is_one_host).then_some(Self { transport, socket })
    }
}

/// As Kamailio writes it behind `sip:`: the port always, the transport where it is not UDP. It compares these as texts.
impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Udp => write!(f, "{}", self.socket),
            Transport::Tcp => write!(f, "{};transport=tcp", self.socket),
        }
    }
}

const SIP_PORT: u16 = 5_060;
