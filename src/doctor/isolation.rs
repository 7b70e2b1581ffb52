//! Whether the workers' processors are theirs alone: no other tasks, no ticks, no callbacks of RCU, memory that is near the NIC.

use super::finding::Finding;
use super::mend::Mend;
use super::root::{Root, as_list, numbers};
use super::workers::Workers;

/// Looks at the processors of the workers.
pub(super) fn examine(root: &Root, workers: &Workers) -> Vec<Finding> {
    if workers.cpus.is_empty() {
        let text = "which processors there are cannot be read".to_owned();
        return vec![Finding::unknown(ISOLATION, text)];
    }
    let spare: Vec<usize> = workers
        .allowed
        .iter()
        .copied()
        .filter(|cpu| !workers.cpus.contains(cpu))
        .collect();
    let list = as_list(&workers.cpus);
    if spare.is_empty() {
        let text = format!(
            "the workers take every processor ({}), so none can be kept from the kernel and from other tasks",
            workers.told()
        );
        let cure = "leave one to the kernel: [workers] cpus and as many queues, or a host with more processors".to_owned();
        return vec![Finding::warn(ISOLATION, text, cure).costing(INTRUDERS)];
    }
    let command_line = root.read("/proc/cmdline");
    vec![
        tasks(root, workers, &list),
        ticks(root, workers, &list),
        callbacks(command_line.as_deref(), workers, &list),
    ]
}

/// The scheduler puts nothing else there: `isolcpus=` (or a cpuset partition that is isolated, which counts into the same file).
fn tasks(root: &Root, workers: &Workers, list: &str) -> Finding {
    let isolated = root
        .list("/sys/devices/system/cpu/isolated")
        .map(|mut isolated| {
            let cpuset = root.list("/sys/fs/cgroup/cpuset.cpus.isolated");
            isolated.extend(cpuset.unwrap_or_default());
            isolated
        });
    judge(
        ISOLATION,
        isolated,
        workers,
        "the scheduler keeps other tasks from",
        "other tasks are scheduled on",
        INTRUDERS,
        format!("isolcpus=domain,managed_irq,{list}"),
    )
}

fn ticks(root: &Root, workers: &Workers, list: &str) -> Finding {
    // "(null)", and no file at all, where the kernel was built without it.
    let tickless = root.list("/sys/devices/system/cpu/nohz_full");
    judge(
        "ticks",
        tickless,
        workers,
        "no timer interrupts a lone thread on",
        "the timer interrupts (nohz_full)",
        "250 to 1,000 interrupts a second of 1 to 5 us each, in the middle of a batch",
        format!("nohz_full={list}"),
    )
}

/// `/sys` does not show what RCU does; the command line does, and nohz_full includes it.
fn callbacks(command_line: Option<&str>, workers: &Workers, list: &str) -> Finding {
    let named = command_line.map(|words| {
        let value = |word: &str| {
            let value = word
                .strip_prefix("rcu_nocbs=")
                .or_else(|| word.strip_prefix("nohz_full="));
            value.map(|value| {
                if value == "all" {
                    workers.allowed.clone()
                } else {
                    numbers(value)
                }
            })
        };
        words
            .split_ascii_whitespace()
            .filter_map(value)
            .flatten()
            .collect()
    });
    judge(
        "rcu",
        named,
        workers,
        "callbacks of RCU run elsewhere than on",
        "callbacks of RCU run on",
        "the kernel frees what others used on the worker's processor, some 10 us at a time",
        format!("rcu_nocbs={list}"),
    )
}

fn judge(
    subject: &'static str,
    found: Option<Vec<usize>>,
    workers: &Workers,
    good: &str,
    bad: &str,
    cost: &'static str,
    words: String,
) -> Finding {
    let Some(found) = found else {
        return Finding::unknown(subject, "this kernel does not show it".to_owned());
    };
    let missing: Vec<usize> = workers
        .cpus
        .iter()
        .copied()
        .filter(|cpu| !found.contains(cpu))
        .collect();
    if missing.is_empty() {
        return Finding::ok(subject, format!("{good} {}", workers.told()));
    }
    let suffix = if workers.is_assumed() {
        " (taken for the workers', since no --config names them)"
    } else {
        ""
    };
    let text = format!("{bad} {}{suffix}", as_list(&missing));
    Finding::amiss(subject, text, cost, vec![Mend::Boot(words)])
}

