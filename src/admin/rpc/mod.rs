//! `/rpc`: JSON-RPC 2.0 by POST, with Kamailio's names where it has the method.
//!
//! This file is the envelope: calls, batches, notifications, errors. [`method`] is the table of methods, `usrloc` and `report` are
//! what they do, `params` is how they are asked.

mod cluster;
pub mod method;
mod params;
mod report;
mod subscriber;
mod usrloc;

use serde_json::{Value, json};

use self::method::Method;
use super::State;
use super::errand::Unanswered;
use crate::limits::{RPC_ANSWER_LEN, RPC_BATCH_MAX};

/// Why a call fails.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    /// One of JSON-RPC's own codes, or that of the SIP response that says the same, as with Kamailio.
    code: i64,
    message: String,
}

/// Answers one request body; `None` where nothing in it wants an answer.
pub(super) async fn answer(state: &State, body: &[u8]) -> Option<String> {
    let text = match serde_json::from_slice::<Value>(body) {
        Err(_) => failure(
            &Value::Null,
            &Fault::new(PARSE_ERROR, "the body is not JSON"),
        ),
        Ok(Value::Array(calls)) => answer_batch(state, &calls).await?,
        Ok(call) => answer_one(state, &call).await?,
    };
    Some(text + "\n")
}

async fn answer_batch(state: &State, calls: &[Value]) -> Option<String> {
    if calls.is_empty() || calls.len() > RPC_BATCH_MAX {
        let text = format!("a batch holds 1 to {RPC_BATCH_MAX} calls");
        return Some(failure(&Value::Null, &Fault::new(INVALID_REQUEST, text)));
    }
    let mut text = String::new();
    for call in calls {
        let answer = if text.len() < RPC_ANSWER_LEN {
            answer_one(state, call).await
        } else {
            let text = "the answers before it are too long already; ask in fewer calls";
            call.get("id")
                .map(|id| failure(id, &Fault::new(UNAVAILABLE, text)))
        };
        if let Some(answer) = answer {
            text.push(if text.is_empty() { '[' } else { ',' });
            text += &answer;
        }
    }
    (!text.is_empty()).then(|| text + "]")
}

async fn answer_one(state: &State, call: &Value) -> Option<String> {
    let id = call.get("id");
    let (name, params) = match read(call) {
        Ok(read) => read,
        // What is no call is no notification either: it is answered, with the id where that can be told.
        Err(fault) => {
            let id = id.filter(|id| is_id(id)).unwrap_or(&Value::Null);
            return Some(failure(id, &fault));
        }
    };
    let result = match Method::named(name) {
        Some(method) => method.call(state, params).await,
        None => {
            let text = format!("there is no method {name}; rpc.methods lists those there are");
            Err(Fault::new(METHOD_NOT_FOUND, text))
        }
    };
    // A call without an id is a notification: it is done, and nobody is told.
    let id = id?;
    Some(match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string(),
        Err(fault) => failure(id, &fault),
    })
}

/// The method and the parameters of what is a call.
fn read(call: &Value) -> Result<(&str, Option<&Value>), Fault> {
    let is_of_version = call.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
    let name = call.get("method").and_then(Value::as_str);
    let Some(name) = name.filter(|_| is_of_version) else {
        let text = "a call is {\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": NAME}";
        return Err(Fault::new(INVALID_REQUEST, text));
    };
    if !call.get("id").is_none_or(is_id) {
        let text = "an id is a string, a number or null";
        return Err(Fault::new(INVALID_REQUEST, text));
    }
    Ok((name, call.get("params")))
}

fn is_id(id: &Value) -> bool {
    id.is_string() || id.is_number() || id.is_null()
}

fn failure(id: &Value, fault: &Fault) -> String {
    let error = json!({ "code": fault.code, "message": fault.message });
    json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string()
}

impl Fault {
    fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    fn params(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMS, message)
    }
}

impl From<Unanswered> for Fault {
    fn from(cause: Unanswered) -> Self {
        Self::new(UNAVAILABLE, cause.as_str())
    }
}

const PARSE_ERROR: i64 = -32_700;
const INVALID_REQUEST: i64 = -32_600;
const METHOD_NOT_FOUND: i64 = -32_601;
const INVALID_PARAMS: i64 = -32_602;
const INTERNAL_ERROR: i64 = -32_603;
const FORBIDDEN: i64 = 403;
const NOT_FOUND: i64 = 404;
const UNAVAILABLE: i64 = 503;

#[cfg(test)]
mod tests;
