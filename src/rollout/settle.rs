//! The end of a rollout that is done: when nothing is left of it to steer.

use super::rows::{count_change, settle};
use super::{RolloutLedger, Subject};
use crate::store::{self, StoreError};

// === impl RolloutLedger ===

impl RolloutLedger {
    /// Ends rollouts of routes that are done and whose control is gone from the configuration:
    /// somebody has edited the file, and should the control come back there, it is meant. For a
    /// configuration that has changed.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; they steer nothing then, and end with the next change.
    pub async fn settle_gone(&self) -> Result<(), StoreError> {
        let standing = self.standing();
        let is_gone = |subject: &Subject| !(self.shared.around.is_steerable)(subject);
        let gone: Vec<_> = standing
            .iter()
            .filter(|one| one.is_live && one.kind == "route" && one.phase == "done")
            .filter(|one| one.subject().is_some_and(|subject| is_gone(&subject)))
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        let failed = StoreError::query("end a rollout that is done");
        let mut connection = self.shared.store.writer().await?;
        let kind = self.shared.store.kind();
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        count_change(&mut transaction).await.map_err(&failed)?;
        for one in gone {
            settle(&mut transaction, &one.id).await.map_err(&failed)?;
            tracing::info!(rollout = %one.id, "a rollout that is done ends: its control is gone");
        }
        transaction.commit().await.map_err(failed)?;
        self.on_changed(&mut connection).await;
        Ok(())
    }
}
