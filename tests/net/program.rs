//! The XDP program, packet by packet, by BPF_PROG_TEST_RUN.

use strowger::datagram::ListenerId;
use strowger::net::{BackendChoice, ListenerSpec, Mode, Program, Verdict, Verdicts};
use strowger::wire::ethernet::{Mac, Tag, Tags};
use strowger::wire::packet::Headers;

use crate::bed::Bed;
use crate::echo::Echo;
use crate::raw;

const TAG: Tag = Tag {
    protocol: 0x8100,
    control: 5,
};
const OUTER: Tag = Tag {
    protocol: 0x88A8,
    control: 6,
};

/// A frame to a listener, or to where none is.
fn packet(tags: Tags, source: &str, destination: &str) -> Vec<u8> {
    let headers = Headers {
        destination_mac: Mac([2, 0, 0, 0, 0, 1]),
        source_mac: Mac([2, 0, 0, 0, 0, 2]),
        tags,
        source: source.parse().expect("an address"),
        destination: destination.parse().expect("an address"),
        identification: 1,
    };
    raw::frame(&headers, b"OPTIONS sip:x SIP/2.0")
}

fn v4(tags: Tags) -> Vec<u8> {
    packet(tags, "10.77.0.2:1234", "10.77.0.1:5060")
}

fn v6(tags: Tags) -> Vec<u8> {
    packet(tags, "[fd77:0::2]:1234", "[fd77:0::1]:5060")
}

/// A packet with one byte changed.
fn changed(mut packet: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    packet[at] = byte;
    packet
}

/// A packet with three tags.
fn three_tags() -> Vec<u8> {
    let mut packet = v4(Tags::two(OUTER, TAG));
    packet.splice(12..12, [0x88, 0xA8, 0, 7]);
    packet
}

