//! Receiving by `recvmmsg`. Unsafe: its vectors are pointers.
#![expect(unsafe_code, reason = "recvmmsg has no wrapper")]

use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;

use super::errors;
use super::name::Name;
use super::socket::UdpSocket;
use crate::counters::{Counter, Counters};
use crate::datagram::{Datagram, Flow, ListenerId, Transport};
use crate::limits::{BATCH, MESSAGE_LEN_MAX, UDP_SLOT_LEN};
use crate::net::neighbor::Neighbors;
use crate::net::port::{self, Backend, Intake, Receiver, Unreachable};
use crate::time::Instant;

/// Receives what comes by the kernel's socket of a listener.
#[derive(Debug)]
pub(in crate::net) struct UdpReceiver {
    socket: Arc<UdpSocket>,
    listener: ListenerId,
    counters: Arc<Counters>,
    /// The cache to be told when a path turns out to be narrower than thought.
    neighbors: Option<Arc<Neighbors>>,
    /// [`BATCH`] slots of [`UDP_SLOT_LEN`]. The pages are zeros until they are written to, and most datagrams need one of a
    /// slot's sixteen: so this is 4 MiB of addresses, and of memory what the longest messages so far have touched.
    buffer: Vec<u8>,
}

impl UdpReceiver {
    /// Makes one upon a bound socket.
    pub(in crate::net) fn new(
        socket: Arc<UdpSocket>,
        listener: ListenerId,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            socket,
            listener,
            counters,
            neighbors: None,
            buffer: vec![0; BATCH * UDP_SLOT_LEN],
        }
    }
}

impl UdpReceiver {
    /// Has the cache told when a path turns out to be narrower than thought.
    pub(in crate::net) fn tell(&mut self, neighbors: Arc<Neighbors>) {
        self.neighbors = Some(neighbors);
    }

    /// Whose datagrams these are.
    pub(in crate::net) const fn listener(&self) -> ListenerId {
        self.listener
    }
}

impl Receiver for UdpReceiver {
    fn receive(&mut self, now: Instant, intake: &mut dyn Intake) -> usize {
        let mut received = [const { None }; BATCH];
        let count = receive_batch(self.socket.fd(), &mut self.buffer, &mut received);
        let mut batch = [const { None }; BATCH];
        let slots = self.buffer.chunks(UDP_SLOT_LEN);
        for ((message, slot), taken) in received.iter().flatten().zip(slots).zip(&mut batch) {
            match message.read(slot) {
                Ok((peer, bytes)) => {
                    let flow = Flow {
                        listener: self.listener,
                        transport: Transport::Udp,
                        peer,
                    };
                    let datagram = Datagram {
                        bytes,
                        flow,
                        received_at: now,
                        handed_off: false,
                    };
                    *taken = Some((datagram, None));
                }
                Err(counter) => self.counters.increment(counter),
            }
        }
        port::present(intake, &mut batch);
        count
    }

    fn receive_errors(&mut self, each: &mut dyn FnMut(Unreachable<'_>)) -> usize {
        let slot = self.buffer.get_mut(..UDP_SLOT_LEN).unwrap_or_default();
        errors::drain(self.socket.fd(), slot, each, |peer| {
            if let Some(neighbors) = &self.neighbors {
                neighbors.ask(self.listener, peer);
            }
        })
    }

    fn packets_lost(&self) -> u64 {
        self.socket.datagrams_lost()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.borrowed()
    }

    fn backend(&self) -> Backend {
        Backend::Udp
    }
}

/// What `recvmmsg` says of one datagram.
struct Received {
    peer: Option<SocketAddr>,
    len: usize,
    is_truncated: bool,
}

impl Received {
    /// Whence it came, and its bytes, which stand in `slot`; or what it is to be counted as.
    fn read<'a>(&self, slot: &'a [u8]) -> Result<(SocketAddr, &'a [u8]), Counter> {
        // A source port of zero cannot be answered.
        let peer = self.peer.filter(|peer| peer.port() != 0);
        let peer = peer.ok_or(Counter::DropBadPacket)?;
        let bytes = slot.get(..self.len).filter(|_| !self.is_truncated);
        let bytes = bytes.ok_or(Counter::DropTruncated)?;
        if bytes.len() > MESSAGE_LEN_MAX {
            return Err(Counter::DropTooLarge);
        }
        Ok((peer, bytes))
    }
}

/// Fills the slots of `buffer`, and `received` with what lies in each. Returns how many there are.
fn receive_batch(fd: RawFd, buffer: &mut [u8], received: &mut [Option<Received>; BATCH]) -> usize {
    let mut names = [Name::default(); BATCH];
    // SAFETY: structures of numbers and pointers, so zeroed is a valid value.
    let (mut headers, mut vectors): ([libc::mmsghdr; BATCH], [libc::iovec; BATCH]) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let parts = headers
        .iter_mut()
        .zip(&mut vectors)
        .zip(&mut names)
        .zip(buffer.chunks_mut(UDP_SLOT_LEN));
    let mut slots = 0;
    for (((header, vector), name), slot) in parts {
        vector.iov_base = slot.as_mut_ptr().cast();
        vector.iov_len = slot.len();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = name.as_mut_ptr();
        header.msg_hdr.msg_namelen = Name::ROOM;
        slots += 1;
    }
    // SAFETY: `slots` headers point to vectors, addresses and slots that are live for the call, with their true lengths.
    let count = unsafe {
        libc::recvmmsg(
            fd,
            headers.as_mut_ptr(),
            slots,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    // Nothing there, a signal, or an ICMP error, which the error queue tells more of: the next call goes on.
    let count = usize::try_from(count).unwrap_or(0);
    for ((out, header), name) in received.iter_mut().zip(&headers).zip(&names).take(count) {
        *out = Some(Received {
            peer: name.read(header.msg_hdr.msg_namelen),
            len: usize::try_from(header.msg_len).unwrap_or(usize::MAX),
            is_truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        });
    }
    count
}
