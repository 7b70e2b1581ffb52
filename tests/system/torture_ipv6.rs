//! RFC 5118, all of section 4, against a server that listens at the address that the RFC's messages speak to, over IPv6.
//!
//! The messages are those of the RFC's sections. A request for a phone must reach it, exact to the octet; a REGISTER must leave its
//! binding; what is no address must be refused, and never be taken for one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::bed::Bed;
use super::bed::PHONE_INTERFACE;
use super::ends::{ANSWER_PHRASE, Callee, Sender, Transport};
use super::exactness::{Hop, compare};
use super::scratch::Scratch;
use super::server::{Server, admin_section};

/// One message of the RFC.
struct Case {
    section: &'static str,
    name: &'static str,
    head: &'static str,
    body: &'static str,
    expected: Expected,
}

/// What is right to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// A 200 that lists this contact.
    Bound(&'static str),
    /// It reaches this one of [`CALLEES`].
    Routed(SocketAddr),
    /// One of these.
    Status(&'static [u16]),
}

#[test]
fn every_ipv6_message_is_understood_as_rfc_5118_says() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let link = bed.link();
    bed.server.ip(&format!(
        "addr add {}/32 dev {} nodad",
        SERVER.ip(),
        link.interface
    ));
    for address in [SENDER.ip(), PHONE.ip(), AMBIGUOUS.ip(), EMBEDDED.ip()] {
        link.phones.ip(&format!(
            "addr add {address}/32 dev {PHONE_INTERFACE} nodad"
        ));
    }
    let configuration = format!(
        "[[listen]]\naddress = \"{SERVER}\"\nbackend = \"af_xdp\"\ninterface = \"{}\"\nmode = \"driver\"\n\n\
         [sip]\ndomains = [\"example.com\", \"host.example.net\"]\nsecret_file = \"strowger.key\"\n\n\
         [[peer]]\nname = \"tormentor\"\naddresses = [\"{}\"]\n\n{}",
        link.interface,
        SENDER.ip(),
        admin_section()
    );
    let mut server = Server::start(&bed.server, &scratch, &configuration);
    let mut callees = CALLEES.map(|address| {
        // Beside the server itself, at another port of its address, is the one of 4.4.
        let namespace = if address.ip() == SERVER.ip() {
            &bed.server
        } else {
            &link.phones
        };
        (address, Callee::open(namespace, address, ANSWER))
    });
    callees[0].1.ask(SERVER, register().as_bytes());
    let mut sender = Sender::open(&link.phones, Transport::Udp, SENDER, SERVER);

    let mut table = format!(
        "{:<8}{:<32}{:<40}{:<40}verdict\n",
        "section", "message", "expected", "got"
    );
    let mut wrong = 0;
    for case in CASES {
        let message = case.message();
        sender.send(message.as_bytes());
        let got = await_outcome(&mut sender, &mut callees, message.as_bytes());
        let is_right = case.is_met_by(&got);
        wrong += usize::from(!is_right);
        let verdict = if is_right { "ok" } else { "WRONG" };
        table.push_str(&format!(
            "{:<8}{:<32}{:<40}{:<40}{verdict}\n",
            case.section,
            case.name,
            case.expected.to_string(),
            got.words()
        ));
    }
    println!("{table}");
    assert_eq!(wrong, 0, "{table}");
    assert!(server.is_alive());
}

/// What became of a message.
#[derive(Debug, Default)]
struct Got {
    status: u16,
    text: String,
    /// Whom it reached.
    routed: Vec<SocketAddr>,
    /// What was changed on the way.
    difference: Option<String>,
}

