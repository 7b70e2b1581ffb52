//! What goes to and fro between a worker and the store's thread: a buffer of rows with an errand.

use crate::limits::STORE_BATCH_ROWS;
use crate::location::{Rows, Taken};

/// A buffer of rows and what is to be done with it.
#[derive(Debug)]
pub struct Batch {
    /// The rows.
    pub rows: Rows,
    /// The shards that they were taken from.
    pub taken: Taken,
    /// What is to be done.
    pub errand: Errand,
    /// Of one that is committed, the places of the rows that were left out, since they cannot be stored.
    pub refused: Vec<u32>,
}

/// What a batch is on its way for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// To the worker: fill it when there is something to fill it with.
    Fill,
    /// To the store: write it.
    Write,
    /// To the worker: it is committed.
    Committed,
    /// To the worker: it is not known to be committed; its rows wait again.
    Failed,
    /// To the worker: let these rows into the location. Back to the store: done.
    Load,
    /// To the worker: see whether the location still has these rows. Back to the store: done.
    Verify,
    /// To the worker: let these rows in, which it asked for. Back to the store: it has served.
    Answer,
}

impl Batch {
    /// An empty one.
    #[must_use]
    pub fn new(errand: Errand) -> Self {
        Self {
            rows: Rows::with_capacity(STORE_BATCH_ROWS),
            taken: Taken::new(),
            errand,
            refused: Vec::new(),
        }
    }
}
