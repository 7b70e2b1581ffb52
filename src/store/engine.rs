//! What the store's thread asks of a database.

use crate::location::{Row, Rows};

/// A database with the tables.
pub(super) trait Engine: Send {
    /// Connects, where there is no connection; sees that settings and tables are as they must be, and makes the tables that are not
    /// there. Gives whether the database has lost what it had committed.
    fn connect(&mut self) -> Result<bool, EngineError>;

    /// Writes a batch, all or nothing, and gives what was remarkable. On an error it is not known whether it arrived.
    fn write(&mut self, rows: &Rows) -> Result<Written, EngineError>;

    /// Gives every row that has not expired at `now_s` to `each`.
    fn load(&mut self, now_s: i64, each: &mut dyn FnMut(&Row<'_>)) -> Result<Loaded, EngineError>;

    /// Deletes up to `len_max` rows of ours that had expired at `before_s`, and gives how many.
    fn purge(&mut self, before_s: i64, len_max: usize) -> Result<usize, EngineError>;

    /// Forgets the connection, after an error.
    fn disconnect(&mut self);
}

/// What a committed batch was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Rows that were to be changed, and were not there: the table has lost them.
    pub(super) missed: usize,
    /// The rows, by their places in the batch, that cannot be stored: no column holds them, or the database refuses them.
    pub(super) refused: Vec<u32>,
}

/// What a load came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loaded {
    /// Rows that were given out.
    pub(super) rows: usize,
    /// Rows that had expired.
    pub(super) expired: usize,
}

/// Why the database did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    /// It cannot be reached, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
    /// It refuses: no such user, no permission, no room.
    #[error("{0}")]
    Refused(String),
    /// Its tables or settings are not what they must be.
    #[error("{0}")]
    Unfit(String),
}
