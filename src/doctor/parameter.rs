//! What a device's driver tells of its parameters, before they are judged: each of them, or why it is not known.

use std::io;

use super::root::Root;
use crate::net::ethtool::{self, Coalescing, Flow, Offloads, Rings, Rule, Spread};

/// A parameter, or why it is not known.
pub(super) type Known<T> = Result<T, String>;

/// The parameters of a device.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    /// The lengths of its rings.
    pub(super) rings: Known<Rings>,
    /// When it interrupts.
    pub(super) coalescing: Known<Coalescing>,
    /// How it spreads flows over its queues.
    pub(super) spread: Known<Spread>,
    /// Whether ports count for the queue of UDP over IPv4.
    pub(super) udp4_ports: Known<bool>,
    /// Whether ports count for the queue of UDP over IPv6.
    pub(super) udp6_ports: Known<bool>,
    /// Flows that have a queue of their own.
    pub(super) rules: Known<Vec<Rule>>,
    /// What it does to packets.
    pub(super) offloads: Known<Offloads>,
}

impl Parameters {
    /// Asks the driver of a device; where the files are a copy of another host's there is no driver to ask.
    pub(super) fn gather(name: &str, root: &Root) -> Self {
        if !root.is_this_host() {
            return Self::unknown("the files under --root do not tell it");
        }
        Self {
            rings: told(ethtool::rings(name)),
            coalescing: told(ethtool::coalescing(name)),
            spread: told(ethtool::spread(name)),
            udp4_ports: told(ethtool::hashes_ports(name, Flow::Udp4)),
            udp6_ports: told(ethtool::hashes_ports(name, Flow::Udp6)),
            rules: told(ethtool::rules(name)),
            offloads: told(ethtool::offloads(name)),
        }
    }

    /// Nothing is known, since `reason`.
    pub(super) fn unknown(reason: &str) -> Self {
        let reason = || reason.to_owned();
        Self {
            rings: Err(reason()),
            coalescing: Err(reason()),
            spread: Err(reason()),
            udp4_ports: Err(reason()),
            udp6_ports: Err(reason()),
            rules: Err(reason()),
            offloads: Err(reason()),
        }
    }
}

fn told<T>(answer: io::Result<T>) -> Known<T> {
    answer.map_err(|error| match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "the driver does not tell".to_owned(),
        Some(libc::EPERM | libc::EACCES) => "only root may ask".to_owned(),
        _ => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_is_not_known_and_says_why() {
        let parameters = Parameters::gather("lo", &Root::host());
        assert_eq!(parameters.rings, Err("the driver does not tell".to_owned()));
        let parameters = Parameters::gather("lo", &Root::at("/nonexistent".as_ref()));
        assert!(
            parameters
                .offloads
                .is_err_and(|reason| reason.contains("--root"))
        );
    }
}
