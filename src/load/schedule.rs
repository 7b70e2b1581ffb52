//! When attempts are to be made: an open loop, which no answer and no delay moves.
//!
//! Moments are nanoseconds since the load's start. The next one is computed from the schedule alone, so an attempt that
//! is made late is measured from when it was due (no coordinated omission).

use super::random::Random;

/// How attempts follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// Evenly: one each 1/rate seconds.
    Constant,
    /// As independent phones do: the gaps are exponentially distributed around 1/rate.
    Poisson,
}

/// The moments of all attempts of one load.
#[derive(Debug)]
pub(super) struct Schedule {
    rate: f64,
    arrivals: Arrivals,
    random: Random,
    /// How many have been taken.
    taken: u64,
    next_ns: f64,
    count_max: u64,
    span_ns: f64,
}

impl Schedule {
    /// `rate` attempts a second, until `count_max` have been made or `span_ns` is over.
    pub(super) fn new(
        rate: f64,
        arrivals: Arrivals,
        seed: u64,
        count_max: u64,
        span_ns: u64,
    ) -> Self {
        let mut schedule = Self {
            rate,
            arrivals,
            random: Random::new(seed),
            taken: 0,
            next_ns: 0.0,
            count_max,
            span_ns: span_ns as f64,
        };
        if arrivals == Arrivals::Poisson {
            schedule.next_ns = schedule.gap_ns();
        }
        schedule
    }

    /// Takes the next attempt if it is due at `now_ns`; gives when it was.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_ns().filter(|due_ns| *due_ns <= now_ns)?;
        self.taken += 1;
        self.next_ns = match self.arrivals {
            // From the count, so that no error adds up.
            Arrivals::Constant => self.taken as f64 * 1e9 / self.rate,
            Arrivals::Poisson => self.next_ns + self.gap_ns(),
        };
        Some(due_ns)
    }

    /// When the next attempt is due; none: there are no more.
    pub(super) fn next_ns(&self) -> Option<u64> {
        let is_over = self.taken >= self.count_max || self.next_ns >= self.span_ns;
        (!is_over).then_some(self.next_ns as u64)
    }

    /// How many attempts have become due.
    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }

    fn gap_ns(&mut self) -> f64 {
        -self.random.unit().ln() * 1e9 / self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(arrivals: Arrivals, rate: f64, count: u64, span_ns: u64) -> Vec<u64> {
        let mut schedule = Schedule::new(rate, arrivals, 7, count, span_ns);
        let mut moments = Vec::new();
        while let Some(due) = schedule.take(u64::MAX) {
            moments.push(due);
        }
        assert_eq!(schedule.taken(), moments.len() as u64);
        moments
    }

    #[test]
    fn constant_arrivals_are_evenly_spaced_and_do_not_drift() {
        let moments = moments(Arrivals::Constant, 3.0, 3_000_001, u64::MAX);
        assert_eq!(moments[..4], [0, 333_333_333, 666_666_666, 1_000_000_000]);
        assert_eq!(moments[3_000_000], 1_000_000 * 1_000_000_000);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() {
        let moments = moments(Arrivals::Poisson, 1_000.0, u64::MAX, 100_000_000_000);
        let count = moments.len() as f64;
        assert!((count - 100_000.0).abs() < 1_500.0, "{count}");
        let gaps: Vec<f64> = moments
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) as f64 / 1e6)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Of an exponential distribution the standard deviation is the mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{variance}");
    }

    #[test]
    fn the_load_ends_by_count_or_by_time_whichever_comes_first() {
        assert_eq!(
            moments(Arrivals::Constant, 100.0, 50, 1_000_000_000).len(),
            50
        );
        assert_eq!(
            moments(Arrivals::Constant, 100.0, 500, 1_000_000_000).len(),
            100
        );
        assert!(moments(Arrivals::Constant, 100.0, 0, 1_000_000_000).is_empty());
    }

    #[test]
    fn what_is_not_due_yet_stays() {
        let mut schedule = Schedule::new(1_000.0, Arrivals::Constant, 0, 10, u64::MAX);
        assert_eq!(schedule.take(0), Some(0));
        assert_eq!(schedule.take(999_999), None);
        assert_eq!(schedule.next_ns(), Some(1_000_000));
        // Late, it still says when it was due.
        assert_eq!(schedule.take(5_500_000), Some(1_000_000));
    }
}
