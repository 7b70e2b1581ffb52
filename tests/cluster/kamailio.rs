//! A registrar of Kamailio's that is a node of a cluster.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A Kamailio; dropped, it is ended.
pub(crate) struct Kamailio {
    child: Option<Child>,
    folder: PathBuf,
    pub(crate) sip: SocketAddr,
}

/// A contact as a node tells of it, by the names of its fields.
pub(crate) type Contact = BTreeMap<String, String>;

/// All contacts of a node, by AoR.
pub(crate) type Dump = BTreeMap<String, Vec<Contact>>;

impl Kamailio {
    /// Starts one at `sip`, which first speaks to `peers`.
    pub(crate) fn start(folder: &Path, sip: SocketAddr, peers: &[SocketAddr]) -> Self {
        let peers: Vec<String> = peers.iter().map(SocketAddr::to_string).collect();
        Self::start_with(folder, sip, "", &peers)
    }

    /// Starts one at `sip` that tells where its contacts registered, and sends on what comes for them by it.
    pub(crate) fn start_router(folder: &Path, sip: SocketAddr, peers: &[SocketAddr]) -> Self {
        let kamailio = Self::prepare(folder, sip);
        let file = kamailio.folder.join("kamailio.cfg");
        let peers: Vec<String> = peers.iter().map(SocketAddr::to_string).collect();
        let text = kamailio.configuration("", &peers);
        // As its operator would: the module path reads `received` of a Route, and the phone's contact is where it is.
        let loaded =
            "loadmodule \"rr.so\"\nloadmodule \"path.so\"\nmodparam(\"path\",\"use_received\",1)\n";
        let text = text
            .replace("loadmodule \"dmq.so\"\n", &format!("{loaded}loadmodule \"dmq.so\"\n"))
            .replace("replicate_socket_info\",0", "replicate_socket_info\",1")
            .replace(
                "sl_send_reply(\"404\",\"Not Found\");\n}",
                "loose_route();\n  if (is_method(\"INVITE\")) record_route();\n  t_on_reply(\"NAT\");\n  \
                 if (!t_relay()) sl_reply_error();\n}\nonreply_route[NAT] { fix_nated_contact(); }",
            );
        std::fs::write(file, text).expect("a file of ours");
        kamailio.spawned()
    }

    /// Starts one at `sip` that looks up whom a call is for, as the registrar in its own documentation does, and knows nothing of Path.
    pub(crate) fn start_proxy(folder: &Path, sip: SocketAddr, peers: &[SocketAddr]) -> Self {
        let kamailio = Self::prepare(folder, sip);
        let peers: Vec<String> = peers.iter().map(SocketAddr::to_string).collect();
        let text = kamailio.configuration("", &peers);
        let text = text
            .replace("loadmodule \"dmq.so\"\n", "loadmodule \"rr.so\"\nloadmodule \"dmq.so\"\n")
            .replace("modparam(\"registrar\",\"use_path\",1)\nmodparam(\"registrar\",\"path_mode\",0)\n", "")
            .replace(
                "sl_send_reply(\"404\",\"Not Found\");\n}",
                "if (has_totag()) { if (loose_route()) { t_relay(); exit; } if (is_method(\"ACK\")) exit; }\n  \
                 if (is_method(\"INVITE\")) record_route();\n  \
                 if (!lookup(\"location\")) { sl_send_reply(\"404\",\"Not Found\"); exit; }\n  \
                 if (!t_relay()) sl_reply_error();\n}",
            );
        std::fs::write(kamailio.folder.join("kamailio.cfg"), text).expect("a file of ours");
        kamailio.spawned()
    }

    /// Starts one at `sip` that is spoken to over TCP by the other nodes; phones come by UDP.
    pub(crate) fn start_over_tcp(folder: &Path, sip: SocketAddr, peers: &[SocketAddr]) -> Self {
        let peer = |peer: &SocketAddr| format!("{peer};transport=tcp");
        let peers: Vec<String> = peers.iter().map(peer).collect();
        Self::start_with(folder, sip, ";transport=tcp", &peers)
    }

    fn start_with(folder: &Path, sip: SocketAddr, transport: &str, peers: &[String]) -> Self {
        let kamailio = Self::prepare(folder, sip);
        let text = kamailio.configuration(transport, peers);
        std::fs::write(kamailio.folder.join("kamailio.cfg"), text).expect("a file of ours");
        kamailio.spawned()
    }

    fn prepare(folder: &Path, sip: SocketAddr) -> Self {
        let folder = folder.join(format!("kamailio-{}", sip.ip()));
        std::fs::create_dir_all(&folder).expect("a folder of ours");
        Self {
            child: None,
            folder,
            sip,
        }
    }

    fn spawned(mut self) -> Self {
        self.spawn();
        self
    }

