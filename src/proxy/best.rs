//! The best response (RFC 3261 16.7 steps 4 to 7): which of the branches' final responses is kept for the caller, and its
//! sending when no branch is in progress any more.

use super::answer::{count_final, count_unsent};
use super::output::Output;
use super::relay::Best;
use super::{Bench, Proxy, compose};
use crate::limits::CHALLENGES_LEN_MAX;
use crate::sip::message::{Message, Parsed, parse};
use crate::sip::name::HeaderName;
use crate::sip::reply::Reply;
use crate::sip::status;
use crate::time::Instant;
use crate::transaction::arena::Stored;
use crate::transaction::server::{ServerEvent, ServerSlot};

impl Proxy {
    /// When no branch is pending any more: sends the best response, or gives up (RFC 3261 16.7 step 6).
    pub(super) fn conclude_if_done(
        &mut self,
        now: Instant,
        server: ServerSlot,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        let is_pending = self
            .table
            .server(server)
            .is_some_and(|server| server.state().is_pending());
        if !is_pending || self.has_pending_legs(server) {
            return;
        }
        // Each turn tries at least one contact that was not tried yet.
        while self.may_fork_further(server) {
            self.fork_further(now, server, bench, out);
            if self.has_pending_legs(server) {
                return;
            }
        }
        let Some(entry) = self.table.server_mut(server) else {
            return;
        };
        let is_invite = entry.data.is_invite;
        match entry.data.best.take() {
            // 16.7 step 6: a 503 tells of one server downstream, and would make the caller shun us.
            Some(best) if best.status() == 503 => {
                best.release(self.table.arena_mut());
                self.send_made(now, server, 500, bench, out);
            }
            Some(Best::Received { status, message }) => {
                self.send_best(now, server, status, message, bench, out);
            }
            Some(Best::Made { status }) => self.send_made(now, server, status, bench, out),
            None if is_invite => self.send_made(now, server, 408, bench, out),
            // RFC 4320 4.2: a non-INVITE request is never answered 408; its client knows by its own Timer F.
            None => {
                self.table.server_event(now, server, ServerEvent::Abandon);
                self.close_server_if_over(server);
            }
        }
    }

