//! Blocks of bytes, of a few sizes, cut from chunks: where a shard keeps its texts, so that a binding costs the allocator nothing.
//!
//! A chunk that has become empty goes back to the allocator, unless its size has few free blocks beside it: so what phones were once called
//! does not stay, and one that comes and goes takes no chunk each time.

use crate::prefetch;

/// A block by its size and place; it stays where it is until it is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block(u32);

/// All blocks of a shard.
#[derive(Debug)]
pub(super) struct Blocks {
    /// By size; only up to the largest that was ever wanted.
    classes: Vec<Class>,
    /// Bytes of all chunks.
    bytes: usize,
}

/// Blocks of one size.
#[derive(Debug)]
struct Class {
    chunks: Vec<Chunk>,
    /// The first chunk with a free block; they are linked.
    open: u32,
    /// Free blocks of chunks that have their bytes.
    spare: u32,
}

#[derive(Debug)]
struct Chunk {
    /// None of it: all its blocks are free, and it was given back.
    bytes: Box<[u8]>,
    next_open: u32,
    used: u8,
    /// Blocks that were ever used; those behind them are free.
    cut: u8,
    /// The first free block before `cut`; each names the next in its first byte.
    free: u8,
}

impl Block {
    /// No block: of no bytes.
    pub(super) const NONE: Self = Self(u32::MAX);

    fn new(class: usize, chunk: u32, slot: u8) -> Self {
        let class = u32::try_from(class).unwrap_or(0);
        Self(class << (CHUNK_BITS + SLOT_BITS) | chunk << SLOT_BITS | u32::from(slot))
    }

    fn class(self) -> usize {
        (self.0 >> (CHUNK_BITS + SLOT_BITS)) as usize
    }

    fn chunk(self) -> usize {
        (self.0 >> SLOT_BITS) as usize % (1 << CHUNK_BITS)
    }

    fn slot(self) -> u8 {
        (self.0 % (1 << SLOT_BITS)) as u8
    }
}

impl Blocks {
    pub(super) const fn new() -> Self {
        Self {
            classes: Vec::new(),
            bytes: 0,
        }
    }

    /// Gives a block of at least `len` bytes, at most [`BLOCK_LEN_MAX`]; what it holds is not said.
    pub(super) fn take(&mut self, len: usize) -> Block {
        if len == 0 {
            return Block::NONE;
        }
        let class = class_of(len);
        while self.classes.len() <= class {
            self.classes.push(Class::new());
        }
        let size = size_of_class(class);
        let (chunk, slot, taken) = self.classes[class].take(size);
        self.bytes += taken;
        Block::new(class, chunk, slot)
    }

    /// Takes a block back.
    pub(super) fn free(&mut self, block: Block) {
        let size = size_of_class(block.class());
        if block != Block::NONE
            && let Some(class) = self.classes.get_mut(block.class())
        {
            self.bytes -= class.free(block.chunk(), block.slot(), size);
        }
    }

    /// Whether a block is as large as a text of `len` bytes wants it: not smaller, and not much larger.
    pub(super) fn suits(&self, block: Block, len: usize) -> bool {
        let room = self.bytes_of(block).len();
        len <= room && room - len < SLACK
    }

    /// The bytes of a block.
    pub(super) fn bytes_of(&self, block: Block) -> &[u8] {
        let class = self.classes.get(block.class());
        let chunk = class.and_then(|class| class.chunks.get(block.chunk()));
        let range = range(block);
        chunk
            .and_then(|chunk| chunk.bytes.get(range))
            .unwrap_or_default()
    }

    /// Asks for the memory that says where blocks of the small sizes are, which most are of.
    pub(super) fn prefetch_classes(&self) {
        self.classes
            .get(..FINE_CLASSES)
            .unwrap_or(&self.classes)
            .chunks(CLASSES_PER_LINE)
            .filter_map(<[Class]>::first)
            .for_each(prefetch::value);
    }

    /// Asks for the bytes of a block.
    pub(super) fn prefetch(&self, block: Block) {
        prefetch::bytes(self.bytes_of(block));
    }

