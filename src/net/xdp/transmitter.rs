//! The AF_XDP transmitter of one queue: decides whether a message can leave in a frame, and writes it there.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::frame::Frame;
use super::tx::TxHalf;
use crate::datagram::ListenerId;
use crate::limits::PACKET_LEN_MAX;
use crate::net::device::Device;
use crate::net::neighbor::{Lookup, Neighbors};
use crate::net::port::Link;
use crate::wire::ethernet::{HEADER_LEN, TAG_LEN, Tags};
use crate::wire::packet::Headers;

/// Sends for every listener of an interface, on one of its queues.
#[derive(Debug)]
pub(in crate::net) struct XdpTransmitter {
    half: TxHalf,
    device: Arc<Device>,
    neighbors: Arc<Neighbors>,
    /// IPv4's identification of the next packet.
    identification: u16,
}

/// Whether a message can leave in a frame.
#[derive(Debug)]
pub(in crate::net) enum Way {
    /// It can.
    Frame(Prepared),
    /// The kernel is to send it: it is too long, or no frame of ours goes there, or none is free.
    Kernel,
    /// As `Kernel`, since the next hop is not yet known.
    Miss,
}

/// A frame and the headers that go into it.
#[derive(Debug)]
pub(in crate::net) struct Prepared {
    frame: Frame,
    headers: Headers,
}

impl XdpTransmitter {
    /// Makes one upon a socket's sending half. `seed` sets the identifications of this queue's packets apart from others'.
    pub(in crate::net) const fn new(
        half: TxHalf,
        device: Arc<Device>,
        neighbors: Arc<Neighbors>,
        seed: u16,
    ) -> Self {
        Self {
            half,
            device,
            neighbors,
            identification: seed,
        }
    }

    /// Finds the way of a message of `len` bytes from `source`, the listener's address, to `peer`: back by `link`, if that
    /// is given, else by what the neighbour cache knows.
    pub(in crate::net) fn prepare(
        &mut self,
        listener: ListenerId,
        source: SocketAddr,
        peer: SocketAddr,
        link: Option<Link>,
        len: usize,
    ) -> Way {
        let link = link.filter(|link| link.interface == self.device.index);
        let (destination_mac, source_mac, tags, mtu) = if let Some(link) = link {
            (link.peer, link.own, link.tags, self.device.mtu())
        } else {
            match self.look_up(listener, peer) {
                Lookup::Known { mac, mtu } => (
                    mac,
                    self.device.mac(),
                    Tags::NONE,
                    self.device.mtu().min(mtu),
                ),
                Lookup::Kernel => return Way::Kernel,
                Lookup::Unknown => return Way::Miss,
            }
        };
        let headers = Headers {
            destination_mac,
            source_mac,
            tags,
            source,
            destination: peer,
            identification: self.identification,
        };
        if !fits(headers.len().saturating_add(len), tags, mtu) {
            return Way::Kernel;
        }
        let Some(frame) = self.half.acquire() else {
            return Way::Kernel;
        };
        self.identification = self.identification.wrapping_add(1);
        Way::Frame(Prepared { frame, headers })
    }

    /// Sends what was prepared, with a payload of `len` bytes, as many as it was prepared for. `None`: it was not sent.
    pub(in crate::net) fn send(
        &mut self,
        prepared: Prepared,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Option<()> {
        let Prepared { frame, headers } = prepared;
        self.half.send(frame, headers.len() + len, |packet| {
            headers.write(packet, write)
        })
    }

    /// Makes the kernel send what waits, and takes back the frames that it is done with.
    pub(in crate::net) fn flush(&mut self) {
        self.half.flush();
    }

    /// Whether nothing waits for [`XdpTransmitter::flush`].
    pub(in crate::net) fn is_idle(&self) -> bool {
        self.half.is_idle()
    }

    /// How many frames are not free.
    pub(in crate::net) fn outstanding(&self) -> usize {
        self.half.outstanding()
    }

    /// Asks the neighbour cache; what it does not know, its thread will.
    fn look_up(&self, listener: ListenerId, peer: SocketAddr) -> Lookup {
        let ip: IpAddr = peer.ip();
        self.neighbors.look_up(listener, ip)
    }
}

/// Whether a packet of `len` bytes fits a frame and the path. One VLAN tag travels outside the MTU, as for the kernel.
fn fits(len: usize, tags: Tags, mtu: usize) -> bool {
    let link_header = HEADER_LEN + tags.len().min(TAG_LEN);
    len <= PACKET_LEN_MAX && len.saturating_sub(link_header) <= mtu
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ethernet::Tag;

    #[test]
    fn the_mtu_counts_the_packet_and_the_second_tag() {
        let tag = Tag {
            protocol: 0x8100,
            control: 1,
        };
        assert!(fits(1_514, Tags::NONE, 1_500));
        assert!(!fits(1_515, Tags::NONE, 1_500));
        assert!(fits(1_518, Tags::one(tag), 1_500));
        assert!(!fits(1_519, Tags::one(tag), 1_500));
        assert!(!fits(1_522, Tags::two(tag, tag), 1_500));
        assert!(fits(3_840, Tags::NONE, 9_000));
        assert!(!fits(3_841, Tags::NONE, 9_000));
        assert!(!fits(usize::MAX, Tags::NONE, usize::MAX));
    }
}
