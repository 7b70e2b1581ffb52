//! Ports of loopback for the servers of tests, which may end and come back to the port they had.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below `net.ipv4.ip_local_port_range` (32768 to 60999, ip(7)): from there the kernel gives one to each connection that is
/// made, also a port whose server is away just then.
const RANGE: Range<u16> = 10_000..32_000;

/// The first of `count` ports in a row that are free for UDP and TCP, and that no other test of this process has had since the
/// range was last through.
pub(crate) fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let size = RANGE.end - RANGE.start - count;
    // Processes begin apart from each other.
    let begin = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(size)).expect("less");
    for _ in 0..size / count {
        let number = u32::from(begin) + u32::from(NEXT.fetch_add(count, Ordering::Relaxed));
        let first = RANGE.start + u16::try_from(number % u32::from(size)).expect("less");
        if (first..first + count).all(is_free) {
            return first;
        }
    }
    panic!("no {count} ports in a row are free in {RANGE:?}; `ss -lnp` shows who has them");
}

/// One such port.
pub(crate) fn free_port() -> u16 {
    free_ports(1)
}

fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
}