    /// The bytes of a block, to be written.
    pub(super) fn bytes_of_mut(&mut self, block: Block) -> &mut [u8] {
        let class = self.classes.get_mut(block.class());
        let chunk = class.and_then(|class| class.chunks.get_mut(block.chunk()));
        let range = range(block);
        chunk
            .and_then(|chunk| chunk.bytes.get_mut(range))
            .unwrap_or_default()
    }

    /// Free blocks that have their bytes.
    pub(super) fn spare(&self) -> usize {
        self.classes.iter().map(|class| class.spare as usize).sum()
    }

    /// Blocks in use.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let chunks = self.classes.iter().flat_map(|class| &class.chunks);
        chunks.map(|chunk| usize::from(chunk.used)).sum()
    }

    /// Bytes taken from the allocator.
    pub(super) fn bytes(&self) -> usize {
        let heads = self
            .classes
            .iter()
            .map(|class| class.chunks.capacity() * size_of::<Chunk>());
        self.bytes + heads.sum::<usize>() + self.classes.capacity() * size_of::<Class>()
    }
}

impl Class {
    const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            open: NIL,
            spare: 0,
        }
    }

    /// Gives chunk and slot of a free block, and the bytes that had to be taken from the allocator for it.
    fn take(&mut self, size: usize) -> (u32, u8, usize) {
        let per_chunk = per_chunk(size);
        if self.open == NIL {
            self.open = u32::try_from(self.chunks.len())
                .ok()
                .filter(|len| *len < 1 << CHUNK_BITS)
                .expect("so many chunks of one of a thousand shards are more memory than there is");
            self.chunks.push(Chunk::new());
        }
        let number = self.open;
        let chunk = &mut self.chunks[number as usize];
        let mut taken = 0;
        if chunk.bytes.is_empty() {
            *chunk = Chunk {
                next_open: chunk.next_open,
                ..Chunk::new()
            };
            chunk.bytes = vec![0; usize::from(per_chunk) * size].into_boxed_slice();
            taken = chunk.bytes.len();
            self.spare += u32::from(per_chunk);
        }
        let slot = chunk.take(size);
        self.spare -= 1;
        if chunk.used == per_chunk {
            self.open = std::mem::replace(&mut chunk.next_open, NIL);
        }
        (number, slot, taken)
    }

    /// Takes a block back, and gives the bytes that went back to the allocator.
    fn free(&mut self, number: usize, slot: u8, size: usize) -> usize {
        let per_chunk = per_chunk(size);
        let Some(chunk) = self.chunks.get_mut(number).filter(|chunk| chunk.used > 0) else {
            return 0;
        };
        if chunk.used == per_chunk {
            chunk.next_open =
                std::mem::replace(&mut self.open, u32::try_from(number).unwrap_or(NIL));
        }
        chunk.free(slot, size);
        self.spare += 1;
        if chunk.used > 0 || self.spare < 2 * u32::from(per_chunk) {
            return 0;
        }
        self.spare -= u32::from(per_chunk);
        std::mem::take(&mut chunk.bytes).len()
    }
}

impl Chunk {
    fn new() -> Self {
        Self {
            bytes: Box::default(),
            next_open: NIL,
            used: 0,
            cut: 0,
            free: NO_SLOT,
        }
    }

    /// Gives a free slot; there is one.
    fn take(&mut self, size: usize) -> u8 {
        self.used += 1;
        let slot = self.free;
        if slot == NO_SLOT {
            self.cut += 1;
            return self.cut - 1;
        }
        self.free = self
            .bytes
            .get(usize::from(slot) * size)
            .copied()
            .unwrap_or(NO_SLOT);
        slot
    }

    fn free(&mut self, slot: u8, size: usize) {
        self.used -= 1;
        if let Some(link) = self.bytes.get_mut(usize::from(slot) * size) {
            *link = std::mem::replace(&mut self.free, slot);
        }
    }
}

/// Where a block lies in its chunk.
fn range(block: Block) -> std::ops::Range<usize> {
    let size = size_of_class(block.class());
    let start = usize::from(block.slot()) * size;
    start..start + size
}

