//! Keyed hashes of several texts at once (SipHash), each with its length before it, so that they do not run into each other.
//!
//! What fits a small buffer is joined there and hashed in one pass, which costs half of what as many writes do; the hash is the same.

use core::hash::Hasher;

use siphasher::sip::{SipHasher13, SipHasher24};
use siphasher::sip128;

/// The 64-bit hash with one round a word, of texts and of what is `fixed` in length: for tables.
#[must_use]
pub fn short(key: &[u8; 16], texts: &[&[u8]], fixed: &[u8]) -> u64 {
    let mut room = [0; ROOM];
    match joined(texts, fixed, &mut room) {
        Some(whole) => SipHasher13::new_with_key(key).hash(whole),
        None => {
            let mut hasher = SipHasher13::new_with_key(key);
            write(&mut hasher, texts, fixed);
            hasher.finish()
        }
    }
}

/// The 64-bit hash with two rounds a word: a MAC.
#[must_use]
pub fn mac(key: &[u8; 16], texts: &[&[u8]], fixed: &[u8]) -> u64 {
    let mut room = [0; ROOM];
    match joined(texts, fixed, &mut room) {
        Some(whole) => SipHasher24::new_with_key(key).hash(whole),
        None => {
            let mut hasher = SipHasher24::new_with_key(key);
            write(&mut hasher, texts, fixed);
            hasher.finish()
        }
    }
}

/// The 128-bit hash with one round a word: two texts with one hash are not to be expected.
#[must_use]
pub fn wide(key: &[u8; 16], texts: &[&[u8]]) -> u128 {
    let mut room = [0; ROOM];
    match joined(texts, b"", &mut room) {
        Some(whole) => sip128::SipHasher13::new_with_key(key).hash(whole).as_u128(),
        None => {
            let mut hasher = sip128::SipHasher13::new_with_key(key);
            write(&mut hasher, texts, b"");
            sip128::Hasher128::finish128(&hasher).as_u128()
        }
    }
}

fn joined<'r>(texts: &[&[u8]], fixed: &[u8], room: &'r mut [u8; ROOM]) -> Option<&'r [u8]> {
    let mut at = 0;
    for text in texts {
        let len = text.len().to_le_bytes();
        room.get_mut(at..at + len.len())?.copy_from_slice(&len);
        at += len.len();
        room.get_mut(at..at + text.len())?.copy_from_slice(text);
        at += text.len();
    }
    room.get_mut(at..at + fixed.len())?.copy_from_slice(fixed);
    room.get(..at + fixed.len())
}

fn write(hasher: &mut impl Hasher, texts: &[&[u8]], fixed: &[u8]) {
    for text in texts {
        hasher.write(&text.len().to_le_bytes());
        hasher.write(text);
    }
    hasher.write(fixed);
}

/// Longer than what phones make of a branch, a Call-ID and a tag.
const ROOM: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_short_are_hashed_alike() {
        let key = [9; 16];
        for len in [0, 1, 7, 200, ROOM - 21, ROOM - 20, ROOM - 19, 1_000] {
            let text = vec![b'x'; len];
            let texts = [&text[..], b"y"];
            let mut hasher = SipHasher13::new_with_key(&key);
            write(&mut hasher, &texts, b"end");
            assert_eq!(short(&key, &texts, b"end"), hasher.finish(), "{len}");
            let mut hasher = SipHasher24::new_with_key(&key);
            write(&mut hasher, &texts, b"end");
            assert_eq!(mac(&key, &texts, b"end"), hasher.finish(), "{len}");
            let mut hasher = sip128::SipHasher13::new_with_key(&key);
            write(&mut hasher, &texts, b"");
            let finished = sip128::Hasher128::finish128(&hasher).as_u128();
            assert_eq!(wide(&key, &texts), finished, "{len}");
        }
    }

    #[test]
    fn texts_do_not_run_into_each_other() {
        assert_ne!(
            short(&[1; 16], &[b"ab", b"c"], b""),
            short(&[1; 16], &[b"a", b"bc"], b"")
        );
    }
}
