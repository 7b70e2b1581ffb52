//! What operators and phones send to see whether the server is there: OPTIONS, and the empty lines that keep a NAT open.

use std::net::UdpSocket;
use std::time::Duration;

use super::bed::{Bed, Family};
use super::calls::{Backend, configuration};
use super::namespace::run;
use super::scratch::Scratch;
use super::server::Server;

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn sipsak_gets_200_to_its_options() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let server = Server::start(
        &bed.server,
        &scratch,
        &configuration(&bed, Family::V4, Backend::Driver, 2),
    );
    let target = format!("sip:{}", bed.link().sip(Family::V4));
    let said = run(bed
        .link()
        .phones
        .command("sipsak")
        .args(["-vv", "-s", &target]));
    assert!(said.contains("SIP/2.0 200"), "{said}");
    assert_eq!(
        server
            .metrics()
            .sum("strowger_requests_total", "method=\"OPTIONS\""),
        1
    );
}

#[test]
#[ignore = "needs root and network namespaces: bash tests/run.sh"]
fn an_empty_line_is_answered_with_an_empty_line() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    for (family, backend) in [
        (Family::V4, Backend::Driver),
        (Family::V6, Backend::Driver),
        (Family::V4, Backend::Udp),
    ] {
        let server = Server::start(
            &bed.server,
            &scratch,
            &configuration(&bed, family, backend, 2),
        );
        let (phone, sip) = (bed.link().phone(family), bed.link().sip(family));
        let answer = bed.link().phones.inside(|| {
            let socket = UdpSocket::bind((phone, 0)).expect("an address of this namespace");
            socket
                .set_read_timeout(Some(Duration::from_secs(2)))
                .expect("a socket takes a timeout");
            // RFC 5626 3.5.1: a double CRLF is a ping, a single one its pong.
            socket.send_to(b"\r\n\r\n", sip).expect("a packet leaves");
            let mut answer = [0; 64];
            let (len, from) = socket
                .recv_from(&mut answer)
                .expect("a keepalive is answered");
            assert_eq!(from, sip);
            answer[..len].to_vec()
        });
        assert_eq!(answer, b"\r\n");
        assert_eq!(server.metrics().sum("strowger_keepalives_total", ""), 1);
    }
}
