//! What came of the attempts of one kind, in the words of RFC 7501 and, for delays, RFC 6076.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::histogram::Times;
use crate::time::Duration;

/// What the phones attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A registration or its refresh (RFC 7501 3.4.2).
    Register,
    /// OPTIONS to the server itself.
    Options,
    /// A session: INVITE, hold, BYE (RFC 7501 3.1.6).
    Invite,
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// A final response other than 2xx.
    Status(u16),
    /// No final response: Timer B or F.
    Timeout,
    /// ICMP said that it cannot be delivered.
    Unreachable,
    /// Not over when the trial was.
    Abandoned,
    /// Answered, but after the Establishment Threshold Time (RFC 7501 3.3.2).
    OverThreshold,
    /// A 2xx to INVITE without what a dialog needs.
    Malformed,
}

/// A delay that is measured, as far as a kind has it.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(super) enum Delay {
    /// From when the attempt was due to its final 2xx: of a session, that of the INVITE.
    Answer,
    /// The same from when the request was sent in truth.
    AnswerFromSending,
    /// From when the attempt was due to the first 18x: Session Request Delay (RFC 6076 4.3).
    Ring,
    /// From when the BYE was due to its 2xx: Session Disconnect Delay (RFC 6076 4.5).
    Disconnect,
    /// From when the attempt was due to its sending: how late the generator itself was.
    Lateness,
}

/// The counts and delays of one kind.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) kind: Kind,
    /// Attempts that were due.
    pub(super) attempts: u64,
    /// Attempts that succeeded: of a session, established and ended.
    pub(super) successes: u64,
    /// Sessions that were established.
    pub(super) established: u64,
    failures: BTreeMap<Failure, u64>,
    /// Attempts not made, since every phone in turn was busy or no place was free: the generator's own bound.
    pub(super) unsent: u64,
    /// Requests sent again (Timers A and E).
    pub(super) retransmissions: u64,
    /// 401 and 407 that were answered.
    pub(super) challenges: u64,
    /// Messages sent and received.
    pub(super) sent: u64,
    pub(super) received: u64,
    delays: Box<[Times; DELAYS]>,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Register, Self::Options, Self::Invite];

    /// The request's method.
    pub(super) const fn method(self) -> &'static str {
        match self {
            Self::Register => "REGISTER",
            Self::Options => "OPTIONS",
            Self::Invite => "INVITE",
        }
    }

    /// How RFC 7501 calls the attempts of this kind, and what the successful ones a second are called. Of OPTIONS it says nothing.
    const fn rates(self) -> (&'static str, &'static str) {
        match self {
            Self::Register => ("registration attempt rate", "registration rate"),
            Self::Options => ("request attempt rate", "request rate"),
            Self::Invite => ("session attempt rate", "session establishment rate"),
        }
    }
}

