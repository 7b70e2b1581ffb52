//! Memory by what it is for, beside what the kernel says that the process has.
//!
//! What the location takes is asked of the workers, whose locks are theirs alone to take, a part of its shards at a time. What was set aside
//! for buffers and frames is a matter of the configuration; the kernel gives memory for those alone that are used.

use std::sync::Mutex;
use std::time::Duration;

use super::State;
use super::errand::Unanswered;
use super::process::Process;
use crate::counters::Counter;
use crate::limits::{LOCATION_SHARDS, MEMORY_SHARDS};
use crate::location::Memory;

/// Bytes set aside at the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reserved {
    /// Of all workers' mailboxes.
    pub mailboxes: u64,
    /// Of the TCP thread's outbox.
    pub tcp_outbox: u64,
    /// Of what the kernel's UDP sockets are read into and written from.
    pub sockets: u64,
    /// Of the batches that go to and fro between the workers and the store.
    pub store: u64,
    /// Of the frames of AF_XDP, which are pinned.
    pub frames: u64,
    /// What `[limits] memory` gives.
    pub limit: u64,
}

/// Memory by what it is for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Report {
    pub(super) location: Memory,
    pub(super) transactions: u64,
    pub(super) arena: u64,
    pub(super) reserved: Reserved,
}

/// What the workers last said of the location: for who may not wait for them.
#[derive(Debug, Default)]
pub(super) struct LastSeen(Mutex<Memory>);

impl Report {
    /// Asks the workers, and waits for them.
    pub(super) async fn read(state: &State) -> Result<Self, Unanswered> {
        let location = location(state).await?;
        state.last_seen.set(location);
        Ok(Self::of(state, location))
    }

    /// As [`Self::read`]; where the workers are busy or gone, with what they said last.
    pub(super) async fn read_soon(state: &State) -> Self {
        if let Ok(Ok(location)) = tokio::time::timeout(PATIENCE, location(state)).await {
            state.last_seen.set(location);
        }
        Self::of(state, state.last_seen.get())
    }

    fn of(state: &State, location: Memory) -> Self {
        let all = state.sum(Counter::TransactionBytes);
        let arena = state.sum(Counter::StoredMessageBytes).min(all);
        Self {
            location,
            transactions: all - arena,
            arena,
            reserved: state.reserved,
        }
    }

    /// Each category with its bytes.
    pub(super) fn categories(&self) -> [(&'static str, u64); 10] {
        let Memory {
            aors,
            bindings,
            texts,
            interned,
            indexes,
            users,
            ..
        } = self.location;
        let reserved = &self.reserved;
        [
            ("bindings", (aors + bindings) as u64),
            ("texts", texts as u64),
            ("interned", interned as u64),
            ("indexes", indexes as u64),
            ("users", users as u64),
            ("transactions", self.transactions),
            ("arena", self.arena),
            ("frames", reserved.frames),
            (
                "buffers",
                reserved.mailboxes + reserved.tcp_outbox + reserved.sockets,
            ),
            ("store", reserved.store),
        ]
    }

    /// Of all categories.
    pub(super) fn sum(&self) -> u64 {
        self.categories().iter().map(|(_, bytes)| bytes).sum()
    }
}

impl LastSeen {
    fn set(&self, memory: Memory) {
        if let Ok(mut held) = self.0.lock() {
            *held = memory;
        }
    }

    fn get(&self) -> Memory {
        self.0.lock().map(|held| *held).unwrap_or_default()
    }
}

/// What the kernel says of the process: in RAM now, the most that ever was, and of it what files are mapped (the program's own code).
pub(super) fn resident() -> Option<(u64, u64, u64)> {
    let process = Process::read();
    let resident = process.resident?;
    let peak = process.resident_peak.unwrap_or(resident);
    Some((resident, peak, process.resident_files.unwrap_or(0)))
}

async fn location(state: &State) -> Result<Memory, Unanswered> {
    let mut location = Memory::default();
    let Some(registry) = &state.registry else {
        return Ok(location);
    };
    for first in (0..LOCATION_SHARDS).step_by(MEMORY_SHARDS) {
        let shards = first..(first + MEMORY_SHARDS).min(LOCATION_SHARDS);
        location += registry
            .errands
            .run(move |_, location| location.memory_of(shards))
            .await?;
    }
    Ok(location)
}

/// How long a scrape of the metrics waits for the workers.
const PATIENCE: Duration = Duration::from_millis(250);
