//! What the store's thread says of itself, and is told.

use std::sync::atomic::{AtomicBool, Ordering};

/// The state of the store; its thread writes, anybody reads.
#[derive(Debug, Default)]
pub struct Status {
    is_up: AtomicBool,
    is_stopping: AtomicBool,
}

impl Status {
    /// Whether the database took the last batch, or has answered since.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    pub(super) fn set_up(&self, is_up: bool) {
        self.is_up.store(is_up, Ordering::Relaxed);
    }

    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }
}
