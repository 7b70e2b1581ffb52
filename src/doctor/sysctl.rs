//! The kernel's settings against those of `tuning/90-strowger.conf`, key by key.

use super::finding::Finding;
use super::mend::Mend;
use super::root::Root;

/// What a value is held to.
#[derive(Clone, Copy)]
enum Rule {
    /// More does no harm.
    AtLeast,
    /// Less does no harm.
    AtMost,
    /// It is a switch.
    Equal,
}

/// Compares each key of the file.
pub(super) fn examine(root: &Root) -> Vec<Finding> {
    settings()
        .map(|(key, value)| compare(root, key, value))
        .collect()
}

fn settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    SETTINGS.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        (!line.starts_with('#')).then_some((key.trim(), value.trim()))
    })
}

fn compare(root: &Root, key: &'static str, wanted: &'static str) -> Finding {
    let (rule, cost) = RULES
        .iter()
        .find_map(|(known, rule, cost)| (*known == key).then_some((*rule, *cost)))
        .unwrap_or((Rule::Equal, "see tuning/README.md"));
    let file = format!("/proc/sys/{}", key.replace('.', "/"));
    let Some(text) = root.read(&file) else {
        // Most settings of the network are the host's, and hidden from other network namespaces.
        let text =
            format!("{key} is not shown here: look from the host's own network namespace, as root");
        return Finding::unknown(SUBJECT, text);
    };
    let (Ok(found), Ok(aim)) = (text.parse::<i64>(), wanted.parse::<i64>()) else {
        return Finding::unknown(SUBJECT, format!("{key} is {text:?}, which is no number"));
    };
    let (is_good, word) = match rule {
        Rule::AtLeast => (found >= aim, "at least "),
        Rule::AtMost => (found <= aim, "at most "),
        Rule::Equal => (found == aim, ""),
    };
    if is_good {
        return Finding::ok(SUBJECT, format!("{key} = {found}"));
    }
    let text = format!("{key} = {found}, and should be {word}{aim}");
    let mend = Mend::Setting(key.to_owned(), wanted.to_owned());
    Finding::amiss(SUBJECT, text, cost, vec![mend])
}

/// The subject of each finding of this kind.
pub(super) const SUBJECT: &str = "sysctl";
const SETTINGS: &str = include_str!("../../tuning/90-strowger.conf");

const BURSTS: &str =
    "bursts of fragments, of UDP without AF_XDP and of TCP do not fit the sockets: they are lost";
const BACKLOG: &str = "what the kernel's stack has not come to is dropped: the default is 5 ms of 200,000 packets a second";
const RETURN: &str = "phones that come back at once after an outage, over TCP, are refused";
const BUDGET: &str = "a NIC's interrupt yields early, and packets wait in the ring";
const SHARE: &str = "a NIC's interrupt works on for another time than was measured: less and packets wait in the ring, more and the worker beside it waits";
const WAITING: &str =
    "fragments of large messages are thrown away while others wait for their rest";
const PATIENCE: &str =
    "fragments whose rest never comes hold memory for long: an attack of them lasts";
const NEIGHBORS: &str =
    "neighbours are forgotten or refused: to each of them the first packet takes the slow path";
const KEEPALIVE: &str = "peers that vanished hold their connections for hours";

