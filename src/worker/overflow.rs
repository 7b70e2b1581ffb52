//! Whether a worker's queues overflow. One that holds much and loses nothing is being served; one that loses is overload.

use crate::limits::OVERLOAD_WINDOW;
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

    /// Says whether the queues overflow. `is_full`: more waits than was taken in this turn; only then, and once a window, `lost` is
    /// asked, since it costs a system call.
    pub(super) fn is_there(
        &mut self,
        now: Instant,
        is_full: bool,
        lost: impl FnOnce() -> u64,
    ) -> bool {
        if is_full && now >= self.next_look {
            let so_far = lost();
            self.is_losing = so_far != self.lost;
            self.lost = so_far;
            self.next_look = now + OVERLOAD_WINDOW;
        }
        is_full && self.is_losing
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
        assert!(!overflow.is_there(at(1), true, || 0), "nothing was lost");
        assert!(!overflow.is_there(at(2), false, || 5), "it is not full");
        assert!(overflow.is_there(at(3), true, || 5));
        assert!(overflow.is_there(at(3), true, || unreachable!("once a window")));
        assert!(overflow.is_there(at(4), true, || 6));
        assert!(!overflow.is_there(at(5), true, || 6), "no more are lost");
    }
}
