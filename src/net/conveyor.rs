//! A conveyor: a bounded queue of messages in pooled buffers, from any thread to the one that owns it.
//!
//! Who posts takes a free buffer, writes the message into it and posts it with a label; the owner gives the buffer back. A
//! sleeping owner is woken by an eventfd. Nothing here makes anybody wait, or allocates after the start.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::ArrayQueue;

use super::poll::EventFd;
use super::port::SendError;
use crate::limits::{MESSAGE_LEN_MAX, SMALL_BUFFER_LEN};

/// The queue, its buffers, and the owner's bell.
#[derive(Debug)]
pub struct Conveyor<T> {
    posted: ArrayQueue<Parcel<T>>,
    free_small: ArrayQueue<Box<[u8]>>,
    free_large: ArrayQueue<Box<[u8]>>,
    bell: EventFd,
    is_sleeping: AtomicBool,
}

/// A message in a pooled buffer, and what is to be known about it.
#[derive(Debug)]
pub struct Parcel<T> {
    buffer: Box<[u8]>,
    len: usize,
    /// What is to be known about it.
    pub label: T,
}

impl<T> Conveyor<T> {
    /// An empty one that holds `len` messages, `large_len` of them in buffers for the longest message, the others in small ones.
    ///
    /// # Errors
    /// When the kernel gives no eventfd (descriptor limit).
    pub fn new(len: usize, large_len: usize) -> io::Result<Self> {
        let conveyor = Self {
            posted: ArrayQueue::new(len),
            free_small: ArrayQueue::new(len - large_len),
            free_large: ArrayQueue::new(large_len),
            bell: EventFd::new()?,
            is_sleeping: AtomicBool::new(false),
        };
        // Zeroed pages are the kernel's until they are written: a conveyor costs what it carries.
        for _ in large_len..len {
            conveyor.give_back(vec![0; SMALL_BUFFER_LEN].into_boxed_slice());
        }
        for _ in 0..large_len {
            conveyor.give_back(vec![0; MESSAGE_LEN_MAX].into_boxed_slice());
        }
        Ok(conveyor)
    }

    /// Posts a message of `len` bytes that `write` fills in, and wakes the owner if it sleeps.
    ///
    /// # Errors
    /// [`SendError::Full`] where no buffer of the size is free, [`SendError::TooLarge`] where there is none so large.
    pub fn post(
        &self,
        label: T,
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
        if let Err(parcel) = self.posted.push(Parcel { buffer, len, label }) {
            self.give_back(parcel.buffer);
            return Err(SendError::Full);
        }
        self.rouse();
        Ok(())
    }

    /// Takes the oldest message.
    #[must_use]
    pub fn take(&self) -> Option<Parcel<T>> {
        self.posted.pop()
    }

    /// Gives a message's buffer back to the pool.
    pub fn discard(&self, parcel: Parcel<T>) {
        self.give_back(parcel.buffer);
    }

    /// How many messages wait.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.posted.len()
    }

    /// How many buffers are free.
    #[must_use]
    pub(crate) fn free_len(&self) -> usize {
        self.free_small.len() + self.free_large.len()
    }

    /// Says that the owner is about to sleep; false if something is posted, so that it must not.
    #[must_use]
    pub(crate) fn may_sleep(&self) -> bool {
        self.is_sleeping.store(true, Ordering::SeqCst);
        if self.posted.is_empty() {
            return true;
        }
        self.is_sleeping.store(false, Ordering::SeqCst);
        false
    }

    /// Says that the owner is awake again; `was_woken` if the eventfd was readable, and is to be emptied.
    pub(crate) fn awake(&self, was_woken: bool) {
        self.is_sleeping.store(false, Ordering::SeqCst);
        if was_woken {
            self.bell.clear();
        }
    }

    /// Wakes the owner if it sleeps: for who leaves it something elsewhere.
    pub(crate) fn rouse(&self) {
        if self.is_sleeping.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Wakes the owner whatever it does.
    pub(crate) fn wake(&self) {
        self.bell.wake();
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

impl<T> AsFd for Conveyor<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl<T> Parcel<T> {
    /// The message.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 8;

    fn post(conveyor: &Conveyor<u8>, label: u8, len: usize) -> Result<(), SendError> {
        conveyor.post(label, len, |room| room.fill(label))
    }

    #[test]
    fn what_is_posted_arrives_in_order_and_every_buffer_comes_back() {
        let conveyor = Conveyor::new(LEN, 2).expect("an eventfd");
        post(&conveyor, 1, 10).expect("room");
        post(&conveyor, 2, SMALL_BUFFER_LEN + 1).expect("room");
        assert!(!conveyor.may_sleep());
        for (label, len) in [(1, 10), (2, SMALL_BUFFER_LEN + 1)] {
            let parcel = conveyor.take().expect("mail");
            assert_eq!(parcel.label, label);
            assert_eq!(parcel.bytes(), vec![label; len]);
            conveyor.discard(parcel);
        }
        assert_eq!(conveyor.free_len(), LEN);
        assert!(conveyor.may_sleep());
    }

    #[test]
    fn a_full_conveyor_says_so_and_recovers() {
        let conveyor = Conveyor::new(LEN, 2).expect("an eventfd");
        let posted = (0..=LEN)
            .take_while(|_| post(&conveyor, 1, 10).is_ok())
            .count();
        assert_eq!(posted, LEN);
        assert_eq!(post(&conveyor, 1, 10), Err(SendError::Full));
        while let Some(parcel) = conveyor.take() {
            conveyor.discard(parcel);
        }
        assert_eq!(post(&conveyor, 1, MESSAGE_LEN_MAX), Ok(()));
        assert_eq!(
            post(&conveyor, 1, MESSAGE_LEN_MAX + 1),
            Err(SendError::TooLarge)
        );
    }
}
