//! How a device spreads packets over its queues: the fields and the key of its hash, the table behind it, and the rules before it.

use super::finding::Finding;
use super::mend::{Mend, quoted};
use super::parameter::{Known, Parameters};
use crate::net::ethtool::{Rule, Spread};

/// Looks at the spread over `queues` queues.
pub(super) fn examine(name: &str, queues: usize, parameters: &Parameters) -> Vec<Finding> {
    let name = &quoted(name);
    let mut findings = vec![
        fields(name, "rss udp4", "udp4", &parameters.udp4_ports),
        fields(name, "rss udp6", "udp6", &parameters.udp6_ports),
    ];
    if queues <= 1 {
        for finding in &mut findings {
            *finding = Finding::ok(
                finding.subject,
                "one queue: there is nothing to spread over".to_owned(),
            );
        }
    }
    findings.push(match &parameters.spread {
        Ok(_) if queues <= 1 => Finding::ok("rss table", "one queue".to_owned()),
        Ok(spread) => table(name, queues, spread),
        Err(reason) => Finding::unknown("rss table", reason.clone()),
    });
    findings.push(match &parameters.spread {
        Ok(spread) => key(name, &spread.key),
        Err(reason) => Finding::unknown("rss key", reason.clone()),
    });
    findings.push(match &parameters.rules {
        Ok(rules) => flow_rules(name, queues, rules),
        Err(reason) => Finding::unknown("flow rules", reason.clone()),
    });
    findings
}

fn fields(name: &str, subject: &'static str, flow: &str, ports: &Known<bool>) -> Finding {
    match ports {
        Ok(true) => Finding::ok(
            subject,
            "addresses and ports count for the queue".to_owned(),
        ),
        Ok(false) => Finding::amiss(
            subject,
            "ports do not count for the queue".to_owned(),
            "all that one address sends comes by one queue: a carrier's proxy, or all phones behind one NAT, keep one worker busy and the others idle",
            vec![Mend::Command(
                format!("ethtool -N {name} rx-flow-hash {flow} sdfn"),
                format!("ethtool -N {name} rx-flow-hash {flow} sd"),
            )],
        ),
        Err(reason) => Finding::unknown(subject, reason.clone()),
    }
}

/// Each queue should stand in the table as often as the others.
fn table(name: &str, queues: usize, spread: &Spread) -> Finding {
    let subject = "rss table";
    if spread.table.is_empty() {
        return Finding::unknown(subject, "the driver shows none".to_owned());
    }
    let mut shares = vec![0_usize; queues];
    let mut beyond = 0_usize;
    for queue in &spread.table {
        match usize::try_from(*queue)
            .ok()
            .and_then(|queue| shares.get_mut(queue))
        {
            Some(share) => *share += 1,
            None => beyond += 1,
        }
    }
    let (least, most) = (shares.iter().min(), shares.iter().max());
    let (least, most) = (least.copied().unwrap_or(0), most.copied().unwrap_or(0));
    let text = format!(
        "{} entries over {queues} queues, {least} to {most} each",
        spread.table.len()
    );
    if beyond == 0 && most - least <= 1 {
        return Finding::ok(subject, text);
    }
    let cost = "a queue with more entries has more of the packets, and its worker is full before the others are";
    let mends = vec![Mend::Command(
        format!("ethtool -X {name} equal {queues}"),
        format!("ethtool -X {name} default"),
    )];
    Finding::amiss(subject, text, cost, mends)
}

/// A key of zeros, or one that everybody knows, lets a sender choose the queue that its packets come by.
fn key(name: &str, key: &[u8]) -> Finding {
    let subject = "rss key";
    if key.is_empty() {
        return Finding::unknown(subject, "the driver shows none".to_owned());
    }
    let is_constant = key.windows(2).all(|pair| pair[0] == pair[1]);
    let period_of_two = key.len() > 2 && key.windows(3).all(|three| three[0] == three[2]);
    if !is_constant && !period_of_two && !key.starts_with(&MICROSOFTS) {
        return Finding::ok(
            subject,
            format!("{} octets of this device's own", key.len()),
        );
    }
    let text = format!("{} octets that everybody knows", key.len());
    let cost = "whoever knows the key can aim all packets at one queue";
    // Its own random key comes back with the driver; what was is no secret worth keeping.
    let hex: Vec<String> = key.iter().map(|octet| format!("{octet:02x}")).collect();
    let mends = vec![Mend::Command(
        format!(
            "ethtool -X {name} hkey $(od -An -v -tx1 -N{} /dev/urandom | tr -s ' \\n' ':' | sed 's/^://; s/:$//')",
            key.len()
        ),
        format!("ethtool -X {name} hkey {}", hex.join(":")),
    )];
    Finding::amiss(subject, text, cost, mends)
}

