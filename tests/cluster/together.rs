//! Kamailio A, Kamailio B and Strowger C.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::crowd::{Crowd, Random};
use super::folder::Folder;
use super::kamailio::{Contact, Dump, Kamailio};
use super::node::Node;
use super::pair::{asked, wait_for};
use super::phone::Phone;

/// Three nodes, on addresses of loopback that no other test has.
struct Cluster {
    a: Kamailio,
    b: Kamailio,
    c: Node,
    _folder: Folder,
}

impl Cluster {
    fn start(third: u8) -> Self {
        let folder = Folder::new(third);
        let address = |last| SocketAddr::from(([127, 0, third, last], 5_060));
        let dmq = SocketAddr::from(([127, 0, third, 3], 5_062));
        let a = Kamailio::start(&folder.path, address(1), &[address(2), dmq]);
        let b = Kamailio::start(&folder.path, address(2), &[address(1), dmq]);
        let c = Node::start(&folder.path, address(3), &[address(1), address(2)]);
        let cluster = Self {
            a,
            b,
            c,
            _folder: folder,
        };
        cluster.wait_for("all know each other", Duration::from_secs(20), || {
            let active = |kamailio: &Kamailio| {
                let nodes = kamailio.rpc(&["dmq.list_nodes"]).unwrap_or_default();
                nodes.matches("status: active").count() == 3
            };
            cluster.c.ctl(&["cluster.status"])["active"] == 2
                && active(&cluster.a)
                && active(&cluster.b)
        });
        cluster
    }

    fn addresses(&self) -> [SocketAddr; 3] {
        [self.a.sip, self.b.sip, self.c.sip]
    }

    #[track_caller]
    fn wait_for(&self, what: &str, patience: Duration, wanted: impl FnMut() -> bool) -> Duration {
        wait_for(what, patience, wanted)
    }

    /// Waits, a second at most, until all three tell the same of an AoR, with so many contacts of which the first has this URI.
    #[track_caller]
    fn agree(&self, aor: &str, count: usize, uri: &str) {
        let told = || {
            [
                self.a.contacts(aor),
                self.b.contacts(aor),
                self.c.contacts(aor),
            ]
        };
        let is_right = |contacts: &[Vec<Contact>; 3]| {
            let are_alike = contacts
                .iter()
                .all(|others| are_alike(&contacts[2], others));
            let first = contacts[0]
                .first()
                .map(|contact| contact["Address"].as_str());
            are_alike && contacts[0].len() == count && (count == 0 || first == Some(uri))
        };
        // What is asked takes time as well: three commands of its own.
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            let (asked, contacts) = (Instant::now(), told());
            if is_right(&contacts) {
                return;
            }
            assert!(
                asked < deadline,
                "{aor}: {contacts:#?}\n{}",
                self.c.ctl(&["dmq.list_nodes"])
            );
        }
    }
}

/// Whether both tell the same.
fn are_alike(some: &[Contact], others: &[Contact]) -> bool {
    let is_alike = |(one, other): (&Contact, &Contact)| {
        let mut fields = one.iter().zip(other);
        one.len() == other.len()
            && fields.all(|((key, value), (_, told))| {
                value == told || (key == "Expires" && is_one_moment(value, told))
            })
    };
    some.len() == others.len() && some.iter().zip(others).all(is_alike)
}

/// Whether two spans of seconds have one in common, within the second that rounding takes.
fn is_one_moment(some: &str, other: &str) -> bool {
    let span = |text: &str| {
        let (from, to) = text.split_once(' ').expect("two moments");
        let number = |text: &str| text.parse::<i64>().expect("seconds");
        (number(from), number(to))
    };
    let (some, other) = (span(some), span(other));
    some.0 <= other.1 + 1 && other.0 <= some.1 + 1
}

/// Asserts that two nodes tell the same of all contacts.
#[track_caller]
pub(crate) fn assert_alike(what: &str, some: &Dump, others: &Dump) {
    let nothing = Vec::new();
    let differing = some.keys().chain(others.keys()).find(|aor| {
        let [some, others] = [some, others].map(|dump| dump.get(*aor).unwrap_or(&nothing));
        !are_alike(some, others)
    });
    if let Some(aor) = differing {
        panic!("{what}: {aor}: {:#?} {:#?}", some.get(aor), others.get(aor));
    }
}

#[test]
fn what_is_done_on_any_node_is_right_on_all_within_a_second() {
    let cluster = Cluster::start(91);
    let mut phone = Phone::new();
    let rich = "<sip:rich@10.1.2.3:5070;ob>;q=0.7;expires=500;reg-id=1;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\"";
    let path = "Supported: path\r\nPath: <sip:edge.example.com;lr>\r\n";
    for (n, at) in cluster.addresses().into_iter().enumerate() {
        let user = format!("user{n}");
        let uri = format!("sip:{user}@10.1.2.3:5060");
        phone.register(at, &user, &format!("<{uri}>;expires=600"), "");
        cluster.agree(&user, 1, &uri);
        // It is refreshed, changed and removed elsewhere each time.
        for (step, at) in cluster.addresses().into_iter().enumerate() {
            phone.register(
                at,
                &user,
                &format!("<{uri}>;expires={}", 700 + 100 * step),
                "",
            );
            cluster.agree(&user, 1, &uri);
            std::thread::sleep(Duration::from_millis(500));
        }
        let next = cluster.addresses()[(n + 1) % 3];
        phone.register(next, &user, &format!("<{uri}>;expires=0"), "");
        cluster.agree(&user, 0, "");
    }
    for (n, at) in cluster.addresses().into_iter().enumerate() {
        let user = format!("rich{n}");
        phone.register(at, &user, rich, path);
        cluster.agree(&user, 1, "sip:rich@10.1.2.3:5070;ob");
    }
}

