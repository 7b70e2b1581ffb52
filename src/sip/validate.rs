//! What is checked of every message before anyone sees it: the fields that a transaction and a reply stand on.

use super::address::AddressParts;
use super::cseq;
use super::error::{RejectionCause, SipError};
use super::index::Index;
use super::name::HeaderName;
use super::plain;
use super::span::Span;
use crate::scan;

/// Fields that may stand once, in a request and in a response.
const SINGLE: u64 = bits(&[
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::ContentLength,
]);

/// Fields that may stand once, and that matter to us in a request alone.
const SINGLE_IN_REQUEST: u64 = bits(&[
    HeaderName::MaxForwards,
    HeaderName::Expires,
    HeaderName::ContentType,
]);

/// The bits of names.
const fn bits(names: &[HeaderName]) -> u64 {
    let mut bits = 0;
    let mut place = 0;
    while place < names.len() {
        bits |= 1 << names[place] as u64;
        place += 1;
    }
    bits
}

impl Index {
    /// Checks the fields that matter and keeps what they say; notes the first that is wrong.
    ///
    /// Gives whether the message has a Via that an answer can go back by.
    pub(super) fn validate(&mut self, bytes: &[u8]) -> bool {
        let is_answerable = self.check_via(bytes);
        self.check_repetitions();
        self.check_from(bytes);
        self.check_to(bytes);
        self.check_call_id(bytes);
        self.check_cseq(bytes);
        self.check_content_length(bytes);
        if self.is_request() {
            self.check_max_forwards(bytes);
            self.check_expires(bytes);
            self.check_contacts(bytes);
        }
        is_answerable
    }

    fn check_via(&mut self, bytes: &[u8]) -> bool {
        let Some(value) = self.first(HeaderName::Via).map(|via| via.value) else {
            self.note(RejectionCause::Via);
            return false;
        };
        if let Some(via) = plain::via(bytes, usize::from(value.start), usize::from(value.end)) {
            self.via = via;
            return true;
        }
        let text = bytes.get(..usize::from(value.end)).unwrap_or_default();
        let top = Span::new(
            usize::from(value.start),
            scan::find_comma(text, usize::from(value.start)),
        );
        if self.via.read(bytes, top).is_err() {
            self.note(RejectionCause::Via);
        }
        self.via.sent_by_end > 0
    }

    fn check_repetitions(&mut self) {
        let single = if self.is_request() {
            SINGLE | SINGLE_IN_REQUEST
        } else {
            SINGLE
        };
        // RFC 3261 7.3.1: a field whose value is no list stands once. Which one of two counts, no two readers agree.
        if self.are_repeated(single) {
            self.note(RejectionCause::Repeated);
        }
    }

    fn check_from(&mut self, bytes: &[u8]) {
        match self.read_address(bytes, HeaderName::From) {
            None => self.note(RejectionCause::MissingFrom),
            Some(Err(_)) => self.note(RejectionCause::From),
            Some(Ok(parts)) => self.from = parts,
        }
    }

    fn check_to(&mut self, bytes: &[u8]) {
        match self.read_address(bytes, HeaderName::To) {
            None => self.note(RejectionCause::MissingTo),
            Some(Err(_)) => self.note(RejectionCause::To),
            Some(Ok(parts)) => self.to = parts,
        }
    }

    /// Reads the address of the first field called `name`.
    #[inline]
    fn read_address(
        &self,
        bytes: &[u8],
        name: HeaderName,
    ) -> Option<Result<AddressParts, SipError>> {
        let value = self.first(name)?.value;
        let plain = plain::address(bytes, usize::from(value.start), usize::from(value.end));
        Some(plain.map_or_else(|| AddressParts::parse(bytes, value), Ok))
    }

    fn check_call_id(&mut self, bytes: &[u8]) {
        let Some(value) = self.first(HeaderName::CallId).map(|call_id| call_id.value) else {
            return self.note(RejectionCause::MissingCallId);
        };
        // It is opaque to all but its maker, so any printable text will do; whitespace would divide it for some readers.
        if value.is_empty() || !scan::is_graphic(value.of(bytes)) {
            return self.note(RejectionCause::CallId);
        }
        self.call_id = value;
    }

    fn check_cseq(&mut self, bytes: &[u8]) {
        match self
            .first(HeaderName::CSeq)
            .map(|cseq| cseq::parse(bytes, cseq.value))
        {
            None => self.note(RejectionCause::MissingCSeq),
            Some(Err(_)) => self.note(RejectionCause::CSeq),
            Some(Ok((number, method))) => {
                self.cseq_number = number;
                self.cseq_method = method;
                // RFC 3261 8.1.1.5: the method must be the request's.
                if self.is_request() && method.of(bytes) != self.start_line.method_span.of(bytes) {
                    self.note(RejectionCause::MethodMismatch);
                }
            }
        }
    }

