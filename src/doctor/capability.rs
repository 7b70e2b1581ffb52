//! The privileges that AF_XDP takes: which of them this process has, what each is for, and the command that grants the
//! others.

use super::finding::Finding;
use super::root::Root;
use crate::net::privilege::{Privileges, REQUIRED};

/// The privileges as the files under `root` tell them; `None` where they cannot be read.
pub(super) fn read(root: &Root) -> Option<Privileges> {
    if root.is_this_host() {
        return Some(Privileges::read());
    }
    let status = root.read("/proc/self/status")?;
    let uid_map = root.read("/proc/self/uid_map").unwrap_or_default();
    let path = "/usr/local/bin/strowger".to_owned();
    Some(Privileges::parse(&status, &uid_map, path))
}

/// One finding for each capability that is missing, or one for all of them.
pub(super) fn examine(privileges: Option<&Privileges>) -> Vec<Finding> {
    let subject = "privileges";
    let Some(privileges) = privileges else {
        let text = "/proc/self/status cannot be read".to_owned();
        return vec![Finding::unknown(subject, text)];
    };
    let missing = privileges.missing();
    let mut findings: Vec<Finding> = missing
        .iter()
        .map(|capability| {
            let text = format!("{} is missing: {}", capability.name, capability.reason);
            Finding::fail(subject, text, privileges.cure())
                .costing("AF_XDP is not to be had: the kernel's sockets serve, at two to three times the processor time a message")
        })
        .collect();
    if missing.is_empty() {
        let names: Vec<&str> = REQUIRED.iter().map(|capability| capability.name).collect();
        findings.push(Finding::ok(subject, names.join(", ")));
    }
    if privileges.is_in_user_namespace {
        let text = "this is a user namespace, whose capabilities do not count for BPF".to_owned();
        findings.push(Finding::fail(
            subject,
            text,
            "run it outside, as root or with setcap".to_owned(),
        ));
    }
    if privileges.has_seccomp {
        let text = "a seccomp filter is active, and may refuse bpf()".to_owned();
        let cure =
            "a container needs a profile that allows bpf, or --security-opt seccomp=unconfined"
                .to_owned();
        findings.push(Finding::warn(subject, text, cure));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(mask: u64, more: &str) -> Vec<Finding> {
        let status = format!("Name:\ta\nCapEff:\t{mask:016x}\n{more}");
        examine(Some(&Privileges::parse(
            &status,
            "0 0 4294967295\n",
            "/usr/bin/strowger".to_owned(),
        )))
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
        assert!(examine(Some(&inside))[1].text.contains("user namespace"));
    }
}
