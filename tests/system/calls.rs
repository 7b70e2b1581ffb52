//! Phones register and call each other, on each backend, over each family of addresses: nothing fails, nothing is sent twice.

use std::time::Duration;

use super::bed::{Bed, Family, Shape};
use super::phones::{self, Phones};
use super::scratch::Scratch;
use super::server::{Metrics, Server, admin_section};

/// How the server takes its packets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Backend {
    /// AF_XDP in driver mode.
    Driver,
    /// AF_XDP in generic mode.
    Generic,
    /// The kernel's sockets.
    Udp,
}

impl Backend {
    /// The keys of a `[[listen]]` entry that ask for it on `interface`.
    pub(crate) fn keys(self, interface: &str) -> String {
        match self {
            Self::Driver => {
                format!("backend = \"af_xdp\"\ninterface = \"{interface}\"\nmode = \"driver\"\n")
            }
            Self::Generic => {
                format!("backend = \"af_xdp\"\ninterface = \"{interface}\"\nmode = \"generic\"\n")
            }
            Self::Udp => "backend = \"udp\"\n".to_owned(),
        }
    }

    fn is_xdp(self) -> bool {
        match self {
            Self::Driver | Self::Generic => true,
            Self::Udp => false,
        }
    }

    /// The value of the label `backend` that its messages are counted under.
    fn label(self) -> &'static str {
        match self {
            Self::Driver | Self::Generic => "backend=\"af_xdp\"",
            Self::Udp => "backend=\"udp\"",
        }
    }
}

/// A configuration that listens on every link of `bed` with `family` by `backend`.
pub(crate) fn configuration(bed: &Bed, family: Family, backend: Backend, workers: u8) -> String {
    let listeners = bed.links.iter().map(|link| {
        let keys = backend.keys(&link.interface);
        format!("[[listen]]\naddress = \"{}\"\n{keys}\n", link.sip(family))
    });
    let listeners: String = listeners.collect();
    let sip = "[sip]\ndomains = [\"example.com\"]\nsecret_file = \"strowger.key\"\n";
    format!(
        "{listeners}[workers]\ncount = {workers}\n\n{sip}\n{}",
        admin_section()
    )
}

/// 5,000 phones register, 2,000 of them are called; nothing fails, nothing is sent twice, and the packets went by `backend`.
fn phones_register_and_call(bed: &Bed, family: Family, backend: Backend, workers: u8) {
    let scratch = Scratch::new();
    let server = Server::start(
        &bed.server,
        &scratch,
        &configuration(bed, family, backend, workers),
    );
    let groups = phones::groups(bed.link(), family, 0..REGISTERS, 4);
    phones::register(bed.link(), &scratch, &groups, REGISTER_RATE);
    let outcomes = phones::call(bed.link(), &scratch, &groups, CALLS, CALL_RATE);
    phones::assert_clean(&outcomes);
    let metrics = assert_went_by(&server, backend);
    assert_eq!(
        metrics.sum("strowger_retransmissions_total", ""),
        0,
        "the server sent or received something twice\n{metrics}"
    );
}

/// Every message of [`phones_register_and_call`] passed by `backend` and by nothing else.
fn assert_went_by(server: &Server<'_>, backend: Backend) -> Metrics {
    // A REGISTER; and of a call INVITE, 180, 200, ACK, BYE and its 200.
    let expected = u64::from(REGISTERS + 6 * CALLS);
    let settled = server.wait_for(
        "all that was sent is counted",
        Duration::from_secs(2),
        |metrics| {
            let received = metrics.sum("strowger_messages_received_total", backend.label());
            // The server copies the XDP program's counters from time to time.
            let redirected = metrics.sum("strowger_xdp_verdicts_total", "verdict=\"redirect\"");
            received == expected && redirected == if backend.is_xdp() { expected } else { 0 }
        },
    );
    assert_eq!(
        settled.sum("strowger_messages_received_total", ""),
        expected,
        "nothing came another way\n{settled}"
    );
    settled
}

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn calls_go_through_af_xdp_in_driver_mode_on_two_queues_over_ipv4() {
    let bed = Bed::two_queues();
    phones_register_and_call(&bed, Family::V4, Backend::Driver, 2);
    assert!(
        bed.link()
            .packets_by_queue(&bed.server)
            .iter()
            .all(|packets| *packets > 0),
        "both queues were used"
    );
}

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn calls_go_through_af_xdp_in_driver_mode_on_two_queues_over_ipv6() {
    let bed = Bed::two_queues();
    phones_register_and_call(&bed, Family::V6, Backend::Driver, 2);
    assert!(
        bed.link()
            .packets_by_queue(&bed.server)
            .iter()
            .all(|packets| *packets > 0),
        "both queues were used"
    );
}

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn calls_go_through_af_xdp_in_generic_mode_over_ipv4() {
    phones_register_and_call(&Bed::one_queue(), Family::V4, Backend::Generic, 1);
}

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn calls_go_through_af_xdp_in_generic_mode_over_ipv6() {
    phones_register_and_call(&Bed::one_queue(), Family::V6, Backend::Generic, 1);
}

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn calls_go_through_udp_sockets_over_ipv4() {
    phones_register_and_call(&Bed::two_queues(), Family::V4, Backend::Udp, 2);
}

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn calls_go_through_udp_sockets_over_ipv6() {
    phones_register_and_call(&Bed::two_queues(), Family::V6, Backend::Udp, 2);
}

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn phones_refresh_their_bindings() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let server = Server::start(
        &bed.server,
        &scratch,
        &configuration(&bed, Family::V4, Backend::Driver, 2),
    );
    let groups = phones::groups(bed.link(), Family::V4, 0..200, 4);
    let outcomes = phones::register_with(bed.link(), &scratch, &groups, 100, "refresh");
    phones::assert_clean(&outcomes);
    assert_eq!(
        server.metrics().sum("strowger_bindings", ""),
        200,
        "a refresh is no second binding"
    );
}

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn a_call_comes_in_by_one_interface_and_leaves_by_the_other() {
    let (bed, scratch) = (
        Bed::new(Shape {
            links: 2,
            queues: 2,
            phone_queues: 2,
        }),
        Scratch::new(),
    );
    for family in [Family::V4, Family::V6] {
        let server = Server::start(
            &bed.server,
            &scratch,
            &configuration(&bed, family, Backend::Driver, 2),
        );
        let (callers_link, phones_link) = (&bed.links[0], &bed.links[1]);
        let groups = phones::groups(phones_link, family, 0..200, 1);
        phones::register(phones_link, &scratch, &groups, 200);
        let phones: &Phones = &groups[0];
        let callee = phones.callee(phones_link, &scratch, "callee", 200).start();
        std::thread::sleep(phones::LISTENING);
        let caller = phones
            .caller(
                callers_link,
                &scratch,
                "caller",
                phones::CALLER_PORT,
                200,
                50,
            )
            .spread();
        caller.run(phones::PATIENCE).assert_clean();
        callee.conclude(phones::AFTERWARDS).assert_clean();
        assert_eq!(
            server
                .metrics()
                .sum("strowger_messages_received_total", "backend=\"udp\""),
            0
        );
    }
}

const REGISTERS: u32 = 5_000;
const REGISTER_RATE: u32 = 1_000;
const CALLS: u32 = 2_000;
const CALL_RATE: u32 = 200;
