//! The kernel: is it new enough, and was it built with what AF_XDP takes.

use super::finding::Finding;
use super::mend::Mend;
use super::root::Root;

/// The first two numbers of a release.
pub(super) type Version = (u32, u32);

/// Looks at the running kernel.
pub(super) fn examine(root: &Root) -> Vec<Finding> {
    let Some(release) = root.read(RELEASE) else {
        let text = format!("{RELEASE} cannot be read");
        return vec![Finding::unknown("kernel", text)];
    };
    vec![
        version(&release),
        features(&release),
        match root.read("/proc/net/protocols") {
            Some(protocols) => xdp_sockets(&protocols),
            None => Finding::unknown("af_xdp", "/proc/net/protocols cannot be read".to_owned()),
        },
        bpf(
            root.has("/proc/sys/kernel/unprivileged_bpf_disabled"),
            &release,
        ),
        jit(root.read("/proc/sys/net/core/bpf_jit_enable").as_deref()),
    ]
}

/// The kernel's version, where it can be read.
pub(super) fn release(root: &Root) -> Option<Version> {
    parse_release(&root.read(RELEASE)?)
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
fn parse_release(release: &str) -> Option<Version> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What newer kernels have and we make use of.
fn features(release: &str) -> Finding {
    let subject = "features";
    let Some(version) = parse_release(release) else {
        return Finding::unknown(subject, format!("{release:?} is no version that we know"));
    };
    let list = |is_there: bool| {
        let of = FEATURES
            .iter()
            .filter(|(since, _)| (version >= *since) == is_there);
        let told = of.map(|((major, minor), what)| format!("{what} ({major}.{minor})"));
        told.collect::<Vec<_>>().join(", ")
    };
    if version >= FEATURES[FEATURES.len() - 1].0 {
        return Finding::ok(subject, list(true));
    }
    let (major, minor) = FEATURES[FEATURES.len() - 1].0;
    let cure = format!("boot kernel {major}.{minor} or later");
    Finding::warn(subject, format!("without {}", list(false)), cure)
        .costing("each is done without: a worker waits for others' slices, busy_poll has no effect, a driver is judged by its name")
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

fn jit(enabled: Option<&str>) -> Finding {
    let subject = "bpf jit";
    match enabled {
        Some("1" | "2") => Finding::ok(subject, "programs are compiled".to_owned()),
        // A kernel that always compiles has the file all the same; a network namespace hides it.
        None => Finding::unknown(subject, "not shown in this network namespace".to_owned()),
        Some(_) => Finding::amiss(
            subject,
            "programs are interpreted".to_owned(),
            "the XDP program is several times slower",
            vec![Mend::Setting(
                "net.core.bpf_jit_enable".to_owned(),
                "1".to_owned(),
            )],
        ),
    }
}

const RELEASE: &str = "/proc/sys/kernel/osrelease";
/// Since when the kernel has what we use where it is there, in that order.
const FEATURES: [(Version, &str); 3] = [
    ((5, 11), "polling by the worker (busy_poll)"),
    ((6, 3), "drivers that say what they can do"),
    ((6, 12), "short slices for the workers"),
];
/// What Strowger is tested on.
const TESTED_MIN: Version = (6, 1);
/// Since when an XDP program can be attached by a BPF link, which goes with its process.
const LINK_MIN: Version = (5, 9);

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tree::Tree;
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

    #[test]
    fn what_an_older_kernel_lacks_is_named() {
        assert_eq!(features("6.12.1").level, Level::Ok);
        let finding = features("6.1.0");
        assert_eq!(
            finding.text,
            "without drivers that say what they can do (6.3), short slices for the workers (6.12)"
        );
        assert_eq!(features("six").level, Level::Unknown);
    }

    #[test]
    fn files_that_are_not_there_are_unknown() {
        assert!(
            examine(&Tree::new().root())
                .iter()
                .all(|finding| finding.level == Level::Unknown)
        );
        assert_eq!(
            (jit(None).level, jit(Some("0")).level),
            (Level::Unknown, Level::Warn)
        );
    }
}
