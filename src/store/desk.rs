//! Where one worker and the store's thread meet: two bounded queues of batches, and a few signs.
//!
//! The batches are made once and go to and fro, so neither side allocates. The store's thread never touches the location: it
//! lends batches, and the worker fills them from its own share of the shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;

use super::batch::{Batch, Errand};
use super::text::Text;
use crate::limits::{AOR_LEN_MAX, STORE_ANSWERS, STORE_BATCHES, STORE_LOADS, STORE_WANTED_MAX};
use crate::proxy::StoreFull;

/// One worker's desk.
#[derive(Debug)]
pub struct Desk {
    to_worker: ArrayQueue<Batch>,
    to_store: ArrayQueue<Batch>,
    /// Whether the store takes batches.
    is_open: AtomicBool,
    /// Whether the database does not take changes.
    is_failing: AtomicBool,
    /// Whether every binding is to be written anew.
    is_to_relist: AtomicBool,
    /// Whether all rows of the store have been handed over.
    is_loaded: Arc<AtomicBool>,
    /// AoRs whose rows a request waits for.
    wanted: ArrayQueue<Text<AOR_LEN_MAX>>,
    /// The store's thread.
    writer: Arc<Waker>,
    /// The thread that answers questions.
    registrar: Arc<Waker>,
}

/// Wakes the store's thread, once it runs.
#[derive(Debug, Default)]
pub(super) struct Waker(Mutex<Option<Thread>>);

impl Waker {
    /// Wakes this thread from now on.
    pub(super) fn set(&self, thread: Thread) {
        *self.0.lock() = Some(thread);
    }

    pub(super) fn wake(&self) {
        if let Some(thread) = &*self.0.lock() {
            thread.unpark();
        }
    }
}

impl Desk {
    pub(super) fn new(
        writer: Arc<Waker>,
        registrar: Arc<Waker>,
        is_loaded: Arc<AtomicBool>,
    ) -> Self {
        let desk = Self {
            to_worker: ArrayQueue::new(BATCHES_MAX),
            to_store: ArrayQueue::new(BATCHES_MAX),
            is_open: AtomicBool::new(false),
            is_failing: AtomicBool::new(false),
            is_to_relist: AtomicBool::new(false),
            is_loaded,
            wanted: ArrayQueue::new(STORE_WANTED_MAX),
            writer,
            registrar,
        };
        for _ in 0..STORE_BATCHES {
            let _ = desk.to_worker.push(Batch::new(Errand::Fill));
        }
        desk
    }

    /// The worker takes what comes next.
    #[must_use]
    pub fn take(&self) -> Option<Batch> {
        self.to_worker.pop()
    }

    /// The worker hands a batch over, and wakes the store's thread.
    pub fn post(&self, batch: Batch) {
        // There is room for every batch that there is.
        let _ = self.to_store.push(batch);
        self.writer.wake();
    }

    /// Asks for the rows of an AoR before its turn, while the store is still read at the start. They come as any rows do, and behind
    /// them the note that they are all.
    ///
    /// # Errors
    /// [`StoreFull`]: as many are asked for as may be.
    pub fn want(&self, aor: &[u8]) -> Result<(), StoreFull> {
        self.wanted.push(Text::cut(aor).0).map_err(|_| StoreFull)?;
        self.registrar.wake();
        Ok(())
    }

    /// Whether a batch would be taken now; while not, what changes waits in the location.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Whether the database does not take changes, as far as is known. One that is still being read is not open, and does not fail.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Acquire)
    }

    /// Whether every binding is to be listed anew, since the table has lost rows; true once for each loss.
    #[must_use]
    pub fn must_relist(&self) -> bool {
        self.is_to_relist.load(Ordering::Relaxed) && self.is_to_relist.swap(false, Ordering::AcqRel)
    }

    /// Whether all rows that the store held at the start have entered the location.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.is_loaded.load(Ordering::Acquire)
    }

    /// The store takes what a worker handed over.
    pub(super) fn collect(&self) -> Option<Batch> {
        self.to_store.pop()
    }

    /// The store hands a batch to the worker.
    pub(super) fn give(&self, batch: Batch) {
        let _ = self.to_worker.push(batch);
    }

    /// What is wanted, where there is room for an answer.
    pub(super) fn wanted(&self, len_max: usize) -> Vec<Vec<u8>> {
        if self.to_worker.len() + STORE_BATCHES + STORE_LOADS >= BATCHES_MAX {
            return Vec::new();
        }
        let wanted = std::iter::from_fn(|| self.wanted.pop()).take(len_max);
        wanted.map(|aor| aor.as_bytes().to_vec()).collect()
    }

    pub(super) fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Release);
    }

    pub(super) fn set_failing(&self, is_failing: bool) {
        self.is_failing.store(is_failing, Ordering::Release);
    }

    pub(super) fn relist(&self) {
        self.is_to_relist.store(true, Ordering::Release);
    }

    pub(super) fn has_post(&self) -> bool {
        !self.to_store.is_empty()
    }
}

/// Batches that may lie on one side of a desk.
const BATCHES_MAX: usize = STORE_BATCHES + STORE_LOADS + STORE_ANSWERS;
