//! The other nodes: from the configuration to a cluster that is ready to run.

use std::net::SocketAddr;
use std::sync::Arc;

use super::ServeError;
use super::cores;
use super::postman::CLUSTER;
use crate::admin::ClusterGauge;
use crate::config::{self, Config};
use crate::datagram::Transport;
use crate::flow_token::FlowCodec;
use crate::location::{Homes, Location};
use crate::net::tcp::Tcp;
use crate::net::{ListenerSpec, Opened};
use crate::peer::{Door, NamedPeer, Peer};
use crate::replication::{NodeAddress, Reception, Seals, Settings};
use crate::secret::Secret;

/// Opens the cluster, where one is wanted.
pub(super) fn open(
    config: &Config,
    listeners: &[(ListenerSpec, bool)],
    (opened, tcp): (&Opened, Option<&Tcp>),
    epoch: u64,
    (homes, secret): (&Arc<Homes>, &Secret),
) -> Result<Option<Peer>, ServeError> {
    let Some(cluster) = &config.cluster else {
        return Ok(None);
    };
    let door = door(cluster.listen, listeners, (opened, tcp))?;
    let listeners = listeners.iter().map(|(spec, _)| (spec.id, spec.address));
    let settings = Settings {
        server_id: cluster.server_id,
        address: cluster.listen,
        seeds: cluster.seeds().map(node).collect(),
        allow: cluster.allow.clone(),
        seals: Seals::new(cluster.secrets.as_slice()),
        unsealed: cluster.unsealed.clone(),
        skew: cluster.skew,
        ping: cluster.ping,
        contacts_max: cluster.batch_contacts,
        bytes_max: cluster.batch_bytes,
        walk_rate: cluster.sync_rate,
        workers: opened.workers.len(),
        epoch,
        reception: Reception {
            server_id: cluster.server_id,
            homes: Arc::clone(homes),
            ip: cluster.listen.ip(),
            listeners: listeners.collect(),
            use_domain: config.registrar.use_domain,
            domains: config.sip.domains.clone(),
            flows: FlowCodec::new(cores::token_keys(secret)),
            tells_paths: cluster.path_for_kamailio,
        },
    };
    Ok(Some(Peer::open(settings, names(cluster).collect(), door)?))
}

/// DMQ's own address, or the listener that has it.
fn door(
    address: SocketAddr,
    listeners: &[(ListenerSpec, bool)],
    (opened, tcp): (&Opened, Option<&Tcp>),
) -> Result<Door, ServeError> {
    let mut shared = listeners.iter().filter(|(spec, _)| spec.address == address);
    let Some((spec, has_tcp)) = shared.next() else {
        return Ok(Door::Own);
    };
    let ports = opened.workers.first();
    let socket = ports.map(|ports| ports.transmitters.kernel_socket(spec.id));
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let socket = socket.ok_or_else(missing).and_then(|socket| socket);
    Ok(Door::Listener {
        id: spec.id,
        socket: socket.map_err(|source| ServeError::System {
            what: "a descriptor of the cluster's",
            source,
        })?,
        tcp: tcp.filter(|_| *has_tcp).map(|tcp| tcp.transmitter(CLUSTER)),
    })
}

fn node((socket, transport): (SocketAddr, Transport)) -> NodeAddress {
    NodeAddress { transport, socket }
}

/// The peers that are given by name. Kamailio names SRV records themselves.
fn names(cluster: &config::Cluster) -> impl Iterator<Item = NamedPeer> {
    cluster.names().map(|(host, port, transport)| {
        let service = format!("_sip._{}.", transport.as_str().to_ascii_lowercase());
        let bare = host.strip_prefix(&service).filter(|_| port.is_none());
        NamedPeer {
            host: bare.unwrap_or(host).to_owned(),
            port,
            transport,
        }
    })
}

/// What the admin server shows of it.
pub(super) fn gauge(peer: &Peer, location: &Arc<Location>) -> ClusterGauge {
    let (last, fresh) = (peer.bulletin(), peer.bulletin());
    let location = Arc::clone(location);
    ClusterGauge {
        server_id: peer.server_id(),
        lag: peer.lag(),
        nodes: Box::new(move || last.last()),
        inquire: Arc::new(move || (location.fresh(), fresh.fresh())),
    }
}
