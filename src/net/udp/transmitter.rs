//! Sending by `sendmmsg`; what finds the socket or the device's queue full waits for the next flush. Unsafe: its vectors are pointers.
#![expect(unsafe_code, reason = "sendmmsg has no wrapper")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::name::Name;
use super::socket::UdpSocket;
use crate::counters::{Counter, Counters};
use crate::limits::{BATCH, UDP_ARENA_LEN, UDP_FLUSHES_MAX};
use crate::net::port::Unreachable;

/// Sends by the kernel's socket of a listener, a batch at a time.
#[derive(Debug)]
pub(in crate::net) struct UdpTransmitter {
    socket: Arc<UdpSocket>,
    counters: Arc<Counters>,
    /// The messages that wait, one after the other. The pages are zeros until they are written to.
    arena: Vec<u8>,
    used: usize,
    waiting: Vec<Waiting>,
    /// With so many waiting they are sent without being asked to.
    flush_at: usize,
    /// Flushes of which the kernel took nothing, since it last took something.
    fruitless: usize,
    /// What the last flush could not send since there is no way: in the arena until the next message.
    refused: Vec<Waiting>,
}

/// A message in the arena.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    start: usize,
    len: usize,
    name: Name,
    name_len: libc::socklen_t,
}

impl UdpTransmitter {
    /// Makes one upon a bound socket.
    pub(in crate::net) fn new(socket: Arc<UdpSocket>, counters: Arc<Counters>) -> Self {
        Self {
            socket,
            counters,
            arena: vec![0; UDP_ARENA_LEN],
            used: 0,
            waiting: Vec::with_capacity(BATCH),
            flush_at: BATCH,
            fruitless: 0,
            refused: Vec::with_capacity(BATCH),
        }
    }

    /// Its socket.
    pub(in crate::net) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.borrowed()
    }

    /// Where the messages come from.
    pub(in crate::net) fn address(&self) -> SocketAddr {
        self.socket.address()
    }

    /// Has a message of `len` bytes, at most [`crate::limits::MESSAGE_LEN_MAX`], wait for the next flush. It is counted when
    /// the kernel has taken it, or why not.
    pub(in crate::net) fn send(
        &mut self,
        peer: SocketAddr,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) {
        let is_full = self.arena.len() - self.used < len;
        if is_full || self.waiting.len() >= self.flush_at {
            self.flush();
        }
        self.refused.clear();
        if is_full {
            self.close_ranks();
        }
        let start = self.used;
        let Some(room) = self.arena.get_mut(start..start + len) else {
            self.counters.increment(Counter::DropTransmitFull);
            return;
        };
        write(room);
        let (name, name_len) = Name::of(peer);
        self.used += len;
        self.waiting.push(Waiting {
            start,
            len,
            name,
            name_len,
        });
    }

    /// Sends what waits, as much of it as the kernel has room for.
    pub(in crate::net) fn flush(&mut self) {
        let mut next = 0;
        self.refused.clear();
        // An ICMP error that came meanwhile fails one call about whatever it sends; so each message gets a second one.
        let mut is_second = false;
        while let Some(waiting) = self.waiting.get_mut(next..).filter(|rest| !rest.is_empty()) {
            match send_batch(&self.socket, &self.arena, waiting) {
                Ok(sent) => {
                    self.counters.add(Counter::SentUdp, sent as u64);
                    next += sent.max(1);
                    is_second = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_pending(&error) && !is_second => is_second = true,
                Err(error) if is_full(&error) => break,
                Err(error) => {
                    self.counters.increment(reason(&error));
                    if is_no_way(&error) {
                        self.refused.extend(waiting.first().copied());
                    }
                    next += 1;
                    is_second = false;
                }
            }
        }
        self.keep_from(next);
    }

    /// Forgets those before `next`; the others wait on, unless the kernel has taken nothing for too long.
    fn keep_from(&mut self, next: usize) {
        self.waiting.drain(..next);
        self.fruitless = if next == 0 { self.fruitless + 1 } else { 0 };
        if self.fruitless > UDP_FLUSHES_MAX {
            let count = self.waiting.len() as u64;
            self.counters.add(Counter::DropTransmitFull, count);
            self.waiting.clear();
        }
        if self.waiting.is_empty() {
            (self.used, self.fruitless) = (0, 0);
        }
        self.flush_at = self.waiting.len() + BATCH;
    }

    /// Moves what waits to the arena's beginning.
    fn close_ranks(&mut self) {
        let Some(gap) = self.waiting.first().map(|first| first.start) else {
            return;
        };
        self.arena.copy_within(gap..self.used, 0);
        self.waiting
            .iter_mut()
            .for_each(|message| message.start -= gap);
        self.used -= gap;
    }

    /// Calls `each` for what the last flush could not send since there is no way to its destination.
    pub(in crate::net) fn failures(&mut self, each: &mut dyn FnMut(Unreachable<'_>)) {
        for message in self.refused.drain(..) {
            let payload = self.arena.get(message.start..message.start + message.len);
            if let (Some(peer), Some(payload)) = (message.name.read(message.name_len), payload) {
                each(Unreachable { peer, payload });
            }
        }
    }

    /// Whether nothing waits for [`UdpTransmitter::flush`].
    pub(in crate::net) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Sends up to a batch of messages with one call. Returns how many the kernel took; an error is about the first.
fn send_batch(socket: &UdpSocket, arena: &[u8], waiting: &mut [Waiting]) -> io::Result<usize> {
    // SAFETY: structures of numbers and pointers, so zeroed is a valid value.
    let (mut headers, mut vectors): ([libc::mmsghdr; BATCH], [libc::iovec; BATCH]) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let mut count = 0;
    for ((header, vector), message) in headers.iter_mut().zip(&mut vectors).zip(waiting) {
        let bytes = arena
            .get(message.start..message.start + message.len)
            .unwrap_or_default();
        // `sendmmsg` only reads, though the structure that it shares with `recvmmsg` has pointers to what may be written.
        vector.iov_base = bytes.as_ptr().cast_mut().cast();
        vector.iov_len = bytes.len();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = message.name.as_mut_ptr();
        header.msg_hdr.msg_namelen = message.name_len;
        count += 1;
    }
    // SAFETY: `count` headers point to vectors, addresses and messages that are live for the call, with their true lengths.
    let sent = unsafe {
        libc::sendmmsg(
            socket.fd(),
            headers.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT as _,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Whether an error may be an earlier datagram's, reported late.
fn is_pending(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENOPROTOOPT
                | libc::EPROTO
                | libc::EACCES
                | libc::EMSGSIZE
        )
    )
}

/// Whether an error says that there is no way to a destination.
fn is_no_way(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EPERM | libc::EINVAL)
    )
}

/// Whether an error says that there is no room now, in the socket's buffer or in the device's queue (which `IP_RECVERR` has the kernel tell).
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM)
    )
}

/// Why the first of those that wait is dropped.
fn reason(error: &io::Error) -> Counter {
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => Counter::DropTooLarge,
        _ => Counter::DropUnsendable,
    }
}
