//! What a connection has not yet taken: whole messages in their order, the first perhaps sent in part.

use std::collections::VecDeque;
use std::io::{self, Write};

use crate::datagram::WorkerId;

/// Messages that wait for a connection to take them.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    messages: VecDeque<Waiting>,
    len: usize,
}

/// A message that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    bytes: Box<[u8]>,
    sent: usize,
    /// Who sent it; nobody of a keepalive's answer.
    pub(super) from: Option<WorkerId>,
}

impl Waiting {
    /// The whole of it, to be kept.
    pub(super) fn into_bytes(self) -> Box<[u8]> {
        self.bytes
    }
}

impl Backlog {
    /// Adds a message of which `sent` bytes are gone already.
    pub(super) fn push(&mut self, bytes: &[u8], sent: usize, from: Option<WorkerId>) {
        self.len += bytes.len();
        self.messages.push_back(Waiting {
            bytes: bytes.into(),
            sent,
            from,
        });
    }

    /// Writes until nothing waits or `to` takes no more; how many bytes and how many workers' messages went.
    ///
    /// # Errors
    /// What `to` says, but that it takes no more.
    pub(super) fn write_to(&mut self, to: &mut impl Write) -> io::Result<(usize, u64)> {
        let (mut written, mut messages) = (0, 0);
        while let Some(first) = self.messages.front_mut() {
            let len = write(to, first.bytes.get(first.sent..).unwrap_or_default())?;
            written += len;
            first.sent += len;
            if first.sent < first.bytes.len() {
                break;
            }
            self.len -= first.bytes.len();
            messages += u64::from(first.from.is_some());
            self.messages.pop_front();
        }
        if self.messages.is_empty() {
            self.messages = VecDeque::new();
        }
        Ok((written, messages))
    }

    /// Takes out what waits, the oldest first.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.messages.pop_front()?;
        self.len -= waiting.bytes.len();
        Some(waiting)
    }

    /// Bytes of the messages that wait.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

/// Writes as much as `to` takes now: less than all means that it takes no more.
///
/// # Errors
/// What `to` says, but that it takes no more.
pub(super) fn write(to: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match to.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => written += len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, and then no more.
    struct Narrow(Vec<u8>, usize);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.1).min(3);
            if len == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.extend_from_slice(&bytes[..len]);
            self.1 -= len;
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_stream_stays_in_order_however_little_is_taken() {
        for room in 1..20 {
            let mut backlog = Backlog::default();
            backlog.push(b"first", 2, Some(WorkerId(0)));
            backlog.push(b"\r\n", 0, None);
            backlog.push(b"second", 0, Some(WorkerId(1)));
            let mut to = Narrow(Vec::new(), 0);
            let mut messages = 0;
            while !backlog.is_empty() {
                to.1 = room;
                messages += backlog.write_to(&mut to).expect("it takes some").1;
            }
            assert_eq!(to.0, b"rst\r\nsecond");
            assert_eq!((messages, backlog.len()), (2, 0));
        }
    }

    #[test]
    fn what_went_in_part_is_still_there_as_a_whole() {
        let mut backlog = Backlog::default();
        backlog.push(b"first", 0, Some(WorkerId(3)));
        backlog
            .write_to(&mut Narrow(Vec::new(), 4))
            .expect("it takes some");
        assert_eq!(backlog.len(), 5);
        let waiting = backlog.pop().expect("it is not gone");
        assert_eq!(waiting.from, Some(WorkerId(3)));
        assert_eq!(*waiting.into_bytes(), *b"first");
        assert!(backlog.is_empty());
    }
}
