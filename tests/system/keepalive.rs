//! Phones behind a NAT that forgets: keepalives hold the way open, at the mapped address, on the connection, and over a kill -9; a
//! phone that answers no more is removed, and calls to it get 480.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::baresip::Baresip;
use super::bed::{Bed, Family, Link};
use super::calls::{Backend, configuration};
use super::scratch::Scratch;
use super::server::Server;

#[test]
fn a_phone_behind_a_nat_is_held_reachable_over_a_kill_and_a_silent_one_is_removed() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let link = bed.link();
    let configuration = with_nat(
        &configuration(&bed, Family::V4, Backend::Driver, 2),
        "keepalive = \"options\"\ncycle_s = 1\nremove_after = 4\n",
    );
    let server = Server::start(&bed.server, &scratch, &configuration);
    link.phones.ip("addr add 192.168.1.1/24 dev lo");
    link.phones.ip("addr add 192.168.1.10/24 dev lo");
    let phone = UdpPhone::new(link, "192.168.1.10:5060", "192.168.1.1:5060");
    let silent = UdpPhone::new(link, "10.77.0.2:42000", &link.sip(Family::V4).to_string());
    let caller = UdpPhone::new(link, "10.77.0.2:43000", &link.sip(Family::V4).to_string());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = Ending(&is_over);
        let sockets = nat_sockets(link);
        scope.spawn(|| nat(sockets, link.sip(Family::V4), MAPPING, &is_over));
        phone.register("lively");
        silent.register("silent");
        let (mut pings, deadline) = (0, Instant::now() + 2 * SOON);
        let removed = || server.metrics().sum("strowger_contacts_removed_total", "");
        while removed() == 0 && Instant::now() < deadline {
            let (further, others) = phone.serve(Duration::from_millis(500), 404);
            assert_eq!(others, 0);
            pings += further;
        }
        assert!(pings >= 4, "{pings} OPTIONS");
        assert_eq!(silent.drain().0, 4, "no fifth goes to who answers none");
        let metrics = server.metrics();
        assert_eq!(metrics.sum("strowger_contacts_removed_total", ""), 1);
        assert!(metrics.sum("strowger_keepalives_answered_total", "") >= 3);
        assert_eq!(metrics.sum("strowger_bindings", ""), 1, "{metrics}");
        assert_eq!(caller.call("silent"), 480);
        assert_eq!(caller.call("lively"), 100, "it is sent on");
        let (_, invites) = phone.serve(Duration::from_millis(400), 200);
        assert!(invites >= 1, "it comes through");

        // What was removed is out of the table as well, and nobody needs to register anew to be kept alive.
        server.wait_for("the store has it", SOON, |metrics| {
            metrics.sum("strowger_store_backlog", "") == 0
        });
        server.kill9();
        let server = Server::start(&bed.server, &scratch, &configuration);
        let (pings, _) = phone.serve(ROUND, 200);
        assert!(pings >= 3, "{pings} OPTIONS after the restart");
        assert_eq!(silent.drain().0, 0);
        let metrics = server.metrics();
        assert_eq!(metrics.sum("strowger_bindings", ""), 1, "{metrics}");
        assert_eq!(metrics.sum("strowger_contacts_removed_total", ""), 0);
        // An answer to the former start is a stray one at the most.
        let forged = metrics.sum("strowger_drops_total", "reason=\"forged_branch\"");
        assert_eq!(forged, 0, "{metrics}");
    });
}

#[test]
fn without_keepalives_that_nat_forgets_the_phone() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let link = bed.link();
    let configuration = configuration(&bed, Family::V4, Backend::Udp, 1);
    let _server = Server::start(&bed.server, &scratch, &configuration);
    link.phones.ip("addr add 192.168.1.1/24 dev lo");
    link.phones.ip("addr add 192.168.1.10/24 dev lo");
    let phone = UdpPhone::new(link, "192.168.1.10:5060", "192.168.1.1:5060");
    let caller = UdpPhone::new(link, "10.77.0.2:43000", &link.sip(Family::V4).to_string());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = Ending(&is_over);
        let sockets = nat_sockets(link);
        scope.spawn(|| nat(sockets, link.sip(Family::V4), SHORT_MAPPING, &is_over));
        phone.register("lively");
        assert_eq!(phone.serve(SHORT_MAPPING * 2, 200), (0, 0));
        caller.call("lively");
        assert_eq!(phone.serve(Duration::from_millis(300), 200), (0, 0));
    });
}

