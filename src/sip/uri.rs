//! SIP, SIPS and tel URIs (RFC 3261 19.1, RFC 3966), and the canonical form of an AoR.

use super::error::SipError;
use super::host::Host;
use super::params::Params;
use super::plain_uri::PlainUri;
use super::span::Span;
use super::text::{Sink, Text};
use crate::scan;

/// The scheme of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
    /// Any other: only [`Uri::scheme_bytes`] and [`Uri::opaque`] tell of it.
    Other,
}

/// A URI read from its text.
#[derive(Clone, Copy, Debug)]
pub struct Uri<'a> {
    text: &'a [u8],
    scheme_len: usize,
    /// The scheme.
    pub scheme: Scheme,
    /// The user as it is written, escapes and all; a tel URI's number.
    pub user: Option<&'a [u8]>,
    /// The password as it is written.
    pub password: Option<&'a [u8]>,
    /// The host; an empty name in a tel URI or one of another scheme.
    pub host: Host<'a>,
    /// The port, where one is written.
    pub port: Option<u16>,
    /// The parameters.
    pub params: Params<'a>,
    /// The header components behind the `?`.
    pub headers: Option<&'a [u8]>,
}

impl<'a> Uri<'a> {
    /// Reads a URI that takes up all of `text`.
    pub fn parse(text: &'a [u8]) -> Result<Self, SipError> {
        Self::read(text, 0, text.len())
    }

    /// Reads the URI that takes up `span` of `bytes`: the same as if it stood alone, but quicker where more stands behind it.
    pub fn parse_within(bytes: &'a [u8], span: Span) -> Result<Self, SipError> {
        Self::read(bytes, usize::from(span.start), usize::from(span.end))
    }

    fn read(bytes: &'a [u8], start: usize, end: usize) -> Result<Self, SipError> {
        let text = bytes.get(start..end).unwrap_or_default();
        match PlainUri::read(bytes, start, end) {
            Some(plain) => Ok(Self {
                text,
                scheme_len: 3,
                scheme: Scheme::Sip,
                user: plain.user,
                password: None,
                host: plain.host,
                port: plain.port,
                params: Params::new(text, Span::new(plain.params_start - start, text.len())),
                headers: None,
            }),
            None => Self::parse_any(text),
        }
    }

    /// Reads a URI however it is written.
    fn parse_any(text: &'a [u8]) -> Result<Self, SipError> {
        let scheme_len = scheme_len(text).ok_or(SipError::BadUri)?;
        if !scan::is_uri_text(text) {
            return Err(SipError::BadUri);
        }
        let (scheme_bytes, rest) = text.split_at_checked(scheme_len).unwrap_or_default();
        let opaque = rest
            .get(1..)
            .filter(|opaque| !opaque.is_empty())
            .ok_or(SipError::BadUri)?;
        let scheme = Scheme::parse(scheme_bytes);
        let uri = Self {
            text,
            scheme_len,
            scheme,
            user: None,
            password: None,
            host: Host::Name(b""),
            port: None,
            params: Params::default(),
            headers: None,
        };
        match scheme {
            Scheme::Sip | Scheme::Sips => uri.with_hierarchy(opaque),
            Scheme::Tel => Ok(uri.with_number(opaque)),
            Scheme::Other => Ok(uri),
        }
    }

