//! The texts of a shard's bindings: those of one stand together in a block, and what many have alike is held once for all.

use super::blocks::{BLOCK_LEN_MAX, Block, Blocks};
use super::interned::{Interned, Place};
use crate::limits::{BINDING_TEXT_LEN_MAX, CONTACT_LEN_MAX, PATH_LEN_MAX};
use crate::prefetch;

/// Where the texts of one shard are.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) blocks: Blocks,
    interned: Interned,
}

/// Which text of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Contact,
    /// A name in a form that [`Ruid`](super::ruid::Ruid) cannot hold; empty with all others.
    Name,
    CallId,
    Instance,
    /// An address that the binding has no room for.
    Address,
    Path,
    UserAgent,
}

/// The texts of a binding, to be written.
pub(super) type Parts<'a> = [&'a [u8]; PARTS];

/// Where the texts of one binding are. It is freed by [`Texts::free`] alone.
#[derive(Debug)]
pub(super) struct TextsOf {
    block: Block,
    /// Of path and user agent: what stands in the block, where it is not held for all.
    contact: u16,
    path: u16,
    name: u8,
    call_id: u8,
    instance: u8,
    address: u8,
    user_agent: u8,
    common_path: Place,
    common_user_agent: Place,
}

impl Texts {
    pub(super) const fn new() -> Self {
        Self {
            blocks: Blocks::new(),
            interned: Interned::new(),
        }
    }

    /// Writes all texts of a binding, each cut to its bound.
    pub(super) fn write(&mut self, of: &mut TextsOf, mut parts: Parts<'_>) {
        for (part, len_max) in parts.iter_mut().zip(LEN_MAX) {
            *part = cut(part, len_max);
        }
        let Self { blocks, interned } = self;
        let [.., path, user_agent] = &mut parts;
        for (place, text) in [
            (&mut of.common_path, path),
            (&mut of.common_user_agent, user_agent),
        ] {
            *place = interned.replace(blocks, *place, text);
            if *place != Place::NONE {
                *text = b"";
            }
        }
        let need: usize = parts.iter().map(|part| part.len()).sum();
        if !self.blocks.suits(of.block, need) {
            self.blocks.free(of.block);
            of.block = self.blocks.take(need);
        }
        let mut rest = self.blocks.bytes_of_mut(of.block);
        for part in parts {
            let Some((here, behind)) = rest.split_at_mut_checked(part.len()) else {
                break;
            };
            here.copy_from_slice(part);
            rest = behind;
        }
        of.set_lengths(parts.map(<[u8]>::len));
    }

    /// Gives back all that the texts of a binding take.
    pub(super) fn free(&mut self, of: &TextsOf) {
        self.blocks.free(of.block);
        self.interned.release(&mut self.blocks, of.common_path);
        self.interned
            .release(&mut self.blocks, of.common_user_agent);
    }

    /// Asks for the texts of a binding.
    pub(super) fn prefetch(&self, of: &TextsOf) {
        self.blocks.prefetch(of.block);
        if of.common_user_agent != Place::NONE {
            prefetch::bytes(self.interned.text(&self.blocks, of.common_user_agent));
        }
    }

    /// One text of a binding.
    pub(super) fn text(&self, of: &TextsOf, part: Part) -> &[u8] {
        let common = match part {
            Part::Path => of.common_path,
            Part::UserAgent => of.common_user_agent,
            Part::Contact | Part::Name | Part::CallId | Part::Instance | Part::Address => {
                Place::NONE
            }
        };
        if common != Place::NONE {
            return self.interned.text(&self.blocks, common);
        }
        let lengths = of.lengths();
        let start: usize = lengths.iter().take(part as usize).sum();
        let len = lengths.get(part as usize).copied().unwrap_or(0);
        let bytes = self.blocks.bytes_of(of.block);
        bytes.get(start..start + len).unwrap_or_default()
    }

    /// All texts of a binding.
    pub(super) fn all(&self, of: &TextsOf) -> Parts<'_> {
        let mut rest = self.blocks.bytes_of(of.block);
        let mut parts = of.lengths().map(|len| {
            let (text, behind) = rest.split_at_checked(len).unwrap_or_default();
            rest = behind;
            text
        });
        let [.., path, user_agent] = &mut parts;
        for (place, text) in [(of.common_path, path), (of.common_user_agent, user_agent)] {
            if place != Place::NONE {
                *text = self.interned.text(&self.blocks, place);
            }
        }
        parts
    }

    /// Whether the texts of a binding are these, its name aside.
    pub(super) fn are(&self, of: &TextsOf, parts: &Parts<'_>) -> bool {
        let held = self.all(of);
        let others = (0..PARTS).filter(|part| *part != Part::Name as usize);
        let mut others = others.map(|part| held[part] == parts[part]);
        others.all(|is_same| is_same)
    }

    /// Writes some texts of a binding anew; the others stay. For what is seldom done: it copies all of them.
    pub(super) fn rewrite(&mut self, of: &mut TextsOf, some: &[(Part, &[u8])]) {
        let mut old = [0; BLOCK_LEN_MAX];
        let mut lengths = [0; PARTS];
        let mut rest = &mut old[..];
        for (part, len) in ALL.into_iter().zip(&mut lengths) {
            let text = self.text(of, part);
            *len = text.len();
            let room = std::mem::take(&mut rest);
            if let Some((here, behind)) = room.split_at_mut_checked(text.len()) {
                here.copy_from_slice(text);
                rest = behind;
            }
        }
        let mut rest = &old[..];
        let mut parts = lengths.map(|len| {
            let (text, behind) = rest.split_at_checked(len).unwrap_or_default();
            rest = behind;
            text
        });
        for (part, text) in some {
            parts[*part as usize] = text;
        }
        self.write(of, parts);
    }

    /// Bytes of the texts that are held once for all, and of the table of them.
    pub(super) fn interned_bytes(&self) -> usize {
        self.interned.bytes(&self.blocks)
    }

    /// Bytes of all other texts.
    pub(super) fn bytes(&self) -> usize {
        let all = self.blocks.bytes() + self.interned.table_bytes();
        all.saturating_sub(self.interned_bytes())
    }
}