#[test]
fn crlfs_go_by_datagram_and_by_connection_and_pongs_are_tolerated() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let link = bed.link();
    let configuration = with_nat(
        &configuration(&bed, Family::V4, Backend::Driver, 2),
        "keepalive = \"crlf\"\ncycle_s = 1\n",
    );
    let server = Server::start(&bed.server, &scratch, &configuration);
    let phone = UdpPhone::new(link, "10.77.0.2:41000", &link.sip(Family::V4).to_string());
    phone.register("datagrams");
    let mut connected = TcpPhone::connect(link, link.sip(Family::V4));
    connected.register("connected");
    let until = Instant::now() + ROUND;
    let (mut by_udp, mut by_tcp) = (0, 0);
    while Instant::now() < until {
        let (datagram, stream) = (phone.receive(), connected.receive());
        if let Some(datagram) = datagram {
            assert_eq!(datagram, "\r\n\r\n");
            phone.send("\r\n");
            by_udp += 1;
        }
        if !stream.is_empty() {
            // In a stream two pongs are no different from a ping, so every second one is answered by a pong, which ends there.
            assert!(["\r\n", "\r\n\r\n"].contains(&&*stream), "{stream:?}");
            if stream.len() == 4 {
                connected.send("\r\n");
                by_tcp += 1;
            }
        }
    }
    assert!((3..=6).contains(&by_udp), "{by_udp}");
    assert!((3..=6).contains(&by_tcp), "{by_tcp}");
    let metrics = server.metrics();
    let count = |family| metrics.sum(family, "");
    assert!(count("strowger_keepalives_sent_total") >= by_udp + by_tcp);
    assert!(
        metrics.sum("strowger_keepalives_total", "kind=\"pong\"") >= by_udp - 1,
        "{metrics}"
    );
    assert_eq!(count("strowger_tcp_connections"), 1, "{metrics}");
    assert_eq!(count("strowger_drops_total"), 0, "{metrics}");
    assert_eq!(count("strowger_bindings"), 2, "{metrics}");
}

#[test]
fn a_phone_on_a_connection_answers_on_it_and_goes_with_it() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let link = bed.link();
    let configuration = with_nat(
        &configuration(&bed, Family::V4, Backend::Driver, 2),
        "keepalive = \"options\"\ncycle_s = 1\nremove_after = 4\n",
    );
    let server = Server::start(&bed.server, &scratch, &configuration);
    let mut phone = TcpPhone::connect(link, link.sip(Family::V4));
    phone.register("connected");
    let until = Instant::now() + ROUND;
    let mut pings = 0;
    while Instant::now() < until {
        let text = phone.receive();
        if text.starts_with("OPTIONS ") {
            assert!(
                text.contains("\r\nVia: SIP/2.0/TCP 10.77.0.1:5060;"),
                "{text}"
            );
            phone.send(&answer(&text, 200));
            pings += 1;
        }
    }
    assert!((3..=6).contains(&pings), "{pings}");
    let metrics = server.metrics();
    assert!(
        metrics.sum("strowger_keepalives_answered_total", "") >= 2,
        "{metrics}"
    );
    assert_eq!(metrics.sum("strowger_bindings", ""), 1);
    assert_eq!(metrics.sum("strowger_tcp_connections", ""), 1);
    drop(phone);
    let metrics = server.wait_for("it goes with its connection", SOON, |metrics| {
        metrics.sum("strowger_contacts_removed_total", "") == 1
    });
    assert_eq!(metrics.sum("strowger_bindings", ""), 0, "{metrics}");
    assert!(
        metrics.sum(
            "strowger_keepalives_unsent_total",
            "cause=\"not_connected\""
        ) >= 1
    );
    assert_eq!(
        metrics.sum("strowger_tcp_connections_opened_total", "by=\"us\""),
        0,
        "none is opened for it"
    );
}

