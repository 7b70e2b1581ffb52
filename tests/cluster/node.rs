//! A Strowger that is a node of a cluster.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::kamailio::Contact;

/// A server; dropped, it is killed.
pub(crate) struct Node {
    child: Child,
    folder: PathBuf,
    pub(crate) sip: SocketAddr,
    pub(crate) dmq: SocketAddr,
}

impl Node {
    /// Starts one that serves SIP at `sip`, port 5062 of the same address being DMQ's, and waits until it serves.
    pub(crate) fn start(folder: &Path, sip: SocketAddr, peers: &[SocketAddr]) -> Self {
        let peers: Vec<String> = peers.iter().map(SocketAddr::to_string).collect();
        Self::start_with(folder, sip, SocketAddr::new(sip.ip(), 5_062), &peers, "")
    }

    /// The same with DMQ at `dmq`; `peers` are what stands behind `sip:`, and `more` is what else stands in `[cluster]`, and sections.
    pub(crate) fn start_with(
        folder: &Path,
        sip: SocketAddr,
        dmq: SocketAddr,
        peers: &[String],
        more: &str,
    ) -> Self {
        let folder = folder.join(format!("strowger-{}", sip.ip()));
        std::fs::create_dir_all(&folder).expect("a folder of ours");
        let peers: Vec<String> = peers.iter().map(|peer| format!("\"sip:{peer}\"")).collect();
        let ip = sip.ip();
        let number = ip.to_string().rsplit('.').next().expect("IPv4").to_owned();
        let text = format!(
            "[[listen]]\naddress = \"{sip}\"\nbackend = \"udp\"\n[workers]\ncount = 2\n[sip]\ndomains = [\"example.com\"]\n[store]\nurl = \"none\"\n\
             [admin]\nlisten = \"{ip}:8060\"\n[cluster]\nserver_id = {number}\nlisten = \"{dmq}\"\npeers = [{}]\nnat_bflag = 6\n{more}",
            peers.join(", ")
        );
        std::fs::write(folder.join("strowger.toml"), text).expect("a file of ours");
        let mut node = Self {
            child: spawn(&folder),
            folder,
            sip,
            dmq,
        };
        node.wait_until_serving();
        node
    }

    /// Kills it as a power failure would, and starts it anew, with nothing in its memory.
    pub(crate) fn restart(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("our own child");
        self.child = spawn(&self.folder);
        self.wait_until_serving();
    }

    /// Ends it as an operator would, and waits for that.
    pub(crate) fn stop(&mut self) {
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        self.child.wait().expect("our own child");
    }

    /// Starts it anew.
    pub(crate) fn resume(&mut self) {
        self.child = spawn(&self.folder);
        self.wait_until_serving();
    }

    /// Its resident memory in bytes.
    pub(crate) fn memory(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        1_024 * kib.unwrap_or(0)
    }

    /// One of its counters, by the name and the label in the metrics.
    pub(crate) fn counter(&self, name: &str, label: &str) -> u64 {
        let value = &self.ctl(&["stats.counters"])[name][label];
        value.as_u64().unwrap_or(0)
    }

    /// The status of a node, by its address.
    pub(crate) fn status_of(&self, node: SocketAddr) -> String {
        let nodes = self.ctl(&["dmq.list_nodes"]);
        let nodes = nodes.as_array().cloned().unwrap_or_default();
        let is_it =
            |shown: &&Value| shown["host"] == node.ip().to_string() && shown["port"] == node.port();
        let found = nodes.iter().find(is_it);
        found.map_or(String::new(), |found| {
            found["status"].as_str().unwrap_or_default().to_owned()
        })
    }

    /// Calls a method by the command line.
    pub(crate) fn ctl(&self, words: &[&str]) -> Value {
        let output = Command::new(binary())
            .args(["ctl", "--config"])
            .arg(self.folder.join("strowger.toml"))
            .args(words)
            .output()
            .expect("our own binary");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// The contacts of an AoR, with Kamailio's names of the fields.
    pub(crate) fn contacts(&self, aor: &str) -> Vec<Contact> {
        let found = self.ctl(&["ul.lookup", aor]);
        let contacts = found["contacts"].as_array().cloned().unwrap_or_default();
        contacts.iter().map(named_as_kamailio_does).collect()
    }

    /// How many contacts it has.
    pub(crate) fn count(&self) -> usize {
        let bindings = &self.ctl(&["stats.counters"])["bindings"];
        usize::try_from(bindings.as_u64().unwrap_or(0)).expect("few")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn wait_until_serving(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.ctl(&["core.uptime"])["state"] != "serving" {
            let ended = self.child.try_wait().expect("our own child");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "it does not serve\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "--- the server's log\n{}\n{}",
                self.log(),
                self.ctl(&["dmq.list_nodes"])
            );
        }
    }
}

fn named_as_kamailio_does(contact: &Value) -> Contact {
    let text = |key: &str| match &contact[key] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            other.to_string()
        }
    };
    let number = |key: &str| contact[key].as_u64().unwrap_or(0).to_string();
    let q = contact["q"]
        .as_f64()
        .map_or("-1".to_owned(), |q| format!("{q:.6}"));
    let fields = [
        ("Address", text("address")),
        ("Q", q),
        ("Call-ID", text("callid")),
        ("CSeq", number("cseq")),
        ("User-Agent", text("user_agent")),
        ("Received", text("received")),
        ("Path", text("path")),
        ("Ruid", text("ruid")),
        ("Instance", text("instance")),
        ("Reg-Id", number("reg_id")),
        ("Expires", number("expires")),
    ];
    fields.map(|(key, value)| (key.to_owned(), value)).into()
}

fn spawn(folder: &Path) -> Child {
    let log = std::fs::File::create(folder.join("log")).expect("a file of ours");
    Command::new(binary())
        .args(["run", "--config"])
        .arg(folder.join("strowger.toml"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("our own binary")
}

fn binary() -> PathBuf {
    let built = || env!("CARGO_BIN_EXE_strowger").into();
    std::env::var_os("STROWGER_BINARY").map_or_else(built, PathBuf::from)
}
