//! Peers that are given by name: looked up again and again, each address that a name has being one node.
//!
//! Where the DNS says nothing, the last answer stands; what it says no more is no peer any more.

use std::fmt;

use tracing::{info, warn};

use crate::datagram::Transport;
use crate::limits::NODE_NAMES_INTERVAL;
use crate::proxy::{Question, QuestionId};
use crate::replication::NodeAddress;
use crate::resolve::{Answer, Desk};
use crate::time::Instant;

/// A peer that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPeer {
    /// Its name.
    pub host: String,
    /// Its port; none: SRV says, or else 5060.
    pub port: Option<u16>,
    /// How it is spoken to.
    pub transport: Transport,
}

/// The named peers, and where they were found last.
#[derive(Debug)]
pub(super) struct Names {
    peers: Vec<(NamedPeer, Found)>,
    desk: Option<Desk>,
    is_ipv4: bool,
    next_ask: Instant,
}

#[derive(Debug, Default)]
struct Found {
    nodes: Vec<NodeAddress>,
    is_asked: bool,
    has_failed: bool,
}

impl Names {
    /// Has not asked yet. Addresses of the other family than ours are of no use.
    pub(super) fn new(peers: Vec<NamedPeer>, is_ipv4: bool) -> Self {
        let peers = peers.into_iter().map(|peer| (peer, Found::default()));
        Self {
            peers: peers.collect(),
            desk: None,
            is_ipv4,
            next_ask: Instant::EPOCH,
        }
    }

    /// Asks at this desk.
    pub(super) fn set_desk(&mut self, desk: Desk) {
        self.desk = Some(desk);
    }

    /// When [`Self::turn`] should next be called; there is an answer to take before.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        (!self.peers.is_empty()).then_some(self.next_ask)
    }

    pub(super) fn has_answer(&self) -> bool {
        self.desk.as_ref().is_some_and(|desk| !desk.is_empty())
    }

    /// Asks when it is time, and takes answers; says whether any name leads elsewhere now.
    pub(super) fn turn(&mut self, now: Instant) -> bool {
        let Some(desk) = &mut self.desk else {
            return false;
        };
        if now >= self.next_ask {
            self.next_ask = now + NODE_NAMES_INTERVAL;
            for (number, (peer, found)) in self.peers.iter_mut().enumerate() {
                let question = Question {
                    id: QuestionId(number as u64),
                    host: peer.host.as_bytes(),
                    port: peer.port,
                    transport: Some(peer.transport),
                };
                // Refused, it is asked the next time.
                found.is_asked = found.is_asked || desk.ask(&question).is_ok();
            }
        }
        let mut has_changed = false;
        while let Some(answer) = desk.take() {
            let place = usize::try_from(answer.id().0).unwrap_or(usize::MAX);
            if let Some((peer, found)) = self.peers.get_mut(place) {
                has_changed |= found.take(peer, &answer, self.is_ipv4);
            }
        }
        has_changed
    }

    /// Where the names lead.
    pub(super) fn nodes(&self) -> Vec<NodeAddress> {
        let mut nodes: Vec<NodeAddress> = Vec::new();
        for node in self.peers.iter().flat_map(|(_, found)| &found.nodes) {
            if !nodes.contains(node) {
                nodes.push(*node);
            }
        }
        nodes
    }
}

impl Found {
    fn take(&mut self, peer: &NamedPeer, answer: &Answer, is_ipv4: bool) -> bool {
        self.is_asked = false;
        let found = answer.destinations().iter();
        let found = found.filter(|found| found.address.is_ipv4() == is_ipv4);
        let mut nodes: Vec<NodeAddress> = found
            .map(|found| NodeAddress {
                transport: found.transport,
                socket: found.address,
            })
            .collect();
        // SRV's order is a lot: all of them are nodes.
        nodes.sort_unstable_by_key(|node| node.socket);
        let has_failed = nodes.is_empty();
        if has_failed && !std::mem::replace(&mut self.has_failed, true) {
            warn!(name = %peer, "a peer of the cluster has no address now; what it had stands");
        }
        if has_failed || nodes == self.nodes {
            return false;
        }
        info!(name = %peer, addresses = nodes.len(), "a peer of the cluster is looked up");
        (self.has_failed, self.nodes) = (false, nodes);
        true
    }
}

impl fmt::Display for NamedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}