#[test]
fn a_real_phone_answers_and_one_that_was_killed_is_removed() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let link = bed.link();
    let configuration = with_nat(
        &configuration(&bed, Family::V4, Backend::Udp, 2),
        "keepalive = \"options\"\ncycle_s = 1\ncontacts = \"all\"\nremove_after = 2\n",
    );
    let server = Server::start(&bed.server, &scratch, &configuration);
    let alice = Baresip::start(link, &scratch, "alice", 5070);
    let bob = Baresip::start(link, &scratch, "bob", 5080);
    let metrics = server.wait_for("both answer", SOON, |metrics| {
        metrics.sum("strowger_keepalives_answered_total", "") >= 8
    });
    assert_eq!(metrics.sum("strowger_bindings", ""), 2, "{metrics}");
    drop(bob);
    let metrics = server.wait_for("the one that was killed goes", SOON, |metrics| {
        metrics.sum("strowger_contacts_removed_total", "") == 1
    });
    assert_eq!(metrics.sum("strowger_bindings", ""), 1, "{metrics}");
    let caller = UdpPhone::new(link, "10.77.0.2:43000", &link.sip(Family::V4).to_string());
    assert_eq!(caller.call("bob"), 480);
    drop(alice);
}

/// What it costs: `STROWGER_KEEPALIVE_CONTACTS` contacts (2,000), each with its turn once in `STROWGER_KEEPALIVE_CYCLE_S` (2).
#[test]
fn each_contact_of_many_has_one_turn_a_cycle() {
    let number = |name: &str, usual: u32| {
        std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
    };
    let contacts = number("STROWGER_KEEPALIVE_CONTACTS", 2_000);
    let cycle_s = number("STROWGER_KEEPALIVE_CYCLE_S", 2);
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let link = bed.link();
    let base = configuration(&bed, Family::V4, Backend::Driver, 2);
    for keepalive in ["off", "crlf", "options"] {
        let nat = format!("keepalive = \"{keepalive}\"\ncycle_s = {cycle_s}\n");
        let server = Server::start(
            &bed.server,
            &scratch,
            &with_nat(&format!("{base}[store]\nurl = \"none\"\n"), &nat),
        );
        let phones = UdpPhone::new(link, "10.77.0.2:41000", &link.sip(Family::V4).to_string());
        phones.register_many(contacts);
        let cycle = Duration::from_secs(cycle_s.into());
        // The first round met contacts that were not there yet.
        phones.answer_for(cycle);
        let (before, cpu_before) = (server.metrics(), cpu(&server));
        let mut slots = phones.answer_for(cycle * 2);
        let (after, cpu_after) = (server.metrics(), cpu(&server));
        let grown = |family| after.sum(family, "") - before.sum(family, "");
        let sent = grown("strowger_keepalives_sent_total");
        slots.sort_unstable();
        println!(
            "{keepalive}: {contacts} contacts, {cycle_s} s: {sent} sent in {:?}, {} answered, CPU {:?}; 10 ms slots: median {}, q99 {}, max {}",
            cycle * 2,
            grown("strowger_keepalives_answered_total"),
            cpu_after - cpu_before,
            slots[slots.len() / 2],
            slots[slots.len() * 99 / 100],
            slots[slots.len() - 1],
        );
        if keepalive != "off" {
            let expected = u64::from(2 * contacts);
            assert!(
                sent > expected / 2 && sent < expected + expected / 8,
                "{sent} of {expected}"
            );
        }
        assert_eq!(after.sum("strowger_bindings", ""), u64::from(contacts));
    }
}

