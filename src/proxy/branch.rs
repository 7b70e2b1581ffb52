//! The branches of a request (RFC 3261 16.6): a client transaction for each target, its destinations one after the other
//! (RFC 3263 4.3), and the bytes that each sends.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::answer::count_unsent;
use super::compose::{self, Hop, Record};
use super::forward::send_edited;
use super::next_hop::{Destinations, ENCODED_LEN_MAX, NextHop};
use super::output::{Output, SendError};
use super::relay::{Cancel, Leg, Relay, Role};
use super::token::Reach;
use super::validate::fold;
use super::{Bench, Proxy};
use crate::counters::Counter;
use crate::datagram::{Destination, Flow, Transport};
use crate::sip::message::Message;
use crate::sip::method::Method;
use crate::sip::name::HeaderName;
use crate::time::{Duration, Instant};
use crate::transaction::client::ClientSlot;
use crate::transaction::server::ServerSlot;

/// A branch about to be opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// The Request-URI, if it is not the received one.
    pub(super) uri: Option<&'a [u8]>,
    /// Route values to be put before the others (RFC 3327).
    pub(super) path: Option<&'a [u8]>,
    /// Where to.
    pub(super) hop: NextHop<'a>,
    /// Whether it is a phone that is reached at another address than its contact names.
    pub(super) is_behind_nat: bool,
    /// Its part of the request's breadth.
    pub(super) breadth: u8,
    /// The status that is noted when the flow has failed by which alone it may go.
    pub(super) if_gone: Option<u16>,
    /// The other flows of the same instance, as `fork` writes them.
    pub(super) flows: &'a [u8],
}

impl Proxy {
    /// Opens a branch: sends the request to its next hop, or asks where that is.
    pub(super) fn open_leg(
        &mut self,
        now: Instant,
        server: ServerSlot,
        request: &Message<'_>,
        target: &Target<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let cseq = request.cseq();
        let (cseq_hash, loop_hash) = (
            self.cseq_hash(cseq.number, cseq.method),
            self.loop_hash(request),
        );
        let arena = self.table.arena_mut();
        let leg = Leg {
            target: target.uri.and_then(|uri| arena.store(uri)),
            path: target.path.and_then(|path| arena.store(path)),
            is_behind_nat: target.is_behind_nat,
            role: Role::Request { cancel: Cancel::No },
            cseq_hash,
            loop_hash,
            breadth: target.breadth,
            is_answered: false,
            rest: None,
            if_gone: target.if_gone,
            // At the arena's bound there is no second flow.
            flows: (!target.flows.is_empty())
                .then(|| arena.store(target.flows))
                .flatten(),
        };
        // At the arena's bound a target could not be kept: the branch is refused like one without a slot.
        let is_whole = leg.target.is_some() == target.uri.is_some()
            && leg.path.is_some() == target.path.is_some();
        let flow = match target.hop {
            NextHop::Flow(flow) => flow,
            NextHop::Name(name) => Flow {
                listener: name.listener,
                transport: Transport::Udp,
                peer: NOWHERE,
            },
        };
        let is_invite = request.method() == Method::Invite;
        let slot = self.table.open_client(server, is_invite, flow, leg);
        let Some(slot) = slot else {
            self.counters.increment(Counter::RefusedTransactions);
            return self.note_made(server, 503);
        };
        if !is_whole {
            self.counters.increment(Counter::RefusedTransactions);
            return self.give_up(slot, 503);
        }
        match target.hop {
            NextHop::Flow(flow) => self.launch_by(now, slot, &flow, request, bench, out),
            NextHop::Name(name) => self.ask(now, slot, &name, out),
        }
    }

    /// Sends a branch that has one destination.
    fn launch_by(
        &mut self,
        now: Instant,
        slot: ClientSlot,
        flow: &Flow,
        request: &Message<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let if_gone = self
            .table
            .client(slot)
            .and_then(|client| client.data.if_gone);
        let is_free = if_gone.is_none();
        if is_free && flow.transport == Transport::Udp && self.may_be_long(flow, request) {
            let only = Destinations::one(Destination {
                transport: flow.transport,
                address: flow.peer,
            });
            return self.launch(now, slot, &only, request, bench, out);
        }
        match self.send_by(slot, flow, request, bench, out) {
            Ok(()) => self.begin(now, slot, &Destinations::new()),
            Err(_) if self.try_next_flow(now, slot, bench, out) => self.close_leg(slot),
            Err(_) => self.give_up(slot, if_gone.unwrap_or(503)),
        }
    }

    /// Sends a branch to the first of its destinations that takes it; those behind it are kept for when that one fails.
    pub(super) fn launch(
        &mut self,
        now: Instant,
        slot: ClientSlot,
        destinations: &Destinations,
        request: &Message<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let fitted = self.fitted(slot, destinations, request, bench, out);
        self.launch_in_order(now, slot, fitted, request, bench, out);
    }

