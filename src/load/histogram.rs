//! How long something took: an HDR histogram of microseconds with three digits, beside it the exact sum and maximum.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::time::Duration;

/// One distribution of times.
#[derive(Clone, Debug)]
pub(super) struct Times {
    histogram: hdrhistogram::Histogram<u64>,
    sum_us: u64,
    max_us: u64,
}

impl Times {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self {
            histogram: hdrhistogram::Histogram::new_with_bounds(1, SPAN_MAX_US, 3)
                .expect("the bounds are constants that the crate takes"),
            sum_us: 0,
            max_us: 0,
        }
    }

    /// Records a time.
    pub(super) fn record(&mut self, span: Duration) {
        let span_us = span.as_micros();
        self.histogram.saturating_record(span_us);
        self.sum_us = self.sum_us.saturating_add(span_us);
        self.max_us = self.max_us.max(span_us);
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The mean in milliseconds; 0 of nothing.
    pub(super) fn mean_ms(&self) -> f64 {
        self.sum_us as f64 / 1e3 / self.count().max(1) as f64
    }

    /// What the share `q` did not exceed, in milliseconds.
    pub(super) fn quantile_ms(&self, q: f64) -> f64 {
        self.histogram.value_at_quantile(q).min(self.max_us) as f64 / 1e3
    }

    /// The longest, exactly.
    pub(super) fn max_ms(&self) -> f64 {
        self.max_us as f64 / 1e3
    }

    /// The seven statistics after the count, as the table has them.
    fn statistics(&self) -> [(&'static str, f64); 7] {
        [
            ("median", self.quantile_ms(0.5)),
            ("mean", self.mean_ms()),
            ("q75", self.quantile_ms(0.75)),
            ("q90", self.quantile_ms(0.90)),
            ("q99", self.quantile_ms(0.99)),
            ("q99.9", self.quantile_ms(0.999)),
            ("max", self.max_ms()),
        ]
    }

    /// The statistics as a JSON object; times in milliseconds.
    pub(super) fn to_json(&self) -> Value {
        let mut object = json!({ "samples": self.count() });
        for (name, value) in self.statistics() {
            object[name] = json!(value);
        }
        object
    }
}

/// The table of several distributions, in milliseconds; those of nothing are left out.
pub(super) fn table<'a>(rows: impl IntoIterator<Item = (String, &'a Times)>) -> String {
    let heads = Times::new().statistics().map(|(name, _)| name);
    let mut text = format!("{:<34}{:>10}", "ms", "samples");
    for head in heads {
        let _ = write!(text, "{head:>11}");
    }
    text.push('\n');
    for (name, times) in rows {
        if times.count() == 0 {
            continue;
        }
        let _ = write!(text, "{name:<34}{:>10}", times.count());
        for (_, value) in times.statistics() {
            let _ = write!(text, "{value:>11.3}");
        }
        text.push('\n');
    }
    text
}

/// Longer times count as this long in the quantiles: two transactions that time out one after the other, and more.
const SPAN_MAX_US: u64 = 200_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_columns_of_the_design_and_they_are_right() {
        let mut times = Times::new();
        for micros in 1..=100_000 {
            times.record(Duration::from_micros(micros));
        }
        let text = table([
            ("REGISTER".to_owned(), &times),
            ("none".to_owned(), &Times::new()),
        ]);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[0],
            [
                "ms", "samples", "median", "mean", "q75", "q90", "q99", "q99.9", "max"
            ]
        );
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1][..2], ["REGISTER", "100000"]);
        for (place, exact) in [
            (2, 50.0),
            (3, 50.0005),
            (4, 75.0),
            (5, 90.0),
            (6, 99.0),
            (7, 99.9),
            (8, 100.0),
        ] {
            let value: f64 = lines[1][place].parse().expect("a number");
            assert!(
                (value - exact).abs() / exact < 0.001,
                "column {place}: {value}"
            );
        }
        let json = times.to_json();
        assert_eq!(json["samples"], 100_000);
        assert_eq!(json["max"], 100.0);
    }

    #[test]
    fn few_samples_are_themselves() {
        let mut times = Times::new();
        times.record(Duration::from_micros(3));
        times.record(Duration::from_secs(500));
        assert!((times.quantile_ms(0.5) - 0.003).abs() < 1e-9);
        assert!((times.max_ms() - 500_000.0).abs() < 1e-9);
        assert!(Times::new().mean_ms().abs() < 1e-9);
    }
}
