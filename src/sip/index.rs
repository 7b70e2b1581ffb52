//! The index of a message: where its first line, its header fields and its body stand.
//!
//! One pass over the head fills it. It is scratch that a worker uses again for every message.

use super::address::AddressParts;
use super::error::{NotSip, Rejection, RejectionCause};
use super::method::Method;
use super::name::HeaderName;
use super::plain;
use super::span::Span;
use super::start_line::StartLine;
use super::via::ViaParts;
use crate::limits::{HEADERS_MAX, MESSAGE_LEN_MAX};
use crate::scan::{self, LineEnds};

/// The places of one message; [`parse`](super::parse) fills it, whatever stood in it before.
#[derive(Debug)]
pub struct Index {
    /// The first field of each name; [`NONE`] where there is none.
    first: [u8; HeaderName::COUNT],
    /// The last field of each name that more than one has, for the chain; of the others it says nothing.
    last: [u8; HeaderName::COUNT],
    /// A bit for each name that more than one field has.
    repeated: u64,
    entries: [Entry; HEADERS_MAX],
    count: u8,
    pub(super) start_line: StartLine,
    /// The first line with its line break.
    pub(super) start_line_span: Span,
    /// Where the empty line begins.
    pub(super) headers_end: u16,
    pub(super) body: Span,
    pub(super) via: ViaParts,
    pub(super) from: AddressParts,
    pub(super) to: AddressParts,
    pub(super) call_id: Span,
    pub(super) cseq_number: u32,
    pub(super) cseq_method: Span,
    pub(super) max_forwards: Option<u8>,
    pub(super) expires_s: Option<u32>,
    /// Whether no line of the head is folded, and each ends with CRLF.
    pub(super) is_plain: bool,
    /// The first thing found wrong.
    pub(super) wrong: Option<RejectionCause>,
}

/// One header field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) name: HeaderName,
    /// The next field of the same name; [`NONE`] at the end.
    pub(super) next: u8,
    /// Where the name, and so the line, begins.
    pub(super) start: u16,
    pub(super) name_end: u16,
    /// The value without whitespace around it.
    pub(super) value: Span,
    /// Past the line break, the last one of a folded field.
    pub(super) line_end: u16,
}

/// What filling the index has shown.
pub(super) enum Outcome {
    Good,
    Answerable(Rejection),
    NotSip(NotSip),
}

const _: () = assert!(HeaderName::COUNT <= 64, "the names have a bit each");

/// No field.
pub(super) const NONE: u8 = u8::MAX;

const EMPTY_ENTRY: Entry = Entry {
    name: HeaderName::Other,
    next: NONE,
    start: 0,
    name_end: 0,
    value: Span::EMPTY,
    line_end: 0,
};