/// How each key is judged, and what it costs where it is not as it should be.
const RULES: [(&str, Rule, &str); 23] = [
    ("net.core.rmem_max", Rule::AtLeast, BURSTS),
    ("net.core.wmem_max", Rule::AtLeast, BURSTS),
    ("net.core.netdev_max_backlog", Rule::AtLeast, BACKLOG),
    ("net.core.somaxconn", Rule::AtLeast, RETURN),
    ("net.core.netdev_budget", Rule::AtLeast, BUDGET),
    ("net.core.netdev_budget_usecs", Rule::Equal, SHARE),
    ("net.ipv4.ipfrag_high_thresh", Rule::AtLeast, WAITING),
    ("net.ipv4.ipfrag_time", Rule::AtMost, PATIENCE),
    ("net.ipv6.ip6frag_high_thresh", Rule::AtLeast, WAITING),
    ("net.ipv6.ip6frag_time", Rule::AtMost, PATIENCE),
    (
        "net.ipv4.neigh.default.gc_thresh1",
        Rule::AtLeast,
        NEIGHBORS,
    ),
    (
        "net.ipv4.neigh.default.gc_thresh2",
        Rule::AtLeast,
        NEIGHBORS,
    ),
    (
        "net.ipv4.neigh.default.gc_thresh3",
        Rule::AtLeast,
        NEIGHBORS,
    ),
    (
        "net.ipv6.neigh.default.gc_thresh1",
        Rule::AtLeast,
        NEIGHBORS,
    ),
    (
        "net.ipv6.neigh.default.gc_thresh2",
        Rule::AtLeast,
        NEIGHBORS,
    ),
    (
        "net.ipv6.neigh.default.gc_thresh3",
        Rule::AtLeast,
        NEIGHBORS,
    ),
    (
        "net.ipv4.tcp_syncookies",
        Rule::AtLeast,
        "a flood of SYNs shuts phones out",
    ),
    ("net.ipv4.tcp_max_syn_backlog", Rule::AtLeast, RETURN),
    ("net.ipv4.tcp_keepalive_time", Rule::AtMost, KEEPALIVE),
    (
        "net.core.bpf_jit_enable",
        Rule::AtLeast,
        "the XDP program is interpreted, several times slower",
    ),
    (
        "net.core.bpf_jit_harden",
        Rule::AtMost,
        "the XDP program's constants are blinded: it is slower for nothing",
    ),
    (
        "vm.swappiness",
        Rule::AtMost,
        "a binding that was swapped out costs a call milliseconds",
    ),
    (
        "vm.zone_reclaim_mode",
        Rule::Equal,
        "memory is reclaimed in the middle of a batch rather than taken from another node",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tree::Tree;
    use super::*;

    fn host(value: impl Fn(&str, i64) -> String) -> Tree {
        settings().fold(Tree::new(), |tree, (key, wanted)| {
            let wanted = wanted.parse().expect("a number");
            tree.with(
                &format!("proc/sys/{}", key.replace('.', "/")),
                &value(key, wanted),
            )
        })
    }

    #[test]
    fn each_key_of_the_file_has_a_rule_and_each_rule_a_key() {
        let keys: Vec<&str> = settings().map(|(key, _)| key).collect();
        let ruled: Vec<&str> = RULES.iter().map(|(key, ..)| *key).collect();
        assert_eq!(keys, ruled);
    }

    #[test]
    fn a_host_with_the_file_is_good() {
        let findings = examine(&host(|_, wanted| format!("{wanted}\n")).root());
        assert!(
            findings.len() == RULES.len()
                && findings.iter().all(|finding| finding.level == Level::Ok)
        );
    }

    #[test]
    fn a_host_without_it_is_told_key_by_key() {
        // Each is made worse than is wanted, in the direction that its rule minds.
        let findings = examine(
            &host(|key, wanted| {
                let at_most = [
                    "ipfrag_time",
                    "ip6frag_time",
                    "keepalive_time",
                    "harden",
                    "swappiness",
                    "reclaim",
                ];
                let is_at_most = at_most.iter().any(|part| key.contains(part));
                (if is_at_most { wanted + 1 } else { wanted - 1 }).to_string()
            })
            .root(),
        );
        for (finding, (key, wanted)) in findings.iter().zip(settings()) {
            assert_eq!(finding.level, Level::Warn, "{key}");
            assert_eq!(
                finding.mends,
                [Mend::Setting(key.to_owned(), wanted.to_owned())]
            );
            assert!(finding.cost.is_some());
        }
    }

    #[test]
    fn what_is_not_shown_or_no_number_is_unknown() {
        assert!(
            examine(&Tree::new().root())
                .iter()
                .all(|finding| finding.level == Level::Unknown)
        );
        let findings = examine(&host(|_, _| "a lot\n".to_owned()).root());
        assert!(
            findings
                .iter()
                .all(|finding| finding.level == Level::Unknown)
        );
    }
}
