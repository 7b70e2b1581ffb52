//! What the host has for us, read from `/proc` and `/sys`: memory, processors, descriptors, queues of a device.

use std::path::{Path, PathBuf};

/// The host's resources, as far as this process may use them.
#[derive(Clone, Debug)]
pub struct Host {
    /// Bytes of memory: the RAM, or what the process' cgroup allows where that is less.
    pub memory: u64,
    /// Whether a cgroup set [`memory`](Self::memory).
    pub is_memory_of_cgroup: bool,
    /// Processors that this process may run on.
    pub cpus: usize,
    /// The hard limit on open descriptors (RLIMIT_NOFILE), to which the soft one is raised as needed.
    pub descriptors_max: u64,
    root: PathBuf,
}

impl Host {
    /// Looks at this host.
    #[must_use]
    pub fn read() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::read_under(Path::new("/"), cpus)
    }

    /// Reads the `proc` and `sys` under `root`.
    #[must_use]
    pub fn read_under(root: &Path, cpus: usize) -> Self {
        let ram =
            meminfo(&read_text(&root.join("proc/meminfo")), "MemTotal").unwrap_or(MEMORY_UNKNOWN);
        let cgroup = cgroup_limit(root).filter(|limit| *limit < ram);
        Self {
            memory: cgroup.unwrap_or(ram),
            is_memory_of_cgroup: cgroup.is_some(),
            cpus,
            descriptors_max: hard_limit(
                &read_text(&root.join("proc/self/limits")),
                "Max open files",
            )
            .unwrap_or(DESCRIPTORS_UNKNOWN),
            root: root.to_owned(),
        }
    }

    /// How many receive queues a device has; `None` where there is no such device.
    #[must_use]
    pub fn receive_queues(&self, interface: &str) -> Option<usize> {
        let queues = std::fs::read_dir(
            self.root
                .join("sys/class/net")
                .join(interface)
                .join("queues"),
        )
        .ok()?;
        let is_receive =
            |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("rx-");
        Some(queues.flatten().filter(is_receive).count())
    }
}

/// The bytes of a field of `/proc/meminfo`.
#[must_use]
pub fn meminfo(text: &str, field: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let mut words = line.split_ascii_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    match words.next() {
        Some("kB") => number.checked_mul(1_024),
        _ => Some(number),
    }
}

/// The soft limit in a line of `/proc/self/limits`; `u64::MAX` where it is unlimited.
#[must_use]
pub fn soft_limit(text: &str, name: &str) -> Option<u64> {
    limit_in(text, name, 0)
}

/// The hard limit in a line of `/proc/self/limits`; `u64::MAX` where it is unlimited.
#[must_use]
pub fn hard_limit(text: &str, name: &str) -> Option<u64> {
    limit_in(text, name, 1)
}

fn limit_in(text: &str, name: &str, column: usize) -> Option<u64> {
    let limit = text
        .lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_ascii_whitespace()
        .nth(column)?;
    if limit == "unlimited" {
        Some(u64::MAX)
    } else {
        limit.parse().ok()
    }
}

/// The least limit of this process' cgroup and those above it, version 2 or 1.
fn cgroup_limit(root: &Path) -> Option<u64> {
    let membership = read_text(&root.join("proc/self/cgroup"));
    let limits = membership.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        if controllers.is_empty() {
            least_limit(&root.join("sys/fs/cgroup"), path, "memory.max")
        } else if controllers
            .split(',')
            .any(|controller| controller == "memory")
        {
            least_limit(
                &root.join("sys/fs/cgroup/memory"),
                path,
                "memory.limit_in_bytes",
            )
        } else {
            None
        }
    });
    limits.min()
}

fn least_limit(mount: &Path, path: &str, file: &str) -> Option<u64> {
    let mut folder = mount.join(path.trim_start_matches('/'));
    let mut least = None;
    loop {
        // "max", and the page-rounded maximum of version 1, are no limits: the second is larger than any RAM.
        if let Ok(limit) = read_text(&folder.join(file)).trim().parse::<u64>() {
            least = Some(least.map_or(limit, |least: u64| least.min(limit)));
        }
        if folder == mount || !folder.pop() || !folder.starts_with(mount) {
            return least;
        }
    }
}

fn read_text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Taken where `/proc/meminfo` tells nothing.
const MEMORY_UNKNOWN: u64 = 1 << 30;
/// The kernel's own default.
const DESCRIPTORS_UNKNOWN: u64 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root =
                std::env::temp_dir().join(format!("strowger-host-{name}-{}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
                std::fs::write(path, text).expect("written");
            }
            Self(root)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).expect("removed");
        }
    }

    #[test]
    fn the_least_cgroup_on_the_way_up_counts() {
        let tree = Tree::new(
            "v2",
            &[
                (
                    "proc/meminfo",
                    "MemTotal:       16777216 kB\nMemFree: 1 kB\n",
                ),
                ("proc/self/cgroup", "0::/system.slice/strowger.service\n"),
                ("sys/fs/cgroup/system.slice/memory.max", "4294967296\n"),
                (
                    "sys/fs/cgroup/system.slice/strowger.service/memory.max",
                    "max\n",
                ),
                (
                    "proc/self/limits",
                    "Limit Soft Hard\nMax open files            1024                 524288               files\n",
                ),
                ("sys/class/net/eth0/queues/rx-0/x", ""),
                ("sys/class/net/eth0/queues/rx-1/x", ""),
                ("sys/class/net/eth0/queues/tx-0/x", ""),
            ],
        );
        let host = Host::read_under(&tree.0, 2);
        assert_eq!((host.memory, host.is_memory_of_cgroup), (4 << 30, true));
        assert_eq!(host.descriptors_max, 524_288);
        assert_eq!(
            (host.receive_queues("eth0"), host.receive_queues("eth1")),
            (Some(2), None)
        );
    }

    #[test]
    fn version_1_without_a_limit_leaves_the_ram() {
        let tree = Tree::new(
            "v1",
            &[
                ("proc/meminfo", "MemTotal:       1048576 kB\n"),
                (
                    "proc/self/cgroup",
                    "5:cpu,cpuacct:/\n4:memory:/user.slice\n",
                ),
                (
                    "sys/fs/cgroup/memory/user.slice/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
            ],
        );
        let host = Host::read_under(&tree.0, 1);
        assert_eq!((host.memory, host.is_memory_of_cgroup), (1 << 30, false));
    }

    #[test]
    fn this_host_can_be_read() {
        let host = Host::read();
        assert!(host.memory > 1 << 20 && host.cpus > 0 && host.descriptors_max > 0);
    }
}