    fn configuration(&self, transport: &str, peers: &[String]) -> String {
        let (folder, sip) = (&self.folder, self.sip);
        let modules = "/usr/lib/x86_64-linux-gnu/kamailio/modules/";
        let loaded = [
            "kex",
            "corex",
            "ctl",
            "jsonrpcs",
            "pv",
            "tm",
            "tmx",
            "sl",
            "textops",
            "siputils",
            "usrloc",
            "nathelper",
            "registrar",
            "dmq",
            "dmq_usrloc",
        ];
        let loaded: String = loaded
            .iter()
            .map(|name| format!("loadmodule \"{name}.so\"\n"))
            .collect();
        let peers: String = peers
            .iter()
            .map(|peer| format!("modparam(\"dmq\",\"notification_address\",\"sip:{peer}\")\n"))
            .collect();
        format!(
            "#!KAMAILIO\ndebug=1\nlog_stderror=yes\nfork=yes\nchildren=1\nauto_aliases=no\ndns=no\nrev_dns=no\n{tcp}\n\
             listen=udp:{sip}\nmpath=\"{modules}\"\n{loaded}{peers}\
             modparam(\"ctl\",\"binrpc\",\"unix:{ctl}\")\nmodparam(\"jsonrpcs\",\"transport\",4)\nmodparam(\"jsonrpcs\",\"dgram_socket\",\"{rpc}\")\n\
             modparam(\"usrloc\",\"db_mode\",0)\nmodparam(\"usrloc\",\"nat_bflag\",6)\n\
             modparam(\"registrar\",\"use_path\",1)\nmodparam(\"registrar\",\"path_mode\",0)\n\
             modparam(\"nathelper|registrar\",\"received_avp\",\"$avp(rcv)\")\n\
             modparam(\"dmq\",\"server_address\",\"sip:{sip}{transport}\")\nmodparam(\"dmq\",\"num_workers\",2)\nmodparam(\"dmq\",\"ping_interval\",5)\n\
             modparam(\"dmq_usrloc\",\"enable\",1)\nmodparam(\"dmq_usrloc\",\"sync\",1)\nmodparam(\"dmq_usrloc\",\"replicate_socket_info\",0)\n\
             modparam(\"dmq_usrloc\",\"batch_msg_contacts\",50)\nmodparam(\"dmq_usrloc\",\"batch_size\",500)\n\
             modparam(\"dmq_usrloc\",\"batch_usleep\",1000)\n\
             request_route {{\n  if (is_method(\"KDMQ\")) {{ dmq_handle_message(); exit; }}\n\
             if (is_method(\"REGISTER\")) {{ force_rport(); fix_nated_register(); setbflag(6); if (!save(\"location\")) sl_reply_error(); exit; }}\n\
             sl_send_reply(\"404\",\"Not Found\");\n}}\n",
            ctl = folder.join("ctl").display(),
            rpc = folder.join("rpc").display(),
            tcp = if transport.is_empty() {
                "disable_tcp=yes".to_owned()
            } else {
                format!("tcp_children=1\nlisten=tcp:{sip}")
            },
        )
    }