impl TextsOf {
    /// None as yet.
    pub(super) const NONE: Self = Self {
        block: Block::NONE,
        contact: 0,
        path: 0,
        name: 0,
        call_id: 0,
        instance: 0,
        address: 0,
        user_agent: 0,
        common_path: Place::NONE,
        common_user_agent: Place::NONE,
    };

    #[expect(
        clippy::cast_possible_truncation,
        reason = "each text was cut to a bound that fits, as asserted below"
    )]
    fn set_lengths(&mut self, lengths: [usize; PARTS]) {
        let [contact, name, call_id, instance, address, path, user_agent] = lengths;
        self.contact = contact as u16;
        self.name = name as u8;
        self.call_id = call_id as u8;
        self.instance = instance as u8;
        self.address = address as u8;
        self.path = path as u16;
        self.user_agent = user_agent as u8;
    }

    fn lengths(&self) -> [usize; PARTS] {
        [
            usize::from(self.contact),
            usize::from(self.name),
            usize::from(self.call_id),
            usize::from(self.instance),
            usize::from(self.address),
            usize::from(self.path),
            usize::from(self.user_agent),
        ]
    }
}

fn cut(text: &[u8], len_max: usize) -> &[u8] {
    text.get(..len_max).unwrap_or(text)
}

const PARTS: usize = 7;
const ALL: [Part; PARTS] = [
    Part::Contact,
    Part::Name,
    Part::CallId,
    Part::Instance,
    Part::Address,
    Part::Path,
    Part::UserAgent,
];
const LEN_MAX: [usize; PARTS] = [
    CONTACT_LEN_MAX,
    NAME_LEN_MAX,
    BINDING_TEXT_LEN_MAX,
    BINDING_TEXT_LEN_MAX,
    ADDRESS_LEN,
    PATH_LEN_MAX,
    BINDING_TEXT_LEN_MAX,
];
/// The longest name of a row, as in Kamailio's table.
pub(super) const NAME_LEN_MAX: usize = 64;
/// An IPv6 address and its scope.
pub(super) const ADDRESS_LEN: usize = 20;

const _: () = assert!(CONTACT_LEN_MAX <= u16::MAX as usize && PATH_LEN_MAX <= u16::MAX as usize);
const _: () = assert!(BINDING_TEXT_LEN_MAX <= u8::MAX as usize);
const _: () = assert!(
    CONTACT_LEN_MAX + PATH_LEN_MAX + NAME_LEN_MAX + ADDRESS_LEN + 3 * BINDING_TEXT_LEN_MAX
        <= BLOCK_LEN_MAX
);
const _: () = assert!(size_of::<TextsOf>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_whatever_they_replace_and_nothing_is_left() {
        let mut texts = Texts::new();
        let mut of = TextsOf::NONE;
        let long = [b'x'; 600];
        let all: [Parts<'_>; 4] = [
            [b"sip:a@b", b"", b"call", b"", b"", b"", b"Phone/1.0"],
            [
                b"sip:a@b",
                b"name",
                b"call-2",
                b"<urn:1>",
                &[7; 20],
                b"<sip:e;lr>",
                b"Phone/1.1",
            ],
            [&long, &long, &long, &long, &long, &long, &long],
            [b"", b"", b"", b"", b"", b"", b""],
        ];
        for parts in all {
            texts.write(&mut of, parts);
            for (part, (text, len_max)) in ALL.into_iter().zip(parts.iter().zip(LEN_MAX)) {
                assert_eq!(texts.text(&of, part), cut(text, len_max), "{part:?}");
            }
        }
        texts.write(&mut of, all[1]);
        texts.rewrite(&mut of, &[(Part::Name, b""), (Part::CallId, b"another")]);
        assert_eq!(texts.text(&of, Part::Name), b"");
        assert_eq!(texts.text(&of, Part::CallId), b"another");
        assert_eq!(texts.text(&of, Part::UserAgent), b"Phone/1.1");
        assert_eq!(texts.text(&of, Part::Address), [7; 20]);
        texts.free(&of);
        assert_eq!(texts.interned_bytes(), texts.interned.table_bytes());
    }
}
