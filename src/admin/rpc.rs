//! `/rpc`: JSON-RPC 2.0 by POST, with Kamailio's names where it has the method.
//!
//! `core.uptime`, `core.version`, `stats.latency`. Batches are answered; a notification gets no answer.

use serde_json::{Value, json};

use super::{State, table};

/// Answers one request body; `None` where nothing in it wants an answer.
pub(super) fn answer(state: &State, body: &[u8]) -> Option<String> {
    let answer =
        match serde_json::from_slice::<Value>(body) {
            Err(_) => Some(failure(&Value::Null, PARSE_ERROR, "the body is not JSON")),
            Ok(Value::Array(calls)) if calls.is_empty() || calls.len() > BATCH_MAX => Some(
                failure(&Value::Null, INVALID_REQUEST, "a batch holds 1 to 64 calls"),
            ),
            Ok(Value::Array(calls)) => {
                let answers: Vec<Value> = calls
                    .iter()
                    .filter_map(|call| answer_one(state, call))
                    .collect();
                (!answers.is_empty()).then_some(Value::Array(answers))
            }
            Ok(call) => answer_one(state, &call),
        };
    answer.map(|answer| format!("{answer}\n"))
}

fn answer_one(state: &State, call: &Value) -> Option<Value> {
    let id = call.get("id");
    let method = call.get("method").and_then(Value::as_str);
    let Some(method) =
        method.filter(|_| call.get("jsonrpc").and_then(Value::as_str) == Some("2.0"))
    else {
        let text = "a call is {\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": NAME}";
        return Some(failure(id.unwrap_or(&Value::Null), INVALID_REQUEST, text));
    };
    // A call without an id is a notification: no method of ours does anything for it.
    let id = id?;
    Some(match method {
        "core.uptime" => success(id, uptime(state)),
        "core.version" => success(id, json!(concat!("strowger ", env!("CARGO_PKG_VERSION")))),
        "stats.latency" => success(id, latency(state)),
        _ => failure(
            id,
            METHOD_NOT_FOUND,
            "no such method; there are core.uptime, core.version, stats.latency",
        ),
    })
}

fn uptime(state: &State) -> Value {
    json!({
        "uptime": state.started.elapsed().as_secs(),
        "start_unix_s": state.started_unix_s as u64,
        "state": state.phase.read().as_str(),
    })
}

/// The latency table, in milliseconds.
fn latency(state: &State) -> Value {
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

fn success(id: &Value, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

fn failure(id: &Value, code: i64, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}

const PARSE_ERROR: i64 = -32_700;
const INVALID_REQUEST: i64 = -32_600;
const METHOD_NOT_FOUND: i64 = -32_601;
/// Calls of one batch.
const BATCH_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::latency::{Latency, Method};
    use crate::time::Duration;

    fn ask(body: &str) -> Value {
        let latency = Arc::new(Latency::new());
        latency.record(Method::Bye, Duration::from_millis(2));
        let state = State::new(Vec::new(), vec![latency], Box::new(|| 0));
        answer(&state, body.as_bytes()).map_or(Value::Null, |text| {
            serde_json::from_str(&text).expect("JSON")
        })
    }

    #[test]
    fn methods_answer() {
        let answer = ask(r#"{"jsonrpc":"2.0","id":7,"method":"core.version"}"#);
        assert_eq!(answer["id"], 7);
        assert!(
            answer["result"]
                .as_str()
                .is_some_and(|text| text.starts_with("strowger "))
        );
        let answer = ask(r#"{"jsonrpc":"2.0","id":"a","method":"stats.latency"}"#);
        assert_eq!(answer["result"]["rows"][0]["method"], "BYE");
        assert_eq!(answer["result"]["rows"][0]["q99.9"], 2.0);
        assert_eq!(
            ask(r#"{"jsonrpc":"2.0","id":1,"method":"core.uptime"}"#)["result"]["state"],
            "starting"
        );
    }

    #[test]
    fn what_is_no_call_gets_the_error_that_the_standard_names() {
        assert_eq!(ask("{")["error"]["code"], PARSE_ERROR);
        assert_eq!(ask("[]")["error"]["code"], INVALID_REQUEST);
        assert_eq!(
            ask(r#"{"id":1,"method":"core.version"}"#)["error"]["code"],
            INVALID_REQUEST
        );
        assert_eq!(
            ask(r#"{"jsonrpc":"2.0","id":1,"method":"nope"}"#)["error"]["code"],
            METHOD_NOT_FOUND
        );
    }

    #[test]
    fn a_batch_is_answered_without_its_notifications() {
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"core.version"}"#;
        let notification = r#"{"jsonrpc":"2.0","method":"core.version"}"#;
        assert_eq!(
            ask(&format!("[{call},{notification}]"))
                .as_array()
                .map(Vec::len),
            Some(1)
        );
        assert_eq!(ask(notification), Value::Null);
    }
}