/// Whether the NIC's memory is near the workers.
pub(super) fn node(root: &Root, device: &str, workers: &Workers) -> Finding {
    let subject = "numa";
    let nodes = root.list("/sys/devices/system/node/online");
    let own = root
        .read(&format!("/sys/class/net/{device}/device/numa_node"))
        .and_then(|text| text.parse::<i64>().ok());
    match (nodes, own) {
        (Some(nodes), _) if nodes.len() == 1 => {
            Finding::ok(subject, "this host has one node".to_owned())
        }
        (None, _) => Finding::unknown(subject, "this kernel shows no nodes".to_owned()),
        (_, None | Some(-1)) => Finding::unknown(
            subject,
            "the device does not say which node it is on".to_owned(),
        ),
        (_, Some(node)) => {
            let near = root.list(&format!("/sys/devices/system/node/node{node}/cpulist"));
            let Some(near) = near else {
                return Finding::unknown(subject, format!("node {node} shows no processors"));
            };
            let far: Vec<usize> = workers
                .cpus
                .iter()
                .copied()
                .filter(|cpu| !near.contains(cpu))
                .collect();
            if far.is_empty() {
                return Finding::ok(subject, format!("device and workers are on node {node}"));
            }
            let text = format!(
                "the device is on node {node}, the processors {} are not",
                as_list(&far)
            );
            let cure = format!("[workers] cpus of {}", as_list(&near));
            Finding::warn(subject, text, cure)
                .costing("each access to a packet goes to the other node's memory, 60 ns and more")
        }
    }
}

const ISOLATION: &str = "isolation";
const INTRUDERS: &str = "another task holds the processor for up to a slice (3 ms) while packets wait: the tail of the latency";

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tree::Tree;
    use super::*;

    fn workers(cpus: &[usize]) -> Workers {
        Workers {
            cpus: cpus.to_vec(),
            allowed: (0..8).collect(),
            busy_poll: Some(false),
        }
    }

    #[test]
    fn an_isolated_host_is_good() {
        let tree = Tree::new()
            .with("sys/devices/system/cpu/isolated", "2-3\n")
            .with("sys/devices/system/cpu/nohz_full", "2-3\n")
            .with(
                "proc/cmdline",
                "quiet isolcpus=domain,managed_irq,2-3 nohz_full=2-3 rcu_nocbs=2-3\n",
            );
        let findings = examine(&tree.root(), &workers(&[2, 3]));
        assert!(
            findings.len() == 3 && findings.iter().all(|f| f.level == Level::Ok),
            "{findings:?}"
        );
    }

    #[test]
    fn a_host_as_it_comes_is_told_the_words() {
        let tree = Tree::new()
            .with("sys/devices/system/cpu/isolated", "\n")
            .with("sys/devices/system/cpu/nohz_full", "(null)\n")
            .with("proc/cmdline", "quiet\n");
        let findings = examine(&tree.root(), &workers(&[2, 3]));
        let words: Vec<&[Mend]> = findings.iter().map(|finding| &finding.mends[..]).collect();
        let boot = |words: &str| Mend::Boot(words.to_owned());
        assert_eq!(words[0], [boot("isolcpus=domain,managed_irq,2-3")]);
        assert_eq!(words[1], [boot("nohz_full=2-3")]);
        assert_eq!(words[2], [boot("rcu_nocbs=2-3")]);
    }

    #[test]
    fn a_cpuset_partition_counts_and_what_is_not_shown_is_unknown() {
        let tree = Tree::new()
            .with("sys/devices/system/cpu/isolated", "\n")
            .with("sys/fs/cgroup/cpuset.cpus.isolated", "2-3\n");
        let findings = examine(&tree.root(), &workers(&[2, 3]));
        let levels: Vec<Level> = findings.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Ok, Level::Unknown, Level::Unknown]);
    }

    #[test]
    fn workers_on_all_processors_leave_none_to_the_kernel() {
        let all: Vec<usize> = (0..8).collect();
        let findings = examine(&Tree::new().root(), &workers(&all));
        assert!(findings[0].level == Level::Warn && findings[0].mends.is_empty());
    }

    #[test]
    fn a_device_on_another_node_is_told_of() {
        let tree = Tree::new()
            .with("sys/devices/system/node/online", "0-1\n")
            .with("sys/devices/system/node/node1/cpulist", "4-7\n")
            .with("sys/class/net/eth0/device/numa_node", "1\n");
        let finding = node(&tree.root(), "eth0", &workers(&[2, 4]));
        assert_eq!(finding.level, Level::Warn);
        assert!(
            finding.text.contains("the processors 2 are not"),
            "{}",
            finding.text
        );
        assert_eq!(
            node(&tree.root(), "eth0", &workers(&[4, 5])).level,
            Level::Ok
        );
        assert_eq!(
            node(&tree.root(), "eth1", &workers(&[4])).level,
            Level::Unknown
        );
    }
}
