//! The latency table: count, median, mean, quantiles and maximum by method, in milliseconds.

use std::fmt::Write;
use std::sync::Arc;

use crate::latency::{Latency, Method, Summary};

/// The quantiles of the table, beside the median, the mean and the maximum.
pub(super) const QUANTILES: [(&str, f64); 5] = [
    ("q75", 0.75),
    ("q90", 0.90),
    ("q99", 0.99),
    ("q99.9", 0.999),
    ("max", 1.0),
];

/// The methods that were seen, each with its summary, and all together where there are several.
pub(super) fn rows(latency: &[Arc<Latency>]) -> Vec<(&'static str, Summary)> {
    let mut rows: Vec<(&'static str, Summary)> = Method::ALL
        .into_iter()
        .map(|method| (method.as_str(), Summary::of(latency, &[method])))
        .filter(|(_, summary)| summary.count() > 0)
        .collect();
    if rows.len() != 1 {
        rows.push(("all", Summary::of(latency, &Method::ALL)));
    }
    rows
}

/// The table as text.
pub(super) fn render(latency: &[Arc<Latency>]) -> String {
    let mut text = format!("{:<10}{:>12}{:>11}{:>11}", "ms", "count", "median", "mean");
    for (name, _) in QUANTILES {
        let _ = write!(text, "{name:>11}");
    }
    text.push('\n');
    for (name, summary) in rows(latency) {
        let (median, mean) = (summary.quantile_ms(0.5), summary.mean_ms());
        let _ = write!(
            text,
            "{name:<10}{:>12}{median:>11.3}{mean:>11.3}",
            summary.count()
        );
        for (_, q) in QUANTILES {
            let value = if q < 1.0 {
                summary.quantile_ms(q)
            } else {
                summary.max_ms()
            };
            let _ = write!(text, "{value:>11.3}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn the_table_shows_each_method_seen_and_their_sum() {
        let latency = Arc::new(Latency::new());
        for millis in 1..=1_000 {
            latency.record(Method::Invite, Duration::from_millis(millis));
        }
        latency.record(Method::Register, Duration::from_micros(15));
        let text = render(&[latency]);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[0],
            [
                "ms", "count", "median", "mean", "q75", "q90", "q99", "q99.9", "max"
            ]
        );
        assert_eq!(lines[1][..4], ["INVITE", "1000", "500.223", "500.500"]);
        assert_eq!(lines[2][..3], ["REGISTER", "1", "0.015"]);
        assert_eq!((lines[3][0], lines[3][8]), ("all", "1000.000"));
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn before_the_first_request_the_table_is_there() {
        assert_eq!(render(&[]).lines().count(), 2);
    }
}
