//! What a REGISTER asks of the location, and what becomes of it.

use crate::datagram::Flow;
use crate::time::Duration;

/// What all contacts of one REGISTER share.
#[derive(Clone, Copy, Debug)]
pub struct Registration<'a> {
    /// The Call-ID, at most [`BINDING_TEXT_LEN_MAX`](crate::limits::BINDING_TEXT_LEN_MAX) bytes.
    pub call_id: &'a [u8],
    /// The number of the CSeq.
    pub cseq: u32,
    /// The User-Agent; cut where it is too long.
    pub user_agent: &'a [u8],
    /// The values of Path (RFC 3327), comma-separated; empty without one.
    pub path: &'a [u8],
    /// The flow by which the REGISTER came.
    pub flow: Flow,
}

/// What one Contact value asks.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The contact's URI, at most [`CONTACT_LEN_MAX`](crate::limits::CONTACT_LEN_MAX) bytes.
    pub uri: &'a [u8],
    /// How long it is to hold; zero removes it.
    pub expires: Duration,
    /// The q value in thousandths.
    pub q: Option<u16>,
    /// Whether the REGISTER came from elsewhere than the contact says (NAT), so that the flow is the way back.
    pub received: bool,
    /// `+sip.instance` (RFC 5626), empty without one.
    pub instance: &'a [u8],
    /// `reg-id` (RFC 5626), 0 without one.
    pub reg_id: u32,
}

/// Why a REGISTER changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A newer request with the same Call-ID has been seen (RFC 3261 10.3 steps 6 and 7): 500.
    OutOfOrder,
    /// The AoR would have more contacts than it may: 403.
    TooManyContacts,
    /// The location holds all the bindings that it may: 503.
    Full,
}

impl Refusal {
    /// The cause in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OutOfOrder => "out of order",
            Self::TooManyContacts => "too many contacts",
            Self::Full => "bindings full",
        }
    }
}

/// What a lookup found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Contacts to try.
    Found,
    /// The AoR is known but has no live contact: 480.
    NoContacts,
    /// The AoR is not known: 404.
    Unknown,
    /// There is no live contact here, but rows of the store are still to come: nobody can say yet.
    NotLoaded,
}

/// Which shard an operation touched, and the number of the last change there that it saw or made: with these the
/// recorder can put the operations of several workers in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The shard.
    pub shard: u16,
    /// Changes made in that shard so far.
    pub sequence: u64,
}
