//! What a state machine asks for: the next state, and what is to be done on the way there. Plain data.

use crate::time::Duration;

/// One transition: where the machine goes, and what its owner must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<S> {
    /// The state after the event.
    pub next: S,
    /// What goes on the wire.
    pub emit: Emit,
    /// What becomes of the retransmission timer (A, E or G).
    pub retransmit: Retransmit,
    /// What becomes of the timer that ends the state (B, D, F, H, I, J, K, L or M).
    pub timeout: Timeout,
    /// What the transaction user above is told.
    pub tell: Tell,
}

/// What a step puts on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// Nothing.
    Nothing,
    /// The response that the transaction user gave.
    Given,
    /// What was sent last, once more.
    Again,
    /// An ACK for the final response that just came (RFC 3261 17.1.1.3).
    Ack,
}

/// What a step does with the retransmission timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retransmit {
    /// It stays as it is.
    Keep,
    /// It is cancelled.
    Stop,
    /// It is set to this interval.
    Set(Duration),
    /// It is set to twice its last interval, at most this long where there is a cap.
    Double(Option<Duration>),
}

/// What a step does with the timer that ends the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// It stays as it is.
    Keep,
    /// It is cancelled.
    Stop,
    /// It is set to this span from now.
    Set(Duration),
}

/// What a step tells the transaction user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// Nothing: the event is absorbed.
    Nothing,
    /// The message that came.
    Message,
    /// No final response, or no ACK, came in time.
    TimedOut,
    /// The transport failed.
    Failed,
}

impl<S> Step<S> {
    /// A step to `next` that does nothing else.
    #[must_use]
    pub const fn to(next: S) -> Self {
        Self {
            next,
            emit: Emit::Nothing,
            retransmit: Retransmit::Keep,
            timeout: Timeout::Keep,
            tell: Tell::Nothing,
        }
    }

    /// The same step, which also emits.
    #[must_use]
    pub const fn emitting(mut self, emit: Emit) -> Self {
        self.emit = emit;
        self
    }

    /// The same step, which also sets or stops the retransmission timer.
    #[must_use]
    pub const fn retransmitting(mut self, retransmit: Retransmit) -> Self {
        self.retransmit = retransmit;
        self
    }

    /// The same step, which also sets or stops the timer that ends the state.
    #[must_use]
    pub const fn ending(mut self, timeout: Timeout) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same step, which also tells the transaction user.
    #[must_use]
    pub const fn telling(mut self, tell: Tell) -> Self {
        self.tell = tell;
        self
    }

    /// The same step among the states of another type.
    #[must_use]
    pub fn map<T>(self, wrap: impl FnOnce(S) -> T) -> Step<T> {
        Step {
            next: wrap(self.next),
            emit: self.emit,
            retransmit: self.retransmit,
            timeout: self.timeout,
            tell: self.tell,
        }
    }
}
