//! The only place that starts tasks, so that every task has an owner who can wait for it or end it.

use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};

/// Tasks of one runtime. Dropping it ends them all.
#[derive(Debug, Default)]
pub struct Tasks {
    running: Mutex<JoinSet<()>>,
}

// === impl Tasks ===

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task on the current runtime.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut running = self.running.lock();
        // Ended tasks are let go of as new ones come, so that the set is as large as what runs.
        while running.try_join_next().is_some() {}
        running.spawn(task)
    }

    /// How many have not ended.
    pub fn len(&self) -> usize {
        let mut running = self.running.lock();
        while running.try_join_next().is_some() {}
        running.len()
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until all have ended that were running when this was called.
    ///
    /// # Cancel safety
    ///
    /// Tasks that had not ended are aborted when the future is dropped.
    pub async fn wait(&self) {
        let mut running = std::mem::take(&mut *self.running.lock());
        while running.join_next().await.is_some() {}
    }
}
