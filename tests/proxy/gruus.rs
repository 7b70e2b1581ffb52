//! GRUUs (RFC 5627): what the 200 gives, and whom a request to one reaches.

use super::bed::*;

const DESK: &str = "<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";
const SOFT: &str = "<urn:uuid:00000000-0000-1000-8000-000000000002>";
const SOFT_AT: &str = "203.0.113.10:5080";

/// Bob's phone with this instance registers; gives the pub-gruu and the temp-gruu of that instance.
#[track_caller]
fn bind(bed: &mut Bed, instance: &str, at: &str, call_id: &str, cseq: u32) -> (String, String) {
    let text = register("bob", at, cseq, "Supported: gruu\n")
        .replace(
            &format!("<sip:bob@{at}>"),
            &format!("<sip:bob@{at}>;+sip.instance=\"{instance}\""),
        )
        .replace(&format!("reg-bob-{at}"), call_id);
    bed.receive(at, &text);
    let ok = bed.sent_one();
    assert_eq!(ok.status(), 200);
    let of = |name: &str| {
        let contacts = ok.headers("Contact");
        let own = contacts
            .iter()
            .find(|contact| contact.contains(instance))
            .expect("its contact");
        let start = own.find(name).expect(name) + name.len() + 2;
        own[start..].split('"').next().expect("a value").to_owned()
    };
    (of("pub-gruu"), of("temp-gruu"))
}

/// Who is reached by a request to a URI; or the status that it gets.
fn reached(bed: &mut Bed, uri: &str, branch: &str) -> String {
    let text = request("MESSAGE", uri, ALICE, branch, "").replace("call-1", branch);
    bed.receive(ALICE, &text);
    let sent = bed.sent_one();
    match sent.status() {
        0 => sent.to(),
        status => status.to_string(),
    }
}

#[test]
fn a_gruu_leads_to_one_instance_and_the_aor_to_all() {
    let mut bed = Bed::new();
    let (desk, desk_now) = bind(&mut bed, DESK, BOB, "c1", 1);
    let (soft, soft_now) = bind(&mut bed, SOFT, SOFT_AT, "c2", 1);
    assert_eq!(
        desk,
        "sip:bob@example.com;gr=urn:uuid:00000000-0000-1000-8000-000A95A0E128"
    );
    assert!(desk_now.starts_with("sip:tgruu.") && desk_now.ends_with("@example.com;gr"));
    assert!(!desk_now.contains("bob"), "it tells nothing: {desk_now}");
    assert_eq!(reached(&mut bed, &desk, "m1"), BOB);
    assert_eq!(reached(&mut bed, &soft, "m2"), SOFT_AT);
    assert_eq!(reached(&mut bed, &desk_now, "m3"), BOB);
    assert_eq!(reached(&mut bed, &soft_now, "m4"), SOFT_AT);
    bed.receive(ALICE, &invite());
    assert_eq!(bed.sent().len(), 3, "a 100 and two branches");
}

#[test]
fn a_temporary_gruu_lasts_as_long_as_its_registration() {
    let mut bed = Bed::new();
    let (public, first) = bind(&mut bed, DESK, BOB, "c1", 1);
    let (_, second) = bind(&mut bed, DESK, BOB, "c1", 2);
    assert_ne!(first, second, "a refresh gives a new one");
    assert_eq!(reached(&mut bed, &first, "m1"), BOB);
    assert_eq!(reached(&mut bed, &second, "m2"), BOB);
    bed.restart();
    assert_eq!(reached(&mut bed, &first, "m3"), BOB);
    // The phone starts anew: another Call-ID ends them; the public one stays.
    let (again, third) = bind(&mut bed, DESK, BOB, "c2", 1);
    assert_eq!(again, public);
    assert_eq!(reached(&mut bed, &first, "m4"), "404");
    assert_eq!(reached(&mut bed, &third, "m5"), BOB);
    assert_eq!(reached(&mut bed, &public, "m6"), BOB);
    // It leaves: neither leads anywhere.
    let leave = register("bob", BOB, 3, "Expires: 0\n").replace(&format!("reg-bob-{BOB}"), "c2");
    bed.receive(BOB, &leave);
    assert_eq!(bed.sent_one().status(), 200);
    assert_eq!(reached(&mut bed, &public, "m7"), "480");
    assert_eq!(reached(&mut bed, &third, "m8"), "480");
}

#[test]
fn what_is_no_gruu_of_ours_is_404_and_an_instance_that_is_not_here_480() {
    let mut bed = Bed::new();
    let (_, temporary) = bind(&mut bed, DESK, BOB, "c1", 1);
    let forged = temporary.replacen("tgruu.", "tgruu.0", 1);
    assert_eq!(reached(&mut bed, &forged, "m1"), "404");
    assert_eq!(reached(&mut bed, "sip:bob@example.com;gr", "m2"), "404");
    assert_eq!(
        reached(&mut bed, "sip:bob@example.com;gr=urn:uuid:none", "m3"),
        "480"
    );
    assert_eq!(
        reached(&mut bed, "sip:nobody@example.com;gr=urn:uuid:none", "m4"),
        "404"
    );
}

#[test]
fn who_does_not_know_of_gruus_gets_none_and_a_gruu_is_no_contact() {
    let mut bed = Bed::new();
    let plain = register("bob", BOB, 1, "").replace(
        &format!("<sip:bob@{BOB}>"),
        &format!("<sip:bob@{BOB}>;+sip.instance=\"{DESK}\""),
    );
    bed.receive(BOB, &plain);
    let ok = bed.sent_one();
    assert!(
        ok.status() == 200 && !ok.text.contains("gruu"),
        "{}",
        ok.text
    );
    let looped = register("carol", BOB, 1, "").replace(
        &format!("<sip:carol@{BOB}>"),
        "<sip:bob@example.com;gr=urn:uuid:1>",
    );
    bed.receive(BOB, &looped);
    assert_eq!(bed.sent_one().status(), 403);
}
