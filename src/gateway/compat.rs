//! Makes compatibility runs: asks both sides, has the answers judged, looks at what has come.
//!
//! One node at a time makes runs, by a lease that it holds only while there is something to do.
//! Runs that wait are made a few at a time, those that somebody asked for first. They ask over the
//! gateway's own way to providers, at the lowest priority, past the cache, at a pace that all of
//! them share and within their share of what targets are known to allow. Every answer is written
//! when it is graded; whatever interrupts a run, the next leader asks what is missing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::Gateway;
use super::own::Own;
use crate::cache::{CacheMode, CacheWish};
use crate::clock::{Instant, WallClock};
use crate::compat::verdict::Verdict;
use crate::config::Snapshot;
use crate::control::tasks::Tasks;
use crate::dispatch::Lane;
use crate::embed::Embedder;
use crate::runs::{Ending, RunKind, RunRecord, RunState, RunSurroundings, Runs};
use crate::store::lease::{Holding, Lease};
use crate::store::{Store, StoreError};
use crate::units::Priority;

mod asking;
mod bench;
mod drifting;
mod labels;
mod making;
mod nights;
mod pace;
mod plan;
mod purse;
mod reading;
mod sampling;
mod simulated;
mod table;

use asking::Asking;
use nights::Nights;
use pace::Pace;

/// The row of whoever leads.
const LEASE: &str = "compat";
/// How often the leader looks after runs, and how often others do.
const STEP: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_secs(2);
/// After how long without the store a leader stops asking: others may lead then.
const GIVE_UP: Duration = Duration::from_millis(2_500);
/// Runs that are made at a time.
const RUNS_AT_A_TIME: usize = 4;
/// How often a run is begun anew that ended without an end, by a fault of ours.
const MOST_FALLS: u32 = 3;
/// How often old answers are deleted.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// How often each node reads what has drifted: another may have found it.
const SHOWN_EVERY: Duration = Duration::from_secs(60);
/// The first and the longest pause after the store failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What all runs share.
#[derive(Debug)]
struct Engine {
    gateway: Arc<Gateway>,
    runs: Runs,
    /// Asks the sides.
    asking: Asking,
    /// Asks judges.
    judging: Asking,
    /// Embeds for runs of simulated models.
    simulated: Embedder,
    pace: Arc<Pace>,
    /// A run has ended here.
    ended: Notify,
    /// Those that have ended as they should, or were left to others.
    left: Mutex<HashSet<String>>,
}

/// What leads, while there is something to do.
struct Leader {
    engine: Arc<Engine>,
    lease: Lease,
    /// When the lease was last known to be held.
    held_at: Instant,
    nights: Nights,
    running: HashMap<String, AbortHandle>,
    /// How often a run ended without an end.
    falls: HashMap<String, u32>,
    swept: Option<Instant>,
    /// When it was last shown what has drifted.
    shown: Option<Instant>,
    tasks: Tasks,
}

/// Runs in the store; nothing is read yet.
pub(super) fn runs(
    snapshot: &Arc<ArcSwap<Snapshot>>,
    store: &Store,
    wall: &Arc<dyn WallClock>,
) -> Runs {
    let (files, current) = (Arc::clone(snapshot), Arc::clone(snapshot));
    let around = RunSurroundings {
        suites: Box::new(move || files.load().suites.values().map(|one| one.row.clone()).collect()),
        settings: Box::new(move || current.load().settings.compat.clone()),
    };
    Runs::new(store.clone(), Arc::clone(wall), around)
}

impl Gateway {
    /// Makes compatibility runs over `lane`, whenever no other node does, until told to stop.
    pub async fn make_runs(self: Arc<Self>, lane: Lane, closing: watch::Receiver<bool>) {
        let engine = Engine::new(self, lane);
        let besides = Tasks::new();
        besides.spawn(labels::judge_labels(Arc::clone(&engine)));
        Leader::new(engine).lead(closing).await;
    }
}

// === impl Engine ===

impl Engine {
    fn new(gateway: Arc<Gateway>, lane: Lane) -> Arc<Self> {
        // Runs want fresh answers, and an answer to them is nobody else's.
        let off = CacheWish { mode: Some(CacheMode::Off), no_store: true, ..CacheWish::default() };
        let own = |purpose, lane| Own::new(&gateway, lane, purpose, Priority::LOWEST, off);
        let (runs, pace) = (gateway.runs().clone(), Arc::new(Pace::new()));
        let asking =
            |purpose| Asking::new(own(purpose, lane.clone()), Arc::clone(&pace), runs.clone());
        let (judging, asking) = (asking("compat-judge"), asking("compat"));
        let simulated = simulated::embedder(&gateway, lane);
        let (ended, left) = (Notify::new(), Mutex::default());
        Arc::new(Self { runs, asking, judging, simulated, pace, ended, left, gateway })
    }

