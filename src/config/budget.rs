//! The resource budget: what the limits of a configuration come to on a host, before anything is taken.
//!
//! `[limits] memory` is divided among transactions, bindings and TCP connections: what the file sets costs what it
//! costs, the rest goes to the others by their shares. It is taken lazily. Frames and mailboxes stand beside it.

use std::fmt;

use super::host::Host;
use super::{Backend, Config, Memory, Mistake, Mistakes};
use crate::limits::{
    ADMIN_CONNECTIONS_MAX, BINDING_COST, DNS_LOOKUPS_MAX, DNS_QUESTIONS_MAX, FRAME_LEN,
    FRAMES_PER_QUEUE, MAILBOX_LARGE_LEN, MAILBOX_LEN, MESSAGE_LEN_MAX, SMALL_BUFFER_LEN, T1_64, T4,
    TCP_CONNECTION_COST, TCP_OUTBOX_LARGE_LEN, TCP_OUTBOX_LEN, TRANSACTION_COST, WORKERS_MAX,
};

/// What one kind of thing may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allotment {
    /// How many of it there may be, in the whole process.
    pub count: u64,
    /// The memory that one is counted with.
    pub cost: u64,
    /// Whether the file set the count.
    pub is_set: bool,
}

impl Allotment {
    /// The memory of all of them.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.count.saturating_mul(self.cost)
    }
}

/// What a configuration comes to on a host.
#[derive(Clone, Debug)]
pub struct Budget {
    /// The memory that `[limits]` gives.
    pub memory: u64,
    /// How much of it is taken before anything is served.
    pub prefault: u64,
    /// Transactions, server and client together.
    pub transactions: Allotment,
    /// Bindings.
    pub bindings: Allotment,
    /// TCP connections.
    pub tcp_connections: Allotment,
    /// Workers.
    pub workers: usize,
    /// Frames of all AF_XDP queues.
    pub frames: u64,
    /// Memory of the mailboxes, and of what waits for the TCP thread.
    pub mailboxes: u64,
    /// Descriptors that may be open at once.
    pub descriptors: u64,
    /// What the file says of devices that this host has otherwise.
    device_warnings: Vec<String>,
    host: Host,
}

impl Budget {
    /// Computes the budget of `config` on `host`.
    ///
    /// # Errors
    /// The counts that the file sets do not fit the memory that it gives.
    pub fn compute(config: &Config, host: &Host) -> Result<Self, Mistakes> {
        let limits = &config.limits;
        let memory = match limits.memory {
            Memory::Percent(percent) => host.memory / 100 * u64::from(percent),
            Memory::Bytes(bytes) => bytes,
        };
        let prefault = match limits.prefault {
            Some(Memory::Percent(percent)) => memory / 100 * u64::from(percent),
            Some(Memory::Bytes(bytes)) => bytes,
            None => 0,
        };
        let serves_tcp = config.listen.iter().any(|listen| listen.tcp);
        let kinds = [
            (limits.transactions, TRANSACTION_COST, TRANSACTION_SHARE, 16),
            (limits.bindings, BINDING_COST, BINDING_SHARE, 1),
            (
                limits.tcp_connections,
                TCP_CONNECTION_COST,
                if serves_tcp { TCP_CONNECTION_SHARE } else { 0 },
                0,
            ),
        ];
        let fixed: u64 = kinds
            .iter()
            .map(|(set, cost, _, _)| set.unwrap_or(0).saturating_mul(*cost))
            .sum();
        let shares: u64 = kinds
            .iter()
            .filter(|(set, ..)| set.is_none())
            .map(|(_, _, share, _)| share)
            .sum();
        let left = memory.saturating_sub(fixed);
        let [transactions, bindings, tcp_connections] =
            kinds.map(|(set, cost, share, least)| Allotment {
                count: set.unwrap_or_else(|| (left / shares.max(1) * share / cost).max(least)),
                cost,
                is_set: set.is_some(),
            });
        let workers = worker_count(config, host);
        let mut budget = Self {
            memory,
            prefault,
            transactions,
            bindings,
            tcp_connections,
            workers,
            frames: xdp_queues(config, workers) * FRAMES_PER_QUEUE as u64,
            mailboxes: workers as u64 * MAILBOX_COST + if serves_tcp { OUTBOX_COST } else { 0 },
            descriptors: 0,
            device_warnings: device_warnings(config, host),
            host: host.clone(),
        };
        if fixed > memory {
            return Err(overcommitted(config, &budget, fixed));
        }
        if prefault > memory {
            return Err(too_early(config, &budget));
        }
        let own = own_descriptors(config, workers);
        if !budget.tcp_connections.is_set {
            let free = host.descriptors_max.saturating_sub(own);
            budget.tcp_connections.count = budget.tcp_connections.count.min(free);
        }
        budget.descriptors = own.saturating_add(budget.tcp_connections.count);
        Ok(budget)
    }

