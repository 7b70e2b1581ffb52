//! The configuration file: read whole, every mistake reported at once with its line and its cure.
//!
//! One file a section under `config/`; each holds the plain struct that the program reads and the function that fills
//! it. What depends on the host (how much memory there is) is [`budget::Budget`]'s, so that a file means the same
//! on every machine.

pub mod budget;
pub mod container;
pub mod host;

mod address;
mod admin;
mod auth;
mod cluster;
mod dns;
mod document;
mod limits;
mod listen;
mod mistake;
mod nat;
mod peer;
mod registrar;
mod section;
mod sip;
mod store;
mod workers;

use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

pub use address::{HopHost, NextHop};
pub use admin::Admin;
pub use auth::{Auth, DigestAlgorithm, Ephemeral as EphemeralAuth};
pub use cluster::Cluster;
pub use dns::Dns;
pub use limits::{Limits, Memory};
pub use listen::{Backend, Listen, Mode};
pub use mistake::{Located, Mistake, Mistakes};
pub use nat::{Keepalive, Nat};
pub use peer::{EdgePath, Peer};
pub use registrar::{ContactMatching, ContactsFull, Registrar};
pub use sip::Sip;
pub use store::{Ack, Store, StoreUrl};
pub use workers::Workers;

use mistake::Notes;
use section::Section;

/// A configuration without mistakes.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file, as the user named it.
    pub path: PathBuf,
    /// `[[listen]]`, at least one.
    pub listen: Vec<Listen>,
    /// `[workers]`.
    pub workers: Workers,
    /// `[sip]`.
    pub sip: Sip,
    /// `[[peer]]`.
    pub peers: Vec<Peer>,
    /// `[dns]`.
    pub dns: Dns,
    /// `[registrar]`.
    pub registrar: Registrar,
    /// `[nat]`.
    pub nat: Nat,
    /// `[store]`.
    pub store: Store,
    /// `[auth]`; `None`: nobody has to prove who it is.
    pub auth: Option<Auth>,
    /// `[limits]`.
    pub limits: Limits,
    /// `[cluster]`; `None`: this server serves alone.
    pub cluster: Option<Cluster>,
    /// `[admin]`; `None`: nothing is served there.
    pub admin: Option<Admin>,
    /// What is allowed and should be known; to be printed at start.
    pub warnings: Vec<Mistake>,
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// Every mistake of the file, or the one that keeps it from being read.
    pub fn load(path: &Path) -> Result<Self, Mistakes> {
        let about_file = |text: String| Mistakes::about_file(path, text);
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes))
            .map_err(|error| {
                about_file(format!(
                    "cannot be read: {error}; name the file with --config FILE"
                ))
            })?;
        if bytes.len() as u64 > FILE_LEN_MAX {
            return Err(about_file(format!(
                "is larger than {FILE_LEN_MAX} bytes; is it a configuration?"
            )));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = error
                .as_bytes()
                .iter()
                .take(error.utf8_error().valid_up_to())
                .filter(|b| **b == b'\n')
                .count()
                + 1;
            about_file(format!("is not UTF-8 at line {line}; save it as UTF-8"))
        })?;
        Self::parse(path, &text)
    }

    /// Reads `text` as the content of `path`, to which the paths in it are relative.
    ///
    /// # Errors
    /// Every mistake of the text.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Mistakes> {
        let mut notes = Notes::new(text);
        let clean = document::readable(text, &mut notes);
        let (table, _) = DeTable::parse_recoverable(&clean);
        let config = Self::read(path, table.get_ref(), &notes);
        let (mistakes, mut warnings) = notes.into_lists();
        match Mistakes::gather(path, mistakes) {
            Some(mistakes) => Err(mistakes),
            None => {
                warnings.sort();
                Ok(Self { warnings, ..config })
            }
        }
    }

    /// The configuration that `strowger init` writes, serving SIP at `port`.
    #[must_use]
    pub fn embedded(port: u16) -> String {
        include_str!("config/default.toml").replace(":5060\"", &format!(":{port}\""))
    }

    fn read(path: &Path, table: &DeTable<'_>, notes: &Notes<'_>) -> Self {
        let mut root = Section::root(table, notes);
        let workers = workers::read(&mut root);
        let listen = listen::read(&mut root, workers.count);
        let mut sip = sip::read(&mut root);
        let peers = peer::read(&mut root);
        let dns = dns::read(&mut root);
        let registrar = registrar::read(&mut root);
        let nat = nat::read(&mut root);
        let folder = path.parent().unwrap_or(Path::new(""));
        let store = store::read(&mut root, folder);
        let auth = auth::read(&mut root, &sip, &store, folder);
        let limits = limits::read(&mut root);
        let cluster = cluster::read(&mut root, &listen, folder);
        let mut admin = admin::read(&mut root, &listen);
        root.finish();

        sip.secret_file = folder.join(&sip.secret_file);
        if let Some(token_file) = admin.as_mut().and_then(|admin| admin.token_file.as_mut()) {
            *token_file = folder.join(&*token_file);
        }
        Self {
            path: path.to_owned(),
            listen,
            workers,
            sip,
            peers,
            dns,
            registrar,
            nat,
            store,
            auth,
            limits,
            cluster,
            admin,
            warnings: Vec::new(),
        }
    }
}

