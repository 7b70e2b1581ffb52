//! The core's one exit: everything it wants done in the world goes through [`Output`].

use crate::datagram::{Datagram, Flow, WorkerId};

/// What the core asks of the shell: to send, and to hand over. AF_XDP, plain sockets and the simulator implement it.
pub trait Output {
    /// Sends a message of exactly `len` bytes by `flow`; `write` fills the transmit buffer, which is that long.
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent, and `write` may not have been called.
    fn send(
        &mut self,
        flow: &Flow,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError>;

    /// Puts a copy of `datagram` into the mailbox of the worker that owns it.
    ///
    /// # Errors
    /// [`MailboxFull`]; the caller drops the datagram and counts it: its sender retransmits.
    fn hand_off(&mut self, to: WorkerId, datagram: &Datagram<'_>) -> Result<(), MailboxFull>;
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Longer than a datagram may be.
    TooLarge,
    /// The transmit ring and the socket's buffer are full; a retransmission may fare better.
    Full,
    /// The kernel refused the destination.
    Unreachable,
    /// There is no such listener, or it cannot speak to that family or transport.
    NoListener,
}

/// The owner's mailbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxFull;

impl SendError {
    /// The cause, as metrics and logs name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Full => "transmit_full",
            Self::Unreachable => "unreachable",
            Self::NoListener => "no_listener",
        }
    }
}