    /// The calls a second that the transactions admit, each ringing for [`RING_S`] and answered.
    #[must_use]
    pub fn calls_per_s(&self) -> u64 {
        self.transactions.count / CALL_TRANSACTION_S
    }

    /// What does not fit this host well, one line each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.device_warnings.clone();
        let total = self.total();
        if total > self.host.memory {
            warnings.push(format!(
                "the budget comes to {} and {} has {}; lower [limits] memory",
                Size(total),
                self.memory_source(),
                Size(self.host.memory)
            ));
        }
        if self.descriptors > self.host.descriptors_max {
            warnings.push(format!(
                "{} descriptors may be needed and RLIMIT_NOFILE is {}; raise it (ulimit -Hn, LimitNOFILE= of the unit) or lower [limits] tcp_connections",
                self.descriptors, self.host.descriptors_max
            ));
        }
        if self.workers > self.host.cpus {
            warnings.push(format!(
                "{} workers share {} processors: they will wait for each other",
                self.workers, self.host.cpus
            ));
        }
        warnings
    }

    /// All memory that may be taken, frames and mailboxes included.
    #[must_use]
    pub fn total(&self) -> u64 {
        let shared =
            self.transactions.bytes() + self.bindings.bytes() + self.tcp_connections.bytes();
        shared + self.frames * FRAME_LEN as u64 + self.mailboxes
    }

    fn memory_source(&self) -> &'static str {
        if self.host.is_memory_of_cgroup {
            "the cgroup"
        } else {
            "the host"
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = format!(
            "of the {} that {} has",
            Size(self.host.memory),
            self.memory_source()
        );
        let early = match self.prefault {
            0 => String::new(),
            bytes => format!("{} before anything is served and the rest ", Size(bytes)),
        };
        writeln!(
            f,
            "memory            {:>14}  {of}, taken {early}lazily:",
            Size(self.memory).to_string()
        )?;
        for (name, allotment) in [
            ("transactions", self.transactions),
            ("bindings", self.bindings),
            ("tcp_connections", self.tcp_connections),
        ] {
            let by = if allotment.is_set { ", set" } else { "" };
            let size = Size(allotment.bytes()).to_string();
            writeln!(
                f,
                "  {name:<15} {:>14}  {size} at {} bytes each{by}",
                allotment.count, allotment.cost
            )?;
        }
        writeln!(f, "beside it")?;
        writeln!(
            f,
            "  {:<15} {:>14}  {} of UMEM",
            "frames",
            self.frames,
            Size(self.frames * FRAME_LEN as u64)
        )?;
        writeln!(
            f,
            "  {:<15} {:>14}  {}",
            "mailboxes",
            self.workers,
            Size(self.mailboxes)
        )?;
        writeln!(
            f,
            "descriptors       {:>14}  of {} (RLIMIT_NOFILE, hard)",
            self.descriptors, self.host.descriptors_max
        )?;
        writeln!(
            f,
            "workers           {:>14}  of {} processors",
            self.workers, self.host.cpus
        )?;
        write!(
            f,
            "calls a second    {:>14}  = transactions / {CALL_TRANSACTION_S} s: INVITE 2 x ({RING_S} s ringing + {} s), BYE {} s + {} s",
            self.calls_per_s(),
            T1_64.as_secs(),
            T1_64.as_secs(),
            T4.as_secs()
        )
    }
}

/// How many workers `config` comes to on `host`: what it says; else one a queue of the device with the most; else one a
/// processor.
#[must_use]
pub fn worker_count(config: &Config, host: &Host) -> usize {
    let queues = |listen: &super::Listen| match (&listen.interface, listen.queues.len()) {
        (Some(interface), 0) if listen.backend != Backend::Udp => host.receive_queues(interface),
        (Some(_), named) if listen.backend != Backend::Udp => Some(named),
        _ => None,
    };
    let wanted = config
        .workers
        .count
        .or_else(|| config.listen.iter().filter_map(queues).max());
    wanted.unwrap_or(host.cpus).clamp(1, WORKERS_MAX)
}

