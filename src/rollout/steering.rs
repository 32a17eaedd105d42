//! What requests are steered by: for each prompt and each route that is being rolled out, both
//! sides and the share of one.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::ids::{PromptId, RouteName};
use crate::policy::rollout::{Arm, Draw, Salt, Share, UnitKind};
use crate::prompt::Version;
use crate::units::MicroUsd;

/// All rollouts that steer requests. A prompt and a route take part in one at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steering {
    /// By the prompt's id.
    pub prompts: HashMap<PromptId, Arc<Steered>>,
    /// By the route's name.
    pub routes: HashMap<RouteName, Arc<Steered>>,
    /// Ids of rollouts that were rolled back because of harm, lately.
    pub harmful: Vec<Arc<str>>,
}

/// A rollout as requests see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steered {
    /// Its id.
    pub id: Arc<str>,
    /// What is rolled out.
    pub subject: Subject,
    /// By what units are assigned.
    pub salt: Salt,
    /// What is assigned as a whole.
    pub unit: UnitKind,
    /// What the candidate serves.
    pub share: Share,
    /// What is asked of the candidate beside the control, in a shadow stage.
    pub shadow: Option<Shadowing>,
    /// Changes whenever anything of it does.
    pub revision: u64,
}

/// What is rolled out, in place of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A version of a prompt.
    Prompt {
        /// The prompt.
        id: PromptId,
        /// The control.
        from: Version,
        /// The candidate.
        to: Version,
    },
    /// A model of a route, as `provider/model`.
    Route {
        /// The route.
        name: RouteName,
        /// The control.
        from: String,
        /// The candidate.
        to: String,
    },
}

/// How much of the traffic a shadow sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadowing {
    /// The part of the units that is asked for.
    pub sample: Share,
    /// What the candidate's answers may still cost on all nodes together.
    pub left: MicroUsd,
}

// === impl Steering ===

impl Steering {
    /// Whether nothing is rolled out.
    pub fn is_empty(&self) -> bool {
        self.prompts.is_empty() && self.routes.is_empty()
    }

    /// Whether the candidate of this rollout was found to do harm.
    pub fn is_harmful(&self, rollout: &str) -> bool {
        self.harmful.iter().any(|id| &**id == rollout)
    }
}

// === impl Subject ===

impl Subject {
    /// From its parts as they are stored and shown: `prompt` or `route`, its name, and both sides.
    /// `None` where they are none.
    pub fn of(kind: &str, name: &str, from: &str, to: &str) -> Option<Self> {
        match kind {
            "prompt" => {
                let (from, to) = (from.parse().ok()?, to.parse().ok()?);
                Some(Self::Prompt { id: PromptId::new(name), from, to })
            }
            "route" => {
                let (from, to) = (from.to_owned(), to.to_owned());
                Some(Self::Route { name: RouteName::new(name), from, to })
            }
            _ => None,
        }
    }

    /// `prompt` or `route`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Prompt { .. } => "prompt",
            Self::Route { .. } => "route",
        }
    }

    /// The prompt's id or the route's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Prompt { id, .. } => id.as_str(),
            Self::Route { name, .. } => name.as_str(),
        }
    }

    /// Both sides: the control, then the candidate.
    pub fn sides(&self) -> (String, String) {
        match self {
            Self::Prompt { from, to, .. } => (from.to_string(), to.to_string()),
            Self::Route { from, to, .. } => (from.clone(), to.clone()),
        }
    }
}

impl fmt::Display for Subject {
    /// `prompt support 1.2.0 -> 1.3.0`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = self.sides();
        write!(f, "{} {} {from} -> {to}", self.kind(), self.name())
    }
}

// === impl Steered ===

impl Steered {
    /// The lot of a unit.
    pub fn draw(&self, unit: &str) -> Draw {
        self.salt.draw(unit.as_bytes())
    }

    /// The side that a lot is on.
    pub fn arm(&self, draw: Draw) -> Arm {
        draw.arm(self.share)
    }
}