/// A packet, its name and the verdict that it must get.
type Case = (&'static str, Vec<u8>, Verdict);

/// Every kind of packet.
fn cases() -> Vec<Case> {
    [
        ours(),
        v4_to_the_kernel(),
        v6_to_the_kernel(),
        of_every_length(),
    ]
    .concat()
}

fn ours() -> Vec<Case> {
    vec![
        ("v4", v4(Tags::NONE), Verdict::Redirected),
        ("v4, one tag", v4(Tags::one(TAG)), Verdict::Redirected),
        (
            "v4, two tags",
            v4(Tags::two(OUTER, TAG)),
            Verdict::Redirected,
        ),
        (
            "v4, do not fragment",
            changed(v4(Tags::NONE), 20, 0x40),
            Verdict::Redirected,
        ),
        ("v6", v6(Tags::NONE), Verdict::Redirected),
        ("v6, one tag", v6(Tags::one(TAG)), Verdict::Redirected),
        (
            "v6, two tags",
            v6(Tags::two(OUTER, TAG)),
            Verdict::Redirected,
        ),
    ]
}

/// The IP header begins at 14.
fn v4_to_the_kernel() -> Vec<Case> {
    let other = |destination| packet(Tags::NONE, "10.77.0.2:1", destination);
    vec![
        ("three tags", three_tags(), Verdict::NotIp),
        (
            "ARP",
            changed(changed(v4(Tags::NONE), 12, 0x08), 13, 0x06),
            Verdict::NotIp,
        ),
        (
            "v4 options",
            changed(v4(Tags::NONE), 14, 0x46),
            Verdict::NotPlain,
        ),
        (
            "v4 version",
            changed(v4(Tags::NONE), 14, 0x65),
            Verdict::NotPlain,
        ),
        (
            "v4 first fragment",
            changed(v4(Tags::NONE), 20, 0x20),
            Verdict::NotPlain,
        ),
        (
            "v4 later fragment",
            changed(v4(Tags::NONE), 21, 0x10),
            Verdict::NotPlain,
        ),
        ("v4 TCP", changed(v4(Tags::NONE), 23, 6), Verdict::NotUdp),
        ("v4 ICMP", changed(v4(Tags::NONE), 23, 1), Verdict::NotUdp),
        ("v4 other port", other("10.77.0.1:5061"), Verdict::OtherPort),
        (
            "v4 other address",
            other("10.77.0.9:5060"),
            Verdict::OtherPort,
        ),
    ]
}

/// The next header is at 20.
fn v6_to_the_kernel() -> Vec<Case> {
    let next = |header| changed(v6(Tags::NONE), 20, header);
    let other = |destination| packet(Tags::NONE, "[fd77::2]:1", destination);
    vec![
        (
            "v6 version",
            changed(v6(Tags::NONE), 14, 0x45),
            Verdict::NotPlain,
        ),
        ("hop by hop", next(0), Verdict::NotPlain),
        ("routing", next(43), Verdict::NotPlain),
        ("fragment", next(44), Verdict::NotPlain),
        ("ESP", next(50), Verdict::NotPlain),
        ("destination", next(60), Verdict::NotPlain),
        ("v6 TCP", next(6), Verdict::NotUdp),
        ("v6 ICMP", next(58), Verdict::NotUdp),
        (
            "v6 other port",
            other("[fd77:0::1]:5061"),
            Verdict::OtherPort,
        ),
        (
            "v4 address in v6",
            other("[::ffff:10.77.0.1]:5060"),
            Verdict::OtherPort,
        ),
    ]
}

/// Cut within each header (BPF_PROG_TEST_RUN takes nothing shorter than an Ethernet header), and around a frame's length.
fn of_every_length() -> Vec<Case> {
    let mut cases = Vec::new();
    for (packet, headers) in [(v4(Tags::one(TAG)), 46), (v6(Tags::one(TAG)), 66)] {
        for len in 14..headers {
            cases.push(("truncated", packet[..len].to_vec(), Verdict::Truncated));
        }
        cases.push((
            "no payload",
            packet[..headers].to_vec(),
            Verdict::Redirected,
        ));
    }
    let mut long = v4(Tags::NONE);
    long.resize(3_840, 0);
    cases.push(("as long as a frame", long.clone(), Verdict::Redirected));
    long.push(0);
    cases.push(("longer than a frame", long, Verdict::TooLong));
    cases
}

/// Runs one packet, and gives the verdict that was counted for it.
fn run(program: &Program, name: &str, packet: &[u8]) -> Verdict {
    let before = program.verdicts().expect("the counters can be read");
    let redirected = program
        .run(packet)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let after = program.verdicts().expect("the counters can be read");
    let counted: Vec<_> = Verdict::ALL
        .into_iter()
        .filter(|verdict| after.of(*verdict) != before.of(*verdict))
        .collect();
    let total = |verdicts: &Verdicts| verdicts.passed() + verdicts.of(Verdict::Redirected);
    assert_eq!(
        total(&after),
        total(&before) + 1,
        "{name}: each packet is counted once"
    );
    let [verdict] = counted[..] else {
        panic!("{name}: {counted:?}")
    };
    assert_eq!(redirected, verdict == Verdict::Redirected, "{name}");
    verdict
}

#[test]
fn every_kind_of_packet_gets_its_verdict_and_is_counted_once() {
    let bed = Bed::new(1, 1);
    let listeners: Vec<_> = ["10.77.0.1:5060", "[fd77:0::1]:5060"]
        .into_iter()
        .zip(0..)
        .map(|(address, number)| ListenerSpec {
            backend: BackendChoice::AfXdp,
            mode: Some(Mode::Driver),
            ..ListenerSpec::new(ListenerId(number), address.parse().expect("an address"))
        })
        .collect();
    let echo = Echo::start(&bed.server(), &listeners, 1).expect("AF_XDP can be had here");
    // Its interface is left alone while the packets are counted.
    bed.peer_runs(0, "ip link set p0 down");
    let [(interface, program)] = echo.attachments.programs() else {
        panic!("one interface")
    };
    assert_eq!(interface, "s0");
    for (name, packet, verdict) in cases() {
        assert_eq!(run(program, name, &packet), verdict, "{name}");
    }
    echo.stop();
}

#[test]
fn without_a_socket_packets_go_to_the_kernel_and_are_not_counted_as_redirected() {
    let program = Program::load(1).expect("the program loads");
    let address = "10.77.0.1:5060".parse().expect("an address");
    assert_eq!(
        run(&program, "nobody's", &v4(Tags::NONE)),
        Verdict::OtherPort
    );
    program
        .serve(address, ListenerId(0))
        .expect("the map has room");
    assert_eq!(
        run(&program, "no socket", &v4(Tags::NONE)),
        Verdict::NoSocket
    );
}
