//! A worker's mailbox: where the other workers, and the TCP thread, put what belongs to it.
//!
//! A sender copies the datagram into a buffer of the mailbox's. No free buffer of the size: the mailbox is full, and the sender
//! drops and counts. A sleeping owner is woken.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::datagram::{Datagram, Flow};
use crate::limits::{MAILBOX_LARGE_LEN, MAILBOX_LEN};
use crate::net::{Conveyor, Link, Parcel};
use crate::proxy::MailboxFull;
use crate::time::Instant;

/// The mailbox of one worker; any worker posts, the owner takes.
#[derive(Debug)]
pub(super) struct Mailbox {
    conveyor: Conveyor<Label>,
    /// Datagrams of other workers that found no room.
    lost: AtomicU64,
}

/// A datagram in a pooled buffer.
pub(super) type Letter = Parcel<Label>;

/// How a letter's datagram came.
#[derive(Debug)]
pub(super) struct Label {
    flow: Flow,
    received_at: Instant,
    link: Option<Link>,
    kind: Kind,
}

/// What a letter carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A received datagram, handed over by another worker that has read it.
    Received,
    /// The same, of one that has not: it looked to be this worker's.
    Unread,
    /// A message that the TCP thread received.
    Streamed,
    /// A datagram that we had sent, and that the network reports undeliverable.
    Undelivered,
}

impl Mailbox {
    /// An empty mailbox with all its buffers.
    ///
    /// # Errors
    /// When the kernel gives no eventfd (descriptor limit).
    pub(super) fn new() -> io::Result<Self> {
        let conveyor = Conveyor::new(MAILBOX_LEN, MAILBOX_LARGE_LEN)?;
        Ok(Self {
            conveyor,
            lost: AtomicU64::new(0),
        })
    }

    /// Posts a copy of `datagram`, and wakes the owner if it sleeps.
    ///
    /// # Errors
    /// [`MailboxFull`].
    pub(super) fn post(
        &self,
        kind: Kind,
        datagram: &Datagram<'_>,
        link: Option<Link>,
    ) -> Result<(), MailboxFull> {
        let label = Label {
            flow: datagram.flow,
            received_at: datagram.received_at,
            link,
            kind,
        };
        let copy = |room: &mut [u8]| room.copy_from_slice(datagram.bytes);
        self.conveyor
            .post(label, datagram.bytes.len(), copy)
            .map_err(|_| {
                // What the TCP thread does not get rid of it keeps, and asks again.
                if matches!(kind, Kind::Received | Kind::Unread) {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
                MailboxFull
            })
    }

    /// How many datagrams of other workers found no room so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Wakes the owner if it sleeps: for who leaves it something elsewhere.
    pub(super) fn rouse(&self) {
        self.conveyor.rouse();
    }

    /// How many letters wait.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.conveyor.len()
    }

    /// Takes the oldest letter.
    #[must_use]
    pub(super) fn take(&self) -> Option<Letter> {
        self.conveyor.take()
    }

    /// Gives a letter's buffer back to the pool.
    pub(super) fn discard(&self, letter: Letter) {
        self.conveyor.discard(letter);
    }

    /// Says that the owner is about to sleep; false if there is mail, so that it must not.
    #[must_use]
    pub(super) fn may_sleep(&self) -> bool {
        self.conveyor.may_sleep()
    }

    /// Says that the owner is awake again; `was_woken` if the eventfd was readable, and is to be emptied.
    pub(super) fn awake(&self, was_woken: bool) {
        self.conveyor.awake(was_woken);
    }

    /// Wakes the owner whatever it does.
    pub(super) fn wake(&self) {
        self.conveyor.wake();
    }

    /// The buffers that are neither free nor posted: zero when nothing is being carried. For the leak checks.
    ///
    /// While others post, a buffer may be seen in two places: the sum is exact only at rest.
    #[must_use]
    pub(super) fn buffers_out(&self) -> usize {
        let seen = self.conveyor.free_len() + self.conveyor.len();
        MAILBOX_LEN.saturating_sub(seen)
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.conveyor.as_fd()
    }
}

impl Letter {
    /// The datagram, marked as handed over where it was read before that.
    #[must_use]
    pub(super) fn datagram(&self) -> Datagram<'_> {
        Datagram {
            bytes: self.bytes(),
            flow: self.label.flow,
            received_at: self.label.received_at,
            handed_off: !matches!(self.label.kind, Kind::Streamed | Kind::Unread),
        }
    }

    /// Whether it carries what was received, and not what could not be delivered.
    pub(super) const fn is_received(&self) -> bool {
        !matches!(self.label.kind, Kind::Undelivered)
    }

    /// Whether another worker received it.
    pub(super) const fn is_handed_over(&self) -> bool {
        matches!(self.label.kind, Kind::Received | Kind::Unread)
    }

    /// How the frame that carried it can be answered.
    #[must_use]
    pub(super) const fn link(&self) -> Option<Link> {
        self.label.link
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::{ListenerId, Transport};
    use crate::limits::SMALL_BUFFER_LEN;

    fn datagram(bytes: &[u8]) -> Datagram<'_> {
        let peer = "192.0.2.1:5060".parse().expect("an address");
        let flow = Flow {
            listener: ListenerId(0),
            transport: Transport::Udp,
            peer,
        };
        Datagram {
            bytes,
            flow,
            received_at: Instant::EPOCH,
            handed_off: false,
        }
    }

    #[test]
    fn mail_arrives_in_order_and_every_buffer_comes_back() {
        let mailbox = Mailbox::new().expect("an eventfd");
        let large = vec![7; SMALL_BUFFER_LEN + 1];
        mailbox
            .post(Kind::Received, &datagram(b"first"), None)
            .expect("room");
        mailbox
            .post(Kind::Received, &datagram(&large), None)
            .expect("room");
        assert!(!mailbox.may_sleep());
        let first = mailbox.take().expect("mail");
        assert!(first.datagram().handed_off);
        assert_eq!(first.datagram().bytes, b"first");
        let second = mailbox.take().expect("mail");
        assert_eq!(second.datagram().bytes, &large[..]);
        assert_eq!(mailbox.buffers_out(), 2);
        mailbox.discard(first);
        mailbox.discard(second);
        assert_eq!(mailbox.buffers_out(), 0);
        assert!(mailbox.may_sleep());
    }

    #[test]
    fn a_full_mailbox_says_so_and_recovers() {
        let mailbox = Mailbox::new().expect("an eventfd");
        let posted = (0..=MAILBOX_LEN)
            .take_while(|_| mailbox.post(Kind::Received, &datagram(b"x"), None).is_ok())
            .count();
        assert_eq!(posted, MAILBOX_LEN);
        assert_eq!(mailbox.lost(), 1);
        while let Some(letter) = mailbox.take() {
            mailbox.discard(letter);
        }
        assert!(mailbox.post(Kind::Received, &datagram(b"x"), None).is_ok());
    }
}
