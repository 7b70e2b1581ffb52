//! Request forwarding (RFC 3261 16.6): the server transaction of a request that was routed, and its branches; without a
//! transaction, the ACK of a 2xx.

use std::sync::Arc;

use super::answer::{self, Response, count_unsent, reply_flow};
use super::branch::Target;
use super::compose::{self, Consumed, Hop};
use super::flows::is_gone;
use super::next_hop::NextHop;
use super::output::{Output, SendError};
use super::relay::Relay;
use super::route::{Plan, Way};
use super::settings::Trunk;
use super::{Bench, Proxy};
use crate::base32;
use crate::counters::Counter;
use crate::datagram::Flow;
use crate::limits::MAX_BREADTH_DEFAULT;
use crate::sip::host::Host;
use crate::sip::index::Index;
use crate::sip::message::{Message, Parsed, parse};
use crate::sip::method::Method;
use crate::sip::name::HeaderName;
use crate::sip::reply::Reply;
use crate::time::Instant;
use crate::transaction::id::COOKIE;
use crate::transaction::key::ServerKey;
use crate::transaction::server::ServerSlot;

impl Proxy {
    /// Opens the transactions of a request that was routed, and sends it on.
    pub(super) fn forward(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        (source, key): (&Flow, ServerKey),
        plan: &Plan<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let is_invite = request.method() == Method::Invite;
        let breadth = max_breadth(request);
        let relay = Relay {
            source: *source,
            reply_to: reply_flow(request, source),
            is_invite,
            routes_consumed: plan.routes_consumed,
            from_strict_router: plan.from_strict_router,
            is_cancelled: false,
            best: None,
            challenges: None,
            untried: None,
            breadth,
        };
        let bytes = request.bytes().get(..request.end()).unwrap_or_default();
        let is_reliable = source.transport.is_reliable();
        let Some(server) = self
            .table
            .open_server(now, key, is_invite, is_reliable, bytes, relay)
        else {
            self.counters.increment(Counter::RefusedTransactions);
            // RFC 3261 21.5.4: the caller may try again when transactions have ended.
            return self.refuse(
                request,
                source,
                &Response::new(503).with_headers(b"Retry-After: 5\r\n"),
                out,
            );
        };
        if is_invite {
            // RFC 3261 17.2.1: at once, so that the caller stops retransmitting while we look further.
            self.send_trying(request, server, out);
        }
        match plan.way {
            Way::Hop(hop) => {
                let target = Target::received(hop, breadth);
                self.open_leg(now, server, request, &target, bench, out);
            }
            Way::Flow(flow, if_gone) => {
                let by = (flow, if_gone);
                self.open_by_flow(now, server, by, request, bench, out);
            }
            Way::Trunk => {
                let trunk = self.settings.trunk.clone();
                self.open_trunk(now, server, trunk, request, bench, out);
            }
            Way::Edge(number) => {
                let edge = self.edges.at(number);
                let registrar = edge.map(|edge| Arc::clone(&edge.next_hop));
                self.open_trunk(now, server, registrar, request, bench, out);
            }
            Way::Contacts => self.fork(now, server, request, bench, out),
        }
        self.conclude_if_done(now, server, bench, out);
    }

    /// A branch to the upstream that takes requests for foreign domains, or to the registrar of one.
    fn open_trunk(
        &mut self,
        now: Instant,
        server: ServerSlot,
        trunk: Option<Arc<Trunk>>,
        request: &Message<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let listener = self
            .table
            .server(server)
            .map(|server| server.data.source.listener);
        let (Some(trunk), Some(listener)) = (trunk, listener) else {
            return self.note_made(server, 503);
        };
        let hop = Host::parse(trunk.host.as_bytes()).ok().and_then(|host| {
            self.identity
                .hop_to(&host, trunk.port, trunk.transport, listener)
        });
        match hop {
            Some(hop) => {
                let target = Target::received(hop, max_breadth(request));
                self.open_leg(now, server, request, &target, bench, out);
            }
            None => {
                self.counters.increment(Counter::RefusedUnresolvable);
                self.note_made(server, 503);
            }
        }
    }

    /// Sends a request that needs no transaction: the ACK of a 2xx (RFC 3261 16.11).
    pub(super) fn forward_statelessly(
        &mut self,
        request: &Message<'_>,
        source: &Flow,
        plan: &Plan<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        // The targets leave the bench while its edits are at work.
        let targets = std::mem::take(&mut bench.targets);
        // A GRUU leads here within a dialog, too (RFC 5627): to the first flow of its instance that is there.
        let first = targets.iter().find(|to| {
            let flow = to.received.filter(|_| to.is_by_flow());
            flow.is_none_or(|flow| !is_gone(&flow, out))
        });
        let (hop, target) = match plan.way {
            Way::Hop(hop) => (Some(hop), None),
            Way::Contacts => (first.and_then(|to| self.hop_to_target(&to)), first),
            // An ACK is sent within a dialog, which never leads there.
            Way::Trunk | Way::Edge(_) => (None, None),
            Way::Flow(flow, _) => ((!is_gone(&flow, out)).then_some(NextHop::Flow(flow)), None),
        };
        let ack = Stateless {
            target: target.map(|to| to.uri),
            path: target.map(|to| to.path).filter(|path| !path.is_empty()),
            routes_consumed: plan.routes_consumed,
            from_strict_router: plan.from_strict_router,
        };
        match hop {
            Some(NextHop::Flow(flow)) => {
                self.send_statelessly(request, source, &ack, &flow, bench, out)
            }
            Some(NextHop::Name(name)) => self.ask_for_ack(request, source, &ack, &name, out),
            None => self.counters.increment(Counter::DropUnroutableAck),
        }
        bench.targets = targets;
    }

