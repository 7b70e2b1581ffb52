//! A binding (RFC 3261 10): one contact of an AoR, until when it holds, and what is needed to reach it.
//!
//! Its texts share one allocation, whose size is rounded up, so that a refresh with an equally long Call-ID allocates
//! nothing. A removed binding stays for a while as its own tombstone, and as long as the store may hold it.

use super::change::{Change, Registration};
use super::changed::Link;
use super::packed_flow::PackedFlow;
use super::rows::Row;
use super::ruid::Ruid;
use super::slab::NIL;
use crate::limits::{BINDING_TEXT_LEN_MAX, CONTACT_LEN_MAX, PATH_LEN_MAX, TOMBSTONE};
use crate::time::Instant;

/// Whether the store has a row of this binding.
///
/// With [`Link`] it says where the binding stands: new (not known to be stored), synced (known, and not in the list of what
/// changed), dirty (known, and in that list), or being deleted (removed, and not [`Stored::Never`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// None: it was never sent, or the row's deletion is committed.
    Never,
    /// It was sent, and nobody knows whether it arrived.
    Perhaps,
    /// There is one.
    Known,
    /// It refused this state of it; what it has, if anything, is older.
    Refused,
}

/// One contact of an AoR.
#[derive(Debug)]
pub(super) struct Binding {
    texts: Texts,
    flow: PackedFlow,
    /// When the binding ends; of a removed one, when its tombstone does.
    pub(super) expires: Instant,
    /// When it was last saved.
    pub(super) modified: Instant,
    /// Names this binding and its row alone. A contact removed and registered again gets another, unless the row of the removed
    /// one is still there: then it is that row's again.
    pub(super) ruid: Ruid,
    /// Keyed hash of the contact's canonical form, by which the contact index finds it.
    pub(super) contact_hash: u32,
    /// The AoR that it belongs to, and the next binding of that AoR.
    pub(super) aor: u32,
    pub(super) next: u32,
    pub(super) cseq: u32,
    pub(super) reg_id: u32,
    /// Its place in the list of what the store is to be told.
    pub(super) link: Link,
    q: u16,
    pub(super) stored: Stored,
    /// Whether it was removed: what is left keeps (Call-ID, CSeq), so that a late duplicate cannot revive it.
    pub(super) removed: bool,
}

/// The texts of a binding, one behind the other in one allocation.
#[derive(Debug)]
struct Texts {
    bytes: Box<[u8]>,
    contact: u16,
    path: u16,
    /// A name in a form that [`Ruid`] cannot hold; empty with all others.
    ruid: u8,
    call_id: u8,
    user_agent: u8,
    instance: u8,
}

impl Binding {
    /// Makes a binding that belongs to the AoR at index `aor`.
    pub(super) fn new(
        now: Instant,
        registration: &Registration<'_>,
        change: &Change<'_>,
        contact_hash: u32,
        aor: u32,
        ruid: Ruid,
    ) -> Self {
        let mut binding = Self {
            texts: Texts::new(),
            flow: PackedFlow::pack(&registration.flow),
            expires: now,
            modified: now,
            ruid,
            contact_hash,
            aor,
            next: NIL,
            cseq: 0,
            reg_id: 0,
            link: Link::UNLISTED,
            q: Q_ABSENT,
            stored: Stored::Never,
            removed: false,
        };
        binding.update(now, registration, change);
        binding
    }

    /// Makes a binding of what the store has of it.
    pub(super) fn restore(row: &Row<'_>, contact_hash: u32, aor: u32, ruid: Ruid) -> Self {
        let mut binding = Self {
            texts: Texts::new(),
            flow: PackedFlow::pack(&row.flow),
            expires: row.expires,
            modified: row.modified,
            ruid,
            contact_hash,
            aor,
            next: NIL,
            cseq: 0,
            reg_id: 0,
            link: Link::UNLISTED,
            q: Q_ABSENT,
            stored: Stored::Known,
            removed: false,
        };
        binding.take_over(row, ruid);
        binding
    }

