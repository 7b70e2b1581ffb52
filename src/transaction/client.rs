//! A client transaction as the table keeps it, of either kind, and what can happen to it.

use super::id::Generation;
use super::server::ServerSlot;
use super::step::Step;
use super::timers::Timers;
use super::{invite_client, non_invite_client};
use crate::datagram::Flow;
use crate::timer::TimerId;

/// The slot of a client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSlot(pub u32);

/// The state of a client transaction of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// Of an INVITE.
    Invite(invite_client::State),
    /// Of any other request.
    NonInvite(non_invite_client::State),
}

/// What can happen to a client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// A 1xx came.
    Provisional,
    /// A 2xx came.
    Success,
    /// A 300-699 came.
    Failure,
    /// The transport failed.
    TransportError,
    /// Timer A or E.
    Retransmit,
    /// Timer B, D, F, K or M, by the state.
    Timeout,
}

/// A client transaction.
#[derive(Debug)]
pub struct Client<C> {
    /// What the proxy keeps beside it.
    pub data: C,
    /// By which way its request goes.
    pub flow: Flow,
    pub(super) state: ClientState,
    pub(super) generation: Generation,
    pub(super) server: u32,
    pub(super) next: Option<u32>,
    pub(super) timers: Timers,
    pub(super) guard: Option<TimerId>,
    pub(super) is_started: bool,
}

impl<C> Client<C> {
    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> ClientState {
        self.state
    }

    /// Whether its request is out.
    #[must_use]
    pub const fn is_started(&self) -> bool {
        self.is_started
    }

    /// Its timers that run.
    pub(super) fn timers(&self) -> impl Iterator<Item = TimerId> {
        self.timers.running().chain(self.guard)
    }

    /// The server transaction it serves.
    #[must_use]
    pub const fn server(&self) -> ServerSlot {
        ServerSlot(self.server)
    }
}

impl ClientState {
    /// Runs the machine of its kind.
    pub(super) fn step(self, event: ClientEvent, reliable: bool) -> Step<Self> {
        match self {
            Self::Invite(state) => {
                invite_client::step(state, invite_event(event), reliable).map(Self::Invite)
            }
            Self::NonInvite(state) => {
                non_invite_client::step(state, non_invite_event(event), reliable)
                    .map(Self::NonInvite)
            }
        }
    }

    /// Whether no final response came yet.
    #[must_use]
    pub const fn is_pending(self) -> bool {
        matches!(
            self,
            Self::Invite(invite_client::State::Calling | invite_client::State::Proceeding)
                | Self::NonInvite(
                    non_invite_client::State::Trying | non_invite_client::State::Proceeding
                )
        )
    }

    pub(super) const fn is_over(self) -> bool {
        matches!(
            self,
            Self::Invite(invite_client::State::Terminated)
                | Self::NonInvite(non_invite_client::State::Terminated)
        )
    }
}

const fn invite_event(event: ClientEvent) -> invite_client::Event {
    match event {
        ClientEvent::Provisional => invite_client::Event::Provisional,
        ClientEvent::Success => invite_client::Event::Success,
        ClientEvent::Failure => invite_client::Event::Failure,
        ClientEvent::TransportError => invite_client::Event::TransportError,
        ClientEvent::Retransmit => invite_client::Event::Retransmit,
        ClientEvent::Timeout => invite_client::Event::Timeout,
    }
}

const fn non_invite_event(event: ClientEvent) -> non_invite_client::Event {
    match event {
        ClientEvent::Provisional => non_invite_client::Event::Provisional,
        ClientEvent::Success | ClientEvent::Failure => non_invite_client::Event::Final,
        ClientEvent::TransportError => non_invite_client::Event::TransportError,
        ClientEvent::Retransmit => non_invite_client::Event::Retransmit,
        ClientEvent::Timeout => non_invite_client::Event::Timeout,
    }
}
