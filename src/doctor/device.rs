//! A network device: its driver, queues, MTU and XDP, and what a listener on it would get.

use std::fmt;

use serde::Serialize;

use super::driver::{self, Known};
use super::ethtool::Channels;
use super::finding::Finding;
use super::kernel::Version;
use super::link::Link;
use super::mend::{Mend, quoted};
use super::netdev::Features;
use super::parameter::Parameters;
use super::root::Root;
use super::verdict::Verdict;
use super::workers::Workers;
use super::{interrupt, isolation, ring, spread};
use crate::limits::{PACKET_LEN_MAX, WORKERS_MAX};

/// What was found about one device.
#[derive(Debug, Serialize)]
pub struct DeviceReport {
    /// Its name.
    pub name: String,
    /// Its driver, or the kind of a virtual device.
    pub driver: Option<String>,
    /// The kernel since which the driver is known to run XDP programs.
    pub native_since: Option<String>,
    /// The kernel since which the driver is known to have zero-copy AF_XDP.
    pub zero_copy_since: Option<String>,
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
    pub(super) receive_queues: usize,
    transmit_queues: usize,
    channels: Option<Channels>,
    program: Option<u32>,
    features: Option<Features>,
    parameters: Parameters,
}

/// What is known of the host when a device is judged.
pub(super) struct Surroundings<'a> {
    /// Where the files are.
    pub(super) root: &'a Root,
    /// Who is to serve.
    pub(super) workers: &'a Workers,
    /// The kernel's version.
    pub(super) release: Option<Version>,
    /// What keeps this host from AF_XDP altogether.
    pub(super) obstacle: Option<&'a str>,
}

/// The devices that are up and not loopback, by name.
pub(super) fn names(root: &Root) -> Vec<String> {
    let mut names = root.names(CLASS);
    names.retain(|name| {
        let flags = flags(root, name);
        flags & IFF_UP != 0 && flags & IFF_LOOPBACK == 0
    });
    names
}

impl Facts {
    /// Looks at a device; `None` where there is none of that name.
    pub(super) fn gather(root: &Root, name: &str) -> Option<Self> {
        // A name with a slash would be a path to something else.
        let folder = format!("{CLASS}/{name}");
        if name.contains('/') || name.starts_with('.') || !root.has(&format!("{folder}/mtu")) {
            return None;
        }
        let index = root
            .number(&format!("{folder}/ifindex"))
            .and_then(|index| u32::try_from(index).ok())
            .filter(|_| root.is_this_host());
        let link = index
            .and_then(|index| Link::query(index).ok())
            .unwrap_or_default();
        let channels = index.and_then(|index| Channels::query(index).ok());
        Some(Self {
            name: name.to_owned(),
            driver: root
                .target(&format!("{folder}/device/driver"))
                .or(link.kind),
            is_up: flags(root, name) & IFF_UP != 0,
            mtu: root.number(&format!("{folder}/mtu")).unwrap_or(0),
            receive_queues: queues(root, &folder, "rx-"),
            transmit_queues: queues(root, &folder, "tx-"),
            channels: channels.filter(|channels| channels.max > 0),
            program: link.program,
            features: index.and_then(|index| Features::query(index).ok()),
            parameters: Parameters::gather(name, root),
        })
    }

    /// Judges the device.
    pub(super) fn examine(self, around: &Surroundings<'_>) -> DeviceReport {
        let Surroundings { root, workers, .. } = *around;
        let driver = self.driver.clone().unwrap_or_else(|| self.name.clone());
        let known = driver::known(&driver);
        let possible = Verdict::af_xdp(self.features, &driver, known, around.release);
        let mut findings = vec![self.state(), self.queues(workers, possible.is_native())];
        findings.push(self.mtu(possible.is_native()));
        findings.push(xdp(&possible));
        findings.extend(ring::examine(&self.name, &self.parameters));
        findings.extend(spread::examine(
            &self.name,
            self.receive_queues,
            &self.parameters,
        ));
        findings.extend(interrupt::examine(root, &self.name, workers));
        findings.push(isolation::node(root, &self.name, workers));
        let verdict = match (around.obstacle, self.program) {
            (Some(obstacle), _) => Verdict::udp(obstacle),
            (None, Some(_)) => Verdict::udp("the device already has an XDP program"),
            (None, None) => possible,
        };
        findings.extend(self.program.map(|id| self.attached(id)));
        let (native_since, zero_copy_since) = since(known);
        DeviceReport {
            name: self.name,
            driver: self.driver,
            native_since,
            zero_copy_since,
            receive_queues: self.receive_queues,
            findings,
            verdict,
        }
    }