    /// Says how a run ended.
    fn tell(&self, run: &RunRecord, ending: &Ending, verdict: Option<Verdict>) {
        let word = match (&ending.judgement, ending.state) {
            (Some((_, word)), _) => word.as_str(),
            (None, RunState::Done) => "first_night",
            (None, _) => "failed",
        };
        let kind = match run.kind {
            RunKind::Asked => "asked",
            RunKind::Nightly => "nightly",
            RunKind::Drift => "drift",
        };
        self.gateway.metrics.compat.ended(kind, word);
        let judged = ending.judgement.as_ref().and_then(|(said, _)| said.get("reasons")?.get(0));
        let judged = judged.and_then(serde_json::Value::as_str);
        let reason = ending.reason.as_deref().or(judged).unwrap_or_default();
        let (baseline, candidate) = (&run.baseline, &run.candidate);
        if ending.state == RunState::Failed {
            tracing::warn!(
                run = %run.id, suite = %run.suite, kind, %candidate, reason,
                "a compatibility run could not be made"
            );
            return;
        }
        tracing::info!(
            run = %run.id, suite = %run.suite, kind, verdict = word, %baseline, %candidate, reason,
            "a compatibility run has ended"
        );
        let Some(verdict) = verdict.filter(|_| run.kind == RunKind::Drift) else { return };
        match verdict {
            Verdict::Compatible => self.gateway.metrics.compat.set_drift(&run.suite, false),
            // What was not decided takes nothing back.
            Verdict::Inconclusive => {}
            Verdict::Incompatible => {
                self.gateway.metrics.compat.set_drift(&run.suite, true);
                let said = judged.unwrap_or_default();
                tracing::warn!(
                    run = %run.id, suite = %run.suite, %candidate,
                    "a prompt has drifted: the same version on the same model answers worse than the \
                     nights before. {said}"
                );
            }
        }
    }

    /// Shows what has drifted, as the store has it: whoever found it, and whenever.
    async fn show_drifts(&self) -> Result<(), StoreError> {
        for (suite, has_drifted) in self.runs.drifted().await? {
            self.gateway.metrics.compat.set_drift(&suite, has_drifted);
        }
        Ok(())
    }
}

// === impl Leader ===

impl Leader {
    fn new(engine: Arc<Engine>) -> Self {
        let holder = format!("{:032x}", rand::random::<u128>());
        Self {
            nights: Nights::new(Arc::clone(&engine)),
            engine,
            lease: Lease::new(LEASE, holder),
            held_at: Instant::now(),
            running: HashMap::new(),
            falls: HashMap::new(),
            swept: None,
            shown: None,
            tasks: Tasks::new(),
        }
    }

