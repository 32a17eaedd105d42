//! The embedders of the configuration, opened once at the start.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;

use super::{IDLE_TIMEOUT, MAX_IDLE_CONNECTIONS};
use crate::config::{EmbedderKind, EmbedderSettings};
use crate::control::tasks::Tasks;
use crate::dispatch::{Lane, Stop};
use crate::embed::{Embedder, Embeds};
use crate::gateway::{Gateway, RemoteEmbedder};
use crate::sim::{Scenario, SimTransport};
use crate::upstream::Transports;
use crate::upstream::live::LiveTransport;

/// Opens all embedders and hands them to the gateway. Reading a local model takes a while.
///
/// # Errors
///
/// Where a model cannot be read or no thread is to be had.
pub(super) fn open(gateway: &Gateway, tasks: &Tasks) -> anyhow::Result<()> {
    let snapshot = gateway.snapshot();
    let mut embedders = BTreeMap::new();
    for (name, settings) in &snapshot.settings.embedders {
        let embeds = match settings.kind {
            EmbedderKind::Local => local(settings),
            EmbedderKind::Provider => Ok(remote(settings, gateway, tasks)),
        };
        let embeds = embeds.with_context(|| format!("cannot open the embedder {name:?}"))?;
        embedders.insert(name.clone(), Embedder::new(name, settings.timeout.0, embeds));
    }
    gateway.set_embedders(embedders);
    Ok(())
}

#[cfg(feature = "local-embeddings")]
fn local(settings: &EmbedderSettings) -> anyhow::Result<Arc<dyn Embeds>> {
    use crate::embed::local::LocalEmbedder;

    let folder = settings.folder.as_deref().context("it has no folder")?;
    let threads = settings.threads.unwrap_or(1) as usize;
    Ok(Arc::new(LocalEmbedder::open(folder, threads)?))
}

/// `config` refuses such embedders before.
#[cfg(not(feature = "local-embeddings"))]
fn local(_: &EmbedderSettings) -> anyhow::Result<Arc<dyn Embeds>> {
    anyhow::bail!("this program was built without the feature `local-embeddings`")
}

/// Starts what semantic caches need beside requests: a judge where there is an embedder, and the
/// store.
pub(super) fn learn(gateway: &Arc<Gateway>, tasks: &Tasks) {
    if !gateway.snapshot().settings.embedders.is_empty() {
        tasks.spawn(Arc::clone(gateway).learn(own_lane(gateway, tasks)));
    }
    // Purges and ends concern rows that were written when there was an embedder.
    tasks.spawn(gateway.meanings().clone().upkeep(gateway.journal.store().clone()));
}

/// Starts what asks candidates in the shadow stages of rollouts.
pub(super) fn shadow(gateway: &Arc<Gateway>, tasks: &Tasks) {
    tasks.spawn(Arc::clone(gateway).shadow(own_lane(gateway, tasks)));
}

/// A way to providers for what the gateway asks on its own behalf.
fn own_lane(gateway: &Gateway, tasks: &Tasks) -> Lane {
    let live = Arc::new(LiveTransport::new(MAX_IDLE_CONNECTIONS, IDLE_TIMEOUT));
    tasks.spawn(Arc::clone(&live).sweep_idle());
    let sim = Arc::new(SimTransport::new(Scenario::default()));
    // What it asks is nobody's request: it ends with the process.
    Lane { stop: Stop::default(), ..gateway.lane(Arc::new(Transports { live, sim })) }
}

fn remote(settings: &EmbedderSettings, gateway: &Gateway, tasks: &Tasks) -> Arc<dyn Embeds> {
    let lane = own_lane(gateway, tasks);
    let model = settings.model.as_deref().unwrap_or_default();
    let dimensions = settings.dimensions.unwrap_or_default() as usize;
    Arc::new(RemoteEmbedder::new(gateway, lane, model, dimensions, settings.timeout.0))
}
