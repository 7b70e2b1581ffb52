//! What the main thread and the workers tell each other: drain, stop, and how much is still under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::mailbox::Mailbox;
use crate::datagram::WorkerId;

/// The signs between the main thread and the workers.
#[derive(Debug)]
pub(super) struct Control {
    mailboxes: Vec<Arc<Mailbox>>,
    is_draining: AtomicBool,
    is_stopping: AtomicBool,
    workers: Vec<Status>,
}

/// What a worker says of itself.
#[derive(Debug, Default)]
struct Status {
    drains: AtomicBool,
    pending: AtomicUsize,
}

impl Control {
    /// Signs for as many workers as there are mailboxes.
    pub(super) fn new(mailboxes: Vec<Arc<Mailbox>>) -> Self {
        let workers = mailboxes.iter().map(|_| Status::default()).collect();
        Self {
            mailboxes,
            is_draining: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            workers,
        }
    }

    /// Every worker's mailbox.
    pub(super) fn mailboxes(&self) -> &[Arc<Mailbox>] {
        &self.mailboxes
    }

    /// Tells every worker to begin nothing new.
    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Tells every worker to end.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Whether the workers are to begin nothing new.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Whether the workers are to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// A worker says how many of its transactions hold the exit, and whether it has begun to drain.
    pub(super) fn report(&self, worker: WorkerId, drains: bool, pending: usize) {
        if let Some(status) = self.workers.get(usize::from(worker.0)) {
            status.pending.store(pending, Ordering::Relaxed);
            status.drains.store(drains, Ordering::SeqCst);
        }
    }

    /// Whether every worker drains and none has a transaction that holds the exit.
    pub(super) fn is_drained(&self) -> bool {
        self.workers.iter().all(|status| {
            status.drains.load(Ordering::SeqCst) && status.pending.load(Ordering::Relaxed) == 0
        })
    }

    /// Wakes one worker, if it sleeps.
    pub(super) fn wake_one(&self, worker: usize) {
        if let Some(mailbox) = self.mailboxes.get(worker) {
            mailbox.rouse();
        }
    }

    fn wake(&self) {
        for mailbox in &self.mailboxes {
            mailbox.wake();
        }
    }
}
