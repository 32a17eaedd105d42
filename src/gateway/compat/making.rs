//! Makes one run, from where it is to its verdict.
//!
//! What a run asks next follows from its samples alone: the looks are gone through from the first
//! one, each with exactly the pairs that it had. So a run that was interrupted asks what it would
//! have asked, and comes to the verdict that it would have come to.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::Engine;
use super::bench::{Bench, models_behind};
use super::drifting::Past;
use super::plan::{Asked, Lacks, Plan};
use super::purse::{Purse, Tariff};
use super::sampling::Sampling;
use super::simulated;
use super::stored;
use super::table::{Table, Unit};
use crate::clock::Instant;
use crate::compat::verdict::{Judgement, Look, Terms, Verdict, judge};
use crate::control::tasks::Tasks;
use crate::embed::Embedder;
use crate::runs::{
    Committed, DoneSample, Ending, NewSample, Progress, Reuse, RunKind, RunRecord, RunState,
};
use crate::store::lease::Holding;
use crate::units::Spoken;

/// How long a version is waited for that this node may not have heard of.
const VERSION_WITHIN: Duration = Duration::from_secs(30);
const VERSION_EVERY: Duration = Duration::from_secs(1);
/// Workers for each request that may be made at a time: some wait, grade, or are judged.
const WORKERS_EACH: usize = 2;
/// Samples that may wait to be written, and those that are written together.
const MOST_UNWRITTEN: usize = 128;
const WRITTEN_TOGETHER: usize = 64;
/// How often it is written how far a run is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How often a case is asked once more to confirm what it says.
const MOST_CONFIRMATIONS: u32 = 4;
/// What is said of a night before which there is none.
const FIRST_NIGHT: &str = "first night: answers are kept, nothing to compare with yet";
/// How often units are asked for that no worker brought.
const MOST_FILLS: u32 = 3;

/// A run that is made.
pub(super) struct Making {
    engine: Arc<Engine>,
    pub(super) run: RunRecord,
    holding: Holding,
    pub(super) sampling: Arc<Sampling>,
    pub(super) table: Table,
    pub(super) terms: Terms,
    /// What earlier nights have answered, where a prompt is held against itself.
    pub(super) past: Past,
    /// How long it had asked before it was taken up.
    worked_before: Duration,
    began: Instant,
    /// When it has asked for long enough.
    deadline: Instant,
    written: Option<Instant>,
    /// Samples that will have been asked, as far as is known, and those that others have asked.
    planned: u64,
    reused: u64,
}

/// Why a run is left as it is: another node makes it, or nobody shall.
#[derive(Debug)]
pub(super) struct Left;

/// What ends the asking early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cap {
    Money,
    Time,
}

/// Makes a run.
///
/// # Errors
///
/// [`Left`] where it is not this node's any more.
///
/// # Cancel safety
///
/// Dropping the future cancels what is being asked; what was written stays.
pub(super) async fn make(
    engine: Arc<Engine>,
    run: RunRecord,
    holding: Holding,
) -> Result<(), Left> {
    let began = Instant::now();
    let take_up = || engine.runs.take_up(&run.id, &holding);
    let worked_ms = stored("take up a compatibility run", take_up).await.map_err(|_| Left)?;
    let worked_before = Duration::from_millis(worked_ms);
    match Making::begin(&engine, &run, &holding, (began, worked_before)).await? {
        Ok(making) => making.run().await,
        Err(why) => {
            let ending = Ending {
                state: RunState::Failed,
                reason: Some(why),
                judgement: None,
                judge: None,
                progress: Progress { worked_ms, ..Progress::default() },
            };
            engine.end(&run, &ending, None, &holding).await
        }
    }
}

// === impl Making ===