    /// All of the URI's text.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.text
    }

    /// The scheme as it is written.
    #[must_use]
    pub fn scheme_bytes(&self) -> &'a [u8] {
        self.text.get(..self.scheme_len).unwrap_or_default()
    }

    /// The URI as it may stand in a request line: without header components (RFC 3261 19.1.1, 16.6 step 2).
    #[must_use]
    pub fn without_headers(&self) -> &'a [u8] {
        let gone = self.headers.map_or(0, |headers| headers.len() + 1);
        let kept = self.text.len().saturating_sub(gone);
        self.text.get(..kept).unwrap_or_default()
    }

    /// What stands behind the scheme's colon.
    #[must_use]
    pub fn opaque(&self) -> &'a [u8] {
        self.text.get(self.scheme_len + 1..).unwrap_or_default()
    }

    /// Whether the scheme is `sip` or `sips`.
    #[must_use]
    pub const fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// The value of the first parameter called `name`, in any case; `Some(None)` where it has none.
    #[must_use]
    pub fn param(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        self.params.param(name)
    }

    /// Whether the next hop is a loose router (RFC 3261 16.12): the `lr` parameter, with a value or without.
    #[must_use]
    pub fn is_loose_router(&self) -> bool {
        self.param(b"lr").is_some()
    }

    /// Reads `[user[:password]@]host[:port][;params][?headers]`.
    fn with_hierarchy(mut self, opaque: &'a [u8]) -> Result<Self, SipError> {
        let base = self.scheme_len + 1;
        let mut rest = opaque;
        // RFC 3261 25.1: an unescaped `@` can only end the userinfo, whose user may have `;`, `?` and `/`.
        if let Some(at) = scan::find(opaque, 0, b'@') {
            let (userinfo, behind) = opaque.split_at_checked(at).unwrap_or_default();
            rest = behind.get(1..).unwrap_or_default();
            // A second `@` would let two readers see two hosts.
            if scan::find(rest, 0, b'@').is_some() {
                return Err(SipError::BadUri);
            }
            let colon = scan::find(userinfo, 0, b':');
            let (user, password) = userinfo
                .split_at_checked(colon.unwrap_or(userinfo.len()))
                .unwrap_or_default();
            if user.is_empty() {
                return Err(SipError::BadUri);
            }
            check_escapes(userinfo)?;
            self.user = Some(user);
            self.password = password.get(1..);
        }
        let start = base + opaque.len() - rest.len();
        let host_end = rest
            .iter()
            .position(|&byte| byte == b';' || byte == b'?')
            .unwrap_or(rest.len());
        let (sent_to, _) = rest.split_at_checked(host_end).unwrap_or_default();
        let (name_end, port) = Host::split_port(sent_to)?;
        self.host = Host::parse(sent_to.get(..name_end).unwrap_or_default())?;
        self.port = port;
        let params_end = scan::find(rest, host_end, b'?').unwrap_or(rest.len());
        self.params = Params::new(self.text, Span::new(start + host_end, start + params_end));
        self.headers = rest.get(params_end + 1..);
        Ok(self)
    }

    /// Reads a tel URI's `number[;params]`.
    fn with_number(mut self, opaque: &'a [u8]) -> Self {
        let end = scan::find(opaque, 0, b';').unwrap_or(opaque.len());
        let base = self.scheme_len + 1;
        self.user = opaque.get(..end);
        self.params = Params::new(self.text, Span::new(base + end, self.text.len()));
        self
    }
}

impl Scheme {
    /// The scheme that `bytes` spells, in any case.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        if bytes.eq_ignore_ascii_case(b"sip") {
            Self::Sip
        } else if bytes.eq_ignore_ascii_case(b"sips") {
            Self::Sips
        } else if bytes.eq_ignore_ascii_case(b"tel") {
            Self::Tel
        } else {
            Self::Other
        }
    }
}

