//! What a proxy is told when it is made: who it is, whom it trusts, its keys and its bounds.

use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::authenticate::AuthSettings;
use super::keepalive::KeepaliveSettings;
use crate::datagram::{ListenerId, Transport, WorkerId};
use crate::limits::{FAILOVER, RING, TIMER_C, UDP_REQUEST_LEN_MAX};
use crate::time::Duration;

/// Everything that one worker's core is configured with. A new configuration is a new `Settings`, swapped whole.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This worker.
    pub worker: WorkerId,
    /// How many workers share the Call-IDs.
    pub workers: u8,
    /// The node's number in its cluster.
    pub server_id: u16,
    /// The start of the process: 64 random bits.
    pub epoch: u64,
    /// The keys.
    pub keys: Keys,
    /// Where we listen.
    pub listeners: Vec<Listener>,
    /// The domains that we are responsible for; an address may stand among them.
    pub domains: Vec<String>,
    /// Whether an AoR is user@domain, or the user alone.
    pub use_domain: bool,
    /// The networks of our peers: requests from there are relayed anywhere.
    pub peers: Vec<IpNet>,
    /// Where requests of our users for foreign domains go, if somebody takes them.
    pub trunk: Option<Arc<Trunk>>,
    /// The registrars of others that we stand before.
    pub edges: Vec<Arc<Edge>>,
    /// How users prove who they are; none: nobody has to.
    pub auth: Option<AuthSettings>,
    /// How contacts are kept alive; none: not at all.
    pub keepalive: Option<KeepaliveSettings>,
    /// Where a REGISTER's 200 says that the store has it: how long a change waits for its batch. `None`: the 200 is given at once.
    pub commit: Option<Duration>,
    /// How long an INVITE branch may ring without news.
    pub timer_c: Duration,
    /// How long the contacts of one q ring before those of the next are tried.
    pub ring: Duration,
    /// How long a destination may be silent where there is another to try.
    pub failover: Duration,
    /// Transactions that may be in being, server and client together.
    pub transactions_max: u32,
    /// Bytes that stored messages may take.
    pub message_bytes_max: usize,
}

/// An address of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its number.
    pub id: ListenerId,
    /// Its address, which our Via and Record-Route name.
    pub address: SocketAddr,
    /// Whether it speaks TCP beside UDP.
    pub tcp: bool,
    /// The longest request that leaves by UDP where the next hop is known to speak TCP (RFC 3261 18.1.1).
    pub udp_request_len_max: usize,
}

/// The upstream that takes our users' requests for foreign domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trunk {
    /// Where it sends from: what comes from there does not go back there.
    pub addresses: Vec<IpNet>,
    /// Its host, a name or an address, as in a URI.
    pub host: String,
    /// Its port, if one is given.
    pub port: Option<u16>,
    /// Its transport, if one is given.
    pub transport: Option<Transport>,
}

/// A registrar of others that we stand before (RFC 5626: we are its edge proxy).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The domains that it is responsible for.
    pub domains: Vec<String>,
    /// Where it is.
    pub next_hop: Arc<Trunk>,
    /// When a REGISTER on its way there gets our Path.
    pub path: PathRule,
}

/// When a REGISTER that we pass on gets our Path (RFC 3327 5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathRule {
    /// Where its phone says that it knows of Path, or of Outbound.
    #[default]
    Supported,
    /// Always: the registrar keeps it unasked.
    Always,
    /// A phone that does not know of Path is refused (421).
    Required,
}

impl Listener {
    /// A listener that speaks UDP and TCP on a link with an MTU of 1,500 bytes or more.
    #[must_use]
    pub const fn new(id: ListenerId, address: SocketAddr) -> Self {
        Self {
            id,
            address,
            tcp: true,
            udp_request_len_max: UDP_REQUEST_LEN_MAX,
        }
    }
}

/// The keys of the core, derived from the cluster's secret. Lists have the current key first, then the one before it.
#[derive(Clone, Default)]
pub struct Keys {
    /// Of the hash that steers Call-IDs to workers.
    pub steering: [u8; 16],
    /// Of the index of server transactions.
    pub transactions: [u8; 16],
    /// Of the MAC in Via branches.
    pub branches: Vec<[u8; 16]>,
    /// Of the MAC in dialog tokens.
    pub tokens: Vec<[u8; 16]>,
    /// Of the nonces of our challenges.
    pub nonces: Vec<[u8; 16]>,
    /// Of the To tags of responses that we make ourselves.
    pub tags: Vec<[u8; 16]>,
}

impl Settings {
    /// Settings for a lone worker with these keys, listeners and domains; the rest as an operator gets it by default.
    #[must_use]
    pub fn alone(keys: Keys, listeners: Vec<Listener>, domains: &[&str]) -> Self {
        Self {
            worker: WorkerId(0),
            workers: 1,
            server_id: 0,
            epoch: 0,
            keys,
            listeners,
            domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
            use_domain: false,
            peers: Vec::new(),
            trunk: None,
            edges: Vec::new(),
            auth: None,
            keepalive: None,
            commit: None,
            timer_c: TIMER_C,
            ring: RING,
            failover: FAILOVER,
            transactions_max: 65_536,
            message_bytes_max: 256 << 20,
        }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}
