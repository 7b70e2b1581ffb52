//! Many proxied transactions at once: what one takes, that each of its timers ends it in its time, and that nothing is left.

use strowger::counters::Counter;
use strowger::time::Duration;

use super::bed::{ALICE, BOB, Bed, request};

/// At most so many bytes for a server's and a client's transaction with a request and a response of 0.55 KB.
const COST_MAX: usize = 2_048;

#[test]
fn a_proxied_transaction_takes_two_kib_at_most_and_ends_with_its_timers() {
    let transactions: usize = match std::env::var("STROWGER_TRANSACTIONS") {
        Ok(number) => number.parse().expect("a number of transactions"),
        Err(_) => 10_000,
    };
    let mut bed = Bed::with_settings(1, |settings| {
        settings.transactions_max = u32::try_from(2 * transactions).expect("they fit");
        settings.message_bytes_max = transactions * COST_MAX;
    });
    bed.register("bob", BOB);
    let filler = format!("X-Filler: {}\n", "x".repeat(220));
    let mut stored = 0;
    for number in 0..transactions {
        let branch = format!("crowd-{number:08}");
        let message = request("MESSAGE", "sip:bob@example.com", ALICE, &branch, &filler);
        bed.receive(ALICE, &message);
        let relayed = bed.sent_one();
        let answer = relayed.answer(200, &filler);
        stored += message.len() + answer.len();
        bed.receive(BOB, &answer);
        assert_eq!(bed.sent_one().status(), 200);
    }
    assert!(stored / transactions >= 1_000, "two messages of 0.55 KB");
    let worker = &bed.workers[0];
    assert_eq!(worker.held().0, 2 * transactions);
    let cost = worker.footprint() / transactions;
    println!("{transactions} proxied transactions: {cost} bytes each");
    assert!(cost <= COST_MAX, "{cost} bytes");
    // Timer K ends a client's transaction after 5 s, Timer J a server's after 32 s.
    bed.wait(Duration::from_millis(4_990));
    assert_eq!(bed.workers[0].held().0, 2 * transactions);
    bed.wait(Duration::from_millis(20));
    assert_eq!(bed.workers[0].held().0, transactions);
    bed.wait(Duration::from_millis(26_980));
    assert_eq!(bed.workers[0].held().0, transactions);
    bed.wait(Duration::from_millis(20));
    bed.assert_empty();
    bed.sent_none();
    assert_eq!(bed.count(Counter::RefusedTransactions), 0);
}
