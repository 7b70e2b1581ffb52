//! A glance at a batch of messages: what each will need is asked for before the first of them is served ([`crate::prefetch`]).
//!
//! A glance costs a tenth of reading the message, and may be wrong: what it says is a hint, and the message is served as if
//! there had been none.

use memchr::memmem::Finder;

use super::register::Registrar;
use crate::datagram::WorkerId;
use crate::limits::{AOR_LEN_MAX, BATCH};
use crate::location::{Ahead, Location};
use crate::scan;
use crate::sip::span::Span;
use crate::sip::uri::Uri;
use crate::transaction::id::{COOKIE, glance};
use crate::transaction::look_ahead::Ahead as Transactions;
use crate::transaction::table::Table;

/// What was seen of the messages of a batch.
#[derive(Debug)]
pub(super) struct Foresight {
    aheads: [Ahead; BATCH],
    len: usize,
    transactions: Transactions<BATCH>,
    /// Where the To of a request begins, in either form.
    to: [Finder<'static>; 2],
    branch: Finder<'static>,
}

impl Foresight {
    pub(super) fn new() -> Self {
        Self {
            aheads: [Ahead::default(); BATCH],
            len: 0,
            transactions: Transactions::default(),
            to: [Finder::new(b"\nTo:"), Finder::new(b"\nt:")],
            branch: Finder::new(COOKIE),
        }
    }

    /// Glances at a message that `worker` is to serve soon.
    pub(super) fn glance(
        &mut self,
        bytes: &[u8],
        worker: WorkerId,
        registrar: &Registrar,
        location: &Location,
    ) {
        if bytes.starts_with(b"SIP/2.0 ") {
            return self.glance_at_response(bytes, worker);
        }
        let Some(slot) = self.aheads.get_mut(self.len) else {
            return;
        };
        let span = if bytes.starts_with(b"REGISTER ") {
            let found = self.to.iter().find_map(|name| name.find(bytes));
            found.and_then(|at| address_in(bytes, at))
        } else {
            request_uri(bytes)
        };
        let uri = span.and_then(|span| Uri::parse_within(bytes, span).ok());
        // What has no user is for us, as a rule, and nothing of the location is needed for it.
        let Some(uri) = uri.filter(|uri| uri.user.is_some()) else {
            return;
        };
        let mut aor = [0; AOR_LEN_MAX];
        *slot = match registrar.aor(&uri, &mut aor) {
            Some(aor) => location.ahead_of_aor(aor),
            None => location.ahead_of_contact(&uri),
        };
        self.len += 1;
    }

    fn glance_at_response(&mut self, bytes: &[u8], worker: WorkerId) {
        let top = bytes.get(..TOP_LEN).unwrap_or(bytes);
        let branch = self.branch.find(top).and_then(|at| bytes.get(at..));
        if let Some((owner, slot)) = branch.and_then(glance)
            && owner == worker
        {
            self.transactions.push(slot);
        }
    }

    /// Asks for what the messages that were glanced at will need.
    pub(super) fn look_ahead<S, C>(&mut self, location: &Location, table: &Table<S, C>) {
        table.look_ahead(&mut self.transactions);
        let len = std::mem::take(&mut self.len);
        location.look_ahead(self.aheads.get_mut(..len).unwrap_or_default());
    }
}

/// Where the URI of a request's first line stands.
fn request_uri(bytes: &[u8]) -> Option<Span> {
    let start = scan::find(bytes, 0, b' ')? + 1;
    let end = scan::find_uri_end(bytes, start)?;
    (bytes.get(end) == Some(&b' ')).then(|| Span::new(start, end))
}

/// Where the URI of an address stands that is written with angle brackets, as nearly all are.
fn address_in(bytes: &[u8], from: usize) -> Option<Span> {
    let start = scan::find(bytes, from, b'<')? + 1;
    let end = scan::find_uri_end(bytes, start)?;
    (bytes.get(end) == Some(&b'>')).then(|| Span::new(start, end))
}

/// The bytes of a response among which its topmost branch is.
const TOP_LEN: usize = 512;
