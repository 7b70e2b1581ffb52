//! What saves power at the price of latency: the clock's governor and the idle states of the workers' processors; and the slack of timers.

use super::finding::Finding;
use super::mend::Mend;
use super::root::{Root, as_list};
use super::workers::Workers;

/// Looks at the workers' processors and at this process.
pub(super) fn examine(root: &Root, workers: &Workers) -> Vec<Finding> {
    vec![
        governor(root, workers),
        idle(root, workers),
        timer_slack(root),
    ]
}

fn governor(root: &Root, workers: &Workers) -> Finding {
    let subject = "governor";
    let file = |cpu: usize| format!("{CPU}/cpu{cpu}/cpufreq/scaling_governor");
    let mut mends = Vec::new();
    let mut others: Vec<String> = Vec::new();
    let mut unread = Vec::new();
    for cpu in &workers.cpus {
        match root.read(&file(*cpu)) {
            None => unread.push(*cpu),
            Some(governor) if governor == "performance" => {}
            Some(governor) => {
                others.push(governor);
                mends.push(Mend::File(file(*cpu), "performance".to_owned()));
            }
        }
    }
    if !mends.is_empty() {
        others.sort();
        others.dedup();
        let text = format!("{} on the workers' processors", others.join(", "));
        let cost =
            "the first packet after a pause is served at the lowest clock, some times slower";
        return Finding::amiss(subject, text, cost, mends);
    }
    if unread.is_empty() && !workers.cpus.is_empty() {
        return Finding::ok(subject, format!("performance on {}", workers.told()));
    }
    let text = format!(
        "no cpufreq for {}: a virtual machine's host decides, or the firmware",
        as_list(&unread)
    );
    Finding::unknown(subject, text)
}

/// Idle states that take longer to wake from than a packet may wait.
fn idle(root: &Root, workers: &Workers) -> Finding {
    let subject = "idle states";
    let mut mends = Vec::new();
    let mut deepest: Option<(u64, String)> = None;
    let mut is_shown = false;
    for cpu in &workers.cpus {
        let folder = format!("{CPU}/cpu{cpu}/cpuidle");
        for state in root.names(&folder) {
            let folder = format!("{folder}/{state}");
            let Some(latency) = root.number(&format!("{folder}/latency")) else {
                continue;
            };
            is_shown = true;
            let is_off = root.read(&format!("{folder}/disable")).as_deref() == Some("1");
            if latency <= WAKE_US || is_off {
                continue;
            }
            let name = root.read(&format!("{folder}/name")).unwrap_or(state);
            if deepest.as_ref().is_none_or(|(most, _)| latency > *most) {
                deepest = Some((latency, name));
            }
            mends.push(Mend::File(format!("{folder}/disable"), "1".to_owned()));
        }
    }
    match deepest {
        Some((latency, name)) => Finding::amiss(
            subject,
            format!("{name} takes {latency} us to wake from"),
            "the first packet after a pause waits so long: worker and interrupt sleep together",
            mends,
        ),
        None if is_shown => Finding::ok(subject, format!("none takes longer than {WAKE_US} us")),
        None => Finding::unknown(
            subject,
            "no cpuidle for the workers' processors: a virtual machine's host decides, or they poll".to_owned(),
        ),
    }
}

/// What the server inherits if it is started from here; the unit sets its own.
fn timer_slack(root: &Root) -> Finding {
    let subject = "timer slack";
    match root.number("/proc/self/timerslack_ns") {
        None => Finding::unknown(subject, "this kernel does not show it".to_owned()),
        Some(slack) if slack <= SLACK_NS_MAX => Finding::ok(
            subject,
            format!(
                "{} us: timers of SIP are 500 ms and longer",
                slack.div_ceil(1_000)
            ),
        ),
        Some(slack) => Finding::warn(
            subject,
            format!("{} us", slack / 1_000),
            "start the server from a shell or a unit with TimerSlackNSec=50us".to_owned(),
        )
        .costing("a worker that sleeps until a timer wakes so much later"),
    }
}

const CPU: &str = "/sys/devices/system/cpu";
/// The longest that waking may take.
const WAKE_US: u64 = 10;
/// The kernel's own default.
const SLACK_NS_MAX: u64 = 50_000;

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tree::Tree;
    use super::*;

    fn workers() -> Workers {
        Workers {
            cpus: vec![2, 3],
            allowed: (0..4).collect(),
            busy_poll: Some(false),
        }
    }

    fn tree(governor: &str, disable: &str) -> Tree {
        let mut tree = Tree::new().with("proc/self/timerslack_ns", "50000\n");
        for cpu in [2, 3] {
            let folder = format!("sys/devices/system/cpu/cpu{cpu}");
            tree = tree
                .with(&format!("{folder}/cpufreq/scaling_governor"), governor)
                .with(&format!("{folder}/cpuidle/state0/name"), "POLL\n")
                .with(&format!("{folder}/cpuidle/state0/latency"), "0\n")
                .with(&format!("{folder}/cpuidle/state0/disable"), "0\n")
                .with(&format!("{folder}/cpuidle/state3/name"), "C6\n")
                .with(&format!("{folder}/cpuidle/state3/latency"), "133\n")
                .with(&format!("{folder}/cpuidle/state3/disable"), disable);
        }
        tree
    }

    #[test]
    fn a_host_that_saves_power_is_told_file_by_file() {
        let findings = examine(&tree("powersave\n", "0\n").root(), &workers());
        assert_eq!(findings[0].mends.len(), 2);
        assert_eq!(findings[1].text, "C6 takes 133 us to wake from");
        let file = "/sys/devices/system/cpu/cpu2/cpuidle/state3/disable".to_owned();
        assert_eq!(findings[1].mends[0], Mend::File(file, "1".to_owned()));
    }

    #[test]
    fn a_host_that_does_not_is_good_and_one_that_tells_nothing_is_unknown() {
        let findings = examine(&tree("performance\n", "1\n").root(), &workers());
        assert!(
            findings.iter().all(|finding| finding.level == Level::Ok),
            "{findings:?}"
        );
        let findings = examine(&Tree::new().root(), &workers());
        assert!(
            findings
                .iter()
                .all(|finding| finding.level == Level::Unknown),
            "{findings:?}"
        );
    }

    #[test]
    fn long_slack_is_told_of() {
        let tree = Tree::new().with("proc/self/timerslack_ns", "4000000\n");
        assert_eq!(timer_slack(&tree.root()).level, Level::Warn);
    }
}
