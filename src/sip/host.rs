//! Hosts: names, IPv4 addresses and IPv6 references (RFC 3261 25.1, `host`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str;

use super::error::SipError;
use crate::scan;

/// The host of a URI or of a Via's sent-by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// A domain name as it is written; compare it without regard to case.
    Name(&'a [u8]),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, which is written in brackets.
    V6(Ipv6Addr),
}

impl<'a> Host<'a> {
    /// Reads a host, without a port.
    pub fn parse(text: &'a [u8]) -> Result<Self, SipError> {
        match *text {
            [b'[', ref inner @ .., b']'] => {
                let address = str::from_utf8(inner)
                    .ok()
                    .and_then(|inner| inner.parse().ok());
                address.map(Self::V6).ok_or(SipError::BadHost)
            }
            [] => Err(SipError::BadHost),
            [b'0'..=b'9', ..] => match ipv4(text) {
                Some(address) => Ok(Self::V4(address)),
                None if text
                    .iter()
                    .all(|&byte| byte == b'.' || byte.is_ascii_digit()) =>
                {
                    Err(SipError::BadHost)
                }
                None if scan::all(text, scan::HOST) => Ok(Self::Name(text)),
                None => Err(SipError::BadHost),
            },
            _ if scan::all(text, scan::HOST) => Ok(Self::Name(text)),
            _ => Err(SipError::BadHost),
        }
    }

    /// The address, where the host is one.
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(address) => Some(IpAddr::V4(*address)),
            Self::V6(address) => Some(IpAddr::V6(*address)),
        }
    }

    /// Whether both are the same: names without regard to case, addresses by value (RFC 3261 19.1.4).
    #[must_use]
    pub fn is_same(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Self::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            (Self::V4(a), Host::V4(b)) => a == b,
            (Self::V6(a), Host::V6(b)) => a == b,
            (Self::Name(_) | Self::V4(_) | Self::V6(_), _) => false,
        }
    }

    /// Splits `host[:port]`, with whitespace allowed around the colon (RFC 3261 25.1, `COLON`).
    ///
    /// Gives the offset past the host and, where there is a port, the port; all of `text` must be taken up.
    pub fn split_port(text: &[u8]) -> Result<(usize, Option<u16>), SipError> {
        let host_end = match text.first() {
            Some(b'[') => scan::find(text, 0, b']').ok_or(SipError::BadHost)? + 1,
            _ => scan::skip(text, 0, scan::HOST),
        };
        let at = scan::skip(text, host_end, scan::LWS);
        match text.get(at) {
            None => Ok((host_end, None)),
            Some(b':') => {
                let digits = text
                    .get(scan::skip(text, at + 1, scan::LWS)..)
                    .unwrap_or_default();
                let port = scan::decimal(digits, u64::from(u16::MAX))
                    .and_then(|port| u16::try_from(port).ok());
                port.map(|port| (host_end, Some(port)))
                    .ok_or(SipError::BadPort)
            }
            Some(_) => Err(SipError::BadHost),
        }
    }
}

/// Reads four octets of at most three digits, none with a zero before it (RFC 6943 3.1.1: some read those as octal).
pub(super) fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut address, mut at) = (0, 0);
    for place in 0..4 {
        if place > 0 {
            if text.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
        let (octet, len) = octet(text, at)?;
        address = address << 8 | octet;
        at += len;
    }
    (at == text.len()).then(|| Ipv4Addr::from_bits(address))
}

/// Reads the octet at `at`; gives it with the number of its digits.
#[inline]
fn octet(text: &[u8], at: usize) -> Option<(u32, usize)> {
    let digit = |place: usize| {
        let digit = text.get(at + place)?.wrapping_sub(b'0');
        (digit < 10).then_some(u32::from(digit))
    };
    let first = digit(0)?;
    let Some(second) = digit(1) else {
        return Some((first, 1));
    };
    if first == 0 {
        return None;
    }
    let Some(third) = digit(2) else {
        return Some((first * 10 + second, 2));
    };
    let octet = first * 100 + second * 10 + third;
    (octet <= 255).then_some((octet, 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_kinds_are_told_apart() {
        assert_eq!(
            Host::parse(b"192.0.2.1"),
            Ok(Host::V4(Ipv4Addr::new(192, 0, 2, 1)))
        );
        assert_eq!(Host::parse(b"[::1]"), Ok(Host::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(
            Host::parse(b"chair-dnrc.example.com"),
            Ok(Host::Name(b"chair-dnrc.example.com"))
        );
        assert_eq!(
            Host::parse(b"3com.example"),
            Ok(Host::Name(b"3com.example"))
        );
        for bad in [
            &b""[..],
            b"192.0.2.256",
            b"192.0.2",
            b"[::1",
            b"::1",
            b"a b",
            b"a@b",
            b"[]",
        ] {
            assert_eq!(
                Host::parse(bad),
                Err(SipError::BadHost),
                "{}",
                bad.escape_ascii()
            );
        }
    }

    #[test]
    fn an_ipv4_address_is_read_as_the_standard_library_reads_it() {
        for text in [
            "0.0.0.0",
            "255.255.255.255",
            "1.2.3.4",
            "01.2.3.4",
            "1.2.3.",
            "1..2.3",
            "1.2.3.4.5",
            "1.2.3.999",
            "1.2.3",
            "1.2.00.4",
        ] {
            assert_eq!(ipv4(text.as_bytes()), text.parse().ok(), "{text}");
        }
    }

    #[test]
    fn a_port_is_split_off() {
        assert_eq!(Host::split_port(b"a.b:5060"), Ok((3, Some(5060))));
        assert_eq!(Host::split_port(b"[::1] : 5060"), Ok((5, Some(5060))));
        assert_eq!(Host::split_port(b"a.b"), Ok((3, None)));
        assert_eq!(Host::split_port(b"a.b:"), Err(SipError::BadPort));
        assert_eq!(Host::split_port(b"a.b:65536"), Err(SipError::BadPort));
        assert_eq!(Host::split_port(b"a.b x"), Err(SipError::BadHost));
    }

    #[test]
    fn names_match_without_case() {
        let host = |text| Host::parse(text).expect("a good host");
        assert!(host(b"Example.COM").is_same(&host(b"example.com")));
        assert!(host(b"[0:0::1]").is_same(&host(b"[::1]")));
        assert!(!host(b"example.com").is_same(&host(b"192.0.2.1")));
    }
}
