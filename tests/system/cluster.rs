//! DMQ at a listener's own address, over AF_XDP as over the kernel's sockets: another node, whose messages arrive among the phones'.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::bed::{Bed, Family};
use super::calls::{Backend, configuration};
use super::scratch::Scratch;
use super::server::Server;

/// A node and a phone at one address of the phones' namespace.
struct Other {
    socket: UdpSocket,
    server: SocketAddr,
    count: u32,
}

impl Other {
    fn send(&self, text: &str) {
        let sent = self.socket.send_to(text.as_bytes(), self.server);
        sent.expect("a packet leaves");
    }

    /// Receives until a message is as `wanted` says; answers what is asked, as Kamailio does.
    #[track_caller]
    fn receive(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let (deadline, mut buffer) = (Instant::now() + Duration::from_secs(5), [0; 65_536]);
        while Instant::now() < deadline {
            let Ok((len, from)) = self.socket.recv_from(&mut buffer) else {
                continue;
            };
            assert_eq!(from, self.server, "it comes from the listener's address");
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if text.starts_with("KDMQ ") {
                let header = |name: &str| {
                    let mut lines = text.lines();
                    let line = lines.find(|line| line.starts_with(name));
                    line.unwrap_or_default().to_owned()
                };
                let names = ["Via:", "To:", "From:", "CSeq:", "Call-ID:"];
                let copied: String = names.iter().map(|name| header(name) + "\r\n").collect();
                self.send(&format!(
                    "SIP/2.0 200 OK\r\n{copied}Content-Length: 0\r\n\r\n"
                ));
            }
            if wanted(&text) {
                return text;
            }
        }
        panic!("not within 5 s: {what}");
    }

    fn kdmq(&mut self, channel: &str, hops: u32, body: &str) -> String {
        self.count += 1;
        let (own, to, n) = (
            self.socket.local_addr().expect("bound"),
            self.server,
            self.count,
        );
        format!(
            "KDMQ sip:{channel}@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKk{n}k\r\nTo: <sip:{channel}@{to}>\r\n\
             From: <sip:{channel}@{own}>;tag={n}\r\nCSeq: 10 KDMQ\r\nCall-ID: k{n}\r\nContent-Length: {}\r\nMax-Forwards: {hops}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// What a phone does here is told there, and what is told here a phone is called by.
fn tell_each_other(other: &mut Other, server: &Server<'_>) {
    let node = other.socket.local_addr().expect("it is bound");
    for n in 0..50 {
        other.send(&format!(
            "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {node};branch=z9hG4bKr{n}\r\nMax-Forwards: 70\r\n\
             From: <sip:u{n}@example.com>;tag=1\r\nTo: <sip:u{n}@example.com>\r\nCall-ID: r{n}\r\nCSeq: 1 REGISTER\r\n\
             Contact: <sip:u{n}@{node}>;expires=600\r\nContent-Length: 0\r\n\r\n"
        ));
        other.receive("the 200 of a REGISTER", |text| {
            text.contains(&format!("branch=z9hG4bKr{n}"))
        });
    }
    other.receive("the last one as a contact", |text| {
        text.contains("\"aor\":\"u49\"")
    });
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let until = now.expect("after 1970").as_secs() + 600;
    let contact = format!(
        "{{\"action\":1,\"aor\":\"there\",\"ruid\":\"r-1\",\"c\":\"sip:there@{node}\",\"expires\":{until},\"last_modified\":{}}}",
        until - 600
    );
    let contact = other.kdmq("usrloc", 1, &contact);
    other.send(&contact);
    other.receive("its answer", |text| text.contains("branch=z9hG4bKk2k"));
    server.wait_for("it is held", Duration::from_secs(2), |metrics| {
        metrics.sum(
            "strowger_cluster_contacts_received_total",
            "outcome=\"taken\"",
        ) == 1
    });
    other.send(&format!(
        "INVITE sip:there@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {node};branch=z9hG4bKcall\r\nMax-Forwards: 70\r\n\
         From: <sip:u1@example.com>;tag=1\r\nTo: <sip:there@example.com>\r\nCall-ID: call\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:u1@{node}>\r\nContent-Length: 0\r\n\r\n"
    ));
    other.receive("the call", |text| {
        text.starts_with(&format!("INVITE sip:there@{node} "))
    });
}

fn nodes_and_phones_share_an_address(backend: Backend) {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let link = bed.link();
    let (sip, node) = (
        link.sip(Family::V4),
        SocketAddr::new(link.phone(Family::V4), 5_060),
    );
    let cluster =
        format!("\n[cluster]\nserver_id = 1\nlisten = \"{sip}\"\npeers = [\"sip:{node}\"]\n");
    let configuration = configuration(&bed, Family::V4, backend, 2) + &cluster;
    let server = Server::start(&bed.server, &scratch, &configuration);
    let socket = link
        .phones
        .inside(|| UdpSocket::bind(node))
        .expect("an address of the bed");
    let wait = Some(Duration::from_millis(100));
    socket.set_read_timeout(wait).expect("a timeout");
    let mut other = Other {
        socket,
        server: sip,
        count: 0,
    };

    other.receive("its list of nodes", |text| {
        text.starts_with("KDMQ sip:notification_peer@")
    });
    // Max-Forwards 0 would be refused in any other method, and a list is answered with a list.
    let list = format!("sip:{node};status=active\r\n");
    let list = other.kdmq("notification_peer", 0, &list);
    other.send(&list);
    let answer = other.receive("its answer", |text| text.contains("branch=z9hG4bKk1k"));
    assert!(
        answer.starts_with("SIP/2.0 200")
            && answer.contains(&format!("sip:{sip};status=active\r\n")),
        "{answer}"
    );
    tell_each_other(&mut other, &server);
    let metrics = server.metrics();
    assert_eq!(
        metrics.sum("strowger_cluster_drops_total", ""),
        0,
        "{metrics}"
    );
    let kernel = metrics.sum("strowger_messages_received_total", "backend=\"udp\"");
    let ring = metrics.sum("strowger_messages_received_total", "backend=\"af_xdp\"");
    let is_right = match backend {
        Backend::Udp => ring == 0,
        Backend::Driver | Backend::Generic => kernel == 0 && ring > 50,
    };
    assert!(is_right, "{metrics}");
}

#[test]
fn nodes_and_phones_share_an_address_over_af_xdp() {
    nodes_and_phones_share_an_address(Backend::Driver);
}

#[test]
fn nodes_and_phones_share_an_address_over_udp() {
    nodes_and_phones_share_an_address(Backend::Udp);
}
