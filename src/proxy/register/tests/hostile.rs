//! What RFC 4475 asks of a registrar, and what mutated requests may not make of its answer.

use proptest::prelude::*;

use super::*;

const HEAD: &str = "Max-Forwards: 70\nVia: SIP/2.0/UDP host5.example.com;branch=z9hG4bKkdjuw\n";

fn torture(bed: &mut Bed, to: &str, cseq: u32, contact: &str) -> Got {
    bed.send(&format!(
        "REGISTER sip:example.com SIP/2.0\nTo: {to}\nFrom: {to};tag=839923423\n{HEAD}Call-ID: {cseq}@x\n\
         CSeq: {cseq} REGISTER\n{contact}L:0\n\n"
    ))
}

#[test]
fn rfc_4475_escaped_nuls_stay_distinct() {
    let mut bed = Bed::new();
    let contact = "Contact: <sip:%00@host5.example.com>\nContact: <sip:%00%00@host5.example.com>\n";
    let got = torture(
        &mut bed,
        "sip:null-%00-null@example.com",
        14_398_234,
        contact,
    );
    assert_eq!(contacts(&got).len(), 2);
    let mut targets = Targets::new();
    assert_eq!(
        bed.location
            .lookup(bed.now, b"null-\0-null", &mut targets)
            .0,
        Lookup::Found
    );
    assert_eq!(
        bed.location.lookup(bed.now, b"null--null", &mut targets).0,
        Lookup::Unknown
    );
}

#[test]
fn rfc_4475_a_parameter_belongs_to_the_contact_or_to_its_uri() {
    let mut bed = Bed::new();
    let contact = "Contact: sip:+19725552222@gw1.example.net;unknownparam\n";
    let got = torture(&mut bed, "sip:watson@example.com", 2, contact);
    assert_eq!(
        contacts(&got),
        ["<sip:+19725552222@gw1.example.net>;expires=3600"]
    );
    let contact = "Contact: <sip:+19725552222@gw1.example.net;unknownparam>\n";
    let got = torture(&mut bed, "sip:watson@example.com", 3, contact);
    // RFC 3261 19.1.4: a parameter that only one of them has does not tell them apart.
    assert_eq!(
        contacts(&got),
        ["<sip:+19725552222@gw1.example.net;unknownparam>;expires=3600"]
    );
}

#[test]
fn rfc_4475_an_escaped_route_stays_in_the_binding_and_needs_brackets() {
    let mut bed = Bed::new();
    let contact = "M: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>\n";
    let got = torture(&mut bed, "sip:user@example.com", 14_398_234, contact);
    assert_eq!(
        contacts(&got),
        ["<sip:user@example.com?Route=%3Csip:sip.example.com%3E>;expires=3600"]
    );
    let contact = "Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E\n";
    assert_eq!(torture(&mut bed, "sip:user@example.com", 1, contact).0, 400);
    let got = torture(
        &mut bed,
        "isbn:2983792873",
        234_902,
        "Contact: <name:John_Smith>\n",
    );
    assert_eq!(got.0, 400, "RFC 4475 3.3.4");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_is_sent_the_answer_has_only_lines_of_ours(
        changes in prop::collection::vec((any::<prop::sample::Index>(), mutation()), 0..6),
    ) {
        let mut text = request("sip:alice@example.com", "call-1", 7, &[
            "Require: path,\r\n path, gruu, outbound",
            "Path: <sip:p2.example.com;lr>,\r\n \"x\"\r\n <sip:p1.example.com;lr>",
            "Contact: \"A\" <sip:alice@198.51.100.7;ob>;q=0.5;+sip.instance=\"<u>\";reg-id=1, sip:b@h.com;expires=0",
            "Expires: 90",
        ]).replace("\r\n", "\n").replace('\n', "\r\n").into_bytes();
        for (place, mutation) in changes {
            mutation.apply(place.index(text.len()), &mut text);
        }
        let mut bed = Bed::new();
        let mut index = Index::new();
        if let Parsed::Good(message) = parse(&text, &mut index) {
            let answer = bed.registrar.register(START, &message, &bed.source, &mut bed.scratch);
            let lines = String::from_utf8_lossy(answer.headers).into_owned();
            prop_assert!(lines.is_empty() || lines.ends_with("\r\n"));
            for line in lines.split_terminator("\r\n") {
                let names = [
                    "Contact: <", "Path: ", "Min-Expires: ", "Unsupported: ", "Retry-After: ", "Date: ", "Supported: path, outbound, gruu",
                    "Require: outbound",
                ];
                prop_assert!(names.iter().any(|name| line.starts_with(name)), "{line:?}");
                prop_assert!(!line.contains(['\r', '\n']), "{line:?}");
            }
        }
    }
}

/// What may happen to a message at a place.
#[derive(Clone, Debug)]
enum Mutation {
    Set(u8),
    Cut(usize),
    Insert(&'static str),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let pieces = [
        "\r\n ",
        "\r",
        "\n",
        "\"",
        "<",
        ">",
        ",",
        ";",
        "*",
        "\r\nContact: *\r\n",
        "%00",
        "\0",
        "\r\nA: b",
    ];
    prop_oneof![
        any::<u8>().prop_map(Mutation::Set),
        (1..40_usize).prop_map(Mutation::Cut),
        prop::sample::select(pieces.to_vec()).prop_map(Mutation::Insert),
    ]
}

impl Mutation {
    fn apply(&self, at: usize, text: &mut Vec<u8>) {
        match self {
            Self::Set(byte) => text[at] = *byte,
            Self::Cut(len) if at + len < text.len() => drop(text.drain(at..at + len)),
            Self::Cut(_) => {}
            Self::Insert(piece) => drop(text.splice(at..at, piece.bytes())),
        }
    }
}
