//! A listening socket, and the sockets of the connections that it accepts or that are opened in its name.

use std::io;
use std::net::{SocketAddr, SocketAddrV6, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::datagram::ListenerId;
use crate::limits::{
    TCP_ACCEPT_QUEUE_LEN, TCP_DEAD_AFTER, TCP_KERNEL_UNREAD_LEN, TCP_KERNEL_UNSENT_LEN,
    TCP_PROBE_AFTER,
};

/// One address on which connections are accepted.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Socket,
    /// Which listener it belongs to.
    pub(super) id: ListenerId,
    /// Its address.
    pub(super) address: SocketAddr,
}

impl Listener {
    /// Begins to listen.
    pub(super) fn bind(id: ListenerId, address: SocketAddr) -> io::Result<Self> {
        let socket = unbound(address)?;
        // A restart must not wait for what the former process' connections left behind.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(TCP_ACCEPT_QUEUE_LEN)?;
        let address = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Self {
            socket,
            id,
            address,
        })
    }

    /// Takes a connection that the kernel has completed; it has the listening socket's options.
    pub(super) fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, peer) = self
            .socket
            .accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)?;
        let peer = peer.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok((socket.into(), plain(peer)))
    }

    /// Begins to connect to `peer` from this listener's address.
    pub(super) fn dial(&self, peer: SocketAddr) -> io::Result<TcpStream> {
        let socket = unbound(self.address)?;
        let mut own = self.address;
        own.set_port(0);
        socket.bind(&own.into())?;
        match socket.connect(&SockAddr::from(peer)) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(socket.into())
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether an error says that the process or the host has no more descriptors or memory for connections.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

/// A socket of the address's family that never waits.
fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Each write is whole messages: nothing is gained by waiting for more.
    socket.set_tcp_nodelay(true)?;
    let dead_after = Duration::from_secs(TCP_DEAD_AFTER.as_secs());
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(Duration::from_secs(TCP_PROBE_AFTER.as_secs()))
            .with_interval(dead_after / PROBES),
    )?;
    socket.set_tcp_user_timeout(Some(dead_after))?;
    // A peer that does not read, and one that we do not read, cost the kernel no more than this.
    socket.set_tcp_notsent_lowat(TCP_KERNEL_UNSENT_LEN)?;
    socket.set_recv_buffer_size(TCP_KERNEL_UNREAD_LEN)?;
    Ok(socket)
}

/// An address as flows have it: without a flow label.
fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
    }
}

/// Probes that go unanswered before a silent peer is given up.
const PROBES: u32 = 4;
