//! Where the workers and the cluster's thread meet: bounded queues of parcels to and fro.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};

use crate::limits::{FRESH_PARCELS, PARCEL_LEN, WORK_PARCELS};
use crate::replication::Parcel;

/// The desk of one worker.
#[derive(Debug)]
pub struct Desk {
    to_worker: ArrayQueue<Parcel>,
    to_cluster: ArrayQueue<Parcel>,
    bell: Arc<Bell>,
}

/// Wakes the cluster's thread.
#[derive(Debug)]
pub(super) struct Bell {
    fd: OwnedFd,
    is_asleep: AtomicBool,
}

impl Desk {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        let len = FRESH_PARCELS + WORK_PARCELS;
        let desk = Self {
            to_worker: ArrayQueue::new(len),
            to_cluster: ArrayQueue::new(len),
            bell,
        };
        for _ in 0..FRESH_PARCELS {
            desk.give(Parcel::new(PARCEL_LEN));
        }
        desk
    }

    /// The worker takes what comes next.
    #[must_use]
    pub fn take(&self) -> Option<Parcel> {
        self.to_worker.pop()
    }

    /// Whether nothing waits for the worker.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.to_worker.is_empty()
    }

    /// The worker hands a parcel over.
    pub fn post(&self, parcel: Parcel) {
        // There is room for every parcel that there is.
        let _ = self.to_cluster.push(parcel);
        self.bell.ring();
    }

    pub(super) fn give(&self, parcel: Parcel) {
        let _ = self.to_worker.push(parcel);
    }

    pub(super) fn collect(&self) -> Option<Parcel> {
        self.to_cluster.pop()
    }

    pub(super) fn has_post(&self) -> bool {
        !self.to_cluster.is_empty()
    }
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            fd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            is_asleep: AtomicBool::new(false),
        })
    }

    /// Wakes the thread, if it sleeps.
    pub(super) fn ring(&self) {
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            // Full, it would wake all the same.
            let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
        }
    }

    /// The thread is about to sleep: whoever leaves something from here on rings.
    pub(super) fn fall_asleep(&self) {
        self.is_asleep.store(true, Ordering::SeqCst);
    }

    /// The thread is awake.
    pub(super) fn awake(&self) {
        self.is_asleep.store(false, Ordering::SeqCst);
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.fd, &mut count);
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
