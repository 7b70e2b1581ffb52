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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::index::Index;
    use crate::sip::message::{Parsed, parse};
    use crate::time::Duration;

    const START: Instant = Instant::from_micros(1_700_000_000_000_000);

    fn seals(secrets: &[&str]) -> Seals {
        let secrets: Vec<Vec<u8>> = secrets.iter().map(|text| text.as_bytes().into()).collect();
        Seals::new(&secrets)
    }

    fn check(line: &str, seals: &Seals, now: Instant, parts: &[&[u8]]) -> Seal {
        let text = format!(
            "KDMQ sip:usrloc@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nTo: <sip:a@h>\r\nFrom: <sip:a@h>;tag=1\r\n\
             CSeq: 10 KDMQ\r\nCall-ID: 1\r\nMax-Forwards: 1\r\n{line}Content-Length: 0\r\n\r\n"
        );
        let mut index = Index::new();
        let Parsed::Good(message) = parse(text.as_bytes(), &mut index) else {
            panic!("{text}");
        };
        seals.check(now, &message, parts)
    }

    #[test]
    fn a_seal_is_good_for_what_was_sealed_by_who_shares_a_secret_and_not_for_long() {
        let (old, new) = (seals(&["old"]), seals(&["new", "old"]));
        let parts: [&[u8]; 2] = [b"request", b"body"];
        let line = old.line(START, &parts);
        assert_eq!(check(&line, &old, START, &parts), Seal::Good);
        assert_eq!(check(&line, &new, START, &parts), Seal::Good);
        assert_eq!(
            check(&new.line(START, &parts), &old, START, &parts),
            Seal::Bad
        );
        assert_eq!(check(&line, &old, START, &[b"requestb", b"ody"]), Seal::Bad);
        assert_eq!(check(&line, &old, START, &[b"request", b"Body"]), Seal::Bad);
        let late = START + KDMQ_SEAL_TIME + Duration::from_millis(1);
        assert_eq!(check(&line, &old, late, &parts), Seal::Bad);
        let ahead = old.line(late, &parts);
        assert_eq!(check(&ahead, &old, START, &parts), Seal::Bad);
    }

    #[test]
    fn without_a_seal_or_a_secret_nothing_is_said_and_a_broken_one_is_bad() {
        let (none, some) = (seals(&[]), seals(&["x"]));
        assert_eq!(none.line(START, &[b"a"]), "");
        assert_eq!(check("", &some, START, &[b"a"]), Seal::Missing);
        assert_eq!(
            check(&some.line(START, &[b"a"]), &none, START, &[b"a"]),
            Seal::Missing
        );
        for value in [
            "",
            "1",
            "x y",
            "1 00",
            "1 zz112233445566778899aabbccddeeff",
            "1 \u{e9}",
        ] {
            let line = format!("{HEADER}: {value}\r\n");
            assert_eq!(check(&line, &some, START, &[b"a"]), Seal::Bad, "{value}");
        }
    }
}
