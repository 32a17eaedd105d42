//! `[compat]`: when suites are run, how much that may take, and what hangs on the verdicts.

use serde::{Deserialize, Serialize};

use crate::units::{HumanDuration, Ratio, UsdAmount};

/// Compatibility runs of prompts and models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompatSettings {
    /// When the nightly runs begin, as a cron expression of five fields in UTC. Absent: there are none.
    #[schemars(extend("examples" = ["0 3 * * *"]))]
    pub schedule: Option<String>,
    /// Requests at a time, of all runs together, judges included.
    pub concurrency: u32,
    /// Requests a minute, of all runs together. Absent: as many as `share` allows.
    #[schemars(extend("examples" = [120]))]
    pub requests_per_minute: Option<u32>,
    /// The most of what a provider's rate limits allow that runs take.
    pub share: Ratio,
    /// What one run may cost, judges included. It ends there with what it knows.
    pub max_cost: UsdAmount,
    /// How long one run may take. It ends there with what it knows.
    pub max_time: HumanDuration,
    /// Answers of each side to each case, at first.
    pub samples: u32,
    /// The most answers of each side to each case, where the verdict stays open.
    pub max_samples: u32,
    /// How much lower the candidate's rate of passed cases may be, without being called worse.
    pub margin: Ratio,
    /// How long a baseline's answers may be used again.
    pub reuse_baseline: HumanDuration,
    /// Answers are kept for so long; verdicts stay.
    pub keep: HumanDuration,
    /// Who judges what no rule can.
    pub judge: JudgeSettings,
    /// What rollouts need.
    pub gate: GateSettings,
    /// The embedder of `similar`; the name of one in `[embedders]`. Absent: the only one there is.
    #[schemars(extend("examples" = ["minilm"]))]
    pub embedder: Option<String>,
    /// What is run at night besides the version in production on the model it was written for: models
    /// that could take over.
    #[schemars(extend("examples" = [[{"prompt": "support-reply", "models": ["anthropic/claude-sonnet-4-6"]}]]))]
    pub matrix: Vec<MatrixSettings>,
}

/// Who judges what no rule can.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeSettings {
    /// Models that may judge, the first that is of another family than both sides does. Empty: none
    /// does, and cases that need one say so.
    #[schemars(extend("examples" = [["openai/gpt-5-mini", "anthropic/claude-haiku-4-5"]]))]
    pub models: Vec<String>,
    /// Whether what a judge says counts that was not held against people's labels
    /// (`tidegate compat calibrate`).
    pub trust_uncalibrated: bool,
}

/// What rollouts need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GateSettings {
    /// Which rollouts need a verdict.
    pub require: GateRequirement,
    /// What a candidate may serve without a verdict: its canary.
    pub canary: Ratio,
    /// How old a verdict may be.
    pub max_age: HumanDuration,
}

/// Which rollouts need a verdict.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum GateRequirement {
    /// Those of prompts that have cases.
    #[default]
    WithCases,
    /// Those of all prompts.
    Always,
    /// None.
    Never,
}

/// What is run at night of one prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MatrixSettings {
    /// The prompt.
    pub prompt: String,
    /// Versions or ranges. Empty: the newest that is not deprecated.
    pub versions: Vec<String>,
    /// Models. Empty: the one each version was written for.
    pub models: Vec<String>,
}

// === impl CompatSettings ===

impl Default for CompatSettings {
    fn default() -> Self {
        Self {
            schedule: None,
            concurrency: 8,
            requests_per_minute: None,
            share: Ratio::percent(20),
            max_cost: UsdAmount(crate::units::MicroUsd(5_000_000)),
            max_time: HumanDuration::secs(4 * 3_600),
            samples: 3,
            max_samples: 10,
            margin: Ratio::percent(3),
            reuse_baseline: HumanDuration::secs(24 * 3_600),
            keep: HumanDuration::secs(30 * 24 * 3_600),
            judge: JudgeSettings::default(),
            gate: GateSettings::default(),
            embedder: None,
            matrix: Vec::new(),
        }
    }
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            require: GateRequirement::WithCases,
            canary: Ratio::percent(5),
            max_age: HumanDuration::secs(14 * 24 * 3_600),
        }
    }
}
