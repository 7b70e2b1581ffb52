//! Credentials in every shape: what an honest phone may write, what a hostile one does, and what neither is told.

use super::answerer::*;
use super::bed::*;
use strowger::auth::{Algorithm, Ephemeral, EphemeralHash, EphemeralOrder};
use strowger::counters::Counter;
use strowger::location::{FailureKind, Failures, Secrets, Source};
use strowger::proxy::StoreSilent;
use strowger::time::Duration;

const GUESSES: Answerer = Answerer {
    password: "guess",
    ..BOB_ANSWERS
};

const NOBODY: Answerer = Answerer {
    user: "nobody",
    ..BOB_ANSWERS
};

/// Sends Bob's REGISTER with these header lines, and gives the status.
fn status_of(bed: &mut Bed, cseq: u32, lines: &str) -> u16 {
    bed.receive(BOB, &register("bob", BOB, cseq, lines));
    bed.sent_one().status()
}

/// Bob's right answer to a new nonce, for a test to spoil.
fn right_line(bed: &mut Bed, cseq: u32) -> String {
    let nonce = challenged(bed, cseq);
    BOB_ANSWERS.line("Authorization", "REGISTER", "sip:example.com", &nonce, 1)
}

/// All sources that failed.
fn sources(bed: &Bed) -> Vec<Source> {
    let mut found = Vec::new();
    for part in 0..Failures::PARTS {
        let failures = bed.location.users().failures();
        failures.each_of(part, |source| found.push(*source));
    }
    found
}

#[test]
fn what_is_missing_or_improper_is_400_and_asks_nobody() {
    let mut bed = bed();
    bob_registers(&mut bed);
    let spoilt: [(&str, &str); 9] = [
        (", nc=00000001", ""),
        (", cnonce=\"0a4f113b\"", ""),
        ("cnonce=\"0a4f113b\"", "cnonce=\"\""),
        ("nc=00000001", "nc=1"),
        ("nc=00000001", "nc=+0000001"),
        ("nc=00000001", "nc=0000000g"),
        ("username=\"bob\", ", ""),
        ("uri=\"sip:example.com\", ", ""),
        (
            "realm=\"example.com\", ",
            "realm=\"example.com\", realm=\"example.com\", ",
        ),
    ];
    for (n, (part, instead)) in spoilt.into_iter().enumerate() {
        let cseq = 10 + 10 * u32::try_from(n).expect("few");
        let line = right_line(&mut bed, cseq);
        assert!(line.contains(part), "{part} in {line}");
        let line = line.replace(part, instead);
        assert_eq!(status_of(&mut bed, cseq + 1, &line), 400, "{line}");
    }
    bed.asked_for_none();
    assert_eq!(bed.count(Counter::FailedMalformed), 9);
}

#[test]
fn what_we_do_not_offer_is_challenged_again() {
    let mut bed = bed();
    bob_registers(&mut bed);
    for (n, (part, instead)) in [
        ("qop=auth,", "qop=auth-int,"),
        ("algorithm=SHA-256", "algorithm=MD5-sess"),
        ("algorithm=SHA-256", "algorithm=SHA-512-256"),
    ]
    .into_iter()
    .enumerate()
    {
        let cseq = 10 + 10 * u32::try_from(n).expect("few");
        let line = right_line(&mut bed, cseq).replace(part, instead);
        assert_eq!(status_of(&mut bed, cseq + 1, &line), 401, "{line}");
    }
    bed.asked_for_none();
}

#[test]
fn ours_are_found_among_others() {
    let mut bed = bed();
    bob_registers(&mut bed);
    let other = Answerer {
        realm: "elsewhere.example",
        ..BOB_ANSWERS
    };
    let line = right_line(&mut bed, 10);
    let nonce = challenged(&mut bed, 11);
    let others = other.line("Authorization", "REGISTER", "sip:example.com", &nonce, 1);
    let bad = "Authorization: Digest username=\"x\"\nAuthorization: Basic QWxhZGRpbg==\n";
    // A realm is compared to the letter: HA1 is made of it.
    let shouted = line.replace("realm=\"example.com\"", "realm=\"EXAMPLE.COM\"");
    assert_eq!(status_of(&mut bed, 12, &shouted), 401);
    let all = format!("{others}{bad}{line}");
    assert_eq!(status_of(&mut bed, 13, &all), 200);
    // What cannot be read is a mistake where there is nothing better.
    assert_eq!(status_of(&mut bed, 14, &format!("{others}{bad}")), 400);
}

