//! Runs and suites as replies show them.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::clock::rfc3339;
use crate::compat::suite::Suite;
use crate::compat::{Depth, Side, SidePrompt};
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
    samples: SamplesView,
    seed: u64,
    state: RunState,
    /// Why it is there, where that needs a word.
    reason: Option<String>,
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
            samples: SamplesView {
                each: record.samples,
                done: record.samples_done,
                planned: record.samples_planned,
            },
            seed: record.seed,
            state: record.state,
            reason: record.reason.clone(),
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
    /// `created_ms` of one that was pushed.
    pub(super) fn of(suite: &Suite, prompt: Option<String>, created_ms: Option<u64>) -> Self {
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
            created_at: created_ms.map(rfc3339),
        }
    }
}
