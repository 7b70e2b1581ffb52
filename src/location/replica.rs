//! A shard's part in a cluster: a version for each binding, what changed here and no node was told of yet, and what was removed.
//!
//! Without a cluster it is empty and costs nothing. The versions stand beside the bindings, by the same index.

use std::collections::VecDeque;
use std::sync::Arc;

use super::binding::{Binding, Held, Stored};
use super::contact::same_contact;
use super::contact_index::Place;
use super::delta::{Deltas, Facts, METHODS_ALL};
use super::homes::{HomeId, Homes};
use super::rows::{Row, Work};
use super::ruid::{Origins, Ruid};
use super::shard::Shard;
use super::texts::NAME_LEN_MAX;
use crate::limits::{LOCATION_SHARDS, UNTOLD_REMOVALS_MAX};
use crate::time::Instant;

/// What a shard keeps for other nodes.
#[derive(Debug)]
pub(super) struct Replica {
    /// `None`: there is no cluster.
    settings: Option<ReplicaSettings>,
    homes: Option<Arc<Homes>>,
    facts: Vec<Kept>,
    /// Bindings that changed here, each once: no node was told yet.
    fresh: Vec<u32>,
    /// What was removed, the oldest first.
    tombstones: VecDeque<Tombstone>,
    /// Of those, how many at the end no node was told of.
    untold: usize,
    /// No tombstone up to this version is held any more.
    lost: u64,
    /// The newest version seen.
    newest: u64,
}

/// How a location is shared.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaSettings {
    /// Our own number.
    pub server_id: u16,
    /// Kamailio's branch flags of a contact behind a NAT.
    pub nat_cflags: u32,
    /// Removals that are remembered, all shards together.
    pub tombstones_max: usize,
    /// Whether the store is this node's alone, and holds what registered elsewhere, too.
    pub stores_all: bool,
}

impl ReplicaSettings {
    /// Removals that one shard remembers.
    fn tombstones_of_shard(&self) -> usize {
        (self.tombstones_max / LOCATION_SHARDS).max(1)
    }
}

/// What is kept beside a binding.
#[derive(Clone, Copy, Debug)]
struct Kept {
    facts: Facts,
    is_fresh: bool,
}

/// What a contact is known by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    pub(super) ruid: Ruid,
    /// The name in full.
    pub(super) name: &'a [u8],
    /// Empty where it is not known.
    pub(super) uri: &'a [u8],
}

/// A contact that was removed.
#[derive(Debug)]
pub(super) struct Tombstone {
    aor: Box<[u8]>,
    ruid: Ruid,
    /// The name, where [`Ruid`] cannot hold it.
    name: Box<[u8]>,
    /// Empty where the node that removed it did not tell.
    contact: Box<[u8]>,
    pub(super) version: u64,
    pub(super) server_id: u16,
}

impl Replica {
    pub(super) const fn new() -> Self {
        Self {
            settings: None,
            homes: None,
            facts: Vec::new(),
            fresh: Vec::new(),
            tombstones: VecDeque::new(),
            untold: 0,
            lost: 0,
            newest: 0,
        }
    }

    /// Begins to keep versions; `tombstones_max` is this shard's share.
    pub(super) fn keep(&mut self, settings: ReplicaSettings, homes: Arc<Homes>) {
        (self.settings, self.homes) = (Some(settings), Some(homes));
    }

    pub(super) const fn settings(&self) -> Option<&ReplicaSettings> {
        self.settings.as_ref()
    }

    /// Whether the store is this node's alone.
    pub(super) fn stores_all(&self) -> bool {
        self.settings
            .as_ref()
            .is_none_or(|settings| settings.stores_all)
    }

    /// Changes that no node was told of.
    pub(super) fn waiting(&self) -> u32 {
        u32::try_from(self.fresh.len() + self.untold).unwrap_or(u32::MAX)
    }

