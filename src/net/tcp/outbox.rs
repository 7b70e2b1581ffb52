//! What the workers have for the TCP thread: messages in pooled buffers, in one bounded queue.
//!
//! A worker takes a free buffer, composes the message in it and posts it; the TCP thread gives it back. A sleeping TCP thread is
//! woken by an eventfd. Nothing here makes a worker wait, or allocate.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::ArrayQueue;

use super::roster::Roster;
use crate::datagram::{Flow, ListenerId, WorkerId};
use crate::limits::{
    MESSAGE_LEN_MAX, SMALL_BUFFER_LEN, TCP_CROWDED_LEN, TCP_OUTBOX_LARGE_LEN, TCP_OUTBOX_LEN,
};
use crate::net::poll::EventFd;
use crate::net::port::SendError;

/// The queue, and the signs between the workers and the TCP thread.
#[derive(Debug)]
pub(super) struct Outbox {
    posted: ArrayQueue<Parcel>,
    free_small: ArrayQueue<Box<[u8]>>,
    free_large: ArrayQueue<Box<[u8]>>,
    wake: EventFd,
    is_sleeping: AtomicBool,
    is_stopping: AtomicBool,
}

/// A message on its way to the TCP thread.
#[derive(Debug)]
pub(super) struct Parcel {
    buffer: Box<[u8]>,
    len: usize,
    /// Where it is to go.
    pub(super) flow: Flow,
    /// Who is told if it does not get there.
    pub(super) from: WorkerId,
}

/// By which one worker sends over TCP.
#[derive(Clone, Debug)]
pub struct TcpTransmitter {
    worker: WorkerId,
    outbox: Arc<Outbox>,
    roster: Arc<Roster>,
    listeners: Arc<[(ListenerId, SocketAddr)]>,
}

impl TcpTransmitter {
    pub(super) fn new(
        worker: WorkerId,
        outbox: Arc<Outbox>,
        roster: Arc<Roster>,
        listeners: Arc<[(ListenerId, SocketAddr)]>,
    ) -> Self {
        Self {
            worker,
            outbox,
            roster,
            listeners,
        }
    }

    /// Has a message sent by the open connection to `flow.peer`, or by one that is opened for it. What does not get there is
    /// given back to this worker, by [`super::Recipient::give_back`].
    ///
    /// # Errors
    /// What keeps the message from being taken at all.
    pub fn send(
        &self,
        flow: &Flow,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        let own = self
            .listeners
            .iter()
            .find(|(listener, _)| *listener == flow.listener);
        let is_our_kind = own.is_some_and(|(_, own)| own.is_ipv4() == flow.peer.is_ipv4())
            && flow.peer.port() != 0
            && !flow.peer.ip().is_unspecified()
            && !flow.peer.ip().is_multicast();
        if !is_our_kind {
            return Err(SendError::Unsendable);
        }
        if len > MESSAGE_LEN_MAX {
            return Err(SendError::TooLarge);
        }
        self.outbox.post(*flow, self.worker, len, write)
    }

    /// Whether a connection is open that a message to `flow` would take.
    #[must_use]
    pub fn is_connected(&self, flow: &Flow) -> bool {
        self.roster.has(flow.listener, flow.peer)
    }

    /// Whether the TCP thread has done what it could with everything that was sent: nothing is under way to it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.outbox.buffers_out() == 0
    }
}

impl Outbox {
    /// An empty one with all its buffers.
    pub(super) fn new() -> io::Result<Self> {
        let small_len = TCP_OUTBOX_LEN - TCP_OUTBOX_LARGE_LEN;
        let outbox = Self {
            posted: ArrayQueue::new(TCP_OUTBOX_LEN),
            free_small: ArrayQueue::new(small_len),
            free_large: ArrayQueue::new(TCP_OUTBOX_LARGE_LEN),
            wake: EventFd::new()?,
            is_sleeping: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        };
        // Zeroed pages are the kernel's until they are written.
        for _ in 0..small_len {
            outbox.give_back(vec![0; SMALL_BUFFER_LEN].into_boxed_slice());
        }
        for _ in 0..TCP_OUTBOX_LARGE_LEN {
            outbox.give_back(vec![0; MESSAGE_LEN_MAX].into_boxed_slice());
        }
        Ok(outbox)
    }

    fn post(
        &self,
        flow: Flow,
        from: WorkerId,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        let small = if len <= SMALL_BUFFER_LEN {
            self.free_small.pop()
        } else {
            None
        };
        let mut buffer = small
            .or_else(|| self.free_large.pop())
            .ok_or(SendError::Full)?;
        let Some(room) = buffer.get_mut(..len) else {
            self.give_back(buffer);
            return Err(SendError::TooLarge);
        };
        write(room);
        let parcel = Parcel {
            buffer,
            len,
            flow,
            from,
        };
        if let Err(parcel) = self.posted.push(parcel) {
            self.give_back(parcel.buffer);
            return Err(SendError::Full);
        }
        if self.is_sleeping.swap(false, Ordering::SeqCst) {
            self.wake.wake();
        }
        Ok(())
    }

