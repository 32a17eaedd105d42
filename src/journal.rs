//! The record of every request, written behind a bounded queue.
//!
//! The request path calls [`Journal::accepted`] when it admits a request and [`Journal::record`]
//! when the request has ended, whatever the ending. Both are a few atomic operations: no lock, no
//! wait, no system call. When the queue is full the entry is dropped and counted, because a slow
//! disk must never slow a request.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, watch};

use crate::clock::{WallClock, rfc3339};
use crate::store::Store;
use crate::units::HumanDuration;

mod alike;
mod entry;
mod query;
mod row;
mod session;
mod spent;
#[cfg(test)]
mod tests;
mod usage;
mod writer;

pub use entry::{EndpointKind, Entry, Outcome, Part, Reuse, Waste};
pub use query::{RequestFilter, StoredRequest};
pub use spent::Spent;
pub use usage::{UsageKey, UsageSum};
pub use writer::JournalWriter;

/// How much the journal holds, and for how long.
///
/// ```toml
/// [journal]
/// queue_entries = 65_536
/// flush_interval = "250ms"
/// retention = "90d"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournalSettings {
    /// Entries that may wait to be written, 1000 to 10000000; each takes about half a kilobyte.
    /// When the queue is full, entries are dropped and counted; a request never waits.
    #[schemars(range(min = 1_000, max = 10_000_000))]
    pub queue_entries: u32,
    /// How long an entry waits before it is written, when all is well. From 10ms to 1s: a second is
    /// what is promised of a kill.
    pub flush_interval: HumanDuration,
    /// How long a request stays in the journal. At least an hour, or 0s: for ever.
    pub retention: HumanDuration,
}

/// The journal, as the request path and the edges see it. Clones are the same journal.
#[derive(Clone)]
pub struct Journal {
    queue: mpsc::Sender<Entry>,
    shared: Arc<Shared>,
    store: Store,
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
    /// The store takes others, but not this one.
    Refused,
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
    /// Earlier runs that were killed and that this one found.
    pub lost_runs: Vec<LostRun>,
}

/// A run of the gateway that was killed, and what cannot be known about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostRun {
    /// Its number.
    pub run: u64,
    /// When it began, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// When it wrote for the last time. Requests admitted after this are in no count; while
    /// requests came in it wrote at every flush interval.
    pub flushed_at_ms: u64,
    /// Requests it had admitted by then and whose end is not in the journal.
    pub unknown: u64,
}

/// What both sides of the queue look at.
#[derive(Debug, Default)]
struct Shared {
    accepted: AtomicU64,
    queued_in: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
    /// Entries taken from the queue and dealt with, written or lost.
    settled: watch::Sender<u64>,
    written: AtomicU64,
    /// Wakes the writer before its next tick.
    wake: Notify,
    closing: AtomicBool,
    /// Set while writes fail.
    trouble: watch::Sender<Option<String>>,
    lost_runs: Mutex<Vec<LostRun>>,
    /// This run's number, once the store has given it one, and the ids of its entries.
    run: Mutex<Option<(i64, row::Ids)>>,
}

/// The writer is woken when this many entries have come in since the last time, so that a burst
/// does not fill the queue between two ticks.
const WAKE_EVERY: u64 = 1_000;
/// The shortest interval that is not busy waiting, and the longest that keeps the promise.
const FLUSH_INTERVALS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

// === impl JournalSettings ===

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            queue_entries: 65_536,
            flush_interval: HumanDuration::millis(250),
            retention: HumanDuration::secs(90 * 86_400),
        }
    }
}

impl JournalSettings {
    /// What the types cannot rule out: the key, and what it must be.
    pub fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let mut problems = Vec::new();
        if !(FLUSH_INTERVALS.0..=FLUSH_INTERVALS.1).contains(&self.flush_interval.0) {
            problems.push(("flush_interval", "must be 10ms to 1s"));
        }
        if !self.retention.0.is_zero() && self.retention < HumanDuration::secs(3_600) {
            problems.push(("retention", "must be at least 1h, or 0s to keep entries for ever"));
        }
        problems
    }
}

// === impl Journal ===

impl Journal {
    /// Where it is kept.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A journal in `store`, and the writer that must run beside it.
    pub fn new(
        settings: &JournalSettings,
        store: Store,
        clock: Arc<dyn WallClock>,
    ) -> (Self, JournalWriter) {
        // Bounded; full means drop and count, see `record`. The memory is taken as it fills.
        let (queue, entries) = mpsc::channel(settings.queue_entries.max(1) as usize);
        let shared = Arc::new(Shared::default());
        let journal = Self { queue, shared: Arc::clone(&shared), store: store.clone() };
        let writer = JournalWriter {
            entries,
            shared,
            store,
            clock,
            flush_interval: settings.flush_interval.0.clamp(FLUSH_INTERVALS.0, FLUSH_INTERVALS.1),
            retention: settings.retention.0,
            session: None,
            batch: Vec::new(),
            accepted_written: 0,
            next_sweep: None,
        };
        (journal, writer)
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
        let last_error = shared.trouble.borrow().clone();
        JournalHealth {
            accepted: shared.accepted(),
            written: shared.written(),
            dropped: shared.dropped_total(),
            queued: shared.queued_in.load(Ordering::Relaxed).saturating_sub(settled),
            degraded: last_error.is_some(),
            last_error,
            lost_runs: shared.lost_runs.lock().clone(),
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
    pub const ALL: [Self; 4] = [Self::QueueFull, Self::Closed, Self::Unwritten, Self::Refused];

    /// The word for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Closed => "closed",
            Self::Unwritten => "unwritten",
            Self::Refused => "refused",
        }
    }
}

// === impl Shared ===

impl Shared {
    fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn dropped_total(&self) -> u64 {
        self.dropped.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn lose(&self, reason: DropReason, entries: u64) {
        self.dropped[reason as usize].fetch_add(entries, Ordering::Relaxed);
    }

    fn on_written(&self, written: u64, refused: u64) {
        self.written.fetch_add(written, Ordering::Relaxed);
        self.lose(DropReason::Refused, refused);
        self.settled.send_modify(|settled| *settled += written + refused);
    }

    fn on_lost_runs(&self, lost: Vec<LostRun>) {
        for run in &lost {
            tracing::warn!(
                run = run.run,
                unknown = run.unknown,
                flushed_at = %rfc3339(run.flushed_at_ms),
                "an earlier run was killed, or another gateway writes to the same SQLite file; how \
                 this many of its requests ended is unknown, besides those it admitted after its \
                 last write"
            );
        }
        self.lost_runs.lock().extend(lost);
    }
}
