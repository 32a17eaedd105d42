//! Runs of compatibility suites as the store has them: what is to be compared, every answer as it
//! comes, and the verdict.
//!
//! A run is a row that says what it asks of whom; its samples are rows that are written as they
//! come. So a run that is interrupted, by whatever, goes on where it was: what has a row is not
//! asked again. The primary key of samples is what rules out a second one.
//!
//! One node at a time makes runs. What it writes of them it writes on the condition that it still
//! is the one, see [`store::lease`](crate::store); what operators write, they write on the
//! condition that the run is not over.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::WallClock;
use crate::store::Store;

mod drift;
mod error;
mod judging;
mod ledger;
mod matrix;
mod nights;
mod record;
mod recordings;
mod replies;
mod row;
mod samples;
mod schedule;
mod settings;
mod suites;
#[cfg(test)]
mod tests;
mod work;

pub use error::RunsError;
use judging::Hatch;
pub(crate) use judging::Judging;
pub use ledger::{RunFilter, Tested};
pub use nights::Night;
pub use record::{NewRun, RunKind, RunRecord, RunState, SampleRow, SuiteRow};
pub(crate) use recordings::{Captured, MAX_ANSWER_BYTES, Slot};
pub use recordings::{NewRecording, Recorded, RecordingState, Recordings};
pub use replies::Calibration;
pub use samples::SamplePlace;
pub(crate) use samples::{Committed, DoneSample, NewSample, Reuse};
pub use schedule::Schedule;
pub use settings::{CompatSettings, GateRequirement, GateSettings, JudgeSettings, MatrixSettings};
pub use suites::NewSuite;
pub(crate) use work::{Ending, Progress};

/// All runs and suites. Clones are the same.
#[derive(Clone)]
pub struct Runs {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    clock: Arc<dyn WallClock>,
    around: RunSurroundings,
    /// A run was begun or ended through this process.
    changed_here: Notify,
    /// What judges are to be asked besides runs.
    hatch: Hatch,
    recordings: Recordings,
}

/// What runs ask the rest of the gateway.
pub struct RunSurroundings {
    /// The suites of files, as they are now.
    pub suites: Box<dyn Fn() -> Vec<SuiteRow> + Send + Sync>,
    /// The section `[compat]`, as it is now.
    pub settings: Box<dyn Fn() -> CompatSettings + Send + Sync>,
}

// === impl Runs ===

impl Runs {
    /// Runs in `store`. Nothing is opened.
    pub fn new(store: Store, clock: Arc<dyn WallClock>, around: RunSurroundings) -> Self {
        let (changed_here, hatch) = (Notify::new(), Hatch::new());
        let recordings = Recordings::default();
        let shared = Shared { store, clock, around, changed_here, hatch, recordings };
        Self { shared: Arc::new(shared) }
    }

    /// The section `[compat]`, as it is now.
    pub fn settings(&self) -> CompatSettings {
        (self.shared.around.settings)()
    }

    /// Waits until a run was begun or ended through this process. Others are found by looking. For
    /// one listener.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: what came first is seen by the next call.
    pub async fn changed_here(&self) {
        self.shared.changed_here.notified().await;
    }

    /// Milliseconds since 1970, by the clock that rows are written by.
    pub(crate) fn now_ms(&self) -> u64 {
        self.shared.clock.unix_ms()
    }

    /// The store, for who leads.
    pub(crate) fn store(&self) -> &Store {
        &self.shared.store
    }

    fn ago_ms(&self, duration: Duration) -> u64 {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.now_ms().saturating_sub(ms)
    }
}

impl fmt::Debug for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runs").field("store", &self.shared.store).finish_non_exhaustive()
    }
}

// === impl RunSurroundings ===

impl RunSurroundings {
    /// No files, and settings that nobody has changed.
    pub fn none() -> Self {
        Self { suites: Box::new(Vec::new), settings: Box::new(CompatSettings::default) }
    }
}

impl fmt::Debug for RunSurroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunSurroundings").finish_non_exhaustive()
    }
}
