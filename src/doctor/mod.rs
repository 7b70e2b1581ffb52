//! `strowger doctor`: is this host ready for AF_XDP and tuned for it, and the database for our bindings; what that costs where they are not,
//! and what mends it. It looks and changes nothing.

mod build;
mod capability;
mod device;
mod driver;
mod ethtool;
mod finding;
mod interrupt;
mod isolation;
mod kernel;
mod link;
mod mend;
mod netdev;
mod netlink;
mod parameter;
mod power;
mod resource;
mod ring;
mod root;
mod spread;
mod store;
mod sysctl;
#[cfg(test)]
mod tree;
mod verdict;
mod workers;

use std::fmt;

use serde::Serialize;

pub use device::DeviceReport;
pub use finding::{Finding, Level};
pub use root::Root;
pub use verdict::Verdict;

use crate::config::Config;
use device::{Facts, Surroundings};
use mend::Chapter;
use workers::Workers;

/// What was found on the host.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Kernel, privileges, limits, settings, processors.
    host: Vec<Finding>,
    /// Each device looked at.
    devices: Vec<DeviceReport>,
    /// The store of the configuration, where one was given.
    store: Vec<Finding>,
}

/// Looks at the host whose files are under `root`, and at `interface`, or at every device that is up and not loopback; by `config` it
/// knows the workers and their processors.
#[must_use]
pub fn examine(root: &Root, interface: Option<&str>, config: Option<&Config>) -> Report {
    let names = match interface {
        Some(name) => vec![name.to_owned()],
        None => device::names(root),
    };
    let facts: Vec<Option<Facts>> = names.iter().map(|name| Facts::gather(root, name)).collect();
    let queues = facts.iter().flatten().map(|facts| facts.receive_queues);
    let workers = Workers::find(root, config, queues.max().unwrap_or(1));
    let mut host = host(root, &workers);
    // What fails on the host keeps every device from AF_XDP.
    let obstacle = host
        .iter()
        .find(|finding| finding.level == Level::Fail)
        .map(|finding| finding.text.clone());
    if names.is_empty() {
        let cure = "name one with --interface".to_owned();
        host.push(Finding::fail(
            "devices",
            "no device is up beside loopback".to_owned(),
            cure,
        ));
    }
    let around = Surroundings {
        root,
        workers: &workers,
        release: kernel::release(root),
        obstacle: obstacle.as_deref(),
    };
    let devices = names
        .iter()
        .zip(facts)
        .map(|(name, facts)| match facts {
            Some(facts) => facts.examine(&around),
            None => DeviceReport::absent(name),
        })
        .collect();
    Report {
        host,
        devices,
        store: Vec::new(),
    }
}

fn host(root: &Root, workers: &Workers) -> Vec<Finding> {
    let privileges = capability::read(root);
    let may_lock_memory = privileges
        .as_ref()
        .is_some_and(|privileges| privileges.may_lock_memory());
    let mut findings = kernel::examine(root);
    findings.extend(build::examine(root));
    findings.extend(capability::examine(privileges.as_ref()));
    findings.extend(resource::examine(root, may_lock_memory, workers));
    findings.extend(isolation::examine(root, workers));
    findings.extend(power::examine(root, workers));
    findings.push(interrupt::balance(root, workers));
    findings.extend(sysctl::examine(root));
    findings
}

impl Report {
    /// Looks at the store that a configuration names, too.
    #[must_use]
    pub fn with_store(mut self, config: &Config) -> Self {
        self.store = store::examine(config);
        self
    }

    /// Whether nothing on the host or of the store fails and every device looked at would serve by AF_XDP.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let is_fit =
            |findings: &[Finding]| findings.iter().all(|finding| finding.level != Level::Fail);
        is_fit(&self.host)
            && is_fit(&self.store)
            && self
                .devices
                .iter()
                .all(|device| is_fit(&device.findings) && device.verdict.is_af_xdp())
    }

    /// Whether nothing is to be mended: neither a failure nor a warning.
    #[must_use]
    pub fn is_tuned(&self) -> bool {
        self.count(Level::Fail) == 0 && self.count(Level::Warn) == 0
    }

    /// The report as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        let object = serde_json::json!({
            "ready": self.is_ready(), "tuned": self.is_tuned(), "host": self.host, "devices": self.devices, "store": self.store,
        });
        object.to_string()
    }

    /// A shell script that mends what a script can mend, names what it cannot, and can take back what it did.
    #[must_use]
    pub fn fix_script(&self) -> String {
        let host = self.host.iter().map(|finding| (None, finding));
        let of = |device: &DeviceReport| Some(device.name.clone());
        let devices = self.devices.iter().flat_map(|device| {
            let findings = device.findings.iter();
            findings.map(move |finding| (of(device), finding))
        });
        let store = self
            .store
            .iter()
            .map(|finding| (Some("store".to_owned()), finding));
        let chapters = host
            .chain(devices)
            .chain(store)
            .filter_map(|(whose, finding)| {
                let cure = finding.cure.as_deref()?;
                let subject = finding.subject;
                let heading = match whose {
                    Some(whose) => format!("{whose}: {subject}: {}", finding.text),
                    None => format!("{subject}: {}", finding.text),
                };
                Some(Chapter {
                    heading,
                    cost: finding.cost,
                    cure,
                    steps: &finding.mends,
                })
            });
        mend::script(chapters)
    }

    fn count(&self, level: Level) -> usize {
        let of_devices = self.devices.iter().flat_map(|device| &device.findings);
        let all = self.host.iter().chain(of_devices).chain(&self.store);
        all.filter(|finding| finding.level == level).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "host")?;
        // Settings that are as they should be are many and say nothing.
        let is_good_setting =
            |finding: &&Finding| finding.subject == sysctl::SUBJECT && finding.level == Level::Ok;
        for finding in self.host.iter().filter(|finding| !is_good_setting(finding)) {
            write!(f, "{finding}")?;
        }
        let good = self.host.iter().filter(is_good_setting).count();
        if good > 0 {
            let text = format!("{good} more are as in tuning/90-strowger.conf");
            write!(f, "{}", Finding::ok(sysctl::SUBJECT, text))?;
        }
        for device in &self.devices {
            write!(f, "\n{device}")?;
        }
        if !self.store.is_empty() {
            writeln!(f, "\nstore")?;
        }
        for finding in &self.store {
            write!(f, "{finding}")?;
        }
        writeln!(
            f,
            "\n{} ok, {} to be better, {} in the way, {} not to be seen from here; `strowger doctor --fix-script` prints what mends it",
            self.count(Level::Ok),
            self.count(Level::Warn),
            self.count(Level::Fail),
            self.count(Level::Unknown),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_can_be_examined_and_the_report_is_json() {
        let report = examine(&Root::host(), Some("lo"), None);
        assert_eq!(report.devices.len(), 1);
        let value: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
        assert_eq!(value["devices"][0]["name"], "lo");
        assert_eq!(value["ready"], report.is_ready());
        assert!(report.to_string().contains("\nlo"));
    }

    #[test]
    fn a_device_that_is_not_there_is_a_failure_with_its_name() {
        let report = examine(&Root::host(), Some("nothing0"), None);
        assert!(!report.is_ready());
        assert!(
            report.to_string().contains("no device nothing0"),
            "{report}"
        );
    }
}
