//! What came of a stream and is not yet taken: whole messages are cut from it, the rest is kept.
//!
//! A whole message that arrives at once is never copied here. It knows how far it has looked, so that a peer that sends
//! octet by octet costs no more for each of them, and it holds no memory while nothing is unfinished.

use crate::limits::MESSAGE_LEN_MAX;
use crate::scan;
use crate::sip::index::Index;
use crate::sip::{Frame, frame, whole_len};

/// The unfinished part of a stream.
#[derive(Debug, Default)]
pub(super) struct Inlet {
    bytes: Vec<u8>,
    /// Where the end of the head is to be looked for: before it there is none.
    scanned: usize,
    /// How long the unfinished message will be, once its head is there.
    wanted: usize,
}

/// What was cut from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A keepalive (RFC 5626 3.5.1).
    Keepalive,
    /// A whole message.
    Message(&'a [u8]),
    /// The head of a message whose end cannot be known: the stream is of no use behind it.
    Unframed(&'a [u8]),
}

/// Whether a piece was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Go on.
    Yes,
    /// There is no room for it: it stays, and is offered again.
    No,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing, or part of something.
    Unfinished,
    /// A piece that was not taken is at its start.
    Blocked,
    /// An unframed message was taken; what came behind it is thrown away.
    Unframed,
}

