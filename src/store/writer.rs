//! The store's thread: it brings batches to the database, and after a start the database's rows to the workers.
//!
//! While the database does not answer the desks are shut: what changes waits in the location, and memory is the truth. When it
//! answers again they open, and everything that waited comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::{debug, error, info, warn};

use super::batch::{Batch, Errand};
use super::engine::{Engine, EngineError};
use super::lender::Lender;
use super::status::Status;
use crate::counters::{Counter, Counters};
use crate::limits::{STORE_PURGE_ROWS, STORE_RELIST_INTERVAL};
use crate::location::{Rows, Work};

/// The thread's own state.
pub(super) struct Writer {
    pub(super) engine: Box<dyn Engine>,
    pub(super) lender: Lender,
    pub(super) status: Arc<Status>,
    pub(super) counters: Arc<Counters>,
    /// Whether the rows that the database held at the start have been handed over.
    pub(super) is_loaded: Arc<AtomicBool>,
    /// Rows that had expired by then are purged; `None` when there are none.
    pub(super) purge_before_s: Option<i64>,
    pub(super) backoff: Backoff,
    /// No attempt is made before.
    pub(super) retry_at: Option<Instant>,
    /// Whether the desks are open: the database answers.
    pub(super) is_open: bool,
    /// Whether it refused the last batch.
    pub(super) has_failed: bool,
    pub(super) last_relist: Option<Instant>,
    /// Whether the table may have rows again that had been deleted.
    pub(super) must_verify: bool,
}

