//! `[sip]`: what we are responsible for, our secret, and the timers that an operator may set.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::address;
use super::section::Section;
use crate::limits::{FAILOVER, RING, TIMER_C};
use crate::time::Duration;

/// The settings of the SIP core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sip {
    /// The domains that we are responsible for, in lower case, beside our listen addresses.
    pub domains: Vec<String>,
    /// Where the keys are kept.
    pub secret_file: PathBuf,
    /// How long transactions in progress hold the exit after SIGTERM.
    pub drain: Duration,
    /// Timer C (RFC 3261 16.6.11).
    pub timer_c: Duration,
    /// How long the contacts of one q ring before those of the next are tried.
    pub ring: Duration,
    /// How long a destination of a name may be silent where there is another to try (RFC 3263 4.3).
    pub failover: Duration,
}

/// Reads `[sip]`.
pub(super) fn read(root: &mut Section<'_>) -> Sip {
    let mut section = root.section("sip");
    let domains = section.parsed_list("domains", address::domain);
    let secret_file = section.text("secret_file");
    let drain_s = section.number("drain_s", 0..=DRAIN_S_MAX);
    // RFC 3261 16.6.11: the timer must be larger than 3 minutes.
    let timer_c_s = section.number("timer_c_s", TIMER_C.as_secs()..=TIMER_C_S_MAX);
    let ring_s = section.number("ring_s", 1..=RING_S_MAX);
    let failover_ms = section.number("failover_ms", FAILOVER_MS);
    let mut names: Vec<String> = Vec::new();
    for domain in domains.map_or(Vec::new(), |domains| domains.value) {
        if names.contains(&domain.value) {
            section.mistake(
                domain.at,
                "domains",
                &format!("{:?} stands there twice; keep one", domain.value),
            );
        } else if names.len() == DOMAINS_MAX {
            section.mistake(
                domain.at,
                "domains",
                &format!("more than {DOMAINS_MAX}; remove some"),
            );
            break;
        } else {
            names.push(domain.value);
        }
    }
    if names.is_empty() && !section.has("domains") {
        section
            .notes
            .warning_about_file("[sip] domains: none, so only users at our own addresses are ours");
    }
    section.finish();
    Sip {
        domains: names,
        secret_file: secret_file.map_or_else(
            || PathBuf::from("strowger.key"),
            |path| PathBuf::from(path.value),
        ),
        drain: drain_s.map_or(DRAIN, |drain_s| Duration::from_secs(drain_s.value)),
        timer_c: timer_c_s.map_or(TIMER_C, |timer_c_s| Duration::from_secs(timer_c_s.value)),
        ring: ring_s.map_or(RING, |ring_s| Duration::from_secs(ring_s.value)),
        failover: failover_ms.map_or(FAILOVER, |failover_ms| {
            Duration::from_millis(failover_ms.value)
        }),
    }
}

/// How long draining takes where the file does not say.
const DRAIN: Duration = Duration::from_secs(10);
/// An hour: a process that takes longer to stop is one that never stops.
const DRAIN_S_MAX: u64 = 3_600;
/// An hour of ringing.
const TIMER_C_S_MAX: u64 = 3_600;
/// Contacts of the next q wait no longer than Timer C takes at least.
const RING_S_MAX: u64 = TIMER_C.as_secs();
/// From the first retransmission to what Timer B or F ends anyway.
const FAILOVER_MS: RangeInclusive<u64> = 500..=32_000;
/// Domains of one server: each request's host is looked up among them.
const DOMAINS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::super::Config;
    use crate::time::Duration;

    const LISTEN: &str = "[[listen]]\naddress = \"192.0.2.1:5060\"\n";

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let sip = Config::parse("t".as_ref(), LISTEN).expect("good").sip;
        assert_eq!(sip.secret_file, std::path::Path::new("strowger.key"));
        assert_eq!(
            (sip.drain, sip.timer_c),
            (Duration::from_secs(10), Duration::from_secs(181))
        );
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = Config::parse(
            "/etc/strowger/a.toml".as_ref(),
            &format!("{LISTEN}[sip]\nsecret_file = \"a.key\"\n"),
        );
        assert_eq!(
            config.expect("good").sip.secret_file,
            std::path::Path::new("/etc/strowger/a.key")
        );
    }

    #[test]
    fn timer_c_is_longer_than_three_minutes() {
        let mistakes = Config::parse("t".as_ref(), &format!("{LISTEN}[sip]\ntimer_c_s = 180\n"))
            .expect_err("too short");
        assert!(
            mistakes
                .to_string()
                .contains("180 is out of range; give 181 to 3600")
        );
    }

    #[test]
    fn a_domain_stands_once() {
        let text = format!("{LISTEN}[sip]\ndomains = [\"Example.com\", \"example.com\"]\n");
        assert!(
            Config::parse("t".as_ref(), &text)
                .expect_err("twice")
                .to_string()
                .contains("stands there twice")
        );
    }
}
