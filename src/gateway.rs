//! The gateway: builds and owns all that lives as long as the process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::proto::MetricFamily;

use crate::cache::Cache;
use crate::callers::Callers;
use crate::clock::{Instant, WallClock};
use crate::cluster::{Cluster, ClusterState};
use crate::config::{AdmissionSettings, Current, ReloadStatus, Snapshot};
use crate::dispatch::settle::Estimator;
use crate::dispatch::{Flights, Lane, Ledger, Rolling, Stop};
use crate::embed::Embedder;
use crate::feedback::Feedback;
pub use crate::fleet::Ask;
use crate::fleet::{Fleet, Gate, NoSlot, Slot};
use crate::ids::RequestId;
use crate::jobs::Jobs;
use crate::journal::{DropReason, Journal};
use crate::limits;
use crate::meaning::Meanings;
use crate::registry::Registry;
use crate::rejection::Rejection;
use crate::rollout::{RolloutLedger, Rollouts};
use crate::runs::Runs;
use crate::store::Store;
use crate::telemetry::{Metrics, Tracer};
use crate::upstream::Transport;

mod caching;
mod compat;
mod embed;
mod idempotency;
mod jobs;
mod judge;
mod learning;
mod own;
mod rollouts;
mod shadowing;
mod streams;
mod verdicts;

pub use embed::RemoteEmbedder;
pub use idempotency::{Asked, Entered, Executions, Follower, Head, IfRunning, Work};
pub use jobs::JobRunner;
pub use judge::{Comparison, Judge, JudgeError, Judged};
use verdicts::Verdicts;

pub use streams::{Limits, Opened, Reader, Stream, Streams};

/// All that requests share.
#[derive(Debug)]
pub struct Gateway {
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Who may call.
    pub callers: Callers,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is written down.
    pub journal: Journal,
    /// What is shared with other nodes.
    pub cluster: Cluster,
    fleet: Arc<Fleet>,
    ledger: Arc<Ledger>,
    limits: Arc<limits::Limits>,
    /// Who is served at a time.
    door: Arc<Gate>,
    tracer: Option<Arc<Tracer>>,
    streams: Streams,
    executions: Executions,
    jobs: Jobs,
    registry: Registry,
    cache: Cache,
    meanings: Meanings,
    feedback: Feedback,
    flights: Flights,
    rolling: Rolling,
    rollouts: RolloutLedger,
    runs: Runs,
    verdicts: Verdicts,
    /// Set once, where the configuration can be loaded again.
    reloads: OnceLock<Current>,
    draining: AtomicBool,
    stop: Stop,
}

// === impl Gateway ===

