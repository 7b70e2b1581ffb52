//! The AF_XDP receiver of one queue: reads packets where they lie, and finds the listener that each is for.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::rx::RxHalf;
use crate::counters::{Counter, Counters};
use crate::datagram::{Datagram, Flow, ListenerId, Transport};
use crate::limits::BATCH;
use crate::net::device::Device;
use crate::net::port::{self, Backend, Intake, Link, Receiver};
use crate::prefetch;
use crate::time::Instant;
use crate::wire::packet::{HEADERS_LEN_MAX, Packet};

/// Serves every listener of an interface, on one of its queues.
#[derive(Debug)]
pub(in crate::net) struct XdpReceiver {
    half: RxHalf,
    demultiplexer: Demultiplexer,
    counters: Arc<Counters>,
}

/// What tells the packets of an interface apart.
#[derive(Clone, Debug)]
pub(in crate::net) struct Demultiplexer {
    device: Arc<Device>,
    listeners: Box<[(SocketAddr, ListenerId)]>,
    /// Every address that we listen on, by any interface.
    own: Arc<[IpAddr]>,
}

impl Demultiplexer {
    /// Makes one for the listeners of an interface; `own` are the addresses of all listeners.
    pub(in crate::net) fn new(
        device: Arc<Device>,
        listeners: Vec<(SocketAddr, ListenerId)>,
        own: Arc<[IpAddr]>,
    ) -> Self {
        Self {
            device,
            listeners: listeners.into(),
            own,
        }
    }

    /// Reads a packet: whence it came and by which listener, the way back, and its payload. `None` where it is not ours, or
    /// its source is none that could be answered.
    fn read<'a>(&self, bytes: &'a [u8]) -> Option<(Flow, Link, &'a [u8])> {
        let packet = Packet::new(bytes).ok()?;
        let destination = packet.destination;
        let (_, listener) = self.listeners.iter().find(|(address, _)| {
            address.port() == destination.port() && address.ip() == destination.ip()
        })?;
        let source = packet.source;
        if source.port() == 0 || !self.is_lawful_source(source.ip()) {
            return None;
        }
        let flow = Flow {
            listener: *listener,
            transport: Transport::Udp,
            peer: self.scoped(source),
        };
        let addressed = packet.frame.destination();
        let link = Link {
            peer: packet.frame.source(),
            own: if addressed.is_unicast() {
                addressed
            } else {
                self.device.mac()
            },
            tags: packet.frame.tags(),
            interface: self.device.index,
        };
        Some((flow, link, packet.payload))
    }

    /// Whether a packet may come from this address. The kernel asks the same of what it takes (RFC 1122 3.2.1.3), and the
    /// packet went past it. Our own address as the source would have us answer ourselves, for ever.
    fn is_lawful_source(&self, source: IpAddr) -> bool {
        let is_station = match source {
            IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
            IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
        };
        if self.device.is_loopback {
            return is_station;
        }
        let is_ours = self.own.contains(&source);
        is_station && !is_ours && !source.is_loopback()
    }

    /// A link-local peer's address with the interface that it means something on, as the kernel's socket gives it.
    fn scoped(&self, source: SocketAddr) -> SocketAddr {
        match source {
            SocketAddr::V6(mut source) if source.ip().is_unicast_link_local() => {
                source.set_scope_id(self.device.index);
                source.into()
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => source,
        }
    }
}

impl XdpReceiver {
    /// Makes one upon a socket's receiving half.
    pub(in crate::net) const fn new(
        half: RxHalf,
        demultiplexer: Demultiplexer,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            half,
            demultiplexer,
            counters,
        }
    }
}

impl Receiver for XdpReceiver {
    fn receive(&mut self, now: Instant, intake: &mut dyn Intake) -> usize {
        let taken = self.half.take();
        if taken == 0 {
            return 0;
        }
        // The kernel, or the device, wrote them: none is in our near caches.
        let beginning = |packet: &[u8]| packet.len().min(HEADERS_LEN_MAX);
        for packet in self.half.packets() {
            prefetch::bytes(&packet[..beginning(packet)]);
        }
        let mut batch = [const { None }; BATCH];
        let mut ours = 0;
        for (slot, packet) in batch.iter_mut().zip(self.half.packets()) {
            prefetch::bytes(&packet[beginning(packet)..]);
            *slot = self.demultiplexer.read(packet).map(|(flow, link, bytes)| {
                ours += 1;
                let datagram = Datagram {
                    bytes,
                    flow,
                    received_at: now,
                    handed_off: false,
                };
                (datagram, Some(link))
            });
        }
        port::present(intake, &mut batch);
        let dropped = taken - ours;
        self.half.give_back();
        self.counters.add(Counter::DropBadPacket, dropped as u64);
        taken
    }

