//! A slab: values at stable small indexes, in chunks, so that growth copies nothing and wastes at most one chunk.

use crate::prefetch;

/// Values of type `T`, each at an index that stays its own until it is removed.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    /// Head of the free slots, linked through them.
    free: u32,
    len: usize,
}

#[derive(Debug)]
enum Slot<T> {
    Free { next: u32 },
    Held(T),
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: NIL,
            len: 0,
        }
    }

    /// Puts a value in; the caller has seen that there is [`Slab::room`].
    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        let index = self.free;
        if let Some(slot) = self.slot_mut(index) {
            let Slot::Free { next } = *slot else {
                unreachable!("the free list links free slots alone")
            };
            *slot = Slot::Held(value);
            self.free = next;
            return index;
        }
        let index = self.slots();
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.last_mut().expect("one was just pushed");
        chunk.push(Slot::Held(value));
        index
    }

    /// Takes the value at `index` out, if there is one.
    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let next = self.free;
        let slot = self.slot_mut(index)?;
        if matches!(slot, Slot::Free { .. }) {
            return None;
        }
        let Slot::Held(value) = std::mem::replace(slot, Slot::Free { next }) else {
            unreachable!("it was seen to be held")
        };
        self.free = index;
        self.len -= 1;
        Some(value)
    }

    pub(super) fn value_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.slot_mut(index)? {
            Slot::Held(value) => Some(value),
            Slot::Free { .. } => None,
        }
    }

    pub(super) fn value(&self, index: u32) -> Option<&T> {
        match self
            .chunks
            .get(index as usize / CHUNK)?
            .get(index as usize % CHUNK)?
        {
            Slot::Held(value) => Some(value),
            Slot::Free { .. } => None,
        }
    }

    /// Asks for the memory that says where values are.
    pub(super) fn prefetch_chunks(&self) {
        if let Some(first) = self.chunks.first() {
            prefetch::value(first);
        }
    }

    /// Asks for the memory of the value at `index`.
    pub(super) fn prefetch(&self, index: u32) {
        let chunk = self.chunks.get(index as usize / CHUNK);
        if let Some(slot) = chunk.and_then(|chunk| chunk.get(index as usize % CHUNK)) {
            prefetch::value(slot);
        }
    }

    /// How many values are held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Slots in being that hold nothing.
    pub(super) fn spare(&self) -> usize {
        self.slots() as usize - self.len
    }

    /// How many more values may be inserted.
    pub(super) fn room(&self) -> usize {
        INDEX_MAX as usize - self.len
    }

    /// Slots in being, free ones too: every index in use is below it.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "room() keeps it below INDEX_MAX"
    )]
    pub(super) fn slots(&self) -> u32 {
        match self.chunks.last() {
            Some(last) => ((self.chunks.len() - 1) * CHUNK + last.len()) as u32,
            None => 0,
        }
    }

    /// Bytes taken from the allocator.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Slot<T>>()
            + self.chunks.capacity() * size_of::<Vec<Slot<T>>>()
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        self.chunks
            .get_mut(index as usize / CHUNK)?
            .get_mut(index as usize % CHUNK)
    }
}

/// Values a chunk.
const CHUNK: usize = 32;
/// Bits of an index.
pub(super) const INDEX_BITS: u32 = 22;
/// Values of one slab.
const INDEX_MAX: u32 = 1 << INDEX_BITS;
/// No index.
pub(super) const NIL: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_stays_and_a_freed_one_is_used_again() {
        let mut slab = Slab::new();
        let indexes: Vec<u32> = (0..100).map(|n| slab.insert(n)).collect();
        assert_eq!(slab.remove(indexes[40]), Some(40));
        assert_eq!(slab.remove(indexes[40]), None);
        assert_eq!(slab.value(indexes[40]), None);
        assert_eq!(slab.insert(1_000), indexes[40]);
        assert_eq!(slab.value(indexes[40]), Some(&1_000));
        assert_eq!(slab.value(indexes[99]), Some(&99));
        assert_eq!((slab.len(), slab.slots()), (100, 100));
        assert_eq!(slab.value(NIL), None);
    }

    #[test]
    fn a_free_slot_costs_no_tag() {
        assert_eq!(
            size_of::<Slot<(Box<[u8]>, u64)>>(),
            size_of::<(Box<[u8]>, u64)>()
        );
    }
}
