//! Which lesser answer to try when the full one cannot be had.
//!
//! The steps come in one order and none comes twice, so that a request ends after at most four of
//! them. Nothing is degraded once a part of an answer has been sent, nor for a request that is
//! itself wrong or refused: a lesser answer would only hide that.

use crate::failure::{Excess, FailureKind, Retry};

/// How far an answer was degraded: the value of `x-tidegate-degradation`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The answer is what was asked for.
    #[default]
    None,
    /// The oldest turns of the conversation were left out.
    ReducedContext,
    /// A model of a later tier answered.
    SmallerModel,
    /// An answer from the cache that is past its time.
    StaleAnswer,
    /// A fixed text from the configuration.
    Scripted,
}

/// What a route allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ladder {
    /// Whether the oldest turns may be left out.
    pub reduced_context: bool,
    /// Whether later tiers may answer.
    pub smaller_model: bool,
    /// Whether an answer from the cache may be past its time.
    pub stale_cache: bool,
    /// Whether there is a fixed text.
    pub scripted: bool,
}

/// Why the last try gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The prompt is longer than the model's context.
    ContextOverflow,
    /// No target of the tier could be tried: all are broken, limited, or full.
    NoTarget,
    /// The attempts failed, the last one like this.
    Failed(FailureKind),
}

/// What is the case for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Why the last try gave no answer.
    pub trouble: Trouble,
    /// Whether a part of an answer has been sent to the caller.
    pub is_committed: bool,
    /// Whether the conversation has turns that can be left out.
    pub can_reduce: bool,
    /// Whether a later tier has a target that can be tried.
    pub has_later_tier: bool,
    /// Whether the cache holds an answer past its time.
    pub has_stale_answer: bool,
    /// Whether the caller takes plain text: no JSON asked for, no tool required.
    pub takes_plain_text: bool,
}

// === impl Level ===

impl Level {
    /// All of them, in the order they are tried.
    pub const ALL: [Self; 5] =
        [Self::None, Self::ReducedContext, Self::SmallerModel, Self::StaleAnswer, Self::Scripted];

    /// The number in `x-tidegate-degradation`, 0 to 4.
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::ReducedContext => 1,
            Self::SmallerModel => 2,
            Self::StaleAnswer => 3,
            Self::Scripted => 4,
        }
    }

    /// The word for logs, metrics and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ReducedContext => "reduced_context",
            Self::SmallerModel => "smaller_model",
            Self::StaleAnswer => "stale_answer",
            Self::Scripted => "scripted",
        }
    }
}

// === impl Ladder ===

impl Ladder {
    /// The next step after the one that gave no answer; `None` where the request has to fail. A
    /// context that was reduced stays so on the later steps.
    pub fn next_step(self, current: Level, facts: &Facts) -> Option<Level> {
        if facts.is_committed || !facts.trouble.can_be_degraded() {
            return None;
        }
        Level::ALL
            .into_iter()
            .filter(|level| *level > current)
            .find(|level| self.takes(*level, facts))
    }

    fn takes(self, level: Level, facts: &Facts) -> bool {
        match level {
            Level::None => false,
            Level::ReducedContext => {
                self.reduced_context && facts.can_reduce && facts.trouble.is_eased_by_less_context()
            }
            Level::SmallerModel => self.smaller_model && facts.has_later_tier,
            Level::StaleAnswer => self.stale_cache && facts.has_stale_answer,
            Level::Scripted => self.scripted && facts.takes_plain_text,
        }
    }
}

// === impl Trouble ===

impl Trouble {
    fn can_be_degraded(self) -> bool {
        match self {
            Self::ContextOverflow | Self::NoTarget => true,
            Self::Failed(kind) => kind.retry() != Retry::Never,
        }
    }

    /// Whether a shorter prompt can help: it fits, it is faster, it takes less of a limit.
    fn is_eased_by_less_context(self) -> bool {
        match self {
            Self::ContextOverflow => true,
            Self::NoTarget => false,
            Self::Failed(kind) => kind.excess() != Excess::Nothing,
        }
    }
}

#[cfg(test)]
mod tests;
