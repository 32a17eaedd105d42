//! Bets on the side of an outcome: evidence that may be looked at at any time.
//!
//! Sides are drawn by hash: a unit is on the candidate with probability `p` (the share when it was
//! assigned), whatever its requests are like. If the candidate is no different, then what happened
//! tells nothing about the side: given an outcome `x` and the past, the side is still a coin with
//! probability `p`. A bet that outcomes like `x` are `r(x)` times as frequent with the candidate
//! expects it with `q = p r / (p r + 1 - p)` instead, and multiplies its wealth by
//!
//! ```text
//! candidate: q/p = r / (p r + 1 - p)          control: (1-q)/(1-p) = 1 / (p r + 1 - p)
//! ```
//!
//! The mean of that factor is `p q/p + (1-p) (1-q)/(1-p) = 1`, for any `r` that was chosen before
//! the side was seen: the wealth is a test martingale, and `P(wealth ever >= 1/a) <= a` (Ville
//! 1939; Ramdas, Grünwald, Vovk and Shafer, "Game-theoretic statistics and safe anytime-valid
//! inference", Statistical Science 2023). If `r` grows with the badness of `x` and the candidate is
//! *better* (its outcomes are stochastically smaller), the mean is below 1: the test is one-sided.
//!
//! Nobody knows `r`, so the wealth is spread evenly over [`KINDS`] guesses; their mean is a
//! martingale as well and costs at most `ln KINDS` of evidence.
//!
//! Why this and not blocks of the two-sample e-test (Turner, Ly and Grünwald, "Generic e-variables
//! for exact sequential k-sample tests", JSPI 2024): it needs no blocks, so each outcome counts at
//! once; the share may change at any time; and an outage that hits both sides cannot fool it,
//! because only the sides of what happened count, never the rates over time. Information per
//! request is the same: the mutual information between side and outcome,
//! `p KL(b|c) + (1-p) KL(a|c)` with `c` the mixture of the two. Binary guardrails bet on failures
//! only (see [`crate::policy::rollout::spoken`] for why), which keeps 97 % of it at 10 % against 1
//! % and a split of 5 %.

use serde::{Deserialize, Serialize};

use super::assign::Arm;

#[cfg(test)]
mod tests;

/// How many guesses the wealth is spread over.
pub const KINDS: usize = 8;

/// How many times as frequent each guess takes an outcome to be with the candidate.
pub type Ratios = [f64; KINDS];

/// The wealth of each guess and their mean. Starts at 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bets {
    wealth: [f64; KINDS],
    mean: f64,
}

/// How many times as frequent a failure is, by guess.
pub const FAILURE: Ratios = [1.4, 2.0, 2.8, 4.0, 6.0, 12.0, 40.0, 200.0];
/// By how many standard deviations a measure is worse, by guess.
const SHIFTS: [f64; 6] = [0.1, 0.2, 0.35, 0.6, 1.0, 1.8];
/// The last two guesses: how many times as frequent the worst part is.
const TAILS: [f64; 2] = [3.0, 8.0];
/// Where the worst 5 % of a normal distribution begin, in standard deviations.
const TAIL_BEGINS: f64 = 1.644_854;
const TAIL_PART: f64 = 0.05;
/// Wealth is kept in this range, so that products neither overflow nor stay at nothing for ever.
/// The lower end gives away `1e-280`, which changes no decision.
const RANGE: (f64, f64) = (1e-280, 1e280);

// === impl Bets ===

impl Bets {
    /// Nothing bet yet.
    pub const fn new() -> Self {
        Self { wealth: [1.0; KINDS], mean: 1.0 }
    }

    /// The evidence that the candidate is worse: at least 0, and 1 says nothing.
    pub fn value(&self) -> f64 {
        self.mean
    }

    /// Takes an outcome into account that happened on `arm` when the candidate's share of the
    /// traffic was `part` (0 to 1; at the ends there is nothing to bet on).
    pub fn settle(&mut self, arm: Arm, part: f64, ratios: &Ratios) {
        if part <= 0.0 || part >= 1.0 {
            return;
        }
        self.multiply(ratios, |ratio| {
            let whole = part * ratio + 1.0 - part;
            match arm {
                Arm::Candidate => ratio / whole,
                Arm::Control => 1.0 / whole,
            }
        });
    }

    /// Takes a pair of outcomes of the same request into account. If the candidate is no different
    /// the two could be exchanged, so that the candidate's is either with probability one half and
    /// the factor `2 r(candidate) / (r(candidate) + r(control))` has the mean 1.
    pub fn settle_pair(&mut self, candidate: &Ratios, control: &Ratios) {
        let mut controls = control.iter();
        self.multiply(candidate, |ratio| {
            let other = controls.next().copied().unwrap_or(1.0);
            2.0 * ratio / (ratio + other)
        });
    }

    fn multiply(&mut self, ratios: &Ratios, mut factor: impl FnMut(f64) -> f64) {
        for (wealth, ratio) in self.wealth.iter_mut().zip(ratios) {
            *wealth = (*wealth * factor(*ratio)).clamp(RANGE.0, RANGE.1);
        }
        self.mean = self.wealth.iter().sum::<f64>() / KINDS as f64;
    }
}

impl Default for Bets {
    fn default() -> Self {
        Self::new()
    }
}

/// What each guess takes an outcome to be that is `z` standard deviations worse than usual: six
/// shifts of a normal distribution, `exp(d z - d^2/2)`, and two that only the worst 5 % are more
/// frequent. All grow with `z`, as the one-sided test demands; none needs the outcome to be normal.
pub fn worse_by(z: f64) -> Ratios {
    let mut ratios = [1.0; KINDS];
    let (shifts, tails) = ratios.split_at_mut(SHIFTS.len());
    for (ratio, shift) in shifts.iter_mut().zip(SHIFTS) {
        *ratio = (shift * z - shift * shift / 2.0).exp();
    }
    for (ratio, times) in tails.iter_mut().zip(TAILS) {
        let elsewhere = (1.0 - times * TAIL_PART) / (1.0 - TAIL_PART);
        *ratio = if z >= TAIL_BEGINS { times } else { elsewhere };
    }
    ratios
}
