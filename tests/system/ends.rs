//! The two ends of a message's way, as bare sockets: one that sends exact bytes, by UDP or TCP, and one that takes what the server
//! passed on and answers it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use strowger::sip::{self, Frame, Index, Parsed, Reply};

use super::namespace::Namespace;

/// By what a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Datagrams.
    Udp,
    /// A connection for each sender.
    Tcp,
}

/// Who sends bytes to the server, and gets what it sends back.
#[derive(Debug)]
pub(crate) enum Sender {
    /// By datagrams from one socket.
    Udp(UdpSocket),
    /// By one connection.
    Tcp(Stream),
}

/// One TCP connection, and what has come by it.
#[derive(Debug)]
pub(crate) struct Stream {
    stream: TcpStream,
    unread: Vec<u8>,
    is_closed: bool,
}

/// Who takes requests, by both transports at one address, and answers each with one status.
#[derive(Debug)]
pub(crate) struct Callee {
    udp: UdpSocket,
    listener: TcpListener,
    streams: Vec<Stream>,
    status: u16,
}

impl Sender {
    /// Opens the way from `local`, in `namespace`, to `server`; a connection takes whatever port it gets.
    pub(crate) fn open(
        namespace: &Namespace,
        transport: Transport,
        local: SocketAddr,
        server: SocketAddr,
    ) -> Self {
        namespace.inside(|| match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind(local).expect("an address of this namespace");
                socket.connect(server).expect("a way to the server");
                socket.set_nonblocking(true).expect("a socket");
                Self::Udp(socket)
            }
            Transport::Tcp => {
                let stream = TcpStream::connect_timeout(&server, CONNECT_MAX)
                    .expect("the server takes connections");
                Self::Tcp(Stream::new(stream))
            }
        })
    }

    /// Its own address, as the server sees it.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Udp(socket) => socket.local_addr(),
            Self::Tcp(stream) => stream.stream.local_addr(),
        }
        .expect("it is bound")
    }

    /// Sends exact bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        match self {
            Self::Udp(socket) => {
                let sent = socket.send(bytes).expect("a datagram leaves");
                assert_eq!(sent, bytes.len());
            }
            Self::Tcp(stream) => stream.send(bytes),
        }
    }

    /// Takes what has come: whole messages.
    pub(crate) fn take(&mut self) -> Vec<Vec<u8>> {
        match self {
            Self::Udp(socket) => std::iter::from_fn(|| datagram(socket))
                .map(|(bytes, _)| bytes)
                .collect(),
            Self::Tcp(stream) => stream.take(),
        }
    }

    /// Whether the server has closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Udp(_) => false,
            Self::Tcp(stream) => stream.is_closed,
        }
    }
}

impl Stream {
    fn new(stream: TcpStream) -> Self {
        stream.set_nonblocking(true).expect("a socket");
        Self {
            stream,
            unread: Vec::new(),
            is_closed: false,
        }
    }

    fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1))
                }
                Err(_) => {
                    self.is_closed = true;
                    return;
                }
            }
        }
    }

    fn take(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = [0; 65_536];
        while !self.is_closed {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_closed = true,
                Ok(len) => self.unread.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.is_closed = true,
            }
        }
        let mut messages = Vec::new();
        loop {
            match sip::frame(&self.unread, &mut Index::new()) {
                Frame::Partial => return messages,
                Frame::Keepalive(len) => drop(self.unread.drain(..len)),
                Frame::Message(len) => messages.push(self.unread.drain(..len).collect()),
                Frame::Unframed(_) => panic!(
                    "the server sends no such thing: {}",
                    self.unread.escape_ascii()
                ),
            }
        }
    }
}

impl Callee {
    /// Listens at `address` in `namespace` and will answer every request but ACK with `status`.
    pub(crate) fn open(namespace: &Namespace, address: SocketAddr, status: u16) -> Self {
        let (udp, listener) = namespace.inside(|| {
            let udp = UdpSocket::bind(address).expect("an address of this namespace");
            let listener = TcpListener::bind(address).expect("an address of this namespace");
            (udp, listener)
        });
        udp.set_nonblocking(true).expect("a socket");
        listener.set_nonblocking(true).expect("a socket");
        Self {
            udp,
            listener,
            streams: Vec::new(),
            status,
        }
    }

    /// Sends a request to `server` by a datagram and gives the answer: before anything is to be taken.
    pub(crate) fn ask(&self, server: SocketAddr, request: &[u8]) -> Vec<u8> {
        self.udp
            .send_to(request, server)
            .expect("a datagram leaves");
        let deadline = Instant::now() + ANSWER_MAX;
        loop {
            match datagram(&self.udp) {
                Some((answer, _)) => return answer,
                None => assert!(
                    Instant::now() < deadline,
                    "no answer to {}",
                    request.escape_ascii()
                ),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes the requests that have come and answers them.
    pub(crate) fn take(&mut self) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        while let Some((bytes, from)) = datagram(&self.udp) {
            if let Some(answer) = answer(&bytes, from, self.status) {
                self.udp.send_to(&answer, from).expect("a datagram leaves");
            }
            taken.push(bytes);
        }
        while let Ok((stream, _)) = self.listener.accept() {
            self.streams.push(Stream::new(stream));
        }
        for stream in &mut self.streams {
            let Ok(peer) = stream.stream.peer_addr() else {
                continue;
            };
            for bytes in stream.take() {
                if let Some(answer) = answer(&bytes, peer, self.status) {
                    stream.send(&answer);
                }
                taken.push(bytes);
            }
        }
        taken
    }
}

fn datagram(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 65_536];
    let (len, from) = socket.recv_from(&mut buffer).ok()?;
    buffer.truncate(len);
    Some((buffer, from))
}

/// The response to a request; none to an ACK, and to what is no request.
fn answer(bytes: &[u8], from: SocketAddr, status: u16) -> Option<Vec<u8>> {
    let mut index = Index::new();
    let Parsed::Good(message) = sip::parse(bytes, &mut index) else {
        return None;
    };
    if !message.is_request() || message.method() == sip::Method::Ack {
        return None;
    }
    let reply = Reply::new(&message, status, ANSWER_PHRASE)
        .to_tag(b"callee")
        .received(from)
        .record_route(true);
    let mut out = vec![0; reply.len()];
    reply.write(&mut out)?;
    Some(out)
}

/// The reason phrase of the callee's answers, which no server makes by itself.
pub(crate) const ANSWER_PHRASE: &str = "Says The Callee";
const ANSWER_MAX: Duration = Duration::from_secs(2);
const CONNECT_MAX: Duration = Duration::from_secs(2);
