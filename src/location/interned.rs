//! Texts that many bindings of a shard have alike, such as what phones call themselves: each is held once, and counted.
//!
//! There are few places. Who finds none keeps the text itself; so phones that all call themselves differently cost nothing more.

use super::blocks::{Block, Blocks};

/// The place of such a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u8);

/// The texts of one shard.
#[derive(Debug)]
pub(super) struct Interned {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    block: Block,
    /// How many bindings have it; none: the place is free.
    uses: u32,
    /// What most texts differ by already.
    print: u32,
    len: u16,
}

impl Place {
    /// No text is held here: the binding has it itself, or has none.
    pub(super) const NONE: Self = Self(u8::MAX);
}

impl Interned {
    pub(super) const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// Holds a text for one binding more, whose text at `before` it replaces; [`Place::NONE`] where there is no place, or no text.
    pub(super) fn replace(&mut self, blocks: &mut Blocks, before: Place, text: &[u8]) -> Place {
        if before != Place::NONE && self.text(blocks, before) == text {
            return before;
        }
        self.release(blocks, before);
        self.hold(blocks, text)
    }

    /// A binding less has the text at `place`.
    pub(super) fn release(&mut self, blocks: &mut Blocks, place: Place) {
        let Some(entry) = self.entries.get_mut(usize::from(place.0)) else {
            return;
        };
        entry.uses = entry.uses.saturating_sub(1);
        if entry.uses == 0 {
            blocks.free(std::mem::replace(&mut entry.block, Block::NONE));
        }
    }

    /// The text at a place.
    pub(super) fn text<'b>(&self, blocks: &'b Blocks, place: Place) -> &'b [u8] {
        let Some(entry) = self.entries.get(usize::from(place.0)) else {
            return &[];
        };
        let bytes = blocks.bytes_of(entry.block);
        bytes.get(..usize::from(entry.len)).unwrap_or_default()
    }

    /// Bytes that the texts take, and the table of them.
    pub(super) fn bytes(&self, blocks: &Blocks) -> usize {
        let texts = self.entries.iter();
        let texts: usize = texts.map(|entry| blocks.bytes_of(entry.block).len()).sum();
        texts + self.table_bytes()
    }

    /// Bytes of the table alone.
    pub(super) fn table_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    fn hold(&mut self, blocks: &mut Blocks, text: &[u8]) -> Place {
        let Ok(len) = u16::try_from(text.len()) else {
            return Place::NONE;
        };
        if len == 0 {
            return Place::NONE;
        }
        let print = print(text);
        let mut free = None;
        for (place, entry) in self.entries.iter_mut().enumerate() {
            if entry.uses == 0 {
                free = free.or(Some(place));
                continue;
            }
            let is_alike = entry.print == print && entry.len == len;
            if is_alike && blocks.bytes_of(entry.block).get(..text.len()) == Some(text) {
                entry.uses += 1;
                return Place::at(place);
            }
        }
        let place = free.unwrap_or(self.entries.len());
        if place >= PLACES {
            return Place::NONE;
        }
        let block = blocks.take(text.len());
        if let Some(room) = blocks.bytes_of_mut(block).get_mut(..text.len()) {
            room.copy_from_slice(text);
        }
        let entry = Entry {
            block,
            uses: 1,
            print,
            len,
        };
        match self.entries.get_mut(place) {
            Some(held) => *held = entry,
            None => self.entries.push(entry),
        }
        Place::at(place)
    }
}

impl Place {
    fn at(place: usize) -> Self {
        u8::try_from(place).map_or(Self::NONE, Self)
    }
}

/// Of length and ends: texts of one maker differ in their last bytes, those of several in their first.
fn print(text: &[u8]) -> u32 {
    let fold = |print: u32, byte: &u8| (print ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let (first, last) = text.split_at(text.len().min(8));
    let last = &last[last.len().saturating_sub(16)..];
    let first = first.iter().fold(text.len() as u32, fold);
    last.iter().fold(first, fold)
}

/// Texts of one shard that are held once: what a scan finds sooner than a table of hashes would.
const PLACES: usize = 128;

const _: () = assert!(PLACES < u8::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_held_once_and_goes_with_its_last_binding() {
        let (mut blocks, mut interned) = (Blocks::new(), Interned::new());
        let phone = interned.replace(&mut blocks, Place::NONE, b"Phone/1.0");
        let other = interned.replace(&mut blocks, Place::NONE, b"Phone/1.1");
        assert_ne!(phone, other);
        assert_eq!(
            interned.replace(&mut blocks, Place::NONE, b"Phone/1.0"),
            phone
        );
        assert_eq!(interned.replace(&mut blocks, phone, b"Phone/1.0"), phone);
        assert_eq!(interned.text(&blocks, phone), b"Phone/1.0");
        // One of two goes over to the other text, then the second.
        assert_eq!(interned.replace(&mut blocks, phone, b"Phone/1.1"), other);
        assert_eq!(interned.text(&blocks, phone), b"Phone/1.0");
        interned.release(&mut blocks, phone);
        assert_eq!(interned.text(&blocks, phone), b"");
        assert_eq!(interned.replace(&mut blocks, Place::NONE, b"x"), phone);
        assert_eq!(interned.replace(&mut blocks, other, b""), Place::NONE);
        assert_eq!(interned.text(&blocks, Place::NONE), b"");
    }

    #[test]
    fn where_there_is_no_place_nothing_is_held() {
        let (mut blocks, mut interned) = (Blocks::new(), Interned::new());
        let texts: Vec<String> = (0..PLACES).map(|n| format!("Phone/{n}")).collect();
        for text in &texts {
            assert_ne!(
                interned.replace(&mut blocks, Place::NONE, text.as_bytes()),
                Place::NONE
            );
        }
        assert_eq!(
            interned.replace(&mut blocks, Place::NONE, b"another"),
            Place::NONE
        );
        let held = interned.replace(&mut blocks, Place::NONE, texts[7].as_bytes());
        assert_eq!(interned.text(&blocks, held), texts[7].as_bytes());
    }
}
