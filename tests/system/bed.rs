//! The test bed: a server's namespace, the phones' namespaces, and a veth pair between them that stands for the NIC.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::namespace::Namespace;

/// What a bed is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Veth pairs, each to a phones' namespace of its own.
    pub(crate) links: u8,
    /// Receive and transmit queues of the server's end.
    pub(crate) queues: u8,
    /// Transmit queues of the phones' end: with one, every packet arrives on the server's queue 0.
    pub(crate) phone_queues: u8,
}

/// The namespaces of one test, joined.
#[derive(Debug)]
pub(crate) struct Bed {
    /// Where the server runs.
    pub(crate) server: Namespace,
    /// The ways to the phones, and the phones' namespaces.
    pub(crate) links: Vec<Link>,
}

/// One veth pair: the server's end in [`Bed::server`], the phones' end in a namespace of its own.
#[derive(Debug)]
pub(crate) struct Link {
    /// Where the phones run.
    pub(crate) phones: Namespace,
    /// The name of the server's end.
    pub(crate) interface: String,
    index: u8,
}

/// The family of addresses that a test runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Bed {
    /// Builds the bed and brings it up.
    pub(crate) fn new(shape: Shape) -> Self {
        let server = Namespace::new();
        let links = (0..shape.links)
            .map(|index| Link::new(&server, index, shape))
            .collect();
        Self { server, links }
    }

    /// The usual bed: one link, two queues at both ends.
    pub(crate) fn two_queues() -> Self {
        Self::new(Shape {
            links: 1,
            queues: 2,
            phone_queues: 2,
        })
    }

    /// A bed of one link whose packets all arrive on one queue.
    pub(crate) fn one_queue() -> Self {
        Self::new(Shape {
            links: 1,
            queues: 1,
            phone_queues: 1,
        })
    }

    /// The first link, which most tests use alone.
    pub(crate) fn link(&self) -> &Link {
        &self.links[0]
    }
}

impl Link {
    fn new(server: &Namespace, index: u8, shape: Shape) -> Self {
        let link = Self {
            phones: Namespace::new(),
            interface: format!("veth{index}"),
            index,
        };
        let Shape {
            queues,
            phone_queues,
            ..
        } = shape;
        server.ip(&format!(
            "link add {} numrxqueues {queues} numtxqueues {queues} type veth peer name {PHONE_INTERFACE} netns {} \
             numrxqueues {queues} numtxqueues {phone_queues}",
            link.interface,
            link.phones.name()
        ));
        for family in [Family::V4, Family::V6] {
            let (length, detection) = match family {
                Family::V4 => (24, ""),
                Family::V6 => (64, "nodad"),
            };
            server.ip(&format!(
                "addr add {}/{length} dev {} {detection}",
                link.server(family),
                link.interface
            ));
            link.phones.ip(&format!(
                "addr add {}/{length} dev {PHONE_INTERFACE} {detection}",
                link.phone(family)
            ));
        }
        server.ip(&format!("link set {} up", link.interface));
        link.phones.ip(&format!("link set {PHONE_INTERFACE} up"));
        link
    }

    /// The server's address on this link.
    pub(crate) fn server(&self, family: Family) -> IpAddr {
        self.address(family, 1)
    }

    /// The phones' address on this link.
    pub(crate) fn phone(&self, family: Family) -> IpAddr {
        self.address(family, 2)
    }

    /// Where the server listens on this link.
    pub(crate) fn sip(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.server(family), SIP_PORT)
    }

    /// Packets that each of the server's receive queues has seen since it was made.
    pub(crate) fn packets_by_queue(&self, server: &Namespace) -> Vec<u64> {
        let statistics =
            super::namespace::run(server.command("ethtool").args(["-S", &self.interface]));
        let mut by_queue = Vec::new();
        for line in statistics.lines() {
            let Some((name, value)) = line.trim().split_once(": ") else {
                continue;
            };
            // XDP redirects are counted apart from packets that went on to the stack.
            let Some(rest) = name.strip_prefix("rx_queue_") else {
                continue;
            };
            if let Some(queue) = rest.strip_suffix("_xdp_packets") {
                let queue: usize = queue.parse().expect("ethtool numbers its queues");
                by_queue.resize(by_queue.len().max(queue + 1), 0);
                by_queue[queue] += value.parse::<u64>().expect("ethtool counts packets");
            }
        }
        by_queue
    }

    fn address(&self, family: Family, host: u8) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(10, 77, self.index, host).into(),
            Family::V6 => {
                Ipv6Addr::new(0xfd77, self.index.into(), 0, 0, 0, 0, 0, host.into()).into()
            }
        }
    }
}

/// The name of the phones' end of every link.
pub(crate) const PHONE_INTERFACE: &str = "phone0";

/// The port that the server listens on.
pub(crate) const SIP_PORT: u16 = 5060;
