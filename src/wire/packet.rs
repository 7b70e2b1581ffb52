//! A whole packet: Ethernet, IP and UDP together, read in one go and written in one go.

use std::net::{IpAddr, SocketAddr};

use super::ethernet::{self, EtherType, Mac, Tags};
use super::{Malformed, ipv4, ipv6, udp};

/// The longest headers that we write or read: two tags, IPv6 and UDP.
pub const HEADERS_LEN_MAX: usize = ethernet::HEADER_LEN_MAX + ipv6::HEADER_LEN + udp::HEADER_LEN;

/// A received UDP packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The Ethernet frame.
    pub frame: ethernet::Frame<'a>,
    /// Whence it came.
    pub source: SocketAddr,
    /// Our address and port.
    pub destination: SocketAddr,
    /// The datagram's payload.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a frame as it lies in the UMEM.
    ///
    /// # Errors
    /// Whatever is wrong with the first header that is.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let frame = ethernet::Frame::new(bytes)?;
        let (source, destination, datagram): (IpAddr, IpAddr, _) = match frame.ether_type() {
            EtherType::Ipv4 => {
                let packet = ipv4::Packet::new(frame.payload())?;
                (
                    packet.source().into(),
                    packet.destination().into(),
                    packet.payload(),
                )
            }
            EtherType::Ipv6 => {
                let packet = ipv6::Packet::new(frame.payload())?;
                (
                    packet.source().into(),
                    packet.destination().into(),
                    packet.payload(),
                )
            }
        };
        let datagram = udp::Datagram::new(datagram)?;
        Ok(Self {
            frame,
            source: SocketAddr::new(source, datagram.source_port()),
            destination: SocketAddr::new(destination, datagram.destination_port()),
            payload: datagram.payload(),
        })
    }
}

/// All the headers of a packet to send.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    /// The next hop's station.
    pub destination_mac: Mac,
    /// Our own.
    pub source_mac: Mac,
    /// The VLAN tags to carry.
    pub tags: Tags,
    /// Our address and port.
    pub source: SocketAddr,
    /// Whither: of the same family as `source`.
    pub destination: SocketAddr,
    /// IPv4's identification; IPv6 has none.
    pub identification: u16,
}

impl Headers {
    /// How many bytes the headers take in front of the payload.
    #[must_use]
    pub const fn len(&self) -> usize {
        let ip = match self.source {
            SocketAddr::V4(_) => ipv4::HEADER_LEN,
            SocketAddr::V6(_) => ipv6::HEADER_LEN,
        };
        ethernet::HEADER_LEN + self.tags.len() + ip + udp::HEADER_LEN
    }