impl Making {
    /// Reads what the run asks and what it has, and takes over what it may. `Err` of the inner
    /// result: why it cannot be made.
    async fn begin(
        engine: &Arc<Engine>,
        run: &RunRecord,
        holding: &Holding,
        (began, worked_before): (Instant, Duration),
    ) -> Result<Result<Self, String>, Left> {
        let settings = engine.runs.settings();
        let plan = match engine.plan(run).await {
            Ok(plan) => plan,
            Err(why) => return Ok(Err(why)),
        };
        let (models, tariffs) = engine.around(&plan);
        let asking = engine.judging.clone();
        let embedder = engine.embedder(&models);
        let bench = Bench::new(asking, engine.runs.clone(), &models, embedder).await;
        let bench = bench.for_run(&run.id);
        let past = match run.kind {
            RunKind::Drift => engine.past(run, &plan, &bench).await,
            RunKind::Asked | RunKind::Nightly => Past::default(),
        };
        engine.take_over(run, (&plan, &past), holding).await?;
        let read = || engine.runs.done(&run.id);
        let done = stored("read what a compatibility run has", read).await;
        let table = Table::new(&plan, &done);
        let sampling = Sampling {
            run: run.id.clone(),
            plan,
            asking: engine.asking.clone(),
            bench,
            runs: engine.runs.clone(),
            purse: Purse::new(run.max_cost_micro_usd, table.spent_micro_usd),
            tariffs,
        };
        Ok(Ok(Self {
            engine: Arc::clone(engine),
            terms: run.terms(&settings),
            run: run.clone(),
            holding: holding.clone(),
            sampling: Arc::new(sampling),
            planned: 0,
            reused: 0,
            table,
            past,
            worked_before,
            began,
            deadline: began + settings.max_time.0.saturating_sub(worked_before),
            written: None,
        }))
    }

    /// Asks and looks until there is a verdict, or no more may be asked.
    async fn run(mut self) -> Result<(), Left> {
        if self.run.kind == RunKind::Drift {
            return self.night().await;
        }
        let ladder = self.terms.ladder();
        let mut samples = ladder.first().copied().unwrap_or(1);
        let mut wanted = vec![samples; self.sampling.plan.len()];
        let mut confirmed = 0;
        loop {
            let cap = self.fill(&wanted).await?;
            let can_ask_more = cap.is_none();
            let judgement = self.look(&wanted, (samples, can_ask_more), cap.is_some());
            if can_ask_more && !judgement.confirm.is_empty() && confirmed < MOST_CONFIRMATIONS {
                confirmed += 1;
                let places = judgement.confirm.iter().filter_map(|case| self.table.place(case));
                for place in places {
                    if let Some(wanted) = wanted.get_mut(place) {
                        *wanted += 1;
                    }
                }
                continue;
            }
            if let Some(next) =
                judgement.next_samples.filter(|next| can_ask_more && *next > samples)
            {
                (samples, confirmed) = (next, 0);
                wanted.iter_mut().for_each(|wanted| *wanted = next.max(*wanted));
                continue;
            }
            // Where what was to be confirmed was not, it is judged by what is there.
            let judgement = match can_ask_more && !judgement.confirm.is_empty() {
                true => self.look(&wanted, (samples, false), false),
                false => judgement,
            };
            return self.end(Some(judgement), cap).await;
        }
    }

    /// Judges what there is, in this many pairs of each case and those that confirm.
    fn look(
        &self,
        wanted: &[u32],
        (samples, can_ask_more): (u32, bool),
        only_whole: bool,
    ) -> Judgement {
        let terms = (only_whole, self.sampling.bench.counts);
        let cases = self.table.paired(&self.sampling.plan, wanted, terms);
        judge(&cases, &self.terms, Look { samples, can_ask_more })
    }

    /// Asks until each case has so many pairs. What kept it from that, if anything did.
    pub(super) async fn fill(&mut self, wanted: &[u32]) -> Result<Option<Cap>, Left> {
        let fresh_baseline = self.run.kind != RunKind::Drift;
        self.reused = self.table.reused(wanted);
        for _ in 0..MOST_FILLS {
            let units = self.table.missing(&self.sampling.plan, wanted, fresh_baseline);
            self.planned = self.table.asked + units.iter().map(Unit::answers).sum::<u64>();
            if units.is_empty() {
                return Ok(None);
            }
            if let Some(cap) = self.ask(units).await? {
                return Ok(Some(cap));
            }
        }
        // A fault of ours keeps some from being asked; the verdict says how many are missing.
        tracing::error!(run = %self.run.id, "some samples of a compatibility run cannot be asked");
        Ok(None)
    }