/// Devices and queues that the file names and this host does not have: a mistake if it is the host that will serve.
fn device_warnings(config: &Config, host: &Host) -> Vec<String> {
    let mut warnings = Vec::new();
    for listen in config
        .listen
        .iter()
        .filter(|listen| listen.backend != Backend::Udp)
    {
        let Some(interface) = &listen.interface else {
            continue;
        };
        let Some(count) = host.receive_queues(interface) else {
            warnings.push(format!(
                "[[listen]] {}: this host has no device {interface}; `ip link` lists them",
                listen.address
            ));
            continue;
        };
        for queue in listen
            .queues
            .iter()
            .filter(|queue| **queue as usize >= count)
        {
            warnings.push(format!(
                "[[listen]] {}: {interface} has {count} receive queues, and no queue {queue}; `ethtool -L {interface} combined N` makes more",
                listen.address
            ));
        }
    }
    warnings
}

/// Queues that AF_XDP would serve: one a worker of each device.
fn xdp_queues(config: &Config, workers: usize) -> u64 {
    let mut devices: Vec<String> = config
        .listen
        .iter()
        .filter(|listen| listen.backend != Backend::Udp && !listen.address.ip().is_unspecified())
        .map(|listen| {
            listen
                .interface
                .clone()
                .unwrap_or_else(|| listen.address.ip().to_string())
        })
        .collect();
    devices.sort();
    devices.dedup();
    (devices.len() * workers) as u64
}

/// Descriptors beside the TCP connections: for each worker its poller, its eventfd and its netlink socket; for each
/// worker and listener a UDP and an AF_XDP socket; TCP listeners; the admin server; two DNS servers for each lookup; the TCP
/// thread's two, files and the standard three.
fn own_descriptors(config: &Config, workers: usize) -> u64 {
    let listeners = config.listen.len();
    (workers * (3 + 2 * listeners) + listeners + ADMIN_CONNECTIONS_MAX + 2 * DNS_LOOKUPS_MAX + 32)
        as u64
}

fn overcommitted(config: &Config, budget: &Budget, fixed: u64) -> Mistakes {
    let set = [
        ("transactions", budget.transactions),
        ("bindings", budget.bindings),
        ("tcp_connections", budget.tcp_connections),
    ];
    let set: Vec<String> = set
        .into_iter()
        .filter(|(_, allotment)| allotment.is_set)
        .map(|(name, allotment)| {
            format!("{name} = {} ({})", allotment.count, Size(allotment.bytes()))
        })
        .collect();
    let text = format!(
        "[limits]: {} need {}, and memory gives {}; lower them or raise memory",
        set.join(" and "),
        Size(fixed),
        Size(budget.memory)
    );
    about(config, &config.limits.place, text)
}

fn too_early(config: &Config, budget: &Budget) -> Mistakes {
    let text = format!(
        "[limits] prefault is {}, and memory gives {}; lower it or raise memory",
        Size(budget.prefault),
        Size(budget.memory)
    );
    about(config, &config.limits.prefault_place, text)
}

fn about(config: &Config, place: &Mistake, text: String) -> Mistakes {
    Mistakes {
        path: config.path.clone(),
        list: vec![Mistake {
            text,
            ..place.clone()
        }],
    }
}

/// A number of bytes for people.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 30 => write!(f, "{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
            bytes if bytes >= 1 << 20 => write!(f, "{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
            bytes => write!(f, "{} KiB", bytes >> 10),
        }
    }
}

/// Hundredths of the memory, where the file sets no count: an edge has about as much to do with calls as with users.
const TRANSACTION_SHARE: u64 = 45;
const BINDING_SHARE: u64 = 45;
const TCP_CONNECTION_SHARE: u64 = 10;
/// How long a call rings, for the estimate of calls a second.
pub const RING_S: u64 = 10;
/// Transaction-seconds of an answered call: INVITE server and client, each ringing and then 64*T1 in Accepted (RFC 6026,
/// Timers L and M); BYE server for 64*T1 (Timer J) and client for T4 (Timer K).
const CALL_TRANSACTION_S: u64 = 2 * (RING_S + T1_64.as_secs()) + T1_64.as_secs() + T4.as_secs();
const MAILBOX_COST: u64 = ((MAILBOX_LEN - MAILBOX_LARGE_LEN) * SMALL_BUFFER_LEN
    + MAILBOX_LARGE_LEN * (MESSAGE_LEN_MAX + 29)
    + DNS_QUESTIONS_MAX * QUESTION_COST) as u64;
