//! A binding (RFC 3261 10): one contact of an AoR, until when it holds, and what is needed to reach it.
//!
//! Its texts share one allocation, whose size is rounded up, so that a refresh with an equally long Call-ID allocates
//! nothing. A removed binding stays for a while as its own tombstone.

use super::change::{Change, Registration};
use super::packed_flow::PackedFlow;
use super::slab::NIL;
use crate::limits::{BINDING_TEXT_LEN_MAX, CONTACT_LEN_MAX, PATH_LEN_MAX, TOMBSTONE};
use crate::time::Instant;

/// Where a binding stands towards the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In memory alone; the store has never seen it.
    New,
    /// In the store as it is here.
    Synced,
    /// In the store, but changed since.
    Dirty,
    /// Removed; what is left keeps (Call-ID, CSeq), so that a late duplicate cannot revive it.
    Deleting,
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
    /// Names this binding alone, for as long as the process lives: a contact removed and registered again gets another.
    pub(super) ruid: u64,
    /// Keyed hash of the contact's canonical form, by which the contact index finds it.
    pub(super) contact_hash: u32,
    /// The AoR that it belongs to, and the next binding of that AoR.
    pub(super) aor: u32,
    pub(super) next: u32,
    pub(super) cseq: u32,
    pub(super) reg_id: u32,
    q: u16,
    pub(super) state: State,
    /// Whether the packet came from elsewhere than the contact says, so that the flow is the way back.
    pub(super) received: bool,
}

