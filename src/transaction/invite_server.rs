//! The INVITE server transaction (RFC 3261 17.2.1, figure 7, with the Accepted state of RFC 6026 7.1).

use super::step::{Emit, Retransmit, Step, Tell, Timeout};
use crate::limits::{T1, T1_64, T2, T4};
use crate::time::Duration;

/// Where the transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No final response yet.
    Proceeding,
    /// A 300-699 was sent; Timers G and H wait for its ACK.
    Completed,
    /// The ACK came; Timer I absorbs further ones.
    Confirmed,
    /// A 2xx was sent; Timer L absorbs retransmissions of the INVITE.
    Accepted,
    /// Over.
    Terminated,
}

/// What can happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The INVITE came again.
    Request,
    /// The transaction user gives a 1xx.
    Provisional,
    /// The transaction user gives a 2xx.
    Success,
    /// The transaction user gives a 300-699.
    Failure,
    /// An ACK came.
    Ack,
    /// Timer G.
    Retransmit,
    /// Timer H, I or L, by the state.
    Timeout,
}

/// The step that `event` causes in `state`; `reliable` tells of the transport.
#[must_use]
pub fn step(state: State, event: Event, reliable: bool) -> Step<State> {
    match (state, event) {
        (State::Proceeding | State::Completed, Event::Request) => {
            Step::to(state).emitting(Emit::Again)
        }
        (State::Proceeding, Event::Provisional) => {
            Step::to(State::Proceeding).emitting(Emit::Given)
        }
        // RFC 6026 7.1: Timer L is 64*T1, over any transport.
        (State::Proceeding, Event::Success) => Step::to(State::Accepted)
            .emitting(Emit::Given)
            .ending(Timeout::Set(T1_64)),
        (State::Accepted, Event::Success) => Step::to(State::Accepted).emitting(Emit::Given),
        // RFC 3261 16.7 step 5: a 2xx is forwarded even after another final response was.
        (State::Completed | State::Confirmed, Event::Success) => {
            Step::to(state).emitting(Emit::Given)
        }
        (State::Proceeding, Event::Failure) => {
            let timer_g = if reliable {
                Retransmit::Keep
            } else {
                Retransmit::Set(T1)
            };
            Step::to(State::Completed)
                .emitting(Emit::Given)
                .retransmitting(timer_g)
                .ending(Timeout::Set(T1_64))
        }
        (State::Completed, Event::Retransmit) => Step::to(State::Completed)
            .emitting(Emit::Again)
            .retransmitting(Retransmit::Double(Some(T2))),
        (State::Completed, Event::Ack) => {
            // RFC 3261 17.2.1: Timer I is T4 over an unreliable transport, zero over a reliable one.
            let timer_i = if reliable { Duration::ZERO } else { T4 };
            Step::to(State::Confirmed)
                .retransmitting(Retransmit::Stop)
                .ending(Timeout::Set(timer_i))
        }
        (State::Completed, Event::Timeout) => Step::to(State::Terminated).telling(Tell::TimedOut),
        (State::Confirmed | State::Accepted, Event::Timeout) => Step::to(State::Terminated),
        // RFC 6026 7.1: an ACK in Accepted is the transaction user's: a proxy forwards it.
        (State::Accepted, Event::Ack) => Step::to(State::Accepted).telling(Tell::Message),
        (State::Proceeding, Event::Ack | Event::Retransmit | Event::Timeout)
        | (State::Completed, Event::Provisional | Event::Failure)
        | (
            State::Confirmed,
            Event::Request | Event::Provisional | Event::Failure | Event::Ack | Event::Retransmit,
        )
        | (
            State::Accepted,
            Event::Request | Event::Provisional | Event::Failure | Event::Retransmit,
        )
        | (
            State::Terminated,
            Event::Request
            | Event::Provisional
            | Event::Success
            | Event::Failure
            | Event::Ack
            | Event::Retransmit
            | Event::Timeout,
        ) => Step::to(state),
    }
}
