//! What the TCP tests stand on: the TCP thread on loopback, a recipient that keeps what it is given, and peers with plain sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration as Span, Instant as Moment};

use socket2::{Domain, Socket, Type};
use strowger::counters::{Counter, Counters};
use strowger::datagram::{Datagram, Flow, ListenerId, Transport, WorkerId};
use strowger::net::SendError;
use strowger::net::tcp::{Busy, Delivered, Recipient, Tcp, TcpSettings, TcpThread, TcpTransmitter};
use strowger::time::{Duration, Instant};

/// The TCP thread under test.
pub(crate) struct Stand {
    /// By which worker 3 sends.
    pub(crate) transmitter: TcpTransmitter,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    pub(crate) counters: Arc<Counters>,
    pub(crate) worker: Arc<Worker>,
    thread: Option<TcpThread>,
}

/// All that the workers have got.
#[derive(Debug)]
pub(crate) struct Worker {
    start: Moment,
    skipped_us: AtomicU64,
    is_busy: AtomicBool,
    received: Mutex<Vec<Received>>,
    returned: Mutex<Vec<Returned>>,
}

/// A message as it was delivered.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) text: String,
    pub(crate) flow: Flow,
    pub(crate) is_handed_off: bool,
}

/// A message that did not get away.
#[derive(Clone, Debug)]
pub(crate) struct Returned {
    pub(crate) to: WorkerId,
    pub(crate) peer: SocketAddr,
    pub(crate) text: String,
}

struct Post(Arc<Worker>);

impl Recipient for Post {
    fn now(&self) -> Instant {
        let skipped = self.0.skipped_us.load(Ordering::SeqCst);
        let real = u64::try_from(self.0.start.elapsed().as_micros()).expect("not so long");
        Instant::from_micros(START_US + skipped + real)
    }

    fn deliver(&mut self, message: &Datagram<'_>, _home: usize) -> Result<Delivered, Busy> {
        if self.0.is_busy.load(Ordering::SeqCst) {
            return Err(Busy);
        }
        let text = String::from_utf8_lossy(message.bytes).into_owned();
        let is_noise = text.starts_with("NOISE");
        lock(&self.0.received).push(Received {
            text,
            flow: message.flow,
            is_handed_off: message.handed_off,
        });
        Ok(if is_noise {
            Delivered::Noise
        } else {
            Delivered::Request
        })
    }

    fn give_back(&mut self, to: WorkerId, flow: &Flow, sent: &[u8]) -> Result<(), Busy> {
        if self.0.is_busy.load(Ordering::SeqCst) {
            return Err(Busy);
        }
        lock(&self.0.returned).push(Returned {
            to,
            peer: flow.peer,
            text: String::from_utf8_lossy(sent).into_owned(),
        });
        Ok(())
    }
}

impl Stand {
    /// One that listens on loopback.
    pub(crate) fn new(settings: TcpSettings) -> Self {
        Self::at("127.0.0.1:0", settings)
    }

    /// One that listens on `address`.
    pub(crate) fn at(address: &str, settings: TcpSettings) -> Self {
        let counters = Arc::new(Counters::new());
        let listener = (ListenerId(4), address.parse().expect("an address"));
        let tcp = Tcp::open(&[listener], settings, Arc::clone(&counters)).expect("a free port");
        let worker = Arc::new(Worker {
            start: Moment::now(),
            skipped_us: AtomicU64::new(0),
            is_busy: AtomicBool::new(false),
            received: Mutex::new(Vec::new()),
            returned: Mutex::new(Vec::new()),
        });
        Self {
            transmitter: tcp.transmitter(WorkerId(3)),
            address: tcp.addresses()[0].1,
            counters,
            thread: Some(tcp.start(Post(Arc::clone(&worker))).expect("a thread")),
            worker,
        }
    }

    /// A peer that connects.
    pub(crate) fn connect(&self) -> TcpStream {
        ready(TcpStream::connect(self.address).expect("it listens"))
    }

