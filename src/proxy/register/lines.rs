//! The header lines of a registrar's answers: the contacts of its 200 (RFC 3261 10.3 step 8), and what a refusal tells.

use super::extensions::unsupported;
use crate::location::Targets;
use crate::scan;
use crate::sip::{Message, Sink};
use crate::time::Instant;

/// Header lines under way.
pub(super) struct Lines<'a>(pub(super) &'a mut Vec<u8>);

impl Lines<'_> {
    pub(super) fn put_line(&mut self, name: &[u8], value: &[u8]) {
        self.put(name);
        self.put(value);
        self.put(b"\r\n");
    }
}

impl Sink for Lines<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Lists the contacts that the AoR has now (RFC 3261 10.3 step 8).
pub(super) fn list(now: Instant, targets: &Targets, lines: &mut Lines<'_>) {
    for target in targets.iter() {
        lines.put(b"Contact: <");
        lines.put(target.uri);
        lines.put(b">");
        if let Some(q) = target.q {
            lines.put(b";q=");
            lines.put_decimal(u64::from(q / 1_000));
            let decimals = q % 1_000;
            if decimals > 0 {
                let digits = [decimals / 100, decimals / 10 % 10, decimals % 10];
                let len = digits
                    .iter()
                    .rposition(|digit| *digit > 0)
                    .map_or(0, |last| last + 1);
                lines.put(b".");
                digits
                    .iter()
                    .take(len)
                    .for_each(|digit| lines.put_decimal(u64::from(*digit)));
            }
        }
        // Rounded up: a retransmission within the second gets the very same answer, and a live contact never a 0.
        lines.put(b";expires=");
        lines.put_decimal(target.expires.since(now).as_micros().div_ceil(1_000_000));
        lines.put(b"\r\n");
    }
}

/// Names all that was required in vain (RFC 3261 8.2.2.3).
pub(super) fn put_unsupported(message: &Message<'_>, lines: &mut Lines<'_>) {
    for tag in unsupported(message) {
        // What is no token is told as far as it is one: nothing of it may pass for a header field of ours.
        let token = tag
            .get(..scan::skip(tag, 0, scan::TOKEN))
            .unwrap_or_default();
        if !token.is_empty() {
            lines.put_line(b"Unsupported: ", token);
        }
    }
}