    /// A Strowger that runs is such a program too, so no script takes it away.
    fn attached(&self, id: u32) -> Finding {
        let text = format!(
            "program {id} is attached, and a device takes one (a Strowger that runs is such a program)"
        );
        let cure = format!(
            "end whoever attached it (`bpftool net`), or: ip link set dev {} xdp off",
            quoted(&self.name)
        );
        Finding::fail("attached", text, cure)
    }

    fn state(&self) -> Finding {
        if self.is_up {
            return Finding::ok("link", "up".to_owned());
        }
        let set = |state| format!("ip link set dev {} {state}", quoted(&self.name));
        let mends = vec![Mend::Command(set("up"), set("down"))];
        Finding::amiss("link", "down".to_owned(), "nothing comes by it", mends)
    }

    /// One worker a queue: as many queues as there are workers, or processors to spare where nobody says, is the aim.
    fn queues(&self, workers: &Workers, is_native: bool) -> Finding {
        let (name, count) = (quoted(&self.name), self.receive_queues);
        let subject = "queues";
        let mut text = format!("{count} receive, {} transmit", self.transmit_queues);
        if let Some(channels) = self.channels {
            text += &format!("; the device offers {}", channels.max);
        }
        let (aim, of_what) = if workers.is_assumed() {
            (workers.allowed.len().clamp(1, WORKERS_MAX), "processors")
        } else {
            (workers.cpus.len(), "workers")
        };
        let set = |channels: Channels, wanted: usize| {
            let kind = if channels.is_combined {
                "combined"
            } else {
                "rx"
            };
            let command = |count: usize| format!("ethtool -L {name} {kind} {count}");
            vec![Mend::Command(command(wanted), command(count))]
        };
        match self.channels {
            _ if count > WORKERS_MAX => {
                let cure = format!(
                    "ethtool -L {name} combined {WORKERS_MAX}, or name some of them in [[listen]] queues"
                );
                let text = format!("{text}: more than {WORKERS_MAX} workers serve");
                Finding::warn(subject, text, cure).costing(UNSERVED)
            }
            Some(channels) if count > aim => Finding::amiss(
                subject,
                format!("{text}: more than the {aim} {of_what}"),
                UNSERVED,
                set(channels, aim),
            ),
            Some(channels) if count < aim && channels.max as usize > count => {
                let wanted = aim.min(channels.max as usize);
                let text = format!("{text}: {wanted} workers could serve");
                let cost = "the workers beyond get their messages by hand-over only, and one processor does all the receiving";
                Finding::amiss(subject, text, cost, set(channels, wanted))
            }
            _ if !is_native && count > 1 && self.driver.as_deref() == Some("veth") => {
                Finding::warn(
                    subject,
                    format!("{text}; in generic mode all packets come by the first"),
                    "use driver mode".to_owned(),
                )
            }
            _ => Finding::ok(subject, text),
        }
    }

    /// A frame holds what fits one piece of a page; more takes a driver that passes packets in pieces.
    fn mtu(&self, is_native: bool) -> Finding {
        let subject = "mtu";
        if self.mtu <= MTU_MAX {
            return Finding::ok(subject, self.mtu.to_string());
        }
        let takes_fragments = self.features.is_some_and(Features::takes_fragments);
        let (text, cost) = if is_native && !takes_fragments {
            (
                "the driver may refuse the program",
                "AF_XDP in generic mode, or not at all",
            )
        } else {
            (
                "longer packets than that are dropped",
                "a message of that length is never heard",
            )
        };
        let set = |mtu: u64| format!("ip link set dev {} mtu {mtu}", quoted(&self.name));
        Finding::amiss(
            subject,
            format!("{} is beyond {MTU_MAX}: {text}", self.mtu),
            cost,
            vec![Mend::Command(set(1_500), set(self.mtu))],
        )
    }
}

/// Since when a driver is known to have XDP and zero-copy.
fn since(known: Option<Known>) -> (Option<String>, Option<String>) {
    let told = |(major, minor): Version| format!("{major}.{minor}");
    let native = known.map(|known| told(known.native));
    (native, known.and_then(|known| known.zero_copy).map(told))
}

fn xdp(possible: &Verdict) -> Finding {
    let text = possible.to_string();
    if possible.is_native() {
        Finding::ok("xdp", text)
    } else {
        let cure =
            "serve by backend = \"udp\", which costs about as much here, or by a device whose driver has XDP"
                .to_owned();
        Finding::warn("xdp", text, cure)
            .costing("the kernel does its own work for a packet first, so AF_XDP gains little")
    }
}

