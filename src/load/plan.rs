//! From the command line to what is to be done: everything is checked before a packet leaves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use super::agent::Settings;
use super::arguments::{Arguments, Backend, Common, Role};
use super::error::LoadError;
use super::mix::Mix;
use super::processor::Processor;
use super::schedule::Arrivals;
use super::tally::Kind;
use crate::datagram::ListenerId;
use crate::limits::{LISTENERS_MAX, LOAD_PHONES_MAX, LOAD_RATE_MAX, LOAD_TIME_MAX, T1_64};
use crate::net::{BackendChoice, ListenerSpec};
use crate::time::Duration;

/// A load that can be run.
pub(super) struct Plan {
    pub(super) mix: Mix,
    pub(super) rate: f64,
    pub(super) arrivals: Arrivals,
    pub(super) seed: u64,
    pub(super) count_max: u64,
    pub(super) time: Duration,
    pub(super) warm_up: Duration,
    /// How long what is under way at the end is waited for, where not for as long as it takes.
    pub(super) patience: Option<Duration>,
    /// All phones register first, so many a second.
    pub(super) prepare_rate: Option<f64>,
    /// Nothing is attempted: the phones are called by others.
    pub(super) is_uas: bool,
    pub(super) accounts: Vec<(String, Option<String>)>,
    pub(super) settings: Settings,
    pub(super) listeners: Vec<ListenerSpec>,
    pub(super) success_percent: f64,
    pub(super) is_search: bool,
    pub(super) processor: Processor,
    pub(super) has_server: bool,
    pub(super) is_quiet: bool,
}

impl Plan {
    /// Checks the command line.
    pub(super) fn new(arguments: &Arguments) -> Result<Self, LoadError> {
        let common = arguments.common();
        let session = arguments.session();
        let role = session.map_or(Role::Both, |session| session.role);
        let mix = match arguments {
            Arguments::Options { .. } => Mix::only(Kind::Options),
            Arguments::Register { .. } => Mix::only(Kind::Register),
            Arguments::Invite { .. } => Mix::only(Kind::Invite),
            Arguments::Mixed { mix, .. } => *mix,
        };
        let callee = session.and_then(|session| session.to.clone());
        check(common, mix, role, callee.as_deref())?;
        let is_called_here = mix.has(Kind::Invite) && callee.is_none();
        let registration = arguments.registration();
        let prepares = registration.is_some_and(|registration| registration.prepare);
        let prepare_rate = registration
            .filter(|_| prepares || is_called_here)
            .map(|registration| registration.prepare_rate);
        if let Some(rate) = prepare_rate {
            check_rate("--prepare-rate", rate)?;
        }
        let sources = sources(common)?;
        let millis = |value: u64| Duration::from_millis(value);
        let hold = session.map_or(Duration::ZERO, |session| millis(session.hold));
        let threshold = common.threshold.map_or(T1_64.doubled(), millis);
        Ok(Self {
            mix,
            rate: common.rate,
            arrivals: common.arrivals,
            seed: common.seed,
            count_max: common.count.unwrap_or(u64::MAX),
            time: seconds("--time", common.time)?,
            patience: patience(common, hold, threshold)?,
            warm_up: seconds("--warm-up", common.warm_up)?,
            prepare_rate,
            is_uas: role == Role::Uas,
            accounts: accounts(common)?,
            listeners: listeners(common, &sources),
            settings: Settings {
                target: common.target,
                domain: common
                    .domain
                    .clone()
                    .unwrap_or_else(|| host(common.target.ip())),
                sources,
                expires_s: registration.map_or(0, |registration| registration.expires),
                callee,
                hold,
                ring: session.map_or(Duration::ZERO, |session| millis(session.ring)),
                threshold,
                is_through: arguments.is_through(),
                is_echo: common.echo,
            },
            success_percent: common.success,
            is_search: common.search,
            processor: Processor::new(common.pid.clone(), common.napi.as_deref()),
            has_server: !common.pid.is_empty(),
            is_quiet: common.quiet,
        })
    }
}

