//! Contacts behind a NAT are kept alive where their calls would go, and those that fall silent are removed by policy.

use super::bed::*;
use strowger::counters::Counter;
use strowger::proxy::{Keepalive, KeepaliveSettings, Notice};
use strowger::time::Duration;

const CYCLE: Duration = Duration::from_secs(30);
/// Where Bob's NAT lets packets in.
const MAPPED: &str = "203.0.113.77:41000";
/// What Bob's phone takes for its address.
const PRIVATE: &str = "10.0.0.9:5060";

fn bed(keepalive: Keepalive, change: impl FnOnce(&mut KeepaliveSettings)) -> Bed {
    let mut settings = KeepaliveSettings {
        keepalive,
        cycle: CYCLE,
        nat_only: true,
        silent_max: 0,
    };
    change(&mut settings);
    Bed::with_settings(1, |own| own.keepalive = Some(settings))
}

fn options_bed() -> Bed {
    bed(Keepalive::Options, |settings| settings.silent_max = 3)
}

fn call_bob(bed: &mut Bed, n: u32) -> Vec<Sent> {
    let text = request(
        "INVITE",
        "sip:bob@example.com",
        ALICE,
        &format!("inv{n}"),
        "",
    );
    bed.receive(ALICE, &text.replace("call-1", &format!("call-{n}")));
    let mut sent = bed.sent();
    sent.retain(|sent| sent.status() != 100);
    sent
}

#[test]
fn an_options_goes_to_the_mapped_address_once_a_cycle_and_any_final_answer_counts() {
    let mut bed = options_bed();
    bed.register_from("bob", PRIVATE, MAPPED);
    bed.register("carol", "203.0.113.8:5060");
    for status in [200, 404, 486, 503, 603] {
        bed.wait(CYCLE);
        let options = bed.sent_one();
        assert_eq!(
            options.start_line(),
            format!("OPTIONS sip:bob@{PRIVATE} SIP/2.0")
        );
        assert_eq!((options.to(), options.flow.listener.0), (MAPPED.into(), 0));
        assert_eq!(options.header("Max-Forwards"), Some("70"));
        assert_eq!(options.header("CSeq"), Some("1 OPTIONS"));
        let to = format!("<sip:bob@{PRIVATE}>");
        assert_eq!(options.header("To"), Some(&*to));
        let from = options.header("From").expect("a From");
        assert!(from.starts_with(&format!("<sip:{PROXY}>;tag=")), "{from}");
        bed.receive(MAPPED, &options.answer(100, ""));
        bed.receive(MAPPED, &options.answer(status, ""));
        bed.sent_none();
    }
    assert_eq!(bed.count(Counter::KeepalivesSentOptions), 5);
    assert_eq!(bed.count(Counter::KeepalivesAnswered), 5);
    assert_eq!(bed.count(Counter::DropStrayResponse), 0);
    bed.assert_empty();
}

#[test]
fn each_options_is_a_transaction_of_its_own() {
    let mut bed = options_bed();
    bed.register_from("bob", PRIVATE, MAPPED);
    bed.wait(CYCLE);
    let first = bed.sent_one();
    bed.wait(CYCLE);
    let second = bed.sent_one();
    for name in ["Via", "Call-ID", "From"] {
        assert_ne!(first.header(name), second.header(name), "{name}");
    }
}

#[test]
fn a_contact_that_answers_no_more_is_removed_and_calls_to_it_get_480() {
    let mut bed = options_bed();
    bed.register_from("bob", PRIVATE, MAPPED);
    for _ in 0..3 {
        bed.wait(CYCLE);
        bed.sent_one();
    }
    assert_eq!(call_bob(&mut bed, 1)[0].to(), MAPPED, "it is still called");
    bed.wait(CYCLE);
    assert!(
        bed.sent()
            .iter()
            .all(|sent| !sent.text.starts_with("OPTIONS")),
        "no fourth"
    );
    assert_eq!(bed.count(Counter::ContactsRemovedSilent), 1);
    assert_eq!(bed.location.bindings(), 0);
    let sent = call_bob(&mut bed, 2);
    assert_eq!(sent[0].status(), 480);
}

