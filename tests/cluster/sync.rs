//! A Strowger that starts empty, and is sent everything by another: how fast, at what cost, and what becomes of it when either dies.

use std::time::Duration;

use super::load::{Load, q999_ms};
use super::pair::{Pair, asked, wait_for};

/// How many contacts: `STROWGER_CONTACTS` of them, else few enough for every run.
fn contacts() -> u64 {
    asked("STROWGER_CONTACTS", 20_000)
}

#[test]
fn an_empty_node_is_sent_everything_at_the_speed_of_both_in_bounded_memory() {
    let mut pair = Pair::start(93, "", "none");
    let contacts = contacts();
    pair.receiver.kill();
    pair.wait_until_lost();
    pair.fill(contacts);
    let (sender_before, cpu_before) = (pair.sender.memory_of("VmRSS"), pair.sender.cpu());
    pair.receiver.resume();
    let (receiver_before, took) = (
        pair.receiver.memory_of("VmRSS"),
        pair.wait_until_both_have(contacts),
    );
    let rate = contacts as f64 / took.as_secs_f64();
    let cpu = [pair.sender.cpu() - cpu_before, pair.receiver.cpu()];
    let each = cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / contacts as f64);
    println!(
        "{contacts} contacts in {took:?}: {rate:.0} a second; processor time of one: {:.2} us at the sender, {:.2} us at the receiver",
        each[0], each[1]
    );
    let sender_grown = pair.sender.memory_of("VmHWM").saturating_sub(sender_before);
    // The bindings themselves are what the location says that it takes.
    let bindings = pair.receiver.bindings_bytes();
    let receiver_grown =
        (pair.receiver.memory_of("VmHWM") - receiver_before).saturating_sub(bindings);
    println!(
        "grown beside the bindings ({bindings} bytes): the sender by {sender_grown}, the receiver by {receiver_grown}"
    );
    for (who, grown) in [("sender", sender_grown), ("receiver", receiver_grown)] {
        assert!(grown < 64 << 20, "the {who} grew by {grown} bytes");
    }
    if contacts >= 1_000_000 {
        assert!(rate >= 200_000.0, "{rate:.0} contacts a second");
    }
}

#[test]
fn a_sync_goes_on_when_the_receiver_or_the_sender_has_died_half_way() {
    // Slow enough that each half is long.
    let contacts = contacts();
    let rate = (contacts / 2).min(50_000);
    let mut pair = Pair::start(94, &format!("sync_rate = {rate}\n"), "sqlite");
    pair.receiver.kill();
    pair.fill(contacts);
    pair.receiver.resume();
    pair.wait_until_half(contacts);
    pair.receiver.restart();
    pair.wait_until_half(contacts);
    // What it knew it has of its store, and its own sync of the other's half takes nothing from it.
    pair.sender.restart();
    let took = pair.wait_until_both_have(contacts);
    println!("both have all {contacts} {took:?} after the sender was killed");
    let nodes = pair.sender.call("dmq.list_nodes");
    assert!(nodes[1]["syncs"].as_u64() >= Some(1), "{nodes:#}");
}

/// The q99.9 of what phones register at both nodes meanwhile, in milliseconds; `user` begins the names of other phones than before.
fn waits_ms(pair: &Pair, user: &str, (rate, seconds): (u32, u64)) -> [f64; 2] {
    let seconds = seconds.to_string();
    let loads = [(&pair.sender, "s"), (&pair.receiver, "r")].map(|(node, letter)| {
        let user = format!("{user}{letter}");
        let further = ["--time", &seconds, "--phones", "10000", "--user", &user];
        Load::start(node.sip(), rate, &further)
    });
    loads.map(|load| {
        let result = load.finish();
        let kind = &result["kinds"][0];
        // A debug build beside other tests may be too busy for a moment.
        let is_answered = kind["success_percent"] == 100.0;
        assert!(is_answered || rate < 2_000, "{result:#}");
        q999_ms(&result)
    })
}

/// The q99.9 at both nodes: of several stretches the median, since a stall of the machine's own makes that of a whole stretch.
fn median_waits_ms(stretches: &[[f64; 2]]) -> [f64; 2] {
    [0, 1].map(|node| {
        let mut waits: Vec<f64> = stretches.iter().map(|stretch| stretch[node]).collect();
        waits.sort_by(f64::total_cmp);
        (waits[(waits.len() - 1) / 2] + waits[waits.len() / 2]) / 2.0
    })
}

#[test]
fn phones_do_not_notice_a_paced_sync() {
    let contacts = contacts();
    // So that the sync lasts longer than all stretches beside it.
    let rate = (contacts / 7).min(50_000);
    let is_whole = rate == 50_000;
    let (load, count) = if is_whole {
        ((2_000, contacts / rate / 10), 8)
    } else {
        ((500, 1), 4)
    };
    let mut pair = Pair::start(95, &format!("sync_rate = {rate}\n"), "none");
    pair.fill(contacts);
    pair.wait_until_both_have(contacts);
    let waits = |pair: &Pair, user: &str, count: u32| -> Vec<[f64; 2]> {
        (0..count).map(|_| waits_ms(pair, user, load)).collect()
    };
    let before = waits(&pair, "before", count / 2);
    pair.receiver.restart();
    wait_for("it begins", Duration::from_secs(20), || {
        pair.receiver.count() > 0
    });
    let during = waits(&pair, "during", count);
    let is_under_way = !pair.sender.call("dmq.list_nodes")[1]["sync_sent"].is_null();
    let after = waits(&pair, "after", count / 2);
    println!(
        "{rate} contacts a second: q99.9 before {before:?} ms, during {during:?}, after {after:?}"
    );
    let idle = median_waits_ms(&[before, after].concat());
    let beside = median_waits_ms(&during);
    println!("medians: idle {idle:?} ms, beside the sync {beside:?}");
    assert!(is_under_way, "the sync is over too soon");
    for (idle, beside) in idle.into_iter().zip(beside) {
        // In CI the machine is not ours alone, and few samples make a q99.9 of one of them.
        let idle = idle + if is_whole { 0.0 } else { 25.0 };
        let bound = 2.0 * idle;
        assert!(
            beside <= bound,
            "{beside} ms beside a sync, {idle} ms without"
        );
    }
}