/// Sees that what was asked for makes sense.
fn check(common: &Common, mix: Mix, role: Role, callee: Option<&str>) -> Result<(), LoadError> {
    let usage = |text: &str| Err(LoadError::Usage(text.to_owned()));
    check_rate("--rate", common.rate)?;
    if common.phones == 0 || common.phones > LOAD_PHONES_MAX {
        return Err(LoadError::Usage(format!(
            "--phones: from 1 to {LOAD_PHONES_MAX}"
        )));
    }
    if common.target.port() == 0 || common.target.ip().is_unspecified() {
        return usage("--target: an address and port that something can be sent to");
    }
    if !(0.0..=100.0).contains(&common.success) {
        return usage("--success: a percentage from 0 to 100");
    }
    if common.warm_up >= common.time && common.warm_up > 0.0 {
        return usage("--warm-up: shorter than --time, or nothing is left to count");
    }
    if callee.is_some() && role != Role::Uac {
        return usage("--to: with --role uac alone; the phones themselves are called otherwise");
    }
    if callee.is_some_and(|uri| crate::sip::Uri::parse(uri.as_bytes()).is_err()) {
        return usage("--to: a SIP URI, as sip:bob@example.com");
    }
    if common.echo && mix.has(Kind::Invite) {
        return usage("--echo: not with calls, which an echo does not answer");
    }
    if role == Role::Uas && common.search {
        return usage("--search: not with --role uas, which attempts nothing");
    }
    if let Some(pid) = common.pid.iter().find(|pid| !Processor::is_there(**pid)) {
        return Err(LoadError::Usage(format!(
            "--pid: there is no process {pid}"
        )));
    }
    Ok(())
}

/// How long what is under way when attempts end is waited for: as was asked for, and in a search no longer than it may count.
fn patience(
    common: &Common,
    hold: Duration,
    threshold: Duration,
) -> Result<Option<Duration>, LoadError> {
    let asked = common.wait.map(|wait| seconds("--wait", wait));
    let of_search = common
        .search
        .then(|| threshold.min(T1_64) + hold + TRIAL_END);
    Ok(asked.transpose()?.or(of_search))
}

fn check_rate(name: &str, rate: f64) -> Result<(), LoadError> {
    if rate > 0.0 && rate <= LOAD_RATE_MAX {
        return Ok(());
    }
    Err(LoadError::Usage(format!(
        "{name}: more than 0 a second, and at most {LOAD_RATE_MAX}"
    )))
}

fn seconds(name: &str, value: f64) -> Result<Duration, LoadError> {
    if value >= 0.0 && value <= LOAD_TIME_MAX.as_secs() as f64 {
        return Ok(Duration::from_micros((value * 1e6) as u64));
    }
    Err(LoadError::Usage(format!(
        "{name}: from 0 to {} seconds",
        LOAD_TIME_MAX.as_secs()
    )))
}

/// The phones' user names and passwords.
fn accounts(common: &Common) -> Result<Vec<(String, Option<String>)>, LoadError> {
    let Some(path) = &common.users else {
        let account = |number| (format!("{}{number}", common.user), common.password.clone());
        let end = common.first.saturating_add(common.phones);
        return Ok((common.first..end).map(account).collect());
    };
    let text = std::fs::read_to_string(path).map_err(|source| LoadError::Users {
        path: path.clone(),
        text: source.to_string(),
    })?;
    read_accounts(&text, path)
}

/// Reads a file of accounts: USER;PASSWORD or USER, a line each; empty lines and those that begin with # are passed over.
fn read_accounts(text: &str, path: &Path) -> Result<Vec<(String, Option<String>)>, LoadError> {
    let lines = text.lines().map(str::trim_end).enumerate();
    let mut accounts = Vec::new();
    for (place, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let (user, password) = match line.split_once([';', ',']) {
            Some((user, password)) => (user, Some(password.to_owned())),
            None => (line, None),
        };
        if user.is_empty() || user.contains(|c: char| c.is_whitespace() || "<>\"@:".contains(c)) {
            return Err(LoadError::Users {
                path: path.to_owned(),
                text: format!("line {}: \"{user}\" is no user name", place + 1),
            });
        }
        accounts.push((user.to_owned(), password));
    }
    if accounts.is_empty() || accounts.len() > LOAD_PHONES_MAX as usize {
        return Err(LoadError::Users {
            path: path.to_owned(),
            text: format!(
                "has {} accounts; from 1 to {LOAD_PHONES_MAX}",
                accounts.len()
            ),
        });
    }
    Ok(accounts)
}

/// The addresses and ports that the phones send from.
fn sources(common: &Common) -> Result<Vec<SocketAddr>, LoadError> {
    let addresses = if common.from.is_empty() {
        vec![local_for(common.target)?]
    } else {
        common.from.clone()
    };
    let count = addresses.len() * usize::from(common.ports);
    if count == 0 || count > LISTENERS_MAX {
        return Err(LoadError::Usage(format!(
            "--from, --ports: from 1 to {LISTENERS_MAX} sources in all, not {count}"
        )));
    }
    if let Some(address) = addresses
        .iter()
        .find(|address| address.is_ipv4() != common.target.is_ipv4())
    {
        return Err(LoadError::Usage(format!(
            "--from {address}: of another family than the target"
        )));
    }
    let mut sources = Vec::new();
    // Held until all are chosen, so that no port is chosen twice.
    let mut held = Vec::new();
    for address in addresses {
        for offset in 0..common.ports {
            let port = common.port.map_or(0, |port| port.saturating_add(offset));
            let socket = UdpSocket::bind((address, port)).map_err(|source| LoadError::Source {
                address: SocketAddr::new(address, port),
                source,
            })?;
            sources.push(socket.local_addr().map_err(|source| LoadError::Source {
                address: SocketAddr::new(address, port),
                source,
            })?);
            held.push(socket);
        }
    }
    Ok(sources)
}

