//! What the server says of itself: `core.*`, `stats.*`, `store.*`.

use serde_json::{Map, Value, json};

use super::usrloc::registry;
use super::{Fault, INTERNAL_ERROR};
use crate::admin::process::Process;
use crate::admin::{State, table};
use crate::counters::{ALL, Counter};
use crate::limits::{LOCATION_SHARDS, MEMORY_SHARDS};
use crate::location::Memory;

pub(super) fn version() -> Value {
    json!(concat!("strowger ", env!("CARGO_PKG_VERSION")))
}

pub(super) fn uptime(state: &State) -> Value {
    json!({
        "uptime": state.started.elapsed().as_secs(),
        "start_unix_s": state.started_unix_s as u64,
        "state": state.phase.read().as_str(),
    })
}

/// The latency table, in milliseconds.
pub(super) fn latency(state: &State) -> Value {
    let rows = table::rows(&state.latency)
        .into_iter()
        .map(|(name, summary)| {
            let mut row = json!({
                "method": name,
                "count": summary.count(),
                "median": summary.quantile_ms(0.5),
                "mean": summary.mean_ms(),
            });
            for (quantile, q) in table::QUANTILES {
                let value = if q < 1.0 {
                    summary.quantile_ms(q)
                } else {
                    summary.max_ms()
                };
                row[quantile] = value.into();
            }
            row
        });
    json!({ "unit": "ms", "rows": rows.collect::<Vec<Value>>() })
}

/// Each family of counters, summed over the workers: a number, or one for each value of its label.
pub(super) fn counters(state: &State) -> Value {
    (state.refresh)();
    let mut families = Map::new();
    for (counter, description) in ALL {
        let sum = json!(state.sum(*counter));
        if description.label.0.is_empty() {
            families.insert(description.family.to_owned(), sum);
        } else {
            let family = families
                .entry(description.family)
                .or_insert_with(|| json!({}));
            family[description.label.1] = sum;
        }
    }
    families.insert("bindings".to_owned(), json!((state.bindings)()));
    Value::Object(families)
}

/// The store as `/healthz` shows it, and whether there is one.
pub(super) fn store(state: &State) -> Value {
    let Some(store) = &state.store else {
        return json!({ "configured": false });
    };
    let mut report = json!(store());
    report["configured"] = json!(true);
    report
}

/// Memory by what it is for. What the location takes is asked of the workers, a part of its shards at a time.
pub(super) async fn memory(state: &State) -> Result<Value, Fault> {
    let errands = &registry(state)?.errands;
    let mut location = Memory::default();
    for first in (0..LOCATION_SHARDS).step_by(MEMORY_SHARDS) {
        let shards = first..(first + MEMORY_SHARDS).min(LOCATION_SHARDS);
        location += errands
            .run(move |_, location| location.memory_of(shards))
            .await?;
    }
    let process = Process::read();
    let resident = process.resident.ok_or_else(|| {
        let text = "/proc/self/status cannot be read";
        Fault::new(INTERNAL_ERROR, text)
    })?;
    let live =
        state.sum(Counter::TransactionsLiveServer) + state.sum(Counter::TransactionsLiveClient);
    Ok(json!({
        "unit": "bytes",
        "rss": resident,
        "location": {
            "aors": location.aors,
            "bindings": location.bindings,
            "texts": location.texts,
            "interned": location.interned,
            "indexes": location.indexes,
            "total": location.total(),
            "count": (state.bindings)(),
        },
        "transactions": {
            "total": state.sum(Counter::TransactionBytes),
            "count": live,
        },
        "mailboxes": {
            "reserved": state.buffers.mailboxes,
            "buffers_out": state.sum(Counter::MailboxBuffersOut),
        },
        "tcp": {
            "reserved": state.buffers.tcp_outbox,
            "connections": state.sum(Counter::TcpConnections),
        },
    }))
}
