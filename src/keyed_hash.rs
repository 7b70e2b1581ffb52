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
    if texts.is_empty() {
        return SipHasher24::new_with_key(key).hash(fixed);
    }
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

/// A hash that is quick, where nobody gains by finding two texts with one hash: what it keeps apart are one sender's own requests.
///
/// It folds products (as wyhash does), which tells more of its key than SipHash would: so it has one of its own.
#[derive(Clone, Copy)]
pub struct Quick {
    seed: u64,
    factor: u64,
}

impl Quick {
    /// Hashes under a key made from `key`, which cannot be told from it.
    #[must_use]
    pub fn new(key: &[u8; 16]) -> Self {
        Self {
            seed: mac(key, &[b"quick seed"], b""),
            factor: mac(key, &[b"quick factor"], b""),
        }
    }

    /// The hash of several texts.
    #[must_use]
    pub fn hash(&self, texts: &[&[u8]]) -> u64 {
        let mut hash = self.seed;
        for text in texts {
            hash = folded(hash ^ text.len() as u64, self.factor);
            let (whole, rest) = text.as_chunks::<16>();
            for sixteen in whole {
                hash = self.with(hash, halves(sixteen));
            }
            let rest = match (rest.first_chunk(), rest.last_chunk()) {
                (Some(first), Some(last)) => {
                    (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
                }
                _ => few(rest),
            };
            hash = self.with(hash, rest);
        }
        folded(hash, self.factor)
    }

    #[inline]
    const fn with(&self, hash: u64, (a, b): (u64, u64)) -> u64 {
        folded(hash ^ a, self.factor ^ b)
    }
}

impl std::fmt::Debug for Quick {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Quick")
    }
}

/// Both halves of a product.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the halves of 128 bits")]
const fn folded(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// Sixteen bytes as two words.
#[inline]
fn halves(sixteen: &[u8; 16]) -> (u64, u64) {
    let word = u128::from_le_bytes(*sixteen);
    (word as u64, (word >> 64) as u64)
}

/// At most seven bytes as two words.
#[inline]
fn few(bytes: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let word = |half: &[u8; 4]| u64::from(u32::from_le_bytes(*half));
        return (word(first), word(last));
    }
    let word = bytes
        .iter()
        .fold(0, |word, byte| word << 8 | u64::from(*byte));
    (word, 0)
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
    fn each_byte_of_each_text_counts_in_a_quick_hash() {
        let quick = Quick::new(&[9; 16]);
        let mut hashes = std::collections::BTreeSet::new();
        let mut count = 0;
        for len in 0..70 {
            let text = vec![b'x'; len];
            for other in [&b""[..], b"y"] {
                assert!(hashes.insert(quick.hash(&[&text, other])));
                count += 1;
            }
            for at in 0..len {
                let mut text = text.clone();
                for bit in 0..8 {
                    text[at] = b'x' ^ (1 << bit);
                    assert!(hashes.insert(quick.hash(&[&text, b""])), "{len} {at}");
                    count += 1;
                }
            }
        }
        assert_eq!(hashes.len(), count);
        let low: std::collections::BTreeSet<u32> = hashes.iter().map(|hash| *hash as u32).collect();
        assert!(count - low.len() < 5, "halves are hashes, too");
        assert_ne!(quick.hash(&[b"ab", b"c"]), quick.hash(&[b"a", b"bc"]));
        assert_ne!(quick.hash(&[b"ab"]), Quick::new(&[8; 16]).hash(&[b"ab"]));
    }

    #[test]
    fn texts_do_not_run_into_each_other() {
        assert_ne!(
            short(&[1; 16], &[b"ab", b"c"], b""),
            short(&[1; 16], &[b"a", b"bc"], b"")
        );
    }
}