    /// Becomes what a row says, under the row's name.
    pub(super) fn take_over(&mut self, row: &Row<'_>, ruid: Ruid) {
        let name = if ruid.is_text() { row.ruid } else { b"" };
        self.texts.write([
            row.contact,
            name,
            row.path,
            row.call_id,
            row.user_agent,
            row.instance,
        ]);
        self.flow = PackedFlow::pack(&row.flow)
            .with_received(row.received)
            .with_foreign(!row.is_ours);
        (self.expires, self.modified) = (row.expires, row.modified);
        (self.cseq, self.reg_id) = (row.cseq, row.reg_id);
        self.q = row.q.unwrap_or(Q_ABSENT);
        (self.ruid, self.stored, self.removed) = (ruid, Stored::Known, false);
    }

    /// Takes the name of the row that it has in the store from now on.
    pub(super) fn rename(&mut self, name: &[u8], ruid: Ruid) {
        let name = if ruid.is_text() { name } else { b"" };
        self.texts.write_name(name);
        (self.ruid, self.stored) = (ruid, Stored::Known);
    }

    /// Takes over all that a REGISTER says of this contact.
    pub(super) fn update(
        &mut self,
        now: Instant,
        registration: &Registration<'_>,
        change: &Change<'_>,
    ) {
        self.texts.write_registration(registration, change);
        self.flow = PackedFlow::pack(&registration.flow).with_received(change.received);
        self.expires = now + change.expires;
        self.modified = now;
        self.cseq = registration.cseq;
        self.reg_id = change.reg_id;
        self.q = change.q.unwrap_or(Q_ABSENT);
        self.removed = false;
    }

    /// Ends the binding; what stays remembers the request that ended it.
    pub(super) fn remove(&mut self, now: Instant, call_id: &[u8], cseq: u32) {
        self.texts.write_call_id(call_id);
        self.cseq = cseq;
        self.expires = now + TOMBSTONE;
        self.modified = now;
        self.removed = true;
    }

    /// Whether the contact is to be reached.
    pub(super) fn is_live(&self, now: Instant) -> bool {
        !self.removed && self.expires > now
    }

    /// Whether it was removed so lately that a duplicate of an earlier request may still arrive.
    pub(super) fn is_tombstone(&self, now: Instant) -> bool {
        self.removed && self.expires > now
    }

    /// Whether it may be forgotten: the store has nothing of it.
    pub(super) fn is_forgettable(&self) -> bool {
        self.stored == Stored::Never
    }

    pub(super) fn contact(&self) -> &[u8] {
        self.texts.part(CONTACT)
    }

    /// Its name, where [`Ruid`] cannot hold it.
    pub(super) fn name(&self) -> &[u8] {
        self.texts.part(NAME)
    }

    pub(super) fn path(&self) -> &[u8] {
        self.texts.part(PATH)
    }

    pub(super) fn call_id(&self) -> &[u8] {
        self.texts.part(CALL_ID)
    }

    pub(super) fn user_agent(&self) -> &[u8] {
        self.texts.part(USER_AGENT)
    }

    pub(super) fn instance(&self) -> &[u8] {
        self.texts.part(INSTANCE)
    }

    /// Whether the packet came from elsewhere than the contact says, so that the flow is the way back.
    pub(super) fn received(&self) -> bool {
        self.flow.received()
    }

    pub(super) fn flow(&self) -> PackedFlow {
        self.flow
    }

    /// Notes how many OPTIONS in a row it has not answered; a REGISTER begins anew at 0.
    pub(super) fn note_silence(&mut self, silent: u8) {
        self.flow = self.flow.with_silence(silent);
    }

    /// The q value in thousandths.
    pub(super) fn q(&self) -> Option<u16> {
        (self.q != Q_ABSENT).then_some(self.q)
    }

    /// Bytes of the texts' allocation.
    pub(super) fn text_bytes(&self) -> usize {
        self.texts.bytes.len()
    }
}

impl Texts {
    fn new() -> Self {
        Self {
            bytes: Box::default(),
            contact: 0,
            path: 0,
            ruid: 0,
            call_id: 0,
            user_agent: 0,
            instance: 0,
        }
    }

    fn write_registration(&mut self, registration: &Registration<'_>, change: &Change<'_>) {
        let mut name = [0; NAME_LEN_MAX];
        let name = self.copy_name(&mut name);
        self.write([
            change.uri,
            name,
            registration.path,
            registration.call_id,
            registration.user_agent,
            change.instance,
        ]);
    }

