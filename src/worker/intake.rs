//! What a worker does with the datagrams that a port received: what is another worker's is passed on unread; a glance at each of the others, and
//! then each to the core.

use super::exit::Outlets;
use super::served::Served;
use crate::counters::{Counter, Counters};
use crate::datagram::Datagram;
use crate::net::{Intake, Link};
use crate::proxy::{MailboxFull, Proxy};
use crate::time::Instant;

/// A worker, as far as one port's datagrams are concerned.
pub(super) struct FromPort<'w> {
    pub(super) now: Instant,
    pub(super) proxy: &'w mut Proxy,
    pub(super) outlets: &'w mut Outlets,
    pub(super) counters: &'w Counters,
    pub(super) served: &'w mut Served,
    /// What a datagram counts as.
    pub(super) received_by: Counter,
}

impl Intake for FromPort<'_> {
    fn pass_on(&mut self, datagram: &Datagram<'_>, link: Option<Link>) -> bool {
        let Some(owner) = self.proxy.is_anothers(datagram.bytes) else {
            return false;
        };
        self.counters.increment(self.received_by);
        let passed = self.outlets.pass_on(owner, datagram, link);
        self.counters.increment(match passed {
            Ok(()) => Counter::HandedOff,
            Err(MailboxFull) => Counter::DropMailboxFull,
        });
        true
    }

    fn announce(&mut self, bytes: &[u8]) {
        self.proxy.glance(bytes);
    }

    fn look_ahead(&mut self) {
        self.proxy.look_ahead();
    }

    fn take(&mut self, datagram: Datagram<'_>, link: Option<Link>) {
        self.counters.increment(self.received_by);
        let mut exit = self.outlets.exit().answering(datagram.flow, link);
        if let Some(method) = self.proxy.on_datagram(self.now, &datagram, &mut exit)
            && !exit.has_handed_off()
        {
            self.served.note(method, datagram.received_at);
        }
    }
}
