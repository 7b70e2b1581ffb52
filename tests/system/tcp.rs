//! TCP beside UDP: phones register and call over connections, and a peer that misbehaves meets a limit and harms nobody.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::bed::{Bed, Family, PHONE_INTERFACE};
use super::calls::{Backend, configuration};
use super::phones;
use super::scratch::Scratch;
use super::server::{Metrics, Server};
use super::sipp::Sipp;

/// Registers the first `count` phones over TCP, by SIPp's transport mode `mode`; nothing fails.
fn register_over_tcp(bed: &Bed, scratch: &Scratch, family: Family, mode: &str, count: u32) {
    let phones = &phones::groups(bed.link(), family, 0..count, 1)[0];
    let users = phones.users(scratch, |_| "register".to_owned());
    let link = bed.link();
    Sipp::new(
        &link.phones,
        scratch,
        "register",
        phones.address,
        phones.server,
    )
    .users(&users)
    .calls(count, 500)
    .argument("-t")
    .argument(mode)
    .argument("-max_socket")
    .argument("2000")
    .run(phones::PATIENCE)
    .assert_clean();
}

#[test]
fn phones_register_over_one_connection_and_over_many() {
    let bed = Bed::two_queues();
    for (family, backend) in [(Family::V4, Backend::Driver), (Family::V6, Backend::Udp)] {
        let scratch = Scratch::new();
        let configuration = configuration(&bed, family, backend, 2);
        let server = Server::start(&bed.server, &scratch, &configuration);
        register_over_tcp(&bed, &scratch, family, "t1", REGISTERS);
        register_over_tcp(&bed, &scratch, family, "tn", REGISTERS);
        let metrics = server.wait_for("the connections end", SOON, |metrics| {
            metrics.sum("strowger_tcp_connections", "") == 0
        });
        let count = |family, label| metrics.sum(family, label);
        let both = u64::from(2 * REGISTERS);
        assert_eq!(
            (
                count("strowger_messages_received_total", "backend=\"tcp\""),
                count("strowger_messages_received_total", ""),
                count("strowger_messages_sent_total", "backend=\"tcp\""),
                count("strowger_bindings", ""),
            ),
            (both, both, both, u64::from(REGISTERS)),
            "{metrics}"
        );
        assert_eq!(
            count("strowger_handoffs_total", ""),
            0,
            "each came to its worker at once\n{metrics}"
        );
        assert!(count("strowger_tcp_connections_opened_total", "by=\"peer\"") > 100);
    }
}

#[test]
fn a_caller_over_tcp_reaches_phones_over_udp() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let configuration = configuration(&bed, Family::V4, Backend::Driver, 2);
    let server = Server::start(&bed.server, &scratch, &configuration);
    let link = bed.link();
    let groups = phones::groups(link, Family::V4, 0..2 * CALLS, 2);
    phones::register(link, &scratch, &groups, 500);
    for (phones, mode) in groups.iter().zip(["t1", "tn"]) {
        let callee = phones.callee(link, &scratch, "callee", CALLS).start();
        std::thread::sleep(phones::LISTENING);
        let caller = phones
            .caller(link, &scratch, "caller", phones::CALLER_PORT, CALLS, 100)
            .hold(Duration::from_millis(100))
            .argument("-t")
            .argument(mode)
            .argument("-max_socket")
            .argument("500");
        caller.run(phones::PATIENCE).assert_clean();
        callee.conclude(phones::AFTERWARDS).assert_clean();
    }
    let metrics = server.metrics();
    // Of each call INVITE, ACK and BYE come by TCP; 100, 180, and two 200 go.
    let calls = u64::from(2 * CALLS);
    let of_tcp = |family| metrics.sum(family, "backend=\"tcp\"");
    assert_eq!(
        (
            of_tcp("strowger_messages_received_total"),
            of_tcp("strowger_messages_sent_total")
        ),
        (3 * calls, 4 * calls),
        "{metrics}"
    );
    assert_eq!(metrics.sum("strowger_retransmissions_total", ""), 0);
}

