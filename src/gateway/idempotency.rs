//! Requests with an `Idempotency-Key`: carried out once, whoever asks, and however often.
//!
//! The first request with a key begins an *execution*, a task that claims the key's row in the
//! store, has the reply made and keeps it. Everybody who asks, the first caller included, *follows*
//! the execution: head and body come to all of them as they are made, from the beginning. A caller
//! who leaves stops nothing. What came of it is written to the store and replayed from there.
//!
//! Where another node carries the request out, or has done so, the execution makes nothing: it
//! waits for the row and repeats what that says; where nodes share a relay, streams are passed on
//! as they come. So a node asks the store once for a key, however many wait for it.
//!
//! Memory is bounded: a body is kept up to `max_body`, all of them up to `max_memory`. Beyond that
//! an execution keeps what its followers have yet to get, and no more can join.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use parking_lot::Mutex;

use super::streams::Budget;
use crate::cluster::Relay;
use crate::control::tasks::Tasks;
use crate::dialect::Dialect;
use crate::dispatch::{Ending, Stop};
use crate::idempotency::{Claim, Fence, IdempotencySettings, Owner, RowId, Rows};
use crate::ids::CallerId;
use crate::jobs::{Accepted, SubmitError};
use crate::journal::Reuse;
use crate::rejection::{Duplicate, Rejection};
use crate::store::Store;
use crate::telemetry::Metrics;

mod execution;
mod lead;
mod relay;

use execution::{Bounds, Execution};
pub use execution::{Follower, Head};
use lead::Lead;

/// How often rows that this process holds are renewed: three times in a lease.
const RENEWED_EVERY: Duration = Duration::from_secs(10);
/// After how many of those rows are swept and counted.
const ROUNDS_A_SWEEP: u32 = 6;

/// All executions of a gateway.
#[derive(Debug)]
pub struct Executions {
    /// Each on the runtime of the thread that its request came in on.
    tasks: Tasks,
    shared: Arc<Shared>,
    stop: Stop,
}

/// What executions share.
#[derive(Debug)]
struct Shared {
    rows: Rows,
    metrics: Arc<Metrics>,
    budget: Budget,
    live: Mutex<HashMap<RowId, Arc<Execution>>>,
    /// Set where there are other nodes.
    relay: OnceLock<Relay>,
    /// Callers that have more than half of the rows that they may have, as of the last count.
    crowds: Mutex<HashMap<CallerId, u64>>,
}

/// What a request with a key asks.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The key, whose it is, and what the request says.
    pub claim: Claim,
    /// What is to happen where it is being carried out already.
    pub if_running: IfRunning,
    /// The wire that the caller speaks.
    pub dialect: Dialect,
    /// Whether the reply comes piece by piece.
    pub streams: bool,
}

/// What is to happen to a request that is being carried out already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IfRunning {
    /// It shares in the answer.
    #[default]
    Join,
    /// It is refused.
    Conflict,
}

/// A request that can be carried out, and whose account can be settled without.
pub trait Work: Send + 'static {
    /// The reply's body.
    type Reply: Body<Data = Bytes, Error: Send> + Send + Unpin + 'static;

    /// Carries it out. `ending` is told whether the reply stands; where nothing is told, success
    /// does.
    fn carry_out(self, ending: Ending) -> impl Future<Output = Response<Self::Reply>> + Send;

    /// Settles it as one that gets the reply of another.
    fn repeat(self, reuse: Reuse, status: u16);

    /// Settles it as one that is refused.
    fn refuse(self, rejection: &Rejection);
}

/// What became of a request that came with a key.
#[derive(Debug)]
pub enum Entered<W> {
    /// It is the first: whatever becomes of it, its account is seen to.
    First(Follower),
    /// Another is being carried out, whose reply it gets.
    Joined(Follower, W),
    /// Neither.
    Refused(Rejection, W),
}

// === impl Executions ===

