//! What a node is said to be, and how nodes come and go.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::folder::Folder;
use super::impostor::{Impostor, contact};
use super::kamailio::Kamailio;
use super::node::Node;
use super::phone::Phone;

#[track_caller]
fn wait_for(what: &str, wanted: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !wanted() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn address(third: u8, last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, third, last], port))
}

#[test]
fn a_node_is_not_active_then_active_disabled_or_in_timeout() {
    let folder = Folder::new(107);
    let peer = Impostor::start(address(107, 9, 5_060));
    peer.be_silent(true);
    let peers = [peer.address.to_string()];
    let dmq = address(107, 3, 5_062);
    let server = Node::start_with(
        &folder.path,
        address(107, 3, 5_060),
        dmq,
        &peers,
        "ping_s = 1\n",
    );
    let status = || server.status_of(peer.address);
    assert_eq!(status(), "not_active");
    peer.be_silent(false);
    wait_for("it answers", || status() == "active");
    // It says that it leaves, of itself alone.
    let leaves = format!("sip:{};status=disabled\r\n", peer.address);
    assert_eq!(peer.ask(dmq, "notification_peer", &leaves), Some(200));
    peer.be_silent(true);
    wait_for("it has left", || status() == "disabled");
    // It comes back, is silent, and comes back again.
    peer.be_silent(false);
    assert_eq!(
        peer.ask(dmq, "notification_peer", &peer.list(&[])),
        Some(200)
    );
    wait_for("it is back", || status() == "active");
    peer.be_silent(true);
    wait_for("it is missed", || status() == "timeout");
    peer.be_silent(false);
    wait_for("it is back again", || status() == "active");
}

#[test]
fn who_leaves_tells_kamailio_which_hears_of_everything_when_it_comes_back() {
    let folder = Folder::new(108);
    let (sip, dmq) = (address(108, 3, 5_060), address(108, 3, 5_062));
    let kamailio = Kamailio::start(&folder.path, address(108, 1, 5_060), &[dmq]);
    let peers = [kamailio.sip.to_string()];
    let mut server = Node::start_with(&folder.path, sip, dmq, &peers, "");
    wait_for("both know each other", || {
        kamailio.active() == 2 && server.ctl(&["cluster.status"])["active"] == 1
    });
    let left = Instant::now();
    server.stop();
    let told = || kamailio.rpc(&["dmq.list_nodes"]).unwrap_or_default();
    wait_for("Kamailio was told", || told().contains("status: disabled"));
    println!("Kamailio knew within {:?} of the signal", left.elapsed());
    // Kamailio counts it in again only when its own next ping is answered, and tells of nothing before.
    let mut phone = Phone::new();
    server.resume();
    let mut users = 0;
    while kamailio.active() < 2 {
        let user = format!("user{users}");
        phone.register(
            kamailio.sip,
            &user,
            &format!("<sip:{user}@10.1.2.3>;expires=600"),
            "",
        );
        users += 1;
        std::thread::sleep(Duration::from_millis(100));
        assert!(left.elapsed() < Duration::from_secs(40), "{}", told());
    }
    println!("{users} registered while Kamailio did not count the node in");
    wait_for("all of them are here", || server.count() == users);
}

#[test]
fn a_node_that_leaves_us_out_of_its_list_is_asked_again_when_it_counts_us_in() {
    let folder = Folder::new(109);
    let peer = Impostor::start(address(109, 9, 5_060));
    peer.list_nobody(true);
    let peers = [peer.address.to_string()];
    let dmq = address(109, 3, 5_062);
    let server = Node::start_with(
        &folder.path,
        address(109, 3, 5_060),
        dmq,
        &peers,
        "ping_s = 1\n",
    );
    let syncs = || {
        let contacts = peer.contacts();
        contacts
            .iter()
            .filter(|got| got.body == b"{\"action\":3}")
            .count()
    };
    wait_for("it is asked all the same", || syncs() == 1);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(syncs(), 1);
    peer.list_nobody(false);
    wait_for("it is asked again", || syncs() == 2);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(
        (syncs(), server.status_of(peer.address)),
        (2, "active".to_owned())
    );
}

