//! The network layer on real kernels' sockets, in namespaces of its own: to be run as root.

#[path = "net/bed.rs"]
mod bed;
#[path = "net/echo.rs"]
mod echo;
#[path = "net/neighbors.rs"]
mod neighbors;
#[path = "net/opening.rs"]
mod opening;
#[path = "net/paths.rs"]
mod paths;
#[path = "net/program.rs"]
mod program;
#[path = "net/raw.rs"]
mod raw;
#[path = "net/stream.rs"]
mod stream;
#[path = "net/tcp.rs"]
mod tcp;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use strowger::counters::Counter;
use strowger::datagram::ListenerId;
use strowger::net::{BackendChoice, Got, ListenerSpec, Mode, Verdict};

use bed::Bed;
use echo::Echo;

/// Listeners on the server's addresses towards peer 0: IPv4 and IPv6.
fn both_families(backend: BackendChoice, mode: Option<Mode>) -> Vec<ListenerSpec> {
    ["10.77.0.1:5060", "[fd77:0::1]:5060"]
        .into_iter()
        .zip(0..)
        .map(|(address, number)| ListenerSpec {
            backend,
            mode,
            ..ListenerSpec::new(ListenerId(number), address.parse().expect("an address"))
        })
        .collect()
}

/// A peer's socket that talks to one of the server's addresses.
fn socket(server: &str) -> UdpSocket {
    let server: SocketAddr = server.parse().expect("an address");
    let any = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    socket.connect(server).expect("a way");
    socket
}

/// Sends a message and gives the answer.
fn ask(socket: &UdpSocket, message: &[u8]) -> Vec<u8> {
    socket.send(message).expect("sent");
    let mut buffer = vec![0; 65_536];
    let len = socket.recv(&mut buffer).expect("an answer within 5 s");
    buffer.truncate(len);
    buffer
}

/// From many ports of peer 0, over both families: every message must come back as it was sent.
fn echo_many(bed: &Bed, ports: usize, messages: usize) {
    bed.at_peer(0, || {
        for server in ["10.77.0.1:5060", "[fd77:0::1]:5060"] {
            for port in 0..ports {
                let socket = socket(server);
                for n in 0..messages {
                    let message = vec![b'a' + (n % 26) as u8; 1 + (port * 31 + n * 97) % 1_400];
                    assert_eq!(ask(&socket, &message), message);
                }
            }
        }
    });
}

#[test]
fn driver_mode_serves_both_families_on_two_queues() {
    let bed = Bed::new(1, 2);
    let echo = Echo::start(&bed.server(), &both_families(BackendChoice::AfXdp, None), 2)
        .expect("AF_XDP can be had here");
    for report in &echo.reports {
        let Got::AfXdp(device) = &report.got else {
            panic!("{report}")
        };
        assert_eq!(
            (device.mode, device.queues.len()),
            (Mode::Driver, 2),
            "{report}"
        );
    }
    echo_many(&bed, 20, 20);
    assert_eq!(echo.count(Counter::ReceivedAfXdp), 800);
    assert_eq!(echo.count(Counter::SentAfXdp), 800);
    assert_eq!(
        echo.count(Counter::ReceivedUdp) + echo.count(Counter::SentUdp),
        0
    );
    assert_eq!(echo.count(Counter::NeighborMisses), 0);
    for counters in &echo.counters {
        assert!(
            counters.read(Counter::ReceivedAfXdp) > 0,
            "each worker got some"
        );
    }
    assert_eq!(echo.attachments.verdicts().of(Verdict::Redirected), 800);
    echo.stop();
}

#[test]
fn generic_mode_serves_both_families_on_one_queue() {
    let bed = Bed::new(1, 1);
    let listeners = both_families(BackendChoice::AfXdp, Some(Mode::Generic));
    let echo = Echo::start(&bed.server(), &listeners, 1).expect("generic mode can be had anywhere");
    for report in &echo.reports {
        assert!(matches!(&report.got, Got::AfXdp(device) if device.mode == Mode::Generic));
    }
    echo_many(&bed, 4, 20);
    assert_eq!(echo.count(Counter::SentAfXdp), 160);
    assert_eq!(echo.attachments.verdicts().of(Verdict::Redirected), 160);
    echo.stop();
}

#[test]
fn the_kernels_sockets_serve_both_families() {
    let bed = Bed::new(1, 2);
    let echo = Echo::start(&bed.server(), &both_families(BackendChoice::Udp, None), 2)
        .expect("the kernel's sockets can be had anywhere");
    for report in &echo.reports {
        assert!(
            matches!(&report.got, Got::Udp { why_not: None }),
            "{report}"
        );
    }
    echo_many(&bed, 20, 5);
    assert_eq!(echo.count(Counter::ReceivedUdp), 200);
    echo.eventually("the last is counted", |echo| {
        echo.count(Counter::SentUdp) == 200
    });
    assert_eq!(echo.attachments.verdicts().of(Verdict::Redirected), 0);
    echo.stop();
}
