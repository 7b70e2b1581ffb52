//! The location service (RFC 3261 10): which contacts an AoR has, shared by all workers.
//!
//! It is split into [`LOCATION_SHARDS`] shards by a keyed hash of the AoR; an operation holds the lock of one shard, copies
//! out what was asked for into the caller's scratch, and lets go. A second index, by a keyed hash of the contact, tells whether
//! a Request-URI is a registered contact; its locks are never held together with a shard's. Time and the hash key are
//! handed in. It knows AoRs and contacts as bytes; what a REGISTER means is `proxy::register`'s business.

#![forbid(unsafe_code)]

mod aor;
mod binding;
mod blocks;
mod change;
mod changed;
mod cluster;
mod complete;
mod contact;
mod contact_index;
mod delta;
mod evict;
mod failure;
mod homes;
mod interned;
mod keepalive;
mod look_ahead;
mod matching;
mod merge;
#[cfg(test)]
mod merge_tests;
mod packed_flow;
mod page;
mod plan;
mod probing;
mod refresh;
mod refutation;
mod replica;
mod restore;
mod rows;
mod ruid;
mod shard;
mod slab;
pub mod storable;
mod stored;
#[cfg(test)]
mod stored_tests;
mod subscriber;
mod tally;
mod targets;
#[cfg(test)]
mod tests;
mod texts;
mod users;
mod window;

use std::ops::{AddAssign, Deref, DerefMut, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use siphasher::sip::SipHasher13;

pub use self::change::{Access, Change, Lookup, Refusal, Registration};
pub use self::delta::{Delta, Deltas, Facts, METHODS_ALL};
pub use self::failure::{FailureKind, Failures, Noted, Source};
pub use self::homes::{Home, HomeId, Homes, Standing};
pub use self::keepalive::{DueContact, DueContacts, KeepalivePolicy, KeepaliveWheel, KeptContact};
pub use self::look_ahead::Ahead;
pub use self::matching::{Matching, Rules};
pub use self::merge::{Judge, Merge};
pub use self::page::{Page, PageCursor, PagedAor, PagedContact};
pub use self::refutation::Refuted;
pub use self::replica::ReplicaSettings;
pub use self::restore::Admission;
pub use self::rows::{Row, Rows, Work};
pub use self::stored::Taken;
pub use self::subscriber::{Ha1s, Known, NonceUse, PresentedNonce, Secrets};
pub use self::targets::{Target, Targets};
pub use self::users::Users;

use self::aor::AorKey;
use self::contact::{contact_hash, reaches, uri_hash};
use self::contact_index::{ContactIndex, ContactRef, ContactRefs};
use self::plan::Request;
use self::ruid::Origins;
use self::shard::{Moved, Shard};
use self::tally::Tally;
use crate::datagram::{Destination, Flow, ListenerId};
use crate::limits::{AOR_LEN_MAX, BRANCHES_MAX, LOCATION_SHARDS, REGISTER_CONTACTS_MAX};
use crate::sip::Uri;
use crate::time::Instant;

/// The bindings of all AoRs.
#[derive(Debug)]
pub struct Location {
    shards: Box<[Padded<Guarded>]>,
    contacts: Box<[Padded<Mutex<ContactIndex>>]>,
    hasher: SipHasher13,
    contacts_max: usize,
    tally: Tally,
    /// The beginnings of names in the store.
    origins: Origins,
    /// Where contacts are at home, where there is a cluster.
    homes: Option<Arc<Homes>>,
    /// Whether rows of the store are still to come.
    is_loading: AtomicBool,
    /// Rows copied out whose batch is not settled yet.
    in_flight: AtomicUsize,
    /// Batches settled so far.
    settled: AtomicU64,
    /// Whether the store has ever refused a row.
    has_refused: AtomicBool,
    users: Users,
}

/// Bounds and key of a [`Location`].
#[derive(Clone, Copy, Debug)]
pub struct LocationSettings {
    /// Key of the hashes that choose a shard and a place in it.
    pub hash_key: [u8; 16],
    /// Bindings held at once, removed and expired ones too until they are swept. At the bound refreshes go on, and a new binding takes the
    /// place of a dead one or is refused.
    pub bindings_max: usize,
    /// Contacts of one AoR.
    pub contacts_max: usize,
}

/// A registered contact that a Request-URI names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisteredContact {
    /// Our listener that it registered at.
    pub listener: ListenerId,
    /// The flow to use instead of what the URI says, where the phone is behind a NAT or on a connection.
    pub received: Option<Flow>,
    /// Whether it is reached by that flow alone (RFC 5626).
    pub is_by_flow: bool,
    /// The node that it registered at, if it is another.
    pub home: HomeId,
    /// The shard asked, and its number.
    pub access: Access,
}

