//! What Kamailio 5.6 cannot stand: none of it is sent by us, and none of it does us harm.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::folder::Folder;
use super::impostor::{Got, Impostor, contact};
use super::node::Node;
use super::phone::Phone;

struct Bed {
    server: Node,
    peer: Impostor,
    dmq: SocketAddr,
    _folder: Folder,
}

impl Bed {
    fn start(third: u8, more: &str) -> Self {
        let folder = Folder::new(third);
        let address = |last, port| SocketAddr::from(([127, 0, third, last], port));
        let peer = Impostor::start(address(9, 5_060));
        let dmq = address(3, 5_062);
        let peers = [peer.address.to_string()];
        let server = Node::start_with(&folder.path, address(3, 5_060), dmq, &peers, more);
        let bed = Self {
            server,
            peer,
            dmq,
            _folder: folder,
        };
        bed.wait_for("it is active", || {
            bed.server.status_of(bed.peer.address) == "active"
        });
        bed
    }

    #[track_caller]
    fn wait_for(&self, what: &str, wanted: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !wanted() {
            assert!(Instant::now() < deadline, "not within 20 s: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the peer was told of a user with this action.
    fn was_told(&self, action: u32, user: &str) -> bool {
        let (action, aor) = (
            format!("\"action\":{action},"),
            format!("\"aor\":\"{user}\""),
        );
        let told = |got: &Got| {
            let text = got.text();
            text.split("{\"action\"").any(|part| {
                let part = format!("\"action\"{part}");
                part.starts_with(&action) && part.contains(&aor)
            })
        };
        self.peer.contacts().iter().any(told)
    }
}

#[test]
fn nothing_that_kamailio_cannot_stand_is_sent_on_any_path() {
    let mut bed = Bed::start(131, "ping_s = 1\n");
    let (sip, mut phone) = (bed.server.sip, Phone::new());
    let register = |phone: &mut Phone, user: &str, seconds: u32| {
        let contact = format!("<sip:{user}@10.1.2.3:5060>;expires={seconds}");
        phone.register(sip, user, &contact, "");
    };
    // Live: one, many at once, texts that must be escaped, and removals.
    register(&mut phone, "first", 600);
    bed.wait_for("a change", || bed.was_told(1, "first"));
    (0..200).for_each(|n| register(&mut phone, &format!("many{n}"), 600));
    let odd =
        "<sip:odd@10.1.2.3:5060;x=%22>;q=0.3;expires=600;+sip.instance=\"<urn:uuid:\\\"a\\\\b>\"";
    phone.register(
        sip,
        "odd",
        odd,
        "Supported: path\r\nPath: <sip:edge.example.com;lr>\r\n",
    );
    register(&mut phone, "first", 0);
    bed.wait_for("a removal", || bed.was_told(2, "first"));
    bed.wait_for("all changes", || {
        bed.was_told(1, "many199") && bed.was_told(1, "odd")
    });
    // Everything, as an answer to SYNC.
    let before = bed.peer.contacts().len();
    assert_eq!(bed.peer.ask(bed.dmq, "usrloc", "{\"action\":3}"), Some(200));
    bed.wait_for("everything", || bed.peer.contacts().len() >= before + 4);
    // A join, which we answer and pass on. Repair: it is away, misses something, and comes back.
    let list = bed.peer.list(&[]);
    let join = bed.peer.request(bed.dmq, "notification_peer", &list);
    let join = join.replace("Max-Forwards: 1", "Max-Forwards: 2");
    assert_eq!(bed.peer.ask_with(bed.dmq, &join), Some(200));
    bed.peer.be_silent(true);
    bed.wait_for("it is missed", || {
        bed.server.status_of(bed.peer.address) == "timeout"
    });
    register(&mut phone, "missed", 600);
    register(&mut phone, "many7", 0);
    bed.peer.be_silent(false);
    bed.wait_for("repair", || {
        bed.was_told(1, "missed") && bed.was_told(2, "many7")
    });
    // Leaving, and coming again.
    bed.server.stop();
    let last = bed
        .peer
        .got()
        .into_iter()
        .rfind(|got| got.is_list() && got.is_request());
    let own = format!("sip:{};status=disabled\r\n", bed.dmq);
    assert_eq!(last.expect("a farewell").text(), own);
    bed.server.resume();
    bed.wait_for("it is back", || {
        bed.server.status_of(bed.peer.address) == "active"
    });

    let got = bed.peer.got();
    got.iter().for_each(|got| assert_harmless(got, bed.dmq));
    assert_syncs_are_sent_once(&got);
    let requests = got.iter().filter(|got| got.is_request());
    println!(
        "{} requests and {} answers are harmless",
        requests.clone().count(),
        got.len() - requests.count()
    );
}

/// What the notes on Kamailio's DMQ say of traps, one after the other (`docs/cluster.md`, "What Kamailio cannot stand").
fn assert_harmless(got: &Got, own: SocketAddr) {
    let text = got.text();
    let what = format!("{}\n{text}", got.head);
    assert!(
        got.head.len() + got.body.len() + 2 < 65_507,
        "longer than a datagram: {what}"
    );
    let length = got.header("Content-Length").parse();
    assert_eq!(length, Ok(got.body.len()), "{what}");
    let is_list = got.header("Content-Type") == "text/plain";
    if is_list {
        // A line without its end, a status that is not known, a host to be looked up, a body past the buffer: it locks up for ever.
        assert!(
            got.body.len() <= 1_000 && text.ends_with("\r\n") && !text.contains("\r\n\r\n"),
            "{what}"
        );
        for line in text.lines() {
            let uri = line.strip_prefix("sip:").expect("a SIP URI");
            let (node, params) = uri.split_once(';').expect("a status");
            node.parse::<SocketAddr>().expect("an address with a port");
            let status = params.strip_prefix("transport=tcp;").unwrap_or(params);
            assert!(
                matches!(status, "status=active" | "status=disabled"),
                "{what}"
            );
            assert!(
                status == "status=active" || node == own.to_string(),
                "another's state: {what}"
            );
        }
    }
    if !got.is_request() {
        assert!(is_list || got.body.is_empty(), "{what}");
        return;
    }
    // Who does not say exactly who he is has the answer to his SYNC sent to everybody.
    assert!(
        got.header("From").contains(&format!("@{own}>;tag=")),
        "{what}"
    );
    assert_eq!(got.header("CSeq"), "10 KDMQ");
    assert!(matches!(got.header("Max-Forwards"), "1" | "2"), "{what}");
    if !is_list {
        assert_contacts_are_harmless(&text);
    }
}

fn assert_contacts_are_harmless(text: &str) {
    assert!(
        !text.is_empty() && text != "{}",
        "an empty root ends the process"
    );
    let body: Value = serde_json::from_str(text).expect("JSON that is whole");
    let root = body.as_object().expect("an object");
    let several = root
        .get("multi")
        .map(|multi| multi.as_object().expect("an object"));
    if let Some(several) = several {
        assert!(
            text.starts_with("{\"multi\":{\"") && root.len() == 1,
            "multi is not the first: {text}"
        );
        assert!((1..=150).contains(&several.len()), "{text}");
    }
    let flat = std::iter::once(&body).filter(|_| several.is_none());
    for contact in several
        .into_iter()
        .flat_map(|several| several.values())
        .chain(flat)
    {
        let action = contact["action"].as_u64();
        if action == Some(3) {
            assert_eq!(text, "{\"action\":3}");
            continue;
        }
        assert!(
            matches!(action, Some(1 | 2)),
            "an action that is answered 400: {text}"
        );
        assert_contact_is_harmless(contact, text);
    }
}

fn assert_contact_is_harmless(contact: &Value, text: &str) {
    // Texts that are left out are those of the message before.
    for key in TEXTS {
        let value = contact[key].as_str();
        assert!(value.is_some(), "{key} is missing: {text}");
        let may_be_empty = !matches!(*key, "aor" | "ruid" | "c");
        assert!(may_be_empty || value != Some(""), "{key} is empty: {text}");
    }
    for key in NUMBERS {
        assert!(contact[key].is_i64(), "{key} is missing: {text}");
    }
    let ruid = contact["ruid"].as_str();
    assert!(ruid.is_some_and(|ruid| ruid.len() <= 64), "{text}");
    // A socket of the receiver's own would be overwritten with freed memory; what 5.6 does not know it logs, each time.
    let keys = contact.as_object().expect("an object").len();
    let known = 1 + TEXTS.len() + NUMBERS.len();
    assert_eq!(keys, known, "a key that 5.6 does not know: {text}");
}

/// Each retransmission of a SYNC would begin another dump.
fn assert_syncs_are_sent_once(got: &[Got]) {
    let mut seen: HashMap<&str, Instant> = HashMap::new();
    for got in got.iter().filter(|got| got.body == b"{\"action\":3}") {
        let before = seen.insert(got.header("Call-ID"), got.at);
        assert!(before.is_none(), "a SYNC is sent twice: {}", got.head);
    }
    assert!(!seen.is_empty());
}

#[test]
fn nothing_that_kamailio_cannot_stand_does_us_harm() {
    let bed = Bed::start(132, "allow = [\"127.0.132.0/24\"]\n");
    let (to, peer) = (bed.dmq, &bed.peer);
    let good = peer.list(&[to]);
    let held = |user: &str| bed.server.contacts(user).len();
    // Lists that lock Kamailio up: each is answered, and the good one behind it, too.
    for bad in [
        format!("{good}sip:10.0.0.9:5060;status=not_active\r\n"),
        format!("{good}sip:10.0.0.9:5060;status=activ"),
        format!("{good}sip:no-such-host.invalid:5060;status=active\r\n"),
        format!("{good}this is no URI\r\n"),
        good.repeat(200),
        String::new(),
    ] {
        assert_eq!(peer.ask(to, "notification_peer", &bad), Some(200), "{bad}");
        assert_eq!(peer.ask(to, "notification_peer", &good), Some(200), "{bad}");
    }
    // What ends its process, or has it keep what is not there.
    for (body, status) in [
        ("{}", 400),
        ("", 400),
        ("{\"multi\":{}}", 200),
        ("{\"action\":1,\"aor\":\"cut", 400),
        ("{\"action\":9}", 400),
        ("{\"action\":0}", 200),
        ("{\"action\":1,\"aor\":\"lean\",\"ruid\":\"r-lean\"}", 200),
        ("{\"action\":2,\"aor\":\"nobody\",\"ruid\":\"r-none\"}", 200),
    ] {
        assert_eq!(peer.ask(to, "usrloc", body), Some(status), "{body}");
    }
    assert_eq!(held("lean"), 0, "a contact without its texts");
    assert_eq!(peer.ask(to, "no_such_peer", "x"), Some(404));
    // A key that 5.6 does not know, a socket of ours, and a contact that is older than what is held.
    let newer = contact(
        1,
        "newer",
        ",\"xavps\":{\"a\":[{\"b\":1}]},\"sock\":\"udp:127.0.132.3:5060\",\"sockname\":\"x\"",
    );
    assert_eq!(peer.ask(to, "usrloc", &newer), Some(200));
    bed.wait_for("the contact with more keys", || held("newer") == 1);
    assert_eq!(peer.ask(to, "usrloc", &contact(2, "newer", "")), Some(200));
    bed.wait_for("its removal", || held("newer") == 0);
    // A SYNC of somebody without a port, who is no node: it is answered to nobody, least of all to everybody.
    let before = peer.contacts().len();
    let sync = peer.request(to, "usrloc", "{\"action\":3}");
    let stranger = sync.replace(&format!("usrloc@{}>", peer.address), "usrloc@10.0.0.77>");
    assert_eq!(peer.ask_with(to, &stranger), None);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(peer.contacts().len(), before);
    // One SYNC that comes four times is one.
    assert_eq!(peer.ask(to, "usrloc", &contact(1, "held", "")), Some(200));
    let mut phone = Phone::new();
    phone.register(bed.server.sip, "own", "<sip:own@10.1.2.3>;expires=600", "");
    bed.wait_for("it is told", || bed.was_told(1, "own"));
    peer.forget();
    let sync = peer.request(to, "usrloc", "{\"action\":3}");
    (0..4).for_each(|_| assert_eq!(peer.ask_with(to, &sync), Some(200)));
    bed.wait_for("everything", || {
        bed.was_told(1, "own") && bed.was_told(1, "held")
    });
    std::thread::sleep(Duration::from_millis(500));
    let told = peer.contacts();
    let told: usize = told
        .iter()
        .map(|got| got.text().matches("\"aor\":\"own\"").count())
        .sum();
    assert_eq!(told, 1, "a dump for each retransmission");
    assert_eq!(bed.server.status_of(peer.address), "active");
}

/// The keys of a contact that are texts.
const TEXTS: &[&str] = &[
    "aor",
    "ruid",
    "c",
    "received",
    "path",
    "callid",
    "user_agent",
    "instance",
];
/// Those that are numbers, beside the action.
const NUMBERS: &[&str] = &[
    "expires",
    "cseq",
    "flags",
    "cflags",
    "q",
    "last_modified",
    "methods",
    "reg_id",
    "server_id",
];