#[test]
fn a_user_is_known_however_its_name_is_written() {
    let mut bed = bed();
    bob_registers(&mut bed);
    let line = right_line(&mut bed, 10).replace("username=\"bob\"", "username=\"b\\ob\"");
    assert_eq!(status_of(&mut bed, 11, &line), 200);
    let line = right_line(&mut bed, 20).replace("username=\"bob\"", "username*=UTF-8''b%6Fb");
    assert_eq!(status_of(&mut bed, 21, &line), 200);
    // RFC 7616 3.4.4: we do not ask for it, and understand it all the same.
    let hash = Algorithm::Sha256.userhash(b"bob", REALM.as_bytes());
    let hash = String::from_utf8_lossy(hash.as_bytes()).into_owned();
    let hashed = format!("username=\"{hash}\", userhash=true");
    let line = right_line(&mut bed, 30).replace("username=\"bob\"", &hashed);
    assert_eq!(status_of(&mut bed, 31, &line), 200);
    // The whole address, whose hash is another.
    for (cseq, algorithm) in [(40, Algorithm::Sha256), (50, Algorithm::Md5)] {
        bed.wait(Duration::from_millis(5));
        let whole = Answerer {
            user: "bob@example.com",
            algorithm,
            ..BOB_ANSWERS
        };
        let nonce = challenged(&mut bed, cseq);
        let line = whole.line("Authorization", "REGISTER", "sip:example.com", &nonce, 1);
        assert_eq!(status_of(&mut bed, cseq + 1, &line), 200, "{algorithm:?}");
    }
    for (n, name) in ["Bob", "bob@elsewhere.example", "bo", "bobb", "", "bob@"]
        .into_iter()
        .enumerate()
    {
        let cseq = 60 + 10 * u32::try_from(n).expect("few");
        let line =
            right_line(&mut bed, cseq).replace("username=\"bob\"", &format!("username=\"{name}\""));
        assert_eq!(status_of(&mut bed, cseq + 1, &line), 403, "{name}");
    }
    bed.asked_for_none();
}

#[test]
fn who_fails_waits_for_the_store_be_there_such_a_user_or_not() {
    let mut bed = bed();
    bob_registers(&mut bed);
    // Each step: what is asked of the store, and the answer, of one who is known and of one who does not exist.
    let mut cseq = 100;
    let mut attempt =
        |bed: &mut Bed, answerer: &Answerer, said: Option<Result<bool, StoreSilent>>| {
            cseq += 10;
            let nonce = challenged(bed, cseq);
            bed.receive(BOB, &answerer.register(cseq + 1, &nonce, 1));
            if let Some(said) = said {
                bed.sent_none();
                assert_eq!(bed.asked_for(), answerer.user);
                let found = said.map(|is_user| is_user.then(|| secrets("bob", "secret")));
                bed.tell(answerer.user, found);
            }
            bed.asked_for_none();
            bed.sent_one().status()
        };
    for (answerer, is_user) in [(&GUESSES, true), (&NOBODY, false)] {
        assert_eq!(attempt(&mut bed, answerer, Some(Err(StoreSilent))), 503);
        assert_eq!(attempt(&mut bed, answerer, Some(Ok(is_user))), 401);
        assert_eq!(attempt(&mut bed, answerer, None), 401);
        bed.wait(Duration::from_secs(29));
        assert_eq!(attempt(&mut bed, answerer, None), 401);
        bed.wait(Duration::from_secs(2));
        assert_eq!(attempt(&mut bed, answerer, Some(Ok(is_user))), 401);
        assert_eq!(attempt(&mut bed, answerer, None), 401);
    }
    // He himself never waits for the sake of those who are not him.
    assert_eq!(attempt(&mut bed, &BOB_ANSWERS, None), 200);
}

#[test]
fn a_password_that_was_changed_in_the_database_is_good_at_its_first_use() {
    let mut bed = bed();
    bob_registers(&mut bed);
    let changed = Answerer {
        password: "fresh",
        ..BOB_ANSWERS
    };
    let nonce = challenged(&mut bed, 10);
    bed.receive(BOB, &changed.register(11, &nonce, 1));
    bed.asked_for();
    bed.tell("bob", Ok(Some(secrets("bob", "fresh"))));
    assert_eq!(bed.sent_one().status(), 200);
    // The old one is good no more, and what was refuted is forgotten with the account.
    let nonce = challenged(&mut bed, 20);
    bed.receive(BOB, &BOB_ANSWERS.register(21, &nonce, 1));
    bed.asked_for();
    bed.tell("bob", Ok(Some(secrets("bob", "fresh"))));
    assert_eq!(bed.sent_one().status(), 401);
    bed.location.users().forget(b"bob");
    let nonce = challenged(&mut bed, 30);
    bed.receive(BOB, &BOB_ANSWERS.register(31, &nonce, 1));
    bed.asked_for();
    bed.tell("bob", Ok(Some(secrets("bob", "secret"))));
    assert_eq!(bed.sent_one().status(), 200);
}

