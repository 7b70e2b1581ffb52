//! Reads one section of the file key by key, noting every wrong type, range and name instead of stopping at the first.
//!
//! A key that is absent, and a key whose value is wrong (noted), both read as `None`: the caller goes on with the
//! default, and the mistakes alone decide whether the configuration is used.

use std::ops::RangeInclusive;

use toml::de::{DeTable, DeValue};

use super::mistake::Notes;

/// A value with its place in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<T> {
    pub(super) value: T,
    /// The byte offset, for mistakes that concern the value.
    pub(super) at: usize,
}

/// One `[name]` or `[[name]]`, or the file itself.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) notes: &'a Notes<'a>,
    title: String,
    /// `None` where the file has no such section: every key of it is absent then.
    table: Option<&'a DeTable<'a>>,
    at: usize,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The file itself, whose keys are the sections.
    pub(super) fn root(table: &'a DeTable<'a>, notes: &'a Notes<'a>) -> Self {
        Self {
            notes,
            title: String::new(),
            table: Some(table),
            at: 0,
            known: Vec::new(),
        }
    }

    /// Whether the file has this section at all.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the file has this key, with whatever value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Notes a mistake about `key`, at the place of its value.
    pub(super) fn mistake(&self, at: usize, key: &str, text: &str) {
        self.notes
            .mistake(at, format!("{}: {text}", self.place(key)));
    }

    /// Notes a warning about `key`.
    pub(super) fn warning(&self, at: usize, key: &str, text: &str) {
        self.notes
            .warning(at, format!("{}: {text}", self.place(key)));
    }

    /// Notes a mistake about the section as a whole.
    pub(super) fn mistake_here(&self, text: &str) {
        self.notes
            .mistake(self.at, format!("{}: {text}", self.title));
    }

    /// Notes that `key` must be given; `cure` says how.
    pub(super) fn require(&self, key: &str, cure: &str) {
        // What is missing from a damaged file may be what had to be cut out of it.
        if !self.has(key) && !self.notes.is_damaged {
            self.mistake_here(&format!("{key} is missing; {cure}"));
        }
    }

    /// The section `[name]` under this one, present or not.
    pub(super) fn section(&mut self, name: &'static str) -> Section<'a> {
        let mut section = Section {
            notes: self.notes,
            title: format!("[{name}]"),
            table: None,
            at: 0,
            known: Vec::new(),
        };
        if let Some((value, at)) = self.value(name) {
            if let DeValue::Table(table) = value {
                (section.table, section.at) = (Some(table), at);
            } else if value.is_array() {
                let text = format!("[[{name}]]: stands once only; write it as [{name}]");
                self.notes.mistake(at, text);
            } else {
                self.not_a_section(at, name, value);
            }
        }
        section
    }

    /// The sections `[[name]]` under this one, in their order.
    pub(super) fn sections(&mut self, name: &'static str) -> Vec<Section<'a>> {
        let Some((value, at)) = self.value(name) else {
            return Vec::new();
        };
        let DeValue::Array(entries) = value else {
            if value.is_table() {
                let text = format!("[{name}]: may stand several times; write it as [[{name}]]");
                self.notes.mistake(at, text);
            } else {
                self.not_a_section(at, name, value);
            }
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(entries.len());
        for entry in entries.iter() {
            let at = entry.span().start;
            let DeValue::Table(table) = entry.get_ref() else {
                self.not_a_section(at, name, entry.get_ref());
                continue;
            };
            sections.push(Section {
                notes: self.notes,
                title: format!("[[{name}]]"),
                table: Some(table),
                at,
                known: Vec::new(),
            });
        }
        sections
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Found<&'a str>> {
        let (value, at) = self.value(key)?;
        let DeValue::String(text) = value else {
            return self.wrong_type(at, key, value, "a text in double quotes");
        };
        self.check_text(key, text, at)
    }

    /// A text that `parse` understands; what `parse` says of another is noted and should tell the cure.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Found<T>> {
        let Found { value, at } = self.text(key)?;
        match parse(value) {
            Ok(value) => Some(Found { value, at }),
            Err(text) => {
                self.mistake(at, key, &text);
                None
            }
        }
    }

    /// One of the names in `choices`.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<Found<T>> {
        self.parsed(key, |text| {
            choices
                .iter()
                .find(|(name, _)| *name == text)
                .map(|(_, value)| *value)
                .ok_or_else(|| {
                    let names: Vec<String> = choices
                        .iter()
                        .map(|(name, _)| format!("{name:?}"))
                        .collect();
                    format!("{text:?} is none of {}", names.join(", "))
                })
        })
    }

    /// A whole number in `range`.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<Found<u64>> {
        let (value, at) = self.value(key)?;
        self.check_number(key, value, at, &range)
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<Found<bool>> {
        let (value, at) = self.value(key)?;
        let DeValue::Boolean(value) = *value else {
            return self.wrong_type(at, key, value, "true or false, without quotes");
        };
        Some(Found { value, at })
    }

    /// A list of whole numbers in `range`, each at most once.
    pub(super) fn numbers(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<Found<Vec<Found<u64>>>> {
        let (list, at) = self.list(key, "a list of whole numbers, as [0, 1]")?;
        let mut numbers: Vec<Found<u64>> = Vec::with_capacity(list.len());
        for (value, at) in list {
            let Some(number) = self.check_number(key, value, at, &range) else {
                continue;
            };
            if numbers.iter().any(|earlier| earlier.value == number.value) {
                self.mistake(
                    at,
                    key,
                    &format!("{} stands there twice; keep one", number.value),
                );
            } else {
                numbers.push(number);
            }
        }
        Some(Found { value: numbers, at })
    }

    /// A list of texts that `parse` understands.
    pub(super) fn parsed_list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Found<Vec<Found<T>>>> {
        let (list, at) = self.list(key, "a list of texts, as [\"one\", \"two\"]")?;
        let mut found = Vec::with_capacity(list.len());
        for (value, at) in list {
            let text = match value.as_str() {
                Some(text) => self.check_text(key, text, at),
                None => self.wrong_type(at, key, value, "a text in double quotes"),
            };
            let Some(text) = text else { continue };
            match parse(text.value) {
                Ok(value) => found.push(Found { value, at }),
                Err(text) => self.mistake(at, key, &text),
            }
        }
        Some(Found { value: found, at })
    }

    /// Notes every key that nobody asked for, with the nearest name that is known.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for key in table.keys() {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            if self.known.contains(&name) {
                continue;
            }
            let what = if self.title.is_empty() {
                "no such section"
            } else {
                "no such key"
            };
            let cure = match nearest(name, &self.known) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            self.mistake(at, &printable(name), &format!("{what}; {cure}"));
        }
    }

    /// The value of `key`, which is known from now on.
    fn value(&mut self, key: &'static str) -> Option<(&'a DeValue<'a>, usize)> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let value = self.table?.get(key)?;
        Some((value.get_ref(), value.span().start))
    }

    fn list(
        &mut self,
        key: &'static str,
        wanted: &str,
    ) -> Option<(Vec<(&'a DeValue<'a>, usize)>, usize)> {
        let (value, at) = self.value(key)?;
        let DeValue::Array(list) = value else {
            return self.wrong_type(at, key, value, wanted);
        };
        let list = list
            .iter()
            .map(|entry| (entry.get_ref(), entry.span().start))
            .collect();
        Some((list, at))
    }

    fn check_text(&self, key: &str, text: &'a str, at: usize) -> Option<Found<&'a str>> {
        if text.trim().is_empty() {
            self.mistake(at, key, "is empty; give a value, or remove the key");
            return None;
        }
        Some(Found { value: text, at })
    }

    fn check_number(
        &self,
        key: &str,
        value: &DeValue<'_>,
        at: usize,
        range: &RangeInclusive<u64>,
    ) -> Option<Found<u64>> {
        let (min, max) = (*range.start(), *range.end());
        let DeValue::Integer(digits) = value else {
            let wanted = format!("a whole number from {min} to {max}, without quotes");
            return self.wrong_type(at, key, value, &wanted);
        };
        let number = i128::from_str_radix(digits.as_str(), digits.radix()).ok();
        let number = number.and_then(|number| u64::try_from(number).ok());
        let Some(value) = number.filter(|number| range.contains(number)) else {
            let text = format!("{digits} is out of range; give {min} to {max}");
            self.mistake(at, key, &text);
            return None;
        };
        Some(Found { value, at })
    }

    /// Notes a value of the wrong type; gives `None`, as the reader of such a value does.
    fn wrong_type<T>(&self, at: usize, key: &str, value: &DeValue<'_>, wanted: &str) -> Option<T> {
        self.mistake(at, key, &format!("is {}; write {wanted}", kind(value)));
        None
    }

    fn not_a_section(&self, at: usize, name: &str, value: &DeValue<'_>) {
        self.notes.mistake(
            at,
            format!(
                "{name}: is {}, not a section; write [{name}] on its own line",
                kind(value)
            ),
        );
    }

    fn place(&self, key: &str) -> String {
        if self.title.is_empty() {
            key.to_owned()
        } else {
            format!("{} {key}", self.title)
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// A name from the file, fit for one line of a terminal.
fn printable(name: &str) -> String {
    if name.chars().all(|c| c.is_ascii_graphic()) {
        name.to_owned()
    } else {
        format!("{name:?}")
    }
}

/// The known name that `name` was most likely meant to be.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    // Longer than any of ours: no typing error, and nothing to spend time on.
    if name.len() > 64 {
        return None;
    }
    let near = known
        .iter()
        .map(|candidate| (distance(name, candidate), *candidate))
        .min()?;
    // A third of the letters may be wrong; a start that is right (expires for expires_default_s) will do as well.
    if near.0 <= (name.len() / 3).max(1) {
        return Some(near.1);
    }
    known
        .iter()
        .find(|candidate| name.len() >= 3 && candidate.starts_with(name))
        .copied()
}

/// The number of letters to insert, remove, replace or swap with the next (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let is_swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if is_swap {
                    best.min(rows[i - 2][j - 2] + 1)
                } else {
                    best
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, f: impl FnOnce(&mut Section<'_>)) -> Vec<String> {
        let table = DeTable::parse(text).expect("valid TOML");
        let notes = Notes::new(text);
        {
            let mut root = Section::root(table.get_ref(), &notes);
            let mut section = root.section("sip");
            f(&mut section);
            section.finish();
            root.finish();
        }
        notes
            .into_lists()
            .0
            .into_iter()
            .map(|mistake| mistake.text)
            .collect()
    }

    #[test]
    fn letters_wrong_are_counted() {
        assert_eq!(distance("domains", "domains"), 0);
        assert_eq!(distance("domian", "domains"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("drains", "drain_s"), 1);
    }

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        let known = ["expires_default_s", "expires_min_s", "contacts_max"];
        assert_eq!(nearest("expire_min_s", &known), Some("expires_min_s"));
        assert_eq!(nearest("expires", &known), Some("expires_default_s"));
        assert_eq!(nearest("colour", &known), None);
    }

    #[test]
    fn wrong_types_and_ranges_are_all_noted() {
        let text = "[sip]\na = \"5\"\nb = 1.5\nc = 99\nd = \"\"\ne = [1, 1, \"x\"]\nf = -3\n";
        let found = read(text, |section| {
            for key in ["a", "b", "c", "f"] {
                assert!(section.number(key, 1..=9).is_none());
            }
            assert!(section.text("d").is_none());
            assert_eq!(section.numbers("e", 0..=3).expect("a list").value.len(), 1);
        });
        assert_eq!(found.len(), 7, "{found:#?}");
        assert_eq!(
            found[0],
            "[sip] a: is a text; write a whole number from 1 to 9, without quotes"
        );
        assert_eq!(found[3], "[sip] f: -3 is out of range; give 1 to 9");
    }

    #[test]
    fn an_unknown_key_and_an_unknown_section_are_told_apart() {
        let found = read("[sip]\ndomian = 1\n[spi]\n", |section| {
            assert!(section.text("domain").is_none())
        });
        assert_eq!(
            found,
            [
                "[sip] domian: no such key; did you mean domain?",
                "spi: no such section; did you mean sip?"
            ]
        );
    }

    #[test]
    fn a_section_of_the_wrong_shape_is_noted() {
        assert_eq!(
            read("sip = 3\n", |_| ()),
            ["sip: is a whole number, not a section; write [sip] on its own line"]
        );
        assert_eq!(
            read("[[sip]]\n", |_| ()),
            ["[[sip]]: stands once only; write it as [sip]"]
        );
    }
}
