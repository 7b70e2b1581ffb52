//! `auth.failures`: who fails to prove who it is, by source.

use std::cmp::Reverse;

use serde_json::{Map, Value, json};

use super::Fault;
use super::params::Params;
use super::usrloc::registry;
use crate::admin::State;
use crate::limits::{FAILURE_SOURCES_MAX, FAILURES_SHOWN_MAX};
use crate::location::{FailureKind, Failures, Source};
use crate::time::Instant;

/// The sources with the most failures of late, the worst first; the table is looked through a few parts at a time.
pub(super) async fn failures(state: &State, params: &Params<'_>) -> Result<Value, Fault> {
    let limit = params.number("limit", 1..=u64::MAX)?;
    let limit = limit.map_or(SHOWN, |limit| {
        usize::try_from(limit)
            .unwrap_or(FAILURES_SHOWN_MAX)
            .min(FAILURES_SHOWN_MAX)
    });
    let errands = &registry(state)?.errands;
    let (mut worst, mut known) = (Vec::new(), 0);
    for first in (0..Failures::PARTS).step_by(PARTS_AT_ONCE) {
        let slice = move |now: Instant, location: &crate::location::Location| {
            let mut found = Vec::new();
            for part in first..(first + PARTS_AT_ONCE).min(Failures::PARTS) {
                let table = location.users().failures();
                table.each_of(part, |source| found.push((source.score(now), *source)));
            }
            (now, found)
        };
        let (now, found) = errands.run(slice).await?;
        known += found.len();
        worst.extend(
            found
                .into_iter()
                .map(|(score, source)| (score, now, source)),
        );
        worst.sort_by_key(|(score, _, source)| Reverse((*score, source.total(), source.last)));
        worst.truncate(limit);
    }
    let shown = worst
        .iter()
        .map(|(score, now, source)| shown(*score, *now, source));
    Ok(json!({
        "sources": shown.collect::<Vec<Value>>(),
        "known": known,
        "capacity": FAILURE_SOURCES_MAX,
    }))
}

fn shown(score: u32, now: Instant, source: &Source) -> Value {
    let network = match source.network {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("{ip}/64"),
    };
    let kinds = FailureKind::ALL.iter().zip(source.counts);
    let reasons: Map<String, Value> = kinds
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| (kind.as_str().to_owned(), json!(count)))
        .collect();
    json!({
        "source": network,
        "failures": source.total(),
        "recent": score,
        "first_s": now.since(source.first).as_secs(),
        "last_s": now.since(source.last).as_secs(),
        "reasons": reasons,
    })
}

const SHOWN: usize = 20;
const PARTS_AT_ONCE: usize = 4;
