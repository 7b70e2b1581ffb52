//! The transaction table of one worker: slots, index, timers and stored messages, and the one way in and out of each.
//!
//! The table runs the machines and keeps their timers; it sends nothing. Every step gives an [`Outcome`], and whoever
//! called carries out its [`Emit`] and heeds its [`Tell`]. What the proxy keeps beside a transaction is its own type
//! (`S` for a server transaction, `C` for a client one), which the table stores and never reads.

use std::sync::Arc;

use hashbrown::HashTable;

use super::arena::{Arena, Stored};
use super::client::{Client, ClientEvent, ClientSlot, ClientState};
use super::id::TransactionId;
use super::key::ServerKey;
use super::server::{Server, ServerEvent, ServerSlot, ServerState};
use super::slab::Slab;
use super::step::{Emit, Tell};
use super::timers::{Timer, Timers};
use super::{invite_client, invite_server, non_invite_client, non_invite_server};
use crate::counters::{Counter, Counters};
use crate::datagram::{Flow, WorkerId};
use crate::limits::{LATE, T1, T1_64};
use crate::time::{Duration, Instant};
use crate::timer::Wheel;

/// What the proxy keeps beside a transaction, and what stored messages it holds there.
pub trait Holdings {
    /// Gives every stored message back.
    fn release(self, arena: &mut Arena);
}

/// A timer that fired, for the caller to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    /// A server transaction's; the outcome says what to send.
    Server(ServerSlot, Outcome),
    /// A client transaction's; the outcome says what to send and whether it failed.
    Client(ClientSlot, Outcome),
    /// The proxy's own timer beside a client transaction (Timer C, or the wait after a CANCEL).
    Guard(ClientSlot),
}

/// What a step asks of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What goes on the wire.
    pub emit: Emit,
    /// What the proxy is told.
    pub tell: Tell,
    /// Whether the transaction is over: after acting on it the caller closes it.
    pub is_over: bool,
}

/// The transactions of one worker.
#[derive(Debug)]
pub struct Table<S, C> {
    worker: WorkerId,
    pub(super) servers: Slab<Server<S>>,
    pub(super) clients: Slab<Client<C>>,
    index: HashTable<u32>,
    pub(super) wheel: Wheel<Timer>,
    arena: Arena,
    transactions_max: usize,
    pending: usize,
    counters: Arc<Counters>,
}

