//! What happens to a rollout, and what follows.

use serde::{Deserialize, Serialize};

use super::assign::{Arm, Share};
use super::bound::Bound;
use super::evidence::Decision;
use super::guardrails::Guardrail;
use super::test::{Observation, Pair};

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Stages pass by themselves.
    Running,
    /// The share stays as it is.
    Paused(PausedBy),
    /// The candidate has taken the control's place.
    Done,
    /// The control serves everybody again.
    RolledBack,
}

/// What paused a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PausedBy {
    /// Somebody did.
    Operator,
    /// There is evidence of harm, but of less than the margin.
    SlightHarm(Guardrail),
    /// The split is off.
    SampleRatio,
    /// A stage was undecided for too long.
    Undecided,
}

/// What happens to a rollout.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A unit is served: before its outcome is known, and whatever that is.
    Exposed {
        /// By which side.
        arm: Arm,
        /// The share by which it was drawn.
        share: Share,
        /// As in [`Observation`].
        unit: Option<u32>,
    },
    /// Something is known of a request.
    Observed(Observation),
    /// Both sides have answered a request, in a shadow stage.
    Compared(Pair),
    /// Time has passed. At least every few seconds: stages pass at ticks.
    Tick,
    /// How far it may grow is known anew.
    Bounded(Bound),
    /// An operator sets the share.
    SetShare(Share),
    /// An operator pauses.
    Pause,
    /// An operator resumes.
    Resume,
    /// An operator begins the next stage now.
    Promote,
    /// An operator rolls back, and says why.
    RollBack(String),
    /// No growth from now on.
    Freeze,
    /// Growth is allowed again.
    Thaw,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// All nodes assign by this share from now on.
    Steer {
        /// What the candidate serves.
        share: Share,
        /// Whether the candidate answers beside the control.
        is_shadow: bool,
        /// Whether requests that have no first token yet leave the candidate at once.
        is_harm: bool,
    },
    /// Keep this decision.
    Record(Decision),
    /// Tell somebody.
    Page(String),
    /// What the candidate answered is not to be served from a cache.
    ForgetAnswers,
    /// The candidate may not be rolled out again before.
    Quarantine {
        /// In Unix milliseconds.
        until_ms: u64,
    },
    /// The command cannot be followed.
    Refuse(Refusal),
}

/// Why a command cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has ended.
    #[error("the rollout is over")]
    Over,
    /// Growth is not allowed now.
    #[error("the rollout is frozen: its share may shrink but not grow")]
    Frozen,
    /// The candidate may not serve so much.
    #[error("the candidate may not serve so much yet")]
    Bounded,
    /// There is nothing to resume.
    #[error("the rollout is not paused")]
    NotPaused,
    /// It is paused already.
    #[error("the rollout is paused already")]
    Paused,
}
