//! What an operation costs in CPU: the server's threads, and the kernel's threads that receive for it.
//!
//! Read from `/proc/*/schedstat` (time on a CPU in nanoseconds), not from `/proc/stat`: without IRQ time accounting the
//! kernel charges softirqs to whomever they interrupt, and only a threaded NAPI (`/sys/class/net/X/threaded`) is told apart.

use std::fs;
use std::path::PathBuf;

/// Whose CPU time is read.
#[derive(Clone, Debug)]
pub(super) struct Processor {
    server: Vec<u32>,
    /// The kernel's threads that receive: `napi/*` and `ksoftirqd/*`.
    receivers: Vec<u32>,
}

/// CPU times since the threads began, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// The server's.
    pub(super) server_ns: u64,
    /// The kernel's ticks in which the server was found in its own code, and in the kernel's: how its time is split.
    pub(super) user_ticks: u64,
    pub(super) system_ticks: u64,
    /// The receiving kernel threads'.
    pub(super) receive_ns: u64,
    /// Our own.
    pub(super) own_ns: u64,
}

impl Processor {
    /// Of the server with these processes; `device` limits the NAPI threads to those of one device.
    pub(super) fn new(server: Vec<u32>, device: Option<&str>) -> Self {
        let napi = device.map_or_else(|| "napi/".to_owned(), |device| format!("napi/{device}-"));
        let is_receiver = |pid: u32| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // The kernel cuts a thread's name at 15 characters.
            let begins = comm.trim_end();
            (device.is_none() && begins.starts_with("ksoftirqd/"))
                || begins.starts_with(napi.get(..napi.len().min(15)).unwrap_or_default())
        };
        Self {
            server,
            receivers: pids().filter(|pid| is_receiver(*pid)).collect(),
        }
    }

    /// Whether there is such a process.
    pub(super) fn is_there(pid: u32) -> bool {
        PathBuf::from(format!("/proc/{pid}/task")).exists()
    }

    /// The times as they stand.
    pub(super) fn usage(&self) -> Usage {
        let ticks = self.server.iter().filter_map(|pid| ticks(*pid));
        let (user_ticks, system_ticks) =
            ticks.fold((0, 0), |sum, (user, system)| (sum.0 + user, sum.1 + system));
        Usage {
            server_ns: self.server.iter().map(|pid| of_process(*pid)).sum(),
            user_ticks,
            system_ticks,
            receive_ns: self.receivers.iter().map(|pid| of_process(*pid)).sum(),
            own_ns: of_process(std::process::id()),
        }
    }
}

impl Usage {
    /// What was used since `earlier`.
    pub(super) const fn since(self, earlier: Self) -> Self {
        Self {
            server_ns: self.server_ns.saturating_sub(earlier.server_ns),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
            receive_ns: self.receive_ns.saturating_sub(earlier.receive_ns),
            own_ns: self.own_ns.saturating_sub(earlier.own_ns),
        }
    }
}

impl Usage {
    /// The share of the server's time that it spent in its own code; none where there were too few ticks to tell.
    pub(super) fn user_share(self) -> Option<f64> {
        let ticks = self.user_ticks + self.system_ticks;
        (ticks >= TICKS_MIN).then(|| self.user_ticks as f64 / ticks as f64)
    }
}

/// All processes' numbers.
fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The CPU time of all threads that a process has now.
fn of_process(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let times = tasks.into_iter().flatten().flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    times.sum()
}

/// The ticks of a process in its own code and in the kernel (proc_pid_stat(5): utime and stime, after the name in parentheses).
fn ticks(pid: u32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Ticks below which they say nothing.
const TICKS_MIN: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_time_grows_as_we_work() {
        let processor = Processor::new(vec![std::process::id()], None);
        let before = processor.usage();
        let start = std::time::Instant::now();
        let mut sum = 0_u64;
        while start.elapsed() < std::time::Duration::from_millis(30) {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        let used = processor.usage().since(before);
        assert!(
            used.own_ns > 1_000_000 && used.server_ns > 1_000_000,
            "{used:?} {sum}"
        );
        assert!(!Processor::is_there(u32::MAX));
    }
}