#[test]
fn an_answer_or_a_refresh_begins_the_count_anew() {
    for answers in [true, false] {
        let mut bed = options_bed();
        bed.register_from("bob", PRIVATE, MAPPED);
        for n in 2..12 {
            bed.wait(CYCLE);
            let options = bed.sent_one();
            if n % 3 == 0 && answers {
                bed.receive(MAPPED, &options.answer(200, ""));
            } else if n % 3 == 0 {
                bed.receive(MAPPED, &register("bob", PRIVATE, n, ""));
                assert_eq!(bed.sent_one().status(), 200);
            }
        }
        assert_eq!(bed.location.bindings(), 1);
        assert_eq!(bed.count(Counter::ContactsRemovedSilent), 0);
    }
}

#[test]
fn without_a_policy_nobody_is_removed() {
    let mut bed = bed(Keepalive::Options, |_| {});
    bed.register_from("bob", PRIVATE, MAPPED);
    for _ in 0..40 {
        bed.wait(CYCLE);
        bed.sent_one();
    }
    assert_eq!(bed.location.bindings(), 1);
}

#[test]
fn a_forged_or_late_or_foreign_answer_does_nothing() {
    let mut bed = options_bed();
    bed.register_from("bob", PRIVATE, MAPPED);
    bed.wait(CYCLE);
    let options = bed.sent_one();
    let answer = options.answer(200, "");
    let via = options.header("Via").expect("a Via");
    let (branch, letter) = (via.rsplit_once('=').expect("a branch").1, via.len() - 1);
    let last = if via.as_bytes()[letter] == b'0' {
        "1"
    } else {
        "0"
    };
    let forged = format!("{}{last}", &branch[..branch.len() - 1]);
    bed.receive("198.51.100.66:5060", &answer.replace(branch, &forged));
    assert_eq!(bed.count(Counter::DropForgedBranch), 1);
    bed.receive(MAPPED, &answer.replace("1 OPTIONS", "1 INVITE"));
    bed.wait(Duration::from_secs(33));
    bed.receive(MAPPED, &answer);
    assert_eq!(bed.count(Counter::DropStrayResponse), 2);
    assert_eq!(bed.count(Counter::KeepalivesAnswered), 0);
    // None of them has kept it alive.
    for _ in 0..3 {
        bed.wait(CYCLE);
    }
    assert_eq!(bed.location.bindings(), 0);
    bed.sent();
    bed.receive(MAPPED, &answer);
    bed.sent_none();
}

#[test]
fn what_comes_back_undelivered_counts_as_silence() {
    let mut bed = options_bed();
    bed.register_from("bob", PRIVATE, MAPPED);
    for _ in 0..3 {
        bed.wait(CYCLE);
        let options = bed.sent_one();
        bed.undelivered(&options);
    }
    bed.kill(MAPPED);
    bed.wait(CYCLE);
    assert_eq!(bed.location.bindings(), 0);
    bed.sent_none();
    bed.assert_empty();
}

#[test]
fn a_crlf_goes_to_the_mapped_address_and_a_pong_is_tolerated() {
    let mut bed = bed(Keepalive::Crlf, |_| {});
    bed.register_from("bob", PRIVATE, MAPPED);
    for _ in 0..5 {
        bed.wait(CYCLE);
        let ping = bed.sent_one();
        assert_eq!((&*ping.text, ping.to()), ("\r\n\r\n", MAPPED.into()));
        bed.receive(MAPPED, "\n");
        bed.sent_none();
    }
    assert_eq!(bed.count(Counter::KeepalivesSentCrlf), 5);
    assert_eq!(bed.count(Counter::KeepalivePongs), 5);
    assert_eq!(bed.location.bindings(), 1);
}

