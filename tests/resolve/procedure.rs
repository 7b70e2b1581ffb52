//! From a name to destinations: RFC 3263 4.1 and 4.2, RFC 2782, RFC 7984.

use std::collections::BTreeMap;

use strowger::datagram::Transport;

use super::asker::{Asker, settings};
use super::named::Named;

fn bed() -> (Named, Asker) {
    let named = Named::start();
    let asker = Asker::new(&settings(named.address()));
    (named, asker)
}

#[test]
fn naptr_order_decides_the_transport_and_tls_is_left_out() {
    let (named, mut asker) = bed();
    assert_eq!(asker.ask("rules").list, ["TCP 192.0.2.1:5070"]);
    // The higher order is not even looked at (RFC 3403 4.1), nor is the host's own address.
    assert_eq!(named.queries("_sip._udp.rules", "SRV"), 0);
    assert_eq!(named.queries("rules", "A"), 0);
}

#[test]
fn naptr_preferences_of_one_order_all_count() {
    let (_named, mut asker) = bed();
    let expected = ["TCP 192.0.2.1:5070", "UDP 192.0.2.2:5080"];
    assert_eq!(asker.ask("prefer").list, expected);
}

#[test]
fn a_naptr_rule_that_leads_nowhere_gives_way_to_the_next_order_and_flag_a_names_a_host() {
    let (_named, mut asker) = bed();
    assert_eq!(asker.ask("detour").list, ["UDP 192.0.2.2:5060"]);
}

#[test]
fn naptr_records_that_do_not_concern_us_are_as_none() {
    let (_named, mut asker) = bed();
    assert_eq!(asker.ask("others").list, ["UDP 192.0.2.1:5081"]);
}

#[test]
fn without_naptr_each_transport_that_we_speak_is_asked_for() {
    let (named, mut asker) = bed();
    let expected = ["UDP 192.0.2.1:5080", "TCP 192.0.2.2:5070"];
    assert_eq!(asker.ask("both").list, expected);
    assert_eq!(asker.ask("tcponly").list, ["TCP 192.0.2.1:5070"]);
    let mut only_udp = settings(named.address());
    only_udp.transports = vec![Transport::Udp];
    assert_eq!(
        Asker::new(&only_udp).ask("both").list,
        ["UDP 192.0.2.1:5080"]
    );
}

#[test]
fn with_a_transport_there_is_no_naptr() {
    let (named, mut asker) = bed();
    let told = asker.ask_with("rules", None, Some(Transport::Udp));
    assert_eq!(told.list, ["UDP 192.0.2.2:5080"]);
    assert_eq!(named.queries("rules", "NAPTR"), 0);
    // No SRV for it: the host itself.
    let told = asker.ask_with("two", None, Some(Transport::Tcp));
    assert_eq!(told.list, ["TCP 192.0.2.2:5060"]);
}

#[test]
fn with_a_port_there_is_neither_naptr_nor_srv() {
    let (named, mut asker) = bed();
    let told = asker.ask_with("rules", Some(5_099), None);
    assert_eq!(told.list, ["UDP 192.0.2.99:5099"]);
    let told = asker.ask_with("both", Some(5_098), Some(Transport::Tcp));
    assert_eq!(told.list, ["TCP 192.0.2.99:5098"]);
    assert_eq!(
        named.queries("rules", "NAPTR") + named.queries("_sip._udp.rules", "SRV"),
        0
    );
}

#[test]
fn without_naptr_and_srv_it_is_the_host_by_udp() {
    let (_named, mut asker) = bed();
    assert_eq!(asker.ask("two").list, ["UDP 192.0.2.2:5060"]);
    assert!(asker.ask("missing").list.is_empty());
}

#[test]
fn weights_share_the_calls_out_and_priority_goes_first() {
    let (named, mut asker) = bed();
    let draw = |asker: &mut Asker| {
        let asked = 1_000;
        for _ in 0..asked {
            asker.post("weights.example.net", None, None).expect("room");
        }
        asker.collect(asked)
    };
    let mut firsts: BTreeMap<String, u32> = BTreeMap::new();
    let answers = draw(&mut asker);
    for list in answers.values() {
        assert_eq!(list.len(), 3);
        assert_eq!(
            list[2], "UDP 192.0.2.3:5060",
            "priority 20 is the last resort"
        );
        *firsts.entry(list[0].clone()).or_default() += 1;
    }
    let share = firsts["UDP 192.0.2.1:5060"];
    assert!((640..760).contains(&share), "70 of 100: {firsts:?}");
    // The same seed, the same lots.
    let again = draw(&mut Asker::new(&settings(named.address())));
    assert_eq!(again, answers);
}

