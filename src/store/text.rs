//! A short text in place, so that a question takes nothing from the allocator.

use std::fmt;

/// At most `LEN` bytes.
#[derive(Clone)]
pub(super) struct Text<const LEN: usize> {
    bytes: [u8; LEN],
    len: usize,
}

impl<const LEN: usize> Text<LEN> {
    /// As much as there is room for, and whether that is all.
    pub(super) fn cut(text: &[u8]) -> (Self, bool) {
        let len = text.len().min(LEN);
        let mut bytes = [0; LEN];
        bytes[..len].copy_from_slice(&text[..len]);
        (Self { bytes, len }, len == text.len())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl<const LEN: usize> fmt::Debug for Text<LEN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(self.as_bytes()).fmt(f)
    }
}
