//! Kamailio A, Kamailio B and Strowger C.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::kamailio::{Contact, Kamailio};
use super::node::Node;
use super::phone::Phone;

/// Three nodes, on addresses of loopback that no other test has.
struct Cluster {
    a: Kamailio,
    b: Kamailio,
    c: Node,
    folder: PathBuf,
}

impl Cluster {
    fn start(third: u8) -> Self {
        let folder = std::env::temp_dir().join(format!("stg{}-cluster{third}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        let address = |last| SocketAddr::from(([127, 0, third, last], 5_060));
        let dmq = SocketAddr::from(([127, 0, third, 3], 5_062));
        let a = Kamailio::start(&folder, address(1), &[address(2), dmq]);
        let b = Kamailio::start(&folder, address(2), &[address(1), dmq]);
        let c = Node::start(&folder, address(3), &[address(1), address(2)]);
        let cluster = Self { a, b, c, folder };
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
    fn wait_for(&self, what: &str, patience: Duration, wanted: impl Fn() -> bool) {
        let deadline = Instant::now() + patience;
        while !wanted() {
            assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
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

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Whether both tell the same, as far as the first tells it; the seconds that are left may differ by a few.
fn are_alike(some: &[Contact], others: &[Contact]) -> bool {
    let is_alike = |(one, other): (&Contact, &Contact)| {
        one.iter().all(|(key, value)| {
            let number = |text: &str| text.parse::<i64>().unwrap_or(-10);
            let told = other.get(key).map_or("", String::as_str);
            if key == "Expires" {
                (number(value) - number(told)).abs() <= 3
            } else {
                told == value
            }
        })
    };
    some.len() == others.len() && some.iter().zip(others).all(is_alike)
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

/// How many contacts a restart is tried with: `STROWGER_CLUSTER_CONTACTS` has more.
fn contacts() -> usize {
    let wanted = std::env::var("STROWGER_CLUSTER_CONTACTS").ok();
    wanted.and_then(|wanted| wanted.parse().ok()).unwrap_or(600)
}

#[test]
fn a_node_that_comes_back_is_brought_up_to_date() {
    let mut cluster = Cluster::start(92);
    let mut phone = Phone::new();
    let count = contacts();
    for n in 0..count {
        let at = cluster.addresses()[n % 3];
        phone.register(
            at,
            &format!("user{n}"),
            &format!("<sip:user{n}@10.1.2.3:5060>;expires=3600"),
            "",
        );
    }
    let is_full = |cluster: &Cluster| {
        let counts = [cluster.a.count(), cluster.b.count(), cluster.c.count()];
        counts.iter().all(|held| *held == count)
    };
    let patience = Duration::from_secs(10 + count as u64 / 5_000);
    cluster.wait_for("all have all", patience, || is_full(&cluster));
    let sample: Vec<String> = (0..9).map(|n| format!("user{}", n * count / 9)).collect();
    let before: Vec<Vec<Contact>> = sample.iter().map(|aor| cluster.b.contacts(aor)).collect();

    // C is brought up to date by A and B, then A by B and C.
    cluster.c.restart();
    cluster.wait_for("C has all again", patience, || is_full(&cluster));
    cluster.a.restart();
    cluster.wait_for("A has all again", patience, || is_full(&cluster));
    for (aor, before) in sample.iter().zip(&before) {
        assert!(are_alike(before, &cluster.a.contacts(aor)), "{aor} at A");
        assert!(are_alike(&cluster.c.contacts(aor), before), "{aor} at C");
        assert_eq!(cluster.a.contacts(aor)[0]["Ruid"], before[0]["Ruid"]);
    }
    assert_eq!(cluster.c.ctl(&["cluster.status"])["synced"], true);
}
