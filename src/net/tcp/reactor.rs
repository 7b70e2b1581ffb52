//! The TCP thread: one epoll loop over all connections, in the numbered order of [`Reactor::turn`].
//!
//! Every step takes a bounded share and goes on at the next turn, so that no connection keeps the others waiting. A connection
//! has one timer, set to the earliest of its times and moved only when that becomes earlier: an event costs O(1).

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use tracing::debug;

use super::connection::{Cause, Connection, Desk};
use super::listener::{Listener, is_exhausted};
use super::outbox::{Outbox, Parcel};
use super::table::{SLOTS_MAX, Table, Token};
use super::{Busy, Recipient, Tcp, TcpSettings};
use crate::counters::Counter;
use crate::datagram::{Flow, ListenerId, Transport, WorkerId};
use crate::limits::{
    BATCH, FIRED_MAX, TCP_ACCEPT_BATCH, TCP_ACCEPT_PAUSE, TCP_EVENTS_MAX, TCP_EVENTS_SHARE,
    TCP_READ_LEN, TCP_RETRY_TIME, TCP_STOP_TIME,
};
use crate::sip::index::Index;
use crate::time::{Duration, Instant};
use crate::timer::Wheel;

/// The thread's state.
pub(super) struct Reactor<R> {
    epoll: OwnedFd,
    listeners: Vec<Listener>,
    /// When accepting goes on, where descriptors have run out.
    accept_at: Option<Instant>,
    table: Table,
    timers: Wheel<Token>,
    outbox: Arc<Outbox>,
    /// Connections that are not read on, the one that waits longest first.
    paused: VecDeque<Token>,
    /// Messages that go back to their workers, the oldest first: of closed connections, so bounded by what those held.
    returned: VecDeque<Returned>,
    desk: Desk<R>,
    settings: TcpSettings,
    /// What epoll reported last: whose it is, and what.
    reported: Vec<(u64, EventFlags)>,
}

/// A message that goes back.
#[derive(Debug)]
struct Returned {
    to: WorkerId,
    flow: Flow,
    bytes: Box<[u8]>,
}