    async fn lead(mut self, mut closing: watch::Receiver<bool>) {
        let mut is_away = false;
        let mut pause = Duration::ZERO;
        let engine = Arc::clone(&self.engine);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = engine.runs.changed_here() => {}
                () = engine.ended.notified() => {}
                // An error means that nobody will tell.
                _ = closing.wait_for(|closing| *closing) => break,
            }
            match self.step().await {
                Ok(()) => is_away = false,
                Err(error) => {
                    if !is_away {
                        tracing::error!(error = %error.chain(), "compatibility runs cannot be made");
                    }
                    is_away = true;
                    if self.held_at.elapsed() >= GIVE_UP {
                        self.stop_all();
                        self.lease.lose();
                    }
                }
            }
            pause = if self.lease.hand().is_some() { STEP } else { LOOK };
        }
        self.stop_all();
        if let Err(error) = self.release().await {
            tracing::debug!(error = %error.chain(), "another node makes runs a little later");
        }
    }

    /// One round: looks what there is to do, keeps the lease if there is anything, begins and
    /// stops.
    async fn step(&mut self) -> Result<(), StoreError> {
        let settings = self.engine.runs.settings();
        self.engine.pace.set(settings.concurrency, settings.requests_per_minute);
        self.note_ends();
        self.engine.runs.recordings().sweep();
        if self.shown.is_none_or(|at| at.elapsed() >= SHOWN_EVERY) {
            self.engine.show_drifts().await?;
            self.shown = Some(Instant::now());
        }
        let open = self.engine.runs.open().await?;
        if open.is_empty() && !self.nights.are_due().await? && !self.is_sweep_due() {
            self.stop_all();
            return self.release().await;
        }
        let now = Instant::now();
        if self.lease.is_due(now) {
            let failed = StoreError::query("lead compatibility runs");
            let runs = self.engine.runs.clone();
            let mut writer = runs.store().writer().await?;
            let is_held = self.lease.keep(&mut writer, now, runs.now_ms()).await.map_err(failed)?;
            if is_held {
                self.held_at = now;
            }
        }
        let Some(holding) = self.lease.hand() else {
            self.stop_all();
            return Ok(());
        };
        self.nights.begin(&holding).await?;
        if self.is_sweep_due() {
            while self.engine.runs.sweep(settings.keep.0).await? > 0 {}
            self.swept = Some(now);
        }
        self.make(open, &holding).await
    }

    /// Stops what is over, and begins what fits.
    async fn make(
        &mut self,
        mut open: Vec<RunRecord>,
        holding: &Holding,
    ) -> Result<(), StoreError> {
        self.running.retain(|id, task| {
            let goes_on = open.iter().any(|run| run.id == *id);
            if !goes_on {
                task.abort();
            }
            goes_on
        });
        // Those that were begun go on; of the others somebody waits for those that were asked for.
        open.sort_by_key(|run| (run.state != RunState::Running, run.kind != RunKind::Asked));
        for run in open {
            if self.running.len() >= RUNS_AT_A_TIME {
                break;
            }
            if self.running.contains_key(&run.id) {
                continue;
            }
            if self.falls.get(&run.id).is_some_and(|falls| *falls >= MOST_FALLS) {
                self.give_up(&run, holding).await?;
                continue;
            }
            let (engine, id, holding) = (Arc::clone(&self.engine), run.id.clone(), holding.clone());
            let task = self.tasks.spawn(async move {
                // Whoever it is left to is told by the store.
                let id = run.id.clone();
                let _ = making::make(Arc::clone(&engine), run, holding).await;
                engine.left.lock().insert(id);
                engine.ended.notify_one();
            });
            self.running.insert(id, task);
        }
        Ok(())
    }

    /// Ends a run that makes our own code fail.
    async fn give_up(&mut self, run: &RunRecord, holding: &Holding) -> Result<(), StoreError> {
        let ending = Ending {
            state: RunState::Failed,
            reason: Some("a fault of the gateway keeps it from being made".to_owned()),
            judgement: None,
            judge: None,
            progress: crate::runs::Progress {
                samples_done: run.samples_done,
                samples_planned: run.samples_planned,
                samples_reused: run.samples_reused,
                cost_micro_usd: run.cost_micro_usd,
                worked_ms: 0,
            },
        };
        self.engine.runs.end(&run.id, &ending, holding).await?;
        self.engine.tell(run, &ending, None);
        Ok(())
    }

    /// Forgets those that have ended, and counts how often each has fallen.
    fn note_ends(&mut self) {
        let ended = self.running.iter().filter(|(_, task)| task.is_finished());
        let ended: Vec<String> = ended.map(|(id, _)| id.clone()).collect();
        for id in ended {
            self.running.remove(&id);
            if !self.engine.left.lock().remove(&id) {
                *self.falls.entry(id).or_default() += 1;
            }
        }
        if self.falls.len() > 1_000 {
            self.falls.clear();
        }
    }

    fn stop_all(&mut self) {
        self.running.drain().for_each(|(_, task)| task.abort());
    }

    fn is_sweep_due(&self) -> bool {
        self.swept.is_none_or(|at| at.elapsed() >= SWEEP_EVERY)
    }

    async fn release(&mut self) -> Result<(), StoreError> {
        if self.lease.hand().is_none() {
            return Ok(());
        }
        let failed = StoreError::query("stop leading compatibility runs");
        let runs = self.engine.runs.clone();
        let mut writer = runs.store().writer().await?;
        self.lease.release(&mut writer).await.map_err(failed)
    }
}

/// Does something with the store until it can be done. Whoever waits for it is stopped where the
/// store is away for so long that another node may lead.
async fn stored<T, F>(what: &'static str, operation: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut pause = RETRY.0;
    let mut is_told = false;
    loop {
        match operation().await {
            Ok(done) => return done,
            Err(error) => {
                if !is_told {
                    tracing::error!(error = %error.chain(), "cannot {what} for now");
                }
                is_told = true;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}
