//! One guardrail's evidence, figures and confidence sequence.
//!
//! **Evidence.** Two runs of [`Bets`], one over the whole rollout and one anew at each change of
//! stage, because a candidate that was well for a thousand requests and then turned bad has lost
//! the wealth of the first. With `v_j = 1/(j (j+1))` for the `j`-th stage after the first,
//!
//! ```text
//! E = 0.7 whole + 0.3 v_j fresh_j,      0.7 + 0.3 (1/2 + 1/6 + 1/12 + ...) = 1
//! ```
//!
//! is an e-process again. (In the first stage the second part is left out: it would say the same.)
//!
//! **Measures** are bet on as standard scores, `z = (x - mean) / deviation` of all earlier readings
//! of both sides, bounded to three deviations either way, where `x` is a logarithm for times, costs
//! and lengths. Mean and deviation only decide how well one bets, never whether the test is valid,
//! so outliers and odd distributions cost time and nothing else.
//!
//! **Confidence sequence.** With `m` the mean of the earlier readings, each reading is turned into
//!
//! ```text
//! t = (x - m) (1/p if candidate, -1/(1-p) if control)
//! ```
//!
//! whose mean over the draw of the side is the effect, at any share and while the share changes.
//! The interval for the mean of `n` of them with deviation `s`, which holds at all times together
//! with probability 0.95 (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central
//! limit theory and asymptotic confidence sequences", Annals of Statistics 2024, theorem 2.2), is
//!
//! ```text
//! mean t ± s sqrt( 2 (n r^2 + 1) / (n^2 r^2) ln( sqrt(n r^2 + 1) / a ) )
//! ```
//!
//! with `r` such that it is narrowest near [`NARROWEST_AT`] readings. It is asymptotic: it is
//! shown, and lets a stage pass, but rolls nothing back. It takes requests to be independent.

use serde::{Deserialize, Serialize};

use super::assign::{Arm, Share};
use super::bets::{self, Bets, Ratios};
use super::guardrails::Guardrail;
use super::hard::HardFailure;
use super::segments::Traits;

#[cfg(test)]
mod tests;

/// What is known of a request of one side. Parts that are known later (a rating, the end of a long
/// stream) are further observations with the same side and share. The order of the fields is how
/// nodes write them (`rollout::note`): new ones go last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The side that served it.
    pub arm: Arm,
    /// The candidate's share when the side was drawn, which need not be the one now.
    pub share: Share,
    /// [`super::Draw::fingerprint`]; `None` where each request is its own unit.
    pub unit: Option<u32>,
    /// How hard it failed; `None` in observations that come later.
    pub hard: Option<HardFailure>,
    /// What was measured.
    pub readings: Readings,
    /// Which parts of the traffic it belongs to.
    pub traits: Traits,
}

/// What is known of a request that both sides answered, in a shadow stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// As in [`Observation`].
    pub unit: Option<u32>,
    /// The candidate's.
    pub candidate: Readings,
    /// The control's, of the same request.
    pub control: Readings,
}

/// A value for each guardrail that was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Readings([Option<f64>; Guardrail::ALL.len()]);

/// How many readings each side has, and their sum on the scale of comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    candidates: u64,
    controls: u64,
    candidate_sum: f64,
    control_sum: f64,
}

/// Mean and deviation of a series (Welford 1962).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    count: u64,
    mean: f64,
    squares: f64,
}

/// A range of effects, positive where the candidate is worse.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// The least.
    pub low: f64,
    /// The most.
    pub high: f64,
}

/// One guardrail over all traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Test {
    guardrail: Guardrail,
    whole: Bets,
    fresh: Bets,
    /// Which stage after the first `fresh` is; 0 in the first.
    stage: u32,
    readings: Series,
    effects: Series,
    all: Tally,
    lately: Tally,
}

/// Readings after which the confidence sequence is narrowest.
pub const NARROWEST_AT: f64 = 10_000.0;
/// How often the confidence sequence may be wrong.
pub const INTERVAL_LEVEL: f64 = 0.05;

const WHOLE_PART: f64 = 0.7;
/// Readings before the first bet on a measure: a deviation of fewer means nothing.
const BEFORE_BETS: u64 = 20;
/// Standard scores are bounded here.
const SCORES: f64 = 3.0;
/// Readings further from the mean count as this far, once the deviation is known.
const WINSOR: f64 = 4.0;

