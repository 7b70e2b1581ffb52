//! The INVITE client transaction (RFC 3261 17.1.1, figure 5, with the Accepted state of RFC 6026 7.2).

use super::step::{Emit, Retransmit, Step, Tell, Timeout};
use crate::limits::{T1_64, TIMER_D};
use crate::time::Duration;

/// Where the transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The INVITE is out, nothing came back; Timers A and B run.
    Calling,
    /// A provisional response came; only the proxy's Timer C limits it.
    Proceeding,
    /// A 300-699 came and was acknowledged; Timer D absorbs its retransmissions.
    Completed,
    /// A 2xx came; further ones are passed on until Timer M.
    Accepted,
    /// Over.
    Terminated,
}

/// What can happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A 1xx.
    Provisional,
    /// A 2xx.
    Success,
    /// A 300-699.
    Failure,
    /// Timer A.
    Retransmit,
    /// Timer B, D or M, by the state.
    Timeout,
    /// The transport could not send, or reported the destination unreachable.
    TransportError,
}

/// The step that `event` causes in `state`; `reliable` tells of the transport.
#[must_use]
pub fn step(state: State, event: Event, reliable: bool) -> Step<State> {
    match (state, event) {
        // RFC 3261 17.1.1.2: the client transaction SHOULD NOT retransmit once a provisional response came.
        (State::Calling, Event::Provisional) => Step::to(State::Proceeding)
            .retransmitting(Retransmit::Stop)
            .ending(Timeout::Stop)
            .telling(Tell::Message),
        (State::Proceeding, Event::Provisional) => {
            Step::to(State::Proceeding).telling(Tell::Message)
        }
        // RFC 6026 7.2: Timer M is 64*T1, over any transport.
        (State::Calling | State::Proceeding, Event::Success) => Step::to(State::Accepted)
            .retransmitting(Retransmit::Stop)
            .ending(Timeout::Set(T1_64))
            .telling(Tell::Message),
        (State::Accepted, Event::Success) => Step::to(State::Accepted).telling(Tell::Message),
        (State::Calling | State::Proceeding, Event::Failure) => {
            // RFC 3261 17.1.1.2: Timer D is at least 32 s over an unreliable transport, zero over a reliable one.
            let timer_d = if reliable { Duration::ZERO } else { TIMER_D };
            Step::to(State::Completed)
                .emitting(Emit::Ack)
                .retransmitting(Retransmit::Stop)
                .ending(Timeout::Set(timer_d))
                .telling(Tell::Message)
        }
        (State::Completed, Event::Failure) => Step::to(State::Completed).emitting(Emit::Ack),
        // Timer A doubles without a cap: Timer B ends it.
        (State::Calling, Event::Retransmit) => Step::to(State::Calling)
            .emitting(Emit::Again)
            .retransmitting(Retransmit::Double(None)),
        (State::Calling, Event::Timeout) => Step::to(State::Terminated).telling(Tell::TimedOut),
        (State::Completed | State::Accepted, Event::Timeout) => Step::to(State::Terminated),
        (State::Calling, Event::TransportError) => {
            Step::to(State::Terminated).telling(Tell::Failed)
        }
        (State::Proceeding, Event::Retransmit | Event::Timeout | Event::TransportError)
        | (
            State::Completed,
            Event::Provisional | Event::Success | Event::Retransmit | Event::TransportError,
        )
        | (
            State::Accepted,
            Event::Provisional | Event::Failure | Event::Retransmit | Event::TransportError,
        )
        | (
            State::Terminated,
            Event::Provisional
            | Event::Success
            | Event::Failure
            | Event::Retransmit
            | Event::Timeout
            | Event::TransportError,
        ) => Step::to(state),
    }
}
