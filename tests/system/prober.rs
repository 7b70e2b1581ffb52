//! A caller and a callee with a clock finer than SIPp's: calls at a steady rate, and how long each answer took.
//!
//! The time of an answer counts from when its INVITE was to be sent, so that a server that stands still is not forgiven for what
//! could not be sent meanwhile. Each call is an INVITE, its 200 and ACK, a BYE and its 200. Its threads ask for short slices, as the
//! server's workers do: what is measured is the server, and not how long a phone waits for a processor that others use.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::bed::Link;
use super::watch::Stalls;

/// Calls `user` from and to sockets of the phones' namespace: `rate` calls a second for `span`.
pub(crate) fn call(link: &Link, server: SocketAddr, rate: u32, span: Duration) -> Answers {
    let phone = link.phone(super::bed::Family::V4);
    link.phones.inside(|| {
        let bind = || UdpSocket::bind(SocketAddr::new(phone, 0)).expect("an address of ours");
        let (caller, callee) = (bind(), bind());
        for socket in [&caller, &callee] {
            let patience = Some(Duration::from_millis(100));
            socket.set_read_timeout(patience).expect("a socket");
        }
        register(&callee, server);
        let calls = rate * u32::try_from(span.as_secs()).expect("a short while");
        let is_over = AtomicBool::new(false);
        let start = Instant::now() + Duration::from_millis(20);
        let (took, stalls) = Stalls::during(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    run_soon();
                    serve(&callee, &is_over);
                });
                scope.spawn(|| {
                    run_soon();
                    for number in 0..calls {
                        let due = start + Duration::from_secs(1) * number / rate;
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        let _ = caller.send_to(invite(&caller, number).as_bytes(), server);
                    }
                });
                let collected = scope.spawn(|| {
                    run_soon();
                    collect(&caller, server, start, calls, rate)
                });
                let outcome = collected.join();
                is_over.store(true, Ordering::SeqCst);
                outcome.expect("it ends")
            })
        });
        let is_telling = |number: u32, took: Duration| {
            let due = start + Duration::from_secs(1) * number / rate;
            !stalls.touch(due, due + took)
        };
        Answers::of(calls, took, is_telling)
    })
}

fn run_soon() {
    strowger::net::shorten_slices().expect("it takes no privilege");
}

/// How long the answers took.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    /// From the shortest to the longest, without those that came while the host stood still.
    sorted: Vec<Duration>,
    /// Calls that were answered, of those that were made.
    pub(crate) answered: u32,
    /// Calls that were made.
    pub(crate) calls: u32,
}

impl Answers {
    fn of(
        calls: u32,
        took: BTreeMap<u32, Duration>,
        is_telling: impl Fn(u32, Duration) -> bool,
    ) -> Self {
        let answered = u32::try_from(took.len()).expect("as many as calls");
        let telling = took
            .into_iter()
            .filter(|(number, took)| is_telling(*number, *took));
        let mut sorted: Vec<Duration> = telling.map(|(_, took)| took).collect();
        sorted.sort();
        assert!(
            sorted.len() * 10 >= answered as usize * 9,
            "the host stood still during {} of {answered} calls",
            answered as usize - sorted.len()
        );
        Self {
            sorted,
            answered,
            calls,
        }
    }

    /// What so many hundredths of the answers took at most.
    pub(crate) fn quantile(&self, percent: usize) -> Duration {
        let place = (self.sorted.len() * percent / 100).min(self.sorted.len() - 1);
        self.sorted[place]
    }
}

/// Takes the answers of `calls` calls, and hangs each call up; gives how long each took.
fn collect(
    caller: &UdpSocket,
    server: SocketAddr,
    start: Instant,
    calls: u32,
    rate: u32,
) -> BTreeMap<u32, Duration> {
    let (mut took, mut ended) = (BTreeMap::new(), 0);
    let until = start + Duration::from_secs(1) * calls / rate + Duration::from_secs(3);
    let mut buffer = [0; 4_096];
    while ended < calls && Instant::now() < until {
        let Ok(len) = caller.recv(&mut buffer) else {
            continue;
        };
        let now = Instant::now();
        let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
        let call_id = field(&text, "Call-ID: ");
        let number: u32 = call_id
            .split('@')
            .next()
            .and_then(|it| it.parse().ok())
            .expect("ours");
        if text.starts_with("SIP/2.0 200") && text.contains("INVITE\r\n") {
            let due = start + Duration::from_secs(1) * number / rate;
            took.entry(number)
                .or_insert(now.saturating_duration_since(due));
            for method in ["ACK", "BYE"] {
                let request = within(caller, &text, number, method);
                let _ = caller.send_to(request.as_bytes(), server);
            }
        } else if text.starts_with("SIP/2.0 200") {
            ended += 1;
        }
    }
    took
}