    async fn ask(&mut self, units: Vec<Unit>) -> Result<Option<Cap>, Left> {
        let at_a_time = self.engine.asking.at_a_time().max(1) * WORKERS_EACH;
        let workers = at_a_time.min(units.len());
        let queue = Arc::new(Mutex::new(units.into_iter()));
        let (tell, mut told) = mpsc::channel(MOST_UNWRITTEN);
        let tasks = Tasks::new();
        for _ in 0..workers {
            let sampling = Arc::clone(&self.sampling);
            tasks.spawn(sampling.work(Arc::clone(&queue), tell.clone()));
        }
        drop(tell);
        let mut batch = Vec::new();
        loop {
            let received = told.recv_many(&mut batch, WRITTEN_TOGETHER);
            let is_late = match tokio::time::timeout_at(self.deadline, received).await {
                Ok(0) => break,
                Ok(_) => false,
                Err(_elapsed) => true,
            };
            self.commit(&batch).await?;
            batch.clear();
            if is_late || Instant::now() >= self.deadline {
                return Ok(Some(Cap::Time));
            }
        }
        Ok(self.sampling.purse.is_empty().then_some(Cap::Money))
    }

    /// Writes samples, and once a second how far the run is.
    async fn commit(&mut self, batch: &[NewSample]) -> Result<(), Left> {
        batch.iter().for_each(|sample| self.table.take(&DoneSample::of(&sample.row)));
        let now = Instant::now();
        let is_due =
            self.written.is_none_or(|at| now.saturating_duration_since(at) >= PROGRESS_EVERY);
        let progress = is_due.then(|| self.progress());
        if batch.is_empty() && progress.is_none() {
            return Ok(());
        }
        if is_due {
            self.written = Some(now);
        }
        let (runs, id) = (&self.engine.runs, self.run.id.as_str());
        let write = || runs.commit(id, batch, progress.as_ref(), &self.holding);
        kept(stored("write samples of a compatibility run", write).await)?;
        self.engine.gateway.metrics.compat.sampled(batch.len() as u64);
        Ok(())
    }