impl DeviceReport {
    /// The report of a device that is not there.
    pub(super) fn absent(name: &str) -> Self {
        let text = format!("there is no device {name} in this network namespace");
        Self {
            name: name.to_owned(),
            driver: None,
            native_since: None,
            zero_copy_since: None,
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

fn flags(root: &Root, name: &str) -> u64 {
    let text = root
        .read(&format!("{CLASS}/{name}/flags"))
        .unwrap_or_default();
    text.strip_prefix("0x")
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .unwrap_or(0)
}

fn queues(root: &Root, folder: &str, prefix: &str) -> usize {
    let names = root.names(&format!("{folder}/queues"));
    names.iter().filter(|name| name.starts_with(prefix)).count()
}

const CLASS: &str = "/sys/class/net";
const UNSERVED: &str = "what comes by a queue without a worker takes the kernel's way, at two to three times the processor time; and a configuration with more \
                        queues than workers is refused";
/// `linux/if.h`.
const IFF_UP: u64 = 1;
const IFF_LOOPBACK: u64 = 8;
/// The largest MTU whose packets lie in one frame with their Ethernet header and two VLAN tags.
const MTU_MAX: u64 = PACKET_LEN_MAX as u64 - 14 - 8;

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tree::Tree;
    use super::*;
    use crate::net::ethtool::{Coalescing, Offloads, Rings, Spread};

    fn facts() -> Facts {
        Facts {
            name: "eth0".to_owned(),
            driver: Some("ice".to_owned()),
            is_up: true,
            mtu: 1_500,
            receive_queues: 2,
            transmit_queues: 2,
            channels: None,
            program: None,
            features: Some(Features::of(true, true)),
            parameters: Parameters {
                rings: Ok(Rings {
                    rx: 4_096,
                    rx_max: 8_160,
                    tx: 4_096,
                    tx_max: 8_160,
                }),
                coalescing: Ok(Coalescing {
                    rx_usecs: 20,
                    is_adaptive: false,
                }),
                spread: Ok(Spread {
                    table: vec![0, 1, 0, 1],
                    key: (0..52).map(|octet| octet * 5).collect(),
                }),
                udp4_ports: Ok(true),
                udp6_ports: Ok(true),
                rules: Ok(Vec::new()),
                offloads: Ok(Offloads::default()),
            },
        }
    }

    fn workers() -> Workers {
        Workers {
            cpus: vec![2, 3],
            allowed: (0..4).collect(),
            busy_poll: Some(false),
        }
    }

    fn tree() -> Tree {
        let interrupts =
            "45: 1 PCI-MSI 1-edge ice-eth0-TxRx-0\n46: 1 PCI-MSI 2-edge ice-eth0-TxRx-1\n";
        Tree::new()
            .with("proc/interrupts", interrupts)
            .with("proc/irq/45/smp_affinity_list", "2\n")
            .with("proc/irq/46/smp_affinity_list", "3\n")
            .with("sys/class/net/eth0/threaded", "0\n")
            .with("sys/class/net/eth0/napi_defer_hard_irqs", "0\n")
            .with("sys/class/net/eth0/gro_flush_timeout", "0\n")
            .with("sys/devices/system/node/online", "0\n")
    }

    fn examine(facts: Facts, obstacle: Option<&str>) -> DeviceReport {
        let tree = tree();
        facts.examine(&Surroundings {
            root: &tree.root(),
            workers: &workers(),
            release: Some((6, 12)),
            obstacle,
        })
    }

    #[test]
    fn a_good_device_gets_everything() {
        let report = examine(facts(), None);
        assert!(report.verdict.is_af_xdp());
        assert!(
            report
                .findings
                .iter()
                .all(|finding| finding.level == Level::Ok),
            "{report}"
        );
        assert!(
            report
                .to_string()
                .ends_with("=>    backend       af_xdp, driver mode, zero-copy\n"),
            "{report}"
        );
        let since = (
            report.native_since.as_deref(),
            report.zero_copy_since.as_deref(),
        );
        assert_eq!(since, (Some("5.5"), Some("5.5")));
    }

    #[test]
    fn what_is_in_the_way_is_the_reason() {
        let report = examine(facts(), Some("CAP_BPF is missing"));
        assert!(
            report
                .to_string()
                .contains("backend       udp: CAP_BPF is missing"),
            "{report}"
        );
        let report = examine(
            Facts {
                program: Some(7),
                ..facts()
            },
            None,
        );
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
        let report = examine(
            Facts {
                receive_queues: 512,
                channels,
                mtu: 9_000,
                ..facts()
            },
            None,
        );
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

    #[test]
    fn queues_are_held_against_the_workers() {
        let with = |count: usize| {
            let channels = Some(Channels {
                count: 1,
                max: 8,
                is_combined: true,
            });
            examine(
                Facts {
                    receive_queues: count,
                    channels,
                    ..facts()
                },
                None,
            )
            .findings[1]
                .mends
                .clone()
        };
        let set = |there: &str, back: &str| {
            vec![Mend::Command(
                format!("ethtool -L eth0 combined {there}"),
                format!("ethtool -L eth0 combined {back}"),
            )]
        };
        assert_eq!(with(1), set("2", "1"));
        assert_eq!(with(8), set("2", "8"));
        assert!(with(2).is_empty());
    }
}
