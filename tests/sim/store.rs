//! A node's store, as far as the core can feel it: batches take their time, fail, or arrive though nobody hears of it; and what was
//! committed outlives the process.

use std::collections::BTreeMap;

use strowger::location::{Location, Row, Rows, SweepCursor, Taken, Work};
use strowger::time::{Duration, Instant};

use super::random::Random;

/// The table, and the batch that is on its way to it.
pub(crate) struct Store {
    /// One row each, by its name.
    table: BTreeMap<Vec<u8>, Rows>,
    flight: Option<(Rows, Taken)>,
    flush: Duration,
    random: Random,
    failing_permille: u64,
}

impl Store {
    /// An empty table; `random` is the store's own, so that the rest of a world is what it is without one.
    pub(crate) fn new(mut random: Random) -> Self {
        Self {
            table: BTreeMap::new(),
            flight: None,
            flush: random.millis(10, 400),
            failing_permille: random.pick(&[0, 50, 300]),
            random,
        }
    }

    /// How long a change waits for its batch.
    pub(crate) fn flush(&self) -> Duration {
        self.flush
    }

    /// Takes what has changed; gives how long it will be on its way, where there was anything.
    pub(crate) fn take(&mut self, now: Instant, location: &Location) -> Option<Duration> {
        let (mut rows, mut taken) = (Rows::default(), Taken::new());
        let mut cursor = SweepCursor::new(0, 1);
        loop {
            let fits = location.collect(now, &mut cursor, &mut rows, &mut taken, usize::MAX);
            assert!(fits, "there is always room");
            if cursor.is_at_start() {
                break;
            }
        }
        if rows.is_empty() {
            return None;
        }
        self.flight = Some((rows, taken));
        // Now and then longer than anybody waits.
        Some(if self.random.chance(30) {
            self.random.secs(3, 12)
        } else {
            self.random.millis(1, 300)
        })
    }

    /// The batch comes back; gives whether it is committed.
    pub(crate) fn land(&mut self, location: &Location) -> bool {
        let Some((rows, mut taken)) = self.flight.take() else {
            return true;
        };
        let fails = self.random.chance(self.failing_permille);
        // The answer may be all that is lost.
        if !fails || self.random.chance(500) {
            self.write(&rows);
        }
        let rest = location.settle(&rows, &mut taken, !fails, 0, usize::MAX);
        assert_eq!(rest, None, "all of it is settled at once");
        !fails
    }

    /// The process dies: what was on its way arrives or not.
    pub(crate) fn cut_off(&mut self) {
        if let Some((rows, _)) = self.flight.take()
            && self.random.chance(500)
        {
            self.write(&rows);
        }
    }

    /// Gives the next process what was committed.
    pub(crate) fn load(&self, now: Instant, location: &Location) {
        for row in self.table.values().flat_map(Rows::iter) {
            location.admit(
                now,
                &Row {
                    work: Work::Load,
                    ..row
                },
            );
        }
    }

    fn write(&mut self, rows: &Rows) {
        for row in rows.iter() {
            if row.work == Work::Delete {
                self.table.remove(row.ruid);
            } else {
                let mut kept = Rows::default();
                kept.push(&row);
                self.table.insert(row.ruid.to_vec(), kept);
            }
        }
    }
}
