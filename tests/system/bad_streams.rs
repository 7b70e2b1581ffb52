//! 100,000 bad TCP streams: connections that carry mutated messages, stop midway, close or are torn down. The server stays up, memory
//! stays flat, every connection ends, and the calls beside them go through.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::bed::{Bed, Family, PHONE_INTERFACE};
use super::calls::{Backend, configuration};
use super::mutation::Mutation;
use super::phones;
use super::recovery::{assert_nothing_left, live};
use super::scratch::Scratch;
use super::server::{Metrics, Server};

#[test]
fn bad_streams_break_nothing_and_every_connection_ends() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let mut server = Server::start(
        &bed.server,
        &scratch,
        &configuration(&bed, Family::V4, Backend::Driver, 2),
    );
    let link = bed.link();
    for number in 0..SENDERS {
        let address = sender(link.phone(Family::V4), number);
        link.phones
            .ip(&format!("addr add {address}/24 dev {PHONE_INTERFACE}"));
    }
    let groups = phones::groups(link, Family::V4, 1_000..1_000 + PHONES, 4);
    phones::register(link, &scratch, &groups, 400);
    // As among the bad datagrams: a registered phone that never answers, for the INVITEs that are good enough to be passed on.
    let absent = phones::Phones {
        numbers: ABSENT..ABSENT + 1,
        address: SocketAddr::new(link.phone(Family::V4), 5090),
        server: link.sip(Family::V4),
    };
    phones::register(link, &scratch, std::slice::from_ref(&absent), 1);

    // Every table has grown to its size when the first third is through; from then on memory stays as it is.
    send(&bed, STREAMS / 3, 0);
    let warm_rss_kib = server.rss_kib();
    let calls = std::thread::scope(|scope| {
        let calls = scope.spawn(|| phones::call(link, &scratch, &groups, CALLS, 20));
        send(&bed, STREAMS - STREAMS / 3, 1);
        calls.join().expect("the calls were made")
    });
    assert!(server.is_alive(), "it fell\n{}", server.log());
    for call in &calls {
        call.assert_complete();
    }
    let metrics = server.wait_for("all ends", DRAIN_MAX, |metrics| {
        live(metrics) == 0 && metrics.sum("strowger_tcp_connections", "") == 0
    });
    assert_nothing_left(&metrics);
    assert_all_counted(&metrics);
    let grown_kib = server.rss_kib().saturating_sub(warm_rss_kib);
    println!("{grown_kib} KiB more than the {warm_rss_kib} after the warm-up\n{metrics}");
    assert!(
        grown_kib < RSS_GROWTH_MAX_KIB,
        "{grown_kib} KiB more than after the warm-up"
    );
}

/// Sends `count` streams, shared out among the senders; `round` makes their seeds.
fn send(bed: &Bed, count: u32, round: u64) {
    let link = bed.link();
    let server = link.sip(Family::V4);
    std::thread::scope(|scope| {
        for number in 0..SENDERS {
            scope.spawn(move || {
                let own = sender(link.phone(Family::V4), number);
                let seed = SEED ^ (round << 32) ^ u64::from(number);
                let share = count / u32::from(SENDERS)
                    + u32::from(u32::from(number) < count % u32::from(SENDERS));
                link.phones
                    .inside(move || send_as(own, server, seed, share));
            });
        }
    });
}

/// One sender: keeps some connections open while it goes on, so that what stops midway is not told at once.
fn send_as(own: IpAddr, server: SocketAddr, seed: u64, count: u32) {
    let mut mutation = Mutation::new(
        seed,
        SocketAddr::new(own, 5060),
        server,
        &format!("user{ABSENT}"),
    );
    let mut open: VecDeque<TcpStream> = VecDeque::new();
    for _ in 0..count {
        let Some(mut stream) = connect(own, server) else {
            continue;
        };
        let bytes = mutation.stream();
        // In two pieces at times, cut anywhere; a server that has closed already is no matter.
        let cut = if mutation.below(3) == 0 {
            mutation.below(bytes.len() + 1)
        } else {
            bytes.len()
        };
        let sent = stream
            .write_all(&bytes[..cut])
            .and_then(|()| stream.write_all(&bytes[cut..]));
        if sent.is_ok() && mutation.below(8) == 0 {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        open.push_back(stream);
        if open.len() > OPEN_MAX {
            let oldest = open.pop_front().expect("more than none");
            finish(oldest, mutation.below(4) == 0);
        }
    }
    for stream in open {
        finish(stream, false);
    }
}

/// A new connection; none where the server resets it at once, being at one of its bounds.
fn connect(own: IpAddr, server: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::new(own, 0).into())
        .expect("an address of this namespace");
    match socket.connect_timeout(&server.into(), CONNECT_MAX) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
        Err(error) => panic!("the server takes connections: {error}"),
    }
    let stream = TcpStream::from(socket);
    stream
        .set_write_timeout(Some(CONNECT_MAX))
        .expect("a socket");
    Some(stream)
}

/// Reads what has come, and closes: in good order, or not.
fn finish(mut stream: TcpStream, is_orderly: bool) {
    let _ = stream.set_nonblocking(true);
    let _ = stream.read(&mut [0; 16_384]);
    if !is_orderly {
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
}

fn assert_all_counted(metrics: &Metrics) {
    assert_eq!(
        metrics.sum("strowger_tcp_connections_opened_total", "by=\"peer\"")
            + metrics.sum("strowger_tcp_connections_refused_total", ""),
        u64::from(STREAMS),
        "every connection was taken up or refused\n{metrics}"
    );
    // A sender that is far ahead of the server is kept to what one source may have.
    let refused = |bound: &str| metrics.sum("strowger_tcp_connections_refused_total", bound);
    assert_eq!(refused(""), refused("bound=\"per_source\""), "{metrics}");
    assert!(refused("") < u64::from(STREAMS) / 20, "{metrics}");
    for kind in ["request", "malformed_request", "not_sip"] {
        let parsed = metrics.sum(
            "strowger_messages_parsed_total",
            &format!("kind=\"{kind}\""),
        );
        assert!(
            parsed > u64::from(STREAMS) / 100,
            "{kind}: {parsed}\n{metrics}"
        );
    }
    assert!(
        metrics.sum(
            "strowger_tcp_connections_closed_total",
            "reason=\"unframed\""
        ) > 0,
        "{metrics}"
    );
}

/// The address of one sender.
fn sender(phones: IpAddr, number: u8) -> IpAddr {
    match phones {
        IpAddr::V4(phones) => {
            let [a, b, c, _] = phones.octets();
            IpAddr::from([a, b, c, 100 + number])
        }
        IpAddr::V6(_) => phones,
    }
}

const ABSENT: u32 = 777_777;
const STREAMS: u32 = 100_000;
/// Each at an address of its own.
const SENDERS: u8 = 8;
/// How many connections a sender leaves open behind it.
const OPEN_MAX: usize = 40;
const PHONES: u32 = 400;
const CALLS: u32 = 200;
const SEED: u64 = 0x7363_7265_616D_7321;
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// 64*T1 for an INVITE that nobody answered, and as long again for what its answer leaves behind.
const DRAIN_MAX: Duration = Duration::from_secs(75);
const RSS_GROWTH_MAX_KIB: u64 = 16 * 1_024;
