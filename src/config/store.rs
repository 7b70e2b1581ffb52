//! `[store]`: where bindings outlive the process.

use std::fmt;
use std::path::{Path, PathBuf};

use super::section::Section;
use crate::limits::COMMIT_FLUSH_MAX;
use crate::time::Duration;

/// The durable store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Which.
    pub url: StoreUrl,
    /// When a REGISTER gets its 200.
    pub ack: Ack,
    /// How long a change waits at most for its batch, with the database healthy.
    pub flush: Duration,
}

/// When a REGISTER gets its 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// At once: with the database healthy a crash loses at most `flush_ms` and the batch in flight.
    Relaxed,
    /// When its change is committed and synced: no crash loses it.
    Committed,
}

/// Which store.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// None: bindings do not outlive the process.
    None,
    /// A file of SQLite's.
    Sqlite(PathBuf),
    /// A database of Postgres', by its URL, which may hold a password.
    Postgres(String),
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What may be shown: no password.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none: bindings do not outlive a restart"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(_) => f.write_str("postgres"),
        }
    }
}

/// Reads `[store]`; the file of SQLite's is relative to `folder`.
pub(super) fn read(root: &mut Section<'_>, folder: &Path) -> Store {
    let mut section = root.section("store");
    let url = section.parsed("url", engine);
    let ack = section.choice(
        "ack",
        &[("relaxed", Ack::Relaxed), ("committed", Ack::Committed)],
    );
    let flush_ms = section.number("flush_ms", 1..=60_000);
    let url = match url.map(|url| url.value) {
        Some(Engine::None) => StoreUrl::None,
        Some(Engine::Postgres(url)) => StoreUrl::Postgres(url),
        Some(Engine::Sqlite(file)) => StoreUrl::Sqlite(folder.join(file)),
        None => StoreUrl::Sqlite(folder.join(FILE_DEFAULT)),
    };
    if let Some(flush_ms) = flush_ms.as_ref().filter(|_| url == StoreUrl::None) {
        section.warning(flush_ms.at, "flush_ms", "has no effect without a store");
    }
    let flush = Duration::from_millis(
        flush_ms
            .as_ref()
            .map_or(FLUSH_MS_DEFAULT, |flush_ms| flush_ms.value),
    );
    if let Some(ack) = ack.as_ref().filter(|ack| ack.value == Ack::Committed) {
        if url == StoreUrl::None {
            section.mistake(
                ack.at,
                "ack",
                "\"committed\" promises what url = \"none\" cannot keep; name a store, or write \"relaxed\"",
            );
        }
        if let Some(flush_ms) = flush_ms.filter(|_| flush > COMMIT_FLUSH_MAX) {
            section.mistake(
                flush_ms.at,
                "flush_ms",
                &format!(
                    "is how long a phone waits for its 200 with ack = \"committed\"; at most {}",
                    COMMIT_FLUSH_MAX.as_micros() / 1_000
                ),
            );
        }
    }
    section.finish();
    Store {
        url,
        ack: ack.map_or(Ack::Relaxed, |ack| ack.value),
        flush,
    }
}

#[derive(Clone, PartialEq, Eq)]
enum Engine {
    None,
    Sqlite(PathBuf),
    Postgres(String),
}

fn engine(url: &str) -> Result<Engine, String> {
    match url.split_once(':') {
        None if url == "none" => Ok(Engine::None),
        Some(("sqlite", file)) if !file.is_empty() => Ok(Engine::Sqlite(file.into())),
        Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => postgres(url),
        // The text itself is not shown: it may hold a password.
        _ => Err(
            "is no store; write \"none\", \"sqlite:FILE\" or \"postgres://HOST/DATABASE\""
                .to_owned(),
        ),
    }
}

/// Checks a URL of Postgres' as far as can be told without the server. What is wrong is told without the text.
fn postgres(url: &str) -> Result<Engine, String> {
    let config: tokio_postgres::Config = url.parse().map_err(|_| {
        "cannot be read as postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE".to_owned()
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host; write postgres://HOST/DATABASE".to_owned());
    }
    if config.get_ssl_mode() == tokio_postgres::config::SslMode::Require {
        return Err(
            "asks for TLS, which this version does not speak to Postgres; remove sslmode"
                .to_owned(),
        );
    }
    Ok(Engine::Postgres(url.to_owned()))
}

/// The embedded default, beside the configuration.
const FILE_DEFAULT: &str = "strowger.db";
const FLUSH_MS_DEFAULT: u64 = 100;

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn parse(store: &str) -> Result<Config, String> {
        let text = format!("[[listen]]\naddress = \"192.0.2.1:5060\"\n{store}");
        Config::parse("/etc/strowger/t.toml".as_ref(), &text)
            .map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn the_default_is_a_file_beside_the_configuration() {
        let store = parse("").expect("good").store;
        assert_eq!(
            store.url,
            StoreUrl::Sqlite("/etc/strowger/strowger.db".into())
        );
        assert_eq!(store.flush, Duration::from_millis(100));
        let store = parse("[store]\nurl = \"sqlite:/var/lib/s.db\"\nflush_ms = 20\n")
            .expect("good")
            .store;
        assert_eq!(store.url, StoreUrl::Sqlite("/var/lib/s.db".into()));
        assert_eq!(store.flush, Duration::from_millis(20));
    }

    #[test]
    fn a_server_without_a_store_says_so_itself() {
        let config = parse("[store]\nurl = \"none\"\nflush_ms = 20\n").expect("good");
        assert_eq!(config.store.url, StoreUrl::None);
        assert!(
            config
                .warnings
                .iter()
                .any(|warning| warning.text.contains("no effect"))
        );
    }

    #[test]
    fn committed_promises_only_what_can_be_kept() {
        assert_eq!(parse("").expect("good").store.ack, Ack::Relaxed);
        let config = parse("[store]\nack = \"committed\"\n").expect("good");
        assert_eq!(config.store.ack, Ack::Committed);
        let refused = parse("[store]\nurl = \"none\"\nack = \"committed\"\n").expect_err("kept?");
        assert!(refused.contains("cannot keep"), "{refused}");
        let slow = "[store]\nack = \"committed\"\nflush_ms = 10001\n";
        let refused = parse(slow).expect_err("longer than a phone waits");
        assert!(refused.contains("at most 10000"), "{refused}");
        assert!(parse(&slow.replace("10001", "10000")).is_ok());
    }

    #[test]
    fn postgres_may_have_several_hosts() {
        let url = "postgres://u:secret@one:5433,two/db";
        let config = parse(&format!("[store]\nurl = \"{url}\"\n")).expect("good");
        assert_eq!(config.store.url, StoreUrl::Postgres(url.to_owned()));
        assert!(!format!("{:?}", config.store).contains("secret"));
        for url in [
            "postgres:///db",
            "postgres://u:secret@h:port/db",
            "postgres://u:secret@h/db?sslmode=require",
        ] {
            let refused = parse(&format!("[store]\nurl = \"{url}\"\n")).expect_err(url);
            assert!(!refused.contains("secret"), "{refused}");
        }
    }

    #[test]
    fn a_password_is_not_repeated() {
        let refused = parse("[store]\nurl = \"mysql://u:secret@h/d\"\n").expect_err("unknown");
        assert!(!refused.contains("secret"));
    }
}
