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
}

impl Node {
    /// Starts one that serves SIP at `sip`, port 5062 of the same address being DMQ's, and waits until it serves.
    pub(crate) fn start(folder: &Path, sip: SocketAddr, peers: &[SocketAddr]) -> Self {
        let folder = folder.join(format!("strowger-{}", sip.ip()));
        std::fs::create_dir_all(&folder).expect("a folder of ours");
        let peers: Vec<String> = peers.iter().map(|peer| format!("\"sip:{peer}\"")).collect();
        let ip = sip.ip();
        let text = format!(
            "[[listen]]\naddress = \"{sip}\"\nbackend = \"udp\"\n[workers]\ncount = 2\n[sip]\ndomains = [\"example.com\"]\n[store]\nurl = \"none\"\n\
             [cluster]\nserver_id = 3\nlisten = \"{ip}:5062\"\npeers = [{}]\nnat_bflag = 6\n[admin]\nlisten = \"{ip}:8060\"\n",
            peers.join(", ")
        );
        std::fs::write(folder.join("strowger.toml"), text).expect("a file of ours");
        let mut node = Self {
            child: spawn(&folder),
            folder,
            sip,
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
