//! Two Strowgers on loopback addresses, one of which has contacts.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::crowd::Crowd;
use super::folder::Folder;
use super::node::Node;

/// The one that has them, and the one that is to have them.
pub(crate) struct Pair {
    pub(crate) sender: Node,
    pub(crate) receiver: Node,
    folder: Folder,
    third: u8,
}

impl Pair {
    /// Starts both on addresses of loopback that no other test has; `keys` are further ones of `[cluster]`. The sender keeps what it has
    /// in a file where `store` is `"sqlite"`, else nowhere.
    pub(crate) fn start(third: u8, keys: &str, store: &str) -> Self {
        let folder = Folder::new(third);
        let url = match store {
            "sqlite" => format!("sqlite:{}", folder.path.join("location.db").display()),
            other => other.to_owned(),
        };
        let sender = Node::start_as(
            &folder.path,
            addresses(third, 1),
            &url,
            &section(third, 1, keys),
        );
        let cluster = section(third, 2, keys);
        let receiver = Node::start_as(&folder.path, addresses(third, 2), "none", &cluster);
        Self {
            sender,
            receiver,
            folder,
            third,
        }
    }

    /// Starts a node without a cluster beside both.
    pub(crate) fn start_alone(&self) -> Node {
        Node::start_as(&self.folder.path, addresses(self.third, 3), "none", "")
    }

    /// Registers so many phones at the sender.
    pub(crate) fn fill(&self, contacts: u64) {
        let users = usize::try_from(contacts).expect("64 bits");
        Crowd::new(self.sender.sip()).register(0..users);
        assert_eq!(self.sender.count(), users);
        wait_for("the store has all", Duration::from_secs(60), || {
            self.sender.metric("strowger_store_backlog") == 0
        });
    }

    /// Waits until the sender says that the receiver is there.
    #[track_caller]
    pub(crate) fn wait_until_met(&self) {
        wait_for("it is there", Duration::from_secs(20), || {
            self.sender.call("cluster.status")["active"] == 1
        });
    }

    /// Waits until the sender knows that the receiver, which it had met, is gone.
    #[track_caller]
    pub(crate) fn wait_until_lost(&self) {
        wait_for("it is lost", Duration::from_secs(20), || {
            self.sender.call("cluster.status")["active"] == 0
        });
    }

    /// Waits until the receiver has half of so many contacts.
    #[track_caller]
    pub(crate) fn wait_until_half(&self, contacts: u64) {
        wait_for("half is there", Duration::from_secs(60), || {
            self.receiver.count() as u64 >= contacts / 2
        });
        assert!(
            (self.receiver.count() as u64) < contacts,
            "it is over too soon"
        );
    }

    /// Waits until both have so many contacts, and nothing is on its way; says how long the first was.
    #[track_caller]
    pub(crate) fn wait_until_both_have(&self, contacts: u64) -> Duration {
        let start = Instant::now();
        wait_for("both have all", Duration::from_secs(180), || {
            let counts = [self.sender.count(), self.receiver.count()];
            counts.map(|count| count as u64) == [contacts; 2]
        });
        let took = start.elapsed();
        wait_for("nothing is on its way", Duration::from_secs(20), || {
            self.sender.call("cluster.status")["synced"] == true
        });
        took
    }
}

/// A node's address for SIP and for DMQ.
fn addresses(third: u8, last: u8) -> (SocketAddr, SocketAddr) {
    let address = |port| SocketAddr::from(([127, 0, third, last], port));
    (address(5_060), address(5_062))
}

/// The section of node 1 or 2, whose peer is the other.
fn section(third: u8, number: u8, keys: &str) -> String {
    let (own, peer) = (addresses(third, number).1, addresses(third, 3 - number).1);
    format!("[cluster]\nserver_id = {number}\nlisten = \"{own}\"\npeers = [\"sip:{peer}\"]\n{keys}")
}

/// Waits until `wanted` holds; says how long that was.
#[track_caller]
pub(crate) fn wait_for(
    what: &str,
    patience: Duration,
    mut wanted: impl FnMut() -> bool,
) -> Duration {
    let start = Instant::now();
    while !wanted() {
        assert!(
            start.elapsed() < patience,
            "not within {patience:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    start.elapsed()
}

/// A number that the environment may give: for the full sizes.
pub(crate) fn asked(variable: &str, usual: u64) -> u64 {
    let asked = std::env::var(variable).ok();
    asked.map_or(usual, |asked| asked.parse().expect("a number"))
}