impl Gateway {
    /// A gateway over the parts that do I/O, and the estimator that must run beside it.
    pub fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        callers: Callers,
        journal: Journal,
        wall: Arc<dyn WallClock>,
    ) -> (Arc<Self>, Estimator) {
        Self::traced(snapshot, callers, journal, wall, (None, Cluster::alone()))
    }

    /// As [`Self::new`], with each request traced by `tracer`, as one node of a `cluster`.
    pub fn traced(
        snapshot: Arc<ArcSwap<Snapshot>>,
        callers: Callers,
        journal: Journal,
        wall: Arc<dyn WallClock>,
        (tracer, cluster): (Option<Arc<Tracer>>, Cluster),
    ) -> (Arc<Self>, Estimator) {
        let metrics = Arc::new(Metrics::new());
        let cache = open_cache(&snapshot.load(), &wall, &cluster);
        let registry = registry(&snapshot, journal.store(), &wall);
        let runs = compat::runs(&snapshot, journal.store(), &wall);
        let verdicts = Verdicts {
            snapshot: Arc::clone(&snapshot),
            registry: registry.clone(),
            runs: runs.clone(),
            clock: Arc::clone(&wall),
        };
        let around = (&cluster, &cache, verdicts.clone());
        let rollouts = rollouts::ledger(&snapshot, journal.store(), around, Arc::clone(&wall));
        let rolling = Rolling::new(rollouts.rollouts().clone());
        let (ledger, estimator) = Ledger::new(
            journal.clone(),
            Arc::clone(&metrics),
            Arc::clone(&wall),
            tracer.clone(),
            rolling.clone(),
        );
        let meanings = Meanings::new(&snapshot.load().settings.cache, cache.clone());
        let retention = snapshot.load().settings.journal.retention.0;
        let store = journal.store().clone();
        let feedback = Feedback::new(store, retention, Arc::clone(&wall), Arc::clone(&metrics));
        let limits = limits::Limits::new(wall, Arc::clone(&metrics), cluster.clone());
        let fleet = Arc::new(Fleet::new(Arc::clone(&metrics)));
        fleet.share(cluster.clone());
        let jobs = Jobs::new(journal.store().clone());
        let door = fleet.gate(metrics.gates.of_process());
        let stop = Stop::default();
        let executions = executions(&journal, &metrics, &cluster).heeding(stop.clone());
        let gateway = Self {
            snapshot,
            callers,
            metrics,
            journal,
            cluster,
            fleet,
            ledger,
            limits: Arc::new(limits),
            door,
            tracer,
            streams: Streams::default().heeding(stop.clone()),
            executions,
            jobs,
            registry,
            cache,
            meanings,
            feedback,
            flights: Flights::new(stop.clone()),
            rolling,
            rollouts,
            runs,
            verdicts,
            reloads: OnceLock::new(),
            draining: AtomicBool::new(false),
            stop,
        };
        (Arc::new(gateway), estimator)
    }

    /// The request path for a data thread that has its own `transport`.
    pub fn lane(&self, transport: Arc<dyn Transport>) -> Lane {
        let (fleet, ledger) = (Arc::clone(&self.fleet), Arc::clone(&self.ledger));
        let (limits, cache) = (Arc::clone(&self.limits), self.cache.clone());
        let (meanings, flights) = (self.meanings.clone(), self.flights.clone());
        let rolling = self.rolling.clone();
        let recordings = self.runs.recordings().clone();
        let stop = self.stop.clone();
        Lane {
            fleet,
            ledger,
            limits,
            cache,
            meanings,
            flights,
            rolling,
            recordings,
            transport,
            stop,
        }
    }

    /// Sets what turns texts into vectors, by the names of the configuration. Only the first call
    /// counts.
    pub fn set_embedders(&self, embedders: BTreeMap<String, Embedder>) {
        self.meanings.set_embedders(embedders);
    }

    /// The embedder of this name, if it is there.
    pub fn embedder(&self, name: &str) -> Option<&Embedder> {
        self.meanings.embedder(name)
    }

    /// Makes decisions the same in every run, for rehearsals; to be called before the first
    /// request.
    pub fn seed(&self, seed: u64) {
        self.fleet.seed(seed);
        self.door.resalt();
    }

    /// A fresh id for a request, unlike any other.
    pub fn new_request_id(&self) -> RequestId {
        self.fleet.request_id(self.ledger.unix_ms())
    }

    /// The configuration as of now; a request keeps the one it got.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Lets [`Gateway::reload_status`] tell how reloads of the configuration go. Only the first
    /// call counts.
    pub fn watch_reloads(&self, current: Current) {
        let _ = self.reloads.set(current);
    }

    /// How reloads of the configuration went; `None` where it is never loaded again.
    pub fn reload_status(&self) -> Option<ReloadStatus> {
        self.reloads.get().map(Current::status)
    }

    /// How targets have fared.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Admits a request by what its headers tell, at once or after waiting for its turn, `within`
    /// this time at most. What is admitted has its slot until that is dropped.
    ///
    /// # Errors
    ///
    /// [`Rejection::Overloaded`] where there are too many requests, in this process or at every
    /// target; [`Rejection::DeadlinePassed`] where the
    /// request's own time ran out first.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue; no slot is lost.
    pub async fn admit(
        &self,
        ask: &Ask,
        settings: &AdmissionSettings,
        within: Duration,
    ) -> Result<Slot, Rejection> {
        self.door.set_limit(settings.max_in_flight);
        self.door.set_max_wait(settings.max_wait.0);
        if let Some(retry_after) = self.fleet.turns_away(ask, &self.snapshot.load(), Instant::now())
        {
            return Err(Rejection::Overloaded { retry_after });
        }
        self.door.enter(ask, within).await.map_err(|no_slot| match no_slot {
            NoSlot::TurnedAway { retry_after } => Rejection::Overloaded { retry_after },
            NoSlot::OutOfTime => Rejection::DeadlinePassed { within },
        })
    }

    /// Requests that were admitted and have not ended, and those that wait to be.
    pub fn admitted(&self) -> (usize, usize) {
        (self.door.in_use(), self.door.queued())
    }

    /// What callers may use.
    pub fn limits(&self) -> &Arc<limits::Limits> {
        &self.limits
    }

    /// Streams that their callers may come back to.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Requests with an `Idempotency-Key` that are being carried out.
    pub fn executions(&self) -> &Executions {
        &self.executions
    }

    /// Replies that go on, whether or not anybody reads them.
    pub fn going_on(&self) -> usize {
        self.streams.running() + self.executions.running()
    }

    /// Requests that are answered later.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Registered prompts.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Answers that are kept to be given again.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Answers that are found by what a question means.
    pub fn meanings(&self) -> &Meanings {
        &self.meanings
    }

    /// What callers say of answers.
    pub fn feedback(&self) -> &Feedback {
        &self.feedback
    }

    /// Answers on their way that others may share.
    pub fn flights(&self) -> &Flights {
        &self.flights
    }

    /// What requests are steered by, and where they leave notes.
    pub fn rollouts(&self) -> &Rollouts {
        self.rollouts.rollouts()
    }

    /// Tells rollouts how callers rate answers, for ever.
    pub async fn rate_rollouts(self: Arc<Self>) {
        rollouts::hear(self.feedback.clone(), self.rolling.rollouts.clone()).await;
    }

    /// Lets prompts know for ever with which models runs have found them compatible.
    pub async fn keep_proven(self: Arc<Self>) {
        self.verdicts.clone().keep_proven().await;
    }

    /// Rollouts in the store.
    pub fn rollout_ledger(&self) -> &RolloutLedger {
        &self.rollouts
    }

    /// Runs of compatibility suites.
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// The same, to be kept.
    pub fn shared_fleet(&self) -> Arc<Fleet> {
        Arc::clone(&self.fleet)
    }

    /// Refuses new requests from now on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Ends requests that are still under way, each with an error: as soon as it is polled.
    pub fn end_requests(&self) {
        self.stop.order();
    }

    /// Whether new requests are refused.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// All metrics as they are now.
    pub fn gather_metrics(&self) -> Vec<MetricFamily> {
        self.look_up_metrics();
        self.metrics.gather()
    }

    /// All metrics in Prometheus' text format.
    pub fn render_metrics(&self) -> String {
        self.look_up_metrics();
        self.metrics.render()
    }

    /// Sets those metrics that are counted elsewhere.
    fn look_up_metrics(&self) {
        for reason in DropReason::ALL {
            let lost = self.journal.dropped(reason);
            self.metrics.process.set_journal_dropped(reason.as_str(), lost);
        }
        self.fleet.look_up_metrics(Instant::now());
        self.limits.look_up_metrics();
        let fill = self.cache.fill();
        self.metrics.cache.entries.set(i64::try_from(fill.entries).unwrap_or(i64::MAX));
        self.metrics.cache.bytes.set(i64::try_from(fill.bytes).unwrap_or(i64::MAX));
        for (result, count) in self.cache.shared_writes() {
            self.metrics.cache.set_shared_writes(result, count);
        }
        let fill = self.meanings.fill();
        self.metrics.semantic.entries.set(i64::try_from(fill.entries).unwrap_or(i64::MAX));
        self.metrics.semantic.bytes.set(i64::try_from(fill.bytes).unwrap_or(i64::MAX));
        for (result, count) in self.meanings.writes() {
            self.metrics.semantic.set_writes(result, count);
        }
        self.look_up_retirements();
        rollouts::look_up_metrics(&self.rollouts, &self.metrics);
        let reloads = self.reload_status().unwrap_or_default();
        self.metrics.process.set_config_reloads("ok", reloads.good_reloads);
        self.metrics.process.set_config_reloads("failed", reloads.failed_reloads);
        // Prometheus keeps numbers as doubles, which are exact up to 53 bits.
        let revision = self.snapshot().revision & ((1 << 53) - 1);
        self.metrics.process.config_revision.set(i64::try_from(revision).unwrap_or_default());
        let cluster = self.cluster.health();
        let counts = (cluster.round_trips, cluster.errors);
        let is_degraded = cluster.state == ClusterState::Degraded;
        self.metrics.process.set_cluster(counts, cluster.nodes, is_degraded);
        for (reason, lost) in self.tracer.iter().flat_map(|tracer| tracer.dropped()) {
            self.metrics.process.set_spans_dropped(reason, lost);
        }
    }

    /// Sets how long models in use will be there.
    fn look_up_retirements(&self) {
        let used = self.snapshot().used_models();
        let now_s = i64::try_from(self.ledger.unix_ms() / 1_000).unwrap_or(i64::MAX);
        let dated = used.iter().filter_map(|used| {
            let day = used.model.retires_on?.at(0, 0, 0, 0);
            let time = jiff::tz::Offset::UTC.to_timestamp(day).ok()?;
            let left = time.as_second().saturating_sub(now_s);
            Some((used.provider.as_str(), used.model.name.as_str(), left))
        });
        self.metrics.models.set_retirements(dated);
    }
}

/// Requests that came with an idempotency key, here and on other nodes.
fn executions(journal: &Journal, metrics: &Arc<Metrics>, cluster: &Cluster) -> Executions {
    let executions = Executions::new(journal.store().clone(), Arc::clone(metrics));
    if !cluster.is_alone() {
        executions.share(cluster.relay().clone());
    }
    executions
}

/// The cache, at work where a route has one.
fn open_cache(snapshot: &Snapshot, wall: &Arc<dyn WallClock>, cluster: &Cluster) -> Cache {
    let cache = Cache::of_cluster(&snapshot.settings.cache, Arc::clone(wall), cluster);
    if snapshot.has_caches {
        cache.open();
    }
    cache
}

/// Registered prompts; nothing is read yet.
fn registry(
    snapshot: &Arc<ArcSwap<Snapshot>>,
    store: &Store,
    wall: &Arc<dyn WallClock>,
) -> Registry {
    let kept = snapshot.load().settings.prompts.snapshot.clone();
    let kept = Some(kept).filter(|path| !path.as_os_str().is_empty());
    Registry::new(store.clone(), Arc::clone(snapshot), kept, Arc::clone(wall))
}
