//! The cluster's secret: a header by which a message is known to come from who shares it, unchanged and not long ago.
//!
//! Kamailio has nothing of the kind and passes the header over. What is covered: what kind of message it is, when it was made, whom it is from
//! and for, its Call-ID and branch, and its body. A message can be repeated for [`KDMQ_SEAL_TIME`], to the same node alone; that does
//! nothing, since states have versions and a SYNC is known by its Call-ID.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::limits::KDMQ_SEAL_TIME;
use crate::sip::message::Message;
use crate::sip::name::HeaderName;
use crate::time::Instant;

/// The secrets: the first one seals, each opens.
#[derive(Clone, Default)]
pub struct Seals {
    keys: Vec<Hmac<Sha256>>,
}

/// What a message's seal is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seal {
    /// It is of who shares a secret.
    Good,
    /// There is one, and it is not good: forged, of another secret, changed, or too old.
    Bad,
    /// There is none, or we have no secret.
    Missing,
}

impl Seals {
    /// Seals under `secrets`, the newest first; without any nothing is sealed.
    #[must_use]
    pub fn new(secrets: &[Vec<u8>]) -> Self {
        let keys = secrets
            .iter()
            .filter_map(|secret| Hmac::new_from_slice(secret).ok());
        Self {
            keys: keys.collect(),
        }
    }

    /// Whether there is a secret.
    pub(super) const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The header's line for a message of these parts, with its line break; empty without a secret.
    pub(super) fn line(&self, now: Instant, parts: &[&[u8]]) -> String {
        let Some(key) = self.keys.first() else {
            return String::new();
        };
        let made = now.as_micros();
        let mac = digest(key.clone(), made, parts).finalize().into_bytes();
        let mut line = format!("{HEADER}: {made:x} ");
        for byte in mac.iter().take(MAC_LEN) {
            line.push_str(&format!("{byte:02x}"));
        }
        line.push_str("\r\n");
        line
    }

    /// Looks at a message's seal; `parts` are what its sender sealed.
    pub(super) fn check(&self, now: Instant, message: &Message<'_>, parts: &[&[u8]]) -> Seal {
        if self.is_empty() {
            return Seal::Missing;
        }
        let is_seal = |name: &[u8]| name.eq_ignore_ascii_case(HEADER.as_bytes());
        let mut found = message
            .all_headers()
            .filter(|header| header.name == HeaderName::Other && is_seal(header.name_bytes));
        let Some(header) = found.next() else {
            return Seal::Missing;
        };
        let is_good = read(header.value).is_some_and(|(made, mac)| {
            let made_at = Instant::from_micros(made);
            let age = now
                .since(made_at)
                .as_micros()
                .max(made_at.since(now).as_micros());
            age <= KDMQ_SEAL_TIME.as_micros()
                && self.keys.iter().any(|key| {
                    let digest = digest(key.clone(), made, parts);
                    digest.verify_truncated_left(&mac).is_ok()
                })
        });
        if is_good { Seal::Good } else { Seal::Bad }
    }
}

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seals")
            .field("count", &self.keys.len())
            .finish()
    }
}

/// Each part behind its length, so that none can pass for another.
fn digest(mut mac: Hmac<Sha256>, made: u64, parts: &[&[u8]]) -> Hmac<Sha256> {
    mac.update(HEADER.as_bytes());
    mac.update(&made.to_be_bytes());
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac
}

/// The time and the MAC of a header's value.
fn read(value: &[u8]) -> Option<(u64, [u8; MAC_LEN])> {
    let text = std::str::from_utf8(value).ok()?;
    let (made, hex) = text.trim().split_once(' ')?;
    let mut mac = [0; MAC_LEN];
    if hex.len() != 2 * MAC_LEN {
        return None;
    }
    for (byte, digits) in mac.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some((u64::from_str_radix(made, 16).ok()?, mac))
}

/// The header.
const HEADER: &str = "Strowger-Seal";
/// Half of the hash: 128 bits.
const MAC_LEN: usize = 16;