impl Executions {
    /// No executions yet.
    pub fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        let owner = Owner::new(format!("{:016x}", rand::random::<u64>()));
        let shared = Shared {
            rows: Rows::new(store, owner),
            metrics,
            budget: Budget::default(),
            live: Mutex::default(),
            relay: OnceLock::new(),
            crowds: Mutex::default(),
        };
        Self { tasks: Tasks::new(), shared: Arc::new(shared), stop: Stop::default() }
    }

    /// Has them end where the gateway stops.
    #[must_use]
    pub fn heeding(self, stop: Stop) -> Self {
        Self { stop, ..self }
    }

    /// Has streams passed on between nodes as they come. Only the first call counts.
    pub fn share(&self, relay: Relay) {
        let _ = self.shared.relay.set(relay);
    }

    /// Follows the execution of a key, which begins, on the current runtime, where there is none.
    pub fn enter<W: Work>(
        &self,
        asked: &Asked,
        settings: &IdempotencySettings,
        work: W,
    ) -> Entered<W> {
        let shared = &self.shared;
        let mut live = shared.live.lock();
        if let Some(execution) = live.get(&asked.claim.id) {
            return match execution.join(asked) {
                Ok(follower) => {
                    shared.metrics.requests.idempotent("joined");
                    Entered::Joined(follower, work)
                }
                Err(duplicate) => {
                    shared.metrics.requests.idempotent(word(duplicate));
                    Entered::Refused(Rejection::Duplicate(duplicate), work)
                }
            };
        }
        let bounds = Bounds {
            body: usize::try_from(settings.max_body.0).unwrap_or(usize::MAX),
            total: usize::try_from(settings.max_memory.0).unwrap_or(usize::MAX),
        };
        let execution = Arc::new(Execution::new(asked, bounds, shared.budget.clone()));
        live.insert(asked.claim.id, Arc::clone(&execution));
        let follower = execution.follow();
        drop(live);
        let (asked, settings, stop) = (asked.clone(), settings.clone(), self.stop.clone());
        let lead = Lead::new(Arc::clone(shared), execution, asked, settings, stop);
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.heeded(lead.run(work)).await });
        Entered::First(follower)
    }

    /// Whether a caller may have another key, as of the last count.
    pub fn may_have_more(&self, caller: &CallerId, settings: &IdempotencySettings) -> bool {
        !self.shared.is_crowded(caller, settings)
    }

    /// Notes what became of a request with a key that was to make a job.
    pub fn note_job(&self, caller: &CallerId, handed_in: &Result<Accepted, SubmitError>) {
        let result = match handed_in {
            Ok(Accepted::First(_)) => {
                self.shared.count(caller);
                "executed"
            }
            Ok(Accepted::Again(_)) => "replayed",
            Err(SubmitError::Duplicate(duplicate)) => word(*duplicate),
            Err(SubmitError::Store(_)) => word(Duplicate::Unavailable),
            // The key is as free as before.
            Err(
                SubmitError::Full { .. }
                | SubmitError::NoRoom { .. }
                | SubmitError::TooManyReceivers { .. },
            ) => "forgotten",
        };
        self.shared.metrics.requests.idempotent(result);
    }

    /// How many go on.
    pub fn running(&self) -> usize {
        self.tasks.len()
    }

    /// What their bodies take, in bytes.
    pub fn bytes(&self) -> usize {
        self.shared.budget.used()
    }

    /// Keeps rows from being taken over, for the length of a lease.
    pub async fn renew(&self) {
        self.shared.renew().await;
    }

    /// Deletes rows whose time is over, and counts those that are left.
    pub async fn sweep(&self, settings: &IdempotencySettings) {
        self.shared.sweep(settings).await;
    }

    /// Keeps rows from being taken over while their executions go on, and deletes those whose time
    /// is over, for as long as the future is polled.
    pub async fn upkeep(&self, settings: impl Fn() -> IdempotencySettings) {
        for round in 0_u32.. {
            tokio::time::sleep(RENEWED_EVERY).await;
            self.renew().await;
            if round % ROUNDS_A_SWEEP == 0 {
                self.sweep(&settings()).await;
            }
        }
    }
}

// === impl Shared ===

impl Shared {
    async fn renew(&self) {
        let held: HashMap<Fence, Arc<Execution>> = {
            let live = self.live.lock();
            let held = live.values().filter_map(|it| Some((it.fence()?, Arc::clone(it))));
            held.collect()
        };
        let fences: Vec<Fence> = held.keys().copied().collect();
        match self.rows.renew(&fences).await {
            Ok(lost) => {
                for fence in lost {
                    if let Some(execution) = held.get(&fence) {
                        execution.lose();
                    }
                }
            }
            Err(error) => {
                tracing::warn!("idempotency keys were not renewed: {}", error.chain());
            }
        }
    }

    async fn sweep(&self, settings: &IdempotencySettings) {
        let swept = self.rows.sweep().await;
        let crowds = self.rows.crowds(settings.max_keys_per_caller / 2).await;
        match (swept, crowds) {
            (Ok(swept), Ok(crowds)) => {
                tracing::debug!(rows = swept, "idempotency keys swept");
                *self.crowds.lock() = crowds.into_iter().collect();
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::debug!("idempotency keys were not swept: {}", error.chain());
            }
        }
    }

    /// Whether this caller has as many keys as it may have.
    fn is_crowded(&self, caller: &CallerId, settings: &IdempotencySettings) -> bool {
        let crowds = self.crowds.lock();
        crowds.get(caller).is_some_and(|count| *count >= u64::from(settings.max_keys_per_caller))
    }

    /// Counts a key that a caller has got since the last count.
    fn count(&self, caller: &CallerId) {
        if let Some(count) = self.crowds.lock().get_mut(caller) {
            *count += 1;
        }
    }

    /// No more follow an execution.
    fn leave(&self, id: RowId, execution: &Arc<Execution>) {
        let mut live = self.live.lock();
        if live.get(&id).is_some_and(|it| Arc::ptr_eq(it, execution)) {
            live.remove(&id);
        }
    }
}

/// The word for metrics.
const fn word(duplicate: Duplicate) -> &'static str {
    match duplicate {
        Duplicate::Mismatch => "mismatch",
        Duplicate::InProgress => "conflict",
        Duplicate::TooLarge => "too_large",
        Duplicate::Unavailable => "unavailable",
        Duplicate::TooMany => "too_many",
    }
}
