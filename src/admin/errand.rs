//! Errands: what the admin server has the workers do with the location, whose locks are theirs alone to take.
//!
//! A worker runs one errand between two batches of messages, so each is short: as much as one slice ([`crate::limits`]). It is put into
//! the bounded tray of a worker, which is woken if it sleeps; the admin server waits for the answer, but not for ever.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;
use tokio::sync::oneshot;

use crate::counters::{Counter, Counters};
use crate::limits::{ERRAND_TIME, ERRANDS_MAX};
use crate::location::Location;
use crate::time::Instant;

/// What a worker is to do, and where the answer goes; it says whether anybody still wanted it.
type Errand = Box<dyn FnOnce(Instant, &Location) -> bool + Send>;

/// Where the errands of one worker wait.
pub struct Tray(ArrayQueue<Errand>);

/// The way to one worker: its tray, and what wakes it.
pub type Way = (Arc<Tray>, Box<dyn Fn() + Send + Sync>);

/// The ways to all workers.
pub struct Errands {
    ways: Vec<Way>,
    next: AtomicUsize,
    counters: Arc<Counters>,
}

/// Why an errand has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Every tray is full.
    Full,
    /// No worker came to it in time. It is dropped, unless a worker has just begun with it.
    Late,
}

impl Tray {
    /// An empty tray.
    #[must_use]
    pub fn new() -> Self {
        Self(ArrayQueue::new(ERRANDS_MAX))
    }

    /// Runs the oldest errand; false where there is none. For the worker alone, between two batches.
    pub fn run_one(&self, now: Instant, location: &Location, counters: &Counters) -> bool {
        let Some(errand) = self.0.pop() else {
            return false;
        };
        counters.increment(if errand(now, location) {
            Counter::ErrandsDone
        } else {
            Counter::ErrandsStale
        });
        true
    }

    /// Whether no errand waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Tray {
    fn default() -> Self {
        Self::new()
    }
}

impl Errands {
    /// The errands of workers that are reached by these ways.
    #[must_use]
    pub fn new(ways: Vec<Way>) -> Self {
        Self {
            ways,
            next: AtomicUsize::new(0),
            counters: Arc::new(Counters::new()),
        }
    }

    /// What was refused: the admin server's thread alone counts it.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Has a worker do `work`, and gives what came of it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(Instant, &Location) -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let (answer, answered) = oneshot::channel();
        let errand = move |now, location: &Location| {
            // Who asked has gone: what he wanted is not done behind his back.
            if answer.is_closed() {
                return false;
            }
            answer.send(work(now, location)).is_ok()
        };
        if !self.post(Box::new(errand)) {
            self.counters.increment(Counter::ErrandsFull);
            return Err(Unanswered::Full);
        }
        let patience = std::time::Duration::from_micros(ERRAND_TIME.as_micros());
        let answer = tokio::time::timeout(patience, answered).await;
        answer
            .ok()
            .and_then(Result::ok)
            .ok_or(Unanswered::Late)
            .inspect_err(|_| self.counters.increment(Counter::ErrandsLate))
    }

    /// Puts an errand into the tray of the next worker that has room.
    fn post(&self, mut errand: Errand) -> bool {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for n in 0..self.ways.len() {
            let place = first.wrapping_add(n) % self.ways.len();
            let Some((tray, rouse)) = self.ways.get(place) else {
                continue;
            };
            match tray.0.push(errand) {
                Ok(()) => {
                    rouse();
                    return true;
                }
                Err(back) => errand = back,
            }
        }
        false
    }
}

impl Unanswered {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "the workers have no room for further errands; try again",
            Self::Late => "no worker came to it in time; look whether it was done, and try again",
        }
    }
}

impl fmt::Debug for Tray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tray").field("len", &self.0.len()).finish()
    }
}

impl fmt::Debug for Errands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errands").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::LocationSettings;

    fn location() -> Location {
        Location::new(&LocationSettings {
            hash_key: [1; 16],
            bindings_max: 10,
            contacts_max: 3,
        })
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime")
    }

    /// Errands to trays that nobody looks into.
    fn idle(trays: &[Arc<Tray>]) -> Errands {
        let ways = trays
            .iter()
            .map(|tray| -> Way { (Arc::clone(tray), Box::new(|| {})) });
        Errands::new(ways.collect())
    }

    #[test]
    fn whoever_has_room_gets_it_and_none_is_a_refusal() {
        let trays = [Arc::new(Tray::new()), Arc::new(Tray::new())];
        let errands = idle(&trays);
        let posted = (0..3 * ERRANDS_MAX)
            .take_while(|_| errands.post(Box::new(|_, _| true)))
            .count();
        assert_eq!(posted, 2 * ERRANDS_MAX);
        assert_eq!(
            runtime().block_on(errands.run(|_, _| ())),
            Err(Unanswered::Full)
        );
        assert_eq!(errands.counters().read(Counter::ErrandsFull), 1);
        let (location, counters) = (location(), Counters::new());
        assert!(trays[0].run_one(Instant::EPOCH, &location, &counters));
        assert!(errands.post(Box::new(|_, _| true)));
        assert_eq!(counters.read(Counter::ErrandsDone), 1);
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_done() {
        let tray = Arc::new(Tray::new());
        let errands = idle(std::slice::from_ref(&tray));
        let done = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&done);
        let mut asked = Box::pin(errands.run(move |_, _| count.fetch_add(1, Ordering::SeqCst)));
        // Asked once, so that it is posted; then given up.
        runtime().block_on(async {
            tokio::select! {
                biased;
                _ = &mut asked => {}
                () = std::future::ready(()) => {}
            }
        });
        drop(asked);
        let counters = Counters::new();
        assert!(tray.run_one(Instant::EPOCH, &location(), &counters));
        assert!(!tray.run_one(Instant::EPOCH, &location(), &counters));
        assert_eq!(done.load(Ordering::SeqCst), 0);
        assert_eq!(counters.read(Counter::ErrandsStale), 1);
    }
}