    /// Sends an ACK by a flow. The branch is a keyed hash of the received one, so that a retransmission gets the same.
    pub(super) fn send_statelessly(
        &self,
        request: &Message<'_>,
        source: &Flow,
        ack: &Stateless<'_>,
        flow: &Flow,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let Some(sent_by) = self.identity.address_of(flow.listener) else {
            return self.counters.increment(Counter::DropUnroutableAck);
        };
        let branch = self.stateless_branch(request);
        let hop = Hop {
            target: ack.target,
            path: ack.path,
            branch: &branch,
            transport: flow.transport,
            sent_by,
            source: source.peer,
            routes_consumed: ack.routes_consumed,
            from_strict_router: ack.from_strict_router,
            record: None,
            breadth: None,
            realm: self.realm(),
            own_path: None,
        };
        let sent = compose::relay(&mut bench.edits, request, &hop)
            .map_err(|_| SendError::TooLarge)
            .and_then(|()| send_edited(request, bench, flow, out));
        count_unsent(&self.counters, sent);
    }

    /// Sends 100 (Trying) for an INVITE: at once, and again to a retransmission while nothing else was sent.
    pub(super) fn send_trying(
        &self,
        request: &Message<'_>,
        server: ServerSlot,
        out: &mut impl Output,
    ) {
        let Some(server) = self.table.server(server) else {
            return;
        };
        let source = server.data.source.peer;
        let reply = Reply::new(request, 100, "Trying").received(source);
        let sent = answer::send(&reply, &server.data.reply_to, out);
        count_unsent(&self.counters, sent);
    }

    fn stateless_branch(&self, request: &Message<'_>) -> [u8; STATELESS_BRANCH_LEN] {
        let texts = [
            request.top_via().branch().unwrap_or_default(),
            request.call_id(),
            request.cseq().method,
        ];
        let hash = self.quick.hash(&texts);
        let mut branch = [0; STATELESS_BRANCH_LEN];
        branch[..COOKIE.len()].copy_from_slice(COOKIE);
        branch[COOKIE.len()] = b'-';
        base32::encode(&hash.to_be_bytes(), &mut branch[COOKIE.len() + 1..]);
        branch
    }

    /// Reads a stored request again; `None` cannot be, since only good ones are stored.
    pub(super) fn stored_request<'a>(
        &'a self,
        server: ServerSlot,
        index: &'a mut Index,
    ) -> Option<Message<'a>> {
        let server = self.table.server(server)?;
        match parse(self.table.request_of(server), index) {
            Parsed::Good(message) => Some(message),
            Parsed::Answerable(..) | Parsed::NotSip(_) => None,
        }
    }

    /// Reads a stored request again, out of the arena, so that branches may be opened while `act` works with it.
    pub(super) fn recall<R>(
        &mut self,
        server: ServerSlot,
        bench: &mut Bench,
        act: impl FnOnce(&mut Self, &Message<'_>, &mut Bench) -> R,
    ) -> Option<R> {
        let entry = self.table.server(server)?;
        let mut bytes = std::mem::take(&mut bench.recalled);
        bytes.clear();
        bytes.extend_from_slice(self.table.request_of(entry));
        let mut index = std::mem::take(&mut bench.stored);
        let result = match parse(&bytes, &mut index) {
            Parsed::Good(request) => Some(act(self, &request, bench)),
            Parsed::Answerable(..) | Parsed::NotSip(_) => None,
        };
        bench.stored = index;
        bench.recalled = bytes;
        result
    }
}

/// What an ACK that is forwarded without a transaction changes, beside its next hop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stateless<'a> {
    /// The Request-URI, if it is not the received one.
    pub(super) target: Option<&'a [u8]>,
    /// Route values to put before the others (RFC 3327).
    pub(super) path: Option<&'a [u8]>,
    /// Route values of ours to take off.
    pub(super) routes_consumed: Consumed,
    /// Whether the target stands in the last Route value.
    pub(super) from_strict_router: bool,
}

impl<'a> Target<'a> {
    /// A branch that keeps the Request-URI, with all of the breadth.
    const fn received(hop: NextHop<'a>, breadth: u8) -> Self {
        Self {
            uri: None,
            path: None,
            hop,
            is_behind_nat: false,
            breadth,
            if_gone: None,
            flows: b"",
        }
    }
}

/// RFC 5393 5.3.3.1: a request without a breadth gets the default, which is also the most that is believed.
fn max_breadth(request: &Message<'_>) -> u8 {
    let said = request.header(HeaderName::MaxBreadth).and_then(|header| {
        let digits = str::from_utf8(header.value).ok()?;
        digits.trim().parse::<u8>().ok()
    });
    said.map_or(MAX_BREADTH_DEFAULT, |breadth| {
        breadth.min(MAX_BREADTH_DEFAULT)
    })
}

/// The length of a stateless branch: cookie, a dash that no stateful branch has, 64 bits in base32.
const STATELESS_BRANCH_LEN: usize = COOKIE.len() + 1 + 13;

/// Sends `message` with the bench's edits.
pub(super) fn send_edited(
    message: &Message<'_>,
    bench: &Bench,
    flow: &Flow,
    out: &mut impl Output,
) -> Result<(), SendError> {
    let bytes = message.bytes().get(..message.end()).unwrap_or_default();
    out.send(flow, bench.edits.len(bytes.len()), |buffer| {
        // The buffer is as long as the edits said: nothing can be cut.
        let _ = bench.edits.write(bytes, buffer);
    })
}
