//! The neighbour cache beside the kernel's: what the kernel says is followed, and what it cannot see is found out.

use std::cell::Cell;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use strowger::counters::Counter;

use crate::bed::Bed;
use crate::echo::Echo;
use crate::paths::{THE_KERNELS_WORD_IS_HEARD_WITHIN, bound, one_each};
use crate::socket;

/// Somebody who calls through the server, and somebody who is called, both at peer 0.
struct Calls {
    caller: UdpSocket,
    callee: UdpSocket,
    number: Cell<u32>,
}

impl Calls {
    fn new(bed: &Bed) -> Self {
        let callee = bound(bed, 0, "0.0.0.0:7000");
        callee
            .set_read_timeout(Some(A_MESSAGE_IS_LOST_AFTER))
            .expect("a timeout");
        Self {
            caller: bed.at_peer(0, || socket("10.77.0.1:5060")),
            callee,
            number: Cell::new(0),
        }
    }

    fn send(&self, address: &str) -> String {
        self.number.set(self.number.get() + 1);
        let text = format!("call {}", self.number.get());
        self.caller
            .send(format!("TO 0 {address}:7000 {text}").as_bytes())
            .expect("sent");
        text
    }

    /// One call; whether it arrives. One that came late, after it had been given up, is passed over.
    fn arrives(&self, address: &str) -> bool {
        let text = self.send(address);
        let mut buffer = [0; 2_000];
        while let Ok(len) = self.callee.recv(&mut buffer) {
            if buffer.get(..len) == Some(text.as_bytes()) {
                return true;
            }
        }
        false
    }

    /// Calls until one leaves by AF_XDP and arrives: the neighbour is known. The kernel's word reaches the thread that keeps the
    /// cache, which must be given a processor first; by its own looking the kernel would find a wrong address after five seconds
    /// and more.
    fn learn(&self, echo: &Echo, address: &str) {
        let start = Instant::now();
        while start.elapsed() < THE_KERNELS_WORD_IS_HEARD_WITHIN {
            let before = echo.count(Counter::SentAfXdp);
            if self.arrives(address) && echo.count(Counter::SentAfXdp) > before {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{address} is not known: {:?}", echo.attachments.verdicts());
    }
}

#[test]
fn the_neighbour_cache_follows_the_kernel() {
    let bed = Bed::new(1, 1);
    let echo = Echo::start(&bed.server(), &one_each(1), 1).expect("AF_XDP can be had here");
    let calls = Calls::new(&bed);
    calls.learn(&echo, "10.77.0.2");

    // The peer gets another MAC address, and the kernel is told: frames to the old one would be lost.
    bed.peer_runs(0, "ip link set p0 address 02:00:00:00:77:02");
    bed.server_runs("ip neigh replace 10.77.0.2 lladdr 02:00:00:00:77:02 dev s0");
    calls.learn(&echo, "10.77.0.2");

    // The kernel forgets it, and finds it again by itself.
    bed.server_runs("ip neigh flush to 10.77.0.2");
    calls.learn(&echo, "10.77.0.2");
    echo.stop();
}

#[test]
fn a_route_that_changes_is_followed() {
    let bed = Bed::new(2, 1);
    let echo = Echo::start(&bed.server(), &one_each(2), 1).expect("AF_XDP can be had here");
    let calls = Calls::new(&bed);
    // Behind a router; then the route goes by the other interface, and the kernel must send.
    bed.peer_runs(0, "ip address add 10.88.0.2/32 dev lo");
    bed.server_runs("ip route add 10.88.0.0/24 via 10.77.0.2");
    calls.learn(&echo, "10.88.0.2");
    bed.peer_runs(1, "sysctl -q net.ipv4.ip_forward=1");
    bed.server_runs("ip route replace 10.88.0.0/24 via 10.77.1.2");
    // Nobody answers for it there: that is as it should be.
    let lose = || {
        calls.send("10.88.0.2");
        std::thread::sleep(Duration::from_millis(5));
    };
    let by_kernel = echo.count(Counter::SentUdp);
    let misses = echo.count(Counter::NeighborMisses);
    let start = Instant::now();
    while echo.count(Counter::SentUdp) == by_kernel {
        assert!(
            start.elapsed() < THE_KERNELS_WORD_IS_HEARD_WITHIN,
            "the change of the route is seen"
        );
        lose();
    }
    let by_kernel = echo.count(Counter::SentUdp);
    let by_frames = echo.count(Counter::SentAfXdp);
    (0..20).for_each(|_| lose());
    echo.eventually("all have come", |echo| {
        echo.count(Counter::SentUdp) >= by_kernel + 20
    });
    assert_eq!(
        echo.count(Counter::SentAfXdp),
        by_frames,
        "what has been seen stays seen"
    );
    assert!(
        echo.count(Counter::NeighborMisses) <= misses + 3,
        "what is the kernel's is no miss"
    );
    echo.stop();
}

#[test]
fn a_neighbour_in_use_that_is_gone_is_found_out() {
    let bed = Bed::new(2, 1);
    for (name, value) in [
        ("base_reachable_time_ms", 500),
        ("delay_first_probe_time", 1),
        ("retrans_time_ms", 100),
    ] {
        bed.server_runs(&format!("sysctl -q net.ipv4.neigh.s0.{name}={value}"));
    }
    let echo = Echo::start(&bed.server(), &one_each(2), 1).expect("AF_XDP can be had here");
    let callee = bound(&bed, 0, "0.0.0.0:7000");
    callee
        .set_read_timeout(Some(Duration::from_millis(50)))
        .expect("a timeout");
    // The callee never sends: all that the kernel hears of it is what it asks for itself.
    let caller = bed.at_peer(1, || socket("10.77.1.1:5060"));
    let arrives = || {
        caller.send(b"TO 0 10.77.0.2:7000 one way").expect("sent");
        callee.recv(&mut [0; 20]).is_ok()
    };
    let learn = |echo: &Echo| {
        let before = echo.count(Counter::SentAfXdp);
        echo.eventually("it leaves by AF_XDP", |echo| {
            arrives() && echo.count(Counter::SentAfXdp) > before
        });
    };
    learn(&echo);
    // Another station takes the address over and tells nobody.
    bed.peer_runs(0, "ip link set p0 address 02:00:00:00:77:03");
    while callee.recv(&mut [0; 20]).is_ok() {}
    assert!(!arrives(), "frames go to the station that was");
    let is_found = (0..400).any(|_| arrives());
    assert!(
        is_found,
        "the kernel confirms what is in use, and finds the new one"
    );
    learn(&echo);
    echo.stop();
}

/// How long the callee waits for one message where some may be lost.
const A_MESSAGE_IS_LOST_AFTER: Duration = Duration::from_millis(100);
