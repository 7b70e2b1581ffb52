//! Digest authentication: who is challenged, what proves a user, what proves nothing, and the wait for the store.

use super::answerer::*;
use super::bed::*;
use strowger::auth::Algorithm;
use strowger::counters::Counter;
use strowger::proxy::StoreSilent;
use strowger::time::Duration;

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
    // His secrets are known; the store is asked all the same, as it is of nobody.
    bed.receive(BOB, &wrong.register(4, &nonce, 1));
    bed.sent_none();
    assert_eq!(bed.asked_for(), "bob");
    bed.tell("bob", Ok(Some(secrets("bob", "secret"))));
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
    assert_eq!(bed.sent_one().status(), 400);
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
