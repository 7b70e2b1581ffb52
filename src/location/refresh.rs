//! What most REGISTERs are: the one binding of an AoR, saved again as it stands, with a higher CSeq and a later end.

use super::aor::AorKey;
use super::change::{Change, Registration};
use super::packed_flow::PackedFlow;
use super::shard::Shard;
use super::slab::NIL;
use crate::time::{Duration, Instant};

impl Shard {
    /// Saves a binding anew where this is all that a REGISTER asks, and gives its AoR; nothing is hashed, copied or planned. `None`: it
    /// asks more, or something else, and nothing was done.
    pub(super) fn refresh(
        &mut self,
        now: Instant,
        key: AorKey<'_>,
        registration: &Registration<'_>,
        change: &Change<'_>,
    ) -> Option<u32> {
        let aor = self.find(key)?;
        let index = self.head_of(Some(aor));
        let binding = self.bindings.value_mut(index)?;
        let is_alone = binding.next == NIL && binding.reg_id == change.reg_id;
        let is_newer = registration.cseq > binding.cseq && change.expires > Duration::ZERO;
        if !is_alone || !is_newer || !binding.is_live(now) {
            return None;
        }
        let flow = PackedFlow::pack(&registration.flow).with_received(change.received);
        let (flow, address) = flow.split();
        let parts = [
            change.uri,
            b"",
            registration.call_id,
            change.instance,
            address.as_slice(),
            registration.path,
            registration.user_agent,
        ];
        if !binding.has_texts(&self.texts, &parts) {
            return None;
        }
        binding.refresh(now, flow, registration.cseq, change);
        self.count_change();
        self.note_change(index);
        Some(aor)
    }
}
