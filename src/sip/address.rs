//! Addresses: `name-addr` or `addr-spec`, with the parameters of the header field (RFC 3261 20.10, 25.1).

use super::error::SipError;
use super::params::Params;
use super::plain;
use super::span::Span;
use super::uri::{self, Uri};
use crate::scan;

/// The address in a From, To, Contact, Route, Record-Route, Path or like field.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a> {
    source: &'a [u8],
    parts: AddressParts,
}

/// The places of an address's parts: what the index of a message keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressParts {
    /// The display name, quotes and all; empty where there is none.
    pub display: Span,
    /// The URI, without brackets.
    pub uri: Span,
    /// The parameters behind it.
    pub params: Span,
    /// The value of the `tag` parameter, where there is one.
    pub tag: Option<Span>,
}

impl<'a> Address<'a> {
    /// Reads the address that `source` has at `span`, all of which it must take up.
    ///
    /// The URI is checked no further than its bytes and its scheme; [`Address::uri`] reads it.
    pub fn parse(source: &'a [u8], span: Span) -> Result<Self, SipError> {
        AddressParts::parse(source, span).map(|parts| Self { source, parts })
    }

    /// Reads a field that has one address, plainly written; none where it is otherwise.
    #[inline]
    pub(super) fn parse_plain(source: &'a [u8], value: Span) -> Option<Self> {
        let parts = plain::address(source, usize::from(value.start), usize::from(value.end))?;
        Some(Self { source, parts })
    }

    /// The address whose parts the index of a message has kept.
    pub(super) const fn from_parts(source: &'a [u8], parts: AddressParts) -> Self {
        Self { source, parts }
    }

    /// The display name as it is written; empty where there is none.
    #[must_use]
    pub fn display(&self) -> &'a [u8] {
        self.parts.display.of(self.source)
    }

    /// The URI's text, without brackets.
    #[must_use]
    pub fn uri_bytes(&self) -> &'a [u8] {
        self.parts.uri.of(self.source)
    }

    /// Where the URI stands.
    #[must_use]
    pub const fn uri_span(&self) -> Span {
        self.parts.uri
    }

    /// Reads the URI.
    pub fn uri(&self) -> Result<Uri<'a>, SipError> {
        Uri::parse_within(self.source, self.parts.uri)
    }

    /// The parameters of the header field, not of the URI.
    #[must_use]
    pub const fn params(&self) -> Params<'a> {
        Params::new(self.source, self.parts.params)
    }

    /// The value of the header parameter called `name`, in any case; `Some(None)` where it has none.
    #[must_use]
    pub fn param(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        self.params().param(name)
    }

    /// The value of the `tag` parameter.
    #[must_use]
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.parts.tag.map(|tag| tag.of(self.source))
    }
}

impl AddressParts {
    /// No parts.
    pub const EMPTY: Self = Self {
        display: Span::EMPTY,
        uri: Span::EMPTY,
        params: Span::EMPTY,
        tag: None,
    };

    /// Finds the parts of the address that `source` has at `span`.
    pub fn parse(source: &[u8], span: Span) -> Result<Self, SipError> {
        let (start, end) = scan::trim(source, usize::from(span.start), usize::from(span.end));
        plain::address(source, start, end).map_or_else(|| Self::parse_any(source, start, end), Ok)
    }

    /// Finds the parts of an address however it is written.
    pub(super) fn parse_any(source: &[u8], start: usize, end: usize) -> Result<Self, SipError> {
        // Offsets stay those of the whole message; what follows the field must not be seen.
        let source = source.get(..end).unwrap_or_default();
        let mut parts = Self::EMPTY;
        let open = open_bracket(source, start)?;
        let behind = if let Some(open) = open {
            let (display_start, display_end) = scan::trim(source, start, open);
            parts.display = Span::new(display_start, display_end);
            let close = scan::find(source, open, b'>').ok_or(SipError::BadAddress)?;
            parts.uri = Span::new(open + 1, close);
            close + 1
        } else {
            // RFC 3261 20.10: without brackets, what follows a `;` belongs to the header field; and a URI with a comma,
            // a question mark or a semicolon must be in brackets.
            let uri_end = end_of_addr_spec(source, start);
            parts.uri = Span::new(start, uri_end);
            if parts.uri.of(source).contains(&b'?') {
                return Err(SipError::BadUri);
            }
            uri_end
        };
        if !uri::is_uri(parts.uri.of(source)) {
            return Err(SipError::BadUri);
        }
        let params_start = scan::skip(source, behind, scan::LWS);
        parts.params = Span::new(params_start, end);
        parts.tag = check_params(source, parts.params)?;
        Ok(parts)
    }
}

