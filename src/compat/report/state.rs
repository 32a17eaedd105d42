//! Where a run is, as its report says it.

use serde::{Deserialize, Serialize};

use super::Report;

/// Where a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It waits for its turn.
    Waiting,
    /// It asks.
    Running,
    /// It has asked all that it wanted.
    #[default]
    Done,
    /// It has a verdict, by what it could ask for its money or in its time.
    Capped,
    /// Somebody ended it.
    Cancelled,
    /// It cannot be made.
    Failed,
}

// === impl RunState ===

impl RunState {
    /// Its name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Capped => "capped",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

// === impl Report ===

impl Report {
    /// Where the run is and why, where that is not simply its end: what follows is what is known so
    /// far.
    pub(super) fn caveat(&self) -> Option<String> {
        match self.state {
            RunState::Done => None,
            RunState::Waiting
            | RunState::Running
            | RunState::Capped
            | RunState::Cancelled
            | RunState::Failed => {
                let state = self.state.as_str();
                let why = self.run.ended_early.clone();
                Some(why.unwrap_or_else(|| format!("the run is {state}")))
            }
        }
    }
}
