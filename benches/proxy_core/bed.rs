//! The core on a bench: a location, a proxy, an exit into memory, and a clock that stands until it is told to go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time;

use strowger::auth::Algorithm;
use strowger::counters::Counters;
use strowger::datagram::{Datagram, Flow, ListenerId, Transport, WorkerId};
use strowger::location::{Location, LocationSettings};
use strowger::proxy::domains::Domains;
use strowger::proxy::register::{Registrar, RegistrarSettings};
use strowger::proxy::{
    AuthSettings, Keys, Listener, MailboxFull, Output, Proxy, Question, ResolverFull, SendError,
    Settings, StoreFull, SubscriberQuestion,
};
use strowger::time::{Duration, Instant};

/// Messages that arrive together, as a worker takes them from a ring.
pub(crate) const BATCH: usize = 32;

/// What a program takes before it makes a bed, as a server does with `[limits] prefault`: more than any scenario holds.
pub(crate) const MEMORY: u64 = 512 << 20;

/// The address that the phones know.
pub(crate) const SERVER: &str = "192.0.2.1:5060";
pub(crate) const REALM: &str = "example.com";

/// A core, what it sends, and what it took.
pub(crate) struct Bed {
    pub(crate) proxy: Proxy,
    pub(crate) location: Arc<Location>,
    pub(crate) now: Instant,
    pub(crate) sent: Sent,
    pub(crate) taken: time::Duration,
    /// The time of each batch that was measured, in nanoseconds.
    batches: Vec<u64>,
}

/// What operations took.
pub(crate) struct Measured {
    nanoseconds: f64,
}

impl Measured {
    /// The time of one operation.
    pub(crate) fn nanoseconds(&self) -> f64 {
        self.nanoseconds
    }
}

/// A message to the core.
pub(crate) struct Arrival {
    pub(crate) bytes: Vec<u8>,
    pub(crate) source: SocketAddr,
}

/// The exit: a ring of buffers, as transmit frames are.
pub(crate) struct Sent {
    frames: Vec<[u8; 4_096]>,
    /// The length of each message since the last batch began.
    pub(crate) lens: Vec<usize>,
}

impl Sent {
    /// The messages since the last batch began.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let frames = self.frames.iter().zip(&self.lens);
        frames.map(|(frame, len)| &frame[..*len])
    }
}

impl Output for Sent {
    #[inline]
    fn send(
        &mut self,
        _: &Flow,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        let frame = self.frames.get_mut(self.lens.len());
        let frame = frame.ok_or(SendError::Full)?;
        write(frame.get_mut(..len).ok_or(SendError::TooLarge)?);
        self.lens.push(len);
        Ok(())
    }

    fn hand_off(&mut self, _: WorkerId, _: &Datagram<'_>) -> Result<(), MailboxFull> {
        Err(MailboxFull)
    }

    fn resolve(&mut self, _: &Question<'_>) -> Result<(), ResolverFull> {
        Err(ResolverFull)
    }

    fn ask_subscriber(&mut self, _: &SubscriberQuestion<'_>) -> Result<(), StoreFull> {
        Err(StoreFull)
    }

    fn want_rows(&mut self, _: &[u8]) -> Result<(), StoreFull> {
        Err(StoreFull)
    }

    fn is_connected(&self, _: &Flow) -> bool {
        false
    }
}

