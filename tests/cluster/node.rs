//! A Strowger that is a node of a cluster.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::binary::binary;
use super::http;
use super::kamailio::{Contact, Dump, ends, unix_s};

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
        let peers: Vec<String> = peers.iter().map(|peer| format!("\"sip:{peer}\"")).collect();
        let ip = sip.ip().to_string();
        let number = ip.rsplit('.').next().expect("IPv4");
        let cluster = format!(
            "[cluster]\nserver_id = {number}\nlisten = \"{dmq}\"\npeers = [{}]\nnat_bflag = 6\n{more}",
            peers.join(", ")
        );
        Self::start_as(folder, (sip, dmq), "none", &cluster)
    }

    /// The same with this store, and all of `[cluster]`.
    pub(crate) fn start_as(
        folder: &Path,
        (sip, dmq): (SocketAddr, SocketAddr),
        store: &str,
        cluster: &str,
    ) -> Self {
        let folder = folder.join(format!("strowger-{}", sip.ip()));
        std::fs::create_dir_all(&folder).expect("a folder of ours");
        let text = format!(
            "[[listen]]\naddress = \"{sip}\"\nbackend = \"udp\"\n[workers]\ncount = 2\n[sip]\ndomains = [\"example.com\"]\n\
             [store]\nurl = \"{store}\"\n[admin]\nlisten = \"{}:8060\"\n{cluster}",
            sip.ip()
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
        self.kill();
        self.resume();
    }

    /// Kills it as a power failure would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("our own child");
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its SIP address.
    pub(crate) const fn sip(&self) -> SocketAddr {
        self.sip
    }

    /// The result of a method, asked for without a process of its own.
    pub(crate) fn call(&self, method: &str) -> Value {
        self.call_with(method, "[]")
    }

    /// As above, with parameters.
    pub(crate) fn call_with(&self, method: &str, params: &str) -> Value {
        let admin = SocketAddr::new(self.sip.ip(), 8_060);
        let request = format!(
            "{{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"{method}\", \"params\": {params}}}"
        );
        let answer = http::post(admin, "/rpc", &request).unwrap_or_default();
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        answer["result"].clone()
    }

    /// The value of one series of the metrics.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let admin = SocketAddr::new(self.sip.ip(), 8_060);
        let page = http::get(admin, "/metrics").unwrap_or_default();
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {series}\n{page}"));
        value.parse().expect("a whole number")
    }

    /// Of its memory, in bytes: what `key` of proc_pid_status(5) says.
    pub(crate) fn memory_of(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib =
            line.and_then(|line| line.trim_matches(&[':', ' ', '\t'][..]).strip_suffix(" kB"));
        kib.expect("a size").parse::<u64>().expect("a number") * 1_024
    }

    /// What the location takes, in bytes, by its own account.
    pub(crate) fn bindings_bytes(&self) -> u64 {
        let categories = &self.call("core.memory")["categories"];
        let bytes = ["bindings", "texts", "interned", "indexes"];
        let bytes = bytes.map(|category| categories[category].as_u64().expect("a number"));
        bytes.iter().sum()
    }

    /// The time that its threads have run.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let spans = tasks.map(|task| {
            let path = task.expect("a thread").path().join("schedstat");
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
            Duration::from_nanos(nanos.unwrap_or(0))
        });
        spans.sum()
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
        usize::try_from(self.memory_of("VmRSS")).expect("64 bits")
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
        let before = unix_s();
        let found = self.call_with("ul.lookup", &format!("[\"{aor}\"]"));
        named_as_kamailio_does(&found["contacts"], (before, unix_s()))
    }

    /// All contacts.
    pub(crate) fn dump(&self) -> Dump {
        let (mut dump, mut cursor) = (Dump::new(), String::new());
        loop {
            let before = unix_s();
            let page = self.call_with("ul.dump", &format!("{{{cursor}\"limit\": 1000}}"));
            let asked = (before, unix_s());
            let aors = page["aors"].as_array().expect("a page");
            dump.extend(aors.iter().map(|aor| {
                let name = aor["aor"].as_str().expect("an AoR").to_owned();
                (name, named_as_kamailio_does(&aor["contacts"], asked))
            }));
            match page["next"].as_str() {
                Some(next) => cursor = format!("\"cursor\": \"{next}\", "),
                None => return dump,
            }
        }
    }

    /// The CSeq of the first contact of an AoR.
    pub(crate) fn cseq(&self, aor: &str) -> Option<u64> {
        let found = self.call_with("ul.lookup", &format!("[\"{aor}\"]"));
        found["contacts"][0]["cseq"].as_u64()
    }

    /// How many contacts it has.
    pub(crate) fn count(&self) -> usize {
        let bindings = &self.call("stats.counters")["bindings"];
        usize::try_from(bindings.as_u64().unwrap_or(0)).expect("few")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn wait_until_serving(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.call("core.uptime")["state"] != "serving" {
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
        if std::thread::panicking() {
            let nodes = self.ctl(&["dmq.list_nodes"]);
            eprintln!("--- the server's log\n{}\n{nodes:#}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn named_as_kamailio_does(contacts: &Value, asked: (i64, i64)) -> Vec<Contact> {
    let contacts = contacts.as_array().map(Vec::as_slice).unwrap_or_default();
    let named = contacts.iter().map(|contact| {
        let q = contact["q"].as_f64().unwrap_or(-1.0);
        let expires = ends(asked, contact["expires"].as_i64().expect("seconds"));
        NAMES
            .iter()
            .map(|(key, own)| {
                let value = &contact[*own];
                let none = if *own == "reg_id" { "0" } else { "" };
                let text = if value.is_null() {
                    none.to_owned()
                } else {
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned)
                };
                ((*key).to_owned(), text)
            })
            .chain([
                ("Q".to_owned(), format!("{q:.3}")),
                ("Expires".to_owned(), expires),
            ])
            .collect()
    });
    let mut named: Vec<Contact> = named.collect();
    named.sort_by(|some, other| some["Address"].cmp(&other["Address"]));
    named
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

/// Kamailio's names of what is shown, and ours.
const NAMES: &[(&str, &str)] = &[
    ("Address", "address"),
    ("Call-ID", "callid"),
    ("CSeq", "cseq"),
    ("User-Agent", "user_agent"),
    ("Received", "received"),
    ("Path", "path"),
    ("Flags", "flags"),
    ("CFlags", "cflags"),
    ("Methods", "methods"),
    ("Ruid", "ruid"),
    ("Instance", "instance"),
    ("Reg-Id", "reg_id"),
    ("Server-Id", "server_id"),
];