    /// Ends it as a power failure would, and starts it anew, with nothing in its memory.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.come_back();
    }

    /// How many nodes it counts as active, itself among them.
    pub(crate) fn active(&self) -> usize {
        let nodes = self.rpc(&["dmq.list_nodes"]).unwrap_or_default();
        nodes.matches("status: active").count()
    }

    /// Calls a method; nothing where it fails.
    pub(crate) fn rpc(&self, words: &[&str]) -> Option<String> {
        let socket = format!("unix:{}", self.folder.join("ctl").display());
        let output = Command::new("kamcmd")
            .args(["-s", &socket])
            .args(words)
            .output();
        let output = output.expect("kamcmd, of the package kamailio");
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The contacts of an AoR, each with its replicated fields but last_modified.
    pub(crate) fn contacts(&self, aor: &str) -> Vec<Contact> {
        Asker::new(self).contacts(aor)
    }

    /// The contacts of all these AoRs.
    pub(crate) fn dump(&self, aors: impl Iterator<Item = String>) -> Dump {
        let mut asker = Asker::new(self);
        aors.map(|aor| {
            let contacts = asker.contacts(&aor);
            (aor, contacts)
        })
        .filter(|(_, contacts)| !contacts.is_empty())
        .collect()
    }

    /// How many contacts it has.
    pub(crate) fn count(&self) -> usize {
        let answer = Asker::new(self).ask("stats.get_statistics", &["usrloc:"]);
        let lines = answer["result"].as_array().cloned().unwrap_or_default();
        let counts = lines.iter().filter_map(|line| {
            let count = line.as_str()?.strip_prefix("usrloc:location_contacts = ")?;
            count.parse::<usize>().ok()
        });
        counts.sum()
    }

    /// The processor time of all its processes.
    pub(crate) fn cpu(&self) -> Duration {
        let group = self.child.as_ref().expect("it runs").id();
        let processes = std::fs::read_dir("/proc").expect("proc(5)").flatten();
        let ticks = processes.filter_map(|process| {
            let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
            // Behind the name: state, parent, group, and nine places further the times in user and kernel.
            let (_, fields) = stat.rsplit_once(") ")?;
            let number = |n: usize| fields.split(' ').nth(n)?.parse::<u64>().ok();
            (number(2)? == u64::from(group)).then_some(number(11)? + number(12)?)
        });
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// Stops all its processes, or has them go on: `-STOP`, `-CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let group = format!("-{}", self.child.as_ref().expect("it runs").id());
        let status = Command::new("kill").args([signal, "--", &group]).status();
        assert!(status.expect("kill").success());
    }

    /// Kills it as a power failure would.
    pub(crate) fn kill(&mut self) {
        self.end("-KILL");
    }

    /// Starts it again, with nothing in its memory.
    pub(crate) fn come_back(&mut self) {
        self.spawn();
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn spawn(&mut self) {
        let _ = std::fs::remove_file(self.folder.join("pid"));
        let _ = std::fs::remove_file(self.folder.join("ctl"));
        let _ = std::fs::remove_file(self.folder.join("rpc"));
        let log = File::create(self.folder.join("log")).expect("a file of ours");
        let mut command = Command::new("kamailio");
        command
            .args(["-DD", "-E", "-m", "512", "-x", "tlsf", "-Y"])
            .arg(&self.folder);
        command
            .arg("-P")
            .arg(self.folder.join("pid"))
            .arg("-f")
            .arg(self.folder.join("kamailio.cfg"));
        command.stdout(Stdio::null()).stderr(log);
        // A group of its own, so that all its processes are ended with it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        self.child = Some(command.spawn().expect("Kamailio, of the package kamailio"));
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.rpc(&["core.version"]).is_none() {
            assert!(
                Instant::now() < deadline,
                "Kamailio does not start\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn end(&mut self, signal: &str) {
        if let Some(mut child) = self.child.take() {
            let group = format!("-{}", child.id());
            let _ = Command::new("kill").args([signal, "--", &group]).status();
            let _ = child.wait();
        }
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- Kamailio's log\n{}", self.log());
        }
        self.end("-KILL");
    }
}

/// Who asks a Kamailio by JSON-RPC in datagrams: thousands of questions a second, and no answer is longer than one.
struct Asker {
    socket: UnixDatagram,
    own: PathBuf,
    buffer: Vec<u8>,
}

impl Asker {
    fn new(kamailio: &Kamailio) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let own = kamailio.folder.join(format!("asker{number}"));
        let socket = UnixDatagram::bind(&own).expect("a socket");
        socket
            .connect(kamailio.folder.join("rpc"))
            .expect("Kamailio's jsonrpcs");
        let patience = Some(Duration::from_secs(10));
        socket.set_read_timeout(patience).expect("a timeout");
        Self {
            socket,
            own,
            buffer: vec![0; 65_536],
        }
    }

    fn ask(&mut self, method: &str, params: &[&str]) -> Value {
        let question = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.socket
            .send(question.to_string().as_bytes())
            .expect("it is sent");
        let len = self.socket.recv(&mut self.buffer).expect("an answer");
        serde_json::from_slice(&self.buffer[..len]).expect("JSON")
    }

    fn contacts(&mut self, aor: &str) -> Vec<Contact> {
        let before = unix_s();
        let answer = self.ask("ul.lookup", &["location", aor]);
        let contacts = answer["result"]["Contacts"].as_array();
        let contacts = contacts.map(Vec::as_slice).unwrap_or_default();
        let mut contacts: Vec<Contact> = contacts
            .iter()
            .map(|contact| contact_of(&contact["Contact"], (before, unix_s())))
            .collect();
        contacts.sort_by(|some, other| some["Address"].cmp(&other["Address"]));
        contacts
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.own);
    }
}

fn contact_of(told: &Value, asked: (i64, i64)) -> Contact {
    let texts = FIELDS.iter().map(|key| {
        let text = match (*key, &told[*key]) {
            ("Expires", value) => ends(asked, value.as_i64().unwrap_or(0)),
            ("Q", value) => format!("{:.3}", value.as_f64().unwrap_or(-1.0)),
            (_, Value::String(text)) if text == "[not set]" => String::new(),
            (_, Value::String(text)) => text.clone(),
            (_, other) => other.to_string(),
        };
        ((*key).to_owned(), text)
    });
    texts.collect()
}

/// When a contact ends, which was said to have so many seconds left between these two moments: the earliest and the latest.
pub(crate) fn ends((before, behind): (i64, i64), left_s: i64) -> String {
    format!("{} {}", before + left_s, behind + left_s)
}

/// Seconds since 1970.
pub(crate) fn unix_s() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.expect("after 1970").as_secs()).expect("before the sun burns out")
}

/// What is compared: all that is replicated but the socket and when it was last saved. `Expires` is made two moments.
const FIELDS: &[&str] = &[
    "Address",
    "Q",
    "Call-ID",
    "CSeq",
    "User-Agent",
    "Received",
    "Path",
    "Flags",
    "CFlags",
    "Methods",
    "Ruid",
    "Instance",
    "Reg-Id",
    "Server-Id",
    "Expires",
];
