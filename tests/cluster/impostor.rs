//! A node that the test plays itself: it keeps all that it is sent, and answers or says what it is told to.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A node of the test's own; dropped, it is gone.
pub(crate) struct Impostor {
    pub(crate) address: SocketAddr,
    socket: UdpSocket,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    count: AtomicU64,
}

#[derive(Default)]
struct Shared {
    got: Mutex<Vec<Got>>,
    is_silent: AtomicBool,
    lists_nobody: AtomicBool,
    is_over: AtomicBool,
}

/// A message that came.
#[derive(Clone)]
pub(crate) struct Got {
    pub(crate) at: Instant,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn is_request(&self) -> bool {
        self.head.starts_with("KDMQ ")
    }

    /// What it is about: a list of nodes, or contacts.
    pub(crate) fn is_list(&self) -> bool {
        self.head.starts_with("KDMQ sip:notification_peer@")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim()
    }
}

impl Impostor {
    /// One that answers everything with 200, as Kamailio does.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).expect("an address of loopback");
        let wait = Some(Duration::from_millis(20));
        socket.set_read_timeout(wait).expect("a timeout");
        let shared = Arc::new(Shared::default());
        let thread = {
            let (socket, shared) = (socket.try_clone().expect("a socket"), Arc::clone(&shared));
            std::thread::spawn(move || serve(&socket, &shared))
        };
        Self {
            address,
            socket,
            shared,
            thread: Some(thread),
            count: AtomicU64::new(0),
        }
    }

    /// From now on it answers nothing, or everything.
    pub(crate) fn be_silent(&self, is_silent: bool) {
        self.shared.is_silent.store(is_silent, Ordering::SeqCst);
    }

    /// From now on its lists leave all others out, or not.
    pub(crate) fn list_nobody(&self, lists_nobody: bool) {
        let flag = &self.shared.lists_nobody;
        flag.store(lists_nobody, Ordering::SeqCst);
    }

    /// All that came so far.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.shared.got.lock().expect("no panic").clone()
    }

    /// Forgets what came.
    pub(crate) fn forget(&self) {
        self.shared.got.lock().expect("no panic").clear();
    }

    /// The requests about contacts so far.
    pub(crate) fn contacts(&self) -> Vec<Got> {
        let mut got = self.got();
        got.retain(|got| got.is_request() && !got.is_list());
        got
    }

    /// A KDMQ request of this node's.
    pub(crate) fn request(&self, to: SocketAddr, channel: &str, body: &str) -> String {
        let kind = if channel == "usrloc" {
            "application/json"
        } else {
            "text/plain"
        };
        let n = self.count.fetch_add(1, Ordering::SeqCst);
        let own = self.address;
        format!(
            "KDMQ sip:{channel}@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKi{n}i\r\nTo: <sip:{channel}@{to}>\r\n\
             From: <sip:{channel}@{own}>;tag={n}\r\nCSeq: 10 KDMQ\r\nCall-ID: i{n}i@{}\r\nContent-Length: {}\r\n\
             User-Agent: kamailio (5.6.3 (x86_64/linux))\r\nMax-Forwards: 1\r\nContent-Type: {kind}\r\n\r\n{body}",
            own.ip(),
            body.len()
        )
    }

    pub(crate) fn send(&self, to: SocketAddr, message: &[u8]) {
        // What ICMP says of an earlier one is told once.
        let _ = self.socket.send_to(message, to);
    }

    /// Sends a request and gives the status of its answer; none where none comes within two seconds.
    pub(crate) fn ask(&self, to: SocketAddr, channel: &str, body: &str) -> Option<u16> {
        let request = self.request(to, channel, body);
        self.ask_with(to, &request)
    }

    /// The same with a request that is ready.
    pub(crate) fn ask_with(&self, to: SocketAddr, request: &str) -> Option<u16> {
        let branch = request.split("branch=").nth(1)?.lines().next()?.to_owned();
        let (sent, wanted) = (Instant::now(), format!("branch={branch}"));
        self.send(to, request.as_bytes());
        while sent.elapsed() < Duration::from_secs(2) {
            let got = self.got();
            let is_it = |got: &&Got| !got.is_request() && got.head.contains(&wanted);
            if let Some(answer) = got.iter().rev().find(is_it) {
                return answer.head.split(' ').nth(1)?.parse().ok();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Its own list of nodes, with a line for each of `others`.
    pub(crate) fn list(&self, others: &[SocketAddr]) -> String {
        std::iter::once(&self.address)
            .chain(others)
            .map(|node| format!("sip:{node};status=active\r\n"))
            .collect()
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A contact as Kamailio 5.6 writes it.
pub(crate) fn contact(action: u32, user: &str, more: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    let name = user.split('@').next().unwrap_or_default();
    format!(
        "{{\"action\":{action},\"aor\":\"{user}\",\"ruid\":\"uloc-i-{user}\",\"c\":\"sip:{name}@10.9.9.9:5060\",\"received\":\"\",\"path\":\"\",\
         \"callid\":\"c-{user}\",\"user_agent\":\"T\",\"instance\":\"\",\"expires\":{},\"cseq\":1,\"flags\":0,\"cflags\":0,\"q\":-1,\
         \"last_modified\":{now},\"methods\":5951,\"reg_id\":0,\"server_id\":0{more}}}",
        now + 3_600
    )
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = vec![0; 65_536];
    while !shared.is_over.load(Ordering::SeqCst) {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let Some(got) = read(&buffer[..len]) else {
            continue;
        };
        if got.is_request() && !shared.is_silent.load(Ordering::SeqCst) {
            let lists_nobody = shared.lists_nobody.load(Ordering::SeqCst);
            let answer = answer(socket, &got, from, lists_nobody);
            let _ = socket.send_to(answer.as_bytes(), from);
        }
        shared.got.lock().expect("no panic").push(got);
    }
}

fn read(bytes: &[u8]) -> Option<Got> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(Got {
        at: Instant::now(),
        head: String::from_utf8_lossy(&bytes[..end + 2]).into_owned(),
        body: bytes[end + 4..].to_vec(),
    })
}

fn answer(socket: &UdpSocket, request: &Got, from: SocketAddr, lists_nobody: bool) -> String {
    let own = socket.local_addr().expect("it is bound");
    let mut answer = "SIP/2.0 200 OK\r\n".to_owned();
    for name in ["Via", "To", "From", "CSeq", "Call-ID"] {
        answer += &format!("{name}: {}\r\n", request.header(name));
    }
    let mut body = String::new();
    if request.is_list() {
        body = format!("sip:{own};status=active\r\n");
        if !lists_nobody {
            body += &format!("sip:{from};status=active\r\n");
        }
        answer += "Content-Type: text/plain\r\n";
    }
    answer + &format!("Content-Length: {}\r\n\r\n{body}", body.len())
}
