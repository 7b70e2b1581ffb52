//! `[admin]`: where operators and their tools look in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::address;
use super::listen::Listen;
use super::section::Section;

/// The administration listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The TCP address of the HTTP server.
    pub listen: SocketAddr,
    /// The file with the bearer token; always there where `listen` is not loopback.
    pub token_file: Option<PathBuf>,
}

/// Reads `[admin]`; `None` where the file has none.
pub(super) fn read(root: &mut Section<'_>, listeners: &[Listen]) -> Option<Admin> {
    let mut section = root.section("admin");
    let listen = section.parsed("listen", address::socket_address);
    let token_file = section.text("token_file");
    if !section.is_present() {
        section.notes.warning_about_file(
            "[admin]: there is none, so no metrics and no health check are served",
        );
        return None;
    }
    if let Some(listen) = listen {
        if !listen.value.ip().is_loopback() && !section.has("token_file") {
            let text = format!(
                "{} is not loopback, so a token is needed; add token_file = \"admin.token\"",
                listen.value
            );
            section.mistake(listen.at, "listen", &text);
        }
        // SIP is served by TCP at the same port as by UDP.
        let overlaps = |other: &&Listen| {
            other.address.port() == listen.value.port()
                && (other.address.ip() == listen.value.ip()
                    || other.address.ip().is_unspecified()
                    || listen.value.ip().is_unspecified())
        };
        if let Some(other) = listeners.iter().find(overlaps) {
            let text = format!(
                "{} is within the SIP listener {}; give it a port of its own",
                listen.value, other.address
            );
            section.mistake(listen.at, "listen", &text);
        }
    }
    section.finish();
    Some(Admin {
        listen: listen.map_or(DEFAULT, |listen| listen.value),
        token_file: token_file.map(|path| PathBuf::from(path.value)),
    })
}

const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8060);

#[cfg(test)]
mod tests {
    use super::super::Config;

    fn parse(admin: &str) -> Result<Config, String> {
        let text = format!("[[listen]]\naddress = \"192.0.2.1:5060\"\n{admin}");
        Config::parse("/etc/t.toml".as_ref(), &text).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn the_default_is_loopback() {
        assert_eq!(
            parse("[admin]\n")
                .expect("good")
                .admin
                .expect("there")
                .listen
                .to_string(),
            "127.0.0.1:8060"
        );
        assert!(parse("").expect("good").admin.is_none());
    }

    #[test]
    fn beyond_loopback_a_token_is_needed() {
        assert!(
            parse("[admin]\nlisten = \"0.0.0.0:8060\"\n")
                .expect_err("open")
                .contains("a token is needed")
        );
        let config =
            parse("[admin]\nlisten = \"0.0.0.0:8060\"\ntoken_file = \"a.token\"\n").expect("good");
        let token_file = config.admin.expect("there").token_file.expect("there");
        assert_eq!(token_file, std::path::Path::new("/etc/a.token"));
    }

    #[test]
    fn it_does_not_take_the_port_of_sip() {
        let text =
            parse("[admin]\nlisten = \"192.0.2.1:5060\"\ntoken_file = \"a\"\n").expect_err("taken");
        assert!(text.contains("a port of its own"), "{text}");
    }
}