/// How many contacts a restart is tried with: `STROWGER_CLUSTER_CONTACTS` of them, else few enough for every run.
fn contacts() -> usize {
    let asked = asked("STROWGER_CLUSTER_CONTACTS", 20_000);
    usize::try_from(asked).expect("a number of contacts")
}

#[test]
fn a_node_that_comes_back_is_brought_up_to_date() {
    let mut cluster = Cluster::start(92);
    let contacts = contacts();
    let users = move || (0..contacts).map(|n| format!("user{n}"));
    // Few register at the Kamailios: they tell of one contact at a time, and nobody anew of what was lost.
    let shares = [0..FEW, FEW..2 * FEW, 2 * FEW..contacts];
    for (at, share) in cluster.addresses().into_iter().zip(shares) {
        Crowd::new(at).register(share);
    }
    let is_full = |nodes: &[usize]| nodes.iter().all(|count| *count == contacts);
    let patience = Duration::from_secs(20 + contacts as u64 / 2_000);
    let mut counts = [0; 3];
    cluster.wait_for("all have all", patience, || {
        let now = [cluster.a.count(), cluster.b.count(), cluster.c.count()];
        if std::mem::replace(&mut counts, now) != now {
            println!("contacts at A, B and C: {now:?}");
        }
        is_full(&now) && cluster.c.call("cluster.status")["synced"] == true
    });
    let before = cluster.a.dump(users());
    assert_alike("A and C", &before, &cluster.c.dump());

    // C is brought up to date by A alone, and A by C alone.
    cluster.b.kill();
    cluster.c.restart();
    let took = cluster.wait_for("C has all again", patience, || {
        is_full(&[cluster.c.count()])
    });
    println!("C has {contacts} contacts of A {took:?} after its start");
    assert_alike("A, and C after its restart", &before, &cluster.c.dump());
    cluster.a.restart();
    let cpu = cluster.a.cpu();
    let took = cluster.wait_for("A has all again", patience, || {
        is_full(&[cluster.a.count()])
    });
    println!(
        "A has {contacts} contacts of C {took:?} after its start, and its processes ran for {:?}",
        cluster.a.cpu() - cpu
    );
    assert_alike(
        "A before and after its restart",
        &before,
        &cluster.a.dump(users()),
    );
    cluster.b.come_back();
    cluster.wait_for("B has all again", patience, || {
        is_full(&[cluster.b.count()])
    });
    cluster.wait_for("nothing is on its way", patience, || {
        cluster.c.call("cluster.status")["synced"] == true
    });
}

/// One of a thousand operations: what a phone says to one of the nodes.
fn operation(random: &mut Random, user: &str) -> String {
    let kind = random.below(100);
    if kind < 12 {
        return "Contact: *\r\nExpires: 0\r\n".to_owned();
    }
    let contact = random.below(3);
    let uri = format!("sip:{user}@10.1.2.{contact}:5060");
    if kind < 35 {
        return format!("Contact: <{uri}>;expires=0\r\n");
    }
    let instance = match contact {
        0 => String::new(),
        _ => format!(";+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{contact:012}>\""),
    };
    let q = match random.below(4) {
        0 => String::new(),
        tenths => format!(";q=0.{tenths}"),
    };
    let path = match random.below(3) {
        0 => "Supported: path\r\nPath: <sip:edge.example.com;lr>\r\n",
        _ => "",
    };
    let agent = ["Test/1.0", "\"quoted\" \\ UA/\u{fc}", "n/a"][random.below(3) as usize];
    let expires_s = 300 + random.below(3_000);
    format!("User-Agent: {agent}\r\n{path}Contact: <{uri}>{q};expires={expires_s}{instance}\r\n")
}

#[test]
fn after_a_thousand_random_operations_anywhere_all_hold_the_same() {
    let cluster = Cluster::start(98);
    let (mut phone, mut random) = (Phone::new(), Random::new());
    let users = || (0..USERS).map(|n| format!("user{n}"));
    let mut idle_since = vec![Instant::now() - SPACING; USERS];
    let start = Instant::now();
    for _ in 0..OPERATIONS {
        let user = loop {
            let user = random.below(USERS as u64) as usize;
            if idle_since[user].elapsed() >= SPACING {
                break user;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let name = format!("user{user}");
        let at = cluster.addresses()[random.below(3) as usize];
        phone.ask(at, &name, &operation(&mut random, &name));
        idle_since[user] = Instant::now();
    }
    println!("{OPERATIONS} operations in {:?}", start.elapsed());
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        let asked = Instant::now();
        let dumps = [
            cluster.a.dump(users()),
            cluster.b.dump(users()),
            cluster.c.dump(),
        ];
        if asked >= deadline {
            assert_alike("A and B", &dumps[0], &dumps[1]);
            assert_alike("A and C", &dumps[0], &dumps[2]);
            let contacts = dumps[0].values().map(Vec::len).sum::<usize>();
            println!(
                "{contacts} contacts of {} users are the same on all three",
                dumps[0].len()
            );
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Phones that register at each Kamailio before a restart.
const FEW: usize = 500;
const OPERATIONS: usize = 1_000;
const USERS: usize = 150;
/// Between two operations on one AoR: Kamailio 5.6 takes what comes last.
const SPACING: Duration = Duration::from_millis(500);
