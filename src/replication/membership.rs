//! Who is there: the notification channel, and what a node's coming and going means.

use super::contact::Dialect;
use super::kdmq::Channel;
use super::node::{Node, Status};
use super::roster::Said;
use super::session::Kind;
use super::{Cluster, NodeAddress, Output, roster};
use crate::counters::Counter;
use crate::datagram::Transport;
use crate::limits::{NODE_FORGET, NODE_LISTS_MAX, NODES_MAX};
use crate::sip::message::Message;
use crate::time::{Duration, Instant};

impl Cluster {
    /// A list of nodes: it is answered with ours, and passed on as far as its sender wishes.
    pub(super) fn on_notification(
        &mut self,
        now: Instant,
        (from, place): (NodeAddress, usize),
        request: &Message<'_>,
        out: &mut impl Output,
    ) {
        self.counters
            .increment(Counter::ClusterReceivedNotification);
        self.activate(now, place);
        let learned = self.learn(now, place, request.body());
        let transport = self.nodes.get(place).map(|node| node.address.transport);
        self.write_roster(transport.unwrap_or(from.transport));
        self.answer(now, from, request, (200, "OK"), out);
        let hops = request.max_forwards().unwrap_or(1).min(HOPS_MAX);
        if learned > 0 && hops > 1 {
            // Whoever sends lists without end has no more of them on their way than these.
            let may_be_told = |node: &Node| {
                node.is_active() && node.session.count(Kind::Notification) < NODE_LISTS_MAX
            };
            for place in 0..self.nodes.len() {
                if self.nodes.get(place).is_some_and(may_be_told) {
                    self.notify(now, place, hops - 1, out);
                }
            }
        }
    }

    /// Shows a node that we are there, when it is time.
    pub(super) fn ping(&mut self, now: Instant, place: usize, out: &mut impl Output) {
        let Some(node) = self
            .nodes
            .get_mut(place)
            .filter(|node| node.next_ping <= now && !self.is_leaving)
        else {
            return;
        };
        // Who is silent is looked for more often; who left comes back by himself.
        let span = match node.status {
            Status::Active | Status::Disabled => self.settings.ping,
            Status::NotActive | Status::Timeout => self.settings.ping.min(LOST_PING),
        };
        node.next_ping = now + span;
        if node.session.has(Kind::Notification) {
            return;
        }
        let is_lost = !node.is_seed && node.status != Status::Active;
        if is_lost && now > node.last_heard.max(node.learned_at) + NODE_FORGET {
            node.next_ping = now + NODE_FORGET;
            return;
        }
        // A node that never answered is told to pass us on.
        let hops = if node.status == Status::Active { 1 } else { 2 };
        self.notify(now, place, hops, out);
    }

    /// Notes that a node spoke, and of what kind it is.
    pub(super) fn hear(&mut self, now: Instant, place: usize, is_strowger: bool) {
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        node.last_heard = now;
        node.dialect = if is_strowger {
            Dialect::Strowger
        } else {
            Dialect::Kamailio
        };
    }

    /// A node answers, or speaks: it is sent what it missed, and asked for what we miss.
    pub(super) fn activate(&mut self, now: Instant, place: usize) {
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        let before = std::mem::replace(&mut node.status, Status::Active);
        match before {
            Status::Active => return,
            // What changed there a node of our kind sends by itself; not what others told it.
            Status::Timeout | Status::Disabled if node.dialect == Dialect::Strowger => {
                let heard = node.lost_at;
                self.want_what_was_missed(now, place, heard);
            }
            Status::NotActive | Status::Timeout | Status::Disabled => {
                // What changes while it does not count us in comes neither with its answer nor by itself.
                let patience = if node.lists_us {
                    Duration::from_micros(0)
                } else {
                    UNLISTED_PATIENCE
                };
                node.want(now + patience, 0);
            }
        }
        self.count_nodes();
        self.publish(now);
    }

    /// Notes whether a node counts us in: a Kamailio sends its changes to the nodes of its list alone, and does not send later what it
    /// left out.
    fn note_listed(&mut self, now: Instant, place: usize, is_listed: bool) {
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        let was_listed = std::mem::replace(&mut node.lists_us, is_listed);
        let may_ask = node.dialect == Dialect::Kamailio || node.sync_at.is_some();
        if is_listed && !was_listed && may_ask {
            node.sync_at = Some(now);
        }
    }

    /// A node leaves: what it misses from now on is found again by its version.
    fn dismiss(&mut self, now: Instant, place: usize) {
        self.lose(now, place);
        if let Some(node) = self.nodes.get_mut(place) {
            node.status = Status::Disabled;
            (node.sync_at, node.lists_us) = (None, false);
            node.next_ping = node.last_heard + self.settings.ping;
        }
        self.publish(now);
    }

