//! What the cluster's thread shows of the nodes: brought up to date now and then, and at once for whoever asks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use super::desk::Bell;
use crate::limits::FRESH_REPORT_PATIENCE;
use crate::replication::NodeReport;

/// What is shown of the cluster.
pub struct Bulletin {
    posted: Mutex<Posted>,
    changed: Condvar,
    /// Questions so far.
    asked: AtomicU64,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Posted {
    nodes: Vec<NodeReport>,
    /// The newest question that had been asked before this was found out.
    answers: u64,
}

impl Bulletin {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Self {
            posted: Mutex::default(),
            changed: Condvar::new(),
            asked: AtomicU64::new(0),
            bell,
        }
    }

    /// What was posted last: it may be a fraction of a second old.
    #[must_use]
    pub fn last(&self) -> Vec<NodeReport> {
        self.posted.lock().nodes.clone()
    }

    /// Has it found out anew. Blocks until the thread has done so; where that is busy or gone, takes what was posted last.
    #[must_use]
    pub fn fresh(&self) -> Vec<NodeReport> {
        let question = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.bell.ring();
        let mut posted = self.posted.lock();
        let is_older = |posted: &mut Posted| posted.answers < question;
        let _ = self
            .changed
            .wait_while_for(&mut posted, is_older, FRESH_REPORT_PATIENCE);
        posted.nodes.clone()
    }

    /// The newest question: what is found out from here on answers it.
    pub(super) fn question(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Whether somebody waits.
    pub(super) fn is_asked(&self) -> bool {
        self.posted.lock().answers < self.question()
    }

    /// Posts what was found out after `question` was read; gives back what was there before.
    pub(super) fn post(&self, nodes: Vec<NodeReport>, question: u64) -> Vec<NodeReport> {
        let mut posted = self.posted.lock();
        posted.answers = question;
        let before = std::mem::replace(&mut posted.nodes, nodes);
        drop(posted);
        self.changed.notify_all();
        before
    }
}

impl fmt::Debug for Bulletin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulletin").finish_non_exhaustive()
    }
}
