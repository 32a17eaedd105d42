//! The stages of a rollout and what each asks for.

use serde::{Deserialize, Serialize};

use super::assign::{Share, UnitKind};
use super::guardrails::Guardrails;
use crate::units::HumanDuration;

/// How a rollout is to go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// What is assigned as a whole.
    pub unit: UnitKind,
    /// The stages, in order; after the last the rollout is done.
    pub stages: Vec<Stage>,
    /// What is watched.
    pub guardrails: Guardrails,
    /// How long a stage may stay undecided before somebody is asked.
    pub longest_hold: HumanDuration,
    /// How long a candidate that was rolled back may not be rolled out again.
    pub quarantine: HumanDuration,
    /// Whether it grows without a verdict of compatibility.
    pub ungated: bool,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// What the candidate serves. With nothing it is a shadow stage: it answers beside the control
    /// and is compared, and nobody sees its answers.
    pub share: Share,
    /// How long it lasts at least.
    pub min_time: HumanDuration,
    /// How many requests the candidate answers in it at least.
    pub min_requests: u64,
}

/// What kind of stage one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageKind {
    /// The candidate is compared and not served.
    Shadow,
    /// A few see it: up to 5 %.
    Canary,
    /// More and more do.
    Progressive,
    /// All do, and it is still watched.
    Watch,
}

/// Why a plan cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// It has no stages.
    #[error("a rollout needs at least one stage")]
    NoStage,
    /// It has more stages than anybody needs.
    #[error("a rollout has at most {MOST_STAGES} stages")]
    TooManyStages,
    /// A stage serves no more than the one before.
    #[error("stage {stage} serves {share}, which is not more than the stage before")]
    NotGrowing {
        /// Which, from 1.
        stage: usize,
        /// What it serves.
        share: Share,
    },
    /// A guardrail is wrong.
    #[error("{0}")]
    Guardrails(String),
}

/// The most stages of a plan.
pub const MOST_STAGES: usize = 50;

// === impl Plan ===

impl Plan {
    /// What makes the plan unusable.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.stages.is_empty() {
            return Err(PlanError::NoStage);
        }
        if self.stages.len() > MOST_STAGES {
            return Err(PlanError::TooManyStages);
        }
        let pairs = self.stages.iter().zip(self.stages.iter().skip(1)).enumerate();
        for (at, (earlier, later)) in pairs {
            if later.share <= earlier.share {
                return Err(PlanError::NotGrowing { stage: at + 2, share: later.share });
            }
        }
        self.guardrails.fault().map_or(Ok(()), |fault| Err(PlanError::Guardrails(fault)))
    }

    /// How long the rollout takes at least with so many requests a second, in seconds: what to show
    /// before it starts. Infinite without traffic.
    pub fn seconds_at(&self, requests_per_second: f64) -> f64 {
        let stage = |stage: &Stage| {
            let part = if stage.share == Share::NONE { 1.0 } else { stage.share.part() };
            let requests = stage.min_requests as f64;
            let waiting =
                if requests > 0.0 { requests / (requests_per_second * part) } else { 0.0 };
            waiting.max(stage.min_time.0.as_secs_f64())
        };
        self.stages.iter().map(stage).sum()
    }
}

impl Default for Plan {
    /// 1 % for 5 minutes and 100 requests, 5 % for 15 and 500, 20 % for 30 and 1,000, 50 % for an
    /// hour and 2,000, and all for a day.
    fn default() -> Self {
        const MINUTE: u64 = 60;
        let stage = |percent: u16, minutes: u64, min_requests| Stage {
            share: Share::try_from(percent * 100).unwrap_or(Share::ALL),
            min_time: HumanDuration::secs(minutes * MINUTE),
            min_requests,
        };
        Self {
            unit: UnitKind::default(),
            stages: vec![
                stage(1, 5, 100),
                stage(5, 15, 500),
                stage(20, 30, 1_000),
                stage(50, 60, 2_000),
                stage(100, 24 * 60, 0),
            ],
            guardrails: Guardrails::default(),
            longest_hold: HumanDuration::secs(24 * 60 * MINUTE),
            quarantine: HumanDuration::secs(24 * 60 * MINUTE),
            ungated: false,
        }
    }
}

// === impl Stage ===

impl Stage {
    /// What kind it is.
    pub fn kind(&self) -> StageKind {
        match self.share.percent() {
            share if share <= 0.0 => StageKind::Shadow,
            share if share <= 5.0 => StageKind::Canary,
            share if share < 100.0 => StageKind::Progressive,
            _ => StageKind::Watch,
        }
    }

    /// How long it lasts at least, in milliseconds.
    pub(crate) fn min_ms(&self) -> u64 {
        u64::try_from(self.min_time.0.as_millis()).unwrap_or(u64::MAX)
    }
}

// === impl StageKind ===

impl StageKind {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::Progressive => "progressive",
            Self::Watch => "watch",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_plan_is_usable_and_tells_how_long_it_takes() {
        let plan = Plan::default();
        plan.check().unwrap();
        // At 1 request a second the 1 % stage alone takes 10,000 s for its 100 requests.
        assert!(plan.seconds_at(1.0) > 10_000.0);
        let stages = 5 * 60 + 15 * 60 + 30 * 60 + 60 * 60 + 24 * 60 * 60;
        assert!((plan.seconds_at(1e9) - f64::from(stages)).abs() < 1.0);
    }

    #[test]
    fn faulty_plans_say_what_is_wrong() {
        let error = |change: fn(&mut Plan)| {
            let mut plan = Plan::default();
            change(&mut plan);
            plan.check().unwrap_err().to_string()
        };
        assert_eq!(error(|plan| plan.stages.clear()), "a rollout needs at least one stage");
        let swapped = error(|plan| plan.stages.swap(0, 1));
        assert_eq!(swapped, "stage 2 serves 1 %, which is not more than the stage before");
        let twice = error(|plan| plan.guardrails.0 = vec![plan.guardrails.0[0]; 2]);
        assert_eq!(twice, "the guardrail errors is there twice");
        assert_eq!(
            error(|plan| plan.guardrails.0[0].margin = super::super::Margin::Times(2.0)),
            "Times(2.0) is no margin for the guardrail errors"
        );
        assert!(error(|plan| plan.guardrails.0[0].weight = f64::NAN).contains("weight of errors"));
    }
}
