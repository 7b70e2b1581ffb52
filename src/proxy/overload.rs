//! Overload: where more comes than can be done, new work is turned away before it costs anything, so that what was begun is ended.
//!
//! A queue that never empties and loses what comes says it. What is turned away is a share of the requests that begin something (a REGISTER, an INVITE
//! without To-tag); the share rises while the queue stays full and falls when it does not. Requests within dialogs, ACK, CANCEL and
//! responses pass. As many as were let in, in proportion, hear 503 with Retry-After; the others are not answered, as if
//! the network had lost them, since an answer costs more than to look at their first line.

use memchr::memmem::Finder;

use crate::limits::{OVERLOAD_AFTER, OVERLOAD_REFUSALS, OVERLOAD_WINDOW};
use crate::time::Instant;

/// What is to become of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is taken as ever.
    Taken,
    /// If it is new work it is answered 503.
    Refused,
    /// It is dropped.
    Dropped,
}

/// How full a worker's queue is, and what share of new work is let in.
#[derive(Debug)]
pub(super) struct Overload {
    /// Of [`WHOLE`], what is let in.
    share: u32,
    /// Of [`WHOLE`], what is not yet used of the next one's admission.
    credit: u32,
    /// Of [`OVERLOAD_REFUSALS`], answers that may be given.
    answers: u32,
    /// Since when the queue has been full each time that it was looked at.
    full_since: Option<Instant>,
    window_ends: Instant,
    /// Whether the queue was found short in this window.
    was_short: bool,
    /// Where the To of a request begins, in either form.
    to: [Finder<'static>; 2],
}

impl Overload {
    pub(super) fn new() -> Self {
        Self {
            share: WHOLE,
            credit: 0,
            answers: 0,
            full_since: None,
            window_ends: Instant::EPOCH,
            was_short: false,
            to: [Finder::new(b"\nTo:"), Finder::new(b"\nt:")],
        }
    }

    /// Takes what was found when the queue was last looked at: whether it overflows.
    pub(super) fn observe(&mut self, now: Instant, is_full: bool) {
        if !is_full {
            self.full_since = None;
            self.was_short = true;
            if self.share == WHOLE {
                return;
            }
        }
        let since = if is_full {
            *self.full_since.get_or_insert(now)
        } else {
            now
        };
        if now < self.window_ends {
            return;
        }
        let is_over = !self.was_short && (self.share < WHOLE || now.since(since) >= OVERLOAD_AFTER);
        // Down by an eighth, up by a sixteenth: about as much is let in as can be done.
        self.share = if is_over {
            (self.share - self.share / 8).max(SHARE_MIN)
        } else {
            (self.share + self.share / 16 + 1).min(WHOLE)
        };
        self.was_short = false;
        self.window_ends = now + OVERLOAD_WINDOW;
    }

    /// Says what is to become of a datagram; its bytes are looked at in overload alone.
    pub(super) fn admit(&mut self, bytes: &[u8]) -> Admission {
        if self.share == WHOLE || !self.begins_something(bytes) {
            return Admission::Taken;
        }
        // Each in its turn, and none by lot: of ten that come at a share of a half five are let in.
        self.credit += self.share;
        if self.credit >= WHOLE {
            self.credit -= WHOLE;
            self.answers = (self.answers + 1).min(OVERLOAD_REFUSALS * ANSWERS_KEPT);
            return Admission::Taken;
        }
        if self.answers >= OVERLOAD_REFUSALS {
            self.answers -= OVERLOAD_REFUSALS;
            return Admission::Refused;
        }
        Admission::Dropped
    }

    /// Whether these bytes look like a request outside of any dialog that is work to serve. In doubt they do not.
    fn begins_something(&self, bytes: &[u8]) -> bool {
        if !METHODS.iter().any(|method| bytes.starts_with(method)) {
            return false;
        }
        let found = self.to.iter().find_map(|name| name.find(bytes));
        let rest = found.and_then(|at| bytes.get(at + 1..)).unwrap_or_default();
        let line = memchr::memchr(b'\n', rest).and_then(|end| rest.get(..end));
        line.is_some_and(|line| memchr::memmem::find(line, b"tag=").is_none())
    }
}

/// All.
const WHOLE: u32 = 1 << 16;
/// The least that is let in: one in 256, by which the end of the overload is found.
const SHARE_MIN: u32 = WHOLE / 256;
/// Answers that are saved up.
const ANSWERS_KEPT: u32 = 64;
/// Requests that are work, where they begin something.
const METHODS: [&[u8]; 6] = [
    b"INVITE ",
    b"REGISTER ",
    b"OPTIONS ",
    b"SUBSCRIBE ",
    b"MESSAGE ",
    b"PUBLISH ",
];

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &[u8] = b"INVITE sip:b@x SIP/2.0\r\nTo: <sip:b@x>\r\nFrom: <sip:a@x>;tag=1\r\n\r\n";

    fn at(ms: u64) -> Instant {
        Instant::from_micros(1_000_000 + ms * 1_000)
    }

    /// One that has found its queue full for so long, at each millisecond.
    fn full_for(ms: u64) -> Overload {
        let mut overload = Overload::new();
        for now in 0..=ms {
            overload.observe(at(now), true);
        }
        overload
    }

    #[test]
    fn a_burst_is_no_overload() {
        let mut overload = full_for(OVERLOAD_AFTER.as_millis_ceil() - 1);
        assert_eq!(overload.admit(NEW), Admission::Taken);
        overload.observe(at(200), false);
        overload.observe(at(201), true);
        assert_eq!(overload.share, WHOLE);
    }

    #[test]
    fn what_is_begun_is_ended_and_of_the_new_a_share_is_let_in() {
        let mut overload = full_for(1_000);
        let texts: [&[u8]; 5] = [
            b"ACK sip:b@x SIP/2.0\r\nTo: <sip:b@x>\r\n\r\n",
            b"BYE sip:b@x SIP/2.0\r\nTo: <sip:b@x>;tag=2\r\n\r\n",
            b"INVITE sip:b@x SIP/2.0\r\nt: <sip:b@x>;tag=2\r\n\r\n",
            b"SIP/2.0 200 OK\r\nTo: <sip:b@x>\r\n\r\n",
            b"\r\n\r\n",
        ];
        for text in texts {
            for _ in 0..1_000 {
                assert_eq!(overload.admit(text), Admission::Taken);
            }
        }
        overload.share = WHOLE / 8;
        let mut counts = [0; 3];
        for _ in 0..1_000 {
            counts[overload.admit(NEW) as usize] += 1;
        }
        let refused = 125 / OVERLOAD_REFUSALS;
        assert_eq!(counts, [125, refused, 875 - refused]);
    }

    #[test]
    fn the_share_follows_the_queue() {
        let mut overload = full_for(5_000);
        assert_eq!(overload.share, SHARE_MIN);
        for ms in 5_001..7_000 {
            overload.observe(at(ms), false);
        }
        assert_eq!(overload.share, WHOLE, "back to normal within two seconds");
    }
}
