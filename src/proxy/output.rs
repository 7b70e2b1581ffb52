//! The core's one exit: everything it wants done in the world goes through [`Output`].

use crate::datagram::{Datagram, Flow, Transport, WorkerId};

/// What the core asks of the shell: to send, to hand over, to look names up. AF_XDP, plain sockets and the simulator implement it.
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

    /// Asks where a name is to be found (RFC 3263). The answer comes later, as [`Notice::Resolved`](super::Notice::Resolved)
    /// with the same id: always one, also where nothing is found.
    ///
    /// # Errors
    /// [`ResolverFull`]; no answer will come.
    fn resolve(&mut self, question: &Question<'_>) -> Result<(), ResolverFull>;

    /// Asks for a user's secrets. The answer comes later, as [`Notice::Subscriber`](super::Notice::Subscriber) with the same AoR.
    ///
    /// # Errors
    /// [`StoreFull`]; no answer will come.
    fn ask_subscriber(&mut self, question: &SubscriberQuestion<'_>) -> Result<(), StoreFull>;

    /// Asks for the rows of an AoR before their turn, while the store is read. They enter the location, and then
    /// [`Notice::Loaded`](super::Notice::Loaded) comes with the same AoR; or nothing, where the store cannot say.
    ///
    /// # Errors
    /// [`StoreFull`]; nothing will come.
    fn want_rows(&mut self, aor: &[u8]) -> Result<(), StoreFull>;

    /// Leaves a message of other nodes (KDMQ) for the cluster.
    ///
    /// # Errors
    /// [`NotForCluster`]; where there is no cluster at that listener, it is a message as any other.
    fn give_to_cluster(&mut self, datagram: &Datagram<'_>) -> Result<(), NotForCluster> {
        let _ = datagram;
        Err(NotForCluster::Elsewhere)
    }

    /// Whether a connection is open that a message to `flow`, of a connection-oriented transport, would take.
    fn is_connected(&self, flow: &Flow) -> bool;
}

/// Which question an answer is to: chosen by the core, unique among those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuestionId(pub u64);

/// Where is a host, for SIP (RFC 3263 4.1 and 4.2)? It is a name; addresses are never asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// Its number.
    pub id: QuestionId,
    /// The host of the next hop's URI, at most 255 bytes; as it was written, in any case.
    pub host: &'a [u8],
    /// The URI's port: with one there is neither NAPTR nor SRV.
    pub port: Option<u16>,
    /// The URI's transport parameter: with one there is no NAPTR.
    pub transport: Option<Transport>,
}

/// Who is a user, for digest authentication?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriberQuestion<'a> {
    /// The AoR, as the location has it; at most `limits::AOR_LEN_MAX` bytes.
    pub aor: &'a [u8],
    /// The user name.
    pub user: &'a [u8],
    /// The realm.
    pub realm: &'a [u8],
}

/// The store has no room for a further question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFull;

/// The resolver has no room for a further question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolverFull;

/// Why the cluster did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotForCluster {
    /// There is no cluster, or it has another address.
    Elsewhere,
    /// Its sender is not listened to.
    NotAllowed,
    /// There is no room; it comes again.
    Full,
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
