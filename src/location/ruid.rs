//! The name of a binding's row in the store, in Kamailio's form: `uloc-` and what tells one start of one process from every
//! other, a dash, and a number in hexadecimal digits.
//!
//! A million rows share a few beginnings, so a binding keeps eight bytes: which beginning, and the number. A name in any other
//! form is kept as it is, in the binding's texts.

use parking_lot::RwLock;

use super::texts::NAME_LEN_MAX;

/// A name: 16 bits for its beginning, 48 for the number. It orders the names of one process by their age within a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ruid(u64);

/// The beginnings of names: our own stands first, those of former starts and other servers behind it, as rows with them are loaded.
#[derive(Debug)]
pub(super) struct Origins {
    beginnings: RwLock<Vec<Box<[u8]>>>,
}

impl Ruid {
    /// The name `number` of our own.
    pub(super) const fn own(number: u64) -> Self {
        Self(number & NUMBER_MAX)
    }

    /// Whether it stands in the binding's texts.
    pub(super) const fn is_text(self) -> bool {
        self.0 >> NUMBER_BITS == TEXT
    }

    fn origin(self) -> usize {
        usize::try_from(self.0 >> NUMBER_BITS).unwrap_or(usize::MAX)
    }
}

impl Origins {
    /// Knows our own beginning.
    pub(super) fn new(own: &[u8]) -> Self {
        Self {
            beginnings: RwLock::new(vec![own.into()]),
        }
    }

    /// The name in short, where it has the usual form and there is room for its beginning.
    pub(super) fn pack(&self, name: &[u8]) -> Ruid {
        let split = name
            .iter()
            .rposition(|byte| *byte == b'-')
            .map_or(0, |dash| dash + 1);
        let (beginning, digits) = name.split_at(split);
        let Some(number) = number(digits).filter(|_| split > 0) else {
            return Ruid(TEXT << NUMBER_BITS);
        };
        let place = self.place(beginning).unwrap_or(TEXT);
        Ruid(place << NUMBER_BITS | if place == TEXT { 0 } else { number })
    }

    /// Whether rows with the beginning of this name are ours: made by this process, or loaded by it.
    pub(super) fn knows(&self, name: &[u8]) -> bool {
        let split = name
            .iter()
            .rposition(|byte| *byte == b'-')
            .map_or(0, |dash| dash + 1);
        let beginning = name.get(..split).unwrap_or_default();
        self.beginnings
            .read()
            .iter()
            .any(|held| **held == *beginning)
    }

    /// Appends a name in full; `text` is what the binding keeps of it.
    pub(super) fn write(&self, ruid: Ruid, text: &[u8], out: &mut Vec<u8>) {
        if ruid.is_text() {
            out.extend_from_slice(text);
            return;
        }
        if let Some(beginning) = self.beginnings.read().get(ruid.origin()) {
            out.extend_from_slice(beginning);
        }
        let number = ruid.0 & NUMBER_MAX;
        let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
        out.extend(
            (0..digits)
                .rev()
                .map(|digit| HEX[(number >> (4 * digit)) as usize % 16]),
        );
    }

    fn place(&self, beginning: &[u8]) -> Option<u64> {
        let find =
            |beginnings: &[Box<[u8]>]| beginnings.iter().position(|held| **held == *beginning);
        if let Some(place) = find(&self.beginnings.read()) {
            return Some(place as u64);
        }
        let mut beginnings = self.beginnings.write();
        if let Some(place) = find(&beginnings) {
            return Some(place as u64);
        }
        if beginnings.len() == ORIGINS_MAX {
            return None;
        }
        beginnings.push(beginning.into());
        Some(beginnings.len() as u64 - 1)
    }
}

/// The number that these digits are, if it is written as we would write it.
fn number(digits: &[u8]) -> Option<u64> {
    let is_plain =
        !digits.is_empty() && digits.len() <= 12 && (digits[0] != b'0' || digits.len() == 1);
    let each = |value: u64, digit: &u8| {
        let digit = HEX.iter().position(|hex| hex == digit)?;
        Some(value << 4 | digit as u64)
    };
    digits.iter().try_fold(0, each).filter(|_| is_plain)
}

const HEX: &[u8; 16] = b"0123456789abcdef";
const NUMBER_BITS: u32 = 48;
const NUMBER_MAX: u64 = (1 << NUMBER_BITS) - 1;
/// The beginning of what stands in the texts.
const TEXT: u64 = u16::MAX as u64;
/// Beginnings that are kept. More: those names stand in the texts.
const ORIGINS_MAX: usize = 256;

const _: () = assert!((ORIGINS_MAX as u64) < TEXT && NAME_LEN_MAX <= u8::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_as_it_was() {
        let origins = Origins::new(b"uloc-1-00ff-");
        for (name, is_text) in [
            ("uloc-1-00ff-2a", false),
            ("uloc-6b029c7b-68b3-0", false),
            ("uloc-6b029c7b-68b3-ffffffff", false),
            ("uloc-6b029c7b-68b3-0a", true),
            ("uloc-6b029c7b-68b3-1234567890abc", true),
            ("uloc-1-00ff-2A", true),
            ("uloc-", true),
            ("2a", true),
            ("", true),
        ] {
            let ruid = origins.pack(name.as_bytes());
            assert_eq!(ruid.is_text(), is_text, "{name}");
            let mut out = Vec::new();
            origins.write(ruid, name.as_bytes(), &mut out);
            assert_eq!(out, name.as_bytes());
        }
        assert_eq!(origins.pack(b"uloc-1-00ff-2a"), Ruid::own(42));
    }

    #[test]
    fn beginnings_without_end_are_not_kept() {
        let origins = Origins::new(b"uloc-");
        for n in 0..2 * ORIGINS_MAX {
            let name = format!("uloc-{n}-1");
            let ruid = origins.pack(name.as_bytes());
            assert_eq!(ruid.is_text(), n + 1 >= ORIGINS_MAX);
        }
    }
}
