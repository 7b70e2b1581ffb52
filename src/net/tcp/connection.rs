//! One connection: what it reads, what it has still to write, and by when its peer must have done something.
//!
//! It knows its socket and its own times; which connections there are is the table's business, and when it is called the
//! reactor's. Whatever a call says was the end of it, the reactor closes it and gives back what waited.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::event::epoll::EventFlags;

use super::backlog::{Backlog, write};
use super::inlet::{Inlet, Left, Piece, Taken};
use super::outbox::{Outbox, Parcel};
use super::{Busy, Delivered, Recipient};
use crate::counters::{Counter, Counters};
use crate::datagram::{Datagram, Flow, WorkerId};
use crate::limits::{
    TCP_BACKLOG_LEN_MAX, TCP_CONNECT_TIME, TCP_FIRST_MESSAGE_TIME, TCP_HALF_CLOSED_TIME,
    TCP_LINGER_TIME, TCP_MESSAGE_TIME, TCP_STALL_TIME,
};
use crate::sip::index::Index;
use crate::time::{Duration, Instant};
use crate::timer::TimerId;

/// An open connection, or one that is being opened.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// Between which ends.
    pub(super) flow: Flow,
    phase: Phase,
    inlet: Inlet,
    backlog: Backlog,
    /// Whether the peer opened it.
    pub(super) is_accepted: bool,
    /// Whether a whole SIP message has come, or we opened it for one of ours: others are shed first.
    has_spoken: bool,
    /// Requests that have come, less final responses that have gone.
    unanswered: u32,
    /// Whether the peer has said that nothing more will come.
    has_ended: bool,
    /// Whether it is not read on, since a mailbox is full.
    is_paused: bool,
    opened_at: Instant,
    /// When a whole message or a keepalive last came, or something went.
    active_at: Instant,
    /// When the first octet of the unfinished message came.
    begun_at: Option<Instant>,
    /// When the peer last took something of what waits.
    moved_at: Instant,
    /// Whether it stands in the queue of those that are to be resumed.
    pub(super) is_queued: bool,
    /// The one timer, and when it is to fire: never later than [`Connection::due`].
    pub(super) timer: Option<(TimerId, Instant)>,
    /// What epoll was last told to look for.
    pub(super) interest: EventFlags,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
    /// The peer sends no more; what is still to be answered may go until then.
    HalfClosed(Instant),
    /// Nothing that comes has a known place; it ends when all that came is answered, or then.
    Closing {
        until: Instant,
        is_answered: bool,
    },
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The peer closed it.
    Peer,
    /// It broke.
    Broken,
    /// Nothing went either way for the idle time.
    Idle,
    /// No whole message came in the time for the first.
    Silent,
    /// Another connection needed its place.
    Shed,
    /// A message took too long to come.
    SlowSender,
    /// The peer does not take what is sent to it.
    SlowReader,
    /// The place of the next message was lost.
    Unframed,
    /// The peer, or a host on the way, refused it.
    Refused,
    /// It did not come about in time.
    ConnectTimeout,
    /// The process ends.
    Stop,
}

/// What connections work with: one for all of them.
#[derive(Debug)]
pub(super) struct Desk<R> {
    pub(super) recipient: R,
    pub(super) counters: Arc<Counters>,
    pub(super) now: Instant,
    /// What is read goes here first.
    pub(super) scratch: Box<[u8]>,
    pub(super) index: Box<Index>,
    pub(super) outbox: Arc<Outbox>,
}

impl Connection {
    /// One that was accepted.
    pub(super) fn accepted(stream: TcpStream, flow: Flow, now: Instant) -> Self {
        Self::new(stream, flow, now, Phase::Open)
    }

    /// One that is being opened.
    pub(super) fn dialled(stream: TcpStream, flow: Flow, now: Instant) -> Self {
        Self::new(stream, flow, now, Phase::Connecting)
    }

