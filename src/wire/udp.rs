//! UDP headers (RFC 768).

use super::Malformed;
use super::checksum::Sum;

/// The header.
pub const HEADER_LEN: usize = 8;

/// A datagram whose header is sound and whose payload is all there.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Checks `bytes`, an IP packet's payload. The checksum is not verified (see [`super::checksum`]).
    ///
    /// # Errors
    /// `Truncated` or `Length`.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Malformed::Truncated)?;
        let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let payload_len = len.checked_sub(HEADER_LEN).ok_or(Malformed::Length)?;
        let payload = rest.get(..payload_len).ok_or(Malformed::Truncated)?;
        Ok(Self { header, payload })
    }

    /// The sender's port.
    #[must_use]
    pub fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.header[0], self.header[1]])
    }

    /// Our port.
    #[must_use]
    pub fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// The payload.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Writes the header to the front of `datagram`, which already holds the payload after it, with the checksum over both and
/// over the pseudo-header; `None` where the length is not one that a datagram may have.
#[must_use]
pub fn write_header(
    datagram: &mut [u8],
    source_port: u16,
    destination_port: u16,
    pseudo_header: Sum,
) -> Option<()> {
    let len = u16::try_from(datagram.len()).ok()?;
    let (header, payload) = datagram.split_first_chunk_mut::<HEADER_LEN>()?;
    let sum = pseudo_header
        .number(source_port)
        .number(destination_port)
        .number(len);
    // RFC 768: a checksum that comes out as zero is sent as all ones, since zero means none.
    let checksum = match sum.bytes(payload).finish() {
        0 => 0xFFFF,
        other => other,
    };
    let [s0, s1] = source_port.to_be_bytes();
    let [d0, d1] = destination_port.to_be_bytes();
    let [l0, l1] = len.to_be_bytes();
    let [c0, c1] = checksum.to_be_bytes();
    *header = [s0, s1, d0, d1, l0, l1, c0, c1];
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_padding_left_out() {
        let mut bytes = [5_u8; 21];
        write_header(&mut bytes[..19], 5060, 5070, Sum::new()).expect("a lawful length");
        let datagram = Datagram::new(&bytes).expect("what we wrote");
        assert_eq!(datagram.source_port(), 5060);
        assert_eq!(datagram.destination_port(), 5070);
        assert_eq!(datagram.payload(), [5; 11]);
        for len in 0..19 {
            assert_eq!(
                Datagram::new(&bytes[..len]).expect_err("a fault"),
                Malformed::Truncated
            );
        }
        bytes[5] = 7;
        assert_eq!(
            Datagram::new(&bytes).expect_err("a fault"),
            Malformed::Length
        );
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_ones() {
        let mut bytes = [0_u8; 10];
        write_header(&mut bytes, 0, 0, Sum::new()).expect("a lawful length");
        let missing = u16::from_be_bytes([bytes[6], bytes[7]]);
        bytes[8..10].copy_from_slice(&missing.to_be_bytes());
        write_header(&mut bytes, 0, 0, Sum::new()).expect("a lawful length");
        assert_eq!(bytes[6..8], [0xFF, 0xFF]);
    }

    #[test]
    fn a_datagram_too_long_is_not_written() {
        assert!(write_header(&mut vec![0; 65_536], 1, 2, Sum::new()).is_none());
        assert!(write_header(&mut [0; 7], 1, 2, Sum::new()).is_none());
    }
}
