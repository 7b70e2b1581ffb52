//! What user agents send: to register, to call, to answer, and within a dialog.

use strowger::sip::{self, HeaderName, Index, Parsed, Reply};

use super::script::Script;
use super::wire::Passed;
use super::{LISTENERS, PHONES, USERS, World};

impl World {
    pub(super) fn register(&mut self, script: &mut Script<'_>) {
        let (user, phone) = (script.pick(&USERS), script.pick(&PHONES));
        let contact = match script.byte() % 12 {
            0 => "Contact: *\r\nExpires: 0\r\n".to_owned(),
            1 => String::new(),
            2 => format!("Contact: <sip:{user}@{}>\r\n", LISTENERS[0]),
            3 => format!("Contact: <sip:{}@example.com>\r\n", script.pick(&USERS)),
            4 => "Contact: <sip:x@far.example.org>;q=0.3\r\n".to_owned(),
            5 => format!("Contact: <sip:{user}@{phone};transport=tcp>;q=0.7\r\n"),
            6 => format!(
                "Contact: <sip:{user}@{phone}>;q=0.2, <sip:{user}2@{phone}>;q=0.2;expires=90\r\n"
            ),
            7 => format!("Contact: <sip:{user}@{phone}>;expires=0\r\n"),
            8 => format!(
                "Path: <sip:{};lr>\r\nSupported: path\r\nContact: <sip:{user}@{phone}>\r\n",
                script.pick(&PHONES)
            ),
            9 => "Contact: <sip:a@10.0.0.7:5080>\r\n".to_owned(),
            _ => format!("Contact: <sip:{user}@{phone}>\r\n"),
        };
        let branch = self.branch();
        let text = format!(
            "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {phone};branch={branch}\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@example.com>;tag=r\r\nTo: <sip:{user}@example.com>\r\nCall-ID: reg-{user}-{phone}\r\n\
             CSeq: {} REGISTER\r\n{contact}Content-Length: 0\r\n\r\n",
            self.branches
        );
        self.receive(script, phone, text.into_bytes());
    }

