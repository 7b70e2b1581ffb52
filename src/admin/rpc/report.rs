//! What the server says of itself: `core.*`, `stats.*`, `store.*`.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::usrloc::registry;
use super::{Fault, INTERNAL_ERROR, UNAVAILABLE};
use crate::admin::memory::{Report, resident};
use crate::admin::{State, table};
use crate::counters::{ALL, Counter};

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

/// `store.migrate`: has the tables made that are not there, beside the server's own thread.
pub(super) async fn migrate(state: &State) -> Result<Value, Fault> {
    let absent = || Fault::new(UNAVAILABLE, "there is no store to make tables in");
    let migrate = Arc::clone(state.migrate.as_ref().ok_or_else(absent)?);
    match tokio::task::spawn_blocking(move || migrate()).await {
        Ok(Ok(made)) => Ok(json!({ "made": made })),
        Ok(Err(text)) => Err(Fault::new(INTERNAL_ERROR, &text)),
        Err(_) => Err(Fault::new(INTERNAL_ERROR, "the tables were not made")),
    }
}

/// Memory by what it is for, and what the kernel says of the process; `other` is what no category accounts for.
pub(super) async fn memory(state: &State) -> Result<Value, Fault> {
    let (report, (resident, peak, files)) = looked_at(state).await?;
    let mut categories = Map::new();
    for (category, bytes) in report.categories() {
        categories.insert(category.to_owned(), json!(bytes));
    }
    let sum = report.sum();
    Ok(json!({
        "unit": "bytes",
        "rss": resident,
        "rss_max": peak,
        "limit": report.reserved.limit,
        "categories": categories,
        "sum": sum,
        "code": files,
        "other": resident.saturating_sub(files + sum),
        "counts": {
            "bindings": (state.bindings)(),
            "transactions": state.sum(Counter::TransactionsLiveServer) + state.sum(Counter::TransactionsLiveClient),
            "messages": state.sum(Counter::MessagesStored),
            "tcp_connections": state.sum(Counter::TcpConnections),
            "spare_places": report.location.spare,
        },
    }))
}

/// The same in the six figures that Kamailio gives of its shared memory.
pub(super) async fn shared_memory(state: &State) -> Result<Value, Fault> {
    let (report, (resident, peak, _)) = looked_at(state).await?;
    let total = report.reserved.limit.max(peak);
    Ok(json!({
        "total": total,
        "free": total.saturating_sub(resident),
        "used": report.sum().min(resident),
        "real_used": resident,
        "max_used": peak,
        "fragments": report.location.spare,
    }))
}

async fn looked_at(state: &State) -> Result<(Report, (u64, u64, u64)), Fault> {
    registry(state)?;
    let report = Report::read(state).await?;
    let resident = resident().ok_or_else(|| {
        let text = "/proc/self/status cannot be read";
        Fault::new(INTERNAL_ERROR, text)
    })?;
    Ok((report, resident))
}
