//! Whose contacts are whose: which nodes are there and so act for their contacts, and how those who stay find out what one that is
//! gone had told only some of them.

use super::contact::Dialect;
use super::kdmq::{self, Channel};
use super::node::{Node, Status};
use super::session::Kind;
use super::{Cluster, Output};
use crate::limits::{HOMES_SETTLED, NODE_FORGET};
use crate::location::{Home, Standing};
use crate::sip::message::Message;
use crate::time::{Duration, Instant};

/// Who a node of our kind says that it is, in the tags of its messages: they are all of its own making, and no Kamailio reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Tells one start of it from every other.
    pub(super) epoch: u64,
    /// Its number.
    pub(super) server_id: u16,
}

impl Identity {
    /// The tag of a message; `number` is another in each.
    pub(super) fn tag(self, number: u64) -> String {
        format!("{number:x}-{:016x}-{:x}", self.epoch, self.server_id)
    }

    fn of(tag: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(tag).ok()?.split('-').skip(1);
        let epoch = u64::from_str_radix(parts.next()?, 16).ok()?;
        let server_id = u16::from_str_radix(parts.next()?, 16).ok()?;
        Some(Self { epoch, server_id })
    }
}

impl Cluster {
    /// Who we are.
    pub(super) fn identity(&self) -> Identity {
        Identity {
            epoch: self.settings.epoch,
            server_id: self.settings.server_id,
        }
    }

    /// Learns from a message, before it counts as heard, who its node is. One that has started anew may have told only some of us what it said last.
    pub(super) fn introduce(&mut self, now: Instant, place: usize, message: &Message<'_>) {
        let tag = if message.is_request() {
            message.from_tag()
        } else {
            message.to_tag()
        };
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        let said = tag.and_then(Identity::of);
        let Some(said) = said.filter(|_| kdmq::is_strowger(message)) else {
            node.identity = None;
            return;
        };
        let before = node.identity.replace(said);
        if before == Some(said) {
            return;
        }
        // Nor need we have met the one before: what it told others, and not us, is theirs to tell.
        if before.is_none_or(|before| before.epoch != said.epoch) {
            self.want_from_others(now, place);
            if let Some(node) = self.nodes.get_mut(place) {
                node.missing_since = None;
                if before.is_some() {
                    // What it has of its store it may have told nobody, or us by half.
                    node.want(now, 0);
                }
            }
        }
        self.publish(now);
    }

    /// Has the others tell what they have had since this node was last heard of: it may have told them, and not us.
    pub(super) fn want_from_others(&mut self, now: Instant, place: usize) {
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        let heard = node.missing_since.unwrap_or(node.last_heard);
        node.missing_since = Some(now);
        node.next_inquiry = now + INQUIRY_INTERVAL;
        let since = since(heard);
        for (other, node) in self.nodes.iter_mut().enumerate() {
            if other != place && node.is_active() && node.dialect == Dialect::Strowger {
                node.want(now, since);
            }
        }
    }

    /// While a node is lost to us it may live for others: one of them is asked now and then what it has told.
    pub(super) fn inquire(&mut self, now: Instant, place: usize) {
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        let is_lost = node.status == Status::Timeout && node.last_heard + NODE_FORGET > now;
        if !is_lost || now < node.next_inquiry {
            return;
        }
        node.next_inquiry = now + INQUIRY_INTERVAL;
        let heard = node.missing_since.replace(now).unwrap_or(node.last_heard);
        let since = since(heard);
        let turn = usize::try_from(now.as_micros() / INQUIRY_INTERVAL.as_micros()).unwrap_or(0);
        let others: Vec<usize> = (0..self.nodes.len())
            .filter(|other| {
                let node = self.nodes.get(*other);
                node.is_some_and(|node| node.is_active() && node.dialect == Dialect::Strowger)
            })
            .collect();
        let asked = others.get(turn % others.len().max(1));
        if let Some(node) = asked.and_then(|asked| self.nodes.get_mut(*asked)) {
            node.want(now, since);
        }
    }

    /// A node of our kind is back: it is asked for what it had while it was lost, whoever told it.
    pub(super) fn want_what_was_missed(&mut self, now: Instant, place: usize, heard: Instant) {
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        node.missing_since = None;
        if node.dialect == Dialect::Strowger {
            node.want(now, since(heard));
        }
    }

    /// Tells the workers who is there.
    pub(super) fn publish(&mut self, now: Instant) {
        self.next_publish = now + PUBLISH_INTERVAL;
        let there = self.nodes.iter().filter(|node| node.is_active());
        let mut members: Vec<u16> = there
            .filter_map(|node| Some(node.identity?.server_id))
            .chain([self.settings.server_id])
            .filter(|id| *id != 0)
            .collect();
        members.sort_unstable();
        members.dedup();
        let homes = &self.settings.reception.homes;
        homes.publish(&members, |home| self.standing(now, home));
    }

