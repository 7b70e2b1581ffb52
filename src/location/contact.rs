//! When two contact URIs are the same contact, and when a Request-URI leads to one.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::limits::CONTACT_LEN_MAX;
use crate::sip::uri::{canonical_aor, equivalent};
use crate::sip::{Scheme, Uri};

/// The keyed hash of a contact's user, host and port: equal for all URIs that are [`same_contact`] or that
/// [`reaches`] leads to.
pub(super) fn contact_hash(hasher: &SipHasher13, text: &[u8]) -> u32 {
    match Uri::parse(text) {
        Ok(uri) => uri_hash(hasher, &uri),
        Err(_) => text_hash(hasher, text),
    }
}

/// The same of a URI that has been read.
pub(super) fn uri_hash(hasher: &SipHasher13, uri: &Uri<'_>) -> u32 {
    let mut room = [0; USUAL_LEN];
    let [domain, scratch @ ..] = &mut room;
    *domain = CONTACT_DOMAIN;
    if let Some(key) = Key::of(uri, scratch) {
        let (len, port) = (key.name.len(), key.port.to_le_bytes());
        if let Some(behind) = scratch.get_mut(len..len + port.len()) {
            behind.copy_from_slice(&port);
            let whole = room.get(..1 + len + port.len()).unwrap_or_default();
            return (hasher.hash(whole) >> 32) as u32;
        }
    }
    let mut scratch = [0; KEY_LEN_MAX];
    let Some(key) = Key::of(uri, &mut scratch) else {
        return text_hash(hasher, uri.bytes());
    };
    let mut hasher = *hasher;
    hasher.write(&[CONTACT_DOMAIN]);
    hasher.write(key.name);
    hasher.write(&key.port.to_le_bytes());
    (hasher.finish() >> 32) as u32
}

/// The same of what is no SIP URI.
fn text_hash(hasher: &SipHasher13, text: &[u8]) -> u32 {
    let mut hasher = *hasher;
    hasher.write(&[CONTACT_DOMAIN]);
    text.iter()
        .for_each(|byte| hasher.write(&[byte.to_ascii_lowercase()]));
    (hasher.finish() >> 32) as u32
}

/// Whether two contacts of an AoR are one (RFC 3261 10.3 step 7: by the equality of 19.1.4).
pub(super) fn same_contact(a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    match (Uri::parse(a), Uri::parse(b)) {
        (Ok(a), Ok(b)) => equivalent(&a, &b),
        (Ok(_) | Err(_), _) => false,
    }
}

/// Whether a request to `target` goes where `contact` says: to the same user at the same host and port.
///
/// The Contact of a dialog is seldom equal to the registered one: phones give them other parameters.
pub(super) fn reaches(contact: &[u8], target: &[u8]) -> bool {
    if contact == target {
        return true;
    }
    let (Ok(contact), Ok(target)) = (Uri::parse(contact), Uri::parse(target)) else {
        return false;
    };
    let (mut a, mut b) = ([0; KEY_LEN_MAX], [0; KEY_LEN_MAX]);
    match (Key::of(&contact, &mut a), Key::of(&target, &mut b)) {
        (Some(contact), Some(target)) => contact == target,
        (Some(_) | None, _) => false,
    }
}

/// What tells where a SIP URI leads, without what may be written in several ways.
#[derive(PartialEq, Eq)]
struct Key<'a> {
    /// `user@host`, escapes undone, the host in lower case.
    name: &'a [u8],
    port: u16,
}

impl<'a> Key<'a> {
    fn of(uri: &Uri<'_>, scratch: &'a mut [u8]) -> Option<Self> {
        if !uri.is_sip() {
            return None;
        }
        let name = canonical_aor(uri.user.unwrap_or_default(), &uri.host, true, scratch).ok()?;
        // RFC 3261 19.1.2: a port that is not written is the scheme's.
        let port = uri.port.unwrap_or(if uri.scheme == Scheme::Sips {
            5061
        } else {
            5060
        });
        Some(Self { name, port })
    }
}

/// Keeps the hashes of contacts apart from those of AoRs under the same key.
const CONTACT_DOMAIN: u8 = 1;
/// Longer than the keys of most contacts.
const USUAL_LEN: usize = 128;
/// Room for the key of the longest contact: the canonical form is longer only where an IPv6 address is.
const KEY_LEN_MAX: usize = CONTACT_LEN_MAX + 64;

#[cfg(test)]
mod tests {
    use super::*;

    const HASHER: fn() -> SipHasher13 = || SipHasher13::new_with_key(&[3; 16]);

    #[test]
    fn contacts_are_the_same_by_uri_equality_and_then_hash_alike() {
        for (a, b) in [
            ("sip:alice@Example.COM", "sip:alice@example.com"),
            (
                "sip:%61lice@example.com",
                "sip:alice@example.com;rinstance=7",
            ),
            (
                "sip:alice@[2001:DB8::1]:5070",
                "sip:alice@[2001:db8:0::1]:5070",
            ),
            ("sip:example.com", "SIP:EXAMPLE.com"),
            ("tel:+1-555", "TEL:+1-555"),
        ] {
            assert!(same_contact(a.as_bytes(), b.as_bytes()), "{a} {b}");
            assert_eq!(
                contact_hash(&HASHER(), a.as_bytes()),
                contact_hash(&HASHER(), b.as_bytes()),
                "{a} {b}"
            );
        }
        for (a, b) in [
            ("sip:alice@example.com", "sip:Alice@example.com"),
            ("sip:alice@example.com", "sips:alice@example.com"),
            ("sip:alice@example.com", "sip:alice@example.com:5060"),
            (
                "sip:alice@example.com;transport=udp",
                "sip:alice@example.com",
            ),
            (
                "sip:alice@example.com;line=1",
                "sip:alice@example.com;line=2",
            ),
            ("sip:%00@h.com", "sip:%00%00@h.com"),
        ] {
            assert!(!same_contact(a.as_bytes(), b.as_bytes()), "{a} {b}");
        }
    }

    #[test]
    fn a_request_within_a_dialog_reaches_the_contact_whatever_its_parameters() {
        assert!(reaches(
            b"sip:a@192.0.2.7:5070;ob",
            b"sip:%61@192.0.2.7:5070;transport=udp"
        ));
        assert!(reaches(b"sip:a@192.0.2.7:5060", b"sip:a@192.0.2.7"));
        assert!(!reaches(b"sip:a@192.0.2.7:5070", b"sip:a@192.0.2.7:5071"));
        assert!(!reaches(b"sip:a@192.0.2.7:5070", b"sip:b@192.0.2.7:5070"));
        assert!(!reaches(b"sip:a@192.0.2.7", b"tel:a"));
    }
}
