//! `[[peer]]`: trunks and upstreams that are trusted by their address.

use ipnet::IpNet;

use super::address::{self, NextHop};
use super::section::{Found, Section};

/// A trunk or upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name, in logs.
    pub name: String,
    /// The networks it sends from.
    pub addresses: Vec<IpNet>,
    /// Where requests of our users for foreign domains go, if this is the peer that takes them.
    pub next_hop: Option<NextHop>,
    /// The domains that this peer is the registrar of: requests for them go to its next hop, whoever sends them.
    pub domains: Vec<String>,
    /// When a REGISTER on its way there gets our Path.
    pub path: EdgePath,
}

/// When a REGISTER that goes to a peer gets our Path (RFC 3327 5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EdgePath {
    /// Where its phone says that it knows of Path.
    #[default]
    Supported,
    /// Always.
    Always,
    /// A phone that does not is refused (421).
    Required,
}

/// Reads every `[[peer]]`.
pub(super) fn read(root: &mut Section<'_>) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    for mut section in root.sections("peer") {
        if peers.len() == PEERS_MAX {
            section.mistake_here(&format!(
                "one more than {PEERS_MAX}, the most there may be; remove it"
            ));
            break;
        }
        if let Some(peer) = read_one(&mut section, &peers) {
            peers.push(peer);
        }
        section.finish();
    }
    peers
}

fn read_one(section: &mut Section<'_>, earlier: &[Peer]) -> Option<Peer> {
    let name = section.text("name");
    section.require("name", "add name = \"carrier\", for the logs");
    let addresses = section.parsed_list("addresses", address::network);
    section.require(
        "addresses",
        "add addresses = [\"198.51.100.0/24\"], the networks it sends from",
    );
    let next_hop = section.parsed("next_hop", address::next_hop);
    let domains = section.parsed_list("domains", address::domain);
    let path = section.choice("path", &PATH);
    if let Some(domains) = domains.as_ref().filter(|_| !section.has("next_hop")) {
        section.mistake(
            domains.at,
            "domains",
            "nobody says where requests for them go; add next_hop",
        );
    }
    if let Some(path) = path.filter(|_| domains.is_none()) {
        section.mistake(
            path.at,
            "path",
            "is for a peer that is a registrar; add its domains",
        );
    }

    if let Some(name) = name.filter(|name| earlier.iter().any(|peer| peer.name == name.value)) {
        section.mistake(
            name.at,
            "name",
            &format!(
                "{:?} is the name of an earlier peer; give another",
                name.value
            ),
        );
    }
    let is_default = |peer: &Peer| peer.next_hop.is_some() && peer.domains.is_empty();
    let is_second = domains.is_none() && earlier.iter().any(is_default);
    if let Some(hop) = next_hop.as_ref().filter(|_| is_second) {
        section.mistake(
            hop.at,
            "next_hop",
            "an earlier peer is the default next hop already; keep one of them",
        );
    }
    if let Some(addresses) = &addresses {
        check_addresses(section, addresses, earlier);
    }
    Some(Peer {
        name: name?.value.to_owned(),
        addresses: addresses?
            .value
            .into_iter()
            .map(|network| network.value)
            .collect(),
        next_hop: next_hop.map(|hop| hop.value),
        domains: domains.map_or(Vec::new(), |domains| {
            let names = domains.value.into_iter();
            names.map(|domain| domain.value).collect()
        }),
        path: path.map_or(EdgePath::Supported, |path| path.value),
    })
}

fn check_addresses(section: &Section<'_>, addresses: &Found<Vec<Found<IpNet>>>, earlier: &[Peer]) {
    if addresses.value.is_empty() {
        section.mistake(
            addresses.at,
            "addresses",
            "is empty or has no good entry; name the networks it sends from",
        );
    }
    for (index, network) in addresses.value.iter().enumerate() {
        let mine = addresses.value.iter().take(index).map(|other| other.value);
        let theirs = earlier
            .iter()
            .flat_map(|peer| peer.addresses.iter().copied());
        if mine.chain(theirs).any(|other| other == network.value) {
            let text = format!(
                "{} belongs to a peer already; a packet has one sender, so keep one",
                network.value
            );
            section.mistake(network.at, "addresses", &text);
        }
        if network.value.prefix_len() < PREFIX_LEN_SUSPECT {
            let text = format!(
                "{} trusts a good part of the Internet without authentication",
                network.value
            );
            section.warning(network.at, "addresses", &text);
        }
    }
}

const PATH: [(&str, EdgePath); 3] = [
    ("supported", EdgePath::Supported),
    ("always", EdgePath::Always),
    ("required", EdgePath::Required),
];
/// `[[peer]]` entries.
const PEERS_MAX: usize = 1_024;
/// A trusted network wider than this is more likely an open relay than a carrier.
const PREFIX_LEN_SUSPECT: u8 = 8;

#[cfg(test)]
mod tests {
    use super::super::{Config, HopHost};

    fn parse(peers: &str) -> Result<Config, String> {
        let text = format!("[[listen]]\naddress = \"192.0.2.1:5060\"\n{peers}");
        Config::parse("t".as_ref(), &text).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn a_peer_is_read() {
        let config = parse(
            "[[peer]]\nname = \"a\"\naddresses = [\"198.51.100.0/24\", \"2001:db8::7\"]\nnext_hop = \"sip:198.51.100.7\"\n",
        );
        let peer = config.expect("good").peers.remove(0);
        assert_eq!(peer.addresses.len(), 2);
        assert_eq!(
            peer.next_hop.expect("a next hop").host,
            HopHost::Address("198.51.100.7".parse().expect("an address"))
        );
    }

    #[test]
    fn what_two_peers_may_not_share_is_noted() {
        let one = "[[peer]]\nname = \"a\"\naddresses = [\"198.51.100.0/24\"]\nnext_hop = \"sip:198.51.100.7\"\n";
        let text = parse(&format!("{one}{one}")).expect_err("all equal");
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn a_peer_needs_a_name_and_addresses() {
        let text = parse("[[peer]]\n").expect_err("both missing");
        assert!(
            text.contains("name is missing") && text.contains("addresses is missing"),
            "{text}"
        );
    }

    #[test]
    fn trusting_everyone_is_warned_about() {
        let config =
            parse("[[peer]]\nname = \"a\"\naddresses = [\"0.0.0.0/0\"]\n").expect("allowed");
        assert!(
            config
                .warnings
                .iter()
                .any(|warning| warning.text.contains("trusts a good part of the Internet"))
        );
    }
}
