//! Digest credentials: the value of Authorization and Proxy-Authorization (RFC 7616 3.4, RFC 3261 25.1).

use super::error::SipError;
use super::text::{Sink, Text};
use super::uri::put_unescaped;
use crate::scan;

/// The credentials of one header field, as they are written: values without their quotes, escapes still in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// Who.
    pub username: &'a [u8],
    /// Of which realm.
    pub realm: &'a [u8],
    /// The nonce of the challenge.
    pub nonce: &'a [u8],
    /// The digest-uri: what the request was for.
    pub uri: &'a [u8],
    /// The digest, in hex.
    pub response: &'a [u8],
    /// The algorithm; MD5 where there is none.
    pub algorithm: Option<&'a [u8]>,
    /// The quality of protection; none of an RFC 2069 client.
    pub qop: Option<&'a [u8]>,
    /// The client's own nonce.
    pub cnonce: &'a [u8],
    /// The nonce count, as it is written.
    pub nc: &'a [u8],
    /// Whether `username` is the hash of the user's name (RFC 7616 3.4.4).
    pub is_hashed: bool,
    /// Whether `username` was written as `username*`, in the encoding of RFC 8187.
    pub is_extended: bool,
}

impl<'a> Credentials<'a> {
    /// Reads a field's value. `None`: another scheme than Digest.
    ///
    /// # Errors
    /// [`SipError::BadParameter`]: a parameter that is none, one that stands twice, or one without which there is no digest.
    pub fn parse(value: &'a [u8]) -> Option<Result<Self, SipError>> {
        let end = scan::skip(value, 0, scan::TOKEN);
        let (scheme, params) = value.split_at_checked(end)?;
        scheme
            .eq_ignore_ascii_case(b"Digest")
            .then(|| Self::parse_params(params))
    }

    fn parse_params(mut rest: &'a [u8]) -> Result<Self, SipError> {
        let mut credentials = Self::default();
        let mut seen = 0_u16;
        while let Some((name, value, behind)) = next_param(rest)? {
            rest = behind;
            let Some(place) = NAMES
                .iter()
                .position(|known| name.eq_ignore_ascii_case(known))
            else {
                continue;
            };
            let bit = 1 << place;
            if seen & bit != 0 {
                return Err(SipError::BadParameter);
            }
            seen |= bit;
            match place {
                0 => credentials.username = value,
                1 => credentials.realm = value,
                2 => credentials.nonce = value,
                3 => credentials.uri = value,
                4 => credentials.response = value,
                5 => credentials.algorithm = Some(value),
                6 => credentials.qop = Some(value),
                7 => credentials.cnonce = value,
                8 => credentials.nc = value,
                9 => credentials.is_hashed = value.eq_ignore_ascii_case(b"true"),
                _ => {
                    credentials.username = value;
                    credentials.is_extended = true;
                }
            }
        }
        // RFC 7616 3.4: one name, and no hash of it in the encoding that is for what cannot be quoted.
        let is_named = (seen & USERNAME == 0) == credentials.is_extended
            && !(credentials.is_extended && credentials.is_hashed);
        if seen & REQUIRED == REQUIRED && is_named {
            Ok(credentials)
        } else {
            Err(SipError::BadParameter)
        }
    }

    /// Writes the user's name to `out` without the escapes of its way of writing; `None` where it is none or too long.
    pub fn name<'o>(&self, out: &'o mut [u8]) -> Option<&'o [u8]> {
        let mut text = Text::new(out);
        if self.is_extended {
            // RFC 8187 3.2.1: the character set, a language that nobody asks for, and the octets.
            let mut parts = self.username.splitn(3, |byte| *byte == b'\'');
            if !parts.next()?.eq_ignore_ascii_case(b"UTF-8") {
                return None;
            }
            let encoded = parts.nth(1)?;
            put_unescaped(encoded, &mut text);
        } else {
            // RFC 3261 25.1: a quoted pair stands for its second octet.
            let mut bytes = self.username.iter();
            while let Some(byte) = bytes.next() {
                let meant = if *byte == b'\\' { bytes.next()? } else { byte };
                text.put(&[*meant]);
            }
        }
        let len = text.finish()?;
        out.get(..len)
    }
}

/// The name and value of the first parameter, and what is behind it; none at the end.
type Param<'a> = Option<(&'a [u8], &'a [u8], &'a [u8])>;