#[test]
fn failures_are_counted_by_their_source() {
    let mut bed = bed();
    bob_registers(&mut bed);
    let from = "203.0.113.66:5060";
    let nonce = challenged(&mut bed, 10);
    for nc in 1..=3 {
        bed.receive(from, &GUESSES.register(10 + nc, &nonce, nc));
    }
    bed.asked_for();
    bed.tell("bob", Ok(Some(secrets("bob", "secret"))));
    assert_eq!(bed.sent().len(), 3);
    bed.receive(from, &BOB_ANSWERS.register(14, "x".repeat(36).as_str(), 1));
    bed.receive(from, &BOB_ANSWERS.register(15, &nonce, 4));
    bed.receive(from, &BOB_ANSWERS.register(16, &nonce, 4));
    let line = NOBODY.line("Authorization", "REGISTER", "sip:example.com", &nonce, 1);
    bed.receive(from, &register("bob", BOB, 17, &line));
    let statuses: Vec<u16> = bed.sent().iter().map(Sent::status).collect();
    assert_eq!(statuses, [401, 200, 401, 403]);
    let found = sources(&bed);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].network.to_string(), "203.0.113.66");
    // In the order of FailureKind::ALL.
    assert_eq!(FailureKind::ALL[0].as_str(), "wrong");
    assert_eq!(found[0].counts, [3, 1, 1, 1, 0]);
    assert_eq!(bed.count(Counter::FailedWrong), 3);
    assert_eq!(bed.count(Counter::FailureSources), 1);
    assert_eq!(bed.count(Counter::FailureSourcesEvicted), 0);
}

