//! The non-INVITE server transaction (RFC 3261 17.2.2, figure 8; RFC 4320).

use super::step::{Emit, Retransmit, Step, Timeout};
use crate::limits::T1_64;
use crate::time::Duration;

/// Where the transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No response yet.
    Trying,
    /// A provisional response was sent.
    Proceeding,
    /// The final response was sent, or will never be; Timer J absorbs retransmissions of the request.
    Completed,
    /// Over.
    Terminated,
}

/// What can happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The request came again.
    Request,
    /// The transaction user gives a 1xx.
    Provisional,
    /// The transaction user gives a 200-699.
    Final,
    /// The transaction user gives up without a response (RFC 4320 4.2: no 408 to a non-INVITE request).
    Abandon,
    /// The client's Timer E has come to T2, and it has heard nothing.
    Late,
    /// Timer J.
    Timeout,
}

/// The step that `event` causes in `state`; `reliable` tells of the transport.
#[must_use]
pub fn step(state: State, event: Event, reliable: bool) -> Step<State> {
    match (state, event) {
        (State::Proceeding | State::Completed, Event::Request) => {
            Step::to(state).emitting(Emit::Again)
        }
        (State::Trying | State::Proceeding, Event::Provisional) => {
            Step::to(State::Proceeding).emitting(Emit::Given)
        }
        // RFC 4320 4.1: a 100 then, and none before.
        (State::Trying, Event::Late) => Step::to(State::Proceeding).emitting(Emit::Again),
        (State::Trying | State::Proceeding, Event::Final) => {
            // RFC 3261 17.2.2: Timer J is 64*T1 over an unreliable transport, zero over a reliable one.
            let timer_j = if reliable { Duration::ZERO } else { T1_64 };
            Step::to(State::Completed)
                .emitting(Emit::Given)
                .retransmitting(Retransmit::Stop)
                .ending(Timeout::Set(timer_j))
        }
        (State::Trying | State::Proceeding, Event::Abandon) => {
            // The client goes on retransmitting until its Timer F: that is absorbed as after a response.
            let timer_j = if reliable { Duration::ZERO } else { T1_64 };
            Step::to(State::Completed)
                .retransmitting(Retransmit::Stop)
                .ending(Timeout::Set(timer_j))
        }
        (State::Completed, Event::Timeout) => Step::to(State::Terminated),
        (State::Trying, Event::Request | Event::Timeout)
        | (State::Proceeding, Event::Late | Event::Timeout)
        | (State::Completed, Event::Provisional | Event::Final | Event::Abandon | Event::Late)
        | (
            State::Terminated,
            Event::Request
            | Event::Provisional
            | Event::Final
            | Event::Abandon
            | Event::Late
            | Event::Timeout,
        ) => Step::to(state),
    }
}
