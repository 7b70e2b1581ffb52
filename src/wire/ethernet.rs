//! Ethernet II frames with up to two VLAN tags (IEEE 802.3, 802.1Q, 802.1ad).

use std::fmt;

use super::Malformed;

/// A frame's header without tags.
pub const HEADER_LEN: usize = 14;
/// One VLAN tag.
pub const TAG_LEN: usize = 4;
/// Tags that we read and write; the XDP program passes frames with more to the kernel.
pub const TAGS_MAX: usize = 2;
/// The longest header.
pub const HEADER_LEN_MAX: usize = HEADER_LEN + TAGS_MAX * TAG_LEN;

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether the address is of one station: neither a group, nor broadcast, nor all zeros.
    #[must_use]
    pub const fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && !matches!(self.0, [0, 0, 0, 0, 0, 0])
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One VLAN tag: the protocol that announces it and its control information (priority, drop eligibility, VLAN).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    /// 0x8100 (802.1Q) or 0x88A8 (802.1ad).
    pub protocol: u16,
    /// The 16 bits of control information.
    pub control: u16,
}

/// The tags of a frame, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Tags([Option<Tag>; TAGS_MAX]);

impl Tags {
    /// No tag at all.
    pub const NONE: Self = Self([None, None]);

    /// One tag.
    #[must_use]
    pub const fn one(tag: Tag) -> Self {
        Self([Some(tag), None])
    }

    /// Two tags.
    #[must_use]
    pub const fn two(outer: Tag, inner: Tag) -> Self {
        Self([Some(outer), Some(inner)])
    }

    /// How many bytes the tags take in the header.
    #[must_use]
    pub const fn len(self) -> usize {
        match self.0 {
            [None, _] => 0,
            [Some(_), None] => TAG_LEN,
            [Some(_), Some(_)] => 2 * TAG_LEN,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtherType {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl EtherType {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Ipv4 => 0x0800,
            Self::Ipv6 => 0x86DD,
        }
    }
}

/// A frame whose header is complete and announces IP.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    header: &'a [u8; HEADER_LEN],
    tags: Tags,
    ether_type: EtherType,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Checks `bytes`, the whole frame without its check sequence.
    ///
    /// # Errors
    /// `Truncated`, `Tags` or `NotIp`.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, mut rest) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Malformed::Truncated)?;
        let mut protocol = u16::from_be_bytes([header[12], header[13]]);
        let mut tags = Tags::NONE;
        for slot in &mut tags.0 {
            if !is_tag(protocol) {
                break;
            }
            let (tag, after) = rest
                .split_first_chunk::<TAG_LEN>()
                .ok_or(Malformed::Truncated)?;
            *slot = Some(Tag {
                protocol,
                control: u16::from_be_bytes([tag[0], tag[1]]),
            });
            protocol = u16::from_be_bytes([tag[2], tag[3]]);
            rest = after;
        }
        let ether_type = match protocol {
            0x0800 => EtherType::Ipv4,
            0x86DD => EtherType::Ipv6,
            other if is_tag(other) => return Err(Malformed::Tags),
            _ => return Err(Malformed::NotIp),
        };
        Ok(Self {
            header,
            tags,
            ether_type,
            payload: rest,
        })
    }

    /// The station that the frame is for.
    #[must_use]
    pub fn destination(&self) -> Mac {
        let [a, b, c, d, e, f, ..] = *self.header;
        Mac([a, b, c, d, e, f])
    }

    /// The station that sent the frame.
    #[must_use]
    pub fn source(&self) -> Mac {
        let [_, _, _, _, _, _, a, b, c, d, e, f, ..] = *self.header;
        Mac([a, b, c, d, e, f])
    }

    /// The VLAN tags, as received.
    #[must_use]
    pub const fn tags(&self) -> Tags {
        self.tags
    }

    /// What the payload is.
    #[must_use]
    pub const fn ether_type(&self) -> EtherType {
        self.ether_type
    }

