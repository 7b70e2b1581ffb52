//! Two Strowgers on loopback addresses, one of which has contacts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::node::{Node, binary};

/// The one that has them, and the one that is to have them.
pub(crate) struct Pair {
    pub(crate) sender: Node,
    pub(crate) receiver: Node,
    folder: PathBuf,
}

/// `strowger load`, under way; dropped, it is killed.
pub(crate) struct Load(Option<Child>);

impl Pair {
    /// Starts both on addresses of loopback that no other test has; `keys` are further ones of `[cluster]`.
    pub(crate) fn start(third: u8, keys: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("stg{}-cluster{third}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        let address = |last| SocketAddr::from(([127, 0, third, last], 5_060));
        let dmq = |last| SocketAddr::from(([127, 0, third, last], 5_062));
        let sender_keys = format!("server_id = 1\n{keys}");
        let sender = Node::start_as(&folder, address(1), &[dmq(2)], &sender_keys);
        let receiver_keys = format!("server_id = 2\n{keys}");
        let receiver = Node::start_as(&folder, address(2), &[dmq(1)], &receiver_keys);
        Self {
            sender,
            receiver,
            folder,
        }
    }

    /// Registers so many phones at the sender.
    pub(crate) fn fill(&self, contacts: u64) {
        let count = contacts.to_string();
        let further = ["--count", &count, "--phones", &count, "--time", "600"];
        let result = Load::start(self.sender.sip(), FILL_RATE, &further).finish();
        assert_eq!(
            result["kinds"][0]["succeeded"].as_u64(),
            Some(contacts),
            "{result:#}"
        );
        assert_eq!(self.sender.count() as u64, contacts);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Load {
    /// Has phones register, so many a second.
    pub(crate) fn start(server: SocketAddr, rate: u32, further: &[&str]) -> Self {
        let child = Command::new(binary())
            .args([
                "load",
                "register",
                "--json",
                "--quiet",
                "--domain",
                "example.com",
            ])
            .args(["--target", &server.to_string(), "--rate", &rate.to_string()])
            .args(further)
            .stdout(Stdio::piped())
            .spawn()
            .expect("our own binary");
        Self(Some(child))
    }

    /// Waits for its end and gives its result.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Value {
        let child = self.0.take().expect("it is taken once");
        let output = child.wait_with_output().expect("our own child");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("no result: {}", output.status))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
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

/// Registrations a second of the phones that a node is filled with.
const FILL_RATE: u32 = 40_000;
