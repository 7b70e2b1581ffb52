//! The store's batches with rows for the location: lent to the workers in turn, and waited for.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::batch::{Batch, Errand};
use super::desk::Desk;
use super::status::Status;
use crate::limits::{STORE_BATCH_ROWS, STORE_LOADS};
use crate::location::Row;

/// Wakes worker `n`.
pub type Wake = Box<dyn Fn(usize) + Send>;

/// Who hands batches to the workers.
pub(super) struct Lender {
    pub(super) desks: Vec<Arc<Desk>>,
    status: Arc<Status>,
    wake: Wake,
    /// Empty batches for rows.
    spare: Vec<Batch>,
    /// What the rows are for.
    pub(super) errand: Errand,
    /// The one that is being filled.
    filling: Option<Batch>,
    /// Batches of rows that are with workers.
    lent: usize,
    next: usize,
}

impl Lender {
    pub(super) fn new(desks: Vec<Arc<Desk>>, status: Arc<Status>, wake: Wake) -> Self {
        let spare = desks
            .iter()
            .flat_map(|_| (0..STORE_LOADS).map(|_| Batch::new(Errand::Load)));
        Self {
            spare: spare.collect(),
            desks,
            status,
            wake,
            errand: Errand::Load,
            filling: None,
            lent: 0,
            next: 0,
        }
    }

    /// Gives worker `n` a batch.
    pub(super) fn give(&self, n: usize, batch: Batch) {
        if let Some(desk) = self.desks.get(n) {
            desk.give(batch);
            (self.wake)(n);
        }
    }

    /// Puts a row into the batch that is being filled; waits for the workers where all batches are with them.
    pub(super) fn put(&mut self, row: &Row<'_>) {
        loop {
            if let Some(batch) = &mut self.filling {
                if batch.rows.len() < STORE_BATCH_ROWS {
                    batch.rows.push(row);
                    return;
                }
                self.send();
            }
            self.filling = self.spare.pop();
            if self.filling.is_none() && !self.wait() {
                return;
            }
        }
    }

    /// Sends what was put last, and waits until every worker has let all of it into the location; false where the server ends.
    pub(super) fn finish(&mut self) -> bool {
        self.send();
        while self.lent > 0 {
            if !self.wait() {
                return false;
            }
        }
        true
    }

    /// Takes a batch that worker `n` handed over: a batch of rows stays, another is given out.
    pub(super) fn take_back(&mut self, mut batch: Batch) -> Option<Batch> {
        match batch.errand {
            Errand::Load | Errand::Verify => {
                batch.rows.clear();
                self.spare.push(batch);
                self.lent = self.lent.saturating_sub(1);
                None
            }
            Errand::Answer => None,
            Errand::Fill | Errand::Write | Errand::Committed | Errand::Failed => Some(batch),
        }
    }

    fn send(&mut self) {
        let Some(mut batch) = self.filling.take() else {
            return;
        };
        batch.errand = self.errand;
        if batch.rows.is_empty() {
            self.spare.push(batch);
            return;
        }
        self.lent += 1;
        self.next = (self.next + 1) % self.desks.len().max(1);
        self.give(self.next, batch);
    }

    /// Takes what the workers hand over, or waits for it; false where the server ends.
    fn wait(&mut self) -> bool {
        let mut took = false;
        for n in 0..self.desks.len() {
            while let Some(batch) = self.desks.get(n).and_then(|desk| desk.collect()) {
                took = true;
                if let Some(mut batch) = self.take_back(batch) {
                    // The store is shut meanwhile: this one was on its way.
                    batch.errand = Errand::Failed;
                    self.give(n, batch);
                }
            }
        }
        if !took {
            if self.status.is_stopping() {
                return false;
            }
            thread::park_timeout(PAUSE);
        }
        true
    }
}

/// How long nobody's batch is waited for before one looks again.
const PAUSE: Duration = Duration::from_millis(20);
