//! How packets are carried: datagrams at the network's mercy, messages of a connection in their order.

use std::net::SocketAddr;
use std::rc::Rc;

use strowger::datagram::{Flow, ListenerId, Transport};

use super::super::message::find;
use super::super::network::corrupt;
use super::super::node::{Node, Packet};
use super::{Event, World};

impl World {
    pub(super) fn transmit(&mut self, packet: &Rc<Packet>, sender: Option<(usize, Flow)>) {
        if packet.transport == Transport::Tcp {
            return self.transmit_by_connection(packet, sender);
        }
        let agent = self
            .agents
            .iter()
            .position(|agent| agent.public == packet.to);
        let is_gone = agent.is_some_and(|agent| self.absent.contains(&agent))
            || (agent.is_none() && self.node_at(packet.to).is_none());
        if let Some((node, flow)) = sender.filter(|_| is_gone) {
            self.trace.packet(self.now, "is refused", packet);
            self.lose(packet);
            if self.random.chance(700) {
                let at = self.now + self.random.millis(1, 100);
                self.schedule(at, Event::Undelivered(node, flow, Rc::clone(&packet.bytes)));
            }
            return;
        }
        let fate = self
            .network
            .fate(self.now, packet.from, packet.to, &mut self.random);
        self.trace.packet(
            self.now,
            if fate.is_empty() {
                "is lost"
            } else {
                "is sent"
            },
            packet,
        );
        if fate.is_empty() {
            self.lose(packet);
        }
        let listener = self.listener_at(packet.to);
        for (at, is_corrupt) in fate {
            let mut copy = Packet {
                listener,
                ..(**packet).clone()
            };
            if is_corrupt {
                self.taint(&packet.bytes);
                copy.is_corrupt = true;
                copy.bytes = corrupt(&packet.bytes, &mut self.random).into();
            }
            self.schedule(at, Event::Packet(Rc::new(copy)));
        }
    }

    fn transmit_by_connection(&mut self, packet: &Rc<Packet>, sender: Option<(usize, Flow)>) {
        let is_gone =
            match (self.node_at(packet.to), sender) {
                (Some(node), _) => !self.nodes[node].is_up,
                (None, _) => !self.agents.iter().enumerate().any(|(number, agent)| {
                    agent.public == packet.to && !self.absent.contains(&number)
                }),
            };
        let breaks = is_gone || self.random.chance(5);
        let arrival = self
            .network
            .arrival(self.now, packet.from, packet.to, &mut self.random);
        let Some(at) = arrival.filter(|_| !breaks) else {
            self.trace.packet(self.now, "breaks its connection", packet);
            let ends = (packet.from, packet.to);
            self.network
                .disconnect(|a, b| (a, b) == ends || (b, a) == ends);
            self.lose(packet);
            if let Some((node, flow)) = sender {
                let at = self.now + self.random.millis(1, 500);
                self.schedule(at, Event::Undelivered(node, flow, Rc::clone(&packet.bytes)));
            }
            if let Some(call) = self.ledger.call_of(&packet.bytes) {
                self.ledger.record_mut(call).is_disturbed = true;
            }
            return;
        };
        self.trace.packet(self.now, "is sent", packet);
        for ends in [(packet.to, packet.from), (packet.from, packet.to)] {
            if self.node_at(ends.0).is_some() && !self.network.connections.contains(&ends) {
                self.network.connections.push(ends);
            }
        }
        let listener = self.listener_at(packet.to);
        let copy = Packet {
            listener,
            ..(**packet).clone()
        };
        self.schedule(at, Event::Packet(Rc::new(copy)));
    }

    pub(super) fn listener_at(&self, address: SocketAddr) -> ListenerId {
        let mut listeners = self.nodes.iter().flat_map(Node::listeners);
        let found = listeners.find(|(_, own)| *own == address);
        found.map_or(ListenerId(0), |(id, _)| id)
    }

    pub(super) fn lose(&mut self, packet: &Packet) {
        if let Some(call) = self.ledger.call_of(&packet.bytes) {
            let record = self.ledger.record_mut(call);
            record.lost += 1;
            let is_final = packet.bytes.starts_with(b"SIP/2.0 ")
                && packet.bytes.get(8).is_some_and(|class| *class >= b'2')
                && find(&packet.bytes, b" INVITE\r\n").is_some();
            record.lost_finals += u32::from(is_final);
        }
    }

    fn taint(&mut self, bytes: &[u8]) {
        if let Some(call) = self.ledger.call_of(bytes) {
            let record = self.ledger.record_mut(call);
            record.is_tainted = true;
            self.ledger.has_tainted_bindings |= record.method == "REGISTER";
        }
    }
}
