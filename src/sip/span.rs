//! A place in a message: where a field begins and ends.

use crate::limits::MESSAGE_LEN_MAX;

/// A half-open range of byte offsets in one message; 16 bits are enough for any (`limits::MESSAGE_LEN_MAX`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    /// The offset of the first byte.
    pub start: u16,
    /// The offset past the last byte; never before `start`.
    pub end: u16,
}

impl Span {
    /// The empty span at the start of a message.
    pub const EMPTY: Self = Self { start: 0, end: 0 };

    /// Makes a span from offsets; those that no message has are cut to the longest message, and `end` to `start`.
    #[inline]
    #[must_use]
    pub const fn new(start: usize, end: usize) -> Self {
        let start = narrow(start);
        let end = narrow(end);
        Self {
            start,
            end: if end < start { start } else { end },
        }
    }

    /// Makes a span of offsets that are those of a message: `start` is at most `end`, and both fit.
    #[inline]
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a message is at most MESSAGE_LEN_MAX long, which is 16 bits wide"
    )]
    pub(super) const fn within(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= MESSAGE_LEN_MAX);
        Self {
            start: start as u16,
            end: end as u16,
        }
    }

    /// The span of all of `bytes`.
    #[must_use]
    pub const fn all(bytes: &[u8]) -> Self {
        Self::new(0, bytes.len())
    }

    /// The empty span at `at`.
    #[must_use]
    pub const fn at(at: u16) -> Self {
        Self { start: at, end: at }
    }

    /// How many bytes it covers.
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it covers nothing.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes that it covers in `bytes`; empty where it does not fit.
    #[inline]
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// Cuts an offset to 16 bits; a message longer than `MESSAGE_LEN_MAX` is refused before any span of it is made.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the value is at most MESSAGE_LEN_MAX, which is 16 bits wide"
)]
const fn narrow(offset: usize) -> u16 {
    if offset > MESSAGE_LEN_MAX {
        MESSAGE_LEN_MAX as u16
    } else {
        offset as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_never_reversed_and_never_past_the_longest_message() {
        assert_eq!(Span::new(5, 3), Span::at(5));
        assert_eq!(usize::from(Span::new(0, 1 << 20).end), MESSAGE_LEN_MAX);
        assert_eq!(Span::new(2, 9).of(b"abc"), b"");
        assert_eq!(Span::new(1, 3).of(b"abc"), b"bc");
    }
}
