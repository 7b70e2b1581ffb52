//! A phone behind a NAT, which lets in nobody but the node that it registered at, is called from another node.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use super::folder::Folder;
use super::kamailio::Kamailio;
use super::node::Node;

/// One end of a call.
struct End {
    socket: UdpSocket,
    own: SocketAddr,
}

impl End {
    /// A phone that anybody reaches.
    fn open() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let patience = Some(Duration::from_millis(200));
        socket.set_read_timeout(patience).expect("a timeout");
        let own = socket.local_addr().expect("it is bound");
        Self { socket, own }
    }

    /// A phone behind a NAT: what does not come from `node` never arrives.
    fn behind_nat_to(node: SocketAddr) -> Self {
        let end = Self::open();
        end.socket.connect(node).expect("an address");
        end
    }

    fn send(&self, to: SocketAddr, text: &str) {
        let text = text.replace('\n', "\r\n");
        let sent = match self.socket.peer_addr() {
            Ok(node) if node == to => self.socket.send(text.as_bytes()),
            _ => self.socket.send_to(text.as_bytes(), to),
        };
        sent.expect("a packet leaves");
    }

    /// Waits for a message that begins so.
    #[track_caller]
    fn hear(&self, beginning: &str) -> (String, SocketAddr) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut buffer = [0; 65_536];
        while Instant::now() < deadline {
            if let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
                if text.starts_with(beginning) {
                    return (text, from);
                }
                assert!(
                    !text.starts_with("SIP/2.0 4") && !text.starts_with("SIP/2.0 5"),
                    "{text}"
                );
            }
        }
        panic!("no {beginning}");
    }
}

fn values<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    fields
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect()
}

fn answer(request: &str, contact: &str) -> String {
    let mut text = "SIP/2.0 200 OK\n".to_owned();
    for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
        for value in values(request, name) {
            let tag = if name == "To" && !value.contains(";tag=") {
                ";tag=callee"
            } else {
                ""
            };
            text += &format!("{name}: {value}{tag}\n");
        }
    }
    format!("{text}Contact: <{contact}>\nContent-Length: 0\n\n")
}

/// Bob, behind his NAT, registers at `home`.
fn register(bob: &End, home: SocketAddr) {
    bob.send(
        home,
        &format!(
            "REGISTER sip:example.com SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.9:5060;rport;branch=z9hG4bKreg\nMax-Forwards: 70\n\
             From: <sip:bob@example.com>;tag=r\nTo: <sip:bob@example.com>\nCall-ID: bobs\nCSeq: 1 REGISTER\n\
             Contact: <{BOB}>;expires=600\nContent-Length: 0\n\n"
        ),
    );
    bob.hear("SIP/2.0 200");
}

/// Alice calls Bob at `near`; the call is answered, and hung up by her. Bob hears all of it from `home`, or he would hear nothing.
#[track_caller]
fn call(alice: &End, bob: &End, near: SocketAddr, home: SocketAddr) {
    let own = alice.own;
    let request = |method: &str, uri: &str, to: &str, routes: &str, cseq: u32| {
        format!(
            "{method} {uri} SIP/2.0\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bK{method}{cseq}\nMax-Forwards: 70\n{routes}\
             From: <sip:alice@example.com>;tag=a\nTo: {to}\nCall-ID: call@{own}\nCSeq: {cseq} {method}\n\
             Contact: <sip:alice@{own}>\nContent-Length: 0\n\n"
        )
    };
    let to = "<sip:bob@example.com>";
    alice.send(near, &request("INVITE", "sip:bob@example.com", to, "", 1));
    let (invite, from) = bob.hear("INVITE ");
    assert_eq!(from, home);
    assert!(invite.contains("sip:bob@10.0.0.9"), "{invite}");
    bob.send(home, &answer(&invite, BOB));
    let (ok, _) = alice.hear("SIP/2.0 200");
    let routes: String = values(&ok, "Record-Route")
        .iter()
        .flat_map(|line| line.split(','))
        .collect::<Vec<_>>()
        .iter()
        .rev()
        .map(|route| format!("Route: {}\n", route.trim()))
        .collect();
    let contact = values(&ok, "Contact")[0];
    let uri = contact
        .trim_start_matches('<')
        .split('>')
        .next()
        .expect("a URI");
    let to = values(&ok, "To")[0];
    for (method, cseq) in [("ACK", 1), ("BYE", 2)] {
        alice.send(near, &request(method, uri, to, &routes, cseq));
        let (heard, from) = bob.hear(method);
        assert_eq!(from, home, "{heard}");
        if method == "BYE" {
            bob.send(home, &answer(&heard, BOB));
            alice.hear("SIP/2.0 200");
        }
    }
}

