//! How long messages take, by method (a response's is its request's): a histogram a worker, written by it alone and read by
//! the admin server.
//!
//! As with [`Counters`](crate::counters::Counters), the owner adds with plain loads and stores, so that recording costs the
//! worker a few nanoseconds, no lock and no allocation, and the reader may look at any time. A bucket is at most a
//! thousandth of its value wide (a microsecond below 2,048): the layout of HdrHistogram with three digits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::Duration;

/// The method of a message, as far as the statistics tell methods apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Method {
    /// INVITE.
    Invite,
    /// ACK.
    Ack,
    /// BYE.
    Bye,
    /// CANCEL.
    Cancel,
    /// REGISTER.
    Register,
    /// OPTIONS.
    Options,
    /// Any other.
    Other,
}

impl Method {
    /// Every method, in the order of the tables.
    pub const ALL: [Self; 7] = [
        Self::Invite,
        Self::Ack,
        Self::Bye,
        Self::Cancel,
        Self::Register,
        Self::Options,
        Self::Other,
    ];

    /// The name in metrics and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Register => "REGISTER",
            Self::Options => "OPTIONS",
            Self::Other => "other",
        }
    }
}

/// The histograms of one worker.
#[derive(Debug)]
pub struct Latency {
    methods: [Histogram; Method::ALL.len()],
}

/// One histogram: of times, written by one thread and read by any.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum_us: AtomicU64,
    max_us: AtomicU64,
}

impl Latency {
    /// Makes the histograms, all empty; about 1 MB.
    #[must_use]
    pub fn new() -> Self {
        Self {
            methods: std::array::from_fn(|_| Histogram::new()),
        }
    }

    /// Records that a request of `method` took `span`. Only the owning worker may call it.
    #[inline]
    pub fn record(&self, method: Method, span: Duration) {
        self.methods[method as usize].record(span);
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// Makes one, empty; about 140 KB.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum_us: AtomicU64::new(0),
            max_us: AtomicU64::new(0),
        }
    }

    /// Records a time. Only the owning thread may call it.
    #[inline]
    pub fn record(&self, span: Duration) {
        let span_us = span.as_micros();
        add(&self.sum_us, span_us);
        if span_us > self.max_us.load(Ordering::Relaxed) {
            self.max_us.store(span_us, Ordering::Relaxed);
        }
        if let Some(bucket) = self.buckets.get(bucket_of(span_us)) {
            add(bucket, 1);
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// What all workers recorded of one method, or of several, at one moment.
#[derive(Clone, Debug)]
pub struct Summary {
    counts: Vec<u64>,
    count: u64,
    sum_us: u64,
    max_us: u64,
}

impl Summary {
    /// Adds up what `workers` recorded of `methods`.
    #[must_use]
    pub fn of(workers: &[Arc<Latency>], methods: &[Method]) -> Self {
        let mut summary = Self::empty();
        for worker in workers {
            for method in methods {
                summary.add(&worker.methods[*method as usize]);
            }
        }
        summary
    }

    /// What one histogram holds.
    #[must_use]
    pub fn of_one(histogram: &Histogram) -> Self {
        let mut summary = Self::empty();
        summary.add(histogram);
        summary
    }

    fn empty() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            count: 0,
            sum_us: 0,
            max_us: 0,
        }
    }

    /// How many requests.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The sum of their times in seconds.
    #[must_use]
    pub fn sum_s(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// The mean in milliseconds; 0 of nothing.
    #[must_use]
    pub fn mean_ms(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.sum_us as f64 / self.count as f64 / 1e3
        }
    }

    /// The longest in milliseconds, exactly.
    #[must_use]
    pub fn max_ms(&self) -> f64 {
        self.max_us as f64 / 1e3
    }

    /// The time in milliseconds that the share `q` of the requests did not exceed; 0 of nothing.
    #[must_use]
    pub fn quantile_ms(&self, q: f64) -> f64 {
        let rank = ((self.count as f64 * q).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return last_of(bucket).min(self.max_us) as f64 / 1e3;
            }
        }
        0.0
    }

    /// How many took at most `bound`, to the width of a bucket.
    #[must_use]
    pub fn count_within(&self, bound: Duration) -> u64 {
        let end = bucket_of(bound.as_micros().saturating_add(1));
        self.counts.iter().take(end).sum()
    }

    fn add(&mut self, cells: &Histogram) {
        for (count, bucket) in self.counts.iter_mut().zip(&cells.buckets) {
            let recorded = bucket.load(Ordering::Relaxed);
            *count += recorded;
            self.count += recorded;
        }
        self.sum_us = self
            .sum_us
            .saturating_add(cells.sum_us.load(Ordering::Relaxed));
        self.max_us = self.max_us.max(cells.max_us.load(Ordering::Relaxed));
    }
}

