//! What a candidate must not make worse, which direction is bad, and how much of it matters.

use serde::{Deserialize, Serialize};

/// One thing that is measured on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guardrail {
    /// The request failed: 1, or not: 0. Attempts that a retry made good may be counted as well.
    Errors,
    /// The answer broke off, or its stream ended without its end: 1 or 0.
    Incomplete,
    /// JSON or tool calls that do not fit their schema: 1 or 0, only where some were asked for.
    InvalidOutput,
    /// The model refused, or a filter did: 1 or 0.
    Refusals,
    /// Milliseconds until the first token.
    FirstToken,
    /// Milliseconds per token after the first.
    Pace,
    /// What the request cost, in any unit that stays the same.
    Cost,
    /// Tokens of the answer: longer is worse.
    Longer,
    /// Tokens of the answer: shorter is worse.
    Shorter,
    /// A score of feedback or of a judge, 0 to 1: lower is worse.
    Quality,
}

/// How much worse is too much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Margin {
    /// So much more of the requests (0.005 is half a percentage point).
    Points(f64),
    /// So many times the control's geometric mean: above 1 where more is worse.
    Times(f64),
    /// So much less of the mean score.
    Score(f64),
}

/// What is asked of one guardrail.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which.
    pub guardrail: Guardrail,
    /// Evidence of less harm than this pauses instead of rolling back.
    pub margin: Margin,
    /// Its part of the evidence; relative to the others'. Above 0.
    pub weight: f64,
}

/// The guardrails of a rollout, each at most once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Guardrails(pub Vec<Rule>);

// === impl Guardrail ===

impl Guardrail {
    /// All, in the order of their indices.
    pub const ALL: [Self; 10] = [
        Self::Errors,
        Self::Incomplete,
        Self::InvalidOutput,
        Self::Refusals,
        Self::FirstToken,
        Self::Pace,
        Self::Cost,
        Self::Longer,
        Self::Shorter,
        Self::Quality,
    ];

    /// Its name in figures and decisions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Incomplete => "incomplete",
            Self::InvalidOutput => "invalid_output",
            Self::Refusals => "refusals",
            Self::FirstToken => "first_token",
            Self::Pace => "pace",
            Self::Cost => "cost",
            Self::Longer => "longer",
            Self::Shorter => "shorter",
            Self::Quality => "quality",
        }
    }

    /// Its place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether a reading is 0 or 1, 1 being bad.
    pub const fn is_binary(self) -> bool {
        matches!(self, Self::Errors | Self::Incomplete | Self::InvalidOutput | Self::Refusals)
    }

    /// A reading on the scale on which it is compared: the logarithm where ratios matter (at least
    /// that of 1e-6, so that nothing is infinite), and itself for scores.
    pub(crate) fn scaled(self, reading: f64) -> f64 {
        match self {
            Self::Errors | Self::Incomplete | Self::InvalidOutput | Self::Refusals => reading,
            Self::Quality => reading.clamp(0.0, 1.0),
            Self::FirstToken | Self::Pace | Self::Cost | Self::Longer | Self::Shorter => {
                reading.clamp(1e-6, 1e12).ln()
            }
        }
    }

    /// 1 where more is worse, -1 where less is.
    pub(crate) const fn sign(self) -> f64 {
        match self {
            Self::Shorter | Self::Quality => -1.0,
            Self::Errors
            | Self::Incomplete
            | Self::InvalidOutput
            | Self::Refusals
            | Self::FirstToken
            | Self::Pace
            | Self::Cost
            | Self::Longer => 1.0,
        }
    }

    /// The margin and weight that fit most rollouts. Half a percentage point is what a user of a
    /// hundred requests a week begins to notice; errors weigh most because they hurt at once.
    pub const fn default_rule(self) -> Rule {
        let (margin, weight) = match self {
            Self::Errors => (Margin::Points(0.005), 4.0),
            Self::Incomplete => (Margin::Points(0.005), 1.5),
            Self::InvalidOutput => (Margin::Points(0.005), 1.5),
            Self::Refusals => (Margin::Points(0.005), 1.5),
            Self::FirstToken => (Margin::Times(1.15), 1.5),
            Self::Pace => (Margin::Times(1.15), 1.0),
            Self::Cost => (Margin::Times(1.15), 1.0),
            Self::Longer => (Margin::Times(1.3), 0.5),
            Self::Shorter => (Margin::Times(1.3), 0.5),
            Self::Quality => (Margin::Score(0.03), 1.0),
        };
        Rule { guardrail: self, margin, weight }
    }
}

// === impl Margin ===

impl Margin {
    /// On the scale of [`Guardrail::scaled`], above 0.
    pub(crate) fn scaled(self) -> f64 {
        match self {
            Self::Points(points) => points,
            Self::Times(times) => times.ln(),
            Self::Score(score) => score,
        }
    }

    /// Whether it is a margin for this guardrail, and one that makes sense.
    pub(crate) fn fits(self, guardrail: Guardrail) -> bool {
        match self {
            Self::Points(points) => guardrail.is_binary() && (0.0..1.0).contains(&points),
            Self::Score(score) => guardrail == Guardrail::Quality && (0.0..1.0).contains(&score),
            Self::Times(times) => {
                !guardrail.is_binary()
                    && guardrail != Guardrail::Quality
                    && (1.0..1_000.0).contains(&times)
            }
        }
    }
}

// === impl Guardrails ===

impl Guardrails {
    /// What makes a list of guardrails unusable; `None` if nothing does.
    pub fn fault(&self) -> Option<String> {
        for (at, rule) in self.0.iter().enumerate() {
            let name = rule.guardrail.as_str();
            if self.0.iter().take(at).any(|earlier| earlier.guardrail == rule.guardrail) {
                return Some(format!("the guardrail {name} is there twice"));
            }
            if !rule.margin.fits(rule.guardrail) {
                return Some(format!("{:?} is no margin for the guardrail {name}", rule.margin));
            }
            if !(rule.weight > 0.0 && rule.weight <= 1e6) {
                return Some(format!("the weight of {name} is above 0 and at most 1000000"));
            }
        }
        self.0.is_empty().then(|| "a rollout needs at least one guardrail".to_owned())
    }

    /// The rule's part of the evidence: all parts sum to 1.
    pub(crate) fn part(&self, rule: &Rule) -> f64 {
        rule.weight / self.0.iter().map(|rule| rule.weight).sum::<f64>()
    }
}

impl Default for Guardrails {
    /// All of them, as [`Guardrail::default_rule`] has them.
    fn default() -> Self {
        Self(Guardrail::ALL.into_iter().map(Guardrail::default_rule).collect())
    }
}
