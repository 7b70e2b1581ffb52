//! Timers (RFC 3261 16.8 and 17): retransmissions, branches that never answer, Timer C.

use super::answer::count_unsent;
use super::output::{Output, SendError};
use super::relay::{Cancel, Role};
use super::{Bench, Proxy};
use crate::counters::Counter;
use crate::time::Instant;
use crate::transaction::client::ClientEvent;
use crate::transaction::client::{ClientSlot, ClientState};
use crate::transaction::invite_client;
use crate::transaction::server::ServerSlot;
use crate::transaction::step::{Emit, Tell};
use crate::transaction::table::{Fired, Outcome};

impl Proxy {
    /// Acts on one timer.
    pub(super) fn on_fired(
        &mut self,
        now: Instant,
        fired: Fired,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        match fired {
            Fired::Server(server, outcome) => self.on_server_timer(server, outcome, bench, out),
            Fired::Client(client, outcome) => {
                self.on_client_timer(now, client, outcome, bench, out)
            }
            Fired::Guard(client) => self.on_guard(now, client, bench, out),
        }
    }

    fn on_server_timer(
        &mut self,
        server: ServerSlot,
        outcome: Outcome,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let is_pending = self
            .table
            .server(server)
            .is_some_and(|server| server.state().is_pending());
        if outcome.emit == Emit::Again && is_pending {
            // RFC 4320 4.1: a non-INVITE request that was not answered yet.
            if let Some(request) = self.stored_request(server, &mut bench.stored) {
                self.send_trying(&request, server, out);
            }
        } else if outcome.emit == Emit::Again {
            self.send_response_again(server, out);
        }
        if outcome.is_over {
            self.table.close_server(server);
        }
    }

    fn on_client_timer(
        &mut self,
        now: Instant,
        client: ClientSlot,
        outcome: Outcome,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let Some(entry) = self.table.client(client) else {
            return;
        };
        let (server, is_request) = (entry.server(), entry.data.is_request());
        if outcome.emit == Emit::Again {
            let sent = self.send_client_again(client, bench, out);
            self.counters.increment(Counter::RetransmitRequestSent);
            count_unsent(&self.counters, sent);
        }
        if outcome.is_over {
            let has_failed = is_request && outcome.tell == Tell::TimedOut;
            let goes_on = has_failed && self.fail_over(now, client, bench, out);
            self.close_leg(client);
            if has_failed && !goes_on {
                self.note_made(server, self.status_of_silence(server));
            }
            if has_failed {
                self.conclude_if_done(now, server, bench, out);
            }
        }
    }

    /// The proxy's own timer of a branch: what it waited for has not come.
    fn on_guard(
        &mut self,
        now: Instant,
        client: ClientSlot,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let Some(entry) = self.table.client(client) else {
            return;
        };
        let (server, is_started) = (entry.server(), entry.is_started());
        let has_rung = entry.state() == ClientState::Invite(invite_client::State::Proceeding);
        let is_wanted = entry.data.role == Role::Request { cancel: Cancel::No };
        let is_silent = !entry.data.is_answered && entry.data.rest.is_some();
        if !is_started {
            // No answer from the resolver.
            self.counters.increment(Counter::RefusedUnresolvable);
            self.give_up(client, 503);
        } else if is_wanted && is_silent && self.fail_over(now, client, bench, out) {
            self.supersede(now, client, bench, out);
        } else if is_wanted && self.may_fork_further(server) {
            self.cancel_pending(now, server, bench, out);
            self.fork_further(now, server, bench, out);
        } else if is_wanted && has_rung {
            // RFC 3261 16.8, Timer C: a branch that rang is cancelled.
            return self.cancel_leg(now, client, bench, out);
        } else if is_wanted && self.is_invite(server) {
            // It has been silent; Timer B ends it.
            return;
        } else if !is_wanted {
            self.give_up(client, self.status_of_silence(server));
        }
        self.conclude_if_done(now, server, bench, out);
    }

    /// What a branch that never answered counts as: 487 where the caller gave up, 408 where he waits.
    pub(super) fn status_of_silence(&self, server: ServerSlot) -> u16 {
        let is_given_up = self
            .table
            .server(server)
            .is_some_and(|server| server.data.is_cancelled);
        if is_given_up { 487 } else { 408 }
    }

    /// Another destination has taken a silent one's place: should it ever ring, it is cancelled.
    fn supersede(
        &mut self,
        now: Instant,
        client: ClientSlot,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let server = self.table.client(client).map(|client| client.server());
        if server.is_some_and(|server| self.is_invite(server)) {
            self.cancel_leg(now, client, bench, out);
        } else {
            self.close_leg(client);
        }
    }

    /// The transport says that a branch's destination cannot be reached (RFC 3261 16.9).
    pub(super) fn on_transport_error(
        &mut self,
        now: Instant,
        client: ClientSlot,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let Some(entry) = self.table.client(client) else {
            return;
        };
        let (server, is_request) = (entry.server(), entry.data.is_request());
        let if_gone = entry.data.if_gone;
        let outcome = self
            .table
            .client_event(now, client, ClientEvent::TransportError);
        if outcome.is_none_or(|outcome| outcome.tell != Tell::Failed) {
            return;
        }
        let goes_on = is_request && self.fail_over(now, client, bench, out);
        self.close_leg(client);
        if is_request && !goes_on {
            self.note_made(server, if_gone.unwrap_or(503));
        }
        if is_request {
            self.conclude_if_done(now, server, bench, out);
        }
    }

    /// Sends the response of a server transaction once more.
    pub(super) fn send_response_again(&self, server: ServerSlot, out: &mut impl Output) {
        self.counters.increment(Counter::RetransmitResponseSent);
        self.send_kept_response(server, out);
    }

    /// Sends the response that a server transaction keeps.
    pub(super) fn send_kept_response(&self, server: ServerSlot, out: &mut impl Output) {
        let Some(entry) = self.table.server(server) else {
            return;
        };
        let Some(bytes) = self.table.response_of(entry) else {
            return;
        };
        let sent = out.send(&entry.data.reply_to, bytes.len(), |buffer| {
            buffer.copy_from_slice(bytes)
        });
        count_unsent(&self.counters, sent);
    }

    fn send_client_again(
        &self,
        client: ClientSlot,
        bench: &mut Bench,
        out: &mut impl Output,
    ) -> Result<(), SendError> {
        let entry = self.table.client(client).ok_or(SendError::NoListener)?;
        let server = entry.server();
        if let Role::Cancel { of } = entry.data.role {
            self.send_hop_by_hop("CANCEL", server, of, None, bench, out);
            return Ok(());
        }
        let mut index = std::mem::take(&mut bench.stored);
        let sent = match self.stored_request(server, &mut index) {
            Some(request) => self.send_leg(client, &request, bench, out),
            None => Err(SendError::NoListener),
        };
        bench.stored = index;
        sent
    }
}
