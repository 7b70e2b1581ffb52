//! What phones ask of the server itself: REGISTER in its forms, and OPTIONS.

use std::net::SocketAddr;

use strowger::auth::{Algorithm, Proof, Qop};
use strowger::location::{Ha1s, Secrets};
use strowger::time::Duration;

use super::bed::{Arrival, BATCH, Bed, Measured, REALM};
use super::message;

/// The order in which phones come: another phone each time, none twice before all have come.
pub(crate) fn order(phones: u32) -> impl Fn(u32) -> u32 {
    // A step that shares no factor with the number of phones goes through all of them.
    let common = |mut a: u32, mut b: u32| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let step = (phones * 5 / 8..)
        .find(|step| common(*step, phones) == 1)
        .unwrap_or(1);
    move |n| (u64::from(n) * u64::from(step) % u64::from(phones)) as u32
}

/// Registers all phones, and asks for nothing but that they are.
pub(crate) fn register_all(bed: &mut Bed, phones: u32, register: impl Fn(u32) -> Arrival) {
    let order = order(phones);
    let all: Vec<u32> = (0..phones).map(&order).collect();
    for batch in all.chunks(BATCH) {
        let arrivals: Vec<Arrival> = batch.iter().map(|phone| register(*phone)).collect();
        bed.receive_unmeasured(Duration::from_micros(320), &arrivals);
        assert!(
            bed.sent
                .messages()
                .all(|sent| sent.starts_with(b"SIP/2.0 200"))
        );
    }
    assert_eq!(bed.location.bindings(), phones as usize);
}

/// Lets `operations` messages arrive, and expects 200 to each.
fn ask(bed: &mut Bed, operations: u32, ask: impl Fn(u32) -> Arrival) {
    let batch = BATCH as u32;
    for n in 0..operations / batch {
        let arrivals: Vec<Arrival> = (n * batch..(n + 1) * batch).map(&ask).collect();
        bed.receive(Duration::from_micros(320), &arrivals);
        bed.note();
        assert_eq!(bed.sent.lens.len(), BATCH);
        assert!(
            bed.sent
                .messages()
                .all(|sent| sent.starts_with(b"SIP/2.0 200"))
        );
    }
}

/// Phones that come back, each with the next CSeq.
pub(crate) fn refresh(phones: u32, operations: u32) -> Measured {
    let mut bed = Bed::new();
    let plain = |phone, cseq| message::register(phone, cseq, message::address(phone), "", "");
    register_all(&mut bed, phones, |phone| plain(phone, 1));
    let order = order(phones);
    ask(&mut bed, operations, |n| plain(order(n), 2 + n / phones));
    bed.measured(BATCH)
}

/// The same of phones whose router stands between, and which name their instance.
pub(crate) fn refresh_behind_nat(phones: u32, operations: u32) -> Measured {
    let mut bed = Bed::new();
    let hidden: SocketAddr = "192.168.178.31:5060".parse().expect("an address");
    let behind_nat = |phone: u32, cseq| {
        let instance =
            format!(";+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{phone:012x}>\";q=0.5");
        message::register(phone, cseq, hidden, &instance, "Supported: path\r\n")
    };
    register_all(&mut bed, phones, |phone| behind_nat(phone, 1));
    let order = order(phones);
    ask(&mut bed, operations, |n| {
        behind_nat(order(n), 2 + n / phones)
    });
    bed.measured(BATCH)
}

/// The same, each with its own nonce and a count that grows.
pub(crate) fn refresh_with_digest(phones: u32, operations: u32) -> Measured {
    let mut bed = Bed::with_digest();
    let ha1 =
        |phone| Algorithm::Md5.ha1(message::user(phone).as_bytes(), REALM.as_bytes(), b"secret");
    let until = bed.now + Duration::from_secs(86_400);
    let mut nonces = Vec::new();
    for phone in 0..phones {
        let hex = ha1(phone);
        let mut md5 = [0; 16];
        for (byte, digits) in md5.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let digits = str::from_utf8(digits).expect("hex");
            *byte = u8::from_str_radix(digits, 16).expect("hex");
        }
        let secrets = Secrets {
            bare: Ha1s {
                md5: Some(md5),
                ..Ha1s::default()
            },
            with_domain: Ha1s::default(),
        };
        let users = bed.location.users();
        users.learn(message::user(phone).as_bytes(), Some(secrets), until);
        let asked = message::register(phone, 1, message::address(phone), "", "");
        bed.receive_unmeasured(Duration::from_micros(10), &[asked]);
        let challenge = bed.sent.messages().next().expect("a challenge");
        let challenge = String::from_utf8_lossy(challenge);
        let nonce = challenge.split("nonce=\"").nth(1).expect("a nonce");
        nonces.push(nonce.split('"').next().expect("its end").to_owned());
    }
    let proven = |phone: u32, count: u32| {
        let nc = format!("{count:08x}");
        let proof = Proof {
            method: b"REGISTER",
            uri: b"sip:example.com",
            nonce: nonces[phone as usize].as_bytes(),
            qop: Some(Qop {
                name: b"auth",
                nc: nc.as_bytes(),
                cnonce: b"0a4f113b",
            }),
        };
        let response = Algorithm::Md5.response(ha1(phone).as_bytes(), &proof);
        let header = format!(
            "Authorization: Digest username=\"{}\", realm=\"{REALM}\", nonce=\"{}\", uri=\"sip:example.com\", \
             response=\"{}\", algorithm=MD5, cnonce=\"0a4f113b\", qop=auth, nc={nc}\r\n",
            message::user(phone),
            nonces[phone as usize],
            String::from_utf8_lossy(response.as_bytes())
        );
        message::register(phone, 1 + count, message::address(phone), "", &header)
    };
    register_all(&mut bed, phones, |phone| proven(phone, 1));
    let order = order(phones);
    ask(&mut bed, operations, |n| proven(order(n), 2 + n / phones));
    bed.measured(BATCH)
}

/// Phones and peers that ask whether the server lives.
pub(crate) fn options(phones: u32, operations: u32) -> Measured {
    let mut bed = Bed::new();
    register_all(&mut bed, phones, |phone| {
        message::register(phone, 1, message::address(phone), "", "")
    });
    let order = order(phones);
    ask(&mut bed, operations, |n| message::options(order(n), n));
    bed.measured(BATCH)
}
