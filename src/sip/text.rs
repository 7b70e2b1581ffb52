//! Writing into a bounded buffer, without allocation and without panic.

use std::fmt;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Takes bytes: a buffer, or a count of what a buffer would need.
pub trait Sink {
    /// Takes `bytes`.
    fn put(&mut self, bytes: &[u8]);

    /// Takes `value` in decimal.
    fn put_decimal(&mut self, value: u64) {
        let mut digits = [0_u8; 20];
        let start = write_decimal(value, &mut digits);
        self.put(digits.get(start..).unwrap_or_default());
    }

    /// Takes `value` as `width` lower-case hexadecimal digits, the highest first; `width` is at most 16.
    fn put_hex(&mut self, value: u64, width: usize) {
        let mut digits = [0_u8; 16];
        let width = width.min(digits.len());
        for (place, digit) in digits.iter_mut().take(width).enumerate() {
            let nibble = (value >> (4 * (width - 1 - place))) & 0xf;
            *digit = b"0123456789abcdef"[usize::try_from(nibble).unwrap_or_default()];
        }
        self.put(digits.get(..width).unwrap_or_default());
    }

    /// Takes an address as a Via's `received` has it: without brackets (RFC 3261 25.1, `via-received`).
    fn put_ip(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                let (text, len) = dotted(address);
                self.put(text.get(..len - 1).unwrap_or_default());
            }
            IpAddr::V6(address) => {
                let mut scratch = [0_u8; 48];
                let mut text = Text::new(&mut scratch);
                // An IPv6 address has at most 45 characters, so the scratch never overflows.
                let _ = fmt::Write::write_fmt(&mut text, format_args!("{address}"));
                let len = text.len();
                self.put(scratch.get(..len).unwrap_or_default());
            }
        }
    }

    /// Takes an address as a URI's or a sent-by's host has it: IPv6 in brackets.
    fn put_host_ip(&mut self, address: IpAddr) {
        if address.is_ipv6() {
            self.put(b"[");
            self.put_ip(address);
            self.put(b"]");
        } else {
            self.put_ip(address);
        }
    }

    /// Takes `host:port`, IPv6 in brackets.
    fn put_address(&mut self, address: SocketAddr) {
        let SocketAddr::V4(address) = address else {
            self.put_host_ip(address.ip());
            self.put(b":");
            return self.put_decimal(u64::from(address.port()));
        };
        let (mut text, len) = dotted(*address.ip());
        let mut port = [0; 5];
        let start = write_decimal(u64::from(address.port()), &mut port);
        let digits = port.get(start..).unwrap_or_default();
        text[len - 1] = b':';
        let end = len + digits.len();
        if let Some(room) = text.get_mut(len..end) {
            room.copy_from_slice(digits);
        }
        self.put(text.get(..end).unwrap_or_default());
    }
}

/// Four octets, each with a dot behind it, and how long that is.
#[inline]
fn dotted(address: Ipv4Addr) -> ([u8; DOTTED_LEN], usize) {
    let (mut text, mut len) = ([0; DOTTED_LEN], 0);
    for octet in address.octets() {
        let (digits, digits_len) = OCTETS[usize::from(octet)];
        text[len..len + digits.len()].copy_from_slice(&digits);
        len += usize::from(digits_len);
    }
    (text, len)
}

/// Room for an address and its port.
const DOTTED_LEN: usize = 24;

/// Each octet in decimal with a dot behind it, and how long that is.
static OCTETS: [([u8; 4], u8); 256] = {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < octets.len() {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let (mut place, mut len) = (
            if octet > 99 {
                0
            } else {
                2 - (octet > 9) as usize
            },
            0,
        );
        while place < digits.len() {
            octets[octet].0[len] = b'0' + digits[place] as u8;
            (place, len) = (place + 1, len + 1);
        }
        octets[octet].1 = len as u8 + 1;
        octet += 1;
    }
    octets
};

