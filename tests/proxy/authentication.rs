//! Digest authentication: who is challenged, what proves a user, what proves nothing, and the wait for the store.

use super::bed::*;
use std::sync::Arc;
use strowger::auth::{Algorithm, Proof, Qop};
use strowger::counters::Counter;
use strowger::location::Secrets;
use strowger::proxy::{AuthSettings, Settings, StoreSilent, Trunk};
use strowger::time::Duration;

const REALM: &str = "example.com";
const CARRIER: &str = "198.51.100.7:5060";

fn with_auth(settings: &mut Settings) {
    settings.auth = Some(AuthSettings {
        realm: REALM.to_owned(),
        algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
        nonce_lifetime: Duration::from_secs(300),
    });
    settings.trunk = Some(Arc::new(Trunk {
        addresses: vec!["198.51.100.0/24".parse().expect("a network")],
        host: "198.51.100.7".to_owned(),
        port: None,
        transport: None,
    }));
    settings.peers = vec!["198.51.100.0/24".parse().expect("a network")];
}

fn bed() -> Bed {
    Bed::with_settings(1, with_auth)
}

fn secrets(user: &str, password: &str) -> Secrets {
    let raw = |algorithm: Algorithm| {
        let hex = algorithm.ha1(user.as_bytes(), REALM.as_bytes(), password.as_bytes());
        data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hex")
    };
    Secrets {
        sha512_256: raw(Algorithm::Sha512_256).try_into().ok(),
        sha256: raw(Algorithm::Sha256).try_into().ok(),
        md5: raw(Algorithm::Md5).try_into().ok(),
    }
}

/// A phone that answers challenges.
#[derive(Clone)]
struct Answerer {
    user: &'static str,
    password: &'static str,
    realm: &'static str,
    algorithm: Algorithm,
    has_qop: bool,
}

const BOB_ANSWERS: Answerer = Answerer {
    user: "bob",
    password: "secret",
    realm: REALM,
    algorithm: Algorithm::Sha256,
    has_qop: true,
};

const ALICE_ANSWERS: Answerer = Answerer {
    user: "alice",
    ..BOB_ANSWERS
};

