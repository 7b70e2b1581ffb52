//! Changes from other nodes on their way into the location: which of two states of a contact stays.
//!
//! States are ordered by (version, server_id, digest of the content), so that nodes that have seen the same states hold the same one,
//! in whatever order they came. Kamailio tells no version: when its change came, and when it says that the contact was saved, have to
//! do. `docs/cluster.md` has the rules in words.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::Location;
use super::aor::AorKey;
use super::binding::{Held, Stored};
use super::contact::{contact_hash, same_contact};
use super::contact_index::{ContactRef, Place};
use super::delta::{Delta, Deltas, Facts};
use super::homes::HomeId;
use super::replica::{Named, push_removal};
use super::rows::Row;
use super::ruid::{Origins, Ruid};
use super::shard::{Moved, Shard};
use super::tally::Tally;
use crate::limits::{CLOCK_AHEAD_MAX, EXPIRY_GRACE};
use crate::time::{Duration, Instant};

/// How a change is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// By the version that it bears.
    Version,
    /// As Kamailio's: by when it came; `skew` is how much older than ours it may say that it is.
    Arrival {
        /// Of the nodes' clocks.
        skew: Duration,
    },
    /// As Kamailio's answer to SYNC: by when it says that it was saved.
    Saved,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// It is what this node holds now.
    Taken,
    /// This node held just that.
    Same,
    /// This node holds what is newer.
    Older,
    /// Its time is over.
    Expired,
    /// The location holds all the bindings that it may.
    Full,
    /// Its version is of a time that has not come.
    Early,
}

/// What is held of a contact: of its binding or of its tombstone.
#[derive(Clone, Copy, Debug)]
struct State {
    version: u64,
    server_id: u16,
    digest: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Take(u64),
    Leave(Merge),
}

impl Judge {
    fn verdict(self, now: Instant, held: Option<State>, delta: &Delta<'_>) -> Verdict {
        let Facts {
            version, server_id, ..
        } = delta.facts;
        let content = || digest(&delta.row, &delta.facts, delta.is_removal());
        let saved_s = delta.row.modified.unix_s();
        match (self, held) {
            (Self::Version, _) if version > (now + CLOCK_AHEAD_MAX).as_micros() => {
                Verdict::Leave(Merge::Early)
            }
            (Self::Version, None) => Verdict::Take(version),
            (Self::Version, Some(held)) => {
                let (own, other) = (
                    (held.version, held.server_id, held.digest),
                    (version, server_id, content()),
                );
                match other.cmp(&own) {
                    std::cmp::Ordering::Greater => Verdict::Take(version),
                    std::cmp::Ordering::Equal => Verdict::Leave(Merge::Same),
                    std::cmp::Ordering::Less => Verdict::Leave(Merge::Older),
                }
            }
            (Self::Arrival { .. }, None) => Verdict::Take(now.as_micros()),
            // A removal names only AoR and ruid: it has the time at which it came.
            (Self::Arrival { .. }, Some(held)) if delta.is_removal() => {
                if held.digest == REMOVED {
                    Verdict::Leave(Merge::Same)
                } else if now.as_micros() > held.version {
                    Verdict::Take(now.as_micros())
                } else {
                    Verdict::Leave(Merge::Older)
                }
            }
            (Self::Arrival { skew }, Some(held)) => {
                let own_s = held.version / 1_000_000;
                if content() == held.digest {
                    Verdict::Leave(Merge::Same)
                } else if saved_s < own_s.saturating_sub(skew.as_secs()) {
                    Verdict::Leave(Merge::Older)
                } else {
                    Verdict::Take(now.as_micros().max(held.version + 1))
                }
            }
            (Self::Saved, None) => Verdict::Take(saved_s * 1_000_000),
            (Self::Saved, Some(held)) => {
                if saved_s > held.version / 1_000_000 {
                    Verdict::Take(saved_s * 1_000_000)
                } else {
                    Verdict::Leave(Merge::Same)
                }
            }
        }
    }
}

impl Location {
    /// Lets a change of another node in, where it is newer than what is held.
    pub fn merge(&self, now: Instant, delta: &Delta<'_>, judge: Judge) -> Merge {
        let (number, key) = self.key(delta.row.aor);
        let hash = contact_hash(&self.hasher, delta.row.contact);
        let mut moved = Moved::new();
        let mut shard = self.shards[number].0.lock();
        let merge = shard.merge(
            now,
            (key, hash),
            (delta, judge),
            &self.origins,
            &self.tally,
            &mut moved,
        );
        drop(shard);
        self.forget(&moved.freed);
        self.insert(&moved.added);
        merge
    }

