//! A network device: its driver, queues, MTU and XDP, and what a listener on it would get.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::driver;
use super::ethtool::Channels;
use super::finding::Finding;
use super::link::Link;
use super::netdev::Features;
use super::verdict::Verdict;
use crate::limits::WORKERS_MAX;

/// What was found about one device.
#[derive(Debug, Serialize)]
pub struct DeviceReport {
    /// Its name.
    pub name: String,
    /// Its driver, or the kind of a virtual device.
    pub driver: Option<String>,
    /// Its receive queues.
    pub receive_queues: usize,
    /// What was looked at.
    pub findings: Vec<Finding>,
    /// What a listener on it would get.
    pub verdict: Verdict,
}

/// A device, before it is judged.
#[derive(Debug)]
pub(super) struct Facts {
    name: String,
    driver: Option<String>,
    is_up: bool,
    mtu: u64,
    receive_queues: usize,
    transmit_queues: usize,
    channels: Option<Channels>,
    program: Option<u32>,
    features: Option<Features>,
}

/// The devices that are up and not loopback, by name.
pub(super) fn names() -> Vec<String> {
    let Ok(entries) = fs::read_dir(CLASS) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            let flags = flags(&Path::new(CLASS).join(name));
            flags & IFF_UP != 0 && flags & IFF_LOOPBACK == 0
        })
        .collect();
    names.sort();
    names
}

impl Facts {
    /// Looks at a device; `None` where there is none of that name.
    pub(super) fn gather(name: &str) -> Option<Self> {
        // A name with a slash would be a path to something else.
        let folder = Some(Path::new(CLASS).join(name))
            .filter(|folder| !name.contains('/') && folder.is_dir())?;
        let index = u32::try_from(number(&folder, "ifindex")?).ok()?;
        let link = Link::query(index).unwrap_or_default();
        Some(Self {
            name: name.to_owned(),
            driver: driver_of(&folder).or(link.kind),
            is_up: flags(&folder) & IFF_UP != 0,
            mtu: number(&folder, "mtu").unwrap_or(0),
            receive_queues: queues(&folder, "rx-"),
            transmit_queues: queues(&folder, "tx-"),
            channels: Channels::query(index)
                .ok()
                .filter(|channels| channels.max > 0),
            program: link.program,
            features: Features::query(index).ok(),
        })
    }

    /// Judges the device; `obstacle` is what keeps this host from AF_XDP altogether.
    pub(super) fn examine(self, obstacle: Option<&str>) -> DeviceReport {
        let driver = self.driver.clone().unwrap_or_else(|| self.name.clone());
        let possible = Verdict::af_xdp(self.features, &driver, driver::known(&driver));
        let mut findings = vec![self.state(), self.queues(possible.is_native())];
        findings.extend(self.mtu(possible.is_native()));
        findings.push(xdp(&possible));
        let verdict = match (obstacle, self.program) {
            (Some(obstacle), _) => Verdict::udp(obstacle),
            (None, Some(_)) => Verdict::udp("the device already has an XDP program"),
            (None, None) => possible,
        };
        if let Some(id) = self.program {
            let text = format!(
                "program {id} is attached, and a device takes one (a Strowger that runs is such a program)"
            );
            let cure = format!(
                "end whoever attached it (`bpftool net`), or: ip link set dev {} xdp off",
                self.name
            );
            findings.push(Finding::fail("attached", text, cure));
        }
        DeviceReport {
            name: self.name,
            driver: self.driver,
            receive_queues: self.receive_queues,
            findings,
            verdict,
        }
    }

    fn state(&self) -> Finding {
        if self.is_up {
            Finding::ok("link", "up".to_owned())
        } else {
            Finding::warn(
                "link",
                "down".to_owned(),
                format!("ip link set dev {} up", self.name),
            )
        }
    }

    /// One worker a queue: as many queues as there are processors to spare is the aim.
    fn queues(&self, is_native: bool) -> Finding {
        let (name, count) = (&self.name, self.receive_queues);
        let subject = "queues";
        let text = match self.channels {
            Some(channels) => {
                format!(
                    "{count} receive, {} transmit; the device offers {}",
                    self.transmit_queues, channels.max
                )
            }
            None => format!("{count} receive, {} transmit", self.transmit_queues),
        };
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let set = |channels: Channels, wanted: usize| {
            let kind = if channels.is_combined {
                "combined"
            } else {
                "rx"
            };
            format!("ethtool -L {name} {kind} {wanted}")
        };
        match self.channels {
            _ if count > WORKERS_MAX => {
                let cure = format!(
                    "ethtool -L {name} combined {WORKERS_MAX}, or name some of them in [[listen]] queues"
                );
                Finding::warn(
                    subject,
                    format!("{text}: more than {WORKERS_MAX} workers serve"),
                    cure,
                )
            }
            Some(channels) if count > cpus => Finding::warn(
                subject,
                format!("{text}: more than the {cpus} processors"),
                set(channels, cpus),
            ),
            Some(channels) if count < cpus && channels.max as usize > count => {
                let wanted = cpus.min(channels.max as usize);
                Finding::warn(
                    subject,
                    format!("{text}: {wanted} workers could serve"),
                    set(channels, wanted),
                )
            }
            _ if !is_native && count > 1 && self.driver.as_deref() == Some("veth") => {
                let cure = "use driver mode".to_owned();
                Finding::warn(
                    subject,
                    format!("{text}; in generic mode all packets come by the first"),
                    cure,
                )
            }
            _ => Finding::ok(subject, text),
        }
    }

