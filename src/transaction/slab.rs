//! Slots of one kind, grown a chunk at a time and never moved, each with the generation that tells tenants apart.

use super::id::Generation;
use crate::prefetch;

/// A slab of at most as many entries as it was made for; memory is taken a chunk at a time, as it is first needed.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Box<[Slot<T>]>>,
    free: Option<u32>,
    len: u32,
    len_max: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: Generation,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Free { next: Option<u32> },
    Taken(T),
}

/// Entries of a chunk: one allocation, some tens of kilobytes.
const CHUNK_LEN: u32 = 256;

impl<T> Slab<T> {
    /// An empty slab for at most `len_max` entries.
    #[must_use]
    pub fn with_limit(len_max: u32) -> Self {
        // The list of chunks is allocated whole (8 bytes a pointer), so that growth never moves anything.
        let chunks = Vec::with_capacity(len_max.div_ceil(CHUNK_LEN) as usize);
        Self {
            chunks,
            free: None,
            len: 0,
            len_max,
        }
    }

    /// Stores what `make` gives for the slot's number and generation; `None` at the limit.
    pub fn insert_with(&mut self, make: impl FnOnce(u32, Generation) -> T) -> Option<u32> {
        if self.free.is_none() {
            self.grow()?;
        }
        let index = self.free?;
        let slot = self.slot_mut(index)?;
        let Content::Free { next } = slot.content else {
            return None;
        };
        slot.content = Content::Taken(make(index, slot.generation));
        self.free = next;
        // The next tenant's slot was last used long ago.
        next.inspect(|next| self.prefetch(*next));
        self.len += 1;
        Some(index)
    }

    /// Takes an entry out; its slot's next tenant has the next generation.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let free = self.free;
        let slot = self.slot_mut(index)?;
        if matches!(slot.content, Content::Free { .. }) {
            return None;
        }
        slot.generation.0 = slot.generation.0.wrapping_add(1);
        let content = std::mem::replace(&mut slot.content, Content::Free { next: free });
        self.free = Some(index);
        self.len -= 1;
        match content {
            Content::Taken(entry) => Some(entry),
            Content::Free { .. } => None,
        }
    }

    /// The entry at `index`, to be changed.
    pub fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        match &mut self.slot_mut(index)?.content {
            Content::Taken(entry) => Some(entry),
            Content::Free { .. } => None,
        }
    }

    /// The entry at `index`.
    #[must_use]
    pub fn at(&self, index: u32) -> Option<&T> {
        match &self.slot(index)?.content {
            Content::Taken(entry) => Some(entry),
            Content::Free { .. } => None,
        }
    }

    /// The entry at `index` if its tenant is of that generation.
    #[must_use]
    pub fn of_generation(&self, index: u32, generation: Generation) -> Option<&T> {
        let slot = self.slot(index)?;
        if slot.generation == generation {
            self.at(index)
        } else {
            None
        }
    }

    /// Asks for the memory of a slot that is soon to be looked at.
    pub fn prefetch(&self, index: u32) {
        if let Some(slot) = self.slot(index) {
            prefetch::value(slot);
        }
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Bytes taken from the system.
    #[must_use]
    pub const fn footprint(&self) -> usize {
        self.chunks.len() * CHUNK_LEN as usize * size_of::<Slot<T>>()
            + self.chunks.capacity() * size_of::<Box<[Slot<T>]>>()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn grow(&mut self) -> Option<()> {
        let first = u32::try_from(self.chunks.len())
            .ok()?
            .checked_mul(CHUNK_LEN)?;
        let end = first.saturating_add(CHUNK_LEN).min(self.len_max);
        if first >= end {
            return None;
        }
        let mut chunk = Vec::with_capacity((end - first) as usize);
        prefetch::pages(chunk.spare_capacity_mut());
        chunk.extend((first..end).map(|index| Slot {
            generation: Generation::default(),
            content: Content::Free {
                next: (index + 1 < end).then_some(index + 1),
            },
        }));
        self.chunks.push(chunk.into_boxed_slice());
        self.free = Some(first);
        Some(())
    }

    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        self.chunks
            .get((index / CHUNK_LEN) as usize)?
            .get((index % CHUNK_LEN) as usize)
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        self.chunks
            .get_mut((index / CHUNK_LEN) as usize)?
            .get_mut((index % CHUNK_LEN) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_reused_under_a_new_generation() {
        let mut slab = Slab::with_limit(10);
        let mut seen = None;
        let index = slab
            .insert_with(|_, generation| seen.replace(generation))
            .expect("room");
        let first = seen.expect("made");
        assert!(slab.of_generation(index, first).is_some());
        slab.remove(index);
        assert!(slab.is_empty());
        let again = slab.insert_with(|_, _| None).expect("room");
        assert_eq!(again, index);
        assert!(slab.of_generation(index, first).is_none());
    }

    #[test]
    fn the_limit_holds_and_is_reached() {
        let mut slab = Slab::with_limit(CHUNK_LEN + 3);
        let taken: Vec<_> = (0..CHUNK_LEN + 3)
            .map(|n| slab.insert_with(|_, _| n))
            .collect();
        assert!(taken.iter().all(Option::is_some));
        assert_eq!(slab.insert_with(|_, _| 0), None);
        slab.remove(5);
        assert_eq!(slab.insert_with(|_, _| 0), Some(5));
        assert_eq!(slab.len(), CHUNK_LEN as usize + 3);
    }

    #[test]
    fn what_was_never_there_is_not_found() {
        let mut slab: Slab<u8> = Slab::with_limit(4);
        assert_eq!(slab.at(0), None);
        assert_eq!(slab.remove(3), None);
        assert_eq!(slab.remove(u32::MAX), None);
    }
}
