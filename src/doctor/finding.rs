//! One thing that was looked at: well, not so well, in the way, or not to be seen; what that costs, and the line that mends it.

use std::fmt;

use serde::Serialize;

use super::mend::Mend;

/// How well it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It cannot be seen from here, so nothing is said of it.
    Unknown,
    /// It serves, and could be better.
    Warn,
    /// AF_XDP is not to be had like this.
    Fail,
}

/// What was found about one subject.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How well it is.
    pub level: Level,
    /// What was looked at.
    pub subject: &'static str,
    /// What was found.
    pub text: String,
    /// What it costs as it is.
    pub cost: Option<&'static str>,
    /// What to do about it: a command, or a sentence.
    pub cure: Option<String>,
    /// The same as steps of a script; none where only a person can do it.
    #[serde(skip)]
    pub(super) mends: Vec<Mend>,
}

impl Finding {
    /// As it should be.
    #[must_use]
    pub const fn ok(subject: &'static str, text: String) -> Self {
        Self::new(Level::Ok, subject, text, None)
    }

    /// It cannot be seen: `text` says why.
    #[must_use]
    pub const fn unknown(subject: &'static str, text: String) -> Self {
        Self::new(Level::Unknown, subject, text, None)
    }

    /// It could be better, by `cure`.
    #[must_use]
    pub const fn warn(subject: &'static str, text: String, cure: String) -> Self {
        Self::new(Level::Warn, subject, text, Some(cure))
    }

    /// In the way of AF_XDP until `cure`.
    #[must_use]
    pub const fn fail(subject: &'static str, text: String, cure: String) -> Self {
        Self::new(Level::Fail, subject, text, Some(cure))
    }

    /// It could be better, by the steps `mends`; as it is, it costs `cost`.
    pub(super) fn amiss(
        subject: &'static str,
        text: String,
        cost: &'static str,
        mends: Vec<Mend>,
    ) -> Self {
        let lines: Vec<String> = mends.iter().map(Mend::line).collect();
        Self {
            cost: Some(cost),
            mends,
            ..Self::warn(subject, text, lines.join("; "))
        }
    }

    /// Says what it costs as it is.
    pub(super) fn costing(self, cost: &'static str) -> Self {
        Self {
            cost: Some(cost),
            ..self
        }
    }

    const fn new(level: Level, subject: &'static str, text: String, cure: Option<String>) -> Self {
        Self {
            level,
            subject,
            text,
            cost: None,
            cure,
            mends: Vec::new(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.level {
            Level::Ok => "ok",
            Level::Unknown => "?",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        writeln!(f, "  {mark:<5} {:<13} {}", self.subject, self.text)?;
        if let Some(cost) = self.cost {
            writeln!(f, "{:22}costs: {cost}", "")?;
        }
        match &self.cure {
            Some(cure) => writeln!(f, "{:22}-> {cure}", ""),
            None => Ok(()),
        }
    }
}
