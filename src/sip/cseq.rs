//! The CSeq field: a number and a method (RFC 3261 20.16).

use super::error::SipError;
use super::plain;
use super::span::Span;
use crate::scan;

/// A CSeq's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CSeq<'a> {
    /// The sequence number, below 2^31 (RFC 3261 8.1.1.5).
    pub number: u32,
    /// The method as it is written.
    pub method: &'a [u8],
}

/// The largest sequence number (RFC 3261 8.1.1.5: less than 2**31).
pub const NUMBER_MAX: u32 = (1 << 31) - 1;

/// Reads the number and the place of the method in `source` at `span`.
pub(super) fn parse(source: &[u8], span: Span) -> Result<(u32, Span), SipError> {
    let (start, end) = scan::trim(source, usize::from(span.start), usize::from(span.end));
    plain::cseq(source, start, end).map_or_else(|| parse_any(source, start, end), Ok)
}

/// Reads them however they are written.
pub(super) fn parse_any(source: &[u8], start: usize, end: usize) -> Result<(u32, Span), SipError> {
    let source = source.get(..end).unwrap_or_default();
    let number_end = scan::skip(source, start, scan::TOKEN);
    let method_start = scan::skip(source, number_end, scan::LWS);
    let digits = Span::new(start, number_end).of(source);
    let number =
        scan::decimal(digits, u64::from(NUMBER_MAX)).and_then(|number| u32::try_from(number).ok());
    let method = Span::new(method_start, end);
    let is_token = !method.is_empty() && scan::all(method.of(source), scan::TOKEN);
    match number {
        Some(number) if is_token => Ok((number, method)),
        _ => Err(SipError::BadCSeq),
    }
}

impl<'a> CSeq<'a> {
    /// Reads a CSeq's value.
    pub fn parse(text: &'a [u8]) -> Result<Self, SipError> {
        parse(text, Span::all(text)).map(|(number, method)| Self {
            number,
            method: method.of(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_zeros_and_folding_are_legal() {
        assert_eq!(
            CSeq::parse(b" 0009\r\n  INVITE "),
            Ok(CSeq {
                number: 9,
                method: b"INVITE"
            })
        );
        assert_eq!(
            CSeq::parse(b"2147483647 ACK").map(|cseq| cseq.number),
            Ok(NUMBER_MAX)
        );
    }

    #[test]
    fn what_is_no_number_and_one_token_is_refused() {
        for bad in [
            &b""[..],
            b"1",
            b"INVITE",
            b"2147483648 ACK",
            b"36893488147419103232 REGISTER",
            b"1 A B",
            b"-1 ACK",
        ] {
            assert_eq!(
                CSeq::parse(bad),
                Err(SipError::BadCSeq),
                "{}",
                bad.escape_ascii()
            );
        }
    }
}