    /// A peer that connects from an address of its own.
    pub(crate) fn connect_from(&self, source: &str) -> TcpStream {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None);
        let socket = socket.expect("a socket");
        let source: SocketAddr = source.parse().expect("an address");
        socket.bind(&source.into()).expect("loopback");
        socket.connect(&self.address.into()).expect("it listens");
        ready(socket.into())
    }

    /// The flow to a peer.
    pub(crate) fn flow(&self, peer: SocketAddr) -> Flow {
        Flow {
            listener: ListenerId(4),
            transport: Transport::Tcp,
            peer,
        }
    }

    /// Has a message sent.
    pub(crate) fn send(&self, peer: SocketAddr, text: &str) -> Result<(), SendError> {
        self.transmitter
            .send(&self.flow(peer), text.len(), |buffer| {
                buffer.copy_from_slice(text.as_bytes());
            })
    }

    /// Whether a connection to a peer is said to be open.
    pub(crate) fn is_connected(&self, peer: SocketAddr) -> bool {
        self.transmitter.is_connected(&self.flow(peer))
    }

    /// Lets time pass, and has the thread notice.
    pub(crate) fn skip(&self, span: Duration) {
        self.worker
            .skipped_us
            .fetch_add(span.as_micros(), Ordering::SeqCst);
        // Nobody listens there: the refusal wakes the thread, and is taken out again.
        let before = self.worker.returned().len();
        let nobody = SocketAddr::new(self.address.ip(), 1);
        self.send(nobody, WAKE).expect("room");
        eventually("the refusal comes", || {
            self.worker.returned().len() > before
                && lock(&self.worker.returned).iter().any(|it| it.text == WAKE)
        });
        lock(&self.worker.returned).retain(|it| it.text != WAKE);
    }

    /// Waits until a counter stands at `count`.
    #[track_caller]
    pub(crate) fn expect(&self, counter: Counter, count: u64) {
        let what = format!(
            "{counter:?} is {count} and not {}",
            self.counters.read(counter)
        );
        eventually(&what, || self.counters.read(counter) == count);
    }

    /// Waits for `count` messages, and gives all there are.
    #[track_caller]
    pub(crate) fn received(&self, count: usize) -> Vec<Received> {
        eventually("the messages come", || {
            lock(&self.worker.received).len() >= count
        });
        lock(&self.worker.received).clone()
    }

    /// Waits for `count` messages that did not get away, and gives all there are.
    #[track_caller]
    pub(crate) fn returned(&self, count: usize) -> Vec<Returned> {
        eventually("the messages come back", || {
            self.worker.returned().len() >= count
        });
        self.worker.returned()
    }

    /// Whether the thread has taken all that was sent.
    pub(crate) fn is_taken(&self) -> bool {
        self.transmitter.is_idle()
    }

    /// Ends the thread.
    pub(crate) fn stop(&mut self) {
        self.thread.take().expect("it was not stopped").stop();
    }
}

impl Worker {
    /// Whether the mailboxes are full.
    pub(crate) fn set_busy(&self, is_busy: bool) {
        self.is_busy.store(is_busy, Ordering::SeqCst);
    }

    /// What did not get away.
    pub(crate) fn returned(&self) -> Vec<Returned> {
        lock(&self.returned).clone()
    }
}

/// Reads until `len` bytes are there, at most for a while.
#[track_caller]
pub(crate) fn read(stream: &mut TcpStream, len: usize) -> String {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).expect("so many bytes");
    String::from_utf8(bytes).expect("text")
}

/// Waits until the peer sees the end: true if it was orderly, false if the connection was reset.
#[track_caller]
pub(crate) fn is_closed_orderly(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
        Err(error) => panic!("it is still open: {error}"),
    }
}

/// Whether the connection stands.
pub(crate) fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).expect("a socket");
    matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// A message with a body of `len` bytes.
pub(crate) fn message(number: usize, len: usize) -> String {
    format!(
        "MESSAGE sip:a@b SIP/2.0\r\nCall-ID: {number}\r\nl: {len}\r\n\r\n{}",
        "x".repeat(len)
    )
}

/// Waits for something to become true.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let until = Moment::now() + PATIENCE;
    while !is_true() {
        assert!(Moment::now() < until, "not within {PATIENCE:?}: {what}");
        thread::sleep(Span::from_millis(1));
    }
}

/// Writes all of it.
pub(crate) fn write(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) {
    stream.write_all(bytes.as_ref()).expect("it is open");
}

fn ready(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_nodelay(true).expect("a socket");
    stream
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

/// Limits that nothing in a test reaches unawares.
pub(crate) const WIDE: TcpSettings = TcpSettings {
    connections_max: 100,
    per_source_max: 100,
    idle: Duration::from_secs(600),
};
const PATIENCE: Span = Span::from_secs(10);
const START_US: u64 = 1_700_000_000_000_000;
const WAKE: &str = "WAKE";
