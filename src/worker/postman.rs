//! Brings what the TCP thread received to the worker that it belongs to, and what it could not send back to the one that sent it.
//!
//! It steers as the core does (a request by its Call-ID, a response by the branch of our Via), so that no worker need hand on
//! what comes by TCP.

use std::sync::Arc;

use super::clock::Clock;
use super::control::Control;
use super::mailbox::Kind;
use crate::datagram::{Datagram, Flow, WorkerId};
use crate::limits::{MAILBOX_TCP_LEN, TCP_CROWDED_LEN};
use crate::net::tcp::{Busy, Delivered, Recipient};
use crate::peer::Inlet;
use crate::proxy::Settings;
use crate::proxy::steer::Steering;
use crate::replication::NodeAddress;
use crate::sip::index::Index;
use crate::sip::message::{Parsed, parse};
use crate::sip::method::Method;
use crate::time::Instant;
use crate::transaction::id::BranchCodec;

/// The TCP thread's way to the workers.
pub(super) struct Postman {
    control: Arc<Control>,
    clock: Clock,
    steering: Steering,
    branches: BranchCodec,
    workers: usize,
    /// Letters in a mailbox at which TCP waits.
    waiting_max: usize,
    /// Where what the cluster sent comes back to, where it shares a listener.
    inlet: Option<Arc<Inlet>>,
    index: Box<Index>,
}

impl Postman {
    /// One that knows the workers' mailboxes, and steers as cores with these settings do.
    pub(super) fn new(control: Arc<Control>, clock: Clock, settings: &Settings) -> Self {
        let workers = control.mailboxes().len().max(1);
        Self {
            steering: Steering::new(settings.keys.steering, settings.workers),
            branches: BranchCodec::new(
                settings.server_id,
                settings.epoch,
                settings.keys.branches.clone(),
            ),
            workers,
            waiting_max: MAILBOX_TCP_LEN.min(TCP_CROWDED_LEN / workers),
            control,
            clock,
            inlet: None,
            index: Box::new(Index::new()),
        }
    }

    /// Gives back to the cluster what it had sent.
    pub(super) fn with_inlet(mut self, inlet: Option<Arc<Inlet>>) -> Self {
        self.inlet = inlet;
        self
    }

    /// Whose a message is, where it says so, and what it is.
    fn read(&mut self, bytes: &[u8]) -> (Option<WorkerId>, Delivered) {
        match parse(bytes, &mut self.index) {
            Parsed::Good(request) if request.is_request() => {
                let owner = self.steering.owner(request.call_id());
                (Some(owner), verdict(request.method()))
            }
            Parsed::Good(response) => {
                let branch = response.top_via().branch().unwrap_or_default();
                let owner = self
                    .branches
                    .decode_own(branch)
                    .map(|branch| branch.id.worker);
                (owner.ok(), Delivered::Sip)
            }
            Parsed::Answerable(request, _) => (None, verdict(request.method())),
            Parsed::NotSip(_) => (None, Delivered::Noise),
        }
    }
}

impl Recipient for Postman {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn deliver(&mut self, message: &Datagram<'_>, home: usize) -> Result<Delivered, Busy> {
        let (owner, verdict) = self.read(message.bytes);
        let number = owner
            .map(|owner| usize::from(owner.0))
            .filter(|number| *number < self.workers)
            .unwrap_or(home % self.workers);
        let mailbox = self.control.mailboxes().get(number).ok_or(Busy)?;
        if mailbox.len() >= self.waiting_max {
            return Err(Busy);
        }
        let posted = mailbox.post(Kind::Streamed, message, None);
        posted.map(|()| verdict).map_err(|_| Busy)
    }

    fn give_back(&mut self, to: WorkerId, flow: &Flow, sent: &[u8]) -> Result<(), Busy> {
        if let Some(inlet) = self.inlet.as_ref().filter(|_| to == CLUSTER) {
            let node = NodeAddress {
                transport: flow.transport,
                socket: flow.peer,
            };
            return inlet.give_back(node, sent).map_err(|_| Busy);
        }
        let mailbox = self
            .control
            .mailboxes()
            .get(usize::from(to.0))
            .ok_or(Busy)?;
        let datagram = Datagram {
            bytes: sent,
            flow: *flow,
            received_at: self.clock.now(),
            handed_off: true,
        };
        mailbox
            .post(Kind::Undelivered, &datagram, None)
            .map_err(|_| Busy)
    }
}

/// By which number the cluster sends over TCP; no worker has it.
pub(super) const CLUSTER: WorkerId = WorkerId(u8::MAX);

/// What a request is to a connection: an ACK is never answered.
fn verdict(method: Method) -> Delivered {
    if method == Method::Ack {
        Delivered::Sip
    } else {
        Delivered::Request
    }
}
