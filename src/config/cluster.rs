//! `[cluster]`: other nodes that share the location, by Kamailio's DMQ.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::address::{self, HopHost, NextHop};
use super::listen::Listen;
use super::section::{Found, Section};
use crate::datagram::Transport;
use crate::limits::{KDMQ_BODY_LEN_MAX, KDMQ_CONTACTS_MAX};
use crate::shared_secret::SharedSecrets;
use crate::time::Duration;

/// This node's part in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Our number, which no other node has.
    pub server_id: u16,
    /// DMQ's address: its own, or a listener's.
    pub listen: SocketAddr,
    /// The nodes that are spoken to first; a name stands for all its addresses.
    pub peers: Vec<NextHop>,
    /// Who is listened to beside the peers.
    pub allow: Vec<IpNet>,
    /// The file with the cluster's secrets, resolved against the folder of the configuration.
    pub secret_file: Option<PathBuf>,
    /// What stands in it, once it has been read.
    pub secrets: SharedSecrets,
    /// Who may speak without a seal; none: who has never spoken with one.
    pub unsealed: Option<Vec<IpNet>>,
    /// How far the nodes' clocks may differ.
    pub skew: Duration,
    /// How often each node is shown that we are there.
    pub ping: Duration,
    /// How long changes are gathered before they are sent.
    pub coalesce: Duration,
    /// Contacts in one message.
    pub batch_contacts: usize,
    /// Bytes of contacts in one message.
    pub batch_bytes: usize,
    /// Contacts a second of a full or partial send; none: as many as the other node takes.
    pub sync_rate: Option<u32>,
    /// Removals that are remembered.
    pub tombstones: usize,
    /// Kamailio's `nat_bflag`: the branch flag of a contact behind a NAT.
    pub nat_bflag: Option<u8>,
    /// Whether Kamailios are told a Path, by the node that it registered at, of each contact behind a NAT.
    pub path_for_kamailio: bool,
}

/// Reads `[cluster]`.
pub(super) fn read(root: &mut Section<'_>, listen: &[Listen], folder: &Path) -> Option<Cluster> {
    let mut section = root.section("cluster");
    let server_id = section.number("server_id", 1..=u64::from(u16::MAX));
    let own = section.parsed("listen", address::listen_address);
    let peers = section.parsed_list("peers", address::next_hop);
    let allow = section.parsed_list("allow", address::network);
    let secret_file = section.text("secret_file");
    let unsealed = section.parsed_list("unsealed", address::network);
    let skew_s = section.number("skew_s", 0..=60);
    let ping_s = section.number("ping_s", 1..=300);
    let coalesce_ms = section.number("coalesce_ms", 1..=1_000);
    let batch_contacts = section.number("batch_contacts", 1..=KDMQ_CONTACTS_MAX as u64);
    let batch_bytes = section.number("batch_bytes", 2_000..=KDMQ_BODY_LEN_MAX as u64);
    let sync_rate = section.number("sync_rate", 1..=10_000_000);
    let tombstones = section.number("tombstones", 1_024..=16_777_216);
    let nat_bflag = section.number("nat_bflag", 0..=31);
    let path_for_kamailio = section.flag("path_for_kamailio");
    if !section.is_present() {
        return None;
    }
    check_listen(&section, own.as_ref());
    if let Some(peers) = &peers {
        if let Some(own) = &own {
            check_tcp(&section, (own.value, &peers.value), listen);
        }
        for peer in &peers.value {
            check_peer(
                &section,
                &peer.value,
                peer.at,
                own.as_ref().map(|own| own.value),
            );
        }
    }
    if let Some(unsealed) = unsealed.as_ref().filter(|_| secret_file.is_none()) {
        let cure = "means nothing without secret_file; add it, or remove this";
        section.mistake(unsealed.at, "unsealed", cure);
    }
    section.finish();
    let number = |found: Option<Found<u64>>, usual: u64| found.map_or(usual, |found| found.value);
    let size = |found, usual: u64| usize::try_from(number(found, usual)).unwrap_or(usize::MAX);
    let list =
        |found: Found<Vec<Found<IpNet>>>| found.value.into_iter().map(|one| one.value).collect();
    Some(Cluster {
        server_id: u16::try_from(server_id?.value).unwrap_or(u16::MAX),
        listen: own?.value,
        peers: peers.map_or_else(Vec::new, |peers| {
            peers.value.into_iter().map(|peer| peer.value).collect()
        }),
        allow: allow.map_or_else(Vec::new, list),
        secret_file: secret_file.map(|file| folder.join(file.value)),
        secrets: SharedSecrets::default(),
        unsealed: unsealed.map(list),
        skew: Duration::from_secs(number(skew_s, 1)),
        ping: Duration::from_secs(number(ping_s, 5)),
        coalesce: Duration::from_millis(number(coalesce_ms, 5)),
        batch_contacts: size(batch_contacts, 50),
        batch_bytes: size(batch_bytes, 20_000),
        sync_rate: sync_rate.and_then(|rate| u32::try_from(rate.value).ok()),
        tombstones: size(tombstones, 131_072),
        nat_bflag: nat_bflag.and_then(|flag| u8::try_from(flag.value).ok()),
        path_for_kamailio: path_for_kamailio.is_some_and(|found| found.value),
    })
}

