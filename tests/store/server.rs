//! The server under test: a process of its own, on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::binary::binary;
use super::http;
use super::phone::DOMAIN;
use super::ports::free_port;
use super::scratch::Scratch;

/// A server; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    scratch: Scratch,
    sip: SocketAddr,
    admin: SocketAddr,
    store: String,
}

impl Server {
    /// Starts one with this `[store]` section, and waits until it serves.
    pub(crate) fn start(store: &str) -> Self {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (sip, admin) = (loopback(free_port()), loopback(free_port()));
        let scratch = Scratch::new();
        let child = spawn(&scratch, sip, admin, store);
        let mut server = Self {
            child,
            scratch,
            sip,
            admin,
            store: store.to_owned(),
        };
        server.wait_until_serving();
        server
    }

    /// Kills it as a power failure would, and starts it anew; gives how long it was until it served.
    pub(crate) fn restart(&mut self) -> Duration {
        self.kill();
        let start = Instant::now();
        self.child = spawn(&self.scratch, self.sip, self.admin, &self.store);
        self.wait_until_serving();
        start.elapsed()
    }

    /// Kills it as a power failure would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("our own child");
    }

    /// Starts it again, when it has ended.
    pub(crate) fn restart_ended(&mut self) {
        self.child = spawn(&self.scratch, self.sip, self.admin, &self.store);
        self.wait_until_serving();
    }

    /// Ends it in order: SIGTERM, and all that waits is written.
    pub(crate) fn end(&mut self) {
        let status = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill").success());
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.child.try_wait().expect("our own child").is_none() {
            assert!(Instant::now() < deadline, "it does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn sip(&self) -> SocketAddr {
        self.sip
    }

    /// The value of one series of the metrics.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let page = http::get(self.admin, "/metrics")
            .unwrap_or_else(|| panic!("no /metrics\n{}", self.log()));
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value
            .unwrap_or_else(|| panic!("no {series}\n{page}"))
            .parse()
            .expect("a whole number")
    }

    /// Bytes of its memory that are in RAM.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.expect("proc_pid_status(5)")
            .trim()
            .parse::<u64>()
            .expect("a number")
            * 1_024
    }

    /// The result of a call of JSON-RPC.
    #[track_caller]
    pub(crate) fn call(&self, method: &str, params: &str) -> serde_json::Value {
        let answer = http::post(
            self.admin,
            "/rpc",
            &format!(
                "{{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"{method}\", \"params\": {params}}}"
            ),
        );
        let answer = answer.unwrap_or_else(|| panic!("no answer to {method}\n{}", self.log()));
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        answer["result"].clone()
    }

    pub(crate) fn health(&self) -> String {
        http::get(self.admin, "/healthz").unwrap_or_default()
    }

    /// Waits until `wanted` holds.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, patience: Duration, wanted: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + patience;
        while !wanted(self) {
            assert!(
                Instant::now() < deadline,
                "not within {patience:?}: {what}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the store has everything.
    #[track_caller]
    pub(crate) fn settle(&self) {
        self.wait_for(
            "the store has everything",
            Duration::from_secs(60),
            |server| {
                server.metric("strowger_store_up") == 1
                    && server.metric("strowger_store_backlog") == 0
            },
        );
    }

    /// Waits until the store is known to be away.
    #[track_caller]
    pub(crate) fn wait_until_down(&self) {
        self.wait_for("the store is away", Duration::from_secs(30), |server| {
            server.metric("strowger_store_up") == 0 && server.health().contains("\"up\":false")
        });
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    fn wait_until_serving(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.health().contains("\"serving\"") {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                panic!("it ended at its start: {status}\n{}", self.log());
            }
            assert!(
                Instant::now() < deadline,
                "it does not serve\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}", self.log());
        }
    }
}

fn spawn(scratch: &Scratch, sip: SocketAddr, admin: SocketAddr, store: &str) -> Child {
    let file = scratch.path().join("strowger.toml");
    let text = format!(
        "[[listen]]\naddress = \"{sip}\"\nbackend = \"udp\"\n[workers]\ncount = 2\n[auth]\nenabled = false\n\
         [sip]\ndomains = [\"{DOMAIN}\"]\n[registrar]\nexpires_min_s = 1\n[store]\n{store}\n[admin]\nlisten = \"{admin}\"\n[limits]\nbindings = 2000000\nmemory = \"8 GiB\"\n"
    );
    std::fs::write(&file, text).expect("a file of ours");
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(scratch.path().join("log"))
        .expect("a file of ours");
    Command::new(binary())
        .args(["run", "--config"])
        .arg(file)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the binary that cargo built")
}
