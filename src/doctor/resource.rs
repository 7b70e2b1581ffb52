//! Limits and memory that AF_XDP and the kernel's sockets meet: pinned memory, huge pages, descriptors.

use super::finding::Finding;
use super::mend::Mend;
use super::root::Root;
use super::workers::Workers;
use crate::config::host::{hard_limit, meminfo, soft_limit};
use crate::limits::{FRAME_LEN, FRAMES_PER_QUEUE};

/// Looks at the limits of this process and the memory of the host.
pub(super) fn examine(root: &Root, may_lock_memory: bool, workers: &Workers) -> Vec<Finding> {
    let mut findings = match root.read("/proc/self/limits") {
        Some(limits) => vec![
            memlock(soft_limit(&limits, "Max locked memory"), may_lock_memory),
            descriptors(hard_limit(&limits, "Max open files")),
        ],
        None => vec![
            Finding::unknown("memlock", "/proc/self/limits cannot be read".to_owned()),
            Finding::unknown("descriptors", "/proc/self/limits cannot be read".to_owned()),
        ],
    };
    findings.push(match root.read("/proc/meminfo") {
        Some(memory) => huge_pages(&memory, workers.cpus.len()),
        None => Finding::unknown("hugepages", "/proc/meminfo cannot be read".to_owned()),
    });
    findings.extend(transparent_huge_pages(root));
    findings
}

fn memlock(limit: Option<u64>, may_lock_memory: bool) -> Finding {
    let subject = "memlock";
    match limit {
        _ if may_lock_memory => {
            Finding::ok(subject, "CAP_IPC_LOCK lifts RLIMIT_MEMLOCK".to_owned())
        }
        None => Finding::unknown(subject, "RLIMIT_MEMLOCK is not shown".to_owned()),
        Some(u64::MAX) => Finding::ok(subject, "RLIMIT_MEMLOCK is unlimited".to_owned()),
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

fn huge_pages(memory: &str, workers: usize) -> Finding {
    let subject = "hugepages";
    let Some(size) = meminfo(memory, "Hugepagesize").filter(|size| *size > 0) else {
        return Finding::unknown(subject, "this kernel has none".to_owned());
    };
    let field = |name| meminfo(memory, name).unwrap_or(0);
    let (total, free) = (field("HugePages_Total"), field("HugePages_Free"));
    let a_queue = UMEM_LEN.div_ceil(size);
    let wanted = a_queue * u64::try_from(workers.max(1)).unwrap_or(1);
    let text = format!(
        "{free} of {} KiB are free, {wanted} are wanted ({a_queue} a queue)",
        size >> 10
    );
    if free >= wanted {
        return Finding::ok(subject, text);
    }
    // A server that runs has its own of those that are not free.
    let aim = total + (wanted - free);
    Finding::amiss(
        subject,
        text,
        "packet memory lies in small pages: a few percent of the processor for TLB misses",
        vec![Mend::Setting("vm.nr_hugepages".to_owned(), aim.to_string())],
    )
}

/// The kernel should not collect pages into huge ones behind our back, nor make anybody wait for one.
fn transparent_huge_pages(root: &Root) -> Vec<Finding> {
    let subject = "thp";
    let judge = |file: &str, what: &str, cost: &'static str| {
        let path = format!("/sys/kernel/mm/transparent_hugepage/{file}");
        let Some(text) = root.read(&path) else {
            return Finding::unknown(subject, format!("{path} cannot be read"));
        };
        let Some(word) = text.split(['[', ']']).nth(1) else {
            return Finding::unknown(
                subject,
                format!("{path} is {text:?}, which names no choice"),
            );
        };
        let cost = match word {
            "always" => cost,
            "never" if file == "enabled" => {
                "[limits] prefault comes in pages of 4 KiB, and a call takes a worker a quarter longer"
            }
            _ => return Finding::ok(subject, format!("{what}: {word}")),
        };
        let mend = Mend::File(path, "madvise".to_owned());
        Finding::amiss(subject, format!("{what}: {word}"), cost, vec![mend])
    };
    vec![
        judge(
            "enabled",
            "transparent huge pages",
            "memory grows by whole 2 MiB, and a thread is held while its pages are collected",
        ),
        judge(
            "defrag",
            "their making",
            "whoever touches new memory waits, for milliseconds, until 2 MiB are free in one piece",
        ),
    ]
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
        None => Finding::unknown(subject, "RLIMIT_NOFILE is not shown".to_owned()),
    }
}

/// What a queue pins.
const UMEM_LEN: u64 = (FRAME_LEN * FRAMES_PER_QUEUE) as u64;
/// Below it, TCP connections run short before memory does.
const DESCRIPTORS_MIN: u64 = 16_384;

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tree::Tree;
    use super::*;

    #[test]
    fn pinned_memory_is_bounded_by_the_limit_or_by_nothing() {
        assert_eq!(memlock(Some(8 << 20), false).level, Level::Fail);
        assert_eq!(memlock(Some(8 << 20), true).level, Level::Ok);
        assert_eq!(memlock(Some(u64::MAX), false).level, Level::Ok);
        assert_eq!(memlock(Some(64 << 20), false).level, Level::Fail);
        assert_eq!(memlock(Some(128 << 20), false).level, Level::Ok);
        assert_eq!(memlock(None, false).level, Level::Unknown);
    }

    #[test]
    fn huge_pages_are_counted_against_the_workers_queues() {
        let memory = |total: u64, free: u64| {
            format!("HugePages_Total: {total}\nHugePages_Free:  {free}\nHugepagesize:    2048 kB\n")
        };
        assert_eq!(huge_pages(&memory(32, 32), 2).level, Level::Ok);
        let finding = huge_pages(&memory(20, 7), 2);
        assert_eq!(finding.level, Level::Warn);
        assert_eq!(
            finding.cure.as_deref(),
            Some("sysctl -w vm.nr_hugepages=45")
        );
        assert_eq!(huge_pages("MemTotal: 1 kB\n", 2).level, Level::Unknown);
    }

    #[test]
    fn huge_pages_that_come_by_themselves_are_amiss() {
        let tree = |word: &str| {
            let folder = "sys/kernel/mm/transparent_hugepage";
            Tree::new()
                .with(&format!("{folder}/enabled"), word)
                .with(&format!("{folder}/defrag"), word)
        };
        let levels = |tree: Tree| {
            let findings = transparent_huge_pages(&tree.root());
            [findings[0].level, findings[1].level]
        };
        assert_eq!(levels(tree("[always] madvise never\n")), [Level::Warn; 2]);
        assert_eq!(levels(tree("always [madvise] never\n")), [Level::Ok; 2]);
        let never = tree("always madvise [never]\n");
        assert_eq!(levels(never), [Level::Warn, Level::Ok]);
        assert_eq!(levels(Tree::new()), [Level::Unknown; 2]);
    }
}
