//! The contacts of an AoR: by what they are known again, how many there may be, for how long, and what becomes of a contact as a Request-URI.

use super::bed::*;
use std::collections::BTreeSet;
use strowger::counters::Counter;
use strowger::location::Matching;
use strowger::time::Duration;

/// A REGISTER of Bob's with this Contact value.
fn contact(value: &str, call_id: &str, cseq: u32, extra: &str) -> String {
    register("bob", BOB, cseq, extra)
        .replace(&format!("<sip:bob@{BOB}>"), value)
        .replace(&format!("reg-bob-{BOB}"), call_id)
}

/// Sends it; gives the contacts that the 200 lists, without parameters.
#[track_caller]
fn bound(bed: &mut Bed, text: &str) -> Vec<String> {
    bed.receive(BOB, text);
    let ok = bed.sent_one();
    assert_eq!(ok.status(), 200, "{}", ok.text);
    let uri = |contact: &&str| contact.split('>').next().map(|uri| uri[1..].to_owned());
    ok.headers("Contact").iter().filter_map(uri).collect()
}

#[test]
fn by_uri_equal_contacts_are_one() {
    let mut bed = Bed::new();
    let first = "<sip:bob@h.example:5060;transport=udp;x=1>";
    assert_eq!(bound(&mut bed, &contact(first, "c1", 1, "")).len(), 1);
    // RFC 3261 19.1.4: case of the host, escapes, parameters that one has and the other has not.
    let alike = "<sip:%62ob@H.EXAMPLE:5060;Transport=UDP>";
    assert_eq!(
        bound(&mut bed, &contact(alike, "c2", 1, "")),
        ["sip:%62ob@H.EXAMPLE:5060;Transport=UDP"]
    );
    for (cseq, other) in [
        "<sip:bob@h.example;transport=udp>",
        "<sip:bob@h.example:5060>",
        "<sip:Bob@h.example:5060;transport=udp>",
        "<sip:bob@h.example:5060;transport=udp;gr=1>",
    ]
    .iter()
    .zip(2..)
    .map(|(other, cseq)| (cseq, other))
    {
        assert_eq!(
            bound(&mut bed, &contact(other, "c2", cseq, "")).len(),
            cseq as usize
        );
    }
}

#[test]
fn by_call_id_a_phone_that_has_moved_keeps_one_binding() {
    let mut bed = Bed::with_registrar(|_, rules| rules.matching = Matching::CallId);
    bound(&mut bed, &contact("<sip:bob@192.0.2.71>", "c1", 1, ""));
    let moved = bound(&mut bed, &contact("<sip:bob@192.0.2.72>", "c1", 2, ""));
    assert_eq!(moved, ["sip:bob@192.0.2.72"]);
    let both = bound(&mut bed, &contact("<sip:bob@192.0.2.72>", "c2", 1, ""));
    assert_eq!(both.len(), 2, "another Call-ID is another phone");
    assert_eq!(bed.location.bindings(), 2);
}

#[test]
fn by_uri_and_call_id_two_phones_may_say_the_same() {
    let mut bed = Bed::with_registrar(|_, rules| rules.matching = Matching::UriAndCallId);
    bound(&mut bed, &contact("<sip:bob@10.0.0.1>", "c1", 1, ""));
    assert_eq!(
        bound(&mut bed, &contact("<sip:bob@10.0.0.1>", "c2", 1, "")).len(),
        2
    );
    assert_eq!(
        bound(&mut bed, &contact("<sip:bob@10.0.0.1>", "c1", 2, "")).len(),
        2
    );
}

#[test]
fn by_instance_a_phone_that_starts_anew_keeps_one_binding() {
    let mut bed = Bed::with_registrar(|_, rules| rules.matching = Matching::Instance);
    let at = |port: u16| format!("<sip:bob@203.0.113.9:{port}>;+sip.instance=\"<urn:uuid:1>\"");
    bound(&mut bed, &contact(&at(6000), "c1", 1, ""));
    assert_eq!(
        bound(&mut bed, &contact(&at(6001), "c2", 1, "")),
        ["sip:bob@203.0.113.9:6001"]
    );
}

#[test]
fn one_contact_too_many_is_refused_as_configured_or_takes_the_oldest_ones_place() {
    let fill = |bed: &mut Bed| {
        for n in 0..10 {
            let value = format!("<sip:bob@192.0.2.{}>", 100 + n);
            bound(bed, &contact(&value, &format!("c{n}"), 1, ""));
            bed.wait(Duration::from_secs(1));
        }
    };
    let one_more = contact("<sip:bob@192.0.2.200>", "c99", 1, "");
    for (is_full_unavailable, status) in [(false, 403), (true, 503)] {
        let mut bed = Bed::with_registrar(|registrar, _| {
            registrar.is_full_unavailable = is_full_unavailable;
        });
        fill(&mut bed);
        bed.receive(BOB, &one_more);
        let refused = bed.sent_one();
        assert_eq!(refused.status(), status);
        assert_eq!(refused.header("Retry-After").is_some(), is_full_unavailable);
        assert_eq!(bed.count(Counter::RefusedContacts), 1);
    }
    let mut bed = Bed::with_registrar(|_, rules| rules.replaces_oldest = true);
    fill(&mut bed);
    // The first has been refreshed since: the second is the oldest.
    bound(&mut bed, &contact("<sip:bob@192.0.2.100>", "c0", 2, ""));
    let left = bound(&mut bed, &one_more);
    assert_eq!(left.len(), 10);
    assert!(left.contains(&"sip:bob@192.0.2.200".to_owned()));
    assert!(!left.contains(&"sip:bob@192.0.2.101".to_owned()));
    assert_eq!(bed.count(Counter::BindingsReplaced), 1);
    assert_eq!(bed.location.bindings(), 10);
    // A late duplicate of the one that went does not bring it back.
    bed.receive(BOB, &contact("<sip:bob@192.0.2.101>", "c1", 1, ""));
    assert_eq!(bed.sent_one().headers("Contact").len(), 10);
}