    fn new(stream: TcpStream, flow: Flow, now: Instant, phase: Phase) -> Self {
        let is_accepted = phase == Phase::Open;
        Self {
            stream,
            flow,
            phase,
            inlet: Inlet::default(),
            backlog: Backlog::default(),
            is_accepted,
            has_spoken: !is_accepted,
            unanswered: 0,
            has_ended: false,
            is_paused: false,
            is_queued: false,
            opened_at: now,
            active_at: now,
            begun_at: None,
            moved_at: now,
            timer: None,
            interest: EventFlags::empty(),
        }
    }

    /// Acts on what epoll said.
    pub(super) fn on_event<R: Recipient>(
        &mut self,
        flags: EventFlags,
        home: usize,
        desk: &mut Desk<R>,
    ) -> Result<(), Cause> {
        if self.phase == Phase::Connecting {
            return self.on_connected(desk);
        }
        if flags.contains(EventFlags::OUT) {
            self.flush(desk)?;
        }
        let is_down = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        if self.has_ended {
            return if is_down { Err(self.end()) } else { Ok(()) };
        }
        if !self.is_paused && (is_down || flags.contains(EventFlags::IN)) {
            self.read(home, desk)?;
        }
        Ok(())
    }

    /// Offers what is held to the workers again.
    pub(super) fn resume<R: Recipient>(
        &mut self,
        home: usize,
        desk: &mut Desk<R>,
    ) -> Result<(), Cause> {
        self.is_paused = false;
        self.feed(0, home, desk)
    }

    /// Sends a message, or keeps it until it can be sent. Where this is the end of the connection, the message waits in it
    /// with the others.
    pub(super) fn send<R>(&mut self, parcel: &Parcel, desk: &Desk<R>) -> Result<(), Cause> {
        if parcel.is_final() {
            self.unanswered = self.unanswered.saturating_sub(1);
        }
        self.write(parcel.bytes(), Some(parcel.label.from), desk)
    }

    /// Whether a message may take this connection.
    pub(super) fn takes(&self, parcel: &Parcel) -> bool {
        match self.phase {
            Phase::Connecting | Phase::Open => true,
            Phase::HalfClosed(_) => parcel.is_response(),
            Phase::Closing { is_answered, .. } => !is_answered && parcel.is_response(),
        }
    }