    fn launch_in_order(
        &mut self,
        now: Instant,
        slot: ClientSlot,
        mut left: Destinations,
        request: &Message<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let Some(listener) = self.table.client(slot).map(|client| client.flow.listener) else {
            return;
        };
        while let Some((destination, rest)) = left.split_first() {
            left = rest;
            self.reserve_breadth(slot, left.len());
            let Some(flow) = self.identity.flow_to(&destination, listener) else {
                continue;
            };
            if self.send_by(slot, &flow, request, bench, out).is_ok() {
                return self.begin(now, slot, &left);
            }
        }
        self.counters.increment(Counter::RefusedUnresolvable);
        self.give_up(slot, 503);
    }

    /// Leaves each destination behind this branch's a part of its breadth: it may be tried while this one is still silent.
    fn reserve_breadth(&mut self, slot: ClientSlot, behind: usize) {
        if let Some(entry) = self.table.client_mut(slot) {
            let behind = u8::try_from(behind).unwrap_or(u8::MAX);
            entry.data.breadth = entry.data.breadth.saturating_sub(behind).max(1);
        }
    }

    /// Tries the next destination of a branch that failed without an answer that counts, as a new branch (RFC 3263 4.3).
    /// Says whether there was one.
    pub(super) fn fail_over(
        &mut self,
        now: Instant,
        failed: ClientSlot,
        bench: &mut Bench,
        out: &mut impl Output,
    ) -> bool {
        let Some(server) = self.table.client(failed).map(|client| client.server()) else {
            return false;
        };
        let breadth = self.free_breadth(server);
        let Some(entry) = self.table.client_mut(failed).filter(|_| breadth > 0) else {
            return false;
        };
        let flow = entry.flow;
        let Some(rest) = entry.data.rest.take() else {
            return self.try_next_flow(now, failed, bench, out);
        };
        let destinations = Destinations::decode(self.table.arena().bytes(&rest));
        self.table.arena_mut().release(rest);
        let is_wanted = self
            .table
            .server(server)
            .is_some_and(|server| server.state().is_pending() && !server.data.is_cancelled);
        if !is_wanted {
            return false;
        }
        let Some(mut leg) = self.table.duplicate(failed, Leg::duplicate) else {
            return false;
        };
        leg.breadth = leg.breadth.min(breadth);
        let is_invite = self.is_invite(server);
        let Some(slot) = self.table.open_client(server, is_invite, flow, leg) else {
            return false;
        };
        self.counters.increment(Counter::Failovers);
        let launched = self.recall(server, bench, |proxy, request, bench| {
            proxy.launch_in_order(now, slot, destinations, request, bench, out);
        });
        launched.is_some()
    }

    /// Closes a branch that came to nothing, and notes what that counts as.
    pub(super) fn give_up(&mut self, slot: ClientSlot, status: u16) {
        let Some(server) = self.table.client(slot).map(|client| client.server()) else {
            return;
        };
        self.close_leg(slot);
        self.note_made(server, status);
    }

    /// Starts a branch whose request is out.
    fn begin(&mut self, now: Instant, slot: ClientSlot, rest: &Destinations) {
        self.table.start_client(now, slot);
        let Some(server) = self.table.client(slot).map(|client| client.server()) else {
            return;
        };
        if !rest.is_empty() {
            let mut buffer = [0; ENCODED_LEN_MAX];
            // At the arena's bound there is no second try.
            let kept = self.table.arena_mut().store(rest.encode(&mut buffer));
            if let Some(entry) = self.table.client_mut(slot) {
                entry.data.rest = kept;
            }
            return self.table.guard(now, slot, self.settings.failover);
        }
        let Some(relay) = self.table.server(server).map(|server| &server.data) else {
            return;
        };
        if relay.is_invite {
            // RFC 3261 16.6 step 11: Timer C.
            self.table.guard(now, slot, self.ring_span(relay));
        } else if relay.untried.is_some() {
            self.table.guard(now, slot, self.settings.failover);
        }
    }

    /// How long an INVITE branch may ring: until other contacts are to be tried, or Timer C.
    pub(super) fn ring_span(&self, relay: &Relay) -> Duration {
        if relay.untried.is_some() {
            self.settings.ring
        } else {
            self.settings.timer_c
        }
    }

    /// Sends a branch's request by a flow. That the socket is full is a loss by UDP, which Timer A or E mends.
    fn send_by(
        &mut self,
        slot: ClientSlot,
        flow: &Flow,
        request: &Message<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) -> Result<(), SendError> {
        if let Some(entry) = self.table.client_mut(slot) {
            entry.flow = *flow;
        }
        let sent = self.send_leg(slot, request, bench, out);
        count_unsent(&self.counters, sent);
        match sent {
            Err(SendError::Full) if !flow.transport.is_reliable() => Ok(()),
            sent => sent,
        }
    }

