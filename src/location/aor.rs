//! An AoR (RFC 3261 6) as a shard holds it: its text, and where the list of its bindings begins.

use std::num::NonZeroU16;

use super::binding::Held;
use super::blocks::{BLOCK_LEN_MAX, Block};
use super::probing::Entry;
use super::shard::Shard;
use super::slab::INDEX_BITS;
use super::texts::Texts;
use crate::limits::AOR_LEN_MAX;

/// An AoR in canonical form with its keyed hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct AorKey<'a> {
    pub(super) text: &'a [u8],
    pub(super) hash: u64,
}

/// An AoR with its bindings, as a slice of the slow path sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct AorBindings<'a> {
    pub(super) shard: &'a Shard,
    pub(super) aor: u32,
}

/// An AoR: a user, or a user and a domain.
#[derive(Debug)]
pub(super) struct Aor {
    pub(super) text: Block,
    /// The lower half of its keyed hash.
    pub(super) hash: u32,
    /// Its bindings, in the order in which they came.
    pub(super) head: u32,
    pub(super) len: AorLen,
}

/// Where an AoR stands, with what most others differ in: a few bits of its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AorRef(u32);

/// The length of an AoR, in such a form that a free place in the table of them costs no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct AorLen(NonZeroU16);

impl<'a> AorBindings<'a> {
    pub(super) fn text(&self) -> &'a [u8] {
        self.shard.aor_text(self.aor)
    }

    /// Its bindings with their indexes, in the order in which they came.
    pub(super) fn bindings(&self) -> impl Iterator<Item = (u32, Held<'a>)> {
        self.shard.bindings_of(Some(self.aor))
    }
}

impl AorRef {
    pub(super) const fn new(hash: u32, index: u32) -> Self {
        Self(HELD | (hash & PRINT) << INDEX_BITS | index)
    }

    /// Whether this may be the AoR of a hash.
    pub(super) const fn may_be(self, hash: u32) -> bool {
        self.0 >> INDEX_BITS & PRINT == hash & PRINT
    }

    pub(super) const fn index(self) -> u32 {
        self.0 & ((1 << INDEX_BITS) - 1)
    }
}

impl Entry for AorRef {
    const EMPTY: Self = Self(0);

    fn is_empty(self) -> bool {
        self == Self::EMPTY
    }
}

impl Aor {
    pub(super) fn text<'t>(&self, texts: &'t Texts) -> &'t [u8] {
        let bytes = texts.blocks.bytes_of(self.text);
        bytes.get(..self.len.len()).unwrap_or_default()
    }
}

impl AorLen {
    pub(super) fn new(len: usize) -> Self {
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        Self(NonZeroU16::MIN.saturating_add(len))
    }

    pub(super) fn len(self) -> usize {
        usize::from(self.0.get() - 1)
    }
}

/// The highest bit: an AoR stands here.
const HELD: u32 = 1 << (u32::BITS - 1);
/// Bits of the hash that are kept.
const PRINT: u32 = (1 << (u32::BITS - 1 - INDEX_BITS)) - 1;

const _: () = assert!(AOR_LEN_MAX <= BLOCK_LEN_MAX && AOR_LEN_MAX < u16::MAX as usize);
