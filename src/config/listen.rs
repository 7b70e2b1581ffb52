//! `[[listen]]`: the addresses that Strowger serves, and by which way packets come from each.

use std::net::SocketAddr;

use super::address;
use super::section::{Found, Section};
use crate::limits::{LISTENERS_MAX, WORKERS_MAX};

/// How the packets of a listener reach us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Backend {
    /// AF_XDP where it can, else the kernel's sockets, and the log says why.
    #[default]
    Auto,
    /// AF_XDP or no start at all.
    AfXdp,
    /// The kernel's UDP sockets.
    Udp,
}

/// Where the XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before the kernel allocates anything for the packet.
    Driver,
    /// In the kernel's generic path, for a driver that has no XDP.
    Generic,
}

impl Backend {
    /// The name in the file and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::AfXdp => "af_xdp",
            Self::Udp => "udp",
        }
    }
}

impl Mode {
    /// The name in the file and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Generic => "generic",
        }
    }
}

/// One address that Strowger serves: by UDP, and by TCP beside it over the kernel's sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address and port.
    pub address: SocketAddr,
    /// The way of its packets.
    pub backend: Backend,
    /// The device for AF_XDP; `None`: whichever has the address.
    pub interface: Option<String>,
    /// The device's queues, one a worker in this order; empty: all of them.
    pub queues: Vec<u32>,
    /// Where to attach; `None`: the driver, then generic.
    pub mode: Option<Mode>,
    /// Whether it is served by TCP as well.
    pub tcp: bool,
}

/// A listener with the places that later checks speak about.
struct Draft {
    listen: Listen,
    address_at: usize,
    /// Where `queues` stands, and `mode`; with the listener's own place where it has none.
    queues_at: usize,
    mode_at: usize,
}

/// Reads every `[[listen]]` of the file.
pub(super) fn read(root: &mut Section<'_>, worker_count: Option<usize>) -> Vec<Listen> {
    let sections = root.sections("listen");
    if sections.is_empty() && !root.has("listen") && !root.notes.is_damaged {
        let text = "[[listen]]: there is none, so nothing would be served; add [[listen]] with address = \"192.0.2.1:5060\"";
        root.notes.mistake(0, text.to_owned());
    }
    let mut drafts: Vec<Draft> = Vec::with_capacity(sections.len());
    for mut section in sections {
        if drafts.len() == LISTENERS_MAX {
            section.mistake_here(&format!(
                "one more than {LISTENERS_MAX}, the most there may be; remove it"
            ));
            break;
        }
        if let Some(draft) = read_one(&mut section, worker_count) {
            conflict_with_earlier(&draft, &drafts, &section);
            drafts.push(draft);
        }
        section.finish();
    }
    drafts.into_iter().map(|draft| draft.listen).collect()
}

fn read_one(section: &mut Section<'_>, worker_count: Option<usize>) -> Option<Draft> {
    let address = section.parsed("address", address::listen_address);
    section.require(
        "address",
        "add address = \"192.0.2.1:5060\", an address of this host",
    );
    let backend = section.choice(
        "backend",
        &[
            ("auto", Backend::Auto),
            ("af_xdp", Backend::AfXdp),
            ("udp", Backend::Udp),
        ],
    );
    let interface = section.parsed("interface", interface_name);
    let queues = section.numbers("queues", 0..=u64::from(u16::MAX));
    let mode = section.choice(
        "mode",
        &[("driver", Mode::Driver), ("generic", Mode::Generic)],
    );

    let tcp = section.flag("tcp");

    let way = backend.map_or(Backend::default(), |backend| backend.value);
    check_keys(section, way, address, interface.is_some());
    if let Some(queues) = &queues {
        check_queues(section, queues, worker_count);
    }
    let address = address?;
    Some(Draft {
        address_at: address.at,
        queues_at: queues.as_ref().map_or(address.at, |queues| queues.at),
        mode_at: mode.map_or(address.at, |mode| mode.at),
        listen: Listen {
            address: address.value,
            backend: way,
            interface: interface.map(|interface| interface.value),
            queues: queues.map_or(Vec::new(), |queues| {
                queues
                    .value
                    .iter()
                    .map(|queue| u32::try_from(queue.value).unwrap_or(u32::MAX))
                    .collect()
            }),
            mode: mode.map(|mode| mode.value),
            tcp: tcp.is_none_or(|tcp| tcp.value),
        },
    })
}

