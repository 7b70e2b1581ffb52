//! rtnetlink: links, addresses, routes and neighbours, asked for and listened to.
//!
//! The kernel answers a request within the `send` that makes it, so an answer is read without waiting. What the kernel says
//! in ways that the parser does not know is passed over; a lost event is an [`Event::Lost`], and whoever caches then forgets.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's enums are the kernel's and grow with it"
)]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::wire::ethernet::Mac;

/// What the kernel says about an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkState {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Option<Mac>,
    pub(super) mtu: u32,
    pub(super) is_loopback: bool,
    /// Whether it is switched on and has a carrier.
    pub(super) is_up: bool,
}

/// The kernel's answer to "how is this address reached?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// The interface it goes out by.
    pub(super) interface: u32,
    /// The router, or the destination itself where it is on the link.
    pub(super) next_hop: IpAddr,
    /// The path's MTU where it is known to be narrower than the interface's.
    pub(super) mtu: Option<u32>,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A neighbour can be reached by a MAC address now, or by none.
    Neighbor {
        interface: u32,
        address: IpAddr,
        mac: Option<Mac>,
    },
    /// Routes to a prefix changed.
    Route { prefix: IpAddr, len: u8 },
    /// An interface changed, or appeared.
    Link(LinkState),
    /// Addresses or rules changed: every route may have.
    Routes,
    /// The kernel had more to say than fitted: anything may have changed.
    Lost,
}

/// A socket for requests.
#[derive(Debug)]
pub(super) struct Requests {
    socket: Socket,
    sequence: u32,
}

impl Requests {
    /// Opens one in the calling thread's network namespace.
    pub(super) fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// All interfaces.
    pub(super) fn links(&mut self) -> io::Result<Vec<LinkState>> {
        let get = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.ask(get, NLM_F_DUMP)?;
        Ok(answers.iter().filter_map(link_state).collect())
    }

    /// The index of the interface that carries an address.
    pub(super) fn interface_of(&mut self, address: IpAddr) -> io::Result<Option<u32>> {
        let get = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        for answer in self.ask(get, NLM_F_DUMP)? {
            let RouteNetlinkMessage::NewAddress(message) = answer else {
                continue;
            };
            let carries = message.attributes.iter().any(|attribute| {
                matches!(attribute, AddressAttribute::Local(is) | AddressAttribute::Address(is) if *is == address)
            });
            // On a point-to-point link `Address` is the peer's and `Local` ours.
            let is_peer = message.attributes.iter().any(
                |attribute| matches!(attribute, AddressAttribute::Local(local) if *local != address),
            );
            if carries && !is_peer {
                return Ok(Some(message.header.index));
            }
        }
        Ok(None)
    }

    /// The unicast addresses of this host that others can reach it by, its loopback ones too; link-local ones are left out,
    /// since they mean nothing without an interface.
    pub(super) fn addresses(&mut self) -> io::Result<Vec<IpAddr>> {
        let get = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let mut addresses = Vec::new();
        for answer in self.ask(get, NLM_F_DUMP)? {
            let RouteNetlinkMessage::NewAddress(message) = answer else {
                continue;
            };
            let is_link_local = message.header.scope == AddressScope::Link;
            let own = message.attributes.iter().find_map(|attribute| {
                if let AddressAttribute::Local(own) = attribute {
                    Some(*own)
                } else {
                    None
                }
            });
            // IPv6 has `Address` alone.
            let own = own.or_else(|| {
                message.attributes.iter().find_map(|attribute| {
                    if let AddressAttribute::Address(own) = attribute {
                        Some(*own)
                    } else {
                        None
                    }
                })
            });
            addresses.extend(own.filter(|_| !is_link_local));
        }
        Ok(addresses)
    }

