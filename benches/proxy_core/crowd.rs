//! So many proxied transactions at once: what each takes, and that nothing is left of them.

use strowger::time::Duration;

use super::bed::{BATCH, Bed, Measured};
use super::call::{self, Pace};
use super::message::{self, Parties};
use super::phone::{order, register_all};

/// Whole calls, whose transactions have filled their table before: 3,125 a second, 200,000 transactions live.
pub(crate) fn calls(phones: u32, operations: u32) -> Measured {
    let pace = Pace {
        apart: call::APART,
        span: Duration::from_micros(320 * BATCH as u64),
    };
    // The Timers J and L of what was before hold for 32 s.
    let before = if operations > 100_000 {
        110_000
    } else {
        operations / 4
    };
    call::run(phones, operations, &pace, before)
}

/// Fills a table with so many proxied transactions (a server's and a client's, with the request and the final response stored), prints
/// what one takes, and lets them end.
pub(crate) fn fill(transactions: u32) {
    let phones = 10_000;
    let mut bed = Bed::new();
    register_all(&mut bed, phones, |phone| {
        message::register(phone, 1, message::address(phone), "", "")
    });
    let order = order(phones);
    let before = resident();
    let (mut bytes, mut messages) = (0, 0);
    for first in (0..transactions).step_by(BATCH) {
        let parties: Vec<Parties> = (first..transactions.min(first + BATCH as u32))
            .map(|call| Parties {
                call,
                caller: order(call),
                callee: order(call + 1),
            })
            .collect();
        let body = "x".repeat(150);
        let requests: Vec<_> = parties
            .iter()
            .map(|parties| parties.first("MESSAGE", "text/plain", &body))
            .collect();
        bed.receive_unmeasured(Duration::from_micros(1), &requests);
        let relayed: Vec<String> = bed
            .sent
            .messages()
            .map(|sent| String::from_utf8_lossy(sent).into_owned())
            .collect();
        assert_eq!(relayed.len(), parties.len());
        let answers: Vec<_> = parties
            .iter()
            .zip(&relayed)
            .map(|(parties, relayed)| parties.answer(relayed, "200 OK", &body))
            .collect();
        for stored in requests.iter().chain(&answers) {
            (bytes, messages) = (bytes + stored.bytes.len(), messages + 1);
        }
        bed.receive_unmeasured(Duration::from_micros(1), &answers);
    }
    let (held, timers, stored) = bed.proxy.held();
    assert_eq!(held, 2 * transactions as usize);
    println!(
        "{transactions} proxied transactions: {held} machines, {timers} timers, {stored} messages of {} bytes",
        bytes / messages
    );
    println!(
        "bytes a proxied transaction: {} by the tables' own count, {} by the growth of the process",
        bed.proxy.footprint() / transactions as usize,
        resident().saturating_sub(before) / transactions as usize
    );
    bed.now = bed.now + Duration::from_secs(64);
    bed.let_timers_fire();
    assert_eq!(bed.proxy.held(), (0, 0, 0), "all have ended");
    println!("64 s later: nothing is held");
}

/// What of this process lies in memory, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| {
        line.trim()
            .trim_end_matches(" kB")
            .trim()
            .parse::<usize>()
            .ok()
    });
    kib.unwrap_or_default() * 1_024
}