    /// Copies what is held of the contact of a row, its tombstone too, so that a node that is behind can be told.
    pub fn state_of(&self, now: Instant, row: &Row<'_>, out: &mut Deltas) {
        let (number, key) = self.key(row.aor);
        let hash = contact_hash(&self.hasher, row.contact);
        let shard = self.shards[number].0.lock();
        shard.state_of(now, (key, hash), row, &self.origins, out);
    }
}

impl Shard {
    fn merge(
        &mut self,
        now: Instant,
        (key, hash): (AorKey<'_>, u32),
        (delta, judge): (&Delta<'_>, Judge),
        origins: &Origins,
        tally: &Tally,
        moved: &mut Moved,
    ) -> Merge {
        let contact = Named {
            ruid: origins.pack(delta.row.ruid),
            name: delta.row.ruid,
            uri: delta.row.contact,
        };
        let ruid = contact.ruid;
        let tombstone = self.replica.tombstone(key.text, contact);
        let buried = tombstone.map(|tombstone| State {
            version: tombstone.version,
            server_id: tombstone.server_id,
            digest: REMOVED,
        });
        let index = self.named_or_alike((key, hash), &delta.row, ruid);
        let states = index.and_then(|index| self.state_at(index)).into_iter();
        let held = states
            .chain(buried)
            .max_by_key(|state| (state.version, state.server_id, state.digest));
        let version = match judge.verdict(now, held, delta) {
            Verdict::Take(version) => version,
            Verdict::Leave(merge) => return merge,
        };
        let mut facts = Facts {
            version,
            ..delta.facts
        };
        if !facts.home.is_some() && !delta.row.is_ours {
            facts.home = index.map_or(HomeId::NONE, |index| self.replica.home(index));
        }
        self.replica.see(version);
        if delta.is_removal() {
            let stamp = (version, facts.server_id);
            self.replica.bury(key.text, contact, stamp, false);
            if let Some(index) = index {
                self.remove_elsewhere(now, index, facts, tally);
            }
            return Merge::Taken;
        }
        let grace = if delta.row.is_ours {
            Duration::ZERO
        } else {
            EXPIRY_GRACE
        };
        if delta.row.expires + grace <= now {
            return Merge::Expired;
        }
        let place = if let Some(index) = index {
            self.overwrite(index, &delta.row, (hash, ruid), tally, moved);
            index
        } else {
            let Some(place) = self.enter(key, &delta.row, hash, ruid, tally, moved) else {
                return Merge::Full;
            };
            if let Some(binding) = self.bindings.value_mut(place) {
                binding.stored = Stored::Never;
            }
            place
        };
        self.replica.set(place, facts);
        self.note_elsewhere(place);
        Merge::Taken
    }

    fn state_of(
        &self,
        now: Instant,
        (key, hash): (AorKey<'_>, u32),
        row: &Row<'_>,
        origins: &Origins,
        out: &mut Deltas,
    ) {
        let (name, uri) = (row.ruid, row.contact);
        let ruid = origins.pack(name);
        match self.named_or_alike((key, hash), row, ruid) {
            Some(index) if self.binding(index).is_some_and(|held| !held.removed) => {
                self.copy_to(now, index, origins, out);
            }
            Some(_) | None => {
                let contact = Named { ruid, name, uri };
                if let Some(tombstone) = self.replica.tombstone(key.text, contact) {
                    push_removal(tombstone, origins, out);
                }
            }
        }
    }

    /// The binding of a row's name, or that of its URI: the phone registered with two nodes at once, or with another one since.
    fn named_or_alike(
        &self,
        (key, hash): (AorKey<'_>, u32),
        row: &Row<'_>,
        ruid: Ruid,
    ) -> Option<u32> {
        let aor = self.find(key);
        let is_alike = |(_, binding): &(u32, Held<'_>)| {
            binding.contact_hash == hash && same_contact(binding.contact(), row.contact)
        };
        let alike = || self.bindings_of(aor).find(is_alike).map(|(index, _)| index);
        self.named(aor, row.ruid, ruid).or_else(alike)
    }

    fn state_at(&self, index: u32) -> Option<State> {
        let binding = self.binding(index)?;
        let facts = self.facts_of(index, binding);
        let row = Row {
            contact: binding.contact(),
            path: binding.path(),
            call_id: binding.call_id(),
            user_agent: binding.user_agent(),
            instance: binding.instance(),
            flow: binding.flow().unpack(),
            received: binding.received(),
            expires: binding.expires,
            q: binding.q(),
            cseq: binding.cseq,
            reg_id: binding.reg_id,
            ..Row::complete(b"")
        };
        Some(State {
            version: facts.version,
            server_id: facts.server_id,
            digest: digest(&row, &facts, binding.removed),
        })
    }

    fn remove_elsewhere(&mut self, now: Instant, index: u32, facts: Facts, tally: &Tally) {
        let Some(binding) = self.bindings.value_mut(index) else {
            return;
        };
        let was = !binding.removed;
        binding.evict(&mut self.texts, now);
        tally.note(was, false);
        self.replica.set(index, facts);
        self.note_elsewhere(index);
    }

    /// A binding becomes what another node says of it.
    fn overwrite(
        &mut self,
        index: u32,
        row: &Row<'_>,
        (hash, ruid): (u32, Ruid),
        tally: &Tally,
        moved: &mut Moved,
    ) {
        let place = Place::new(self.number(), index);
        let Some(binding) = self.bindings.value_mut(index) else {
            return;
        };
        let (was, stored) = (!binding.removed, binding.stored);
        binding.take_over(&mut self.texts, row, ruid);
        binding.stored = stored;
        let old = std::mem::replace(&mut binding.contact_hash, hash);
        if old != hash {
            moved.freed.push(ContactRef { hash: old, place });
            moved.added.push(ContactRef { hash, place });
        }
        tally.note(was, true);
    }

    /// What another node changed is its own to store where nodes share a store, unless it is this node's contact, or was taken over.
    fn note_elsewhere(&mut self, index: u32) {
        self.changed_elsewhere();
        let is_ours = |binding| self.is_ours(index, binding);
        if self.replica.stores_all() || self.binding(index).is_some_and(is_ours) {
            return self.note_row(index);
        }
        self.changed.unlist(&mut self.bindings, index);
        if let Some(binding) = self.bindings.value_mut(index) {
            binding.stored = Stored::Never;
        }
    }
}

/// What tells two contents apart: the same on every node, so without a key.
fn digest(row: &Row<'_>, facts: &Facts, is_removed: bool) -> u64 {
    if is_removed {
        return REMOVED;
    }
    let mut hasher = SipHasher13::new();
    for text in [
        row.contact,
        row.path,
        row.call_id,
        row.user_agent,
        row.instance,
    ] {
        hasher.write_usize(text.len());
        hasher.write(text);
    }
    if row.received {
        hasher.write_u16(row.flow.peer.port());
        match row.flow.peer.ip() {
            std::net::IpAddr::V4(ip) => hasher.write(&ip.octets()),
            std::net::IpAddr::V6(ip) => hasher.write(&ip.octets()),
        }
        hasher.write_u8(u8::from(row.flow.transport.is_reliable()));
    }
    hasher.write_u64(row.expires.unix_s());
    for number in [
        row.cseq,
        row.reg_id,
        u32::from(row.q.unwrap_or(u16::MAX)),
        facts.flags,
        facts.cflags,
        facts.methods,
    ] {
        hasher.write_u32(number);
    }
    hasher.finish().max(1)
}

/// The digest of what is removed: the least, so that at equal versions a contact outlives its removal on every node.
const REMOVED: u64 = 0;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::homes::Homes;
    use super::super::{Delta, Deltas, LocationSettings, ReplicaSettings, SweepCursor, Work};
    use super::*;
    use crate::datagram::{Flow, ListenerId, Transport};

    const START: Instant = Instant::from_micros(1_700_000_000_000_000);
    const SKEW: Judge = Judge::Arrival {
        skew: Duration::from_secs(1),
    };

    fn location(key: u8) -> Location {
        let settings = LocationSettings {
            hash_key: [key; 16],
            bindings_max: 100,
            contacts_max: 3,
        };
        Location::new(&settings).with_cluster(
            b"uloc-1-1-",
            ReplicaSettings {
                server_id: 1,
                nat_cflags: 64,
                tombstones_max: 65_536,
                stores_all: false,
            },
            Arc::new(Homes::new(1)),
        )
    }

    /// What one node says of a contact.
    #[derive(Clone, Debug)]
    struct Said {
        ruid: String,
        version: u64,
        server_id: u16,
        saved_s: u64,
        /// `None`: it is removed.
        cseq: Option<u32>,
    }

    impl Said {
        fn merge(&self, location: &Location, now: Instant, judge: Judge) -> Merge {
            let row = Row {
                work: if self.cseq.is_some() {
                    Work::Update
                } else {
                    Work::Delete
                },
                ruid: self.ruid.as_bytes(),
                contact: b"sip:a@192.0.2.7",
                call_id: b"call",
                flow: Flow {
                    listener: ListenerId(0),
                    transport: Transport::Udp,
                    peer: "198.51.100.7:40000".parse().expect("an address"),
                },
                received: true,
                is_ours: false,
                expires: START + Duration::from_secs(3_600),
                modified: Instant::from_micros(self.saved_s * 1_000_000),
                cseq: self.cseq.unwrap_or(0),
                ..Row::complete(b"alice")
            };
            let facts = Facts::own(self.version, self.server_id, 0);
            location.merge(now, &Delta { row, facts }, judge)
        }
    }

    /// The live contacts: name, CSeq, version and who gave it.
    fn held(location: &Location) -> Vec<(Vec<u8>, u32, u64, u16)> {
        let (mut cursor, mut out) = (SweepCursor::new(0, 1), Deltas::default());
        while !location.walk(START, &mut cursor, 0, 100, &mut out) {}
        let live = out.iter().filter(|delta| !delta.is_removal());
        live.map(|delta| {
            let facts = delta.facts;
            (
                delta.row.ruid.to_vec(),
                delta.row.cseq,
                facts.version,
                facts.server_id,
            )
        })
        .collect()
    }

    fn said(version: u64, server_id: u16, cseq: Option<u32>) -> Said {
        Said {
            ruid: format!("uloc-{server_id}-1-5"),
            version: START.as_micros() + version,
            server_id,
            saved_s: START.unix_s(),
            cseq,
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_order_all_end_with_the_greatest(
            states in proptest::collection::vec((0_u64..4, 2_u16..4, proptest::option::of(1_u32..4)), 1..8),
            shuffles in proptest::collection::vec(proptest::num::usize::ANY, 3..4),
        ) {
            let states: Vec<Said> = states.iter().map(|(v, s, c)| said(*v, *s, *c)).collect();
            let mut ends = Vec::new();
            for (n, shuffle) in shuffles.iter().enumerate() {
                let (mut states, location) = (states.clone(), location(u8::try_from(n).expect("few")));
                let len = states.len();
                states.rotate_left(shuffle % len);
                if shuffle / len % 2 == 1 {
                    states.reverse();
                }
                // Some come twice.
                for state in states.iter().chain(states.iter().take(shuffle % 3)) {
                    state.merge(&location, START, Judge::Version);
                }
                ends.push(held(&location));
            }
            proptest::prop_assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{:?}", ends);
        }
    }

    #[test]
    fn what_is_older_than_its_removal_does_not_come_back() {
        let location = location(1);
        assert_eq!(
            said(1, 2, Some(1)).merge(&location, START, Judge::Version),
            Merge::Taken
        );
        assert_eq!(
            said(3, 2, None).merge(&location, START, Judge::Version),
            Merge::Taken
        );
        assert_eq!(
            said(2, 2, Some(2)).merge(&location, START, Judge::Version),
            Merge::Older
        );
        // Nor under another name.
        assert_eq!(
            said(2, 3, Some(2)).merge(&location, START, Judge::Version),
            Merge::Older
        );
        assert_eq!(location.bindings(), 0);
        assert_eq!(
            said(4, 3, Some(2)).merge(&location, START, Judge::Version),
            Merge::Taken
        );
        assert_eq!(location.bindings(), 1);
    }

    #[test]
    fn kamailio_is_judged_by_when_it_came_and_by_what_it_says_was_saved() {
        let location = location(1);
        let now = START + Duration::from_secs(10);
        let mut kamailios = said(0, 0, Some(1));
        kamailios.saved_s = now.unix_s();
        assert_eq!(kamailios.merge(&location, now, SKEW), Merge::Taken);
        assert_eq!(held(&location)[0].2, now.as_micros());
        // The same content again is nothing; another of a second ago is newer, of two seconds ago older.
        assert_eq!(kamailios.merge(&location, now, SKEW), Merge::Same);
        kamailios.cseq = Some(2);
        kamailios.saved_s = now.unix_s() - 1;
        assert_eq!(kamailios.merge(&location, now, SKEW), Merge::Taken);
        assert_eq!(held(&location)[0].2, now.as_micros() + 1);
        kamailios.cseq = Some(3);
        kamailios.saved_s = now.unix_s() - 2;
        assert_eq!(kamailios.merge(&location, now, SKEW), Merge::Older);
        // Its answer to SYNC counts only with a later second.
        kamailios.saved_s = now.unix_s();
        assert_eq!(kamailios.merge(&location, now, Judge::Saved), Merge::Same);
        kamailios.saved_s = now.unix_s() + 1;
        assert_eq!(kamailios.merge(&location, now, Judge::Saved), Merge::Taken);
        assert_eq!(held(&location)[0].2, (now.unix_s() + 1) * 1_000_000);
        // Its removal has the time of its arrival.
        kamailios.cseq = None;
        assert_eq!(kamailios.merge(&location, now, SKEW), Merge::Older);
        let later = now + Duration::from_secs(2);
        assert_eq!(kamailios.merge(&location, later, SKEW), Merge::Taken);
        assert_eq!(kamailios.merge(&location, later, SKEW), Merge::Same);
        assert_eq!(location.bindings(), 0);
    }

    #[test]
    fn a_version_of_tomorrow_is_refused() {
        let location = location(1);
        let state = said(86_400_000_000, 2, Some(1));
        assert_eq!(state.merge(&location, START, Judge::Version), Merge::Early);
        assert_eq!(location.bindings(), 0);
    }
}
