//! Which capabilities AF_XDP takes, which of them this process has, and how to grant the others.

use std::fmt;

/// A capability by its number in `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    bit: u32,
    /// Its name.
    pub name: &'static str,
    /// What it is needed for.
    pub reason: &'static str,
}

/// What `/proc` tells of this process' rights.
#[derive(Debug, Default)]
pub struct Privileges {
    effective: u64,
    /// Whether capabilities of the file are void (`no_new_privs`).
    pub has_no_new_privs: bool,
    /// Whether a seccomp filter is active.
    pub has_seccomp: bool,
    /// Whether this is a user namespace, whose capabilities do not count for BPF.
    pub is_in_user_namespace: bool,
    /// The binary that the capabilities would be given to.
    path: String,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Privileges {
    /// Reads those of the calling thread.
    #[must_use]
    pub fn read() -> Self {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let uid_map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let path = std::env::current_exe()
            .map_or_else(|_| "PATH".to_owned(), |path| path.display().to_string());
        Self::parse(&status, &uid_map, path)
    }

    /// Reads the text of `/proc/self/status` and of `/proc/self/uid_map`, for the binary at `path`.
    #[must_use]
    pub fn parse(status: &str, uid_map: &str, path: String) -> Self {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.strip_prefix(':')).map(str::trim)
        };
        let whole_map = ["0", "0", "4294967295"];
        Self {
            effective: field("CapEff")
                .and_then(|mask| u64::from_str_radix(mask, 16).ok())
                .unwrap_or(0),
            has_no_new_privs: field("NoNewPrivs") == Some("1"),
            has_seccomp: field("Seccomp") == Some("2"),
            is_in_user_namespace: !uid_map.is_empty()
                && !uid_map.split_ascii_whitespace().eq(whole_map),
            path,
        }
    }

    /// The capabilities that AF_XDP always takes and that are not there.
    #[must_use]
    pub fn missing(&self) -> Vec<Capability> {
        REQUIRED
            .into_iter()
            .filter(|capability| !self.has(*capability))
            .collect()
    }

    /// Whether memory is pinned without regard to RLIMIT_MEMLOCK.
    #[must_use]
    pub fn may_lock_memory(&self) -> bool {
        self.has(IPC_LOCK)
    }

    /// The command that grants all of them to this binary.
    #[must_use]
    pub fn cure(&self) -> String {
        let command = format!("setcap {GRANT} {}", self.path);
        if self.has_no_new_privs {
            format!("{command} (and start it without no_new_privs, which makes that void)")
        } else {
            command
        }
    }

    fn has(&self, capability: Capability) -> bool {
        let holds = |bit: u32| self.effective >> bit & 1 == 1;
        // The kernel takes CAP_SYS_ADMIN for either of these two (bpf_capable, perfmon_capable).
        let by_sys_admin = [BPF, PERFMON].contains(&capability) && holds(SYS_ADMIN_BIT);
        holds(capability.bit) || by_sys_admin
    }
}

/// What AF_XDP always takes; CAP_IPC_LOCK only where RLIMIT_MEMLOCK is small.
pub const REQUIRED: [Capability; 4] = [NET_ADMIN, NET_RAW, BPF, PERFMON];

/// What to say where the kernel refused for want of privilege: which capability, and the commands that grant it.
#[must_use]
pub fn advice() -> String {
    let privileges = Privileges::read();
    let mut missing = privileges.missing();
    if missing.is_empty() && !privileges.may_lock_memory() {
        missing.push(IPC_LOCK);
    }
    if missing.is_empty() {
        return "every capability is there, so a seccomp filter, an LSM, a user namespace or RLIMIT_MEMLOCK refuses: \
                run it outside the container's confinement"
            .to_owned();
    }
    let names: Vec<_> = missing.iter().map(Capability::to_string).collect();
    format!(
        "missing {}. Grant it by `{}`, or in the systemd unit by \
         `AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW CAP_BPF CAP_PERFMON CAP_IPC_LOCK`",
        names.join(", "),
        privileges.cure()
    )
}

const NET_ADMIN: Capability = Capability {
    bit: 12,
    name: "CAP_NET_ADMIN",
    reason: "it attaches the XDP program to the device",
};
const NET_RAW: Capability = Capability {
    bit: 13,
    name: "CAP_NET_RAW",
    reason: "it opens AF_XDP sockets",
};
const BPF: Capability = Capability {
    bit: 39,
    name: "CAP_BPF",
    reason: "it loads the XDP program and its maps",
};
const PERFMON: Capability = Capability {
    bit: 38,
    name: "CAP_PERFMON",
    reason: "the kernel's verifier takes our program's use of pointers by it",
};
const IPC_LOCK: Capability = Capability {
    bit: 14,
    name: "CAP_IPC_LOCK",
    reason: "it pins packet memory beyond RLIMIT_MEMLOCK",
};
const SYS_ADMIN_BIT: u32 = 21;
/// What `setcap` is given.
const GRANT: &str = "cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock+ep";

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(status: &str) -> Vec<Capability> {
        Privileges::parse(status, "0 0 4294967295", String::new()).missing()
    }

    #[test]
    fn the_mask_tells_what_is_missing() {
        assert_eq!(missing("Name:\tx\nCapEff:\t000001ffffffffff\n"), []);
        assert_eq!(missing("CapEff:\t0000000000000000\n"), REQUIRED);
        assert_eq!(missing("CapEff:\t000001ffffffefff\n"), REQUIRED[..1]);
        assert_eq!(missing(""), REQUIRED);
    }
}
