//! The next hop of a request: what a URI says of where to send it, before and after its name is looked up (RFC 3263 4).

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::identity::{Identity, PORT_DEFAULT};
use crate::datagram::{Destination, Flow, ListenerId, Transport};
use crate::limits::DESTINATIONS_MAX;
use crate::sip::host::Host;
use crate::sip::uri::{Scheme, Uri};

/// Where a request is sent next.
#[derive(Clone, Copy, Debug)]
pub(super) enum NextHop<'a> {
    /// By this flow.
    Flow(Flow),
    /// To a name that must be looked up first.
    Name(Name<'a>),
}

/// A name to be looked up, and what the URI says beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'a> {
    /// The host.
    pub(super) host: &'a [u8],
    /// The port, where the URI has one.
    pub(super) port: Option<u16>,
    /// The transport, where the URI has one.
    pub(super) transport: Option<Transport>,
    /// Our listener to leave by, where it speaks the family that is found.
    pub(super) listener: ListenerId,
}

impl Identity {
    /// The next hop that a URI names, by `listener` where that speaks the family and transport, else by the first that does.
    /// `None` where we cannot go there: another scheme or transport than ours, or an address that nobody has.
    #[must_use]
    pub(super) fn next_hop<'a>(&self, uri: &Uri<'a>, listener: ListenerId) -> Option<NextHop<'a>> {
        if uri.scheme != Scheme::Sip {
            return None;
        }
        let transport = match uri.param(b"transport") {
            None => None,
            Some(value) => Some(named_transport(value?)?),
        };
        // RFC 3263 4: maddr, where there is one, is the target.
        let host = match uri.param(b"maddr") {
            Some(Some(maddr)) => Host::parse(maddr).ok()?,
            Some(None) | None => uri.host,
        };
        self.hop_to(&host, uri.port, transport, listener)
    }

    /// The next hop at a host.
    #[must_use]
    pub(super) fn hop_to<'a>(
        &self,
        host: &Host<'a>,
        port: Option<u16>,
        transport: Option<Transport>,
        listener: ListenerId,
    ) -> Option<NextHop<'a>> {
        let Some(ip) = host.ip() else {
            let Host::Name(host) = *host else { return None };
            return Some(NextHop::Name(Name {
                host,
                port,
                transport,
                listener,
            }));
        };
        let destination = Destination {
            // RFC 3263 4.1: of an address without a transport, UDP.
            transport: transport.unwrap_or(Transport::Udp),
            address: SocketAddr::new(ip, port.unwrap_or(PORT_DEFAULT)),
        };
        self.flow_to(&destination, listener).map(NextHop::Flow)
    }

    /// The flow to a destination, by `listener` where that speaks its family and transport, else by the first that does.
    #[must_use]
    pub(super) fn flow_to(&self, destination: &Destination, listener: ListenerId) -> Option<Flow> {
        if !is_unicast(destination.address) {
            return None;
        }
        self.listener_for(destination, listener)
            .map(|listener| Flow {
                listener,
                transport: destination.transport,
                peer: destination.address,
            })
    }
}

/// Destinations as a branch keeps them in the arena, in the order in which they are to be tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destinations {
    entries: [Option<Destination>; DESTINATIONS_MAX],
    len: usize,
}

impl Destinations {
    /// None.
    #[must_use]
    pub(super) const fn new() -> Self {
        Self {
            entries: [None; DESTINATIONS_MAX],
            len: 0,
        }
    }

    /// One.
    #[must_use]
    pub(super) fn one(destination: Destination) -> Self {
        let mut destinations = Self::new();
        destinations.push(destination);
        destinations
    }

    /// Adds one at the end; past [`DESTINATIONS_MAX`] it is left out.
    pub(super) fn push(&mut self, destination: Destination) {
        if let Some(entry) = self.entries.get_mut(self.len) {
            *entry = Some(destination);
            self.len += 1;
        }
    }

