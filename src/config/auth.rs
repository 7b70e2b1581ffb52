//! `[auth]`: digest authentication of our users (RFC 7616, RFC 8760).

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::address;
use super::section::{Found, Section};
use super::sip::Sip;
use super::store::{Store, StoreUrl};
use crate::shared_secret::SharedSecrets;
use crate::time::Duration;

/// How users prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The realm of our challenges; HA1s are made with it.
    pub realm: String,
    /// The algorithms that a challenge offers, the one preferred first.
    pub algorithms: Vec<DigestAlgorithm>,
    /// How long a nonce may be used.
    pub nonce_lifetime: Duration,
    /// Time-limited credentials, where they are good.
    pub ephemeral: Option<Ephemeral>,
}

/// Time-limited credentials: a user name that says until when it is good, and an HMAC of it as the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ephemeral {
    /// The file with the secrets, resolved against the folder of the configuration.
    pub secret_file: PathBuf,
    /// What it held; empty until it is read.
    pub secrets: SharedSecrets,
    /// The hash in the HMAC: SHA-256, else SHA-1.
    pub is_sha256: bool,
    /// Whether the user stands before the time.
    pub is_user_first: bool,
}

/// A hash that a challenge offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// RFC 8760.
    Sha512_256,
    /// RFC 8760.
    Sha256,
    /// For old phones.
    Md5,
}

/// Reads `[auth]`; none where it is absent or off, which is warned about.
pub(super) fn read(
    root: &mut Section<'_>,
    sip: &Sip,
    store: &Store,
    folder: &Path,
) -> Option<Auth> {
    let mut section = root.section("auth");
    let enabled = section.flag("enabled");
    let realm = section.parsed("realm", address::domain);
    let algorithms = section.parsed_list("algorithms", |text| {
        match text.to_ascii_uppercase().as_str() {
            "SHA-512-256" => Ok(DigestAlgorithm::Sha512_256),
            "SHA-256" => Ok(DigestAlgorithm::Sha256),
            "MD5" => Ok(DigestAlgorithm::Md5),
            _ => Err(format!(
                "{text:?} is none of \"SHA-512-256\", \"SHA-256\", \"MD5\""
            )),
        }
    });
    let nonce_s = section.number("nonce_s", NONCE_S);
    let ephemeral = ephemeral(&mut section, folder);
    let is_off = enabled.as_ref().is_some_and(|enabled| !enabled.value);
    if is_off || !section.is_present() {
        section.notes.warning_about_file(if is_off {
            "[auth] enabled: off: whoever reaches us may register as any user"
        } else {
            "[auth]: there is none, so authentication is off: whoever reaches us may register as any user"
        });
        section.finish();
        return None;
    }
    if store.url == StoreUrl::None {
        section.mistake_here(
            "there is no store to look users up in; give [store] a url, or write enabled = false",
        );
    }
    let realm = realm
        .map(|realm| realm.value)
        .or_else(|| sip.domains.first().cloned());
    if realm.is_none() {
        section.mistake_here(
            "add realm = \"example.com\", or domains to [sip], whose first one it is then",
        );
    }
    let algorithms = offered(&section, algorithms.map_or(Vec::new(), |list| list.value));
    section.finish();
    Some(Auth {
        realm: realm?,
        algorithms,
        nonce_lifetime: Duration::from_secs(
            nonce_s.map_or(NONCE_S_DEFAULT, |nonce_s| nonce_s.value),
        ),
        ephemeral,
    })
}

/// The algorithms to offer, in the order of the file.
fn offered(section: &Section<'_>, listed: Vec<Found<DigestAlgorithm>>) -> Vec<DigestAlgorithm> {
    let mut offered: Vec<DigestAlgorithm> = Vec::new();
    for algorithm in listed {
        if offered.contains(&algorithm.value) {
            section.mistake(
                algorithm.at,
                "algorithms",
                "one stands there twice; keep one",
            );
        } else {
            offered.push(algorithm.value);
        }
    }
    if offered.is_empty() {
        offered = vec![DigestAlgorithm::Sha256, DigestAlgorithm::Md5];
    }
    offered
}