fn await_outcome(sender: &mut Sender, callees: &mut [(SocketAddr, Callee)], sent: &[u8]) -> Got {
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut got = Got::default();
    let hop = Hop {
        source: SENDER,
        proxy: SERVER,
    };
    while got.status < 200 && Instant::now() < deadline {
        for (address, callee) in callees.iter_mut() {
            // The ACK of the callee's refusal is the server's own.
            for copy in callee
                .take()
                .into_iter()
                .filter(|copy| !copy.starts_with(b"ACK "))
            {
                got.routed.push(*address);
                got.difference = got.difference.or(compare(sent, &copy, hop).err());
            }
        }
        for answer in sender.take() {
            let text = String::from_utf8_lossy(&answer).into_owned();
            got.status = text
                .get(8..11)
                .and_then(|status| status.parse().ok())
                .unwrap_or_default();
            got.text = text;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    got
}

impl Case {
    fn message(&self) -> String {
        let head = self.head.replace('\n', "\r\n");
        let body = self.body.replace('\n', "\r\n");
        let kind = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        format!("{head}{kind}Content-Length: {}\r\n\r\n{body}", body.len())
    }

    fn is_met_by(&self, got: &Got) -> bool {
        let is_silent = got.routed.is_empty() && got.difference.is_none();
        match self.expected {
            Expected::Bound(contact) => {
                is_silent && got.status == 200 && got.text.contains(contact)
            }
            Expected::Routed(to) => {
                got.routed == [to]
                    && got.difference.is_none()
                    && got.status == ANSWER
                    && got.text.contains(ANSWER_PHRASE)
            }
            Expected::Status(statuses) => is_silent && statuses.contains(&got.status),
        }
    }
}

impl Got {
    fn words(&self) -> String {
        match (&self.difference, &self.routed[..], self.status) {
            (Some(difference), ..) => difference.clone(),
            (None, [], 0) => "nothing".to_owned(),
            (None, [], status) => status.to_string(),
            (None, [_], status) => format!("routed, exact, {status} came back"),
            (None, several, _) => format!("routed to {several:?}"),
        }
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bound(contact) => write!(f, "200 {contact}"),
            Self::Routed(to) => write!(f, "routed to {to}"),
            Self::Status(statuses) => write!(f, "{statuses:?}"),
        }
    }
}

/// The REGISTER that makes the phone known as `user`.
fn register() -> String {
    format!(
        "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bKreg\r\nMax-Forwards: 70\r\n\
         From: <sip:user@example.com>;tag=r\r\nTo: <sip:user@example.com>\r\nCall-ID: register\r\nCSeq: 1 REGISTER\r\n\
         Contact: <sip:callee@{PHONE}>\r\nContent-Length: 0\r\n\r\n"
    )
}

/// The RFC's messages are sent to this address.
const SERVER: SocketAddr = address(0x10, 0, 5060);
/// And most come from this one.
const SENDER: SocketAddr = address(0x9, 0x1, 5060);
/// Where `user` is registered.
const PHONE: SocketAddr = address(0x20, 0, 5070);
/// What the Request-URI of 4.3 says: not our address and a port.
const AMBIGUOUS: SocketAddr = address(0x10, 0x5070, 5060);
/// What that of 4.4 says.
const UNAMBIGUOUS: SocketAddr = address(0x10, 0, 5070);
/// The address with an IPv4 address in it of 4.10.
const EMBEDDED: SocketAddr = address(0xc000, 0x201, 5060);
const CALLEES: [SocketAddr; 4] = [PHONE, AMBIGUOUS, UNAMBIGUOUS, EMBEDDED];

const fn address(last_but_one: u16, last: u16, port: u16) -> SocketAddr {
    let ip = match last {
        0 => std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last_but_one),
        _ => std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, last_but_one, last),
    };
    SocketAddr::new(std::net::IpAddr::V6(ip), port)
}

const ANSWER: u16 = 486;

