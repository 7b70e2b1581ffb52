//! What every worker's core is made from: the configuration, in the core's words.

use std::net::IpAddr;
use std::sync::Arc;

use super::storage::server_id;
use super::worker_id;
use crate::auth::{Algorithm, Ephemeral, EphemeralHash, EphemeralOrder};
use crate::config::budget::Budget;
use crate::config::{
    self, Ack, Auth, Config, ContactsFull, DigestAlgorithm, EdgePath, EphemeralAuth, HopHost, Nat,
    Peer,
};
use crate::counters::Counters;
use crate::location::Location;
use crate::proxy::domains::Domains;
use crate::proxy::register::{Registrar, RegistrarSettings};
use crate::proxy::{
    AuthSettings, Edge, Keepalive, KeepaliveSettings, Keys, Listener, PathRule, Proxy, Settings,
    Trunk,
};
use crate::secret::Secret;

/// What every worker's core is made from.
pub(super) struct Cores {
    pub(super) settings: Settings,
    domains: Arc<Domains>,
    pub(super) registrar: RegistrarSettings,
}

impl Cores {
    pub(super) fn new(
        config: &Config,
        secret: &Secret,
        listeners: Vec<Listener>,
        budget: &Budget,
        epoch: u64,
    ) -> Self {
        let workers = budget.workers;
        let all = |label| secret.derive(label).iter().collect();
        let settings = Settings {
            worker: worker_id(0),
            workers: u8::try_from(workers).unwrap_or(u8::MAX),
            server_id: server_id(config),
            epoch,
            keys: Keys {
                steering: secret.derive("steer").current,
                transactions: secret.derive("transactions").current,
                branches: all("branches"),
                tokens: token_keys(secret),
                tags: all("tags"),
                nonces: all("nonces"),
            },
            listeners,
            domains: config.sip.domains.clone(),
            use_domain: config.registrar.use_domain,
            peers: config
                .peers
                .iter()
                .flat_map(|peer| peer.addresses.iter().copied())
                .collect(),
            trunk: trunk(config),
            edges: config.peers.iter().filter_map(edge).collect(),
            auth: config.auth.as_ref().map(auth_settings),
            keepalive: keepalive(&config.nat),
            commit: (config.store.ack == Ack::Committed).then_some(config.store.flush),
            timer_c: config.sip.timer_c,
            ring: config.sip.ring,
            failover: config.sip.failover,
            transactions_max: share(budget.transactions.count, workers),
            message_bytes_max: usize::try_from(budget.transactions.bytes()).unwrap_or(usize::MAX)
                / workers.max(1),
        };
        let addresses = settings
            .listeners
            .iter()
            .map(|listener| listener.address.ip());
        let domains = config.sip.domains.iter().map(String::as_str);
        let domains = Arc::new(Domains::new(domains, addresses));
        Self {
            settings,
            domains,
            registrar: registrar_settings(&config.registrar, all("tokens")),
        }
    }

    pub(super) fn core(
        &self,
        number: usize,
        location: &Arc<Location>,
        counters: &Arc<Counters>,
    ) -> Proxy {
        let mut settings = self.settings.clone();
        settings.worker = worker_id(number);
        Proxy::new(
            settings,
            Arc::clone(location),
            self.registrar(location),
            Arc::clone(counters),
        )
    }

    /// The registrar over a location.
    pub(super) fn registrar(&self, location: &Arc<Location>) -> Registrar {
        Registrar::new(
            Arc::clone(location),
            Arc::clone(&self.domains),
            self.registrar.clone(),
        )
        .that_stores(self.settings.commit.is_some())
    }
}
/// The keys of the MAC in dialog tokens and flow tokens: the current one, then the one before it.
pub(super) fn token_keys(secret: &Secret) -> Vec<[u8; 16]> {
    secret.derive("tokens").iter().collect()
}

