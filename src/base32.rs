//! Base32 in the extended hex alphabet, in lower case and without padding (RFC 5155's form of RFC 4648 7): what stands in branches,
//! tags and tokens. Five bytes are eight letters, turned at one go.

/// How many letters `len` bytes have.
#[must_use]
pub const fn encoded_len(len: usize) -> usize {
    (len * 8).div_ceil(5)
}

/// How many bytes so many letters stand for; `None` where no bytes have so many.
#[must_use]
pub const fn decoded_len(len: usize) -> Option<usize> {
    match len % 8 {
        0 | 2 | 4 | 5 | 7 => Some(len * 5 / 8),
        _ => None,
    }
}

/// Writes `bytes` as letters; `letters` is [`encoded_len`] long.
#[inline]
pub fn encode(bytes: &[u8], letters: &mut [u8]) {
    let (fives, rest) = bytes.as_chunks::<5>();
    let (eights, last) = letters.split_at_mut(fives.len() * 8);
    for (five, eight) in fives.iter().zip(eights.as_chunks_mut::<8>().0) {
        *eight = letters_of(five);
    }
    let mut five = [0; 5];
    five[..rest.len()].copy_from_slice(rest);
    last.copy_from_slice(&letters_of(&five)[..last.len()]);
}

/// Reads letters into `bytes`, which is [`decoded_len`] long. False where one is none, or where bits are set that no byte has.
#[inline(always)]
#[must_use]
pub fn decode(letters: &[u8], bytes: &mut [u8]) -> bool {
    if decoded_len(letters.len()) != Some(bytes.len()) {
        return false;
    }
    let (eights, rest) = letters.as_chunks::<8>();
    let (fives, last) = bytes.split_at_mut(eights.len() * 5);
    for (eight, five) in eights.iter().zip(fives.as_chunks_mut::<5>().0) {
        // To go on whatever this is would save a branch, and have the compiler take several at a time, which costs more.
        let (word, 0) = word_of(eight) else {
            return false;
        };
        let [_, _, _, whole @ ..] = word.to_be_bytes();
        *five = whole;
    }
    if rest.is_empty() {
        return true;
    }
    let mut eight = [b'0'; 8];
    eight[..rest.len()].copy_from_slice(rest);
    let (word, is_none) = word_of(&eight);
    let [_, _, _, whole @ ..] = word.to_be_bytes();
    last.copy_from_slice(&whole[..last.len()]);
    let is_set = whole[last.len()..].iter().any(|byte| *byte != 0);
    is_none == 0 && !is_set
}

/// The letters of forty bits. Each step halves the groups of bits and moves the halves apart, in all of the word at once, until each byte
/// has five of them.
#[inline]
fn letters_of(five: &[u8; 5]) -> [u8; 8] {
    let [a, b, c, d, e] = *five;
    let word = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
    let twenties = (word << 12 & 0x000f_ffff_0000_0000) | (word & 0x000f_ffff);
    let tens = (twenties << 6 & 0x03ff_0000_03ff_0000) | (twenties & 0x0000_03ff_0000_03ff);
    let values = (tens << 3 & 0x1f00_1f00_1f00_1f00) | (tens & 0x001f_001f_001f_001f);
    let is_letter = (values + (0x80 - 10) * EACH) >> 7 & EACH;
    (values + u64::from(b'0') * EACH + is_letter * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}

/// The 40 bits of eight letters, and a mark of those that are none.
#[inline]
fn word_of(eight: &[u8; 8]) -> (u64, u64) {
    let letters = u64::from_be_bytes(*eight);
    let low = letters & (0x7f * EACH);
    // The topmost bit of each byte tells whether it is at least so much.
    let at_least = |letter: u8| low + u64::from(0x80 - letter) * EACH;
    let is_letter = at_least(b'a') & !at_least(b'v' + 1);
    let is_known = (at_least(b'0') & !at_least(b'9' + 1)) | is_letter;
    let wrong = (!is_known | letters) & (0x80 * EACH);
    let is_letter = is_letter >> 7 & EACH;
    let values = low
        .wrapping_sub(u64::from(b'0') * EACH)
        .wrapping_sub(is_letter * u64::from(b'a' - b'9' - 1));
    let tens = (values >> 3 & 0x03e0_03e0_03e0_03e0) | (values & 0x001f_001f_001f_001f);
    let twenties = (tens >> 6 & 0x000f_fc00_000f_fc00) | (tens & 0x0000_03ff_0000_03ff);
    let word = (twenties >> 12 & 0x00ff_fff0_0000) | (twenties & 0x000f_ffff);
    (word, wrong)
}

/// A one in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;

#[cfg(test)]
mod tests {
    use data_encoding::BASE32_DNSSEC;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_agrees_with_another_maker(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut letters = vec![0; encoded_len(bytes.len())];
            encode(&bytes, &mut letters);
            let mut theirs = vec![0; letters.len()];
            BASE32_DNSSEC.encode_mut(&bytes, &mut theirs);
            prop_assert_eq!(&letters, &theirs);
            let mut read = vec![0; bytes.len()];
            prop_assert!(decode(&letters, &mut read));
            prop_assert_eq!(read, bytes);
        }

        #[test]
        fn what_another_reader_refuses_is_refused(letters in "[0-9a-wA-C]{0,20}") {
            let letters = letters.to_ascii_lowercase().into_bytes();
            let theirs = BASE32_DNSSEC.decode_len(letters.len()).ok().and_then(|len| {
                let mut bytes = vec![0; len];
                BASE32_DNSSEC.decode_mut(&letters, &mut bytes).ok().map(|_| bytes)
            });
            let ours = decoded_len(letters.len()).and_then(|len| {
                let mut bytes = vec![0; len];
                decode(&letters, &mut bytes).then_some(bytes)
            });
            prop_assert_eq!(ours, theirs);
        }
    }
}