    /// Sets the Call-ID of what becomes a tombstone; what it does not need is no longer wanted.
    fn write_call_id(&mut self, call_id: &[u8]) {
        let call_id = cut(call_id, BINDING_TEXT_LEN_MAX);
        let before = usize::from(self.contact) + usize::from(self.ruid);
        let need = before + call_id.len();
        if need > self.bytes.len() {
            let mut bytes = vec![0; need.next_multiple_of(TEXT_STEP)].into_boxed_slice();
            bytes[..before].copy_from_slice(&self.bytes[..before]);
            self.bytes = bytes;
        }
        self.bytes[before..need].copy_from_slice(call_id);
        let (contact, name) = (usize::from(self.contact), usize::from(self.ruid));
        self.set_lengths([contact, name, 0, call_id.len(), 0, 0]);
    }

    /// Sets the name alone. Rare: it copies all the others.
    fn write_name(&mut self, name: &[u8]) {
        let old = std::mem::replace(self, Self::new());
        let mut parts =
            [CONTACT, NAME, PATH, CALL_ID, USER_AGENT, INSTANCE].map(|part| old.part(part));
        parts[NAME] = name;
        self.write(parts);
    }

    /// Writes contact, name, Path, Call-ID, user agent and instance, each cut to its bound.
    fn write(&mut self, mut parts: [&[u8]; PARTS]) {
        for (part, len_max) in parts.iter_mut().zip(LEN_MAX) {
            *part = cut(part, len_max);
        }
        self.set_lengths(parts.map(<[u8]>::len));
        let need = parts.iter().map(|part| part.len()).sum::<usize>();
        if need > self.bytes.len() {
            self.bytes = vec![0; need.next_multiple_of(TEXT_STEP)].into_boxed_slice();
        }
        let mut rest = &mut *self.bytes;
        for part in parts {
            let (here, behind) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = behind;
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "each text was cut to a bound that fits, as asserted below"
    )]
    fn set_lengths(
        &mut self,
        [contact, name, path, call_id, user_agent, instance]: [usize; PARTS],
    ) {
        self.contact = contact as u16;
        self.ruid = name as u8;
        self.path = path as u16;
        self.call_id = call_id as u8;
        self.user_agent = user_agent as u8;
        self.instance = instance as u8;
    }

    fn lengths(&self) -> [usize; PARTS] {
        [
            usize::from(self.contact),
            usize::from(self.ruid),
            usize::from(self.path),
            usize::from(self.call_id),
            usize::from(self.user_agent),
            usize::from(self.instance),
        ]
    }

    fn part(&self, part: usize) -> &[u8] {
        let lengths = self.lengths();
        let start: usize = lengths.iter().take(part).sum();
        let len = lengths.get(part).copied().unwrap_or(0);
        self.bytes.get(start..start + len).unwrap_or_default()
    }

    fn copy_name<'n>(&self, room: &'n mut [u8; NAME_LEN_MAX]) -> &'n [u8] {
        let name = self.part(NAME);
        let room = &mut room[..name.len()];
        room.copy_from_slice(name);
        room
    }
}

fn cut(text: &[u8], len_max: usize) -> &[u8] {
    text.get(..len_max).unwrap_or(text)
}

// The texts, in the order in which they stand.
const CONTACT: usize = 0;
const NAME: usize = 1;
const PATH: usize = 2;
const CALL_ID: usize = 3;
const USER_AGENT: usize = 4;
const INSTANCE: usize = 5;
const PARTS: usize = 6;
const LEN_MAX: [usize; PARTS] = [
    CONTACT_LEN_MAX,
    NAME_LEN_MAX,
    PATH_LEN_MAX,
    BINDING_TEXT_LEN_MAX,
    BINDING_TEXT_LEN_MAX,
    BINDING_TEXT_LEN_MAX,
];
/// The longest name of a row, as in Kamailio's table.
pub(super) const NAME_LEN_MAX: usize = 64;

/// A contact without a q.
const Q_ABSENT: u16 = u16::MAX;
/// What the texts' allocation is rounded up to: the step of the allocator's small size classes.
const TEXT_STEP: usize = 16;

const _: () = assert!(CONTACT_LEN_MAX <= u16::MAX as usize && PATH_LEN_MAX <= u16::MAX as usize);
const _: () = assert!(BINDING_TEXT_LEN_MAX <= u8::MAX as usize);
const _: () = assert!(
    size_of::<Binding>() <= 104,
    "a million of them is a million times this"
);