/// The length of the scheme before its colon (RFC 3261 25.1: a letter, then letters, digits, `+`, `-` and `.`).
#[must_use]
pub(super) fn scheme_len(text: &[u8]) -> Option<usize> {
    if !text.first()?.is_ascii_alphabetic() {
        return None;
    }
    let len = text
        .iter()
        .position(|&byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')))?;
    (text.get(len) == Some(&b':')).then_some(len)
}

/// Tells whether `text` has the outward form of a URI: a scheme, something behind it, and no byte that no URI has.
#[must_use]
pub(super) fn is_uri(text: &[u8]) -> bool {
    scheme_len(text).is_some_and(|len| text.len() > len + 1) && scan::is_uri_text(text)
}

/// Writes the canonical form of an AoR (RFC 3261 10.3, step 5): the user without escapes and, where `use_domain`
/// says so, `@` and the host in lower case. Parameters, port and password are no part of it.
///
/// An escaped NUL becomes a NUL byte and so stays distinct (RFC 4475 3.1.1.4). No host has an `@`, so the last one
/// divides. A user that is empty or absent gives the host alone.
pub fn canonical_aor<'o>(
    user: &[u8],
    host: &Host<'_>,
    use_domain: bool,
    out: &'o mut [u8],
) -> Result<&'o [u8], SipError> {
    let mut text = Text::new(out);
    put_unescaped(user, &mut text);
    if use_domain || user.is_empty() {
        if !user.is_empty() {
            text.put(b"@");
        }
        match host {
            Host::Name(name) => text.put_lowercase(name),
            Host::V4(address) => text.put_host_ip((*address).into()),
            Host::V6(address) => text.put_host_ip((*address).into()),
        }
    }
    let len = text.finish().ok_or(SipError::TooLong)?;
    out.get(..len).ok_or(SipError::TooLong)
}

/// The bytes of a text with its escapes undone.
pub fn unescaped(text: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut units = Units(text);
    std::iter::from_fn(move || units.next_byte())
}

/// Writes text with its `%` escapes undone.
pub(crate) fn put_unescaped(escaped: &[u8], out: &mut impl Sink) {
    if !escaped.contains(&b'%') {
        return out.put(escaped);
    }
    unescaped(escaped).for_each(|unit| out.put(&[unit]));
}

/// Checks that two hexadecimal digits follow each `%`.
fn check_escapes(text: &[u8]) -> Result<(), SipError> {
    let mut at = 0;
    while let Some(percent) = scan::find(text, at, b'%') {
        if !matches!(text.get(percent + 1..percent + 3), Some([a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
        {
            return Err(SipError::BadEscape);
        }
        at = percent + 3;
    }
    Ok(())
}

/// Walks text with its escapes undone.
pub(super) struct Units<'a>(pub(super) &'a [u8]);

impl Units<'_> {
    /// The next byte.
    fn next_byte(&mut self) -> Option<u8> {
        self.next_unit().map(|(byte, _)| byte)
    }

    /// The next byte, and whether an escape stood for a reserved one: those are not the same as their escapes
    /// (RFC 3261 19.1.4).
    pub(super) fn next_unit(&mut self) -> Option<(u8, bool)> {
        let (&first, rest) = self.0.split_first()?;
        if let (b'%', [high, low, behind @ ..]) = (first, rest)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            self.0 = behind;
            let byte = (high << 4) | low;
            return Some((byte, is_reserved(byte)));
        }
        self.0 = rest;
        Some((first, false))
    }
}

