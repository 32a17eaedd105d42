//! What is noted of requests that take part in a rollout.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::policy::rollout::{Arm, Event, Observation, Pair, Share};
use crate::units::MicroUsd;

/// One thing that is known of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The rollout's id.
    pub rollout: Arc<str>,
    /// What is known.
    pub noted: Noted,
}

/// What is known. Exposures come before the outcomes of the same request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Noted {
    /// It is served by this side, whatever becomes of it.
    Exposed {
        /// The side.
        arm: Arm,
        /// The share by which it was drawn.
        share: Share,
        /// As in [`Observation`].
        unit: Option<u32>,
    },
    /// How it went.
    Observed(Observation),
    /// How it went on both sides.
    Compared(Pair),
    /// What the candidate's answer cost in a shadow stage, whatever came of it.
    Spent(MicroUsd),
}

// === impl Noted ===

impl Noted {
    /// What it is for the analysis; nothing where it is money alone.
    pub(super) fn event(self) -> Option<Event> {
        match self {
            Self::Exposed { arm, share, unit } => Some(Event::Exposed { arm, share, unit }),
            Self::Observed(observation) => Some(Event::Observed(observation)),
            Self::Compared(pair) => Some(Event::Compared(pair)),
            Self::Spent(_) => None,
        }
    }
}
