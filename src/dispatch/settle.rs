//! The account of a request: opened when it is admitted, settled exactly once, however it ends.
//!
//! An [`Account`] that is dropped unsettled belongs to a caller who left, so it settles itself as
//! abandoned. Where the provider said how many tokens there were, the entry goes to the journal at
//! once; where it did not (a cut stream, a caller who left), they are estimated off the data
//! threads first.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Rolling;
use super::trace::{Finished, Trace};
use crate::callers::Caller;
use crate::chat::Usage;
use crate::clock::{Instant, WallClock};
use crate::dialect::Dialect;
use crate::ids::{RequestId, RouteName, TargetId};
use crate::journal::{EndpointKind, Entry, Journal, Reuse};
use crate::telemetry::{Metrics, TargetMetrics, Tracer};

mod account;
mod ending;
mod estimate;
mod seam;
mod shorten;
mod waste;

pub use account::Account;
pub use ending::Ending;
pub use estimate::Estimator;
use estimate::{Job, MAX_WAITING_ESTIMATES, Waiting};
pub(super) use waste::Why;

/// Where accounts are settled.
#[derive(Debug)]
pub struct Ledger {
    journal: Journal,
    metrics: Arc<Metrics>,
    wall: Arc<dyn WallClock>,
    rolling: Rolling,
    /// `None` where traces are not exported.
    tracer: Option<Arc<Tracer>>,
    /// Bounded; full means the estimate is made by length, see [`MAX_WAITING_ESTIMATES`].
    estimates: mpsc::Sender<Job>,
    /// Bounded in bytes, too.
    waiting: Waiting,
}

// === impl Ledger ===

impl Ledger {
    /// A ledger, and the estimator that must run beside it.
    pub fn new(
        journal: Journal,
        metrics: Arc<Metrics>,
        wall: Arc<dyn WallClock>,
        tracer: Option<Arc<Tracer>>,
        rolling: Rolling,
    ) -> (Arc<Self>, Estimator) {
        let (estimates, waiting) = mpsc::channel(MAX_WAITING_ESTIMATES);
        let ledger = Arc::new(Self {
            journal,
            metrics,
            wall,
            rolling,
            tracer,
            estimates,
            waiting: Waiting::default(),
        });
        (Arc::clone(&ledger), Estimator::new(waiting, ledger))
    }

    /// Opens the account of a request that came in at `received`.
    pub fn open(
        self: &Arc<Self>,
        request_id: RequestId,
        caller: &Caller,
        kind: EndpointKind,
        dialect: Dialect,
        received: Instant,
    ) -> Account {
        self.journal.accepted();
        let mut entry = Entry::begin(request_id, caller.id.clone(), kind, dialect);
        entry.started_at_ms = self.wall.unix_ms();
        Account::new(Arc::clone(self), entry, received)
    }

    /// Seconds since 1970.
    pub fn unix_seconds(&self) -> u64 {
        self.wall.unix_seconds()
    }

    /// Milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        self.wall.unix_ms()
    }

    /// What is counted.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Counts and writes an entry that is complete.
    fn close(&self, entry: Entry, trace: Option<Box<Trace>>) {
        let metrics = &self.metrics;
        // Requests that got the reply of another are told apart: nobody worked for them.
        let outcome = entry.reuse.map_or(entry.outcome.as_str(), Reuse::as_str);
        metrics.requests.ended(entry.endpoint.as_str(), outcome, entry.error_code.unwrap_or(""));
        if entry.reuse.is_none() {
            metrics.requests.request_seconds.observe(entry.latency.as_secs_f64());
            metrics.requests.overhead_seconds.observe(entry.overhead.as_secs_f64());
        }
        metrics.requests.degraded(entry.degradation);
        if let Some(first_token) = entry.first_token {
            metrics.requests.first_token_seconds.observe(first_token.as_secs_f64());
        }
        tracing::debug!(
            request.id = %entry.request_id,
            caller.id = %entry.caller,
            endpoint = entry.endpoint.as_str(),
            route = entry.route.as_ref().map(RouteName::as_str),
            target.id = entry.target.as_ref().map(TargetId::as_str),
            outcome = entry.outcome.as_str(),
            status = entry.status,
            attempts = entry.attempts,
            latency_ms = entry.latency.as_secs_f64() * 1e3,
            first_token_ms = entry.first_token.map(|first| first.as_secs_f64() * 1e3),
            overhead_us = entry.overhead.as_secs_f64() * 1e6,
            input_tokens = entry.usage.total_input(),
            output_tokens = entry.usage.total_output(),
            "request ended"
        );
        if let (Some(tracer), Some(trace)) = (&self.tracer, trace.filter(|trace| trace.is_kept())) {
            tracer.record(Box::new(Finished { trace, entry: entry.clone() }));
        }
        self.rolling.on_ended(&entry);
        self.journal.record(entry);
    }

    /// Counts how fast tokens came after the first one, where there were others.
    fn observe_pace(&self, took: Duration, usage: &Usage, metrics: &TargetMetrics) {
        let Some(gaps) = usage.total_output().checked_sub(1).filter(|gaps| *gaps > 0) else {
            return;
        };
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
        let gap = took.as_secs_f64() / gaps as f64;
        metrics.per_token_seconds.observe(gap);
        self.metrics.requests.between_tokens_seconds.observe(gap);
    }
}