    /// Notes a branch's final response, less our Via, if it is the best so far.
    pub(super) fn note_received(
        &mut self,
        server: ServerSlot,
        status: u16,
        response: &Message<'_>,
        bench: &mut Bench,
    ) {
        if !self.may_answer(server, status) {
            return;
        }
        if self.has_better(server, status) {
            if is_challenge(status) {
                self.keep_challenges(server, response);
            }
            return;
        }
        let Some(transport) = self
            .table
            .server(server)
            .map(|server| server.data.reply_to.transport)
        else {
            return;
        };
        let bytes = response.bytes().get(..response.end()).unwrap_or_default();
        if compose::respond(&mut bench.edits, response, transport).is_err() {
            return;
        }
        let edits = &bench.edits;
        let best = match self.table.arena_mut().reserve(edits.len(bytes.len())) {
            Some((message, buffer)) => {
                // The buffer is as long as the edits said: nothing can be cut.
                let _ = edits.write(bytes, buffer);
                Best::Received { status, message }
            }
            // At the arena's bound the caller is told the status, if not the rest.
            None => Best::Made { status },
        };
        let former = self
            .table
            .server_mut(server)
            .and_then(|server| server.data.best.replace(best));
        if let Some(former) = former {
            former.release(self.table.arena_mut());
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

    pub(super) fn has_better(&self, server: ServerSlot, status: u16) -> bool {
        let best = self
            .table
            .server(server)
            .and_then(|server| server.data.best.as_ref());
        best.is_some_and(|best| !best.yields_to(status))
    }

    /// RFC 4320 4.2: a 408 is no answer to a request other than INVITE, whoever made it.
    fn may_answer(&self, server: ServerSlot, status: u16) -> bool {
        status != 408 || self.is_invite(server)
    }

    /// Sends a response that a branch had received, with the challenges of the others (RFC 3261 16.7 step 7).
    fn send_best(
        &mut self,
        now: Instant,
        server: ServerSlot,
        status: u16,
        message: Stored,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        self.table.server_event(now, server, ServerEvent::Failure);
        let message = if is_challenge(status) {
            self.with_challenges(server, message, bench)
        } else {
            message
        };
        self.table.keep_stored(server, message);
        self.send_kept_response(server, out);
        count_final(&self.counters, status);
        self.close_server_if_over(server);
    }

    /// Puts the challenges that were kept into the response that is sent; at the arena's bound it goes without them.
    fn with_challenges(
        &mut self,
        server: ServerSlot,
        message: Stored,
        bench: &mut Bench,
    ) -> Stored {
        let kept = self
            .table
            .server_mut(server)
            .and_then(|server| server.data.challenges.take());
        let Some(kept) = kept else { return message };
        let mut index = std::mem::take(&mut bench.stored);
        bench.text.clear();
        let arena = self.table.arena();
        if let Parsed::Good(response) = parse(arena.bytes(&message), &mut index) {
            let bytes = response.bytes();
            let at = usize::from(response.headers_end());
            if let Some((head, tail)) = bytes.split_at_checked(at) {
                for part in [head, arena.bytes(&kept), tail] {
                    bench.text.extend_from_slice(part);
                }
            }
        }
        bench.stored = index;
        let arena = self.table.arena_mut();
        arena.release(kept);
        if bench.text.is_empty() {
            return message;
        }
        match arena.store(&bench.text) {
            Some(merged) => {
                arena.release(message);
                merged
            }
            None => message,
        }
    }

    /// Sends a final response of our own within a server transaction.
    fn send_made(
        &mut self,
        now: Instant,
        server: ServerSlot,
        code: u16,
        bench: &mut Bench,
        out: &mut impl Output,
    ) {
        self.table.server_event(now, server, ServerEvent::Failure);
        let Some(entry) = self.table.server(server) else {
            return;
        };
        let (source, reply_to) = (entry.data.source.peer, entry.data.reply_to);
        bench.text.clear();
        {
            let Some(request) = self.stored_request(server, &mut bench.stored) else {
                return;
            };
            let tag = self.tags.tag(&request);
            let reply = Reply::new(&request, code, status::reason(code))
                .to_tag(&tag)
                .received(source);
            bench.text.resize(reply.len(), 0);
            let _ = reply.write(&mut bench.text);
        }
        let bytes = &bench.text;
        let sent = out.send(&reply_to, bytes.len(), |buffer| {
            buffer.copy_from_slice(bytes)
        });
        count_unsent(&self.counters, sent);
        count_final(&self.counters, code);
        self.table
            .keep_response(server, bytes.len(), |buffer| buffer.copy_from_slice(bytes));
        self.close_server_if_over(server);
    }

    /// Adds the challenges of a 401 or 407 to those that go out with the best response, where that is one, too.
    fn keep_challenges(&mut self, server: ServerSlot, response: &Message<'_>) {
        let Some(relay) = self.table.server_mut(server).map(|server| &mut server.data) else {
            return;
        };
        if !relay
            .best
            .as_ref()
            .is_some_and(|best| is_challenge(best.status()))
        {
            return;
        }
        let former = relay.challenges.take();
        let lines = || {
            [HeaderName::WWWAuthenticate, HeaderName::ProxyAuthenticate]
                .into_iter()
                .flat_map(|name| response.headers(name))
                .map(|header| header.line_span.of(response.bytes()))
        };
        let former_len = former.as_ref().map_or(0, Stored::len);
        let mut all = [0; CHALLENGES_LEN_MAX];
        let mut len = former_len;
        if let (Some(former), Some(room)) = (&former, all.get_mut(..former_len)) {
            room.copy_from_slice(self.table.arena().bytes(former));
        }
        for line in lines() {
            // What does not fit is left out: the caller answers the others.
            if let Some(room) = all.get_mut(len..len + line.len()) {
                room.copy_from_slice(line);
                len += line.len();
            }
        }
        let arena = self.table.arena_mut();
        if let Some(former) = former {
            arena.release(former);
        }
        let kept = all
            .get(..len)
            .filter(|all| !all.is_empty())
            .and_then(|all| arena.store(all));
        match self.table.server_mut(server) {
            Some(server) => server.data.challenges = kept,
            None => {
                if let Some(kept) = kept {
                    self.table.arena_mut().release(kept);
                }
            }
        }
    }
}

const fn is_challenge(status: u16) -> bool {
    matches!(status, 401 | 407)
}
