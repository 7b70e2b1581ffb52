//! Phones that register with digest authentication, as many as one thread can play: each keeps its nonce and its count, answers
//! challenges, sends again after T1 and then at doubled intervals (RFC 3261 17.1.2.2), and comes back when a 503 says when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::time::{Duration, Instant};

use strowger::auth::{Algorithm, Proof, Qop};

/// Many phones, their sockets, and what has happened.
#[derive(Debug)]
pub(crate) struct Registrants {
    phones: Vec<Registrant>,
    sockets: Vec<UdpSocket>,
    server: SocketAddr,
    /// When something is to be sent: to a phone, in its attempt.
    due: BinaryHeap<Reverse<(Instant, usize, u32)>>,
    start: Instant,
    seconds: Vec<Second>,
    latencies: Vec<Duration>,
    pending: usize,
    text: String,
    /// The server's process, whose processor time is looked at, and what it was.
    watched: Option<(u32, Duration)>,
}

/// What happened in one second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Second {
    /// Phones that began.
    pub(crate) begun: u32,
    /// Phones that heard 200.
    pub(crate) registered: u32,
    /// Challenges.
    pub(crate) challenged: u32,
    /// Answers with 503.
    pub(crate) refused: u32,
    /// Messages sent again.
    pub(crate) again: u32,
    /// Processor time that the server took.
    pub(crate) processor: Duration,
}

#[derive(Debug)]
struct Registrant {
    ha1: String,
    algorithm: Algorithm,
    nonce: String,
    count: u32,
    cseq: u32,
    /// Of what it waits for now; none when it does not.
    attempt: Option<u32>,
    is_proving: bool,
    interval: Duration,
    begun: Instant,
    challenges: u32,
}