/// Where a sweep goes on; each worker has one, over its own share of the shards.
#[derive(Clone, Debug)]
pub struct SweepCursor {
    shards: Range<usize>,
    shard: usize,
    place: u32,
}

/// Approximate bytes taken from the allocator, by what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The AoRs, without their texts.
    pub aors: usize,
    /// The bindings, without their texts.
    pub bindings: usize,
    /// The texts of both.
    pub texts: usize,
    /// Texts that many bindings have alike, held once.
    pub interned: usize,
    /// The indexes: from AoRs, and from contacts to bindings.
    pub indexes: usize,
    /// What is remembered of the users who prove who they are.
    pub users: usize,
    /// Free places among those of AoRs, bindings and texts: how many, not bytes.
    pub spare: usize,
}

impl Memory {
    /// All of it.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.aors + self.bindings + self.texts + self.interned + self.indexes + self.users
    }
}

impl Location {
    /// Makes an empty location.
    #[must_use]
    pub fn new(settings: &LocationSettings) -> Self {
        let shard = |n: usize| {
            let number = u16::try_from(n).expect("as asserted below");
            Padded(Guarded::new(Shard::new(number)))
        };
        Self {
            shards: (0..LOCATION_SHARDS).map(shard).collect(),
            contacts: (0..LOCATION_SHARDS).map(|_| Padded::default()).collect(),
            hasher: SipHasher13::new_with_key(&settings.hash_key),
            users: Users::new(SipHasher13::new_with_key(&settings.hash_key)),
            contacts_max: settings.contacts_max,
            tally: Tally::new(settings.bindings_max),
            origins: Origins::new(b""),
            homes: None,
            is_loading: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            settled: AtomicU64::new(0),
            has_refused: AtomicBool::new(false),
        }
    }

    /// Has its AoRs obey these rules.
    #[must_use]
    pub fn with_rules(self, rules: Rules) -> Self {
        for shard in &self.shards {
            shard.0.lock().set_rules(rules);
        }
        self
    }

    /// Finds the contacts of an AoR to send a request to: the highest q first, among equals the newest, at most
    /// [`BRANCHES_MAX`].
    pub fn lookup(&self, now: Instant, aor: &[u8], targets: &mut Targets) -> (Lookup, Access) {
        let found = self.contacts(now, aor, targets);
        targets.rank(BRANCHES_MAX);
        found
    }

