//! What a candidate is held to.

use serde::{Deserialize, Serialize};

use crate::compat::{Depth, Side};

/// The part of the error that a failing pass rate may be wrong with.
pub(super) const PASS_RATE: f64 = 0.6;
/// That of each other criterion: preference, length, cost, latency. What remains is for critical
/// cases. A candidate that is no different is a whole margin away from failing one of these, so
/// they use almost nothing of it.
pub(super) const OTHERS: f64 = 0.05;
/// That of all critical cases together.
pub(super) const CRITICAL: f64 = 0.2;

/// What a candidate is held to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// How much lower its rate of passed answers may be: 0.03 are three points. Above 0, below 1.
    pub margin: f64,
    /// Whether the rate of passed answers gates.
    #[serde(skip_serializing_if = "Bearing::is_gating")]
    pub pass_rate: Bearing,
    /// Pairs of each case at the first look. At least 1.
    pub samples: u32,
    /// Pairs of each case at the last look. At least `samples`.
    pub max_samples: u32,
    /// How often a candidate that is no different may be called incompatible, and one that is worse
    /// by a margin compatible; over all looks.
    pub error: f64,
    /// How often a regression should be found, and a candidate that is no different be called
    /// compatible, at the sizes that are announced.
    pub power: f64,
    /// The loss that should be found: 0.05 are five points. See [`Terms::to_find`].
    pub regression: f64,
    /// How much longer, costlier or slower answers may be: 0.15 is 15 %.
    pub ratio: f64,
    /// Whether longer answers gate.
    pub length: Bearing,
    /// Whether costlier answers gate.
    pub cost: Bearing,
    /// Whether slower answers gate.
    pub latency: Bearing,
    /// By how much more of the pairs may lose before the judge than win: 0.05 are five points.
    pub preference_margin: f64,
    /// What the judge prefers: whether it gates.
    pub preference: Bearing,
    /// The part of pairs that may be without an answer.
    pub max_unanswered: f64,
}

/// What a criterion is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bearing {
    /// The verdict hangs on it.
    Gates,
    /// It is told, and decides nothing.
    Reported,
}

// === impl Bearing ===

impl Bearing {
    fn is_gating(&self) -> bool {
        *self == Self::Gates
    }
}

// === impl Terms ===

/// Length and cost gate: another wording of a prompt on the same model has no reason to make
/// answers longer. Latency is told only: that of one night is the provider's, and a baseline whose
/// answers are reused was measured in another.
impl Default for Terms {
    fn default() -> Self {
        Self {
            margin: 0.03,
            pass_rate: Bearing::Gates,
            samples: 3,
            max_samples: 10,
            error: 0.05,
            power: 0.8,
            regression: 0.05,
            ratio: 0.15,
            length: Bearing::Gates,
            cost: Bearing::Gates,
            latency: Bearing::Reported,
            preference_margin: 0.05,
            preference: Bearing::Gates,
            max_unanswered: 0.1,
        }
    }
}

impl Terms {
    /// The terms for two sides, otherwise as they are. On different models length and cost are told
    /// only: tokens of two tokenisers are not the same unit, and what another model costs a token
    /// was known to whoever chose it.
    #[must_use]
    pub fn between(mut self, baseline: &Side, candidate: &Side) -> Self {
        if baseline.model != candidate.model {
            self.length = Bearing::Reported;
            self.cost = Bearing::Reported;
        }
        self
    }

    /// The terms at a depth, otherwise as they are. A smoke run has a handful of cases, with which
    /// no three points can be told: it looks for what is broken, so its margin is at least ten
    /// points, and that of a targeted run at least five.
    #[must_use]
    pub fn at(mut self, depth: Depth) -> Self {
        let least = match depth {
            Depth::Smoke => 0.1,
            Depth::Targeted => 0.05,
            Depth::Full => 0.0,
        };
        self.margin = self.margin.max(least);
        self
    }

    /// The terms of cases that are all critical, a library of incidents: the verdict hangs on them
    /// alone, one by one. A rate of a handful of cases would tell nothing.
    #[must_use]
    pub fn of_incidents(self) -> Self {
        Self {
            pass_rate: Bearing::Reported,
            length: Bearing::Reported,
            cost: Bearing::Reported,
            preference: Bearing::Reported,
            ..self.at(Depth::Smoke)
        }
    }

    /// The loss that should be found, but at least five thirds of the margin: what is hardly beyond
    /// the margin is seen on this side of it as often as not.
    pub fn to_find(&self) -> f64 {
        self.regression.max(self.margin * 5.0 / 3.0)
    }

    /// After how many pairs of each case the run is looked at: at first, in the middle (the
    /// geometric mean), and at the end. Known before the run begins, whatever is seen.
    pub fn ladder(&self) -> Vec<u32> {
        let first = self.samples.max(1);
        let last = self.max_samples.max(first);
        let middle = (f64::from(first) * f64::from(last)).sqrt().ceil() as u32;
        let mut ladder = vec![first, middle, last];
        ladder.dedup();
        ladder
    }
}