    /// Takes the oldest.
    pub(super) fn take(&self) -> Option<Parcel> {
        self.posted.pop()
    }

    /// Buffers that are not free: of what is being composed, is posted, or is being taken.
    pub(super) fn buffers_out(&self) -> usize {
        TCP_OUTBOX_LEN - self.free_small.len() - self.free_large.len()
    }

    /// Whether so much is posted that nothing should be asked for that makes more of it.
    pub(super) fn is_crowded(&self) -> bool {
        self.posted.len() >= TCP_CROWDED_LEN
    }

    /// Whether nothing is posted.
    pub(super) fn is_empty(&self) -> bool {
        self.posted.is_empty()
    }

    /// Gives a parcel's buffer back to the pool.
    pub(super) fn discard(&self, parcel: Parcel) {
        self.give_back(parcel.buffer);
    }

    /// Says that the TCP thread is about to sleep; false if something is posted, so that it must not.
    pub(super) fn may_sleep(&self) -> bool {
        self.is_sleeping.store(true, Ordering::SeqCst);
        if self.posted.is_empty() {
            return true;
        }
        self.is_sleeping.store(false, Ordering::SeqCst);
        false
    }

    /// Says that it is awake again; `was_woken` if the eventfd was readable, and is to be emptied.
    pub(super) fn awake(&self, was_woken: bool) {
        self.is_sleeping.store(false, Ordering::SeqCst);
        if was_woken {
            self.wake.clear();
        }
    }

    /// Tells the TCP thread to end.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.wake.wake();
    }

    /// Whether it is to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    fn give_back(&self, buffer: Box<[u8]>) {
        let pool = if buffer.len() == SMALL_BUFFER_LEN {
            &self.free_small
        } else {
            &self.free_large
        };
        let _ = pool.push(buffer);
    }
}

impl AsFd for Outbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Parcel {
    /// The message.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    /// Whether it is a response (RFC 3261 7.2): it begins with the version.
    pub(super) fn is_response(&self) -> bool {
        self.bytes().starts_with(VERSION)
    }

    /// Whether it is a final response: nothing more is owed to that request.
    pub(super) fn is_final(&self) -> bool {
        self.is_response() && self.bytes().get(VERSION.len()) != Some(&b'1')
    }
}

/// What every response of ours begins with.
const VERSION: &[u8] = b"SIP/2.0 ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::Transport;

    fn transmitter(outbox: &Arc<Outbox>) -> TcpTransmitter {
        let own = (ListenerId(0), "127.0.0.1:5060".parse().expect("an address"));
        TcpTransmitter::new(
            WorkerId(2),
            Arc::clone(outbox),
            Arc::new(Roster::new(1)),
            [own].into(),
        )
    }

    fn flow(listener: u8, peer: &str) -> Flow {
        Flow {
            listener: ListenerId(listener),
            transport: Transport::Tcp,
            peer: peer.parse().expect("an address"),
        }
    }

    #[test]
    fn a_full_outbox_says_so_and_recovers() {
        let outbox = Arc::new(Outbox::new().expect("an eventfd"));
        let transmitter = transmitter(&outbox);
        let to = flow(0, "127.0.0.2:5060");
        let send = |len| transmitter.send(&to, len, |buffer| buffer.fill(b'x'));
        let posted = (0..=TCP_OUTBOX_LEN)
            .take_while(|_| send(10).is_ok())
            .count();
        assert_eq!(posted, TCP_OUTBOX_LEN);
        assert_eq!(send(10), Err(SendError::Full));
        assert!(!outbox.may_sleep());
        while let Some(parcel) = outbox.take() {
            assert_eq!(
                (parcel.bytes(), parcel.from),
                (&b"xxxxxxxxxx"[..], WorkerId(2))
            );
            outbox.discard(parcel);
        }
        assert_eq!(send(MESSAGE_LEN_MAX), Ok(()));
    }

    #[test]
    fn what_no_connection_can_reach_is_refused_at_once() {
        let outbox = Arc::new(Outbox::new().expect("an eventfd"));
        let transmitter = transmitter(&outbox);
        for bad in [
            flow(1, "127.0.0.2:5060"),
            flow(0, "[::1]:5060"),
            flow(0, "127.0.0.2:0"),
            flow(0, "0.0.0.0:5060"),
            flow(0, "224.0.1.75:5060"),
        ] {
            let sent = transmitter.send(&bad, 1, |_| {});
            assert_eq!(sent, Err(SendError::Unsendable), "{bad:?}");
        }
        let sent = transmitter.send(&flow(0, "127.0.0.2:1"), MESSAGE_LEN_MAX + 1, |_| {});
        assert_eq!(sent, Err(SendError::TooLarge));
        assert!(outbox.take().is_none());
    }
}