    /// How a destination is reached from one of our addresses; `None` where it is not a unicast one, or not to be reached,
    /// or by a tunnel: the kernel is to send what goes there.
    pub(super) fn route(
        &mut self,
        destination: IpAddr,
        source: IpAddr,
        interface: Option<u32>,
    ) -> io::Result<Option<Route>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = address_bits(destination);
        message.header.source_prefix_length = address_bits(source);
        message
            .attributes
            .push(RouteAttribute::Destination(destination.into()));
        message
            .attributes
            .push(RouteAttribute::Source(source.into()));
        message
            .attributes
            .extend(interface.map(RouteAttribute::Oif));
        let answers = match self.ask(RouteNetlinkMessage::GetRoute(message), 0) {
            Ok(answers) => answers,
            Err(error) if is_unreachable(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let route = answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(message) => route_of(message, destination),
            _ => None,
        });
        Ok(route)
    }

    /// The MAC address by which a neighbour can be reached, if the kernel knows one.
    pub(super) fn neighbor(&mut self, interface: u32, address: IpAddr) -> io::Result<Option<Mac>> {
        let get = RouteNetlinkMessage::GetNeighbour(neighbor_message(interface, address));
        let answers = match self.ask(get, 0) {
            Ok(answers) => answers,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(message) => mac_of(message),
            _ => None,
        }))
    }

    /// Tells the kernel that a neighbour is in use: it resolves one that it does not know, and confirms a stale one.
    pub(super) fn use_neighbor(&mut self, interface: u32, address: IpAddr) -> io::Result<()> {
        let mut message = neighbor_message(interface, address);
        message.header.flags = NeighbourFlags::Use;
        self.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE)
            .map(|_| ())
    }

    /// Sends one request and reads what answers it. Without `NLM_F_DUMP` a request that is not answered by a message is
    /// acknowledged by an error of zero, which this asks for, so the answer always has an end.
    fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        if flags & NLM_F_DUMP != NLM_F_DUMP {
            request.header.flags |= netlink_packet_core::NLM_F_ACK;
        }
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answers = Vec::new();
        let mut buffer = Vec::with_capacity(RECEIVE_LEN);
        loop {
            buffer.clear();
            self.socket.recv(&mut buffer, libc::MSG_DONTWAIT)?;
            for bytes in messages(&buffer) {
                let Ok(answer) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) else {
                    continue;
                };
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
            }
        }
    }
}

/// A socket that hears of changes.
#[derive(Debug)]
pub(super) struct Events {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Events {
    /// Opens one in the calling thread's network namespace, subscribed to neighbours, routes, rules, addresses and links.
    pub(super) fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        for group in [
            libc::RTNLGRP_NEIGH,
            libc::RTNLGRP_LINK,
            libc::RTNLGRP_IPV4_ROUTE,
            libc::RTNLGRP_IPV6_ROUTE,
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV6_IFADDR,
            libc::RTNLGRP_IPV4_RULE,
            libc::RTNLGRP_IPV6_RULE,
            RTNLGRP_NEXTHOP,
        ] {
            socket.add_membership(group)?;
        }
        // A burst of changes fits; what does not fit is an `Event::Lost`. An unprivileged process gets what it is allowed.
        let _ = socket.set_rx_buf_sz(EVENT_BUFFER_LEN);
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(RECEIVE_LEN),
        })
    }

    /// Calls `each` for everything that has happened since the last time.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Event)) {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => {
                    for bytes in messages(&self.buffer) {
                        if let Some(event) = event(bytes) {
                            each(event);
                        }
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => each(Event::Lost),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The messages of one datagram.
fn messages(mut buffer: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = usize::try_from(NetlinkBuffer::new_checked(buffer).ok()?.length()).ok()?;
        let message = buffer.get(..len).filter(|message| !message.is_empty())?;
        // Messages begin at multiples of four.
        buffer = buffer.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// What a message of the kernel's own accord means.
fn event(bytes: &[u8]) -> Option<Event> {
    let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) else {
        // Not understood: of neighbours or routes it may be anything.
        let kind = NetlinkBuffer::new_checked(bytes).ok()?.message_type();
        let may_matter = matches!(
            kind,
            libc::RTM_NEWROUTE
                | libc::RTM_DELROUTE
                | libc::RTM_NEWNEIGH
                | libc::RTM_DELNEIGH
                | RTM_NEWNEXTHOP
                | RTM_DELNEXTHOP
        );
        return may_matter.then_some(Event::Lost);
    };
    let NetlinkPayload::InnerMessage(message) = message.payload else {
        return None;
    };
    match message {
        RouteNetlinkMessage::NewNeighbour(message) => {
            let mac = mac_of(&message);
            neighbor_event(&message, mac)
        }
        RouteNetlinkMessage::DelNeighbour(message) => neighbor_event(&message, None),
        RouteNetlinkMessage::NewRoute(message) | RouteNetlinkMessage::DelRoute(message) => {
            route_event(&message)
        }
        RouteNetlinkMessage::NewAddress(_)
        | RouteNetlinkMessage::DelAddress(_)
        | RouteNetlinkMessage::NewRule(_)
        | RouteNetlinkMessage::DelRule(_)
        | RouteNetlinkMessage::DelLink(_) => Some(Event::Routes),
        other => link_state(&other).map(Event::Link),
    }
}

/// A neighbour's change; `None` for the forwarding tables of bridges, which come by the same group.
fn neighbor_event(message: &NeighbourMessage, mac: Option<Mac>) -> Option<Event> {
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                Some(IpAddr::V4(*address))
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                Some(IpAddr::V6(*address))
            }
            _ => None,
        })?;
    Some(Event::Neighbor {
        interface: message.header.ifindex,
        address,
        mac,
    })
}