// === impl Readings ===

impl Readings {
    /// With one more value. One that is not a number is left out.
    #[must_use]
    pub fn with(mut self, guardrail: Guardrail, value: f64) -> Self {
        if let Some(reading) = self.0.get_mut(guardrail.index()) {
            *reading = value.is_finite().then_some(value);
        }
        self
    }

    /// With a failure or none.
    #[must_use]
    pub fn with_flag(self, guardrail: Guardrail, is_bad: bool) -> Self {
        self.with(guardrail, if is_bad { 1.0 } else { 0.0 })
    }

    /// The value of a guardrail, if it was measured. A binary one is bad at 1 (0.5 and more).
    pub fn of(&self, guardrail: Guardrail) -> Option<f64> {
        let reading = self.0.get(guardrail.index()).copied().flatten()?;
        let is_bad = if reading >= 0.5 { 1.0 } else { 0.0 };
        Some(if guardrail.is_binary() { is_bad } else { reading })
    }
}

// === impl Tally ===

impl Tally {
    /// Counts a reading on the scale of comparison.
    pub fn add(&mut self, arm: Arm, scaled: f64) {
        match arm {
            Arm::Candidate => {
                self.candidates += 1;
                self.candidate_sum += scaled;
            }
            Arm::Control => {
                self.controls += 1;
                self.control_sum += scaled;
            }
        }
    }

    /// Readings of a side.
    pub fn count(&self, arm: Arm) -> u64 {
        match arm {
            Arm::Candidate => self.candidates,
            Arm::Control => self.controls,
        }
    }

    /// The mean of a side; nothing without readings.
    pub fn mean(&self, arm: Arm) -> Option<f64> {
        let sum = match arm {
            Arm::Candidate => self.candidate_sum,
            Arm::Control => self.control_sum,
        };
        let count = self.count(arm);
        (count > 0).then(|| sum / count as f64)
    }

    /// By how much the candidate's mean is worse; nothing unless both sides have readings.
    pub fn effect(&self, guardrail: Guardrail) -> Option<f64> {
        let difference = self.mean(Arm::Candidate)? - self.mean(Arm::Control)?;
        Some(difference * guardrail.sign())
    }
}

// === impl Series ===

impl Series {
    fn push(&mut self, value: f64) {
        self.count += 1;
        let off = value - self.mean;
        self.mean += off / self.count as f64;
        self.squares += off * (value - self.mean);
    }

    fn deviation(&self) -> f64 {
        (self.squares / self.count.max(1) as f64).sqrt()
    }

    /// The value, or the end of the plausible range that it is beyond.
    fn winsorised(&self, value: f64) -> f64 {
        let reach = WINSOR * self.deviation();
        if self.count < BEFORE_BETS || reach <= 0.0 {
            return value;
        }
        value.clamp(self.mean - reach, self.mean + reach)
    }

    /// The confidence sequence of the mean: see the head of this file.
    fn interval(&self) -> Option<Range> {
        if self.count < BEFORE_BETS {
            return None;
        }
        let count = self.count as f64;
        let log = -2.0 * INTERVAL_LEVEL.ln();
        let r2 = (log + log.ln() + 1.0) / NARROWEST_AT;
        let grown = count * r2 + 1.0;
        let log = (grown.sqrt() / INTERVAL_LEVEL).ln();
        let half = self.deviation() * (2.0 * grown / (count * count * r2) * log).sqrt();
        Some(Range { low: self.mean - half, high: self.mean + half })
    }
}

// === impl Test ===

impl Test {
    /// Nothing measured yet.
    pub fn new(guardrail: Guardrail) -> Self {
        Self {
            guardrail,
            whole: Bets::new(),
            fresh: Bets::new(),
            stage: 0,
            readings: Series::default(),
            effects: Series::default(),
            all: Tally::default(),
            lately: Tally::default(),
        }
    }

    /// What it guards.
    pub fn guardrail(&self) -> Guardrail {
        self.guardrail
    }