impl Inlet {
    /// Takes what `arrived`, and offers `each` every piece that is whole.
    pub(super) fn feed(
        &mut self,
        arrived: &[u8],
        index: &mut Index,
        each: &mut impl FnMut(Piece<'_>) -> Taken,
    ) -> Left {
        if self.bytes.is_empty() {
            let (taken, left) = self.cut(arrived, index, each);
            self.bytes
                .extend_from_slice(arrived.get(taken..).unwrap_or_default());
            return left;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.extend_from_slice(arrived);
        let (taken, left) = self.cut(&bytes, index, each);
        if taken < bytes.len() {
            bytes.drain(..taken);
            self.bytes = bytes;
        }
        left
    }

    /// Whether part of a message is here; line breaks alone are none.
    pub(super) fn is_midway(&self) -> bool {
        self.bytes
            .iter()
            .any(|&byte| byte != b'\r' && byte != b'\n')
    }

    /// How much was taken, and why no more.
    fn cut(
        &mut self,
        bytes: &[u8],
        index: &mut Index,
        each: &mut impl FnMut(Piece<'_>) -> Taken,
    ) -> (usize, Left) {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            if rest.is_empty() || !self.is_worth_framing(rest) {
                return (at, Left::Unfinished);
            }
            (self.scanned, self.wanted) = (0, 0);
            let (piece, len) = match frame(rest, index) {
                Frame::Partial => {
                    self.wanted = whole_len(rest, index).unwrap_or(0);
                    self.scanned = rest.len().saturating_sub(HEAD_END.len() - 1);
                    return (at, Left::Unfinished);
                }
                Frame::Keepalive(len) => (Piece::Keepalive, len),
                Frame::Message(len) => (Piece::Message(rest.get(..len).unwrap_or(rest)), len),
                Frame::Unframed(len) => {
                    let head = rest.get(..len.min(MESSAGE_LEN_MAX)).unwrap_or(rest);
                    return match each(Piece::Unframed(head)) {
                        Taken::Yes => (bytes.len(), Left::Unframed),
                        Taken::No => (at, Left::Blocked),
                    };
                }
            };
            if each(piece) == Taken::No {
                return (at, Left::Blocked);
            }
            at += len;
        }
    }

    /// Whether framing could tell more than the last time: what is unfinished has its end now, or has grown too long.
    fn is_worth_framing(&mut self, bytes: &[u8]) -> bool {
        if self.wanted > 0 {
            return bytes.len() >= self.wanted;
        }
        if self.scanned < SHORT_LEN || bytes.len() > MESSAGE_LEN_MAX {
            return true;
        }
        let has_end = has_head_end(bytes, self.scanned);
        if !has_end {
            self.scanned = bytes.len().saturating_sub(HEAD_END.len() - 1);
        }
        has_end
    }
}

/// Whether a head ends at `from` or later.
fn has_head_end(bytes: &[u8], from: usize) -> bool {
    let mut at = from;
    while let Some(found) = scan::find(bytes, at, b'\r') {
        if bytes.get(found..found + HEAD_END.len()) == Some(HEAD_END) {
            return true;
        }
        at = found + 1;
    }
    false
}

const HEAD_END: &[u8] = b"\r\n\r\n";
/// So little may be line breaks alone, which are no head.
const SHORT_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str =
        "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nl: 4\r\n\r\nbody";

    /// What is cut when the stream comes in parts of `step` bytes.
    fn cut(stream: &[u8], step: usize) -> (Vec<String>, Left, Inlet) {
        let (mut inlet, mut index) = (Inlet::default(), Index::new());
        let mut pieces = Vec::new();
        let mut left = Left::Unfinished;
        for part in stream.chunks(step) {
            left = inlet.feed(part, &mut index, &mut |piece| {
                pieces.push(match piece {
                    Piece::Keepalive => "ping".to_owned(),
                    Piece::Message(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                    Piece::Unframed(bytes) => format!("! {}", String::from_utf8_lossy(bytes)),
                });
                Taken::Yes
            });
            if left == Left::Unframed {
                break;
            }
        }
        (pieces, left, inlet)
    }

    #[test]
    fn messages_are_whole_however_they_come() {
        let stream = format!("{MESSAGE}\r\n\r\n{MESSAGE}\r\n{MESSAGE}");
        let last = format!("\r\n{MESSAGE}");
        for step in 1..=stream.len() {
            let (pieces, left, inlet) = cut(stream.as_bytes(), step);
            assert_eq!(pieces, [MESSAGE, "ping", MESSAGE, &last], "{step}");
            assert_eq!((left, inlet.bytes.len()), (Left::Unfinished, 0));
        }
    }

    #[test]
    fn line_breaks_are_no_beginning_of_a_message() {
        let (pieces, _, inlet) = cut(b"\r\n", 1);
        assert!(pieces.is_empty() && inlet.bytes.len() == 2 && !inlet.is_midway());
        let (_, _, inlet) = cut(b"\r\nO", 1);
        assert!(inlet.is_midway());
        for step in 1..6 {
            let (pieces, left, _) = cut(b"\n\n\n\n\n", step);
            assert_eq!((pieces.len(), left), (1, Left::Unframed));
        }
    }

    #[test]
    fn behind_an_unknown_end_nothing_is_read() {
        let bad = MESSAGE.replace("l: 4", "l: x");
        let stream = format!("{MESSAGE}{bad}{MESSAGE}");
        for step in 1..=stream.len() {
            let (pieces, left, inlet) = cut(stream.as_bytes(), step);
            assert_eq!(pieces.len(), 2, "{step}");
            assert!(pieces[1].starts_with("! OPTIONS"));
            assert_eq!((left, inlet.bytes.len()), (Left::Unframed, 0));
        }
    }

    #[test]
    fn a_head_without_end_is_given_up_at_the_bound() {
        let stream = vec![b'x'; MESSAGE_LEN_MAX + 1];
        for step in [1, 1_000, stream.len()] {
            let (pieces, left, _) = cut(&stream, step);
            assert_eq!((pieces.len(), left), (1, Left::Unframed), "{step}");
            assert_eq!(pieces[0].len(), MESSAGE_LEN_MAX + 2);
        }
    }

    #[test]
    fn what_is_not_taken_is_offered_again() {
        let (mut inlet, mut index) = (Inlet::default(), Index::new());
        let stream = format!("{MESSAGE}{MESSAGE}");
        let mut offered = 0;
        let left = inlet.feed(stream.as_bytes(), &mut index, &mut |_| {
            offered += 1;
            if offered == 1 { Taken::Yes } else { Taken::No }
        });
        assert_eq!((left, inlet.bytes.len()), (Left::Blocked, MESSAGE.len()));
        let left = inlet.feed(b"", &mut index, &mut |piece| {
            assert_eq!(piece, Piece::Message(MESSAGE.as_bytes()));
            Taken::Yes
        });
        assert_eq!((left, inlet.bytes.len()), (Left::Unfinished, 0));
    }
}
