//! `rsip` as the oracle: what it parses of a valid message, we parse alike; and what it parses of a torture message.

#[path = "fuzz/oracle.rs"]
mod reading;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use strowger::sip::{self, Host};

use reading::{ours, theirs};

fn user() -> impl Strategy<Value = String> {
    // No full stop: rsip reads no user with one.
    "[a-zA-Z0-9][a-zA-Z0-9_!~*'()&=+$,;?/-]{0,12}"
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9]{0,8}(\\.[a-z][a-z0-9-]{0,8}[a-z0-9]){0,3}",
        any::<[u8; 4]>().prop_map(|octets| std::net::Ipv4Addr::from(octets).to_string()),
    ]
}

fn uri() -> impl Strategy<Value = String> {
    let port = proptest::option::of(1_u16..);
    (user(), host(), port).prop_map(|(user, host, port)| {
        let port = port.map_or(String::new(), |port| format!(":{port}"));
        format!("sip:{user}@{host}{port}")
    })
}

fn method() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("INVITE"),
        Just("REGISTER"),
        Just("BYE"),
        Just("OPTIONS"),
        Just("MESSAGE"),
        Just("SUBSCRIBE")
    ]
}

/// One of the ways to write a field's name.
fn spelled(long: &'static str, compact: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        Just(long.to_owned()),
        Just(compact.to_owned()),
        Just(long.to_lowercase()),
        Just(long.to_uppercase())
    ]
}

/// A valid message twice: as it comes, and with the names in the long form, which alone rsip knows.
fn message() -> impl Strategy<Value = (String, String)> {
    let names = (
        spelled("Via", "v"),
        spelled("From", "f"),
        spelled("To", "t"),
        spelled("Call-ID", "i"),
    );
    let display = prop_oneof![Just(""), Just("Alice "), Just("\"A, x \" ")];
    let parts = (method(), uri(), uri(), uri(), host(), display);
    let tags = (
        "[a-zA-Z0-9._-]{1,16}",
        proptest::option::of("[a-zA-Z0-9]{1,16}"),
        "[a-zA-Z0-9.]{1,24}",
    );
    let numbers = (0_u32..(1 << 31), any::<bool>(), "[ -~]{0,60}");
    (names, parts, tags, numbers).prop_map(|(names, parts, tags, numbers)| {
        let (method, request_uri, from_uri, to_uri, sent_by, display) = parts;
        let (from_tag, to_tag, branch) = tags;
        let (cseq, is_response, body) = numbers;
        let to_tag = to_tag.map_or(String::new(), |tag| format!(";tag={tag}"));
        let first = match is_response {
            true => "SIP/2.0 180 Ringing".to_owned(),
            false => format!("{method} {request_uri} SIP/2.0"),
        };
        let written = |via: &str, from: &str, to: &str, call_id: &str| {
            format!(
                "{first}\r\n{via}: SIP/2.0/UDP {sent_by};branch=z9hG4bK{branch};rport\r\nMax-Forwards: 70\r\n\
                 {from}: {display}<{from_uri}>;tag={from_tag}\r\n{to}: <{to_uri}>{to_tag}\r\n\
                 {call_id}: {from_tag}@{sent_by}\r\nCSeq: {cseq} {method}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        (written(&names.0, &names.1, &names.2, &names.3), written("Via", "From", "To", "Call-ID"))
    })
}

/// Runs `check` on messages, always the same ones.
fn for_messages(count: u32, mut check: impl FnMut(&str, &str)) {
    let config = ProptestConfig::with_cases(count);
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    for _ in 0..count {
        let (text, long) = message()
            .new_tree(&mut runner)
            .expect("a message")
            .current();
        check(&text, &long);
    }
}

#[test]
fn a_valid_message_reads_alike() {
    let mut compared = 0;
    for_messages(1_000, |text, long| {
        let ours =
            ours(text.as_bytes()).unwrap_or_else(|| panic!("a valid message is good: {text}"));
        if let Some(theirs) = theirs(long.as_bytes()) {
            assert_eq!(ours, theirs, "{text}");
            compared += 1;
        }
    });
    assert!(
        compared > 700,
        "the comparison is worth something: {compared} of 1,000"
    );
}

#[test]
fn a_torture_message_reads_alike() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture");
    let mut compared = 0;
    for entry in fs::read_dir(folder).expect("the messages are there") {
        let path = entry.expect("a file").path();
        if path.extension().is_some_and(|extension| extension == "dat") {
            let bytes = fs::read(&path).expect("a message");
            compared += usize::from(reading::run(&bytes));
        }
    }
    assert!(
        compared >= 20,
        "the comparison is worth something: {compared}"
    );
}

/// The hosts of our URIs and rsip's.
#[test]
fn hosts_and_ports_of_uris_read_alike() {
    for text in [
        "sip:a@example.com:5070",
        "sip:192.0.2.1",
        "sips:b@h.example;transport=tcp",
        "sip:x:pw@h:1;lr",
    ] {
        let ours = sip::Uri::parse(text.as_bytes()).expect("a good URI");
        let theirs = rsip::Uri::try_from(text).expect("a good URI");
        let host = match ours.host {
            Host::Name(name) => String::from_utf8_lossy(name).into_owned(),
            Host::V4(address) => address.to_string(),
            Host::V6(address) => address.to_string(),
        };
        assert_eq!(host, theirs.host().to_string(), "{text}");
        assert_eq!(ours.port, theirs.port().map(|port| *port.value()), "{text}");
        assert_eq!(
            ours.user.map(String::from_utf8_lossy).as_deref(),
            theirs.user(),
            "{text}"
        );
    }
}
