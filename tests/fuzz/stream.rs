//! Framing: however a stream is cut into pieces on its way, the same messages are found in it, and each is what the parser reads.

use strowger::sip::{self, Frame, Index, Parsed};

/// What a reader has found; of an unframed rest only that there was one, since its length is what had arrived by then.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Keepalive,
    Message(Vec<u8>),
    Unframed,
}

/// The first byte says how the rest is cut.
pub(crate) fn run(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else {
        return;
    };
    let whole = read(stream, usize::MAX);
    let pieces = read(stream, usize::from(cut % 32) + 1);
    assert_eq!(
        whole,
        pieces,
        "{} in pieces of {}",
        stream.escape_ascii(),
        cut % 32 + 1
    );
    for found in whole {
        let Found::Message(bytes) = found else {
            continue;
        };
        let mut index = Index::new();
        if let Parsed::Good(message) = sip::parse(&bytes, &mut index) {
            // Line breaks before a message belong to its frame, and to nothing else.
            let padding = bytes
                .iter()
                .take_while(|byte| matches!(byte, b'\r' | b'\n'))
                .count();
            assert!(message.end() == bytes.len() || message.end() + padding == bytes.len());
            assert!(bytes.ends_with(message.body()));
        }
    }
}

/// Reads a stream of which `piece` bytes arrive at a time.
fn read(stream: &[u8], piece: usize) -> Vec<Found> {
    let mut index = Index::new();
    let (mut unread, mut found) = (Vec::new(), Vec::new());
    for arrived in stream.chunks(piece.min(stream.len().max(1))) {
        unread.extend_from_slice(arrived);
        loop {
            let (len, what) = match sip::frame(&unread, &mut index) {
                Frame::Partial => break,
                Frame::Keepalive(len) => (len, Found::Keepalive),
                Frame::Message(len) => (len, Found::Message(unread[..len].to_vec())),
                Frame::Unframed(len) => {
                    assert!(len > 0 && len <= unread.len());
                    found.push(Found::Unframed);
                    return found;
                }
            };
            assert!(len > 0 && len <= unread.len());
            unread.drain(..len);
            found.push(what);
        }
    }
    found
}
