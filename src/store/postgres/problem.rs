//! What Postgres says went wrong, and what kind of failure that is.

use std::error::Error as _;

use tokio_postgres::Error;

use super::super::engine::EngineError;

/// The failure as the store's thread knows it.
pub(super) fn engine_error(error: &Error) -> EngineError {
    let mut text = error.to_string();
    if let Some(source) = error.source() {
        text = format!("{text}: {source}");
    }
    // The classes of Postgres' appendix A.
    match error.code().map(|code| code.code()) {
        Some(code)
            if ["28", "53", "3D"]
                .iter()
                .any(|class| code.starts_with(class)) =>
        {
            EngineError::Refused(text)
        }
        Some("42501" | "25006") => EngineError::Refused(text),
        Some(code) if code.starts_with("42") => EngineError::Unfit(text),
        Some(_) | None => EngineError::Unreachable(text),
    }
}

/// Whether the fault is a row's: a value that does not fit, or that a constraint forbids.
pub(super) fn is_about_data(error: &Error) -> bool {
    let code = error.code().map(|code| code.code());
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}
