//! What runs beside rollouts: reading them, writing what is noted, leading the analysis.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::until;
use crate::config::Current;
use crate::control::tasks::Tasks;
use crate::gateway::Gateway;
use crate::rollout::{Leader, Notebook, RolloutLedger};

/// What has to end in order.
pub(super) struct Rolling {
    close: watch::Sender<bool>,
    ending: [AbortHandle; 2],
}

/// How long the start waits for the store, and the end for what is not written yet.
const READ_WITHIN: Duration = Duration::from_secs(2);
const WRITE_WITHIN: Duration = Duration::from_secs(2);

/// Starts all of it. The shares are known when this returns, if the store or the snapshot has them.
pub(super) async fn start(gateway: &Arc<Gateway>, current: &Current, tasks: &Tasks) -> Rolling {
    let ledger = gateway.rollout_ledger().clone();
    // The loop says what went wrong.
    let _ = tokio::time::timeout(READ_WITHIN, ledger.load()).await;
    let (close, closing) = watch::channel(false);
    tasks.spawn(ledger.clone().run());
    tasks.spawn(Arc::clone(gateway).rate_rollouts());
    tasks.spawn(Arc::clone(gateway).keep_proven());
    tasks.spawn(steer_anew(ledger.clone(), current.clone()));
    let notebook = Notebook::new(ledger.clone()).run(closing.clone());
    let look = Arc::clone(gateway);
    let leading =
        Leader::new(ledger).run(closing, move || look.snapshot().settings.rollouts.clone());
    Rolling { close, ending: [tasks.spawn(notebook), tasks.spawn(leading)] }
}

/// What can be steered is different with each configuration.
async fn steer_anew(ledger: RolloutLedger, mut current: Current) {
    while current.changed().await {
        if let Err(error) = ledger.settle_gone().await {
            tracing::warn!(error = %error.chain(), "rollouts that are done are not ended yet");
        }
        ledger.steer();
    }
}

impl Rolling {
    /// Writes what is left and lets another node lead. A store that is away must not hold up the
    /// stop.
    pub(super) async fn stop(self) {
        let _ = self.close.send(true);
        let ended = until(|| self.ending.iter().all(AbortHandle::is_finished));
        let _ = tokio::time::timeout(WRITE_WITHIN, ended).await;
    }
}