/// Reads what is set of time-limited credentials; there are none without a file of secrets.
fn ephemeral(section: &mut Section<'_>, folder: &Path) -> Option<Ephemeral> {
    let secret_file = section.text("ephemeral_secret_file");
    let hash = section.choice("ephemeral_hash", &[("SHA-1", false), ("SHA-256", true)]);
    let name = section.choice(
        "ephemeral_name",
        &[("timestamp:user", false), ("user:timestamp", true)],
    );
    let Some(secret_file) = secret_file else {
        let lonely = [
            ("ephemeral_hash", hash.as_ref()),
            ("ephemeral_name", name.as_ref()),
        ];
        for (key, found) in lonely {
            if let Some(found) = found {
                let cure = "means nothing without ephemeral_secret_file; add it, or remove this";
                section.mistake(found.at, key, cure);
            }
        }
        return None;
    };
    Some(Ephemeral {
        secret_file: folder.join(secret_file.value),
        secrets: SharedSecrets::default(),
        is_sha256: hash.is_some_and(|hash| hash.value),
        is_user_first: name.is_some_and(|name| name.value),
    })
}

/// From what a slow phone needs to answer, to a day.
const NONCE_S: RangeInclusive<u64> = 10..=86_400;
const NONCE_S_DEFAULT: u64 = 300;

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn parse(rest: &str) -> Result<Config, String> {
        let text = format!("[[listen]]\naddress = \"192.0.2.1:5060\"\n{rest}");
        Config::parse("t".as_ref(), &text).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn the_section_alone_turns_authentication_on_with_the_first_domain() {
        let config =
            parse("[sip]\ndomains = [\"Example.com\", \"b.example\"]\n[auth]\n").expect("good");
        let auth = config.auth.expect("on");
        assert_eq!(auth.realm, "example.com");
        assert_eq!(
            auth.algorithms,
            [DigestAlgorithm::Sha256, DigestAlgorithm::Md5]
        );
        assert_eq!(auth.nonce_lifetime, Duration::from_secs(300));
    }

    #[test]
    fn authentication_off_is_warned_about() {
        for auth in ["", "[auth]\nenabled = false\nalgorithms = [\"MD5\"]\n"] {
            let config = parse(auth).expect("good");
            assert!(config.auth.is_none());
            let warned = config
                .warnings
                .iter()
                .any(|warning| warning.text.contains("may register as any user"));
            assert!(warned, "{auth}");
        }
    }

    #[test]
    fn time_limited_credentials_are_set_by_their_file() {
        let realm = "[auth]\nrealm = \"a.example\"\n";
        let read = |rest: &str| {
            let config = parse(&format!("{realm}{rest}")).expect("good");
            config.auth.expect("on").ephemeral
        };
        assert_eq!(read(""), None);
        let plain = read("ephemeral_secret_file = \"turn.secrets\"\n").expect("set");
        assert_eq!(plain.secret_file, Path::new("turn.secrets"));
        assert!(!plain.is_sha256 && !plain.is_user_first);
        let other = read(
            "ephemeral_secret_file = \"/etc/x\"\nephemeral_hash = \"SHA-256\"\nephemeral_name = \"user:timestamp\"\n",
        );
        assert!(other.is_some_and(|other| other.is_sha256 && other.is_user_first));
        let error = parse(&format!("{realm}ephemeral_hash = \"SHA-1\"\n")).expect_err("lonely");
        assert!(error.contains("without ephemeral_secret_file"), "{error}");
    }

    #[test]
    fn what_cannot_be_is_a_mistake() {
        for (auth, mistake) in [
            ("[auth]\n", "add realm"),
            (
                "[auth]\nrealm = \"a.example\"\nalgorithms = [\"SHA-1\"]\n",
                "is none of",
            ),
            (
                "[auth]\nrealm = \"a.example\"\nalgorithms = [\"MD5\", \"md5\"]\n",
                "twice",
            ),
            (
                "[auth]\nrealm = \"a.example\"\n[store]\nurl = \"none\"\n",
                "no store to look users up in",
            ),
            (
                "[auth]\nrealm = \"a.example\"\nnonce_s = 5\n",
                "out of range",
            ),
        ] {
            let error = parse(auth).expect_err(mistake);
            assert!(error.contains(mistake), "{error}");
        }
    }
}
