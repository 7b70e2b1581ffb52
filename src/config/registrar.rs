//! `[registrar]`: how long bindings live and how many a user may have.

use super::section::Section;
use crate::limits::BRANCHES_MAX;

/// The settings of the registrar (RFC 3261 10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registrar {
    /// The expiry of a contact that asks for none.
    pub expires_default_s: u32,
    /// The shortest: less is answered 423 with this as Min-Expires.
    pub expires_min_s: u32,
    /// The longest: more is granted this.
    pub expires_max_s: u32,
    /// Contacts of one AoR: one more is refused.
    pub contacts_max: usize,
    /// Whether the AoR is `user@domain`, and not the user alone.
    pub use_domain: bool,
}

impl Default for Registrar {
    fn default() -> Self {
        Self {
            expires_default_s: 3_600,
            expires_min_s: 60,
            expires_max_s: 7_200,
            contacts_max: 10,
            use_domain: false,
        }
    }
}

/// Reads `[registrar]`.
pub(super) fn read(root: &mut Section<'_>) -> Registrar {
    let mut section = root.section("registrar");
    let usual = Registrar::default();
    let default_s = section.number("expires_default_s", 1..=EXPIRES_S_MAX);
    let min_s = section.number("expires_min_s", 1..=EXPIRES_S_MAX);
    let max_s = section.number("expires_max_s", 1..=EXPIRES_S_MAX);
    let contacts_max = section.number("contacts_max", 1..=BRANCHES_MAX as u64);
    let use_domain = section.flag("use_domain");
    let seconds = |found: Option<super::section::Found<u64>>, usual: u32| {
        found.map_or(usual, |found| {
            u32::try_from(found.value).unwrap_or(u32::MAX)
        })
    };
    let registrar = Registrar {
        expires_default_s: seconds(default_s, usual.expires_default_s),
        expires_min_s: seconds(min_s, usual.expires_min_s),
        expires_max_s: seconds(max_s, usual.expires_max_s),
        contacts_max: contacts_max.map_or(usual.contacts_max, |found| {
            usize::try_from(found.value).unwrap_or(BRANCHES_MAX)
        }),
        use_domain: use_domain.map_or(usual.use_domain, |flag| flag.value),
    };
    let places = [default_s, min_s, max_s].map(|found| found.map(|found| found.at));
    // A value that could not be read has its own mistake; its default would only make another.
    let is_wrong = |(key, at): (&&str, &Option<usize>)| at.is_none() && section.has(key);
    if !["expires_default_s", "expires_min_s", "expires_max_s"]
        .iter()
        .zip(&places)
        .any(is_wrong)
    {
        check_order(&section, registrar, places);
    }
    section.finish();
    registrar
}

/// The shortest, the usual and the longest expiry stand in this order; the mistake is noted where the file says more.
fn check_order(
    section: &Section<'_>,
    registrar: Registrar,
    [default_at, min_at, max_at]: [Option<usize>; 3],
) {
    let Registrar {
        expires_default_s,
        expires_min_s,
        expires_max_s,
        ..
    } = registrar;
    if expires_min_s > expires_max_s {
        match (min_at, max_at) {
            (Some(at), _) => section.mistake(
                at,
                "expires_min_s",
                &format!("{expires_min_s} is larger than expires_max_s ({expires_max_s}); lower it or raise expires_max_s"),
            ),
            (None, at) => section.mistake(
                at.unwrap_or(0),
                "expires_max_s",
                &format!("{expires_max_s} is less than expires_min_s ({expires_min_s}); raise it or lower expires_min_s"),
            ),
        }
        return;
    }
    if (expires_min_s..=expires_max_s).contains(&expires_default_s) {
        return;
    }
    let range = format!("expires_min_s ({expires_min_s}) to expires_max_s ({expires_max_s})");
    match default_at {
        Some(at) => section.mistake(
            at,
            "expires_default_s",
            &format!("{expires_default_s} is not within {range}; change one of them"),
        ),
        None => section.mistake(
            max_at.or(min_at).unwrap_or(0),
            "expires_default_s",
            &format!(
                "{expires_default_s}, the default, is not within {range}; set expires_default_s too"
            ),
        ),
    }
}

/// A day more than a month: phones that ask for more are mistaken.
const EXPIRES_S_MAX: u64 = 32 * 86_400;

#[cfg(test)]
mod tests {
    use super::super::Config;

    fn mistake(registrar: &str) -> String {
        let text = format!("[[listen]]\naddress = \"192.0.2.1:5060\"\n[registrar]\n{registrar}");
        Config::parse("t.toml".as_ref(), &text)
            .expect_err("a mistake")
            .to_string()
    }

    #[test]
    fn the_shortest_is_not_longer_than_the_longest() {
        assert_eq!(
            mistake("expires_min_s = 90000\n"),
            "t.toml:4:17: [registrar] expires_min_s: 90000 is larger than expires_max_s (7200); lower it or raise expires_max_s"
        );
        assert!(mistake("expires_max_s = 30\n").contains("30 is less than expires_min_s (60)"));
    }

    #[test]
    fn the_default_lies_between_them() {
        assert!(mistake("expires_max_s = 600\n").contains("3600, the default, is not within"));
        assert!(mistake("expires_default_s = 30\n").contains("30 is not within"));
    }

    #[test]
    fn contacts_are_at_most_as_many_as_branches() {
        assert!(mistake("contacts_max = 17\n").contains("give 1 to 16"));
    }
}
