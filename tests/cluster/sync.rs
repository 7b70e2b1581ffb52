//! A Strowger that starts empty, and is sent everything by another: how fast, and at what cost.

use std::time::{Duration, Instant};

use super::pair::{Pair, asked, wait_for};

/// How many contacts: `STROWGER_CONTACTS` of them, else few enough for every run.
fn contacts() -> u64 {
    asked("STROWGER_CONTACTS", 20_000)
}

#[test]
fn an_empty_node_is_sent_everything_at_the_speed_of_both_in_bounded_memory() {
    let mut pair = Pair::start(93, "");
    let contacts = contacts();
    pair.receiver.kill();
    pair.fill(contacts);
    let sender_before = pair.sender.memory("VmHWM");
    let cpu_before = pair.sender.cpu();
    pair.receiver.come_back();
    let receiver_before = pair.receiver.memory("VmRSS");
    let start = Instant::now();
    let took = wait_for("all are there", Duration::from_secs(120), || {
        pair.receiver.count() as u64 == contacts
    });
    let cpu = (pair.sender.cpu() - cpu_before, pair.receiver.cpu());
    println!(
        "{contacts} contacts in {took:?}: {:.0} a second; processor time {cpu:?} ({:?})",
        contacts as f64 / took.as_secs_f64(),
        start.elapsed()
    );
    println!(
        "sender {} -> {}, receiver {receiver_before} -> {}",
        sender_before,
        pair.sender.memory("VmHWM"),
        pair.receiver.memory("VmHWM"),
    );
    println!("{:#}", pair.sender.call("dmq.list_nodes"));
    println!("{:#}", pair.receiver.call("core.memory"));
    println!("{:#}", pair.sender.call("core.memory"));
}
