//! A crowd of phones behind one socket, which register as fast as the server answers: many on their way at one time, and each asked again
//! until it is answered.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::phone::DOMAIN;

/// Phones `0..len`, one an AoR.
#[derive(Debug)]
pub(crate) struct Crowd {
    socket: UdpSocket,
    len: usize,
    expires_s: u32,
}

impl Crowd {
    pub(crate) fn new(server: SocketAddr, len: usize, expires_s: u32) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket.connect(server).expect("loopback");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self {
            socket,
            len,
            expires_s,
        }
    }

    /// Registers every phone with this CSeq, and gives how long it took; each answer is a 200.
    #[track_caller]
    pub(crate) fn register(&self, cseq: u32) -> Duration {
        let start = Instant::now();
        let mut is_answered = vec![false; self.len];
        let (mut next, mut out, mut answered) = (0, 0_usize, 0);
        let mut buffer = [0; 4_096];
        while answered < self.len {
            assert!(
                start.elapsed() < LONGEST,
                "{answered} of {} are answered",
                self.len
            );
            while out < WINDOW && next < self.len {
                if !is_answered[next] {
                    self.send(next, cseq);
                    out += 1;
                }
                next += 1;
            }
            let Ok(len) = self.socket.recv(&mut buffer) else {
                // Some were lost: whoever has no answer asks again.
                (next, out) = (0, 0);
                continue;
            };
            let answer = &buffer[..len];
            let text = String::from_utf8_lossy(answer);
            assert!(text.starts_with("SIP/2.0 200"), "{text}");
            let (_, id) = text.split_once("Call-ID: ").expect("a Call-ID");
            let phone: usize = id
                .get(..7)
                .and_then(|digits| digits.parse().ok())
                .expect("ours");
            out = out.saturating_sub(1);
            if !std::mem::replace(&mut is_answered[phone], true) {
                answered += 1;
            }
        }
        start.elapsed()
    }

    /// A contact of 40 bytes, a Call-ID as phones make them, a user agent; behind a NAT, so that the way back is kept.
    fn send(&self, phone: usize, cseq: u32) {
        let (high, low) = (phone >> 8 & 0xff, phone & 0xff);
        let agent = AGENTS[phone % AGENTS.len()];
        let request = format!(
            "REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP 10.77.{high}.{low}:5060;rport;branch=z9hG4bK{phone}x{cseq}\r\nMax-Forwards: 70\r\n\
             From: <sip:1{phone:07}@{DOMAIN}>;tag={phone}\r\nTo: <sip:1{phone:07}@{DOMAIN}>\r\n\
             Call-ID: {phone:07}-3848276298220188511@10.77.{high}.{low}\r\nCSeq: {cseq} REGISTER\r\nUser-Agent: {agent}\r\n\
             Contact: <sip:1{phone:07}@10.77.{high}.{low}:5060;ob>;expires={}\r\nContent-Length: 0\r\n\r\n",
            self.expires_s
        );
        self.socket
            .send(request.as_bytes())
            .expect("a packet leaves");
    }
}

/// What deskphones call themselves.
const AGENTS: [&str; 5] = [
    "Yealink SIP-T46S 66.86.0.15",
    "PolycomVVX-VVX_411-UA/6.4.3.5156",
    "Grandstream GXP2170 1.0.11.48",
    "snomD785/10.1.169.16",
    "Cisco-CP-8845/14.2.1",
];
/// Requests on their way at one time: they fit the server's receive buffer.
const WINDOW: usize = 200;
/// How long an answer may take before it counts as lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long all of it may take.
const LONGEST: Duration = Duration::from_secs(600);