/// The peer that takes our users' requests for foreign domains.
fn trunk(config: &Config) -> Option<Arc<Trunk>> {
    let mut trunks = config.peers.iter().filter(|peer| peer.domains.is_empty());
    trunks.find_map(next_hop)
}

/// A peer that is the registrar of its domains.
fn edge(peer: &Peer) -> Option<Arc<Edge>> {
    let next_hop = next_hop(peer).filter(|_| !peer.domains.is_empty())?;
    Some(Arc::new(Edge {
        domains: peer.domains.clone(),
        next_hop,
        path: match peer.path {
            EdgePath::Supported => PathRule::Supported,
            EdgePath::Always => PathRule::Always,
            EdgePath::Required => PathRule::Required,
        },
    }))
}

fn next_hop(peer: &Peer) -> Option<Arc<Trunk>> {
    let hop = peer.next_hop.as_ref()?;
    Some(Arc::new(Trunk {
        addresses: peer.addresses.clone(),
        host: match &hop.host {
            HopHost::Address(IpAddr::V6(ip)) => format!("[{ip}]"),
            HopHost::Address(IpAddr::V4(ip)) => ip.to_string(),
            HopHost::Name(name) => name.clone(),
        },
        port: hop.port,
        transport: hop.transport,
    }))
}

fn registrar_settings(registrar: &config::Registrar, keys: Vec<[u8; 16]>) -> RegistrarSettings {
    let route: Vec<String> = registrar
        .service_route
        .iter()
        .map(|uri| format!("<{uri}>"))
        .collect();
    RegistrarSettings {
        expires_default_s: registrar.expires_default_s,
        expires_min_s: registrar.expires_min_s,
        expires_max_s: registrar.expires_max_s,
        expires_spread_percent: registrar.expires_spread_percent,
        use_domain: registrar.use_domain,
        keeps_unasked_path: registrar.keeps_unasked_path,
        is_full_unavailable: registrar.contacts_full == ContactsFull::Unavailable,
        flow_timer_s: registrar.flow_timer_s,
        service_route: Arc::from(route.join(", ")),
        keys,
    }
}

/// How contacts are kept alive, if they are.
fn keepalive(nat: &Nat) -> Option<KeepaliveSettings> {
    let keepalive = match nat.keepalive {
        config::Keepalive::Off => return None,
        config::Keepalive::Crlf => Keepalive::Crlf,
        config::Keepalive::Options => Keepalive::Options,
    };
    Some(KeepaliveSettings {
        keepalive,
        cycle: nat.cycle,
        nat_only: !nat.all_contacts,
        silent_max: nat.remove_after,
    })
}

fn auth_settings(auth: &Auth) -> AuthSettings {
    let algorithm = |algorithm: &DigestAlgorithm| match algorithm {
        DigestAlgorithm::Sha512_256 => Algorithm::Sha512_256,
        DigestAlgorithm::Sha256 => Algorithm::Sha256,
        DigestAlgorithm::Md5 => Algorithm::Md5,
    };
    AuthSettings {
        realm: auth.realm.clone(),
        algorithms: auth.algorithms.iter().map(algorithm).collect(),
        nonce_lifetime: auth.nonce_lifetime,
        ephemeral: auth.ephemeral.as_ref().map(ephemeral),
    }
}

fn ephemeral(set: &EphemeralAuth) -> Ephemeral {
    let hash = if set.is_sha256 {
        EphemeralHash::Sha256
    } else {
        EphemeralHash::Sha1
    };
    let order = if set.is_user_first {
        EphemeralOrder::UserFirst
    } else {
        EphemeralOrder::TimeFirst
    };
    Ephemeral::new(set.secrets.as_slice().to_vec(), hash, order)
}

fn share(count: u64, workers: usize) -> u32 {
    let share = count / u64::try_from(workers.max(1)).unwrap_or(1);
    u32::try_from(share).unwrap_or(u32::MAX)
}
