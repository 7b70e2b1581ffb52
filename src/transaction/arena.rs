//! The stored copies of messages: buffers of a few sizes, grown a chunk at a time, reused and never moved.

use crate::limits::{CONTACT_LEN_MAX, MESSAGE_LEN_MAX, PATH_LEN_MAX};
use crate::prefetch;

/// A stored message: which buffer, and how much of it. Owned by whoever holds it, and given back by [`Arena::release`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a stored message that is dropped is a leaked buffer"]
pub struct Stored {
    class: u8,
    buffer: u32,
    len: u32,
}

/// The buffers of one worker.
#[derive(Debug)]
pub struct Arena {
    classes: [Class; CLASS_LENS.len()],
    bytes_max: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Class {
    chunks: Vec<Box<[u8]>>,
    free: Vec<u32>,
    live: usize,
}

/// The sizes of buffers: a SIP message of 0.3 to 2 KiB wastes a fifth of its buffer at most.
const CLASS_LENS: [usize; 14] = [
    64,
    128,
    256,
    384,
    512,
    640,
    768,
    1_024,
    1_280,
    1_536,
    2_048,
    4_096,
    16_384,
    MESSAGE_LEN_MAX,
];

/// What a chunk aims at in bytes; a chunk holds at least one buffer.
const CHUNK_BYTES: usize = 65_536;

/// The longest text that is ever duplicated: a contact or a path.
const DUPLICATE_LEN_MAX: usize = if CONTACT_LEN_MAX > PATH_LEN_MAX {
    CONTACT_LEN_MAX
} else {
    PATH_LEN_MAX
};

impl Stored {
    /// Its length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Arena {
    /// An empty arena that takes at most about `bytes_max` bytes from the system.
    #[must_use]
    pub fn with_limit(bytes_max: usize) -> Self {
        let classes = std::array::from_fn(|_| Class {
            chunks: Vec::new(),
            free: Vec::new(),
            live: 0,
        });
        Self {
            classes,
            bytes_max,
            bytes: 0,
        }
    }

    /// Keeps a copy of `bytes`; `None` at the limit, or where they are longer than any message.
    pub fn store(&mut self, bytes: &[u8]) -> Option<Stored> {
        let (stored, buffer) = self.reserve(bytes.len())?;
        buffer.copy_from_slice(bytes);
        Some(stored)
    }

    /// Reserves a buffer of `len` bytes for the caller to fill.
    pub fn reserve(&mut self, len: usize) -> Option<(Stored, &mut [u8])> {
        let index = CLASS_LENS.iter().position(|class_len| *class_len >= len)?;
        let class_len = *CLASS_LENS.get(index)?;
        let per_chunk = buffers_per_chunk(class_len);
        let class = self.classes.get_mut(index)?;
        if class.free.is_empty() {
            let chunk_bytes = class_len * per_chunk;
            if self.bytes + chunk_bytes > self.bytes_max {
                return None;
            }
            self.bytes += chunk_bytes;
            class.grow(class_len, per_chunk)?;
        }
        let buffer = class.free.pop()?;
        class.live += 1;
        let stored = Stored {
            class: u8::try_from(index).ok()?,
            buffer,
            len: u32::try_from(len).ok()?,
        };
        // The next one of this size is likely to be as long, and was last used long ago.
        if let Some(next) = class.free.last()
            && let Some(bytes) = class.buffer(*next, class_len, len)
        {
            prefetch::bytes(bytes);
        }
        Some((stored, class.buffer_mut(buffer, class_len, len)?))
    }

    /// Keeps a further copy of what is stored.
    pub fn duplicate(&mut self, stored: &Stored) -> Option<Stored> {
        let mut bytes = [0; DUPLICATE_LEN_MAX];
        let bytes = bytes.get_mut(..stored.len as usize)?;
        bytes.copy_from_slice(self.bytes(stored));
        self.store(bytes)
    }

    /// The bytes of a stored message.
    #[must_use]
    pub fn bytes(&self, stored: &Stored) -> &[u8] {
        let class = stored.class as usize;
        let (class, class_len) = (&self.classes[class], CLASS_LENS[class]);
        let bytes = class.buffer(stored.buffer, class_len, stored.len as usize);
        bytes.unwrap_or_default()
    }

    /// Gives a buffer back.
    pub fn release(&mut self, stored: Stored) {
        let class = &mut self.classes[stored.class as usize];
        class.free.push(stored.buffer);
        class.live -= 1;
    }

    /// How many messages are stored: for the leak checkers.
    #[must_use]
    pub fn live(&self) -> usize {
        self.classes.iter().map(|class| class.live).sum()
    }

    /// Bytes taken from the system.
    #[must_use]
    pub const fn footprint(&self) -> usize {
        self.bytes
    }
}

impl Class {
    /// The first `len` bytes of a buffer.
    fn buffer(&self, buffer: u32, class_len: usize, len: usize) -> Option<&[u8]> {
        let per_chunk = buffers_per_chunk(class_len);
        let start = (buffer as usize % per_chunk) * class_len;
        let chunk = self.chunks.get(buffer as usize / per_chunk)?;
        chunk.get(start..start + len)
    }

    /// The same, to be written.
    fn buffer_mut(&mut self, buffer: u32, class_len: usize, len: usize) -> Option<&mut [u8]> {
        let per_chunk = buffers_per_chunk(class_len);
        let start = (buffer as usize % per_chunk) * class_len;
        let chunk = self.chunks.get_mut(buffer as usize / per_chunk)?;
        chunk.get_mut(start..start + len)
    }

    fn grow(&mut self, class_len: usize, per_chunk: usize) -> Option<()> {
        let first = u32::try_from(self.chunks.len() * per_chunk).ok()?;
        let end = first.checked_add(u32::try_from(per_chunk).ok()?)?;
        let mut chunk = vec![0; class_len * per_chunk].into_boxed_slice();
        prefetch::pages(&mut chunk);
        self.chunks.push(chunk);
        // Room for every buffer of the class at once, so that giving back never allocates.
        self.free.reserve(end as usize);
        self.free.extend((first..end).rev());
        Some(())
    }
}

const fn buffers_per_chunk(class_len: usize) -> usize {
    let count = CHUNK_BYTES / class_len;
    if count == 0 { 1 } else { count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_back_and_reused() {
        let mut arena = Arena::with_limit(1 << 20);
        let stored: Vec<_> = (0..200_u8)
            .map(|n| arena.store(&vec![n; 300 + n as usize]).expect("room"))
            .collect();
        for (n, stored) in stored.iter().enumerate() {
            assert_eq!(arena.bytes(stored).len(), 300 + n);
            assert!(arena.bytes(stored).iter().all(|byte| *byte as usize == n));
        }
        let footprint = arena.footprint();
        for stored in stored {
            arena.release(stored);
        }
        assert_eq!(arena.live(), 0);
        let again = arena.store(&[7; 400]).expect("room");
        assert_eq!(arena.footprint(), footprint);
        arena.release(again);
    }

    #[test]
    fn the_limit_and_the_longest_message_hold() {
        let mut arena = Arena::with_limit(MESSAGE_LEN_MAX);
        assert!(arena.store(&vec![0; MESSAGE_LEN_MAX + 1]).is_none());
        let longest = arena
            .store(&vec![1; MESSAGE_LEN_MAX])
            .expect("room for one");
        assert!(arena.store(&vec![1; MESSAGE_LEN_MAX]).is_none());
        arena.release(longest);
        assert!(arena.store(&vec![1; MESSAGE_LEN_MAX]).is_some());
    }
}
