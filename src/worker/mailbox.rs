//! A worker's mailbox: where the other workers, and the TCP thread, put what belongs to it.
//!
//! Its buffers are pooled: a sender takes a free one, copies the datagram into it and posts it; the owner gives it back. No
//! free buffer of the size: the mailbox is full, and the sender drops and counts. A sleeping owner is woken by an eventfd.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};

use crate::datagram::{Datagram, Flow};
use crate::limits::{MAILBOX_LARGE_LEN, MAILBOX_LEN, MESSAGE_LEN_MAX, SMALL_BUFFER_LEN};
use crate::net::Link;
use crate::proxy::MailboxFull;
use crate::time::Instant;

/// The mailbox of one worker; any worker posts, the owner takes.
#[derive(Debug)]
pub(super) struct Mailbox {
    posted: ArrayQueue<Letter>,
    free_small: ArrayQueue<Box<[u8]>>,
    free_large: ArrayQueue<Box<[u8]>>,
    wake: OwnedFd,
    is_sleeping: AtomicBool,
}

/// A datagram in a pooled buffer.
#[derive(Debug)]
pub(super) struct Letter {
    buffer: Box<[u8]>,
    len: usize,
    flow: Flow,
    received_at: Instant,
    link: Option<Link>,
    kind: Kind,
}

/// What a letter carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A received datagram, handed over by another worker.
    Received,
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
        let small_len = MAILBOX_LEN - MAILBOX_LARGE_LEN;
        let mailbox = Self {
            posted: ArrayQueue::new(MAILBOX_LEN),
            free_small: ArrayQueue::new(small_len),
            free_large: ArrayQueue::new(MAILBOX_LARGE_LEN),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            is_sleeping: AtomicBool::new(false),
        };
        // Zeroed pages are the kernel's until they are written: a mailbox costs what it carries.
        for _ in 0..small_len {
            let _ = mailbox
                .free_small
                .push(vec![0; SMALL_BUFFER_LEN].into_boxed_slice());
        }
        for _ in 0..MAILBOX_LARGE_LEN {
            let _ = mailbox
                .free_large
                .push(vec![0; MESSAGE_LEN_MAX].into_boxed_slice());
        }
        Ok(mailbox)
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
        let len = datagram.bytes.len();
        let small = if len <= SMALL_BUFFER_LEN {
            self.free_small.pop()
        } else {
            None
        };
        let mut buffer = small.or_else(|| self.free_large.pop()).ok_or(MailboxFull)?;
        let Some(room) = buffer.get_mut(..len) else {
            self.give_back(buffer);
            return Err(MailboxFull);
        };
        room.copy_from_slice(datagram.bytes);
        let letter = Letter {
            buffer,
            len,
            flow: datagram.flow,
            received_at: datagram.received_at,
            link,
            kind,
        };
        if let Err(letter) = self.posted.push(letter) {
            self.give_back(letter.buffer);
            return Err(MailboxFull);
        }
        self.rouse();
        Ok(())
    }

    /// Wakes the owner if it sleeps: for who leaves it something elsewhere.
    pub(super) fn rouse(&self) {
        if self.is_sleeping.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// How many letters wait.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.posted.len()
    }

    /// Takes the oldest letter.
    #[must_use]
    pub(super) fn take(&self) -> Option<Letter> {
        self.posted.pop()
    }

    /// Gives a letter's buffer back to the pool.
    pub(super) fn discard(&self, letter: Letter) {
        self.give_back(letter.buffer);
    }

    /// Says that the owner is about to sleep; false if there is mail, so that it must not.
    #[must_use]
    pub(super) fn may_sleep(&self) -> bool {
        self.is_sleeping.store(true, Ordering::SeqCst);
        if self.posted.is_empty() {
            return true;
        }
        self.is_sleeping.store(false, Ordering::SeqCst);
        false
    }

    /// Says that the owner is awake again; `was_woken` if the eventfd was readable, and is to be emptied.
    pub(super) fn awake(&self, was_woken: bool) {
        self.is_sleeping.store(false, Ordering::SeqCst);
        if was_woken {
            let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
        }
    }

    /// Wakes the owner whatever it does.
    pub(super) fn wake(&self) {
        // The counter of an eventfd overflows only after 2^64-2 wakes: nothing to be done about an error here.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// The buffers that are neither free nor posted: zero when nothing is being carried. For the leak checks.
    ///
    /// While others post, a buffer may be seen in two places: the sum is exact only at rest.
    #[must_use]
    pub(super) fn buffers_out(&self) -> usize {
        let seen = self.free_small.len() + self.free_large.len() + self.posted.len();
        MAILBOX_LEN.saturating_sub(seen)
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

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Letter {
    /// The datagram, marked as handed over where it was.
    #[must_use]
    pub(super) fn datagram(&self) -> Datagram<'_> {
        Datagram {
            bytes: self.buffer.get(..self.len).unwrap_or_default(),
            flow: self.flow,
            received_at: self.received_at,
            handed_off: self.kind != Kind::Streamed,
        }
    }

    /// What it carries.
    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    /// How the frame that carried it can be answered.
    #[must_use]
    pub(super) const fn link(&self) -> Option<Link> {
        self.link
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::{ListenerId, Transport};

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
        while let Some(letter) = mailbox.take() {
            mailbox.discard(letter);
        }
        assert!(mailbox.post(Kind::Received, &datagram(b"x"), None).is_ok());
    }
}