impl<R: Recipient> Reactor<R> {
    /// Has epoll look at the listeners and the outbox.
    pub(super) fn new(tcp: Tcp, recipient: R) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let now = recipient.now();
        let reactor = Self {
            epoll,
            accept_at: None,
            table: Table::new(tcp.settings.connections_max, tcp.roster),
            timers: Wheel::with_capacity(0),
            outbox: Arc::clone(&tcp.outbox),
            paused: VecDeque::new(),
            returned: VecDeque::new(),
            desk: Desk {
                recipient,
                counters: tcp.counters,
                now,
                scratch: vec![0; TCP_READ_LEN].into_boxed_slice(),
                index: Box::new(Index::new()),
                outbox: tcp.outbox,
            },
            settings: tcp.settings,
            listeners: tcp.listeners,
            reported: Vec::with_capacity(TCP_EVENTS_MAX),
        };
        let wake = EventData::new_u64(WAKE);
        epoll::add(&reactor.epoll, &*reactor.outbox, wake, EventFlags::IN)?;
        for (listener, number) in reactor.listeners.iter().zip(FIRST_LISTENER..) {
            let data = EventData::new_u64(number);
            epoll::add(&reactor.epoll, listener, data, EventFlags::IN)?;
        }
        Ok(reactor)
    }

    /// Serves until it is told to stop; then sends what waits, and closes everything.
    pub(super) fn run(mut self) {
        while !self.outbox.is_stopping() {
            self.turn();
        }
        // Those whose connections are still to be taken see them closed.
        self.listeners.clear();
        let until = self.desk.recipient.now() + TCP_STOP_TIME;
        loop {
            self.turn();
            let tokens = self.table.tokens();
            let is_flushed = |token: &Token| {
                let connection = self.table.connection_mut(*token);
                connection.is_none_or(|connection| connection.is_flushed())
            };
            let is_done = tokens.iter().all(is_flushed) && self.outbox.is_empty();
            if is_done || self.desk.now >= until {
                for token in tokens {
                    self.close(token, Cause::Stop);
                }
                return;
            }
        }
    }

    /// One turn.
    ///
    /// 1. What epoll reports, or nothing after the time until the next step is due. 2. What the workers send. 3. Connections
    ///    that waited for room in a mailbox, and messages that go back. 4. Timers that are due.
    fn turn(&mut self) {
        self.wait();
        self.desk.now = self.desk.recipient.now();
        let mut reported = std::mem::take(&mut self.reported);
        for (place, (data, flags)) in reported.drain(..).enumerate() {
            self.on_event(data, flags);
            // What goes must not wait for all that comes.
            if place % TCP_EVENTS_SHARE == TCP_EVENTS_SHARE - 1 {
                self.send_posted();
            }
        }
        self.reported = reported;
        self.send_posted();
        self.resume();
        self.give_back();
        self.expire();
        self.desk
            .counters
            .set(Counter::TcpConnections, self.table.len() as u64);
    }

    /// Sleeps until there is something to do.
    fn wait(&mut self) {
        let may_sleep = self.outbox.may_sleep();
        let now = self.desk.recipient.now();
        let until = if may_sleep {
            self.wakes_at(now)
        } else {
            Some(now)
        };
        let timeout = until.map(|until| timespec(until.since(now)));
        // Interrupted, it is as if nothing had happened.
        let mut events = [NO_EVENT; TCP_EVENTS_MAX];
        let count = epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()).unwrap_or(0);
        self.reported.extend(
            events
                .iter()
                .take(count)
                .map(|event| (event.data.u64(), event.flags)),
        );
        self.outbox
            .awake(self.reported.iter().any(|(data, _)| *data == WAKE));
    }

    /// When something is due though nothing happens.
    fn wakes_at(&self, now: Instant) -> Option<Instant> {
        let is_waiting = !self.paused.is_empty() || !self.returned.is_empty();
        let is_stopping = self.outbox.is_stopping();
        [
            self.timers.next_deadline(),
            (is_waiting || is_stopping).then(|| now + TCP_RETRY_TIME),
            self.accept_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn on_event(&mut self, data: u64, flags: EventFlags) {
        if data == WAKE {
            return;
        }
        if let Some(number) = data
            .checked_sub(FIRST_LISTENER)
            .filter(|number| *number < LISTENER_NUMBERS)
        {
            self.accept(usize::try_from(number).unwrap_or(usize::MAX));
            return;
        }
        let token = Token::from_u64(data);
        let desk = &mut self.desk;
        let Some(connection) = self.table.connection_mut(token) else {
            return;
        };
        let outcome = connection.on_event(flags, token.slot as usize, desk);
        self.settle(token, outcome);
    }

    // --- connections that come ----------------------------------------------------------------------------------

    fn accept(&mut self, number: usize) {
        for _ in 0..TCP_ACCEPT_BATCH {
            let Some(listener) = self.listeners.get(number) else {
                return;
            };
            match listener.accept() {
                Ok((stream, peer)) => {
                    let id = listener.id;
                    self.admit(id, stream, peer);
                }
                Err(error) if is_exhausted(&error) => return self.on_exhausted(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It was given up before we took it.
                Err(_) => {}
            }
        }
    }

    fn admit(&mut self, listener: ListenerId, stream: TcpStream, peer: SocketAddr) {
        if self.table.count_from(peer.ip()) >= self.settings.per_source_max {
            return self.refuse(&stream, peer, Counter::TcpRefusedSource);
        }
        if !self.make_room() {
            return self.refuse(&stream, peer, Counter::TcpRefusedTable);
        }
        self.desk.counters.increment(Counter::TcpAccepted);
        let flow = Flow {
            listener,
            transport: Transport::Tcp,
            peer,
        };
        let connection = Connection::accepted(stream, flow, self.desk.now);
        self.enter(connection);
    }

    fn refuse(&self, stream: &TcpStream, peer: SocketAddr, counter: Counter) {
        debug!(%peer, bound = counter.describe().label.1, "TCP connection refused");
        self.desk.counters.increment(counter);
        let _ = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Makes room for a connection; false where everyone here has more right to be.
    fn make_room(&mut self) -> bool {
        !self.table.is_full() || self.shed()
    }

    /// Closes the oldest connection that has said nothing; false where there is none.
    fn shed(&mut self) -> bool {
        let oldest = self.table.oldest_silent();
        if let Some(token) = oldest {
            self.close(token, Cause::Shed);
        }
        oldest.is_some()
    }

    /// No descriptor is left, though the limits would admit more.
    fn on_exhausted(&mut self) {
        self.desk.counters.increment(Counter::TcpRefusedDescriptors);
        if self.shed() {
            return;
        }
        // What waits in the kernel would be reported again and again.
        self.accept_at = Some(self.desk.now + TCP_ACCEPT_PAUSE);
        self.look_at_listeners(EventFlags::empty());
    }

    fn look_at_listeners(&self, flags: EventFlags) {
        for (listener, number) in self.listeners.iter().zip(FIRST_LISTENER..) {
            let data = EventData::new_u64(number);
            let _ = epoll::modify(&self.epoll, listener, data, flags);
        }
    }

    /// Gives a connection its place, its events and its timer.
    fn enter(&mut self, mut connection: Connection) -> Token {
        connection.interest = connection.wanted();
        let flags = connection.interest;
        let peer = connection.flow.peer;
        let token = self.table.insert(connection);
        debug!(%peer, "TCP connection");
        let outcome = match self.table.connection_mut(token) {
            Some(connection) => {
                let data = EventData::new_u64(token.to_u64());
                epoll::add(&self.epoll, connection, data, flags).map_err(|_| Cause::Broken)
            }
            None => Ok(()),
        };
        self.settle(token, outcome);
        token
    }

    // --- messages that go ---------------------------------------------------------------------------------------

    fn send_posted(&mut self) {
        for _ in 0..BATCH {
            let Some(parcel) = self.outbox.take() else {
                return;
            };
            self.send(&parcel);
            self.outbox.discard(parcel);
        }
    }

    fn send(&mut self, parcel: &Parcel) {
        let found = self.table.find(&parcel.label.flow);
        let open = found.filter(|token| {
            let connection = self.table.connection_mut(*token);
            connection.is_some_and(|connection| connection.takes(parcel))
        });
        let Some(token) = open.or_else(|| self.dial(&parcel.label.flow)) else {
            return self.give_back_later(
                parcel.label.from,
                parcel.label.flow,
                parcel.bytes().into(),
            );
        };
        if let Some(connection) = self.table.connection_mut(token) {
            let outcome = connection.send(parcel, &self.desk);
            self.settle(token, outcome);
        } else {
            self.give_back_later(parcel.label.from, parcel.label.flow, parcel.bytes().into());
        }
    }

    /// Opens a connection; none where that fails at once.
    fn dial(&mut self, flow: &Flow) -> Option<Token> {
        let has_room = !self.outbox.is_stopping() && self.make_room();
        let mut listeners = self.listeners.iter();
        let listener = listeners.find(|listener| listener.id == flow.listener)?;
        if !has_room {
            self.desk.counters.increment(Counter::TcpRefusedTable);
            return None;
        }
        match listener.dial(flow.peer) {
            Ok(stream) => {
                let connection = Connection::dialled(stream, *flow, self.desk.now);
                Some(self.enter(connection))
            }
            Err(error) => {
                debug!(peer = %flow.peer, %error, "TCP connection not opened");
                let counter = if is_exhausted(&error) {
                    Counter::TcpRefusedDescriptors
                } else {
                    Counter::TcpClosedRefused
                };
                self.desk.counters.increment(counter);
                None
            }
        }
    }

    fn give_back_later(&mut self, to: WorkerId, flow: Flow, bytes: Box<[u8]>) {
        self.desk.counters.increment(Counter::TcpUndelivered);
        self.returned.push_back(Returned { to, flow, bytes });
    }

    fn give_back(&mut self) {
        for _ in 0..BATCH {
            let Some(Returned { to, flow, bytes }) = self.returned.front() else {
                return;
            };
            match self.desk.recipient.give_back(*to, flow, bytes) {
                Ok(()) => self.returned.pop_front(),
                Err(Busy) => return,
            };
        }
    }

    // --- what has waited ----------------------------------------------------------------------------------------

    /// Offers the workers again what they had no room for. Where they have none still, only a few are asked.
    fn resume(&mut self) {
        let mut refusals = 0;
        for _ in 0..self.paused.len().min(BATCH) {
            let Some(token) = self.paused.pop_front() else {
                return;
            };
            let Some(connection) = self.table.connection_mut(token) else {
                continue;
            };
            connection.is_queued = false;
            let outcome = connection.resume(token.slot as usize, &mut self.desk);
            refusals += usize::from(connection.is_paused());
            self.settle(token, outcome);
            if refusals == RESUME_REFUSALS_MAX {
                return;
            }
        }
    }

    fn expire(&mut self) {
        if self.accept_at.is_some_and(|at| at <= self.desk.now) {
            self.accept_at = None;
            self.look_at_listeners(EventFlags::IN);
        }
        for _ in 0..FIRED_MAX {
            let Some(token) = self.timers.pop_expired(self.desk.now) else {
                return;
            };
            let Some(connection) = self.table.connection_mut(token) else {
                continue;
            };
            connection.timer = None;
            let (due, cause) = connection.due(self.settings.idle);
            let is_over = due <= self.desk.now;
            self.settle(token, if is_over { Err(cause) } else { Ok(()) });
        }
    }

    /// After every step of a connection: ends it, or keeps its events, its timer and its place in the queue true.
    fn settle(&mut self, token: Token, outcome: Result<(), Cause>) {
        if let Err(cause) = outcome {
            return self.close(token, cause);
        }
        self.table.list(token);
        let now = self.desk.now;
        let Some(connection) = self.table.connection_mut(token) else {
            return;
        };
        let wanted = connection.wanted();
        if wanted != connection.interest {
            connection.interest = wanted;
            let data = EventData::new_u64(token.to_u64());
            let _ = epoll::modify(&self.epoll, &*connection, data, wanted);
        }
        if connection.is_paused() && !connection.is_queued {
            connection.is_queued = true;
            self.paused.push_back(token);
        }
        let (due, _) = connection.due(self.settings.idle);
        match connection.timer {
            Some((_, at)) if at <= due => {}
            Some((timer, _)) => {
                self.timers.reschedule(now, timer, due);
                connection.timer = Some((timer, due));
            }
            None => connection.timer = Some((self.timers.schedule(now, due, token), due)),
        }
    }

    fn close(&mut self, token: Token, cause: Cause) {
        let Some(connection) = self.table.remove(token) else {
            return;
        };
        let flow = connection.flow;
        debug!(peer = %flow.peer, reason = cause.counter().describe().label.1, "TCP connection closed");
        self.desk.counters.increment(cause.counter());
        if let Some((timer, _)) = connection.timer {
            self.timers.cancel(timer);
        }
        if cause.is_abrupt() {
            connection.abort();
        }
        let mut backlog = connection.into_backlog();
        while let Some(waiting) = backlog.pop() {
            if let Some(from) = waiting.from {
                self.give_back_later(from, flow, waiting.into_bytes());
            }
        }
    }
}

fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(span.as_micros() % 1_000_000).unwrap_or(0) * 1_000,
    }
}

const NO_EVENT: Event = Event {
    flags: EventFlags::empty(),
    data: EventData::new_u64(0),
};
/// What epoll carries for the outbox.
const WAKE: u64 = u64::MAX;
/// What epoll carries for listener n is this and n: no slot of the table is so high.
const FIRST_LISTENER: u64 = SLOTS_MAX as u64;
const LISTENER_NUMBERS: u64 = crate::limits::LISTENERS_MAX as u64;
/// Connections that find no room still, after which the others are not asked.
const RESUME_REFUSALS_MAX: usize = 8;