    pub(super) fn request(&mut self, script: &mut Script<'_>) {
        let (method, phone, user) = (
            script.pick(&METHODS),
            script.pick(&PHONES),
            script.pick(&USERS),
        );
        let uri = match script.byte() % 12 {
            0 => format!("sip:{user}@{}", LISTENERS[0]),
            1 => format!("sip:{user}@{}", script.pick(&PHONES)),
            2 => "sip:x@foreign.example.org".to_owned(),
            3 => "sip:x@foreign.example.org:5080;transport=tcp".to_owned(),
            4 => "sips:alice@example.com".to_owned(),
            5 => "tel:+15551234".to_owned(),
            6 => "sip:example.com".to_owned(),
            _ => format!("sip:{user}@example.com"),
        };
        let route = match script.byte() % 10 {
            0 => format!("Route: <sip:{};lr>\r\n", LISTENERS[1]),
            1 => format!("Route: <sip:{}>\r\n", script.pick(&PHONES)),
            2 => "Route: <sip:far.example.org;lr>, <sip:x@y>\r\n".to_owned(),
            3 => format!(
                "Route: <sip:{};lr>\r\nRoute: <sip:{};lr>\r\n",
                LISTENERS[0],
                script.pick(&PHONES)
            ),
            _ => String::new(),
        };
        let extra = script.pick(&EXTRAS);
        let branch = self.branch();
        let call = script.byte() % 8;
        let to_tag = if script.is_one_in(8) {
            ";tag=callee"
        } else {
            ""
        };
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {phone};branch={branch}\r\n{route}\
             From: <sip:a@example.com>;tag=caller\r\nTo: <{uri}>{to_tag}\r\nCall-ID: call-{call}\r\nCSeq: {} {method}\r\n\
             {extra}Contact: <sip:a@{phone}>\r\nContent-Length: 4\r\n\r\nbody",
            1 + call
        );
        self.receive(script, phone, text.into_bytes());
    }

    /// A user agent answers one of the requests that were sent on, perhaps not for the first time.
    pub(super) fn answer(&mut self, script: &mut Script<'_>) {
        let Some(place) = script.place(self.wire.sent.len()) else {
            return;
        };
        let Passed { flow, bytes } = self.wire.sent[place].clone();
        let status = script.pick(&STATUSES);
        let tag = script.pick(&["callee", "other"]);
        let extra = script.pick(&[
            "",
            "Retry-After: 5\r\n",
            "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n",
            "Require: x\r\n",
        ]);
        let mut index = Index::new();
        let Parsed::Good(request) = sip::parse(&bytes, &mut index) else {
            return;
        };
        if !request.is_request() || request.method() == sip::Method::Ack {
            return;
        }
        let reply = Reply::new(&request, status, "Whatever")
            .to_tag(tag.as_bytes())
            .record_route(true)
            .headers(extra.as_bytes());
        let mut out = vec![0; reply.len()];
        if reply.write(&mut out).is_some() {
            self.deliver(script, Passed { flow, bytes: out });
        }
    }

    /// The caller acknowledges a final response: hop by hop, or end to end by the route that it learned.
    pub(super) fn acknowledge(&mut self, script: &mut Script<'_>) {
        let Some(place) = script.place(self.wire.sent.len()) else {
            return;
        };
        let Passed { flow, bytes } = self.wire.sent[place].clone();
        let mut index = Index::new();
        let Parsed::Good(response) = sip::parse(&bytes, &mut index) else {
            return;
        };
        if response.is_request() || response.status() < 200 || response.cseq().method != b"INVITE" {
            return;
        }
        let text = |name| {
            String::from_utf8_lossy(response.header(name).map_or(b"", |field| field.value))
                .into_owned()
        };
        let (via, route) = if response.status() >= 300 {
            let via = String::from_utf8_lossy(response.top_via().bytes()).into_owned();
            (via, String::new())
        } else {
            let route = text(HeaderName::RecordRoute);
            let route = if route.is_empty() {
                route
            } else {
                format!("Route: {route}\r\n")
            };
            (
                format!("SIP/2.0/UDP {};branch={}", flow.peer, self.branch()),
                route,
            )
        };
        let uri = script.pick(&[
            "sip:alice@example.com",
            "sip:bob@example.com",
            "sip:alice@203.0.113.9:5070",
        ]);
        let ack = format!(
            "ACK {uri} SIP/2.0\r\nVia: {via}\r\n{route}Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\n\
             CSeq: {} ACK\r\nContent-Length: 0\r\n\r\n",
            text(HeaderName::From),
            text(HeaderName::To),
            String::from_utf8_lossy(response.call_id()),
            response.cseq().number
        );
        self.deliver(
            script,
            Passed {
                flow,
                bytes: ack.into_bytes(),
            },
        );
    }

    pub(super) fn cancel(&mut self, script: &mut Script<'_>) {
        let Some(place) = script.place(self.received.len()) else {
            return;
        };
        let Passed { flow, bytes } = self.received[place].clone();
        if let Some(rest) = bytes.strip_prefix(b"INVITE ") {
            let text = String::from_utf8_lossy(rest).replacen(" INVITE\r\n", " CANCEL\r\n", 1);
            self.deliver(
                script,
                Passed {
                    flow,
                    bytes: format!("CANCEL {text}").into_bytes(),
                },
            );
        }
    }

    /// BYE or re-INVITE by the Record-Route of a request that was sent on, from either end.
    pub(super) fn within_dialog(&mut self, script: &mut Script<'_>) {
        let Some(place) = script.place(self.wire.sent.len()) else {
            return;
        };
        let Passed { flow, bytes } = self.wire.sent[place].clone();
        let mut index = Index::new();
        let Parsed::Good(message) = sip::parse(&bytes, &mut index) else {
            return;
        };
        let Some(recorded) = message.header(HeaderName::RecordRoute) else {
            return;
        };
        let route = String::from_utf8_lossy(recorded.value).into_owned();
        let method = script.pick(&["BYE", "INVITE", "UPDATE", "ACK"]);
        let (from, to) = script.pick(&[
            ("caller", "callee"),
            ("callee", "caller"),
            ("caller", "stranger"),
        ]);
        let target = script.pick(&[
            "sip:alice@203.0.113.9:5070",
            "sip:bob@far.example.org",
            "sip:bob@example.com",
            "sip:10.0.0.9",
        ]);
        // A strict router puts the route into the Request-URI, and the target last.
        let (uri, route) = if script.is_one_in(4) {
            let uri = route
                .trim_start_matches('<')
                .split('>')
                .next()
                .unwrap_or_default()
                .to_owned();
            (uri, format!("<{target}>"))
        } else {
            (target.to_owned(), route)
        };
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch={}\r\nRoute: {route}\r\nMax-Forwards: 70\r\n\
             From: <sip:a@example.com>;tag={from}\r\nTo: <sip:b@example.com>;tag={to}\r\nCall-ID: {}\r\nCSeq: 7 {method}\r\n\
             Content-Length: 0\r\n\r\n",
            flow.peer,
            self.branch(),
            String::from_utf8_lossy(message.call_id())
        );
        self.deliver(
            script,
            Passed {
                flow,
                bytes: text.into_bytes(),
            },
        );
    }
}

const METHODS: [&str; 12] = [
    "INVITE",
    "INVITE",
    "INVITE",
    "OPTIONS",
    "MESSAGE",
    "SUBSCRIBE",
    "REFER",
    "BYE",
    "ACK",
    "CANCEL",
    "FOO",
    "REGISTER",
];
const EXTRAS: [&str; 10] = [
    "Max-Forwards: 70\r\n",
    "Max-Forwards: 70\r\n",
    "Max-Forwards: 70\r\nMax-Breadth: 2\r\n",
    "Max-Forwards: 1\r\n",
    "Max-Forwards: 0\r\n",
    "",
    "Max-Forwards: 70\r\nProxy-Require: x\r\n",
    "Max-Forwards: 70\r\nRecord-Route: <sip:10.1.1.1;lr>\r\nVia: SIP/2.0/UDP 10.1.1.1;branch=z9hG4bKb\r\n",
    "Max-Forwards: 70\r\nMax-Breadth: 0\r\n",
    "Max-Forwards: 70\r\nExpires: 1\r\nRequire: 100rel\r\nSupported: path\r\n",
];
const STATUSES: [u16; 18] = [
    100, 180, 183, 200, 200, 202, 301, 400, 401, 404, 407, 408, 480, 486, 487, 500, 503, 603,
];
