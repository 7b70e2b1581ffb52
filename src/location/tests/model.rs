//! A naive location, which any sequence of requests must leave like the real one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What the model knows of a contact.
#[derive(Clone, Debug)]
struct Known {
    call_id: usize,
    cseq: u32,
    ends: Instant,
    removed: bool,
    q: Option<u16>,
    modified: Instant,
}

#[derive(Clone, Debug)]
enum Step {
    Register {
        aor: usize,
        call_id: usize,
        cseq: u32,
        contacts: Vec<(usize, u64, Option<u16>)>,
    },
    RemoveAll {
        aor: usize,
        call_id: usize,
        cseq: u32,
    },
    Pass(u64),
    Sweep,
}

const AORS: [&str; 3] = ["alice", "bob", "carol"];
const URIS: [&str; 4] = ["sip:a@h", "sip:b@h", "sip:c@h", "sip:d@h"];
const CALLS: [&str; 3] = [
    "x",
    "a longer call id than the others, longer than one step",
    "y",
];

type Model = BTreeMap<(usize, usize), Known>;

fn step() -> impl Strategy<Value = Step> {
    let expires = prop_oneof![1 => Just(0_u64), 2 => 20..100_u64];
    let q = prop_oneof![Just(None), Just(Some(500)), Just(Some(1_000))];
    let contact = (0..URIS.len(), expires, q);
    let contacts = prop::collection::vec(contact, 1..4);
    prop_oneof![
        6 => (0..AORS.len(), 0..CALLS.len(), 1..8_u32, contacts)
            .prop_map(|(aor, call_id, cseq, contacts)| Step::Register { aor, call_id, cseq, contacts }),
        1 => (0..AORS.len(), 0..CALLS.len(), 1..8_u32)
            .prop_map(|(aor, call_id, cseq)| Step::RemoveAll { aor, call_id, cseq }),
        3 => (1..40_u64).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
    ]
}

/// RFC 3261 10.3 step 7 and DESIGN's decision on idempotence, as plainly as they can be said.
fn model_register(
    model: &mut Model,
    now: Instant,
    (aor, call_id, cseq): (usize, usize, u32),
    contacts: &[(usize, u64, Option<u16>)],
    contacts_max: usize,
) -> Result<(), Refusal> {
    let mut next = model.clone();
    let mut seen = Vec::new();
    let mut grows = false;
    for &(uri, expires_s, q) in contacts {
        if seen.contains(&uri) {
            continue;
        }
        seen.push(uri);
        let held = model.get(&(aor, uri)).filter(|known| known.ends > now);
        if let Some(known) = held.filter(|known| known.call_id == call_id) {
            if cseq < known.cseq {
                return Err(Refusal::OutOfOrder);
            }
            if cseq == known.cseq {
                continue;
            }
        }
        let known = Known {
            call_id,
            cseq,
            ends: now + Duration::from_secs(expires_s),
            removed: false,
            q,
            modified: now,
        };
        match held {
            _ if expires_s > 0 => {
                grows |= held.is_none_or(|held| held.removed);
                next.insert((aor, uri), known);
            }
            Some(held) if !held.removed || held.call_id == call_id => {
                next.insert(
                    (aor, uri),
                    Known {
                        ends: now + TOMBSTONE,
                        removed: true,
                        ..known
                    },
                );
            }
            Some(_) | None => {}
        }
    }
    if grows && live(&next, now, aor).len() > contacts_max {
        return Err(Refusal::TooManyContacts);
    }
    *model = next;
    Ok(())
}

fn model_remove_all(
    model: &mut Model,
    now: Instant,
    aor: usize,
    call_id: usize,
    cseq: u32,
) -> Result<(), Refusal> {
    let known = model
        .iter()
        .filter(|((of, _), known)| *of == aor && known.ends > now && known.call_id == call_id);
    match known.map(|(_, known)| known.cseq).max() {
        Some(newest) if newest > cseq => return Err(Refusal::OutOfOrder),
        Some(newest) if newest == cseq => return Ok(()),
        Some(_) | None => {}
    }
    for ((_, _), known) in model
        .iter_mut()
        .filter(|((of, _), known)| *of == aor && known.ends > now)
    {
        if !known.removed || known.call_id == call_id {
            (known.call_id, known.cseq) = (call_id, cseq);
            (known.ends, known.removed, known.modified) = (now + TOMBSTONE, true, now);
        }
    }
    Ok(())
}

