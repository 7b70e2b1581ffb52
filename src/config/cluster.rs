//! `[cluster]`: other nodes that share the location, by Kamailio's DMQ.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::address::{self, HopHost, NextHop};
use super::listen::Listen;
use super::section::{Found, Section};
use crate::datagram::Transport;
use crate::limits::{KDMQ_BODY_LEN_MAX, KDMQ_CONTACTS_MAX};
use crate::time::Duration;

/// This node's part in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Our number, which no other node has.
    pub server_id: u16,
    /// DMQ's own address.
    pub listen: SocketAddr,
    /// The nodes that are spoken to first; a name stands for all its addresses.
    pub peers: Vec<NextHop>,
    /// Who is listened to beside the peers.
    pub allow: Vec<IpNet>,
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
}

/// Reads `[cluster]`.
pub(super) fn read(root: &mut Section<'_>, listen: &[Listen]) -> Option<Cluster> {
    let mut section = root.section("cluster");
    let server_id = section.number("server_id", 1..=u64::from(u16::MAX));
    let own = section.parsed("listen", address::listen_address);
    let peers = section.parsed_list("peers", address::next_hop);
    let allow = section.parsed_list("allow", address::network);
    let skew_s = section.number("skew_s", 0..=60);
    let ping_s = section.number("ping_s", 1..=300);
    let coalesce_ms = section.number("coalesce_ms", 1..=1_000);
    let batch_contacts = section.number("batch_contacts", 1..=KDMQ_CONTACTS_MAX as u64);
    let batch_bytes = section.number("batch_bytes", 2_000..=KDMQ_BODY_LEN_MAX as u64);
    let sync_rate = section.number("sync_rate", 1..=10_000_000);
    let tombstones = section.number("tombstones", 1_024..=16_777_216);
    let nat_bflag = section.number("nat_bflag", 0..=31);
    if !section.is_present() {
        return None;
    }
    check_listen(&section, own.as_ref(), listen);
    if let Some(peers) = &peers {
        for peer in &peers.value {
            check_peer(
                &section,
                &peer.value,
                peer.at,
                own.as_ref().map(|own| own.value),
            );
        }
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
        skew: Duration::from_secs(number(skew_s, 1)),
        ping: Duration::from_secs(number(ping_s, 5)),
        coalesce: Duration::from_millis(number(coalesce_ms, 5)),
        batch_contacts: size(batch_contacts, 50),
        batch_bytes: size(batch_bytes, 20_000),
        sync_rate: sync_rate.and_then(|rate| u32::try_from(rate.value).ok()),
        tombstones: size(tombstones, 131_072),
        nat_bflag: nat_bflag.and_then(|flag| u8::try_from(flag.value).ok()),
    })
}

fn check_listen(section: &Section<'_>, own: Option<&Found<SocketAddr>>, listen: &[Listen]) {
    section.require(
        "server_id",
        "add server_id = 1, another number on each node",
    );
    section.require(
        "listen",
        "add listen = \"192.0.2.1:5062\", DMQ's own address",
    );
    if let Some(own) = own {
        if own.value.ip().is_unspecified() {
            let text = "is a wildcard; give the one address that the other nodes know this node by";
            section.mistake(own.at, "listen", text);
        }
        let is_taken = |listen: &Listen| {
            let is_all = listen.address.ip().is_unspecified();
            listen.address.port() == own.value.port()
                && (is_all || listen.address.ip() == own.value.ip())
        };
        if listen.iter().any(is_taken) {
            let text = "is a SIP listener's address; give DMQ a port of its own, 5062 say";
            section.mistake(own.at, "listen", text);
        }
    }
}

fn check_peer(section: &Section<'_>, peer: &NextHop, at: usize, own: Option<SocketAddr>) {
    if peer.transport == Some(Transport::Tcp) {
        let text = "DMQ is spoken over UDP in this version; remove ;transport=tcp";
        section.mistake(at, "peers", text);
    }
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
    /// The peers that are given by their addresses.
    pub fn seeds(&self) -> impl Iterator<Item = SocketAddr> {
        self.peers.iter().filter_map(|peer| match &peer.host {
            HopHost::Address(ip) => Some(SocketAddr::new(*ip, peer.port.unwrap_or(DMQ_PORT))),
            HopHost::Name(_) => None,
        })
    }

    /// The peers that are given by name.
    pub fn names(&self) -> impl Iterator<Item = (String, u16)> {
        self.peers.iter().filter_map(|peer| match &peer.host {
            HopHost::Address(_) => None,
            HopHost::Name(name) => Some((name.clone(), peer.port.unwrap_or(DMQ_PORT))),
        })
    }

    /// Whether an address is one of the peers'.
    #[must_use]
    pub fn has_peer(&self, ip: IpAddr) -> bool {
        self.seeds().any(|seed| seed.ip() == ip)
    }
}

/// The port of a peer that tells none.
const DMQ_PORT: u16 = 5_060;

#[cfg(test)]
mod tests {
    use super::super::Config;

    fn parse(cluster: &str) -> Result<Config, String> {
        let text = format!("[[listen]]\naddress = \"192.0.2.1:5060\"\n[cluster]\n{cluster}");
        Config::parse("t".as_ref(), &text).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn a_cluster_has_its_defaults() {
        let text = "server_id = 7\nlisten = \"192.0.2.1:5062\"\npeers = [\"sip:192.0.2.2\", \"sip:dmq.example.com:5062\"]\n";
        let cluster = parse(text).expect("good").cluster.expect("there");
        assert_eq!((cluster.server_id, cluster.batch_contacts), (7, 50));
        assert_eq!(
            cluster
                .seeds()
                .map(|seed| seed.to_string())
                .collect::<Vec<_>>(),
            ["192.0.2.2:5060"]
        );
        assert_eq!(
            cluster.names().collect::<Vec<_>>(),
            [("dmq.example.com".to_owned(), 5_062)]
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
                "server_id = 1\nlisten = \"192.0.2.1:5060\"\n",
                "t:5:10: [cluster] listen: is a SIP listener's address",
            ),
            (
                "server_id = 1\nlisten = \"0.0.0.0:5062\"\n",
                "t:5:10: [cluster] listen: is a wildcard",
            ),
            (
                "server_id = 1\nlisten = \"192.0.2.1:5062\"\npeers = [\"sip:192.0.2.2;transport=tcp\"]\n",
                "[cluster] peers: DMQ is spoken over UDP",
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
