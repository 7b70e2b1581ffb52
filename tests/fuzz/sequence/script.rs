//! The bytes of a fuzzer, as choices.

/// The script: each choice takes a byte; where it has ended, every choice is the first.
pub(super) struct Script<'d>(pub(super) &'d [u8]);

impl Script<'_> {
    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()].clone()
    }

    /// True for one byte in so many, zero among them.
    pub(super) fn is_one_in(&mut self, count: u8) -> bool {
        self.byte().is_multiple_of(count)
    }

    /// One of `len` places, if there are any.
    pub(super) fn place(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| usize::from(self.byte()) % len)
    }
}
