//! What passes between the cluster and the workers, who alone touch the location: buffers that go to and fro.

use super::NodeAddress;
use crate::location::{Deltas, Judge, Merge, SweepCursor};

/// What a worker does with a parcel.
#[derive(Clone, Debug)]
pub enum Errand {
    /// It is filled with what changed here.
    Fresh,
    /// It is filled with a slice of what has at least some version.
    Walk(Walk, Option<SweepCursor>),
    /// What stands in it is let in.
    Merge {
        /// Whose it is.
        node: NodeAddress,
        /// How it is judged.
        judge: Judge,
    },
}

/// A walk through one worker's share of the location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// For whom.
    pub node: NodeAddress,
    /// Tells it from an earlier one that was given up.
    pub number: u64,
    /// From which version on.
    pub since: u64,
    /// Whose share.
    pub worker: usize,
    /// Whether the share is done.
    pub is_over: bool,
    /// Whether the location has not all of its own yet, so that nothing was looked at.
    pub must_wait: bool,
    /// How many contacts a parcel takes: where there is a pace, few, and often.
    pub len_max: usize,
}

/// A buffer on its way.
#[derive(Debug)]
pub struct Parcel {
    /// What it is for.
    pub errand: Errand,
    /// The changes.
    pub deltas: Deltas,
    /// What became of them.
    pub merges: Vec<Merge>,
    /// What the node that sent them is behind with.
    pub answers: Deltas,
}

impl Parcel {
    /// An empty one with room for `len` changes.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self {
            errand: Errand::Fresh,
            deltas: Deltas::with_capacity(len),
            merges: Vec::with_capacity(len),
            answers: Deltas::default(),
        }
    }

    /// Forgets what is in it.
    pub fn clear(&mut self) {
        self.deltas.clear();
        self.merges.clear();
        self.answers.clear();
    }
}
