//! The gateway as one node of a cluster.

use anyhow::Context;
use serde_json::{Value, json};

use crate::clock::{SystemWallClock, rfc3339};
use crate::cluster::{Cluster, ClusterSettings, Node};

/// Becomes a node, where the configuration names a server. It need not be up.
///
/// Connections run on a thread of their own: every answer passes through it, and the supervisor's
/// is held up when it counts the tokens of a long prompt. It ends with the process.
///
/// # Errors
///
/// Where there is no thread to be had.
pub(super) fn join(settings: &ClusterSettings) -> anyhow::Result<Cluster> {
    let (cluster, upkeep) = Cluster::new(settings, &SystemWallClock)?;
    if let Some(server) = cluster.health().server {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("cluster".to_owned())
            .spawn(move || runtime.block_on(upkeep.run()))
            .context("cannot start the cluster's thread")?;
        tracing::info!(
            "this is node {} of a cluster that shares state on {server}",
            cluster.node()
        );
    }
    Ok(cluster)
}

/// The nodes as the admin API shows them, each with the revision of its configuration.
pub(super) fn shown(cluster: &Cluster) -> Vec<Value> {
    let shown = |node: Node| {
        json!({
            "name": node.name,
            "id": node.id,
            "is_this": node.id == cluster.node_id(),
            "version": node.version,
            "revision": format!("{:012x}", node.revision),
            "started_at": rfc3339(node.started_at_ms),
        })
    };
    cluster.nodes().into_iter().map(shown).collect()
}
