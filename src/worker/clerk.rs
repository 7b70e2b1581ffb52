//! A worker's side of the store: it fills the batches that the store lends with what has changed in its share of the location, notes
//! what became of them, and lets in the rows that the store held at the start. All in slices, between two turns.

use std::sync::Arc;

use tracing::warn;

use super::clock::Clock;
use crate::limits::{
    STORE_BATCH_ROWS, STORE_BATCHES, STORE_SILENT_STOP_TIME, STORE_SLICE_ROWS, STORE_STOP_TIME,
};
use crate::location::{Location, SweepCursor, Work};
use crate::store::{Batch, Desk, Errand};
use crate::time::{Duration, Instant};

/// What one worker does for the store.
#[derive(Debug)]
pub(super) struct Clerk {
    desk: Arc<Desk>,
    location: Arc<Location>,
    /// Where collecting goes on, in this worker's share.
    cursor: SweepCursor,
    /// Where listing anew goes on, while it does.
    relist: Option<SweepCursor>,
    share: SweepCursor,
    /// Batches to fill.
    blank: Vec<Batch>,
    /// The batch that is being filled.
    filling: Option<Batch>,
    /// The batch that came back, or brings rows, and how far it is done.
    current: Option<(Batch, usize)>,
    flush: Duration,
    next_flush: Instant,
    /// Whether a batch was settled that nobody was told of.
    has_settled: bool,
}

impl Clerk {
    /// The clerk of worker `number` of `workers`, who flushes at least as often as `flush` says.
    pub(super) fn new(
        desk: Arc<Desk>,
        location: Arc<Location>,
        number: usize,
        workers: usize,
        flush: Duration,
    ) -> Self {
        let share = SweepCursor::new(number, workers);
        Self {
            desk,
            location,
            cursor: share.clone(),
            relist: None,
            share,
            blank: Vec::with_capacity(4),
            filling: None,
            current: None,
            flush,
            next_flush: Instant::EPOCH,
            has_settled: false,
        }
    }

    /// One slice of whatever is to be done; says whether there is more. An AoR whose rows are all in is told to `each_loaded`.
    pub(super) fn turn(&mut self, now: Instant, each_loaded: impl FnMut(&[u8])) -> bool {
        self.take() && self.go_on(now, each_loaded) || self.collect(now)
    }