    /// Finds those contacts of an AoR that `keep` says yes to; [`Lookup::Found`] is said of the AoR, whose contacts may all be others.
    pub fn lookup_some(
        &self,
        now: Instant,
        aor: &[u8],
        keep: impl FnMut(&Target<'_>) -> bool,
        targets: &mut Targets,
    ) -> (Lookup, Access) {
        let found = self.contacts(now, aor, targets);
        targets.retain(keep);
        targets.rank(BRANCHES_MAX);
        found
    }

    /// Gives all live contacts of an AoR, in the order in which they came.
    pub fn contacts(&self, now: Instant, aor: &[u8], targets: &mut Targets) -> (Lookup, Access) {
        targets.clear();
        let (number, key) = self.key(aor);
        let shard = self.shards[number].0.lock();
        let found = shard.contacts(now, key, targets);
        let is_open = found != Lookup::Found && self.is_loading() && !shard.complete.has(key.hash);
        let found = if is_open { Lookup::NotLoaded } else { found };
        (found, access(number, &shard))
    }

    /// Does all that a REGISTER's contacts ask, or nothing of it, and gives what the AoR has then (RFC 3261 10.3 step 7).
    ///
    /// `changes` past the first [`REGISTER_CONTACTS_MAX`] are not looked at, and an AoR is at most [`AOR_LEN_MAX`] bytes
    /// long: the caller refuses both. On a refusal `targets` is empty and nothing has changed.
    pub fn apply(
        &self,
        now: Instant,
        aor: &[u8],
        registration: &Registration<'_>,
        changes: &[Change<'_>],
        targets: &mut Targets,
    ) -> (Result<(), Refusal>, Access) {
        targets.clear();
        let (number, key) = self.key(aor);
        if let [change] = changes {
            let mut shard = self.shards[number].0.lock();
            if let Some(aor) = shard.refresh(now, key, registration, change) {
                shard.live_contacts(now, aor, targets);
                return (Ok(()), access(number, &shard));
            }
        }
        let mut hashes = [0; REGISTER_CONTACTS_MAX];
        for (hash, change) in hashes.iter_mut().zip(changes) {
            *hash = contact_hash(&self.hasher, change.uri);
        }
        let request = Request {
            registration,
            changes,
            hashes: &hashes,
        };
        let mut moved = Moved::new();
        let mut shard = self.shards[number].0.lock();
        let result = shard.apply(
            now,
            key,
            &request,
            self.contacts_max,
            &self.tally,
            &mut moved,
        );
        if result.is_ok() {
            shard.contacts(now, key, targets);
        }
        let access = access(number, &shard);
        drop(shard);
        self.forget(&moved.freed);
        self.insert(&moved.added);
        targets.note_replaced(moved.replaced);
        (result, access)
    }

    /// Removes every contact of an AoR: `Contact: *` (RFC 3261 10.3 step 6). What is left, after a retransmission, is
    /// in `targets`.
    pub fn remove_all(
        &self,
        now: Instant,
        aor: &[u8],
        call_id: &[u8],
        cseq: u32,
        targets: &mut Targets,
    ) -> (Result<(), Refusal>, Access) {
        targets.clear();
        let (number, key) = self.key(aor);
        let mut shard = self.shards[number].0.lock();
        let result = shard.remove_all(now, key, call_id, cseq, &self.tally);
        if result.is_ok() {
            shard.contacts(now, key, targets);
        }
        (result, access(number, &shard))
    }

    /// Tells whether a URI, say a Request-URI within a dialog, is a live contact, and how it is reached.
    ///
    /// Where several AoRs registered it, the one whose contact is the very same text counts, then the newest.
    pub fn registered_contact(&self, now: Instant, uri: &[u8]) -> Option<RegisteredContact> {
        self.registered_contact_at(now, &Uri::parse(uri).ok()?, None)
    }

    /// The same, where one that is reached at `end` counts before all others: of the flows of one phone, which share a contact, the one
    /// that its dialog goes by.
    pub fn registered_contact_at(
        &self,
        now: Instant,
        uri: &Uri<'_>,
        end: Option<Destination>,
    ) -> Option<RegisteredContact> {
        let hash = uri_hash(&self.hasher, uri);
        let uri = uri.bytes();
        let mut candidates = ContactRefs::new();
        self.contacts[ContactRef::home(hash)]
            .0
            .lock()
            .find(hash, &mut candidates);
        let mut best = None;
        for candidate in candidates.iter() {
            let number = candidate.place.shard();
            let shard = self.shards[number].0.lock();
            let Some(binding) = shard.contact_at(now, candidate.place.index(), hash) else {
                continue;
            };
            let contact = binding.contact();
            let is_equal = contact == uri;
            if !is_equal && !reaches(contact, uri) {
                continue;
            }
            let flow = binding.flow().unpack();
            let is_there =
                end.is_some_and(|end| (flow.transport, flow.peer) == (end.transport, end.address));
            let rank = (is_there, is_equal, binding.modified, binding.ruid);
            if best.is_none_or(|(best_rank, _)| rank > best_rank) {
                let received = binding.received().then_some(flow);
                let access = access(number, &shard);
                best = Some((
                    rank,
                    RegisteredContact {
                        listener: flow.listener,
                        received,
                        is_by_flow: received.is_some() && binding.reg_id > 0,
                        home: shard.home_of(candidate.place.index()),
                        access,
                    },
                ));
            }
        }
        best.map(|(_, contact)| contact)
    }

    /// Looks at no more than `budget` places from the cursor on, within one shard, and frees the bindings that have expired and the
    /// tombstones that have served; gives how many it freed.
    pub fn sweep(&self, now: Instant, cursor: &mut SweepCursor, budget: u32) -> usize {
        let mut freed = ContactRefs::new();
        let Some(shard) = self.shards.get(cursor.shard) else {
            return 0;
        };
        let next = shard
            .0
            .lock()
            .sweep(now, cursor.place, budget, &self.tally, &mut freed);
        cursor.go_on(next);
        self.forget(&freed);
        freed.len()
    }

    /// Where contacts are at home, where there is a cluster.
    #[must_use]
    pub fn homes(&self) -> Option<&Homes> {
        self.homes.as_deref()
    }

    /// The users who prove who they are.
    #[must_use]
    pub const fn users(&self) -> &Users {
        &self.users
    }

    /// Bindings that are not removed; expired ones count until they are swept.
    #[must_use]
    pub fn bindings(&self) -> usize {
        self.tally.bindings()
    }

    /// Bindings in memory, removed ones too: what is held against `bindings_max`.
    #[must_use]
    pub fn held(&self) -> usize {
        self.tally.held()
    }

    /// What the location takes from the allocator. Each lock is held for a moment, one after the other.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.memory_of(0..LOCATION_SHARDS)
    }

    /// What a part of the shards takes from the allocator, as [`Self::memory`].
    #[must_use]
    pub fn memory_of(&self, shards: Range<usize>) -> Memory {
        let mut memory = Memory::default();
        for shard in self.shards.get(shards.clone()).unwrap_or_default() {
            let bytes = shard.0.lock().bytes();
            memory.aors += bytes.aors;
            memory.bindings += bytes.bindings;
            memory.texts += bytes.texts;
            memory.interned += bytes.interned;
            memory.indexes += bytes.indexes;
            memory.spare += bytes.spare;
        }
        memory.users = self.users.bytes(shards.clone());
        for index in self.contacts.get(shards).unwrap_or_default() {
            memory.indexes += index.0.lock().bytes();
        }
        memory
    }

    /// Blocks of text that are in use.
    #[cfg(test)]
    fn blocks_held(&self) -> usize {
        let held = |shard: &Padded<Guarded>| shard.0.lock().texts.blocks.held();
        self.shards.iter().map(held).sum()
    }

    fn forget(&self, freed: &ContactRefs) {
        for freed in freed.iter() {
            self.contacts[ContactRef::home(freed.hash)]
                .0
                .lock()
                .remove(freed);
        }
    }

    fn insert(&self, added: &ContactRefs) {
        for added in added.iter() {
            self.contacts[ContactRef::home(added.hash)]
                .0
                .lock()
                .insert(added);
        }
    }

    /// The shard of an AoR, and its key there.
    fn key<'a>(&self, aor: &'a [u8]) -> (usize, AorKey<'a>) {
        let text = aor.get(..AOR_LEN_MAX).unwrap_or(aor);
        let hash = self.hasher.hash(text);
        // The table within the shard uses the lowest and the highest bits.
        (
            (hash >> 32) as usize % LOCATION_SHARDS,
            AorKey { text, hash },
        )
    }
}

