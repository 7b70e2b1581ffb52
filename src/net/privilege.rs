//! Which capabilities AF_XDP takes, which of them this thread has, and how to grant the others.

use std::fmt;
use std::fs;

/// A capability by its number in `linux/capability.h` and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    bit: u32,
    name: &'static str,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What AF_XDP takes: attaching the program, opening the sockets, loading it, its maps; and pinning more memory than
/// RLIMIT_MEMLOCK allows.
pub const AF_XDP: [Capability; 5] = [
    Capability {
        bit: 12,
        name: "CAP_NET_ADMIN",
    },
    Capability {
        bit: 13,
        name: "CAP_NET_RAW",
    },
    Capability {
        bit: 39,
        name: "CAP_BPF",
    },
    Capability {
        bit: 38,
        name: "CAP_PERFMON",
    },
    Capability {
        bit: 14,
        name: "CAP_IPC_LOCK",
    },
];

/// The capabilities that AF_XDP takes and the calling thread does not have.
#[must_use]
pub fn missing() -> Vec<Capability> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    missing_of(&status)
}

/// What to say where the kernel refused for want of privilege: which capability, and the commands that grant it.
#[must_use]
pub fn advice() -> String {
    let missing = missing();
    if missing.is_empty() {
        return "every capability is there, so a seccomp filter, an LSM, a user namespace or RLIMIT_MEMLOCK refuses: \
                run it outside the container's confinement"
            .to_owned();
    }
    let names: Vec<_> = missing.iter().map(Capability::to_string).collect();
    let path = std::env::current_exe()
        .map_or_else(|_| "PATH".to_owned(), |path| path.display().to_string());
    format!(
        "missing {}. Grant it by `setcap cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock+ep {path}`, or in the \
         systemd unit by `AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW CAP_BPF CAP_PERFMON CAP_IPC_LOCK`",
        names.join(", ")
    )
}

/// As [`missing`], from the text of a status file.
fn missing_of(status: &str) -> Vec<Capability> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    AF_XDP
        .into_iter()
        .filter(|capability| effective >> capability.bit & 1 == 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_tells_what_is_missing() {
        assert_eq!(missing_of("Name:\tx\nCapEff:\t000001ffffffffff\n"), []);
        assert_eq!(missing_of("CapEff:\t0000000000000000\n"), AF_XDP);
        let without_admin = missing_of("CapEff:\t000001ffffffefff\n");
        assert_eq!(without_admin, AF_XDP[..1]);
        assert_eq!(missing_of(""), AF_XDP);
    }
}
