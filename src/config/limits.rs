//! `[limits]`: what the server may take of the host, before the host is looked at.

use super::mistake::Mistake;
use super::section::Section;
use crate::time::Duration;

/// The limits as the file states them; [`Budget`](super::budget::Budget) turns them into counts on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The memory for transactions, bindings and TCP connections together.
    pub memory: Memory,
    /// How much of it is taken, in huge pages, before anything is served; a share is one of `memory`. `None`: nothing.
    pub prefault: Option<Memory>,
    /// How many transactions; `None`: a share of the memory.
    pub transactions: Option<u64>,
    /// How many bindings; `None`: a share of the memory.
    pub bindings: Option<u64>,
    /// How many TCP connections; `None`: a share of the memory.
    pub tcp_connections: Option<u64>,
    /// How many TCP connections one address may have opened, or one /64 of IPv6.
    pub tcp_connections_per_source: u64,
    /// How long a TCP connection may be without a message or a keepalive.
    pub tcp_idle: Duration,
    /// The place in the file that a mistake about the sum is noted at, its text empty.
    pub(super) place: Mistake,
    /// The same for `prefault`.
    pub(super) prefault_place: Mistake,
}

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Of what the process may use: the RAM, or less where a cgroup says so.
    Percent(u8),
    /// An amount that does not depend on the host.
    Bytes(u64),
}

impl Default for Limits {
    fn default() -> Self {
        let nowhere = Mistake {
            line: 0,
            column: 0,
            text: String::new(),
        };
        Self {
            memory: Memory::Percent(50),
            prefault: None,
            transactions: None,
            bindings: None,
            tcp_connections: None,
            tcp_connections_per_source: 1_000,
            tcp_idle: Duration::from_secs(3_660),
            place: nowhere.clone(),
            prefault_place: nowhere,
        }
    }
}

/// Reads `[limits]`.
pub(super) fn read(root: &mut Section<'_>) -> Limits {
    let mut section = root.section("limits");
    let memory = section.parsed("memory", self::memory);
    let prefault = section.parsed("prefault", self::memory);
    let transactions = section.number("transactions", 16..=TRANSACTIONS_MAX);
    let bindings = section.number("bindings", 1..=BINDINGS_MAX);
    let tcp_connections = section.number("tcp_connections", 0..=TCP_CONNECTIONS_MAX);
    let per_source = section.number("tcp_connections_per_source", 1..=TCP_CONNECTIONS_MAX);
    let tcp_idle_s = section.number("tcp_idle_s", TCP_IDLE_S);
    let at = [transactions, bindings, tcp_connections]
        .into_iter()
        .flatten()
        .map(|found| found.at)
        .min();
    let at = at.or(memory.as_ref().map(|memory| memory.at));
    section.finish();
    let usual = Limits::default();
    Limits {
        memory: memory.map_or(usual.memory, |memory| memory.value),
        prefault_place: prefault.as_ref().map_or(usual.prefault_place, |found| {
            root.notes.locate(found.at, String::new())
        }),
        prefault: prefault.map(|found| found.value),
        transactions: transactions.map(|found| found.value),
        bindings: bindings.map(|found| found.value),
        tcp_connections: tcp_connections.map(|found| found.value),
        tcp_connections_per_source: per_source
            .map_or(usual.tcp_connections_per_source, |found| found.value),
        tcp_idle: tcp_idle_s.map_or(usual.tcp_idle, |found| Duration::from_secs(found.value)),
        place: at.map_or(usual.place, |at| root.notes.locate(at, String::new())),
    }
}

/// Parses `50%`, `4 GiB`, `512MiB`.
fn memory(text: &str) -> Result<Memory, String> {
    let shape = || {
        format!(
            "{text:?} is not an amount of memory; write it as \"50%\", \"4 GiB\" or \"512 MiB\""
        )
    };
    let digits_len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(digits_len);
    let Ok(number) = digits.parse::<u64>() else {
        return Err(shape());
    };
    let shift = match unit.trim() {
        "%" => {
            let percent = u8::try_from(number)
                .ok()
                .filter(|percent| (1..=PERCENT_MAX).contains(percent));
            return percent
                .map(Memory::Percent)
                .ok_or_else(|| format!("{text:?} is out of range; give 1% to {PERCENT_MAX}%"));
        }
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(shape()),
    };
    match number.checked_mul(1 << shift) {
        Some(bytes) if (MEMORY_MIN..=MEMORY_MAX).contains(&bytes) => Ok(Memory::Bytes(bytes)),
        _ => Err(format!("{text:?} is out of range; give 16 MiB to 64 TiB")),
    }
}

/// Beyond it the host is short of memory for its kernel and for the packets in it.
const PERCENT_MAX: u8 = 90;
/// Less does not carry a handful of calls.
const MEMORY_MIN: u64 = 16 << 20;
const MEMORY_MAX: u64 = 64 << 40;
/// Slots of a table are numbered with 32 bits in the Via branch, workers and generations beside them.
const TRANSACTIONS_MAX: u64 = 100_000_000;
const BINDINGS_MAX: u64 = 500_000_000;
const TCP_CONNECTIONS_MAX: u64 = 1_000_000;
/// Less than the time between two keepalives (RFC 5626 4.4.1) would cut off phones that do as they should.
const TCP_IDLE_S: std::ops::RangeInclusive<u64> = 30..=86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_share_or_an_amount() {
        assert_eq!(memory("50%"), Ok(Memory::Percent(50)));
        assert_eq!(memory("4 GiB"), Ok(Memory::Bytes(4 << 30)));
        assert_eq!(memory("512MiB"), Ok(Memory::Bytes(512 << 20)));
        for bad in [
            "",
            "50",
            "half",
            "0%",
            "91%",
            "1 KiB",
            "4 GB",
            "-1 GiB",
            "99999999999999999999 GiB",
            "20000000 TiB",
        ] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }
}