    /// The next version that is given here: later than any seen.
    pub(super) fn next_version(&mut self, now: Instant) -> u64 {
        self.newest = now.as_micros().max(self.newest + 1);
        self.newest
    }

    pub(super) fn see(&mut self, version: u64) {
        self.newest = self.newest.max(version);
    }

    pub(super) fn set(&mut self, index: u32, facts: Facts) {
        self.see(facts.version);
        if let Some(kept) = self.kept(index) {
            kept.facts = facts;
        }
    }

    /// Where a binding is at home.
    pub(super) fn home(&self, index: u32) -> HomeId {
        let kept = self.facts.get(index as usize);
        kept.map_or(HomeId::NONE, |kept| kept.facts.home)
    }

    /// Forgets a binding that is freed.
    pub(super) fn forget(&mut self, index: u32) {
        if let Some(kept) = self.facts.get_mut(index as usize) {
            *kept = Kept::NONE;
        }
    }

    /// The newest tombstone of a contact, by its name or, where it has had several, by its URI.
    pub(super) fn tombstone(&self, aor: &[u8], contact: Named<'_>) -> Option<&Tombstone> {
        let is_it = |held: &&Tombstone| {
            let is_named = held.ruid == contact.ruid
                && (!contact.ruid.is_text() || *held.name == *contact.name);
            let is_same = || !contact.uri.is_empty() && same_contact(&held.contact, contact.uri);
            *held.aor == *aor && (is_named || is_same())
        };
        let all = self.tombstones.iter().filter(is_it);
        all.max_by_key(|held| (held.version, held.server_id))
    }

    /// Remembers a removal; `is_own` has the nodes told of it.
    pub(super) fn bury(
        &mut self,
        aor: &[u8],
        contact: Named<'_>,
        (version, server_id): (u64, u16),
        is_own: bool,
    ) {
        let Some(settings) = &self.settings else {
            return;
        };
        let len_max = settings.tombstones_of_shard();
        self.see(version);
        self.forget_removals(len_max - 1);
        let name = if contact.ruid.is_text() {
            contact.name
        } else {
            b""
        };
        let tombstone = Tombstone {
            aor: aor.into(),
            ruid: contact.ruid,
            name: name.into(),
            contact: contact.uri.into(),
            version,
            server_id,
        };
        // What is to be told stands at the end, in its order.
        let at = if is_own {
            self.untold += 1;
            self.tombstones.len()
        } else {
            self.tombstones.len() - self.untold
        };
        self.tombstones.insert(at, tombstone);
    }

    /// Forgets the oldest removals beyond `len_max`. One that nobody was told of yet is kept for now: no later send would make up for it.
    fn forget_removals(&mut self, len_max: usize) {
        while self.tombstones.len() > len_max
            && (self.untold < self.tombstones.len() || self.untold >= UNTOLD_REMOVALS_MAX)
        {
            let Some(oldest) = self.tombstones.pop_front() else {
                return;
            };
            self.untold = self.untold.min(self.tombstones.len());
            self.lost = self.lost.max(oldest.version);
        }
    }

    fn kept(&mut self, index: u32) -> Option<&mut Kept> {
        self.settings.as_ref()?;
        let index = index as usize;
        if index >= self.facts.len() {
            self.facts.resize(index + 1, Kept::NONE);
        }
        self.facts.get_mut(index)
    }

    /// Lists a binding as changed here.
    fn list(&mut self, index: u32) {
        if let Some(kept) = self.kept(index)
            && !kept.is_fresh
        {
            kept.is_fresh = true;
            self.fresh.push(index);
        }
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        let tombstones = self.tombstones.iter();
        self.facts.capacity() * size_of::<Kept>()
            + self.fresh.capacity() * size_of::<u32>()
            + self.tombstones.capacity() * size_of::<Tombstone>()
            + tombstones
                .map(|held| held.aor.len() + held.name.len() + held.contact.len())
                .sum::<usize>()
    }
}

