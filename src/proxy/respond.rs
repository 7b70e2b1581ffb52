//! Response processing (RFC 3261 16.7): what comes back by a branch, and what of it goes on at once.

use super::answer::{count_final, count_unsent};
use super::flows::UNREACHED;
use super::forward::send_edited;
use super::output::Output;
use super::relay::{Cancel, Role};
use super::{Bench, Proxy, compose, keepalive};
use crate::counters::Counter;
use crate::datagram::Datagram;
use crate::sip::message::{Message, Parsed, parse};
use crate::sip::name::HeaderName;
use crate::time::Instant;
use crate::transaction::client::{ClientEvent, ClientSlot};
use crate::transaction::id::{BranchError, TransactionId};
use crate::transaction::server::{ServerEvent, ServerSlot};
use crate::transaction::step::{Emit, Tell};

impl Proxy {
    /// Takes a response: to the worker that its branch names, and there to its transaction.
    pub(super) fn on_response(
        &mut self,
        now: Instant,
        response: &Message<'_>,
        datagram: &Datagram<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let id = match self
            .branches
            .decode_own(response.top_via().branch().unwrap_or_default())
        {
            Ok(branch) if keepalive::is_keepalive(&branch) => {
                return self.on_kept_alive(now, response, &branch);
            }
            Ok(branch) => branch.id,
            Err(BranchError::Forged) => return self.counters.increment(Counter::DropForgedBranch),
            Err(BranchError::Foreign | BranchError::Stale) => {
                return self.counters.increment(Counter::DropStrayResponse);
            }
        };
        if id.worker != self.settings.worker {
            return self.hand_off(id.worker, datagram, out);
        }
        // RFC 6026 8.1: what matches no transaction is not forwarded.
        let Some((server, client)) = self.leg_of(response, id) else {
            return self.counters.increment(Counter::DropStrayResponse);
        };
        let event = match response.status() {
            100..=199 => ClientEvent::Provisional,
            200..=299 => ClientEvent::Success,
            _ => ClientEvent::Failure,
        };
        let Some(outcome) = self.table.client_event(now, client, event) else {
            return;
        };
        if outcome.emit == Emit::Ack {
            self.acknowledge(server, client, response, bench, out);
        }
        if outcome.tell == Tell::Message {
            self.take_response(now, server, client, response, bench, out);
        }
        if outcome.is_over {
            self.close_leg(client);
        }
    }

    /// The transaction that a response is for: its branch names it, and its CSeq is that of the request.
    fn leg_of(
        &self,
        response: &Message<'_>,
        id: TransactionId,
    ) -> Option<(ServerSlot, ClientSlot)> {
        let cseq = response.cseq();
        let cseq_hash = self.cseq_hash(cseq.number, cseq.method);
        let named = self.table.find_client(id)?;
        let client = self.table.client(named)?;
        if client.data.cseq_hash == cseq_hash {
            return Some((client.server(), named));
        }
        // RFC 3261 9.1: a CANCEL has the branch of its INVITE.
        let Role::Request {
            cancel: Cancel::Sent { by },
        } = client.data.role
        else {
            return None;
        };
        let cancel = self
            .table
            .client(by)
            .filter(|cancel| cancel.data.cseq_hash == cseq_hash)?;
        Some((cancel.server(), by))
    }

    fn take_response(
        &mut self,
        now: Instant,
        server: ServerSlot,
        client: ClientSlot,
        response: &Message<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        // The answer to our own CANCEL goes no further (RFC 3261 16.10).
        if !self
            .table
            .client(client)
            .is_some_and(|client| client.data.is_request())
        {
            return;
        }
        match response.status() {
            100 => self.on_sign_of_life(now, client, false, bench, out),
            101..=199 => {
                self.on_sign_of_life(now, client, true, bench, out);
                // RFC 4320 4.1: a request other than INVITE gets no provisional response but 100.
                if self.is_invite(server) {
                    self.forward_response(
                        now,
                        server,
                        response,
                        ServerEvent::Provisional,
                        bench,
                        out,
                    );
                }
            }
            200..=299 => {
                self.forward_response(now, server, response, ServerEvent::Success, bench, out);
                self.cancel_pending(now, server, bench, out);
            }
            // RFC 3263 4.3: a 503 is for the next destination to do better.
            503 if self.fail_over(now, client, bench, out) => {
                self.conclude_if_done(now, server, bench, out);
            }
            // RFC 5626 7: a flow has failed, which says nothing of the instance's others.
            408 | 430 if self.try_next_flow(now, client, bench, out) => {
                self.conclude_if_done(now, server, bench, out);
            }
            430 if self.is_ours_to_find(client) => {
                self.note_made(server, UNREACHED);
                self.conclude_if_done(now, server, bench, out);
            }
            status => {
                if status >= 600 {
                    // RFC 3261 16.7 step 5: a 6xx ends the search; it is forwarded when all branches have ended.
                    self.cancel_pending(now, server, bench, out);
                }
                let must_wait = self.has_pending_legs(server)
                    || self.has_better(server, status)
                    || (status < 600 && self.may_fork_further(server));
                // A 503 and a 408 are not always passed on as they came.
                if must_wait || status == 503 || status == 408 {
                    self.note_received(server, status, response, bench);
                    self.conclude_if_done(now, server, bench, out);
                } else {
                    self.forward_response(now, server, response, ServerEvent::Failure, bench, out);
                }
            }
        }
    }

    /// Whether a branch goes to a contact of ours: then what becomes of its flow is nobody else's business (RFC 5626 11.5).
    fn is_ours_to_find(&self, client: ClientSlot) -> bool {
        let client = self.table.client(client);
        client.is_some_and(|client| client.data.target.is_some())
    }

