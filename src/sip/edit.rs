//! Edits to a message that is forwarded: a sorted list, applied once, while the message is written out.
//!
//! Offsets are those of the received message. What no edit touches is copied as it came, octet for octet.

use super::span::Span;
use super::text::{Sink, Text};
use crate::limits::{EDIT_ARENA_LEN, EDITS_MAX};

/// The edits of one outgoing message; reused for the next by [`Edits::clear`].
#[derive(Debug)]
pub struct Edits {
    edits: [Edit; EDITS_MAX],
    count: usize,
    arena: [u8; EDIT_ARENA_LEN],
    arena_len: usize,
    removed: usize,
    /// Where the last of the edits ends.
    reach: u16,
}

/// Why an edit cannot be taken up, or the edits not written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditError {
    /// More than `limits::EDITS_MAX` edits.
    TooMany,
    /// More than `limits::EDIT_ARENA_LEN` bytes to insert.
    ArenaFull,
    /// Two edits touch the same bytes: an error of the caller's.
    Overlap,
    /// An edit lies beyond the message.
    OutOfMessage,
    /// The buffer is shorter than [`Edits::len`].
    BufferTooShort,
}

/// One edit: `span` goes, and the arena's `text_start..text_end` comes in its place.
#[derive(Clone, Copy, Debug, Default)]
struct Edit {
    span: Span,
    text_start: u16,
    text_end: u16,
}

impl Edits {
    /// No edits.
    #[must_use]
    pub const fn new() -> Self {
        const NONE: Edit = Edit {
            span: Span::EMPTY,
            text_start: 0,
            text_end: 0,
        };
        Self {
            edits: [NONE; EDITS_MAX],
            count: 0,
            arena: [0; EDIT_ARENA_LEN],
            arena_len: 0,
            removed: 0,
            reach: 0,
        }
    }

    /// Forgets all edits.
    pub const fn clear(&mut self) {
        self.count = 0;
        self.arena_len = 0;
        self.removed = 0;
        self.reach = 0;
    }

    /// Removes what `span` covers.
    pub fn remove(&mut self, span: Span) -> Result<(), EditError> {
        if span.is_empty() {
            return Ok(());
        }
        let at = self.arena_len;
        self.add(span, at)
    }

    /// Puts `bytes` in place of what `span` covers.
    pub fn replace(&mut self, span: Span, bytes: &[u8]) -> Result<(), EditError> {
        self.replace_with(span, |text| text.put(bytes))
    }

    /// Puts `bytes` before the byte at `at`. Of insertions at one place, the one made first comes first.
    pub fn insert(&mut self, at: u16, bytes: &[u8]) -> Result<(), EditError> {
        self.replace_with(Span::at(at), |text| text.put(bytes))
    }

    /// Puts what `write` writes before the byte at `at`.
    pub fn insert_with(
        &mut self,
        at: u16,
        write: impl FnOnce(&mut Text<'_>),
    ) -> Result<(), EditError> {
        self.replace_with(Span::at(at), write)
    }

    /// Puts what `write` writes in place of what `span` covers.
    pub fn replace_with(
        &mut self,
        span: Span,
        write: impl FnOnce(&mut Text<'_>),
    ) -> Result<(), EditError> {
        let mut text = Text::new(self.arena.get_mut(self.arena_len..).unwrap_or_default());
        write(&mut text);
        let written = text.finish().ok_or(EditError::ArenaFull)?;
        self.add(span, self.arena_len + written)
    }

    /// How long a message of `source_len` bytes is with these edits.
    #[must_use]
    pub const fn len(&self, source_len: usize) -> usize {
        (source_len + self.arena_len).saturating_sub(self.removed)
    }

    /// Whether there are no edits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Writes `source` with these edits into `out`; gives how many bytes were written, which is [`Edits::len`].
    pub fn write(&self, source: &[u8], out: &mut [u8]) -> Result<usize, EditError> {
        let mut text = Text::new(out);
        let mut at = 0;
        for edit in self.edits.get(..self.count).unwrap_or_default() {
            let start = usize::from(edit.span.start);
            if start > at {
                text.put(source.get(at..start).ok_or(EditError::OutOfMessage)?);
            }
            if edit.text_start < edit.text_end {
                text.put(
                    self.arena
                        .get(usize::from(edit.text_start)..usize::from(edit.text_end))
                        .unwrap_or_default(),
                );
            }
            at = at.max(usize::from(edit.span.end));
        }
        text.put(source.get(at..).ok_or(EditError::OutOfMessage)?);
        text.finish().ok_or(EditError::BufferTooShort)
    }

    /// Puts the edit with the arena's text up to `arena_len` in its place among the others.
    #[inline]
    fn add(&mut self, span: Span, arena_len: usize) -> Result<(), EditError> {
        let place = if span.start >= self.reach {
            self.count
        } else {
            self.place_before(span)?
        };
        let text = Span::within(self.arena_len, arena_len);
        *self.edits.get_mut(place).ok_or(EditError::TooMany)? = Edit {
            span,
            text_start: text.start,
            text_end: text.end,
        };
        self.count += 1;
        self.arena_len = arena_len;
        self.removed += span.len();
        self.reach = self.reach.max(span.end);
        Ok(())
    }

    /// Makes room for an edit that does not come behind all others; gives its place.
    fn place_before(&mut self, span: Span) -> Result<usize, EditError> {
        let taken = self.edits.get(..self.count).ok_or(EditError::TooMany)?;
        // The newest edit comes behind all that start no later: so equal places keep the order of insertion.
        let place = taken
            .iter()
            .rposition(|edit| edit.span.start <= span.start)
            .map_or(0, |before| before + 1);
        if taken.iter().any(|edit| edit.collides_with(span)) {
            return Err(EditError::Overlap);
        }
        if self.count == EDITS_MAX {
            return Err(EditError::TooMany);
        }
        self.edits.copy_within(place..self.count, place + 1);
        Ok(place)
    }
}

impl Edit {
    /// Whether both touch the same bytes. An insertion touches none, but may not lie within what another edit takes.
    const fn collides_with(&self, span: Span) -> bool {
        let (a, b) = (self.span, span);
        if a.is_empty() && b.is_empty() {
            return false;
        }
        a.start < b.end && b.start < a.end
    }
}

impl Default for Edits {
    fn default() -> Self {
        Self::new()
    }
}

impl EditError {
    /// The name of the cause, for counters and traces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooMany => "too_many_edits",
            Self::ArenaFull => "edit_arena_full",
            Self::Overlap => "edits_overlap",
            Self::OutOfMessage => "edit_out_of_message",
            Self::BufferTooShort => "buffer_too_short",
        }
    }
}

