//! The first line of a message: a request line or a status line (RFC 3261 7.1, 7.2).

use super::error::{NotSip, RejectionCause};
use super::method::Method;
use super::span::Span;
use super::uri::{self, Uri};
use crate::scan;

/// What the first line says; offsets are those of the message, which begins with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct StartLine {
    /// Zero in a request.
    pub(super) status: u16,
    /// [`Method::Other`] in a response.
    pub(super) method: Method,
    /// The request's method.
    pub(super) method_span: Span,
    /// The Request-URI, without whitespace around it.
    pub(super) uri: Span,
    /// `SIP/2.0`.
    pub(super) version: Span,
    /// The response's reason phrase.
    pub(super) reason: Span,
}

impl StartLine {
    /// A line that says nothing.
    pub(super) const EMPTY: Self = Self {
        status: 0,
        method: Method::Other,
        method_span: Span::EMPTY,
        uri: Span::EMPTY,
        version: Span::EMPTY,
        reason: Span::EMPTY,
    };

    /// Reads `line`, which has no line break; with what is wrong about it, where it can still be answered.
    pub(super) fn parse(line: &[u8]) -> Result<(Self, Option<RejectionCause>), NotSip> {
        if line
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"))
        {
            Self::parse_status(line)
        } else {
            Self::parse_request(line)
        }
    }

    /// Reads `Method SP Request-URI SP SIP-Version`.
    fn parse_request(line: &[u8]) -> Result<(Self, Option<RejectionCause>), NotSip> {
        let method_end = scan::skip(line, 0, scan::TOKEN);
        if method_end == 0 || line.get(method_end) != Some(&b' ') {
            return Err(NotSip::StartLine);
        }
        if let Some(rest) = line.strip_suffix(b" SIP/2.0")
            && rest.len() > method_end
        {
            // As nearly all request lines are. A URI with whitespace is no URI, so the SPs need no counting.
            let method_span = Span::new(0, method_end);
            let uri = Span::new(method_end + 1, rest.len());
            let version = Span::new(rest.len() + 1, line.len());
            if check_uri(uri.of(line)).is_none() {
                let method = Method::parse(method_span.of(line));
                return Ok((
                    Self {
                        method,
                        method_span,
                        uri,
                        version,
                        ..Self::EMPTY
                    },
                    None,
                ));
            }
        }
        let (_, end) = scan::trim(line, method_end, line.len());
        let behind = line.get(method_end..end).unwrap_or_default();
        let last_space = behind
            .iter()
            .rposition(|&byte| byte == b' ' || byte == b'\t');
        let version_start = method_end + last_space.ok_or(NotSip::StartLine)? + 1;
        let version = Span::new(version_start, end);
        let is_ours = is_version(version.of(line)).ok_or(NotSip::StartLine)?;
        let (uri_start, uri_end) = scan::trim(line, method_end, version_start);
        let uri = Span::new(uri_start, uri_end);
        let wrong = if !is_ours {
            Some(RejectionCause::Version)
        } else if let Some(cause) = check_uri(uri.of(line)) {
            Some(cause)
        } else if uri_start != method_end + 1 || uri_end + 1 != version_start || end != line.len() {
            // RFC 3261 7.1: single SPs, and none at the end. Two readers could take more in two ways.
            Some(RejectionCause::RequestLine)
        } else {
            None
        };
        let method_span = Span::new(0, method_end);
        let method = Method::parse(method_span.of(line));
        Ok((
            Self {
                method,
                method_span,
                uri,
                version,
                ..Self::EMPTY
            },
            wrong,
        ))
    }

    /// Reads `SIP-Version SP 3DIGIT SP Reason-Phrase`; the phrase may be empty, and its SP absent.
    fn parse_status(line: &[u8]) -> Result<(Self, Option<RejectionCause>), NotSip> {
        let version_end = scan::find(line, 0, b' ').ok_or(NotSip::StartLine)?;
        let version = Span::new(0, version_end);
        let is_ours = is_version(version.of(line)).ok_or(NotSip::StartLine)?;
        let code_end = scan::find(line, version_end + 1, b' ').unwrap_or(line.len());
        let code = Span::new(version_end + 1, code_end).of(line);
        let status = scan::decimal(code, 699).filter(|&status| status >= 100 && code.len() == 3);
        let status = status
            .and_then(|status| u16::try_from(status).ok())
            .ok_or(NotSip::Status)?;
        let reason = Span::new((code_end + 1).min(line.len()), line.len());
        let wrong = if is_ours {
            None
        } else {
            Some(RejectionCause::Version)
        };
        Ok((
            Self {
                status,
                version,
                reason,
                ..Self::EMPTY
            },
            wrong,
        ))
    }
}