/// The texts of a binding, one behind the other in one allocation.
#[derive(Debug)]
struct Texts {
    bytes: Box<[u8]>,
    contact: u16,
    path: u16,
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
        ruid: u64,
    ) -> Self {
        let mut binding = Self {
            texts: Texts {
                bytes: Box::default(),
                contact: 0,
                path: 0,
                call_id: 0,
                user_agent: 0,
                instance: 0,
            },
            flow: PackedFlow::pack(&registration.flow),
            expires: now,
            modified: now,
            ruid,
            contact_hash,
            aor,
            next: NIL,
            cseq: 0,
            reg_id: 0,
            q: Q_ABSENT,
            state: State::New,
            received: false,
        };
        binding.update(now, registration, change);
        binding
    }

    /// Takes over all that a REGISTER says of this contact.
    pub(super) fn update(
        &mut self,
        now: Instant,
        registration: &Registration<'_>,
        change: &Change<'_>,
    ) {
        self.texts.write(registration, change);
        self.flow = PackedFlow::pack(&registration.flow);
        self.expires = now + change.expires;
        self.modified = now;
        self.cseq = registration.cseq;
        self.reg_id = change.reg_id;
        self.q = change.q.unwrap_or(Q_ABSENT);
        self.received = change.received;
        self.state = match self.state {
            State::Synced | State::Dirty => State::Dirty,
            State::New | State::Deleting => State::New,
        };
    }

    /// Ends the binding; what stays remembers the request that ended it.
    pub(super) fn remove(&mut self, now: Instant, call_id: &[u8], cseq: u32) {
        self.texts.write_call_id(call_id);
        self.cseq = cseq;
        self.expires = now + TOMBSTONE;
        self.modified = now;
        self.state = State::Deleting;
    }

    /// Whether the contact is to be reached.
    pub(super) fn is_live(&self, now: Instant) -> bool {
        self.state != State::Deleting && self.expires > now
    }

    /// Whether it was removed so lately that a duplicate of an earlier request may still arrive.
    pub(super) fn is_tombstone(&self, now: Instant) -> bool {
        self.state == State::Deleting && self.expires > now
    }

    pub(super) fn contact(&self) -> &[u8] {
        self.texts.part(0, usize::from(self.texts.contact))
    }

    pub(super) fn path(&self) -> &[u8] {
        self.texts.part(
            usize::from(self.texts.contact),
            usize::from(self.texts.path),
        )
    }

    pub(super) fn call_id(&self) -> &[u8] {
        self.texts.call_id()
    }

    pub(super) fn user_agent(&self) -> &[u8] {
        self.texts.user_agent()
    }

    pub(super) fn instance(&self) -> &[u8] {
        self.texts.instance()
    }

    pub(super) fn flow(&self) -> PackedFlow {
        self.flow
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
    fn write(&mut self, registration: &Registration<'_>, change: &Change<'_>) {
        let contact = cut(change.uri, CONTACT_LEN_MAX);
        let path = cut(registration.path, PATH_LEN_MAX);
        let call_id = cut(registration.call_id, BINDING_TEXT_LEN_MAX);
        let user_agent = cut(registration.user_agent, BINDING_TEXT_LEN_MAX);
        let instance = cut(change.instance, BINDING_TEXT_LEN_MAX);
        self.set_lengths([contact, path, call_id, user_agent, instance].map(<[u8]>::len));
        let need = contact.len() + path.len() + call_id.len() + user_agent.len() + instance.len();
        if need > self.bytes.len() {
            self.bytes = vec![0; need.next_multiple_of(TEXT_STEP)].into_boxed_slice();
        }
        let mut rest = &mut *self.bytes;
        for part in [contact, path, call_id, user_agent, instance] {
            let (here, behind) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = behind;
        }
    }

    /// Sets the Call-ID of what becomes a tombstone; what stands behind it is no longer wanted.
    fn write_call_id(&mut self, call_id: &[u8]) {
        let call_id = cut(call_id, BINDING_TEXT_LEN_MAX);
        let contact = usize::from(self.contact);
        let need = contact + call_id.len();
        if need > self.bytes.len() {
            let mut bytes = vec![0; need.next_multiple_of(TEXT_STEP)].into_boxed_slice();
            bytes[..contact].copy_from_slice(&self.bytes[..contact]);
            self.bytes = bytes;
        }
        self.bytes[contact..need].copy_from_slice(call_id);
        self.set_lengths([contact, 0, call_id.len(), 0, 0]);
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "each text was cut to a bound that fits, as asserted below"
    )]
    fn set_lengths(&mut self, [contact, path, call_id, user_agent, instance]: [usize; 5]) {
        self.contact = contact as u16;
        self.path = path as u16;
        self.call_id = call_id as u8;
        self.user_agent = user_agent as u8;
        self.instance = instance as u8;
    }

    fn call_id(&self) -> &[u8] {
        self.part(
            usize::from(self.contact) + usize::from(self.path),
            usize::from(self.call_id),
        )
    }

    fn user_agent(&self) -> &[u8] {
        let before = [self.contact, self.path, u16::from(self.call_id)];
        let start = before.map(usize::from).iter().sum();
        self.part(start, usize::from(self.user_agent))
    }

    fn instance(&self) -> &[u8] {
        let before = [self.contact, self.path].map(usize::from);
        let texts = [self.call_id, self.user_agent].map(usize::from);
        let start = before.iter().chain(&texts).sum();
        self.part(start, usize::from(self.instance))
    }

    fn part(&self, start: usize, len: usize) -> &[u8] {
        self.bytes.get(start..start + len).unwrap_or_default()
    }
}

fn cut(text: &[u8], len_max: usize) -> &[u8] {
    text.get(..len_max).unwrap_or(text)
}

/// A contact without a q.
const Q_ABSENT: u16 = u16::MAX;
/// What the texts' allocation is rounded up to: the step of the allocator's small size classes.
const TEXT_STEP: usize = 16;

const _: () = assert!(CONTACT_LEN_MAX <= u16::MAX as usize && PATH_LEN_MAX <= u16::MAX as usize);
const _: () = assert!(BINDING_TEXT_LEN_MAX <= u8::MAX as usize);
const _: () = assert!(
    size_of::<Binding>() <= 96,
    "a million of them is a million times this"
);