    fn packets_lost(&self) -> u64 {
        super::socket::packets_lost(self.fd())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.half.fd()
    }

    fn backend(&self) -> Backend {
        Backend::AfXdp
    }

    fn frames_missing(&self) -> usize {
        self.half.missing()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::netlink::LinkState;
    use crate::wire::ethernet::{Mac, Tags};
    use crate::wire::packet::Headers;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn demultiplexer(is_loopback: bool) -> Demultiplexer {
        let state = LinkState {
            index: 7,
            name: "x".to_owned(),
            mac: Some(OWN),
            mtu: 1_500,
            is_loopback,
            is_up: true,
        };
        let listeners = vec![
            ("192.0.2.1:5060".parse().expect("an address"), ListenerId(0)),
            ("192.0.2.1:5080".parse().expect("an address"), ListenerId(1)),
            ("[fe80::1]:5060".parse().expect("an address"), ListenerId(2)),
        ];
        let own = ["192.0.2.1", "203.0.113.1"].map(|ip| ip.parse().expect("an address"));
        Demultiplexer::new(Arc::new(Device::new(&state, 1)), listeners, own.into())
    }

    fn packet(destination_mac: Mac, source: &str, destination: &str) -> Vec<u8> {
        let headers = Headers {
            destination_mac,
            source_mac: PEER,
            tags: Tags::NONE,
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
            identification: 0,
        };
        let mut bytes = vec![0; headers.len() + 4];
        headers
            .write(&mut bytes, |payload| payload.copy_from_slice(b"ping"))
            .expect("lawful");
        bytes
    }

    #[test]
    fn a_packet_finds_its_listener_and_the_way_back() {
        let bytes = packet(OWN, "192.0.2.9:1234", "192.0.2.1:5080");
        let (flow, link, payload) = demultiplexer(false).read(&bytes).expect("ours");
        assert_eq!(flow.listener, ListenerId(1));
        assert_eq!(flow.peer, "192.0.2.9:1234".parse().expect("an address"));
        assert_eq!((link.own, link.peer, link.interface), (OWN, PEER, 7));
        assert_eq!(payload, b"ping");
    }

    #[test]
    fn a_broadcast_frame_is_answered_from_our_own_mac() {
        let bytes = packet(Mac([0xFF; 6]), "192.0.2.9:1234", "192.0.2.1:5060");
        let (_, link, _) = demultiplexer(false).read(&bytes).expect("ours");
        assert_eq!(link.own, OWN);
    }

    #[test]
    fn a_link_local_peer_gets_its_scope() {
        let bytes = packet(OWN, "[fe80::9]:1234", "[fe80::1]:5060");
        let (flow, ..) = demultiplexer(false).read(&bytes).expect("ours");
        assert_eq!(flow.peer, "[fe80::9%7]:1234".parse().expect("an address"));
    }

    #[test]
    fn what_is_not_ours_and_what_nobody_could_have_sent_is_dropped() {
        let demultiplexer = demultiplexer(false);
        for (source, destination) in [
            ("192.0.2.9:1234", "192.0.2.1:5061"),
            ("192.0.2.9:1234", "192.0.2.2:5060"),
            ("192.0.2.9:0", "192.0.2.1:5060"),
            ("192.0.2.1:5060", "192.0.2.1:5060"),
            ("203.0.113.1:5060", "192.0.2.1:5060"),
            ("0.0.0.0:1234", "192.0.2.1:5060"),
            ("224.0.0.1:1234", "192.0.2.1:5060"),
            ("255.255.255.255:1234", "192.0.2.1:5060"),
            ("127.0.0.1:1234", "192.0.2.1:5060"),
            ("[::1]:1234", "[fe80::1]:5060"),
            ("[ff02::1]:1234", "[fe80::1]:5060"),
        ] {
            assert!(
                demultiplexer
                    .read(&packet(OWN, source, destination))
                    .is_none(),
                "{source}"
            );
        }
    }

    #[test]
    fn on_the_loopback_interface_our_own_address_is_a_peer() {
        let bytes = packet(Mac([0; 6]), "192.0.2.1:1234", "192.0.2.1:5060");
        assert!(demultiplexer(true).read(&bytes).is_some());
    }
}