    /// Whether it is open in both directions.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether its peer has sent a whole SIP message, or we opened it.
    pub(super) const fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    /// Whether it is not read on, since a mailbox is full.
    pub(super) const fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Whether nothing waits to be sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.backlog.is_empty()
    }

    /// What epoll is to look for.
    pub(super) fn wanted(&self) -> EventFlags {
        let mut flags = EventFlags::empty();
        if self.phase == Phase::Connecting || !self.backlog.is_empty() {
            flags |= EventFlags::OUT;
        }
        if self.is_paused {
            // A connection that is shut both ways is reported whether asked for or not: once is enough while it waits.
            flags |= EventFlags::ET;
        } else if self.phase != Phase::Connecting && !self.has_ended {
            flags |= EventFlags::IN;
        }
        flags
    }

    /// When its time is over if nothing happens, and what it has then failed to do.
    pub(super) fn due(&self, idle: Duration) -> (Instant, Cause) {
        let mut due = match self.phase {
            Phase::Connecting => return (self.opened_at + TCP_CONNECT_TIME, Cause::ConnectTimeout),
            Phase::HalfClosed(until) => (until, Cause::Peer),
            Phase::Closing { until, .. } => (until, Cause::Unframed),
            Phase::Open if self.has_spoken => (self.active_at + idle, Cause::Idle),
            Phase::Open => (self.opened_at + TCP_FIRST_MESSAGE_TIME, Cause::Silent),
        };
        let mut or = |at: Instant, cause| {
            if at < due.0 {
                due = (at, cause);
            }
        };
        if !self.backlog.is_empty() {
            or(self.moved_at + TCP_STALL_TIME, Cause::SlowReader);
        }
        if let Some(begun_at) = self.begun_at {
            or(begun_at + TCP_MESSAGE_TIME, Cause::SlowSender);
        }
        due
    }

    /// Has the kernel forget it at once, with all that is on its way: what its peer did earns no farewell.
    pub(super) fn abort(&self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO));
    }

    /// What waited to be sent, for the workers to be given back.
    pub(super) fn into_backlog(self) -> Backlog {
        self.backlog
    }

    /// Writes what waits, as much as the kernel takes.
    pub(super) fn flush<R>(&mut self, desk: &Desk<R>) -> Result<(), Cause> {
        let written = self.backlog.write_to(&mut &self.stream);
        let (len, messages) = written.map_err(|_| Cause::Broken)?;
        desk.counters.add(Counter::SentTcp, messages);
        if len > 0 {
            self.on_written(desk.now)?;
        }
        Ok(())
    }

    fn on_connected<R>(&mut self, desk: &Desk<R>) -> Result<(), Cause> {
        match self.stream.take_error() {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return Err(Cause::Refused),
        }
        if self.stream.peer_addr().is_err() {
            // Neither connected nor failed: it was asked too early.
            return Ok(());
        }
        desk.counters.increment(Counter::TcpConnected);
        self.phase = Phase::Open;
        self.moved_at = desk.now;
        self.flush(desk)
    }

    fn read<R: Recipient>(&mut self, home: usize, desk: &mut Desk<R>) -> Result<(), Cause> {
        match (&self.stream).read(&mut desk.scratch) {
            Ok(0) => self.on_end(desk.now),
            Ok(_) if self.is_closing() => Ok(()),
            Ok(len) => self.feed(len, home, desk),
            Err(error) if is_for_later(&error) => Ok(()),
            Err(_) => Err(Cause::Broken),
        }
    }

    /// The peer has said that nothing more will come (RFC 9293 3.6): what it asked may still be answered.
    fn on_end(&mut self, now: Instant) -> Result<(), Cause> {
        self.has_ended = true;
        (self.inlet, self.begun_at) = (Inlet::default(), None);
        match self.phase {
            Phase::Open if self.unanswered > 0 || !self.backlog.is_empty() => {
                self.phase = Phase::HalfClosed(now + TCP_HALF_CLOSED_TIME);
            }
            Phase::Closing {
                is_answered: false, ..
            } => {}
            Phase::Connecting | Phase::Open | Phase::HalfClosed(_) | Phase::Closing { .. } => {
                return Err(self.end());
            }
        }
        Ok(())
    }

    /// Takes the first `len` bytes of the scratch, and hands on what is whole.
    fn feed<R: Recipient>(
        &mut self,
        len: usize,
        home: usize,
        desk: &mut Desk<R>,
    ) -> Result<(), Cause> {
        let Desk {
            recipient,
            counters,
            now,
            scratch,
            index,
            outbox,
        } = desk;
        let (flow, received_at) = (self.flow, *now);
        let (mut messages, mut pings, mut requests, mut is_sip) = (0, 0, 0, false);
        let arrived = scratch.get(..len).unwrap_or_default();
        let left = self.inlet.feed(arrived, index, &mut |piece| match piece {
            Piece::Keepalive => {
                pings += 1;
                Taken::Yes
            }
            Piece::Message(bytes) | Piece::Unframed(bytes) => {
                let message = Datagram {
                    bytes,
                    flow,
                    received_at,
                    handed_off: false,
                };
                if outbox.is_crowded() {
                    return Taken::No;
                }
                match recipient.deliver(&message, home) {
                    Ok(verdict) => {
                        messages += 1;
                        requests += u32::from(verdict == Delivered::Request);
                        is_sip |= verdict != Delivered::Noise;
                        Taken::Yes
                    }
                    Err(Busy) => Taken::No,
                }
            }
        });
        counters.add(Counter::ReceivedTcp, messages + pings);
        // A keepalive is no SIP message, and is counted so whatever brings it.
        counters.add(Counter::ParsedNotSip, pings);
        counters.add(Counter::Keepalives, pings);
        self.has_spoken |= is_sip && left != Left::Unframed;
        self.unanswered = self.unanswered.saturating_add(requests);
        self.note_input(left, messages + pings > 0, desk);
        self.answer(pings, desk)
    }

    /// Keeps the times of what has come, and where the stream stands.
    fn note_input<R>(&mut self, left: Left, is_progress: bool, desk: &Desk<R>) {
        if is_progress {
            self.active_at = desk.now;
        }
        if left == Left::Blocked {
            self.is_paused = true;
            desk.counters.increment(Counter::TcpPauses);
        }
        if left == Left::Unframed {
            self.phase = Phase::Closing {
                until: desk.now + TCP_LINGER_TIME,
                is_answered: false,
            };
        }
        // While we do not read, the peer is not to blame for what is missing.
        if self.is_paused || !self.inlet.is_midway() {
            self.begun_at = None;
        } else if is_progress || self.begun_at.is_none() {
            self.begun_at = Some(desk.now);
        }
    }

    /// RFC 5626 3.5.1: each ping gets its pong.
    fn answer<R>(&mut self, pings: u64, desk: &Desk<R>) -> Result<(), Cause> {
        if pings == 0 || self.is_closing() {
            return Ok(());
        }
        let pongs = PONG.repeat(usize::try_from(pings).unwrap_or(1));
        self.write(&pongs, None, desk)
    }

    fn write<R>(
        &mut self,
        bytes: &[u8],
        from: Option<WorkerId>,
        desk: &Desk<R>,
    ) -> Result<(), Cause> {
        let is_first = self.backlog.is_empty();
        if is_first {
            self.moved_at = desk.now;
        }
        let written = if is_first && self.phase != Phase::Connecting {
            write(&mut &self.stream, bytes)
        } else {
            Ok(0)
        };
        match written {
            Ok(len) if len == bytes.len() => {
                desk.counters
                    .add(Counter::SentTcp, u64::from(from.is_some()));
                self.on_written(desk.now)
            }
            Ok(len) => {
                self.backlog.push(bytes, len, from);
                if self.backlog.len() > TCP_BACKLOG_LEN_MAX {
                    return Err(Cause::SlowReader);
                }
                Ok(())
            }
            Err(_) => {
                self.backlog.push(bytes, 0, from);
                Err(Cause::Broken)
            }
        }
    }

    fn on_written(&mut self, now: Instant) -> Result<(), Cause> {
        (self.moved_at, self.active_at) = (now, now);
        if !self.backlog.is_empty() {
            return Ok(());
        }
        if matches!(self.phase, Phase::HalfClosed(_)) && self.unanswered == 0 {
            return Err(self.end());
        }
        // What came before the place was lost is answered, too, as far as it may take.
        if !self.is_closing() || self.unanswered > 0 {
            return Ok(());
        }
        if self.has_ended {
            return Err(self.end());
        }
        // Closing at once would make the kernel reset the connection for what is still unread, and the answer with it.
        let _ = self.stream.shutdown(Shutdown::Write);
        self.phase = Phase::Closing {
            until: now + TCP_LINGER_TIME,
            is_answered: true,
        };
        Ok(())
    }

    const fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    /// Why it ends, where it is the peer who ends it.
    const fn end(&self) -> Cause {
        if self.is_closing() {
            Cause::Unframed
        } else {
            Cause::Peer
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Cause {
    /// What counts it.
    pub(super) const fn counter(self) -> Counter {
        match self {
            Self::Peer => Counter::TcpClosedByPeer,
            Self::Broken => Counter::TcpClosedBroken,
            Self::Idle => Counter::TcpClosedIdle,
            Self::Silent => Counter::TcpClosedSilent,
            Self::Shed => Counter::TcpClosedShed,
            Self::SlowSender => Counter::TcpClosedSlowSender,
            Self::SlowReader => Counter::TcpClosedSlowReader,
            Self::Unframed => Counter::TcpClosedUnframed,
            Self::Refused => Counter::TcpClosedRefused,
            Self::ConnectTimeout => Counter::TcpClosedTimeout,
            Self::Stop => Counter::TcpClosedStop,
        }
    }

    /// Whether the peer is owed no orderly end.
    pub(super) const fn is_abrupt(self) -> bool {
        matches!(
            self,
            Self::Silent | Self::Shed | Self::SlowSender | Self::SlowReader
        )
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// RFC 5626 3.5.1.
const PONG: &[u8] = b"\r\n";