/// The offset of the `<` before the URI, once the display name before it has been checked; none for an `addr-spec`.
fn open_bracket(source: &[u8], start: usize) -> Result<Option<usize>, SipError> {
    match source.get(start) {
        Some(b'<') => Ok(Some(start)),
        Some(b'"') => {
            let past = scan::skip_quoted(source, start + 1).ok_or(SipError::BadDisplayName)?;
            let open = scan::skip(source, past, scan::LWS);
            if source.get(open) == Some(&b'<') {
                Ok(Some(open))
            } else {
                Err(SipError::BadAddress)
            }
        }
        _ => {
            // A display name has no colon, so the colon of a scheme comes first only in an addr-spec.
            let Some(found) = scan::find_either(source, start, b'<', b':') else {
                return Err(SipError::BadUri);
            };
            if source.get(found) == Some(&b':') {
                return Ok(None);
            }
            let name = Span::new(start, found).of(source);
            if scan::all(name, scan::DISPLAY) {
                Ok(Some(found))
            } else {
                Err(SipError::BadDisplayName)
            }
        }
    }
}

/// The offset past an addr-spec that stands without brackets.
fn end_of_addr_spec(source: &[u8], start: usize) -> usize {
    let rest = source.get(start..).unwrap_or_default();
    let len = rest
        .iter()
        .position(|&byte| matches!(byte, b';' | b',') || scan::is(byte, scan::LWS));
    len.map_or(source.len(), |len| start + len)
}

/// Checks the parameters and finds the tag, which may stand once and has a value.
fn check_params(source: &[u8], span: Span) -> Result<Option<Span>, SipError> {
    let mut tag = None;
    if !span.is_empty() && source.get(usize::from(span.start)) != Some(&b';') {
        return Err(SipError::BadAddress);
    }
    for param in &Params::new(source, span) {
        param.check()?;
        if param.name.eq_ignore_ascii_case(b"tag") {
            let is_token = param
                .value
                .is_some_and(|value| scan::all(value, scan::PARAM));
            if tag.is_some() || !is_token {
                return Err(SipError::BadParameter);
            }
            tag = Some(param.value_span);
        }
    }
    Ok(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address<'_>, SipError> {
        Address::parse(text.as_bytes(), Span::all(text.as_bytes()))
    }

    #[test]
    fn a_name_addr_has_a_display_name_a_uri_and_header_parameters() {
        let text =
            "\"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com;lr>\r\n  ;\r\n  tag = 98asjd8";
        let address = parse(text).expect("RFC 4475 3.1.1.1");
        assert_eq!(address.display(), b"\"J Rosenberg \\\\\\\"\"");
        assert_eq!(address.uri_bytes(), b"sip:jdrosen@example.com;lr");
        assert_eq!(address.tag(), Some(&b"98asjd8"[..]));
        assert_eq!(address.param(b"lr"), None);
    }

    #[test]
    fn without_brackets_parameters_belong_to_the_header() {
        let address =
            parse("sip:+19725552222@gw1.example.net;unknownparam").expect("RFC 4475 3.3.12");
        assert_eq!(address.uri_bytes(), b"sip:+19725552222@gw1.example.net");
        assert_eq!(address.param(b"unknownparam"), Some(None));
        let address =
            parse("<sip:+19725552222@gw1.example.net;unknownparam>").expect("RFC 4475 3.3.13");
        assert_eq!(address.param(b"unknownparam"), None);
        assert_eq!(
            address.uri().map(|uri| uri.param(b"unknownparam")),
            Ok(Some(None))
        );
    }

    #[test]
    fn a_display_name_may_touch_its_bracket_and_be_utf_8() {
        assert_eq!(
            parse("caller<sip:c@d>;tag=3").map(|a| a.display()),
            Ok(&b"caller"[..])
        );
        assert_eq!(
            parse("Jos\u{e9} M <sip:c@d>").map(|a| a.display()),
            Ok("Jos\u{e9} M".as_bytes())
        );
        assert_eq!(
            parse("sip:c@d ; tag = 3").map(|a| a.tag()),
            Ok(Some(&b"3"[..]))
        );
        assert_eq!(
            parse("\"<sip:x@y>\" <sip:c@d>").map(|a| a.uri_bytes()),
            Ok(&b"sip:c@d"[..])
        );
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for (text, error) in [
            ("", SipError::BadUri),
            (
                "\"Mr. J. User <sip:j.user@example.com>",
                SipError::BadDisplayName,
            ),
            (
                "\"Watson, Thomas\" < sip:t.watson@example.org >",
                SipError::BadUri,
            ),
            (
                "Bell, Alexander <sip:a.g.bell@example.com>;tag=43",
                SipError::BadDisplayName,
            ),
            (
                "sip:user@example.com?Route=%3Csip:sip.example.com%3E",
                SipError::BadUri,
            ),
            ("<sip:a@b", SipError::BadAddress),
            ("<sip:a@b> x", SipError::BadAddress),
            ("sip:a@b, sip:c@d", SipError::BadAddress),
            ("\"a\" sip:a@b", SipError::BadAddress),
            ("<sip:a@b>;;", SipError::BadParameter),
            ("<sip:a@b>;tag", SipError::BadParameter),
            ("<sip:a@b>;tag=", SipError::BadParameter),
            ("<sip:a@b>;tag=1;Tag=2", SipError::BadParameter),
            ("<a@b>", SipError::BadUri),
            ("<>", SipError::BadUri),
        ] {
            assert_eq!(parse(text).map(|_| ()), Err(error), "{text}");
        }
    }
}
