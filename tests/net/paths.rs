//! The ways that a message takes which are not the plain one: fragments, long messages, tags, other interfaces, narrow paths.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use strowger::counters::Counter;
use strowger::datagram::ListenerId;
use strowger::net::{BackendChoice, ListenerSpec, Verdict};
use strowger::wire::ethernet::{Tag, Tags};
use strowger::wire::packet::Packet;

use crate::bed::Bed;
use crate::echo::Echo;
use crate::raw::{self, Raw};
use crate::{ask, both_families, socket};

/// A listener on each of the server's interfaces.
pub(crate) fn one_each(peers: u8) -> Vec<ListenerSpec> {
    (0..peers)
        .map(|n| ListenerSpec {
            backend: BackendChoice::AfXdp,
            ..ListenerSpec::new(
                ListenerId(n),
                format!("10.77.{n}.1:5060").parse().expect("an address"),
            )
        })
        .collect()
}

/// A peer's socket on a fixed port.
pub(crate) fn bound(bed: &Bed, n: usize, address: &str) -> UdpSocket {
    bed.at_peer(n, || {
        let socket = UdpSocket::bind(address).expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a timeout");
        socket
    })
}

/// How long a change that the kernel tells of may take to be followed, on a machine that is busy with other tests.
pub(crate) const THE_KERNELS_WORD_IS_HEARD_WITHIN: Duration = Duration::from_secs(2);

/// Takes one message.
fn take(socket: &UdpSocket) -> String {
    let mut buffer = [0; 2_000];
    let len = socket.recv(&mut buffer).expect("a message within 5 s");
    String::from_utf8_lossy(&buffer[..len]).into_owned()
}

#[test]
fn fragments_come_by_the_kernels_socket_and_long_answers_leave_by_it() {
    let bed = Bed::new(1, 2);
    let echo = Echo::start(&bed.server(), &both_families(BackendChoice::AfXdp, None), 2)
        .expect("AF_XDP can be had here");
    bed.at_peer(0, || {
        for server in ["10.77.0.1:5060", "[fd77:0::1]:5060"] {
            let socket = socket(server);
            for _ in 0..10 {
                assert_eq!(ask(&socket, &[b'f'; 3_000]), [b'f'; 3_000]);
            }
            assert_eq!(ask(&socket, &[b'f'; 60_000]), [b'f'; 60_000]);
            assert_eq!(ask(&socket, b"GROW 3000"), [b'g'; 3_000]);
            // The longest that fits the MTU, and one more.
            let fits = if server.starts_with('[') {
                1_452
            } else {
                1_472
            };
            assert_eq!(ask(&socket, format!("GROW {fits}").as_bytes()).len(), fits);
            assert_eq!(
                ask(&socket, format!("GROW {}", fits + 1).as_bytes()).len(),
                fits + 1
            );
        }
    });
    assert_eq!(echo.count(Counter::ReceivedUdp), 22);
    assert_eq!(echo.count(Counter::ReceivedAfXdp), 6);
    assert_eq!(echo.count(Counter::SentAfXdp), 2);
    echo.eventually("the last is counted", |echo| {
        echo.count(Counter::SentUdp) == 26
    });
    assert!(echo.attachments.verdicts().of(Verdict::NotPlain) > 22);
    echo.stop();
}

#[test]
fn jumbo_packets_that_fit_no_frame_come_and_leave_by_the_kernels_socket() {
    let bed = Bed::new(1, 1);
    bed.server_runs("ip link set s0 mtu 9000");
    bed.peer_runs(0, "ip link set p0 mtu 9000");
    let echo = Echo::start(&bed.server(), &both_families(BackendChoice::AfXdp, None), 1)
        .expect("a program with fragments goes with any MTU");
    bed.at_peer(0, || {
        let socket = socket("10.77.0.1:5060");
        for len in [3_000, 3_798, 3_799, 8_000] {
            assert_eq!(ask(&socket, &vec![b'j'; len]).len(), len);
        }
    });
    assert_eq!(
        echo.count(Counter::ReceivedAfXdp),
        2,
        "{:?}",
        echo.attachments.verdicts()
    );
    assert_eq!(echo.count(Counter::SentAfXdp), 2);
    assert_eq!(echo.attachments.verdicts().of(Verdict::TooLong), 2);
    echo.stop();
}

