//! What the proxy keeps of a request that it relays: the response context of RFC 3261 16.7, and its branches.

use super::compose::Consumed;
use crate::datagram::Flow;
use crate::transaction::arena::{Arena, Stored};
use crate::transaction::client::ClientSlot;
use crate::transaction::table::Holdings;

/// The response context: kept beside the server transaction.
#[derive(Debug)]
pub(super) struct Relay {
    /// Where the request came from.
    pub(super) source: Flow,
    /// Where its responses go (RFC 3261 18.2.2, RFC 3581).
    pub(super) reply_to: Flow,
    /// Whether it is an INVITE.
    pub(super) is_invite: bool,
    /// Route values of its own that are taken off before it is forwarded.
    pub(super) routes_consumed: Consumed,
    /// Whether a strict router before us put the target into the last Route value (RFC 3261 16.4).
    pub(super) from_strict_router: bool,
    /// Whether the caller gave up: then a branch that falls silent counts as terminated, not as timed out.
    pub(super) is_cancelled: bool,
    /// The best final response so far.
    pub(super) best: Option<Best>,
    /// The challenges of the 401 and 407 responses beside the best one, as header lines (RFC 3261 16.7 step 7).
    pub(super) challenges: Option<Stored>,
    /// Contacts that have not been tried yet, the highest q first, as `fork` writes them.
    pub(super) untried: Option<Stored>,
    /// How many branches may be in progress at the same time (RFC 5393 5.3.3).
    pub(super) breadth: u8,
}

/// A final response that may yet be forwarded.
#[derive(Debug)]
pub(super) enum Best {
    /// One that a branch received, without our Via.
    Received {
        /// Its status code.
        status: u16,
        /// The message.
        message: Stored,
    },
    /// One that we shall make: a branch timed out (408) or could not be reached (503).
    Made {
        /// Its status code.
        status: u16,
    },
}

/// A branch: kept beside the client transaction.
#[derive(Debug)]
pub(super) struct Leg {
    /// The Request-URI that replaces the received one.
    pub(super) target: Option<Stored>,
    /// Route values to be put before the others (RFC 3327).
    pub(super) path: Option<Stored>,
    /// Whether the target is a phone that is reached at another address than its contact names.
    pub(super) is_behind_nat: bool,
    /// What the transaction carries.
    pub(super) role: Role,
    /// A hash of the CSeq: a response must have the same.
    pub(super) cseq_hash: u32,
    /// The loop-detection hash of the request (RFC 5393).
    pub(super) loop_hash: u32,
    /// Its part of the request's breadth, which goes into Max-Breadth.
    pub(super) breadth: u8,
    /// Whether any response came.
    pub(super) is_answered: bool,
    /// Destinations to try when this one fails (RFC 3263 4.3), as `next_hop` writes them.
    pub(super) rest: Option<Stored>,
    /// The status that is noted when its flow, by which alone it may go (RFC 5626), has failed; none: it may go any way.
    pub(super) if_gone: Option<u16>,
    /// The other flows of the same instance, to try when this one fails, as `fork` writes them.
    pub(super) flows: Option<Stored>,
}

/// What a client transaction carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The relayed request; for an INVITE also how far its cancellation is.
    Request {
        /// The cancellation.
        cancel: Cancel,
    },
    /// The CANCEL of an INVITE branch, whose branch parameter it shares (RFC 3261 9.1).
    Cancel {
        /// The INVITE.
        of: ClientSlot,
    },
}

/// How far the cancellation of a branch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    /// Nobody wants it.
    No,
    /// It is wanted, and waits for a provisional response (RFC 3261 9.1).
    Wanted,
    /// The CANCEL is out.
    Sent {
        /// Its transaction.
        by: ClientSlot,
    },
    /// The CANCEL was sent, and its transaction has ended.
    Over,
}

impl Holdings for Relay {
    fn release(self, arena: &mut Arena) {
        if let Some(best) = self.best {
            best.release(arena);
        }
        for stored in [self.challenges, self.untried].into_iter().flatten() {
            arena.release(stored);
        }
    }
}

impl Holdings for Leg {
    fn release(self, arena: &mut Arena) {
        let texts = [self.target, self.path, self.rest, self.flows];
        for stored in texts.into_iter().flatten() {
            arena.release(stored);
        }
    }
}

impl Best {
    /// The status code.
    #[must_use]
    pub(super) const fn status(&self) -> u16 {
        match self {
            Self::Received { status, .. } | Self::Made { status } => *status,
        }
    }

    /// Whether a response with `status` is to be preferred to this one (RFC 3261 16.7 step 6).
    #[must_use]
    pub(super) const fn yields_to(&self, status: u16) -> bool {
        rank(status) < rank(self.status())
    }

    /// Gives its message back.
    pub(super) fn release(self, arena: &mut Arena) {
        match self {
            Self::Received { message, .. } => arena.release(message),
            Self::Made { .. } => {}
        }
    }
}

impl Leg {
    /// The same branch again, for another destination; `None` at the arena's bound.
    #[must_use]
    pub(super) fn duplicate(&self, arena: &mut Arena) -> Option<Self> {
        let target = match &self.target {
            Some(target) => Some(arena.duplicate(target)?),
            None => None,
        };
        let path = match self.path.as_ref().map(|path| arena.duplicate(path)) {
            Some(None) => {
                if let Some(target) = target {
                    arena.release(target);
                }
                return None;
            }
            copied => copied.flatten(),
        };
        Some(Self {
            target,
            path,
            role: Role::Request { cancel: Cancel::No },
            is_answered: false,
            rest: None,
            flows: None,
            ..*self
        })
    }

    /// Whether this is the relayed request rather than a CANCEL of it.
    #[must_use]
    pub(super) const fn is_request(&self) -> bool {
        matches!(self.role, Role::Request { .. })
    }
}

/// How good a final response is: less is better.
///
/// RFC 3261 16.7 step 6: a 6xx if there is one; else the lowest class; within 4xx those that tell the caller how to do
/// better (401, 407, 415, 420, 484), and what says nothing of the user (408, 503) last.
const fn rank(status: u16) -> u16 {
    match status {
        600.. => 0,
        401 | 407 | 415 | 420 | 484 => 4_000,
        408 => 4_999,
        503 => 5_999,
        _ => status * 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_response_is_chosen_as_the_rfc_says() {
        let best = |status| Best::Made { status };
        assert!(best(486).yields_to(603));
        assert!(!best(603).yields_to(486));
        assert!(best(500).yields_to(404));
        assert!(best(404).yields_to(302));
        assert!(best(404).yields_to(407));
        assert!(best(408).yields_to(486));
        assert!(best(503).yields_to(500));
        assert!(!best(486).yields_to(486));
    }
}
