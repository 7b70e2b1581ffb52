//! What is wrong with a configuration file, and where: one line a mistake, with the cure.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake (or warning) about a place in the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The line, from 1; 0 where the mistake is about the file as a whole.
    pub line: usize,
    /// The column in characters, from 1; 0 with line 0.
    pub column: usize,
    /// What is wrong and what to do about it, on one line.
    pub text: String,
}

/// All the mistakes of one file, in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.render())]
pub struct Mistakes {
    /// The file, as the user named it.
    pub path: PathBuf,
    /// At least one mistake.
    pub list: Vec<Mistake>,
}

impl Mistakes {
    /// Makes the list for `path` of one mistake about the file as a whole.
    #[must_use]
    pub fn about_file(path: &Path, text: impl Into<String>) -> Self {
        let mistake = Mistake {
            line: 0,
            column: 0,
            text: text.into(),
        };
        Self {
            path: path.to_owned(),
            list: vec![mistake],
        }
    }

    /// Makes the list for `path`, sorted by place; `None` where there is no mistake.
    #[must_use]
    pub fn gather(path: &Path, mut list: Vec<Mistake>) -> Option<Self> {
        list.sort();
        list.dedup();
        (!list.is_empty()).then(|| Self {
            path: path.to_owned(),
            list,
        })
    }

    fn render(&self) -> String {
        let lines: Vec<String> = self
            .list
            .iter()
            .map(|mistake| mistake.at(&self.path).to_string())
            .collect();
        lines.join("\n")
    }
}

impl Mistake {
    /// Renders the mistake with its file: `strowger.toml:12:9: [registrar] expires_min_s: ...`.
    #[must_use]
    pub fn at<'a>(&'a self, path: &'a Path) -> Located<'a> {
        Located {
            path,
            mistake: self,
        }
    }
}

/// A [`Mistake`] with the file that it is in, for printing.
#[derive(Clone, Copy, Debug)]
pub struct Located<'a> {
    path: &'a Path,
    mistake: &'a Mistake,
}

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake { line, column, text } = self.mistake;
        match line {
            0 => write!(f, "{}: {text}", self.path.display()),
            _ => write!(f, "{}:{line}:{column}: {text}", self.path.display()),
        }
    }
}

/// Where the readers of the sections leave what they find, by byte offset in the text.
#[derive(Debug)]
pub(super) struct Notes<'t> {
    text: &'t str,
    /// Whether statements had to be cut out: then what is missing may only have been unreadable.
    pub(super) is_damaged: bool,
    mistakes: RefCell<Vec<Mistake>>,
    warnings: RefCell<Vec<Mistake>>,
}

impl<'t> Notes<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            is_damaged: false,
            mistakes: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    pub(super) fn mistake(&self, at: usize, text: String) {
        let mut mistakes = self.mistakes.borrow_mut();
        match mistakes.len() {
            0..MISTAKES_MAX => mistakes.push(self.locate(at, text)),
            MISTAKES_MAX => mistakes.push(self.locate(at, "and more; mend these first".to_owned())),
            _ => {}
        }
    }

    pub(super) fn warning(&self, at: usize, text: String) {
        self.warnings.borrow_mut().push(self.locate(at, text));
    }

    /// A warning about something that the file does not say at all.
    pub(super) fn warning_about_file(&self, text: &str) {
        self.warnings.borrow_mut().push(Mistake {
            line: 0,
            column: 0,
            text: text.to_owned(),
        });
    }

    /// The line of a byte offset, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.locate(at, String::new()).line
    }

    /// The mistakes and the warnings found.
    pub(super) fn into_lists(self) -> (Vec<Mistake>, Vec<Mistake>) {
        (self.mistakes.into_inner(), self.warnings.into_inner())
    }

    pub(super) fn locate(&self, at: usize, text: String) -> Mistake {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Mistake {
            line: before.bytes().filter(|&byte| byte == b'\n').count() + 1,
            column: before
                .get(line_start..)
                .map_or(0, |head| head.chars().count())
                + 1,
            text,
        }
    }
}

/// Mistakes that are reported of one file: more are of a file that is no configuration at all.
const MISTAKES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_line_and_a_column_in_characters() {
        let notes = Notes::new("ab\n\u{e9}cd = 1\n");
        let mistake = notes.locate(6, String::new());
        assert_eq!((mistake.line, mistake.column), (2, 3));
        assert_eq!(notes.line(0), 1);
        assert_eq!(notes.locate(10_000, String::new()).line, 3);
    }

    #[test]
    fn a_hundred_mistakes_are_enough() {
        let notes = Notes::new("");
        for _ in 0..1_000 {
            notes.mistake(0, "wrong".to_owned());
        }
        assert_eq!(notes.into_lists().0.len(), MISTAKES_MAX + 1);
    }

    #[test]
    fn mistakes_are_printed_one_a_line_in_order() {
        let later = Mistake {
            line: 9,
            column: 1,
            text: "late".to_owned(),
        };
        let early = Mistake {
            line: 2,
            column: 4,
            text: "early".to_owned(),
        };
        let mistakes = Mistakes::gather(Path::new("a.toml"), vec![later, early]).expect("two");
        assert_eq!(mistakes.to_string(), "a.toml:2:4: early\na.toml:9:1: late");
    }
}