impl Bed {
    /// A server as an operator gets it, with room for a million transactions.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same, whose users prove who they are.
    pub(crate) fn with_digest() -> Self {
        Self::with(|settings| {
            settings.auth = Some(AuthSettings {
                realm: REALM.to_owned(),
                algorithms: vec![Algorithm::Md5],
                nonce_lifetime: Duration::from_secs(3_600),
                ephemeral: None,
            });
        })
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let location = Arc::new(Location::new(&LocationSettings {
            hash_key: [1; 16],
            bindings_max: 2_000_000,
            contacts_max: 10,
        }));
        let address: SocketAddr = SERVER.parse().expect("an address");
        let domains = Arc::new(Domains::new([REALM], [address.ip()]));
        let keys = Keys {
            steering: [5; 16],
            transactions: [7; 16],
            branches: vec![[1; 16]],
            tokens: vec![[2; 16]],
            tags: vec![[3; 16]],
            nonces: vec![[6; 16]],
        };
        let listener = Listener::new(ListenerId(0), address);
        let mut settings = Settings::alone(keys, vec![listener], &[REALM]);
        settings.transactions_max = 1 << 20;
        settings.message_bytes_max = 4 << 30;
        change(&mut settings);
        let registrar_settings = RegistrarSettings {
            keys: vec![[4; 16]],
            ..RegistrarSettings::default()
        };
        let registrar = Registrar::new(Arc::clone(&location), domains, registrar_settings);
        let counters = Arc::new(Counters::new());
        Self {
            proxy: Proxy::new(settings, Arc::clone(&location), registrar, counters),
            location,
            now: Instant::from_micros(1_700_000_000_000_000),
            sent: Sent {
                frames: vec![[0; 4_096]; 8 * BATCH],
                lens: Vec::with_capacity(8 * BATCH),
            },
            taken: time::Duration::ZERO,
            batches: Vec::new(),
        }
    }

    /// Lets a batch of messages arrive, `span` after the one before.
    pub(crate) fn receive(&mut self, span: Duration, arrivals: &[Arrival]) {
        self.now = self.now + span;
        self.sent.lens.clear();
        let datagrams: Vec<Datagram<'_>> = arrivals.iter().map(|a| a.datagram(self.now)).collect();
        let begun = time::Instant::now();
        measured_batch(&mut self.proxy, self.now, &datagrams, &mut self.sent);
        self.taken += begun.elapsed();
    }

    /// The same, not measured: so that the state is there.
    pub(crate) fn receive_unmeasured(&mut self, span: Duration, arrivals: &[Arrival]) {
        self.now = self.now + span;
        self.let_timers_fire();
        self.sent.lens.clear();
        for arrival in arrivals {
            let datagram = arrival.datagram(self.now);
            self.proxy.on_datagram(self.now, &datagram, &mut self.sent);
        }
    }

    /// Acts on all timers that are due.
    pub(crate) fn let_timers_fire(&mut self) {
        while self
            .proxy
            .next_deadline()
            .is_some_and(|due| due <= self.now)
        {
            self.sent.lens.clear();
            self.proxy.on_timeout(self.now, &mut self.sent);
        }
    }

    /// A batch has ended: what it took is one sample.
    pub(crate) fn note(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        let nanoseconds = u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX);
        self.batches.push(nanoseconds);
    }

    /// What an operation takes, each batch having had `operations`: the mean of the batches between the quartiles, which
    /// leaves out those that the host interrupted.
    pub(crate) fn measured(mut self, operations: usize) -> Measured {
        self.batches.sort_unstable();
        let (first, last) = (self.batches.len() / 4, self.batches.len() * 3 / 4);
        let middle = &self.batches[first..last.max(first + 1)];
        let mean = middle.iter().sum::<u64>() as f64 / middle.len() as f64;
        Measured {
            nanoseconds: mean / operations as f64,
        }
    }
}

impl Arrival {
    fn datagram(&self, now: Instant) -> Datagram<'_> {
        Datagram {
            bytes: &self.bytes,
            flow: Flow {
                listener: ListenerId(0),
                transport: Transport::Udp,
                peer: self.source,
            },
            received_at: now,
            handed_off: false,
        }
    }
}

/// What a worker's turn does with the core: a glance at all messages of a batch, each of them, then the timers that are due. Its name is what callgrind counts by.
#[inline(never)]
fn measured_batch(proxy: &mut Proxy, now: Instant, datagrams: &[Datagram<'_>], sent: &mut Sent) {
    for datagram in datagrams {
        proxy.glance(datagram.bytes);
    }
    proxy.look_ahead();
    for datagram in datagrams {
        proxy.on_datagram(now, datagram, sent);
    }
    if proxy.next_deadline().is_some_and(|due| due <= now) {
        proxy.on_timeout(now, sent);
    }
}