/// Keys of one listener that do not go together.
fn check_keys(
    section: &Section<'_>,
    backend: Backend,
    address: Option<Found<SocketAddr>>,
    has_interface: bool,
) {
    let wildcard = address.filter(|address| address.value.ip().is_unspecified());
    let device_keys = ["interface", "queues", "mode"]
        .into_iter()
        .filter(|key| section.has(key));
    match (backend, wildcard) {
        (Backend::Udp, _) => {
            for key in device_keys {
                let at = address.map_or(0, |address| address.at);
                section.warning(at, key, "has no effect with backend = \"udp\"");
            }
        }
        (Backend::AfXdp, Some(address)) => section.mistake(
            address.at,
            "address",
            "af_xdp takes packets to one address, not to every one; give the interface's address, or backend = \"udp\"",
        ),
        (Backend::Auto, Some(address)) => {
            for key in device_keys {
                let text = format!("an address for every device is served by udp, so {key} has no effect; give the device's address, or remove {key}");
                section.mistake(address.at, "address", &text);
            }
            section.warning(address.at, "address", "an address for every device is served by udp, never by af_xdp");
        }
        (Backend::AfXdp, None) => {
            section.require("interface", "backend = \"af_xdp\" takes a device: add interface = \"eth0\"");
        }
        (Backend::Auto, None) if !has_interface && !section.has("interface") => {
            for key in device_keys {
                let at = address.map_or(0, |address| address.at);
                section.mistake(at, key, "is of a device, and none is named; add interface = \"eth0\"");
            }
        }
        (Backend::Auto, None) => {}
    }
}

fn check_queues(
    section: &Section<'_>,
    queues: &Found<Vec<Found<u64>>>,
    worker_count: Option<usize>,
) {
    let count = queues.value.len();
    let workers_max = worker_count.unwrap_or(WORKERS_MAX);
    if count == 0 {
        section.mistake(
            queues.at,
            "queues",
            "is empty; name the queues, or remove the key to take them all",
        );
    } else if count > workers_max {
        let cure = match worker_count {
            Some(_) => "raise [workers] count, or name fewer queues",
            None => "name fewer queues",
        };
        let text = format!(
            "{count} queues are more than {workers_max} workers, and a queue belongs to one worker; {cure}"
        );
        section.mistake(queues.at, "queues", &text);
    }
}

/// What two listeners may not share, and what they must.
fn conflict_with_earlier(draft: &Draft, earlier: &[Draft], section: &Section<'_>) {
    for other in earlier {
        let (mine, theirs) = (&draft.listen, &other.listen);
        let line = section.notes.line(other.address_at);
        if mine.address == theirs.address {
            let text = format!(
                "{} is served by the listener of line {line} already; remove one",
                mine.address
            );
            section.mistake(draft.address_at, "address", &text);
        } else if overlaps(mine.address, theirs.address) {
            let text = format!(
                "{} and {} of line {line} overlap; give each listener an address of its own",
                mine.address, theirs.address
            );
            section.mistake(draft.address_at, "address", &text);
        }
        // One program is attached to a device, with one set of queues, whichever listeners it serves.
        if mine.interface.is_none() || mine.interface != theirs.interface {
            continue;
        }
        if mine.mode != theirs.mode {
            let text = format!(
                "differs from that of line {line} on the same interface, which is attached once; make them equal"
            );
            section.mistake(draft.mode_at, "mode", &text);
        }
        if mine.queues != theirs.queues {
            let text =
                format!("differ from those of line {line} on the same interface; make them equal");
            section.mistake(draft.queues_at, "queues", &text);
        }
    }
}

/// Whether one of the addresses is every address of the other's family, with the same port.
fn overlaps(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port()
        && a.is_ipv4() == b.is_ipv4()
        && (a.ip().is_unspecified() || b.ip().is_unspecified())
}

