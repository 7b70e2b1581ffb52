//! RFC 4475: every torture message gets the verdict of `torture/EXPECT.tsv`, as far as the parser gives it.

#[path = "fuzz/message.rs"]
mod message;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index as Place;
use strowger::sip::{
    self, EditError, Edits, Frame, HeaderName, Index, Message, Parsed, Reply, Span,
};

/// One line of `EXPECT.tsv`.
struct Case {
    name: String,
    verdicts: Vec<String>,
    bytes: Vec<u8>,
}

/// What the parser may say and the table leave to us: those that our strict profile refuses.
const REFUSED: [&str; 8] = [
    "badaspec", "baddn", "badinv01", "badvers", "escruri", "ltgtruri", "lwsstart", "trws",
];

fn cases() -> &'static [Case] {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(read_cases);
    &CASES
}

fn read_cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture");
    let table = fs::read_to_string(folder.join("EXPECT.tsv")).expect("the table is there");
    let mut cases = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let bytes = fs::read(folder.join(format!("{}.dat", fields[0])))
            .expect("every message of the table is there");
        let verdicts = fields[3].split('|').map(str::to_owned).collect();
        cases.push(Case {
            name: fields[0].to_owned(),
            verdicts,
            bytes,
        });
    }
    cases
}

fn case(name: &str) -> &'static Case {
    cases()
        .iter()
        .find(|case| case.name == name)
        .expect("a message of the table")
}

