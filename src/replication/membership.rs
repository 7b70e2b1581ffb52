//! Who is there: the notification channel, and what a node's coming and going means.

use std::net::SocketAddr;

use super::contact::Dialect;
use super::kdmq::Channel;
use super::node::{Node, Status};
use super::session::Kind;
use super::{Cluster, Output, roster, start_and_number};
use crate::counters::Counter;
use crate::limits::{NODE_FORGET, NODES_MAX};
use crate::sip::message::Message;
use crate::time::{Duration, Instant};

impl Cluster {
    /// A list of nodes: it is answered with ours, and passed on as far as its sender wishes.
    pub(super) fn on_notification(
        &mut self,
        now: Instant,
        (from, place): (SocketAddr, usize),
        request: &Message<'_>,
        out: &mut impl Output,
    ) {
        self.counters
            .increment(Counter::ClusterReceivedNotification);
        self.activate(now, place);
        let learned = self.learn(now, request.body());
        self.write_roster();
        self.answer(from, request, (200, "OK"), out);
        let hops = request.max_forwards().unwrap_or(1).min(HOPS_MAX);
        if learned > 0 && hops > 1 {
            for place in 0..self.nodes.len() {
                if self.nodes.get(place).is_some_and(Node::is_active) {
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
            .filter(|node| node.next_ping <= now)
        else {
            return;
        };
        // Who is silent is looked for more often.
        let span = if node.status == Status::Active {
            self.settings.ping
        } else {
            self.settings.ping.min(LOST_PING)
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

    /// A node of our kind that was started anew has what its store had: what it had told some and not us is asked for.
    pub(super) fn note_epoch(&mut self, now: Instant, place: usize, branch: &[u8]) {
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        if node.dialect != Dialect::Strowger {
            return;
        }
        let Some((epoch, _)) = start_and_number(branch) else {
            return;
        };
        let before = node.epoch.replace(epoch);
        if before.is_some_and(|before| before != epoch) {
            node.sync_at = Some(now);
        }
    }

    /// A node answers, or speaks: it is sent what it missed, and asked for what we miss.
    pub(super) fn activate(&mut self, now: Instant, place: usize) {
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        let before = std::mem::replace(&mut node.status, Status::Active);
        // A node of our kind sends by itself what we missed of it.
        let must_ask = match before {
            Status::Pending => true,
            Status::Timeout => node.dialect == Dialect::Kamailio,
            Status::Active => false,
        };
        if must_ask {
            node.sync_at = Some(now);
        }
        self.count_nodes();
    }

    /// A node is silent: what it misses from now on is found again by its version.
    pub(super) fn lose(&mut self, place: usize) {
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        if node.status == Status::Active {
            node.status = Status::Timeout;
        }
        node.session.abandon();
        // It is looked for at once.
        node.next_ping = Instant::EPOCH;
        if let Some(walking) = node.walk.take() {
            node.session.fall_behind(walking.walk.since);
        }
        self.count_nodes();
    }

    /// The place of a node, which is made for it if it is not known.
    pub(super) fn know(&mut self, now: Instant, address: SocketAddr) -> Option<usize> {
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

    /// Learns the nodes of a list; gives how many it named.
    pub(super) fn learn(&mut self, now: Instant, list: &[u8]) -> usize {
        let mut named = 0;
        for node in roster::read(list) {
            named += 1;
            if node != self.settings.address && self.is_allowed(node.ip()) {
                // Whether it is active it has to show itself.
                let _ = self.know(now, node);
            }
        }
        named
    }

    fn notify(&mut self, now: Instant, place: usize, hops: u8, out: &mut impl Output) {
        self.write_roster();
        let kind = (Channel::Notification, Kind::Notification, hops);
        self.request(now, place, kind, &[], out);
        self.body.clear();
    }

    fn write_roster(&mut self) {
        let active = self.nodes.iter().filter(|node| node.is_active());
        let active = active.map(|node| node.address);
        self.body.clear();
        roster::write(self.settings.address, active, &mut self.body);
    }

    fn count_nodes(&self) {
        let active = self.nodes.iter().filter(|node| node.is_active()).count();
        self.counters
            .set(Counter::ClusterNodesActive, active as u64);
    }
}

/// How often a node that does not answer is looked for.
const LOST_PING: Duration = Duration::from_secs(1);
/// Further than this no list is passed on, whatever its sender wishes.
const HOPS_MAX: u8 = 3;
