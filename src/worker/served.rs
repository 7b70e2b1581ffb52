//! What a turn has served, measured when what it made has left: one look at the clock a turn, not one a message.

use std::sync::Arc;

use super::clock::Clock;
use crate::latency::{self, Latency};
use crate::limits::BATCH;
use crate::sip::method::Method;
use crate::time::Instant;

/// The messages of this turn, and the histograms that they go into.
pub(super) struct Served {
    messages: Vec<(latency::Method, Instant)>,
    latency: Arc<Latency>,
}

impl Served {
    pub(super) fn new(latency: Arc<Latency>) -> Self {
        Self {
            messages: Vec::with_capacity(2 * BATCH),
            latency,
        }
    }

    /// A message that was received at `received_at` is served; a response counts as its request.
    pub(super) fn note(&mut self, method: Method, received_at: Instant) {
        self.messages.push((measured(method), received_at));
    }

    /// All that was noted has left.
    pub(super) fn record(&mut self, clock: &Clock) {
        if self.messages.is_empty() {
            return;
        }
        let now = clock.now();
        for (method, received_at) in self.messages.drain(..) {
            self.latency.record(method, now.since(received_at));
        }
    }
}

/// The method as the latency tables know it.
fn measured(method: Method) -> latency::Method {
    match method {
        Method::Invite => latency::Method::Invite,
        Method::Ack => latency::Method::Ack,
        Method::Bye => latency::Method::Bye,
        Method::Cancel => latency::Method::Cancel,
        Method::Register => latency::Method::Register,
        Method::Options => latency::Method::Options,
        Method::Prack
        | Method::Update
        | Method::Info
        | Method::Subscribe
        | Method::Notify
        | Method::Refer
        | Method::Message
        | Method::Publish
        | Method::Kdmq
        | Method::Other => latency::Method::Other,
    }
}
