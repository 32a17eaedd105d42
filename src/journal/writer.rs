//! The other end of the queue: batches, retries, and the run's own record.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Entry, Shared};
use crate::clock::WallClock;
use crate::store::Store;
use crate::units::HumanDuration;

/// Takes entries from the queue and writes them. One per journal.
#[derive(Debug)]
pub struct JournalWriter {
    pub(super) entries: mpsc::Receiver<Entry>,
    pub(super) shared: Arc<Shared>,
    pub(super) store: Store,
    pub(super) clock: Arc<dyn WallClock>,
    pub(super) retention: HumanDuration,
}