impl Kept {
    const NONE: Self = Self {
        facts: Facts {
            version: 0,
            server_id: 0,
            home: HomeId::NONE,
            flags: 0,
            cflags: 0,
            methods: METHODS_ALL,
        },
        is_fresh: false,
    };
}

impl Tombstone {
    fn facts(&self) -> Facts {
        Facts::own(self.version, self.server_id, 0)
    }
}

impl Shard {
    /// Gives a binding that was saved or removed here its version, and has the nodes told of it.
    pub(super) fn note_here(&mut self, index: u32) {
        let Some(settings) = self.replica.settings().copied() else {
            return;
        };
        let Some(binding) = self.bindings.value(index) else {
            return;
        };
        let (is_removed, aor) = (binding.removed, binding.aor);
        let cflags = if binding.received() {
            settings.nat_cflags
        } else {
            0
        };
        let version = self.replica.next_version(binding.modified);
        self.replica
            .set(index, Facts::own(version, settings.server_id, cflags));
        if !is_removed {
            return self.replica.list(index);
        }
        let aor: Box<[u8]> = self.aor_text(aor).into();
        let Some(held) = self.binding(index) else {
            return;
        };
        let (ruid, name): (_, Box<[u8]>) = (held.ruid, held.name().into());
        let uri: Box<[u8]> = held.contact().into();
        let contact = Named {
            ruid,
            name: &name,
            uri: &uri,
        };
        self.replica
            .bury(&aor, contact, (version, settings.server_id), true);
    }

    /// What nodes tell each other of a binding, where there are others.
    pub(super) fn facts_told(&self, index: u32, binding: Held<'_>) -> Option<Facts> {
        let settings = self.replica.settings();
        settings.map(|_| self.facts_of(index, binding))
    }

    /// Where a contact is at home; none where that is here, or nobody knows.
    pub(super) fn home_of(&self, index: u32) -> HomeId {
        let binding = self.bindings.value(index);
        let is_foreign = binding.is_some_and(Binding::is_foreign);
        if is_foreign {
            self.replica.home(index)
        } else {
            HomeId::NONE
        }
    }

    /// Whether this node acts for a contact: pings it, and writes its row.
    pub(super) fn is_ours(&self, index: u32, binding: Held<'_>) -> bool {
        let is_heir = |homes: &Arc<Homes>| {
            homes.is_ours(self.replica.home(index), self.aor_text(binding.aor))
        };
        !binding.is_foreign() || self.replica.homes.as_ref().is_some_and(is_heir)
    }

    /// Gives a binding that came from the store and is another node's what is known of it: in a store that is shared, its row is that
    /// node's to write.
    pub(super) fn note_stored_elsewhere(&mut self, index: u32, row: &Row<'_>) {
        let home = self
            .replica
            .homes
            .as_ref()
            .and_then(|homes| homes.home(row.home));
        let (Some(home), false) = (home, row.is_ours) else {
            return;
        };
        let facts = Facts {
            home: row.home,
            ..Facts::own(row.modified.as_micros(), home.server_id, 0)
        };
        self.replica.set(index, facts);
        if !self.replica.stores_all()
            && let Some(binding) = self.bindings.value_mut(index)
        {
            binding.stored = Stored::Never;
        }
    }