#[test]
fn callers_over_udp_and_over_tcp_reach_phones_over_tcp() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let configuration = configuration(&bed, Family::V4, Backend::Driver, 2);
    let server = Server::start(&bed.server, &scratch, &configuration);
    let link = bed.link();
    let phones = &phones::groups(link, Family::V4, 0..CALLS, 1)[0];
    let users = phones.users(&scratch, |_| "register".to_owned());
    Sipp::new(
        &link.phones,
        &scratch,
        "register",
        phones.address,
        phones.server,
    )
    .users(&users)
    .calls(CALLS, 500)
    .key("contact", &format!("{};transport=tcp", phones.address))
    .run(phones::PATIENCE)
    .assert_clean();
    for mode in ["u1", "t1"] {
        let callee = phones.callee(link, &scratch, "callee", CALLS);
        let callee = callee.argument("-t").argument("t1").start();
        std::thread::sleep(phones::LISTENING);
        phones
            .caller(link, &scratch, "caller", phones::CALLER_PORT, CALLS, 100)
            .hold(Duration::from_millis(100))
            .argument("-t")
            .argument(mode)
            .run(phones::PATIENCE)
            .assert_clean();
        callee.conclude(phones::AFTERWARDS).assert_clean();
    }
    let metrics = server.metrics();
    assert_eq!(
        metrics.sum("strowger_tcp_connections_opened_total", "by=\"us\""),
        2,
        "one for each callee, used for all calls\n{metrics}"
    );
    assert_eq!(metrics.sum("strowger_tcp_undelivered_total", ""), 0);
}

#[test]
fn a_phone_that_is_gone_is_noticed_at_once() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let configuration = configuration(&bed, Family::V4, Backend::Udp, 2);
    let server = Server::start(&bed.server, &scratch, &configuration);
    let link = bed.link();
    let sip = link.sip(Family::V4);
    link.phones.inside(|| {
        let mut peer = connect(sip);
        // Its Via tells the truth, so that it is no phone behind a NAT, which would be sought where it came from.
        let via = link.phone(Family::V4).to_string();
        // Nobody listens there: its kernel refuses.
        let contact = format!("<sip:a@{}:5999;transport=tcp>", link.phone(Family::V4));
        let register = options(sip, 1)
            .replace("192.0.2.9", &via)
            .replace("OPTIONS", "REGISTER")
            .replace(
                "Content-Length",
                &format!("Contact: {contact}\r\nContent-Length"),
            );
        write(&mut peer, register);
        assert_eq!(statuses(&mut peer, 1), ["200"]);
        // Nor is the connection there any more that it registered by.
        drop(peer);
        server.wait_for("it is closed", SOON, |metrics| {
            metrics.sum("strowger_tcp_connections", "") == 0
        });
        let mut peer = connect(sip);
        let begun = Instant::now();
        let message = options(sip, 2)
            .replace(&format!("OPTIONS sip:{sip}"), "MESSAGE sip:a@example.com")
            .replace("OPTIONS", "MESSAGE");
        write(&mut peer, message);
        let status = statuses(&mut peer, 1);
        assert!(
            begun.elapsed() < Duration::from_secs(3) && status[0].starts_with(['4', '5']),
            "{status:?} after {:?}",
            begun.elapsed()
        );
    });
    server.wait_for("the refusal is counted", SOON, |metrics| {
        closed(metrics, "connect_refused") > 0
    });
}

#[test]
fn a_stream_is_read_however_it_comes() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let configuration = configuration(&bed, Family::V4, Backend::Udp, 2);
    let server = Server::start(&bed.server, &scratch, &configuration);
    let sip = bed.link().sip(Family::V4);
    bed.link().phones.inside(|| {
        // Many in one segment, with a keepalive among them.
        let mut peer = connect(sip);
        let mut stream: String = (0..100).map(|n| options(sip, n)).collect();
        stream.insert_str(options(sip, 0).len(), "\r\n\r\n");
        write(&mut peer, &stream);
        assert_eq!(statuses(&mut peer, 100), ["200"; 100]);
        // One in many segments.
        for byte in options(sip, 100).into_bytes() {
            write(&mut peer, [byte]);
        }
        assert_eq!(statuses(&mut peer, 1), ["200"]);
        write(&mut peer, "\r\n\r\n");
        assert_eq!(read_some(&mut peer), "\r\n");
        // What cannot be framed is answered 400, and the connection ends in good order.
        let bad = options(sip, 101).replace("Length: 0", "Length: -1");
        write(&mut peer, bad + &options(sip, 102));
        assert_eq!(statuses(&mut peer, 1), ["400"]);
        assert_eq!(read_some(&mut peer), "");
        // A peer that closes its half after asking gets its answer.
        let mut peer = connect(sip);
        write(&mut peer, options(sip, 103));
        peer.shutdown(std::net::Shutdown::Write).expect("connected");
        assert_eq!(statuses(&mut peer, 1), ["200"]);
    });
    let metrics = server.wait_for("all of them end", SOON, |metrics| {
        metrics.sum("strowger_tcp_connections", "") == 0
    });
    assert_eq!(metrics.sum("strowger_keepalives_total", "kind=\"ping\""), 2);
    assert_eq!(
        metrics.sum("strowger_messages_received_total", ""),
        metrics.sum("strowger_messages_parsed_total", ""),
        "{metrics}"
    );
    assert_eq!(closed(&metrics, "unframed"), 1, "{metrics}");
}

