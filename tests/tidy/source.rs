//! The package's own sources, read as a rule wants them: without comments and strings, without tests, with the modules they use.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file, with its text and with its code alone.
pub(crate) struct Source {
    /// Its path from the package's root, with `/`.
    pub(crate) path: String,
    /// As it stands.
    pub(crate) text: String,
    /// Without comments, strings and the tests at its foot; every line is where it was.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let mut code = without_comments_and_strings(text);
        if let Some(tests) = foot(&code) {
            code.truncate(tests);
        }
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
        }
    }

    /// The top module that the file belongs to: `proxy` of `src/proxy/route.rs`, `timer` of `src/timer.rs`.
    pub(crate) fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or_default();
        below
            .split('/')
            .next()
            .unwrap_or_default()
            .trim_end_matches(".rs")
    }

    /// How many modules deep the file is: 1 for `src/timer.rs` and `src/proxy/mod.rs`, 2 for `src/proxy/route.rs`.
    pub(crate) fn depth(&self) -> usize {
        let below = self
            .path
            .strip_prefix("src/")
            .unwrap_or_default()
            .trim_end_matches("/mod.rs");
        below.split('/').count()
    }

    /// Whether all of it is tests: a file that a `#[cfg(test)]` declares.
    pub(crate) fn is_tests(&self) -> bool {
        self.path.ends_with("/tests.rs")
            || self.path.starts_with("tests/")
            || self.path.contains("/tests/")
    }

    /// A complaint about the line at `offset` of the code.
    pub(crate) fn complain(&self, offset: usize, what: &str) -> String {
        let line = self.code[..offset].matches('\n').count() + 1;
        format!("{}:{line}: {what}", self.path)
    }

    /// The top modules that its code uses, with the places: by `crate::`, by `use crate::{...}`, or by `super::` up to the root.
    pub(crate) fn uses(&self) -> Vec<(usize, String)> {
        let code = &self.code;
        let mut found = Vec::new();
        for (at, prefix) in code
            .match_indices("crate::")
            .chain(code.match_indices("strowger::"))
        {
            for name in heads(&code[at + prefix.len()..]) {
                found.push((at, name));
            }
        }
        let up = "super::".repeat(self.depth());
        for (at, _) in code.match_indices(&up) {
            // A longer chain would leave the crate; a shorter one stays in the module.
            let is_whole =
                !code[..at].ends_with("super::") && !code[at + up.len()..].starts_with("super::");
            if is_whole && self.depth() > 0 {
                found.extend(
                    heads(&code[at + up.len()..])
                        .into_iter()
                        .map(|name| (at, name)),
                );
            }
        }
        found
    }
}

/// The package's own Rust sources, but for this file, which names what it forbids.
pub(crate) fn all() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("build.rs")];
    for folder in ["src", "tests", "benches", "fuzz/fuzz_targets"] {
        files(&root.join(folder), "rs", &mut paths);
    }
    paths.retain(|path| !path.ends_with("tests/tidy.rs"));
    paths.sort();
    let read = |path: &PathBuf| {
        let below = path
            .strip_prefix(root)
            .expect("a file of this package")
            .to_string_lossy()
            .replace('\\', "/");
        Source::new(&below, &fs::read_to_string(path).expect("a source is text"))
    };
    paths.iter().map(read).collect()
}

/// The first names of a path's rest: `a` of `a::b`; `a` and `c` of `{a::b, c::{d, e}}`.
fn heads(rest: &str) -> Vec<String> {
    let name = |text: &str| {
        let text = text.trim_start();
        text.chars()
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect::<String>()
    };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![name(rest)];
    };
    let (mut depth, mut start, mut heads) = (1_u32, 0, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => {
                heads.push(name(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
        if depth == 0 {
            heads.push(name(&group[start..at]));
            break;
        }
    }
    heads.retain(|name| !name.is_empty());
    heads
}

/// Where the tests at the foot of a file begin: `#[cfg(test)] mod tests {`. A `mod tests;` higher up is no foot.
fn foot(code: &str) -> Option<usize> {
    let mut attributes = code.match_indices("#[cfg(test)]");
    let is_foot = |rest: &str| {
        let is_module = rest.trim_start().starts_with("mod ");
        let brace = rest.find('{');
        is_module
            && brace.is_some()
            && rest
                .find(';')
                .is_none_or(|end| brace.is_some_and(|brace| brace < end))
    };
    attributes
        .find(|(at, attribute)| is_foot(&code[at + attribute.len()..]))
        .map(|(at, _)| at)
}

/// Where `word` stands as a whole word: no letter, digit or underscore touches it.
pub(crate) fn places<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word).filter_map(move |(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        (!before.is_some_and(is_word) && !after.is_some_and(is_word)).then_some(at)
    })
}

/// The text with comments and the insides of strings and characters blanked; line breaks stay.
pub(crate) fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let len = match letter {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment_len(rest),
            '"' => string_len(rest),
            'r' if !code.ends_with(|last: char| last.is_alphanumeric() || last == '_') => {
                raw_string_len(rest)
            }
            '\'' => character_len(rest),
            _ => 0,
        };
        if len == 0 {
            code.push(letter);
            rest = &rest[letter.len_utf8()..];
        } else {
            code.extend(
                rest[..len]
                    .chars()
                    .map(|letter| if letter == '\n' { '\n' } else { ' ' }),
            );
            rest = &rest[len..];
        }
    }
    code
}

fn block_comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a raw string at the head of `text`; 0 where there is none.
fn raw_string_len(text: &str) -> usize {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    if text.as_bytes().get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    text[body..]
        .find(&end)
        .map_or(text.len(), |at| body + at + end.len())
}

/// The length of a character at the head of `text`; 0 where it is a lifetime.
fn character_len(text: &str) -> usize {
    let mut letters = text.char_indices().skip(1);
    match letters.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(text.len(), |at| at + 4),
        Some((at, letter)) if text[at + letter.len_utf8()..].starts_with('\'') => {
            at + letter.len_utf8() + 1
        }
        _ => 0,
    }
}

/// Every file under `folder` whose name ends as `extension`.
fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a folder of this package is readable").path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|its| its == extension) {
            found.push(path);
        }
    }
}
