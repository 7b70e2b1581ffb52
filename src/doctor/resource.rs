//! Limits and settings that AF_XDP and the kernel's sockets meet: pinned memory, huge pages, receive buffers, descriptors.

use super::finding::Finding;
use crate::config::host::{hard_limit, meminfo, soft_limit};
use crate::limits::{FRAME_LEN, FRAMES_PER_QUEUE};

/// Looks at the limits of this process and the settings of the host.
pub(super) fn examine(may_lock_memory: bool) -> Vec<Finding> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (limits, memory) = (read("/proc/self/limits"), read("/proc/meminfo"));
    let mut findings = vec![
        memlock(soft_limit(&limits, "Max locked memory"), may_lock_memory),
        huge_pages(&memory),
        descriptors(hard_limit(&limits, "Max open files")),
    ];
    findings.extend(receive_buffer(read("/proc/sys/net/core/rmem_max").trim()));
    findings
}

fn memlock(limit: Option<u64>, may_lock_memory: bool) -> Finding {
    let subject = "memlock";
    match limit {
        _ if may_lock_memory => {
            Finding::ok(subject, "CAP_IPC_LOCK lifts RLIMIT_MEMLOCK".to_owned())
        }
        None | Some(u64::MAX) => Finding::ok(subject, "RLIMIT_MEMLOCK is unlimited".to_owned()),
        // Two queues and their rings: less does not carry even a small host.
        Some(limit) if limit >= 2 * UMEM_LEN + (8 << 20) => {
            let text = format!(
                "RLIMIT_MEMLOCK is {} MiB, and a queue takes {} MiB of it",
                limit >> 20,
                UMEM_LEN >> 20
            );
            Finding::ok(subject, text)
        }
        Some(limit) => {
            let text = format!(
                "RLIMIT_MEMLOCK is {} KiB, a queue pins {} MiB, and CAP_IPC_LOCK is missing",
                limit >> 10,
                UMEM_LEN >> 20
            );
            let cure = "grant CAP_IPC_LOCK as above, or ulimit -l unlimited (LimitMEMLOCK=infinity of the unit)";
            let cure = cure.to_owned();
            Finding::fail(subject, text, cure)
        }
    }
}

fn huge_pages(memory: &str) -> Finding {
    let subject = "hugepages";
    let size = meminfo(memory, "Hugepagesize").unwrap_or(0);
    let free = meminfo(memory, "HugePages_Free").unwrap_or(0);
    let wanted = UMEM_LEN.checked_div(size).unwrap_or(0);
    if size > 0 && free >= wanted.max(1) {
        Finding::ok(
            subject,
            format!("{free} of {} KiB are free, {wanted} a queue", size >> 10),
        )
    } else {
        let text =
            format!("{free} are free; packet memory will lie in small pages, which costs a little");
        let cure = format!(
            "sysctl -w vm.nr_hugepages={} ({} a queue)",
            2 * wanted.max(8),
            wanted.max(8)
        );
        Finding::warn(subject, text, cure)
    }
}

fn descriptors(limit: Option<u64>) -> Finding {
    let subject = "descriptors";
    match limit {
        Some(limit) if limit < DESCRIPTORS_MIN => Finding::warn(
            subject,
            format!("RLIMIT_NOFILE is {limit}, which bounds the TCP connections"),
            "ulimit -Hn 65536, or LimitNOFILE=65536 of the unit".to_owned(),
        ),
        Some(limit) => Finding::ok(subject, format!("RLIMIT_NOFILE is {limit}")),
        None => Finding::ok(subject, "RLIMIT_NOFILE is not shown".to_owned()),
    }
}

/// The kernel's sockets take fragments, and everything where AF_XDP does not serve. The setting is the host's, and
/// not shown in other network namespaces.
fn receive_buffer(rmem_max: &str) -> Option<Finding> {
    let bytes: u64 = rmem_max.parse().ok()?;
    let subject = "rmem_max";
    Some(if bytes >= RECEIVE_BUFFER_MIN {
        Finding::ok(subject, format!("{bytes} bytes"))
    } else {
        let text = format!("{bytes} bytes hold few datagrams where the kernel's sockets serve");
        Finding::warn(
            subject,
            text,
            format!("sysctl -w net.core.rmem_max={RECEIVE_BUFFER_MIN}"),
        )
    })
}

/// What a queue pins.
const UMEM_LEN: u64 = (FRAME_LEN * FRAMES_PER_QUEUE) as u64;
/// Below it, TCP connections run short before memory does.
const DESCRIPTORS_MIN: u64 = 16_384;
/// A tenth of a second of 50,000 messages a second, as the kernel counts them (about 2 KiB each with overhead).
const RECEIVE_BUFFER_MIN: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn pinned_memory_is_bounded_by_the_limit_or_by_nothing() {
        assert_eq!(memlock(Some(8 << 20), false).level, Level::Fail);
        assert_eq!(memlock(Some(8 << 20), true).level, Level::Ok);
        assert_eq!(memlock(Some(u64::MAX), false).level, Level::Ok);
        assert_eq!(memlock(Some(64 << 20), false).level, Level::Ok);
    }

    #[test]
    fn huge_pages_are_counted_against_a_queue() {
        let memory = |free: u64| format!("HugePages_Free:  {free}\nHugepagesize:    2048 kB\n");
        assert_eq!(huge_pages(&memory(8)).level, Level::Ok);
        let finding = huge_pages(&memory(7));
        assert_eq!(finding.level, Level::Warn);
        assert_eq!(
            finding.cure.as_deref(),
            Some("sysctl -w vm.nr_hugepages=16 (8 a queue)")
        );
    }

    #[test]
    fn settings_that_are_not_shown_are_not_judged() {
        assert!(receive_buffer("").is_none());
        assert_eq!(
            receive_buffer("212992").map(|finding| finding.level),
            Some(Level::Warn)
        );
    }
}
