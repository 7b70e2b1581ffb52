//! Request forwarding (RFC 3261 16.6): the server transaction, and a client transaction for each target.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::answer::{Response, count_unsent, reply_flow};
use super::compose::{self, Hop, Record};
use super::output::{Output, SendError};
use super::relay::{Best, Cancel, Leg, Relay, Role};
use super::route::{Plan, Way};
use super::token::Reach;
use super::validate::fold;
use super::{Bench, Proxy};
use crate::counters::Counter;
use crate::datagram::Flow;
use crate::sip::index::Index;
use crate::sip::message::{Message, Parsed, parse};
use crate::sip::method::Method;
use crate::sip::name::HeaderName;
use crate::sip::reply::Reply;
use crate::time::Instant;
use crate::transaction::client::{ClientEvent, ClientSlot};
use crate::transaction::id::COOKIE;
use crate::transaction::key::ServerKey;
use crate::transaction::server::ServerSlot;

/// A branch about to be opened.
struct Target<'a> {
    uri: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    flow: Flow,
    is_behind_nat: bool,
}

impl Proxy {
    /// Opens the transactions of a request that was routed, and sends it on.
    pub(super) fn forward(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        (source, key): (&Flow, ServerKey),
        plan: &Plan,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let is_invite = request.method() == Method::Invite;
        let relay = Relay {
            source: *source,
            reply_to: reply_flow(request, source),
            is_invite,
            routes_consumed: plan.routes_consumed,
            from_strict_router: plan.from_strict_router,
            is_cancelled: false,
            best: None,
        };
        let bytes = request.bytes().get(..request.end()).unwrap_or_default();
        let is_reliable = source.transport.is_reliable();
        let Some(server) = self
            .table
            .open_server(key, is_invite, is_reliable, bytes, relay)
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
            Way::Flow(flow) => {
                let target = Target {
                    uri: None,
                    path: None,
                    flow,
                    is_behind_nat: false,
                };
                self.open_leg(now, server, request, &target, bench, out);
            }
            Way::Contacts => self.open_legs(now, server, request, bench, out),
        }
        self.conclude_if_done(now, server, bench, out);
    }

    /// Sends a request that needs no transaction: the ACK of a 2xx (RFC 3261 16.11).
    ///
    /// The branch is a keyed hash of the received one, so that a retransmission gets the same.
    pub(super) fn forward_statelessly(
        &self,
        request: &Message<'_>,
        source: &Flow,
        plan: &Plan,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let first = bench.targets.iter().next();
        let (flow, target) = match plan.way {
            Way::Flow(flow) => (Some(flow), None),
            Way::Contacts => (
                first.and_then(|to| self.flow_of_target(to.uri, to.path, to.received, to.listener)),
                first.map(|to| to.uri),
            ),
        };
        let sent_by = flow.and_then(|flow| self.identity.address_of(flow.listener));
        let (Some(flow), Some(sent_by)) = (flow, sent_by) else {
            return self.counters.increment(Counter::DropUnroutableAck);
        };
        let branch = self.stateless_branch(request);
        let hop = Hop {
            target,
            path: None,
            branch: &branch,
            transport: flow.transport.as_str(),
            sent_by,
            source: source.peer,
            routes_consumed: plan.routes_consumed,
            from_strict_router: plan.from_strict_router,
            record: None,
        };
        let sent = compose::relay(&mut bench.edits, request, &hop)
            .map_err(|_| SendError::TooLarge)
            .and_then(|()| send_edited(request, bench, &flow, out));
        count_unsent(&self.counters, sent);
    }

    /// Sends a branch's request: first, and again at Timer A or E.
    pub(super) fn send_leg(
        &self,
        slot: ClientSlot,
        request: &Message<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) -> Result<(), SendError> {
        let client = self.table.client(slot).ok_or(SendError::NoListener)?;
        self.compose_leg(slot, request, bench)?;
        send_edited(request, bench, &client.flow, out)
    }

    /// Leaves in the bench's edits what turns the received request into that of a branch.
    pub(super) fn compose_leg(
        &self,
        slot: ClientSlot,
        request: &Message<'_>,
        bench: &mut Bench,
    ) -> Result<(), SendError> {
        let client = self.table.client(slot).ok_or(SendError::NoListener)?;
        let server = self
            .table
            .server(client.server())
            .ok_or(SendError::NoListener)?;
        let id = self.table.id_of(slot).ok_or(SendError::NoListener)?;
        let sent_by = self
            .identity
            .address_of(client.flow.listener)
            .ok_or(SendError::NoListener)?;
        let leg = &client.data;
        let arena = self.table.arena();
        let branch = self.branches.encode(id, leg.loop_hash);
        let hop = Hop {
            target: leg.target.as_ref().map(|stored| arena.bytes(stored)),
            path: leg.path.as_ref().map(|stored| arena.bytes(stored)),
            branch: &branch,
            transport: client.flow.transport.as_str(),
            sent_by,
            source: server.data.source.peer,
            routes_consumed: server.data.routes_consumed,
            from_strict_router: server.data.from_strict_router,
            record: self.record(request, &server.data, &client.flow, leg.is_behind_nat),
        };
        compose::relay(&mut bench.edits, request, &hop).map_err(|_| SendError::TooLarge)
    }

    /// A hash of a CSeq, by which a response is told to be of the transaction's own request.
    pub(super) fn cseq_hash(&self, number: u32, method: &[u8]) -> u32 {
        let mut hasher = SipHasher13::new_with_key(&self.settings.keys.transactions);
        hasher.write(&number.to_le_bytes());
        hasher.write(method);
        fold(hasher.finish())
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
        let sent = out.send(&server.data.reply_to, reply.len(), |buffer| {
            let _ = reply.write(buffer);
        });
        count_unsent(&self.counters, sent);
    }

    /// A branch to every contact that the lookup gave out, all at once.
    fn open_legs(
        &mut self,
        now: Instant,
        server: ServerSlot,
        request: &Message<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        // The targets leave the bench while its edits are at work.
        let targets = std::mem::take(&mut bench.targets);
        for target in targets.iter() {
            match self.flow_of_target(target.uri, target.path, target.received, target.listener) {
                Some(flow) => {
                    let target = Target {
                        uri: Some(target.uri),
                        path: (!target.path.is_empty()).then_some(target.path),
                        flow,
                        is_behind_nat: target.received.is_some(),
                    };
                    self.open_leg(now, server, request, &target, bench, out);
                }
                None => {
                    self.counters.increment(Counter::RefusedUnresolvable);
                    self.note_made(server, 503);
                }
            }
        }
        bench.targets = targets;
    }

    fn open_leg(
        &mut self,
        now: Instant,
        server: ServerSlot,
        request: &Message<'_>,
        target: &Target<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let is_invite = request.method() == Method::Invite;
        let cseq = request.cseq();
        let leg = Leg {
            target: target.uri.and_then(|uri| self.table.arena_mut().store(uri)),
            path: target
                .path
                .and_then(|path| self.table.arena_mut().store(path)),
            is_behind_nat: target.is_behind_nat,
            role: Role::Request { cancel: Cancel::No },
            cseq_hash: self.cseq_hash(cseq.number, cseq.method),
            loop_hash: self.loop_hash(request),
        };
        // At the arena's bound a target could not be kept: the branch is refused like one without a slot.
        let is_whole = leg.target.is_some() == target.uri.is_some()
            && leg.path.is_some() == target.path.is_some();
        let Some(slot) = self
            .table
            .open_client(now, server, is_invite, target.flow, leg)
        else {
            self.counters.increment(Counter::RefusedTransactions);
            return self.note_made(server, 503);
        };
        if is_invite {
            // RFC 3261 16.6 step 11: Timer C.
            self.table.guard(now, slot, self.settings.timer_c);
        }
        let sent = if is_whole {
            self.send_leg(slot, request, bench, out)
        } else {
            Err(SendError::TooLarge)
        };
        if let Err(error) = sent
            && error != SendError::Full
        {
            count_unsent(&self.counters, sent);
            self.table
                .client_event(now, slot, ClientEvent::TransportError);
            self.close_leg(slot);
            // RFC 3261 16.9: as if the branch had been answered 503.
            self.note_made(server, 503);
        }
    }

    /// Notes a final response that we make for a branch that got none.
    pub(super) fn note_made(&mut self, server: ServerSlot, status: u16) {
        if !self.may_answer(server, status) {
            return;
        }
        let Some(server) = self.table.server_mut(server) else {
            return;
        };
        if server
            .data
            .best
            .as_ref()
            .is_none_or(|best| best.yields_to(status))
        {
            let former = server.data.best.replace(Best::Made { status });
            if let Some(former) = former {
                former.release(self.table.arena_mut());
            }
        }
    }

    /// The Record-Route of a request that may begin a dialog; in-dialog requests keep the route set they have.
    fn record(
        &self,
        request: &Message<'_>,
        relay: &Relay,
        out: &Flow,
        callee_behind_nat: bool,
    ) -> Option<Record> {
        let begins_dialog = matches!(
            request.method(),
            Method::Invite | Method::Subscribe | Method::Refer
        ) && request.to_tag().is_none();
        if !begins_dialog {
            return None;
        }
        let via = request.top_via();
        let sent_by = via.host().ok().and_then(|host| host.ip());
        // Only of a phone that is our direct neighbour do we know where it is.
        let caller_behind_nat = sent_by.is_some_and(|ip| ip != relay.source.peer.ip())
            && request.values(HeaderName::Via).nth(1).is_none();
        let reach = Reach {
            caller: caller_behind_nat.then_some(relay.source.peer),
            callee: callee_behind_nat.then_some(out.peer),
        };
        let token = self.tokens.encode(
            request.call_id(),
            request.from_tag().unwrap_or_default(),
            &reach,
        );
        Some(Record {
            token,
            outward: self.identity.address_of(out.listener)?,
            inward: self.identity.address_of(relay.source.listener)?,
        })
    }

    fn stateless_branch(&self, request: &Message<'_>) -> [u8; STATELESS_BRANCH_LEN] {
        let mut hasher = SipHasher13::new_with_key(&self.settings.keys.transactions);
        for part in [
            request.top_via().branch().unwrap_or_default(),
            request.call_id(),
            request.cseq().method,
        ] {
            hasher.write(&part.len().to_le_bytes());
            hasher.write(part);
        }
        let mut branch = [0; STATELESS_BRANCH_LEN];
        branch[..COOKIE.len()].copy_from_slice(COOKIE);
        branch[COOKIE.len()] = b'-';
        data_encoding::BASE32_DNSSEC.encode_mut(
            &hasher.finish().to_be_bytes(),
            &mut branch[COOKIE.len() + 1..],
        );
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

    /// Ends a branch, and with it what hangs on it: the CANCEL of an INVITE goes with the INVITE.
    pub(super) fn close_leg(&mut self, slot: ClientSlot) {
        match self.table.client(slot).map(|client| client.data.role) {
            Some(Role::Request {
                cancel: Cancel::Sent { by },
            }) => self.table.close_client(by),
            Some(Role::Cancel { of }) => {
                if let Some(invite) = self.table.client_mut(of) {
                    invite.data.role = Role::Request {
                        cancel: Cancel::Over,
                    };
                }
            }
            Some(Role::Request {
                cancel: Cancel::No | Cancel::Wanted | Cancel::Over,
            })
            | None => {}
        }
        self.table.close_client(slot);
    }
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
