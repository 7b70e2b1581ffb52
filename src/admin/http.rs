//! The paths of the admin server, and who may see them.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::memory::Report;
use super::metrics::Format;
use super::token::Token;
use super::{State, health, metrics, rpc, table};
use crate::limits::ADMIN_BODY_LEN_MAX;

/// What every handler sees.
#[derive(Clone)]
struct Desk {
    state: Arc<State>,
    token: Option<Arc<Token>>,
}

/// The server's paths; with a token, only who carries it sees more than whether the server is well.
pub(super) fn router(state: Arc<State>, token: Option<Token>) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(show_health))
        .route("/latency", get(show_latency))
        .route("/rpc", post(call))
        .layer(DefaultBodyLimit::max(ADMIN_BODY_LEN_MAX))
        .with_state(Desk {
            state,
            token: token.map(Arc::new),
        })
}

impl Desk {
    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        headers
            .get(header::AUTHORIZATION)
            .is_some_and(|value| token.admits(value.as_bytes()))
    }
}

async fn show_metrics(Shared(desk): Shared<Desk>, headers: HeaderMap) -> Response {
    if !desk.admits(&headers) {
        return unauthorized();
    }
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (format, kind) = if accept.contains("application/openmetrics-text") {
        (Format::Open, OPEN_METRICS)
    } else {
        (Format::Text, PROMETHEUS_TEXT)
    };
    let memory = Report::read_soon(&desk.state).await;
    match metrics::render(&desk.state, memory, format) {
        Ok(text) => typed(StatusCode::OK, kind, text),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn show_health(Shared(desk): Shared<Desk>, headers: HeaderMap) -> Response {
    // A load balancer carries no token: it learns the state and nothing more.
    let (is_well, text) = health::render(&desk.state, desk.admits(&headers));
    let status = if is_well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    typed(status, JSON, text)
}

async fn show_latency(Shared(desk): Shared<Desk>, headers: HeaderMap) -> Response {
    if !desk.admits(&headers) {
        return unauthorized();
    }
    typed(StatusCode::OK, TEXT, table::render(&desk.state.latency))
}

async fn call(Shared(desk): Shared<Desk>, headers: HeaderMap, body: Bytes) -> Response {
    if !desk.admits(&headers) {
        return unauthorized();
    }
    // Nor may a page in an operator's browser whose name has come to lead here: a browser says whose page it is.
    if desk.token.is_none() && headers.contains_key(header::ORIGIN) {
        return typed(
            StatusCode::FORBIDDEN,
            TEXT,
            "a browser's pages may not call here without a token\n".to_owned(),
        );
    }
    // A page in an operator's browser may post plain text to loopback unasked, but not this.
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .eq_ignore_ascii_case(JSON)
    {
        return typed(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            TEXT,
            "Content-Type must be application/json\n".to_owned(),
        );
    }
    match rpc::answer(&desk.state, &body).await {
        Some(text) => typed(StatusCode::OK, JSON, text),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

fn typed(status: StatusCode, kind: &'static str, text: String) -> Response {
    (
        status,
        [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, "no-store"),
        ],
        text,
    )
        .into_response()
}

fn unauthorized() -> Response {
    let text = "Authorization: Bearer TOKEN is needed; the token is in [admin] token_file\n";
    let headers = [
        (header::WWW_AUTHENTICATE, "Bearer"),
        (header::CONTENT_TYPE, TEXT),
    ];
    (StatusCode::UNAUTHORIZED, headers, text).into_response()
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
