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
    for (five, eight) in bytes.chunks(5).zip(letters.chunks_mut(8)) {
        let mut word = [0; 8];
        word[3..3 + five.len()].copy_from_slice(five);
        let word = u64::from_be_bytes(word);
        let mut place = 40;
        for letter in eight {
            place -= 5;
            *letter = LETTERS[(word >> place) as usize & 31];
        }
    }
}

/// Reads letters into `bytes`, which is [`decoded_len`] long. False where one is none, or where bits are set that no byte has.
#[must_use]
pub fn decode(letters: &[u8], bytes: &mut [u8]) -> bool {
    if decoded_len(letters.len()) != Some(bytes.len()) {
        return false;
    }
    let (mut wrong, mut rest) = (0, 0);
    for (eight, five) in letters.chunks(8).zip(bytes.chunks_mut(5)) {
        let mut word = 0_u64;
        for letter in eight {
            let value = VALUES[usize::from(*letter)];
            wrong |= value;
            word = word << 5 | u64::from(value & 31);
        }
        word <<= 5 * (8 - eight.len());
        let whole = word.to_be_bytes();
        five.copy_from_slice(&whole[3..3 + five.len()]);
        rest |= word & ((1 << (40 - 8 * five.len())) - 1);
    }
    wrong != NONE && rest == 0
}

const LETTERS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
/// The mark of what is no letter: it has a bit that no value has.
const NONE: u8 = 0xff;
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
            let theirs = BASE32_DNSSEC.encode(&bytes);
            prop_assert_eq!(&letters, theirs.as_bytes());
            let mut read = vec![0; bytes.len()];
            prop_assert!(decode(&letters, &mut read));
            prop_assert_eq!(read, bytes);
        }

        #[test]
        fn what_another_reader_refuses_is_refused(letters in "[0-9a-wA-C]{0,20}") {
            let theirs = BASE32_DNSSEC.decode(&letters.to_ascii_lowercase().into_bytes()).ok();
            let letters = letters.to_ascii_lowercase().into_bytes();
            let ours = decoded_len(letters.len()).and_then(|len| {
                let mut bytes = vec![0; len];
                decode(&letters, &mut bytes).then_some(bytes)
            });
            prop_assert_eq!(ours, theirs);
        }
    }
}