/// The value of a hexadecimal digit.
const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// RFC 3261 25.1, `reserved`.
const fn is_reserved(byte: u8) -> bool {
    matches!(
        byte,
        b';' | b'/' | b'?' | b':' | b'@' | b'&' | b'=' | b'+' | b'$' | b','
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_plain_uri_is_read_as_any(text in "(sip:|sips:|SIP:)?[ab7._!@;:%?=/\\[-]{0,6}@?(h|[0-9.]{1,12}|[ab.;:@-]{0,6})(:[0-9]{0,7})?[;a=:@?%b-]{0,5}") {
            let text = text.as_bytes();
            prop_assert_eq!(format!("{:?}", Uri::parse(text)), format!("{:?}", Uri::parse_any(text)));
        }
    }

    #[test]
    fn a_request_line_gets_no_header_components() {
        for (text, kept) in [
            ("sip:a@h?Route=%3Csip:b%3E", "sip:a@h"),
            ("sip:a?b@h:5070;lr?X=1&Y=2", "sip:a?b@h:5070;lr"),
            ("sip:a@h?", "sip:a@h"),
            ("sip:a?b@h", "sip:a?b@h"),
        ] {
            assert_eq!(uri(text).without_headers(), kept.as_bytes());
        }
    }

    fn uri(text: &str) -> Uri<'_> {
        Uri::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn the_parts_of_a_uri_are_told_apart() {
        let uri = uri("sips:alice:pw@[2001:db8::9]:5061;transport=tcp;lr?subject=x&a=b");
        assert_eq!(uri.scheme, Scheme::Sips);
        assert_eq!(uri.user, Some(&b"alice"[..]));
        assert_eq!(uri.password, Some(&b"pw"[..]));
        assert_eq!(
            uri.host.ip().map(|ip| ip.to_string()),
            Some("2001:db8::9".into())
        );
        assert_eq!(uri.port, Some(5061));
        assert_eq!(uri.param(b"Transport"), Some(Some(&b"tcp"[..])));
        assert!(uri.is_loose_router());
        assert_eq!(uri.headers, Some(&b"subject=x&a=b"[..]));
    }

    #[test]
    fn a_user_may_have_semicolons_question_marks_and_escapes() {
        let semi = uri("sip:user;par=u%40example.net@example.com");
        assert_eq!(semi.user, Some(&b"user;par=u%40example.net"[..]));
        assert!(semi.params.is_empty());
        let odd = uri(
            "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com",
        );
        assert_eq!(
            odd.user,
            Some(&b"1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"[..])
        );
        assert_eq!(odd.headers, None);
        assert_eq!(
            uri("sip:sips%3Auser%40example.com@example.net").user,
            Some(&b"sips%3Auser%40example.com"[..])
        );
    }

    #[test]
    fn other_schemes_are_read_no_further_than_their_colon() {
        assert_eq!(
            uri("nobodyKnowsThisScheme:totallyopaquecontent").scheme,
            Scheme::Other
        );
        assert_eq!(
            uri("soap.beep://192.0.2.103:3002").opaque(),
            b"//192.0.2.103:3002"
        );
        let tel = uri("tel:+1-201-555-0123;phone-context=example.com");
        assert_eq!(tel.user, Some(&b"+1-201-555-0123"[..]));
        assert_eq!(tel.param(b"phone-context"), Some(Some(&b"example.com"[..])));
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_no_uri() {
        for bad in [
            "",
            "sip",
            "sip:",
            ":a@b",
            "1sip:a@b",
            "sip:@b",
            "sip:a@",
            "sip:a@b@c",
            "sip:a b@c",
            "sip:a@b;x=c@d",
            "sip:a@b:port",
            "sip:%zz@b",
            "sip:a%4@b",
            "<sip:a@b>",
            "sip:a@b c",
            "sip:a@[::1",
            "sip:\u{e9}@b",
        ] {
            assert!(Uri::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_aor_is_canonical_and_an_escaped_nul_stays() {
        let mut out = [0; 64];
        let mut aor = |text: &str, use_domain| {
            let uri = Uri::parse(text.as_bytes()).expect("a good URI");
            canonical_aor(
                uri.user.unwrap_or_default(),
                &uri.host,
                use_domain,
                &mut out,
            )
            .map(<[u8]>::to_vec)
        };
        assert_eq!(
            aor("sip:%61lice@Example.COM;user=phone", true),
            Ok(b"alice@example.com".to_vec())
        );
        assert_eq!(aor("sip:Alice@Example.COM", false), Ok(b"Alice".to_vec()));
        assert_eq!(
            aor("sip:null-%00-null@example.com", false),
            Ok(b"null-\0-null".to_vec())
        );
        assert_ne!(aor("sip:%00@h", true), aor("sip:%00%00@h", true));
        assert_eq!(
            aor("sip:a@[2001:DB8::1]", true),
            Ok(b"a@[2001:db8::1]".to_vec())
        );
        assert_eq!(aor("sip:Example.com", false), Ok(b"example.com".to_vec()));
        let long = format!("sip:{}@h", "a".repeat(65));
        assert_eq!(aor(&long, false), Err(SipError::TooLong));
    }
}