fn flow_rules(name: &str, queues: usize, rules: &[Rule]) -> Finding {
    let subject = "flow rules";
    if rules.is_empty() {
        return Finding::ok(subject, "none: all flows are spread".to_owned());
    }
    let told: Vec<String> = rules
        .iter()
        .take(RULES_TOLD)
        .map(|rule| {
            let flow = rule
                .udp_port
                .map_or("a flow".to_owned(), |port| format!("udp port {port}"));
            match rule.queue {
                Some(queue) => format!("{flow} to queue {queue}"),
                None => format!("{flow} to no queue"),
            }
        })
        .collect();
    let text = format!("{}: {}", rules.len(), told.join(", "));
    let astray: Vec<&Rule> = rules
        .iter()
        .filter(|rule| {
            rule.udp_port.is_some()
                && rule
                    .queue
                    .is_none_or(|queue| usize::try_from(queue).is_ok_and(|queue| queue >= queues))
        })
        .collect();
    if astray.is_empty() {
        return Finding::ok(subject, text);
    }
    let cost = "what they catch is dropped, or comes by a queue that is not there";
    let commands: Vec<String> = astray
        .iter()
        .map(|rule| format!("ethtool -N {name} delete {}", rule.location))
        .collect();
    // A rule that is deleted cannot be put back from what was read of it, so no script does it.
    Finding::warn(subject, text, commands.join("; ")).costing(cost)
}

/// Rules that the report names.
const RULES_TOLD: usize = 8;
/// The beginning of the key of Microsoft's specification, which drivers copied.
const MICROSOFTS: [u8; 8] = [0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2];

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn ports_must_count_where_there_is_a_choice_of_queues() {
        let mut parameters = Parameters::unknown("nobody tells");
        parameters.udp4_ports = Ok(false);
        let findings = examine("eth0", 4, &parameters);
        assert_eq!(
            findings[0].cure.as_deref(),
            Some("ethtool -N eth0 rx-flow-hash udp4 sdfn")
        );
        assert!(
            findings[1..]
                .iter()
                .all(|finding| finding.level == Level::Unknown)
        );
        assert_eq!(examine("eth0", 1, &parameters)[0].level, Level::Ok);
    }

    #[test]
    fn the_table_is_to_be_equal() {
        let of = |table: &[u32]| {
            let spread = Spread {
                table: table.to_vec(),
                key: Vec::new(),
            };
            table_level(&spread)
        };
        assert_eq!(of(&[0, 1, 0, 1]), Level::Ok);
        assert_eq!(of(&[0, 0, 0, 1]), Level::Warn);
        assert_eq!(of(&[0, 1, 2, 3]), Level::Warn, "queues that are not there");
        assert_eq!(of(&[]), Level::Unknown);
    }

    fn table_level(spread: &Spread) -> Level {
        table("eth0", 2, spread).level
    }

    #[test]
    fn a_key_that_everybody_knows_is_told_of() {
        let mut own: Vec<u8> = (0..40_u8).map(|number| number.wrapping_mul(7)).collect();
        assert_eq!(key("eth0", &own).level, Level::Ok);
        own[..8].copy_from_slice(&MICROSOFTS);
        assert_eq!(key("eth0", &own).level, Level::Warn);
        assert_eq!(key("eth0", &[0; 40]).level, Level::Warn);
        assert_eq!(key("eth0", &[0x6d, 0x5a].repeat(20)).level, Level::Warn);
        assert_eq!(key("eth0", &[]).level, Level::Unknown);
    }

    #[test]
    fn a_rule_for_a_queue_that_is_not_there_is_told_of() {
        let rule = Rule {
            location: 7,
            udp_port: Some(5_060),
            queue: Some(2),
        };
        assert_eq!(flow_rules("eth0", 4, &[rule]).level, Level::Ok);
        let finding = flow_rules("eth0", 2, &[rule]);
        assert_eq!(finding.cure.as_deref(), Some("ethtool -N eth0 delete 7"));
        assert!(
            finding.text.contains("udp port 5060 to queue 2"),
            "{}",
            finding.text
        );
    }
}