    /// A node is silent: what it misses from now on is found again by its version.
    pub(super) fn lose(&mut self, now: Instant, place: usize) {
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        let was_there = node.status == Status::Active;
        if was_there {
            (node.status, node.lost_at) = (Status::Timeout, node.last_heard);
        }
        node.session.abandon();
        if node.status != Status::Disabled {
            // It is looked for at once.
            node.next_ping = Instant::EPOCH;
        }
        if let Some(walking) = node.walk.take() {
            node.session.fall_behind(walking.walk.since);
        }
        if was_there {
            self.want_from_others(now, place);
            self.publish(now);
        }
        self.count_nodes();
    }

    /// The place of a node, which is made for it if it is not known.
    pub(super) fn know(&mut self, now: Instant, address: NodeAddress) -> Option<usize> {
        if let Some(place) = self.place_of(address) {
            return Some(place);
        }
        if self.nodes.len() < NODES_MAX {
            self.nodes.push(Node::new(now, address, false));
            return Some(self.nodes.len() - 1);
        }
        // The one that was silent for longest makes room.
        let silent = self.nodes.iter().enumerate();
        let silent = silent.filter(|(_, node)| !node.is_seed && node.status != Status::Active);
        let (place, _) = silent.min_by_key(|(_, node)| node.last_heard)?;
        *self.nodes.get_mut(place)? = Node::new(now, address, false);
        Some(place)
    }

    /// Learns the nodes of the list of the node at `place`; gives how many it named.
    pub(super) fn learn(&mut self, now: Instant, place: usize, list: &[u8]) -> usize {
        let sender = self.nodes.get(place).map(|node| node.address);
        let (mut named, mut is_listed, mut leaves) = (0, false, false);
        for (node, said) in roster::read(list) {
            named += 1;
            let is_there = said == Said::Active;
            if node.socket == self.settings.address {
                is_listed |= is_there;
            } else if Some(node) == sender {
                leaves |= !is_there;
            } else if is_there && self.is_of_family(node) && self.is_allowed(node.ip()) {
                // Whether it is active it has to show itself.
                let _ = self.know(now, node);
            }
        }
        if leaves {
            self.dismiss(now, place);
        } else if named > 0 {
            self.note_listed(now, place, is_listed);
        }
        named
    }

    /// The configuration's names lead to these nodes now; to those that they led to before they do no more.
    pub fn set_named_seeds(&mut self, now: Instant, named: &[NodeAddress]) {
        let fixed = &self.settings.seeds;
        for node in &mut self.nodes {
            node.is_seed = fixed.contains(&node.address) || named.contains(&node.address);
        }
        let allow = &self.settings.allow;
        let is_listened_to = |node: &Node| allow.iter().any(|net| net.contains(&node.address.ip()));
        self.nodes
            .retain(|node| node.is_seed || is_listened_to(node));
        for seed in named {
            let is_own = seed.socket == self.settings.address;
            if !is_own && self.place_of(*seed).is_none() && self.nodes.len() < NODES_MAX {
                self.nodes.push(Node::new(now, *seed, true));
            }
        }
        self.count_nodes();
    }

    pub(super) fn notify(&mut self, now: Instant, place: usize, hops: u8, out: &mut impl Output) {
        let Some(transport) = self.nodes.get(place).map(|node| node.address.transport) else {
            return;
        };
        self.write_roster(transport);
        let kind = (Channel::Notification, Kind::Notification, hops);
        self.request(now, place, kind, &[], out);
        self.body.clear();
    }

    /// Whether we can speak to it at all.
    fn is_of_family(&self, node: NodeAddress) -> bool {
        node.socket.is_ipv4() == self.settings.address.is_ipv4()
    }

    fn write_roster(&mut self, transport: Transport) {
        let active = self.nodes.iter().filter(|node| node.is_active());
        let active = active.map(|node| node.address);
        self.body.clear();
        let own = super::own(&self.settings, transport);
        if self.is_leaving {
            roster::write_farewell(own, &mut self.body);
        } else {
            roster::write(own, active, &mut self.body);
        }
    }

    fn count_nodes(&self) {
        let active = self.nodes.iter().filter(|node| node.is_active()).count();
        self.counters
            .set(Counter::ClusterNodesActive, active as u64);
    }
}

/// How often a node that does not answer is looked for.
const LOST_PING: Duration = Duration::from_secs(1);
/// How long a node may leave us out of its list before it is asked for everything all the same.
const UNLISTED_PATIENCE: Duration = Duration::from_secs(1);
/// Further than this no list is passed on, whatever its sender wishes.
const HOPS_MAX: u8 = 3;
