//! IPv4 headers without options (RFC 791).

use std::net::Ipv4Addr;

use super::checksum::Sum;
use super::{Malformed, PROTOCOL_UDP};

/// The header without options, the only one that we take and send.
pub const HEADER_LEN: usize = 20;

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
    /// `Truncated`, `Version`, `Options`, `Length`, `Fragment`, `NotUdp` or `Checksum`.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Malformed::Truncated)?;
        if header[0] >> 4 != 4 {
            return Err(Malformed::Version);
        }
        if header[0] & 0xF != 5 {
            return Err(Malformed::Options);
        }
        let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let payload_len = total_len.checked_sub(HEADER_LEN).ok_or(Malformed::Length)?;
        let payload = rest.get(..payload_len).ok_or(Malformed::Truncated)?;
        // More Fragments, or an offset.
        if u16::from_be_bytes([header[6], header[7]]) & 0x3FFF != 0 {
            return Err(Malformed::Fragment);
        }
        if header[9] != PROTOCOL_UDP {
            return Err(Malformed::NotUdp);
        }
        // RFC 1122 3.2.1.2: a host MUST verify it and silently discard.
        if Sum::new().bytes(header).finish() != 0 {
            return Err(Malformed::Checksum);
        }
        Ok(Self { header, payload })
    }

    /// Whence the packet came.
    #[must_use]
    pub fn source(&self) -> Ipv4Addr {
        let [.., a, b, c, d, _, _, _, _] = *self.header;
        Ipv4Addr::new(a, b, c, d)
    }

    /// Whither it goes.
    #[must_use]
    pub fn destination(&self) -> Ipv4Addr {
        let [.., a, b, c, d] = *self.header;
        Ipv4Addr::new(a, b, c, d)
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
    pub source: Ipv4Addr,
    /// Whither.
    pub destination: Ipv4Addr,
    /// The identification: packets of ours may be fragmented on the way, so it must differ from one to the next (RFC 6864).
    pub identification: u16,
    /// Bytes after the header.
    pub payload_len: u16,
}

impl Header {
    /// Writes the header with its checksum to the front of `buffer` and gives what follows it; `None` where it does not fit or
    /// the packet would be longer than its length field can say.
    ///
    /// Don't Fragment is not set: we keep no path MTU of our own, so a narrower link on the way cuts the packet.
    #[must_use]
    pub fn write<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let total_len = self.payload_len.checked_add(20)?;
        let (header, rest) = buffer.split_first_chunk_mut::<HEADER_LEN>()?;
        let length = 0x4500_0000 | u32::from(total_len);
        let fragment = u32::from(self.identification) << 16;
        let [source, destination] = [self.source, self.destination].map(u32::from);
        let rest_of_it = u32::from_be_bytes([TTL, PROTOCOL_UDP, 0, 0]);
        // Summed in registers: what was written in small pieces is slow to read back.
        let checksum = [length, fragment, rest_of_it, source, destination]
            .iter()
            .fold(Sum::new(), |sum, word| sum.word(*word))
            .finish();
        let words = [
            length,
            fragment,
            rest_of_it | u32::from(checksum),
            source,
            destination,
        ];
        for (to, word) in header.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *to = word.to_be_bytes();
        }
        Some(rest)
    }

    /// The pseudo-header's share of the UDP checksum (RFC 768).
    #[must_use]
    pub fn pseudo_header(&self) -> Sum {
        Sum::new()
            .word(self.source.into())
            .word(self.destination.into())
            .number(u16::from(PROTOCOL_UDP))
            .number(self.payload_len)
    }
}

/// The time to live that we send with (RFC 1700's default, which Linux uses too).
const TTL: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> [u8; 32] {
        let header = Header {
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(198, 51, 100, 2),
            identification: 0x1234,
            payload_len: 10,
        };
        // Two bytes of padding follow the payload.
        let mut buffer = [9_u8; 32];
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
        assert_eq!(packet.source(), Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(packet.destination(), Ipv4Addr::new(198, 51, 100, 2));
        assert_eq!(packet.payload(), [9; 10]);
    }

    #[test]
    fn each_fault_has_its_name() {
        let fault = |at: usize, value: u8| {
            let mut bytes = packet();
            bytes[at] = value;
            Packet::new(&bytes).map(|_| ()).expect_err("a fault")
        };
        assert_eq!(fault(0, 0x65), Malformed::Version);
        assert_eq!(fault(0, 0x46), Malformed::Options);
        assert_eq!(fault(0, 0x44), Malformed::Options);
        assert_eq!(fault(3, 19), Malformed::Length);
        assert_eq!(fault(3, 33), Malformed::Truncated);
        assert_eq!(fault(6, 0x20), Malformed::Fragment);
        assert_eq!(fault(7, 1), Malformed::Fragment);
        assert_eq!(fault(9, 6), Malformed::NotUdp);
        assert_eq!(fault(12, 193), Malformed::Checksum);
    }

    #[test]
    fn every_shorter_slice_is_truncated() {
        let bytes = packet();
        for len in 0..30 {
            assert_eq!(
                Packet::new(&bytes[..len]).expect_err("a fault"),
                Malformed::Truncated
            );
        }
    }

    #[test]
    fn a_payload_too_long_is_not_written() {
        let header = Header {
            source: Ipv4Addr::LOCALHOST,
            destination: Ipv4Addr::LOCALHOST,
            identification: 0,
            payload_len: u16::MAX - 19,
        };
        assert!(header.write(&mut [0; 40]).is_none());
    }
}
