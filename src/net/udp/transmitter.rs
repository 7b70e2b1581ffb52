//! Sending by `sendmmsg`. Unsafe: its vectors are pointers.
#![expect(unsafe_code, reason = "sendmmsg has no wrapper")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::name::Name;
use super::socket::UdpSocket;
use crate::counters::{Counter, Counters};
use crate::limits::{BATCH, UDP_ARENA_LEN};
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
        if self.waiting.len() == BATCH || self.arena.len() - self.used < len {
            self.flush();
        }
        self.refused.clear();
        let start = self.used;
        let Some(room) = self.arena.get_mut(start..start + len) else {
            self.counters.increment(Counter::DropTooLarge);
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

    /// Sends everything that waits.
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
                Err(error) => {
                    let (reason, count) = reason(&error, waiting.len());
                    self.counters.add(reason, count as u64);
                    if is_no_way(&error) {
                        self.refused.extend(waiting.first().copied());
                    }
                    next += count;
                    is_second = false;
                }
            }
        }
        self.waiting.clear();
        self.used = 0;
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

/// Why messages are dropped, and how many: a full socket takes none of those that wait, anything else is about the first.
fn reason(error: &io::Error, waiting: usize) -> (Counter, usize) {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => (Counter::DropTransmitFull, waiting),
        Some(libc::EMSGSIZE) => (Counter::DropTooLarge, 1),
        _ => (Counter::DropUnsendable, 1),
    }
}
