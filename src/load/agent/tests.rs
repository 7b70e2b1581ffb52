//! The agents, told moment by moment what comes: what they send, when, and what they count.

use super::*;
use crate::sip::Reply;

/// What was sent, each with the number of its source.
#[derive(Default)]
struct Sent(Vec<(u8, String)>);

impl Wire for Sent {
    fn send(&mut self, flow: &Flow, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.0.push((flow.listener.0, text));
    }
}

struct Bed {
    agent: Agent,
    sent: Sent,
    index: Index,
}

const TARGET: &str = "192.0.2.1:5060";

fn at(ms: u64) -> Instant {
    Instant::from_micros(1_000_000 + ms * 1_000)
}

impl Bed {
    fn new(phones: usize, password: Option<&str>) -> Self {
        let settings = Settings {
            target: TARGET.parse().expect("an address"),
            sources: vec![
                "192.0.2.2:5070".parse().expect("an address"),
                "192.0.2.2:5071".parse().expect("an address"),
            ],
            domain: "example.com".to_owned(),
            expires_s: 600,
            callee: None,
            hold: Duration::from_millis(100),
            ring: Duration::ZERO,
            threshold: T1_64.doubled(),
            is_through: false,
            is_echo: false,
        };
        let accounts = (0..phones).map(|n| (format!("u{n}"), password.map(str::to_owned)));
        Self {
            agent: Agent::new(7, settings, Phones::new(accounts, 2)),
            sent: Sent::default(),
            index: Index::new(),
        }
    }

    fn begin(&mut self, kind: Kind, now_ms: u64, intended_ms: u64) {
        self.agent
            .begin(kind, at(now_ms), at(intended_ms), true, &mut self.sent);
    }

    /// Answers the request that was sent as the `number`th.
    fn answer(&mut self, now_ms: u64, number: usize, status: u16, headers: &str) {
        let mut index = Index::new();
        let (listener, request) = self.sent.0[number].clone();
        let Parsed::Good(message) = parse(request.as_bytes(), &mut index) else {
            panic!("{request}");
        };
        let reply = Reply::new(&message, status, "Whatever")
            .to_tag(b"t")
            .headers(headers.as_bytes());
        let mut response = vec![0; reply.len()];
        reply.write(&mut response).expect("its own length");
        self.receive(now_ms, listener, &response);
    }

    fn receive(&mut self, now_ms: u64, listener: u8, bytes: &[u8]) {
        let datagram = Datagram {
            bytes,
            flow: Flow {
                listener: ListenerId(listener),
                transport: Transport::Udp,
                peer: TARGET.parse().expect("an address"),
            },
            received_at: at(now_ms),
            handed_off: false,
        };
        let Self { agent, sent, index } = self;
        agent.on_datagram(at(now_ms), &datagram, index, sent);
    }

    /// Lets time pass up to `end_ms`; gives when something was sent.
    fn pass(&mut self, end_ms: u64) -> Vec<u64> {
        let mut moments = Vec::new();
        while let Some(deadline) = self.agent.next_deadline()
            && deadline <= at(end_ms)
        {
            let before = self.sent.0.len();
            self.agent.on_timeout(deadline, &mut self.sent);
            let ms = (deadline.as_micros() - 1_000_000) / 1_000;
            moments.extend((before..self.sent.0.len()).map(|_| ms));
        }
        moments
    }

    fn tally(&self, kind: Kind) -> &Tally {
        &self.agent.tallies()[kind as usize]
    }
}

fn line(message: &str, name: &str) -> String {
    let found = message.lines().find_map(|line| line.strip_prefix(name));
    found
        .unwrap_or_else(|| panic!("no {name} in {message}"))
        .to_owned()
}

