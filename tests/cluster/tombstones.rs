//! Removals are remembered up to a bound: past it they cost no more memory, and a node that was away is sent everything anew.

use std::process::Command;
use std::time::Duration;

use super::crowd::Crowd;
use super::pair::{Pair, wait_for};

#[test]
fn what_was_removed_takes_bounded_memory_and_past_the_bound_all_is_sent_anew() {
    let pair = Pair::start(92, "tombstones = 1024\nping_s = 1\n", "none");
    let crowd = Crowd::new(pair.sender.sip());
    crowd.register(0..KEPT);
    pair.wait_until_both_have(KEPT as u64);
    pair.wait_until_met();
    // It keeps what it has, and hears of nothing more.
    signal(pair.receiver.pid(), "-STOP");
    pair.wait_until_lost();
    crowd.register(KEPT..2 * KEPT);
    let mut taken = Vec::new();
    for turn in (0..2 * TURNS).step_by(2) {
        crowd.change(COMING_AND_GOING, turn);
        crowd.change(COMING_AND_GOING, turn + 1);
        taken.push((pair.sender.bindings_bytes(), pair.sender.memory_of("VmRSS")));
    }
    assert_eq!(pair.sender.count(), 2 * KEPT);
    let removals = TURNS * COMING_AND_GOING.len();
    println!(
        "{removals} removals; the location's bytes and the process's after each turn: {taken:?}"
    );
    let (first, last) = (taken[0], taken[TURNS - 1]);
    // Each takes about 200 bytes: all of them would be many times as much.
    let all = (200 * removals) as u64;
    assert!(last.0 <= first.0 + all / 16, "{taken:?}");
    assert!(last.1 <= first.1 + all / 2, "{taken:?}");
    let sent = |pair: &Pair| pair.sender.call("dmq.list_nodes")[1].clone();
    let before = sent(&pair)["sent"].as_u64();
    signal(pair.receiver.pid(), "-CONT");
    let (mut waiting, mut window) = (0, 0);
    wait_for("all is there", Duration::from_secs(30), || {
        let told = sent(&pair);
        waiting = told["waiting"].as_u64().unwrap_or(0).max(waiting);
        window = told["window"].as_u64().unwrap_or(0).max(window);
        pair.receiver.count() == 2 * KEPT
    });
    pair.wait_until_both_have(2 * KEPT as u64);
    let sent = sent(&pair)["sent"].as_u64().zip(before);
    let sent = sent.map_or(0, |(after, before)| after - before);
    println!(
        "{sent} contacts sent to a node that missed {KEPT}; at most {waiting} waited, and the window was {window}"
    );
    assert!(sent >= 2 * KEPT as u64, "not everything was sent");
    assert!(
        waiting <= 4_096 + 32 * 150 && window <= 32,
        "{waiting} wait, {window} messages"
    );
}

fn signal(process: u32, signal: &str) {
    let status = Command::new("kill")
        .args([signal, &process.to_string()])
        .status();
    assert!(status.expect("kill").success());
}

/// Contacts that the other node has, and as many that it misses.
const KEPT: usize = 2_000;
/// Phones that come and go meanwhile.
const COMING_AND_GOING: std::ops::Range<usize> = 10_000..15_000;
/// How often they do.
const TURNS: usize = 8;