impl Registrants {
    /// Phones `u<n>` of the domain, all with the password that [`seed`] gives them, on sockets of `from`.
    pub(crate) fn new(numbers: Range<usize>, from: IpAddr, server: SocketAddr) -> Self {
        let sockets = (0..SOCKETS).map(|_| {
            let socket = UdpSocket::bind((from, 0)).expect("a port");
            socket.set_nonblocking(true).expect("it can");
            let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20);
            socket
        });
        let phones = numbers.map(|n| {
            let algorithm = if n % 2 == 0 {
                Algorithm::Sha256
            } else {
                Algorithm::Md5
            };
            let ha1 = algorithm.ha1(
                user(n).as_bytes(),
                DOMAIN.as_bytes(),
                password(n).as_bytes(),
            );
            Registrant {
                ha1: String::from_utf8_lossy(ha1.as_bytes()).into_owned(),
                algorithm,
                nonce: String::new(),
                count: 0,
                cseq: 0,
                attempt: None,
                is_proving: false,
                interval: T1,
                begun: Instant::now(),
                challenges: 0,
            }
        });
        Self {
            phones: phones.collect(),
            sockets: sockets.collect(),
            server,
            due: BinaryHeap::new(),
            start: Instant::now(),
            seconds: Vec::new(),
            latencies: Vec::new(),
            pending: 0,
            text: String::new(),
            watched: None,
        }
    }

    /// Looks at the processor time of this process, too.
    pub(crate) fn watch(&mut self, process: u32) {
        self.watched = Some((process, processor_time(process)));
    }

    /// Has those phones lose their nonces, as one does that starts anew.
    pub(crate) fn reboot(&mut self, which: impl Fn(usize) -> bool) {
        for (n, phone) in self.phones.iter_mut().enumerate() {
            if which(n) {
                phone.nonce.clear();
            }
        }
    }

    /// Has the phones register within `span`, evenly, and waits until all have, at most `patience`; gives what happened, by seconds.
    #[track_caller]
    pub(crate) fn register(
        &mut self,
        which: Range<usize>,
        span: Duration,
        patience: Duration,
    ) -> Vec<Second> {
        self.begin();
        let each = span.as_secs_f64() / which.len().max(1) as f64;
        for (place, n) in which.clone().enumerate() {
            let at = self.start + Duration::from_secs_f64(each * place as f64);
            self.due.push(Reverse((at, n, 0)));
        }
        self.pending = which.len();
        while self.pending > 0 {
            assert!(
                self.start.elapsed() < patience,
                "{} phones are not registered after {patience:?}: {:?}",
                self.pending,
                self.seconds
            );
            self.turn();
        }
        self.note_processor();
        std::mem::take(&mut self.seconds)
    }

    /// Has the phones register one after the other for `span`, always `width` at a time; gives how many did, and the processor time
    /// that the server took for them.
    pub(crate) fn saturate(&mut self, width: usize, span: Duration) -> (usize, Duration) {
        self.begin();
        let end = self.start + span;
        let mut next = 0;
        let mut registered = 0;
        while Instant::now() < end {
            while self.pending < width {
                self.due
                    .push(Reverse((Instant::now(), next % self.phones.len(), 0)));
                next += 1;
                self.pending += 1;
            }
            let before = self.pending;
            self.turn();
            registered += before - self.pending;
        }
        let before = self.watched.map(|(_, before)| before);
        self.note_processor();
        let after = self.watched.map(|(_, after)| after);
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.pending > 0 && Instant::now() < deadline {
            self.turn();
        }
        let spent = after.zip(before).map(|(after, before)| after - before);
        (registered, spent.unwrap_or_default())
    }

    /// How long each phone took from its first message to its 200, in the order of the answers, of the last registration.
    pub(crate) fn latencies(&self) -> &[Duration] {
        &self.latencies
    }

    fn begin(&mut self) {
        self.due.clear();
        self.seconds.clear();
        self.latencies.clear();
        self.pending = 0;
        self.start = Instant::now();
        self.note_processor();
    }

    /// Adds what the server has taken since the last look to the second that is under way.
    fn note_processor(&mut self) {
        if let Some((process, before)) = self.watched {
            let now = processor_time(process);
            self.watched = Some((process, now));
            if let Some(second) = self.seconds.last_mut() {
                second.processor += now - before;
            }
        }
    }

    /// Sends what is due and takes what has come.
    fn turn(&mut self) {
        let now = Instant::now();
        let mut sent = 0;
        while let Some(Reverse((at, n, attempt))) = self.due.peek().copied()
            && at <= now
            && sent < BURST
        {
            self.due.pop();
            sent += usize::from(self.act(now, n, attempt));
        }
        let mut buffer = [0; 2_048];
        let mut taken = 0;
        for socket in 0..self.sockets.len() {
            for _ in 0..BURST {
                let Ok(len) = self.sockets[socket].recv(&mut buffer) else {
                    break;
                };
                taken += 1;
                self.take(now, &buffer[..len]);
            }
        }
        if sent == 0 && taken == 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Begins (attempt 0), or sends again where the attempt still waits.
    fn act(&mut self, now: Instant, n: usize, attempt: u32) -> bool {
        let phone = &mut self.phones[n];
        if attempt == 0 {
            phone.begun = now;
            phone.challenges = 0;
            self.second(now).begun += 1;
            self.attempt(now, n);
        } else if phone.attempt == Some(attempt) {
            phone.interval = (phone.interval * 2).min(T2);
            let next = now + phone.interval;
            self.due.push(Reverse((next, n, attempt)));
            self.second(now).again += 1;
            self.send(n);
        } else {
            return false;
        }
        true
    }

    /// Sends a new request, with what the phone knows.
    fn attempt(&mut self, now: Instant, n: usize) {
        let phone = &mut self.phones[n];
        phone.cseq += 1;
        phone.attempt = Some(phone.cseq);
        phone.interval = T1;
        phone.is_proving = !phone.nonce.is_empty();
        if phone.is_proving {
            phone.count += 1;
        }
        self.due.push(Reverse((now + T1, n, phone.cseq)));
        self.send(n);
    }

    fn send(&mut self, n: usize) {
        let phone = &self.phones[n];
        let socket = &self.sockets[n % self.sockets.len()];
        let own = socket.local_addr().expect("it is bound");
        let (user, cseq) = (user(n), phone.cseq);
        let text = &mut self.text;
        text.clear();
        let _ = write!(
            text,
            "REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKp{n}x{cseq};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@{DOMAIN}>;tag=r{n}\r\nTo: <sip:{user}@{DOMAIN}>\r\nCall-ID: registrant-{n}\r\nCSeq: {cseq} REGISTER\r\n\
             Contact: <sip:{user}@{own}>;expires=3600\r\nUser-Agent: Registrant/1.0\r\n"
        );
        if phone.is_proving {
            let count = format!("{:08x}", phone.count);
            phone.prove(&user, &count, text);
        }
        text.push_str("Content-Length: 0\r\n\r\n");
        // A full buffer is a lost packet: it is sent again in its time.
        let _ = socket.send_to(text.as_bytes(), self.server);
    }

    fn take(&mut self, now: Instant, answer: &[u8]) {
        let answer = String::from_utf8_lossy(answer);
        let Some((n, cseq)) = branch(&answer) else {
            return;
        };
        if self
            .phones
            .get(n)
            .is_none_or(|phone| phone.attempt != Some(cseq))
        {
            return;
        }
        let phone = &mut self.phones[n];
        match answer.get(8..11) {
            Some("200") => {
                phone.attempt = None;
                let latency = now - phone.begun;
                self.latencies.push(latency);
                self.pending -= 1;
                self.second(now).registered += 1;
            }
            Some("401") => {
                phone.challenges += 1;
                assert!(
                    phone.challenges < 8,
                    "phone {n} is never believed: {answer}"
                );
                answer_of(&answer, phone.algorithm).clone_into(&mut phone.nonce);
                phone.count = 0;
                self.second(now).challenged += 1;
                self.attempt(now, n);
            }
            Some("503") => {
                phone.attempt = None;
                let wait = header(&answer, "Retry-After").parse().unwrap_or(1);
                self.second(now).refused += 1;
                // Again from the beginning, with a number that is not 0: it began long ago.
                self.phones[n].cseq += 1;
                let attempt = self.phones[n].cseq;
                self.phones[n].attempt = Some(attempt);
                let at = now + Duration::from_secs(wait);
                self.due.push(Reverse((at, n, attempt)));
            }
            other => panic!("phone {n}: {other:?}: {answer}"),
        }
    }

    fn second(&mut self, now: Instant) -> &mut Second {
        let place = usize::try_from((now - self.start).as_secs()).expect("few");
        if self.seconds.len() <= place {
            self.note_processor();
            self.seconds.resize(place + 1, Second::default());
        }
        &mut self.seconds[place]
    }
}