#[test]
fn a_message_that_does_not_come_to_its_end_ends_its_connection() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let configuration = configuration(&bed, Family::V4, Backend::Udp, 2);
    let server = Server::start(&bed.server, &scratch, &configuration);
    let sip = bed.link().sip(Family::V4);
    let clerr = include_bytes!("../torture/clerr.dat");
    bed.link().phones.inside(|| {
        let mut peer = connect(sip);
        write(&mut peer, clerr);
        let begun = Instant::now();
        // RFC 4475 3.1.2.2 (clerr): over a stream, the octets that are missing may still come.
        let ended = peer.read(&mut [0]);
        assert!(
            ended.as_ref().is_ok_and(|len| *len == 0)
                || ended
                    .as_ref()
                    .is_err_and(|error| error.kind() == ErrorKind::ConnectionReset),
            "{ended:?}"
        );
        let lasted = begun.elapsed();
        assert!(
            (19..23).contains(&lasted.as_secs()),
            "it ended after {lasted:?}"
        );
    });
    let metrics = server.metrics();
    assert_eq!(
        closed(&metrics, "slow_sender") + closed(&metrics, "never_spoke"),
        1,
        "{metrics}"
    );
    assert_eq!(
        metrics.sum("strowger_messages_received_total", ""),
        0,
        "{metrics}"
    );
}

#[test]
fn a_peer_that_does_not_read_its_answers_is_closed_and_harms_nobody() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let configuration = configuration(&bed, Family::V4, Backend::Udp, 2);
    let server = Server::start(&bed.server, &scratch, &configuration);
    let sip = bed.link().sip(Family::V4);
    let before_kib = server.rss_kib();
    bed.link().phones.inside(|| {
        let mut greedy: Vec<TcpStream> = (0..20).map(|_| connect(sip)).collect();
        let burst: String = (0..100).map(|n| options(sip, n)).collect();
        for stream in &mut greedy {
            stream.set_nonblocking(true).expect("a socket");
        }
        // They ask for as long as they are let; beside them a well-behaved one is served.
        let until = Instant::now() + Duration::from_secs(30);
        let mut polite = connect(sip);
        let mut number = 1_000;
        let (mut asked, mut slowest) = (0, Duration::ZERO);
        while !greedy.is_empty() && Instant::now() < until {
            greedy.retain_mut(|stream| match stream.write(burst.as_bytes()) {
                Ok(_) => true,
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            });
            let begun = Instant::now();
            write(&mut polite, options(sip, number));
            assert_eq!(statuses(&mut polite, 1), ["200"]);
            slowest = slowest.max(begun.elapsed());
            asked += 1;
            number += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(greedy.is_empty(), "{} are still there", greedy.len());
        assert!(
            asked > 10 && slowest < Duration::from_secs(5),
            "{asked} asked, the slowest took {slowest:?}"
        );
    });
    let metrics = server.metrics();
    assert_eq!(
        closed(&metrics, "slow_reader") + closed(&metrics, "broken"),
        20,
        "{metrics}"
    );
    assert!(closed(&metrics, "slow_reader") > 0, "{metrics}");
    let grown_kib = server.rss_kib().saturating_sub(before_kib);
    assert!(grown_kib < 64 * 1_024, "{grown_kib} KiB more");
}

#[test]
fn each_limit_of_connections_holds() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let limits = "[limits]\ntcp_connections = 30\ntcp_connections_per_source = 20\n";
    let configuration = configuration(&bed, Family::V4, Backend::Udp, 2) + limits;
    let server = Server::start(&bed.server, &scratch, &configuration);
    let link = bed.link();
    let sip = link.sip(Family::V4);
    link.phones
        .ip(&format!("addr add 10.77.0.3/24 dev {PHONE_INTERFACE}"));
    let refused = |metrics: &Metrics, bound: &str| {
        metrics.sum(
            "strowger_tcp_connections_refused_total",
            &format!("bound=\"{bound}\""),
        )
    };
    link.phones.inside(|| {
        let mut speaking: Vec<TcpStream> = (0..20).map(|_| connect(sip)).collect();
        for (stream, number) in speaking.iter_mut().zip(0..) {
            write(stream, options(sip, number));
            assert_eq!(statuses(stream, 1), ["200"]);
        }
        let further: Vec<TcpStream> = (0..5).map(|_| connect(sip)).collect();
        server.wait_for("the source's share is used up", SOON, |metrics| {
            refused(metrics, "per_source") == 5
        });
        // Ten more fill the table; of those that follow, each takes the place of the oldest that said nothing.
        let second: SocketAddr = "10.77.0.3:0".parse().expect("an address");
        let silent: Vec<TcpStream> = (0..15).map(|_| connect_from(second, sip)).collect();
        let metrics = server.wait_for("the table is full", SOON, |metrics| {
            closed(metrics, "shed") == 5
        });
        assert_eq!(metrics.sum("strowger_tcp_connections", ""), 30, "{metrics}");
        for (stream, number) in speaking.iter_mut().zip(100..) {
            write(stream, options(sip, number));
            assert_eq!(statuses(stream, 1), ["200"], "nobody who spoke was shed");
        }
        drop((further, silent));
        server.wait_for("there is room again", SOON, |metrics| {
            metrics.sum("strowger_tcp_connections", "") == 20
        });
    });
}