fn live(model: &Model, now: Instant, aor: usize) -> Vec<(usize, Known)> {
    let live = model
        .iter()
        .filter(|((of, _), known)| *of == aor && !known.removed && known.ends > now);
    live.map(|((_, uri), known)| (*uri, known.clone()))
        .collect()
}

fn check(location: &Location, model: &Model, now: Instant) -> Result<(), TestCaseError> {
    let mut targets = Targets::new();
    for (aor, name) in AORS.iter().enumerate() {
        let (found, _) = location.lookup(now, name.as_bytes(), &mut targets);
        let expected = live(model, now, aor);
        prop_assert_eq!(found == Lookup::Found, !expected.is_empty());
        let order: Vec<_> = targets
            .iter()
            .map(|target| {
                let uri = URIS
                    .iter()
                    .position(|uri| uri.as_bytes() == target.uri)
                    .expect("of ours");
                let known = &expected
                    .iter()
                    .find(|(held, _)| *held == uri)
                    .expect("it is live")
                    .1;
                assert_eq!((target.expires, target.q), (known.ends, known.q));
                (
                    std::cmp::Reverse(known.q.unwrap_or(1_000)),
                    std::cmp::Reverse(known.modified),
                )
            })
            .collect();
        prop_assert_eq!(order.len(), expected.len());
        prop_assert!(order.is_sorted());
    }
    for (uri, text) in URIS.iter().enumerate() {
        let is_live =
            (0..AORS.len()).any(|aor| live(model, now, aor).iter().any(|(held, _)| *held == uri));
        prop_assert_eq!(
            location.registered_contact(now, text.as_bytes()).is_some(),
            is_live
        );
    }
    prop_assert_eq!(indexed(location), location.held());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_location_agrees_with_a_naive_model(steps in prop::collection::vec(step(), 1..120)) {
        let location = bounded(1_000, 3);
        let mut model = Model::new();
        let mut now = START;
        let mut targets = Targets::new();
        for step in steps {
            match step {
                Step::Register { aor, call_id, cseq, contacts } => {
                    let changes: Vec<_> = contacts
                        .iter()
                        .map(|(uri, expires_s, q)| Change { q: *q, ..change(URIS[*uri], *expires_s) })
                        .collect();
                    let registration = registration(CALLS[call_id], cseq);
                    let (result, _) = location.apply(now, AORS[aor].as_bytes(), &registration, &changes, &mut targets);
                    let expected = model_register(&mut model, now, (aor, call_id, cseq), &contacts, 3);
                    prop_assert_eq!(result, expected);
                }
                Step::RemoveAll { aor, call_id, cseq } => {
                    let call = CALLS[call_id].as_bytes();
                    let (result, _) = location.remove_all(now, AORS[aor].as_bytes(), call, cseq, &mut targets);
                    prop_assert_eq!(result, model_remove_all(&mut model, now, aor, call_id, cseq));
                }
                Step::Pass(secs) => now = now + Duration::from_secs(secs),
                Step::Sweep => {
                    sweep_all(&location, now);
                    model.retain(|_, known| known.ends > now);
                    prop_assert_eq!(location.held(), model.len());
                    let live = model.values().filter(|known| !known.removed).count();
                    prop_assert_eq!(location.bindings(), live);
                }
            }
            check(&location, &model, now)?;
        }
        sweep_all(&location, now + Duration::from_secs(1_000));
        prop_assert_eq!((location.held(), location.bindings(), indexed(&location)), (0, 0, 0));
        prop_assert_eq!(location.blocks_held(), 0);
    }
}