    /// How many times as frequent each guess takes this reading to be with the candidate; `None`
    /// where there is nothing to bet on (a success; too few readings to compare with).
    pub fn ratios(&self, reading: f64) -> Option<Ratios> {
        if self.guardrail.is_binary() {
            return (reading > 0.0).then_some(bets::FAILURE);
        }
        let deviation = self.readings.deviation();
        if self.readings.count < BEFORE_BETS || deviation <= 0.0 {
            return None;
        }
        let off = self.guardrail.scaled(reading) - self.readings.mean;
        let score = (off * self.guardrail.sign() / deviation).clamp(-SCORES, SCORES);
        Some(bets::worse_by(score))
    }

    /// Counts a reading; `part` is the candidate's share, 0 to 1, when its side was drawn. Returns
    /// the reading on the scale of comparison.
    pub fn count(&mut self, arm: Arm, part: f64, reading: f64) -> f64 {
        let scaled = self.scaled(reading);
        self.all.add(arm, scaled);
        self.lately.add(arm, scaled);
        if part > 0.0 && part < 1.0 {
            let off = (scaled - self.readings.mean) * self.guardrail.sign();
            self.effects.push(match arm {
                Arm::Candidate => off / part,
                Arm::Control => -off / (1.0 - part),
            });
        }
        self.readings.push(scaled);
        scaled
    }

    /// Bets on a reading's side. Call it before [`Self::count`] has taken the reading in.
    pub fn settle(&mut self, arm: Arm, part: f64, ratios: &Ratios) {
        self.whole.settle(arm, part, ratios);
        if self.stage > 0 {
            self.fresh.settle(arm, part, ratios);
        }
    }

    /// Takes both answers to one request into account; `speaks` if they are evidence.
    pub fn compare(&mut self, candidate: f64, control: f64, speaks: bool) {
        if speaks {
            let [ours, theirs] = [candidate, control].map(|reading| self.ratios(reading));
            if ours.is_some() || theirs.is_some() {
                let level = [1.0; bets::KINDS];
                let (ours, theirs) = (ours.unwrap_or(level), theirs.unwrap_or(level));
                self.whole.settle_pair(&ours, &theirs);
                if self.stage > 0 {
                    self.fresh.settle_pair(&ours, &theirs);
                }
            }
        }
        for (arm, reading) in [(Arm::Candidate, candidate), (Arm::Control, control)] {
            let scaled = self.scaled(reading);
            self.all.add(arm, scaled);
            self.lately.add(arm, scaled);
            self.readings.push(scaled);
        }
        let both = [candidate, control].map(|reading| self.guardrail.scaled(reading));
        self.effects.push((both[0] - both[1]) * self.guardrail.sign());
    }

    /// A reading on the scale of comparison. Measures beyond the plausible count as its end; a
    /// failure, which is always far from the mean, is a failure.
    fn scaled(&self, reading: f64) -> f64 {
        let scaled = self.guardrail.scaled(reading);
        if self.guardrail.is_binary() { scaled } else { self.readings.winsorised(scaled) }
    }

    /// A stage begins: what is bad from now on is not to be made up for by what was good.
    pub fn begin_stage(&mut self) {
        self.stage += 1;
        self.fresh = Bets::new();
        self.lately = Tally::default();
    }

    /// The evidence that the candidate is worse; 1 says nothing.
    pub fn evidence(&self) -> f64 {
        if self.stage == 0 {
            return WHOLE_PART * self.whole.value() + 1.0 - WHOLE_PART;
        }
        let stage = f64::from(self.stage);
        let fresh = (1.0 - WHOLE_PART) / (stage * (stage + 1.0));
        WHOLE_PART * self.whole.value() + fresh * self.fresh.value()
    }

    /// The counts of the whole rollout or of this stage, whichever look worse.
    pub fn tally(&self) -> &Tally {
        let worse = self.lately.effect(self.guardrail) > self.all.effect(self.guardrail);
        if worse { &self.lately } else { &self.all }
    }

    /// Readings of the candidate in this stage.
    pub fn candidates_lately(&self) -> u64 {
        self.lately.count(Arm::Candidate)
    }

    /// The confidence sequence of the effect on the scale of comparison; `None` while it has too
    /// few readings.
    pub fn interval(&self) -> Option<Range> {
        self.effects.interval()
    }
}
