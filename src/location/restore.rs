//! Rows of the store on their way into the location, after a start: while phones register, and memory is newer than any row.

use super::aor::AorKey;
use super::binding::{Binding, Held, Stored};
use super::matching::Wanted;
use super::rows::Row;
use super::ruid::{Origins, Ruid};
use super::shard::{Moved, Shard};
use super::tally::Tally;
use crate::time::Instant;

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is a binding now.
    Admitted,
    /// Memory has this contact already, and newer; the row will be brought up to date, or taken out.
    Superseded,
    /// It was there before.
    Known,
    /// It has expired.
    Expired,
    /// The location holds all the bindings that it may.
    Full,
}

impl Shard {
    /// Makes a row a binding, unless memory has its contact already.
    #[expect(
        clippy::too_many_arguments,
        reason = "a row, whose it is, and what the shard works with"
    )]
    pub(super) fn admit(
        &mut self,
        now: Instant,
        key: AorKey<'_>,
        row: &Row<'_>,
        hash: u32,
        origins: &Origins,
        tally: &Tally,
        moved: &mut Moved,
    ) -> Admission {
        if row.expires <= now {
            return Admission::Expired;
        }
        let ruid = origins.pack(row.ruid);
        let aor = self.find(key);
        if self.named(aor, row.ruid, ruid).is_some() {
            return Admission::Known;
        }
        let wanted = Wanted {
            uri: row.contact,
            hash,
            call_id: row.call_id,
            instance: row.instance,
            reg_id: row.reg_id,
            // Rows are let in one by one, whatever REGISTERs they were of.
            is_alone: false,
        };
        let held = wanted.find(self.matching(), || self.bindings_of(aor));
        let Some((index, binding)) = held else {
            let Some(index) = self.enter(key, row, hash, ruid, tally, moved) else {
                return Admission::Full;
            };
            self.note_stored_elsewhere(index, row);
            return Admission::Admitted;
        };
        if binding.is_forgettable() {
            self.adopt(index, row, ruid);
            return Admission::Superseded;
        }
        // Two rows of one contact, as Kamailio keeps them where it tells contacts apart by Call-ID: the newer one stays.
        self.enter_duplicate(index, key, row, hash, ruid, tally, moved)
    }

    /// Sees whether memory has the binding of a row. A row without one, that the table should have lost and has got back, is taken out.
    pub(super) fn verify(
        &mut self,
        key: AorKey<'_>,
        row: &Row<'_>,
        hash: u32,
        origins: &Origins,
        tally: &Tally,
        moved: &mut Moved,
    ) {
        let ruid = origins.pack(row.ruid);
        let Some(index) = self.named(self.find(key), row.ruid, ruid) else {
            // It is entered only to be taken out of the table.
            if let Some(index) = self.enter(key, row, hash, ruid, tally, moved) {
                self.condemn(index, tally);
            }
            return;
        };
        // A binding that was removed, and its row with it, may still guard against late duplicates.
        if let Some(binding) = self.bindings.value_mut(index)
            && binding.is_forgettable()
        {
            binding.stored = Stored::Known;
            self.changed.list(&mut self.bindings, index);
        }
    }

    fn condemn(&mut self, index: u32, tally: &Tally) {
        if let Some(binding) = self.bindings.value_mut(index) {
            tally.note(!binding.removed, false);
            // It guards against nothing: only its row is to go.
            (binding.removed, binding.expires) = (true, Instant::EPOCH);
        }
        self.changed.list(&mut self.bindings, index);
    }

    /// The binding of an AoR that has a row's name, whatever has become of it.
    pub(super) fn named(&self, aor: Option<u32>, name: &[u8], ruid: Ruid) -> Option<u32> {
        let is_it =
            |binding: Held<'_>| binding.ruid == ruid && (!ruid.is_text() || binding.name() == name);
        let mut bindings = self.bindings_of(aor);
        bindings.find_map(|(index, binding)| is_it(binding).then_some(index))
    }

    /// Makes a binding of a row; gives its index, none where there is no room.
    pub(super) fn enter(
        &mut self,
        key: AorKey<'_>,
        row: &Row<'_>,
        hash: u32,
        ruid: Ruid,
        tally: &Tally,
        moved: &mut Moved,
    ) -> Option<u32> {
        if self.bindings.room() == 0 || !tally.reserve(1) {
            return None;
        }
        let aor = self.find(key).unwrap_or_else(|| self.insert_aor(key));
        let binding = Binding::restore(&mut self.texts, row, hash, aor, ruid);
        Some(self.house(binding, tally, moved))
    }

    /// What memory has, and the store has not, becomes the newer state of the row.
    fn adopt(&mut self, index: u32, row: &Row<'_>, ruid: Ruid) {
        if let Some(binding) = self.bindings.value_mut(index) {
            binding.rename(&mut self.texts, row.ruid, ruid);
            self.changed.list(&mut self.bindings, index);
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "as admit(), of which it is the last case"
    )]
    fn enter_duplicate(
        &mut self,
        index: u32,
        key: AorKey<'_>,
        row: &Row<'_>,
        hash: u32,
        ruid: Ruid,
        tally: &Tally,
        moved: &mut Moved,
    ) -> Admission {
        let Some(added) = self.enter(key, row, hash, ruid, tally, moved) else {
            return Admission::Full;
        };
        let is_newer = self.bindings.value(index).is_some_and(|held| {
            held.modified < row.modified
                && !held.removed
                && held.stored == Stored::Known
                && !held.link.is_listed()
        });
        let loser = if is_newer { index } else { added };
        self.condemn(loser, tally);
        if is_newer {
            Admission::Admitted
        } else {
            Admission::Superseded
        }
    }
}
