//! How often the server is asked: once a name, whatever the answer and however many ask.

use strowger::counters::Counter;
use strowger::limits::DNS_QUESTIONS_MAX;
use strowger::proxy::ResolverFull;
use strowger::time;

use super::asker::{Asker, settings};
use super::named::Named;

fn bed() -> (Named, Asker) {
    let named = Named::start();
    let asker = Asker::new(&settings(named.address()));
    (named, asker)
}

#[test]
fn a_name_that_is_not_there_is_asked_for_once() {
    let (named, mut asker) = bed();
    for _ in 0..20 {
        assert!(asker.ask("missing").list.is_empty());
    }
    for (name, kind) in [
        ("missing", "NAPTR"),
        ("_sip._udp.missing", "SRV"),
        ("_sip._tcp.missing", "SRV"),
        ("missing", "A"),
        ("missing", "AAAA"),
    ] {
        assert_eq!(named.queries(name, kind), 1, "{name} {kind}");
    }
    assert_eq!(asker.count(Counter::DnsAnswerEmpty), 20);
    assert_eq!(asker.count(Counter::DnsCacheHit), 19);
}

#[test]
fn many_who_ask_at_once_make_one_query() {
    let (named, mut asker) = bed();
    for _ in 0..500 {
        asker.post("both.example.net", None, None).expect("room");
    }
    let answers = asker.collect(500);
    assert!(answers.values().all(|list| list.len() == 2));
    assert_eq!(named.queries("both", "NAPTR"), 1);
    assert_eq!(named.queries("_sip._udp.both", "SRV"), 1);
    assert_eq!(named.queries("_sip._tcp.both", "SRV"), 1);
    assert_eq!(named.queries("one", "A"), 1);
    assert_eq!(asker.count(Counter::DnsQuestions), 500);
    assert_eq!(asker.count(Counter::DnsCacheMiss), 1);
    let (joined, hit) = (Counter::DnsCacheJoined, Counter::DnsCacheHit);
    assert_eq!(asker.count(joined) + asker.count(hit), 499);
}

#[test]
fn a_piece_that_two_names_share_is_asked_for_once() {
    let (named, mut asker) = bed();
    asker.ask("both");
    asker.ask("tcponly");
    asker.ask_with("one", Some(5_060), None);
    assert_eq!(named.queries("one", "A"), 1);
}

#[test]
fn an_answer_grows_old_with_its_ttl() {
    let (named, mut asker) = bed();
    let ask = |asker: &mut Asker| asker.ask_with("short", Some(5_060), None).list;
    assert_eq!(ask(&mut asker), ["UDP 192.0.2.30:5060"]);
    assert_eq!(ask(&mut asker).len(), 1);
    assert_eq!(named.queries("short", "A"), 1);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(ask(&mut asker).len(), 1);
    assert_eq!(named.queries("short", "A"), 2);
}

#[test]
fn a_thousand_names_at_once_are_all_found() {
    let named = Named::start();
    // Five thousand lookups, which on a busy machine take their time.
    let mut patient = settings(named.address());
    patient.timeout = time::Duration::from_secs(5);
    let mut asker = Asker::new(&patient);
    for number in 0..1_000 {
        let host = format!("host{number}.load.example.net");
        asker.post(&host, None, None).expect("room");
    }
    let answers = asker.collect(1_000);
    assert!(
        answers
            .values()
            .all(|list| list == &["UDP 192.0.2.20:5060"])
    );
    assert_eq!(asker.count(Counter::DnsAnswerFound), 1_000);
}

#[test]
fn a_desk_that_has_its_fill_of_questions_refuses_and_recovers() {
    let (named, mut asker) = bed();
    named.stop();
    for _ in 0..DNS_QUESTIONS_MAX {
        asker.post("one.example.net", None, None).expect("room");
    }
    assert_eq!(asker.post("one.example.net", None, None), Err(ResolverFull));
    assert_eq!(asker.count(Counter::DnsRefused), 1);
    named.go_on();
    asker.collect(DNS_QUESTIONS_MAX);
    assert_eq!(asker.ask("one").list, ["UDP 192.0.2.1:5060"]);
}