impl Answerer {
    /// The header line that answers a nonce in a request with this method and URI.
    fn line(&self, name: &str, method: &str, uri: &str, nonce: &str, nc: u32) -> String {
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
    fn register(&self, cseq: u32, nonce: &str, nc: u32) -> String {
        register(
            self.user,
            BOB,
            cseq,
            &self.line("Authorization", "REGISTER", "sip:example.com", nonce, nc),
        )
    }
}

fn nonce_of(challenge: &Sent) -> String {
    let header = challenge
        .header("WWW-Authenticate")
        .or_else(|| challenge.header("Proxy-Authenticate"));
    let value = header.expect("a challenge");
    let from = value.find("nonce=\"").expect("a nonce") + 7;
    let len = value[from..].find('"').expect("its end");
    value[from..from + len].to_owned()
}

/// Bob's REGISTER without credentials is challenged; gives the nonce.
fn challenged(bed: &mut Bed, cseq: u32) -> String {
    bed.receive(BOB, &register("bob", BOB, cseq, ""));
    let challenge = bed.sent_one();
    assert_eq!(challenge.status(), 401);
    nonce_of(&challenge)
}

/// Bob registers, and his secrets are known from then on.
fn bob_registers(bed: &mut Bed) {
    let nonce = challenged(bed, 1);
    bed.receive(BOB, &BOB_ANSWERS.register(2, &nonce, 1));
    assert_eq!(bed.asked_for(), "bob");
    bed.tell("bob", Ok(Some(secrets("bob", "secret"))));
    assert_eq!(bed.sent_one().status(), 200);
}

#[test]
fn a_challenge_offers_every_algorithm_the_best_first() {
    let mut bed = bed();
    bed.receive(BOB, &register("bob", BOB, 1, ""));
    let challenge = bed.sent_one();
    let offers = challenge.headers("WWW-Authenticate");
    assert_eq!(offers.len(), 2);
    assert!(offers[0].contains("algorithm=SHA-256") && offers[1].contains("algorithm=MD5"));
    assert!(
        offers
            .iter()
            .all(|offer| offer.contains("realm=\"example.com\"") && offer.contains("qop=\"auth\""))
    );
    bed.asked_for_none();
    assert_eq!(bed.location.bindings(), 0);
}

#[test]
fn a_registrant_waits_for_the_store_once_and_its_retransmissions_with_it() {
    let mut bed = bed();
    let nonce = challenged(&mut bed, 1);
    let answer = BOB_ANSWERS.register(2, &nonce, 1);
    bed.receive(BOB, &answer);
    bed.receive(BOB, &answer);
    bed.sent_none();
    assert_eq!(bed.asked_for(), "bob");
    bed.tell("bob", Ok(Some(secrets("bob", "secret"))));
    assert_eq!(bed.sent_one().status(), 200);
    // From now on the answer is at once; the same message again is no replay.
    bed.receive(BOB, &answer);
    assert_eq!(bed.sent_one().status(), 200);
    bed.receive(BOB, &BOB_ANSWERS.register(3, &nonce, 2));
    assert_eq!(bed.sent_one().status(), 200);
    bed.asked_for_none();
    assert_eq!(bed.location.bindings(), 1);
    bed.assert_empty();
}

#[test]
fn nobody_and_a_wrong_password_are_not_told_apart() {
    let mut bed = bed();
    bob_registers(&mut bed);
    let wrong = Answerer {
        password: "guess",
        ..BOB_ANSWERS
    };
    let nobody = Answerer {
        user: "nobody",
        ..BOB_ANSWERS
    };
    let nonce = challenged(&mut bed, 3);
    bed.receive(BOB, &wrong.register(4, &nonce, 1));
    let wrong = bed.sent_one();
    bed.receive(BOB, &nobody.register(4, &nonce, 1));
    assert_eq!(bed.asked_for(), "nobody");
    bed.tell("nobody", Ok(None));
    let nobody = bed.sent_one();
    let shape = |sent: &Sent| {
        let nonce = nonce_of(sent);
        let text = sent.text.replace(&nonce, "N");
        let lines = text.lines().filter(|line| {
            !line.starts_with("To:")
                && !line.starts_with("From:")
                && !line.starts_with("Call-ID:")
                && !line.starts_with("Via:")
        });
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(shape(&wrong), shape(&nobody));
    assert_eq!(wrong.status(), 401);
    assert!(!wrong.text.contains("stale"));
    assert_eq!(bed.count(Counter::AuthenticationFailed), 2);
}

#[test]
fn old_replayed_and_tampered_nonces_prove_nothing() {
    let mut bed = bed();
    bob_registers(&mut bed);
    let nonce = challenged(&mut bed, 3);
    bed.receive(BOB, &BOB_ANSWERS.register(4, &nonce, 1));
    assert_eq!(bed.sent_one().status(), 200);
    // The count again, in another request.
    bed.receive(BOB, &BOB_ANSWERS.register(5, &nonce, 1));
    let replayed = bed.sent_one();
    assert_eq!(replayed.status(), 401);
    assert!(replayed.text.contains("stale=true"));
    assert_eq!(bed.count(Counter::NonceReplayed), 1);
    // The credentials of one request in another one: the same nonce and count, another contact.
    let stolen = BOB_ANSWERS
        .register(4, &nonce, 1)
        .replace(BOB, "203.0.113.66:5060");
    bed.receive("203.0.113.66:5060", &stolen);
    assert_eq!(bed.sent_one().status(), 401);
    assert_eq!(bed.location.bindings(), 1);
    let mut tampered = nonce.clone().into_bytes();
    tampered[3] = if tampered[3] == b'a' { b'b' } else { b'a' };
    let tampered = String::from_utf8(tampered).expect("letters");
    bed.receive(BOB, &BOB_ANSWERS.register(6, &tampered, 1));
    let refused = bed.sent_one();
    assert_eq!(refused.status(), 401);
    assert!(!refused.text.contains("stale"));
    // Time passes; the secrets must be asked for again, too.
    bed.wait(Duration::from_secs(301));
    bed.receive(BOB, &BOB_ANSWERS.register(7, &nonce, 2));
    bed.asked_for();
    bed.tell("bob", Ok(Some(secrets("bob", "secret"))));
    let stale = bed.sent_one();
    assert_eq!(stale.status(), 401);
    assert!(stale.text.contains("stale=true"));
}

#[test]
fn another_realm_is_no_answer_and_another_user_is_refused() {
    let mut bed = bed();
    let nonce = challenged(&mut bed, 1);
    let other = Answerer {
        realm: "elsewhere.example",
        ..BOB_ANSWERS
    };
    bed.receive(BOB, &other.register(2, &nonce, 1));
    assert_eq!(bed.sent_one().status(), 401);
    // Mallory's credentials for Bob's AoR.
    let line = Answerer {
        user: "mallory",
        ..BOB_ANSWERS
    }
    .line("Authorization", "REGISTER", "sip:example.com", &nonce, 1);
    bed.receive(BOB, &register("bob", BOB, 3, &line));
    assert_eq!(bed.sent_one().status(), 403);
    bed.asked_for_none();
    assert_eq!(bed.count(Counter::RefusedIdentity), 1);
    // What was meant for another request is no proof for this one.
    bob_registers(&mut bed);
    let nonce = challenged(&mut bed, 9);
    let line = BOB_ANSWERS.line("Authorization", "REGISTER", "sip:other.example", &nonce, 1);
    bed.receive(BOB, &register("bob", BOB, 10, &line));
    assert_eq!(bed.sent_one().status(), 401);
}

#[test]
fn old_phones_answer_with_md5_and_without_qop() {
    let mut bed = bed();
    bob_registers(&mut bed);
    for (cseq, has_qop) in [(10, true), (20, false)] {
        let old = Answerer {
            algorithm: Algorithm::Md5,
            has_qop,
            ..BOB_ANSWERS
        };
        let nonce = challenged(&mut bed, cseq);
        bed.receive(BOB, &old.register(cseq + 1, &nonce, 1));
        assert_eq!(bed.sent_one().status(), 200, "{has_qop}");
        // Without a count a nonce is good once.
        bed.receive(BOB, &old.register(cseq + 2, &nonce, 2));
        let again = bed.sent_one();
        assert_eq!(again.status(), if has_qop { 200 } else { 401 });
    }
    // An algorithm that was not offered is none.
    let other = Answerer {
        algorithm: Algorithm::Sha512_256,
        ..BOB_ANSWERS
    };
    let nonce = challenged(&mut bed, 30);
    bed.receive(BOB, &other.register(31, &nonce, 1));
    assert_eq!(bed.sent_one().status(), 401);
}

#[test]
fn a_store_that_is_silent_stops_no_phone_that_was_here_before() {
    let mut bed = bed();
    bob_registers(&mut bed);
    bed.wait(Duration::from_secs(301));
    let nonce = challenged(&mut bed, 3);
    bed.receive(BOB, &BOB_ANSWERS.register(4, &nonce, 1));
    bed.asked_for();
    bed.tell("bob", Err(StoreSilent));
    assert_eq!(bed.sent_one().status(), 200);
    // One that was never here is told to come again.
    let line = ALICE_ANSWERS.line("Authorization", "REGISTER", "sip:example.com", &nonce, 1);
    bed.receive(ALICE, &register("alice", ALICE, 1, &line));
    bed.asked_for();
    bed.tell("alice", Err(StoreSilent));
    let refused = bed.sent_one();
    assert_eq!(refused.status(), 503);
    assert!(refused.header("Retry-After").is_some());
    bed.assert_empty();
}

#[test]
fn no_request_waits_for_ever_or_in_vain() {
    let mut bed = bed();
    let nonce = challenged(&mut bed, 1);
    bed.receive(BOB, &BOB_ANSWERS.register(2, &nonce, 1));
    bed.asked_for();
    bed.wait(Duration::from_secs(6));
    assert_eq!(bed.sent_one().status(), 503);
    bed.assert_empty();
    bed.fill_store();
    bed.receive(BOB, &BOB_ANSWERS.register(3, &nonce, 2));
    assert_eq!(bed.sent_one().status(), 503);
    assert_eq!(bed.count(Counter::RefusedWaiting), 2);
}

#[test]
fn our_users_prove_themselves_and_then_call_whom_they_like() {
    let mut bed = bed();
    bob_registers(&mut bed);
    // Foreign or not, without credentials she is challenged.
    for (uri, branch) in [
        ("sip:bob@example.com", "a1"),
        ("sip:+49301@pstn.example.net", "a2"),
    ] {
        bed.receive(ALICE, &request("INVITE", uri, ALICE, branch, ""));
        assert_eq!(bed.sent_one().status(), 407, "{uri}");
        bed.assert_empty();
    }
    bed.receive(
        ALICE,
        &request("INVITE", "sip:+49301@pstn.example.net", ALICE, "a3", ""),
    );
    let nonce = nonce_of(&bed.sent_one());
    let uri = "sip:+49301@pstn.example.net";
    let line = ALICE_ANSWERS.line("Proxy-Authorization", "INVITE", uri, &nonce, 1);
    let call = request("INVITE", uri, ALICE, "a4", &line);
    bed.receive(ALICE, &call);
    assert_eq!(bed.asked_for(), "alice");
    assert_eq!(bed.sent_one().status(), 100);
    bed.tell("alice", Ok(Some(secrets("alice", "secret"))));
    let (trying, relayed) = bed.sent_two();
    assert_eq!((trying.status(), relayed.to().as_str()), (100, CARRIER));
    // What was for us goes no further.
    assert!(relayed.headers("Proxy-Authorization").is_empty());
    bed.receive(
        CARRIER,
        &relayed.answer(200, &format!("Contact: <sip:{CARRIER}>\n")),
    );
    let ok = bed.sent_one();
    // In the dialog nobody is asked again.
    let route = format!("Route: {}\n", relayed.header("Record-Route").expect("ours"));
    let bye = request("BYE", &format!("sip:{CARRIER}"), ALICE, "a5", &route).replace(
        "To: <sip:bob@example.com>",
        &format!("To: {}", ok.header("To").expect("a To")),
    );
    bed.receive(ALICE, &bye);
    assert_eq!(bed.sent_one().to(), CARRIER);
}

#[test]
fn a_caller_who_gives_up_while_the_store_is_asked_gets_487() {
    let mut bed = bed();
    bed.receive(
        ALICE,
        &request("INVITE", "sip:bob@example.com", ALICE, "w1", ""),
    );
    let nonce = nonce_of(&bed.sent_one());
    let line = ALICE_ANSWERS.line(
        "Proxy-Authorization",
        "INVITE",
        "sip:bob@example.com",
        &nonce,
        1,
    );
    bed.receive(
        ALICE,
        &request("INVITE", "sip:bob@example.com", ALICE, "w2", &line),
    );
    assert_eq!(bed.sent_one().status(), 100);
    bed.receive(
        ALICE,
        &request("CANCEL", "sip:bob@example.com", ALICE, "w2", ""),
    );
    let (ok, gone) = bed.sent_two();
    assert_eq!((ok.status(), gone.status()), (200, 487));
    bed.tell("alice", Ok(Some(secrets("alice", "secret"))));
    bed.sent_none();
    bed.assert_empty();
}

#[test]
fn who_may_go_where_with_authentication() {
    let mut bed = bed();
    bob_registers(&mut bed);
    // A stranger reaches our users, and nobody else.
    let stranger = |uri: &str, branch: &str| {
        request("MESSAGE", uri, "203.0.113.77:5060", branch, "")
            .replace("alice@example.com", "eve@elsewhere.example")
    };
    bed.receive("203.0.113.77:5060", &stranger("sip:bob@example.com", "s1"));
    assert_eq!(bed.sent_one().to(), BOB);
    bed.receive("203.0.113.77:5060", &stranger("sip:x@198.18.0.1", "s2"));
    assert_eq!(bed.sent_one().status(), 403);
    // A peer is not challenged, not even in our users' name.
    bed.receive(
        CARRIER,
        &request("MESSAGE", "sip:bob@example.com", CARRIER, "s3", ""),
    );
    assert_eq!(bed.sent_one().to(), BOB);
    bed.receive(
        CARRIER,
        &request("MESSAGE", "sip:x@198.18.0.1", CARRIER, "s4", ""),
    );
    assert_eq!(bed.sent_one().to(), "198.18.0.1:5060");
    assert_eq!(bed.count(Counter::RefusedForeign), 1);
}

#[test]
fn credentials_that_are_none_are_400_and_another_scheme_is_no_answer() {
    let mut bed = bed();
    bed.receive(
        BOB,
        &register("bob", BOB, 1, "Authorization: Digest username=\"bob\"\n"),
    );
    assert_eq!(bed.sent_one().status(), 400);
    bed.receive(
        BOB,
        &register(
            "bob",
            BOB,
            2,
            "Authorization: NoOneKnowsThisScheme opaque-data=here\n",
        ),
    );
    assert_eq!(bed.sent_one().status(), 401);
}
