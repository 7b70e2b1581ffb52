//! A glance at a batch of messages: what each will need is asked for before the first of them is served ([`crate::prefetch`]).
//!
//! A glance costs a tenth of reading the message, and may be wrong: what it says is a hint, and the message is served as if
//! there had been none.

use memchr::memmem::Finder;

use super::register::Registrar;
use crate::limits::{AOR_LEN_MAX, BATCH};
use crate::location::{Ahead, Location};
use crate::sip::uri::Uri;

/// What was seen of the messages of a batch.
#[derive(Debug)]
pub(super) struct Foresight {
    aheads: [Ahead; BATCH],
    len: usize,
    /// Where the To of a request begins, in either form.
    to: [Finder<'static>; 2],
}

impl Foresight {
    pub(super) fn new() -> Self {
        Self {
            aheads: [Ahead::default(); BATCH],
            len: 0,
            to: [Finder::new(b"\nTo:"), Finder::new(b"\nt:")],
        }
    }

    /// Glances at a message that is to be served soon.
    pub(super) fn glance(&mut self, bytes: &[u8], registrar: &Registrar, location: &Location) {
        let Some(slot) = self.aheads.get_mut(self.len) else {
            return;
        };
        let uri = if bytes.starts_with(b"REGISTER ") {
            let found = self.to.iter().find_map(|name| name.find(bytes));
            found.and_then(|at| address_in(bytes.get(at..)?))
        } else if bytes.starts_with(b"SIP/2.0 ") {
            None
        } else {
            request_uri(bytes)
        };
        let Some(text) = uri else { return };
        let Ok(uri) = Uri::parse(text) else { return };
        let mut aor = [0; AOR_LEN_MAX];
        *slot = match registrar.aor(&uri, &mut aor) {
            Some(aor) => location.ahead_of_aor(aor),
            None => location.ahead_of_contact(text),
        };
        self.len += 1;
    }

    /// Asks for what the messages that were glanced at will need.
    pub(super) fn look_ahead(&mut self, location: &Location) {
        let len = std::mem::take(&mut self.len);
        location.look_ahead(self.aheads.get_mut(..len).unwrap_or_default());
    }
}

/// The URI of a request's first line.
fn request_uri(bytes: &[u8]) -> Option<&[u8]> {
    let start = memchr::memchr(b' ', bytes)? + 1;
    let rest = bytes.get(start..)?;
    rest.get(..memchr::memchr(b' ', rest)?)
}

/// The URI of an address that is written with angle brackets, as nearly all are.
fn address_in(bytes: &[u8]) -> Option<&[u8]> {
    let start = memchr::memchr(b'<', bytes)? + 1;
    let rest = bytes.get(start..)?;
    rest.get(..memchr::memchr(b'>', rest)?)
}
