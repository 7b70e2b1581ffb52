//! When the host stood still: a virtual machine loses its processors now and then for some milliseconds, whoever runs in it.
//!
//! A watchman on each processor, scheduled before everybody else (SCHED_FIFO), wakes each half a millisecond. Where he wakes late, nobody in
//! this machine was the reason: what was measured in that moment tells nothing of the server.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The moments in which the host stood still.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stalls(Vec<(Instant, Instant)>);

impl Stalls {
    /// Does `work` under the eyes of the watchmen.
    pub(crate) fn during<T: Send>(work: impl FnOnce() -> T + Send) -> (T, Self) {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let is_over = &is_over;
            let cores = core_affinity::get_core_ids().expect("the processors");
            let watchmen: Vec<_> = cores
                .into_iter()
                .map(|core| scope.spawn(move || watch(core, is_over)))
                .collect();
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            is_over.store(true, Ordering::SeqCst);
            let seen = watchmen
                .into_iter()
                .flat_map(|watchman| watchman.join().expect("it ends"))
                .collect();
            match outcome {
                Ok(outcome) => (outcome, Self(seen)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Whether the host stood still at some time from `start` to `end`.
    pub(crate) fn touch(&self, start: Instant, end: Instant) -> bool {
        self.0.iter().any(|(from, to)| *from <= end && start <= *to)
    }
}

fn watch(core: core_affinity::CoreId, is_over: &AtomicBool) -> Vec<(Instant, Instant)> {
    assert!(core_affinity::set_for_current(core), "pinned");
    let own = rustix::thread::gettid().as_raw_nonzero().to_string();
    let first = Command::new("chrt")
        .args(["--fifo", "--pid", "50", &own])
        .status();
    assert!(first.expect("util-linux").success(), "chrt --fifo");
    let mut stalls = Vec::new();
    while !is_over.load(Ordering::SeqCst) {
        let due = Instant::now() + STEP;
        std::thread::sleep(STEP);
        let woken = Instant::now();
        if woken > due + LATE {
            stalls.push((due, woken));
        }
    }
    stalls
}

const STEP: Duration = Duration::from_micros(500);
/// Interrupts and the network's own work take less.
const LATE: Duration = Duration::from_millis(1);
