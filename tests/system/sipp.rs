//! SIPp: the phones. Starts it with a scenario, waits for its end, and reads its own count of what happened.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::namespace::Namespace;
use super::scratch::Scratch;

/// One run of SIPp, to be configured and started.
#[derive(Clone, Debug)]
pub(crate) struct Sipp<'a> {
    namespace: &'a Namespace,
    scratch: &'a Scratch,
    scenario: &'static str,
    local: SocketAddr,
    remote: SocketAddr,
    users: Option<PathBuf>,
    calls: u32,
    rate: u32,
    hold: Duration,
    keys: BTreeMap<String, String>,
    arguments: Vec<String>,
}

/// A SIPp that runs; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    scenario: &'static str,
    files: PathBuf,
    calls: u32,
}

/// What SIPp counted over its whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Which scenario it was.
    pub(crate) scenario: &'static str,
    /// Calls that it was to make or to take.
    pub(crate) calls: u32,
    /// Calls that went through their whole scenario.
    pub(crate) successful: u64,
    /// Calls that did not.
    pub(crate) failed: u64,
    /// Of the failed ones, those that SIPp itself ended since nothing came, however often it asked.
    pub(crate) gave_up: u64,
    /// Messages that SIPp sent again since nothing had answered them in time.
    pub(crate) retransmissions: u64,
    /// What it complained of, cut after some lines.
    pub(crate) errors: String,
}

impl<'a> Sipp<'a> {
    /// A SIPp in `namespace` that runs `scenarios/<scenario>.xml` between `local` and `remote`.
    pub(crate) fn new(
        namespace: &'a Namespace,
        scratch: &'a Scratch,
        scenario: &'static str,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Self {
        let sipp = Self {
            namespace,
            scratch,
            scenario,
            local,
            remote,
            users: None,
            calls: 1,
            rate: 100,
            hold: Duration::ZERO,
            keys: BTreeMap::new(),
            arguments: Vec::new(),
        };
        sipp.key("padding", "0").key("contact", &local.to_string())
    }

    /// Makes or takes `calls` calls, then ends; a caller starts `rate` of them a second.
    #[must_use]
    pub(crate) fn calls(mut self, calls: u32, rate: u32) -> Self {
        (self.calls, self.rate) = (calls, rate);
        self
    }

    /// Takes the fields of each call from a line of `users`, in order.
    #[must_use]
    pub(crate) fn users(mut self, users: &Path) -> Self {
        self.users = Some(users.to_owned());
        self
    }

    /// Uses a socket, and so a port, for each call: the calls' packets spread over the queues.
    #[must_use]
    pub(crate) fn spread(self) -> Self {
        self.argument("-t")
            .argument("un")
            .argument("-max_socket")
            .argument("500")
    }

    /// How long a scenario's `<pause/>` lasts.
    #[must_use]
    pub(crate) fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// Sets a keyword of the scenario.
    #[must_use]
    pub(crate) fn key(mut self, keyword: &str, value: &str) -> Self {
        self.keys.insert(keyword.to_owned(), value.to_owned());
        self
    }

    /// Adds one argument for SIPp as it is.
    #[must_use]
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts it.
    pub(crate) fn start(&self) -> Running {
        let files = self.scratch.fresh(self.scenario);
        let scenario = format!(
            "{}/{}.xml",
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/scenarios"),
            self.scenario
        );
        let mut command = self.namespace.command("sipp");
        command.arg(self.remote.to_string()).args([
            "-sf",
            &scenario,
            "-nostdin",
            "-default_behaviors",
            "bye,abortunexp",
        ]);
        let local_ip = match self.local {
            SocketAddr::V4(local) => local.ip().to_string(),
            SocketAddr::V6(local) => format!("[{}]", local.ip()),
        };
        command.args(["-i", &local_ip, "-p", &self.local.port().to_string()]);
        if let Some(users) = &self.users {
            command.arg("-inf").arg(users);
        }
        command.args(["-m", &self.calls.to_string(), "-r", &self.rate.to_string()]);
        // Not a pile of calls beyond what the rate needs, and a receive buffer that a burst does not overflow.
        command.args(["-l", &self.calls.to_string(), "-buff_size", "4194304"]);
        command.args([
            "-trace_stat",
            "-fd",
            "1",
            "-trace_err",
            "-max_log_size",
            "65536",
        ]);
        command.arg("-stf").arg(files.with_extension("csv"));
        command.arg("-error_file").arg(files.with_extension("err"));
        command.args(["-d", &self.hold.as_millis().to_string()]);
        for (keyword, value) in &self.keys {
            command.args(["-key", keyword, value]);
        }
        command.args(&self.arguments);
        let screen =
            std::fs::File::create(files.with_extension("out")).expect("a file in our own folder");
        let screen_too = screen.try_clone().expect("a second handle on it");
        let child = command
            .stdout(Stdio::from(screen))
            .stderr(Stdio::from(screen_too))
            .spawn()
            .expect("SIPp is installed");
        Running {
            child,
            scenario: self.scenario,
            files,
            calls: self.calls,
        }
    }

