//! A binding (RFC 3261 10): one contact of an AoR, until when it holds, and what is needed to reach it.
//!
//! Its texts stand in its shard's [`Texts`]; [`Held`] is the binding with them. A removed binding stays for a while as its own tombstone,
//! and as long as the store may hold it.

use std::ops::Deref;

use super::change::{Change, Registration};
use super::changed::Link;
use super::packed_flow::{BriefFlow, PackedFlow};
use super::rows::Row;
use super::ruid::Ruid;
use super::slab::NIL;
use super::texts::{NAME_LEN_MAX, Part, Parts, Texts, TextsOf};
use crate::limits::{BINDING_TEXT_LEN_MAX, EXPIRY_GRACE, TOMBSTONE};
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

/// One contact of an AoR, without its texts.
#[derive(Debug)]
pub(super) struct Binding {
    texts: TextsOf,
    flow: BriefFlow,
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

/// A binding and its texts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    binding: &'a Binding,
    texts: &'a Texts,
}

impl Binding {
    /// Makes a binding that belongs to the AoR at index `aor`.
    pub(super) fn new(
        texts: &mut Texts,
        now: Instant,
        registration: &Registration<'_>,
        change: &Change<'_>,
        contact_hash: u32,
        aor: u32,
        ruid: Ruid,
    ) -> Self {
        let mut binding = Self::empty(now, contact_hash, aor, ruid);
        binding.update(texts, now, registration, change);
        binding
    }

    /// Makes a binding of what the store has of it.
    pub(super) fn restore(
        texts: &mut Texts,
        row: &Row<'_>,
        contact_hash: u32,
        aor: u32,
        ruid: Ruid,
    ) -> Self {
        let mut binding = Self::empty(row.modified, contact_hash, aor, ruid);
        binding.take_over(texts, row, ruid);
        binding
    }

    const fn empty(now: Instant, contact_hash: u32, aor: u32, ruid: Ruid) -> Self {
        Self {
            texts: TextsOf::NONE,
            flow: BriefFlow::NONE,
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
        }
    }

    /// Asks for its texts.
    pub(super) fn prefetch_texts(&self, texts: &Texts) {
        texts.prefetch(&self.texts);
    }

    /// Becomes what a row says, under the row's name.
    pub(super) fn take_over(&mut self, texts: &mut Texts, row: &Row<'_>, ruid: Ruid) {
        let name = if ruid.is_text() { row.ruid } else { b"" };
        let flow = PackedFlow::pack(&row.flow)
            .with_received(row.received)
            .with_foreign(!row.is_ours);
        let (flow, address) = flow.split();
        self.flow = flow;
        let parts = [
            row.contact,
            name,
            row.call_id,
            row.instance,
            address.as_slice(),
            row.path,
            row.user_agent,
        ];
        texts.write(&mut self.texts, parts);
        (self.expires, self.modified) = (row.expires, row.modified);
        (self.cseq, self.reg_id) = (row.cseq, row.reg_id);
        self.q = row.q.unwrap_or(Q_ABSENT);
        (self.ruid, self.stored, self.removed) = (ruid, Stored::Known, false);
    }

    /// Takes the name of the row that it has in the store from now on.
    pub(super) fn rename(&mut self, texts: &mut Texts, name: &[u8], ruid: Ruid) {
        let name = if ruid.is_text() { name } else { b"" };
        texts.rewrite(&mut self.texts, &[(Part::Name, name)]);
        (self.ruid, self.stored) = (ruid, Stored::Known);
    }

    /// Takes over all that a REGISTER says of this contact.
    pub(super) fn update(
        &mut self,
        texts: &mut Texts,
        now: Instant,
        registration: &Registration<'_>,
        change: &Change<'_>,
    ) {
        let mut room = [0; NAME_LEN_MAX];
        let name = copy(texts.text(&self.texts, Part::Name), &mut room);
        let flow = PackedFlow::pack(&registration.flow).with_received(change.received);
        let (flow, address) = flow.split();
        let parts = [
            change.uri,
            name,
            registration.call_id,
            change.instance,
            address.as_slice(),
            registration.path,
            registration.user_agent,
        ];
        texts.write(&mut self.texts, parts);
        self.refresh(now, flow, registration.cseq, change);
    }

    /// Whether its texts are these, the name aside, which no REGISTER has.
    pub(super) fn has_texts(&self, texts: &Texts, parts: &Parts<'_>) -> bool {
        texts.are(&self.texts, parts)
    }

    /// Takes over what a REGISTER says of this contact whose texts are the binding's own.
    pub(super) fn refresh(
        &mut self,
        now: Instant,
        flow: BriefFlow,
        cseq: u32,
        change: &Change<'_>,
    ) {
        self.flow = flow;
        self.expires = now + change.expires;
        self.modified = now;
        self.cseq = cseq;
        self.reg_id = change.reg_id;
        self.q = change.q.unwrap_or(Q_ABSENT);
        self.removed = false;
    }

