//! By what the cluster's thread sends: DMQ's own socket or a listener's, and a TCP thread's connections.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tracing::debug;

use super::desk::Desk;
use super::inlet::{Inlet, InletError};
use super::{Now, Wake};
use crate::counters::{Counter, Counters};
use crate::datagram::{Datagram, Flow, ListenerId, Transport, WorkerId};
use crate::limits::{
    KDMQ_CONNECTION_IDLE, KDMQ_CONNECTIONS_MAX, KDMQ_CONNECTIONS_PER_NODE, UDP_SOCKET_BUFFER_LEN,
    WORK_PARCELS,
};
use crate::net::tcp::{Busy, Delivered, Recipient, TcpSettings, TcpTransmitter};
use crate::replication::{NodeAddress, Output, Parcel};
use crate::time::Instant;

/// What the cluster acts through.
pub(super) struct Exit {
    /// Its own, or a second handle of a listener's.
    pub(super) socket: UdpSocket,
    /// The listener by which connections are opened.
    pub(super) listener: ListenerId,
    pub(super) tcp: Option<TcpTransmitter>,
    pub(super) spare: Vec<Parcel>,
    pub(super) desks: Vec<Arc<Desk>>,
    pub(super) wake: Wake,
    pub(super) counters: Arc<Counters>,
}

impl Output for Exit {
    fn send(&mut self, to: NodeAddress, message: &[u8]) {
        let is_sent = match to.transport {
            Transport::Udp => self.send_datagram(to.socket, message),
            Transport::Tcp => self.send_by_stream(to.socket, message),
        };
        if !is_sent {
            debug!(node = %to, "not sent");
            self.counters.increment(Counter::ClusterDropUnsendable);
        }
    }

    fn blank(&mut self) -> Option<Parcel> {
        self.spare.pop()
    }

    fn blank_for_walk(&mut self) -> Option<Parcel> {
        let has_enough = self.spare.len() > WORK_PARCELS / 2;
        has_enough.then(|| self.spare.pop()).flatten()
    }

    fn give_back(&mut self, parcel: Parcel) {
        self.spare.push(parcel);
    }

    fn give(&mut self, worker: usize, parcel: Parcel) {
        match self.desks.get(worker) {
            Some(desk) => {
                desk.give(parcel);
                (self.wake)(worker);
            }
            None => self.spare.push(parcel),
        }
    }
}

impl Exit {
    fn send_datagram(&self, to: SocketAddr, message: &[u8]) -> bool {
        // What ICMP said of an earlier datagram is told once, by whatever the socket does next.
        (0..2).any(|_| self.socket.send_to(message, to).is_ok())
    }

    fn send_by_stream(&self, peer: SocketAddr, message: &[u8]) -> bool {
        let flow = Flow {
            listener: self.listener,
            transport: Transport::Tcp,
            peer,
        };
        let copy = |room: &mut [u8]| room.copy_from_slice(message);
        let tcp = self.tcp.as_ref();
        tcp.is_some_and(|tcp| tcp.send(&flow, message.len(), copy).is_ok())
    }
}

/// Takes what comes by DMQ's own TCP.
pub(super) struct Porter {
    pub(super) inlet: Arc<Inlet>,
    pub(super) now: Now,
    /// Its thread's own.
    pub(super) counters: Arc<Counters>,
}

impl Recipient for Porter {
    fn now(&self) -> Instant {
        (self.now)()
    }

    fn deliver(&mut self, message: &Datagram<'_>, _: usize) -> Result<Delivered, Busy> {
        let from = NodeAddress {
            transport: Transport::Tcp,
            socket: message.flow.peer,
        };
        match self.inlet.post(from, message.bytes) {
            Ok(()) if message.bytes.starts_with(b"SIP/2.0 ") => Ok(Delivered::Sip),
            Ok(()) => Ok(Delivered::Request),
            Err(InletError::NotAllowed) => {
                self.counters.increment(Counter::ClusterDropNotAllowed);
                Ok(Delivered::Noise)
            }
            // The stream is not read on meanwhile.
            Err(InletError::Full) => Err(Busy),
        }
    }

    fn give_back(&mut self, _: WorkerId, flow: &Flow, sent: &[u8]) -> Result<(), Busy> {
        let node = NodeAddress {
            transport: Transport::Tcp,
            socket: flow.peer,
        };
        self.inlet.give_back(node, sent).map_err(|_| Busy)
    }
}

/// The bounds of DMQ's own TCP.
pub(super) const fn tcp_settings() -> TcpSettings {
    TcpSettings {
        connections_max: KDMQ_CONNECTIONS_MAX,
        per_source_max: KDMQ_CONNECTIONS_PER_NODE,
        idle: KDMQ_CONNECTION_IDLE,
    }
}

/// Binds DMQ's own address.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Less, where the system allows no more, is no error.
    let _ = socket.set_recv_buffer_size(UDP_SOCKET_BUFFER_LEN);
    let _ = socket.set_send_buffer_size(UDP_SOCKET_BUFFER_LEN);
    socket.bind(&address.into())?;
    Ok(socket.into())
}