#[track_caller]
fn wait_for_bob(near: &Node) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while near.contacts("bob").is_empty() {
        assert!(
            Instant::now() < deadline,
            "{}",
            near.ctl(&["dmq.list_nodes"])
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The nodes of a cluster share their keys.
fn share_keys(folder: &Path, from: SocketAddr, with: SocketAddr) {
    let place = |of: SocketAddr| folder.join(format!("strowger-{}", of.ip()));
    std::fs::create_dir_all(place(with)).expect("a folder of ours");
    std::fs::copy(
        place(from).join("strowger.key"),
        place(with).join("strowger.key"),
    )
    .expect("the keys that the first one made");
}

#[test]
fn it_is_reached_by_way_of_the_strowger_that_it_registered_at() {
    let folder = Folder::new(111);
    let address = |last| SocketAddr::from(([127, 0, 111, last], 5_060));
    let dmq = |last| SocketAddr::from(([127, 0, 111, last], 5_062));
    let home = Node::start(&folder.path, address(1), &[dmq(2)]);
    share_keys(&folder.path, address(1), address(2));
    let near = Node::start(&folder.path, address(2), &[dmq(1)]);
    let (alice, bob) = (End::open(), End::behind_nat_to(home.sip));
    register(&bob, home.sip);
    wait_for_bob(&near);
    call(&alice, &bob, near.sip, home.sip);
    // From where he registered it is as ever.
    call(&End::open(), &bob, home.sip, home.sip);
}

#[test]
fn it_is_reached_by_way_of_the_kamailio_that_it_registered_at() {
    let folder = Folder::new(112);
    let address = |last| SocketAddr::from(([127, 0, 112, last], 5_060));
    let dmq = SocketAddr::from(([127, 0, 112, 2], 5_062));
    let home = Kamailio::start_router(&folder.path, address(1), &[dmq]);
    let near = Node::start(&folder.path, address(2), &[address(1)]);
    let (alice, bob) = (End::open(), End::behind_nat_to(home.sip));
    register(&bob, home.sip);
    wait_for_bob(&near);
    call(&alice, &bob, near.sip, home.sip);
}

#[test]
fn a_kamailio_that_is_told_a_path_reaches_it_by_way_of_the_strowger_that_it_registered_at() {
    let folder = Folder::new(113);
    let address = |last| SocketAddr::from(([127, 0, 113, last], 5_060));
    let dmq = |last| SocketAddr::from(([127, 0, 113, last], 5_062));
    let mut near = Kamailio::start_proxy(&folder.path, address(3), &[dmq(1)]);
    let told = "path_for_kamailio = true\n";
    let start = |last, other| {
        let peers = [dmq(other), address(3)].map(|peer| peer.to_string());
        Node::start_with(&folder.path, address(last), dmq(last), &peers, told)
    };
    let home = start(1, 2);
    share_keys(&folder.path, address(1), address(2));
    let other = start(2, 1);
    let (alice, bob) = (End::open(), End::behind_nat_to(home.sip));
    register(&bob, home.sip);
    wait_for_bob(&other);
    let wait_for_path = |near: &Kamailio| {
        let start = Instant::now();
        loop {
            let contacts = near.contacts("bob");
            match contacts.first() {
                Some(bob) if bob["Path"].starts_with("<sip:flow.") => break bob["Path"].clone(),
                _ => assert!(start.elapsed() < Duration::from_secs(20), "{contacts:?}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let path = wait_for_path(&near);
    assert!(path.ends_with(&format!("@{};lr>", home.sip)), "{path}");
    call(&alice, &bob, near.sip, home.sip);
    // The nodes of our kind hold the content that the phone registered, also when the Kamailio has told them all that it has.
    near.restart();
    assert_eq!(wait_for_path(&near), path);
    for node in [&home, &other] {
        assert_eq!(node.contacts("bob")[0]["Path"], "");
    }
    call(&End::open(), &bob, near.sip, home.sip);
    call(&End::open(), &bob, other.sip, home.sip);
}

/// Where Bob says that he is.
const BOB: &str = "sip:bob@10.0.0.9:5060";