/// The largest file that is read.
const FILE_LEN_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_configuration_is_good_and_takes_its_port() {
        let config =
            Config::parse("strowger.toml".as_ref(), &Config::embedded(5070)).expect("good");
        assert_eq!(config.listen[0].address.to_string(), "0.0.0.0:5070");
        assert_eq!(
            config.admin.expect("there").listen.to_string(),
            "127.0.0.1:8060"
        );
    }

    #[test]
    fn every_mistake_is_reported_with_its_line() {
        let text = "[[listen]]\naddress = \"192.0.2.1\"\n\n[sip]\ndomain = [\"a.example\"]\n\n[limits]\nmemory = 50%\n";
        let mistakes = Config::parse("t.toml".as_ref(), text)
            .expect_err("three")
            .to_string();
        let lines: Vec<&str> = mistakes.lines().collect();
        assert_eq!(lines.len(), 3, "{mistakes}");
        assert!(
            lines[0].starts_with("t.toml:2:11: [[listen]] address: \"192.0.2.1\" has no port"),
            "{mistakes}"
        );
        assert!(
            lines[1].starts_with("t.toml:5:1: [sip] domain: no such key; did you mean domains?"),
            "{mistakes}"
        );
        assert!(lines[2].starts_with("t.toml:8:"), "{mistakes}");
    }

    /// Every key of the contract.
    const CONTRACT: &str = r#"
            [[listen]]
            address = "192.0.2.1:5060"
            backend = "auto"
            interface = "eth0"
            queues = [0, 1]
            mode = "driver"
            tcp = true
            [workers]
            count = 2
            cpus = [0, 1]
            busy_poll = false
            spin_us = 0
            [sip]
            domains = ["example.com"]
            secret_file = "strowger.key"
            drain_s = 10
            timer_c_s = 181
            [[peer]]
            name = "carrier"
            addresses = ["198.51.100.0/24"]
            next_hop = "sip:198.51.100.7:5060"
            [dns]
            servers = ["192.0.2.53"]
            timeout_ms = 4000
            cache_size = 4096
            stale_max_s = 86400
            [registrar]
            expires_default_s = 3600
            expires_min_s = 60
            expires_max_s = 7200
            contacts_max = 10
            use_domain = false
            [nat]
            keepalive = "options"
            cycle_s = 30
            contacts = "nat"
            remove_after = 3
            [store]
            url = "none"
            ack = "relaxed"
            flush_ms = 100
            [auth]
            enabled = false
            realm = "example.com"
            algorithms = ["SHA-256", "MD5"]
            [limits]
            memory = "50%"
            transactions = 1000
            bindings = 1000
            tcp_connections = 10
            tcp_connections_per_source = 5
            tcp_idle_s = 3660
            [cluster]
            server_id = 1
            listen = "192.0.2.1:5062"
            peers = ["sip:192.0.2.2:5060"]
            allow = ["192.0.2.0/24"]
            skew_s = 1
            ping_s = 5
            coalesce_ms = 5
            batch_contacts = 50
            batch_bytes = 20000
            sync_rate = 50000
            tombstones = 131072
            nat_bflag = 6
            path_for_kamailio = true
            [admin]
            listen = "127.0.0.1:8060"
            token_file = "admin.token"
        "#;

    #[test]
    fn the_whole_contract_is_accepted_key_by_key() {
        Config::parse("t".as_ref(), CONTRACT).expect("the contract");
    }

    #[test]
    fn a_file_that_is_not_there_says_so() {
        let mistakes = Config::load("/nonexistent/strowger.toml".as_ref())
            .expect_err("not there")
            .to_string();
        assert!(
            mistakes.starts_with("/nonexistent/strowger.toml: cannot be read: "),
            "{mistakes}"
        );
    }

    #[test]
    fn the_first_mistakes_of_a_damaged_file_do_not_breed_others() {
        let text = "[[listen]]\naddress = \"192.0.2.1:5060\n[sip]\ndrain_s = \"x\"\n";
        let mistakes = Config::parse("t".as_ref(), text).expect_err("two");
        assert_eq!(
            mistakes
                .list
                .iter()
                .map(|mistake| mistake.line)
                .collect::<Vec<_>>(),
            [2, 4],
            "{mistakes}"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = Config::parse("t".as_ref(), &text);
        }

        #[test]
        fn no_damage_to_a_good_file_makes_it_panic(at in 0_usize..900, len in 0_usize..40, with in "[\\[\\]\"=\n\u{e9}0a#.]{0,6}") {
            let mut text = Config::embedded(5060);
            let (start, end) = (at.min(text.len()), (at + len).min(text.len()));
            // The embedded text is ASCII, so that any place is between two characters.
            text.replace_range(start..end, &with);
            let _ = Config::parse("t".as_ref(), &text);
        }
    }
}
