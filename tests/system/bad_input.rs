//! 100,000 bad datagrams: the server stays up, forgets nothing, counts every one, and the calls beside them go through.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::bed::{Bed, Family};
use super::calls::{Backend, configuration};
use super::mutation::Mutation;
use super::phones;
use super::recovery::{assert_nothing_left, live};
use super::scratch::Scratch;
use super::server::{Metrics, Server};

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn bad_datagrams_break_nothing_and_are_all_counted() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let mut server = Server::start(
        &bed.server,
        &scratch,
        &configuration(&bed, Family::V4, Backend::Driver, 2),
    );
    let link = bed.link();
    let groups = phones::groups(link, Family::V4, 0..400, 4);
    phones::register(link, &scratch, &groups, 400);
    // A registered phone that never answers, so that some of the bad INVITEs are forwarded.
    let absent = phones::Phones {
        numbers: 400..401,
        ..groups[3].clone()
    };
    let absent = phones::Phones {
        address: SocketAddr::new(link.phone(Family::V4), 5090),
        ..absent
    };
    phones::register(link, &scratch, std::slice::from_ref(&absent), 1);

    let mutant = SocketAddr::new(link.phone(Family::V4), 5095);
    let mut mutation = Mutation::new(SEED, mutant, link.sip(Family::V4), "user400");
    // Every table has grown to its size when the first third is through; from then on memory stays as it is.
    let warm_up = send(&bed, &mut mutation, mutant, DATAGRAMS / 3);
    let warm_rss_kib = server.rss_kib();
    let (calls, rest) = std::thread::scope(|scope| {
        let calls = scope.spawn(|| phones::call(link, &scratch, &groups, 200, 20));
        let rest = send(&bed, &mut mutation, mutant, DATAGRAMS - DATAGRAMS / 3);
        (calls.join().expect("the calls were made"), rest)
    });
    assert!(server.is_alive(), "it fell\n{}", server.log());
    println!("{} answers to {DATAGRAMS} bad datagrams", warm_up + rest);
    for call in &calls {
        call.assert_complete();
    }
    let metrics = server.wait_for("the transactions end", DRAIN_MAX, |metrics| {
        live(metrics) == 0
    });
    assert_nothing_left(&metrics);
    assert_all_counted(&metrics);
    let grown_kib = server.rss_kib().saturating_sub(warm_rss_kib);
    assert!(
        grown_kib < RSS_GROWTH_MAX_KIB,
        "{grown_kib} KiB more than after the warm-up"
    );
}

/// Sends `count` bad datagrams from `source` at [`RATE`]; how many answers came back.
fn send(bed: &Bed, mutation: &mut Mutation, source: SocketAddr, count: u32) -> u64 {
    let server = bed.link().sip(Family::V4);
    bed.link().phones.inside(|| {
        let socket = UdpSocket::bind(source).expect("an address of this namespace");
        socket.set_nonblocking(true).expect("a socket");
        let (start, mut answers, mut buffer) = (Instant::now(), 0, [0; 4_096]);
        for sent in 0..count {
            let datagram = mutation.next();
            while socket.send_to(&datagram, server).is_err() {
                std::thread::sleep(Duration::from_millis(1));
            }
            while socket.recv_from(&mut buffer).is_ok() {
                answers += 1;
            }
            let due = Duration::from_secs(sent.into()) / RATE;
            if let Some(early) = due
                .checked_sub(start.elapsed())
                .filter(|early| *early > Duration::from_millis(1))
            {
                std::thread::sleep(early);
            }
        }
        answers
    })
}

/// Whatever came in was taken up, answered, matched or dropped: nothing vanished.
fn assert_all_counted(metrics: &Metrics) {
    let received = metrics.sum("strowger_messages_received_total", "");
    assert!(
        received >= u64::from(DATAGRAMS),
        "every datagram arrived\n{metrics}"
    );
}

const SEED: u64 = 0x5172_6F77_6765_7221;
const DATAGRAMS: u32 = 100_000;
/// Datagrams a second.
const RATE: u32 = 10_000;
/// 64*T1 for an INVITE that nobody answered, and as long again for what its answer leaves behind.
const DRAIN_MAX: Duration = Duration::from_secs(70);
const RSS_GROWTH_MAX_KIB: u64 = 16 * 1_024;