#[inline]
fn add(cell: &AtomicU64, n: u64) {
    cell.store(
        cell.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}

/// The bucket of a time: one a microsecond below 2 * `HALF`, then `HALF` to each doubling.
#[inline]
const fn bucket_of(span_us: u64) -> usize {
    let span_us = if span_us < SPAN_END_US {
        span_us
    } else {
        SPAN_END_US - 1
    };
    if span_us < 2 * HALF {
        return span_us as usize;
    }
    let shift = span_us.ilog2() - HALF.ilog2();
    (shift as u64 * HALF + (span_us >> shift)) as usize
}

/// The longest time of a bucket.
const fn last_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * HALF {
        return bucket;
    }
    let shift = bucket / HALF - 1;
    let position = bucket - shift * HALF;
    ((position + 1) << shift) - 1
}

/// Buckets to a doubling: each is at most a thousandth of its values wide.
const HALF: u64 = 1_024;
/// Times from here on share the last bucket: 67 s, longer than a transaction may take.
const SPAN_END_US: u64 = 1 << 26;
const BUCKETS: usize = bucket_of(SPAN_END_US - 1) + 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(spans_us: impl IntoIterator<Item = u64>) -> Summary {
        let latency = Arc::new(Latency::new());
        for span_us in spans_us {
            latency.record(Method::Invite, Duration::from_micros(span_us));
        }
        Summary::of(&[latency], &[Method::Invite])
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(last_of(bucket)), bucket);
            if bucket + 1 < BUCKETS {
                assert_eq!(bucket_of(last_of(bucket) + 1), bucket + 1);
            }
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_right_to_a_thousandth() {
        let summary = recorded(1..=100_000);
        assert_eq!(summary.count(), 100_000);
        for (q, exact_ms) in [
            (0.5, 50.0),
            (0.75, 75.0),
            (0.9, 90.0),
            (0.99, 99.0),
            (0.999, 99.9),
        ] {
            let error = (summary.quantile_ms(q) - exact_ms).abs() / exact_ms;
            assert!(error <= 0.001, "{q}: {}", summary.quantile_ms(q));
        }
        assert!((summary.mean_ms() - 50.0005).abs() < 1e-9);
        assert!((summary.max_ms() - 100.0).abs() < 1e-9);
    }

    #[test]
    fn a_quantile_of_few_is_one_of_them() {
        let summary = recorded([3, 5_000_000]);
        assert!((summary.quantile_ms(0.5) - 0.003).abs() < 1e-9);
        assert!((summary.quantile_ms(0.999) - 5_000.0).abs() < 1e-9);
        assert!(recorded([]).quantile_ms(0.5).abs() < 1e-9);
    }

    #[test]
    fn what_is_within_a_bound_is_counted() {
        let summary = recorded([0, 99, 100, 101, 1_000_000, 100_000_000]);
        assert_eq!(summary.count_within(Duration::from_micros(100)), 3);
        assert_eq!(summary.count_within(Duration::from_secs(2)), 5);
        assert_eq!(summary.count(), 6);
    }

    #[test]
    fn workers_and_methods_add_up() {
        let workers = [Arc::new(Latency::new()), Arc::new(Latency::new())];
        workers[0].record(Method::Register, Duration::from_millis(1));
        workers[1].record(Method::Register, Duration::from_millis(2));
        workers[1].record(Method::Bye, Duration::from_millis(9));
        assert_eq!(Summary::of(&workers, &[Method::Register]).count(), 2);
        assert_eq!(Summary::of(&workers, &Method::ALL).count(), 3);
    }
}