impl Tally {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            attempts: 0,
            successes: 0,
            established: 0,
            failures: BTreeMap::new(),
            unsent: 0,
            retransmissions: 0,
            challenges: 0,
            sent: 0,
            received: 0,
            delays: Box::new(std::array::from_fn(|_| Times::new())),
        }
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }

    pub(super) fn record(&mut self, delay: Delay, span: Duration) {
        self.delays[delay as usize].record(span);
    }

    pub(super) fn times(&self, delay: Delay) -> &Times {
        &self.delays[delay as usize]
    }

    /// Attempts that failed, whatever the reason.
    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The failures by reason, as text.
    pub(super) fn failures(&self) -> String {
        let words = |(failure, count): (&Failure, &u64)| format!("{failure}: {count}");
        let list: Vec<String> = self.failures.iter().map(words).collect();
        list.join(", ")
    }

    /// The share of the attempts that succeeded, as a percentage; none where there were none.
    pub(super) fn success_percent(&self) -> Option<f64> {
        (self.attempts > 0).then(|| self.successes as f64 * 100.0 / self.attempts as f64)
    }

    /// The rows of the table.
    pub(super) fn rows(&self) -> Vec<(String, &Times)> {
        let method = self.kind.method();
        let names: &[(Delay, &str)] = match self.kind {
            Kind::Register => &[
                (Delay::Answer, "to 200"),
                (Delay::AnswerFromSending, "to 200, from sending"),
            ],
            Kind::Options => &[
                (Delay::Answer, "to 2xx"),
                (Delay::AnswerFromSending, "to 2xx, from sending"),
            ],
            Kind::Invite => &[
                (Delay::Ring, "to 180"),
                (Delay::Answer, "to 200"),
                (Delay::AnswerFromSending, "to 200, from sending"),
                (Delay::Disconnect, ", its BYE to 200"),
            ],
        };
        let row = |(delay, name): &(Delay, &str)| {
            let space = if name.starts_with(',') { "" } else { " " };
            (format!("{method}{space}{name}"), self.times(*delay))
        };
        names.iter().map(row).collect()
    }

    /// The counts, as lines of text; `span_s` is how long attempts were made.
    pub(super) fn lines(&self, span_s: f64) -> String {
        let (attempt_rate, rate) = self.kind.rates();
        let rated = self.rated();
        let mut text = format!(
            "{:<34}{:>10}   {attempt_rate} {:.1}/s\n",
            format!("{} attempts", self.kind.method()),
            self.attempts,
            self.attempts as f64 / span_s
        );
        let share = self.success_percent().unwrap_or(0.0);
        if self.kind == Kind::Invite {
            text += &format!(
                "{:<34}{rated:>10}   {rate} {:.1}/s\n{:<34}{:>10}   {share:.4} %\n",
                "sessions established",
                rated as f64 / span_s,
                "established and ended",
                self.successes
            );
        } else {
            text += &format!(
                "{:<34}{rated:>10}   {rate} {:.1}/s, {share:.4} %\n",
                "successful",
                rated as f64 / span_s
            );
        }
        text += &format!(
            "{:<34}{:>10}   {}",
            "failed",
            self.failed(),
            self.failures()
        );
        text.truncate(text.trim_end().len());
        text.push('\n');
        for (name, count) in [
            ("not sent by the generator", self.unsent),
            ("challenges answered", self.challenges),
            ("retransmissions (Timers A, E)", self.retransmissions),
        ] {
            if count > 0 || name.starts_with("retrans") {
                text += &format!("{name:<34}{count:>10}\n");
            }
        }
        text
    }

    /// All of it as JSON.
    pub(super) fn to_json(&self, span_s: f64) -> Value {
        let (attempt_rate, rate) = self.kind.rates();
        let key = |words: &str| format!("{}_per_s", words.replace(' ', "_"));
        let failures: serde_json::Map<String, Value> = self
            .failures
            .iter()
            .map(|(failure, count)| (failure.to_string(), json!(count)))
            .collect();
        let mut object = json!({
            "method": self.kind.method(),
            "attempts": self.attempts,
            "successes": self.successes,
            "success_percent": self.success_percent(),
            "failed": self.failed(),
            "failures": failures,
            "timeouts": self.failures.get(&Failure::Timeout).copied().unwrap_or(0),
            "unsent": self.unsent,
            "retransmissions": self.retransmissions,
            "challenges": self.challenges,
            "messages_sent": self.sent,
            "messages_received": self.received,
            "latency_ms": self.times(Delay::Answer).to_json(),
            "latency_from_sending_ms": self.times(Delay::AnswerFromSending).to_json(),
            "lateness_ms": self.times(Delay::Lateness).to_json(),
        });
        object[key(attempt_rate)] = json!(self.attempts as f64 / span_s);
        object[key(rate)] = json!(self.rated() as f64 / span_s);
        if self.kind == Kind::Invite {
            object["sessions_established"] = json!(self.established);
            object["session_request_delay_ms"] = self.times(Delay::Ring).to_json();
            object["session_disconnect_delay_ms"] = self.times(Delay::Disconnect).to_json();
        }
        object
    }

    /// What the benchmark's rate counts: of sessions, those that were established.
    const fn rated(&self) -> u64 {
        match self.kind {
            Kind::Invite => self.established,
            Kind::Register | Kind::Options => self.successes,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Timeout => f.write_str("timeout"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Abandoned => f.write_str("abandoned"),
            Self::OverThreshold => f.write_str("over_threshold"),
            Self::Malformed => f.write_str("malformed_2xx"),
        }
    }
}

const DELAYS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rates_bear_the_names_of_rfc_7501() {
        let mut tally = Tally::new(Kind::Register);
        (tally.attempts, tally.successes) = (1_000, 999);
        tally.fail(Failure::Status(503));
        tally.record(Delay::Answer, Duration::from_millis(4));
        let json = tally.to_json(10.0);
        assert_eq!(json["registration_attempt_rate_per_s"], 100.0);
        assert_eq!(json["registration_rate_per_s"], 99.9);
        assert_eq!(json["failures"]["503"], 1);
        assert_eq!(json["latency_ms"]["max"], 4.0);
        assert!((tally.success_percent().expect("some") - 99.9).abs() < 1e-9);
        assert!(tally.lines(10.0).contains("registration rate 99.9/s"));

        let mut tally = Tally::new(Kind::Invite);
        (tally.attempts, tally.established, tally.successes) = (10, 9, 8);
        tally.fail(Failure::Timeout);
        let json = tally.to_json(1.0);
        assert_eq!(json["session_attempt_rate_per_s"], 10.0);
        assert_eq!(json["session_establishment_rate_per_s"], 9.0);
        assert_eq!(json["timeouts"], 1);
        assert_eq!(tally.rows().len(), 4);
    }

    #[test]
    fn of_nothing_there_is_no_share() {
        assert_eq!(Tally::new(Kind::Options).success_percent(), None);
    }
}
