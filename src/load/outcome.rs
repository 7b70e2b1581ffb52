//! What came of a load at one rate, and whether it says anything of the server.

use super::mix::Mix;
use super::processor::Usage;
use super::tally::{Delay, Kind, Tally};

/// What came of a stretch.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) rate: f64,
    pub(super) mix: Mix,
    pub(super) tallies: [Tally; Kind::ALL.len()],
    /// For how long attempts were made that count.
    pub(super) span_s: f64,
    /// CPU times over the attempts that count, and until the last of them had ended.
    pub(super) usage: Usage,
    /// Messages for which there was no room to send.
    pub(super) full: u64,
    /// Responses to nothing that was under way.
    pub(super) strays: u64,
}

impl Outcome {
    /// The kinds that were attempted.
    pub(super) fn tallies(&self) -> impl Iterator<Item = &Tally> {
        self.tallies.iter().filter(|tally| self.mix.has(tally.kind))
    }

    /// All attempts, and those that succeeded.
    pub(super) fn sums(&self) -> (u64, u64) {
        self.tallies().fold((0, 0), |(attempts, successes), tally| {
            (attempts + tally.attempts, successes + tally.successes)
        })
    }

    /// Whether at least this share of the attempts succeeded, and there were any.
    pub(super) fn holds(&self, success_percent: f64) -> bool {
        let (attempts, successes) = self.sums();
        attempts > 0 && successes as f64 >= attempts as f64 * success_percent / 100.0
    }

    /// Why the generator itself was the limit, if it was: then the result says nothing of the server's.
    pub(super) fn limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        let (attempts, _) = self.sums();
        let unsent: u64 = self.tallies().map(|tally| tally.unsent).sum();
        let failed: u64 = self.tallies().map(|tally| tally.failed()).sum();
        // Where a server keeps its phones waiting, it is the server that has too few of them left.
        if unsent > 0 && failed == 0 {
            limits.push(format!(
                "{unsent} attempts were not made: every phone in turn was busy (more --phones), or too many were under way"
            ));
        }
        for tally in self.tallies() {
            let late_ms = tally.times(Delay::Lateness).quantile_ms(0.95);
            if late_ms > LATE_MS {
                limits.push(format!(
                    "a twentieth of the {} left {late_ms:.1} ms late or more: the schedule was not kept",
                    tally.kind.method()
                ));
            }
        }
        if self.full as f64 > attempts as f64 * FULL_SHARE {
            limits.push(format!(
                "{} messages found no room to be sent: the network here is the limit",
                self.full
            ));
        }
        limits
    }
}

/// How late a twentieth of the attempts may be before the generator is called the limit. Not a hundredth: a virtual machine stands still
/// for 5 ms now and then, whoever runs in it.
const LATE_MS: f64 = 5.0;
/// The share of messages without room at which it is.
const FULL_SHARE: f64 = 0.000_1;