/// A place for a question and one for its answer.
const QUESTION_COST: usize = 1_024;
const OUTBOX_COST: u64 = ((TCP_OUTBOX_LEN - TCP_OUTBOX_LARGE_LEN) * SMALL_BUFFER_LEN
    + TCP_OUTBOX_LARGE_LEN * (MESSAGE_LEN_MAX + 29)) as u64;

const _: () = assert!(TRANSACTION_SHARE + BINDING_SHARE + TCP_CONNECTION_SHARE == 100);
// 8 GiB at 50% admits 1.5M transactions, or 2M bindings.
const _: () = assert!((4 << 30) / TRANSACTION_COST >= 1_500_000);
const _: () = assert!((4 << 30) / BINDING_COST >= 2_000_000);

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn host() -> Host {
        let mut host = Host::read_under(Path::new("/nonexistent"), 2);
        host.memory = 8 << 30;
        host
    }

    fn config(limits: &str) -> Config {
        let text = format!(
            "[[listen]]\naddress = \"192.0.2.1:5060\"\ninterface = \"eth0\"\nqueues = [0, 1]\n[limits]\n{limits}"
        );
        Config::parse("t".as_ref(), &text).expect("good")
    }

    #[test]
    fn shares_stay_within_the_memory() {
        let budget = Budget::compute(&config(""), &host()).expect("fits");
        assert_eq!(budget.memory, (8 << 30) / 100 * 50);
        let shared =
            budget.transactions.bytes() + budget.bindings.bytes() + budget.tcp_connections.bytes();
        assert!(shared <= budget.memory);
        assert_eq!(
            (budget.workers, budget.frames),
            (2, 2 * FRAMES_PER_QUEUE as u64)
        );
        assert!(
            budget.descriptors <= 1_024,
            "what is not set stays within the descriptors"
        );
        let warnings = budget.warnings();
        assert!(
            warnings.len() == 1 && warnings[0].contains("no device eth0"),
            "{warnings:?}"
        );
    }

    #[test]
    fn eight_gibibytes_admit_what_the_design_says() {
        let transactions = config("transactions = 1500000\nbindings = 1\ntcp_connections = 0\n");
        assert!(Budget::compute(&transactions, &host()).is_ok());
        let bindings = config("transactions = 16\nbindings = 2000000\ntcp_connections = 0\n");
        assert!(Budget::compute(&bindings, &host()).is_ok());
    }

    #[test]
    fn counts_that_do_not_fit_are_a_mistake_with_a_line() {
        let mistakes = Budget::compute(
            &config("transactions = 1500000\nbindings = 2000000\n"),
            &host(),
        )
        .expect_err("too much");
        let text = mistakes.to_string();
        assert!(
            text.starts_with("t:6:16: [limits]: transactions = 1500000 (3.9 GiB) and bindings"),
            "{text}"
        );
    }

    #[test]
    fn what_is_taken_early_is_of_the_memory() {
        let budget = Budget::compute(&config("memory = \"4 GiB\"\nprefault = \"25%\"\n"), &host());
        let budget = budget.expect("fits");
        assert_eq!(budget.prefault, (4 << 30) / 100 * 25);
        let text = budget.to_string();
        let wanted = "taken 1024.0 MiB before anything is served and the rest lazily:";
        assert!(text.contains(wanted), "{text}");
        let limits = config("memory = \"4 GiB\"\nprefault = \"5 GiB\"\n");
        let mistakes = Budget::compute(&limits, &host()).expect_err("too much");
        let text = mistakes.to_string();
        let wanted = "t:7:12: [limits] prefault is 5.0 GiB, and memory gives 4.0 GiB; lower it or raise memory";
        assert!(text.starts_with(wanted), "{text}");
    }

    #[test]
    fn what_the_host_cannot_give_is_warned_about() {
        let budget = Budget::compute(
            &config("memory = \"9 GiB\"\ntcp_connections = 2000\n"),
            &host(),
        )
        .expect("fits itself");
        assert_eq!(budget.warnings().len(), 3, "{:?}", budget.warnings());
    }

    #[test]
    fn the_text_names_every_line_of_the_budget() {
        let text = Budget::compute(&config(""), &host())
            .expect("fits")
            .to_string();
        for word in [
            "memory",
            "transactions",
            "bindings",
            "tcp_connections",
            "frames",
            "descriptors",
            "calls a second",
        ] {
            assert!(text.contains(word), "{word}\n{text}");
        }
    }
}
