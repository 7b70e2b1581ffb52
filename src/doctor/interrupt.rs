//! Where a device's interrupts go, who else moves them, and who polls it between two of them.

use super::finding::Finding;
use super::mend::Mend;
use super::root::{Root, as_list, numbers};
use super::workers::Workers;

/// Looks at the interrupts of a device's queues, and at its polling.
pub(super) fn examine(root: &Root, device: &str, workers: &Workers) -> Vec<Finding> {
    let mut findings = vec![affinity(root, device, workers)];
    findings.extend(polling(root, device, workers));
    findings
}

/// Queue i's interrupt belongs on worker i's processor.
fn affinity(root: &Root, device: &str, workers: &Workers) -> Finding {
    let subject = "interrupts";
    let queues = queues(root, device);
    if queues.is_empty() {
        let text = format!("/proc/interrupts names none for a receive queue of {device}");
        return Finding::unknown(subject, text);
    }
    let mut mends = Vec::new();
    let mut astray = Vec::new();
    let mut unread = Vec::new();
    for (queue, number) in &queues {
        let Some(cpu) = workers.cpus.get(*queue) else {
            continue;
        };
        let place = place(root, *number);
        match place {
            None => unread.push(*number),
            Some(place) if place == [*cpu] => {}
            Some(place) => {
                astray.push(format!(
                    "queue {queue}'s ({number}) goes to {}, worker {queue} is on {cpu}",
                    as_list(&place)
                ));
                let file = format!("/proc/irq/{number}/smp_affinity_list");
                mends.push(Mend::File(file, cpu.to_string()));
            }
        }
    }
    if !mends.is_empty() {
        let suffix = if workers.is_assumed() {
            " (as far as can be told without --config)"
        } else {
            ""
        };
        let cost = "a packet is fetched into one processor's cache and read by another, which must be woken: some microseconds each";
        return Finding::amiss(subject, astray.join("; ") + suffix, cost, mends);
    }
    if let Some(number) = unread.first() {
        return Finding::unknown(subject, format!("/proc/irq/{number} cannot be read"));
    }
    let served = queues.len().min(workers.cpus.len());
    Finding::ok(
        subject,
        format!("{served} queues', each on its worker's processor"),
    )
}

/// Receive queues and their interrupts, by the names that drivers give them.
fn queues(root: &Root, device: &str) -> Vec<(usize, usize)> {
    let text = root.read("/proc/interrupts").unwrap_or_default();
    // A virtio device has its interrupts from the PCI device above it.
    let folders = ["device/msi_irqs", "device/../msi_irqs"];
    let own = folders.iter().find_map(|folder| {
        let names = root.names(&format!("/sys/class/net/{device}/{folder}"));
        (!names.is_empty()).then_some(names)
    });
    let mut queues: Vec<(usize, usize)> = text
        .lines()
        .filter_map(|line| {
            let (number, rest) = line.trim_start().split_once(':')?;
            let action = rest.split_ascii_whitespace().last()?;
            let is_own = match &own {
                Some(names) => names.iter().any(|name| name == number),
                None => action.split(['-', '@']).any(|part| part == device),
            };
            let queue = receive_queue(action).filter(|_| is_own)?;
            Some((queue, number.parse().ok()?))
        })
        .collect();
    queues.sort_unstable();
    queues.dedup_by_key(|(queue, _)| *queue);
    queues
}

/// The queue in a name such as `ice-eth0-TxRx-3`, `mlx5_comp3@pci:0000:3b:00.0`, `virtio2-input.0`; `None` for one that receives nothing.
fn receive_queue(action: &str) -> Option<usize> {
    let name = action.split('@').next()?;
    let lower = name.to_ascii_lowercase();
    let receives = ["rx", "input", "comp", "ntfy", "queue"];
    let is_other = ["output", "config", "async", "misc", "fdir", "control"];
    if !receives.iter().any(|word| lower.contains(word))
        || is_other.iter().any(|word| lower.contains(word))
    {
        return None;
    }
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    name.get(name.len() - digits..)?.parse().ok()
}

