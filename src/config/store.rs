//! `[store]`: where bindings outlive the process. This version keeps them in memory alone, and says so.

use super::section::Section;

/// The durable store: what this version can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Store {
    /// Nothing was asked for: the default of later versions does not exist yet, so there is a warning at start.
    #[default]
    Unstated,
    /// `url = "none"`: bindings are not to outlive the process.
    None,
}

/// Reads `[store]`, and refuses what this version could only pretend to do.
pub(super) fn read(root: &mut Section<'_>) -> Store {
    let mut section = root.section("store");
    let url = section.parsed("url", engine);
    let ack = section.choice("ack", &[("relaxed", false), ("committed", true)]);
    let flush_ms = section.number("flush_ms", 1..=60_000);
    // The embedded default is warned about, written out or not; what was chosen instead of it is not pretended.
    if let Some(url) = url.filter(|url| url.value == Engine::Postgres) {
        section.mistake(url.at, "url", "a store is not in this version: bindings are held in memory alone; write url = \"none\"");
    }
    if let Some(ack) = ack.filter(|ack| ack.value) {
        section.mistake(
            ack.at,
            "ack",
            "\"committed\" needs a store, which is not in this version; remove it",
        );
    }
    let store = match url.map(|url| url.value) {
        Some(Engine::None | Engine::Postgres) => Store::None,
        Some(Engine::Sqlite) | None => Store::Unstated,
    };
    let is_unread = url.is_none() && section.has("url");
    if store == Store::Unstated && !is_unread {
        let text = "[store] url: this version has no store: bindings are held in memory and do not outlive a restart";
        section.notes.warning_about_file(text);
    }
    if let Some(flush_ms) = flush_ms {
        section.warning(flush_ms.at, "flush_ms", "has no effect without a store");
    }
    section.finish();
    store
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Engine {
    None,
    Sqlite,
    Postgres,
}

fn engine(url: &str) -> Result<Engine, String> {
    match url.split_once(':') {
        None if url == "none" => Ok(Engine::None),
        Some(("sqlite", file)) if !file.is_empty() => Ok(Engine::Sqlite),
        Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => Ok(Engine::Postgres),
        // The text itself is not shown: it may hold a password.
        _ => Err(
            "is no store; write \"none\", \"sqlite:FILE\" or \"postgres://HOST/DATABASE\""
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::Store;

    fn parse(store: &str) -> Result<Config, String> {
        let text = format!("[[listen]]\naddress = \"192.0.2.1:5060\"\n{store}");
        Config::parse("t".as_ref(), &text).map_err(|mistakes| mistakes.to_string())
    }

    fn warns(config: &Config) -> bool {
        config
            .warnings
            .iter()
            .any(|warning| warning.text.contains("do not outlive a restart"))
    }

    #[test]
    fn bindings_in_memory_are_warned_about_unless_asked_for() {
        assert!(warns(&parse("").expect("good")));
        let config = parse("[store]\nurl = \"none\"\n").expect("good");
        assert_eq!(config.store, Store::None);
        assert!(!warns(&config));
    }

    #[test]
    fn a_store_is_refused_and_not_pretended() {
        assert!(warns(
            &parse("[store]\nurl = \"sqlite:strowger.db\"\n").expect("the default")
        ));
        assert!(
            parse("[store]\nurl = \"postgres://u:secret@h/d\"\n")
                .expect_err("no store")
                .contains("not in this")
        );
        assert!(
            parse("[store]\nack = \"committed\"\n")
                .expect_err("no store")
                .contains("not in this version")
        );
    }

    #[test]
    fn a_password_is_not_repeated() {
        assert!(
            !parse("[store]\nurl = \"mysql://u:secret@h/d\"\n")
                .expect_err("unknown")
                .contains("secret")
        );
    }
}