#[test]
fn who_guesses_takes_half_of_the_waiting_room_at_most() {
    let mut bed = bed();
    let from = "203.0.113.66:5060";
    let nonce = challenged(&mut bed, 1);
    let users: Vec<&'static str> = (0..3_000)
        .map(|n| -> &'static str { Box::leak(format!("guess{n}").into_boxed_str()) })
        .collect();
    let guess = |user| Answerer {
        user,
        ..BOB_ANSWERS
    };
    // It has failed before.
    for user in &users[..100] {
        bed.receive(from, &guess(user).register(2, &nonce, 1));
        bed.asked_for();
        bed.tell(user, Ok(None));
        assert_eq!(bed.sent_one().status(), 401);
    }
    for user in &users[100..] {
        bed.receive(from, &guess(user).register(2, &nonce, 1));
    }
    let refused = bed.sent();
    assert_eq!(refused.len(), 2_900 - 2_048);
    assert!(refused.iter().all(|sent| sent.status() == 503));
    assert_eq!(bed.asked_for_many(), 2_048);
    // Bob, who has not failed, waits and is answered.
    let nonce = challenged(&mut bed, 1);
    bed.receive(BOB, &BOB_ANSWERS.register(2, &nonce, 1));
    assert_eq!(bed.asked_for(), "bob");
    bed.tell("bob", Ok(Some(secrets("bob", "secret"))));
    assert_eq!(bed.sent_one().status(), 200);
}

#[test]
fn retransmissions_of_several_requests_with_one_nonce_are_no_replays() {
    let mut bed = bed();
    bob_registers(&mut bed);
    let nonce = challenged(&mut bed, 10);
    let first = BOB_ANSWERS.register(11, &nonce, 1);
    let second = BOB_ANSWERS.register(12, &nonce, 2);
    // The second overtakes the first, and both come twice.
    for (message, status) in [(&second, 200), (&second, 200), (&first, 500), (&first, 500)] {
        bed.receive(BOB, message);
        // RFC 3261 10.3 step 7: proven, and out of order as a registration.
        assert_eq!(bed.sent_one().status(), status);
    }
    assert_eq!(bed.count(Counter::NonceReplayed), 0);
}

#[test]
fn a_caller_names_no_other_callee_than_the_one_called() {
    let mut bed = bed();
    bob_registers(&mut bed);
    bed.receive(
        ALICE,
        &request("MESSAGE", "sip:bob@example.com", ALICE, "u1", ""),
    );
    let nonce = nonce_of(&bed.sent_one());
    let mut call = |asked: &str, said: &str, branch: &str, nc: u32| {
        let line = ALICE_ANSWERS.line("Proxy-Authorization", "MESSAGE", said, &nonce, nc);
        bed.receive(ALICE, &request("MESSAGE", asked, ALICE, branch, &line));
        if nc == 1 {
            bed.asked_for();
            bed.tell("alice", Ok(Some(secrets("alice", "secret"))));
        }
        let sent = bed.sent_one();
        let is_relayed = sent.text.starts_with("MESSAGE");
        if is_relayed {
            assert!(sent.headers("Proxy-Authorization").is_empty());
            0
        } else {
            sent.status()
        }
    };
    assert_eq!(
        call("sip:bob@example.com", "sip:bob@EXAMPLE.com", "u2", 1),
        0
    );
    assert_eq!(call("sip:bob@example.com", "sip:example.com", "u3", 2), 0);
    assert_eq!(
        call("sip:bob@example.com", "sip:carol@example.com", "u4", 3),
        400
    );
    assert_eq!(
        call("sip:bob@example.com", "sip:elsewhere.example", "u5", 4),
        400
    );
    assert_eq!(
        call("sip:+4990@pstn.example.net", "sip:bob@example.com", "u6", 5),
        400
    );
}

#[test]
fn neither_ack_nor_cancel_is_challenged_and_no_credentials_of_ours_go_on() {
    let mut bed = bed();
    bob_registers(&mut bed);
    bed.receive(
        ALICE,
        &request("INVITE", "sip:bob@example.com", ALICE, "k1", ""),
    );
    let challenge = bed.sent_one();
    assert_eq!(challenge.status(), 407);
    let invite = request("INVITE", "sip:bob@example.com", ALICE, "k1", "");
    bed.receive(ALICE, &ack_of(&invite, &challenge));
    bed.sent_none();
    let nonce = nonce_of(&challenge);
    let uri = "sip:bob@example.com";
    let line = ALICE_ANSWERS.line("Proxy-Authorization", "INVITE", uri, &nonce, 1);
    let others = "Proxy-Authorization: Digest username=\"a\", realm=\"next.example\", nonce=\"n\", uri=\"u\", response=\"r\"\n";
    let call = request("INVITE", uri, ALICE, "k2", &format!("{line}{others}"));
    bed.receive(ALICE, &call);
    bed.asked_for();
    bed.tell("alice", Ok(Some(secrets("alice", "secret"))));
    let relayed = bed
        .sent()
        .into_iter()
        .find(|sent| sent.text.starts_with("INVITE"))
        .expect("relayed");
    // RFC 3261 22.3: the next proxy's stay, ours do not.
    let kept = relayed.headers("Proxy-Authorization");
    assert!(
        kept.len() == 1 && kept[0].contains("next.example"),
        "{kept:?}"
    );
    bed.receive(
        BOB,
        &relayed.answer(200, &format!("Contact: <sip:bob@{BOB}>\n")),
    );
    let ok = bed.sent_one();
    let route = format!("Route: {}\n", ok.header("Record-Route").expect("ours"));
    let contact = format!("sip:bob@{BOB}");
    let line = ALICE_ANSWERS.line("Proxy-Authorization", "ACK", &contact, &nonce, 2);
    let ack = request(
        "ACK",
        &contact,
        ALICE,
        "k3",
        &format!("{route}{line}{others}"),
    )
    .replace(
        "To: <sip:bob@example.com>",
        &format!("To: {}", ok.header("To").expect("a To")),
    );
    bed.receive(ALICE, &ack);
    let relayed = bed.sent_one();
    assert!(relayed.text.starts_with("ACK"), "{}", relayed.text);
    assert_eq!(relayed.headers("Proxy-Authorization").len(), 1);
}

/// Credentials that are good for a time.
fn with_ephemeral(order: EphemeralOrder, hash: EphemeralHash) -> Bed {
    Bed::with_settings(1, |settings| {
        with_auth(settings);
        let secrets = vec![b"north".to_vec(), b"south".to_vec()];
        if let Some(auth) = &mut settings.auth {
            auth.ephemeral = Some(Ephemeral::new(secrets, hash, order));
        }
    })
}

/// The name that is good for so long, and its password, by Python's or openssl's measure: HMAC of the name, in base64.
fn ephemeral(bed: &Bed, order: EphemeralOrder, secret: &[u8], span_s: i64) -> Answerer {
    use hmac::{Hmac, KeyInit, Mac};
    let until = i64::try_from(bed.now.unix_s()).expect("soon") + span_s;
    let name = match order {
        EphemeralOrder::TimeFirst => format!("{until}:bob"),
        EphemeralOrder::UserFirst => format!("bob:{until}"),
    };
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret).expect("any");
    mac.update(name.as_bytes());
    let password = data_encoding::BASE64.encode(&mac.finalize().into_bytes());
    Answerer {
        user: Box::leak(name.into_boxed_str()),
        password: Box::leak(password.into_boxed_str()),
        ..BOB_ANSWERS
    }
}