impl Index {
    /// An empty index.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            first: [NONE; HeaderName::COUNT],
            last: [NONE; HeaderName::COUNT],
            repeated: 0,
            entries: [EMPTY_ENTRY; HEADERS_MAX],
            count: 0,
            start_line: StartLine::EMPTY,
            start_line_span: Span::EMPTY,
            headers_end: 0,
            body: Span::EMPTY,
            via: ViaParts::EMPTY,
            from: AddressParts::EMPTY,
            to: AddressParts::EMPTY,
            call_id: Span::EMPTY,
            cseq_number: 0,
            cseq_method: Span::EMPTY,
            max_forwards: None,
            expires_s: None,
            is_plain: false,
            wrong: None,
        }
    }

    /// Fills the index from `bytes`, which begin with a first line. A function of its own, so that its loop has the registers.
    #[inline(never)]
    pub(super) fn read(&mut self, bytes: &[u8]) -> Outcome {
        if bytes.len() > MESSAGE_LEN_MAX {
            return Outcome::NotSip(NotSip::TooLong);
        }
        self.clear();
        self.is_plain = self.read_plain(bytes);
        if !self.is_plain
            && let Err(cause) = self.read_any(bytes)
        {
            return Outcome::NotSip(cause);
        }
        let is_answerable = self.validate(bytes);
        self.outcome(is_answerable)
    }

    /// Reads the head of a message whose lines are as nearly all are: ended by CRLF, not folded, no whitespace before a colon. False
    /// where they are not; what has been read then counts for nothing.
    pub(super) fn read_plain(&mut self, bytes: &[u8]) -> bool {
        let mut ends = LineEnds::new(bytes);
        let Some(end) = ends.next_end() else {
            return false;
        };
        let line = plain::request_line(bytes, end).or_else(|| plain::status_line(bytes, end));
        let Some(line) = line else { return false };
        self.start_line = line;
        let mut at = end + 2;
        self.start_line_span = Span::new(0, at);
        loop {
            let Some(end) = ends.next_end() else {
                return false;
            };
            if end == at {
                self.end_headers(bytes, at, at + 2);
                return true;
            }
            if !self.read_plain_header(bytes, at, end) {
                return false;
            }
            at = end + 2;
        }
    }

    /// Reads the field whose line is `bytes[start..end]`.
    #[inline]
    fn read_plain_header(&mut self, bytes: &[u8], start: usize, end: usize) -> bool {
        let known = bytes.get(start..).and_then(HeaderName::parse_field);
        let Some((name, name_len)) = known.or_else(|| plain_name(bytes, start, end)) else {
            return false;
        };
        let name_end = start + name_len;
        // One space before the value, and none behind it: as a rule.
        let (mut value_start, mut value_end) = (name_end + 2, end);
        let is_trimmed = matches!(bytes.get(name_end + 1..), Some([b' ', first, ..]) if *first > b' ')
            && bytes.get(end - 1) != Some(&b' ');
        if !is_trimmed {
            (value_start, value_end) = scan::trim(bytes, name_end + 1, end);
        }
        self.push(Entry {
            name,
            next: NONE,
            start: Span::within(start, start).start,
            name_end: Span::within(name_end, name_end).end,
            value: Span::within(value_start, value_end),
            line_end: Span::within(end + 2, end + 2).end,
        })
    }

    /// Reads the head of any message.
    pub(super) fn read_any(&mut self, bytes: &[u8]) -> Result<(), NotSip> {
        self.clear();
        let line_end = scan::find_line_break(bytes, 0).unwrap_or(bytes.len());
        let (line, wrong) = StartLine::parse(bytes.get(..line_end).unwrap_or_default())?;
        self.start_line = line;
        self.wrong = wrong;
        let at = self.skip_line_break(bytes, line_end);
        self.start_line_span = Span::new(0, at);
        self.read_headers(bytes, at);
        Ok(())
    }

    /// Fills the index from a head alone, whatever its first line says; gives whether its lines are all well formed.
    pub(super) fn read_head(&mut self, head: &[u8]) -> bool {
        self.clear();
        let line_end = scan::find_line_break(head, 0).unwrap_or(head.len());
        let at = self.skip_line_break(head, line_end);
        self.read_headers(head, at);
        self.wrong.is_none()
    }

    /// Notes what is wrong; what is found first is what is told.
    pub(super) fn note(&mut self, cause: RejectionCause) {
        self.wrong.get_or_insert(cause);
    }

    /// Whether the message is a request.
    pub(super) const fn is_request(&self) -> bool {
        self.start_line.status == 0
    }

    /// The first field called `name`.
    #[inline]
    pub(super) fn first(&self, name: HeaderName) -> Option<&Entry> {
        self.entry(self.first.get(name as usize).copied().unwrap_or(NONE))
    }

    /// The place of the first field called `name`.
    #[inline]
    pub(super) fn first_place(&self, name: HeaderName) -> Option<u8> {
        self.first
            .get(name as usize)
            .copied()
            .filter(|&place| place != NONE)
    }

    /// The field at `place` in the order of the message.
    #[inline]
    pub(super) fn entry(&self, place: u8) -> Option<&Entry> {
        self.entries
            .get(..usize::from(self.count))?
            .get(usize::from(place))
    }

    /// All fields in their order.
    pub(super) fn entries(&self) -> &[Entry] {
        self.entries
            .get(..usize::from(self.count))
            .unwrap_or_default()
    }

    /// Whether more than one field is called `name`.
    #[inline]
    pub(super) const fn is_repeated(&self, name: HeaderName) -> bool {
        self.repeated & 1 << name as usize != 0
    }

    /// Whether more than one field has one of the names in `bits`.
    #[inline]
    pub(super) const fn are_repeated(&self, bits: u64) -> bool {
        self.repeated & bits != 0
    }

    /// Forgets the message before.
    pub(super) fn clear(&mut self) {
        self.first = [NONE; HeaderName::COUNT];
        self.repeated = 0;
        self.count = 0;
        self.via = ViaParts::EMPTY;
        self.from = AddressParts::EMPTY;
        self.to = AddressParts::EMPTY;
        self.call_id = Span::EMPTY;
        self.cseq_number = 0;
        self.cseq_method = Span::EMPTY;
        self.max_forwards = None;
        self.expires_s = None;
        self.wrong = None;
    }

    /// What the whole has shown, once all has been read.
    const fn outcome(&self, is_answerable: bool) -> Outcome {
        let Some(cause) = self.wrong else {
            return Outcome::Good;
        };
        if !self.is_request() {
            return Outcome::NotSip(NotSip::MalformedResponse(cause));
        }
        if matches!(self.start_line.method, Method::Ack) {
            return Outcome::NotSip(NotSip::MalformedAck(cause));
        }
        if is_answerable {
            Outcome::Answerable(Rejection::new(cause))
        } else {
            Outcome::NotSip(NotSip::Unanswerable(cause))
        }
    }

    /// Reads the header fields from `at` to the empty line.
    fn read_headers(&mut self, bytes: &[u8], mut at: usize) {
        loop {
            match bytes.get(at) {
                None => {
                    self.note(RejectionCause::NoEmptyLine);
                    return self.end_headers(bytes, at, at);
                }
                Some(b'\r') if bytes.get(at + 1) == Some(&b'\n') => {
                    return self.end_headers(bytes, at, at + 2);
                }
                Some(b'\n') => {
                    self.note(RejectionCause::LineBreak);
                    return self.end_headers(bytes, at, at + 1);
                }
                Some(_) => {}
            }
            if usize::from(self.count) == HEADERS_MAX {
                self.note(RejectionCause::TooManyHeaders);
                return self.end_headers(bytes, at, bytes.len());
            }
            at = self.read_header(bytes, at);
        }
    }

    /// Sets where the headers end and the body begins; Content-Length may cut the body.
    fn end_headers(&mut self, bytes: &[u8], headers_end: usize, body: usize) {
        self.headers_end = Span::new(headers_end, headers_end).start;
        self.body = Span::new(body, bytes.len());
    }

    /// Reads the field whose line begins at `start`; gives where the next begins.
    fn read_header(&mut self, bytes: &[u8], start: usize) -> usize {
        let Some((name, name_end, colon)) = read_name(bytes, start) else {
            self.note(RejectionCause::HeaderLine);
            return self.find_line_end(bytes, start).1;
        };
        let (value_end, line_end) = self.find_line_end(bytes, colon + 1);
        let (value_start, value_end) = scan::trim(bytes, colon + 1, value_end);
        let name_span = Span::new(start, name_end);
        self.push(Entry {
            name,
            next: NONE,
            start: name_span.start,
            name_end: name_span.end,
            value: Span::new(value_start, value_end),
            line_end: Span::new(line_end, line_end).start,
        });
        line_end
    }

    /// Finds where the field that `from` lies in ends: before and after its last line break.
    fn find_line_end(&mut self, bytes: &[u8], from: usize) -> (usize, usize) {
        let mut at = from;
        loop {
            let Some(found) = scan::find_line_break(bytes, at) else {
                return (bytes.len(), bytes.len());
            };
            at = self.skip_line_break(bytes, found);
            let is_break = bytes.get(at.wrapping_sub(1)) == Some(&b'\n');
            // RFC 3261 7.3.1: a line that begins with whitespace goes on with the field before it.
            if is_break && !matches!(bytes.get(at), Some(b' ' | b'\t')) {
                return (found, at);
            }
        }
    }

    /// The offset past the line break at `at`; one that is no CRLF is noted, as is none.
    fn skip_line_break(&mut self, bytes: &[u8], at: usize) -> usize {
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(b'\r'), Some(b'\n')) => at + 2,
            (Some(_), _) => {
                self.note(RejectionCause::LineBreak);
                at + 1
            }
            (None, _) => at,
        }
    }

    /// Adds a field and chains it to the one before it of the same name; false where there is no room.
    #[inline]
    fn push(&mut self, entry: Entry) -> bool {
        let place = self.count;
        let name = entry.name as usize;
        let Some(free) = self.entries.get_mut(usize::from(place)) else {
            return false;
        };
        *free = entry;
        self.count += 1;
        let first = &mut self.first[name];
        if *first == NONE {
            *first = place;
        } else {
            self.chain(name, place);
        }
        true
    }

    /// Chains the field at `place`, which is not the first of its name, to the one before it.
    #[cold]
    fn chain(&mut self, name: usize, place: u8) {
        let is_second = self.repeated & 1 << name == 0;
        let before = if is_second {
            self.first[name]
        } else {
            self.last[name]
        };
        if let Some(before) = self.entries.get_mut(usize::from(before)) {
            before.next = place;
        }
        self.repeated |= 1 << name;
        self.last[name] = place;
    }
}

