//! What a REGISTER will do to each contact of an AoR, decided before anything is done (RFC 3261 10.3: all or nothing).

use super::binding::Held;
use super::change::{Change, Refusal, Registration};
use super::matching::{Rules, Wanted, is_repeated};
use crate::limits::REGISTER_CONTACTS_MAX;
use crate::time::{Duration, Instant};

/// A REGISTER with contacts, and the keyed hashes of those.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) registration: &'a Registration<'a>,
    /// At most [`REGISTER_CONTACTS_MAX`].
    pub(super) changes: &'a [Change<'a>],
    pub(super) hashes: &'a [u32; REGISTER_CONTACTS_MAX],
}

/// What is to be done for one contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: a retransmission, or a removal of what is not there.
    Keep,
    /// A new binding.
    Add,
    /// A new binding in the place of a dead one of the same contact.
    Replace(u32),
    /// A refresh.
    Update(u32),
    /// A removal; also of what was removed before, which then remembers the later request.
    Remove(u32),
}

/// The steps of a REGISTER, one for each contact, and what they amount to.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: [Step; REGISTER_CONTACTS_MAX],
    /// Bindings that make room for those: the first `replaced` of them.
    pub(super) victims: [u32; REGISTER_CONTACTS_MAX],
    pub(super) replaced: usize,
    /// New bindings that need a place.
    pub(super) adds: usize,
    /// Whether anything changes at all.
    pub(super) changes: bool,
}

impl Plan {
    /// Decides the steps against the AoR's bindings, which `bindings` walks anew at each call.
    pub(super) fn make<'b, I>(
        now: Instant,
        request: &Request<'_>,
        (contacts_max, rules): (usize, Rules),
        bindings: impl Fn() -> I,
    ) -> Result<Self, Refusal>
    where
        I: Iterator<Item = (u32, Held<'b>)>,
    {
        let mut plan = Self {
            steps: [Step::Keep; REGISTER_CONTACTS_MAX],
            victims: [0; REGISTER_CONTACTS_MAX],
            replaced: 0,
            adds: 0,
            changes: false,
        };
        let before = bindings()
            .filter(|(_, binding)| binding.is_live(now))
            .count();
        let (mut live, mut grows) = (before, false);
        for (n, change) in request
            .changes
            .iter()
            .enumerate()
            .take(REGISTER_CONTACTS_MAX)
        {
            let hash = request.hashes[n];
            // A contact that stands twice in one request counts where it stands first.
            let repeated = request.changes.iter().zip(request.hashes).take(n);
            if repeated
                .into_iter()
                .any(|(other, h)| *h == hash && is_repeated(other, change))
            {
                continue;
            }
            let wanted = Wanted {
                uri: change.uri,
                hash,
                call_id: request.registration.call_id,
                instance: change.instance,
                reg_id: change.reg_id,
                is_alone: request.changes.len() == 1,
            };
            let held = wanted.find(rules.matching, &bindings);
            let step = step_of(now, request.registration, change, held)?;
            match step {
                Step::Keep => {}
                Step::Add => plan.adds += 1,
                Step::Replace(_) | Step::Update(_) | Step::Remove(_) => {}
            }
            plan.changes |= step != Step::Keep;
            grows |= matches!(step, Step::Add | Step::Replace(_));
            live += usize::from(matches!(step, Step::Add | Step::Replace(_)));
            live -= usize::from(
                matches!(step, Step::Remove(_)) && held.is_some_and(|(_, b)| b.is_live(now)),
            );
            plan.steps[n] = step;
        }
        // A phone that only refreshes or removes is served even if the bound was lowered under it.
        if !grows || live <= contacts_max {
            return Ok(plan);
        }
        let excess = live - contacts_max;
        if rules.replaces_oldest && plan.find_victims(now, excess, bindings) {
            Ok(plan)
        } else {
            Err(Refusal::TooManyContacts)
        }
    }

    /// Finds `wanted` live bindings that this REGISTER does not name, those saved longest ago; says whether there are so many.
    fn find_victims<'b, I>(&mut self, now: Instant, wanted: usize, bindings: impl Fn() -> I) -> bool
    where
        I: Iterator<Item = (u32, Held<'b>)>,
    {
        while self.replaced < wanted.min(REGISTER_CONTACTS_MAX) {
            let is_spared = |index: u32| {
                let is_named = self.steps.iter().any(|step| step.index() == Some(index));
                is_named || self.victims[..self.replaced].contains(&index)
            };
            let oldest = bindings()
                .filter(|(index, binding)| binding.is_live(now) && !is_spared(*index))
                .min_by_key(|(_, binding)| binding.modified);
            let Some((index, _)) = oldest else {
                return false;
            };
            self.victims[self.replaced] = index;
            self.replaced += 1;
        }
        self.replaced >= wanted
    }
}

impl Step {
    /// The binding that it is about.
    const fn index(self) -> Option<u32> {
        match self {
            Self::Keep | Self::Add => None,
            Self::Replace(index) | Self::Update(index) | Self::Remove(index) => Some(index),
        }
    }
}

fn step_of(
    now: Instant,
    registration: &Registration<'_>,
    change: &Change<'_>,
    held: Option<(u32, Held<'_>)>,
) -> Result<Step, Refusal> {
    let removes = change.expires == Duration::ZERO;
    let Some((index, binding)) = held else {
        return Ok(if removes { Step::Keep } else { Step::Add });
    };
    let (is_live, is_tombstone) = (binding.is_live(now), binding.is_tombstone(now));
    let is_same_call = binding.call_id() == registration.call_id;
    if is_same_call && (is_live || is_tombstone) {
        // RFC 3261 10.3 step 7: with an equal Call-ID the CSeq must be higher, or the whole request fails. Where it is equal this is a
        // retransmission (there is no transaction to absorb it): the same answer, and no change.
        if registration.cseq < binding.cseq {
            return Err(Refusal::OutOfOrder);
        }
        if registration.cseq == binding.cseq {
            return Ok(Step::Keep);
        }
    }
    Ok(match (removes, is_live) {
        (false, true) => Step::Update(index),
        (false, false) => Step::Replace(index),
        (true, true) => Step::Remove(index),
        (true, false) if is_tombstone && is_same_call => Step::Remove(index),
        (true, false) => Step::Keep,
    })
}