    /// The destinations in the order that the request's length asks for: what is too long for UDP goes by TCP where the next
    /// hop is known to speak it, by its records or by a connection that is open (RFC 3261 18.1.1).
    fn fitted(
        &self,
        slot: ClientSlot,
        destinations: &Destinations,
        request: &Message<'_>,
        bench: &mut Bench,
        out: &impl Output,
    ) -> Destinations {
        let Some(entry) = self.table.client(slot) else {
            return *destinations;
        };
        let listener = entry.flow.listener;
        // A phone that registered by UDP need not have room for connections, nor its NAT.
        let is_bound_to_udp = entry.data.target.is_some() && destinations.len() == 1;
        if is_bound_to_udp || !self.is_long(slot, request, bench) {
            return *destinations;
        }
        let is_tcp = |destination: &Destination| destination.transport == Transport::Tcp;
        let mut fitted = Destinations::new();
        for destination in destinations.iter() {
            let by_tcp = Destination {
                transport: Transport::Tcp,
                ..destination
            };
            let is_connected = || {
                let flow = self.identity.flow_to(&by_tcp, listener);
                flow.is_some_and(|flow| out.is_connected(&flow))
            };
            if is_tcp(&destination) || is_connected() {
                fitted.push(by_tcp);
            }
        }
        for destination in destinations
            .iter()
            .filter(|destination| !is_tcp(destination))
        {
            fitted.push(destination);
        }
        fitted
    }

    /// Whether a request might be too long for UDP: a look that costs nothing.
    fn may_be_long(&self, flow: &Flow, request: &Message<'_>) -> bool {
        request.end() + ADDED_LEN_MAX > self.identity.udp_request_len_max(flow.listener)
    }

    /// Whether a branch's request is too long for UDP.
    fn is_long(&self, slot: ClientSlot, request: &Message<'_>, bench: &mut Bench) -> bool {
        let Some(entry) = self.table.client(slot) else {
            return false;
        };
        self.may_be_long(&entry.flow, request)
            && self.compose_leg(slot, request, bench).is_ok()
            && bench.edits.len(request.end())
                > self.identity.udp_request_len_max(entry.flow.listener)
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
            transport: client.flow.transport,
            sent_by,
            source: server.data.source.peer,
            routes_consumed: server.data.routes_consumed,
            from_strict_router: server.data.from_strict_router,
            record: self.record(request, &server.data, &client.flow, leg.is_behind_nat),
            breadth: Some(leg.breadth),
            realm: self.realm(),
            own_path: self.path_for(
                request,
                &server.data.source,
                (sent_by, client.flow.transport),
            ),
        };
        compose::relay(&mut bench.edits, request, &hop).map_err(|_| SendError::TooLarge)
    }

    /// A hash of a CSeq, by which a response is told to be of the transaction's own request.
    pub(super) fn cseq_hash(&self, number: u32, method: &[u8]) -> u32 {
        fold(self.quick.hash(&[&number.to_le_bytes(), method]))
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
        // RFC 5626 4.3: `ob` in its Contact asks for the rest of the dialog by the flow that it came by.
        let wants_flow = || {
            let field = request.header(HeaderName::Contact);
            if !field.is_some_and(|field| field.value.contains(&b';')) {
                return false;
            }
            let contact = request.contacts().next().and_then(Result::ok);
            let address = contact.and_then(|contact| Some(contact.address()?.address));
            let uri = address.and_then(|address| address.uri().ok());
            uri.is_some_and(|uri| uri.param(b"ob").is_some())
        };
        let is_elsewhere = relay.source.transport == Transport::Tcp
            || wants_flow()
            || sent_by.is_some_and(|ip| ip != relay.source.peer.ip());
        // Only of a phone that is our direct neighbour do we know where it is.
        let is_neighbour = request.has_one_via();
        let end_of = |flow: &Flow| Destination {
            transport: flow.transport,
            address: flow.peer,
        };
        let reach = Reach {
            caller: (is_elsewhere && is_neighbour).then(|| end_of(&relay.source)),
            callee: callee_behind_nat.then(|| end_of(out)),
        };
        let token = self.tokens.encode(
            request.call_id(),
            request.from_tag().unwrap_or_default(),
            &reach,
        );
        Some(Record {
            token,
            outward: (self.identity.address_of(out.listener)?, out.transport),
            inward: (
                self.identity.address_of(relay.source.listener)?,
                relay.source.transport,
            ),
        })
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

/// What forwarding adds to a request, at most: Via, Record-Routes, Max-Breadth.
const ADDED_LEN_MAX: usize = 512;

/// The address of a branch whose next hop is being looked up.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