    /// Whether the headers take no bytes: never.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Fills `packet`, which is exactly the headers and the payload long: `write` the payload, then the headers in front of it.
    ///
    /// `None`, with the packet's contents in disorder, where it is shorter than its headers, longer than a datagram may be,
    /// or source and destination are of different families.
    #[must_use]
    pub fn write(&self, packet: &mut [u8], write: impl FnOnce(&mut [u8])) -> Option<()> {
        write(packet.get_mut(self.len()..)?);
        match (self.source, self.destination) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
                let rest = self.ethernet(EtherType::Ipv4).write(packet)?;
                let header = ipv4::Header {
                    source: *source.ip(),
                    destination: *destination.ip(),
                    identification: self.identification,
                    payload_len: u16::try_from(rest.len().checked_sub(ipv4::HEADER_LEN)?).ok()?,
                };
                let datagram = header.write(rest)?;
                udp::write_header(
                    datagram,
                    source.port(),
                    destination.port(),
                    header.pseudo_header(),
                )
            }
            (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
                let rest = self.ethernet(EtherType::Ipv6).write(packet)?;
                let header = ipv6::Header {
                    source: *source.ip(),
                    destination: *destination.ip(),
                    payload_len: u16::try_from(rest.len().checked_sub(ipv6::HEADER_LEN)?).ok()?,
                };
                let datagram = header.write(rest)?;
                udp::write_header(
                    datagram,
                    source.port(),
                    destination.port(),
                    header.pseudo_header(),
                )
            }
            (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => None,
        }
    }

    /// The Ethernet header among them.
    const fn ethernet(&self, ether_type: EtherType) -> ethernet::Header {
        ethernet::Header {
            destination: self.destination_mac,
            source: self.source_mac,
            tags: self.tags,
            ether_type,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::Sum;
    use crate::wire::ethernet::Tag;
    use proptest::prelude::*;

    fn headers(source: &str, destination: &str, tags: Tags) -> Headers {
        Headers {
            destination_mac: Mac([2, 0, 0, 0, 0, 1]),
            source_mac: Mac([2, 0, 0, 0, 0, 2]),
            tags,
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
            identification: 7,
        }
    }

    const PAIRS: [(&str, &str); 2] = [
        ("192.0.2.1:5060", "198.51.100.2:5070"),
        ("[2001:db8::1]:5060", "[2001:db8::2]:5070"),
    ];

    /// The datagram's checksum, verified by an independent sum over the pseudo-header and all of it.
    fn verify(packet: &Packet<'_>) {
        let datagram = match packet.frame.ether_type() {
            EtherType::Ipv4 => &packet.frame.payload()[ipv4::HEADER_LEN..],
            EtherType::Ipv6 => &packet.frame.payload()[ipv6::HEADER_LEN..],
        };
        let addresses = match (packet.source.ip(), packet.destination.ip()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => [a.octets(), b.octets()].concat(),
            (IpAddr::V6(a), IpAddr::V6(b)) => [a.octets(), b.octets()].concat(),
            _ => panic!("one family"),
        };
        let len = u16::try_from(datagram.len()).expect("short");
        let sum = Sum::new()
            .bytes(&addresses)
            .number(17)
            .number(len)
            .bytes(datagram);
        assert_eq!(sum.finish(), 0);
    }

    #[test]
    fn what_is_written_is_read_over_both_families() {
        let tag = Tag {
            protocol: 0x8100,
            control: 5,
        };
        for (source, destination) in PAIRS {
            for tags in [Tags::NONE, Tags::one(tag), Tags::two(tag, tag)] {
                for len in [0, 1, 2, 599, 600] {
                    let headers = headers(source, destination, tags);
                    let mut bytes = vec![0; headers.len() + len];
                    headers
                        .write(&mut bytes, |payload| payload.fill(0xA7))
                        .expect("a lawful packet");
                    let packet = Packet::new(&bytes).expect("what we wrote");
                    assert_eq!(packet.source, headers.source);
                    assert_eq!(packet.destination, headers.destination);
                    assert_eq!(packet.frame.tags(), tags);
                    assert_eq!(packet.payload, vec![0xA7; len]);
                    verify(&packet);
                }
            }
        }
    }

    #[test]
    fn unlawful_packets_are_not_written() {
        let mixed = headers("192.0.2.1:5060", "[2001:db8::2]:5070", Tags::NONE);
        assert!(mixed.write(&mut [0; 100], |_| ()).is_none());
        for (source, destination) in PAIRS {
            let headers = headers(source, destination, Tags::NONE);
            assert!(
                headers
                    .write(&mut vec![0; headers.len() - 1], |_| ())
                    .is_none()
            );
            assert!(headers.write(&mut vec![0; 70_000], |_| ()).is_none());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Packet::new(&bytes);
        }

        #[test]
        fn no_mutation_makes_it_panic(six: bool, at in 0_usize..70, value: u8, cut in 0_usize..90) {
            let (source, destination) = PAIRS[usize::from(six)];
            let headers = headers(source, destination, Tags::NONE);
            let mut bytes = vec![0; headers.len() + 20];
            headers.write(&mut bytes, |payload| payload.fill(1)).expect("a lawful packet");
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut);
            let _ = Packet::new(&bytes);
        }
    }
}
