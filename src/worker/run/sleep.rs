//! What a worker does that has nothing to do: it looks again for a while, where it is told to, and sleeps then.
//!
//! To be woken costs more than to serve a message: the processor leaves its rest, and the scheduler has a thread to choose.

use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Worker;
use crate::limits::{IDLE, LISTENERS_MAX};
use crate::store::Inquiries;
use crate::time::{Duration, Instant};
use crate::worker::clerk::Clerk;
use crate::worker::herald::Herald;

/// How long a worker stays awake without work (`[workers] spin_us`).
#[derive(Debug, Default)]
pub(super) struct Vigil {
    span: Duration,
    /// Until when, since there was no more work.
    until: Option<Instant>,
}

impl Vigil {
    pub(super) const fn new(span: Duration) -> Self {
        Self { span, until: None }
    }

    /// There is work again.
    pub(super) fn end(&mut self) {
        self.until = None;
    }

    /// Whether to look again; it begins with the first time that this is asked after work.
    fn goes_on(&mut self, now: impl Fn() -> Instant) -> bool {
        if self.span == Duration::ZERO {
            return false;
        }
        let now = now();
        now < *self.until.get_or_insert(now + self.span)
    }
}

impl Worker {
    /// Looks again soon, or sleeps.
    pub(super) fn rest(&mut self) {
        if self.vigil.goes_on(|| self.clock.now()) {
            // Whoever else has work on this processor, say the kernel's thread that receives for us, comes first.
            thread::yield_now();
        } else {
            self.sleep();
        }
    }

    /// Sleeps until something arrives, a timer is due or housekeeping is.
    fn sleep(&mut self) {
        if !self.outlets.transmitters.is_idle() || !self.mailbox.may_sleep() {
            return;
        }
        // Only now: who leaves an answer or an errand from here on sees that we sleep.
        let has_users = |desk: &Inquiries| !desk.is_empty();
        if !self.outlets.desk.is_empty()
            || !self.errands.is_empty()
            || self.outlets.subscribers.as_ref().is_some_and(has_users)
            || self.herald.as_ref().is_some_and(Herald::has_post)
            || self.news.tells && self.location.settled() != self.news.settled
        {
            return self.mailbox.awake(false);
        }
        let now = self.clock.now();
        let due = self.proxy.next_deadline().unwrap_or(now + IDLE);
        let flush = self.clerk.as_ref().and_then(Clerk::next_deadline);
        let due = due.min(flush.unwrap_or(due));
        let span = due.min(self.next_housekeeping).since(now);
        let polled = self.poll(span);
        self.mailbox.awake(polled.has_mail);
        if polled.has_errors {
            self.take_errors(self.clock.now());
        }
    }

    /// Waits on all descriptors.
    fn poll(&mut self, span: Duration) -> Polled {
        let Self {
            mailbox,
            receivers,
            beside,
            ..
        } = self;
        let mailbox = mailbox.as_fd();
        let fd_at = |place: usize| -> BorrowedFd<'_> {
            let receiver = place.checked_sub(1).and_then(|place| receivers.get(place));
            receiver.map_or(mailbox, |receiver| receiver.fd())
        };
        // In an array, so that falling asleep allocates nothing.
        let mut fds: [PollFd<'_>; POLLED_MAX] =
            std::array::from_fn(|place| PollFd::from_borrowed_fd(fd_at(place), PollFlags::IN));
        let polled = (receivers.len() + 1).min(POLLED_MAX);
        let fds = &mut fds[..polled];
        let timeout = Timespec {
            tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(span.as_micros() % 1_000_000).unwrap_or(0) * 1_000,
        };
        // Interrupted or failed, the next turn looks everywhere anyway.
        let _ = poll(fds, Some(&timeout));
        let any = |flag| fds.iter().any(|fd| fd.revents().contains(flag));
        let receivers = fds.iter().skip(1).enumerate();
        for (place, _) in receivers.filter(|(_, fd)| fd.revents().contains(PollFlags::IN)) {
            beside.wake(place);
        }
        Polled {
            has_mail: fds
                .first()
                .is_some_and(|mailbox| mailbox.revents().contains(PollFlags::IN)),
            has_errors: any(PollFlags::ERR),
        }
    }
}

/// What a poll found, beside what the next turn sees for itself.
struct Polled {
    has_mail: bool,
    has_errors: bool,
}

/// The mailbox, and for each listener the kernel's socket and at most one AF_XDP socket.
const POLLED_MAX: usize = 1 + 2 * LISTENERS_MAX;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_vigil_lasts_from_the_end_of_work_and_not_a_moment_without_a_span() {
        let now = Cell::new(Instant::EPOCH + Duration::from_secs(1));
        let pass = |micros| now.set(now.get() + Duration::from_micros(micros));
        let mut vigil = Vigil::new(Duration::from_micros(50));
        assert!(vigil.goes_on(|| now.get()));
        pass(49);
        assert!(vigil.goes_on(|| now.get()));
        pass(1);
        assert!(!vigil.goes_on(|| now.get()));
        assert!(!vigil.goes_on(|| now.get()), "nothing came: it sleeps on");
        vigil.end();
        assert!(vigil.goes_on(|| now.get()));
        assert!(!Vigil::default().goes_on(|| now.get()));
    }
}