impl Registrant {
    fn prove(&self, user: &str, count: &str, text: &mut String) {
        let uri = format!("sip:{DOMAIN}");
        let proof = Proof {
            method: b"REGISTER",
            uri: uri.as_bytes(),
            nonce: self.nonce.as_bytes(),
            qop: Some(Qop {
                name: b"auth",
                nc: count.as_bytes(),
                cnonce: b"c0ffee",
            }),
        };
        let response = self.algorithm.response(self.ha1.as_bytes(), &proof);
        let _ = write!(
            text,
            "Authorization: Digest username=\"{user}\", realm=\"{DOMAIN}\", nonce=\"{}\", uri=\"{uri}\", algorithm={}, \
             qop=auth, nc={count}, cnonce=\"c0ffee\", response=\"{}\"\r\n",
            self.nonce,
            self.algorithm.as_str(),
            String::from_utf8_lossy(response.as_bytes())
        );
    }
}

/// The SQL that makes users `u0..u<count>`, each with a password in the clear, as Kamailio keeps them with `calculate_ha1`.
pub(crate) fn seed(count: usize) -> String {
    format!(
        "INSERT INTO subscriber (username, domain, password) WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n \
         WHERE n + 1 < {count}) SELECT 'u' || n, '{DOMAIN}', 'secret' || n FROM n"
    )
}

/// What a process has taken of the processors so far.
fn processor_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("its name is in parentheses");
    // The 14th and 15th field are user and system time, in ticks of 10 ms on every Linux that we serve.
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks
        .map(|field| field.parse::<u64>().expect("ticks"))
        .sum();
    Duration::from_millis(10 * ticks)
}

fn user(n: usize) -> String {
    format!("u{n}")
}

fn password(n: usize) -> String {
    format!("secret{n}")
}

/// The phone and the CSeq that our branch names.
fn branch(answer: &str) -> Option<(usize, u32)> {
    let from = answer.find("z9hG4bKp")? + 8;
    let rest = &answer[from..];
    let end = rest.find([';', '\r', ','])?;
    let (n, cseq) = rest[..end].split_once('x')?;
    Some((n.parse().ok()?, cseq.parse().ok()?))
}

/// The nonce of the challenge for an algorithm.
fn answer_of(answer: &str, algorithm: Algorithm) -> &str {
    let wanted = format!("algorithm={}", algorithm.as_str());
    let challenge = answer
        .lines()
        .find(|line| line.starts_with("WWW-Authenticate") && line.contains(&wanted))
        .unwrap_or_else(|| panic!("no {wanted} in {answer}"));
    let from = challenge.find("nonce=\"").expect("a nonce") + 7;
    let len = challenge[from..].find('"').expect("its end");
    &challenge[from..from + len]
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let line = answer.lines().find_map(|line| line.strip_prefix(name));
    line.map_or("", |value| value.trim_start_matches(':').trim())
}

/// The domain and the realm of all of them.
pub(crate) const DOMAIN: &str = "example.com";
const SOCKETS: usize = 8;
/// What is sent, and taken from one socket, before the other has its turn.
const BURST: usize = 64;
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