    /// A provisional response: Timer C starts anew (RFC 3261 16.7 step 2), and a CANCEL that waited for it goes out.
    fn on_sign_of_life(
        &mut self,
        now: Instant,
        client: ClientSlot,
        restarts_timer_c: bool,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let Some(leg) = self.table.client_mut(client) else {
            return;
        };
        let is_first = !std::mem::replace(&mut leg.data.is_answered, true);
        let (role, server, has_rest) = (leg.data.role, leg.server(), leg.data.rest.is_some());
        match role {
            Role::Request {
                cancel: Cancel::Wanted,
            } => self.send_cancel(now, client, bench, out),
            Role::Request { cancel: Cancel::No } => {
                let Some(relay) = self.table.server(server).map(|server| &server.data) else {
                    return;
                };
                // Contacts that come next wait no longer for one that keeps saying that it rings.
                let restarts = restarts_timer_c && relay.untried.is_none();
                if relay.is_invite && (is_first || restarts) {
                    let span = self.ring_span(relay);
                    self.table.guard(now, client, span);
                } else if is_first && has_rest {
                    // The wait for a destination that may be dead is over.
                    self.table.unguard(client);
                }
            }
            Role::Request {
                cancel: Cancel::Sent { .. } | Cancel::Over,
            }
            | Role::Cancel { .. } => {}
        }
    }

    /// Sends a response on towards the caller, less our Via (RFC 3261 16.7 steps 3 and 9).
    fn forward_response(
        &mut self,
        now: Instant,
        server: ServerSlot,
        response: &Message<'_>,
        event: ServerEvent,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let outcome = self.table.server_event(now, server, event);
        let is_given = outcome.is_some_and(|outcome| outcome.emit == Emit::Given);
        let Some(entry) = self.table.server(server) else {
            return;
        };
        // RFC 3261 16.7 step 9: what the server transaction is no longer there for is forwarded without it. That is a 2xx of a
        // branch that outlives Timer L.
        let is_over = entry.state().is_over() && entry.data.is_invite;
        let is_late_success = is_over && event == ServerEvent::Success;
        if !is_given && !is_late_success {
            return;
        }
        let reply_to = entry.data.reply_to;
        if compose::respond(&mut bench.edits, response, reply_to.transport).is_err() {
            return self.counters.increment(Counter::DropMalformedResponse);
        }
        count_unsent(&self.counters, send_edited(response, bench, &reply_to, out));
        if event != ServerEvent::Provisional {
            count_final(&self.counters, response.status());
        }
        // RFC 6026 7.1: in Accepted a retransmitted INVITE is absorbed, so a 2xx to it is not kept.
        if event != ServerEvent::Success || !entry.data.is_invite {
            let bytes = response.bytes().get(..response.end()).unwrap_or_default();
            let edits = &bench.edits;
            self.table
                .keep_response(server, edits.len(bytes.len()), |buffer| {
                    let _ = edits.write(bytes, buffer);
                });
        }
        self.close_server_if_over(server);
    }

    /// Sends the ACK of a 300-699 by the branch that received it (RFC 3261 17.1.1.3).
    fn acknowledge(
        &self,
        server: ServerSlot,
        client: ClientSlot,
        response: &Message<'_>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let to = response
            .header(HeaderName::To)
            .map(|to| to.value)
            .unwrap_or_default();
        self.send_hop_by_hop("ACK", server, client, Some(to), bench, out);
    }

    /// Sends the ACK or the CANCEL of a branch's INVITE: built from the INVITE as the branch sent it.
    pub(super) fn send_hop_by_hop(
        &self,
        method: &'static str,
        server: ServerSlot,
        client: ClientSlot,
        to: Option<&[u8]>,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let Some(flow) = self.table.client(client).map(|client| client.flow) else {
            return;
        };
        let mut index = std::mem::take(&mut bench.stored);
        let is_composed = self
            .stored_request(server, &mut index)
            .is_some_and(|request| {
                let composed = self.compose_leg(client, &request, bench);
                let bytes = request.bytes();
                bench.relayed.resize(bench.edits.len(bytes.len()), 0);
                composed.is_ok() && bench.edits.write(bytes, &mut bench.relayed).is_ok()
            });
        bench.stored = index;
        if !is_composed {
            return self.counters.increment(Counter::DropUnsendable);
        }
        let Parsed::Good(relayed) = parse(&bench.relayed, &mut bench.stored) else {
            return self.counters.increment(Counter::DropUnsendable);
        };
        let own_to = relayed
            .header(HeaderName::To)
            .map(|to| to.value)
            .unwrap_or_default();
        compose::hop_by_hop(&mut bench.text, method, &relayed, to.unwrap_or(own_to));
        let bytes = &bench.text;
        let sent = out.send(&flow, bytes.len(), |buffer| buffer.copy_from_slice(bytes));
        count_unsent(&self.counters, sent);
    }

    /// Whether a branch of the request has no final response yet.
    pub(super) fn has_pending_legs(&self, server: ServerSlot) -> bool {
        self.table
            .clients_of(server)
            .any(|(_, client)| client.data.is_request() && client.state().is_pending())
    }

    pub(super) fn is_invite(&self, server: ServerSlot) -> bool {
        self.table
            .server(server)
            .is_some_and(|server| server.data.is_invite)
    }

    pub(super) fn close_server_if_over(&mut self, server: ServerSlot) {
        if self
            .table
            .server(server)
            .is_some_and(|server| server.state().is_over())
        {
            self.table.close_server(server);
        }
    }
}
