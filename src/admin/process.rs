//! What the kernel says of this process.

use crate::config::host::meminfo;

/// The process as `/proc/self` shows it; what cannot be read is `None`.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) resident: Option<u64>,
    /// The most that it ever was.
    pub(super) resident_peak: Option<u64>,
    /// Of it, what files are mapped: the program itself.
    pub(super) resident_files: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) descriptors: Option<u64>,
    pub(super) cpu_s: Option<f64>,
}

impl Process {
    pub(super) fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self {
            resident: meminfo(&status, "VmRSS"),
            resident_peak: meminfo(&status, "VmHWM"),
            resident_files: meminfo(&status, "RssFile"),
            threads: meminfo(&status, "Threads"),
            // One of them is the folder that is being read.
            descriptors: std::fs::read_dir("/proc/self/fd")
                .ok()
                .map(|fds| (fds.count() as u64).saturating_sub(1)),
            cpu_s: cpu_s(&stat),
        }
    }
}

/// Fields 14 and 15 of `/proc/self/stat` (proc_pid_stat(5)): user and system time in ticks, a hundred a second on
/// every architecture that we run on. The name before them may hold spaces.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_a_name_with_spaces() {
        let stat = "7 (a) b c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 1 0 5 1 1";
        assert_eq!(cpu_s(stat), Some(2.0));
        assert_eq!(cpu_s(""), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let process = Process::read();
        assert!(process.resident.is_some_and(|bytes| bytes > 100_000));
        assert!(process.threads.is_some_and(|threads| threads > 0));
        assert!(process.descriptors.is_some_and(|count| count > 2));
    }
}
