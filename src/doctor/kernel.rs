//! The kernel: is it new enough, and was it built with what AF_XDP takes.

use std::path::Path;

use super::finding::Finding;

/// Looks at the running kernel.
pub(super) fn examine() -> Vec<Finding> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    vec![
        version(release.trim()),
        xdp_sockets(&read("/proc/net/protocols")),
        bpf(
            Path::new("/proc/sys/kernel/unprivileged_bpf_disabled").exists(),
            release.trim(),
        ),
        jit(read("/proc/sys/net/core/bpf_jit_enable").trim()),
    ]
}

fn version(release: &str) -> Finding {
    let subject = "kernel";
    let cure = "boot kernel 6.1 or later".to_owned();
    match parse_release(release) {
        Some(version) if version >= TESTED_MIN => Finding::ok(subject, release.to_owned()),
        Some(version) if version >= LINK_MIN => Finding::warn(
            subject,
            format!("{release} should do, and nobody tried it"),
            cure,
        ),
        Some(_) => Finding::fail(
            subject,
            format!("{release} attaches no XDP program by a BPF link (5.9 does)"),
            cure,
        ),
        None => Finding::warn(
            subject,
            format!("{release:?} is no version that we know"),
            cure,
        ),
    }
}

/// The first two numbers of a release such as `6.12.9-amd64`.
pub(super) fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn xdp_sockets(protocols: &str) -> Finding {
    let subject = "af_xdp";
    if protocols
        .lines()
        .any(|line| line.split_ascii_whitespace().next() == Some("XDP"))
    {
        Finding::ok(
            subject,
            "the kernel has the sockets (CONFIG_XDP_SOCKETS)".to_owned(),
        )
    } else {
        let cure = "boot a distribution's kernel, or build yours with CONFIG_XDP_SOCKETS=y";
        Finding::fail(
            subject,
            "this kernel has no AF_XDP sockets".to_owned(),
            cure.to_owned(),
        )
    }
}

fn bpf(is_there: bool, release: &str) -> Finding {
    let subject = "bpf";
    if is_there {
        Finding::ok(
            subject,
            "the kernel loads programs (CONFIG_BPF_SYSCALL)".to_owned(),
        )
    } else {
        let cure =
            "boot a kernel with CONFIG_BPF_SYSCALL=y; in a sandbox such as gVisor there is none"
                .to_owned();
        Finding::fail(
            subject,
            format!("kernel {release} loads no BPF programs"),
            cure,
        )
    }
}

fn jit(enabled: &str) -> Finding {
    let subject = "bpf jit";
    match enabled {
        "1" | "2" => Finding::ok(subject, "programs are compiled".to_owned()),
        // Absent: CONFIG_BPF_JIT_ALWAYS_ON hides nothing, but a namespace does.
        "" => Finding::ok(subject, "not shown in this network namespace".to_owned()),
        _ => Finding::warn(
            subject,
            "programs are interpreted, several times slower".to_owned(),
            "sysctl -w net.core.bpf_jit_enable=1".to_owned(),
        ),
    }
}

/// What Strowger is tested on.
const TESTED_MIN: (u32, u32) = (6, 1);
/// Since when an XDP program can be attached by a BPF link, which goes with its process.
const LINK_MIN: (u32, u32) = (5, 9);

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_release_is_read_to_its_second_number() {
        assert_eq!(parse_release("6.12.9-amd64"), Some((6, 12)));
        assert_eq!(parse_release("5.10"), Some((5, 10)));
        assert_eq!(parse_release("six"), None);
        assert_eq!(version("6.1.0-18-amd64").level, Level::Ok);
        assert_eq!(version("5.10.0").level, Level::Warn);
        assert_eq!(version("4.19.0").level, Level::Fail);
    }

    #[test]
    fn the_protocols_tell_whether_there_are_sockets() {
        assert_eq!(
            xdp_sockets("protocol  size sockets\nXDP        896      0\n").level,
            Level::Ok
        );
        assert_eq!(
            xdp_sockets("protocol  size sockets\nUDP        896      0\n").level,
            Level::Fail
        );
    }
}
