//! The extensions of a REGISTER: what it requires and supports (RFC 3261 8.2.2.3), and its Path (RFC 3327).

use super::cause::Cause;
use super::outbound::OUTBOUND;
use crate::limits::PATH_LEN_MAX;
use crate::sip::{HeaderName, Message};

/// The option tags of Require that we do not have.
pub(super) fn unsupported<'m>(message: &Message<'m>) -> impl Iterator<Item = &'m [u8]> {
    let tags = message
        .values(HeaderName::Require)
        .map(|value| value.bytes());
    tags.filter(|tag| !KNOWN.iter().any(|known| tag.eq_ignore_ascii_case(known)))
}

/// Whether a REGISTER says that its sender knows an extension.
pub(in crate::proxy) fn has_tag(message: &Message<'_>, tag: &[u8]) -> bool {
    let names = [HeaderName::Supported, HeaderName::Require];
    if names.iter().all(|name| message.header(*name).is_none()) {
        return false;
    }
    let mut tags = message
        .values(HeaderName::Supported)
        .chain(message.values(HeaderName::Require));
    tags.any(|found| found.bytes().eq_ignore_ascii_case(tag))
}

/// Copies the values of Path, comma-separated and on one line (RFC 3327 5.3).
pub(super) fn copy_path(message: &Message<'_>, path: &mut Vec<u8>) -> Result<(), Cause> {
    path.clear();
    for value in message.values(HeaderName::Path) {
        let is_sip = value
            .address()
            .and_then(|address| address.uri())
            .map(|uri| uri.is_sip());
        if is_sip != Ok(true) {
            return Err(Cause::BadPath);
        }
        let comma = usize::from(!path.is_empty());
        if path.len() + comma + value.bytes().len() > PATH_LEN_MAX {
            return Err(Cause::PathTooLong);
        }
        path.extend_from_slice(&b","[..comma]);
        path.extend(value.bytes().iter().map(|byte| {
            if matches!(byte, b'\r' | b'\n') {
                b' '
            } else {
                *byte
            }
        }));
    }
    Ok(())
}

/// The option tag of RFC 3327.
pub(super) const PATH: &[u8] = b"path";
/// The option tag of RFC 5627.
pub(super) const GRUU: &[u8] = b"gruu";
/// The extensions that a registrar must know of, and that are built.
const KNOWN: [&[u8]; 3] = [PATH, OUTBOUND, GRUU];