#[test]
fn a_refresh_has_the_contact_and_call_id_of_before_and_the_next_cseq() {
    let mut bed = Bed::new(2, None);
    for number in 0..4 {
        bed.begin(Kind::Register, 10, 0);
        bed.answer(10, number, 200, "");
    }
    assert_eq!(bed.tally(Kind::Register).successes, 4);
    let [first, other, again] = [0, 1, 2].map(|number| bed.sent.0[number].clone());
    for name in ["Contact: ", "Call-ID: "] {
        assert_eq!(line(&first.1, name), line(&again.1, name));
        assert_ne!(line(&first.1, name), line(&other.1, name));
    }
    assert_eq!(line(&first.1, "CSeq: "), "1 REGISTER");
    assert_eq!(line(&again.1, "CSeq: "), "2 REGISTER");
    assert_eq!((first.0, other.0, again.0), (0, 1, 0));
}

#[test]
fn delays_count_from_when_an_attempt_was_due() {
    let mut bed = Bed::new(1, None);
    bed.begin(Kind::Options, 900, 100);
    bed.answer(1_000, 0, 200, "");
    let tally = bed.tally(Kind::Options);
    let times = [Delay::Answer, Delay::AnswerFromSending, Delay::Lateness];
    let ms = times.map(|delay| tally.times(delay).max_ms());
    assert_eq!(ms.map(|ms| ms as u64), [900, 100, 800]);
}

#[test]
fn a_request_is_sent_again_as_timers_a_and_e_say_and_given_up_by_b_and_f() {
    for (kind, expected) in [
        (
            Kind::Register,
            vec![
                500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
            ],
        ),
        (Kind::Invite, vec![500, 1_500, 3_500, 7_500, 15_500, 31_500]),
    ] {
        let mut bed = Bed::new(2, None);
        bed.begin(kind, 0, 0);
        assert_eq!(bed.pass(31_999), expected, "{kind:?}");
        assert!(bed.sent.0.iter().all(|sent| *sent == bed.sent.0[0]));
        assert_eq!(bed.tally(kind).retransmissions, expected.len() as u64);
        assert_eq!(bed.tally(kind).failed(), 0);
        assert!(bed.pass(40_000).is_empty());
        assert_eq!(bed.tally(kind).failures(), "timeout: 1");
        assert_eq!(bed.agent.under_way(), 0);
        // What comes now is for nobody.
        bed.answer(40_000, 0, 200, "");
        assert_eq!((bed.agent.strays, bed.tally(kind).successes), (1, 0));
    }
}

#[test]
fn a_phone_has_one_registration_under_way() {
    let mut bed = Bed::new(1, None);
    bed.begin(Kind::Register, 0, 0);
    bed.begin(Kind::Register, 1, 1);
    let tally = bed.tally(Kind::Register);
    assert_eq!((tally.attempts, tally.unsent, bed.sent.0.len()), (2, 1, 1));
}

#[test]
fn a_challenge_is_part_of_the_attempt_and_its_nonce_is_used_again() {
    let challenge = |nonce: &str| {
        format!(
            "WWW-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\", qop=\"auth\", algorithm=SHA-256\r\n"
        )
    };
    let mut bed = Bed::new(1, Some("secret"));
    bed.begin(Kind::Register, 0, 0);
    bed.answer(100, 0, 401, &challenge("one"));
    assert!(line(&bed.sent.0[1].1, "Authorization: ").contains("nc=00000001"));
    bed.answer(200, 1, 200, "");
    bed.begin(Kind::Register, 300, 300);
    assert!(line(&bed.sent.0[2].1, "Authorization: ").contains("nc=00000002"));
    // Stale: a new nonce is no refusal. The same one again is.
    bed.answer(400, 2, 401, &challenge("two"));
    bed.answer(500, 3, 401, &challenge("two"));
    let tally = bed.tally(Kind::Register);
    assert_eq!((tally.successes, tally.challenges), (1, 2));
    assert_eq!(tally.failures(), "401: 1");
    assert_eq!(tally.times(Delay::Answer).max_ms() as u64, 200);
    assert_eq!(line(&bed.sent.0[3].1, "CSeq: "), "4 REGISTER");
}

