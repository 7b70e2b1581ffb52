//! Contacts: what changed here on its way to each node, what changed elsewhere on its way to the workers, and walks through the
//! location for a node that has nothing yet or missed something.

use super::contact::{Asked, Dialect, Reception};
use super::kdmq::Channel;
use super::node::{Node, Walking};
use super::parcel::{Errand, Parcel, Walk};
use super::scribe;
use super::session::{Item, Kind};
use super::{Cluster, NodeAddress, Output, name_hash};
use crate::counters::Counter;
use crate::limits::{
    CLUSTER_SLICE, CORRECTIONS_MAX, NODE_HELD_MAX, PARCEL_LEN, WALK_INTERVAL, WALK_PACE,
};
use crate::location::{Delta, Deltas, Home, Judge, Merge};
use crate::sip::message::Message;
use crate::time::Instant;

impl Cluster {
    /// Takes a parcel that a worker has done with.
    pub fn on_parcel(
        &mut self,
        now: Instant,
        worker: usize,
        mut parcel: Parcel,
        out: &mut impl Output,
    ) {
        match parcel.errand.clone() {
            Errand::Fresh => {
                self.spread(&parcel.deltas);
                parcel.clear();
                out.give(worker, parcel);
            }
            Errand::Walk(walk, cursor) => {
                self.on_walked(now, walk, &parcel.deltas);
                let goes_on = self.place_of(walk.node).and_then(|place| {
                    let walking = self.nodes.get_mut(place)?.walk.as_mut()?;
                    let is_same = walking.walk.number == walk.number;
                    is_same.then_some(walking)
                });
                if let Some(walking) = goes_on {
                    walking.is_out = false;
                    walking.cursor = cursor;
                    if walk.must_wait {
                        walking.not_before = now + WALK_INTERVAL;
                    }
                }
                self.end_share(now, walk);
                parcel.clear();
                out.give_back(parcel);
            }
            Errand::Merge { node, .. } => {
                self.on_merged(now, node, &parcel);
                parcel.clear();
                out.give_back(parcel);
            }
        }
        for place in 0..self.nodes.len() {
            self.pump(now, place, out);
        }
    }

    /// Contacts from a node: answered as soon as a worker has them.
    pub(super) fn on_contacts(
        &mut self,
        now: Instant,
        (from, place): (NodeAddress, usize),
        request: &Message<'_>,
        out: &mut impl Output,
    ) {
        self.body.clear();
        let Some(mut parcel) = out.blank() else {
            return self.counters.increment(Counter::ClusterDropBusy);
        };
        let asked = self
            .settings
            .reception
            .read(request.body(), &mut parcel.deltas);
        let Ok(asked) = asked else {
            parcel.clear();
            out.give_back(parcel);
            self.counters.increment(Counter::ClusterDropMalformed);
            return self.answer(now, from, request, (400, "Bad Request"), out);
        };
        match asked {
            Asked::Changes {
                refused,
                is_multi,
                is_versioned,
            } => {
                self.counters.increment(Counter::ClusterReceivedContacts);
                self.counters
                    .add(Counter::ClusterContactsRefused, refused as u64);
                let judge = self.judge(now, place, (is_multi, is_versioned), &parcel.deltas);
                self.house(place, judge, &mut parcel.deltas);
                self.publish_news(now);
                self.hand_over(place, judge, parcel, out);
            }
            Asked::Sync { since } => {
                out.give_back(parcel);
                self.on_sync(now, place, (request, since));
            }
            Asked::Nothing => out.give_back(parcel),
        }
        self.answer(now, from, request, (200, "OK"), out);
        self.pump(now, place, out);
    }