    /// How many there are.
    #[must_use]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The destinations in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Destination> + '_ {
        self.entries.iter().take(self.len).flatten().copied()
    }

    /// The first, and those behind it.
    #[must_use]
    pub(super) fn split_first(&self) -> Option<(Destination, Self)> {
        let mut all = self.iter();
        let first = all.next()?;
        let mut rest = Self::new();
        all.for_each(|destination| rest.push(destination));
        Some((first, rest))
    }

    /// Writes them to the front of `buffer`; gives what was written.
    #[must_use]
    pub(super) fn encode<'b>(&self, buffer: &'b mut [u8; ENCODED_LEN_MAX]) -> &'b [u8] {
        for (destination, entry) in self.iter().zip(buffer.chunks_exact_mut(ENTRY_LEN)) {
            entry.copy_from_slice(&encode(&destination));
        }
        buffer.get(..self.len * ENTRY_LEN).unwrap_or_default()
    }

    /// Reads what [`Self::encode`] wrote.
    #[must_use]
    pub(super) fn decode(bytes: &[u8]) -> Self {
        let mut destinations = Self::new();
        let (entries, _) = bytes.as_chunks::<ENTRY_LEN>();
        for entry in entries {
            destinations.push(decode(entry));
        }
        destinations
    }
}

/// A destination in bytes: transport and family, address, port.
pub(super) fn encode(destination: &Destination) -> [u8; ENTRY_LEN] {
    let (ip, scope, family) = match destination.address {
        SocketAddr::V4(address) => (address.ip().to_ipv6_mapped(), 0, V4),
        SocketAddr::V6(address) => (*address.ip(), address.scope_id(), 0),
    };
    let transport = match destination.transport {
        Transport::Udp => 0,
        Transport::Tcp => TCP,
    };
    let mut entry = [0; ENTRY_LEN];
    entry[0] = family | transport;
    entry[1..17].copy_from_slice(&ip.octets());
    entry[17..21].copy_from_slice(&scope.to_be_bytes());
    entry[21..].copy_from_slice(&destination.address.port().to_be_bytes());
    entry
}

/// Reads what [`encode`] wrote.
pub(super) fn decode(entry: &[u8; ENTRY_LEN]) -> Destination {
    let [kind, rest @ ..] = entry;
    let mut octets = [0; 16];
    octets.copy_from_slice(&rest[..16]);
    let scope = u32::from_be_bytes([rest[16], rest[17], rest[18], rest[19]]);
    let port = u16::from_be_bytes([rest[20], rest[21]]);
    let ip = Ipv6Addr::from(octets);
    let address = match ip.to_ipv4_mapped() {
        Some(ip) if kind & V4 != 0 => SocketAddr::new(IpAddr::V4(ip), port),
        Some(_) | None => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)),
    };
    let transport = if kind & TCP == 0 {
        Transport::Udp
    } else {
        Transport::Tcp
    };
    Destination { transport, address }
}

fn named_transport(name: &[u8]) -> Option<Transport> {
    [Transport::Udp, Transport::Tcp]
        .into_iter()
        .find(|transport| name.eq_ignore_ascii_case(transport.as_str().as_bytes()))
}

/// Whether an address is one that a message can be sent to: not the unspecified one, no group's, no port 0.
fn is_unicast(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast && address.port() != 0
}

/// The length of one destination in bytes.
pub(super) const ENTRY_LEN: usize = 1 + 16 + 4 + 2;
/// The length of as many as there may be.
pub(super) const ENCODED_LEN_MAX: usize = DESTINATIONS_MAX * ENTRY_LEN;

const V4: u8 = 1;
const TCP: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_come_back_as_they_were_kept() {
        let mut kept = Destinations::new();
        for (transport, address) in [
            (Transport::Udp, "192.0.2.1:5060"),
            (Transport::Tcp, "[2001:db8::1]:5061"),
            (Transport::Tcp, "[fe80::1%7]:1"),
            (Transport::Udp, "[::ffff:192.0.2.1]:9"),
        ] {
            kept.push(Destination {
                transport,
                address: address.parse().expect("an address"),
            });
        }
        let mut buffer = [0; ENCODED_LEN_MAX];
        let read = Destinations::decode(kept.encode(&mut buffer));
        assert!(read.iter().eq(kept.iter()));
        let (first, rest) = read.split_first().expect("four");
        assert_eq!(first.transport, Transport::Udp);
        assert_eq!(rest.iter().count(), 3);
    }

    #[test]
    fn nothing_is_sent_to_a_group_or_to_nobody() {
        for address in [
            "0.0.0.0:5060",
            "255.255.255.255:5060",
            "224.0.1.75:5060",
            "[ff02::1]:5060",
            "[::ffff:224.0.0.1]:5060",
            "192.0.2.1:0",
        ] {
            assert!(
                !is_unicast(address.parse().expect("an address")),
                "{address}"
            );
        }
        assert!(is_unicast("192.0.2.1:5060".parse().expect("an address")));
    }
}