    fn check_content_length(&mut self, bytes: &[u8]) {
        // RFC 3261 18.3: without one, the body goes to the end of the datagram.
        let Some(value) = self
            .first(HeaderName::ContentLength)
            .map(|length| length.value)
        else {
            return;
        };
        let length = scan::decimal(value.of(bytes), u64::MAX).map(usize::try_from);
        match length {
            None => self.note(RejectionCause::ContentLength),
            Some(Ok(length)) if length <= self.body.len() => {
                let start = usize::from(self.body.start);
                // RFC 3261 18.3: what lies past the body is discarded.
                self.body = Span::new(start, start + length);
            }
            Some(_) => self.note(RejectionCause::BodyTruncated),
        }
    }

    fn check_max_forwards(&mut self, bytes: &[u8]) {
        let Some(value) = self.first(HeaderName::MaxForwards).map(|field| field.value) else {
            return;
        };
        let hops = scan::decimal(value.of(bytes), u64::from(u8::MAX))
            .and_then(|hops| u8::try_from(hops).ok());
        if hops.is_none() {
            self.note(RejectionCause::MaxForwards);
        }
        self.max_forwards = hops;
    }

    fn check_expires(&mut self, bytes: &[u8]) {
        let Some(value) = self.first(HeaderName::Expires).map(|field| field.value) else {
            return;
        };
        let seconds = scan::decimal(value.of(bytes), u64::from(u32::MAX));
        let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
        if seconds.is_none() {
            self.note(RejectionCause::Expires);
        }
        self.expires_s = seconds;
    }

    /// A quote that never closes hides all that follows it, so it is refused whoever the Contact is for.
    fn check_contacts(&mut self, bytes: &[u8]) {
        let mut next = self.first(HeaderName::Contact).copied();
        while let Some(contact) = next {
            next = self.entry(contact.next).copied();
            let (start, end) = (contact.value.start.into(), contact.value.end.into());
            if scan::find_quote(bytes, start, end) == Some(end) {
                continue;
            }
            let value = contact.value.of(bytes);
            let mut at = 0;
            while let Some(quote) = scan::find(value, at, b'"') {
                let Some(past) = scan::skip_quoted(value, quote + 1) else {
                    return self.note(RejectionCause::Contact);
                };
                at = past;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::tests::{INVITE, rejection};

    /// What is written in place of what, and what it is refused for.
    const FAULTS: &[(&str, &str, RejectionCause)] = &[
        ("X-Unknown: one", "X-Unknown", RejectionCause::HeaderLine),
        (
            "X-Unknown: one",
            "X Unknown: one",
            RejectionCause::HeaderLine,
        ),
        ("X-Unknown: one", ": one", RejectionCause::HeaderLine),
        (
            "INVITE sip:bob@example.com SIP/2.0\r\n",
            "INVITE sip:b@c SIP/2.0\r\n folded: x\r\n",
            RejectionCause::HeaderLine,
        ),
        ("X-Unknown: one", "To: <sip:x@y>", RejectionCause::Repeated),
        (
            "X-Unknown: one",
            "Max-Forwards: 3",
            RejectionCause::Repeated,
        ),
        (
            "Call-ID: c1@192.0.2.1\r\n",
            "",
            RejectionCause::MissingCallId,
        ),
        ("CSeq: 7 INVITE\r\n", "", RejectionCause::MissingCSeq),
        (
            "To: <sip:bob@example.com>\r\n",
            "",
            RejectionCause::MissingTo,
        ),
        ("Call-ID: c1", "Call-ID: c 1", RejectionCause::CallId),
        ("Call-ID: c1@192.0.2.1", "Call-ID:", RejectionCause::CallId),
        (
            "CSeq: 7 INVITE",
            "CSeq: 7 BYE",
            RejectionCause::MethodMismatch,
        ),
        (
            "CSeq: 7 INVITE",
            "CSeq: 7 invite",
            RejectionCause::MethodMismatch,
        ),
        (
            "Max-Forwards: 70",
            "Max-Forwards: 256",
            RejectionCause::MaxForwards,
        ),
        (
            "X-Unknown: one",
            "Expires: 4294967296",
            RejectionCause::Expires,
        ),
        (
            "X-Unknown: one",
            "Contact: \"x <sip:a@b>",
            RejectionCause::Contact,
        ),
        (
            "Content-Length: 4",
            "Content-Length: -4",
            RejectionCause::ContentLength,
        ),
        (
            "Content-Length: 4",
            "Content-Length: 4 4",
            RejectionCause::ContentLength,
        ),
        (
            "Content-Length: 4",
            "Content-Length: 40",
            RejectionCause::BodyTruncated,
        ),
        (
            "Content-Length: 4",
            "Content-Length: 18446744073709551617",
            RejectionCause::ContentLength,
        ),
        ("branch=z9hG4bK1;", "branch=;", RejectionCause::Via),
    ];

    #[test]
    fn each_fault_has_its_cause() {
        for &(good, bad, cause) in FAULTS {
            assert_eq!(
                rejection(&INVITE.replacen(good, bad, 1)),
                Some(cause),
                "{bad}"
            );
        }
        let many = INVITE.replace("X-Unknown: one\r\n", &"X-Unknown: one\r\n".repeat(200));
        assert_eq!(rejection(&many), Some(RejectionCause::TooManyHeaders));
    }
}
