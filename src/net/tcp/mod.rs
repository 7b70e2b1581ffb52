//! TCP beside UDP (RFC 3261 18, RFC 5923): a thread of its own has all connections, and meets the workers by queues alone, so
//! that no peer, however slow, ever makes a worker wait.
//!
//! What comes is framed here (`inlet`), and a whole message is given to the [`Recipient`], which finds its worker; where that
//! one's mailbox is full, the connection is not read on (the peer's sender waits, and nothing is lost). What goes comes by the
//! `outbox`; it takes the connection that is open to the peer, or one is opened (`table`, `connection`). What does not get
//! there is given back to the worker that sent it. `reactor` is the thread, `roster` what the workers may ask about it.

mod backlog;
mod connection;
mod inlet;
mod listener;
mod outbox;
mod reactor;
mod roster;
mod table;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

pub use self::outbox::TcpTransmitter;

use self::listener::Listener;
use self::outbox::Outbox;
use self::reactor::Reactor;
use self::roster::Roster;
use super::error::NetError;
use super::open::patiently;
use crate::counters::Counters;
use crate::datagram::{Datagram, Flow, ListenerId, WorkerId};
use crate::time::{Duration, Instant};

/// Who takes what comes by TCP, and what does not get away by it. It is asked by the TCP thread, and must not wait.
pub trait Recipient: Send {
    /// The present moment.
    fn now(&self) -> Instant;

    /// Hands a whole message to the worker that it belongs to; where the message does not say which, `home` is a number that is
    /// the same for all of one connection.
    ///
    /// # Errors
    /// [`Busy`]: there is no room for it now.
    fn deliver(&mut self, message: &Datagram<'_>, home: usize) -> Result<Delivered, Busy>;

    /// Gives a message back to the worker that sent it, since no connection took it to `flow.peer`.
    ///
    /// # Errors
    /// [`Busy`]: there is no room for it now.
    fn give_back(&mut self, to: WorkerId, flow: &Flow, sent: &[u8]) -> Result<(), Busy>;
}

/// What a message that was handed over is, as far as its recipient can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// A SIP request that is to be answered, perhaps with mistakes.
    Request,
    /// Other SIP: a response, or an ACK.
    Sip,
    /// Something else: it speaks for nobody.
    Noise,
}

/// The recipient has no room now; it is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// What the configuration says of connections.
#[derive(Clone, Copy, Debug)]
pub struct TcpSettings {
    /// Connections in all. Reached: the oldest that has said nothing gives way; where there is none, the new one.
    pub connections_max: usize,
    /// Connections that one source may have opened: an address, or a /64 of IPv6. Reached: the new one is closed.
    pub per_source_max: usize,
    /// How long a connection may be without a message or a keepalive. Longer: closed.
    pub idle: Duration,
}

/// TCP, listening but not yet serving.
#[derive(Debug)]
pub struct Tcp {
    listeners: Vec<Listener>,
    addresses: Arc<[(ListenerId, SocketAddr)]>,
    settings: TcpSettings,
    counters: Arc<Counters>,
    outbox: Arc<Outbox>,
    roster: Arc<Roster>,
}

/// The thread that serves TCP; dropped, it ends.
#[derive(Debug)]
pub struct TcpThread {
    outbox: Arc<Outbox>,
    thread: Option<JoinHandle<()>>,
}

impl Tcp {
    /// Listens on every address, in the calling thread's network namespace. `counters` are the TCP thread's own.
    ///
    /// # Errors
    /// An address cannot be listened on; the message names it.
    pub fn open(
        listeners: &[(ListenerId, SocketAddr)],
        settings: TcpSettings,
        counters: Arc<Counters>,
    ) -> Result<Self, NetError> {
        let listeners: Vec<Listener> = listeners
            .iter()
            .map(|(id, address)| {
                // A predecessor that was killed a moment ago may still hold it.
                let bound = patiently(
                    || Listener::bind(*id, *address),
                    |error| error.kind() == io::ErrorKind::AddrInUse,
                );
                bound.map_err(|source| NetError::Tcp {
                    address: *address,
                    source,
                })
            })
            .collect::<Result<_, _>>()?;
        let outbox = Outbox::new().map_err(system("a descriptor"))?;
        Ok(Self {
            addresses: listeners
                .iter()
                .map(|listener| (listener.id, listener.address))
                .collect(),
            listeners,
            roster: Arc::new(Roster::new(settings.connections_max)),
            settings,
            counters,
            outbox: Arc::new(outbox),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[(ListenerId, SocketAddr)] {
        &self.addresses
    }

    /// By which `worker` sends.
    #[must_use]
    pub fn transmitter(&self, worker: WorkerId) -> TcpTransmitter {
        TcpTransmitter::new(
            worker,
            Arc::clone(&self.outbox),
            Arc::clone(&self.roster),
            Arc::clone(&self.addresses),
        )
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread, or no descriptor.
    pub fn start(self, recipient: impl Recipient + 'static) -> Result<TcpThread, NetError> {
        let outbox = Arc::clone(&self.outbox);
        let reactor = Reactor::new(self, recipient).map_err(system("a descriptor"))?;
        let thread = thread::Builder::new()
            .name("tcp".to_owned())
            .spawn(move || {
                // No short slices here, as the workers have: calls over UDP go before streams.
                reactor.run();
            })
            .map_err(system("the TCP thread cannot be started"))?;
        Ok(TcpThread {
            outbox,
            thread: Some(thread),
        })
    }
}

impl TcpThread {
    /// Whether it has ended without being told to: a bug.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Has it accept nothing more, send what waits, and end; waits for that.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.outbox.stop();
            // Its panic has been reported by the panic handler.
            let _ = thread.join();
        }
    }
}

impl Drop for TcpThread {
    fn drop(&mut self) {
        self.end();
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> NetError {
    move |source| NetError::System { what, source }
}
