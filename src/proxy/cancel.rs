//! CANCEL (RFC 3261 16.10 and 9): of a caller who gave up, and of branches that lost.

use super::answer::Response;
use super::output::Output;
use super::relay::{Cancel, Leg, Role};
use super::{Bench, Proxy};
use crate::datagram::Flow;
use crate::limits::T1_64;
use crate::sip::message::{Message, Parsed, parse};
use crate::time::Instant;
use crate::transaction::client::ClientSlot;
use crate::transaction::client::ClientState;
use crate::transaction::invite_client;
use crate::transaction::key::ServerKey;
use crate::transaction::server::ServerSlot;

impl Proxy {
    /// Takes a CANCEL: answers it, and cancels the branches of its INVITE.
    ///
    /// One that matches no INVITE gets 481. RFC 3261 16.10 would have it forwarded statelessly, for the sake of proxies
    /// that forward INVITEs so; this one never does.
    pub(super) fn on_cancel(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        (source, invite): (&Flow, ServerKey),
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let Some(server) = self.table.find_server(invite) else {
            if let Some(waiting) = self.waits.take(invite) {
                self.refuse(request, source, &Response::new(200), out);
                let bytes = self.table.arena().bytes(&waiting.request);
                if let Parsed::Good(invite) = parse(bytes, &mut bench.stored) {
                    self.refuse(&invite, &waiting.source, &Response::new(487), out);
                }
                self.table.arena_mut().release(waiting.request);
                return;
            }
            return self.refuse(request, source, &Response::new(481), out);
        };
        self.refuse(request, source, &Response::new(200), out);
        let Some(entry) = self.table.server_mut(server) else {
            return;
        };
        if entry.state().is_pending() {
            entry.data.is_cancelled = true;
            self.cancel_pending(now, server, bench, out);
            self.conclude_if_done(now, server, bench, out);
        }
    }

    /// Cancels every branch that has no final response: at once where it rang, else when it first does.
    pub(super) fn cancel_pending(
        &mut self,
        now: Instant,
        server: ServerSlot,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        if !self.is_invite(server) {
            return;
        }
        let mut at = self.next_to_cancel(server);
        while let Some(client) = at {
            self.cancel_leg(now, client, bench, out);
            at = self.next_to_cancel(server);
        }
    }

    fn next_to_cancel(&self, server: ServerSlot) -> Option<ClientSlot> {
        let mut clients = self.table.clients_of(server);
        let waits = |leg: &Leg| leg.role == Role::Request { cancel: Cancel::No };
        clients
            .find(|(_, client)| waits(&client.data) && client.state().is_pending())
            .map(|(slot, _)| slot)
    }

    /// Cancels one branch.
    pub(super) fn cancel_leg(
        &mut self,
        now: Instant,
        client: ClientSlot,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let Some(entry) = self.table.client_mut(client) else {
            return;
        };
        if !entry.is_started() {
            // Its next hop is still being looked up: nobody knows of it.
            let server = entry.server();
            return self.give_up(client, self.status_of_silence(server));
        }
        if entry.state() == ClientState::Invite(invite_client::State::Proceeding) {
            self.send_cancel(now, client, bench, out);
        } else {
            // RFC 3261 9.1: no CANCEL before a provisional response; Timer B ends the wait for one, and nothing sooner: a phone
            // whose first ringing is late would ring on.
            entry.data.role = Role::Request {
                cancel: Cancel::Wanted,
            };
            self.table.unguard(client);
        }
    }

    /// Sends the CANCEL of a branch, as a transaction of its own.
    pub(super) fn send_cancel(
        &mut self,
        now: Instant,
        invite: ClientSlot,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let Some(entry) = self.table.client(invite) else {
            return;
        };
        let (server, flow) = (entry.server(), entry.flow);
        let Some(number) = self.cseq_number(server, bench) else {
            return;
        };
        let leg = Leg {
            target: None,
            path: None,
            is_behind_nat: false,
            role: Role::Cancel { of: invite },
            cseq_hash: self.cseq_hash(number, b"CANCEL"),
            loop_hash: 0,
            breadth: 0,
            is_answered: false,
            rest: None,
            if_gone: None,
            flows: None,
        };
        let by = self.table.open_client(server, false, flow, leg);
        if let Some(by) = by {
            self.table.start_client(now, by);
        }
        if let Some(entry) = self.table.client_mut(invite) {
            // At the bound of transactions it is sent once and not again; the guard ends the branch all the same.
            let cancel = by.map_or(Cancel::Over, |by| Cancel::Sent { by });
            entry.data.role = Role::Request { cancel };
        }
        // RFC 3261 9.1: without a final response 64*T1 after the CANCEL, the INVITE transaction is over.
        self.table.guard(now, invite, T1_64);
        self.send_hop_by_hop("CANCEL", server, invite, None, bench, out);
    }

    fn cseq_number(&self, server: ServerSlot, bench: &mut Bench) -> Option<u32> {
        self.stored_request(server, &mut bench.stored)
            .map(|request| request.cseq().number)
    }
}
