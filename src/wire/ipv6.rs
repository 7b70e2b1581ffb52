//! IPv6 headers without extension headers (RFC 8200).

use std::net::Ipv6Addr;

use super::checksum::Sum;
use super::{Malformed, PROTOCOL_UDP};

/// The fixed header.
pub const HEADER_LEN: usize = 40;

/// A UDP packet whose header is sound and whose payload is all there.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks `bytes`, which begin with the header and may end with padding.
    ///
    /// # Errors
    /// `Truncated`, `Version` or `NotUdp`; a jumbogram is `NotUdp`, since it has an extension header.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Malformed::Truncated)?;
        if header[0] >> 4 != 6 {
            return Err(Malformed::Version);
        }
        let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let payload = rest.get(..payload_len).ok_or(Malformed::Truncated)?;
        if header[6] != PROTOCOL_UDP {
            return Err(Malformed::NotUdp);
        }
        Ok(Self { header, payload })
    }

    /// Whence the packet came.
    #[must_use]
    pub fn source(&self) -> Ipv6Addr {
        let (_, addresses) = self.header.split_at(8);
        address(addresses.first_chunk())
    }

    /// Whither it goes.
    #[must_use]
    pub fn destination(&self) -> Ipv6Addr {
        address(self.header.last_chunk())
    }

    /// What follows the header, without padding.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// The header of a UDP packet to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Our address.
    pub source: Ipv6Addr,
    /// Whither.
    pub destination: Ipv6Addr,
    /// Bytes after the header.
    pub payload_len: u16,
}

impl Header {
    /// Writes the header to the front of `buffer` and gives what follows it; `None` where it does not fit.
    #[must_use]
    pub fn write<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let (header, rest) = buffer.split_first_chunk_mut::<HEADER_LEN>()?;
        let (fixed, addresses) = header.split_at_mut(8);
        let [len_high, len_low] = self.payload_len.to_be_bytes();
        fixed.copy_from_slice(&[0x60, 0, 0, 0, len_high, len_low, PROTOCOL_UDP, HOP_LIMIT]);
        let (source, destination) = addresses.split_at_mut(16);
        source.copy_from_slice(&self.source.octets());
        destination.copy_from_slice(&self.destination.octets());
        Some(rest)
    }

    /// The pseudo-header's share of the UDP checksum (RFC 8200 8.1).
    #[must_use]
    pub fn pseudo_header(&self) -> Sum {
        Sum::new()
            .bytes(&self.source.octets())
            .bytes(&self.destination.octets())
            .number(self.payload_len)
            .number(u16::from(PROTOCOL_UDP))
    }
}

/// The address that 16 bytes are.
fn address(bytes: Option<&[u8; 16]>) -> Ipv6Addr {
    bytes.map_or(Ipv6Addr::UNSPECIFIED, |bytes| Ipv6Addr::from(*bytes))
}

/// The hop limit that we send with, Linux's default.
const HOP_LIMIT: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 1);
    const DESTINATION: Ipv6Addr = Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 2);

    fn packet() -> [u8; 52] {
        let header = Header {
            source: SOURCE,
            destination: DESTINATION,
            payload_len: 10,
        };
        let mut buffer = [9_u8; 52];
        assert_eq!(
            header
                .write(&mut buffer)
                .expect("room for the header")
                .len(),
            12
        );
        buffer
    }

    #[test]
    fn what_is_written_is_read_and_padding_left_out() {
        let bytes = packet();
        let packet = Packet::new(&bytes).expect("what we wrote");
        assert_eq!(packet.source(), SOURCE);
        assert_eq!(packet.destination(), DESTINATION);
        assert_eq!(packet.payload(), [9; 10]);
    }

    #[test]
    fn each_fault_has_its_name() {
        let fault = |at: usize, value: u8| {
            let mut bytes = packet();
            bytes[at] = value;
            Packet::new(&bytes).map(|_| ()).expect_err("a fault")
        };
        assert_eq!(fault(0, 0x45), Malformed::Version);
        assert_eq!(fault(5, 13), Malformed::Truncated);
        assert_eq!(fault(6, 44), Malformed::NotUdp);
    }

    #[test]
    fn every_shorter_slice_is_truncated() {
        let bytes = packet();
        for len in 0..50 {
            assert_eq!(
                Packet::new(&bytes[..len]).expect_err("a fault"),
                Malformed::Truncated
            );
        }
    }
}
