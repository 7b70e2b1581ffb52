//! Everything by which one worker sends.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;

use super::port::{Link, SendError, Unreachable};
use super::tcp::TcpTransmitter;
use super::udp::UdpTransmitter;
use super::xdp::transmitter::{Way, XdpTransmitter};
use crate::counters::{Counter, Counters};
use crate::datagram::{Flow, ListenerId, Transport};
use crate::limits::MESSAGE_LEN_MAX;

/// The transmitters of one worker: for each listener the kernel's socket, and for each interface of which the worker serves a
/// queue, that queue's AF_XDP socket.
#[derive(Debug)]
pub struct Transmitters {
    /// By the listener's number.
    listeners: Vec<Option<ListenerTransmitter>>,
    queues: Vec<XdpTransmitter>,
    tcp: Option<TcpTransmitter>,
    counters: Arc<Counters>,
}

/// How one listener sends.
#[derive(Debug)]
pub(super) struct ListenerTransmitter {
    pub(super) kernel: UdpTransmitter,
    /// The AF_XDP transmitter of its interface, by its place among the worker's.
    pub(super) queue: Option<usize>,
}

impl Transmitters {
    /// Puts a worker's transmitters together.
    pub(super) fn new(
        listeners: Vec<(ListenerId, ListenerTransmitter)>,
        queues: Vec<XdpTransmitter>,
        counters: Arc<Counters>,
    ) -> Self {
        let mut by_number = Vec::new();
        for (id, listener) in listeners {
            let number = usize::from(id.0);
            if by_number.len() <= number {
                by_number.resize_with(number + 1, || None);
            }
            if let Some(place) = by_number.get_mut(number) {
                *place = Some(listener);
            }
        }
        Self {
            listeners: by_number,
            queues,
            tcp: None,
            counters,
        }
    }

    /// A second handle of a listener's kernel socket, for another thread to send by.
    ///
    /// # Errors
    /// There is no such listener, or no descriptor.
    pub fn kernel_socket(&self, listener: ListenerId) -> io::Result<UdpSocket> {
        let found = self.listeners.get(usize::from(listener.0));
        let found = found.and_then(Option::as_ref);
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let socket = found.ok_or_else(missing)?.kernel.socket();
        socket.try_clone_to_owned().map(UdpSocket::from)
    }

    /// Adds the way over TCP.
    pub fn set_tcp(&mut self, tcp: TcpTransmitter) {
        self.tcp = Some(tcp);
    }

    /// Whether a connection is open that a message to `flow`, of a connection-oriented transport, would take.
    #[must_use]
    pub fn is_connected(&self, flow: &Flow) -> bool {
        flow.transport == Transport::Tcp
            && self.tcp.as_ref().is_some_and(|tcp| tcp.is_connected(flow))
    }

    /// Sends a message of exactly `len` bytes, which `write` puts into the transmit buffer.
    ///
    /// It leaves in a frame of AF_XDP where the listener has that, the message fits the MTU, and the next hop is known: from
    /// `link`, the way back of a datagram that came by the same listener from the same peer, else from the neighbour cache.
    /// Otherwise it leaves by the kernel's socket of the listener; over TCP, by the TCP thread. It leaves with the next [`Transmitters::flush`].
    ///
    /// # Errors
    /// What keeps the message from leaving, for the caller to count. What the kernel's socket refuses later shows in the
    /// counters alone.
    pub fn send(
        &mut self,
        flow: &Flow,
        link: Option<Link>,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        if flow.transport == Transport::Tcp {
            let tcp = self.tcp.as_ref().ok_or(SendError::Unsendable)?;
            return tcp.send(flow, len, write);
        }
        let listener = self.listeners.get_mut(usize::from(flow.listener.0));
        let listener = listener
            .and_then(Option::as_mut)
            .ok_or(SendError::Unsendable)?;
        let source = listener.kernel.address();
        let is_our_kind = flow.peer.is_ipv4() == source.is_ipv4()
            && flow.peer.port() != 0
            && !flow.peer.ip().is_unspecified();
        if !is_our_kind {
            return Err(SendError::Unsendable);
        }
        if len > MESSAGE_LEN_MAX {
            return Err(SendError::TooLarge);
        }
        if let Some(queue) = listener.queue.and_then(|queue| self.queues.get_mut(queue)) {
            match queue.prepare(flow.listener, source, flow.peer, link, len) {
                Way::Frame(prepared) => {
                    queue.send(prepared, len, write).ok_or(SendError::Full)?;
                    self.counters.increment(Counter::SentAfXdp);
                    return Ok(());
                }
                Way::Miss => self.counters.increment(Counter::NeighborMisses),
                Way::Kernel => {}
            }
        }
        listener.kernel.send(flow.peer, len, write);
        Ok(())
    }

    /// Makes the kernel send what waits, and takes back the frames that it is done with: to be called at the end of each
    /// batch, and again while [`Transmitters::is_idle`] says no.
    pub fn flush(&mut self) {
        for queue in &mut self.queues {
            queue.flush();
        }
        for listener in self.listeners.iter_mut().flatten() {
            listener.kernel.flush();
        }
    }

    /// Calls `each` for every message that the last [`Transmitters::flush`] could not send since there is no route to its
    /// destination (RFC 3261 18.4). To be called before the next message is sent.
    pub fn failures(&mut self, each: &mut dyn FnMut(Unreachable<'_>)) {
        for listener in self.listeners.iter_mut().flatten() {
            listener.kernel.failures(each);
        }
    }

    /// Whether nothing waits for [`Transmitters::flush`]: then the worker may sleep.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let queues = self.queues.iter().all(XdpTransmitter::is_idle);
        queues
            && self
                .listeners
                .iter()
                .flatten()
                .all(|listener| listener.kernel.is_idle())
    }

    /// How many UMEM frames are with the kernel, or lost: none, once everything has been sent and flushed.
    #[must_use]
    pub fn frames_outstanding(&self) -> usize {
        self.queues.iter().map(XdpTransmitter::outstanding).sum()
    }
}
