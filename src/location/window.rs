//! The window of nonce counts (RFC 7616 3.4, `nc`): each count of a nonce is good once, in any order within the window.

/// What a nonce has been used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// Which nonce.
    pub(super) nonce: u64,
    /// When it was made, in milliseconds since the Unix epoch.
    pub(super) made_ms: u64,
    /// The highest count so far.
    highest: u32,
    /// The counts below the highest that were used: bit n stands for `highest - n`.
    used: u64,
    /// What the requests with the highest counts were, each at its count modulo [`KEPT`]: their retransmissions are no replays.
    requests: [u32; KEPT],
}

/// What becomes of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It was not used before.
    First,
    /// The same request again.
    Again,
    /// Another request with a count that was used, or that is too old to tell.
    Replay,
}

impl Window {
    /// A window that begins with the first count that was seen of a nonce, whichever it is: another node may have seen those before.
    #[must_use]
    pub(super) fn begin(nonce: u64, made_ms: u64, count: u32, request: u64) -> Self {
        let mut window = Self {
            nonce,
            made_ms,
            highest: count,
            used: 1,
            requests: [0; KEPT],
        };
        window.keep(count, request);
        window
    }

    /// Uses a count for a request, which `request` tells from any other.
    pub(super) fn take(&mut self, count: u32, request: u64) -> Use {
        if count > self.highest {
            let ahead = count - self.highest;
            self.used = self.used.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = count;
            self.keep(count, request);
            return Use::First;
        }
        let behind = self.highest - count;
        let bit = 1_u64.checked_shl(behind).unwrap_or(0);
        let is_kept = (behind as usize) < KEPT;
        if self.used & bit != 0 {
            let is_same = is_kept && self.requests[count as usize % KEPT] == fold(request);
            return if is_same { Use::Again } else { Use::Replay };
        }
        if bit == 0 {
            return Use::Replay;
        }
        self.used |= bit;
        if is_kept {
            self.keep(count, request);
        }
        Use::First
    }

    const fn keep(&mut self, count: u32, request: u64) {
        self.requests[count as usize % KEPT] = fold(request);
    }
}

/// Half of a keyed hash: to hit it by chance takes as many requests as a nonce does not live to see.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half of a uniform hash is a hash"
)]
const fn fold(request: u64) -> u32 {
    request as u32
}

/// Requests whose retransmissions are known: a phone may have that many under way with one nonce.
const KEPT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_good_once_and_its_retransmission_is_no_replay() {
        let mut window = Window::begin(9, 0, 1, 100);
        assert_eq!(window.take(1, 100), Use::Again);
        assert_eq!(window.take(1, 101), Use::Replay);
        assert_eq!(window.take(2, 102), Use::First);
        assert_eq!(window.take(2, 102), Use::Again);
        // The retransmission of the one before, too, but no other request with its count.
        assert_eq!(window.take(1, 100), Use::Again);
        assert_eq!(window.take(1, 102), Use::Replay);
        for count in 3..=5 {
            assert_eq!(window.take(count, 200), Use::First);
        }
        assert_eq!(window.take(2, 102), Use::Again);
        assert_eq!(window.take(1, 100), Use::Replay);
    }

    #[test]
    fn one_that_comes_late_may_come_again() {
        let mut window = Window::begin(9, 0, 7, 700);
        assert_eq!(window.take(5, 500), Use::First);
        assert_eq!(window.take(5, 500), Use::Again);
        assert_eq!(window.take(5, 501), Use::Replay);
        assert_eq!(window.take(7, 700), Use::Again);
        // What begins the window may have had others before it, elsewhere.
        assert_eq!(window.take(0, 1), Use::First);
    }

    #[test]
    fn counts_may_come_out_of_order_within_the_window() {
        let mut window = Window::begin(9, 0, 10, 0);
        assert_eq!(window.take(8, 1), Use::First);
        assert_eq!(window.take(8, 2), Use::Replay);
        assert_eq!(window.take(73, 3), Use::First);
        assert_eq!(window.take(10, 4), Use::Replay);
        assert_eq!(window.take(11, 5), Use::First);
        assert_eq!(window.take(9, 6), Use::Replay);
        assert_eq!(window.take(u32::MAX, 7), Use::First);
        assert_eq!(window.take(73, 8), Use::Replay);
    }
}
