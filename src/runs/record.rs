//! Rows of runs, in the words of the program.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::CompatSettings;
use crate::compat::report::JudgeFacts;
use crate::compat::verdict::Terms;
use crate::compat::{Answer, Depth, Grade, Only, Preference, Side};

/// A run to begin.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    /// Why it is made.
    pub kind: RunKind,
    /// The suite's id: a prompt's for the cases beside it, else that of a suite that was pushed.
    pub suite: String,
    /// What is there today.
    pub baseline: Side,
    /// What may take its place.
    pub candidate: Side,
    /// How many cases are asked.
    pub depth: Depth,
    /// The cases of these that are asked, where not all are.
    pub only: Option<Only>,
    /// Answers of each side to each case, at first. Where the verdict is open more are asked.
    pub samples: u32,
    /// The seed of whatever is drawn, and what is sent as `seed` with the sample's number added.
    pub seed: u64,
    /// What it may cost, judges and all, in millionths of a dollar. `None`: as the configuration
    /// says.
    pub max_cost_micro_usd: Option<u64>,
}

/// Why a run is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Somebody asked for it.
    Asked,
    /// It was night: one cell of a matrix.
    Nightly,
    /// It was night: the same prompt on the same model as the nights before, whose answers are the
    /// baseline. What it finds, the provider has changed.
    Drift,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It waits for its turn.
    Waiting,
    /// It asks.
    Running,
    /// It has a verdict.
    Done,
    /// Somebody ended it.
    Cancelled,
    /// It cannot be made: the suite or a side is not there any more.
    Failed,
}

/// A run as the store has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// `cr_` and twelve letters or digits.
    pub id: String,
    /// Why it is made.
    pub kind: RunKind,
    /// The suite.
    pub suite: String,
    /// What the suite was when it began. The run keeps to it.
    pub suite_hash: String,
    /// What is there today.
    pub baseline: Side,
    /// What may take its place.
    pub candidate: Side,
    /// How many cases are asked.
    pub depth: Depth,
    /// The cases of these that are asked, where not all are. Its verdict is one on them alone.
    #[serde(default)]
    pub only: Option<Only>,
    /// Answers of each side to each case, at first.
    pub samples: u32,
    /// The seed.
    pub seed: u64,
    /// What it may cost, in millionths of a dollar.
    pub max_cost_micro_usd: u64,
    /// Where it is.
    pub state: RunState,
    /// Why it is there, where that needs a word: the reason of a failure, or what ended it early.
    pub reason: Option<String>,
    /// When it was begun, in Unix milliseconds.
    pub created_ms: u64,
    /// When it ended.
    pub ended_ms: Option<u64>,
    /// Samples that were asked and have come, of both sides.
    pub samples_done: u64,
    /// Samples that will have been asked, as far as is known.
    pub samples_planned: u64,
    /// Samples besides that others have asked.
    pub samples_reused: u64,
    /// What all of it has cost, in millionths of a dollar.
    pub cost_micro_usd: u64,
    /// Who judged what no rule can, when it is done, if anybody did.
    pub judge: Option<JudgeFacts>,
    /// What `compat::verdict` says of it, as JSON, when it is done.
    pub judgement: Option<Value>,
}

/// One answer of one side to one case, graded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleRow {
    /// The case.
    pub case: String,
    /// Whose answer it is.
    pub is_candidate: bool,
    /// Which of the side's answers to the case, from 0.
    pub sample: u32,
    /// What was said.
    pub answer: Answer,
    /// What the assertions say; `None` where there is no answer.
    pub grade: Option<Grade>,
    /// Which of the two answers of this number a judge likes better, where the case asks that; with
    /// the candidate's.
    pub preference: Option<Preference>,
    /// The run whose answer it is, where it was not asked again.
    pub reused_from: Option<String>,
    /// What judges cost for it.
    pub judging_micro_usd: u64,
}

/// A suite as the store has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuiteRow {
    /// Its id: that of the prompt it belongs to, or a name of its own.
    pub id: String,
    /// The prompt it belongs to, if it is one's.
    pub prompt: Option<String>,
    /// What it says, as one number.
    pub hash: String,
    /// Its files, as a JSON array of pairs: a path for people, and a text in promptfoo's YAML with
    /// what it refers to put in.
    pub text: String,
    /// When it was pushed, in Unix milliseconds; 0 for one of files.
    pub created_ms: u64,
}

// === impl RunRecord ===

impl RunRecord {
    /// Whether it is the first night of a prompt: it has kept answers, and had nothing to compare
    /// them with.
    pub fn is_first_night(&self) -> bool {
        self.kind == RunKind::Drift && self.state == RunState::Done && self.judgement.is_none()
    }

    /// By what it is judged.
    pub fn terms(&self, settings: &CompatSettings) -> Terms {
        let terms = Terms {
            margin: settings.margin.get(),
            samples: self.samples,
            max_samples: match self.kind {
                // A night has one look: there is one baseline, and that is as large as it is.
                RunKind::Drift => self.samples,
                RunKind::Asked | RunKind::Nightly => settings.max_samples.max(self.samples),
            },
            ..Terms::default()
        };
        let terms = terms.between(&self.baseline, &self.candidate);
        match &self.only {
            None => terms.at(self.depth),
            Some(only) if only.is_of_incidents() => terms.of_incidents(),
            // Some cases are as few as those of a smoke run.
            Some(_) => terms.at(Depth::Smoke),
        }
    }
}

// === impl SuiteRow ===

impl SuiteRow {
    /// A suite of these files.
    pub fn of_files(
        id: String,
        prompt: Option<String>,
        hash: String,
        files: &[(PathBuf, String)],
        created_ms: u64,
    ) -> Self {
        let pairs: Vec<_> =
            files.iter().map(|(path, text)| (path.to_string_lossy(), text)).collect();
        let text = serde_json::to_string(&pairs).unwrap_or_default();
        Self { id, prompt, hash, text, created_ms }
    }

    /// Its files, as they are parsed. None where the row was not written by us.
    pub fn files(&self) -> Vec<(PathBuf, String)> {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}
