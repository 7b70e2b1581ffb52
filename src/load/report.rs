//! The result, as text and as JSON.

use serde_json::{Value, json};

use super::callee::Taken;
use super::histogram::{Times, table};
use super::outcome::Outcome;
use super::plan::Plan;
use super::search::{Found, Verdict};
use super::tally::Delay;

/// What a load has shown.
pub struct Report {
    text: String,
    json: Value,
    is_success: bool,
}

impl Report {
    /// Of one stretch, or of the highest rate that a search has found to hold.
    pub(super) fn new(
        plan: &Plan,
        outcome: Option<&Outcome>,
        found: Option<&Found>,
        taken: Taken,
    ) -> Self {
        let mut text = String::new();
        let mut json = json!({
            "target": plan.settings.target.to_string(),
            "phones": plan.accounts.len(),
            "sources": plan.settings.sources.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "arrivals": format!("{:?}", plan.arrivals).to_lowercase(),
            "session_duration_ms": plan.settings.hold.as_micros() / 1_000,
        });
        if let Some(found) = found {
            text += &of_search(found, plan.success_percent);
            json["search"] = search_json(found);
        }
        if let Some(outcome) = outcome {
            text += &of_outcome(plan, outcome);
            put_outcome(plan, outcome, &mut json);
        }
        if taken.sessions > 0 || plan.is_uas {
            text += &of_taken(&taken);
            json["called"] = taken_json(&taken);
        }
        let is_success = match (found, outcome) {
            (Some(found), _) => found.rate.is_some(),
            (None, Some(outcome)) => outcome.holds(plan.success_percent),
            (None, None) => plan.is_uas,
        };
        json["success"] = json!(is_success);
        Self {
            text,
            json,
            is_success,
        }
    }

    /// Whether as much succeeded as was asked for.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.is_success
    }

    /// The result for people.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The result for programs.
    #[must_use]
    pub const fn json(&self) -> &Value {
        &self.json
    }
}

fn of_outcome(plan: &Plan, outcome: &Outcome) -> String {
    let settings = &plan.settings;
    let mut text = format!(
        "{} phones at {} sources to {}, {} arrivals, {:.1}/s offered for {:.1} s\n\n",
        plan.accounts.len(),
        settings.sources.len(),
        settings.target,
        format!("{:?}", plan.arrivals).to_lowercase(),
        outcome.rate,
        outcome.span_s
    );
    for tally in outcome.tallies() {
        text += &tally.lines(outcome.span_s);
        text.push('\n');
    }
    let mut rows: Vec<(String, &Times)> = Vec::new();
    for tally in outcome.tallies() {
        rows.extend(tally.rows());
    }
    for tally in outcome.tallies() {
        let name = format!("{} sent late by", tally.kind.method());
        rows.push((name, tally.times(Delay::Lateness)));
    }
    text += &table(rows);
    text.push('\n');
    text += &of_usage(plan, outcome);
    for limit in outcome.limits() {
        text += &format!("THE GENERATOR WAS THE LIMIT: {limit}\n");
    }
    text
}

fn of_usage(plan: &Plan, outcome: &Outcome) -> String {
    let (_, successes) = outcome.sums();
    let each = |ns: u64| ns as f64 / 1e3 / successes.max(1) as f64;
    let usage = outcome.usage;
    let mut text = String::new();
    if plan.has_server {
        let split = usage.user_share().map_or_else(String::new, |share| {
            let server = each(usage.server_ns);
            let (user, system) = (server * share, server * (1.0 - share));
            format!(" ({user:.2} in its own code, {system:.2} in the kernel)")
        });
        text += &format!(
            "CPU an operation: server {:.2} us{split}, receiving kernel threads {:.2} us, both {:.2} us\n",
            each(usage.server_ns),
            each(usage.receive_ns),
            each(usage.server_ns + usage.receive_ns)
        );
    }
    text += &format!("CPU an operation: generator {:.2} us\n", each(usage.own_ns));
    if outcome.strays > 0 {
        text += &format!(
            "responses to nothing that was under way: {}\n",
            outcome.strays
        );
    }
    text
}

fn put_outcome(plan: &Plan, outcome: &Outcome, json: &mut Value) {
    let (attempts, successes) = outcome.sums();
    let each = |ns: u64| ns as f64 / 1e3 / successes.max(1) as f64;
    let usage = outcome.usage;
    json["offered_rate_per_s"] = json!(outcome.rate);
    json["time_s"] = json!(outcome.span_s);
    json["attempts"] = json!(attempts);
    json["successes"] = json!(successes);
    json["kinds"] = outcome
        .tallies()
        .map(|tally| tally.to_json(outcome.span_s))
        .collect();
    json["cpu_us_per_operation"] = json!({
        "server": plan.has_server.then(|| each(usage.server_ns)),
        "server_user": usage.user_share().map(|share| share * each(usage.server_ns)),
        "server_system": usage.user_share().map(|share| (1.0 - share) * each(usage.server_ns)),
        "receive": plan.has_server.then(|| each(usage.receive_ns)),
        "server_and_receive": plan.has_server.then(|| each(usage.server_ns + usage.receive_ns)),
        "generator": each(usage.own_ns),
    });
    json["transmit_full"] = json!(outcome.full);
    json["strays"] = json!(outcome.strays);
    let limits = outcome.limits();
    json["is_generator_limit"] = json!(!limits.is_empty());
    json["generator_limits"] = json!(limits);
}

fn of_search(found: &Found, success_percent: f64) -> String {
    let mut text = String::new();
    for trial in &found.trials {
        let word = match trial.verdict {
            Verdict::Holds => "holds",
            Verdict::Fails => "fails",
            Verdict::Unoffered => "not offered: the generator was the limit",
        };
        text += &format!("{:>12.1}/s {word}\n", trial.rate);
    }
    text += &match found.rate {
        Some(rate) if found.is_generator => format!(
            "\nat least {rate:.1}/s with {success_percent} % successful: THE GENERATOR WAS THE LIMIT\n\n"
        ),
        Some(rate) => {
            format!("\nhighest rate with {success_percent} % successful: {rate:.1}/s\n\n")
        }
        None => format!("\nno rate with {success_percent} % successful\n\n"),
    };
    text
}

fn search_json(found: &Found) -> Value {
    let trials: Vec<Value> = found
        .trials
        .iter()
        .map(|trial| {
            let verdict = match trial.verdict {
                Verdict::Holds => "holds",
                Verdict::Fails => "fails",
                Verdict::Unoffered => "unoffered",
            };
            json!({ "rate_per_s": trial.rate, "verdict": verdict })
        })
        .collect();
    json!({
        "highest_rate_per_s": found.rate,
        "is_generator_limit": found.is_generator,
        "trials": trials,
    })
}

fn of_taken(taken: &Taken) -> String {
    format!(
        "called phones: {} sessions taken, {} acknowledged, {} ended, {} cancelled, {} refused; {} of their 200s sent again, {} never \
         acknowledged, {} requests came again\n",
        taken.sessions,
        taken.acknowledged,
        taken.ended,
        taken.cancelled,
        taken.refused,
        taken.retransmissions,
        taken.unacknowledged,
        taken.repeated
    )
}

fn taken_json(taken: &Taken) -> Value {
    json!({
        "sessions": taken.sessions,
        "acknowledged": taken.acknowledged,
        "ended": taken.ended,
        "cancelled": taken.cancelled,
        "refused": taken.refused,
        "retransmissions": taken.retransmissions,
        "unacknowledged": taken.unacknowledged,
        "repeated": taken.repeated,
    })
}
