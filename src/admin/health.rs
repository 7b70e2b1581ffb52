//! `/healthz`: whether the server is well, and on what it listens.

use serde_json::json;

use super::{Phase, State};

/// Whether requests are served, and the JSON that says so; the details only where asked for.
pub(super) fn render(state: &State, with_details: bool) -> (bool, String) {
    let phase = state.phase.read();
    let is_well = phase == Phase::Serving;
    let mut answer = json!({
        "status": if is_well { "ok" } else { "unavailable" },
        "state": phase.as_str(),
    });
    if with_details {
        answer["version"] = env!("CARGO_PKG_VERSION").into();
        answer["uptime_s"] = state.started.elapsed().as_secs().into();
        answer["listeners"] = json!(state.listeners());
        answer["store"] = match &state.store {
            Some(store) => json!(store()),
            None => json!(null),
        };
    }
    (is_well, format!("{answer}\n"))
}