#[test]
fn an_answer_carries_the_tags_that_came() {
    let bed = Bed::new(1, 1);
    let echo = Echo::start(&bed.server(), &both_families(BackendChoice::AfXdp, None), 1)
        .expect("AF_XDP can be had here");
    let inner = Tag {
        protocol: 0x8100,
        control: 0x6005,
    };
    let outer = Tag {
        protocol: 0x88A8,
        control: 7,
    };
    let mac = raw::mac(&bed.server(), "s0");
    bed.at_peer(0, || {
        let raw = Raw::new("p0");
        let pairs = [
            ("10.77.0.2:4321", "10.77.0.1:5060"),
            ("[fd77:0::2]:4321", "[fd77:0::1]:5060"),
        ];
        for (source, destination) in pairs {
            for tags in [Tags::NONE, Tags::one(inner), Tags::two(outer, inner)] {
                let headers = raw::headers(mac, source, destination, tags);
                raw.send(&raw::frame(&headers, b"tagged"));
                let (frame, tag) = raw.receive(|frame| {
                    Packet::new(frame).is_ok_and(|packet| {
                        packet.payload == b"tagged" && packet.frame.source() == mac
                    })
                });
                let packet = Packet::new(&frame).expect("read above");
                // The kernel has taken the outermost tag out of the frame.
                let received = match (tag, packet.frame.tags()) {
                    (None, rest) => rest,
                    (Some(outermost), Tags::NONE) => Tags::one(outermost),
                    (Some(outermost), rest) if rest == Tags::one(inner) => {
                        Tags::two(outermost, inner)
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!(received, tags);
                assert_eq!(packet.frame.destination(), headers.source_mac);
                assert_eq!(packet.source, headers.destination);
                assert_eq!(packet.destination, headers.source);
            }
        }
    });
    assert_eq!(echo.count(Counter::SentAfXdp), 6);
    echo.stop();
}

#[test]
fn a_message_comes_in_by_one_interface_and_leaves_by_the_other() {
    let bed = Bed::new(2, 2);
    let echo = Echo::start(&bed.server(), &one_each(2), 2).expect("AF_XDP can be had here");
    assert_eq!(echo.attachments.programs().len(), 2);
    let callee = bound(&bed, 1, "10.77.1.2:7000");
    // From many ports, so that both workers send.
    let mut count = 0;
    let mut call = || {
        count += 1;
        let socket = bed.at_peer(0, || socket("10.77.0.1:5060"));
        socket
            .send(format!("TO 1 10.77.1.2:7000 call {count}").as_bytes())
            .expect("sent");
        assert_eq!(take(&callee), format!("call {count}"));
        count
    };
    // The kernel sends until it has told where the callee is.
    let start = Instant::now();
    let mut learnt = call();
    while echo.count(Counter::SentAfXdp) == 0 {
        assert!(
            start.elapsed() < THE_KERNELS_WORD_IS_HEARD_WITHIN,
            "the callee's neighbour is known"
        );
        std::thread::sleep(Duration::from_millis(5));
        learnt = call();
    }
    let misses = echo.count(Counter::NeighborMisses);
    assert!(
        (1..learnt).contains(&misses),
        "{misses} misses in {learnt} calls"
    );
    let calls = (0..40).fold(learnt, |_, _| call());
    echo.eventually("each call is counted", |echo| {
        echo.count(Counter::SentAfXdp) == calls - misses
    });
    assert_eq!(echo.count(Counter::ReceivedAfXdp), calls);
    assert_eq!(echo.count(Counter::SentUdp), misses);
    assert_eq!(echo.count(Counter::NeighborMisses), misses);
    echo.stop();
}

#[test]
fn a_narrow_path_is_served_by_the_kernel() {
    let bed = Bed::new(1, 1);
    let echo = Echo::start(&bed.server(), &one_each(1), 1).expect("AF_XDP can be had here");
    bed.peer_runs(0, "ip address add 10.88.0.2/32 dev lo");
    bed.server_runs("ip route add 10.88.0.0/24 via 10.77.0.2 mtu 1000");
    let callee = bound(&bed, 0, "10.88.0.2:7000");
    let caller = bed.at_peer(0, || socket("10.77.0.1:5060"));
    let call = |text: &str| {
        caller
            .send(format!("TO 0 10.88.0.2:7000 {text}").as_bytes())
            .expect("sent");
        assert_eq!(take(&callee), text);
    };
    for _ in 0..200 {
        call("short");
        if echo.count(Counter::SentAfXdp) > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(echo.count(Counter::SentAfXdp), 1);
    call(&"x".repeat(972));
    assert_eq!(echo.count(Counter::SentAfXdp), 2);
    call(&"x".repeat(973));
    assert_eq!(echo.count(Counter::SentAfXdp), 2);
    echo.stop();
}

#[test]
fn a_changed_mtu_and_mac_address_of_our_own_are_seen() {
    let bed = Bed::new(1, 1);
    let echo = Echo::start(&bed.server(), &one_each(1), 1).expect("AF_XDP can be had here");
    let (socket, raw) = bed.at_peer(0, || (socket("10.77.0.1:5060"), Raw::new("p0")));
    assert_eq!(ask(&socket, b"GROW 1400").len(), 1_400);
    assert_eq!(echo.count(Counter::SentAfXdp), 1);
    bed.server_runs("ip link set s0 mtu 1300");
    echo.eventually("long answers leave by the kernel", |echo| {
        let before = echo.count(Counter::SentAfXdp);
        assert_eq!(ask(&socket, b"GROW 1400").len(), 1_400);
        echo.count(Counter::SentAfXdp) == before
    });

    bed.server_runs("ip link set s0 address 02:00:00:00:77:01");
    let new = raw::mac(&bed.server(), "s0");
    assert_eq!(new.to_string(), "02:00:00:00:77:01");
    echo.eventually("AF_XDP sends from the new address", |echo| {
        let before = echo.count(Counter::SentAfXdp);
        assert_eq!(ask(&socket, b"LOOKUP me"), b"LOOKUP me");
        let (frame, _) = raw.receive(|frame| {
            Packet::new(frame)
                .is_ok_and(|packet| packet.payload == b"LOOKUP me" && packet.source.port() == 5060)
        });
        let source = Packet::new(&frame).expect("read above").frame.source();
        echo.count(Counter::SentAfXdp) > before && source == new
    });
    echo.stop();
}

#[test]
fn a_path_that_turns_out_to_be_narrow_is_served_by_the_kernel() {
    let bed = Bed::new(1, 1);
    let echo = Echo::start(&bed.server(), &both_families(BackendChoice::AfXdp, None), 1)
        .expect("AF_XDP can be had here");
    let callee = bound(&bed, 0, "[fd77:0::2]:7000");
    let (caller, raw) = bed.at_peer(0, || (socket("[fd77:0::1]:5060"), Raw::new("p0")));
    let call = |text: &str| {
        caller
            .send(format!("TO 1 [fd77:0::2]:7000 {text}").as_bytes())
            .expect("sent");
        assert_eq!(take(&callee), text);
    };
    for _ in 0..200 {
        call("learn");
        if echo.count(Counter::SentAfXdp) > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let long = "x".repeat(1_400);
    let before = echo.count(Counter::SentAfXdp);
    call(&long);
    assert_eq!(echo.count(Counter::SentAfXdp), before + 1);

    let (frame, _) = raw
        .receive(|frame| Packet::new(frame).is_ok_and(|packet| packet.payload == long.as_bytes()));
    raw.send(&raw::packet_too_big(&frame, 1_280));
    echo.eventually("long ones leave by the kernel", |echo| {
        let before = echo.count(Counter::SentAfXdp);
        call(&long);
        echo.count(Counter::SentAfXdp) == before
    });
    let before = echo.count(Counter::SentAfXdp);
    call("short");
    assert_eq!(
        echo.count(Counter::SentAfXdp),
        before + 1,
        "short ones still leave by AF_XDP"
    );
    echo.stop();
}

#[test]
fn what_icmp_says_is_told() {
    for backend in [BackendChoice::AfXdp, BackendChoice::Udp] {
        let bed = Bed::new(1, 1);
        let echo = Echo::start(&bed.server(), &both_families(backend, None), 1)
            .expect("either can be had here");
        let v4 = bed.at_peer(0, || socket("10.77.0.1:5060"));
        let v6 = bed.at_peer(0, || socket("[fd77:0::1]:5060"));
        for (caller, listener, peer) in [(&v4, 0, "10.77.0.2:9"), (&v6, 1, "[fd77:0::2]:9")] {
            let text = "SIP/2.0 branch ".repeat(20);
            let ours = (peer.parse().expect("an address"), text.clone().into_bytes());
            echo.eventually("ICMP is heard", |echo| {
                caller
                    .send(format!("TO {listener} {peer} {text}").as_bytes())
                    .expect("sent");
                std::thread::sleep(Duration::from_millis(20));
                // Twice: once sent by the kernel, for want of a neighbour, and once by AF_XDP.
                let unreachable = echo.unreachable.lock().expect("nobody panics with it");
                unreachable.iter().filter(|report| **report == ours).count() >= 2
            });
            // The socket goes on serving.
            assert_eq!(ask(caller, b"still there?"), b"still there?");
        }
        if backend == BackendChoice::AfXdp {
            assert!(echo.count(Counter::SentAfXdp) > 2);
        }
        assert_eq!(
            echo.count(Counter::DropUnsendable),
            0,
            "an ICMP error fails nobody else's message"
        );
        echo.stop();
    }
}

#[test]
fn a_message_that_has_no_way_is_told() {
    for backend in [BackendChoice::AfXdp, BackendChoice::Udp] {
        let bed = Bed::new(1, 1);
        let echo = Echo::start(&bed.server(), &both_families(backend, None), 1)
            .expect("either can be had here");
        let caller = bed.at_peer(0, || socket("10.77.0.1:5060"));
        for _ in 0..3 {
            caller.send(b"TO 0 203.0.113.9:5060 nowhere").expect("sent");
            caller
                .send(b"TO 1 [2001:db8::9]:5060 nowhere")
                .expect("sent");
            caller.send(b"TO 0 10.77.0.2:7000 somewhere").expect("sent");
        }
        echo.eventually("all are told", |echo| {
            echo.count(Counter::DropUnsendable) == 6
        });
        let told = echo
            .unreachable
            .lock()
            .expect("nobody panics with it")
            .clone();
        let nowhere = told
            .iter()
            .filter(|(_, payload)| payload == b"nowhere")
            .count();
        assert_eq!(nowhere, 6);
        echo.stop();
    }
}

/// An echo over the kernel's sockets, whose interface sends so much a second and has a queue of ten messages.
fn slowed_down(bed: &Bed, rate: &str) -> Echo {
    let server = bed.server();
    let echo = Echo::start(&server, &both_families(BackendChoice::Udp, None), 1)
        .expect("the kernel's sockets can be had anywhere");
    bed.server_runs(&format!(
        "tc qdisc replace dev s0 root tbf rate {rate} burst 2000 limit 4500"
    ));
    echo
}

#[test]
fn what_finds_the_interfaces_queue_full_waits_for_room() {
    let bed = Bed::new(1, 1);
    let echo = slowed_down(&bed, "8mbit");
    let caller = bed.at_peer(0, || socket("10.77.0.1:5060"));
    for n in 0..200_u8 {
        caller.send(&[n; 400]).expect("sent");
    }
    for n in 0..200_u8 {
        assert_eq!(take(&caller), String::from_utf8_lossy(&[n; 400]));
    }
    assert_eq!(echo.count(Counter::SentUdp), 200);
    assert_eq!(echo.count(Counter::DropTransmitFull), 0);
    echo.stop();
}

#[test]
fn what_finds_no_room_for_long_is_dropped_and_counted() {
    let bed = Bed::new(1, 1);
    let echo = slowed_down(&bed, "1kbit");
    let caller = bed.at_peer(0, || socket("10.77.0.1:5060"));
    for n in 0..100_u8 {
        caller.send(&[n; 400]).expect("sent");
    }
    echo.eventually("each has left or is counted", |echo| {
        echo.count(Counter::SentUdp) + echo.count(Counter::DropTransmitFull) == 100
    });
    let dropped = echo.count(Counter::DropTransmitFull);
    assert!((80..100).contains(&dropped), "{dropped}");

    // It serves on when there is room again.
    bed.server_runs("tc qdisc del dev s0 root");
    bed.at_peer(0, || {
        let caller = socket("10.77.0.1:5060");
        assert_eq!(ask(&caller, b"still there"), b"still there");
    });
    echo.stop();
}

#[test]
fn frames_that_nobody_could_have_sent_are_dropped_and_counted() {
    let bed = Bed::new(1, 1);
    let echo = Echo::start(&bed.server(), &both_families(BackendChoice::AfXdp, None), 1)
        .expect("AF_XDP can be had here");
    let mac = raw::mac(&bed.server(), "s0");
    bed.at_peer(0, || {
        let raw = Raw::new("p0");
        let ours = "10.77.0.1:5060";
        let sources = [
            "10.77.0.1:5060",
            "127.0.0.1:1",
            "224.0.0.1:1",
            "0.0.0.0:1",
            "10.77.0.2:0",
        ];
        for source in sources {
            raw.send(&raw::frame(
                &raw::headers(mac, source, ours, Tags::NONE),
                b"x",
            ));
        }
        let mut bytes = raw::frame(&raw::headers(mac, "10.77.0.2:1", ours, Tags::NONE), b"x");
        // A UDP length past the end; a wrong IP checksum.
        bytes[38..40].copy_from_slice(&[0xFF, 0xFF]);
        raw.send(&bytes);
        let mut bytes = raw::frame(&raw::headers(mac, "10.77.0.2:1", ours, Tags::NONE), b"x");
        bytes[24] ^= 1;
        raw.send(&bytes);
    });
    echo.eventually("all are counted", |echo| {
        echo.count(Counter::DropBadPacket) == 7
    });
    assert_eq!(echo.count(Counter::ReceivedAfXdp), 0);
    echo.stop();
}

#[test]
fn a_flood_leaves_every_frame_in_its_place() {
    let bed = Bed::new(1, 2);
    let echo = Echo::start(&bed.server(), &both_families(BackendChoice::AfXdp, None), 2)
        .expect("AF_XDP can be had here");
    bed.at_peer(0, || {
        let sockets: Vec<_> = (0..16).map(|_| socket("10.77.0.1:5060")).collect();
        for n in 0..60_000 {
            // Lost ones are part of a flood.
            let _ = sockets[n % 16].send(&[b'x'; 400]);
        }
    });
    // As many as the rings hold come whatever else the machine does.
    echo.eventually("much has come", |echo| {
        echo.count(Counter::ReceivedAfXdp) > 2_000
    });
    let after = bed.at_peer(0, || socket("10.77.0.1:5060"));
    after
        .set_read_timeout(Some(Duration::from_millis(50)))
        .expect("a timeout");
    echo.eventually("it still serves", |_| {
        after.send(b"after").expect("sent");
        matches!(after.recv(&mut [0; 10]), Ok(5))
    });
    echo.stop();
}

#[test]
fn an_interface_that_goes_down_and_up_again_serves_again() {
    let bed = Bed::new(1, 1);
    let echo = Echo::start(&bed.server(), &one_each(1), 1).expect("AF_XDP can be had here");
    let socket = bed.at_peer(0, || socket("10.77.0.1:5060"));
    assert_eq!(ask(&socket, b"one"), b"one");
    bed.server_runs("ip link set s0 down");
    let _ = socket.send(b"lost");
    std::thread::sleep(Duration::from_millis(50));
    bed.server_runs("ip link set s0 up");
    // An ICMP error from the time between may come first.
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a timeout");
    for message in [&b"two"[..], b"LOOKUP three"] {
        echo.eventually("it serves again", |echo| {
            let before = echo.count(Counter::SentAfXdp);
            let _ = socket.send(message);
            let is_answered = matches!(socket.recv(&mut [0; 20]), Ok(len) if len == message.len());
            is_answered && echo.count(Counter::SentAfXdp) > before
        });
    }
    echo.stop();
}
