//! `[auth]`: digest authentication. This version has none, and refuses to run open where it was asked for.

use super::address;
use super::section::Section;

/// Reads `[auth]`: present and not `enabled = false` is a mistake, since this version cannot serve it.
pub(super) fn read(root: &mut Section<'_>) {
    let mut section = root.section("auth");
    let enabled = section.flag("enabled");
    let _realm = section.parsed("realm", address::domain);
    let _algorithms = section.parsed_list("algorithms", |text| match text {
        "SHA-256" | "MD5" => Ok(()),
        _ => Err(format!("{text:?} is none of \"SHA-256\", \"MD5\"")),
    });
    let refusal = "authentication is not in this version, and it will not run open where it was asked for; \
                   write enabled = false to run without";
    match enabled {
        Some(enabled) if enabled.value => section.mistake(enabled.at, "enabled", refusal),
        Some(_) => {}
        // The section alone asks for it: enabled is true by default.
        None if section.is_present() && !section.has("enabled") => section.mistake_here(refusal),
        None => {}
    }
    let is_off = enabled.is_some_and(|enabled| !enabled.value);
    section.notes.warning_about_file(if is_off {
        "[auth] enabled: off: whoever reaches us may register as any user"
    } else {
        "[auth]: there is none, so authentication is off: whoever reaches us may register as any user"
    });
    section.finish();
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    fn parse(auth: &str) -> Result<Config, String> {
        let text = format!("[[listen]]\naddress = \"192.0.2.1:5060\"\n{auth}");
        Config::parse("t".as_ref(), &text).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn authentication_that_was_asked_for_is_refused() {
        for auth in [
            "[auth]\n",
            "[auth]\nenabled = true\n",
            "[auth]\nrealm = \"example.com\"\n",
        ] {
            assert!(
                parse(auth)
                    .expect_err("not in this version")
                    .contains("will not run open"),
                "{auth}"
            );
        }
    }

    #[test]
    fn authentication_off_is_warned_about() {
        for auth in ["", "[auth]\nenabled = false\nalgorithms = [\"MD5\"]\n"] {
            let config = parse(auth).expect("good");
            assert!(
                config
                    .warnings
                    .iter()
                    .any(|warning| warning.text.contains("may register as any user")),
                "{auth}"
            );
        }
    }
}