    /// Where the store and this worker meet.
    pub(super) fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.desk)
    }

    /// When there is something to be done, though nobody wakes the worker for it.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let fills = self.filling.is_none() && !self.blank.is_empty() && self.desk.is_open();
        fills.then_some(self.next_flush)
    }

    /// Whether a batch was settled since this was last asked.
    pub(super) fn has_settled(&mut self) -> bool {
        std::mem::take(&mut self.has_settled)
    }

    /// Whether the store takes changes, or will as soon as it is open.
    pub(super) fn store_takes(&self) -> bool {
        !self.desk.is_failing()
    }

    /// Brings everything that waits to the store, as long as it takes it and there is time.
    pub(super) fn finish(&mut self, clock: &Clock) {
        let start = clock.now();
        loop {
            let now = clock.now();
            self.next_flush = now;
            while self.turn(now, |_| {}) {}
            let nothing_waits =
                self.relist.is_none() && self.location.waiting(Some(&self.share)) == 0;
            let is_done = nothing_waits && self.is_idle();
            if is_done {
                return;
            }
            let patience = if self.desk.is_open() {
                STORE_STOP_TIME
            } else {
                STORE_SILENT_STOP_TIME
            };
            if now >= start + patience {
                let changes = self.location.waiting(Some(&self.share));
                warn!(
                    changes,
                    "the store did not take the last changes: they are lost"
                );
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Whether no batch of this worker is with the store.
    fn is_idle(&self) -> bool {
        self.filling.is_none() && self.current.is_none() && self.blank.len() == STORE_BATCHES
    }

    /// Has a batch in hand that came from the store, if there is one.
    fn take(&mut self) -> bool {
        while self.current.is_none() {
            match self.desk.take() {
                Some(batch) if batch.errand == Errand::Fill => self.blank.push(batch),
                Some(batch) => self.current = Some((batch, 0)),
                None => return false,
            }
        }
        true
    }

    /// Does a slice of the batch in hand.
    fn go_on(&mut self, now: Instant, each_loaded: impl FnMut(&[u8])) -> bool {
        let Some((mut batch, from)) = self.current.take() else {
            return false;
        };
        let next = match batch.errand {
            Errand::Load | Errand::Answer | Errand::Verify => {
                self.admit(now, &batch, from, each_loaded)
            }
            Errand::Committed | Errand::Failed | Errand::Fill | Errand::Write => {
                let is_committed = batch.errand == Errand::Committed;
                // Once, before the first slice.
                let refused = std::mem::take(&mut batch.refused);
                self.location.refuse(&batch.rows, &refused);
                self.location.settle(
                    &batch.rows,
                    &mut batch.taken,
                    is_committed,
                    from,
                    STORE_SLICE_ROWS,
                )
            }
        };
        match next {
            Some(next) => self.current = Some((batch, next)),
            None if matches!(batch.errand, Errand::Load | Errand::Answer | Errand::Verify) => {
                self.desk.post(batch)
            }
            None => {
                batch.rows.clear();
                self.blank.push(batch);
                self.has_settled = true;
            }
        }
        true
    }

    fn admit(
        &self,
        now: Instant,
        batch: &Batch,
        from: usize,
        mut each_loaded: impl FnMut(&[u8]),
    ) -> Option<usize> {
        let stop = (from + STORE_SLICE_ROWS).min(batch.rows.len());
        for index in from..stop {
            match batch.rows.row(index) {
                Some(row) if batch.errand == Errand::Verify => self.location.verify(&row),
                Some(row) if row.work == Work::Complete => {
                    self.location.complete(row.aor);
                    each_loaded(row.aor);
                }
                Some(row) => {
                    self.location.admit(now, &row);
                }
                None => {}
            }
        }
        (stop < batch.rows.len()).then_some(stop)
    }

    /// Copies a slice of what has changed; says whether there is more.
    fn collect(&mut self, now: Instant) -> bool {
        if self.location.is_loading() && self.desk.is_loaded() {
            self.location.all_is_loaded();
        }
        self.list_anew();
        if self.filling.is_none() {
            let is_due = now >= self.next_flush && self.desk.is_open();
            let Some(mut batch) = is_due.then(|| self.blank.pop()).flatten() else {
                return self.relist.is_some();
            };
            batch.errand = Errand::Write;
            self.filling = Some(batch);
        }
        let Some(mut batch) = self.filling.take() else {
            return false;
        };
        let before = batch.rows.len();
        while batch.rows.len() < before + STORE_SLICE_ROWS {
            let Batch { rows, taken, .. } = &mut batch;
            if !self
                .location
                .collect(now, &mut self.cursor, rows, taken, STORE_BATCH_ROWS)
            {
                // It is full: the next one goes on at once.
                self.desk.post(batch);
                return true;
            }
            if self.cursor.is_at_start() {
                self.next_flush = now + self.flush;
                self.end_round(batch);
                return false;
            }
        }
        self.filling = Some(batch);
        true
    }

    fn end_round(&mut self, mut batch: Batch) {
        if batch.rows.is_empty() {
            batch.errand = Errand::Fill;
            self.blank.push(batch);
        } else {
            self.desk.post(batch);
        }
    }

    /// Lists a slice of all bindings anew, where the table has lost rows.
    fn list_anew(&mut self) {
        if self.desk.must_relist() {
            self.relist = Some(self.share.clone());
        }
        if let Some(cursor) = &mut self.relist
            && self.location.relist(cursor, RELIST_PLACES)
        {
            self.relist = None;
        }
    }
}

/// Places of the location that one slice of listing anew looks at.
const RELIST_PLACES: u32 = 256;