/// The processor time that the server has had.
fn cpu(server: &Server<'_>) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    // proc(5): utime and stime are fields 14 and 15, in hundredths of a second.
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: u64 = ticks
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    Duration::from_millis(10 * ticks)
}

/// The configuration with a `[nat]` section, and a store beside it.
fn with_nat(configuration: &str, nat: &str) -> String {
    format!("{configuration}[nat]\n{nat}")
}

/// A NAT at 192.168.1.1:5060 inside and 10.77.0.2:41000 outside. It lets packets in for so long after the last one that went
/// out: what comes in holds nothing open (RFC 4787 4.3).
fn nat(
    (inside, outside): (UdpSocket, UdpSocket),
    server: SocketAddr,
    mapping: Duration,
    is_over: &AtomicBool,
) {
    let (mut phone, mut used) = (None, Instant::now());
    let mut buffer = [0; 4_096];
    while !is_over.load(Ordering::SeqCst) {
        if let Ok((len, from)) = inside.recv_from(&mut buffer) {
            (phone, used) = (Some(from), Instant::now());
            outside.send_to(&buffer[..len], server).expect("a way");
        }
        if let Ok((len, _)) = outside.recv_from(&mut buffer)
            && let Some(phone) = phone.filter(|_| used.elapsed() < mapping)
        {
            inside.send_to(&buffer[..len], phone).expect("a way");
        }
    }
}

fn nat_sockets(link: &Link) -> (UdpSocket, UdpSocket) {
    let bind = || (socket("192.168.1.1:5060"), socket("10.77.0.2:41000"));
    link.phones.inside(bind)
}

/// Ends the NAT with the test, however that ends.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A phone that speaks by datagrams.
struct UdpPhone {
    socket: UdpSocket,
    own: SocketAddr,
    server: SocketAddr,
}

impl UdpPhone {
    fn new(link: &Link, own: &str, server: &str) -> Self {
        Self {
            socket: link.phones.inside(|| socket(own)),
            own: own.parse().expect("an address"),
            server: server.parse().expect("an address"),
        }
    }

    fn send(&self, text: &str) {
        self.socket
            .send_to(text.as_bytes(), self.server)
            .expect("a way");
    }

    fn receive(&self) -> Option<String> {
        let mut buffer = [0; 4_096];
        let len = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..len]).into_owned())
    }

    /// Registers with a contact that only its NAT knows the way to.
    fn register(&self, user: &str) {
        self.send(&register(user, "UDP", "192.168.1.10:5060"));
        let answer = self.await_answer();
        assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    }

    /// Answers every OPTIONS with `status` for `span`; gives how many came, and how many other requests.
    fn serve(&self, span: Duration, status: u16) -> (usize, usize) {
        let until = Instant::now() + span;
        let (mut pings, mut others) = (0, 0);
        while Instant::now() < until {
            let Some(text) = self.receive() else { continue };
            if text.starts_with("OPTIONS sip:lively@192.168.1.10:5060 SIP/2.0\r\n") {
                pings += 1;
                self.send(&answer(&text, status));
            } else {
                others += 1;
            }
        }
        (pings, others)
    }

    /// Registers so many users whose contacts all are behind this one address.
    fn register_many(&self, contacts: u32) {
        let mut registered = 0;
        for first in (0..contacts).step_by(64) {
            let last = contacts.min(first + 64);
            for user in first..last {
                self.send(&register(
                    &format!("user{user}"),
                    "UDP",
                    "192.168.1.10:5060",
                ));
            }
            while registered < last {
                let text = self.await_answer();
                registered += u32::from(text.starts_with("SIP/2.0 200"));
            }
        }
    }

    /// Answers every OPTIONS for `span`; gives how many keepalives came in each 10 ms.
    fn answer_for(&self, span: Duration) -> Vec<usize> {
        let start = Instant::now();
        let mut slots = vec![0; usize::try_from(span.as_millis() / 10).expect("a short while")];
        while start.elapsed() < span {
            let Some(text) = self.receive() else { continue };
            let slot = usize::try_from(start.elapsed().as_millis() / 10).expect("a short while");
            if let Some(slot) = slots.get_mut(slot) {
                *slot += 1;
            }
            if text.starts_with("OPTIONS ") {
                self.send(&answer(&text, 200));
            }
        }
        slots
    }

    /// Takes what has come, and answers nothing.
    fn drain(&self) -> (usize, usize) {
        let texts: Vec<String> = std::iter::from_fn(|| self.receive()).collect();
        let pings = texts.iter().filter(|text| text.starts_with("OPTIONS "));
        (pings.count(), texts.len())
    }

    /// Calls a user; gives the first status that comes back.
    fn call(&self, user: &str) -> u16 {
        let own = self.own;
        let number = self.own.port();
        self.send(&format!(
            "INVITE sip:{user}@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{user}{number}\r\nMax-Forwards: 70\r\n\
             From: <sip:caller@example.com>;tag=c\r\nTo: <sip:{user}@example.com>\r\nCall-ID: {user}-{number}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:caller@{own}>\r\nContent-Length: 0\r\n\r\n"
        ));
        let answer = self.await_answer();
        answer[8..11].parse().expect("a status")
    }

    fn await_answer(&self) -> String {
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            if let Some(text) = self.receive().filter(|text| text.starts_with("SIP/2.0 ")) {
                return text;
            }
        }
        panic!("no answer")
    }
}

