//! What a batch of messages will need of the location is asked for before the first of them is served.
//!
//! An AoR's binding stands at the end of a chain of places, each named by the one before: the shard, its index, the AoR, the binding,
//! their texts. With a hundred thousand phones none of them is in the near caches, and one lookup waits for memory half a dozen
//! times. So all lookups of a batch go down their chains together, a step at a time: a step reads what the step before has
//! asked for, and asks for what the next one reads. It is all hints: a shard that another worker has locked is passed over.

use super::Location;
use super::contact::uri_hash;
use super::contact_index::ContactRef;
use super::shard::Shard;
use super::slab::NIL;
use crate::prefetch;
use crate::sip::Uri;

/// How far one message's look ahead has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ahead(Step);

#[derive(Clone, Copy, Debug, Default)]
enum Step {
    /// There is nothing more to ask for.
    #[default]
    Done,
    /// A part of the contact index was asked for.
    Contacts { hash: u32 },
    /// The place in it was asked for.
    Contact { hash: u32 },
    /// A shard's head was asked for, for the sake of an AoR or of a binding.
    Shard { shard: u16, sought: Sought },
    /// The tables of its places were.
    Tables { shard: u16, sought: Sought },
    /// An AoR was.
    Aor { shard: u16, aor: u32 },
    /// A binding was.
    Binding { shard: u16, index: u32 },
}

#[derive(Clone, Copy, Debug)]
enum Sought {
    Aor(u32),
    Binding(u32),
}

impl Location {
    /// Begins to look ahead for an AoR in canonical form.
    #[must_use]
    pub fn ahead_of_aor(&self, aor: &[u8]) -> Ahead {
        let (number, key) = self.key(aor);
        self.ahead_of(number, Sought::Aor(key.hash as u32))
    }

    /// Begins to look ahead for a contact that a Request-URI names.
    #[must_use]
    pub fn ahead_of_contact(&self, uri: &Uri<'_>) -> Ahead {
        let hash = uri_hash(&self.hasher, uri);
        prefetch::value(&self.contacts[ContactRef::home(hash)]);
        Ahead(Step::Contacts { hash })
    }

    /// Takes all of these as far as they lead.
    pub fn look_ahead(&self, all: &mut [Ahead]) {
        for _ in 0..STEPS_MAX {
            for ahead in &mut *all {
                ahead.0 = self.step(ahead.0);
            }
        }
    }

    fn ahead_of(&self, number: usize, sought: Sought) -> Ahead {
        let shard = u16::try_from(number).unwrap_or(0);
        prefetch::value(&self.shards[number]);
        Ahead(Step::Shard { shard, sought })
    }

    /// Reads what was asked for, and asks for the next.
    fn step(&self, step: Step) -> Step {
        match step {
            Step::Done => Step::Done,
            Step::Contacts { hash } => {
                let index = self.contacts[ContactRef::home(hash)].0.try_lock();
                index.map_or(Step::Done, |index| {
                    index.prefetch(hash);
                    Step::Contact { hash }
                })
            }
            Step::Contact { hash } => {
                let index = self.contacts[ContactRef::home(hash)].0.try_lock();
                let found = index.and_then(|index| index.of_hash(hash).next());
                found.map_or(Step::Done, |found| {
                    let sought = Sought::Binding(found.place.index());
                    self.ahead_of(found.place.shard(), sought).0
                })
            }
            Step::Shard { shard, .. }
            | Step::Tables { shard, .. }
            | Step::Aor { shard, .. }
            | Step::Binding { shard, .. } => {
                let locked = self.shards[usize::from(shard)].0.shard.try_lock();
                locked.map_or(Step::Done, |locked| locked.step(step))
            }
        }
    }
}

impl Shard {
    fn step(&self, step: Step) -> Step {
        match step {
            Step::Done | Step::Contacts { .. } | Step::Contact { .. } => Step::Done,
            Step::Shard { shard, sought } => {
                if let Sought::Aor(hash) = sought {
                    self.index.prefetch(hash);
                    self.aors.prefetch_chunks();
                }
                self.bindings.prefetch_chunks();
                self.texts.blocks.prefetch_classes();
                Step::Tables { shard, sought }
            }
            Step::Tables { shard, sought } => match sought {
                Sought::Aor(hash) => {
                    let Some(aor) = self.alike(hash).next() else {
                        return Step::Done;
                    };
                    self.aors.prefetch(aor);
                    Step::Aor { shard, aor }
                }
                Sought::Binding(index) => {
                    self.bindings.prefetch(index);
                    Step::Binding { shard, index }
                }
            },
            Step::Aor { shard, aor } => {
                let index = self.head_of(Some(aor));
                if let Some(held) = self.aors.value(aor) {
                    self.texts.blocks.prefetch(held.text);
                }
                if index == NIL {
                    return Step::Done;
                }
                self.bindings.prefetch(index);
                Step::Binding { shard, index }
            }
            Step::Binding { index, .. } => {
                if let Some(binding) = self.bindings.value(index) {
                    binding.prefetch_texts(&self.texts);
                }
                Step::Done
            }
        }
    }
}

/// The longest way: from a contact to the texts of its binding.
const STEPS_MAX: usize = 5;
