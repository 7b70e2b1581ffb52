//! The header lines of a registrar's answers: the contacts of its 200 (RFC 3261 10.3 step 8), and what a refusal tells.

use super::extensions::{GRUU, PATH, has_tag, unsupported};
use super::{Registrar, Uses};
use crate::limits::AOR_LEN_MAX;
use crate::location::{Target, Targets};
use crate::proxy::gruu;
use crate::scan;
use crate::sip::date::put_date;
use crate::sip::{Message, Sink, Uri};
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
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// The Date line of the second that it was last asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Date {
    second: u64,
    line: Vec<u8>,
}

impl Date {
    fn put(&mut self, now: Instant, lines: &mut Lines<'_>) {
        let second = now.as_micros() / 1_000_000;
        if second != self.second || self.line.is_empty() {
            self.second = second;
            self.line.clear();
            let mut line = Lines(&mut self.line);
            line.put(b"Date: ");
            put_date(&mut line, now);
            line.put(b"\r\n");
        }
        lines.put(&self.line);
    }
}

impl Registrar {
    /// Puts all that a 200 has of its own: the contacts that the AoR has now (RFC 3261 10.3 step 8), and what the extensions tell.
    pub(super) fn put_ok(
        &self,
        now: Instant,
        message: &Message<'_>,
        (path, targets, uses): (&[u8], &Targets, Uses),
        date: &mut Date,
        lines: &mut Lines<'_>,
    ) {
        let gruus = self.gruus_for(message);
        for target in targets.iter() {
            put_contact(now, &target, lines);
            if let Some(gruus) = gruus.filter(|_| !target.instance.is_empty()) {
                self.put_gruus(&gruus, &target, lines);
            }
            lines.put(b"\r\n");
        }
        if !path.is_empty() && has_tag(message, PATH) {
            // RFC 3327 5.3: so that the phone sees by what way it will be reached.
            lines.put_line(b"Path: ", path);
        }
        let service_route = self.settings.service_route.as_bytes();
        if !service_route.is_empty() {
            // RFC 3608 6.3: in every 200 to a REGISTER.
            lines.put_line(b"Service-Route: ", service_route);
        }
        if uses.outbound {
            // RFC 5626 6: so the phone knows that its flows are kept.
            lines.put(b"Supported: path, outbound, gruu\r\nRequire: outbound\r\n");
            if uses.is_neighbour && self.settings.flow_timer_s > 0 {
                lines.put(b"Flow-Timer: ");
                lines.put_decimal(u64::from(self.settings.flow_timer_s));
                lines.put(b"\r\n");
            }
        }
        date.put(now, lines);
    }

    /// The AoR that GRUUs are made of, where the phone knows of GRUUs (RFC 5627 5.2).
    fn gruus_for<'m>(&self, message: &Message<'m>) -> Option<Uri<'m>> {
        if !has_tag(message, GRUU) {
            return None;
        }
        message.to().uri().ok()
    }

    fn put_gruus(&self, aor: &Uri<'_>, target: &Target<'_>, lines: &mut Lines<'_>) {
        let mut canonical = [0; AOR_LEN_MAX];
        let (Some(user), Some(canonical)) = (aor.user, self.aor(aor, &mut canonical)) else {
            return;
        };
        let host = host_of(aor);
        lines.put(b";pub-gruu=\"sip:");
        lines.put(user);
        lines.put(b"@");
        lines.put(host);
        lines.put(b";gr=");
        gruu::put_public(lines, target.instance);
        lines.put(b"\";temp-gruu=\"sip:");
        self.gruus.put_temporary(lines, canonical, target);
        lines.put(b"@");
        lines.put(host);
        lines.put(b";gr\"");
    }
}

/// The host of a SIP URI as it is written.
fn host_of<'a>(uri: &Uri<'a>) -> &'a [u8] {
    let opaque = uri.opaque();
    let start = scan::find(opaque, 0, b'@').map_or(0, |at| at + 1);
    let sent_to = opaque.get(start..).unwrap_or_default();
    let end = match sent_to.first() {
        Some(b'[') => scan::find(sent_to, 0, b']').map_or(sent_to.len(), |end| end + 1),
        _ => scan::skip(sent_to, 0, scan::HOST),
    };
    sent_to.get(..end).unwrap_or_default()
}

/// Puts a contact with its parameters, without the end of its line.
fn put_contact(now: Instant, target: &Target<'_>, lines: &mut Lines<'_>) {
    lines.put(b"Contact: <");
    lines.put(target.uri);
    lines.put(b">");
    if let Some(q) = target.q {
        put_q(q, lines);
    }
    // Rounded up: a retransmission within the second gets the very same answer, and a live contact never a 0.
    lines.put(b";expires=");
    lines.put_decimal(target.expires.since(now).as_micros().div_ceil(1_000_000));
    if !target.instance.is_empty() {
        lines.put(b";+sip.instance=\"");
        lines.put(target.instance);
        lines.put(b"\"");
    }
    if target.reg_id > 0 {
        lines.put(b";reg-id=");
        lines.put_decimal(u64::from(target.reg_id));
    }
}

fn put_q(q: u16, lines: &mut Lines<'_>) {
    lines.put(b";q=");
    lines.put_decimal(u64::from(q / 1_000));
    let decimals = q % 1_000;
    if decimals == 0 {
        return;
    }
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
