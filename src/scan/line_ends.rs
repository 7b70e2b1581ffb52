//! Where the lines of a head end, found 64 bytes at a time.

use super::lanes::{LEN, Lanes};

/// The walk over the CRLFs from the start of `bytes`, which ends before the first CR, LF or other low control byte that is no part of
/// one. It looks no further than it is asked.
#[derive(Clone, Debug)]
pub struct LineEnds<'a> {
    bytes: &'a [u8],
    /// Where the block being walked begins.
    block: usize,
    /// The bytes up to CR in it that have not been told of yet.
    left: u64,
}

/// How many bytes one word of bits tells of.
const BLOCK_LEN: usize = 4 * LEN;

impl<'a> LineEnds<'a> {
    /// The walk from the start of `bytes`.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            block: 0,
            left: match bytes.first_chunk() {
                Some(block) => low_bytes_in(block),
                None => low_bytes_at_end(bytes, 0).unwrap_or_default(),
            },
        }
    }

    /// The offset of the next line's CR, behind which an LF stands. None at the end of the walk.
    #[inline]
    pub fn next_end(&mut self) -> Option<usize> {
        while self.left == 0 {
            self.block += BLOCK_LEN;
            self.left = low_bytes_behind(self.bytes, self.block)?;
        }
        let at = self.block + self.left.trailing_zeros() as usize;
        if self.bytes.get(at..)?.first_chunk() != Some(b"\r\n") {
            return None;
        }
        // The LF has a bit of its own, unless it is the first byte of the next block.
        self.left &= self.left - 1;
        self.left &= self.left.wrapping_sub(1);
        Some(at)
    }
}

/// The bytes up to CR, of which a head has none but CR and LF as a rule, in the block at `start`: but for an LF that is its first byte and
/// whose CR stands before it. None where no bytes are left.
#[inline(never)]
fn low_bytes_behind(bytes: &[u8], start: usize) -> Option<u64> {
    let end = start + BLOCK_LEN;
    let Some([before, block @ ..]) = bytes
        .get(start - 1..end)
        .and_then(|part| part.first_chunk::<{ BLOCK_LEN + 1 }>())
    else {
        return low_bytes_at_end(bytes, start);
    };
    let is_told = *before == b'\r' && block[0] == b'\n';
    Some(low_bytes_in(block) & !u64::from(is_told))
}

/// The same of the last bytes, which are no whole block.
#[cold]
#[inline(never)]
fn low_bytes_at_end(bytes: &[u8], start: usize) -> Option<u64> {
    let rest = bytes.get(start..).filter(|rest| !rest.is_empty())?;
    // The last 64 bytes, of which some have been seen already, save the copy into a padded block.
    let low = if let Some(block) = bytes.last_chunk() {
        low_bytes_in(block) >> (BLOCK_LEN - rest.len())
    } else {
        let mut block = [u8::MAX; BLOCK_LEN];
        block
            .iter_mut()
            .zip(rest)
            .for_each(|(to, from)| *to = *from);
        low_bytes_in(&block)
    };
    let is_told = bytes.get(start.wrapping_sub(1)..=start) == Some(b"\r\n");
    Some(low & !u64::from(is_told))
}

#[inline]
fn low_bytes_in(block: &[u8; BLOCK_LEN]) -> u64 {
    let (windows, _) = block.as_chunks::<LEN>();
    let bits = |place: usize| u64::from(Lanes::of(&windows[place]).up_to(b'\r').bits());
    bits(0) | bits(1) << 16 | bits(2) << 32 | bits(3) << 48
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the walk must tell, found byte by byte.
    fn expected(bytes: &[u8]) -> Vec<usize> {
        let mut ends = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at..].starts_with(b"\r\n") {
                ends.push(at);
                at += 1;
            } else if bytes[at] <= b'\r' {
                break;
            }
            at += 1;
        }
        ends
    }

    fn walked(bytes: &[u8]) -> Vec<usize> {
        let mut ends = LineEnds::new(bytes);
        std::iter::from_fn(|| ends.next_end()).collect()
    }

    #[test]
    fn line_ends_are_found_wherever_blocks_divide_them() {
        for len in 0..200 {
            for at in 0..len {
                let mut bytes = vec![b'x'; len];
                bytes[at] = b'\r';
                assert!(walked(&bytes).is_empty(), "a bare CR at {at} of {len}");
                if at + 1 < len {
                    bytes[at + 1] = b'\n';
                }
                assert_eq!(walked(&bytes), expected(&bytes), "{at} of {len}");
                if at + 4 < len {
                    bytes[at + 2..at + 4].copy_from_slice(b"\r\n");
                }
                assert_eq!(walked(&bytes), expected(&bytes), "two at {at} of {len}");
            }
        }
    }

    #[test]
    fn the_walk_ends_before_what_is_no_line_end() {
        for stray in [&b"\n"[..], b"\r", b"\t", b"\0", b"\r\r\n", b"\n\r\n"] {
            for at in 0..140 {
                let mut bytes = b"a\r\n".repeat(70);
                bytes.splice(at..at, stray.iter().copied());
                assert_eq!(walked(&bytes), expected(&bytes), "{stray:?} at {at}");
            }
        }
    }
}
