//! The Internet checksum (RFC 1071).
//!
//! Received UDP checksums are never verified: a sender on the same host leaves them to hardware that is not there
//! (`CHECKSUM_PARTIAL`), so over veth they are wrong. For the same reason what we send is summed whole and never updated
//! from what was received.

/// A running ones' complement sum.
///
/// The sum is kept in the machine's byte order, which RFC 1071 2.B allows: the result is the same, and no byte is swapped on
/// the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds bytes. Every part but the last must be of even length, since an odd one is padded with a zero.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        // The halves apart: no carry has to be looked for, and the compiler takes two words at once.
        let (mut low, mut high) = (0_u64, 0_u64);
        for word in words {
            let word = u64::from_ne_bytes(*word);
            low += word & u64::from(u32::MAX);
            high += word >> 32;
        }
        self.carried(low).carried(high).carried(short(rest))
    }

    /// Adds a 16-bit number, which stands on the wire in network byte order.
    #[must_use]
    pub fn number(self, number: u16) -> Self {
        self.carried(u64::from(u16::from_ne_bytes(number.to_be_bytes())))
    }

    /// Adds a 32-bit number, which stands on the wire in network byte order.
    #[must_use]
    pub fn word(self, number: u32) -> Self {
        self.carried(u64::from(u32::from_ne_bytes(number.to_be_bytes())))
    }

    /// The checksum: the complement of the folded sum, to be written in network byte order.
    #[must_use]
    pub fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xFFFF {
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        // Folded above, so the low 16 bits are all of it.
        let [low, high, ..] = (!sum).to_le_bytes();
        u16::from_be_bytes(u16::from_le_bytes([low, high]).to_ne_bytes())
    }

    /// Adds with the carry brought round, so that no length of input overflows.
    fn carried(self, addend: u64) -> Self {
        let (sum, carry) = self.0.overflowing_add(addend);
        Self(sum + u64::from(carry))
    }
}

/// The sum of fewer than eight bytes, padded with a zero where they are odd.
fn short(bytes: &[u8]) -> u64 {
    let (four, rest) = match bytes.split_first_chunk() {
        Some((four, rest)) => (u32::from_ne_bytes(*four), rest),
        None => (0, bytes),
    };
    let (two, rest) = match rest.split_first_chunk() {
        Some((two, rest)) => (u16::from_ne_bytes(*two), rest),
        None => (0, rest),
    };
    let odd = rest.first().map_or(0, |&odd| u16::from_ne_bytes([odd, 0]));
    u64::from(four) + u64::from(two) + u64::from(odd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 4.1, word by word: the oracle.
    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        !u16::try_from(sum).expect("folded at each step")
    }

    #[test]
    fn the_example_of_rfc_1071_3() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::new().bytes(&bytes).finish(), !0xddf2);
    }

    #[test]
    fn a_sum_over_itself_is_zero() {
        let header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(Sum::new().bytes(&header).finish(), 0);
    }

    proptest! {
        #[test]
        fn agrees_with_the_slow_way(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Sum::new().bytes(&bytes).finish(), slow(&bytes));
        }

        #[test]
        fn parts_sum_to_the_whole(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..150, number: u16, word: u32) {
            let at = (at * 2).min(bytes.len() & !1);
            let (front, back) = bytes.split_at(at);
            let mut whole = number.to_be_bytes().to_vec();
            whole.extend_from_slice(&word.to_be_bytes());
            whole.extend_from_slice(&bytes);
            prop_assert_eq!(Sum::new().bytes(front).number(number).word(word).bytes(back).finish(), slow(&whole));
        }
    }
}