/// Reads a name that has nothing between it and its colon, of the line `bytes[start..end]`; gives its length.
fn plain_name(bytes: &[u8], start: usize, end: usize) -> Option<(HeaderName, usize)> {
    let name_end = scan::skip_within(bytes, start, end, scan::TOKEN);
    let is_plain = name_end > start && name_end < end && bytes.get(name_end) == Some(&b':');
    let name = HeaderName::parse(bytes.get(start..name_end)?);
    is_plain.then_some((name, name_end - start))
}

/// Reads `name:` at `start`: the name, its end, and where the colon stands.
fn read_name(bytes: &[u8], start: usize) -> Option<(HeaderName, usize, usize)> {
    // A name that we know has been checked by being known, and needs no look at each of its bytes.
    if let Some((name, len)) = HeaderName::parse_field(bytes.get(start..)?) {
        return Some((name, start + len, start + len));
    }
    let name_end = scan::skip(bytes, start, scan::TOKEN);
    let mut colon = name_end;
    while matches!(bytes.get(colon), Some(b' ' | b'\t')) {
        colon += 1;
    }
    let is_field = name_end > start && bytes.get(colon) == Some(&b':');
    let name = HeaderName::parse(bytes.get(start..name_end)?);
    is_field.then_some((name, name_end, colon))
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}
