//! Phones that answer challenges, and a proxy that challenges them.

use super::bed::*;
use std::sync::Arc;
use strowger::auth::{Algorithm, Proof, Qop};
use strowger::location::{Ha1s, Secrets};
use strowger::proxy::{AuthSettings, Settings, Trunk};
use strowger::time::Duration;

pub(crate) const REALM: &str = "example.com";
pub(crate) const CARRIER: &str = "198.51.100.7:5060";

pub(crate) fn with_auth(settings: &mut Settings) {
    settings.auth = Some(AuthSettings {
        realm: REALM.to_owned(),
        algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
        nonce_lifetime: Duration::from_secs(300),
        ephemeral: None,
    });
    settings.trunk = Some(Arc::new(Trunk {
        addresses: vec!["198.51.100.0/24".parse().expect("a network")],
        host: "198.51.100.7".to_owned(),
        port: None,
        transport: None,
    }));
    settings.peers = vec!["198.51.100.0/24".parse().expect("a network")];
}

pub(crate) fn bed() -> Bed {
    Bed::with_settings(1, with_auth)
}

pub(crate) fn secrets(user: &str, password: &str) -> Secrets {
    Secrets {
        bare: ha1s(user, password),
        with_domain: ha1s(&format!("{user}@{REALM}"), password),
    }
}

pub(crate) fn ha1s(user: &str, password: &str) -> Ha1s {
    let raw = |algorithm: Algorithm| {
        let hex = algorithm.ha1(user.as_bytes(), REALM.as_bytes(), password.as_bytes());
        data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hex")
    };
    Ha1s {
        sha512_256: raw(Algorithm::Sha512_256).try_into().ok(),
        sha256: raw(Algorithm::Sha256).try_into().ok(),
        md5: raw(Algorithm::Md5).try_into().ok(),
    }
}

/// A phone that answers challenges.
#[derive(Clone)]
pub(crate) struct Answerer {
    pub(crate) user: &'static str,
    pub(crate) password: &'static str,
    pub(crate) realm: &'static str,
    pub(crate) algorithm: Algorithm,
    pub(crate) has_qop: bool,
}

pub(crate) const BOB_ANSWERS: Answerer = Answerer {
    user: "bob",
    password: "secret",
    realm: REALM,
    algorithm: Algorithm::Sha256,
    has_qop: true,
};

pub(crate) const ALICE_ANSWERS: Answerer = Answerer {
    user: "alice",
    ..BOB_ANSWERS
};

impl Answerer {
    /// The header line that answers a nonce in a request with this method and URI.
    pub(crate) fn line(&self, name: &str, method: &str, uri: &str, nonce: &str, nc: u32) -> String {
        let count = format!("{nc:08x}");
        let qop = Qop {
            name: b"auth",
            nc: count.as_bytes(),
            cnonce: b"0a4f113b",
        };
        let proof = Proof {
            method: method.as_bytes(),
            uri: uri.as_bytes(),
            nonce: nonce.as_bytes(),
            qop: self.has_qop.then_some(qop),
        };
        let ha1 = self.algorithm.ha1(
            self.user.as_bytes(),
            self.realm.as_bytes(),
            self.password.as_bytes(),
        );
        let response = self.algorithm.response(ha1.as_bytes(), &proof);
        let response = String::from_utf8_lossy(response.as_bytes()).into_owned();
        let qop = if self.has_qop {
            format!(", qop=auth, nc={count}, cnonce=\"0a4f113b\"")
        } else {
            String::new()
        };
        format!(
            "{name}: Digest username=\"{}\", realm=\"{}\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm={}, response=\"{response}\"{qop}\n",
            self.user,
            self.realm,
            self.algorithm.as_str()
        )
    }

    /// A REGISTER that answers a nonce.
    pub(crate) fn register(&self, cseq: u32, nonce: &str, nc: u32) -> String {
        register(
            self.user,
            BOB,
            cseq,
            &self.line("Authorization", "REGISTER", "sip:example.com", nonce, nc),
        )
    }
}

pub(crate) fn nonce_of(challenge: &Sent) -> String {
    let header = challenge
        .header("WWW-Authenticate")
        .or_else(|| challenge.header("Proxy-Authenticate"));
    let value = header.expect("a challenge");
    let from = value.find("nonce=\"").expect("a nonce") + 7;
    let len = value[from..].find('"').expect("its end");
    value[from..from + len].to_owned()
}

/// Bob's REGISTER without credentials is challenged; gives the nonce.
pub(crate) fn challenged(bed: &mut Bed, cseq: u32) -> String {
    bed.receive(BOB, &register("bob", BOB, cseq, ""));
    let challenge = bed.sent_one();
    assert_eq!(challenge.status(), 401);
    nonce_of(&challenge)
}

/// Bob registers, and his secrets are known from then on.
pub(crate) fn bob_registers(bed: &mut Bed) {
    let nonce = challenged(bed, 1);
    bed.receive(BOB, &BOB_ANSWERS.register(2, &nonce, 1));
    assert_eq!(bed.asked_for(), "bob");
    bed.tell("bob", Ok(Some(secrets("bob", "secret"))));
    assert_eq!(bed.sent_one().status(), 200);
}
