//! Several workers: a call lives on one of them, wherever its packets arrive.

use super::bed::*;
use strowger::counters::Counter;

#[test]
fn every_packet_on_the_wrong_queue_still_finds_its_transaction() {
    for arrival in 0..3_usize {
        let mut bed = Bed::with_workers(3);
        bed.register("bob", BOB);
        bed.receive_at(arrival, 0, ALICE, &invite());
        let relayed = bed.sent_two().1;
        bed.receive_at((arrival + 1) % 3, 0, BOB, &relayed.answer(180, ""));
        assert_eq!(bed.sent_one().status(), 180);
        bed.receive_at(
            (arrival + 2) % 3,
            0,
            ALICE,
            &invite().replace("INVITE", "CANCEL"),
        );
        assert_eq!(bed.sent().len(), 2);
        bed.receive_at(arrival, 0, BOB, &relayed.answer(487, ""));
        assert_eq!(bed.sent().len(), 2);
        let created: Vec<u64> = bed
            .counters
            .iter()
            .map(|counters| counters.read(Counter::TransactionsCreatedServer))
            .collect();
        assert_eq!(
            created.iter().filter(|count| **count > 0).count(),
            1,
            "{created:?}"
        );
        assert!(bed.count(Counter::HandedOff) >= 2);
        bed.wait(T1_64 + T1_64);
        bed.assert_empty();
    }
}