/// A phone that speaks over a connection.
struct TcpPhone {
    stream: TcpStream,
}

impl TcpPhone {
    fn connect(link: &Link, server: SocketAddr) -> Self {
        let stream = link.phones.inside(|| TcpStream::connect(server));
        let stream = stream.expect("the server listens");
        stream.set_read_timeout(Some(TICK)).expect("a socket");
        Self { stream }
    }

    fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("it is open");
    }

    /// What has come.
    fn receive(&mut self) -> String {
        let mut buffer = [0; 4_096];
        match self.stream.read(&mut buffer) {
            Ok(0) => panic!("the connection was closed"),
            Ok(len) => String::from_utf8_lossy(&buffer[..len]).into_owned(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                String::new()
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn register(&mut self, user: &str) {
        self.send(&register(user, "TCP", "192.168.1.11:5060"));
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            let answer = self.receive();
            if !answer.is_empty() {
                assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
                return;
            }
        }
        panic!("no answer")
    }
}

fn socket(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    socket.set_read_timeout(Some(TICK)).expect("a socket");
    socket
}

fn register(user: &str, transport: &str, contact: &str) -> String {
    format!(
        "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/{transport} {contact};branch=z9hG4bKr{user}\r\nMax-Forwards: 70\r\n\
         From: <sip:{user}@example.com>;tag=r\r\nTo: <sip:{user}@example.com>\r\nCall-ID: r-{user}\r\nCSeq: 1 REGISTER\r\n\
         Contact: <sip:{user}@{contact}>\r\nContent-Length: 0\r\n\r\n"
    )
}

/// The answer to a request.
fn answer(request: &str, status: u16) -> String {
    let kept = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
    let lines = request.split("\r\n");
    let copied = lines.filter(|line| kept.iter().any(|name| line.starts_with(name)));
    let copied: String = copied.map(|line| format!("{line}\r\n")).collect();
    let tagged = copied.replace(">\r\nCall-ID", ">;tag=phone\r\nCall-ID");
    format!("SIP/2.0 {status} Whatever\r\n{tagged}Content-Length: 0\r\n\r\n")
}

/// How long the NAT remembers: more than a restart takes on a busy machine, and less than the test.
const MAPPING: Duration = Duration::from_secs(6);
/// How long the one remembers that is to forget.
const SHORT_MAPPING: Duration = Duration::from_secs(2);
/// Five cycles and a bit.
const ROUND: Duration = Duration::from_millis(5_300);
const SOON: Duration = Duration::from_secs(10);
/// How long a read waits.
const TICK: Duration = Duration::from_millis(10);