#[test]
fn expiries_spread_within_their_range_and_a_retransmission_gets_its_own() {
    let mut bed = Bed::with_registrar(|registrar, _| registrar.expires_spread_percent = 20);
    let granted = |bed: &mut Bed, call_id: &str, expires: u32| {
        let text = contact(
            "<sip:bob@192.0.2.71>",
            call_id,
            1,
            &format!("Expires: {expires}\n"),
        );
        bed.receive(BOB, &text);
        let ok = bed.sent_one();
        let contact = ok.header("Contact").expect("one").to_owned();
        let expires = contact.rsplit("expires=").next().expect("expires");
        expires.parse::<u32>().expect("a number")
    };
    let mut seen = BTreeSet::new();
    for n in 0..200 {
        let call_id = format!("s{n}");
        let given = granted(&mut bed, &call_id, 1_000);
        assert!((800..=1_000).contains(&given), "{given}");
        assert_eq!(granted(&mut bed, &call_id, 1_000), given);
        seen.insert(given);
    }
    assert!(seen.len() > 80, "{}", seen.len());
    // Never below the least that is taken, and what asks for that gets it.
    for n in 0..50 {
        assert!(granted(&mut bed, &format!("m{n}"), 70) >= 60);
        assert_eq!(granted(&mut bed, &format!("l{n}"), 60), 60);
    }
    assert_eq!(
        bound(
            &mut bed,
            &contact("<sip:bob@192.0.2.71>", "x", 1, "Expires: 0\n")
        )
        .len(),
        0
    );
}

#[test]
fn a_contacts_method_and_headers_are_no_part_of_a_request_uri() {
    let mut bed = Bed::new();
    let value = format!("<sip:bob@{BOB};a=1;method=INVITE;b=2?Subject=x&Route=%3Csip:evil%3E>");
    bound(&mut bed, &contact(&value, "c1", 1, ""));
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    assert_eq!(
        relayed.start_line(),
        format!("INVITE sip:bob@{BOB};a=1;b=2 SIP/2.0")
    );
}

#[test]
fn the_route_of_the_service_is_told_in_every_200_and_leads_through_us() {
    let mut bed = Bed::with_registrar(|registrar, _| {
        registrar.service_route = "<sip:192.0.2.1:5060;lr>, <sip:core.example.com;lr>".into();
    });
    bed.receive(BOB, &register("bob", BOB, 1, ""));
    let ok = bed.sent_one();
    assert_eq!(
        ok.header("Service-Route"),
        Some("<sip:192.0.2.1:5060;lr>, <sip:core.example.com;lr>")
    );
    bed.receive(BOB, &register("bob", BOB, 2, "Expires: 0\n"));
    assert!(bed.sent_one().header("Service-Route").is_some());
    bed.receive(BOB, &register("bob", BOB, 3, ""));
    assert_eq!(bed.sent_one().status(), 200);
    let routed = request(
        "INVITE",
        "sip:bob@example.com",
        ALICE,
        "inv1",
        &format!("Route: <sip:{PROXY};lr>\n"),
    );
    bed.receive(ALICE, &routed);
    let relayed = bed.sent_two().1;
    assert_eq!(relayed.to(), BOB);
    assert!(relayed.headers("Route").is_empty());
}

#[test]
fn a_path_is_the_route_to_its_phone() {
    let mut bed = Bed::new();
    let path = "<sip:e1@203.0.113.50;lr>, <sip:e2@203.0.113.51;lr>";
    let text = register("bob", BOB, 1, &format!("Supported: path\nPath: {path}\n"));
    bed.receive("203.0.113.50:5060", &text);
    let ok = bed.sent_one();
    assert_eq!(
        ok.header("Path"),
        Some("<sip:e1@203.0.113.50;lr>,<sip:e2@203.0.113.51;lr>")
    );
    bed.receive(ALICE, &invite());
    let relayed = bed.sent_two().1;
    assert_eq!(relayed.to(), "203.0.113.50:5060");
    assert_eq!(
        relayed.header("Route"),
        Some("<sip:e1@203.0.113.50;lr>,<sip:e2@203.0.113.51;lr>")
    );
    assert!(
        relayed
            .start_line()
            .starts_with(&format!("INVITE sip:bob@{BOB} "))
    );
}

#[test]
fn a_path_that_the_phone_does_not_know_of_is_refused_or_kept_as_configured() {
    let text = register("bob", BOB, 1, "Path: <sip:e1@203.0.113.50;lr>\n");
    let mut bed = Bed::new();
    bed.receive("203.0.113.50:5060", &text);
    let refused = bed.sent_one();
    assert_eq!(
        (refused.status(), refused.header("Unsupported")),
        (420, Some("path"))
    );
    assert_eq!(bed.location.bindings(), 0);
    let mut bed = Bed::with_registrar(|registrar, _| registrar.keeps_unasked_path = true);
    bed.receive("203.0.113.50:5060", &text);
    let ok = bed.sent_one();
    // RFC 3327 5.3: it is told to those alone who know of it.
    assert_eq!((ok.status(), ok.header("Path")), (200, None));
    bed.receive(ALICE, &invite());
    assert_eq!(bed.sent_two().1.to(), "203.0.113.50:5060");
}
