//! By which ways nodes speak: at a listener's own address, over TCP, and at whatever addresses a name has.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::folder::Folder;
use super::impostor::Impostor;
use super::kamailio::Kamailio;
use super::node::Node;
use super::phone::Phone;

fn address(third: u8, last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, third, last], 5_060))
}

#[track_caller]
fn wait_for(what: &str, wanted: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !wanted() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Registers, refreshes and removes a contact at each in turn; all must agree within a second.
fn register_everywhere(a: &Kamailio, b: &Kamailio, c: &Node) {
    let mut phone = Phone::new();
    let at = [a.sip, b.sip, c.sip];
    let told = |user: &str| [a.contacts(user), b.contacts(user), c.contacts(user)];
    for (n, sip) in at.into_iter().enumerate() {
        let user = format!("user{n}");
        let register = |phone: &mut Phone, sip, seconds: u32| {
            let contact = format!("<sip:{user}@10.1.2.3:5060>;expires={seconds}");
            phone.register(sip, &user, &contact, "");
        };
        for (sip, seconds, count) in [
            (sip, 600, 1),
            (at[(n + 1) % 3], 900, 1),
            (at[(n + 2) % 3], 0, 0),
        ] {
            let since = Instant::now();
            register(&mut phone, sip, seconds);
            let is_right = || {
                let expires = |contact: &super::kamailio::Contact| {
                    let earliest = contact["Expires"].split(' ').next().unwrap_or_default();
                    earliest.parse::<i64>().unwrap_or(0) > i64::from(seconds) - 10
                };
                told(&user)
                    .iter()
                    .all(|held| held.len() == count && held.iter().all(expires))
            };
            while !is_right() {
                assert!(
                    since.elapsed() < Duration::from_secs(1),
                    "{user}: {:#?}",
                    told(&user)
                );
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

#[test]
fn dmq_is_spoken_at_the_listeners_own_address_as_kamailio_does() {
    let folder = Folder::new(133);
    let (a, b, c) = (address(133, 1), address(133, 2), address(133, 3));
    let a = Kamailio::start(&folder.path, a, &[b, c]);
    let b = Kamailio::start(&folder.path, b, &[a.sip, c]);
    let peers = [a.sip.to_string(), b.sip.to_string()];
    let mut c = Node::start_with(&folder.path, c, c, &peers, "");
    let all_know = |c: &Node| {
        wait_for("all know each other", || {
            c.ctl(&["cluster.status"])["active"] == 2 && a.active() == 3 && b.active() == 3
        });
    };
    all_know(&c);
    register_everywhere(&a, &b, &c);
    // All of it came by the workers, who serve phones at the same address meanwhile.
    assert!(c.counter("cluster_messages_received", "contacts") > 5);
    let mut phone = Phone::new();
    phone.register(a.sip, "early", "<sip:early@10.1.2.3:5060>;expires=600", "");
    c.restart();
    all_know(&c);
    wait_for("C has it again", || c.contacts("early").len() == 1);
}

#[test]
fn dmq_is_spoken_over_tcp_with_kamailio_both_ways() {
    let folder = Folder::new(134);
    let (a, b, c) = (address(134, 1), address(134, 2), address(134, 3));
    let dmq = SocketAddr::new(c.ip(), 5_062);
    let a = Kamailio::start_over_tcp(&folder.path, a, &[b, dmq]);
    let mut b = Kamailio::start_over_tcp(&folder.path, b, &[a.sip, dmq]);
    let peers = [a.sip, b.sip].map(|peer| format!("{peer};transport=tcp"));
    let mut c = Node::start_with(&folder.path, c, dmq, &peers, "ping_s = 1\n");
    let all_know = |a: &Kamailio, b: &Kamailio, c: &Node| {
        wait_for("all know each other", || {
            c.ctl(&["cluster.status"])["active"] == 2 && a.active() == 3 && b.active() == 3
        });
    };
    all_know(&a, &b, &c);
    let nodes = c.ctl(&["dmq.list_nodes"]);
    let nodes = nodes.as_array().cloned().unwrap_or_default();
    assert!(
        nodes.iter().skip(1).all(|node| node["proto"] == "tcp"),
        "{nodes:#?}"
    );
    register_everywhere(&a, &b, &c);
    // Each side connects anew when the other was away.
    let mut phone = Phone::new();
    phone.register(a.sip, "early", "<sip:early@10.1.2.3:5060>;expires=600", "");
    c.restart();
    all_know(&a, &b, &c);
    wait_for("C has it again", || c.contacts("early").len() == 1);
    b.restart();
    all_know(&a, &b, &c);
    wait_for("B has it again", || b.contacts("early").len() == 1);
    phone.register(c.sip, "late", "<sip:late@10.1.2.3:5060>;expires=600", "");
    wait_for("B hears what is new", || b.contacts("late").len() == 1);
}

#[test]
fn dmq_over_tcp_at_the_listeners_own_address() {
    let folder = Folder::new(135);
    let (a, c) = (address(135, 1), address(135, 3));
    let a = Kamailio::start_over_tcp(&folder.path, a, &[c]);
    let peers = [format!("{};transport=tcp", a.sip)];
    let c = Node::start_with(&folder.path, c, c, &peers, "");
    wait_for("both know each other", || {
        c.ctl(&["cluster.status"])["active"] == 1 && a.active() == 2
    });
    let mut phone = Phone::new();
    phone.register(a.sip, "there", "<sip:there@10.1.2.3:5060>;expires=600", "");
    phone.register(c.sip, "here", "<sip:here@10.1.2.3:5060>;expires=600", "");
    wait_for("both have both", || a.count() == 2 && c.count() == 2);
}

/// A DNS server that has one name, with the addresses that it is told.
struct Dns {
    address: SocketAddr,
    ips: Arc<Mutex<Option<Vec<[u8; 4]>>>>,
    is_over: Arc<AtomicBool>,
}

impl Dns {
    fn start(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).expect("an address of loopback");
        let wait = Some(Duration::from_millis(20));
        socket.set_read_timeout(wait).expect("a timeout");
        let dns = Self {
            address,
            ips: Arc::default(),
            is_over: Arc::default(),
        };
        let (ips, is_over) = (Arc::clone(&dns.ips), Arc::clone(&dns.is_over));
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while !is_over.load(Ordering::SeqCst) {
                let Ok((len, from)) = socket.recv_from(&mut query) else {
                    continue;
                };
                if let Some(ips) = &*ips.lock().expect("no panic") {
                    let _ = socket.send_to(&answer(&query[..len], ips), from);
                }
            }
        });
        dns
    }

    /// The name's addresses from now on; `None`: nothing is answered.
    fn say(&self, ips: Option<Vec<[u8; 4]>>) {
        *self.ips.lock().expect("no panic") = ips;
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

/// A records with a TTL of a second; of any other type there is nothing.
fn answer(query: &[u8], ips: &[[u8; 4]]) -> Vec<u8> {
    let question = &query[12..];
    let name_len = question.iter().position(|byte| *byte == 0).expect("a name") + 1;
    let question = &question[..name_len + 4];
    let is_a = question[name_len..] == [0, 1, 0, 1];
    let ips = if is_a { ips } else { &[] };
    let count = u8::try_from(ips.len()).expect("few");
    let mut answer = [
        &query[..2],
        &[0x84, 0, 0, 1, 0, count, 0, 0, 0, 0],
        question,
    ]
    .concat();
    for ip in ips {
        answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(ip);
    }
    answer
}

#[test]
fn a_name_stands_for_all_its_addresses_and_is_looked_up_again() {
    let folder = Folder::new(136);
    let dns = Dns::start(SocketAddr::from(([127, 0, 136, 53], 5_353)));
    let nodes: Vec<Impostor> = (11..=13)
        .map(|last| Impostor::start(address(136, last)))
        .collect();
    let more = format!(
        "ping_s = 1\n[dns]\nservers = [\"{}\"]\ntimeout_ms = 1000\n",
        dns.address
    );
    dns.say(Some(vec![[127, 0, 136, 11], [127, 0, 136, 12]]));
    let peers = ["nodes.example.com:5060".to_owned()];
    let own = address(136, 3);
    let server = Node::start_with(
        &folder.path,
        own,
        SocketAddr::new(own.ip(), 5_062),
        &peers,
        &more,
    );
    let status = |n: usize| server.status_of(nodes[n].address);
    wait_for("both addresses are nodes", || {
        status(0) == "active" && status(1) == "active"
    });
    assert_eq!(status(2), "");
    // Another record takes the place of one: within a look, which comes every five seconds.
    dns.say(Some(vec![[127, 0, 136, 12], [127, 0, 136, 13]]));
    wait_for("the new address is a node, the old one none", || {
        status(2) == "active" && status(0).is_empty()
    });
    let list = nodes[0].list(&[]);
    assert_eq!(
        nodes[0].ask(server.dmq, "notification_peer", &list),
        None,
        "it is not listened to"
    );
    // The DNS falls silent, over a look: what it said last stands.
    dns.say(None);
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(
        (status(1), status(2)),
        ("active".to_owned(), "active".to_owned())
    );
}
