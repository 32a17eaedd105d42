//! The record of every request, written behind a bounded queue.
//!
//! The request path calls [`Journal::accepted`] when it admits a request and [`Journal::record`]
//! when the request has ended, whatever the ending. Both are a few atomic operations: no lock, no
//! wait, no system call. When the queue is full the entry is dropped and counted, because a slow
//! disk must never slow a request.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, watch};

use crate::clock::WallClock;
use crate::store::Store;
use crate::units::HumanDuration;

mod entry;
mod writer;

pub use entry::{EndpointKind, Entry, Outcome};
pub use writer::JournalWriter;

/// How much the journal holds, and for how long.
///
/// ```toml
/// [journal]
/// queue_entries = 65_536
/// retention = "90d"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournalSettings {
    /// Entries that wait for the disk before new ones are dropped. From 1,000 to 10,000,000; each
    /// takes about half a kilobyte while it waits.
    pub queue_entries: u32,
    /// How long a request stays in the journal. At least an hour.
    pub retention: HumanDuration,
}

/// The journal, as the request path and the edges see it. Clones are the same journal.
#[derive(Clone)]
pub struct Journal {
    queue: mpsc::Sender<Entry>,
    shared: Arc<Shared>,
}

/// Why an entry was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The queue was full: the store has been slower than the traffic for too long.
    QueueFull,
    /// The journal had been shut down.
    Closed,
    /// The store did not take it before the journal had to shut down.
    Unwritten,
}

/// How the journal is doing, for `/health` and metrics. Counts are of this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JournalHealth {
    /// Requests admitted.
    pub accepted: u64,
    /// Entries that are in the store.
    pub written: u64,
    /// Entries that never will be.
    pub dropped: u64,
    /// Entries that wait.
    pub queued: u64,
    /// Whether the store takes nothing at the moment.
    pub degraded: bool,
    /// What went wrong the last time, while `degraded`.
    pub last_error: Option<String>,
}

/// What both sides of the queue look at.
#[derive(Debug, Default)]
struct Shared {
    accepted: AtomicU64,
    queued_in: AtomicU64,
    dropped: [AtomicU64; 3],
    /// Entries taken from the queue and dealt with, written or lost.
    settled: watch::Sender<u64>,
    written: AtomicU64,
    /// Wakes the writer before its next tick.
    wake: Notify,
    closing: AtomicBool,
    /// Set while writes fail. Touched by the writer and by whoever asks for health.
    trouble: Mutex<Option<String>>,
}

/// The writer is woken when this many entries have come in since the last time, so that a burst
/// does not fill the queue between two ticks.
const WAKE_EVERY: u64 = 1_000;

// === impl JournalSettings ===

impl Default for JournalSettings {
    fn default() -> Self {
        Self { queue_entries: 65_536, retention: HumanDuration::secs(90 * 86_400) }
    }
}

// === impl Journal ===

impl Journal {
    /// A journal in `store`, and the writer that must run beside it.
    pub fn new(
        settings: &JournalSettings,
        store: Store,
        clock: Arc<dyn WallClock>,
    ) -> (Self, JournalWriter) {
        // Bounded; full means drop and count, see `record`. The memory is taken as it fills.
        let (queue, entries) = mpsc::channel(settings.queue_entries.max(1) as usize);
        let shared = Arc::new(Shared::default());
        let journal = Self { queue, shared: Arc::clone(&shared) };
        let retention = settings.retention;
        (journal, JournalWriter { entries, shared, store, clock, retention })
    }

    /// Notes that a request was admitted. Every request that will be recorded is noted first, so
    /// that the two counts meet again when nothing is in flight.
    pub fn accepted(&self) {
        self.shared.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the record of a request that has ended. Never waits; when the queue is full the entry
    /// is dropped and counted.
    pub fn record(&self, mut entry: Entry) {
        entry.bound();
        match self.queue.try_send(entry) {
            Ok(()) => {
                let count = self.shared.queued_in.fetch_add(1, Ordering::Relaxed) + 1;
                // The writer polls and does not wait on the queue, so that an entry costs no
                // wake-up across threads; only every so many entries do.
                if count.is_multiple_of(WAKE_EVERY) {
                    self.shared.wake.notify_one();
                }
            }
            Err(mpsc::error::TrySendError::Full(_)) => self.shared.lose(DropReason::QueueFull, 1),
            Err(mpsc::error::TrySendError::Closed(_)) => self.shared.lose(DropReason::Closed, 1),
        }
    }

    /// Waits until every entry that was recorded before this call is written or lost.
    pub async fn flush(&self) {
        let target = self.shared.queued_in.load(Ordering::Relaxed);
        let mut settled = self.shared.settled.subscribe();
        self.shared.wake.notify_one();
        // The sender lives in `shared`, which `self` holds, so this cannot fail.
        let _ = settled.wait_for(|settled| *settled >= target).await;
    }

    /// Asks the writer to write what waits and to end.
    pub fn shut_down(&self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }

    /// How the journal is doing.
    pub fn health(&self) -> JournalHealth {
        let shared = &self.shared;
        let settled = *shared.settled.borrow();
        let last_error = shared.trouble.lock().clone();
        JournalHealth {
            accepted: shared.accepted.load(Ordering::Relaxed),
            written: shared.written.load(Ordering::Relaxed),
            dropped: DropReason::ALL.iter().map(|reason| self.dropped(*reason)).sum(),
            queued: shared.queued_in.load(Ordering::Relaxed).saturating_sub(settled),
            degraded: last_error.is_some(),
            last_error,
        }
    }

    /// Entries dropped for one reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.shared.dropped[reason as usize].load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("shared", &self.shared).finish_non_exhaustive()
    }
}

// === impl DropReason ===

impl DropReason {
    /// All reasons, in the order of declaration.
    pub const ALL: [Self; 3] = [Self::QueueFull, Self::Closed, Self::Unwritten];

    /// The word for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Closed => "closed",
            Self::Unwritten => "unwritten",
        }
    }
}

// === impl Shared ===

impl Shared {
    fn lose(&self, reason: DropReason, entries: u64) {
        self.dropped[reason as usize].fetch_add(entries, Ordering::Relaxed);
    }
}
