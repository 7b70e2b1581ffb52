//! Bad input: datagrams that are random, or were a valid message before something happened to them. A seed gives them all.

use std::net::SocketAddr;

/// A generator of bad datagrams; equal seeds give equal datagrams.
#[derive(Debug)]
pub(crate) struct Mutation {
    random: Random,
    messages: Vec<Vec<u8>>,
}

/// A small generator of pseudo-random numbers: SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Debug)]
struct Random(u64);

impl Mutation {
    /// Makes the generator; its valid messages come from `phone` and speak to `server`, some to the registered `user`.
    pub(crate) fn new(seed: u64, phone: SocketAddr, server: SocketAddr, user: &str) -> Self {
        let uri = format!("sip:{user}@example.com");
        let messages = [
            request(
                "REGISTER",
                "sip:example.com",
                phone,
                "Contact: <sip:mutant@192.0.2.9>;q=0.5, <sip:b@192.0.2.8>\r\nExpires: 60\r\n",
                "",
            ),
            request(
                "OPTIONS",
                &format!("sip:{server}"),
                phone,
                "Accept: application/sdp\r\n",
                "",
            ),
            request(
                "INVITE",
                "sip:nobody@example.com",
                phone,
                &contact(phone),
                BODY,
            ),
            request("INVITE", &uri, phone, &contact(phone), BODY),
            request(
                "ACK",
                &uri,
                phone,
                &format!("Route: <sip:{server};lr>\r\n"),
                "",
            ),
            request(
                "BYE",
                &uri,
                phone,
                &format!("Route: <sip:{server};lr>, <sip:{server};lr>\r\n"),
                "",
            ),
            request("CANCEL", &uri, phone, "", ""),
            response("200 OK", server, phone),
            response("180 Ringing", server, phone),
            request(
                "SUBSCRIBE",
                &uri,
                phone,
                "Event: presence\r\nv: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK2\r\n",
                "",
            ),
        ];
        Self {
            random: Random(seed),
            messages: messages.into_iter().map(String::into_bytes).collect(),
        }
    }

    /// The next datagram: one in four is random bytes, the others are mutated messages.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        if self.random.below(4) == 0 {
            let len = self.random.below(1_400);
            return (0..len).map(|_| self.random.byte()).collect();
        }
        let mut message = self.messages[self.random.below(self.messages.len())].clone();
        for _ in 0..=self.random.below(4) {
            self.mutate(&mut message);
        }
        message.truncate(1_472);
        message
    }

    /// The next stream: some messages one behind the other, of which many are mutated, and what else may stand between them.
    pub(crate) fn stream(&mut self) -> Vec<u8> {
        let mut stream = Vec::new();
        for _ in 0..=self.random.below(4) {
            match self.random.below(8) {
                0 => stream.extend_from_slice(b"\r\n\r\n"),
                1 | 2 => {
                    let message = &self.messages[self.random.below(self.messages.len())];
                    stream.extend_from_slice(message);
                }
                _ => stream.extend(self.next()),
            }
        }
        stream
    }

    /// A number below `bound`, for what is done with a stream.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound)
    }

    fn mutate(&mut self, message: &mut Vec<u8>) {
        if message.is_empty() {
            message.push(self.random.byte());
            return;
        }
        let at = self.random.below(message.len());
        let until = (at + 1 + self.random.below(40)).min(message.len());
        match self.random.below(8) {
            0 => message[at] ^= 1 << self.random.below(8),
            1 => message[at] = self.random.byte(),
            2 => drop(message.drain(at..until)),
            3 => message.truncate(at),
            4 => {
                let copied = message[at..until].to_vec();
                message.splice(at..at, copied);
            }
            5 => {
                let token = TOKENS[self.random.below(TOKENS.len())];
                message.splice(at..at, token.iter().copied());
            }
            6 => {
                let other = &self.messages[self.random.below(self.messages.len())];
                let from = self.random.below(other.len());
                message.splice(
                    at..until,
                    other[from..(from + 200).min(other.len())].iter().copied(),
                );
            }
            _ => {
                let digit = message.iter().skip(at).position(u8::is_ascii_digit);
                let at = digit.map_or(at, |ahead| at + ahead);
                message.splice(at..at, b"99999999999999999999".iter().copied());
            }
        }
    }
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("less than a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

fn request(method: &str, uri: &str, phone: SocketAddr, headers: &str, body: &str) -> String {
    let len = body.len();
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {phone};rport;branch=z9hG4bKmutant\r\nMax-Forwards: 70\r\n\
         From: \"M\" <sip:mutant@example.com>;tag=m1\r\nTo: <{uri}>\r\nCall-ID: mutant-1@192.0.2.9\r\nCSeq: 1 {method}\r\n\
         {headers}Content-Length: {len}\r\n\r\n{body}"
    )
}

fn response(line: &str, server: SocketAddr, phone: SocketAddr) -> String {
    format!(
        "SIP/2.0 {line}\r\nVia: SIP/2.0/UDP {server};branch=z9hG4bKforged0123456789abcdef\r\nVia: SIP/2.0/UDP {phone};branch=z9hG4bKm\r\n\
         From: <sip:mutant@example.com>;tag=m1\r\nTo: <sip:nobody@example.com>;tag=t\r\nCall-ID: mutant-1@192.0.2.9\r\n\
         CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
    )
}

fn contact(phone: SocketAddr) -> String {
    format!(
        "Contact: <sip:mutant@{phone}>\r\nRecord-Route: <sip:192.0.2.1;lr>\r\nContent-Type: application/sdp\r\n"
    )
}

const BODY: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\n";

const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\0",
    b":",
    b";",
    b",",
    b"<",
    b">",
    b"\"",
    b"\\",
    b"[",
    b"]",
    b"@",
    b"%00",
    b"%",
    b"\xff\xfe",
    b"*",
    b"SIP/2.0",
    b" ",
    b"\t",
    b";lr",
    b";branch=",
    b";tag=",
    b"z9hG4bK",
    b"sip:",
    b"sips:",
    b"tel:+1",
    b"\r\n ",
    b"Content-Length: 4294967296\r\n",
    b"Contact: *\r\n",
    b"Max-Forwards: 0\r\n",
    b"Route: <sip:192.0.2.1;lr>\r\n",
    b"[::1",
    b";received=",
    b";rport=70000",
];
