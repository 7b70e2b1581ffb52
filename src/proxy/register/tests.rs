//! What a registrar answers, message by message.

mod hostile;

use std::fmt::Write as _;

use super::*;
use crate::datagram::{ListenerId, Transport};
use crate::limits::CONTACT_LEN_MAX;
use crate::location::{LocationSettings, Lookup};
use crate::sip::{Index, Parsed, parse};
use crate::time::Duration;

const START: Instant = Instant::from_micros(1_700_000_000_000_000);
struct Bed {
    registrar: Registrar,
    location: Arc<Location>,
    scratch: RegisterScratch,
    now: Instant,
    source: Flow,
}

/// An answer that has outlived its scratch.
#[derive(Debug, PartialEq, Eq)]
struct Got(u16, &'static str, String);

impl Bed {
    fn new() -> Self {
        Self::with(RegistrarSettings::default(), 1_000)
    }

    fn with(settings: RegistrarSettings, bindings_max: usize) -> Self {
        let location = LocationSettings {
            hash_key: [9; 16],
            bindings_max,
            contacts_max: 3,
        };
        let location = Arc::new(Location::new(&location));
        let ours = ["192.0.2.1".parse().expect("an address")];
        let domains = Arc::new(Domains::new(["example.com"], ours));
        let registrar = Registrar::new(Arc::clone(&location), domains, settings);
        let peer = "198.51.100.7:5060".parse().expect("an address");
        let source = Flow {
            listener: ListenerId(1),
            transport: Transport::Udp,
            peer,
        };
        Self {
            registrar,
            location,
            scratch: RegisterScratch::new(),
            now: START,
            source,
        }
    }

    fn pass(&mut self, secs: u64) -> &mut Self {
        self.now = self.now + Duration::from_secs(secs);
        self
    }

    fn send(&mut self, text: &str) -> Got {
        let mut index = Index::new();
        let text = text.replace('\n', "\r\n");
        let message = match parse(text.as_bytes(), &mut index) {
            Parsed::Good(message) => message,
            Parsed::Answerable(_, rejection) => {
                return Got(rejection.status(), rejection.reason(), String::new());
            }
            Parsed::NotSip(cause) => panic!("{cause:?}"),
        };
        let answer = self
            .registrar
            .register(self.now, &message, &self.source, &mut self.scratch);
        assert_eq!(
            answer.headers.is_empty(),
            !answer.headers.ends_with(b"\r\n")
        );
        let mut headers = String::from_utf8_lossy(answer.headers).into_owned();
        if answer.status == 200 {
            // RFC 3261 10.3 step 8: a 200 has a Date, here the last of its lines.
            let date = headers.find("Date: ").expect("a Date");
            assert!(headers.split_off(date).ends_with(" GMT\r\n"));
        }
        Got(answer.status, answer.reason, headers)
    }

    /// A REGISTER of alice's with these further header lines.
    fn register(&mut self, cseq: u32, lines: &[&str]) -> Got {
        self.send(&request("sip:alice@example.com", "call-1", cseq, lines))
    }

    /// What alice has, each contact with its parameters.
    fn bindings(&mut self) -> Vec<String> {
        contacts(&self.register(999, &[]))
    }
}

fn request(to: &str, call_id: &str, cseq: u32, lines: &[&str]) -> String {
    let mut text = format!(
        "REGISTER sip:example.com SIP/2.0\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK{cseq}\nMax-Forwards: 70\n\
         From: <{to}>;tag=1\nTo: <{to}>\nCall-ID: {call_id}\nCSeq: {cseq} REGISTER\nUser-Agent: Phone/1\n"
    );
    for line in lines {
        writeln!(text, "{line}").expect("a string takes all");
    }
    text + "Content-Length: 0\n\n"
}

fn contacts(got: &Got) -> Vec<String> {
    assert_eq!(got.0, 200, "{got:?}");
    let lines = got.2.lines();
    lines
        .map(|line| {
            line.strip_prefix("Contact: ")
                .expect("only contacts")
                .to_owned()
        })
        .collect()
}

#[test]
fn a_phone_registers_refreshes_asks_and_leaves() {
    let mut bed = Bed::new();
    let first = bed.register(1, &["Contact: <sip:alice@198.51.100.7:5060;ob>;q=0.7"]);
    assert_eq!(
        contacts(&first),
        ["<sip:alice@198.51.100.7:5060;ob>;q=0.7;expires=3600"]
    );
    bed.pass(600);
    assert_eq!(
        bed.bindings(),
        ["<sip:alice@198.51.100.7:5060;ob>;q=0.7;expires=3000"]
    );
    let second = bed.register(2, &["m: <sip:alice@198.51.100.7:5060;ob>", "Expires: 120"]);
    assert_eq!(
        contacts(&second),
        ["<sip:alice@198.51.100.7:5060;ob>;expires=120"]
    );
    assert_eq!(
        bed.register(3, &["Contact: <sip:alice@198.51.100.7:5060;ob>;expires=0"])
            .2,
        ""
    );
    assert_eq!(bed.location.bindings(), 0);
}

#[test]
fn contacts_stand_in_one_line_or_in_several() {
    let mut bed = Bed::new();
    let lines = [
        "Contact: <sip:a@h.com>;expires=70 , \"b, c\" <sip:b@h.com>;q=0.25",
        "m: sip:c@h.com;expires=90",
    ];
    let got = bed.register(1, &lines);
    let expected = [
        "<sip:a@h.com>;expires=70",
        "<sip:b@h.com>;q=0.25;expires=3600",
        "<sip:c@h.com>;expires=90",
    ];
    assert_eq!(contacts(&got), expected);
    let got = bed.register(2, &["Contact: sip:d@h.com"]);
    assert_eq!((got.0, got.1), (403, "Too Many Registered Contacts"));
    assert_eq!(bed.bindings().len(), 3);
}

#[test]
fn a_retransmission_gets_the_same_answer_and_a_late_request_500() {
    let mut bed = Bed::new();
    let lines = ["Contact: <sip:a@h.com>", "Expires: 100"];
    let first = bed.register(5, &lines);
    assert_eq!(bed.register(5, &lines), first);
    assert_eq!(
        bed.pass(10).register(5, &lines).2,
        "Contact: <sip:a@h.com>;expires=90\r\n"
    );
    assert_eq!(
        bed.register(4, &["Contact: <sip:a@h.com>, <sip:b@h.com>"])
            .0,
        500
    );
    assert_eq!(bed.bindings(), ["<sip:a@h.com>;expires=90"]);
    bed.register(6, &["Contact: <sip:a@h.com>;expires=0"]);
    assert_eq!(bed.register(5, &lines).0, 500, "it cannot come back");
    assert!(bed.bindings().is_empty());
}

#[test]
fn star_removes_all_but_only_alone_and_with_expires_0() {
    let mut bed = Bed::new();
    bed.register(1, &["Contact: <sip:a@h.com>, <sip:b@h.com>"]);
    for lines in [
        &["Contact: *"][..],
        &["Contact: *", "Expires: 60"],
        &["Contact: *, <sip:a@h.com>", "Expires: 0"],
        &["Contact: <sip:a@h.com>", "Contact: *", "Expires: 0"],
        &["Contact: *, *", "Expires: 0"],
        &["Contact: *;expires=0", "Expires: 0"],
    ] {
        assert_eq!(bed.register(2, lines).0, 400, "{lines:?}");
    }
    assert_eq!(bed.bindings().len(), 2);
    assert_eq!(
        bed.register(2, &["Contact: *", "Expires: 0"]),
        Got(200, "OK", String::new())
    );
    assert_eq!(
        bed.register(2, &["Contact: *", "Expires: 0"]),
        Got(200, "OK", String::new())
    );
    assert_eq!(bed.register(1, &["Contact: *", "Expires: 0"]).0, 500);
    assert_eq!(bed.location.bindings(), 0);
}

#[test]
fn expiry_is_asked_by_parameter_then_by_field_and_granted_within_bounds() {
    let mut bed = Bed::new();
    let granted =
        |bed: &mut Bed, cseq, lines: &[&str]| contacts(&bed.register(cseq, lines)).join("");
    assert_eq!(
        granted(
            &mut bed,
            1,
            &["Contact: <sip:a@h.com>;expires=80", "Expires: 90"]
        ),
        "<sip:a@h.com>;expires=80"
    );
    assert_eq!(
        granted(&mut bed, 2, &["Contact: <sip:a@h.com>;expires=99999999"]),
        "<sip:a@h.com>;expires=7200"
    );
    assert_eq!(
        granted(&mut bed, 3, &["Contact: <sip:a@h.com>;expires=60"]),
        "<sip:a@h.com>;expires=60"
    );
    let brief = bed.register(4, &["Contact: <sip:b@h.com>, <sip:a@h.com>;expires=59"]);
    assert_eq!(
        brief,
        Got(423, "Interval Too Brief", "Min-Expires: 60\r\n".into())
    );
    assert_eq!(
        bed.bindings(),
        ["<sip:a@h.com>;expires=60"],
        "all or nothing"
    );
    let long = RegistrarSettings {
        expires_min_s: 5_000,
        expires_max_s: 9_000,
        ..RegistrarSettings::default()
    };
    let mut bed = Bed::with(long, 10);
    assert_eq!(
        bed.register(1, &["Contact: <sip:a@h.com>;expires=3599"]).0,
        423
    );
    assert_eq!(
        bed.register(1, &["Contact: <sip:a@h.com>;expires=3600"]).0,
        200,
        "an hour is never too brief"
    );
}

#[test]
fn only_users_of_ours_have_bindings() {
    let mut bed = Bed::new();
    for (to, status) in [
        ("sip:alice@example.com", 200),
        ("sip:alice@EXAMPLE.com:5070;transport=udp", 200),
        ("sips:alice@192.0.2.1", 200),
        ("sip:alice@example.net", 404),
        ("sip:alice@192.0.2.9", 404),
        ("sip:example.com", 404),
        ("tel:+15551234", 404),
        ("isbn:2983792873", 400),
        ("sip:alice@exa mple.com", 400),
    ] {
        assert_eq!(bed.send(&request(to, "c", 1, &[])).0, status, "{to}");
    }
    let long = format!("sip:{}@example.com", "x".repeat(AOR_LEN_MAX + 1));
    assert_eq!(
        bed.send(&request(&long, "c", 1, &["Contact: <sip:a@h.com>"]))
            .0,
        404
    );
}

#[test]
fn an_aor_is_the_user_alone_or_with_its_domain() {
    for (use_domain, aor) in [(false, "alice"), (true, "alice@example.com")] {
        let mut bed = Bed::with(
            RegistrarSettings {
                use_domain,
                ..RegistrarSettings::default()
            },
            10,
        );
        let lines = ["Contact: <sip:a@h.com>"];
        bed.send(&request(
            "sip:%61lice@Example.COM:5060;user=phone",
            "c",
            1,
            &lines,
        ));
        let found = bed
            .location
            .lookup(bed.now, aor.as_bytes(), &mut Targets::new())
            .0;
        assert_eq!(found, Lookup::Found, "{aor}");
        let mut out = [0; AOR_LEN_MAX];
        let uri = Uri::parse(b"sip:alice@example.com").expect("a URI");
        assert_eq!(bed.registrar.aor(&uri, &mut out), Some(aor.as_bytes()));
    }
}

#[test]
fn a_phone_behind_a_nat_is_reached_by_the_flow_it_came_by() {
    let nat = |contact: &str, via: &str, transport| {
        let mut bed = Bed::new();
        bed.source.transport = transport;
        let contact = format!("Contact: {contact}");
        let got = bed.register(1, &["Supported: path", via, &contact]);
        assert_eq!(got.0, 200, "{got:?}");
        let mut targets = Targets::new();
        bed.location.lookup(bed.now, b"alice", &mut targets);
        let target = targets.target(0).expect("it is registered");
        assert_eq!(target.listener, ListenerId(1));
        target.received == Some(bed.source)
    };
    const NONE: &str = "Subject: nothing";
    let (udp, tcp) = (Transport::Udp, Transport::Tcp);
    assert!(!nat("<sip:a@198.51.100.7>", NONE, udp));
    assert!(!nat("<sip:a@198.51.100.7:5060>", NONE, udp));
    assert!(!nat("<sip:a@198.51.100.7:5062>", NONE, udp));
    assert!(nat("<sip:a@10.0.0.5:5060>", NONE, udp));
    assert!(nat("<sip:a@phone.invalid>", NONE, udp));
    assert!(nat("<sip:a@198.51.100.7;transport=tcp>", NONE, tcp));
    assert!(!nat("<sip:a@198.51.100.7;transport=udp>", NONE, tcp));
    // What came through another proxy says nothing of where the phone is.
    assert!(!nat(
        "<sip:a@10.0.0.5>",
        "Via: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKx",
        udp
    ));
    assert!(!nat(
        "<sip:a@10.0.0.5>",
        "Path: <sip:edge.example.com;lr>",
        udp
    ));
}

#[test]
fn another_port_of_the_same_address_is_believed_unless_the_via_shows_a_nat() {
    let is_received = |via: &str| {
        let mut bed = Bed::new();
        let lines = ["Contact: <sip:a@198.51.100.7:5062>"];
        let text = request("sip:alice@example.com", "call-1", 1, &lines);
        let got = bed.send(&text.replace("198.51.100.7;branch", &format!("{via};branch")));
        assert_eq!(got.0, 200, "{got:?}");
        let mut targets = Targets::new();
        bed.location.lookup(bed.now, b"alice", &mut targets);
        targets
            .target(0)
            .is_some_and(|target| target.received.is_some())
    };
    assert!(!is_received("198.51.100.7"), "a phone of two ports");
    assert!(!is_received("198.51.100.7:5062;rport"));
    assert!(!is_received("127.0.0.1:40000;rport"), "it knows no better");
    assert!(is_received("10.0.0.5;rport"));
    assert!(is_received("10.0.0.5"));
}

#[test]
fn path_is_kept_and_told_and_other_extensions_are_refused() {
    let mut bed = Bed::new();
    let got = bed.register(
        1,
        &[
            "Require: path, gruu, Outbound, 100rel",
            "Require: other",
            "Contact: <sip:a@h.com>",
        ],
    );
    assert_eq!(
        got,
        Got(
            420,
            "Bad Extension",
            "Unsupported: 100rel\r\nUnsupported: other\r\n".into()
        )
    );
    let path = [
        "Path: <sip:p2.example.com;lr>",
        "Path: <sip:p1.example.com;lr>, <sip:p0.example.com;lr>",
    ];
    let got = bed.register(
        1,
        &[
            "Supported: path",
            path[0],
            path[1],
            "Contact: <sip:a@h.com>",
        ],
    );
    let kept = "<sip:p2.example.com;lr>,<sip:p1.example.com;lr>,<sip:p0.example.com;lr>";
    assert_eq!(
        got.2,
        format!("Contact: <sip:a@h.com>;expires=3600\r\nPath: {kept}\r\n")
    );
    let mut targets = Targets::new();
    bed.location.lookup(bed.now, b"alice", &mut targets);
    assert_eq!(
        targets.target(0).map(|target| target.path),
        Some(kept.as_bytes())
    );
    // RFC 3327 5.3: the phone does not know of Path, and would not know how it is reached.
    let unasked = bed.register(2, &[path[0], "Contact: <sip:a@h.com>"]);
    assert_eq!(
        unasked,
        Got(420, "Bad Extension", "Unsupported: path\r\n".into())
    );
    assert_eq!(
        bed.register(2, &["Path: nonsense", "Contact: <sip:a@h.com>"])
            .1,
        "Bad Path"
    );
    let long = format!("Path: <sip:{}.example.com;lr>", "x".repeat(PATH_LEN_MAX));
    assert_eq!(
        bed.register(2, &[&long, "Contact: <sip:a@h.com>"]).1,
        "Path Too Long"
    );
    let got = bed.register(2, &["Require: a\n evil", "Contact: <sip:a@h.com>"]);
    assert_eq!(got.2, "Unsupported: a\r\n", "nothing that is no token");
}

#[test]
fn what_is_too_long_or_too_much_is_refused_whole() {
    let mut bed = Bed::new();
    let contact = format!(
        "Contact: <sip:a@h.com>, <sip:{}@h.com>",
        "x".repeat(CONTACT_LEN_MAX)
    );
    assert_eq!(bed.register(1, &[&contact]).1, "Contact Too Long");
    let call_id = "c".repeat(BINDING_TEXT_LEN_MAX + 1);
    let got = bed.send(&request(
        "sip:alice@example.com",
        &call_id,
        1,
        &["Contact: <sip:a@h.com>"],
    ));
    assert_eq!(got.1, "Call-ID Too Long");
    let many = format!(
        "Contact: {}",
        vec!["<sip:a@h.com>"; REGISTER_CONTACTS_MAX + 1].join(",")
    );
    assert_eq!(bed.register(1, &[&many]).1, "Too Many Contacts");
    assert_eq!(
        bed.register(1, &["Contact: <sip:a@h.com>, <tel:+1555>"]).1,
        "Unsupported Scheme In Contact"
    );
    assert_eq!(
        bed.register(1, &["Contact: <sip:a@h.com>, <sip:b@h.com>;q=7"])
            .1,
        "Bad Contact"
    );
    assert!(bed.bindings().is_empty());
}

#[test]
fn at_the_bound_a_new_phone_is_refused_with_retry_after_and_an_old_one_served() {
    let mut bed = Bed::with(RegistrarSettings::default(), 1);
    bed.register(1, &["Contact: <sip:a@h.com>"]);
    let got = bed.send(&request(
        "sip:bob@example.com",
        "b",
        1,
        &["Contact: <sip:b@h.com>"],
    ));
    assert_eq!(
        got,
        Got(503, "Service Unavailable", "Retry-After: 60\r\n".into())
    );
    assert_eq!(bed.register(2, &["Contact: <sip:a@h.com>"]).0, 200);
}

#[test]
fn q_is_written_as_shortly_as_it_can_be() {
    for (q, written) in [
        ("0", ";q=0"),
        ("1.0", ";q=1"),
        ("0.05", ";q=0.05"),
        ("0.125", ";q=0.125"),
        ("0.10", ";q=0.1"),
    ] {
        let got = Bed::new().register(1, &[&format!("Contact: <sip:a@h.com>;q={q}")]);
        assert_eq!(
            got.2,
            format!("Contact: <sip:a@h.com>{written};expires=3600\r\n")
        );
    }
}
