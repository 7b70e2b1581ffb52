//! The text of the file as a TOML document, recovered statement by statement where its syntax is broken, so that one
//! unclosed bracket does not hide the mistakes that follow it.

use toml::de::DeTable;

use super::mistake::Notes;

/// Blanks every statement of `text` that is not TOML, with a mistake for each, and gives the text that is left; byte
/// offsets stay as they were.
pub(super) fn readable(text: &str, notes: &mut Notes<'_>) -> String {
    if DeTable::parse(text).is_ok() {
        return text.to_owned();
    }
    let mut clean = text.as_bytes().to_vec();
    let mut is_section_lost = false;
    for statement in statements(text) {
        if is_section_lost && !statement.is_header {
            blank(&mut clean, statement.start, statement.end);
            continue;
        }
        is_section_lost = false;
        let Some(bad_from) = statement.bad_from(text, notes) else {
            continue;
        };
        notes.is_damaged = true;
        blank(&mut clean, bad_from, statement.end);
        // What stands under a header that nobody can read belongs to no section that we could name.
        is_section_lost = statement.is_header && bad_from == statement.start;
    }
    let clean = String::from_utf8(clean).unwrap_or_default();
    // What is left is wrong as a whole only: a key or a section that stands there twice.
    let (_, errors) = DeTable::parse_recoverable(&clean);
    for error in errors {
        notes.is_damaged = true;
        let at = error.span().map_or(0, |span| span.start);
        notes.mistake(at, format!("syntax: {}; keep one of them", error.message()));
    }
    clean
}

/// A header or a `key = value`, with the lines that continue it.
struct Statement {
    start: usize,
    first_line_end: usize,
    end: usize,
    is_header: bool,
}

impl Statement {
    /// Where the statement stops being TOML (its start, or its second line), reported; `None` where it is good.
    fn bad_from(&self, text: &str, notes: &Notes<'_>) -> Option<usize> {
        let whole = text.get(self.start..self.end)?;
        let Err(error) = DeTable::parse(whole) else {
            return None;
        };
        let first_line = text.get(self.start..self.first_line_end)?;
        let (from, error) = match DeTable::parse(first_line) {
            Err(error_of_line) => (self.start, error_of_line),
            Ok(_) => (self.first_line_end, error),
        };
        // An error at the very end of a line is about that line, not about the next.
        let at = error.span().map_or(0, |span| span.start);
        let at = if from == self.start {
            at.min(first_line.trim_end().len())
        } else {
            at
        };
        notes.mistake(
            self.start + at,
            format!(
                "syntax: {}; {}",
                error.message(),
                cure(first_line, self.is_header)
            ),
        );
        Some(from)
    }
}

fn cure(line: &str, is_header: bool) -> &'static str {
    if is_header {
        return "write a section as [name] or [[name]] on a line of its own (what follows it is not read until the next)";
    }
    match line.split_once('=') {
        None => "write key = value",
        Some((_, value)) if value.contains('[') && !value.contains(']') => "close the list with ]",
        Some((_, value)) if value.matches('"').count() % 2 == 1 => "close the quotes",
        Some(_) => "write key = value, with text in double quotes",
    }
}

/// Divides the text at the lines that begin a statement.
fn statements(text: &str) -> Vec<Statement> {
    let mut found: Vec<Statement> = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        let (is_header, is_key) = (is_header(line), is_key_value(line));
        match found.last_mut() {
            Some(statement) if !is_header && !is_key => statement.end = end,
            _ => found.push(Statement {
                start,
                first_line_end: end,
                end,
                is_header,
            }),
        }
        start = end;
    }
    found
}

/// Whether a line looks as if it were meant to open a section: no list of ours holds a bare word.
fn is_header(line: &str) -> bool {
    let rest = line.trim_start().trim_start_matches('[');
    rest.len() < line.trim_start().len()
        && rest
            .trim_start()
            .starts_with(|c: char| c.is_ascii_alphabetic())
}

fn is_key_value(line: &str) -> bool {
    line.split_once('=').is_some_and(|(key, _)| {
        let key = key.trim();
        !key.is_empty()
            && key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' '))
    })
}

fn blank(bytes: &mut [u8], start: usize, end: usize) {
    for byte in bytes.get_mut(start..end).unwrap_or_default() {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> (Vec<usize>, String) {
        let mut notes = Notes::new(text);
        let clean = readable(text, &mut notes);
        assert_eq!(clean.len(), text.len());
        (
            notes
                .into_lists()
                .0
                .iter()
                .map(|mistake| mistake.line)
                .collect(),
            clean,
        )
    }

    #[test]
    fn a_good_text_is_left_alone() {
        let text = "[a]\nb = [1,\n 2]\n";
        assert_eq!(mistakes(text), (vec![], text.to_owned()));
    }

    #[test]
    fn an_unclosed_list_hides_nothing_that_follows() {
        let (lines, clean) =
            mistakes("[[listen]]\nqueues = [0, 1\nmode = \"x\n[sip]\ndrain_s = 1\n");
        assert_eq!(lines, [2, 3]);
        assert!(clean.contains("[sip]\ndrain_s = 1") && !clean.contains("queues"));
    }

    #[test]
    fn a_stray_word_does_not_take_the_line_before_it() {
        let (lines, clean) = mistakes("[sip]\ndrain_s = 1\nzzz\n");
        assert_eq!(lines, [3]);
        assert!(clean.contains("drain_s = 1"));
    }

    #[test]
    fn a_broken_header_loses_its_section_once() {
        let (lines, clean) = mistakes("[sip\na = 1\nb = 2\n[store]\nc = 3\n");
        assert_eq!(lines, [1]);
        assert!(!clean.contains("a = 1") && clean.contains("c = 3"));
    }

    #[test]
    fn a_key_given_twice_is_reported() {
        assert_eq!(mistakes("[sip]\na = 1\na = 2\n").0, [3]);
    }

    #[test]
    fn text_outside_ascii_keeps_its_offsets() {
        assert_eq!(mistakes("[sip]\na = \"\u{e9}\nb = 1\n").0, [2]);
    }
}
