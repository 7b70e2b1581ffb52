//! What a row of the store can hold, by Kamailio's columns: known here, so that a registrar that promises to store refuses beforehand
//! what never will be.

/// A binding that no row can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unstorable {
    /// A text that is not UTF-8, or with a zero byte.
    NotText,
    /// A user or a domain longer than the column.
    TooLong,
}

/// Checks an AoR, which is `user@domain` with `use_domain`, and the other texts of a binding; their lengths are bounded by what
/// the location keeps.
///
/// # Errors
/// [`Unstorable`].
pub fn check(aor: &[u8], use_domain: bool, others: &[&[u8]]) -> Result<(), Unstorable> {
    let aor = text(aor)?;
    let (user, domain) = split(aor, use_domain);
    let is_long = |text: &str| text.chars().count() > NAME_CHARS_MAX;
    if is_long(user) || domain.is_some_and(is_long) {
        return Err(Unstorable::TooLong);
    }
    others.iter().try_for_each(|other| text(other).map(drop))
}

/// User and domain of an AoR, as their columns have them.
#[must_use]
pub fn split(aor: &str, use_domain: bool) -> (&str, Option<&str>) {
    match aor.rsplit_once('@').filter(|_| use_domain) {
        Some((user, domain)) => (user, Some(domain)),
        None => (aor, None),
    }
}

/// The text that a column takes.
///
/// # Errors
/// [`Unstorable::NotText`].
pub fn text(bytes: &[u8]) -> Result<&str, Unstorable> {
    let text = std::str::from_utf8(bytes).map_err(|_| Unstorable::NotText)?;
    // Postgres has no place for a zero byte in a text.
    if text.contains('\0') {
        return Err(Unstorable::NotText);
    }
    Ok(text)
}

/// Characters of a user and of a domain, by the columns.
const NAME_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_as_long_as_its_column() {
        let aor =
            |user: usize, domain: usize| format!("{}@{}", "é".repeat(user), "d".repeat(domain));
        for (aor, use_domain, expected) in [
            (aor(64, 64), true, Ok(())),
            (aor(65, 1), true, Err(Unstorable::TooLong)),
            (aor(1, 65), true, Err(Unstorable::TooLong)),
            (aor(60, 4), false, Err(Unstorable::TooLong)),
            (aor(60, 3), false, Ok(())),
        ] {
            assert_eq!(
                check(aor.as_bytes(), use_domain, &[b"x"]),
                expected,
                "{aor}"
            );
        }
        assert_eq!(
            check(b"a", false, &[b"x", b"\xFF"]),
            Err(Unstorable::NotText)
        );
        assert_eq!(check(b"a\0", false, &[]), Err(Unstorable::NotText));
    }
}
