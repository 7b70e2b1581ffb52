//! Phones: users with numbers, in groups that share an address and port, registered and called by SIPp.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::bed::{Family, Link};
use super::scratch::Scratch;
use super::sipp::{Outcome, Running, Sipp};

/// Phones `user<first>..user<last>`, all of whose Contacts are one socket of SIPp.
#[derive(Clone, Debug)]
pub(crate) struct Phones {
    /// Their numbers.
    pub(crate) numbers: Range<u32>,
    /// Where they are.
    pub(crate) address: SocketAddr,
    /// The server that they use.
    pub(crate) server: SocketAddr,
}

/// Phones `numbers` of `link` in `groups` of equal size, on ports from [`PHONE_PORT`] upward: several flows, so several queues.
pub(crate) fn groups(link: &Link, family: Family, numbers: Range<u32>, groups: u16) -> Vec<Phones> {
    let size = (numbers.end - numbers.start) / u32::from(groups);
    let group = |index: u16| {
        let first = numbers.start + size * u32::from(index);
        let address = SocketAddr::new(link.phone(family), PHONE_PORT + index);
        Phones {
            numbers: first..first + size,
            address,
            server: link.sip(family),
        }
    };
    (0..groups).map(group).collect()
}

/// Registers every phone of `groups` at `rate` a second in all, and asserts that each REGISTER got its 200 at once.
#[track_caller]
pub(crate) fn register(link: &Link, scratch: &Scratch, groups: &[Phones], rate: u32) {
    assert_clean(&register_with(link, scratch, groups, rate, "register"));
}

/// As [`register`], with a scenario of its own, and without judging.
pub(crate) fn register_with(
    link: &Link,
    scratch: &Scratch,
    groups: &[Phones],
    rate: u32,
    scenario: &'static str,
) -> Vec<Outcome> {
    let start = |phones: &Phones| {
        let sipp = Sipp::new(
            &link.phones,
            scratch,
            scenario,
            phones.address,
            phones.server,
        );
        let users = phones.users(scratch, |_| "register".to_owned());
        sipp.users(&users)
            .calls(phones.count(), share(rate, groups))
            .start()
    };
    let running: Vec<Running> = groups.iter().map(start).collect();
    running
        .into_iter()
        .map(|running| running.finish(PATIENCE))
        .collect()
}

impl Phones {
    /// How many they are.
    pub(crate) fn count(&self) -> u32 {
        self.numbers.end - self.numbers.start
    }

    /// The first `count` of them, and the others at the next port.
    pub(crate) fn split_at(self, count: u32) -> (Self, Self) {
        let Self {
            numbers,
            address,
            server,
        } = self;
        let middle = numbers.start + count;
        let next = SocketAddr::new(address.ip(), address.port() + 1);
        (
            Self {
                numbers: numbers.start..middle,
                address,
                server,
            },
            Self {
                numbers: middle..numbers.end,
                address: next,
                server,
            },
        )
    }

    /// Writes SIPp's file of users: a line for each phone with its name and what `prefix` makes of its place (from 1).
    pub(crate) fn users(&self, scratch: &Scratch, prefix: impl Fn(u32) -> String) -> PathBuf {
        let lines = self
            .numbers
            .clone()
            .zip(1..)
            .map(|(number, place)| format!("user{number};{}\n", prefix(place)));
        let path = scratch.fresh("users");
        std::fs::write(&path, format!("SEQUENTIAL\n{}", lines.collect::<String>()))
            .expect("a file in our own folder");
        path
    }

    /// A SIPp that takes `calls` calls for these phones.
    pub(crate) fn callee<'a>(
        &self,
        link: &'a Link,
        scratch: &'a Scratch,
        scenario: &'static str,
        calls: u32,
    ) -> Sipp<'a> {
        Sipp::new(&link.phones, scratch, scenario, self.address, self.server).calls(calls, 1)
    }

    /// A SIPp at `port` of `link` that calls these phones, the first `calls` of them in order, `rate` a second.
    pub(crate) fn caller<'a>(
        &self,
        link: &'a Link,
        scratch: &'a Scratch,
        scenario: &'static str,
        port: u16,
        calls: u32,
        rate: u32,
    ) -> Sipp<'a> {
        let family = if self.address.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        let local = SocketAddr::new(link.phone(family), port);
        let users = self.users(scratch, |_| "call".to_owned());
        Sipp::new(&link.phones, scratch, scenario, local, link.sip(family))
            .users(&users)
            .calls(calls, rate)
    }
}

/// Calls `calls` phones of `groups`, each group by a caller of its own, at `rate` calls a second in all; every phone answers.
///
/// Gives what the callers and then what the callees counted.
pub(crate) fn call(
    link: &Link,
    scratch: &Scratch,
    groups: &[Phones],
    calls: u32,
    rate: u32,
) -> Vec<Outcome> {
    let each = share(calls, groups);
    let callees: Vec<Running> = groups
        .iter()
        .map(|phones| phones.callee(link, scratch, "callee", each).start())
        .collect();
    std::thread::sleep(LISTENING);
    let caller = |(phones, port): (&Phones, u16)| {
        let sipp = phones.caller(link, scratch, "caller", port, each, share(rate, groups));
        sipp.hold(Duration::from_millis(100)).spread().start()
    };
    let callers: Vec<Running> = groups.iter().zip(CALLER_PORT..).map(caller).collect();
    let mut outcomes: Vec<Outcome> = callers
        .into_iter()
        .map(|caller| caller.finish(PATIENCE))
        .collect();
    outcomes.extend(
        callees
            .into_iter()
            .map(|callee| callee.conclude(AFTERWARDS)),
    );
    outcomes
}

/// Asserts that nothing failed and nothing was sent twice.
#[track_caller]
pub(crate) fn assert_clean(outcomes: &[Outcome]) {
    for outcome in outcomes {
        outcome.assert_clean();
    }
}

fn share(whole: u32, groups: &[Phones]) -> u32 {
    (whole / u32::try_from(groups.len()).expect("few groups")).max(1)
}

/// The port of the first group of phones.
pub(crate) const PHONE_PORT: u16 = 5070;
/// The port of the first caller.
pub(crate) const CALLER_PORT: u16 = 5080;
/// How long one run of SIPp may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long the callees may take when the callers are through.
pub(crate) const AFTERWARDS: Duration = Duration::from_secs(5);
/// How long SIPp takes to listen; a packet to a port that nobody has opened yet is lost.
pub(crate) const LISTENING: Duration = Duration::from_millis(500);
