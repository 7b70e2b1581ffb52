//! Nonces that nobody has to remember: a time, a number, and a MAC over both (RFC 7616 5.4).
//!
//! Any node of the cluster can check a nonce, and a restart ends none. What a nonce was used for is remembered beside its
//! user, in the location.

use core::hash::Hasher;

use data_encoding::BASE32_DNSSEC;
use siphasher::sip::SipHasher24;

use crate::time::{Duration, Instant};

/// Makes and checks nonces under the keys of the cluster.
#[derive(Clone)]
pub struct NonceCodec {
    keys: Vec<[u8; 16]>,
    lifetime: Duration,
}

/// A nonce as text.
pub type NonceText = [u8; NONCE_LEN];

/// What a nonce of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce {
    /// What tells it from every other: its MAC.
    pub id: u64,
    /// When it was made, in milliseconds since the Unix epoch.
    pub made_ms: u64,
    /// Whether it may still be used; if not, its bearer is given a new one (`stale=true`).
    pub is_fresh: bool,
}

impl NonceCodec {
    /// A codec under `keys`, the current one first; a nonce may be used for as long as `lifetime`.
    #[must_use]
    pub const fn new(keys: Vec<[u8; 16]>, lifetime: Duration) -> Self {
        Self { keys, lifetime }
    }

    /// Makes a nonce; `number` must be another for each nonce made at one time on any node.
    #[must_use]
    pub fn make(&self, now: Instant, number: u64) -> NonceText {
        let mut plain = [0; PLAIN_LEN];
        plain[..TIME_LEN].copy_from_slice(&millis(now).to_be_bytes()[8 - TIME_LEN..]);
        plain[TIME_LEN..TIME_LEN + 8].copy_from_slice(&number.to_be_bytes());
        let key = self.keys.first().copied().unwrap_or_default();
        let sum = mac(&key, &plain[..PLAIN_LEN - MAC_LEN]);
        plain[PLAIN_LEN - MAC_LEN..].copy_from_slice(&sum.to_be_bytes());
        let mut text = [0; NONCE_LEN];
        BASE32_DNSSEC.encode_mut(&plain, &mut text);
        text
    }

    /// Reads a nonce; `None` where it is none of ours.
    #[must_use]
    pub fn read(&self, now: Instant, text: &[u8]) -> Option<Nonce> {
        let mut plain = [0; PLAIN_LEN];
        if text.len() != NONCE_LEN {
            return None;
        }
        BASE32_DNSSEC.decode_mut(text, &mut plain).ok()?;
        let (said, sum) = plain.split_at(PLAIN_LEN - MAC_LEN);
        let sum = u64::from_be_bytes(sum.try_into().ok()?);
        if !self.keys.iter().any(|key| mac(key, said) == sum) {
            return None;
        }
        let mut time = [0; 8];
        time[8 - TIME_LEN..].copy_from_slice(said.get(..TIME_LEN)?);
        let made_ms = u64::from_be_bytes(time);
        let now_ms = millis(now);
        let lifetime_ms = self.lifetime.as_micros() / 1_000;
        Some(Nonce {
            id: sum,
            made_ms,
            is_fresh: made_ms <= now_ms + SKEW_MS && now_ms <= made_ms + lifetime_ms,
        })
    }
}

impl std::fmt::Debug for NonceCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NonceCodec")
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

const fn millis(now: Instant) -> u64 {
    now.as_micros() / 1_000
}

fn mac(key: &[u8; 16], said: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write(said);
    hasher.finish()
}

/// The length of a nonce's text.
pub const NONCE_LEN: usize = (PLAIN_LEN * 8).div_ceil(5);

const TIME_LEN: usize = 6;
const MAC_LEN: usize = 8;
const PLAIN_LEN: usize = TIME_LEN + 8 + MAC_LEN;
/// How far the clocks of two nodes may be apart.
const SKEW_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn codec(keys: &[u8]) -> NonceCodec {
        let keys = keys.iter().map(|key| [*key; 16]).collect();
        NonceCodec::new(keys, Duration::from_secs(300))
    }

    fn at(secs: u64) -> Instant {
        Instant::from_micros(1_800_000_000_000_000) + Duration::from_secs(secs)
    }

    #[test]
    fn a_nonce_lives_its_time_and_outlives_one_rotation() {
        let text = codec(&[1]).make(at(0), 7);
        let read = codec(&[1]).read(at(299), &text).expect("ours");
        assert!(read.is_fresh);
        assert!(!codec(&[1]).read(at(301), &text).expect("ours").is_fresh);
        assert!(codec(&[2, 1]).read(at(1), &text).is_some());
        assert_eq!(codec(&[3, 2]).read(at(1), &text), None);
    }

    #[test]
    fn what_was_tampered_with_is_none_of_ours() {
        let text = codec(&[1]).make(at(0), 7);
        for place in 0..NONCE_LEN {
            let mut other = text;
            other[place] = if other[place] == b'0' { b'1' } else { b'0' };
            assert_eq!(codec(&[1]).read(at(0), &other), None, "{place}");
        }
        assert_eq!(codec(&[1]).read(at(0), b""), None);
        assert_eq!(codec(&[1]).read(at(0), &text[1..]), None);
    }

    #[test]
    fn a_nonce_from_a_node_whose_clock_is_ahead_is_good_but_none_from_the_future() {
        let text = codec(&[1]).make(at(30), 7);
        assert!(codec(&[1]).read(at(0), &text).expect("ours").is_fresh);
        let text = codec(&[1]).make(at(90), 7);
        assert!(!codec(&[1]).read(at(0), &text).expect("ours").is_fresh);
    }
}
