//! The one clock of the process.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::Instant;

/// `CLOCK_MONOTONIC`, anchored once to the Unix epoch; copies of it agree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: std::time::Instant,
    start_unix_us: u64,
}

impl Clock {
    /// Anchors the clock to the wall clock as it stands now.
    #[must_use]
    pub(super) fn start() -> Self {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let start_unix_us = u64::try_from(unix.as_micros()).unwrap_or(u64::MAX);
        Self {
            start: std::time::Instant::now(),
            start_unix_us,
        }
    }

    /// The present moment.
    #[must_use]
    pub(super) fn now(&self) -> Instant {
        let since = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        Instant::from_micros(self.start_unix_us.saturating_add(since))
    }
}
