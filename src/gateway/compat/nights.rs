//! Which runs are made at night, and when.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use crate::clock::{Instant, rfc3339};
use crate::compat::{Depth, Side, SidePrompt};
use crate::prompt::{Change, Prompt, Versions, Wanted};
use crate::runs::{CompatSettings, MatrixSettings, NewRun, Night, RunKind, Schedule, SuiteRow};
use crate::store::StoreError;
use crate::store::lease::Holding;

/// How often the mark in the store is looked at, which another node may have moved.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The nightly runs.
#[derive(Debug)]
pub(super) struct Nights {
    engine: Arc<Engine>,
    /// Up to when the schedule was kept when that was last read.
    mark: Option<Night>,
    looked: Option<Instant>,
}

// === impl Nights ===

impl Nights {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, mark: None, looked: None }
    }

    /// Whether there is something to begin, or a new schedule to write down.
    pub(super) async fn are_due(&mut self) -> Result<bool, StoreError> {
        let Some((expression, schedule)) = self.schedule() else { return Ok(false) };
        if self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            self.read().await?;
        }
        let is_due =
            |mark: &Night| mark.expression != expression || self.is_past(&schedule, mark.until_ms);
        Ok(self.mark.as_ref().is_none_or(is_due))
    }

    /// Begins what is due. What was missed is begun once, however often it was missed; a schedule
    /// that is new begins with its next time.
    pub(super) async fn begin(&mut self, holding: &Holding) -> Result<(), StoreError> {
        if !self.are_due().await? {
            return Ok(());
        }
        let Some((expression, schedule)) = self.schedule() else { return Ok(()) };
        // What another node has begun meanwhile is in the store.
        self.read().await?;
        let now_ms = self.engine.runs.now_ms();
        let next = Night { expression, until_ms: now_ms };
        let is_kept = |mark: &&Night| mark.expression == next.expression;
        let new = match self.mark.as_ref().filter(is_kept) {
            Some(mark) if self.is_past(&schedule, mark.until_ms) => {
                let due = schedule.next_after(mark.until_ms).map(rfc3339).unwrap_or_default();
                tracing::info!(due, "the nightly compatibility runs begin");
                self.tonight().await?
            }
            Some(_) => return Ok(()),
            None => Vec::new(),
        };
        let runs = &self.engine.runs;
        // Who comes second begins nothing, and reads what the first one has written.
        let _ = runs.begin_night(new, self.mark.as_ref(), &next, holding).await?;
        self.read().await
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        self.mark = self.engine.runs.night().await?;
        self.looked = Some(Instant::now());
        Ok(())
    }

    fn is_past(&self, schedule: &Schedule, since_ms: u64) -> bool {
        schedule.next_after(since_ms).is_some_and(|next| next <= self.engine.runs.now_ms())
    }

    /// The schedule of the configuration; one that cannot be read is refused there.
    fn schedule(&self) -> Option<(String, Schedule)> {
        let expression = self.engine.runs.settings().schedule?;
        let schedule = Schedule::parse(&expression).ok()?;
        Some((expression, schedule))
    }

    /// The runs of a night: of each prompt with cases.
    async fn tonight(&self) -> Result<Vec<NewRun>, StoreError> {
        let prompts = self.engine.gateway.registry().prompts();
        let settings = self.engine.runs.settings();
        let mut new = Vec::new();
        for suite in self.engine.runs.suites().await? {
            let versions = suite.prompt.as_deref().and_then(|prompt| prompts.versions(prompt));
            let Some(versions) = versions else { continue };
            let mut runs = of_prompt(&suite, versions, &settings);
            let is_held = runs.iter().any(|run| run.kind == RunKind::Drift);
            if is_held && self.engine.runs.night_goes_on(&suite.id).await? {
                // It would be held against the nights before that one, which is not over: two first
                // nights, or two nights for one.
                tracing::warn!(
                    suite = suite.id,
                    "the night before still goes on: the prompt is held against itself the next time"
                );
                runs.retain(|run| run.kind != RunKind::Drift);
            }
            new.extend(runs);
        }
        Ok(new)
    }
}

/// The runs of one prompt: its production version against what it was the nights before, then
/// whatever could take its place against it.
fn of_prompt(suite: &SuiteRow, versions: &Versions, settings: &CompatSettings) -> Vec<NewRun> {
    let Some(production) = versions.find(&Wanted::Unsaid) else { return Vec::new() };
    let Some(model) = &production.target_model else {
        tracing::warn!(
            prompt = %production.name,
            "no nightly compatibility runs: the version in production names no `target_model`"
        );
        return Vec::new();
    };
    let baseline = side(production, model);
    let run = |kind: RunKind, candidate: Side, depth| NewRun {
        kind,
        suite: suite.id.clone(),
        baseline: baseline.clone(),
        candidate,
        depth,
        only: None,
        samples: match kind {
            RunKind::Drift => settings.drift_samples,
            RunKind::Asked | RunKind::Nightly => settings.samples,
        },
        seed: rand::random::<u32>().into(),
        max_cost_micro_usd: None,
    };
    let mut runs = vec![run(RunKind::Drift, baseline.clone(), Depth::Full)];
    let entries = settings.matrix.iter().filter(|entry| entry.prompt == production.id.as_str());
    let mut seen = vec![baseline.clone()];
    for (version, model) in entries.flat_map(|entry| cells(entry, versions)) {
        let candidate = side(version, &model);
        if seen.contains(&candidate) {
            continue;
        }
        seen.push(candidate.clone());
        let depth = depth(production, version, model == baseline.model);
        runs.push(run(RunKind::Nightly, candidate, depth));
    }
    runs
}

/// Versions and models of one entry of the matrix.
fn cells<'a>(entry: &MatrixSettings, versions: &'a Versions) -> Vec<(&'a Prompt, String)> {
    let mut chosen: Vec<&Prompt> = Vec::new();
    if entry.versions.is_empty() {
        let newest = || versions.iter().collect::<Vec<_>>().into_iter().rev();
        let newest = newest().find(|version| version.deprecated.is_none()).or(newest().next());
        chosen.extend(newest.map(AsRef::as_ref));
    }
    let wanted = entry.versions.iter().filter_map(|text| Wanted::parse(text).ok());
    chosen.extend(wanted.filter_map(|wanted| Some(versions.find(&wanted)?.as_ref())));
    let models = |version: &Prompt| match entry.models.is_empty() {
        true => version.target_model.iter().cloned().collect(),
        false => entry.models.clone(),
    };
    let cells = chosen
        .into_iter()
        .flat_map(|version| models(version).into_iter().map(move |model| (version, model)));
    cells.collect()
}

/// How much is asked: the more, the more has changed. Another model changes all.
fn depth(production: &Prompt, candidate: &Prompt, is_same_model: bool) -> Depth {
    match Change::of_numbers(production.version, candidate.version) {
        _ if !is_same_model => Depth::Full,
        Change::Major | Change::Nothing => Depth::Full,
        Change::Minor => Depth::Targeted,
        Change::Patch => Depth::Smoke,
    }
}

fn side(prompt: &Prompt, model: &str) -> Side {
    let (id, version) = (prompt.id.to_string(), prompt.version.to_string());
    Side {
        prompt: SidePrompt::Registered { id, version },
        model: model.to_owned(),
        parameters: serde_json::Map::new(),
    }
}