/// Writes `value` at the end of `digits`, which has room for it; gives where it begins.
#[inline]
fn write_decimal(value: u64, digits: &mut [u8]) -> usize {
    let mut rest = value;
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        start -= 1;
        if rest == 0 {
            break;
        }
    }
    start
}

/// A writer into a slice. What does not fit is left out whole, with all that comes after it, and [`Text::finish`] tells so.
#[derive(Debug)]
pub struct Text<'a> {
    /// What has not been written yet; nothing once something did not fit.
    rest: &'a mut [u8],
    /// How long all of it is, up to what did not fit.
    room: usize,
    overflowed: bool,
}

impl<'a> Text<'a> {
    /// A writer that begins at the start of `out`.
    pub const fn new(out: &'a mut [u8]) -> Self {
        Self {
            room: out.len(),
            rest: out,
            overflowed: false,
        }
    }

    /// How much has been written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.room - self.rest.len()
    }

    /// Whether nothing has been written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much has been written; none where something did not fit.
    #[must_use]
    pub const fn finish(self) -> Option<usize> {
        if self.overflowed {
            None
        } else {
            Some(self.len())
        }
    }

    /// Takes `bytes` in lower case.
    pub fn put_lowercase(&mut self, bytes: &[u8]) {
        let rest = mem::take(&mut self.rest);
        let left = rest.len();
        match rest.split_at_mut_checked(bytes.len()) {
            Some((room, rest)) => {
                room.copy_from_slice(bytes);
                room.make_ascii_lowercase();
                self.rest = rest;
            }
            None => self.overflow(left),
        }
    }

    #[cold]
    fn overflow(&mut self, left: usize) {
        self.room -= left;
        self.overflowed = true;
    }
}

impl Sink for Text<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let rest = mem::take(&mut self.rest);
        let left = rest.len();
        match rest.split_at_mut_checked(bytes.len()) {
            Some((room, rest)) => {
                room.copy_from_slice(bytes);
                self.rest = rest;
            }
            None => self.overflow(left),
        }
    }
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        if self.overflowed {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

/// Counts what it takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Length(pub usize);

impl Sink for Length {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Text<'_>)) -> String {
        let mut out = [0; 64];
        let mut text = Text::new(&mut out);
        write(&mut text);
        let len = text.finish().expect("it fits");
        String::from_utf8_lossy(&out[..len]).into_owned()
    }

    #[test]
    fn numbers_and_addresses_are_written_as_text() {
        assert_eq!(written(|text| text.put_decimal(0)), "0");
        assert_eq!(
            written(|text| text.put_decimal(u64::MAX)),
            u64::MAX.to_string()
        );
        assert_eq!(written(|text| text.put_hex(0xbeef, 6)), "00beef");
        assert_eq!(
            written(|text| text.put_hex(u64::MAX, 99)),
            "ffffffffffffffff"
        );
        assert_eq!(
            written(|text| text.put_ip(IpAddr::from([192, 0, 2, 10]))),
            "192.0.2.10"
        );
        let v6 = "2001:db8::1".parse::<IpAddr>().expect("an address");
        assert_eq!(written(|text| text.put_ip(v6)), "2001:db8::1");
        assert_eq!(written(|text| text.put_host_ip(v6)), "[2001:db8::1]");
        for address in ["[2001:db8::1]:5060", "192.0.2.10:65535", "1.22.255.0:0"] {
            let address: SocketAddr = address.parse().expect("an address");
            assert_eq!(
                written(|text| text.put_address(address)),
                address.to_string()
            );
        }
        for octet in 0..=u8::MAX {
            let address = Ipv4Addr::new(octet, 255 - octet, octet, octet);
            let text = written(|text| text.put_ip(address.into()));
            assert_eq!(text, address.to_string());
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let mut out = [0; 3];
        let mut text = Text::new(&mut out);
        text.put(b"ab");
        text.put(b"cd");
        text.put(b"e");
        assert_eq!(text.len(), 2);
        assert_eq!(text.finish(), None);
    }
}
