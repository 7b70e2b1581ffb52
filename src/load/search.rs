//! The highest rate at which enough succeeds: doubled until it fails, then halved in between. A rate that fails is tried once more: one
//! stall of the host is not to be taken for the server's end.

/// What a rate has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Enough succeeded.
    Holds,
    /// Too little did.
    Fails,
    /// The generator could not offer it: nothing is known of the server.
    Unoffered,
}

/// One rate that was tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Trial {
    pub(super) rate: f64,
    pub(super) verdict: Verdict,
}

/// What a search has found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    /// The highest rate that held; none did.
    pub(super) rate: Option<f64>,
    /// Whether the generator, and not the server, set the bound.
    pub(super) is_generator: bool,
    pub(super) trials: Vec<Trial>,
}

impl Found {
    /// Tries a rate, twice where it does not hold at once. Nothing: it was interrupted.
    fn judge(
        &mut self,
        rate: f64,
        attempt: &mut impl FnMut(f64) -> Option<Verdict>,
    ) -> Option<Verdict> {
        let mut last = Verdict::Fails;
        for _ in 0..ATTEMPTS_AT_A_RATE {
            last = attempt(rate)?;
            let verdict = last;
            self.trials.push(Trial { rate, verdict });
            if verdict == Verdict::Holds {
                break;
            }
        }
        Some(last)
    }
}

/// Searches from `start` on; `attempt` tries a rate, or gives nothing when it was interrupted.
pub(super) fn search(
    start: f64,
    rate_max: f64,
    mut attempt: impl FnMut(f64) -> Option<Verdict>,
) -> Found {
    let mut found = Found {
        rate: None,
        is_generator: false,
        trials: Vec::new(),
    };
    let mut above: Option<f64> = None;
    let mut rate = start;
    while found.trials.len() < TRIALS_MAX {
        let Some(verdict) = found.judge(rate, &mut attempt) else {
            break;
        };
        if verdict == Verdict::Holds {
            found.rate = Some(rate);
        } else {
            found.is_generator = verdict == Verdict::Unoffered;
            above = Some(rate);
        }
        rate = match (found.rate, above) {
            (Some(below), Some(above)) if above / below <= PRECISION => break,
            (Some(below), Some(above)) => (below + above) / 2.0,
            (Some(below), None) if below >= rate_max => break,
            (Some(below), None) => (below * 2.0).min(rate_max),
            (None, _) if rate < RATE_MIN => break,
            (None, _) => rate / 2.0,
        };
    }
    found
}

/// Rates this near to each other are not told apart.
const PRECISION: f64 = 1.03;
/// A rate that does not hold is tried so often.
const ATTEMPTS_AT_A_RATE: usize = 2;
/// A search ends here, whatever it knows.
const TRIALS_MAX: usize = 48;
/// Below this rate nothing is sought.
const RATE_MIN: f64 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn seek(start: f64, capacity: f64, generator: f64) -> Found {
        search(start, 1e6, |rate| {
            Some(if rate > generator {
                Verdict::Unoffered
            } else if rate > capacity {
                Verdict::Fails
            } else {
                Verdict::Holds
            })
        })
    }

    #[test]
    fn the_rate_that_holds_is_found_from_above_and_from_below() {
        for start in [100.0, 41_000.0, 900_000.0] {
            let found = seek(start, 41_234.0, 1e9);
            let rate = found.rate.expect("some rate holds");
            assert!(rate <= 41_234.0 && rate > 41_234.0 / PRECISION, "{rate}");
            let mut rates: Vec<f64> = found.trials.iter().map(|trial| trial.rate).collect();
            rates.dedup();
            assert!(!found.is_generator && rates.len() <= 24);
        }
    }

    #[test]
    fn a_rate_that_fails_once_is_tried_once_more() {
        let mut tried = 0;
        let found = search(1_000.0, 1e6, |rate| {
            tried += 1;
            let is_stalled = tried % 2 == 1;
            Some(if is_stalled || rate > 41_234.0 {
                Verdict::Fails
            } else {
                Verdict::Holds
            })
        });
        let rate = found.rate.expect("some rate holds");
        assert!(rate <= 41_234.0 && rate > 41_234.0 / PRECISION, "{rate}");
        let at_start = &found.trials[..2];
        assert!(at_start.iter().all(|trial| trial.rate == 1_000.0));
    }

    #[test]
    fn a_generator_that_is_the_limit_is_said_to_be() {
        let found = seek(1_000.0, 1e9, 50_000.0);
        assert!(found.is_generator);
        assert!(found.rate.is_some_and(|rate| rate <= 50_000.0));
    }

    #[test]
    fn a_search_ends() {
        assert_eq!(seek(100.0, 0.0, 1e9).rate, None);
        assert_eq!(seek(100.0, 1e9, 1e9).rate, Some(1e6));
        assert!(search(1.0, 2.0, |_| None).trials.is_empty());
    }
}