    /// Tells them now and then, since rows of the store name homes, too.
    pub(super) fn publish_in_time(&mut self, now: Instant) {
        if self.next_publish <= now {
            self.publish(now);
        }
    }

    /// Tells them at once where a node has named a home that nobody knew: a call may follow upon its first contact.
    pub(super) fn publish_news(&mut self, now: Instant) {
        if self.settings.reception.homes.take_news() {
            self.publish(now);
        }
    }

    /// How a home stands: by its node's number, or else by its address.
    fn standing(&self, now: Instant, home: &Home) -> Standing {
        if home.server_id != 0 && home.server_id == self.settings.server_id {
            return Standing::Own;
        }
        let is_named = |node: &&Node| {
            let said = node.identity.map(|said| said.server_id);
            home.server_id != 0 && said == Some(home.server_id)
        };
        let address = home.socket.map(|(_, address)| address);
        let is_exactly_there = |node: &&Node| Some(node.address.socket) == address;
        let is_there =
            |node: &&Node| address.is_some_and(|address| node.address.ip() == address.ip());
        let mut nodes = self.nodes.iter();
        let node = nodes
            .clone()
            .find(is_named)
            .or_else(|| nodes.clone().find(is_exactly_there))
            .or_else(|| nodes.find(is_there));
        let is_settled = now >= self.started + HOMES_SETTLED;
        match node.map(|node| (node.status, node.dialect)) {
            Some((Status::Active, Dialect::Strowger)) => Standing::Strowger,
            Some((Status::Active, Dialect::Kamailio)) => Standing::Kamailio,
            Some((Status::Timeout | Status::Disabled, _)) => Standing::Gone,
            Some((Status::NotActive, _)) | None if is_settled => Standing::Gone,
            Some((Status::NotActive, _)) | None => Standing::Unknown,
        }
    }

    /// Asks a node for what we miss, when it is time: a Kamailio for everything, once, since each time it answers anew.
    pub(super) fn ask(&mut self, now: Instant, place: usize, out: &mut impl Output) {
        let is_due = |node: &&mut Node| node.ask_due().is_some_and(|due| due <= now);
        let Some(node) = self.nodes.get_mut(place).filter(is_due) else {
            return;
        };
        (node.sync_at, node.asked_at) = (None, now);
        let since = std::mem::take(&mut node.sync_since);
        node.sync_asked = if node.session.has(Kind::Inquiry) {
            node.sync_asked.min(since)
        } else {
            since
        };
        self.body.clear();
        let kind = match node.dialect {
            Dialect::Kamailio => Kind::Sync,
            Dialect::Strowger => Kind::Inquiry,
        };
        if node.dialect == Dialect::Strowger && since > 0 {
            let body = format!("{{\"action\":3,\"since\":{since}}}");
            self.body.extend_from_slice(body.as_bytes());
        } else {
            self.body.extend_from_slice(b"{\"action\":3}");
        }
        self.request(now, place, (Channel::Usrloc, kind, 1), &[], out);
        self.body.clear();
    }
}

impl Node {
    /// It was asked in vain.
    pub(super) fn want_again(&mut self, now: Instant) {
        self.want(now, self.sync_asked);
    }

    /// Has it asked, at once, for what has at least this version; of several wishes the farthest counts.
    pub(super) fn want(&mut self, now: Instant, since: u64) {
        self.sync_since = match self.sync_at {
            Some(_) => self.sync_since.min(since),
            None => since,
        };
        self.sync_at = Some(self.sync_at.map_or(now, |at| at.min(now)));
    }
}

/// From which version on something may be missing, where a node was heard of last at `heard`: its clock may differ from ours, and what
/// it had to say may have waited.
fn since(heard: Instant) -> u64 {
    let margin = REPAIR_MARGIN.as_micros();
    heard.as_micros().saturating_sub(margin).max(1)
}

/// How far back it is asked for what a lost node may have told others alone: messages are given up after 10 s, clocks may differ by seconds.
const REPAIR_MARGIN: Duration = Duration::from_secs(30);
/// How often one of the others is asked what a lost node has told it.
const INQUIRY_INTERVAL: Duration = Duration::from_secs(5);
/// How often the workers are told who is there, where nothing is known to have changed.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_by_its_tags_and_no_kamailio_is_taken_for_one() {
        let identity = Identity {
            epoch: 0xfedc_ba98_7654_3210,
            server_id: 300,
        };
        let tag = identity.tag(77);
        assert_eq!(tag, "4d-fedcba9876543210-12c");
        assert_eq!(Identity::of(tag.as_bytes()), Some(identity));
        for other in ["", "a1b2c3", "1-2", "1-x-3", "1-2-70000", "\u{fe}"] {
            let found = Identity::of(other.as_bytes());
            assert_eq!(found, None, "{other}");
        }
    }
}
