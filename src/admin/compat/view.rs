//! Runs and suites as replies show them.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::callers::Caller;
use crate::clock::rfc3339;
use crate::compat::suite::Suite;
use crate::compat::{Depth, Only, Side, SidePrompt};
use crate::config::Snapshot;
use crate::runs::{RunKind, RunRecord, RunState};
use crate::units::MicroUsd;

/// A run.
#[derive(Debug, Serialize)]
pub(super) struct RunView {
    pub(super) id: String,
    kind: RunKind,
    suite: String,
    suite_hash: String,
    from: SideView,
    to: SideView,
    depth: Depth,
    /// Some of the cases: `incidents`, a tag or an incident.
    only: Option<Only>,
    samples: SamplesView,
    seed: u64,
    state: RunState,
    /// Why it is there, where that needs a word.
    reason: Option<String>,
    /// Whether it had nothing to compare with: no verdict then.
    first_night: bool,
    /// `compatible`, `incompatible` or `inconclusive`, when it is done.
    verdict: Option<Value>,
    /// All that led to it.
    judgement: Option<Value>,
    cost_usd: String,
    max_cost_usd: String,
    created_at: String,
    ended_at: Option<String>,
}

/// One of the two that are compared.
#[derive(Debug, Serialize)]
struct SideView {
    /// In words.
    says: String,
    /// The registered prompt, or the label of one of the suite's own.
    prompt: String,
    version: Option<String>,
    model: String,
    parameters: Map<String, Value>,
}

/// How much is asked, and how much of it has come.
#[derive(Debug, Serialize)]
struct SamplesView {
    /// Of each side to each case, at first.
    each: u32,
    done: u64,
    planned: u64,
    /// Answers besides that other runs have asked.
    reused: u64,
}

/// A suite.
#[derive(Debug, Serialize)]
pub(super) struct SuiteView {
    pub(super) id: String,
    prompt: Option<String>,
    hash: String,
    /// `file` or `push`.
    origin: &'static str,
    description: String,
    cases: usize,
    critical: usize,
    prompts: Vec<String>,
    models: Vec<String>,
    /// Those of them that this gateway does not know.
    unknown_models: Vec<String>,
    /// What whoever pushes it should know: versions of its prompt that some cases cannot be asked
    /// of, variables that may be misspelled.
    notes: Vec<String>,
    created_at: Option<String>,
}

// === impl RunView ===

impl RunView {
    pub(super) fn of(record: &RunRecord) -> Self {
        let verdict = record.judgement.as_ref().and_then(|one| one.get("verdict")).cloned();
        Self {
            id: record.id.clone(),
            kind: record.kind,
            suite: record.suite.clone(),
            suite_hash: record.suite_hash.clone(),
            from: SideView::of(&record.baseline),
            to: SideView::of(&record.candidate),
            depth: record.depth,
            only: record.only.clone(),
            samples: SamplesView {
                each: record.samples,
                done: record.samples_done,
                planned: record.samples_planned,
                reused: record.samples_reused,
            },
            seed: record.seed,
            state: record.state,
            reason: record.reason.clone(),
            first_night: record.is_first_night(),
            verdict,
            judgement: record.judgement.clone(),
            cost_usd: MicroUsd(record.cost_micro_usd).to_usd_string(),
            max_cost_usd: MicroUsd(record.max_cost_micro_usd).to_usd_string(),
            created_at: rfc3339(record.created_ms),
            ended_at: record.ended_ms.map(rfc3339),
        }
    }
}

// === impl SideView ===

impl SideView {
    fn of(side: &Side) -> Self {
        let (prompt, version) = match &side.prompt {
            SidePrompt::Registered { id, version } => (id.clone(), Some(version.clone())),
            SidePrompt::Inline { label, .. } => (label.clone(), None),
        };
        Self {
            says: side.to_string(),
            prompt,
            version,
            model: side.model.clone(),
            parameters: side.parameters.clone(),
        }
    }
}

// === impl SuiteView ===

impl SuiteView {
    /// `created_ms` of one that was pushed; by what the gateway knows now.
    pub(super) fn of(
        suite: &Suite,
        prompt: Option<String>,
        created_ms: Option<u64>,
        snapshot: &Snapshot,
    ) -> Self {
        let models: BTreeSet<&String> = suite.models.iter().map(|model| &model.model).collect();
        let is_unknown =
            |model: &&&String| snapshot.resolve_for(&Caller::gateway(), model).is_err();
        Self {
            id: suite.id.clone(),
            prompt,
            hash: suite.hash.clone(),
            origin: if created_ms.is_some() { "push" } else { "file" },
            description: suite.description.clone(),
            cases: suite.cases.len(),
            critical: suite.cases.iter().filter(|case| case.is_critical).count(),
            prompts: suite.prompts.iter().map(|prompt| prompt.label.clone()).collect(),
            models: suite.models.iter().map(|model| model.model.clone()).collect(),
            unknown_models: models
                .iter()
                .filter(is_unknown)
                .map(|model| (*model).clone())
                .collect(),
            notes: Vec::new(),
            created_at: created_ms.map(rfc3339),
        }
    }

    /// As the reply to a push, with what whoever pushes it should know.
    pub(super) fn pushed(self, notes: Vec<String>) -> Self {
        Self { notes, origin: "push", ..self }
    }
}
