//! Asks candidates what callers have asked, in the shadow stages of rollouts.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::Gateway;
use super::jobs::new_request_id;
use crate::control::tasks::Tasks;
use crate::dispatch::Lane;

/// Requests at a time.
const AT_A_TIME: usize = 8;

impl Gateway {
    /// Asks candidates all that requests leave to be asked again, over `lane`, for ever. Only the
    /// first call does anything.
    pub async fn shadow(self: Arc<Self>, lane: Lane) {
        let Some(mut shadowed) = self.rolling.shadows.take() else { return };
        let (tasks, room) = (Tasks::new(), Arc::new(Semaphore::new(AT_A_TIME)));
        while let Some(next) = shadowed.recv().await {
            // Nobody closes it.
            let Ok(turn) = Arc::clone(&room).acquire_owned().await else { return };
            let (by, lane) = ((self.snapshot(), self.registry.prompts()), lane.clone());
            tasks.spawn(async move {
                if let Err(why) = lane.shadow(next, new_request_id(), by).await {
                    tracing::warn!("a candidate cannot be asked in its shadow stage: {why}");
                }
                drop(turn);
            });
        }
    }
}
