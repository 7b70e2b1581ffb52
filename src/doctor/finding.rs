//! One thing that was looked at: well, not so well, or in the way, and the line that mends it.

use std::fmt;

use serde::Serialize;

/// How well it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
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
    /// What to do about it: a command, or a sentence.
    pub cure: Option<String>,
}

impl Finding {
    /// As it should be.
    #[must_use]
    pub const fn ok(subject: &'static str, text: String) -> Self {
        Self {
            level: Level::Ok,
            subject,
            text,
            cure: None,
        }
    }

    /// It could be better, by `cure`.
    #[must_use]
    pub const fn warn(subject: &'static str, text: String, cure: String) -> Self {
        Self {
            level: Level::Warn,
            subject,
            text,
            cure: Some(cure),
        }
    }

    /// In the way of AF_XDP until `cure`.
    #[must_use]
    pub const fn fail(subject: &'static str, text: String, cure: String) -> Self {
        Self {
            level: Level::Fail,
            subject,
            text,
            cure: Some(cure),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        writeln!(f, "  {mark:<5} {:<13} {}", self.subject, self.text)?;
        match &self.cure {
            Some(cure) => writeln!(f, "{:22}-> {cure}", ""),
            None => Ok(()),
        }
    }
}