    /// Lists what was taken over within `budget` places from `from` on, so that its rows are written here from now on; gives where to go on.
    pub(super) fn take_over(&mut self, from: u32, budget: u32) -> Option<u32> {
        if !self.changed.is_kept() || self.replica.stores_all() {
            return None;
        }
        let end = self.bindings.slots();
        let stop = from.saturating_add(budget).min(end);
        for index in from..stop {
            let is_due = |binding: &Held<'_>| {
                binding.is_foreign() && binding.is_forgettable() && !binding.removed
            };
            let binding = self.binding(index).filter(is_due);
            if binding.is_none_or(|binding| !self.is_ours(index, binding)) {
                continue;
            }
            if let Some(binding) = self.bindings.value_mut(index) {
                binding.stored = Stored::Perhaps;
            }
            self.changed.list(&mut self.bindings, index);
        }
        (stop < end).then_some(stop)
    }

    /// What nodes tell each other of a binding. One that came from the store has the version of its last save.
    pub(super) fn facts_of(&self, index: u32, binding: Held<'_>) -> Facts {
        let kept = self.replica.facts.get(index as usize);
        let facts = kept.map_or(Kept::NONE.facts, |kept| kept.facts);
        if facts.version > 0 {
            return facts;
        }
        let settings = self.replica.settings();
        let nat_cflags = settings.map_or(0, |settings| settings.nat_cflags);
        let cflags = if binding.received() { nat_cflags } else { 0 };
        let server_id = settings.map_or(0, |settings| settings.server_id);
        Facts::own(binding.modified.as_micros(), server_id, cflags)
    }

    /// Copies what changed here and no node was told of, as long as `out` has no more than `len_max`: removals first, since a contact
    /// that was removed and bound again has another name.
    pub(super) fn gather(
        &mut self,
        now: Instant,
        origins: &Origins,
        out: &mut Deltas,
        len_max: usize,
    ) {
        while self.replica.untold > 0 && out.len() < len_max {
            let at = self.replica.tombstones.len() - self.replica.untold;
            if let Some(tombstone) = self.replica.tombstones.get(at) {
                push_removal(tombstone, origins, out);
            }
            self.replica.untold -= 1;
        }
        if let Some(settings) = &self.replica.settings {
            let len_max = settings.tombstones_of_shard();
            self.replica.forget_removals(len_max);
        }
        while out.len() < len_max {
            let Some(index) = self.replica.fresh.pop() else {
                return;
            };
            let kept = self.replica.facts.get_mut(index as usize);
            if kept.is_some_and(|kept| std::mem::replace(&mut kept.is_fresh, false)) {
                self.copy_to(now, index, origins, out);
            }
        }
    }

    /// Copies what has a version of at least `since`, from place `from` on, looking at no more than `budget` places; gives where to
    /// go on. Where removals since then are forgotten, everything is copied.
    pub(super) fn walk(
        &self,
        now: Instant,
        (from, since): (u32, u64),
        budget: u32,
        origins: &Origins,
        out: &mut Deltas,
    ) -> Option<u32> {
        let since = if self.replica.lost >= since { 0 } else { since };
        if from == 0 {
            let removed = self.replica.tombstones.iter();
            for tombstone in removed.filter(|held| held.version >= since) {
                push_removal(tombstone, origins, out);
            }
        }
        let end = self.bindings.slots();
        let stop = from.saturating_add(budget).min(end);
        for index in from..stop {
            let is_wanted = self
                .binding(index)
                .is_some_and(|binding| self.facts_of(index, binding).version >= since);
            if is_wanted {
                self.copy_to(now, index, origins, out);
            }
        }
        (stop < end).then_some(stop)
    }

    /// Copies a live binding.
    pub(super) fn copy_to(&self, now: Instant, index: u32, origins: &Origins, out: &mut Deltas) {
        let Some(binding) = self.binding(index).filter(|held| held.is_live(now)) else {
            return;
        };
        let facts = self.facts_of(index, binding);
        let place = Place::new(self.number(), index);
        let aor = self.aor_text(binding.aor);
        out.rows_mut()
            .copy(Work::Update, aor, (binding, facts.home), place, origins);
        out.note(facts);
    }
}

pub(super) fn push_removal(tombstone: &Tombstone, origins: &Origins, out: &mut Deltas) {
    let mut ruid = Vec::with_capacity(NAME_LEN_MAX);
    origins.write(tombstone.ruid, &tombstone.name, &mut ruid);
    let row = Row {
        work: Work::Delete,
        ruid: &ruid,
        contact: &tombstone.contact,
        ..Row::complete(&tombstone.aor)
    };
    out.rows_mut().push(&row);
    out.note(tombstone.facts());
}