    /// A frame holds what fits one piece of a page; more takes a driver that passes packets in pieces.
    fn mtu(&self, is_native: bool) -> Option<Finding> {
        let subject = "mtu";
        if self.mtu <= MTU_MAX {
            return Some(Finding::ok(subject, self.mtu.to_string()));
        }
        let takes_fragments = self.features.is_some_and(Features::takes_fragments);
        let text = if is_native && !takes_fragments {
            format!(
                "{} is beyond {MTU_MAX}: the driver may refuse the program",
                self.mtu
            )
        } else {
            format!(
                "{} is beyond {MTU_MAX}: longer packets than that are dropped",
                self.mtu
            )
        };
        Some(Finding::warn(
            subject,
            text,
            format!("ip link set dev {} mtu 1500", self.name),
        ))
    }
}

fn xdp(possible: &Verdict) -> Finding {
    let text = possible.to_string();
    if possible.is_native() {
        Finding::ok("xdp", text)
    } else {
        let cure =
            "backend = \"udp\" costs about as much here; a device whose driver has XDP is faster"
                .to_owned();
        Finding::warn("xdp", text, cure)
    }
}

impl DeviceReport {
    /// The report of a device that is not there.
    pub(super) fn absent(name: &str) -> Self {
        let text = format!("there is no device {name} in this network namespace");
        Self {
            name: name.to_owned(),
            driver: None,
            receive_queues: 0,
            verdict: Verdict::udp(&text),
            findings: vec![Finding::fail(
                "device",
                text,
                "`ip link` lists the devices".to_owned(),
            )],
        }
    }
}

impl fmt::Display for DeviceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.driver {
            Some(driver) => writeln!(f, "{} ({driver})", self.name)?,
            None => writeln!(f, "{}", self.name)?,
        }
        for finding in &self.findings {
            write!(f, "{finding}")?;
        }
        writeln!(f, "  =>    backend       {}", self.verdict)
    }
}

fn driver_of(folder: &Path) -> Option<String> {
    let target: PathBuf = fs::read_link(folder.join("device/driver")).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

fn number(folder: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(folder.join(file))
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn flags(folder: &Path) -> u64 {
    let text = fs::read_to_string(folder.join("flags")).unwrap_or_default();
    text.trim()
        .strip_prefix("0x")
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .unwrap_or(0)
}

fn queues(folder: &Path, prefix: &str) -> usize {
    let entries = fs::read_dir(folder.join("queues"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .count()
}

const CLASS: &str = "/sys/class/net";
/// `linux/if.h`.
const IFF_UP: u64 = 1;
const IFF_LOOPBACK: u64 = 8;
/// The largest MTU whose packets lie in one frame with their Ethernet header and two VLAN tags: a frame of 4,096 bytes
/// holds 3,840 behind the kernel's headroom.
const MTU_MAX: u64 = 3_840 - 14 - 8;

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn facts() -> Facts {
        Facts {
            name: "eth0".to_owned(),
            driver: Some("ice".to_owned()),
            is_up: true,
            mtu: 1_500,
            receive_queues: 1,
            transmit_queues: 1,
            channels: None,
            program: None,
            features: Some(Features::of(true, true)),
        }
    }

    #[test]
    fn a_good_device_gets_everything() {
        let report = facts().examine(None);
        assert!(
            report.verdict.is_af_xdp()
                && report
                    .findings
                    .iter()
                    .all(|finding| finding.level == Level::Ok)
        );
        assert!(
            report
                .to_string()
                .ends_with("=>    backend       af_xdp, driver mode, zero-copy\n"),
            "{report}"
        );
    }

    #[test]
    fn what_is_in_the_way_is_the_reason() {
        let report = facts().examine(Some("CAP_BPF is missing"));
        assert!(
            report
                .to_string()
                .contains("backend       udp: CAP_BPF is missing"),
            "{report}"
        );
        let report = Facts {
            program: Some(7),
            ..facts()
        }
        .examine(None);
        assert!(!report.verdict.is_af_xdp());
        assert!(
            report.to_string().contains("program 7 is attached"),
            "{report}"
        );
    }

    #[test]
    fn too_many_queues_and_too_large_an_mtu_are_told_with_the_cure() {
        let channels = Some(Channels {
            count: 512,
            max: 512,
            is_combined: true,
        });
        let report = Facts {
            receive_queues: 512,
            channels,
            mtu: 9_000,
            ..facts()
        }
        .examine(None);
        let cures: Vec<&str> = report
            .findings
            .iter()
            .filter_map(|finding| finding.cure.as_deref())
            .collect();
        assert!(
            cures[0].starts_with("ethtool -L eth0 combined 64"),
            "{cures:?}"
        );
        assert_eq!(cures[1], "ip link set dev eth0 mtu 1500");
    }
}
