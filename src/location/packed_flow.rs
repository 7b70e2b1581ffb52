//! A [`Flow`] in 24 bytes, as what is copied out of the location has one; in eight, as every binding keeps it, and the address beside it
//! where it is none of IPv4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::texts::ADDRESS_LEN;
use crate::datagram::{Flow, ListenerId, Transport};
use crate::limits::KEEPALIVE_SILENT_MAX;

/// A flow without the padding of the standard library's addresses. An IPv6 flow label is not kept: it is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedFlow {
    address: [u8; 16],
    scope: u32,
    port: u16,
    listener: u8,
    kind: u8,
}

/// A flow without its address, or with one of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BriefFlow {
    v4: [u8; 4],
    port: u16,
    listener: u8,
    kind: u8,
}

/// An address that is none of IPv4, and its scope; of IPv4, nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct SplitAddress {
    bytes: [u8; ADDRESS_LEN],
    len: usize,
}

impl BriefFlow {
    /// Of what has none yet.
    pub(super) const NONE: Self = Self {
        v4: [0; 4],
        port: 0,
        listener: 0,
        kind: V4,
    };

    pub(super) fn received(self) -> bool {
        self.kind & RECEIVED != 0
    }

    pub(super) fn is_foreign(self) -> bool {
        self.kind & FOREIGN != 0
    }

    /// The flow with a note of how many OPTIONS in a row were sent by it and not answered, [`SILENT_MAX`] at the most.
    pub(super) fn with_silence(mut self, silent: u8) -> Self {
        self.kind = self.kind & !SILENT | silent.min(SILENT_MAX) << SILENT_SHIFT;
        self
    }

    pub(super) fn silence(self) -> u8 {
        self.kind >> SILENT_SHIFT
    }
}

impl SplitAddress {
    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl PackedFlow {
    /// What stands in a binding, and what must stand beside it.
    pub(super) fn split(self) -> (BriefFlow, SplitAddress) {
        let [.., a, b, c, d] = self.address;
        let is_v4 = self.kind & V4 != 0;
        let brief = BriefFlow {
            v4: if is_v4 { [a, b, c, d] } else { [0; 4] },
            port: self.port,
            listener: self.listener,
            kind: self.kind,
        };
        let mut bytes = [0; ADDRESS_LEN];
        bytes[..16].copy_from_slice(&self.address);
        bytes[16..].copy_from_slice(&self.scope.to_be_bytes());
        let len = if is_v4 { 0 } else { ADDRESS_LEN };
        (brief, SplitAddress { bytes, len })
    }

    /// The whole of what [`Self::split`] gave.
    pub(super) fn join(brief: BriefFlow, beside: &[u8]) -> Self {
        let (address, scope) = match beside.split_first_chunk::<16>() {
            Some((address, scope)) => {
                let scope = scope.first_chunk().copied().unwrap_or_default();
                (*address, u32::from_be_bytes(scope))
            }
            None => (Ipv4Addr::from(brief.v4).to_ipv6_mapped().octets(), 0),
        };
        Self {
            address,
            scope,
            port: brief.port,
            listener: brief.listener,
            kind: brief.kind,
        }
    }

    pub(super) fn pack(flow: &Flow) -> Self {
        let (address, scope, family) = match flow.peer {
            SocketAddr::V4(peer) => (peer.ip().to_ipv6_mapped().octets(), 0, V4),
            SocketAddr::V6(peer) => (peer.ip().octets(), peer.scope_id(), 0),
        };
        let transport = match flow.transport {
            Transport::Udp => 0,
            Transport::Tcp => TCP,
        };
        Self {
            address,
            scope,
            port: flow.peer.port(),
            listener: flow.listener.0,
            kind: family | transport,
        }
    }

    /// The flow with a mark of what it is to the binding: the way back, whatever its contact says.
    pub(super) fn with_received(mut self, received: bool) -> Self {
        self.kind = self.kind & !RECEIVED | if received { RECEIVED } else { 0 };
        self
    }

    pub(super) fn received(self) -> bool {
        self.kind & RECEIVED != 0
    }

    /// The flow with a mark of whose it is: another server's, which alone may keep it alive.
    pub(super) fn with_foreign(mut self, foreign: bool) -> Self {
        self.kind = self.kind & !FOREIGN | if foreign { FOREIGN } else { 0 };
        self
    }

    pub(super) fn is_foreign(self) -> bool {
        self.kind & FOREIGN != 0
    }

    #[inline]
    pub(super) fn unpack(self) -> Flow {
        let [.., a, b, c, d] = self.address;
        let peer = if self.kind & V4 != 0 {
            SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), self.port)
        } else {
            let ip = Ipv6Addr::from(self.address);
            SocketAddr::V6(SocketAddrV6::new(ip, self.port, 0, self.scope))
        };
        let transport = if self.kind & TCP == 0 {
            Transport::Udp
        } else {
            Transport::Tcp
        };
        Flow {
            listener: ListenerId(self.listener),
            transport,
            peer,
        }
    }
}

const V4: u8 = 1;
const TCP: u8 = 2;
const RECEIVED: u8 = 4;
const FOREIGN: u8 = 8;
/// The upper half of the octet.
const SILENT: u8 = 0xf0;
const SILENT_SHIFT: u32 = 4;
/// The longest silence that is told from a longer one.
const SILENT_MAX: u8 = KEEPALIVE_SILENT_MAX;

const _: () = assert!(SILENT_MAX == SILENT >> SILENT_SHIFT);

const _: () = assert!(size_of::<PackedFlow>() == 24 && size_of::<BriefFlow>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_comes_back_as_it_went_in() {
        for peer in [
            "192.0.2.1:5060",
            "[2001:db8::1]:5061",
            "[fe80::1%7]:5060",
            "[::ffff:192.0.2.1]:1",
        ] {
            for transport in [Transport::Udp, Transport::Tcp] {
                let flow = Flow {
                    listener: ListenerId(3),
                    transport,
                    peer: peer.parse().expect("an address"),
                };
                let packed = PackedFlow::pack(&flow).with_received(true);
                assert_eq!((packed.unpack(), packed.received()), (flow, true));
                assert!(!packed.with_received(false).received());
                let (brief, address) = packed.split();
                assert!(brief.received());
                assert_eq!(PackedFlow::join(brief, address.as_slice()), packed);
                assert_eq!(brief.with_silence(200).with_silence(3).silence(), 3);
                let silent = PackedFlow::join(brief.with_silence(15), address.as_slice());
                assert_eq!((silent.unpack(), silent.received()), (flow, true));
                assert!(!packed.is_foreign() && packed.with_foreign(true).is_foreign());
                assert!(packed.with_foreign(true).split().0.is_foreign());
            }
        }
    }
}