    fn progress(&self) -> Progress {
        let worked = self.worked_before + self.began.elapsed();
        Progress {
            samples_done: self.table.asked,
            samples_planned: self.planned.max(self.table.asked),
            samples_reused: self.reused,
            cost_micro_usd: self.sampling.purse.spent_micro_usd(),
            worked_ms: u64::try_from(worked.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Ends the run; without a judgement where there was nothing to compare with.
    pub(super) async fn end(
        self,
        judgement: Option<Judgement>,
        cap: Option<Cap>,
    ) -> Result<(), Left> {
        let settings = self.engine.runs.settings();
        let ended_early = match cap {
            Some(Cap::Money) => {
                let cap = crate::units::MicroUsd(self.run.max_cost_micro_usd).to_usd_string();
                Some(format!(
                    "it ended early: what is left of the ${cap} that it may cost is too little for \
                     another answer"
                ))
            }
            Some(Cap::Time) => {
                let time = Spoken(settings.max_time.0);
                Some(format!("it ended early: it has taken the {time} that it may"))
            }
            None => None,
        };
        // Answers that did not come are nothing to hold the next night against.
        let (answered, asked) = self.table.answered();
        let is_empty = judgement.is_none() && (answered == 0 || answered * 2 < asked);
        let (state, first) = match (&judgement, is_empty) {
            (Some(_), _) => (RunState::Done, None),
            (None, false) => (RunState::Done, Some(FIRST_NIGHT.to_owned())),
            (None, true) => {
                let why = match asked - answered {
                    0 => "nothing was answered: the night keeps nothing".to_owned(),
                    failed => {
                        format!("{failed} of {asked} answers failed: the night keeps nothing")
                    }
                };
                (RunState::Failed, Some(why))
            }
        };
        let reasons: Vec<String> = ended_early.into_iter().chain(first).collect();
        let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
        let verdict = judgement.as_ref().map(|judgement| judgement.verdict);
        let judgement = judgement.and_then(|judgement| {
            // A verdict is numbers and texts: it can always be written.
            let value = serde_json::to_value(&judgement).ok()?;
            Some((value, judgement.verdict.as_str().to_owned()))
        });
        let judge = self.sampling.bench.facts().await.filter(|facts| facts.asked > 0);
        let progress = self.progress();
        let ending = Ending { state, reason, judgement, judge, progress };
        self.engine.end(&self.run, &ending, verdict, &self.holding).await
    }
}

// === impl Engine ===

impl Engine {
    /// What a run asks, once this node has heard of the versions that it names.
    async fn plan(&self, run: &RunRecord) -> Result<Plan, String> {
        let read = || async {
            match self.runs.text_of(&run.id).await {
                Ok(text) => Ok(Ok(text)),
                Err(crate::runs::RunsError::Store(error)) => Err(error),
                Err(other) => Ok(Err(other.to_string())),
            }
        };
        let text = stored("read what a compatibility run keeps to", read).await?;
        let by = Instant::now() + VERSION_WITHIN;
        loop {
            let prompts = self.gateway.registry().prompts();
            match Plan::read(run, text.clone(), prompts) {
                Ok(plan) => return Ok(plan),
                Err(Lacks::Never(why)) => return Err(why),
                Err(Lacks::Version(why)) if Instant::now() >= by => return Err(why),
                Err(Lacks::Version(_)) => tokio::time::sleep(VERSION_EVERY).await,
            }
        }
    }

    /// The models that may answer, and what their answers cost: the baseline's and the candidate's.
    fn around(&self, plan: &Plan) -> (Vec<String>, [Tariff; 2]) {
        let snapshot = self.gateway.snapshot();
        let models = |asked: &Asked| models_behind(&snapshot, &asked.side.model);
        let tariff = |is_candidate| {
            let asked = plan.side(is_candidate);
            Tariff::of(&snapshot, &asked.side.model, asked.most_tokens(), &asked.tools)
        };
        let models = plan.sides.iter().flat_map(models).collect();
        (models, [tariff(false), tariff(true)])
    }

    /// Takes over answers of the baseline that others have: of an earlier night where a prompt is
    /// held against itself, else of any run that is not too old.
    async fn take_over(
        &self,
        run: &RunRecord,
        (plan, past): (&Plan, &Past),
        holding: &Holding,
    ) -> Result<(), Left> {
        let settings = self.runs.settings();
        let from = if run.kind == RunKind::Drift {
            match &past.shown {
                Some(night) => Reuse::CandidateOf(night.clone()),
                None => return Ok(()),
            }
        } else if settings.reuse_baseline.0.is_zero() {
            return Ok(());
        } else {
            let age = u64::try_from(settings.reuse_baseline.0.as_millis()).unwrap_or(u64::MAX);
            Reuse::Since(self.runs.now_ms().saturating_sub(age))
        };
        let keys: Vec<String> = plan.cases().map(|case| plan.reuse_key(case, false)).collect();
        let most = settings.max_samples.max(run.samples);
        let take = || self.runs.reuse(&run.id, (&keys, most), &from, holding);
        kept(stored("take over samples of another compatibility run", take).await)
    }

    /// The embedder of `similar`: the one that is named, or the only one; of simulated models,
    /// where there is none, the simulator's.
    fn embedder(&self, models: &[String]) -> Result<Embedder, String> {
        let snapshot = self.gateway.snapshot();
        let named = self.runs.settings().embedder;
        let mut all = snapshot.settings.embedders.keys();
        let name = match (&named, all.next(), all.next()) {
            (Some(name), ..) => name,
            (None, Some(only), None) => only,
            (None, None, _) if simulated::are_all(models) => return Ok(self.simulated.clone()),
            (None, None, _) => return Err("there is no embedder in `[embedders]`".to_owned()),
            (None, Some(_), Some(_)) => {
                return Err("there are several embedders; `compat.embedder` says which".to_owned());
            }
        };
        let found = self.gateway.embedder(name).cloned();
        found.ok_or_else(|| format!("there is no embedder {name:?} in `[embedders]`"))
    }

    /// Ends a run, and says so.
    async fn end(
        &self,
        run: &RunRecord,
        ending: &Ending,
        verdict: Option<Verdict>,
        holding: &Holding,
    ) -> Result<(), Left> {
        let end = || self.runs.end(&run.id, ending, holding);
        kept(stored("end a compatibility run", end).await)?;
        self.tell(run, ending, verdict);
        Ok(())
    }
}

fn kept(committed: Committed) -> Result<(), Left> {
    match committed {
        Committed::Yes => Ok(()),
        Committed::Lost | Committed::Over => Err(Left),
    }
}
