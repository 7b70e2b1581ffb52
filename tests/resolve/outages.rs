//! A server that dies, that says nothing, that comes back.

use std::thread;
use std::time::Duration;

use strowger::counters::Counter;
use strowger::time;

use super::asker::{Asker, Told, settings};
use super::named::Named;

fn bed() -> (Named, Asker) {
    let named = Named::start();
    let asker = Asker::new(&settings(named.address()));
    (named, asker)
}

fn ask_short(asker: &mut Asker) -> Told {
    asker.ask_with("short", Some(5_060), None)
}

/// The time for an answer, and what a busy machine adds.
const LIMIT: Duration = Duration::from_millis(2_000 + 500);

#[test]
fn a_name_that_was_known_is_found_while_the_server_is_dead() {
    let (mut named, mut asker) = bed();
    assert_eq!(ask_short(&mut asker).list.len(), 1);
    named.kill();
    thread::sleep(Duration::from_millis(1_100));
    let told = ask_short(&mut asker);
    assert_eq!(told.list, ["UDP 192.0.2.30:5060"]);
    assert!(told.took < LIMIT, "{:?}", told.took);
    // The server is known to be dead now: nobody waits for it again.
    let told = ask_short(&mut asker);
    assert_eq!(told.list.len(), 1);
    assert!(told.took < Duration::from_millis(100), "{:?}", told.took);
    assert_eq!(asker.count(Counter::DnsAnswerStale), 2);
}

#[test]
fn a_name_that_was_not_known_is_answered_empty_in_time() {
    let (mut named, mut asker) = bed();
    named.kill();
    let told = asker.ask("both");
    assert!(told.list.is_empty() && told.took < LIMIT, "{:?}", told.took);
    let told = asker.ask("both");
    assert!(told.list.is_empty());
    assert!(told.took < Duration::from_millis(100), "{:?}", told.took);
    assert_eq!(asker.count(Counter::DnsAnswerFailed), 2);
}

#[test]
fn yesterdays_answers_may_be_forbidden() {
    let named = Named::start();
    let mut never_stale = settings(named.address());
    never_stale.stale_max = time::Duration::from_secs(0);
    let mut asker = Asker::new(&never_stale);
    assert_eq!(ask_short(&mut asker).list.len(), 1);
    named.stop();
    thread::sleep(Duration::from_millis(1_100));
    let told = ask_short(&mut asker);
    assert!(told.list.is_empty() && told.took < LIMIT, "{:?}", told.took);
}

#[test]
fn a_server_that_says_nothing_holds_up_its_own_questions_only_and_in_bounds() {
    let (named, mut asker) = bed();
    assert_eq!(asker.ask("both").list.len(), 2);
    named.stop();
    // These wait, all at once.
    let begun = std::time::Instant::now();
    for number in 0..500 {
        let host = format!("host{number}.load.example.net");
        asker.post(&host, None, None).expect("room");
    }
    // What is known is told at once.
    let known = asker.post("both.example.net", None, None).expect("room");
    let first = asker.collect(1);
    assert_eq!(first.get(&known).expect("it overtakes").len(), 2);
    assert!(begun.elapsed() < Duration::from_millis(500));
    let silent = asker.collect(500);
    assert!(silent.values().all(Vec::is_empty));
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    assert_eq!(asker.count(Counter::DnsAnswerFailed), 500);
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for_where_yesterdays_answer_serves() {
    let (named, mut asker) = bed();
    assert_eq!(ask_short(&mut asker).list.len(), 1);
    named.stop();
    thread::sleep(Duration::from_millis(1_100));
    let told = ask_short(&mut asker);
    assert_eq!(told.list.len(), 1);
    assert!(told.took < Duration::from_millis(1_500), "{:?}", told.took);
    // It comes back: after the pause, the answer is a new one, and no question waited for it.
    named.go_on();
    let is_new = (0..80).any(|_| {
        let told = ask_short(&mut asker);
        assert_eq!(told.list.len(), 1);
        thread::sleep(Duration::from_millis(100));
        asker.count(Counter::DnsAnswerFound) > 1
    });
    assert!(is_new, "it recovers within eight seconds");
}

#[test]
fn of_two_servers_one_may_be_dead() {
    let (alive, mut dead) = (Named::start(), Named::start());
    let mut both = settings(dead.address());
    both.servers.push(alive.address());
    dead.kill();
    let mut asker = Asker::new(&both);
    let told = asker.ask("both");
    assert_eq!(told.list.len(), 2);
    assert!(told.took < LIMIT, "{:?}", told.took);
    dead = Named::start();
    dead.stop();
    both.servers[0] = dead.address();
    let told = Asker::new(&both).ask("both");
    assert_eq!(told.list.len(), 2);
    assert!(told.took < LIMIT, "{:?}", told.took);
}