    /// Starts it and waits at most `patience` for its end.
    pub(crate) fn run(&self, patience: Duration) -> Outcome {
        self.start().finish(patience)
    }
}

impl Running {
    /// Waits for its end, at most `patience`, and reads its counts.
    ///
    /// # Panics
    /// When it has not ended by then, or could not start at all.
    pub(crate) fn finish(mut self, patience: Duration) -> Outcome {
        if !self.ends_within(patience) {
            let outcome = self.outcome();
            panic!(
                "SIPp still runs after {patience:?}: {outcome}\n{}",
                self.screen()
            );
        }
        self.outcome()
    }

    /// Waits for its end, at most `patience`, and reads its counts in any case: for the side whose partner is judged first.
    pub(crate) fn conclude(mut self, patience: Duration) -> Outcome {
        self.ends_within(patience);
        self.outcome()
    }

    /// Whether it ends by itself within `patience`.
    pub(crate) fn ends_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.child.try_wait().expect("our own child").is_none() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// What it has counted up to now, at most a second old while it runs.
    pub(crate) fn outcome(&self) -> Outcome {
        let statistics =
            std::fs::read_to_string(self.files.with_extension("csv")).unwrap_or_default();
        let errors = std::fs::read_to_string(self.files.with_extension("err")).unwrap_or_default();
        let mut lines = statistics.lines();
        let Some(head) = lines.next() else {
            panic!("SIPp wrote no statistics:\n{}{errors}", self.screen())
        };
        let last = lines.next_back().unwrap_or_default();
        let count = |name: &str| {
            let column = head
                .split(';')
                .position(|column| column == name)
                .expect("a column of SIPp 3.6");
            last.split(';')
                .nth(column)
                .and_then(|value| value.parse().ok())
                .unwrap_or(0)
        };
        Outcome {
            scenario: self.scenario,
            calls: self.calls,
            successful: count("SuccessfulCall(C)"),
            failed: count("FailedCall(C)"),
            gave_up: count("FailedMaxUDPRetrans(C)") + count("FailedTimeoutOnRecv(C)"),
            retransmissions: count("Retransmissions(C)"),
            errors: complaints(&errors),
        }
    }

    fn screen(&self) -> String {
        std::fs::read_to_string(self.files.with_extension("out")).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    /// Asserts that every call went through, and that nothing had to be sent twice.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        self.assert_complete();
        assert_eq!(
            self.retransmissions, 0,
            "nothing is to be sent twice: {self}"
        );
    }

    /// Asserts that every call went through.
    #[track_caller]
    pub(crate) fn assert_complete(&self) {
        assert_eq!(
            (self.successful, self.failed),
            (self.calls.into(), 0),
            "every call is to go through: {self}"
        );
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scenario,
            calls,
            successful,
            failed,
            gave_up,
            retransmissions,
            errors,
        } = self;
        write!(
            f,
            "{scenario}: {successful} of {calls} successful, {failed} failed ({gave_up} gave up), {retransmissions} retransmissions"
        )?;
        if errors.is_empty() {
            Ok(())
        } else {
            write!(f, "\n{errors}")
        }
    }
}

/// The records of SIPp's error log, but for those of messages that came again after a call's end.
fn complaints(log: &str) -> String {
    let mut complaints = String::new();
    let mut is_late = false;
    for line in log.lines() {
        // A record begins with its date and time, set off by tabs, right behind the quote that ends the record before.
        if line.contains('\t') {
            is_late = line.contains("Dead call");
        }
        if !is_late && complaints.len() < COMPLAINTS_LEN_MAX {
            complaints.push_str(line);
            complaints.push('\n');
        }
    }
    complaints
}

/// How much of SIPp's error log goes into a message.
const COMPLAINTS_LEN_MAX: usize = 4_096;
