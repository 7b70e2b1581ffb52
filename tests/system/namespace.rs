//! A network namespace: made for one test, entered by commands and by threads, removed when dropped.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// One network namespace, whose name tells whose it is: `stg<pid>-<number>`.
///
/// `tests/reap.sh` removes those whose process is dead; nobody else's name begins so.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes an empty namespace with its loopback up, forwarding nothing and losing no time to duplicate address detection.
    pub(crate) fn new() -> Self {
        let name = format!(
            "stg{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace.sysctl("net.ipv6.conf.all.disable_ipv6", "0");
        namespace.sysctl("net.ipv6.conf.default.accept_dad", "0");
        namespace
    }

    /// Its name, for `ip link ... netns NAME`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` inside, with arguments separated by spaces.
    pub(crate) fn ip(&self, arguments: &str) {
        run(Command::new("ip")
            .args(["-n", &self.name])
            .args(arguments.split_whitespace()));
    }

    /// Sets one kernel parameter of this namespace.
    pub(crate) fn sysctl(&self, key: &str, value: &str) {
        run(self
            .command("sysctl")
            .args(["-q", "-w", &format!("{key}={value}")]));
    }

    /// A command to run inside; `ip netns exec` becomes it, so its process id is the program's own.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name, program])
            .stdin(Stdio::null());
        command
    }

    /// Runs `work` on a thread that lives inside, and gives back what it gives.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread inside, for good.
    #[expect(unsafe_code, reason = "setns has no safe form in the standard library")]
    fn enter(&self) {
        let file = File::open(format!("/run/netns/{}", self.name))
            .expect("a namespace that we made and did not remove");
        // SAFETY: setns takes a descriptor that `file` keeps open, and changes the calling thread alone.
        let outcome = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(outcome, 0, "setns: {}", std::io::Error::last_os_error());
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Whatever still runs inside was started by this test: nobody else knows the name.
        if let Ok(pids) = Command::new("ip")
            .args(["netns", "pids", &self.name])
            .output()
        {
            for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
                let _ = Command::new("kill").args(["-9", pid]).status();
            }
        }
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

/// Runs a command that must succeed, and gives what it printed.
///
/// # Panics
/// When it fails; the message is the command and what it said.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

static NEXT: AtomicU32 = AtomicU32::new(0);
