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
    /// What the request with the highest count was: its retransmission is none of a replay.
    last: u64,
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
    pub(super) const fn begin(nonce: u64, made_ms: u64, count: u32, request: u64) -> Self {
        Self {
            nonce,
            made_ms,
            highest: count,
            used: 1,
            last: request,
        }
    }

    /// Uses a count for a request, which `request` tells from any other.
    pub(super) fn take(&mut self, count: u32, request: u64) -> Use {
        if count > self.highest {
            let ahead = count - self.highest;
            self.used = self.used.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = count;
            self.last = request;
            return Use::First;
        }
        let behind = self.highest - count;
        if behind == 0 && self.last == request {
            return Use::Again;
        }
        let bit = 1_u64.checked_shl(behind).unwrap_or(0);
        if bit == 0 || self.used & bit != 0 {
            return Use::Replay;
        }
        self.used |= bit;
        Use::First
    }
}

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
        assert_eq!(window.take(1, 100), Use::Replay);
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