/// Tells whether a SIP-Version is 2.0; none where it is no SIP-Version. Its case does not matter (RFC 3261 7.1).
fn is_version(text: &[u8]) -> Option<bool> {
    let (name, number) = text.split_at_checked(4)?;
    if !name.eq_ignore_ascii_case(b"SIP/") {
        return None;
    }
    let dot = scan::find(number, 0, b'.')?;
    let (major, minor) = number.split_at_checked(dot)?;
    let minor = minor.get(1..)?;
    let are_digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    (are_digits(major) && are_digits(minor)).then_some(number == b"2.0")
}

/// What is wrong with a Request-URI, as far as its outward form tells.
fn check_uri(text: &[u8]) -> Option<RejectionCause> {
    if !uri::is_uri(text) {
        return Some(RejectionCause::RequestUri);
    }
    // RFC 3261 19.1.1: no header components in a Request-URI. They are neither forwarded nor made into headers.
    let has_headers = scan::find(text, 0, b'?').is_some()
        && Uri::parse(text).is_ok_and(|uri| uri.headers.is_some());
    has_headers.then_some(RejectionCause::RequestUri)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(line: &str) -> Result<Option<RejectionCause>, NotSip> {
        StartLine::parse(line.as_bytes()).map(|(_, wrong)| wrong)
    }

    #[test]
    fn a_request_line_has_two_single_spaces() {
        assert_eq!(wrong("INVITE sip:user@example.com SIP/2.0"), Ok(None));
        assert_eq!(
            wrong("OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0"),
            Ok(None)
        );
        assert_eq!(
            wrong("INVITE  sip:user@example.com  SIP/2.0"),
            Ok(Some(RejectionCause::RequestLine))
        );
        assert_eq!(
            wrong("OPTIONS sip:a@b SIP/2.0  "),
            Ok(Some(RejectionCause::RequestLine))
        );
        assert_eq!(
            wrong("INVITE sip:user@example.com; lr SIP/2.0"),
            Ok(Some(RejectionCause::RequestUri))
        );
        assert_eq!(
            wrong("INVITE <sip:user@example.com> SIP/2.0"),
            Ok(Some(RejectionCause::RequestUri))
        );
        assert_eq!(
            wrong("INVITE sip:a@b?Route=%3Csip:c%3E SIP/2.0"),
            Ok(Some(RejectionCause::RequestUri))
        );
        assert_eq!(wrong("INVITE sip:a?b@c SIP/2.0"), Ok(None));
        assert_eq!(
            wrong("OPTIONS sip:a@b SIP/7.0"),
            Ok(Some(RejectionCause::Version))
        );
        assert_eq!(wrong("OPTIONS sip:a@b sip/2.0"), Ok(None));
        assert_eq!(
            wrong("OPTIONS  SIP/2.0"),
            Ok(Some(RejectionCause::RequestUri))
        );
    }

    #[test]
    fn a_status_line_has_three_digits_and_perhaps_a_phrase() {
        let (line, _) = StartLine::parse(b"SIP/2.0 100 ").expect("RFC 4475 3.1.1.13");
        assert_eq!((line.status, line.reason.len()), (100, 0));
        assert_eq!(wrong("SIP/2.0 200"), Ok(None));
        assert_eq!(wrong("SIP/2.0 4294967301 better not"), Err(NotSip::Status));
        assert_eq!(wrong("SIP/2.0 099 x"), Err(NotSip::Status));
        assert_eq!(wrong("SIP/2.0 700 x"), Err(NotSip::Status));
        assert_eq!(wrong("SIP/2.0 0200 x"), Err(NotSip::Status));
    }

    #[test]
    fn other_protocols_are_not_sip() {
        for line in [
            "",
            "GET / HTTP/1.1",
            "OPTIONS sip:a@b",
            "OPTIONS",
            " OPTIONS sip:a@b SIP/2.0",
            "A:b sip:a SIP/2.0",
            "SIP/2.0",
        ] {
            assert_eq!(wrong(line), Err(NotSip::StartLine), "{line}");
        }
    }
}
