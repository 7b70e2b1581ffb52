//! Where the lines of a head end, found 64 bytes at a time.

use super::lanes::{LEN, Lanes};

/// The walk over the CRLFs from the start of `bytes`, which ends before the first CR or LF that is no part of one. It looks no further
/// than it is asked.
#[derive(Clone, Debug)]
pub struct LineEnds<'a> {
    bytes: &'a [u8],
    /// Where the block being walked begins.
    block: usize,
    /// The CRs of the CRLFs in it that have not been told of yet.
    left: u64,
    /// Whether the block's first byte is an LF whose CR has been told of.
    is_within: bool,
}

/// How many bytes one word of bits tells of.
const BLOCK_LEN: usize = 4 * LEN;

impl<'a> LineEnds<'a> {
    /// The walk from the start of `bytes`.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut ends = Self {
            bytes,
            block: 0,
            left: 0,
            is_within: false,
        };
        ends.look();
        ends
    }

    /// The offset of the next line's CR, behind which an LF stands. None at the end of the walk.
    #[inline]
    pub fn next_end(&mut self) -> Option<usize> {
        while self.left == 0 {
            self.block += BLOCK_LEN;
            if self.block >= self.bytes.len() {
                return None;
            }
            self.look();
        }
        let at = self.block + self.left.trailing_zeros() as usize;
        self.left &= self.left - 1;
        Some(at)
    }

    /// Looks at the block.
    #[inline]
    fn look(&mut self) {
        let (returns, feeds) = breaks_at(self.bytes, self.block);
        let follows = self.bytes.get(self.block + BLOCK_LEN) == Some(&b'\n');
        let ends = returns & (feeds >> 1 | u64::from(follows) << (BLOCK_LEN - 1));
        let stray = (returns | feeds) ^ (ends | ends << 1 | u64::from(self.is_within));
        self.is_within = ends >> (BLOCK_LEN - 1) != 0;
        self.left = ends;
        if stray != 0 {
            // What stands before the first of them still counts; nothing behind it does.
            self.left &= (1 << stray.trailing_zeros()) - 1;
            self.bytes = self
                .bytes
                .get(..self.block + BLOCK_LEN)
                .unwrap_or(self.bytes);
        }
    }
}

/// The CRs and the LFs in the block at `start`, which the bytes may end within.
#[inline]
fn breaks_at(bytes: &[u8], start: usize) -> (u64, u64) {
    let rest = bytes.get(start..).unwrap_or_default();
    if let Some(block) = rest.first_chunk() {
        return breaks_in(block);
    }
    // The last 64 bytes, of which some have been seen already, save the copy into a padded block.
    if let Some(block) = bytes.last_chunk() {
        let (returns, feeds) = breaks_in(block);
        let seen = BLOCK_LEN - rest.len();
        return (returns >> seen, feeds >> seen);
    }
    let mut block = [0; BLOCK_LEN];
    block
        .iter_mut()
        .zip(rest)
        .for_each(|(to, from)| *to = *from);
    breaks_in(&block)
}

#[inline]
fn breaks_in(block: &[u8; BLOCK_LEN]) -> (u64, u64) {
    let (windows, _) = block.as_chunks::<LEN>();
    let bits = |byte: u8| {
        let bits = |place: usize| u64::from(Lanes::of(&windows[place]).equal(byte).bits());
        bits(0) | bits(1) << 16 | bits(2) << 32 | bits(3) << 48
    };
    (bits(b'\r'), bits(b'\n'))
}