const CASES: &[Case] = &[
    Case {
        section: "4.1",
        name: "ipv6-good",
        head: "REGISTER sip:[2001:db8::10] SIP/2.0\nTo: sip:user1@example.com\nFrom: sip:user1@example.com;tag=81x2\n\
               Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111\nCall-ID: SSG9559905523997077@hlau_4100\n\
               Max-Forwards: 70\nContact: \"Caller\" <sip:caller@[2001:db8::1]>\nCSeq: 98176 REGISTER\n",
        body: "",
        expected: Expected::Bound("<sip:caller@[2001:db8::1]>"),
    },
    Case {
        section: "4.2",
        name: "ipv6-bad",
        head: "REGISTER sip:2001:db8::10 SIP/2.0\nTo: sip:user1@example.com\nFrom: sip:user1@example.com;tag=81x2\n\
               Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-112\nCall-ID: SSG9559905523997078@hlau_4100\n\
               Max-Forwards: 70\nContact: \"Caller\" <sip:caller@[2001:db8::2]>\nCSeq: 98176 REGISTER\n",
        body: "",
        expected: Expected::Status(&[400]),
    },
    // The address ends in :5070, and so is another than ours; nothing is guessed.
    Case {
        section: "4.3",
        name: "port-ambiguous",
        head: "REGISTER sip:[2001:db8::10:5070] SIP/2.0\nTo: sip:user1@example.com\nFrom: sip:user1@example.com;tag=81x2\n\
               Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-113\nCall-ID: SSG9559905523997079@hlau_4100\n\
               Contact: \"Caller\" <sip:caller@[2001:db8::3]>\nMax-Forwards: 70\nCSeq: 98176 REGISTER\n",
        body: "",
        expected: Expected::Routed(AMBIGUOUS),
    },
    // Our address, another port: another element.
    Case {
        section: "4.4",
        name: "port-unambiguous",
        head: "REGISTER sip:[2001:db8::10]:5070 SIP/2.0\nTo: sip:user1@example.com\nFrom: sip:user1@example.com;tag=81x2\n\
               Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-114\nCall-ID: SSG9559905523997080@hlau_4100\n\
               Contact: \"Caller\" <sip:caller@[2001:db8::4]>\nMax-Forwards: 70\nCSeq: 98176 REGISTER\n",
        body: "",
        expected: Expected::Routed(UNAMBIGUOUS),
    },
    Case {
        section: "4.5",
        name: "via-received-param-with-delim",
        head: "BYE sip:user@[2001:db8::10] SIP/2.0\nTo: sip:user@example.com;tag=bd76ya\nFrom: sip:user@example.com;tag=81x2\n\
               Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-115\n\
               Via: SIP/2.0/UDP [2001:db8::9:2];received=[2001:db8::9:255];branch=z9hG4bKas3-111\n\
               Call-ID: SSG9559905523997081@hlau_4100\nMax-Forwards: 70\nCSeq: 321 BYE\n",
        body: "",
        expected: Expected::Routed(PHONE),
    },
    Case {
        section: "4.5",
        name: "via-received-param-no-delim",
        head: "OPTIONS sip:user@[2001:db8::10] SIP/2.0\nTo: sip:user@example.com\nFrom: sip:user@example.com;tag=81x2\n\
               Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-116\n\
               Via: SIP/2.0/UDP [2001:db8::9:2];received=2001:db8::9:255;branch=z9hG4bKas3-111\n\
               Call-ID: SSG95523997077@hlau_4100\nMax-Forwards: 70\nContact: \"Caller\" <sip:caller@[2001:db8::9:1]>\nCSeq: 921 OPTIONS\n",
        body: "",
        expected: Expected::Routed(PHONE),
    },
    Case {
        section: "4.6",
        name: "ipv6-in-sdp",
        head: "INVITE sip:user@[2001:db8::10] SIP/2.0\nTo: sip:user@[2001:db8::10]\nFrom: sip:user@example.com;tag=81x2\n\
               Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-117\nCall-ID: SSG9559905523997082@hlau_4100\n\
               Contact: \"Caller\" <sip:caller@[2001:db8::20]>\nCSeq: 8612 INVITE\nMax-Forwards: 70\n",
        body: "v=0\no=assistant 971731711378798081 0 IN IP6 2001:db8::20\ns=Live video feed for today's meeting\n\
               c=IN IP6 2001:db8::20\nt=3338481189 3370017201\nm=audio 6000 RTP/AVP 2\na=rtpmap:2 G726-32/8000\n\
               m=video 6024 RTP/AVP 107\na=rtpmap:107 H263-1998/90000\n",
        expected: Expected::Routed(PHONE),
    },
    Case {
        section: "4.7",
        name: "mult-ip-in-header",
        head: "BYE sip:user@host.example.net SIP/2.0\nVia: SIP/2.0/UDP [2001:db8::9:1]:6050;branch=z9hG4bKas3-118\n\
               Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKjhja8781hjuaij65144\n\
               Via: SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bK451jj;received=192.0.2.200\n\
               Call-ID: 997077@lau_4100\nMax-Forwards: 70\nCSeq: 89187 BYE\nTo: sip:user@example.net;tag=9817--94\n\
               From: sip:user@example.com;tag=81x2\n",
        body: "",
        expected: Expected::Routed(PHONE),
    },
    Case {
        section: "4.8",
        name: "mult-ip-in-sdp",
        head: "INVITE sip:user@[2001:db8::10] SIP/2.0\nTo: sip:user@[2001:db8::10]\nFrom: sip:user@example.com;tag=81x2\n\
               Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-119\nCall-ID: SSG9559905523997083@hlau_4100\n\
               Contact: \"Caller\" <sip:caller@[2001:db8::9:1]>\nMax-Forwards: 70\nCSeq: 8912 INVITE\n",
        body: "v=0\no=bob 280744730 28977631 IN IP4 host.example.com\ns=\nt=0 0\nm=audio 22334 RTP/AVP 0\n\
               c=IN IP4 192.0.2.1\nm=video 6024 RTP/AVP 107\nc=IN IP6 2001:db8::1\na=rtpmap:107 H263-1998/90000\n",
        expected: Expected::Routed(PHONE),
    },
    Case {
        section: "4.9",
        name: "ipv4-mapped-ipv6",
        head: "INVITE sip:user@example.com SIP/2.0\nTo: sip:user@example.com\nFrom: sip:user@east.example.com;tag=81x2\n\
               Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-120\n\
               Via: SIP/2.0/UDP [::ffff:192.0.2.10]:19823;branch=z9hG4bKbh19\n\
               Via: SIP/2.0/UDP [::ffff:192.0.2.2];branch=z9hG4bKas3-111\nCall-ID: SSG9559905523997084@hlau_4100\n\
               Contact: \"T. desk phone\" <sip:ted@[::ffff:192.0.2.2]>\nMax-Forwards: 70\nCSeq: 612 INVITE\n",
        body: "v=0\no=assistant 971731711378798081 0 IN IP6 ::ffff:192.0.2.2\ns=Call me soon, please!\n\
               c=IN IP6 ::ffff:192.0.2.2\nt=3338481189 3370017201\nm=audio 6000 RTP/AVP 2\na=rtpmap:2 G726-32/8000\n\
               m=video 6024 RTP/AVP 107\na=rtpmap:107 H263-1998/90000\n",
        expected: Expected::Routed(PHONE),
    },
    // The RFC leaves it to us: accept it as the ABNF of RFC 3261 had it, or refuse what is no address.
    Case {
        section: "4.10",
        name: "ipv6-bug-abnf-3-colons",
        head: "OPTIONS sip:user@[2001:db8:::192.0.2.1] SIP/2.0\nTo: sip:user@[2001:db8:::192.0.2.1]\nFrom: sip:user@example.com;tag=810x2\n\
               Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-121\nCall-ID: G9559905523997077@hlau_4100\n\
               Contact: \"Caller\" <sip:caller@[2001:db8::9:1]>\nMax-Forwards: 70\nCSeq: 689 OPTIONS\n",
        body: "",
        expected: Expected::Status(&[400]),
    },
    Case {
        section: "4.10",
        name: "ipv6-correct-abnf-2-colons",
        head: "OPTIONS sip:user@[2001:db8::192.0.2.1] SIP/2.0\nTo: sip:user@[2001:db8::192.0.2.1]\nFrom: sip:user@example.com;tag=810x2\n\
               Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-122\nCall-ID: G9559905523997078@hlau_4100\n\
               Contact: \"Caller\" <sip:caller@[2001:db8::9:1]>\nMax-Forwards: 70\nCSeq: 689 OPTIONS\n",
        body: "",
        expected: Expected::Routed(EMBEDDED),
    },
];