#[test]
fn a_session_is_established_held_and_ended() {
    let mut bed = Bed::new(2, None);
    bed.begin(Kind::Invite, 0, 0);
    bed.answer(10, 0, 100, "");
    bed.answer(20, 0, 180, "");
    let headers = "Contact: <sip:u1@192.0.2.9:5080>\r\nRecord-Route: <sip:a@192.0.2.7:5066;lr>\r\n\
                   Record-Route: <sip:b@192.0.2.1;lr>\r\n";
    bed.answer(30, 0, 200, headers);
    bed.answer(40, 0, 200, headers);
    let acks: Vec<&String> = bed.sent.0[1..].iter().map(|(_, text)| text).collect();
    assert_eq!(
        acks.len(),
        2,
        "a 2xx that comes again is acknowledged again"
    );
    assert_eq!(acks[0], acks[1]);
    assert!(acks[0].starts_with("ACK sip:u1@192.0.2.9:5080 SIP/2.0\r\n"));
    assert_eq!(line(acks[0], "Route: "), "<sip:b@192.0.2.1;lr>");
    assert!(line(acks[0], "To: ").ends_with(";tag=t"));
    assert!(bed.pass(129).is_empty());
    assert_eq!(bed.pass(131), [130]);
    let bye = bed.sent.0.len() - 1;
    assert!(bed.sent.0[bye].1.starts_with("BYE sip:u1@192.0.2.9:5080 "));
    assert_eq!(line(&bed.sent.0[bye].1, "CSeq: "), "2 BYE");
    bed.answer(150, bye, 200, "");
    let tally = bed.tally(Kind::Invite);
    assert_eq!((tally.established, tally.successes), (1, 1));
    let ms =
        [Delay::Ring, Delay::Answer, Delay::Disconnect].map(|delay| tally.times(delay).max_ms());
    assert_eq!(ms.map(|ms| ms as u64), [20, 30, 20]);
}

#[test]
fn a_refused_session_is_acknowledged_and_failed() {
    let mut bed = Bed::new(2, None);
    bed.begin(Kind::Invite, 0, 0);
    bed.answer(10, 0, 486, "");
    let ack = &bed.sent.0[1].1;
    assert!(ack.starts_with("ACK sip:u1@example.com "));
    assert_eq!(line(ack, "Via: "), line(&bed.sent.0[0].1, "Via: "));
    assert_eq!(bed.tally(Kind::Invite).failures(), "486: 1");
}

#[test]
fn the_called_side_rings_answers_and_is_hung_up() {
    let mut bed = Bed::new(2, None);
    bed.begin(Kind::Invite, 0, 0);
    let invite = bed.sent.0[0].1.clone();
    for _ in 0..2 {
        bed.receive(1, 1, invite.as_bytes());
    }
    let said: Vec<String> = bed.sent.0[1..]
        .iter()
        .map(|(_, text)| text[..11].to_owned())
        .collect();
    assert_eq!(said, ["SIP/2.0 180", "SIP/2.0 200", "SIP/2.0 200"]);
    assert!(line(&bed.sent.0[2].1, "Contact: ").contains("192.0.2.2:5071"));
    assert!(bed.sent.0[2].1.contains("m=audio"));
    // Until its ACK comes the 200 is sent again.
    bed.receive(400, 1, invite.replace("INVITE", "ACK").as_bytes());
    let before = bed.sent.0.len();
    bed.pass(1_400);
    let after = &bed.sent.0[before..];
    assert!(after.iter().all(|(_, text)| text.starts_with("INVITE")));
    bed.receive(1_500, 1, invite.replace("INVITE", "BYE").as_bytes());
    assert!(
        bed.sent
            .0
            .last()
            .expect("an answer")
            .1
            .starts_with("SIP/2.0 200")
    );
    let taken = bed.agent.callees().taken();
    assert_eq!(
        (
            taken.sessions,
            taken.acknowledged,
            taken.ended,
            taken.repeated
        ),
        (1, 1, 1, 1)
    );
}

#[test]
fn what_cannot_be_delivered_fails_at_once() {
    let mut bed = Bed::new(1, None);
    bed.begin(Kind::Register, 0, 0);
    let quoted = bed.sent.0[0].1.as_bytes()[..200].to_vec();
    bed.agent.on_unreachable(&quoted);
    bed.agent.on_unreachable(b"REGISTER");
    assert_eq!(bed.tally(Kind::Register).failures(), "unreachable: 1");
    assert_eq!(bed.agent.under_way(), 0);
}
