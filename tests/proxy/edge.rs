//! Before another's registrar (RFC 3327, RFC 5626 5): our Path on its phones' REGISTERs, and what comes back by it.

use super::bed::*;
use std::sync::Arc;
use strowger::counters::Counter;
use strowger::datagram::Transport::{Tcp, Udp};
use strowger::proxy::{Edge, PathRule, Trunk};

const REGISTRAR: &str = "198.51.100.60:5060";
const PHONE: &str = "203.0.113.9:41001";

fn edge(path: PathRule) -> Bed {
    Bed::with_settings(1, |settings| {
        settings.edges = vec![Arc::new(Edge {
            domains: vec!["example.org".to_owned()],
            next_hop: Arc::new(Trunk {
                addresses: vec!["198.51.100.60/32".parse().expect("a network")],
                host: "198.51.100.60".to_owned(),
                port: None,
                transport: None,
            }),
            path,
        })];
    })
}

fn register(extra: &str) -> String {
    format!(
        "REGISTER sip:example.org SIP/2.0\nVia: SIP/2.0/TCP 10.0.0.9:5060;branch=z9hG4bKr1;rport\nMax-Forwards: 70\n\
         From: <sip:bob@example.org>;tag=reg\nTo: <sip:bob@example.org>\nCall-ID: bobs\nCSeq: 1 REGISTER\n\
         Contact: <sip:bob@10.0.0.9:5060;transport=tcp>;reg-id=1;+sip.instance=\"<urn:uuid:1>\"\n{extra}Content-Length: 0\n\n"
    )
}

/// Bob registers through us; gives the Path that the registrar was told.
fn path_of_bob(bed: &mut Bed) -> String {
    bed.connect(PHONE);
    bed.receive_by_tcp(PHONE, &register("Supported: path, outbound\n"));
    let relayed = bed.sent_one();
    assert_eq!(
        (relayed.flow.transport, relayed.to().as_str()),
        (Udp, REGISTRAR)
    );
    let path = relayed.header("Path").expect("a Path").to_owned();
    bed.receive(REGISTRAR, &relayed.answer(200, ""));
    assert_eq!(bed.sent_one().to(), PHONE);
    path
}

/// A request of the registrar's for Bob, by his Path.
fn for_bob(method: &str, branch: &str, path: &str) -> String {
    request(
        method,
        "sip:bob@10.0.0.9:5060;transport=tcp",
        REGISTRAR,
        branch,
        &format!("Route: {path}\n"),
    )
    .replace("call-1", branch)
}

#[test]
fn what_is_for_the_phone_comes_back_by_its_flow() {
    let mut bed = edge(PathRule::Supported);
    let path = path_of_bob(&mut bed);
    assert!(path.ends_with(&format!("@{PROXY};lr;ob>")), "{path}");
    bed.receive(REGISTRAR, &for_bob("INVITE", "inv", &path));
    let relayed = bed.sent_two().1;
    assert_eq!(
        (relayed.flow.transport, relayed.to().as_str()),
        (Tcp, PHONE)
    );
    assert!(relayed.headers("Route").is_empty());
    bed.receive_by_tcp(PHONE, &relayed.answer(200, ""));
    let ok = bed.sent_one();
    assert_eq!(ok.to(), REGISTRAR);
    // After a restart of ours the token still tells.
    bed.restart();
    bed.receive(REGISTRAR, &for_bob("MESSAGE", "m1", &path));
    assert_eq!(bed.sent_one().to(), PHONE);
    // BYE by our Record-Route, which tells the flow, too.
    let routes: String = relayed
        .headers("Record-Route")
        .iter()
        .rev()
        .map(|value| format!("Route: {value}\n"))
        .collect();
    let to = format!("To: {}", ok.header("To").expect("a To"));
    let bye = request(
        "BYE",
        "sip:bob@10.0.0.9:5060;transport=tcp",
        REGISTRAR,
        "bye",
        &routes,
    )
    .replace("To: <sip:bob@example.com>", &to)
    .replace("call-1", "inv");
    bed.receive(REGISTRAR, &bye);
    assert_eq!(bed.sent_one().to(), PHONE);
}

#[test]
fn a_flow_that_is_gone_is_430_and_a_token_that_is_not_ours_403() {
    let mut bed = edge(PathRule::Supported);
    let path = path_of_bob(&mut bed);
    bed.disconnect(PHONE);
    bed.receive(REGISTRAR, &for_bob("INVITE", "inv", &path));
    let sent = bed.sent();
    assert_eq!(
        sent.last().map(Sent::start_line),
        Some("SIP/2.0 430 Flow Failed")
    );
    assert_eq!(bed.count(Counter::RefusedFlow), 1);
    let forged = path.replacen("flow.0", "flow.g", 1);
    assert_ne!(forged, path);
    bed.receive(REGISTRAR, &for_bob("MESSAGE", "m1", &forged));
    assert_eq!(bed.sent_one().status(), 403);
    assert_eq!(bed.count(Counter::RefusedFlowToken), 1);
    bed.receive(REGISTRAR, &for_bob("ACK", "a1", &path));
    bed.sent_none();
}

#[test]
fn what_the_phone_sends_by_its_own_path_goes_on() {
    let mut bed = edge(PathRule::Supported);
    let path = path_of_bob(&mut bed);
    let text = request(
        "MESSAGE",
        "sip:carol@example.org",
        "10.0.0.9:5060",
        "m1",
        &format!("Route: {path}\n"),
    );
    bed.receive_by_tcp(PHONE, &text.replace("SIP/2.0/UDP", "SIP/2.0/TCP"));
    assert_eq!(bed.sent_one().to(), REGISTRAR);
}

#[test]
fn ob_is_said_by_the_phones_neighbour_alone() {
    let mut bed = edge(PathRule::Supported);
    let text = register("Supported: path\nPath: <sip:inner@203.0.113.40;lr;ob>\n").replace(
        "Via: SIP/2.0/TCP",
        "Via: SIP/2.0/UDP 203.0.113.40;branch=z9hG4bKin\nVia: SIP/2.0/TCP",
    );
    bed.receive("203.0.113.40:5060", &text);
    let relayed = bed.sent_one();
    let paths = relayed.headers("Path");
    assert_eq!(paths.len(), 2);
    assert!(paths[0].ends_with(&format!("@{PROXY};lr>")), "{paths:?}");
    assert_eq!(paths[1], "<sip:inner@203.0.113.40;lr;ob>");
}

#[test]
fn a_phone_that_does_not_know_of_path_gets_what_is_configured() {
    let text = register("").replace("outbound", "");
    let relayed = |rule| {
        let mut bed = edge(rule);
        bed.receive_by_tcp(PHONE, &text);
        bed.sent_one()
    };
    assert!(relayed(PathRule::Supported).headers("Path").is_empty());
    assert_eq!(relayed(PathRule::Always).headers("Path").len(), 1);
    let refused = relayed(PathRule::Required);
    assert_eq!(
        (refused.status(), refused.header("Require")),
        (421, Some("path"))
    );
}

#[test]
fn requests_for_the_registrars_users_go_there_whoever_sends_them() {
    let mut bed = edge(PathRule::Supported);
    bed.receive(
        ALICE,
        &request("INVITE", "sip:bob@example.org", ALICE, "inv", ""),
    );
    assert_eq!(bed.sent_two().1.to(), REGISTRAR);
    bed.receive(
        ALICE,
        &request("MESSAGE", "sip:bob@example.net", ALICE, "m", "").replace("call-1", "m"),
    );
    assert_eq!(bed.sent_one().status(), 403, "and to nobody else");
}
