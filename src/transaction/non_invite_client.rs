//! The non-INVITE client transaction (RFC 3261 17.1.2, figure 6).

use super::step::{Emit, Retransmit, Step, Tell, Timeout};
use crate::limits::{T2, T4};
use crate::time::Duration;

/// Where the transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The request is out, nothing came back; Timers E and F run.
    Trying,
    /// A provisional response came; Timers E (at T2) and F run on.
    Proceeding,
    /// The final response came; Timer K absorbs its retransmissions.
    Completed,
    /// Over.
    Terminated,
}

/// What can happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A 1xx.
    Provisional,
    /// A 200-699.
    Final,
    /// Timer E.
    Retransmit,
    /// Timer F or K, by the state.
    Timeout,
    /// The transport could not send, or reported the destination unreachable.
    TransportError,
}

/// The step that `event` causes in `state`; `reliable` tells of the transport.
#[must_use]
pub fn step(state: State, event: Event, reliable: bool) -> Step<State> {
    match (state, event) {
        (State::Trying | State::Proceeding, Event::Provisional) => {
            Step::to(State::Proceeding).telling(Tell::Message)
        }
        (State::Trying | State::Proceeding, Event::Final) => {
            // RFC 3261 17.1.2.2: Timer K is T4 over an unreliable transport, zero over a reliable one.
            let timer_k = if reliable { Duration::ZERO } else { T4 };
            Step::to(State::Completed)
                .retransmitting(Retransmit::Stop)
                .ending(Timeout::Set(timer_k))
                .telling(Tell::Message)
        }
        (State::Trying, Event::Retransmit) => Step::to(State::Trying)
            .emitting(Emit::Again)
            .retransmitting(Retransmit::Double(Some(T2))),
        (State::Proceeding, Event::Retransmit) => Step::to(State::Proceeding)
            .emitting(Emit::Again)
            .retransmitting(Retransmit::Set(T2)),
        (State::Trying | State::Proceeding, Event::Timeout) => {
            Step::to(State::Terminated).telling(Tell::TimedOut)
        }
        (State::Trying | State::Proceeding, Event::TransportError) => {
            Step::to(State::Terminated).telling(Tell::Failed)
        }
        (State::Completed, Event::Timeout) => Step::to(State::Terminated),
        (
            State::Completed,
            Event::Provisional | Event::Final | Event::Retransmit | Event::TransportError,
        )
        | (
            State::Terminated,
            Event::Provisional
            | Event::Final
            | Event::Retransmit
            | Event::Timeout
            | Event::TransportError,
        ) => Step::to(state),
    }
}
