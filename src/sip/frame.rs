//! Where one message ends in a stream and the next begins (RFC 3261 18.3, RFC 5626 3.5.1).
//!
//! The head is read by the same index as [`parse`](super::parse) uses, so that framing and parsing never see two
//! different Content-Lengths.

use super::error::{NotSip, Rejection, RejectionCause};
use super::index::Index;
use super::message::Parsed;
use super::method::Method;
use super::name::HeaderName;
use crate::limits::MESSAGE_LEN_MAX;
use crate::scan;

/// What stands at the start of a stream's unread bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Part of something: more must come first.
    Partial,
    /// A keepalive of so many bytes, to be answered with one CRLF.
    Keepalive(usize),
    /// One whole message of so many bytes, the line breaks before it included.
    Message(usize),
    /// A message whose end cannot be known: no Content-Length, two of them, one that is no number or is too large, or a
    /// head without end. So many bytes are what [`parse`](super::parse) can be asked about, for an answer; then the
    /// connection is to be closed, for nothing behind them has a known place.
    Unframed(usize),
}

/// Finds what stands at the start of `bytes`, using `index` as scratch.
#[must_use]
pub fn frame(bytes: &[u8], index: &mut Index) -> Frame {
    if bytes.starts_with(b"\r\n\r\n") {
        return Frame::Keepalive(4);
    }
    let Some(start) = bytes
        .iter()
        .position(|&byte| byte != b'\r' && byte != b'\n')
    else {
        return if bytes.len() > PADDING_LEN_MAX {
            Frame::Unframed(bytes.len())
        } else {
            Frame::Partial
        };
    };
    // The same however the stream was cut: what is read here must not depend on whether the message behind is there yet.
    if start > PADDING_LEN_MAX {
        return Frame::Unframed(start);
    }
    let Some(head_len) = head_len(bytes.get(start..).unwrap_or_default()) else {
        return if bytes.len() > MESSAGE_LEN_MAX {
            Frame::Unframed(bytes.len())
        } else {
            Frame::Partial
        };
    };
    let body = start + head_len;
    let head = bytes.get(start..body).unwrap_or_default();
    let Some(length) = index.read_content_length(head) else {
        return Frame::Unframed(body);
    };
    match body.checked_add(length) {
        Some(end) if end - start <= MESSAGE_LEN_MAX => {
            if end <= bytes.len() {
                Frame::Message(end)
            } else {
                Frame::Partial
            }
        }
        _ => Frame::Unframed(body),
    }
}

impl<'a> Parsed<'a> {
    /// The same as it is judged when it came by a stream: without a Content-Length nobody knows where it ends (RFC 3261 18.3),
    /// so what was read of it may be a part, and is neither served nor passed on.
    #[must_use]
    pub fn by_stream(self) -> Self {
        let cause = RejectionCause::MissingContentLength;
        match self {
            Self::Good(message) if message.header(HeaderName::ContentLength).is_none() => {
                if !message.is_request() {
                    Self::NotSip(NotSip::MalformedResponse(cause))
                } else if message.method() == Method::Ack {
                    Self::NotSip(NotSip::MalformedAck(cause))
                } else {
                    Self::Answerable(message, Rejection::new(cause))
                }
            }
            Self::Good(_) | Self::Answerable(..) | Self::NotSip(_) => self,
        }
    }
}

/// How long the message at the start of `bytes` will be, the line breaks before it included, where its head is there and its
/// end can be known: so that a reader need not ask [`frame`] for each octet of a body.
#[must_use]
pub fn whole_len(bytes: &[u8], index: &mut Index) -> Option<usize> {
    let start = bytes
        .iter()
        .position(|&byte| byte != b'\r' && byte != b'\n')?;
    let body = start + head_len(bytes.get(start..)?)?;
    body.checked_add(index.read_content_length(bytes.get(start..body)?)?)
}

/// Line breaks before a message, as many as a keepalive has: more, or other ones, are no part of anything.
const PADDING_LEN_MAX: usize = 4;

/// The length of the head with its empty line, where all of it is there.
fn head_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = scan::find(bytes, at, b'\r') {
        if bytes.get(found..found + 4) == Some(b"\r\n\r\n") {
            return Some(found + 4);
        }
        at = found + 1;
    }
    None
}

impl Index {
    /// The one Content-Length of a whole head; none where there is not exactly one good one.
    fn read_content_length(&mut self, head: &[u8]) -> Option<usize> {
        if head.len() > MESSAGE_LEN_MAX
            || !self.read_head(head)
            || self.is_repeated(HeaderName::ContentLength)
        {
            return None;
        }
        let value = self.first(HeaderName::ContentLength)?.value;
        usize::try_from(scan::decimal(value.of(head), u64::MAX)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(text: &str) -> Frame {
        frame(text.as_bytes(), &mut Index::new())
    }

    const HEAD: &str =
        "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nl: 4\r\n\r\n";

    #[test]
    fn a_message_is_whole_once_its_body_is() {
        let whole = format!("{HEAD}body");
        for len in 0..whole.len() {
            assert_eq!(framed(&whole[..len]), Frame::Partial, "{len}");
        }
        assert_eq!(framed(&whole), Frame::Message(whole.len()));
        assert_eq!(
            framed(&format!("{whole}{HEAD}")),
            Frame::Message(whole.len())
        );
        assert_eq!(
            framed(&format!("\r\n{whole}")),
            Frame::Message(whole.len() + 2)
        );
        assert_eq!(
            whole_len(HEAD.as_bytes(), &mut Index::new()),
            Some(whole.len())
        );
        assert_eq!(
            whole_len(&HEAD.as_bytes()[..HEAD.len() - 1], &mut Index::new()),
            None
        );
        let folded = whole.replace("l: 4", "Content-Length :\r\n 4");
        assert_eq!(framed(&folded), Frame::Message(folded.len()));
    }

    #[test]
    fn a_keepalive_is_two_line_breaks() {
        assert_eq!(framed("\r\n\r\n"), Frame::Keepalive(4));
        assert_eq!(framed(&format!("\r\n\r\n{HEAD}body")), Frame::Keepalive(4));
        assert_eq!(framed("\r\n"), Frame::Partial);
        assert_eq!(framed(""), Frame::Partial);
        assert_eq!(framed("\n\n\n\n\n"), Frame::Unframed(5));
        assert_eq!(
            framed(&format!("\n\n\n\n\n{HEAD}body")),
            Frame::Unframed(5),
            "the same once more has come"
        );
    }

    #[test]
    fn an_end_that_cannot_be_known_ends_the_connection() {
        for length in [
            "l: -1",
            "l: 4\r\nContent-Length: 4",
            "X: 4",
            "l: 99999999999999999999",
            "l: 65507",
            "l:",
            "l: 4\nX: 1",
        ] {
            let text = HEAD.replace("l: 4", length);
            assert_eq!(framed(&text), Frame::Unframed(text.len()), "{length}");
        }
        assert_eq!(
            framed(&"x".repeat(MESSAGE_LEN_MAX + 1)),
            Frame::Unframed(MESSAGE_LEN_MAX + 1)
        );
    }
}
