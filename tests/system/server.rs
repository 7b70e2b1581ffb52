//! The server under test: started in the bed's namespace, watched over its admin address, ended by signals.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::namespace::{Namespace, run};
use super::scratch::Scratch;

/// A server that runs; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Server<'a> {
    namespace: &'a Namespace,
    child: Child,
    log: PathBuf,
}

/// Who runs the server.
#[derive(Clone, Debug)]
pub(crate) enum User {
    /// The user of the tests.
    Root,
    /// A user without any capability, who can execute this copy of the binary.
    Nobody {
        /// The copy.
        binary: PathBuf,
    },
}

/// The metrics of one moment: the value of each series, by its name with its labels as it was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    series: BTreeMap<String, f64>,
}

impl<'a> Server<'a> {
    /// Starts a server with `configuration` and waits until `/healthz` says that it serves.
    ///
    /// The configuration is to have [`admin_section`]; its file lies in `scratch`, where the secret is made, too.
    pub(crate) fn start(namespace: &'a Namespace, scratch: &Scratch, configuration: &str) -> Self {
        Self::start_as(namespace, scratch, configuration, &User::Root)
    }

    /// As [`Server::start`], as another user.
    pub(crate) fn start_as(
        namespace: &'a Namespace,
        scratch: &Scratch,
        configuration: &str,
        user: &User,
    ) -> Self {
        let mut server = Self::spawn(namespace, scratch, configuration, user);
        let deadline = Instant::now() + START_MAX;
        while server
            .get("/healthz")
            .is_none_or(|(status, _)| status != 200)
        {
            if let Some(status) = server.child.try_wait().expect("our own child") {
                panic!("the server ended at its start: {status}\n{}", server.log());
            }
            assert!(
                Instant::now() < deadline,
                "the server does not serve after {START_MAX:?}\n{}",
                server.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Starts a server and waits for nothing.
    pub(crate) fn spawn(
        namespace: &'a Namespace,
        scratch: &Scratch,
        configuration: &str,
        user: &User,
    ) -> Self {
        let file = scratch.write("strowger.toml", configuration);
        let log = scratch.fresh("server").with_extension("log");
        let output = File::create(&log).expect("a file in our own folder");
        let output_too = output.try_clone().expect("a second handle on it");
        let mut command = match user {
            User::Root => namespace.command(&binary()),
            User::Nobody { binary } => {
                let mut command = namespace.command("setpriv");
                command.args([
                    "--reuid=nobody",
                    "--regid=nogroup",
                    "--clear-groups",
                    "--bounding-set=-all",
                    "--inh-caps=-all",
                ]);
                command.arg(binary);
                command
            }
        };
        command
            .args(["run", "--config"])
            .arg(file)
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(output_too));
        let child = command.spawn().expect("the binary that cargo built");
        Self {
            namespace,
            child,
            log,
        }
    }

    /// Asks the admin address for `path`: the status and the body, or nothing where nobody answers.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        self.namespace
            .inside(|| http_get(ADMIN.parse().expect("an address"), path))
    }

    /// Reads `/metrics`.
    pub(crate) fn metrics(&self) -> Metrics {
        let (status, body) = self
            .get("/metrics")
            .unwrap_or_else(|| panic!("no /metrics\n{}", self.log()));
        assert_eq!(status, 200, "/metrics: {body}");
        Metrics::parse(&body)
    }

    /// Waits until the metrics are as `wanted` says, at most `patience`, and gives those that were.
    ///
    /// # Panics
    /// When they never were; the message holds `what`.
    #[track_caller]
    pub(crate) fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Metrics) -> bool,
    ) -> Metrics {
        let deadline = Instant::now() + patience;
        loop {
            let metrics = self.metrics();
            if wanted(&metrics) {
                return metrics;
            }
            assert!(
                Instant::now() < deadline,
                "not within {patience:?}: {what}\n{metrics}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_none()
    }

    /// The memory that it holds, in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("Linux tells it");
        line.trim()
            .trim_end_matches("kB")
            .trim()
            .parse()
            .expect("a number")
    }

    /// Kills it as a power failure would: no handler runs.
    pub(crate) fn kill9(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("our own child");
    }

    /// Sends SIGTERM and goes on at once: the server drains.
    pub(crate) fn terminate(&self) {
        run(Command::new("kill").args(["-TERM", &self.pid().to_string()]));
    }

    /// Waits at most `patience` for its end.
    ///
    /// # Panics
    /// When it has not ended by then.
    #[track_caller]
    pub(crate) fn wait(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the server still runs after {patience:?}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- the server's last lines\n{}",
                lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
            );
        }
    }
}

impl Metrics {
    /// Parses the Prometheus text format.
    pub(crate) fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let series = samples.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self {
            series: series.collect(),
        }
    }

    /// The sum of a family's series that carry `label` (`key="value"`); an empty label means all of them.
    ///
    /// # Panics
    /// When there is no such series: a counter that nobody exports proves nothing.
    #[track_caller]
    pub(crate) fn sum(&self, family: &str, label: &str) -> u64 {
        let of_family = self.series.iter().filter(|(name, _)| {
            let rest = name.strip_prefix(family);
            rest.is_some_and(|rest| {
                (rest.is_empty() || rest.starts_with('{')) && rest.contains(label)
            })
        });
        let values: Vec<f64> = of_family.map(|(_, value)| *value).collect();
        assert!(!values.is_empty(), "no metric {family}{{{label}}}\n{self}");
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts are whole and not negative"
        )]
        let sum = values.iter().sum::<f64>() as u64;
        sum
    }
}

impl std::fmt::Display for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, value) in self
            .series
            .iter()
            .filter(|(name, value)| **value != 0.0 && !name.contains("_bucket"))
        {
            writeln!(f, "{name} {value}")?;
        }
        Ok(())
    }
}

/// The binary under test: the one that cargo built beside this test, or the one that `STROWGER_BINARY` names.
pub(crate) fn binary() -> String {
    std::env::var("STROWGER_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_strowger").to_owned())
}

/// The `[admin]` section that [`Server`] relies on.
pub(crate) fn admin_section() -> String {
    format!("[admin]\nlisten = \"{ADMIN}\"\n")
}

fn http_get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, HTTP_PATIENCE).ok()?;
    stream.set_read_timeout(Some(HTTP_PATIENCE)).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// Where the server under test serves its metrics, inside its own namespace.
const ADMIN: &str = "127.0.0.1:8060";
const START_MAX: Duration = Duration::from_secs(20);
const HTTP_PATIENCE: Duration = Duration::from_secs(2);
const LOG_LINES: usize = 60;
