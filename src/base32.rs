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
#[must_use]
pub fn decode(letters: &[u8], bytes: &mut [u8]) -> bool {
    if decoded_len(letters.len()) != Some(bytes.len()) {
        return false;
    }
    let (eights, rest) = letters.as_chunks::<8>();
    let (fives, last) = bytes.split_at_mut(eights.len() * 5);
    let mut wrong = 0;
    for (eight, five) in eights.iter().zip(fives.as_chunks_mut::<5>().0) {
        let (word, is_none) = word_of(eight);
        let [_, _, _, whole @ ..] = word.to_be_bytes();
        *five = whole;
        wrong |= is_none;
    }
    let mut eight = [LETTERS[0]; 8];
    eight[..rest.len()].copy_from_slice(rest);
    let (word, is_none) = word_of(&eight);
    let [_, _, _, whole @ ..] = word.to_be_bytes();
    last.copy_from_slice(&whole[..last.len()]);
    let is_set = whole[last.len()..].iter().any(|byte| *byte != 0);
    (wrong | is_none) & NONE == 0 && !is_set
}

#[inline]
fn letters_of(five: &[u8; 5]) -> [u8; 8] {
    let [a, b, c, d, e] = *five;
    let word = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
    std::array::from_fn(|place| LETTERS[(word >> (35 - 5 * place)) as usize & 31])
}

/// The 40 bits of eight letters, and the mark of those that are none.
#[inline]
fn word_of(eight: &[u8; 8]) -> (u64, u8) {
    let values = eight.map(|letter| VALUES[usize::from(letter)]);
    let fold = |(word, wrong), value| (word << 5 | u64::from(value & 31), wrong | value);
    values.into_iter().fold((0, 0), fold)
}

const LETTERS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
/// The mark of what is no letter: a bit that no value has.
const NONE: u8 = 0x80;
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < LETTERS.len() {
        values[LETTERS[value] as usize] = value as u8;
        value += 1;
    }
    values
};

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
