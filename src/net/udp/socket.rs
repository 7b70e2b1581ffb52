//! One bound socket. Unsafe: some options have no wrapper.
#![expect(
    unsafe_code,
    reason = "SO_RCVBUFFORCE, SO_SNDBUFFORCE, IP_RECVERR and SO_MEMINFO have no wrapper in socket2"
)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::UDP_SOCKET_BUFFER_LEN;

/// A bound socket of the kernel, shared by a receiver and a transmitter of one worker.
#[derive(Debug)]
pub(in crate::net) struct UdpSocket {
    socket: Socket,
    address: SocketAddr,
}

impl UdpSocket {
    /// Binds one that shares the address with the other workers' sockets.
    pub(in crate::net) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = unbound(address)?;
        socket.set_reuse_port(true)?;
        raise_buffer(&socket, libc::SO_RCVBUFFORCE);
        raise_buffer(&socket, libc::SO_SNDBUFFORCE);
        hear_errors(&socket, address)?;
        socket.bind(&address.into())?;
        Ok(Self { socket, address })
    }

    /// Makes sure that nobody else has the address: with SO_REUSEPORT two servers of one user would share it unawares, each
    /// getting half of the packets.
    pub(in crate::net) fn probe(address: SocketAddr) -> io::Result<()> {
        unbound(address)?.bind(&address.into())
    }

    /// Where it is bound.
    pub(in crate::net) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its descriptor.
    pub(in crate::net) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Its descriptor, borrowed.
    pub(in crate::net) fn borrowed(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl UdpSocket {
    /// How many datagrams it has dropped because its buffer was full (`SK_MEMINFO_DROPS`); the kernel counts in 32 bits.
    pub(in crate::net) fn datagrams_lost(&self) -> u64 {
        const DROPS: usize = 8;
        let mut numbers = [0_u32; DROPS + 1];
        let mut len = size_of_val(&numbers) as libc::socklen_t;
        // SAFETY: the numbers are live for the call and the kernel writes at most `len` bytes; any bytes are numbers.
        let result = unsafe {
            libc::getsockopt(
                self.fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                numbers.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if result == 0 {
            u64::from(numbers[DROPS])
        } else {
            0
        }
    }
}

/// A socket of the address's family that never waits.
fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Raises a buffer to [`UDP_SOCKET_BUFFER_LEN`], past the system's limit where we may; less is no error.
fn raise_buffer(socket: &Socket, forced: libc::c_int) {
    let len = libc::c_int::try_from(UDP_SOCKET_BUFFER_LEN).unwrap_or(libc::c_int::MAX);
    if set(socket, libc::SOL_SOCKET, forced, len).is_ok() {
        return;
    }
    let _ = if forced == libc::SO_RCVBUFFORCE {
        socket.set_recv_buffer_size(UDP_SOCKET_BUFFER_LEN)
    } else {
        socket.set_send_buffer_size(UDP_SOCKET_BUFFER_LEN)
    };
}

/// Has ICMP errors put into the socket's error queue, with the datagram that each is about.
fn hear_errors(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => set(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1),
        SocketAddr::V6(_) => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
    }
}

/// Sets an option that is an int.
fn set(
    socket: &Socket,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the value is an int that is live for the call, and its length is what is said.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
