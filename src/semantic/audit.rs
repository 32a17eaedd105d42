//! Whether the hits of a namespace are still as good as was proven: a test that may be read after
//! every single observation.
//!
//! # The test
//!
//! A part of the hits ([`AUDITED`]) is answered by a model as well, and a judge says whether the
//! kept answer would do. The hypothesis is that a hit is wrong with a chance of at most `delta`.
//! Against every larger rate `q` of a grid stands a likelihood ratio: an error multiplies it by `q
//! / delta`, a good hit by `(1 - q) / (1 - delta)`. While the hypothesis holds each is a
//! supermartingale, and so is any mixture of them. By Ville's inequality the chance that such a
//! mixture ever reaches `1 / alpha` is at most `alpha`: no peeking correction, no horizon.
//!
//! # Why it forgets without resetting
//!
//! Likelihood ratios that began when all was well sink towards zero and would need as long to climb
//! back. So the mixture is also one over beginnings: half of it starts with the first observation,
//! the rest is spread over all later ones, thinner and thinner. A change after 10,000 good hits is
//! found after about as many errors more as pay for the thinness, and the chance of a false alarm
//! stays below `alpha` over the whole life of the test.
//!
//! # A judge that errs
//!
//! A judge that takes good answers for wrong makes false alarms, which cost hits and no trust. One
//! that misses a share of the wrong answers makes errors look that much rarer; `threshold` reckons
//! with it, and this test sees what is left of them.

use serde::{Deserialize, Serialize};

/// The share of hits that should be audited.
pub const AUDITED: f64 = 0.03;

/// The chance of ever raising a false alarm.
pub const ALPHA: f64 = 0.05;

/// The rates that speak against the hypothesis, as multiples of `delta`, and what each weighs.
const AGAINST: [(f64, f64); 6] =
    [(1.5, 0.10), (2.5, 0.20), (4.0, 0.25), (8.0, 0.20), (20.0, 0.15), (50.0, 0.10)];

/// No rate of the grid is above this.
const WORST: f64 = 0.9;

/// The weight of the beginnings that are still to come is halved by so many observations.
const SPREAD: f64 = 200.0;

/// The largest value that is kept; far above any alarm.
const CEILING: f64 = 1e100;

/// The audit of one namespace from the moment it began to serve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    delta: f64,
    hits: u64,
    errors: u64,
    /// One mixture over beginnings for each rate of the grid, without the beginnings to come.
    ratios: [f64; AGAINST.len()],
    alarmed: bool,
}

/// What an observation led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Nothing speaks against serving.
    Serve,
    /// More errors than allowed: the namespace must go back to shadow.
    Shadow,
}

// === impl Audit ===

impl Audit {
    /// The audit of a namespace that may be wrong in `delta` of its hits: a share, such as 0.01.
    /// What is no share is taken for the nearest that makes sense (0.0001 to 0.5).
    pub fn new(delta: f64) -> Self {
        let delta = if delta.is_nan() { 0.0 } else { delta };
        Self {
            delta: delta.clamp(1e-4, 0.5),
            hits: 0,
            errors: 0,
            ratios: [0.5; AGAINST.len()],
            alarmed: false,
        }
    }

    /// Takes note of an audited hit. An alarm is for good: a namespace that serves again gets a
    /// new audit.
    pub fn on_hit(&mut self, wrong: bool) -> Verdict {
        let before = self.to_come();
        self.hits += 1;
        self.errors += u64::from(wrong);
        let begins = before - self.to_come();
        for (ratio, (times, _)) in self.ratios.iter_mut().zip(AGAINST) {
            let rate = (self.delta * times).min(WORST);
            let factor = if wrong { rate / self.delta } else { (1.0 - rate) / (1.0 - self.delta) };
            *ratio = ((*ratio + begins) * factor).min(CEILING);
        }
        self.alarmed |= self.evidence() >= 1.0 / ALPHA;
        self.verdict()
    }

    /// What it says now.
    pub const fn verdict(&self) -> Verdict {
        if self.alarmed { Verdict::Shadow } else { Verdict::Serve }
    }

    /// How strongly the hits speak against the hypothesis: 1 is nothing, 20 an alarm.
    pub fn evidence(&self) -> f64 {
        let begun: f64 =
            self.ratios.iter().zip(AGAINST).map(|(ratio, (_, weight))| ratio * weight).sum();
        begun + self.to_come()
    }

    /// Hits audited so far.
    pub const fn hits(&self) -> u64 {
        self.hits
    }

    /// Those of them that were wrong.
    pub const fn errors(&self) -> u64 {
        self.errors
    }

    /// The error per hit that is not exceeded, with 95 % confidence, if it never changed.
    pub fn bound(&self) -> f64 {
        super::bounds::upper(self.errors, self.hits, 0.95)
    }

    /// The weight of the beginnings that are still to come; 0.5 at first.
    fn to_come(&self) -> f64 {
        0.5 * SPREAD / (self.hits as f64 + SPREAD)
    }
}

#[cfg(test)]
mod tests;
