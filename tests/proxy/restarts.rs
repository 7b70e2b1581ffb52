//! Calls that were set up before a kill -9 are hung up after it, from either end.

use super::bed::*;
use super::calls::{route_lines, set_up};
use strowger::counters::Counter;

fn bye(uri: &str, via: &str, (from, to): (&str, &str), routes: &str) -> String {
    format!(
        "BYE {uri} SIP/2.0\nVia: SIP/2.0/UDP {via};branch=z9hG4bKbye\nMax-Forwards: 70\n\
         From: <sip:x@example.com>;tag={from}\nTo: <sip:y@example.com>;tag={to}\nCall-ID: call-1\n\
         CSeq: 5 BYE\n{routes}Content-Length: 0\n\n"
    )
}

#[test]
fn either_end_hangs_up_after_a_restart() {
    for from_caller in [true, false] {
        let mut bed = Bed::new();
        let (answered, relayed) = set_up(&mut bed);
        bed.restart();
        let (source, target, text) = if from_caller {
            let routes = route_lines(&answered.headers("Record-Route"), true);
            (
                ALICE,
                BOB,
                bye(
                    &format!("sip:bob@{BOB}"),
                    ALICE,
                    ("caller", "callee"),
                    &routes,
                ),
            )
        } else {
            let routes = route_lines(&relayed.headers("Record-Route"), false);
            (
                BOB,
                ALICE,
                bye(
                    &format!("sip:alice@{ALICE}"),
                    BOB,
                    ("callee", "caller"),
                    &routes,
                ),
            )
        };
        bed.receive(source, &text);
        let relayed = bed.sent_one();
        assert_eq!(relayed.to(), target);
        bed.receive(target, &relayed.answer(200, ""));
        assert_eq!(bed.sent_one().to(), source);
    }
}

#[test]
fn a_token_is_worth_nothing_in_another_call() {
    let mut bed = Bed::new();
    let (answered, _) = set_up(&mut bed);
    let routes = route_lines(&answered.headers("Record-Route"), true);
    let stolen =
        bye("sip:bob@198.18.0.9", ALICE, ("caller", "callee"), &routes).replace("call-1", "call-2");
    bed.receive(ALICE, &stolen);
    assert_eq!(bed.sent_one().status(), 403);
    assert_eq!(bed.count(Counter::RefusedToken), 1);
}