const _: () = assert!(
    EDIT_ARENA_LEN <= u16::MAX as usize,
    "places in the arena are 16 bits"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(edits: &Edits, source: &[u8]) -> Vec<u8> {
        let mut out = vec![0; edits.len(source.len())];
        let written = edits
            .write(source, &mut out)
            .expect("the buffer is as long as len() says");
        assert_eq!(written, out.len());
        out
    }

    #[test]
    fn edits_apply_by_place_whatever_their_order() {
        let mut edits = Edits::new();
        edits.insert(10, b"Z").expect("fits");
        edits.replace(Span::new(2, 4), b"xyz").expect("fits");
        edits.remove(Span::new(0, 1)).expect("fits");
        edits.insert(0, b"<").expect("fits");
        assert_eq!(applied(&edits, b"0123456789"), b"<1xyz456789Z");
    }

    #[test]
    fn insertions_at_one_place_keep_their_order() {
        let mut edits = Edits::new();
        edits.insert(3, b"a").expect("fits");
        edits.remove(Span::new(3, 5)).expect("fits");
        edits.insert(3, b"b").expect("fits");
        edits.insert(5, b"c").expect("fits");
        assert_eq!(applied(&edits, b"0123456"), b"012abc56");
    }

    #[test]
    fn no_edits_copy_the_message() {
        assert_eq!(applied(&Edits::new(), b"as it came"), b"as it came");
    }

    #[test]
    fn overlaps_are_reported_and_change_nothing() {
        let mut edits = Edits::new();
        edits.remove(Span::new(2, 6)).expect("fits");
        assert_eq!(edits.remove(Span::new(5, 8)), Err(EditError::Overlap));
        assert_eq!(edits.remove(Span::new(0, 3)), Err(EditError::Overlap));
        assert_eq!(edits.remove(Span::new(2, 6)), Err(EditError::Overlap));
        assert_eq!(edits.insert(4, b"x"), Err(EditError::Overlap));
        assert_eq!(
            edits.replace(Span::new(1, 8), b"x"),
            Err(EditError::Overlap)
        );
        assert_eq!(applied(&edits, b"0123456789"), b"016789");
    }

    #[test]
    fn the_bounds_hold() {
        let mut edits = Edits::new();
        for _ in 0..EDITS_MAX {
            edits.insert(0, b"x").expect("there is room");
        }
        assert_eq!(edits.insert(0, b"x"), Err(EditError::TooMany));
        edits.clear();
        edits
            .insert(0, &[b'x'; EDIT_ARENA_LEN])
            .expect("it just fits");
        assert_eq!(edits.insert(0, b"x"), Err(EditError::ArenaFull));
        edits.clear();
        edits.remove(Span::new(5, 9)).expect("fits");
        assert_eq!(
            edits.write(b"1234567", &mut [0; 99]),
            Err(EditError::OutOfMessage)
        );
        assert_eq!(
            edits.write(b"0123456789", &mut [0; 5]),
            Err(EditError::BufferTooShort)
        );
    }
}