/// The processors that an interrupt goes to: where the kernel sends it, else where it may.
fn place(root: &Root, number: usize) -> Option<Vec<usize>> {
    let read = |file: &str| {
        let list = root.list(&format!("/proc/irq/{number}/{file}"))?;
        (!list.is_empty()).then_some(list)
    };
    read("effective_affinity_list").or_else(|| read("smp_affinity_list"))
}

/// irqbalance moves interrupts off the workers' processors, unless it is told to leave them.
pub(super) fn balance(root: &Root, workers: &Workers) -> Finding {
    let subject = "irqbalance";
    let is_whole = root
        .target("/proc/self/ns/pid")
        .is_none_or(|namespace| namespace == FIRST_PID_NAMESPACE);
    if !is_whole || root.read("/proc/1/comm").is_none() {
        let text = "the host's processes cannot be seen from here".to_owned();
        return Finding::unknown(subject, text);
    }
    let is_running = root
        .names("/proc")
        .iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .any(|pid| root.read(&format!("/proc/{pid}/comm")).as_deref() == Some("irqbalance"));
    if !is_running {
        return Finding::ok(subject, "does not run".to_owned());
    }
    let settings = root.read("/etc/default/irqbalance").unwrap_or_default();
    let banned = settings
        .lines()
        .find_map(|line| line.trim().strip_prefix("IRQBALANCE_BANNED_CPULIST="))
        .map(|list| numbers(list.trim_matches(['"', '\''])))
        .unwrap_or_default();
    let is_left_alone =
        !workers.cpus.is_empty() && workers.cpus.iter().all(|cpu| banned.contains(cpu));
    if is_left_alone {
        return Finding::ok(
            subject,
            "runs, and leaves the workers' processors alone".to_owned(),
        );
    }
    Finding::amiss(
        subject,
        "runs, and may move any interrupt anywhere, every ten seconds".to_owned(),
        "what was placed by hand is undone; or leave it running with IRQBALANCE_BANNED_CPULIST in /etc/default/irqbalance",
        vec![Mend::Command(
            "systemctl disable --now irqbalance".to_owned(),
            "systemctl enable --now irqbalance".to_owned(),
        )],
    )
}

/// Who polls the device, and whether interrupts are put off for a worker that does.
fn polling(root: &Root, device: &str, workers: &Workers) -> Vec<Finding> {
    let file = |name: &str| format!("/sys/class/net/{device}/{name}");
    let threaded = match root.read(&file("threaded")).as_deref() {
        None => Finding::unknown("napi", "this kernel does not show who polls it".to_owned()),
        Some("0") => Finding::ok("napi", "the interrupt's processor polls".to_owned()),
        Some(_) => Finding::amiss(
            "napi",
            "kernel threads poll (threaded)".to_owned(),
            "each batch waits for the scheduler once more, unless each thread (napi/DEVICE-N) is pinned to its worker's processor",
            vec![Mend::File(file("threaded"), "0".to_owned())],
        ),
    };
    let defer = root.number(&file("napi_defer_hard_irqs"));
    let flush = root.number(&file("gro_flush_timeout"));
    let subject = "busy poll";
    let busy = workers.busy_poll.unwrap_or(false);
    let set = |defer: &str, flush: &str| {
        vec![
            Mend::File(file("napi_defer_hard_irqs"), defer.to_owned()),
            Mend::File(file("gro_flush_timeout"), flush.to_owned()),
        ]
    };
    let deferred = match (defer, flush) {
        (Some(defer), Some(flush)) => {
            let text = format!("interrupts put off {defer} times, for {} us", flush / 1_000);
            match (busy, defer > 0 && flush > 0) {
                (true, false) => Finding::amiss(
                    subject,
                    format!("{text}, and [workers] busy_poll is on"),
                    "worker and interrupt both take the packets, in turns",
                    set("2", "200000"),
                ),
                (false, true) => Finding::amiss(
                    subject,
                    format!("{text}, and no worker polls"),
                    "a packet that comes between two polls waits for that timer",
                    set("0", "0"),
                ),
                _ => Finding::ok(subject, text),
            }
        }
        _ => Finding::unknown(
            subject,
            "this kernel does not show how interrupts are put off".to_owned(),
        ),
    };
    vec![threaded, deferred]
}

