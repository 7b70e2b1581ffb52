//! The privileges that AF_XDP takes: which of them this process has, what each is for, and the command that grants the
//! others.

use super::finding::Finding;

/// A capability by its number in `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Capability {
    bit: u32,
    name: &'static str,
    reason: &'static str,
}

/// What `/proc/self` tells of this process' rights.
#[derive(Debug, Default)]
pub(super) struct Privileges {
    effective: u64,
    has_no_new_privs: bool,
    has_seccomp: bool,
    is_in_user_namespace: bool,
    /// The binary that the capabilities would be given to.
    path: String,
}

impl Privileges {
    pub(super) fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let uid_map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let path = std::env::current_exe()
            .map_or_else(|_| "PATH".to_owned(), |path| path.display().to_string());
        Self::parse(&status, &uid_map, path)
    }

    fn parse(status: &str, uid_map: &str, path: String) -> Self {
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

    /// Whether memory is pinned without regard to RLIMIT_MEMLOCK.
    pub(super) fn may_lock_memory(&self) -> bool {
        self.has(IPC_LOCK)
    }

    /// One finding for each capability that is missing, or one for all of them.
    pub(super) fn examine(&self) -> Vec<Finding> {
        let subject = "privileges";
        let missing: Vec<Capability> = REQUIRED
            .into_iter()
            .filter(|capability| !self.has(*capability))
            .collect();
        let mut findings: Vec<Finding> = missing
            .iter()
            .map(|capability| {
                let text = format!("{} is missing: {}", capability.name, capability.reason);
                Finding::fail(subject, text, self.cure())
            })
            .collect();
        if missing.is_empty() {
            let names: Vec<&str> = REQUIRED.iter().map(|capability| capability.name).collect();
            findings.push(Finding::ok(subject, names.join(", ")));
        }
        if self.is_in_user_namespace {
            let text =
                "this is a user namespace, whose capabilities do not count for BPF".to_owned();
            findings.push(Finding::fail(
                subject,
                text,
                "run it outside, as root or with setcap".to_owned(),
            ));
        }
        if self.has_seccomp {
            let text = "a seccomp filter is active, and may refuse bpf()".to_owned();
            let cure =
                "a container needs a profile that allows bpf, or --security-opt seccomp=unconfined"
                    .to_owned();
            findings.push(Finding::warn(subject, text, cure));
        }
        findings
    }

    fn has(&self, capability: Capability) -> bool {
        let holds = |bit: u32| self.effective >> bit & 1 == 1;
        // The kernel takes CAP_SYS_ADMIN for either of these two (bpf_capable, perfmon_capable).
        let by_sys_admin = [BPF, PERFMON].contains(&capability) && holds(SYS_ADMIN_BIT);
        holds(capability.bit) || by_sys_admin
    }

    fn cure(&self) -> String {
        let command = format!("setcap {GRANT} {}", self.path);
        if self.has_no_new_privs {
            format!("{command} (and start it without no_new_privs, which makes that void)")
        } else {
            command
        }
    }
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
/// What is always needed; CAP_IPC_LOCK only where RLIMIT_MEMLOCK is small.
const REQUIRED: [Capability; 4] = [NET_ADMIN, NET_RAW, BPF, PERFMON];
const SYS_ADMIN_BIT: u32 = 21;
/// What `setcap` is given.
const GRANT: &str = "cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock+ep";

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(mask: u64, more: &str) -> Vec<Finding> {
        let status = format!("Name:\ta\nCapEff:\t{mask:016x}\n{more}");
        Privileges::parse(&status, "0 0 4294967295\n", "/usr/bin/strowger".to_owned()).examine()
    }

    const ALL: u64 = 1 << 12 | 1 << 13 | 1 << 39 | 1 << 38;

    #[test]
    fn each_missing_capability_is_named_with_the_command() {
        let found = findings(1 << 13 | 1 << 38, "");
        let texts: Vec<&str> = found.iter().map(|finding| finding.text.as_str()).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(
            texts[0].starts_with("CAP_NET_ADMIN is missing")
                && texts[1].starts_with("CAP_BPF is missing")
        );
        let command = "setcap cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock+ep /usr/bin/strowger";
        assert!(
            found
                .iter()
                .all(|finding| finding.cure.as_deref() == Some(command))
        );
    }

    #[test]
    fn sys_admin_stands_for_bpf_and_perfmon() {
        assert_eq!(findings(ALL, "").len(), 1);
        assert_eq!(findings(1 << 12 | 1 << 13 | 1 << 21, "").len(), 1);
        assert_eq!(findings(1 << 21, "").len(), 2);
    }

    #[test]
    fn what_makes_capabilities_void_is_told() {
        assert!(findings(ALL, "Seccomp:\t2\n")[1].text.contains("seccomp"));
        assert!(
            findings(0, "NoNewPrivs:\t1\n")[0]
                .cure
                .as_ref()
                .is_some_and(|cure| cure.contains("no_new_privs"))
        );
        let inside = Privileges::parse("CapEff:\tffffffffffffffff\n", "0 1000 1\n", String::new());
        assert!(inside.examine()[1].text.contains("user namespace"));
    }
}