impl AddAssign for Memory {
    fn add_assign(&mut self, other: Self) {
        self.aors += other.aors;
        self.bindings += other.bindings;
        self.texts += other.texts;
        self.interned += other.interned;
        self.indexes += other.indexes;
        self.users += other.users;
        self.spare += other.spare;
    }
}

impl SweepCursor {
    /// Makes a cursor over share `share` of `shares`, as even as can be.
    #[must_use]
    pub fn new(share: usize, shares: usize) -> Self {
        let shares = shares.max(1);
        let bound = |share: usize| share.min(shares) * LOCATION_SHARDS / shares;
        let shards = bound(share)..bound(share + 1);
        Self {
            shard: shards.start,
            shards,
            place: 0,
        }
    }

    /// Whether it is about to begin a round.
    #[must_use]
    pub fn is_at_start(&self) -> bool {
        self.shard == self.shards.start && self.place == 0
    }

    fn go_on(&mut self, next: Option<u32>) {
        self.place = next.unwrap_or(0);
        if next.is_none() {
            self.shard += 1;
            if self.shard >= self.shards.end {
                self.shard = self.shards.start;
            }
        }
    }
}

fn access(number: usize, shard: &Shard) -> Access {
    Access {
        shard: u16::try_from(number).expect("as asserted below"),
        sequence: shard.sequence(),
    }
}

/// A shard under its lock, and beside the lock what may be read without it.
#[derive(Debug)]
struct Guarded {
    shard: Mutex<Shard>,
    /// Bindings in the list of what the store is to be told.
    changed: AtomicU32,
    /// Every change up to this number is in the store.
    committed: AtomicU64,
    /// Changes that no other node was told of.
    fresh: AtomicU32,
}

/// The lock of a shard, held.
struct Locked<'a> {
    shard: MutexGuard<'a, Shard>,
    guarded: &'a Guarded,
}

impl Guarded {
    const fn new(shard: Shard) -> Self {
        Self {
            shard: Mutex::new(shard),
            changed: AtomicU32::new(0),
            committed: AtomicU64::new(0),
            fresh: AtomicU32::new(0),
        }
    }

    fn lock(&self) -> Locked<'_> {
        Locked {
            shard: self.shard.lock(),
            guarded: self,
        }
    }
}

impl Deref for Locked<'_> {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }
}

impl Drop for Locked<'_> {
    /// Shows what has become of it, to those who look without the lock.
    fn drop(&mut self) {
        let changed = self.shard.changed.len();
        let committed = self.shard.changed.committed(self.shard.sequence());
        self.guarded.changed.store(changed, Ordering::Relaxed);
        self.guarded.committed.store(committed, Ordering::Release);
        let fresh = self.shard.replica.waiting();
        self.guarded.fresh.store(fresh, Ordering::Relaxed);
    }
}

/// What has a pair of cache lines to itself.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

const _: () = assert!(LOCATION_SHARDS <= u16::MAX as usize);
