//! What the network did not deliver: an ICMP error, a refusal of the kernel, a connection that failed. The message itself tells
//! whose it was.

use std::net::IpAddr;

use super::Proxy;
use super::answer::count_unsent;
use super::identity::PORT_DEFAULT;
use super::output::Output;
use crate::counters::Counter;
use crate::datagram::{Destination, Flow, Transport, WorkerId};
use crate::sip::host::Host;
use crate::sip::index::Index;
use crate::sip::message::{Message, Parsed, parse};
use crate::sip::method::Method;
use crate::time::Instant;
use crate::transaction::id::TransactionId;

impl Proxy {
    /// The worker that a report of an undelivered datagram is for.
    pub fn owner_of_sent(&mut self, sent: &[u8]) -> Option<WorkerId> {
        let mut scratch = self.scratch.take()?;
        let id = self.transaction_of_sent(sent, &mut scratch.index);
        self.scratch = Some(scratch);
        id.map(|id| id.worker)
    }

    /// A message did not arrive: the branch of a request names the transaction that failed; a response whose connection is
    /// gone is sent once more, by a new one.
    pub(super) fn on_unreachable(
        &mut self,
        now: Instant,
        flow: &Flow,
        sent: &[u8],
        out: &mut impl Output,
    ) {
        let Some(mut scratch) = self.scratch.take() else {
            return;
        };
        match parse(sent, &mut scratch.index) {
            Parsed::Good(message) | Parsed::Answerable(message, _) if message.is_request() => {
                let client = self
                    .transaction_of(&message)
                    .filter(|id| id.worker == self.settings.worker)
                    .and_then(|id| self.table.find_client(id));
                if let Some(client) = client {
                    self.on_transport_error(now, client, &mut scratch.bench, out);
                }
            }
            Parsed::Good(response) if flow.transport == Transport::Tcp => {
                self.send_response_anew(&response, flow, out);
            }
            Parsed::Good(_) | Parsed::Answerable(..) | Parsed::NotSip(_) => {}
        }
        self.scratch = Some(scratch);
    }

    /// RFC 3261 18.2.2: where the connection of the request is gone, its response goes by a new one: to the address that the
    /// request came from, and the port that its sender says it listens at.
    fn send_response_anew(&self, response: &Message<'_>, failed: &Flow, out: &mut impl Output) {
        let via = response.top_via();
        let ip = match via.received() {
            Some(received) => received_ip(received),
            None => via.host().ok().and_then(|host| host.ip()),
        };
        let flow = ip.and_then(|ip| {
            let address = (ip, via.port().unwrap_or(PORT_DEFAULT)).into();
            let transport = Transport::Tcp;
            self.identity
                .flow_to(&Destination { transport, address }, failed.listener)
        });
        let Some(flow) = flow.filter(|flow| flow.peer != failed.peer) else {
            return self.counters.increment(Counter::DropUnsendable);
        };
        let bytes = response.bytes().get(..response.end()).unwrap_or_default();
        let sent = out.send(&flow, bytes.len(), |buffer| buffer.copy_from_slice(bytes));
        count_unsent(&self.counters, sent);
    }

    /// The client transaction of a request that we had sent; reports may quote less than all of it, so only its top Via
    /// is asked for. A CANCEL is left out: it has the branch of its INVITE, which must not fail for it.
    fn transaction_of_sent(&self, sent: &[u8], index: &mut Index) -> Option<TransactionId> {
        match parse(sent, index) {
            Parsed::Good(message) | Parsed::Answerable(message, _) => self.transaction_of(&message),
            Parsed::NotSip(_) => None,
        }
    }

    fn transaction_of(&self, message: &Message<'_>) -> Option<TransactionId> {
        if !message.is_request() || message.method() == Method::Cancel {
            return None;
        }
        let branch = message.top_via().branch()?;
        self.branches
            .decode_own(branch)
            .ok()
            .map(|branch| branch.id)
    }
}

/// The address in `received`: IPv6 with brackets or without (RFC 5118 4.5).
fn received_ip(text: &[u8]) -> Option<IpAddr> {
    let plain = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    plain.or_else(|| Host::parse(text).ok()?.ip())
}
