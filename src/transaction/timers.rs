//! The two timers of a transaction: the one that retransmits, and the one that ends its state.

use super::step::{Retransmit, Timeout};
use crate::time::{Duration, Instant};
use crate::timer::{TimerId, Wheel};

/// The timers of one transaction.
#[derive(Debug, Default)]
pub(super) struct Timers {
    pub(super) interval: Duration,
    pub(super) retransmit: Option<TimerId>,
    pub(super) timeout: Option<TimerId>,
}

/// Whose timer fires: the payload in the wheel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    ServerRetransmit(u32),
    ServerTimeout(u32),
    ClientRetransmit(u32),
    ClientTimeout(u32),
    ClientGuard(u32),
}

impl Timers {
    /// Those that run.
    pub(super) fn running(&self) -> impl Iterator<Item = TimerId> {
        [self.retransmit, self.timeout].into_iter().flatten()
    }

    /// Forgets the timer that has just fired.
    pub(super) const fn forget(&mut self, is_retransmit: bool) {
        if is_retransmit {
            self.retransmit = None;
        } else {
            self.timeout = None;
        }
    }

    /// Does with both timers what a step asks; each comes with what the wheel gives back when it fires.
    pub(super) fn apply(
        &mut self,
        wheel: &mut Wheel<Timer>,
        now: Instant,
        retransmit: (Retransmit, Timer),
        timeout: (Timeout, Timer),
    ) {
        let interval = match retransmit.0 {
            Retransmit::Keep => None,
            Retransmit::Stop => Some(Duration::ZERO),
            Retransmit::Set(interval) => Some(interval),
            Retransmit::Double(cap) => {
                let doubled = self.interval.doubled();
                Some(cap.map_or(doubled, |cap| doubled.min(cap)))
            }
        };
        if let Some(interval) = interval {
            if let Some(id) = self.retransmit.take() {
                wheel.cancel(id);
            }
            self.interval = interval;
            if interval > Duration::ZERO {
                self.retransmit = Some(wheel.schedule(now, now + interval, retransmit.1));
            }
        }
        let span = match timeout.0 {
            Timeout::Keep => return,
            Timeout::Stop => None,
            Timeout::Set(span) => Some(span),
        };
        if let Some(id) = self.timeout.take() {
            wheel.cancel(id);
        }
        self.timeout = span.map(|span| wheel.schedule(now, now + span, timeout.1));
    }
}