fn check_listen(section: &Section<'_>, own: Option<&Found<SocketAddr>>) {
    section.require(
        "server_id",
        "add server_id = 1, another number on each node",
    );
    section.require(
        "listen",
        "add listen = \"192.0.2.1:5062\", the address that DMQ is spoken at",
    );
    if let Some(own) = own
        && own.value.ip().is_unspecified()
    {
        let text = "is a wildcard; give the one address that the other nodes know this node by";
        section.mistake(own.at, "listen", text);
    }
}

/// A listener that is not served by TCP takes no nodes' connections either.
fn check_tcp(
    section: &Section<'_>,
    (own, peers): (SocketAddr, &[Found<NextHop>]),
    listen: &[Listen],
) {
    let is_shared = |listen: &&Listen| {
        let is_all = listen.address.ip().is_unspecified();
        listen.address.port() == own.port() && (is_all || listen.address.ip() == own.ip())
    };
    let shared = listen.iter().find(is_shared);
    if shared.is_none_or(|listen| listen.tcp) {
        return;
    }
    for peer in peers {
        if peer.value.transport == Some(Transport::Tcp) {
            let text = "is to be spoken to over TCP, and the listener that [cluster] listen shares has tcp = false; remove that, or ;transport=tcp";
            section.mistake(peer.at, "peers", text);
        }
    }
}

fn check_peer(section: &Section<'_>, peer: &NextHop, at: usize, own: Option<SocketAddr>) {
    let HopHost::Address(ip) = &peer.host else {
        return;
    };
    if own.is_some_and(|own| own.is_ipv4() != ip.is_ipv4()) {
        let text =
            "is of another address family than listen; give an address that listen can reach";
        section.mistake(at, "peers", text);
    }
}

impl Cluster {
    /// The peers that are given by their addresses, each with how it is spoken to.
    pub fn seeds(&self) -> impl Iterator<Item = (SocketAddr, Transport)> {
        self.peers.iter().filter_map(|peer| match &peer.host {
            HopHost::Address(ip) => {
                let address = SocketAddr::new(*ip, peer.port.unwrap_or(DMQ_PORT));
                Some((address, transport(peer)))
            }
            HopHost::Name(_) => None,
        })
    }

    /// The peers that are given by name, each with its port, where one is given, and how it is spoken to.
    pub fn names(&self) -> impl Iterator<Item = (&str, Option<u16>, Transport)> {
        self.peers.iter().filter_map(|peer| match &peer.host {
            HopHost::Address(_) => None,
            HopHost::Name(name) => Some((name.as_str(), peer.port, transport(peer))),
        })
    }

    /// Whether an address is one of the peers'.
    #[must_use]
    pub fn has_peer(&self, ip: IpAddr) -> bool {
        self.seeds().any(|(seed, _)| seed.ip() == ip)
    }
}

/// UDP where a peer's URI says nothing, as in Kamailio.
fn transport(peer: &NextHop) -> Transport {
    peer.transport.unwrap_or(Transport::Udp)
}

/// The port of a peer that tells none.
const DMQ_PORT: u16 = 5_060;

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::Transport;

    fn parse(cluster: &str) -> Result<Config, String> {
        let text = format!("[[listen]]\naddress = \"192.0.2.1:5060\"\n[cluster]\n{cluster}");
        Config::parse("t".as_ref(), &text).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn a_cluster_has_its_defaults() {
        let text = "server_id = 7\nlisten = \"192.0.2.1:5062\"\npeers = [\"sip:192.0.2.2\", \"sip:dmq.example.com:5062;transport=tcp\"]\n";
        let cluster = parse(text).expect("good").cluster.expect("there");
        assert_eq!((cluster.server_id, cluster.batch_contacts), (7, 50));
        assert_eq!(
            cluster
                .seeds()
                .map(|(seed, transport)| format!("{seed} {}", transport.as_str()))
                .collect::<Vec<_>>(),
            ["192.0.2.2:5060 UDP"]
        );
        assert_eq!(
            cluster.names().collect::<Vec<_>>(),
            [("dmq.example.com", Some(5_062), Transport::Tcp)]
        );
        assert!(
            cluster.has_peer([192, 0, 2, 2].into()) && !cluster.has_peer([192, 0, 2, 3].into())
        );
    }

    #[test]
    fn its_mistakes_are_told_with_their_cure() {
        for (text, told) in [
            ("", "t:3:1: [cluster]: server_id is missing"),
            (
                "server_id = 0\n",
                "t:4:13: [cluster] server_id: 0 is out of range",
            ),
            (
                "server_id = 1\nlisten = \"192.0.2.1:5062\"\nunsealed = [\"192.0.2.0/24\"]\n",
                "t:6:12: [cluster] unsealed: means nothing without secret_file",
            ),
            (
                "server_id = 1\nlisten = \"0.0.0.0:5062\"\n",
                "t:5:10: [cluster] listen: is a wildcard",
            ),
            (
                "server_id = 1\nlisten = \"192.0.2.1:5062\"\npeers = [\"sip:[2001:db8::1]\"]\n",
                "[cluster] peers: is of another address family",
            ),
            (
                "server_id = 1\nlisten = \"192.0.2.1:5062\"\nbatch_contacts = 151\n",
                "batch_contacts: 151 is out of range",
            ),
        ] {
            let mistakes = parse(text).expect_err(text);
            assert!(mistakes.contains(told), "{mistakes}");
        }
    }
}
