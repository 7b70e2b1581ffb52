//! What an operation costs in CPU: the server's threads, and the kernel's threads that receive for it.
//!
//! Read from `/proc/*/schedstat` (time on a CPU in nanoseconds), not from `/proc/stat`: without IRQ time accounting the
//! kernel charges softirqs to whomever they interrupt, and only a threaded NAPI (`/sys/class/net/X/threaded`) is told apart.

use std::fs;
use std::path::PathBuf;

/// Whose CPU time is read.
#[derive(Clone, Debug)]
pub(super) struct Processor {
    server: Option<u32>,
    /// The kernel's threads that receive: `napi/*` and `ksoftirqd/*`.
    receivers: Vec<u32>,
}

/// CPU times since the threads began, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// The server's.
    pub(super) server_ns: u64,
    /// The receiving kernel threads'.
    pub(super) receive_ns: u64,
    /// Our own.
    pub(super) own_ns: u64,
}

impl Processor {
    /// Of the server with this process id; `device` limits the NAPI threads to those of one device.
    pub(super) fn new(server: Option<u32>, device: Option<&str>) -> Self {
        let napi = device.map_or_else(|| "napi/".to_owned(), |device| format!("napi/{device}-"));
        let is_receiver = |pid: u32| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // The kernel cuts a thread's name at 15 characters.
            let begins = comm.trim_end();
            begins.starts_with("ksoftirqd/")
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
        Usage {
            server_ns: self.server.map_or(0, of_process),
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
            receive_ns: self.receive_ns.saturating_sub(earlier.receive_ns),
            own_ns: self.own_ns.saturating_sub(earlier.own_ns),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_time_grows_as_we_work() {
        let processor = Processor::new(Some(std::process::id()), None);
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
