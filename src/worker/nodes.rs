//! The other nodes: from the configuration to a cluster that is ready to run.

use std::sync::Arc;

use super::ServeError;
use crate::admin::ClusterGauge;
use crate::config::Config;
use crate::location::Location;
use crate::net::ListenerSpec;
use crate::peer::Peer;
use crate::replication::{Reception, Settings};

/// Opens the cluster, where one is wanted.
pub(super) fn open(
    config: &Config,
    listeners: &[(ListenerSpec, bool)],
    workers: usize,
    epoch: u64,
) -> Result<Option<Peer>, ServeError> {
    let Some(cluster) = &config.cluster else {
        return Ok(None);
    };
    let listeners = listeners.iter().map(|(spec, _)| (spec.id, spec.address));
    let settings = Settings {
        server_id: cluster.server_id,
        address: cluster.listen,
        seeds: cluster.seeds().collect(),
        allow: cluster.allow.clone(),
        skew: cluster.skew,
        ping: cluster.ping,
        contacts_max: cluster.batch_contacts,
        bytes_max: cluster.batch_bytes,
        walk_rate: cluster.sync_rate,
        workers,
        epoch,
        reception: Reception {
            listeners: listeners.collect(),
            use_domain: config.registrar.use_domain,
            domains: config.sip.domains.clone(),
        },
    };
    Ok(Some(Peer::open(settings, cluster.names().collect())?))
}

/// What the admin server shows of it.
pub(super) fn gauge(peer: &Peer, location: &Arc<Location>) -> ClusterGauge {
    let (nodes, location) = (peer.nodes(), Arc::clone(location));
    ClusterGauge {
        server_id: peer.server_id(),
        lag: peer.lag(),
        nodes: Box::new(move || (location.fresh(), nodes.lock().clone())),
    }
}