/// Runs `check` on a message that must be good.
fn good<T>(name: &str, check: impl FnOnce(Message<'_>) -> T) -> T {
    let case = case(name);
    let mut index = Index::new();
    match sip::parse(&case.bytes, &mut index) {
        Parsed::Good(message) => check(message),
        Parsed::Answerable(_, rejection) => panic!("{name}: {rejection:?}"),
        Parsed::NotSip(cause) => panic!("{name}: {cause:?}"),
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[test]
fn every_message_gets_its_verdict() {
    let mut index = Index::new();
    let mut wrong = Vec::new();
    let mut seen = BTreeMap::new();
    println!(
        "{:<12} {:<14} {:<10} cause",
        "message", "expected", "verdict"
    );
    for case in cases() {
        let (verdict, cause) = match sip::parse(&case.bytes, &mut index) {
            Parsed::Good(_) => ("process".to_owned(), String::new()),
            Parsed::Answerable(_, rejection) => (
                rejection.status().to_string(),
                rejection.reason().to_owned(),
            ),
            Parsed::NotSip(cause) => ("drop".to_owned(), format!("{cause:?}")),
        };
        println!(
            "{:<12} {:<14} {:<10} {cause}",
            case.name,
            case.verdicts.join("|"),
            verdict
        );
        // What a running proxy decides is a good message to the parser; so is a response that answers nothing of ours.
        let is_for_proxy = case
            .verdicts
            .iter()
            .any(|verdict| ["401", "404", "416", "420", "483"].contains(&verdict.as_str()));
        let is_stray = case.name == "bcast";
        let is_right =
            case.verdicts.contains(&verdict) || verdict == "process" && (is_for_proxy || is_stray);
        if !is_right {
            wrong.push(format!("{}: {verdict} ({cause})", case.name));
        }
        seen.insert(case.name.as_str(), verdict);
    }
    assert_eq!(seen.len(), 49);
    assert!(wrong.is_empty(), "{wrong:#?}");
    for name in REFUSED {
        assert_ne!(
            seen[name], "process",
            "{name} is refused by the strict profile"
        );
    }
}

#[test]
fn the_short_tortuous_invite_is_read_as_its_author_meant_it() {
    good("wsinv", |message| {
        assert_eq!(
            message.request_uri(),
            b"sip:vivekg@chair-dnrc.example.com;unknownparam"
        );
        assert_eq!(text(message.to_tag().expect("a tag")), "1918181833n");
        assert_eq!(text(message.from_tag().expect("a tag")), "98asjd8");
        assert_eq!(message.max_forwards(), Some(68));
        assert_eq!(
            (message.cseq().number, message.cseq().method),
            (9, &b"INVITE"[..])
        );
        assert_eq!(message.body().len(), 150);
        let vias: Vec<_> = message
            .values(HeaderName::Via)
            .map(|value| value.via().expect("a good Via"))
            .collect();
        let branches: Vec<_> = vias
            .iter()
            .map(|via| text(via.branch().expect("a branch")))
            .collect();
        assert_eq!(branches, ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]);
        let transports: Vec<_> = vias.iter().map(|via| text(via.transport())).collect();
        assert_eq!(transports, ["UDP", "TCP", "UDP"]);
        let contact = message
            .contacts()
            .next()
            .expect("one")
            .expect("a good Contact");
        assert_eq!(contact.address().expect("an address").q, Some(330));
        let route = message
            .values(HeaderName::Route)
            .next()
            .expect("one")
            .address()
            .expect("a good Route");
        assert!(route.uri().expect("a good URI").is_loose_router());
        assert_eq!(
            message
                .header(HeaderName::Subject)
                .map(|subject| subject.value),
            Some(&b""[..])
        );
    });
}

#[test]
fn octets_past_the_body_belong_to_nobody() {
    good("dblreq", |message| {
        assert_eq!(message.end(), 300);
        assert_eq!(message.body(), b"");
        assert_eq!(message.headers(HeaderName::CSeq).count(), 1);
    });
}

#[test]
fn an_escaped_method_is_literal() {
    good("esc02", |message| {
        assert_eq!(message.method(), sip::Method::Other);
        assert_eq!(message.method_bytes(), b"RE%47IST%45R");
        assert_eq!(message.contacts().count(), 2, "C%6Fntact is no Contact");
    });
}

#[test]
fn contacts_with_an_escaped_nul_stay_two() {
    good("escnull", |message| {
        let mut users = Vec::new();
        for contact in message.contacts() {
            let contact = contact.expect("a good Contact");
            let uri = contact
                .address()
                .expect("an address")
                .address
                .uri()
                .expect("a good URI");
            let mut out = [0; 64];
            let user = uri.user.expect("a user");
            users.push(
                sip::uri::canonical_aor(user, &uri.host, false, &mut out)
                    .expect("it fits")
                    .to_vec(),
            );
        }
        assert_eq!(users, [b"\0".to_vec(), b"\0\0".to_vec()]);
    });
}

#[test]
fn a_good_message_without_edits_is_forwarded_as_it_came() {
    let mut index = Index::new();
    for case in cases() {
        if let Parsed::Good(message) = sip::parse(&case.bytes, &mut index) {
            let edits = Edits::new();
            let mut out = vec![0; edits.len(message.end())];
            assert_eq!(edits.write(message.bytes(), &mut out), Ok(message.end()));
            assert_eq!(out, case.bytes[..message.end()], "{}", case.name);
        }
    }
}

#[test]
fn every_refusal_is_itself_a_message_without_fault_of_ours() {
    let source: SocketAddr = "198.51.100.9:7777".parse().expect("an address");
    let (mut index, mut reply_index) = (Index::new(), Index::new());
    for case in cases() {
        let Parsed::Answerable(message, rejection) = sip::parse(&case.bytes, &mut index) else {
            continue;
        };
        let reply = Reply::new(&message, rejection.status(), rejection.reason())
            .to_tag(b"t1")
            .received(source);
        let mut out = vec![0; reply.len()];
        assert_eq!(reply.write(&mut out), Some(out.len()), "{}", case.name);
        let head = text(&out);
        assert!(
            head.starts_with(&format!("SIP/2.0 {}", rejection.status())),
            "{head}"
        );
        assert!(
            head.contains(";received=198.51.100.9"),
            "{}: {head}",
            case.name
        );
        assert!(head.ends_with(r"\r\nContent-Length: 0\r\n\r\n"), "{head}");
        // No bare CR or LF of the request's divides the response: it has as many lines as it has fields.
        let bare = out.iter().enumerate().any(|(at, &byte)| {
            byte == b'\n' && out[at - 1] != b'\r' || byte == b'\r' && out[at + 1] != b'\n'
        });
        assert!(!bare, "{}: {head}", case.name);
        let _ = sip::parse(&out, &mut reply_index);
    }
}

#[test]
fn over_a_stream_an_unknown_end_closes_the_connection() {
    let mut index = Index::new();
    let mut framed = |name: &str| sip::frame(&case(name).bytes, &mut index);
    assert_eq!(framed("wsinv"), Frame::Message(case("wsinv").bytes.len()));
    assert_eq!(framed("dblreq"), Frame::Message(300));
    let second = &case("dblreq").bytes[300..];
    assert!(
        matches!(sip::frame(second, &mut Index::new()), Frame::Message(_)),
        "over TCP the second is a message"
    );
    assert_eq!(framed("clerr"), Frame::Partial);
    assert!(matches!(framed("mcl01"), Frame::Unframed(_)));
    assert!(matches!(framed("ncl"), Frame::Unframed(_)));
    assert!(
        matches!(framed("inv2543"), Frame::Unframed(_)),
        "no Content-Length"
    );
}

/// A change to a message: where, how much goes, and what comes.
type Mutation = (Place, usize, Vec<u8>);

fn mutation() -> impl Strategy<Value = Mutation> {
    let delimiters = prop::sample::select(vec![
        "\r\n",
        "\r",
        "\n",
        "\r\n ",
        "\r\n\r\n",
        ",",
        ";",
        ":",
        "\"",
        "\\",
        "<",
        ">",
        " ",
        "=",
        "@",
        "%",
        "?",
        "\0",
        "[",
        "]",
        "\r\nVia: SIP/2.0/UDP h\r\n",
        "\r\nl: 0\r\n",
        ";branch=z9hG4bK",
        ";tag=",
        "SIP/2.0",
        "18446744073709551616",
    ]);
    let text = prop_oneof![
        delimiters.prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    (any::<Place>(), 0_usize..12, text)
}

fn mutate(bytes: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for (place, gone, text) in mutations {
        let start = place.index(out.len() + 1);
        let end = (start + gone).min(out.len());
        out.splice(start..end, text.iter().copied());
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        message::run(&bytes);
    }

    #[test]
    fn no_mutated_message_breaks_a_promise(which in any::<Place>(), mutations in prop::collection::vec(mutation(), 1..6)) {
        let cases = cases();
        message::run(&mutate(&cases[which.index(cases.len())].bytes, &mutations));
    }

    #[test]
    fn edits_change_what_they_say_and_nothing_else(
        source in prop::collection::vec(any::<u8>(), 0..300),
        wanted in prop::collection::vec((any::<Place>(), 0_usize..40, prop::collection::vec(any::<u8>(), 0..20)), 0..30),
    ) {
        let mut edits = Edits::new();
        // The plain way: what is put before each byte, and which bytes go.
        let mut put = vec![Vec::new(); source.len() + 1];
        let mut taken: Vec<(usize, usize)> = Vec::new();
        for (place, len, text) in wanted {
            let start = place.index(source.len() + 1);
            let end = (start + len).min(source.len());
            let overlaps = taken.iter().any(|&(from, to)| from < end && start < to);
            let expected = if overlaps { Err(EditError::Overlap) } else { Ok(()) };
            prop_assert_eq!(edits.replace(Span::new(start, end), &text), expected);
            if !overlaps {
                put[start].extend_from_slice(&text);
                taken.push((start, end));
            }
        }
        let mut expected = Vec::new();
        for (at, text) in put.iter().enumerate() {
            expected.extend_from_slice(text);
            let is_gone = taken.iter().any(|&(start, end)| start <= at && at < end);
            expected.extend(source.get(at).filter(|_| !is_gone));
        }
        let mut out = vec![0; edits.len(source.len())];
        prop_assert_eq!(edits.write(&source, &mut out), Ok(expected.len()));
        prop_assert_eq!(out, expected);
    }
}