/// A device name as the kernel takes it: up to 15 bytes, no slash, no space (`dev_valid_name`).
fn interface_name(text: &str) -> Result<String, String> {
    let is_good = text.len() <= 15
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':'))
        && !matches!(text, "." | "..");
    if is_good {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is not the name of a device; `ip link` lists them"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    fn mistakes(text: &str) -> Vec<String> {
        match Config::parse("t.toml".as_ref(), text) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes
                .list
                .into_iter()
                .map(|mistake| mistake.text)
                .collect(),
        }
    }

    fn assert_mistake(text: &str, part: &str) {
        let found = mistakes(text);
        assert!(
            found.len() == 1 && found[0].contains(part),
            "{text}\n{found:#?}"
        );
    }

    #[test]
    fn a_full_listener_is_read() {
        let text = "[[listen]]\naddress = \"192.0.2.1:5060\"\nbackend = \"af_xdp\"\ninterface = \"eth0\"\nqueues = [1, 0]\nmode = \"generic\"\ntcp = false\n";
        let config = Config::parse("t.toml".as_ref(), text).expect("good");
        assert!(!config.listen[0].tcp);
        assert_eq!(config.listen[0].queues, [1, 0]);
        assert_eq!(config.listen[0].mode, Some(super::Mode::Generic));
    }

    #[test]
    fn no_listener_is_a_mistake() {
        assert_mistake("", "[[listen]]: there is none");
    }

    #[test]
    fn a_listener_needs_an_address() {
        assert_mistake("[[listen]]\nbackend = \"udp\"\n", "address is missing");
        assert_mistake(
            "[[listen]]\naddress = \"localhost:5060\"\n",
            "is not an IP address and a port",
        );
    }

    #[test]
    fn two_listeners_do_not_share_an_address() {
        let two = |a: &str, b: &str| {
            format!("[[listen]]\naddress = {a:?}\n[[listen]]\naddress = {b:?}\n")
        };
        assert_mistake(
            &two("192.0.2.1:5060", "192.0.2.1:5060"),
            "is served by the listener of line 2 already",
        );
        assert_mistake(&two("192.0.2.1:5060", "0.0.0.0:5060"), "overlap");
        assert!(mistakes(&two("0.0.0.0:5060", "[::]:5060")).is_empty());
        assert!(mistakes(&two("192.0.2.1:5060", "192.0.2.1:5062")).is_empty());
    }

    #[test]
    fn af_xdp_needs_a_device_and_one_address() {
        assert_mistake(
            "[[listen]]\naddress = \"192.0.2.1:5060\"\nbackend = \"af_xdp\"\n",
            "interface is missing",
        );
        assert_mistake(
            "[[listen]]\naddress = \"0.0.0.0:5060\"\nbackend = \"af_xdp\"\ninterface = \"eth0\"\n",
            "not to every one",
        );
        assert_mistake(
            "[[listen]]\naddress = \"0.0.0.0:5060\"\ninterface = \"eth0\"\n",
            "interface has no effect",
        );
        assert_mistake(
            "[[listen]]\naddress = \"192.0.2.1:5060\"\nmode = \"driver\"\n",
            "none is named",
        );
        assert_mistake(
            "[[listen]]\naddress = \"192.0.2.1:5060\"\nmode = \"native\"\ninterface = \"eth0\"\n",
            "none of \"driver\", \"generic\"",
        );
    }

    #[test]
    fn queues_are_at_most_one_a_worker_and_not_repeated() {
        let text = |queues: &str| {
            format!(
                "[workers]\ncount = 2\n[[listen]]\naddress = \"192.0.2.1:5060\"\ninterface = \"eth0\"\nqueues = {queues}\n"
            )
        };
        assert_mistake(&text("[0, 1, 2]"), "3 queues are more than 2 workers");
        assert_mistake(&text("[1, 1]"), "1 stands there twice");
        assert_mistake(&text("[]"), "is empty");
        assert!(mistakes(&text("[0, 1]")).is_empty());
    }

    #[test]
    fn listeners_of_one_device_agree_on_mode_and_queues() {
        let one = |port: u16, more: &str| {
            format!("[[listen]]\naddress = \"192.0.2.1:{port}\"\ninterface = \"eth0\"\n{more}")
        };
        assert_mistake(
            &(one(5060, "mode = \"driver\"\n") + &one(5062, "")),
            "differs from that of line 2",
        );
        assert_mistake(
            &(one(5060, "queues = [0]\n") + &one(5062, "queues = [1]\n")),
            "differ from those of line 2",
        );
    }

    #[test]
    fn a_device_name_is_what_the_kernel_takes() {
        assert!(super::interface_name("enp3s0f1np1.100").is_ok());
        assert!(super::interface_name("a-name-too-long-for-it").is_err());
        assert!(super::interface_name("a/b").is_err());
    }
}