#[test]
fn credentials_for_a_time_need_no_store() {
    for order in [EphemeralOrder::TimeFirst, EphemeralOrder::UserFirst] {
        let mut bed = with_ephemeral(order, EphemeralHash::Sha256);
        let mut cseq = 1;
        let mut answer = |bed: &mut Bed, answerer: &Answerer| {
            cseq += 10;
            let nonce = challenged(bed, cseq);
            let line = answerer.line("Authorization", "REGISTER", "sip:example.com", &nonce, 1);
            let message = register("bob", BOB, cseq + 1, &line);
            bed.receive(BOB, &message);
            let status = bed.sent_one().status();
            // The same again is a retransmission; another request with the same proof is not.
            bed.receive(BOB, &message);
            assert_eq!(bed.sent_one().status(), status);
            bed.receive(BOB, &register("bob", BOB, cseq + 2, &line));
            assert_eq!(bed.sent_one().status(), 401);
            status
        };
        for secret in [&b"north"[..], b"south"] {
            let good = ephemeral(&bed, order, secret, 60);
            assert_eq!(answer(&mut bed, &good), 200);
        }
        let late = ephemeral(&bed, order, b"north", -1);
        assert_eq!(answer(&mut bed, &late), 401);
        let forged = ephemeral(&bed, order, b"west", 60);
        assert_eq!(answer(&mut bed, &forged), 401);
        assert_eq!(bed.count(Counter::FailedExpired), 3);
        let good = ephemeral(&bed, order, b"north", 60);
        bed.wait(Duration::from_secs(61));
        assert_eq!(answer(&mut bed, &good), 401);
        bed.asked_for_none();
        // They are for their user alone.
        let nonce = challenged(&mut bed, 900);
        let good = ephemeral(&bed, order, b"north", 60);
        let line = good.line("Authorization", "REGISTER", "sip:example.com", &nonce, 1);
        bed.receive(ALICE, &register("alice", ALICE, 1, &line));
        assert_eq!(bed.sent_one().status(), 403);
        // The store's users are as good as ever.
        bob_registers_at(&mut bed, 1_000);
    }
}

fn bob_registers_at(bed: &mut Bed, cseq: u32) {
    let nonce = challenged(bed, cseq);
    bed.receive(BOB, &BOB_ANSWERS.register(cseq + 1, &nonce, 1));
    assert_eq!(bed.asked_for(), "bob");
    bed.tell("bob", Ok(Some(secrets("bob", "secret"))));
    assert_eq!(bed.sent_one().status(), 200);
}

#[test]
fn without_a_shared_secret_a_name_with_a_time_is_somebody_else() {
    let mut bed = bed();
    let good = ephemeral(&bed, EphemeralOrder::TimeFirst, b"north", 60);
    let nonce = challenged(&mut bed, 1);
    let line = good.line("Authorization", "REGISTER", "sip:example.com", &nonce, 1);
    assert_eq!(status_of(&mut bed, 2, &line), 403);
}

#[test]
fn a_user_of_md5_alone_is_told_from_a_wrong_password_in_the_metrics_alone() {
    let mut bed = bed();
    let kamailios = || {
        let mut secrets = secrets("bob", "secret");
        secrets.bare.sha256 = None;
        Ok(Some(Secrets { ..secrets }))
    };
    let nonce = challenged(&mut bed, 1);
    bed.receive(BOB, &BOB_ANSWERS.register(2, &nonce, 1));
    bed.asked_for();
    bed.tell("bob", kamailios());
    assert_eq!(bed.sent_one().status(), 401);
    assert_eq!(bed.count(Counter::HashMissing), 1);
    let old = Answerer {
        algorithm: Algorithm::Md5,
        ..BOB_ANSWERS
    };
    let nonce = challenged(&mut bed, 3);
    bed.receive(BOB, &old.register(4, &nonce, 1));
    assert_eq!(bed.sent_one().status(), 200);
}