/// A file of secrets.
fn secrets(folder: &Folder, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.path.join(name);
    std::fs::write(&path, text).expect("a file of ours");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    format!("secret_file = \"{}\"\n", path.display())
}

/// A node that knows another one and a Kamailio.
fn secretive(folder: &Folder, (last, peer): (u8, u8), more: &str) -> Node {
    let own = address(110, last, 5_062);
    let peers = [address(110, peer, 5_062), address(110, 9, 5_060)];
    let peers = peers.map(|peer| peer.to_string());
    let more = format!("ping_s = 1\n{more}");
    Node::start_with(&folder.path, address(110, last, 5_060), own, &peers, &more)
}

fn active(node: &Node) -> Option<u64> {
    node.ctl(&["cluster.status"])["active"].as_u64()
}

/// Whether a node knows that another shares its secret.
fn sealed(node: &Node, of: &Node) -> bool {
    let nodes = node.ctl(&["dmq.list_nodes"]);
    let nodes = nodes.as_array().cloned().unwrap_or_default();
    let host = of.dmq.ip().to_string();
    let mut nodes = nodes.iter();
    nodes.any(|node| node["host"] == host && node["sealed"] == true)
}

#[test]
fn a_secret_is_rolled_out_node_by_node_and_then_required() {
    let folder = Folder::new(110);
    let node = |last, peer, more: &str| secretive(&folder, (last, peer), more);
    let kamailio = Impostor::start(address(110, 9, 5_060));
    let mut phone = Phone::new();
    let mut register = |at: &Node, user: &str| {
        phone.register(
            at.sip,
            user,
            &format!("<sip:{user}@10.1.2.3>;expires=600"),
            "",
        );
    };
    let first = secrets(&folder, "first", "the first secret\n");
    // One has it, the other not yet, and Kamailio never.
    let (a, mut b) = (node(1, 2, &first), node(2, 1, ""));
    wait_for("all are there", || {
        active(&a) == Some(2) && active(&b) == Some(2)
    });
    register(&a, "one");
    register(&b, "two");
    wait_for("both have both", || a.count() == 2 && b.count() == 2);
    // The other gets it; from then on who pretends to be it, without the secret, is not heard.
    b.stop();
    drop(b);
    b = node(2, 1, &first);
    wait_for("each has shown it", || sealed(&a, &b) && sealed(&b, &a));
    register(&b, "three");
    wait_for("it is told", || a.contacts("three").len() == 1);
    let forged = kamailio.request(a.dmq, "usrloc", &contact(1, "forged", ""));
    let forged = forged.replace(
        &format!("usrloc@{}>", kamailio.address),
        &format!("usrloc@{}>", b.dmq),
    );
    assert_eq!(kamailio.ask_with(a.dmq, &forged), None);
    assert!(a.counter("cluster_drops", "unsealed") > 0);
    // A recorded message is good for nothing at another node, nor changed.
    assert_eq!(
        kamailio.ask(a.dmq, "usrloc", &contact(1, "kamailios", "")),
        Some(200)
    );
    let recorded = kamailio
        .contacts()
        .into_iter()
        .find(|got| got.head.contains("Strowger-Seal"));
    let recorded = recorded.expect("what A sends is sealed");
    let whole = format!("{}\r\n{}", recorded.head, recorded.text());
    assert_eq!(
        kamailio.ask_with(
            b.dmq,
            &whole.replace("usrloc@127.0.110.9:5060 SIP", "usrloc@127.0.110.2:5062 SIP")
        ),
        None
    );
    assert!(b.counter("cluster_drops", "bad_seal") > 0);
    // Another secret beside it, then alone; a node with neither is not heard.
    let both = secrets(&folder, "both", "the second secret\nthe first secret\n");
    drop(b);
    let b = node(2, 1, &format!("{both}unsealed = [\"127.0.110.9\"]\n"));
    wait_for("it is sealed with either", || {
        sealed(&b, &a) && active(&b) == Some(2)
    });
    let before = b.counter("cluster_drops", "bad_seal");
    drop(a);
    let a = node(1, 2, &secrets(&folder, "wrong", "a wrong secret\n"));
    wait_for("it is refused", || {
        b.counter("cluster_drops", "bad_seal") > before
    });
    register(&a, "four");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(b.contacts("four").len(), 0, "it is not heard");
}
