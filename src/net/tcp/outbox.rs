//! What the workers have for the TCP thread: messages in pooled buffers, in one bounded queue.
//!
//! A worker composes the message in a buffer of the conveyor's. Nothing here makes a worker wait, or allocate.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::roster::Roster;
use crate::datagram::{Flow, ListenerId, WorkerId};
use crate::limits::{MESSAGE_LEN_MAX, TCP_CROWDED_LEN, TCP_OUTBOX_LARGE_LEN, TCP_OUTBOX_LEN};
use crate::net::conveyor::{self, Conveyor};
use crate::net::port::SendError;

/// The queue, and the signs between the workers and the TCP thread.
#[derive(Debug)]
pub(super) struct Outbox {
    conveyor: Conveyor<Label>,
    is_stopping: AtomicBool,
}

/// A message on its way to the TCP thread.
pub(super) type Parcel = conveyor::Parcel<Label>;

/// Whose message it is.
#[derive(Debug)]
pub(super) struct Label {
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
        let label = Label {
            flow: *flow,
            from: self.worker,
        };
        self.outbox.conveyor.post(label, len, write)
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
        Ok(Self {
            conveyor: Conveyor::new(TCP_OUTBOX_LEN, TCP_OUTBOX_LARGE_LEN)?,
            is_stopping: AtomicBool::new(false),
        })
    }

    /// Takes the oldest.
    pub(super) fn take(&self) -> Option<Parcel> {
        self.conveyor.take()
    }

    /// Buffers that are not free: of what is being composed, is posted, or is being taken.
    pub(super) fn buffers_out(&self) -> usize {
        TCP_OUTBOX_LEN - self.conveyor.free_len()
    }

    /// Whether so much is posted that nothing should be asked for that makes more of it.
    pub(super) fn is_crowded(&self) -> bool {
        self.conveyor.len() >= TCP_CROWDED_LEN
    }

    /// Whether nothing is posted.
    pub(super) fn is_empty(&self) -> bool {
        self.conveyor.len() == 0
    }

    /// Gives a parcel's buffer back to the pool.
    pub(super) fn discard(&self, parcel: Parcel) {
        self.conveyor.discard(parcel);
    }

    /// Says that the TCP thread is about to sleep; false if something is posted, so that it must not.
    pub(super) fn may_sleep(&self) -> bool {
        self.conveyor.may_sleep()
    }

    /// Says that it is awake again; `was_woken` if the eventfd was readable, and is to be emptied.
    pub(super) fn awake(&self, was_woken: bool) {
        self.conveyor.awake(was_woken);
    }

    /// Tells the TCP thread to end.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.conveyor.wake();
    }

    /// Whether it is to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }
}

impl AsFd for Outbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.conveyor.as_fd()
    }
}

impl Parcel {
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
                (parcel.bytes(), parcel.label.from),
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