    /// Ends the binding; what stays remembers the request that ended it.
    pub(super) fn remove(&mut self, texts: &mut Texts, now: Instant, call_id: &[u8], cseq: u32) {
        let some = [
            (Part::CallId, call_id),
            (Part::Instance, b""),
            (Part::Path, b""),
            (Part::UserAgent, b""),
        ];
        texts.rewrite(&mut self.texts, &some);
        self.cseq = cseq;
        self.expires = now + TOMBSTONE;
        self.modified = now;
        self.removed = true;
    }

    /// Ends the binding without a request: what stays remembers the last one that saved it.
    pub(super) fn evict(&mut self, texts: &mut Texts, now: Instant) {
        let mut room = [0; BINDING_TEXT_LEN_MAX];
        let call_id = copy(texts.text(&self.texts, Part::CallId), &mut room);
        self.remove(texts, now, call_id, self.cseq);
    }

    /// Gives back what its texts take: it is no more.
    pub(super) fn free(&self, texts: &mut Texts) {
        texts.free(&self.texts);
    }

    /// Whether the contact is to be reached.
    pub(super) fn is_live(&self, now: Instant) -> bool {
        !self.removed && self.ends() > now
    }

    /// When it is over here: of a contact of another server's, which ends by that one's clock, somewhat later than it should.
    pub(super) fn ends(&self) -> Instant {
        if self.is_foreign() && !self.removed {
            self.expires + EXPIRY_GRACE
        } else {
            self.expires
        }
    }

    /// Whether it was removed so lately that a duplicate of an earlier request may still arrive.
    pub(super) fn is_tombstone(&self, now: Instant) -> bool {
        self.removed && self.expires > now
    }

    /// Whether it may be forgotten: the store has nothing of it.
    pub(super) fn is_forgettable(&self) -> bool {
        self.stored == Stored::Never
    }

    /// Whether the packet came from elsewhere than the contact says, so that the flow is the way back.
    pub(super) fn received(&self) -> bool {
        self.flow.received()
    }

    /// Whether it came by another server's listener, which alone may keep it alive.
    pub(super) fn is_foreign(&self) -> bool {
        self.flow.is_foreign()
    }

    /// How many OPTIONS in a row it has not answered.
    pub(super) fn silence(&self) -> u8 {
        self.flow.silence()
    }

    /// Notes how many OPTIONS in a row it has not answered; a REGISTER begins anew at 0.
    pub(super) fn note_silence(&mut self, silent: u8) {
        self.flow = self.flow.with_silence(silent);
    }

    /// The q value in thousandths.
    pub(super) fn q(&self) -> Option<u16> {
        (self.q != Q_ABSENT).then_some(self.q)
    }
}

impl<'a> Held<'a> {
    pub(super) fn new(binding: &'a Binding, texts: &'a Texts) -> Self {
        Self { binding, texts }
    }

    pub(super) fn contact(self) -> &'a [u8] {
        self.text(Part::Contact)
    }

    /// Its name, where [`Ruid`] cannot hold it.
    pub(super) fn name(self) -> &'a [u8] {
        self.text(Part::Name)
    }

    pub(super) fn path(self) -> &'a [u8] {
        self.text(Part::Path)
    }

    pub(super) fn call_id(self) -> &'a [u8] {
        self.text(Part::CallId)
    }

    pub(super) fn user_agent(self) -> &'a [u8] {
        self.text(Part::UserAgent)
    }

    pub(super) fn instance(self) -> &'a [u8] {
        self.text(Part::Instance)
    }

    /// Its flow, whose address is this where it is none of IPv4.
    pub(super) fn flow_at(self, address: &[u8]) -> PackedFlow {
        PackedFlow::join(self.binding.flow, address)
    }

    pub(super) fn flow(self) -> PackedFlow {
        PackedFlow::join(self.binding.flow, self.text(Part::Address))
    }

    /// Contact, name, Call-ID, instance, address, path and user agent.
    pub(super) fn all(self) -> Parts<'a> {
        self.texts.all(&self.binding.texts)
    }

    fn text(self, part: Part) -> &'a [u8] {
        self.texts.text(&self.binding.texts, part)
    }
}

impl Deref for Held<'_> {
    type Target = Binding;

    fn deref(&self) -> &Binding {
        self.binding
    }
}

/// Copies what is to be written in the place of its own source.
fn copy<'r>(text: &[u8], room: &'r mut [u8]) -> &'r [u8] {
    let len = text.len().min(room.len());
    let room = &mut room[..len];
    room.copy_from_slice(&text[..len]);
    room
}

/// A contact without a q.
const Q_ABSENT: u16 = u16::MAX;

// Replication adds eleven bytes to it: a version, an origin, and pings that went unanswered.
const _: () = assert!(
    size_of::<Binding>() <= 96,
    "a million of them is a million times this"
);
