//! Packets: Ethernet with VLAN tags, IPv4, IPv6 and UDP, and the checksum that the last three share.
//!
//! Each file is one protocol: a view whose constructor checks every length once, so that its accessors cannot panic, and a
//! function that writes the header into a buffer. [`packet`] puts them together for what we send and receive. What the XDP
//! program passes to the kernel (options, fragments, extension headers) is refused here too: no view trusts that program.

#![forbid(unsafe_code)]

pub mod checksum;
pub mod ethernet;
pub mod ipv4;
pub mod ipv6;
pub mod packet;
pub mod udp;

use std::fmt;

/// Why bytes are not a packet that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A header or a payload ends after the bytes do.
    Truncated,
    /// More VLAN tags than two.
    Tags,
    /// An EtherType that is neither IPv4 nor IPv6.
    NotIp,
    /// The version field does not agree with the EtherType.
    Version,
    /// An IPv4 header with options, or shorter than a header is.
    Options,
    /// A fragment: only the kernel puts them together.
    Fragment,
    /// A length field that contradicts the others.
    Length,
    /// A wrong IPv4 header checksum.
    Checksum,
    /// A payload that is not UDP, or an extension header.
    NotUdp,
}

impl Malformed {
    /// The name of the cause.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Tags => "tags",
            Self::NotIp => "not_ip",
            Self::Version => "version",
            Self::Options => "options",
            Self::Fragment => "fragment",
            Self::Length => "length",
            Self::Checksum => "checksum",
            Self::NotUdp => "not_udp",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The protocol number of UDP in IPv4's protocol and IPv6's next header fields.
pub const PROTOCOL_UDP: u8 = 17;
