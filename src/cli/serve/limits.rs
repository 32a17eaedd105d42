//! What callers have used: kept up while the gateway runs, and restored when it starts.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{SystemWallClock, WallClock as _};
use crate::control::tasks::Tasks;
use crate::gateway::Gateway;

/// How long the start waits for what limits have used, and how often that is tried again.
const RESTORE_WITHIN: Duration = Duration::from_secs(2);
const RESTORE_EVERY: Duration = Duration::from_secs(1);

/// Starts what runs beside limits, and restores them.
pub(super) async fn start(gateway: &Arc<Gateway>, tasks: &Tasks) {
    let limits = Arc::clone(gateway.limits());
    tasks.spawn(async move { limits.upkeep().await });
    restore(gateway, tasks).await;
}

/// Counts what earlier runs have used of limits. A store that is away must not hold up the start: then
/// that is done as soon as it is back.
async fn restore(gateway: &Arc<Gateway>, tasks: &Tasks) {
    let began_ms = SystemWallClock.unix_ms();
    let restored = {
        let gateway = Arc::clone(gateway);
        async move {
            let (limits, snapshot) = (gateway.limits(), gateway.snapshot());
            while let Err(error) = limits.restore(&gateway.journal, &snapshot, began_ms).await {
                tracing::warn!("what limits have used cannot be read yet: {error}");
                tokio::time::sleep(RESTORE_EVERY).await;
            }
        }
    };
    let (done, restoring) = tokio::sync::oneshot::channel();
    tasks.spawn(async move {
        restored.await;
        // An error means that the start did not wait for it.
        let _ = done.send(());
    });
    let _ = tokio::time::timeout(RESTORE_WITHIN, restoring).await;
}
