//! The shell's side of the core's one exit: into transmit rings, sockets and mailboxes.

use std::sync::Arc;

use super::control::Control;
use super::mailbox::Kind;
use crate::datagram::{Datagram, Flow, WorkerId};
use crate::net::{self, Link, Transmitters};
use crate::peer::{Inlet, InletError};
use crate::proxy::{
    MailboxFull, NotForCluster, Output, Question, ResolverFull, SendError, StoreFull,
    SubscriberQuestion,
};
use crate::replication::NodeAddress;
use crate::resolve::Desk;
use crate::store::{self, Inquiries};

/// Everything by which a worker reaches the world.
pub(super) struct Outlets {
    /// Rings and sockets.
    pub(super) transmitters: Transmitters,
    /// The other workers' mailboxes, among the signs.
    pub(super) control: Arc<Control>,
    /// The resolver.
    pub(super) desk: Desk,
    /// The users' tables, where there is authentication.
    pub(super) subscribers: Option<Inquiries>,
    /// The store's rows, where there is a store.
    pub(super) rows: Option<Arc<store::Desk>>,
    /// Where KDMQ is left, where there is a cluster.
    pub(super) inlet: Option<Arc<Inlet>>,
}

/// A worker's exit while one datagram is at work.
pub(super) struct Exit<'a> {
    outlets: &'a mut Outlets,
    /// Whom a reply may be sent back to by swapping the addresses of the frame that came.
    answering: Option<(Flow, Link)>,
    has_handed_off: bool,
}

impl Outlets {
    /// An exit with nothing to answer: for timers.
    pub(super) const fn exit(&mut self) -> Exit<'_> {
        Exit {
            outlets: self,
            answering: None,
            has_handed_off: false,
        }
    }

    /// Passes a datagram on to another worker, unread.
    pub(super) fn pass_on(
        &self,
        to: WorkerId,
        datagram: &Datagram<'_>,
        link: Option<Link>,
    ) -> Result<(), MailboxFull> {
        self.post(Kind::Unread, to, datagram, link)
    }

    fn post(
        &self,
        kind: Kind,
        to: WorkerId,
        datagram: &Datagram<'_>,
        link: Option<Link>,
    ) -> Result<(), MailboxFull> {
        let mailbox = self.control.mailboxes().get(usize::from(to.0));
        mailbox.ok_or(MailboxFull)?.post(kind, datagram, link)
    }
}

impl Exit<'_> {
    /// Whether the datagram was another worker's: then it is that one's to measure.
    pub(super) const fn has_handed_off(&self) -> bool {
        self.has_handed_off
    }

    /// The exit while the datagram that came by `flow`, in a frame with this way back, is at work.
    pub(super) fn answering(mut self, flow: Flow, link: Option<Link>) -> Self {
        self.answering = link.map(|link| (flow, link));
        self
    }
}

impl Output for Exit<'_> {
    fn send(
        &mut self,
        flow: &Flow,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        // The frame's way back holds for its sender's address, whatever port the response goes to.
        let link = self.answering.and_then(|(from, link)| {
            let is_back = from.listener == flow.listener && from.peer.ip() == flow.peer.ip();
            is_back.then_some(link)
        });
        self.outlets
            .transmitters
            .send(flow, link, len, write)
            .map_err(|error| match error {
                net::SendError::TooLarge => SendError::TooLarge,
                net::SendError::Full => SendError::Full,
                net::SendError::Unsendable => SendError::Unreachable,
            })
    }

    fn hand_off(&mut self, to: WorkerId, datagram: &Datagram<'_>) -> Result<(), MailboxFull> {
        self.has_handed_off = true;
        let link = self.answering.map(|(_, link)| link);
        self.outlets.post(Kind::Received, to, datagram, link)
    }

    fn resolve(&mut self, question: &Question<'_>) -> Result<(), ResolverFull> {
        self.outlets.desk.ask(question)
    }

    fn ask_subscriber(&mut self, question: &SubscriberQuestion<'_>) -> Result<(), StoreFull> {
        let desk = self.outlets.subscribers.as_mut().ok_or(StoreFull)?;
        desk.ask(question)
    }

    fn want_rows(&mut self, aor: &[u8]) -> Result<(), StoreFull> {
        self.outlets.rows.as_ref().ok_or(StoreFull)?.want(aor)
    }

    fn give_to_cluster(&mut self, datagram: &Datagram<'_>) -> Result<(), NotForCluster> {
        let flow = &datagram.flow;
        let inlet = self.outlets.inlet.as_ref();
        let inlet = inlet.filter(|inlet| inlet.is_of(flow.listener));
        let from = NodeAddress {
            transport: flow.transport,
            socket: flow.peer,
        };
        let posted = inlet
            .ok_or(NotForCluster::Elsewhere)?
            .post(from, datagram.bytes);
        posted.map_err(|error| match error {
            InletError::NotAllowed => NotForCluster::NotAllowed,
            InletError::Full => NotForCluster::Full,
        })
    }

    fn is_connected(&self, flow: &Flow) -> bool {
        self.outlets.transmitters.is_connected(flow)
    }
}
