//! A server transaction as the table keeps it, of either kind, and what can happen to it.

use super::arena::Stored;
use super::key::ServerKey;
use super::step::Step;
use super::timers::Timers;
use crate::timer::TimerId;

use super::{invite_server, non_invite_server};

/// The slot of a server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerSlot(pub u32);

/// The state of a server transaction of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// Of an INVITE.
    Invite(invite_server::State),
    /// Of any other request.
    NonInvite(non_invite_server::State),
}

/// What can happen to a server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// The request came again.
    Request,
    /// A 1xx is to be sent.
    Provisional,
    /// A 2xx is to be sent.
    Success,
    /// A 300-699 is to be sent.
    Failure,
    /// An ACK came.
    Ack,
    /// No response will be sent (non-INVITE alone).
    Abandon,
    /// Timer G.
    Retransmit,
    /// Timer H, I, J or L, by the state.
    Timeout,
}

/// A server transaction.
#[derive(Debug)]
pub struct Server<S> {
    /// What the proxy keeps beside it.
    pub data: S,
    pub(super) key: ServerKey,
    pub(super) state: ServerState,
    pub(super) is_reliable: bool,
    pub(super) is_indexed: bool,
    pub(super) request: Stored,
    pub(super) response: Option<Stored>,
    pub(super) timers: Timers,
    pub(super) first_client: Option<u32>,
}

impl<S> Server<S> {
    /// Its timers that run.
    pub(super) fn timers(&self) -> impl Iterator<Item = TimerId> {
        self.timers.running()
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> ServerState {
        self.state
    }
}

impl ServerState {
    /// Runs the machine of its kind; `None` for what cannot happen to that kind.
    pub(super) fn step(self, event: ServerEvent, reliable: bool) -> Option<Step<Self>> {
        Some(match self {
            Self::Invite(state) => {
                invite_server::step(state, invite_event(event)?, reliable).map(Self::Invite)
            }
            Self::NonInvite(state) => {
                non_invite_server::step(state, non_invite_event(event)?, reliable)
                    .map(Self::NonInvite)
            }
        })
    }

    /// Whether no final response was sent yet.
    #[must_use]
    pub const fn is_pending(self) -> bool {
        matches!(
            self,
            Self::Invite(invite_server::State::Proceeding)
                | Self::NonInvite(
                    non_invite_server::State::Trying | non_invite_server::State::Proceeding
                )
        )
    }

    /// Whether the transaction is over.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(
            self,
            Self::Invite(invite_server::State::Terminated)
                | Self::NonInvite(non_invite_server::State::Terminated)
        )
    }

    pub(super) const fn terminated(self) -> Self {
        match self {
            Self::Invite(_) => Self::Invite(invite_server::State::Terminated),
            Self::NonInvite(_) => Self::NonInvite(non_invite_server::State::Terminated),
        }
    }
}

const fn invite_event(event: ServerEvent) -> Option<invite_server::Event> {
    Some(match event {
        ServerEvent::Request => invite_server::Event::Request,
        ServerEvent::Provisional => invite_server::Event::Provisional,
        ServerEvent::Success => invite_server::Event::Success,
        ServerEvent::Failure => invite_server::Event::Failure,
        ServerEvent::Ack => invite_server::Event::Ack,
        ServerEvent::Retransmit => invite_server::Event::Retransmit,
        ServerEvent::Timeout => invite_server::Event::Timeout,
        ServerEvent::Abandon => return None,
    })
}

const fn non_invite_event(event: ServerEvent) -> Option<non_invite_server::Event> {
    Some(match event {
        ServerEvent::Request => non_invite_server::Event::Request,
        ServerEvent::Provisional => non_invite_server::Event::Provisional,
        ServerEvent::Success | ServerEvent::Failure => non_invite_server::Event::Final,
        ServerEvent::Abandon => non_invite_server::Event::Abandon,
        ServerEvent::Retransmit => non_invite_server::Event::Late,
        ServerEvent::Timeout => non_invite_server::Event::Timeout,
        ServerEvent::Ack => return None,
    })
}