/// A route's change.
fn route_event(message: &RouteMessage) -> Option<Event> {
    let default = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let prefix = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(address) => ip_of(address),
            _ => None,
        });
    Some(Event::Route {
        prefix: prefix.unwrap_or(default),
        len: message.header.destination_prefix_length,
    })
}

/// An interface, if that is what the message is about.
fn link_state(message: &RouteNetlinkMessage) -> Option<LinkState> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let mut state = LinkState {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        is_loopback: message.header.flags.contains(LinkFlags::Loopback),
        is_up: message
            .header
            .flags
            .contains(LinkFlags::Up | LinkFlags::LowerUp),
    };
    for attribute in &message.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            state.name.clone_from(name);
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            state.mtu = *mtu;
        } else if let LinkAttribute::Address(bytes) = attribute {
            state.mac = mac(bytes);
        }
    }
    Some(state)
}

/// The route in an answer, if frames of ours can take it.
fn route_of(message: &RouteMessage, destination: IpAddr) -> Option<Route> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut interface = None;
    let mut next_hop = destination;
    let mut mtu = None;
    for attribute in &message.attributes {
        if let RouteAttribute::Oif(index) = attribute {
            interface = Some(*index);
        } else if let RouteAttribute::Gateway(address) = attribute {
            next_hop = ip_of(address)?;
        } else if let RouteAttribute::Via(via) = attribute {
            next_hop = match via {
                RouteVia::Inet(address) => (*address).into(),
                RouteVia::Inet6(address) => (*address).into(),
                _ => return None,
            };
        } else if let RouteAttribute::Metrics(metrics) = attribute {
            mtu = metrics.iter().find_map(|metric| match metric {
                RouteMetric::Mtu(mtu) => Some(*mtu),
                _ => None,
            });
        } else if matches!(
            attribute,
            RouteAttribute::EncapType(_) | RouteAttribute::Encap(_)
        ) {
            return None;
        }
    }
    Some(Route {
        interface: interface?,
        next_hop,
        mtu,
    })
}

/// The MAC address of a neighbour whom the kernel would send to: a stale one is good until it is found to be wrong.
fn mac_of(message: &NeighbourMessage) -> Option<Mac> {
    let usable = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac(bytes),
            _ => None,
        })
        .filter(|mac| usable && mac.is_unicast())
}

/// A request about one neighbour.
fn neighbor_message(interface: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = interface;
    message
        .attributes
        .push(NeighbourAttribute::Destination(match address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        }));
    message
}

/// Whether the kernel says that there is no way, and not that something went wrong.
fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL | libc::ENODEV)
    )
}

/// An address family by its number.
const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// The length of an address in bits.
const fn address_bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The IP address in a route's attribute.
const fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// A MAC address, if the link has such addresses.
fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok().map(Mac)
}

/// The group and the messages of next-hop objects, of linux/rtnetlink.h.
const RTNLGRP_NEXTHOP: u32 = 32;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// What one `recv` takes: the kernel fills at most 32 KiB of a dump.
const RECEIVE_LEN: usize = 64 * 1024;

/// What the kernel keeps of changes that we have not read yet.
const EVENT_BUFFER_LEN: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_by_its_address() {
        let mut requests = Requests::new().expect("a socket");
        let links = requests.links().expect("a dump");
        let lo = links
            .iter()
            .find(|link| link.name == "lo")
            .expect("there always is one");
        assert!(lo.is_loopback);
        assert!(lo.mtu > 0);
        let localhost = "127.0.0.1".parse().expect("an address");
        assert_eq!(
            requests.interface_of(localhost).expect("a dump"),
            Some(lo.index)
        );
        let nobody = "203.0.113.77".parse().expect("an address");
        assert_eq!(requests.interface_of(nobody).expect("a dump"), None);
    }

    #[test]
    fn what_is_local_has_no_next_hop() {
        let mut requests = Requests::new().expect("a socket");
        let localhost = "127.0.0.1".parse().expect("an address");
        assert_eq!(
            requests
                .route(localhost, localhost, None)
                .expect("an answer"),
            None
        );
    }

    #[test]
    fn rubbish_holds_no_message() {
        assert_eq!(messages(&[0; 40]).count(), 0);
        assert_eq!(messages(&[0xFF; 40]).count(), 0);
        assert_eq!(messages(&[1; 3]).count(), 0);
    }
}
