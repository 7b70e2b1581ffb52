//! The server under test.

use std::path::PathBuf;

/// The binary that cargo built, or the one that `STROWGER_BINARY` names.
pub(crate) fn binary() -> PathBuf {
    let built = || env!("CARGO_BIN_EXE_strowger").into();
    std::env::var_os("STROWGER_BINARY").map_or_else(built, PathBuf::from)
}
