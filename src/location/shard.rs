//! One shard: the AoRs whose hash falls to it and their bindings, under one lock.
//!
//! An AoR exists while it has a binding, live, expired but not yet swept, or removed but not yet forgotten.

use super::aor::{Aor, AorBindings, AorKey, AorLen, AorRef};
use super::binding::{Binding, Held};
use super::change::{Lookup, Refusal};
use super::changed::Changed;
use super::complete::Complete;
use super::contact_index::{ContactRef, ContactRefs, Place, SHARD_BITS};
use super::matching::{Matching, Rules};
use super::plan::{Plan, Request, Step};
use super::probing::Probing;
use super::replica::Replica;
use super::ruid::Ruid;
use super::slab::{NIL, Slab};
use super::tally::Tally;
use super::targets::Targets;
use super::texts::Texts;
use crate::limits::RECLAIM_SCAN_MAX;
use crate::time::Instant;

/// The AoRs of one shard and their bindings.
#[derive(Debug)]
pub(super) struct Shard {
    number: u16,
    rules: Rules,
    /// Changes made so far.
    sequence: u64,
    pub(super) aors: Slab<Aor>,
    /// From hashes to AoRs.
    pub(super) index: Probing<AorRef>,
    pub(super) bindings: Slab<Binding>,
    /// The texts of the bindings and of the AoRs.
    pub(super) texts: Texts,
    /// What the store is to be told.
    pub(super) changed: Changed,
    /// AoRs whose rows are all in.
    pub(super) complete: Complete,
    /// What other nodes are to be told.
    pub(super) replica: Replica,
    /// Bindings named so far; with the shard's number the name of the next.
    named: u64,
    /// Where the next search for a dead binding to reclaim begins.
    reclaim_from: u32,
}

/// What an operation leaves for the contact index, once the shard's lock is free.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) added: ContactRefs,
    pub(super) freed: ContactRefs,
    /// Bindings that made room for others.
    pub(super) replaced: u32,
}

/// What a shard takes from the allocator, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ShardBytes {
    pub(super) aors: usize,
    pub(super) bindings: usize,
    pub(super) texts: usize,
    pub(super) interned: usize,
    pub(super) indexes: usize,
    /// Free places: how many.
    pub(super) spare: usize,
}

impl Shard {
    pub(super) const fn new(number: u16) -> Self {
        Self {
            number,
            rules: Rules::RFC_3261,
            sequence: 0,
            aors: Slab::new(),
            index: Probing::new(),
            bindings: Slab::new(),
            changed: Changed::new(),
            complete: Complete::new(),
            replica: Replica::new(),
            texts: Texts::new(),
            named: 0,
            reclaim_from: 0,
        }
    }

    /// Does all that a REGISTER with contacts asks, or nothing of it (RFC 3261 10.3 step 7).
    pub(super) fn apply(
        &mut self,
        now: Instant,
        key: AorKey<'_>,
        request: &Request<'_>,
        contacts_max: usize,
        tally: &Tally,
        moved: &mut Moved,
    ) -> Result<(), Refusal> {
        let bounds = (contacts_max, self.rules);
        let mut plan = Plan::make(now, request, bounds, || self.bindings_of(self.find(key)))?;
        if !self.reserve(&plan, tally) {
            // At the bound the dead make room for the living: what is lost is the guard against late duplicates.
            self.reclaim(now, plan.adds, tally, &mut moved.freed);
            plan = Plan::make(now, request, bounds, || self.bindings_of(self.find(key)))?;
            if !self.reserve(&plan, tally) {
                return Err(Refusal::Full);
            }
        }
        if !plan.changes {
            return Ok(());
        }
        for n in 0..request.changes.len().min(plan.steps.len()) {
            self.take_step(now, key, request, n, plan.steps[n], tally, moved);
        }
        for victim in &plan.victims[..plan.replaced] {
            self.evict(now, *victim, tally);
            moved.replaced += 1;
        }
        self.trim(now, key, contacts_max, tally, &mut moved.freed);
        self.sequence += 1;
        Ok(())
    }