    /// A node wants everything. Its retransmission is no second wish; another wish begins anew.
    fn on_sync(&mut self, now: Instant, place: usize, (request, since): (&Message<'_>, u64)) {
        self.counters.increment(Counter::ClusterReceivedSync);
        let wish = name_hash(request.call_id());
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        if std::mem::replace(&mut node.last_sync, wish) != wish {
            // A walk from the beginning is begun anew; what only has a part of it to do follows the one that is under way.
            if since == 0 {
                node.walk = None;
            }
            node.walk_at = now;
            node.session.fall_behind(since);
            self.begin_walk(now, place);
        }
    }

    /// How what came from a node is judged.
    fn judge(
        &self,
        now: Instant,
        place: usize,
        (is_multi, is_versioned): (bool, bool),
        deltas: &Deltas,
    ) -> Judge {
        let node = self.nodes.get(place);
        if is_versioned && node.is_some_and(|node| node.dialect == Dialect::Strowger) {
            return Judge::Version;
        }
        // Kamailio with one contact a message: what is old and comes while it answers SYNC is of its answer.
        let answers = node.is_some_and(|node| node.session.has(Kind::Sync));
        let is_old = || {
            let fresh_s = now
                .unix_s()
                .saturating_sub(self.settings.skew.as_secs() + 1);
            let mut saved = deltas.iter().map(|delta| delta.row.modified.unix_s());
            saved.all(|saved_s| saved_s < fresh_s)
        };
        if is_multi || (answers && is_old()) {
            Judge::Saved
        } else {
            Judge::Arrival {
                skew: self.settings.skew,
            }
        }
    }

    /// Kamailio tells its changes of itself: what it does not say where it registered, registered there.
    fn house(&self, place: usize, judge: Judge, deltas: &mut Deltas) {
        let node = self.nodes.get(place);
        let is_live = matches!(judge, Judge::Arrival { .. });
        if let Some(node) = node.filter(|_| is_live) {
            deltas.house(self.settings.reception.homes.id_of(Home {
                server_id: 0,
                socket: Some((node.address.transport, node.address.socket)),
                is_told: false,
            }));
        }
    }

    fn hand_over(&mut self, place: usize, judge: Judge, mut parcel: Parcel, out: &mut impl Output) {
        let Some(node) = self
            .nodes
            .get_mut(place)
            .filter(|_| !parcel.deltas.is_empty())
        else {
            parcel.clear();
            return out.give_back(parcel);
        };
        node.tally.received += parcel.deltas.len() as u64;
        parcel.errand = Errand::Merge {
            node: node.address,
            judge,
        };
        // All of one node's by one worker, so that they keep their order.
        out.give(place % self.settings.workers.max(1), parcel);
    }

    /// What became of changes: counted, and what the node is behind with is sent to it.
    fn on_merged(&mut self, now: Instant, node: NodeAddress, parcel: &Parcel) {
        for merge in &parcel.merges {
            self.counters.increment(match merge {
                Merge::Taken => Counter::ClusterContactsTaken,
                Merge::Same => Counter::ClusterContactsSame,
                Merge::Older => Counter::ClusterContactsOlder,
                Merge::Expired => Counter::ClusterContactsExpired,
                Merge::Full => Counter::ClusterContactsFull,
                Merge::Early => Counter::ClusterContactsEarly,
            });
        }
        let place = self.place_of(node);
        let Some(node) = place.and_then(|place| self.nodes.get_mut(place)) else {
            return;
        };
        let second = now.unix_s();
        if node.corrections.0 != second {
            node.corrections = (second, 0);
        }
        let reception = &self.settings.reception;
        for delta in parcel.answers.iter() {
            if node.corrections.1 == CORRECTIONS_MAX {
                self.counters.increment(Counter::ClusterCorrectionsHeld);
                continue;
            }
            node.corrections.1 += 1;
            node.session
                .push(item(&delta, node.dialect, reception, false));
        }
    }

    /// What changed here goes to every node; one that is not there is behind with it.
    fn spread(&mut self, deltas: &Deltas) {
        let dialects = [Dialect::Kamailio, Dialect::Strowger];
        let mut written: [Vec<Item>; 2] = [Vec::new(), Vec::new()];
        for (dialect, items) in dialects.iter().zip(&mut written) {
            let is_spoken = |node: &Node| node.is_active() && node.dialect == *dialect;
            if self.nodes.iter().any(is_spoken) {
                let reception = &self.settings.reception;
                items.extend(
                    deltas
                        .iter()
                        .map(|delta| item(&delta, *dialect, reception, true)),
                );
            }
        }
        let oldest = deltas.iter().map(|delta| delta.facts.version).min();
        for node in &mut self.nodes {
            if !node.is_active() {
                oldest
                    .into_iter()
                    .for_each(|oldest| node.session.fall_behind(oldest));
                continue;
            }
            let items = usize::from(node.dialect == Dialect::Strowger);
            for item in written.get(items).into_iter().flatten() {
                node.session.push(item.clone());
            }
        }
    }

    /// Sends as many messages of contacts to a node as it may have, and has the walk for it go on where it takes more.
    pub(super) fn pump(&mut self, now: Instant, place: usize, out: &mut impl Output) {
        let (len_max, bytes_max) = (self.settings.contacts_max, self.settings.bytes_max);
        loop {
            let Some(node) = self.nodes.get_mut(place).filter(|node| node.is_active()) else {
                return;
            };
            let batch = node.session.next_batch(len_max, bytes_max);
            if batch.is_empty() {
                break;
            }
            self.body.clear();
            scribe::gather(batch.iter().map(|item| &*item.json), &mut self.body);
            self.request(
                now,
                place,
                (Channel::Usrloc, Kind::Contacts, 1),
                &batch,
                out,
            );
            self.body.clear();
        }
        self.walk_on(now, place, out);
    }

    /// Begins a walk for a node that is behind, and there.
    pub(super) fn begin_walk(&mut self, now: Instant, place: usize) {
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        if !node.is_active() || node.walk.is_some() || now < node.walk_at {
            return;
        }
        let Some(since) = node.session.take_behind() else {
            return;
        };
        self.number += 1;
        let micros = WALK_PACE.as_micros();
        let at_pace = |rate: u32| usize::try_from(u64::from(rate) * micros / 1_000_000);
        let paced = self.settings.walk_rate.and_then(|rate| at_pace(rate).ok());
        node.walk = Some(Walking {
            walk: Walk {
                node: node.address,
                number: self.number,
                since,
                worker: 0,
                is_over: false,
                must_wait: false,
                len_max: paced.map_or(PARCEL_LEN, |len| len.clamp(CLUSTER_SLICE, PARCEL_LEN)),
            },
            cursor: None,
            not_before: now,
            is_out: false,
            begun: now,
            sent: 0,
        });
        node.tally.walks += 1;
        self.counters.increment(Counter::ClusterWalks);
    }

    /// Asks a worker for the next slice, where the node takes more.
    fn walk_on(&mut self, now: Instant, place: usize, out: &mut impl Output) {
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        let has_room = node.session.waiting() < WAITING_LOW;
        let Some(walking) = node
            .walk
            .as_mut()
            .filter(|walking| !walking.is_out && has_room)
        else {
            return;
        };
        if walking.not_before > now {
            return;
        }
        let Some(mut parcel) = out.blank_for_walk() else {
            return;
        };
        walking.is_out = true;
        parcel.errand = Errand::Walk(walking.walk, walking.cursor.take());
        out.give(walking.walk.worker, parcel);
    }

    fn on_walked(&mut self, now: Instant, walk: Walk, deltas: &Deltas) {
        let place = self.place_of(walk.node);
        let Some(node) = place.and_then(|place| self.nodes.get_mut(place)) else {
            return;
        };
        let dialect = node.dialect;
        let Some(walking) = node.walk.as_mut() else {
            return;
        };
        if walking.walk.number != walk.number {
            return;
        }
        walking.note_sent(now, deltas.len(), self.settings.walk_rate);
        for delta in deltas.iter() {
            let item = item(&delta, dialect, &self.settings.reception, false);
            node.session.push(item);
        }
    }

    /// Goes on with the next worker's share; behind the last one the walk is over.
    fn end_share(&mut self, now: Instant, walk: Walk) {
        let workers = self.settings.workers;
        let place = self.place_of(walk.node);
        let Some(node) = place.and_then(|place| self.nodes.get_mut(place)) else {
            return;
        };
        let Some(walking) = node.walk.as_mut() else {
            return;
        };
        if walking.walk.number != walk.number || !walk.is_over {
            return;
        }
        (walking.walk.worker, walking.cursor) = (walk.worker + 1, None);
        if walking.walk.worker >= workers {
            node.walk = None;
            node.walk_at = now + WALK_INTERVAL;
        }
    }
}

fn item(delta: &Delta<'_>, dialect: Dialect, reception: &Reception, is_live: bool) -> Item {
    let mut json = Vec::with_capacity(512);
    scribe::write(reception, delta, dialect, &mut json);
    Item {
        json: json.into(),
        name: name_hash(delta.row.ruid),
        version: delta.facts.version,
        is_live,
    }
}

/// While fewer contacts wait for a node, a walk for it goes on.
const WAITING_LOW: usize = NODE_HELD_MAX / 4;