#[test]
fn the_root_as_target_says_that_there_is_no_such_service() {
    let (named, mut asker) = bed();
    assert!(asker.ask("closed").list.is_empty());
    assert_eq!(
        named.queries("closed", "A"),
        0,
        "the host itself is not tried"
    );
    assert_eq!(asker.ask("halfclosed").list, ["TCP 192.0.2.1:5070"]);
    let told = asker.ask_with("closed", None, Some(Transport::Udp));
    assert!(told.list.is_empty());
}

#[test]
fn a_host_of_both_families_is_tried_by_both_ipv6_first() {
    let (named, mut asker) = bed();
    let expected = ["UDP [2001:db8::4]:5060", "UDP 192.0.2.4:5060"];
    assert_eq!(asker.ask("dual").list, expected);
    assert_eq!(asker.ask("six").list, ["UDP [2001:db8::6]:5060"]);
    let expected = [
        "UDP [2001:db8::4]:5064",
        "UDP 192.0.2.4:5064",
        "UDP 192.0.2.2:5065",
    ];
    assert_eq!(asker.ask("mixed").list, expected);
    assert_eq!(named.queries("dual", "A"), 1);
    assert_eq!(named.queries("dual", "AAAA"), 1);
}

#[test]
fn a_family_that_we_do_not_speak_is_not_asked_for() {
    let named = Named::start();
    let mut only_four = settings(named.address());
    only_four.sources.truncate(1);
    let mut asker = Asker::new(&only_four);
    assert_eq!(asker.ask("dual").list, ["UDP 192.0.2.4:5060"]);
    assert!(asker.ask("six").list.is_empty());
    assert_eq!(
        named.queries("dual", "AAAA") + named.queries("six", "AAAA"),
        0
    );
}

#[test]
fn aliases_are_followed_and_a_target_without_address_is_passed_over() {
    let (_named, mut asker) = bed();
    let expected = [
        "UDP [2001:db8::4]:5061",
        "UDP 192.0.2.4:5061",
        "UDP 192.0.2.2:5063",
    ];
    assert_eq!(asker.ask("targets").list, expected);
    for name in ["cname", "cname2", "cname3"] {
        assert_eq!(asker.ask(name).list, ["UDP 192.0.2.1:5080"], "{name}");
    }
    assert!(asker.ask("circle").list.is_empty());
}

#[test]
fn a_destination_is_given_once() {
    let (_named, mut asker) = bed();
    assert_eq!(asker.ask("same").list, ["UDP 192.0.2.1:5060"]);
}

#[test]
fn the_addresses_of_a_host_take_turns_at_the_first_place() {
    let (_named, mut asker) = bed();
    let mut firsts: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..300 {
        let list = asker.ask("many").list;
        assert_eq!(list.len(), 3);
        *firsts.entry(list[0].clone()).or_default() += 1;
    }
    assert!(
        firsts.values().all(|count| (60..140).contains(count)),
        "{firsts:?}"
    );
}

#[test]
fn a_set_that_no_datagram_holds_comes_by_tcp_and_is_cut_to_the_answer() {
    let (named, mut asker) = bed();
    let expected: Vec<String> = (1..=16).map(|n| format!("UDP 192.0.2.{n}:{n}")).collect();
    assert_eq!(asker.ask("long").list, expected);
    assert!(named.queries_below("_sip._udp.long", true) > 0);
}

#[test]
fn what_is_no_name_leads_nowhere_at_once() {
    let (_named, mut asker) = bed();
    for host in [
        "",
        ".",
        "a..example.net",
        "[2001:db8::1]",
        "a b.example.net",
        &"a".repeat(300),
    ] {
        let id = asker.post(host, None, None).expect("room");
        assert!(asker.collect(1)[&id].is_empty(), "{host}");
    }
}

#[test]
fn a_name_of_the_hosts_file_is_what_stands_there() {
    let (_named, mut asker) = bed();
    let id = asker.post("localhost", None, None).expect("room");
    let list = asker.collect(1).remove(&id).expect("an answer");
    assert!(list.contains(&"UDP 127.0.0.1:5060".to_owned()), "{list:?}");
}