/// The number of the first PID namespace (`PROC_PID_INIT_INO`).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tree::Tree;
    use super::*;

    fn workers(busy_poll: bool) -> Workers {
        Workers {
            cpus: vec![2, 3],
            allowed: (0..4).collect(),
            busy_poll: Some(busy_poll),
        }
    }

    fn tree(first: &str, second: &str) -> Tree {
        let text = "           CPU0       CPU1\n  45:  10  0  PCI-MSI 1-edge  ice-eth0-TxRx-0\n  46:  0  10  PCI-MSI 2-edge  \
                    ice-eth0-TxRx-1\n  47:  0  0  PCI-MSI 3-edge  ice-eth0-misc\n  50:  0  0  PCI-MSI 1-edge  ice-eth1-TxRx-0\n";
        Tree::new()
            .with("proc/interrupts", text)
            .with("proc/irq/45/smp_affinity_list", "0-3\n")
            .with("proc/irq/45/effective_affinity_list", first)
            .with("proc/irq/46/smp_affinity_list", second)
            .with("sys/class/net/eth0/threaded", "0\n")
            .with("sys/class/net/eth0/napi_defer_hard_irqs", "0\n")
            .with("sys/class/net/eth0/gro_flush_timeout", "0\n")
    }

    #[test]
    fn interrupts_beside_their_workers_are_good() {
        let findings = examine(&tree("2\n", "3\n").root(), "eth0", &workers(false));
        assert!(
            findings.iter().all(|finding| finding.level == Level::Ok),
            "{findings:?}"
        );
    }

    #[test]
    fn an_interrupt_elsewhere_is_told_with_the_file() {
        let findings = examine(&tree("0\n", "0-3\n").root(), "eth0", &workers(false));
        let file = |number: u32, cpu: &str| {
            Mend::File(
                format!("/proc/irq/{number}/smp_affinity_list"),
                cpu.to_owned(),
            )
        };
        assert_eq!(findings[0].mends, [file(45, "2"), file(46, "3")]);
    }

    #[test]
    fn a_device_without_interrupts_is_unknown() {
        assert_eq!(
            affinity(&tree("2", "3").root(), "veth0", &workers(false)).level,
            Level::Unknown
        );
        assert_eq!(receive_queue("mlx5_comp3@pci:0000:3b:00.0"), Some(3));
        assert_eq!(receive_queue("virtio2-input.0"), Some(0));
        assert_eq!(receive_queue("virtio2-output.0"), None);
        assert_eq!(receive_queue("eth0"), None);
    }

    #[test]
    fn busy_polling_and_putting_off_go_together() {
        let root = tree("2", "3");
        let level = |tree: &Tree, busy| polling(&tree.root(), "eth0", &workers(busy))[1].level;
        assert_eq!(level(&root, true), Level::Warn);
        let root = root
            .with("sys/class/net/eth0/napi_defer_hard_irqs", "2\n")
            .with("sys/class/net/eth0/gro_flush_timeout", "200000\n");
        assert_eq!(
            (level(&root, true), level(&root, false)),
            (Level::Ok, Level::Warn)
        );
        assert_eq!(level(&Tree::new(), false), Level::Unknown);
    }

    #[test]
    fn irqbalance_is_seen_and_may_be_told_to_leave_processors_alone() {
        let tree = Tree::new();
        assert_eq!(balance(&tree.root(), &workers(false)).level, Level::Unknown);
        let tree = tree.with("proc/1/comm", "systemd\n");
        assert_eq!(balance(&tree.root(), &workers(false)).level, Level::Ok);
        let tree = tree.with("proc/77/comm", "irqbalance\n");
        assert_eq!(balance(&tree.root(), &workers(false)).level, Level::Warn);
        let tree = tree.with(
            "etc/default/irqbalance",
            "IRQBALANCE_BANNED_CPULIST=\"2-3\"\n",
        );
        assert_eq!(balance(&tree.root(), &workers(false)).level, Level::Ok);
    }
}
