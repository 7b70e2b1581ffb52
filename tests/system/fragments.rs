//! Messages larger than the link's MTU arrive in IP fragments, by the kernel's sockets, and leave the same way.

use std::time::Duration;

use super::bed::{Bed, Family};
use super::calls::{Backend, configuration};
use super::phones;
use super::scratch::Scratch;
use super::server::Server;

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn calls_with_fragmented_messages_complete_over_ipv4() {
    fragmented_calls_complete(Family::V4);
}

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn calls_with_fragmented_messages_complete_over_ipv6() {
    fragmented_calls_complete(Family::V6);
}

/// Every INVITE and every 200 to it is fragmented; every call completes, and nothing is sent twice.
fn fragmented_calls_complete(family: Family) {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let server = Server::start(
        &bed.server,
        &scratch,
        &configuration(&bed, family, Backend::Driver, 2),
    );
    let groups = phones::groups(bed.link(), family, 0..CALLS, 1);
    phones::register(bed.link(), &scratch, &groups, 1_000);
    let before = reassembled(&bed, family);
    let padding = "p".repeat(PADDING_LEN);
    let callee = groups[0]
        .callee(bed.link(), &scratch, "callee", CALLS)
        .key("padding", &padding)
        .start();
    std::thread::sleep(phones::LISTENING);
    let caller = groups[0].caller(
        bed.link(),
        &scratch,
        "caller",
        phones::CALLER_PORT,
        CALLS,
        50,
    );
    let caller = caller
        .key("padding", &padding)
        .hold(Duration::from_millis(100))
        .spread();
    let outcome = caller.run(phones::PATIENCE);
    let metrics = server.metrics();
    outcome.assert_clean();
    callee.conclude(phones::AFTERWARDS).assert_clean();
    assert_eq!(
        reassembled(&bed, family) - before,
        u64::from(2 * CALLS),
        "INVITE and 200 of each call came in fragments"
    );
    assert_eq!(
        metrics.sum("strowger_messages_received_total", "backend=\"udp\""),
        u64::from(2 * CALLS),
        "{metrics}"
    );
}

/// Datagrams that the server's kernel has put together from fragments.
fn reassembled(bed: &Bed, family: Family) -> u64 {
    let (file, counter) = match family {
        Family::V4 => ("snmp", "ReasmOKs"),
        Family::V6 => ("snmp6", "Ip6ReasmOKs"),
    };
    let text = bed
        .server
        .inside(|| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")));
    let text = text.expect("Linux has it");
    let value = match family {
        Family::V4 => {
            let mut lines = text.lines().filter(|line| line.starts_with("Ip: "));
            let names = lines.next().expect("the names of IPv4's counters");
            let values = lines.next().expect("their values");
            names
                .split(' ')
                .zip(values.split(' '))
                .find(|(name, _)| *name == counter)
                .map(|(_, value)| value)
        }
        Family::V6 => text.lines().find_map(|line| line.strip_prefix(counter)),
    };
    value
        .expect("the counter")
        .trim()
        .parse()
        .expect("a number")
}

const CALLS: u32 = 2_000;
/// Two fragments at an MTU of 1,500 bytes, and more than a frame's worth with the headers of neither.
const PADDING_LEN: usize = 2_000;