/// How long to wait before the next attempt: twice as long each time, and never two servers in step.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Writer {
    /// Works until it is told to stop and nothing is left.
    pub(super) fn run(mut self) {
        loop {
            if !self.is_ready() {
                while self.serve() {}
                if self.status.is_stopping() {
                    return;
                }
                thread::park_timeout(self.pause());
                continue;
            }
            let worked = self.serve();
            if !worked && self.status.is_stopping() {
                return;
            }
            if !worked && !self.purge() && !self.has_post() {
                thread::park_timeout(IDLE);
            }
        }
    }

    /// Sees to it that the database answers and that all its rows are handed over.
    fn is_ready(&mut self) -> bool {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        match self.engine.connect() {
            Ok(false) => {}
            Ok(true) => {
                self.must_verify = true;
                self.last_relist = None;
                self.relist("it has lost what it had committed");
            }
            Err(error) => {
                self.fail(&error);
                return false;
            }
        }
        if !self.is_loaded.load(Ordering::Relaxed) {
            match self.load() {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => {
                    self.fail(&error);
                    return false;
                }
            }
        }
        if self.must_verify
            && let Err(error) = self.verify()
        {
            self.fail(&error);
            return false;
        }
        if !self.is_open {
            self.set_open(true);
            self.status.set_up(!self.has_failed);
        }
        true
    }

    fn pause(&self) -> Duration {
        let until = self
            .retry_at
            .map(|at| at.saturating_duration_since(Instant::now()));
        until.unwrap_or(IDLE).min(IDLE)
    }

    /// Has the workers see whether the rows that came back with an older state of the table are still bindings.
    fn verify(&mut self) -> Result<(), EngineError> {
        let Self { engine, lender, .. } = self;
        lender.errand = Errand::Verify;
        engine.load(0, &mut |row| lender.put(row))?;
        if self.lender.finish() {
            self.must_verify = false;
        }
        Ok(())
    }

    /// Hands all rows over; false where the server ends meanwhile.
    fn load(&mut self) -> Result<bool, EngineError> {
        let start = Instant::now();
        let now_s = unix_s();
        let Self { engine, lender, .. } = self;
        lender.errand = Errand::Load;
        let loaded = engine.load(now_s, &mut |row| lender.put(row))?;
        if !self.lender.finish() {
            return Ok(false);
        }
        self.counters.add(Counter::StoreLoaded, loaded.rows as u64);
        self.counters
            .add(Counter::StoreExpired, loaded.expired as u64);
        // What ends in this very second was left out, too.
        self.purge_before_s = (loaded.expired > 0).then_some(now_s + 1);
        self.is_loaded.store(true, Ordering::Release);
        info!(
            rows = loaded.rows,
            expired = loaded.expired,
            "loaded in {:.2} s",
            start.elapsed().as_secs_f64()
        );
        Ok(true)
    }

    /// Writes one batch of each worker that has handed one over.
    fn serve(&mut self) -> bool {
        let mut worked = false;
        for n in 0..self.lender.desks.len() {
            let Some(batch) = self.lender.desks.get(n).and_then(|desk| desk.collect()) else {
                continue;
            };
            worked = true;
            if let Some(mut batch) = self.lender.take_back(batch) {
                batch.errand = if self.is_open && self.write(&mut batch) {
                    Errand::Committed
                } else {
                    Errand::Failed
                };
                self.lender.give(n, batch);
            }
        }
        worked
    }

    fn write(&mut self, batch: &mut Batch) -> bool {
        let start = Instant::now();
        let written = self.engine.write(&batch.rows);
        match written {
            Ok(written) => {
                self.succeed();
                let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.counters.add(Counter::StoreFlushMicros, micros);
                self.counters.increment(Counter::StoreCommitted);
                self.counters
                    .add(Counter::StoreUnstorable, written.refused.len() as u64);
                self.count(&batch.rows);
                batch.refused = written.refused;
                if written.missed > 0 {
                    self.counters
                        .add(Counter::StoreMissed, written.missed as u64);
                    self.relist("rows that it had are gone");
                }
                true
            }
            Err(error) => {
                self.counters.increment(Counter::StoreFailed);
                self.has_failed = true;
                self.fail(&error);
                false
            }
        }
    }

    fn count(&self, rows: &Rows) {
        let count = |work| rows.iter().filter(|row| row.work == work).count() as u64;
        self.counters
            .add(Counter::StoreInserted, count(Work::Insert));
        self.counters
            .add(Counter::StoreUpdated, count(Work::Update));
        self.counters
            .add(Counter::StoreDeleted, count(Work::Delete));
    }

    /// Rows that were known to be there are not: whatever else is missing is written anew.
    fn relist(&mut self, why: &str) {
        let is_recent = |last: Instant| last.elapsed() < RELIST_INTERVAL;
        if self.last_relist.is_some_and(is_recent) {
            return;
        }
        self.last_relist = Some(Instant::now());
        warn!("all bindings are written to the database anew: {why}");
        for desk in &self.lender.desks {
            desk.relist();
        }
    }

    fn fail(&mut self, error: &EngineError) {
        self.counters.increment(match error {
            EngineError::Unreachable(_) => Counter::StoreErrorUnreachable,
            EngineError::Refused(_) => Counter::StoreErrorRefused,
            EngineError::Unfit(_) => Counter::StoreErrorUnfit,
        });
        if self.backoff.is_fresh() {
            error!("the store does not take changes, which wait in memory: {error}");
        } else {
            debug!("the store still does not take changes: {error}");
        }
        self.retry_at = Some(Instant::now() + self.backoff.next());
        self.status.set_up(false);
        self.set_open(false);
        for desk in &self.lender.desks {
            desk.set_failing(true);
        }
        self.engine.disconnect();
    }

    fn succeed(&mut self) {
        if !self.backoff.is_fresh() {
            info!("the store takes changes again");
        }
        self.backoff.reset();
        (self.has_failed, self.retry_at) = (false, None);
        self.status.set_up(true);
    }

    /// Deletes a slice of what had expired before the start; says whether there is more.
    fn purge(&mut self) -> bool {
        let Some(before_s) = self.purge_before_s else {
            return false;
        };
        match self.engine.purge(before_s, STORE_PURGE_ROWS) {
            Ok(STORE_PURGE_ROWS..) => true,
            Ok(_) => {
                self.purge_before_s = None;
                false
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    fn set_open(&mut self, is_open: bool) {
        self.is_open = is_open;
        for desk in &self.lender.desks {
            desk.set_open(is_open);
            if is_open {
                desk.set_failing(false);
            }
        }
    }

    fn has_post(&self) -> bool {
        self.lender.desks.iter().any(|desk| desk.has_post())
    }
}

impl Backoff {
    pub(super) fn next(&mut self) -> Duration {
        let span_ms = (BACKOFF_MIN_MS << self.failures.min(16)).min(BACKOFF_MAX_MS);
        self.failures += 1;
        let mut byte = [0];
        // Without randomness there is no jitter, and nothing worse.
        let _ = getrandom::fill(&mut byte);
        Duration::from_millis(span_ms / 2 + span_ms * u64::from(byte[0]) / 512)
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Whether nothing has failed since all was well.
    pub(super) fn is_fresh(&self) -> bool {
        self.failures == 0
    }
}

fn unix_s() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// How long the thread sleeps with nothing to do, before it looks after the connection.
const IDLE: Duration = Duration::from_secs(1);
const BACKOFF_MIN_MS: u64 = 50;
const BACKOFF_MAX_MS: u64 = 2_000;
const RELIST_INTERVAL: Duration = Duration::from_micros(STORE_RELIST_INTERVAL.as_micros());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_longer_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        assert!(
            waits[0] >= Duration::from_millis(BACKOFF_MIN_MS / 2)
                && waits[0] <= Duration::from_millis(BACKOFF_MIN_MS)
        );
        assert!(
            waits
                .iter()
                .all(|wait| *wait <= Duration::from_millis(BACKOFF_MAX_MS))
        );
        assert!(waits[39] >= Duration::from_millis(BACKOFF_MAX_MS / 2));
    }
}