/// The class of the smallest blocks that hold `len` bytes.
fn class_of(len: usize) -> usize {
    let class = match len {
        0..=FINE_MAX => len.div_ceil(FINE).max(1) - 1,
        _ => FINE_CLASSES - 1 + (len - FINE_MAX).div_ceil(COARSE),
    };
    class.min(CLASSES - 1)
}

fn size_of_class(class: usize) -> usize {
    if class < FINE_CLASSES {
        (class + 1) * FINE
    } else {
        FINE_MAX + (class + 1 - FINE_CLASSES) * COARSE
    }
}

/// Blocks of a chunk: enough that what is left over is small, few enough that a shard with few bindings stays small.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the most are those of the smallest size, as asserted below"
)]
fn per_chunk(size: usize) -> u8 {
    let target = if size <= FINE_MAX / 2 { 1_024 } else { 2_048 };
    (target / size).max(1) as u8
}

/// What the small sizes differ by, the largest of them, and what the others differ by.
const FINE: usize = 16;
const FINE_MAX: usize = 256;
const COARSE: usize = 128;
const FINE_CLASSES: usize = FINE_MAX / FINE;
/// The largest block.
pub(super) const BLOCK_LEN_MAX: usize = 2_048;
const CLASSES: usize = FINE_CLASSES + (BLOCK_LEN_MAX - FINE_MAX) / COARSE;
/// Classes whose heads share a cache line.
const CLASSES_PER_LINE: usize = 64 / size_of::<Class>();
/// How much larger than its text a block may be, where the text has become shorter.
const SLACK: usize = 64;
/// Bits of a slot in its chunk, of a chunk in its class.
const SLOT_BITS: u32 = 6;
const CHUNK_BITS: u32 = 21;
const NIL: u32 = u32::MAX;
const NO_SLOT: u8 = u8::MAX;

const _: () = assert!(1_024 / FINE <= 1 << SLOT_BITS && FINE >= 1);
const _: () = assert!(CLASSES < 1 << (u32::BITS - SLOT_BITS - CHUNK_BITS));
const _: () = assert!(SLACK <= COARSE && SLACK > FINE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_what_was_wanted_and_little_more() {
        for len in 1..=BLOCK_LEN_MAX {
            let size = size_of_class(class_of(len));
            assert!(size >= len && size - len < COARSE, "{len}: {size}");
            assert!(len > FINE_MAX || size - len < FINE, "{len}: {size}");
        }
    }

    #[test]
    fn blocks_do_not_overlap_and_empty_chunks_go_back() {
        let mut blocks = Blocks::new();
        let mut held: Vec<(Block, usize, u8)> = Vec::new();
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % below
        };
        let mut most = 0;
        for round in 0..20_000_u32 {
            most = blocks.bytes.max(most);
            let grows = round < 10_000 && next(3) > 0 || held.is_empty();
            if grows {
                let longest = if next(20) == 0 { 2_048 } else { 200 };
                let len = 1 + next(longest) as usize;
                let (block, mark) = (blocks.take(len), (round % 251) as u8);
                blocks.bytes_of_mut(block)[..len].fill(mark);
                held.push((block, len, mark));
            } else {
                let (block, len, mark) = held.swap_remove(next(held.len() as u64) as usize);
                assert!(
                    blocks.bytes_of(block)[..len]
                        .iter()
                        .all(|byte| *byte == mark)
                );
                blocks.free(block);
            }
        }
        for (block, len, mark) in held.drain(..) {
            assert!(
                blocks.bytes_of(block)[..len]
                    .iter()
                    .all(|byte| *byte == mark)
            );
            blocks.free(block);
        }
        assert_eq!(blocks.held(), 0);
        assert!(most > 500_000 && blocks.bytes <= 2 * CLASSES * 2_048);
        assert_eq!(blocks.take(0), Block::NONE);
        assert!(blocks.bytes_of(Block::NONE).is_empty());
        blocks.free(Block::NONE);
    }
}
