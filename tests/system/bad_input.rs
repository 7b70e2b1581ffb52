//! One million bad datagrams: the server stays up, forgets nothing, counts every one, and the calls beside them go through.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::bed::{Bed, Family, PHONE_INTERFACE};
use super::calls::{Backend, configuration};
use super::mutation::Mutation;
use super::phones;
use super::recovery::{assert_nothing_left, live};
use super::scratch::Scratch;
use super::server::{Metrics, Server};

#[test]
fn bad_datagrams_break_nothing_and_are_all_counted() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let mut server = Server::start(
        &bed.server,
        &scratch,
        &configuration(&bed, Family::V4, Backend::Driver, 2),
    );
    let link = bed.link();
    let groups = phones::groups(link, Family::V4, 1_000..1_000 + PHONES, 4);
    phones::register(link, &scratch, &groups, 400);
    // A registered phone that never answers, so that some of the bad INVITEs are forwarded. Its number does not turn into one of
    // the others' when digits are lost.
    let absent = phones::Phones {
        numbers: ABSENT..ABSENT + 1,
        ..groups[3].clone()
    };
    let absent = phones::Phones {
        address: SocketAddr::new(link.phone(Family::V4), 5090),
        ..absent
    };
    phones::register(link, &scratch, std::slice::from_ref(&absent), 1);

    // At an address where no phone is: a mutated Via may name any port of it.
    let mutant: SocketAddr = MUTANT.parse().expect("an address");
    link.phones.ip(&format!(
        "addr add {}/24 dev {PHONE_INTERFACE}",
        mutant.ip()
    ));
    let mut mutation = Mutation::new(SEED, mutant, link.sip(Family::V4), &format!("user{ABSENT}"));
    // Every table has grown to its size when the first third is through; from then on memory stays as it is.
    let warm_up = send(&bed, &mut mutation, mutant, DATAGRAMS / 3);
    let warm_rss_kib = server.rss_kib();
    let (calls, rest) = std::thread::scope(|scope| {
        let calls = scope.spawn(|| phones::call(link, &scratch, &groups, CALLS, 20));
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

/// Sends `count` bad datagrams from `source`, [`BURST`] at a time; how many answers came back.
fn send(bed: &Bed, mutation: &mut Mutation, source: SocketAddr, count: u32) -> u64 {
    let server = bed.link().sip(Family::V4);
    bed.link().phones.inside(|| {
        let socket = UdpSocket::bind(source).expect("an address of this namespace");
        socket.set_nonblocking(true).expect("a socket");
        let (mut answers, mut buffer) = (0, [0; 4_096]);
        for sent in 1..=count {
            let datagram = mutation.next();
            while socket.send_to(&datagram, server).is_err() {
                std::thread::sleep(Duration::from_millis(1));
            }
            while socket.recv_from(&mut buffer).is_ok() {
                answers += 1;
            }
            // Never to make up for lost time: a burst of what is late would only show how deep the rings are.
            if sent % BURST == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        answers
    })
}

/// Every datagram is counted as what it proved to be, and then as what became of it.
fn assert_all_counted(metrics: &Metrics) {
    let parsed = |kind: &str| {
        metrics.sum(
            "strowger_messages_parsed_total",
            &format!("kind=\"{kind}\""),
        )
    };
    let drops = |reason: &str| metrics.sum("strowger_drops_total", &format!("reason=\"{reason}\""));
    let received = metrics.sum("strowger_messages_received_total", "");
    let registered = u64::from(PHONES + 1);
    assert_eq!(
        received,
        u64::from(DATAGRAMS) + registered + u64::from(6 * CALLS),
        "all that was sent arrived\n{metrics}"
    );
    assert_eq!(
        received,
        metrics.sum("strowger_messages_parsed_total", ""),
        "all that arrived was parsed\n{metrics}"
    );
    assert_eq!(drops("mailbox_full"), 0, "{metrics}");
    assert_eq!(
        parsed("request"),
        metrics.sum("strowger_requests_total", ""),
        "requests are taken up, whoever owns them\n{metrics}"
    );
    let unmatched = drops("forged_branch") + drops("stray_response");
    assert_eq!(
        parsed("response") - unmatched,
        u64::from(3 * CALLS),
        "no response but the calls' own is matched\n{metrics}"
    );
    let keepalives = metrics.sum("strowger_keepalives_total", "");
    let unanswered = drops("not_sip") + drops("malformed_response") + keepalives;
    let not_sip = parsed("not_sip");
    assert!(
        not_sip >= unanswered && not_sip <= unanswered + drops("malformed_ack"),
        "what is not SIP is dropped\n{metrics}"
    );
    assert!(
        parsed("malformed_request") > 0
            && drops("not_sip") > 0
            && drops("forged_branch") + drops("stray_response") > 0,
        "{metrics}"
    );
}

const MUTANT: &str = "10.77.0.200:5095";
const ABSENT: u32 = 777_777;
const PHONES: u32 = 400;
const CALLS: u32 = 200;
const SEED: u64 = 0x5172_6F77_6765_7221;
const DATAGRAMS: u32 = 1_000_000;
/// Datagrams between two pauses of a millisecond: nearly 20,000 a second.
const BURST: u32 = 20;
/// 64*T1 for an INVITE that nobody answered, and as long again for what its answer leaves behind.
const DRAIN_MAX: Duration = Duration::from_secs(70);
const RSS_GROWTH_MAX_KIB: u64 = 16 * 1_024;
