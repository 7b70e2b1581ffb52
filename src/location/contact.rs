//! When two contact URIs are the same contact, and when a Request-URI leads to one.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::limits::CONTACT_LEN_MAX;
use crate::sip::host::Host;
use crate::sip::text::{Sink, Text};
use crate::sip::uri::put_unescaped;
use crate::sip::{Scheme, Uri, equivalent};

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
    if let Some(key) = key(uri, &mut [0; USUAL_LEN]) {
        return (hasher.hash(key) >> 32) as u32;
    }
    match key(uri, &mut [0; KEY_LEN_MAX]) {
        Some(key) => (hasher.hash(key) >> 32) as u32,
        None => text_hash(hasher, uri.bytes()),
    }
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
    match (key(&contact, &mut a), key(&target, &mut b)) {
        (Some(contact), Some(target)) => contact == target,
        (Some(_) | None, _) => false,
    }
}

/// What tells where a SIP URI leads, without what may be written in several ways: its port, its host (an address as octets, a name in lower
/// case), and its user with escapes undone. None where it is another's URI, or does not fit.
fn key<'k>(uri: &Uri<'_>, room: &'k mut [u8]) -> Option<&'k [u8]> {
    if !uri.is_sip() {
        return None;
    }
    // RFC 3261 19.1.2: a port that is not written is the scheme's.
    let port = uri.port.unwrap_or(if uri.scheme == Scheme::Sips {
        5061
    } else {
        5060
    });
    let mut text = Text::new(room);
    text.put(&[CONTACT_DOMAIN]);
    text.put(&port.to_le_bytes());
    match uri.host {
        Host::V4(address) => {
            text.put(b"4");
            text.put(&address.octets());
        }
        Host::V6(address) => {
            text.put(b"6");
            text.put(&address.octets());
        }
        Host::Name(name) => {
            text.put(b"n");
            text.put_lowercase(name);
            // No name has one.
            text.put(b"@");
        }
    }
    put_unescaped(uri.user.unwrap_or_default(), &mut text);
    let len = text.finish()?;
    room.get(..len)
}

/// Keeps the hashes of contacts apart from those of AoRs under the same key.
const CONTACT_DOMAIN: u8 = 1;
/// Longer than the keys of most contacts.
const USUAL_LEN: usize = 128;
/// Room for the key of the longest contact, which is no longer than the contact but for an address.
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