/// The address of this host by which a target is reached.
fn local_for(target: SocketAddr) -> Result<IpAddr, LoadError> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let find = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(target)?;
        Ok(socket.local_addr()?.ip())
    };
    find().map_err(|source| LoadError::NoRoute { target, source })
}

fn listeners(common: &Common, sources: &[SocketAddr]) -> Vec<ListenerSpec> {
    let listener = |(place, address): (usize, &SocketAddr)| {
        let id = ListenerId(u8::try_from(place).unwrap_or(u8::MAX));
        let mut spec = ListenerSpec::new(id, *address);
        match common.backend {
            Backend::Udp => spec.backend = BackendChoice::Udp,
            Backend::AfXdp => {
                spec.backend = BackendChoice::AfXdp;
                spec.interface.clone_from(&common.interface);
                spec.queues = Some(vec![0]);
            }
        }
        spec
    };
    sources.iter().enumerate().map(listener).collect()
}

fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// How long what is under way when a trial of a search ends is waited for, beyond the threshold.
const TRIAL_END: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        arguments: Arguments,
    }

    fn plan(line: &str) -> Result<Plan, LoadError> {
        let words = std::iter::once("load").chain(line.split_whitespace());
        let line =
            Line::try_parse_from(words).map_err(|error| LoadError::Usage(error.to_string()))?;
        Plan::new(&line.arguments)
    }

    #[test]
    fn the_defaults_are_a_small_load() {
        let plan = plan("register --target 127.0.0.1:5060").expect("good");
        assert_eq!(plan.accounts.len(), 1_000);
        assert_eq!(plan.accounts[7], ("load7".to_owned(), None));
        assert_eq!(plan.settings.domain, "127.0.0.1");
        assert_eq!(plan.settings.sources.len(), 4);
        assert!(
            plan.settings
                .sources
                .iter()
                .all(|source| source.ip().is_loopback())
        );
        assert!(plan.prepare_rate.is_none() && plan.mix.has(Kind::Register));
    }

    #[test]
    fn phones_that_are_called_register_first() {
        assert!(
            plan("invite --target 127.0.0.1:5060")
                .expect("good")
                .prepare_rate
                .is_some()
        );
        let out = plan("invite --target 127.0.0.1:5060 --role uac --to sip:bob@example.com");
        assert!(out.expect("good").prepare_rate.is_none());
    }

    #[test]
    fn mistakes_are_named_before_anything_is_sent() {
        for (line, word) in [
            ("register", "--target"),
            ("register --target 127.0.0.1", "--target"),
            ("register --target 127.0.0.1:0", "--target"),
            ("register --target 127.0.0.1:5060 --rate 0", "--rate"),
            ("register --target 127.0.0.1:5060 --rate nan", "--rate"),
            ("register --target 127.0.0.1:5060 --phones 0", "--phones"),
            ("register --target 127.0.0.1:5060 --ports 17", "--ports"),
            ("register --target 127.0.0.1:5060 --from ::1", "--from"),
            ("register --target 127.0.0.1:5060 --time=-1", "--time"),
            (
                "register --target 127.0.0.1:5060 --time 1 --warm-up 2",
                "--warm-up",
            ),
            ("register --target 127.0.0.1:5060 --pid 4194304", "--pid"),
            (
                "register --target 127.0.0.1:5060 --users /no/such/file",
                "/no/such/file",
            ),
            (
                "invite --target 127.0.0.1:5060 --to sip:bob@example.com",
                "--to",
            ),
            ("invite --target 127.0.0.1:5060 --role uac --to bob", "--to"),
            ("mixed --target 127.0.0.1:5060 --mix bye=1", "--mix"),
        ] {
            let error = plan(line).err().map(|error| error.to_string());
            assert!(
                error.as_deref().is_some_and(|text| text.contains(word)),
                "{line}: {error:?}"
            );
        }
    }

    #[test]
    fn a_file_of_accounts_is_read() {
        let path = Path::new("users.csv");
        let text = "# users\n\nalice;s;e,c\nbob,x\ncarol\n";
        let accounts = read_accounts(text, path).expect("three");
        let expected = [
            ("alice", Some("s;e,c")),
            ("bob", Some("x")),
            ("carol", None),
        ];
        for (account, (user, password)) in accounts.iter().zip(expected) {
            assert_eq!((account.0.as_str(), account.1.as_deref()), (user, password));
        }
        let error = read_accounts("alice\na b;x\n", path).expect_err("no user name");
        assert!(error.to_string().contains("line 2"), "{error}");
        assert!(read_accounts("#\n", path).is_err());
    }
}