fn next_param(text: &[u8]) -> Result<Param<'_>, SipError> {
    let start = text
        .iter()
        .position(|byte| !is_space(*byte) && *byte != b',')
        .unwrap_or(text.len());
    let text = text.get(start..).unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let name_end = scan::skip(text, 0, scan::TOKEN);
    let equals = skip_space(text, name_end);
    if name_end == 0 || text.get(equals) != Some(&b'=') {
        return Err(SipError::BadParameter);
    }
    let from = skip_space(text, equals + 1);
    let (value_start, value_end, end) = if text.get(from) == Some(&b'"') {
        let close = scan::skip_quoted(text, from + 1).ok_or(SipError::BadParameter)?;
        (from + 1, close - 1, close)
    } else {
        let end = scan::skip(text, from, scan::PARAM);
        if end == from {
            return Err(SipError::BadParameter);
        }
        (from, end, end)
    };
    let end = skip_space(text, end);
    if !matches!(text.get(end), None | Some(b',')) {
        return Err(SipError::BadParameter);
    }
    let part = |start, end| text.get(start..end).unwrap_or_default();
    Ok(Some((
        part(0, name_end),
        part(value_start, value_end),
        part(end, text.len()),
    )))
}

fn skip_space(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let spaces = rest.iter().take_while(|byte| is_space(**byte)).count();
    from + spaces
}

/// What a folded line leaves between its words, too.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

const NAMES: [&[u8]; 11] = [
    b"username",
    b"realm",
    b"nonce",
    b"uri",
    b"response",
    b"algorithm",
    b"qop",
    b"cnonce",
    b"nc",
    b"userhash",
    b"username*",
];

const USERNAME: u16 = 1;
/// `realm`, `nonce`, `uri`, `response`.
const REQUIRED: u16 = 0b1_1110;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<Credentials<'_>, SipError> {
        Credentials::parse(value.as_bytes()).expect("Digest")
    }

    #[test]
    fn the_credentials_of_rfc_7616_are_read() {
        let value = "Digest username=\"Mufasa\",\r\n realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
                     algorithm=SHA-256, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
                     cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, \
                     response=\"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1\", opaque=\"FQhe\"";
        let read = parse(value).expect("good");
        assert_eq!(read.username, b"Mufasa");
        assert_eq!(read.realm, b"http-auth@example.org");
        assert_eq!(read.uri, b"/dir/index.html");
        assert_eq!(read.algorithm, Some(&b"SHA-256"[..]));
        assert_eq!((read.qop, read.nc), (Some(&b"auth"[..]), &b"00000001"[..]));
    }

    #[test]
    fn what_is_no_digest_is_told_from_what_is_a_bad_one() {
        assert_eq!(Credentials::parse(b"Basic QWxhZGRpbg=="), None);
        assert_eq!(
            Credentials::parse(b"NoOneKnowsThisScheme opaque-data=here"),
            None
        );
        for value in [
            "Digest",
            "Digest username=\"a\"",
            "Digest username=\"a\", realm=\"b\", nonce=\"c\", uri=\"d\", response=\"e",
            "Digest username=\"a\", realm=\"b\", nonce=\"c\", uri=\"d\", response=\"e\", username=\"f\"",
            "Digest username=\"a\" realm=\"b\", nonce=\"c\", uri=\"d\", response=\"e\"",
            "Digest username=\"a\", username*=UTF-8''a, realm=\"b\", nonce=\"c\", uri=\"d\", response=\"e\"",
            "Digest username*=UTF-8''a, userhash=true, realm=\"b\", nonce=\"c\", uri=\"d\", response=\"e\"",
            "Digest realm=\"b\", nonce=\"c\", uri=\"d\", response=\"e\"",
            "Digest username=, realm=\"b\", nonce=\"c\", uri=\"d\", response=\"e\"",
        ] {
            assert_eq!(parse(value), Err(SipError::BadParameter), "{value}");
        }
    }

    #[test]
    fn a_name_is_the_same_however_it_is_written() {
        let rest = "realm=\"b\", nonce=\"c\", uri=\"d\", response=\"e\"";
        let mut out = [0; 16];
        for (written, meant) in [
            ("username=\"alice\"", Some("alice")),
            ("username=\"al\\ic\\e\"", Some("alice")),
            ("username=\"a\\\"b\\\\\"", Some("a\"b\\")),
            ("username*=UTF-8''J%C3%A4s%C3%B8n", Some("J\u{e4}s\u{f8}n")),
            ("username*=utf-8'en'Ann", Some("Ann")),
            ("username*=ISO-8859-1''J%E4s", None),
            ("username*=UTF-8", None),
            ("username=\"much longer than there is room\"", None),
        ] {
            let value = format!("Digest {written}, {rest}");
            let read = parse(&value).expect("good");
            assert_eq!(read.name(&mut out), meant.map(str::as_bytes), "{written}");
        }
        let hashed = format!("Digest username=\"ab\", userhash=True, {rest}");
        assert!(parse(&hashed).expect("good").is_hashed);
    }
}
