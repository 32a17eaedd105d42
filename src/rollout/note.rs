//! What is noted of requests that take part in a rollout.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::policy::rollout::{Arm, Event, Observation, Pair, Share};

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
}

// === impl Noted ===

impl From<Noted> for Event {
    fn from(noted: Noted) -> Self {
        match noted {
            Noted::Exposed { arm, share, unit } => Self::Exposed { arm, share, unit },
            Noted::Observed(observation) => Self::Observed(observation),
            Noted::Compared(pair) => Self::Compared(pair),
        }
    }
}