#[test]
fn without_tcp_nobody_listens() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let with_tcp = configuration(&bed, Family::V4, Backend::Udp, 2);
    let without = with_tcp.replace("backend = \"udp\"", "backend = \"udp\"\ntcp = false");
    let server = Server::start(&bed.server, &scratch, &without);
    let sip = bed.link().sip(Family::V4);
    bed.link().phones.inside(|| {
        let error = TcpStream::connect(sip).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
    assert!(!server.log().contains("tcp"), "{}", server.log());
}

#[test]
fn connections_live_through_the_drain_and_end_with_it() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let configuration = configuration(&bed, Family::V4, Backend::Driver, 2);
    let mut server = Server::start(&bed.server, &scratch, &configuration);
    let link = bed.link();
    let phones = &phones::groups(link, Family::V4, 0..20, 1)[0];
    phones::register(link, &scratch, std::slice::from_ref(phones), 100);
    let callee = phones
        .callee(link, &scratch, "callee_is_cancelled", 20)
        .start();
    std::thread::sleep(phones::LISTENING);
    // Calls that ring over TCP hold the exit until their caller gives them up.
    let caller = phones
        .caller(link, &scratch, "caller_cancels", 5081, 20, 100)
        .hold(Duration::from_secs(3))
        .argument("-t")
        .argument("t1")
        .start();
    std::thread::sleep(Duration::from_secs(1));
    server.terminate();
    std::thread::sleep(Duration::from_millis(300));
    let sip = link.sip(Family::V4);
    let mut open = link.phones.inside(|| {
        let mut peer = connect(sip);
        write(&mut peer, options(sip, 1).replace("OPTIONS", "REGISTER"));
        assert_eq!(statuses(&mut peer, 1), ["503"]);
        peer
    });
    caller.finish(phones::PATIENCE).assert_clean();
    callee.finish(phones::PATIENCE).assert_clean();
    assert_eq!(read_some(&mut open), "", "it ends in good order");
    assert_eq!(
        server.wait(Duration::from_secs(11)).code(),
        Some(0),
        "{}",
        server.log()
    );
}

fn closed(metrics: &Metrics, reason: &str) -> u64 {
    metrics.sum(
        "strowger_tcp_connections_closed_total",
        &format!("reason=\"{reason}\""),
    )
}

pub(crate) fn connect(sip: SocketAddr) -> TcpStream {
    ready(TcpStream::connect(sip).expect("the server listens"))
}

/// Connects from an address of its own.
fn connect_from(source: SocketAddr, sip: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(source), Type::STREAM, None).expect("a socket");
    socket.bind(&source.into()).expect("an address of ours");
    socket.connect(&sip.into()).expect("the server listens");
    ready(socket.into())
}

fn ready(stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).expect("a socket");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a socket");
    stream
}

/// An OPTIONS to the server itself.
pub(crate) fn options(sip: SocketAddr, number: u32) -> String {
    format!(
        "OPTIONS sip:{sip} SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bKo{number}\r\nMax-Forwards: 70\r\n\
         From: <sip:a@example.com>;tag=1\r\nTo: <sip:a@example.com>\r\nCall-ID: {number}@peer\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

fn write(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) {
    stream.write_all(bytes.as_ref()).expect("it is open");
}

/// Reads until `count` responses without a body are there, and gives their statuses; keepalives between them are passed over.
#[track_caller]
fn statuses(stream: &mut TcpStream, count: usize) -> Vec<String> {
    let mut text = String::new();
    while text.matches("SIP/2.0 ").count() < count || !text.ends_with("\r\n\r\n") {
        let more = read_some(stream);
        assert!(!more.is_empty(), "it ended after {text}");
        text.push_str(&more);
    }
    let heads = text.match_indices("SIP/2.0 ");
    heads
        .map(|(at, name)| text[at + name.len()..][..3].to_owned())
        .collect()
}

/// Reads what is there, and nothing at the end.
#[track_caller]
fn read_some(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 65_536];
    let len = stream.read(&mut bytes).expect("something, or the end");
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

const REGISTERS: u32 = 2_000;
const CALLS: u32 = 300;
const SOON: Duration = Duration::from_secs(8);
