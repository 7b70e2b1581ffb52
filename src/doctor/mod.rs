//! `strowger doctor`: is this host ready for AF_XDP, and the database for our bindings, and what mends it where they are not. It looks and
//! changes nothing.

mod capability;
mod device;
mod driver;
mod ethtool;
mod finding;
mod kernel;
mod link;
mod netdev;
mod netlink;
mod resource;
mod store;
mod verdict;

use std::fmt;

use serde::Serialize;

pub use device::DeviceReport;
pub use finding::{Finding, Level};
pub use verdict::Verdict;

use crate::config::Config;
use crate::net::privilege::Privileges;
use device::Facts;

/// What was found on the host.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Kernel, privileges, limits.
    host: Vec<Finding>,
    /// Each device looked at.
    devices: Vec<DeviceReport>,
    /// The store of the configuration, where one was given.
    store: Vec<Finding>,
}

/// Looks at the host, and at `interface` or at every device that is up and not loopback.
#[must_use]
pub fn examine(interface: Option<&str>) -> Report {
    let privileges = Privileges::read();
    let mut host = kernel::examine();
    host.extend(capability::examine(&privileges));
    host.extend(resource::examine(privileges.may_lock_memory()));
    // What fails on the host keeps every device from AF_XDP.
    let obstacle = host
        .iter()
        .find(|finding| finding.level == Level::Fail)
        .map(|finding| finding.text.clone());
    let names = match interface {
        Some(name) => vec![name.to_owned()],
        None => device::names(),
    };
    if names.is_empty() {
        let cure = "name one with --interface".to_owned();
        host.push(Finding::fail(
            "devices",
            "no device is up beside loopback".to_owned(),
            cure,
        ));
    }
    let devices = names
        .iter()
        .map(|name| match Facts::gather(name) {
            Some(facts) => facts.examine(obstacle.as_deref()),
            None => DeviceReport::absent(name),
        })
        .collect();
    Report {
        host,
        devices,
        store: Vec::new(),
    }
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

    /// The report as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        let object = serde_json::json!({ "ready": self.is_ready(), "host": self.host, "devices": self.devices, "store": self.store });
        object.to_string()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "host")?;
        for finding in &self.host {
            write!(f, "{finding}")?;
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_can_be_examined_and_the_report_is_json() {
        let report = examine(Some("lo"));
        assert_eq!(report.devices.len(), 1);
        let value: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
        assert_eq!(value["devices"][0]["name"], "lo");
        assert_eq!(value["ready"], report.is_ready());
        assert!(report.to_string().contains("\nlo"));
    }

    #[test]
    fn a_device_that_is_not_there_is_a_failure_with_its_name() {
        let report = examine(Some("nothing0"));
        assert!(!report.is_ready());
        assert!(
            report.to_string().contains("no device nothing0"),
            "{report}"
        );
    }
}
