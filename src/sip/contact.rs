//! Contacts: where a phone is reached, with what a registrar keeps of it (RFC 3261 20.10, RFC 5626).

use super::address::Address;
use super::error::SipError;
use super::plain;
use super::span::Span;
use crate::scan;

/// One element of a Contact field.
#[derive(Clone, Copy, Debug)]
pub enum Contact<'a> {
    /// `*`: all bindings, to be removed (RFC 3261 10.2.2).
    Star,
    /// An address.
    Address(ContactAddress<'a>),
}

/// A Contact that is an address.
#[derive(Clone, Copy, Debug)]
pub struct ContactAddress<'a> {
    /// The address itself.
    pub address: Address<'a>,
    /// The preference in thousandths, 0 to 1,000, where one is written.
    pub q: Option<u16>,
    /// The `expires` parameter in seconds, where one is written; 3,600 where it is malformed.
    pub expires_s: Option<u32>,
    /// The `+sip.instance` parameter without its quotes (RFC 5626 4.1).
    pub instance: Option<&'a [u8]>,
    /// The `reg-id` parameter (RFC 5626 4.2).
    pub reg_id: Option<u32>,
}

/// RFC 3261 10.2.1.1: what a malformed `expires` counts as.
const EXPIRES_MALFORMED_S: u32 = 3_600;

impl<'a> Contact<'a> {
    /// Reads the one Contact that `source` has at `span`.
    pub fn parse(source: &'a [u8], span: Span) -> Result<Self, SipError> {
        let (start, end) = scan::trim(source, usize::from(span.start), usize::from(span.end));
        if Span::new(start, end).of(source) == b"*" {
            return Ok(Self::Star);
        }
        Self::of_address(Address::parse(source, span)?)
    }

    /// Reads a field that has one Contact, plainly written; none where it is otherwise.
    #[inline]
    pub(super) fn parse_plain(source: &'a [u8], value: Span) -> Option<Result<Self, SipError>> {
        let (start, end) = (usize::from(value.start), usize::from(value.end));
        let (parts, values) = plain::contact(source, start, end)?;
        let text = |span: Span| span.of(source);
        let mut contact = ContactAddress {
            address: Address::from_parts(source, parts),
            q: None,
            expires_s: values.expires.map(|value| expires(text(value))),
            instance: None,
            reg_id: values.reg_id.and_then(|value| reg_id(text(value))),
        };
        if let Some(value) = values.q {
            match q(text(value)) {
                Some(thousandths) => contact.q = Some(thousandths),
                None => return Some(Err(SipError::BadQ)),
            }
        }
        Some(Ok(Self::Address(contact)))
    }

    /// Reads the parameters of a Contact whose address has been read.
    fn of_address(address: Address<'a>) -> Result<Self, SipError> {
        let mut contact = ContactAddress {
            address,
            q: None,
            expires_s: None,
            instance: None,
            reg_id: None,
        };
        for param in &address.params() {
            let value = param.value.unwrap_or_default();
            if param.name.eq_ignore_ascii_case(b"q") {
                contact.q = Some(q(value).ok_or(SipError::BadQ)?);
            } else if param.name.eq_ignore_ascii_case(b"expires") {
                contact.expires_s = Some(expires(value));
            } else if param.name.eq_ignore_ascii_case(b"+sip.instance") {
                contact.instance = value
                    .strip_prefix(b"\"")
                    .and_then(|value| value.strip_suffix(b"\""));
            } else if param.name.eq_ignore_ascii_case(b"reg-id") {
                contact.reg_id = reg_id(value);
            }
        }
        Ok(Self::Address(contact))
    }

    /// The address, where the Contact is one.
    #[must_use]
    pub const fn address(&self) -> Option<&ContactAddress<'a>> {
        match self {
            Self::Star => None,
            Self::Address(address) => Some(address),
        }
    }
}

/// The seconds of an `expires` parameter.
fn expires(value: &[u8]) -> u32 {
    delta_seconds(value).unwrap_or(EXPIRES_MALFORMED_S)
}

/// The number of a `reg-id`, where it is one.
fn reg_id(value: &[u8]) -> Option<u32> {
    scan::decimal(value, (1 << 31) - 1).and_then(|id| u32::try_from(id).ok())
}

/// Seconds of 32 bits; more than they hold counts as the most they hold (RFC 4475 3.1.2.4 leaves it to us).
#[must_use]
pub fn delta_seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds =
        scan::decimal(text, u64::from(u32::MAX)).and_then(|seconds| u32::try_from(seconds).ok());
    Some(seconds.unwrap_or(u32::MAX))
}

/// A `qvalue` in thousandths (RFC 3261 25.1): `0` or `1`, and at most three decimals, of which 1 has only zeros.
#[must_use]
pub fn q(text: &[u8]) -> Option<u16> {
    let (whole, decimals) = match text {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut thousandths = u16::from(whole - b'0') * 1_000;
    let mut weight = 100;
    for &digit in decimals {
        if !digit.is_ascii_digit() {
            return None;
        }
        thousandths += u16::from(digit - b'0') * weight;
        weight /= 10;
    }
    (thousandths <= 1_000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(text: &str) -> Result<Contact<'_>, SipError> {
        Contact::parse(text.as_bytes(), Span::all(text.as_bytes()))
    }

    #[test]
    fn a_contact_has_what_a_registrar_keeps() {
        let text =
            "\"Bob\" <sip:bob@192.0.2.4>;q=0.33;Expires=60;+sip.instance=\"<urn:uuid:1>\";reg-id=2";
        let contact = contact(text).expect("a good Contact");
        let contact = contact.address().expect("an address");
        assert_eq!(contact.q, Some(330));
        assert_eq!(contact.expires_s, Some(60));
        assert_eq!(contact.instance, Some(&b"<urn:uuid:1>"[..]));
        assert_eq!(contact.reg_id, Some(2));
        assert_eq!(contact.address.uri_bytes(), b"sip:bob@192.0.2.4");
    }

    #[test]
    fn a_star_stands_alone() {
        assert!(matches!(contact(" * "), Ok(Contact::Star)));
        assert!(contact("*;expires=0").is_err());
    }

    #[test]
    fn q_has_at_most_three_decimals_and_is_at_most_one() {
        for (text, value) in [
            ("0", 0),
            ("1", 1_000),
            ("1.000", 1_000),
            ("0.5", 500),
            ("0.125", 125),
            ("0.", 0),
        ] {
            assert_eq!(q(text.as_bytes()), Some(value), "{text}");
        }
        for text in ["", "2", "1.001", "0.1234", ".5", "0,5", "-1", "0.x"] {
            assert_eq!(q(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn expires_is_never_an_error() {
        let expires = |text| match contact(text) {
            Ok(Contact::Address(contact)) => contact.expires_s,
            other => panic!("{other:?}"),
        };
        assert_eq!(expires("<sip:a@b>;expires=280297596632815"), Some(u32::MAX));
        assert_eq!(expires("<sip:a@b>;expires=soon"), Some(3_600));
        assert_eq!(expires("<sip:a@b>"), None);
    }
}
