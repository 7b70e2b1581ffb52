//! Whether a worker's queues overflow. One that holds much and loses nothing is being served; one that loses is overload.

use tracing::warn;

use crate::datagram::WorkerId;
use crate::limits::OVERLOAD_WINDOW;
use crate::proxy::{Backlog, Turn};
use crate::time::Instant;

/// What was seen of the queues when they were last looked at.
#[derive(Debug)]
pub(super) struct Overflow {
    /// Packets that the kernel had no room for, so far.
    lost: u64,
    next_look: Instant,
    is_losing: bool,
}

impl Overflow {
    pub(super) const fn new() -> Self {
        Self {
            lost: 0,
            next_look: Instant::EPOCH,
            is_losing: false,
        }
    }

    /// Says how the queues stand. `is_full`: more waits than was taken in this turn; only then, and once a window, `lost` is
    /// asked, since it costs a system call.
    pub(super) fn backlog(
        &mut self,
        now: Instant,
        is_full: bool,
        lost: impl FnOnce() -> u64,
    ) -> Backlog {
        if !is_full {
            return Backlog::Short;
        }
        if now >= self.next_look {
            let so_far = lost();
            self.is_losing = so_far != self.lost;
            self.lost = so_far;
            self.next_look = now + OVERLOAD_WINDOW;
        }
        if self.is_losing {
            Backlog::Overflowing
        } else {
            Backlog::Full
        }
    }
}

/// Tells the log that an overload begins or ends.
pub(super) fn tell(worker: WorkerId, turn: Turn) {
    let worker = worker.0;
    match turn {
        Turn::Begun => warn!(worker, "overload: new work is turned away"),
        Turn::Ended(account) => warn!(
            worker,
            ms = account.span.as_millis_ceil(),
            let_in = account.let_in,
            refused = account.refused,
            dropped = account.dropped,
            "overload is over"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn a_full_queue_overflows_only_while_something_is_lost() {
        let mut overflow = Overflow::new();
        let at = |windows: u64| {
            let us = windows * OVERLOAD_WINDOW.as_micros();
            Instant::EPOCH + Duration::from_micros(us)
        };
        let never = || unreachable!("once a window, and only where it is full");
        assert_eq!(overflow.backlog(at(1), true, || 0), Backlog::Full);
        assert_eq!(overflow.backlog(at(2), false, never), Backlog::Short);
        assert_eq!(overflow.backlog(at(3), true, || 5), Backlog::Overflowing);
        assert_eq!(overflow.backlog(at(3), true, never), Backlog::Overflowing);
        assert_eq!(overflow.backlog(at(4), true, || 6), Backlog::Overflowing);
        assert_eq!(overflow.backlog(at(5), true, || 6), Backlog::Full);
    }
}