impl<S: Holdings, C: Holdings> Table<S, C> {
    /// An empty table for at most `transactions_max` transactions, server and client together, their messages within `bytes_max`.
    #[must_use]
    pub fn with_limits(
        worker: WorkerId,
        transactions_max: u32,
        bytes_max: usize,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            worker,
            servers: Slab::with_limit(transactions_max),
            clients: Slab::with_limit(transactions_max),
            index: HashTable::with_capacity(INDEX_LEN_AT_START),
            wheel: Wheel::with_capacity(INDEX_LEN_AT_START),
            arena: Arena::with_limit(bytes_max),
            transactions_max: transactions_max as usize,
            pending: 0,
            counters,
        }
    }

    /// Opens a server transaction for a request and keeps a copy of it; `None` at a bound.
    pub fn open_server(
        &mut self,
        now: Instant,
        key: ServerKey,
        is_invite: bool,
        is_reliable: bool,
        request: &[u8],
        data: S,
    ) -> Option<ServerSlot> {
        if self.len() >= self.transactions_max {
            return None;
        }
        let request = self.arena.store(request)?;
        let state = if is_invite {
            ServerState::Invite(invite_server::State::Proceeding)
        } else {
            ServerState::NonInvite(non_invite_server::State::Trying)
        };
        let mut holdings = Some((request, data));
        let slot = self.servers.insert_with(|_, _| {
            let (request, data) = holdings.take().expect("a slab calls its maker once");
            Server {
                data,
                key,
                state,
                is_reliable,
                is_indexed: true,
                request,
                response: None,
                timers: Timers::default(),
                first_client: None,
            }
        });
        let Some(slot) = slot else {
            if let Some((request, data)) = holdings {
                self.arena.release(request);
                data.release(&mut self.arena);
            }
            return None;
        };
        let servers = &self.servers;
        self.index.insert_unique(key.folded(), slot, |other| {
            servers.at(*other).map_or(0, |server| server.key.folded())
        });
        if !is_invite && let Some(server) = self.servers.at_mut(slot) {
            server.timers.retransmit = Some(self.wheel.schedule(
                now,
                now + LATE,
                Timer::ServerRetransmit(slot),
            ));
        }
        self.pending += 1;
        self.counters.increment(Counter::TransactionsLiveServer);
        self.counters.increment(Counter::TransactionsCreatedServer);
        Some(ServerSlot(slot))
    }

    /// Opens a client transaction under a server transaction; `None` at the bound. It has a place and a name, and waits for
    /// [`Self::start_client`]: until then nothing of it was sent, and no timer but a guard runs.
    pub fn open_client(
        &mut self,
        server: ServerSlot,
        is_invite: bool,
        flow: Flow,
        data: C,
    ) -> Option<ClientSlot> {
        let next = self.servers.at(server.0)?.first_client;
        if self.len() >= self.transactions_max {
            data.release(&mut self.arena);
            return None;
        }
        let state = if is_invite {
            ClientState::Invite(invite_client::State::Calling)
        } else {
            ClientState::NonInvite(non_invite_client::State::Trying)
        };
        let mut data = Some(data);
        let slot = self.clients.insert_with(|_, generation| Client {
            data: data.take().expect("a slab calls its maker once"),
            flow,
            state,
            generation,
            server: server.0,
            next,
            timers: Timers::default(),
            guard: None,
            is_started: false,
        });
        let Some(slot) = slot else {
            if let Some(data) = data {
                data.release(&mut self.arena);
            }
            return None;
        };
        self.servers.at_mut(server.0)?.first_client = Some(slot);
        self.pending += 1;
        self.counters.increment(Counter::TransactionsLiveClient);
        self.counters.increment(Counter::TransactionsCreatedClient);
        Some(ClientSlot(slot))
    }

    /// Starts the timers of a client transaction whose request is out.
    pub fn start_client(&mut self, now: Instant, slot: ClientSlot) {
        let Some(client) = self
            .clients
            .at_mut(slot.0)
            .filter(|client| !client.is_started)
        else {
            return;
        };
        client.is_started = true;
        if !client.flow.transport.is_reliable() {
            client.timers.interval = T1;
            client.timers.retransmit = Some(self.wheel.schedule(
                now,
                now + T1,
                Timer::ClientRetransmit(slot.0),
            ));
        }
        // RFC 3261 17.1.1.2 and 17.1.2.2: Timers B and F.
        client.timers.timeout = Some(self.wheel.schedule(
            now,
            now + T1_64,
            Timer::ClientTimeout(slot.0),
        ));
    }

    /// Runs a server transaction's machine; `None` if there is none, or for what cannot happen to its kind.
    pub fn server_event(
        &mut self,
        now: Instant,
        slot: ServerSlot,
        event: ServerEvent,
    ) -> Option<Outcome> {
        let server = self.servers.at_mut(slot.0)?;
        let step = server.state.step(event, server.is_reliable)?;
        let was_pending = server.state.is_pending();
        server.state = step.next;
        server.timers.apply(
            &mut self.wheel,
            now,
            (step.retransmit, Timer::ServerRetransmit(slot.0)),
            (step.timeout, Timer::ServerTimeout(slot.0)),
        );
        if was_pending && !server.state.is_pending() {
            self.pending -= 1;
        }
        Some(Outcome {
            emit: step.emit,
            tell: step.tell,
            is_over: server.state.is_over(),
        })
    }

    /// Runs a client transaction's machine.
    pub fn client_event(
        &mut self,
        now: Instant,
        slot: ClientSlot,
        event: ClientEvent,
    ) -> Option<Outcome> {
        let client = self.clients.at_mut(slot.0)?;
        let step = client
            .state
            .step(event, client.flow.transport.is_reliable());
        let was_pending = client.state.is_pending();
        client.state = step.next;
        client.timers.apply(
            &mut self.wheel,
            now,
            (step.retransmit, Timer::ClientRetransmit(slot.0)),
            (step.timeout, Timer::ClientTimeout(slot.0)),
        );
        if was_pending && !client.state.is_pending() {
            self.pending -= 1;
            // Whatever the guard waited for has happened.
            if let Some(id) = client.guard.take() {
                self.wheel.cancel(id);
            }
        }
        Some(Outcome {
            emit: step.emit,
            tell: step.tell,
            is_over: client.state.is_over(),
        })
    }

    /// Takes the next timer that is due, runs its machine, and says what it asks for.
    pub fn pop_fired(&mut self, now: Instant) -> Option<Fired> {
        loop {
            let timer = self.wheel.pop_expired(now)?;
            let fired = match timer {
                Timer::ServerRetransmit(slot) => {
                    self.server_timer(now, slot, ServerEvent::Retransmit)
                }
                Timer::ServerTimeout(slot) => self.server_timer(now, slot, ServerEvent::Timeout),
                Timer::ClientRetransmit(slot) => {
                    self.client_timer(now, slot, ClientEvent::Retransmit)
                }
                Timer::ClientTimeout(slot) => self.client_timer(now, slot, ClientEvent::Timeout),
                Timer::ClientGuard(slot) => self.clients.at_mut(slot).map(|client| {
                    client.guard = None;
                    Fired::Guard(ClientSlot(slot))
                }),
            };
            if fired.is_some() {
                return fired;
            }
        }
    }

    /// When [`Self::pop_fired`] should next be asked; never later than a timer is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next_deadline()
    }

    /// Sets the proxy's own timer beside a client transaction, in place of the one before.
    pub fn guard(&mut self, now: Instant, slot: ClientSlot, span: Duration) {
        if let Some(client) = self.clients.at_mut(slot.0) {
            if let Some(id) = client.guard.take() {
                self.wheel.cancel(id);
            }
            client.guard = Some(
                self.wheel
                    .schedule(now, now + span, Timer::ClientGuard(slot.0)),
            );
        }
    }

    /// Takes the proxy's own timer away.
    pub fn unguard(&mut self, slot: ClientSlot) {
        let guard = self
            .clients
            .at_mut(slot.0)
            .and_then(|client| client.guard.take());
        if let Some(id) = guard {
            self.wheel.cancel(id);
        }
    }

    /// Ends a client transaction and frees it, and its server transaction if that waited only for it.
    pub fn close_client(&mut self, slot: ClientSlot) {
        let Some(client) = self.clients.remove(slot.0) else {
            return;
        };
        for id in [
            client.timers.retransmit,
            client.timers.timeout,
            client.guard,
        ]
        .into_iter()
        .flatten()
        {
            self.wheel.cancel(id);
        }
        if client.state.is_pending() {
            self.pending -= 1;
        }
        client.data.release(&mut self.arena);
        self.unlink(client.server, slot.0, client.next);
        self.counters.decrement(Counter::TransactionsLiveClient);
        self.counters.increment(Counter::TransactionsFreedClient);
        self.free_server_if_done(client.server);
    }

    /// Ends a server transaction: it matches no further request, and is freed once its client transactions are.
    pub fn close_server(&mut self, slot: ServerSlot) {
        let Some(server) = self.servers.at_mut(slot.0) else {
            return;
        };
        if server.state.is_pending() {
            self.pending -= 1;
        }
        server.state = server.state.terminated();
        for id in [
            server.timers.retransmit.take(),
            server.timers.timeout.take(),
        ]
        .into_iter()
        .flatten()
        {
            self.wheel.cancel(id);
        }
        if std::mem::take(&mut server.is_indexed) {
            let hash = server.key.folded();
            if let Ok(entry) = self.index.find_entry(hash, |other| *other == slot.0) {
                entry.remove();
            }
        }
        self.free_server_if_done(slot.0);
    }

    /// Makes a further client transaction's data from what one has.
    pub fn duplicate(
        &mut self,
        slot: ClientSlot,
        make: impl FnOnce(&C, &mut Arena) -> Option<C>,
    ) -> Option<C> {
        make(&self.clients.at(slot.0)?.data, &mut self.arena)
    }

    /// Keeps a stored response to answer a retransmitted request with, in place of the one before.
    pub fn keep_stored(&mut self, slot: ServerSlot, response: Stored) {
        match self.servers.at_mut(slot.0) {
            Some(server) => {
                if let Some(former) = server.response.replace(response) {
                    self.arena.release(former);
                }
            }
            None => self.arena.release(response),
        }
    }

    /// Keeps a copy of the response that a retransmitted request is answered with, in place of the one before.
    pub fn keep_response(&mut self, slot: ServerSlot, len: usize, write: impl FnOnce(&mut [u8])) {
        let Some(server) = self.servers.at_mut(slot.0) else {
            return;
        };
        if let Some(former) = server.response.take() {
            self.arena.release(former);
        }
        // At the arena's bound nothing is kept: a retransmission is then absorbed without an answer.
        if let Some((stored, buffer)) = self.arena.reserve(len) {
            write(buffer);
            server.response = Some(stored);
        }
    }

    /// Where the proxy keeps further messages.
    pub const fn arena_mut(&mut self) -> &mut Arena {
        &mut self.arena
    }

    /// A server transaction, to be changed.
    pub fn server_mut(&mut self, slot: ServerSlot) -> Option<&mut Server<S>> {
        self.servers.at_mut(slot.0)
    }

    /// A client transaction, to be changed.
    pub fn client_mut(&mut self, slot: ClientSlot) -> Option<&mut Client<C>> {
        self.clients.at_mut(slot.0)
    }

    /// The server transaction that a request belongs to.
    #[must_use]
    pub fn find_server(&self, key: ServerKey) -> Option<ServerSlot> {
        self.index
            .find(key.folded(), |slot| {
                self.servers
                    .at(*slot)
                    .is_some_and(|server| server.key == key)
            })
            .map(|slot| ServerSlot(*slot))
    }

    /// The client transaction that `id` names, if it is of that generation.
    #[must_use]
    pub fn find_client(&self, id: TransactionId) -> Option<ClientSlot> {
        self.clients
            .of_generation(id.slot, id.generation)
            .map(|_| ClientSlot(id.slot))
    }

    /// A server transaction.
    #[must_use]
    pub fn server(&self, slot: ServerSlot) -> Option<&Server<S>> {
        self.servers.at(slot.0)
    }

    /// A client transaction.
    #[must_use]
    pub fn client(&self, slot: ClientSlot) -> Option<&Client<C>> {
        self.clients.at(slot.0)
    }

    /// The name of a client transaction, for its branch.
    #[must_use]
    pub fn id_of(&self, slot: ClientSlot) -> Option<TransactionId> {
        let client = self.clients.at(slot.0)?;
        Some(TransactionId {
            worker: self.worker,
            slot: slot.0,
            generation: client.generation,
        })
    }

    /// The client transactions of a server transaction, the newest first.
    pub fn clients_of(&self, slot: ServerSlot) -> impl Iterator<Item = (ClientSlot, &Client<C>)> {
        let mut next = self
            .servers
            .at(slot.0)
            .and_then(|server| server.first_client);
        std::iter::from_fn(move || {
            let slot = next?;
            let client = self.clients.at(slot)?;
            next = client.next;
            Some((ClientSlot(slot), client))
        })
    }

    /// The request as it was received.
    #[must_use]
    pub fn request_of(&self, server: &Server<S>) -> &[u8] {
        self.arena.bytes(&server.request)
    }

    /// The response kept for retransmission.
    #[must_use]
    pub fn response_of(&self, server: &Server<S>) -> Option<&[u8]> {
        server
            .response
            .as_ref()
            .map(|stored| self.arena.bytes(stored))
    }

    /// The stored messages.
    #[must_use]
    pub const fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Transactions in Trying, Proceeding or Calling: those that hold an exit.
    #[must_use]
    pub const fn pending(&self) -> usize {
        self.pending
    }

    /// Transactions in being, server and client.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.servers.len() + self.clients.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Timers that run: for the leak checkers.
    #[must_use]
    pub fn timers(&self) -> usize {
        self.wheel.len()
    }

    /// Bytes taken from the system.
    #[must_use]
    pub fn footprint(&self) -> usize {
        let slots = self.servers.footprint() + self.clients.footprint();
        let found = self.index.allocation_size() + self.wheel.footprint();
        slots + found + self.arena.footprint()
    }

    fn server_timer(&mut self, now: Instant, slot: u32, event: ServerEvent) -> Option<Fired> {
        let timers = &mut self.servers.at_mut(slot)?.timers;
        timers.forget(event == ServerEvent::Retransmit);
        let slot = ServerSlot(slot);
        let outcome = self.server_event(now, slot, event)?;
        Some(Fired::Server(slot, outcome))
    }

    fn client_timer(&mut self, now: Instant, slot: u32, event: ClientEvent) -> Option<Fired> {
        let timers = &mut self.clients.at_mut(slot)?.timers;
        timers.forget(event == ClientEvent::Retransmit);
        let slot = ClientSlot(slot);
        let outcome = self.client_event(now, slot, event)?;
        Some(Fired::Client(slot, outcome))
    }

    fn unlink(&mut self, server: u32, slot: u32, next: Option<u32>) {
        let Some(owner) = self.servers.at_mut(server) else {
            return;
        };
        if owner.first_client == Some(slot) {
            owner.first_client = next;
            return;
        }
        let mut at = owner.first_client;
        while let Some(before) = at.and_then(|at| self.clients.at_mut(at)) {
            if before.next == Some(slot) {
                before.next = next;
                return;
            }
            at = before.next;
        }
    }

    fn free_server_if_done(&mut self, slot: u32) {
        let done = self
            .servers
            .at(slot)
            .is_some_and(|server| !server.is_indexed && server.first_client.is_none());
        if done && let Some(server) = self.servers.remove(slot) {
            self.arena.release(server.request);
            if let Some(response) = server.response {
                self.arena.release(response);
            }
            server.data.release(&mut self.arena);
            self.counters.decrement(Counter::TransactionsLiveServer);
            self.counters.increment(Counter::TransactionsFreedServer);
        }
    }
}

/// Room in the index and the wheel before they first grow.
const INDEX_LEN_AT_START: usize = 4_096;
