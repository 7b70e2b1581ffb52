//! `[dns]`: whom to ask where a next hop's name leads, and how long that may take.

use std::net::SocketAddr;

use super::address;
use super::section::Section;
use crate::time::Duration;

/// The settings of the resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The servers; none: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Names of which the answers are kept.
    pub cache_size: usize,
    /// How long an answer serves past its time while the DNS fails.
    pub stale_max: Duration,
}

/// Reads `[dns]`.
pub(super) fn read(root: &mut Section<'_>) -> Dns {
    let mut section = root.section("dns");
    let found = section.parsed_list("servers", address::dns_server);
    let timeout_ms = section.number("timeout_ms", TIMEOUT_MS_MIN..=TIMEOUT_MS_MAX);
    let cache_size = section.number("cache_size", 16..=CACHE_SIZE_MAX);
    let stale_max_s = section.number("stale_max_s", 0..=STALE_MAX_S_MAX);
    let mut servers: Vec<SocketAddr> = Vec::new();
    if let Some(found) = found {
        if found.value.is_empty() {
            let text = "is empty or has no good entry; name a server, or remove the key for those of /etc/resolv.conf";
            section.mistake(found.at, "servers", text);
        }
        for server in found.value {
            if servers.contains(&server.value) {
                let text = format!("{} stands there twice; keep one", server.value);
                section.mistake(server.at, "servers", &text);
            } else if servers.len() == SERVERS_MAX {
                let text = format!("more than {SERVERS_MAX}; remove some");
                section.mistake(server.at, "servers", &text);
                break;
            } else {
                servers.push(server.value);
            }
        }
    }
    section.finish();
    Dns {
        servers,
        timeout: timeout_ms.map_or(TIMEOUT, |found| Duration::from_millis(found.value)),
        cache_size: cache_size.map_or(CACHE_SIZE, |found| {
            usize::try_from(found.value).unwrap_or(CACHE_SIZE)
        }),
        stale_max: stale_max_s.map_or(STALE_MAX, |found| Duration::from_secs(found.value)),
    }
}

/// How long an answer may take where the file does not say: two lookups that each lose a datagram or two.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Less is shorter than the way to a server abroad.
const TIMEOUT_MS_MIN: u64 = 100;
/// A caller waits meanwhile.
const TIMEOUT_MS_MAX: u64 = 5_000;
const CACHE_SIZE: usize = 4_096;
const CACHE_SIZE_MAX: u64 = 1_000_000;
/// A day: as long as RFC 8767 5 suggests at the least.
const STALE_MAX: Duration = Duration::from_secs(24 * 3_600);
const STALE_MAX_S_MAX: u64 = 7 * 24 * 3_600;
/// More than that are not asked in the time of one answer.
const SERVERS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn parse(section: &str) -> Result<Dns, String> {
        let text = format!("[[listen]]\naddress = \"192.0.2.1:5060\"\n[dns]\n{section}");
        Config::parse("t".as_ref(), &text)
            .map(|config| config.dns)
            .map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let dns = parse("").expect("good");
        assert!(dns.servers.is_empty());
        assert_eq!(dns.timeout, Duration::from_secs(4));
        assert_eq!((dns.cache_size, dns.stale_max.as_secs()), (4_096, 86_400));
    }

    #[test]
    fn a_server_has_port_53_unless_it_names_another() {
        let dns = parse("servers = [\"127.0.0.1:5353\", \"192.0.2.53\", \"2001:db8::53\"]\n");
        let servers: Vec<String> = dns
            .expect("good")
            .servers
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            servers,
            ["127.0.0.1:5353", "192.0.2.53:53", "[2001:db8::53]:53"]
        );
    }

    #[test]
    fn what_is_no_server_is_noted() {
        for bad in [
            "servers = []\n",
            "servers = [\"dns.example\"]\n",
            "servers = [\"192.0.2.53:0\"]\n",
            "servers = [\"0.0.0.0\"]\n",
            "servers = [\"192.0.2.53\", \"192.0.2.53:53\"]\n",
            "timeout_ms = 5001\n",
            "timeout_ms = 0\n",
            "cache_size = 0\n",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
