//! `dmq.*` and `cluster.*`: the other nodes.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Fault, INTERNAL_ERROR, UNAVAILABLE};
use crate::admin::{ClusterGauge, State};
use crate::counters::Counter;
use crate::replication::{Dialect, NodeReport};

/// `dmq.list_nodes`: with Kamailio's names, and what it does not tell.
pub(super) async fn list_nodes(state: &State) -> Result<Value, Fault> {
    let Some(cluster) = &state.cluster else {
        return Err(Fault::new(UNAVAILABLE, "there is no [cluster]"));
    };
    let (_, nodes) = inquire(cluster).await?;
    Ok(nodes.iter().map(shown).collect())
}

/// `cluster.status`: this node, and how far each other one has what this one has.
pub(super) async fn status(state: &State) -> Result<Value, Fault> {
    let Some(cluster) = &state.cluster else {
        return Ok(json!({ "configured": false }));
    };
    let (fresh, nodes) = inquire(cluster).await?;
    let others = nodes.iter().filter(|node| !node.is_local);
    let is_active = |node: &&NodeReport| node.status == crate::replication::Status::Active;
    let is_synced =
        |node: &NodeReport| node.waiting == 0 && !node.is_behind && node.walking.is_none();
    let active = others.clone().filter(is_active);
    Ok(json!({
        "configured": true,
        "server_id": cluster.server_id,
        "nodes": others.clone().count(),
        "active": active.clone().count(),
        // Nothing that changed here is still on its way to a node that answers.
        "synced": fresh == 0 && active.clone().all(is_synced),
        "changes_waiting": fresh,
        "lag_ms": others.clone().map(|node| node.lag.as_micros() / 1_000).max().unwrap_or(0),
        "contacts_waiting": others.map(|node| node.waiting).sum::<usize>(),
        "contacts_sent": state.sum(Counter::ClusterContactsSent),
        "contacts_taken": state.sum(Counter::ClusterContactsTaken),
    }))
}

/// How it stands now: the cluster's thread is asked, and waited for beside the server's own thread.
async fn inquire(cluster: &ClusterGauge) -> Result<(usize, Vec<NodeReport>), Fault> {
    let inquire = Arc::clone(&cluster.inquire);
    let answer = tokio::task::spawn_blocking(move || inquire()).await;
    answer.map_err(|_| Fault::new(INTERNAL_ERROR, "the cluster was not asked"))
}

fn shown(node: &NodeReport) -> Value {
    let kind = match node.dialect {
        Dialect::Strowger => "strowger",
        Dialect::Kamailio => "kamailio",
    };
    json!({
        "host": node.address.ip().to_string(),
        "port": node.address.socket.port(),
        "proto": node.address.transport.as_str().to_ascii_lowercase(),
        "resolved_ip": node.address.ip().to_string(),
        "status": node.status.as_str(),
        "last_notification": node.last_heard.unix_s(),
        "local": u8::from(node.is_local),
        "kind": kind,
        "sealed": node.seals,
        "sent": node.sent,
        "acknowledged": node.acknowledged,
        "received": node.received,
        "waiting": node.waiting,
        "window": node.window,
        "behind": node.is_behind,
        "sync_sent": node.walking,
        "syncs": node.walks,
        "lag_ms": node.lag.as_micros() / 1_000,
    })
}