#[test]
fn a_phone_on_a_connection_is_kept_alive_on_it_and_no_other_is_opened() {
    for keepalive in [Keepalive::Options, Keepalive::Crlf] {
        let mut bed = bed(keepalive, |settings| {
            settings.silent_max = if keepalive == Keepalive::Options {
                2
            } else {
                0
            };
        });
        let text = register("bob", PRIVATE, 1, "").replace("/UDP", "/TCP");
        bed.receive_by_tcp(MAPPED, &text);
        assert_eq!(bed.sent_one().status(), 200);
        bed.wait(CYCLE);
        bed.sent_none();
        assert_eq!(bed.count(Counter::KeepalivesNotConnected), 1);
        bed.connect(MAPPED);
        bed.wait(CYCLE);
        let sent = bed.sent_one();
        assert!(sent.flow.transport.is_reliable());
        assert_eq!(sent.to(), MAPPED);
        if keepalive == Keepalive::Options {
            assert!(
                sent.header("Via")
                    .expect("a Via")
                    .starts_with("SIP/2.0/TCP ")
            );
            bed.wait(CYCLE);
            assert_eq!(bed.location.bindings(), 0, "no connection, and silence");
        }
    }
}

#[test]
fn all_contacts_are_kept_alive_where_calls_to_them_go() {
    let mut bed = bed(Keepalive::Options, |settings| settings.nat_only = false);
    // It registers from one port and listens on another.
    bed.register_from("carol", "203.0.113.8:5060", "203.0.113.8:40000");
    // Another AoR of ours, and a name: neither is a phone that we can ask.
    let forwarded = register("dave", "203.0.113.10:5060", 1, "");
    for (n, contact) in ["<sip:bob@example.com>", "<sip:bob@192.0.2.1>"]
        .iter()
        .enumerate()
    {
        let text = forwarded
            .replace("<sip:dave@203.0.113.10:5060>", contact)
            .replace("CSeq: 1", &format!("CSeq: {}", n + 1));
        bed.receive("203.0.113.10:5060", &text);
        assert_eq!(bed.sent_one().status(), 200);
    }
    bed.wait(CYCLE);
    assert!(
        bed.sent().iter().all(|sent| sent.to() != PROXY),
        "nothing to ourselves"
    );
    bed.wait(CYCLE);
    let sent = bed.sent();
    assert!(
        sent.iter().any(|sent| sent.to() == "203.0.113.8:5060"),
        "{sent:#?}"
    );
}

#[test]
fn what_another_proxy_registered_is_left_to_it() {
    let mut bed = bed(Keepalive::Options, |settings| settings.nat_only = false);
    let path = "Supported: path\nPath: <sip:203.0.113.40;lr>\n";
    bed.receive("203.0.113.40:5060", &register("bob", PRIVATE, 1, path));
    assert_eq!(bed.sent_one().status(), 200);
    bed.wait(CYCLE);
    bed.sent_none();
}

#[test]
fn a_restart_resumes_and_draining_ends_it() {
    let mut bed = options_bed();
    bed.register_from("bob", PRIVATE, MAPPED);
    bed.wait(CYCLE);
    let before = bed.sent_one();
    bed.restart();
    bed.receive(MAPPED, &before.answer(200, ""));
    assert_eq!(
        bed.count(Counter::DropStrayResponse),
        1,
        "of a former start"
    );
    bed.wait(CYCLE);
    bed.sent_one();
    bed.notice(Notice::Drain);
    bed.wait(CYCLE);
    bed.wait(CYCLE);
    bed.sent_none();
}

#[test]
fn any_worker_takes_the_answer() {
    let mut bed = Bed::with_settings(4, |own| {
        own.keepalive = Some(KeepaliveSettings {
            keepalive: Keepalive::Options,
            cycle: CYCLE,
            nat_only: true,
            silent_max: 1,
        });
    });
    bed.register_from("bob", PRIVATE, MAPPED);
    for worker in 0..4 {
        bed.wait(CYCLE);
        let options = bed.sent_one();
        bed.receive_at(worker, 0, MAPPED, &options.answer(200, ""));
    }
    assert_eq!(bed.count(Counter::KeepalivesAnswered), 4);
    assert_eq!(bed.count(Counter::HandedOff), 0);
    assert_eq!(bed.location.bindings(), 1);
}