    /// What follows the header, padding included.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// The header of a frame to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The station that the frame is for.
    pub destination: Mac,
    /// Our own.
    pub source: Mac,
    /// The VLAN tags to carry.
    pub tags: Tags,
    /// What the payload is.
    pub ether_type: EtherType,
}

impl Header {
    /// How many bytes [`Header::write`] takes.
    #[must_use]
    pub const fn len(&self) -> usize {
        HEADER_LEN + self.tags.len()
    }

    /// Whether the header takes no bytes: never.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes the header to the front of `buffer` and gives what follows it; `None` where it does not fit.
    #[must_use]
    pub fn write<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let (addresses, mut rest) = buffer.split_first_chunk_mut::<12>()?;
        let (destination, source) = addresses.split_at_mut(6);
        destination.copy_from_slice(&self.destination.0);
        source.copy_from_slice(&self.source.0);
        for tag in self.tags.0.iter().flatten() {
            let (bytes, after) = rest.split_first_chunk_mut::<TAG_LEN>()?;
            let [protocol_high, protocol_low] = tag.protocol.to_be_bytes();
            let [control_high, control_low] = tag.control.to_be_bytes();
            *bytes = [protocol_high, protocol_low, control_high, control_low];
            rest = after;
        }
        let (ether_type, payload) = rest.split_first_chunk_mut::<2>()?;
        *ether_type = self.ether_type.number().to_be_bytes();
        Some(payload)
    }
}

/// Whether an EtherType announces a VLAN tag.
const fn is_tag(protocol: u16) -> bool {
    matches!(protocol, 0x8100 | 0x88A8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTER: Tag = Tag {
        protocol: 0x88A8,
        control: 100,
    };
    const INNER: Tag = Tag {
        protocol: 0x8100,
        control: 0xE007,
    };

    fn header(tags: Tags) -> Header {
        Header {
            destination: Mac([2, 0, 0, 0, 0, 1]),
            source: Mac([2, 0, 0, 0, 0, 2]),
            tags,
            ether_type: EtherType::Ipv6,
        }
    }

    #[test]
    fn what_is_written_is_read_with_no_one_and_two_tags() {
        for tags in [Tags::NONE, Tags::one(INNER), Tags::two(OUTER, INNER)] {
            let header = header(tags);
            let mut buffer = [7_u8; 30];
            let rest = header
                .write(&mut buffer)
                .expect("room for the header")
                .len();
            assert_eq!(rest, 30 - header.len());
            let frame = Frame::new(&buffer).expect("a whole header");
            assert_eq!(frame.destination(), header.destination);
            assert_eq!(frame.source(), header.source);
            assert_eq!(frame.tags(), tags);
            assert_eq!(frame.ether_type(), EtherType::Ipv6);
            assert_eq!(frame.payload().len(), rest);
            for len in 0..header.len() {
                assert_eq!(
                    Frame::new(&buffer[..len]).expect_err("a fault"),
                    Malformed::Truncated
                );
                assert!(header.write(&mut buffer[..len].to_vec()).is_none());
            }
        }
    }

    #[test]
    fn three_tags_and_other_protocols_are_refused() {
        let mut buffer = [0_u8; 40];
        buffer[12..14].copy_from_slice(&[0x81, 0]);
        buffer[16..18].copy_from_slice(&[0x81, 0]);
        buffer[20..22].copy_from_slice(&[0x81, 0]);
        assert_eq!(Frame::new(&buffer).expect_err("a fault"), Malformed::Tags);
        buffer[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(Frame::new(&buffer).expect_err("a fault"), Malformed::NotIp);
    }

    #[test]
    fn a_group_and_nothing_are_not_unicast() {
        assert!(Mac([2, 0, 0, 0, 0, 1]).is_unicast());
        assert!(!Mac([0xFF; 6]).is_unicast());
        assert!(!Mac([1, 0, 0x5E, 0, 0, 1]).is_unicast());
        assert!(!Mac([0; 6]).is_unicast());
    }
}
