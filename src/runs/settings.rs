//! `[compat]`: when suites are run, how much that may take, and what hangs on the verdicts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schedule::Schedule;
use crate::prompt::Wanted;
use crate::units::{HumanDuration, Ratio, UsdAmount};

/// Compatibility runs of prompts and models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompatSettings {
    /// When the nightly runs begin, as a cron expression of five fields in UTC. Absent: there are
    /// none.
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
    /// Answers to each case at night, where a prompt is held against itself: the nights before are
    /// the other side.
    pub drift_samples: u32,
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
    /// The embedder of `similar`; the name of one in `[embedders]`. Absent: the only one there is,
    /// or between simulated models the simulator's.
    #[schemars(extend("examples" = ["minilm"]))]
    pub embedder: Option<String>,
    /// What is run at night besides the version in production on the model it was written for:
    /// models that could take over.
    #[schemars(extend("examples" = [[{"prompt": "support-reply", "models": ["anthropic/claude-sonnet-4-6"]}]]))]
    pub matrix: Vec<MatrixSettings>,
}

/// Who judges what no rule can.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeSettings {
    /// Models that may judge, the first that is of another family than both sides does. Empty: none
    /// does, and cases that need one say so; between simulated models the simulator's does.
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
            drift_samples: 10,
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

impl CompatSettings {
    /// What the types cannot rule out: the key, and what it must be.
    pub fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let minute = Duration::from_secs(60);
        let is_cron = |text: &String| Schedule::parse(text).is_ok();
        let names = |names: &[String]| names.iter().all(|name| !name.trim().is_empty());
        let checks = [
            (
                self.schedule.as_ref().is_none_or(is_cron),
                "schedule",
                "must be a cron expression of five fields such as `0 3 * * *`, for times in UTC",
            ),
            ((1..=1_000).contains(&self.concurrency), "concurrency", "must be 1 to 1000"),
            (
                self.requests_per_minute.is_none_or(|rate| rate > 0),
                "requests_per_minute",
                "must be at least 1; leave it out for as many as `share` allows",
            ),
            (self.share.get() > 0.0, "share", "must be more than 0%"),
            (self.max_cost.0.0 > 0, "max_cost", "must be more than 0"),
            (self.max_time.0 >= minute, "max_time", "must be at least 1m"),
            ((1..=100).contains(&self.samples), "samples", "must be 1 to 100"),
            (
                (self.samples..=100).contains(&self.max_samples),
                "max_samples",
                "must be from `samples` to 100",
            ),
            ((1..=100).contains(&self.drift_samples), "drift_samples", "must be 1 to 100"),
            (
                self.margin.get() > 0.0 && self.margin.get() < 1.0,
                "margin",
                "must be more than 0% and less than 100%",
            ),
            (self.keep.0 >= minute, "keep", "must be at least 1m"),
            (self.judge.models.len() <= 16, "judge", "may name 16 models"),
            (names(&self.judge.models), "judge", "names a model without a name"),
            (self.gate.max_age.0 >= minute, "gate", "`max_age` must be at least 1m"),
            (self.matrix.len() <= 1_000, "matrix", "may have 1000 entries"),
            (
                self.matrix.iter().all(|entry| !entry.prompt.is_empty() && names(&entry.models)),
                "matrix",
                "each entry must name a prompt, and its models by their names",
            ),
            (
                self.matrix.iter().flat_map(|entry| &entry.versions).all(|text| {
                    matches!(Wanted::parse(text), Ok(Wanted::Exact(_) | Wanted::Within(..)))
                }),
                "matrix",
                "`versions` must be versions such as `1.2.0` or ranges such as `^1.2`",
            ),
        ];
        checks.into_iter().filter(|(holds, ..)| !holds).map(|(_, key, what)| (key, what)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_by_nobody_is_right() {
        assert_eq!(CompatSettings::default().problems(), []);
    }

    #[test]
    fn what_makes_no_sense_is_told_by_its_key() {
        type Spoil = fn(&mut CompatSettings);
        let wrong: [(&str, Spoil); 10] = [
            ("schedule", |settings| settings.schedule = Some("nightly".to_owned())),
            ("schedule", |settings| settings.schedule = Some("0 3 * * * Asia/Tokyo".to_owned())),
            ("concurrency", |settings| settings.concurrency = 0),
            ("requests_per_minute", |settings| settings.requests_per_minute = Some(0)),
            ("share", |settings| settings.share = Ratio::percent(0)),
            ("max_samples", |settings| settings.max_samples = settings.samples - 1),
            ("drift_samples", |settings| settings.drift_samples = 0),
            ("margin", |settings| settings.margin = Ratio::percent(0)),
            ("gate", |settings| settings.gate.max_age = HumanDuration::secs(1)),
            ("matrix", |settings| {
                let prompt = "greeting".to_owned();
                let versions = vec!["newest".to_owned()];
                settings.matrix.push(MatrixSettings { prompt, versions, models: Vec::new() });
            }),
        ];
        for (key, spoil) in wrong {
            let mut settings = CompatSettings::default();
            spoil(&mut settings);
            let keys: Vec<_> = settings.problems().into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, [key]);
        }
    }
}