    /// Removes every binding of an AoR: `Contact: *` (RFC 3261 10.3 step 6).
    pub(super) fn remove_all(
        &mut self,
        now: Instant,
        key: AorKey<'_>,
        call_id: &[u8],
        cseq: u32,
        tally: &Tally,
    ) -> Result<(), Refusal> {
        let Some(aor) = self.find(key) else {
            return Ok(());
        };
        let is_same_call = |binding: Held<'_>| {
            (binding.is_live(now) || binding.is_tombstone(now)) && binding.call_id() == call_id
        };
        let newest = self
            .bindings_of(Some(aor))
            .filter(|(_, b)| is_same_call(*b))
            .map(|(_, b)| b.cseq)
            .max();
        match newest {
            Some(newest) if newest > cseq => return Err(Refusal::OutOfOrder),
            // A retransmission: what others registered since then stays.
            Some(newest) if newest == cseq => return Ok(()),
            Some(_) | None => {}
        }
        let mut next = self.head_of(Some(aor));
        while let Some(held) = self.binding(next) {
            let index = std::mem::replace(&mut next, held.next);
            if !held.is_live(now) && !is_same_call(held) {
                continue;
            }
            if let Some(binding) = self.bindings.value_mut(index) {
                let was = !binding.removed;
                binding.remove(&mut self.texts, now, call_id, cseq);
                self.sequence += 1;
                tally.note(was, false);
                self.note_change(index);
            }
        }
        Ok(())
    }

    /// Frees what is dead among at most `budget` places from `from` on; gives the place to go on from, or `None` at
    /// the end. It stops early where `freed` is full.
    pub(super) fn sweep(
        &mut self,
        now: Instant,
        from: u32,
        budget: u32,
        tally: &Tally,
        freed: &mut ContactRefs,
    ) -> Option<u32> {
        let end = self.bindings.slots();
        let stop = from.saturating_add(budget).min(end);
        for index in from..stop {
            if freed.is_full() {
                return Some(index);
            }
            let Some(binding) = self.bindings.value_mut(index) else {
                continue;
            };
            if binding.ends() > now {
                continue;
            }
            if binding.is_forgettable() {
                self.free(index, tally, freed);
                self.sequence += 1;
            } else {
                // Its row is taken out first; until that is committed it is kept, and counts as removed.
                let was = !std::mem::replace(&mut binding.removed, true);
                tally.note(was, false);
                self.changed.list(&mut self.bindings, index);
            }
        }
        (stop < end).then_some(stop)
    }

    /// Copies the live contacts of an AoR out, in the order in which they came.
    pub(super) fn contacts(&self, now: Instant, key: AorKey<'_>, targets: &mut Targets) -> Lookup {
        let Some(aor) = self.find(key) else {
            return Lookup::Unknown;
        };
        self.live_contacts(now, aor, targets);
        if targets.is_empty() {
            Lookup::NoContacts
        } else {
            Lookup::Found
        }
    }

    /// Copies the live contacts of the AoR at `aor` out, in the order in which they came.
    pub(super) fn live_contacts(&self, now: Instant, aor: u32, targets: &mut Targets) {
        let mut next = self.head_of(Some(aor));
        while let Some(binding) = self.binding(next) {
            let index = std::mem::replace(&mut next, binding.next);
            if binding.is_live(now) {
                targets.push(binding, self.home_of(index));
            }
        }
    }

    /// Counts a change.
    pub(super) fn count_change(&mut self) {
        self.sequence += 1;
    }

    /// The binding at a place, where it is live and its contact has this hash.
    pub(super) fn contact_at(&self, now: Instant, index: u32, hash: u32) -> Option<Held<'_>> {
        self.binding(index)
            .filter(|binding| binding.contact_hash == hash && binding.is_live(now))
    }

    /// Takes other rules for its AoRs.
    pub(super) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// By what contacts are known again.
    pub(super) fn matching(&self) -> Matching {
        self.rules.matching
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// The text of the AoR at `index`.
    pub(super) fn aor_text(&self, index: u32) -> &[u8] {
        self.aors
            .value(index)
            .map_or(&[], |aor| aor.text(&self.texts))
    }

    /// Counts a change that another node made.
    pub(super) fn changed_elsewhere(&mut self) {
        self.sequence += 1;
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Places in the table of AoRs; an AoR keeps its own for as long as it is held.
    pub(super) fn aor_places(&self) -> u32 {
        self.aors.slots()
    }

    /// The AoR at a place of that table.
    pub(super) fn aor_at(&self, place: u32) -> Option<AorBindings<'_>> {
        let aor = self.aors.value(place).map(|_| place);
        aor.map(|aor| AorBindings { shard: self, aor })
    }

    /// An AoR, where it is held.
    pub(super) fn aor_bindings(&self, key: AorKey<'_>) -> Option<AorBindings<'_>> {
        let aor = self.find(key);
        aor.map(|aor| AorBindings { shard: self, aor })
    }

    /// Ends a binding without a request that asks for it: what stays remembers the last one that saved it, so that no late duplicate
    /// of that revives it, while the phone's next refresh binds it anew.
    pub(super) fn evict(&mut self, now: Instant, index: u32, tally: &Tally) {
        let Some(binding) = self.bindings.value_mut(index) else {
            return;
        };
        let was = !binding.removed;
        binding.evict(&mut self.texts, now);
        self.sequence += 1;
        tally.note(was, false);
        self.note_change(index);
    }

    pub(super) fn bytes(&self) -> ShardBytes {
        ShardBytes {
            aors: self.aors.bytes(),
            bindings: self.bindings.bytes() + self.replica.bytes(),
            texts: self.texts.bytes(),
            interned: self.texts.interned_bytes(),
            indexes: self.index.bytes() + self.complete.bytes(),
            spare: self.aors.spare() + self.bindings.spare() + self.texts.blocks.spare(),
        }
    }

    /// How many AoRs and bindings are held, the dead among them too.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.aors.len(), self.bindings.len())
    }

    fn reserve(&self, plan: &Plan, tally: &Tally) -> bool {
        plan.adds <= self.bindings.room() && tally.reserve(plan.adds)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one step of apply(), with what that was given"
    )]
    fn take_step(
        &mut self,
        now: Instant,
        key: AorKey<'_>,
        request: &Request<'_>,
        n: usize,
        step: Step,
        tally: &Tally,
        moved: &mut Moved,
    ) {
        let Some(change) = request.changes.get(n) else {
            return;
        };
        let registration = request.registration;
        let (index, fresh) = match step {
            Step::Keep => return,
            Step::Add => {
                let aor = self.find(key).unwrap_or_else(|| self.insert_aor(key));
                let ruid = self.next_ruid();
                let hash = request.hashes[n];
                let texts = &mut self.texts;
                let binding = Binding::new(texts, now, registration, change, hash, aor, ruid);
                let index = self.house(binding, tally, moved);
                self.note_change(index);
                return;
            }
            Step::Replace(index) => (index, Some(self.next_ruid())),
            Step::Update(index) | Step::Remove(index) => (index, None),
        };
        let Some(binding) = self.bindings.value_mut(index) else {
            return;
        };
        let (was, texts) = (!binding.removed, &mut self.texts);
        if matches!(step, Step::Remove(_)) {
            binding.remove(texts, now, registration.call_id, registration.cseq);
        } else {
            if let Some(ruid) = fresh.filter(|_| binding.is_forgettable()) {
                binding.ruid = ruid;
            }
            binding.update(texts, now, registration, change);
            let hash = std::mem::replace(&mut binding.contact_hash, request.hashes[n]);
            if hash != binding.contact_hash {
                // A flow, or a phone, that has moved: its binding is found by another contact from now on.
                let place = Place::new(self.number, index);
                moved.freed.push(ContactRef { hash, place });
                let hash = binding.contact_hash;
                moved.added.push(ContactRef { hash, place });
            }
        }
        tally.note(was, !binding.removed);
        self.note_change(index);
    }

    /// Notes for other nodes and for the store that a binding was saved or removed here.
    pub(super) fn note_change(&mut self, index: u32) {
        self.note_here(index);
        self.note_row(index);
    }

    /// Gives a new binding its place, behind the last one of its AoR; the caller has made sure that there is room.
    pub(super) fn house(&mut self, binding: Binding, tally: &Tally, moved: &mut Moved) -> u32 {
        let (aor, hash) = (binding.aor, binding.contact_hash);
        let index = self.bindings.insert(binding);
        self.append(aor, index);
        let place = Place::new(self.number, index);
        moved.added.push(ContactRef { hash, place });
        tally.note(false, true);
        index
    }

    /// Lists a binding that has changed, unless the store has never heard of it and need not: it is gone already.
    pub(super) fn note_row(&mut self, index: u32) {
        let Some(binding) = self.bindings.value(index) else {
            return;
        };
        if binding.removed && binding.is_forgettable() {
            self.changed.unlist(&mut self.bindings, index);
        } else {
            self.changed.list(&mut self.bindings, index);
        }
    }

    /// Frees the dead bindings of an AoR that has more of them than it may have contacts, the oldest first.
    fn trim(
        &mut self,
        now: Instant,
        key: AorKey<'_>,
        contacts_max: usize,
        tally: &Tally,
        freed: &mut ContactRefs,
    ) {
        let aor = self.find(key);
        let mut excess = self
            .bindings_of(aor)
            .count()
            .saturating_sub(2 * contacts_max);
        let mut next = self.head_of(aor);
        while let Some(binding) = self
            .bindings
            .value(next)
            .filter(|_| excess > 0 && !freed.is_full())
        {
            let index = std::mem::replace(&mut next, binding.next);
            if !binding.is_live(now) && binding.is_forgettable() {
                self.free(index, tally, freed);
                excess -= 1;
            }
        }
    }

    /// Frees up to `wanted` dead bindings of any AoR, tombstones too, among the next few places.
    fn reclaim(&mut self, now: Instant, wanted: usize, tally: &Tally, freed: &mut ContactRefs) {
        let slots = self.bindings.slots();
        for _ in 0..RECLAIM_SCAN_MAX.min(slots) {
            if freed.len() >= wanted {
                return;
            }
            let index = self.reclaim_from % slots;
            self.reclaim_from = (index + 1) % slots;
            if self
                .bindings
                .value(index)
                .is_some_and(|binding| !binding.is_live(now) && binding.is_forgettable())
            {
                self.free(index, tally, freed);
                self.sequence += 1;
            }
        }
    }

    /// Takes a binding out of its AoR and out of being, and the AoR with its last one.
    fn free(&mut self, index: u32, tally: &Tally, freed: &mut ContactRefs) {
        self.changed.unlist(&mut self.bindings, index);
        self.replica.forget(index);
        let Some(binding) = self.bindings.remove(index) else {
            return;
        };
        self.unlink(binding.aor, index, binding.next);
        binding.free(&mut self.texts);
        freed.push(ContactRef {
            hash: binding.contact_hash,
            place: Place::new(self.number, index),
        });
        tally.note(!binding.removed, false);
        tally.release(1);
        if self.head_of(Some(binding.aor)) != NIL {
            return;
        }
        let Some(aor) = self.aors.remove(binding.aor) else {
            return;
        };
        self.texts.blocks.free(aor.text);
        let is_it = |held: AorRef| held.index() == binding.aor;
        let aors = &self.aors;
        self.index
            .remove(aor.hash, is_it, |held| hash_of(aors, held));
    }

    pub(super) fn insert_aor(&mut self, key: AorKey<'_>) -> u32 {
        let blocks = &mut self.texts.blocks;
        let text = blocks.take(key.text.len());
        if let Some(room) = blocks.bytes_of_mut(text).get_mut(..key.text.len()) {
            room.copy_from_slice(key.text);
        }
        let hash = key.hash as u32;
        let aor = self.aors.insert(Aor {
            text,
            hash,
            head: NIL,
            len: AorLen::new(key.text.len()),
        });
        let aors = &self.aors;
        self.index
            .insert(hash, AorRef::new(hash, aor), |held| hash_of(aors, held));
        aor
    }

    /// Links a binding behind the last one of its AoR.
    fn append(&mut self, aor: u32, index: u32) {
        match self.bindings_of(Some(aor)).last().map(|(last, _)| last) {
            Some(last) => {
                if let Some(last) = self.bindings.value_mut(last) {
                    last.next = index;
                }
            }
            None => {
                if let Some(aor) = self.aors.value_mut(aor) {
                    aor.head = index;
                }
            }
        }
    }

    /// Takes the link to `index`, which is removed already, out of its AoR's list.
    fn unlink(&mut self, aor: u32, index: u32, behind: u32) {
        if self.head_of(Some(aor)) == index {
            if let Some(aor) = self.aors.value_mut(aor) {
                aor.head = behind;
            }
            return;
        }
        // The list ends for bindings_of() where the binding is missing: the last that it still gives is the one before.
        let before = self.bindings_of(Some(aor)).last().map(|(before, _)| before);
        if let Some(before) = before.and_then(|before| self.bindings.value_mut(before)) {
            before.next = behind;
        }
    }

    fn next_ruid(&mut self) -> Ruid {
        self.named += 1;
        Ruid::own(self.named << SHARD_BITS | u64::from(self.number))
    }

    pub(super) fn find(&self, key: AorKey<'_>) -> Option<u32> {
        let mut alike = self.alike(key.hash as u32);
        alike.find(|index| self.aor_text(*index) == key.text)
    }

    /// The AoRs that may be the one of this hash: seldom more than one.
    pub(super) fn alike(&self, hash: u32) -> impl Iterator<Item = u32> {
        let near = self.index.near(hash);
        near.filter(move |held| held.may_be(hash))
            .map(AorRef::index)
    }

    pub(super) fn head_of(&self, aor: Option<u32>) -> u32 {
        aor.and_then(|aor| self.aors.value(aor))
            .map_or(NIL, |aor| aor.head)
    }

    /// The binding at an index, with its texts.
    pub(super) fn binding(&self, index: u32) -> Option<Held<'_>> {
        let binding = self.bindings.value(index);
        binding.map(|binding| Held::new(binding, &self.texts))
    }

    /// The bindings of an AoR with their indexes, in the order in which they came.
    pub(super) fn bindings_of(&self, aor: Option<u32>) -> impl Iterator<Item = (u32, Held<'_>)> {
        let mut next = self.head_of(aor);
        std::iter::from_fn(move || {
            let binding = self.binding(next)?;
            let index = std::mem::replace(&mut next, binding.next);
            Some((index, binding))
        })
    }
}

impl Moved {
    pub(super) const fn new() -> Self {
        Self {
            added: ContactRefs::new(),
            freed: ContactRefs::new(),
            replaced: 0,
        }
    }
}

/// The hash of an AoR in the index.
fn hash_of(aors: &Slab<Aor>, held: AorRef) -> u32 {
    aors.value(held.index()).map_or(0, |aor| aor.hash)
}
