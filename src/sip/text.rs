//! Writing into a bounded buffer, without allocation and without panic.

use std::fmt;
use std::net::IpAddr;

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
                let mut text = [b'.'; 15];
                let mut start = text.len();
                for (place, octet) in address.octets().into_iter().rev().enumerate() {
                    start -= usize::from(place > 0);
                    let room = text.get_mut(..start).unwrap_or_default();
                    start = write_decimal(u64::from(octet), room);
                }
                self.put(text.get(start..).unwrap_or_default());
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
}

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

/// A writer into a slice. What does not fit is left out whole, and [`Text::finish`] tells so.
#[derive(Debug)]
pub struct Text<'a> {
    out: &'a mut [u8],
    len: usize,
    overflowed: bool,
}

impl<'a> Text<'a> {
    /// A writer that begins at the start of `out`.
    pub const fn new(out: &'a mut [u8]) -> Self {
        Self {
            out,
            len: 0,
            overflowed: false,
        }
    }

    /// How much has been written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How much has been written; none where something did not fit.
    #[must_use]
    pub const fn finish(self) -> Option<usize> {
        if self.overflowed {
            None
        } else {
            Some(self.len)
        }
    }
}

impl Sink for Text<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let room = self
            .out
            .get_mut(self.len..)
            .and_then(|rest| rest.get_mut(..bytes.len()));
        match room {
            Some(room) if !self.overflowed => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            _ => self.overflowed = true,
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