/// Answers every INVITE and BYE at once.
fn serve(callee: &UdpSocket, is_over: &AtomicBool) {
    let own = callee.local_addr().expect("bound");
    let mut buffer = [0; 4_096];
    while !is_over.load(Ordering::SeqCst) {
        let Ok((len, from)) = callee.recv_from(&mut buffer) else {
            continue;
        };
        let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
        if text.starts_with("ACK") {
            continue;
        }
        let kept = ["Via:", "Record-Route:", "From:", "Call-ID:", "CSeq:"];
        let mut answer = String::from("SIP/2.0 200 OK\r\n");
        for line in text.split("\r\n") {
            if kept.iter().any(|name| line.starts_with(name)) {
                answer += &format!("{line}\r\n");
            } else if line.starts_with("To:") {
                let tag = if line.contains("tag=") {
                    ""
                } else {
                    ";tag=callee"
                };
                answer += &format!("{line}{tag}\r\n");
            }
        }
        answer += &format!("Contact: <sip:{CALLEE}@{own}>\r\nContent-Length: 0\r\n\r\n");
        let _ = callee.send_to(answer.as_bytes(), from);
    }
}

fn register(callee: &UdpSocket, server: SocketAddr) {
    let own = callee.local_addr().expect("bound");
    let request = format!(
        "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKr{port}\r\nMax-Forwards: 70\r\n\
         From: <sip:{CALLEE}@example.com>;tag=r\r\nTo: <sip:{CALLEE}@example.com>\r\nCall-ID: r{port}@prober\r\n\
         CSeq: 1 REGISTER\r\nContact: <sip:{CALLEE}@{own}>\r\nContact: <sip:{CALLEE}@{own};gone>;expires=0\r\n\
         Content-Length: 0\r\n\r\n",
        port = own.port(),
    );
    // One phone at a time: what the one before registered is removed first.
    for text in [
        request
            .replace(
                &format!(
                    "Contact: <sip:{CALLEE}@{own}>\r\nContact: <sip:{CALLEE}@{own};gone>;expires=0"
                ),
                "Contact: *\r\nExpires: 0",
            )
            .replace("Call-ID: r", "Call-ID: x")
            .replace("z9hG4bKr", "z9hG4bKx"),
        request.replace(
            &format!("Contact: <sip:{CALLEE}@{own};gone>;expires=0\r\n"),
            "",
        ),
    ] {
        callee.send_to(text.as_bytes(), server).expect("a way");
        let mut buffer = [0; 4_096];
        let len = (0..20)
            .find_map(|_| callee.recv(&mut buffer).ok())
            .expect("an answer");
        let answer = String::from_utf8_lossy(&buffer[..len]);
        assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    }
}

fn invite(caller: &UdpSocket, number: u32) -> String {
    let own = caller.local_addr().expect("bound");
    format!(
        "INVITE sip:{CALLEE}@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKi{port}-{number}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:caller@example.com>;tag=c{number}\r\nTo: <sip:{CALLEE}@example.com>\r\n\
         Call-ID: {number}@prober{port}\r\nCSeq: 1 INVITE\r\nContact: <sip:caller@{own}>\r\nContent-Length: 0\r\n\r\n",
        port = own.port(),
    )
}

/// A request in the dialog that the 200 `answer` set up.
fn within(caller: &UdpSocket, answer: &str, number: u32, method: &str) -> String {
    let own = caller.local_addr().expect("bound");
    let target = field(answer, "Contact: ").trim_matches(['<', '>']);
    let routes: Vec<&str> = answer
        .split("\r\n")
        .filter_map(|line| line.strip_prefix("Record-Route: "))
        .collect();
    let routes: String = routes
        .iter()
        .rev()
        .map(|route| format!("Route: {route}\r\n"))
        .collect();
    let cseq = if method == "ACK" { 1 } else { 2 };
    format!(
        "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{method}{port}-{number}\r\nMax-Forwards: 70\r\n\
         {routes}From: <sip:caller@example.com>;tag=c{number}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
         Content-Length: 0\r\n\r\n",
        port = own.port(),
        to = field(answer, "To: "),
        call_id = field(answer, "Call-ID: "),
    )
}

/// The value of the first field that begins so.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let mut lines = text.split("\r\n");
    lines
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_else(|| panic!("no {name}in {text}"))
}

const CALLEE: &str = "prober";
