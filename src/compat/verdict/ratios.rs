//! Lengths, costs, times, and what a judge prefers: means over cases.
//!
//! A ratio is compared by its logarithm, of which each case has one mean over its pairs; bounds are
//! Student's, over cases. Two one-sided tests (Schuirmann, Journal of Pharmacokinetics and
//! Biopharmaceutics 15, 1987) say whether both sides are equivalent.

use super::{
    Bearing, Criterion, Equivalence, Measure, Outcome, PairedCase, Preference, Sample, Terms,
    normal,
};

/// Half of the widest interval there is. It is that of a single case; JSON has no infinity.
const WIDE: f64 = 10.0;

/// Cases from which on it counts which answers a judge prefers. Fewer tell neither that none is
/// liked less (of one, nothing is known of how cases vary) nor that one is (two that agree seem
/// certain).
const LEAST_PREFERRED: usize = 10;

/// A mean over cases, with the deviation of that mean.
struct Mean {
    mean: f64,
    deviation: f64,
    cases: usize,
}

/// Length, cost and latency, as far as there are pairs.
pub(super) fn all(
    cases: &[&PairedCase],
    terms: &Terms,
    samples: u32,
    bounds: (f64, f64),
) -> Vec<Criterion> {
    type Reading = fn(&Sample) -> u64;
    let measures: [(Measure, Bearing, Reading); 3] = [
        (Measure::Length, terms.length, |sample| sample.output_tokens),
        (Measure::Cost, terms.cost, |sample| sample.cost_micro_usd),
        (Measure::Latency, terms.latency, |sample| sample.latency_ms),
    ];
    let compare = |(measure, bearing, reading)| {
        let readings = readings(cases, samples, reading);
        let gates = bearing == Bearing::Gates;
        ratio(&readings, terms.ratio, bounds).map(|criterion| Criterion {
            measure,
            gates,
            ..criterion
        })
    };
    measures.into_iter().filter_map(compare).collect()
}

/// The logarithms of what both sides have, of each case's pairs. One is added to all, so that
/// nothing has a logarithm too.
fn readings(
    cases: &[&PairedCase],
    samples: u32,
    reading: fn(&Sample) -> u64,
) -> Vec<Vec<(f64, f64)>> {
    let samples = usize::try_from(samples).unwrap_or(usize::MAX);
    let of = |case: &&PairedCase| -> Vec<(f64, f64)> {
        let pairs = case.baseline.iter().zip(&case.candidate).take(samples);
        pairs
            .filter(|(baseline, candidate)| baseline.passed.is_some() && candidate.passed.is_some())
            .map(|(baseline, candidate)| {
                ((reading(baseline) as f64).ln_1p(), (reading(candidate) as f64).ln_1p())
            })
            .collect()
    };
    cases.iter().map(of).filter(|pairs| !pairs.is_empty()).collect()
}

/// One ratio; the caller says of what.
fn ratio(
    readings: &[Vec<(f64, f64)>],
    limit: f64,
    (holds, fails): (f64, f64),
) -> Option<Criterion> {
    let over = |of: fn(&(f64, f64)) -> f64| {
        let means = readings
            .iter()
            .map(|pairs| pairs.iter().map(of).sum::<f64>() / pairs.len().max(1) as f64);
        Mean::of(&means.collect::<Vec<_>>())
    };
    let ratio = over(|(baseline, candidate)| candidate - baseline)?;
    let (low, high) = ratio.bounds(holds);
    let beyond = (1.0 + limit).ln();
    let outcome = if ratio.bounds(fails).0 > beyond {
        Outcome::Fails
    } else if high < beyond {
        Outcome::Holds
    } else {
        Outcome::Unclear
    };
    let equivalence = if low > -beyond && high < beyond {
        Equivalence::Equivalent
    } else if low > beyond || high < -beyond {
        Equivalence::Different
    } else {
        Equivalence::Unclear
    };
    Some(Criterion {
        measure: Measure::Length,
        baseline: over(|(baseline, _)| *baseline)?.mean.exp_m1(),
        candidate: over(|(_, candidate)| *candidate)?.mean.exp_m1(),
        difference: ratio.mean.exp_m1(),
        low: low.exp_m1(),
        high: high.exp_m1(),
        limit,
        gates: false,
        outcome,
        equivalence: Some(equivalence),
        test: None,
        pairs: readings.iter().map(|pairs| pairs.len() as u64).sum(),
    })
}

/// Wins less losses before the judge, if it was asked.
pub(super) fn preference(
    cases: &[&PairedCase],
    terms: &Terms,
    (holds, fails): (f64, f64),
) -> Option<Criterion> {
    let worth = |preference: &Preference| match preference {
        Preference::Candidate => 1.0,
        Preference::Baseline => -1.0,
        Preference::Tie => 0.0,
    };
    let asked = || cases.iter().filter(|case| !case.preferences.is_empty());
    let means: Vec<f64> = asked()
        .map(|case| case.preferences.iter().map(worth).sum::<f64>() / case.preferences.len() as f64)
        .collect();
    let mean = Mean::of(&means)?;
    let (low, high) = mean.bounds(holds);
    let outcome = if mean.bounds(fails).1 < -terms.preference_margin {
        Outcome::Fails
    } else if low > -terms.preference_margin {
        Outcome::Holds
    } else {
        Outcome::Unclear
    };
    let pairs: usize = asked().map(|case| case.preferences.len()).sum();
    let part = |wanted: Preference| {
        let all = asked().flat_map(|case| &case.preferences);
        all.filter(|preference| **preference == wanted).count() as f64 / pairs.max(1) as f64
    };
    Some(Criterion {
        measure: Measure::Preference,
        baseline: part(Preference::Baseline),
        candidate: part(Preference::Candidate),
        difference: mean.mean,
        low: low.max(-1.0),
        high: high.min(1.0),
        limit: -terms.preference_margin,
        gates: terms.preference == Bearing::Gates && mean.cases >= LEAST_PREFERRED,
        outcome,
        equivalence: None,
        test: None,
        pairs: pairs as u64,
    })
}

// === impl Criterion ===

impl Criterion {
    /// Whether its bounds say something: those of the means of one case are as wide as there are.
    pub fn is_bounded(&self) -> bool {
        let is_ratio = match self.measure {
            Measure::Length | Measure::Cost | Measure::Latency => true,
            Measure::PassRate | Measure::Critical | Measure::Preference => false,
        };
        let reach = self.high.ln_1p() - self.low.ln_1p();
        !is_ratio || reach < 2.0 * WIDE - 0.01
    }
}

// === impl Mean ===

impl Mean {
    /// Of one value a case; `None` of none.
    fn of(values: &[f64]) -> Option<Self> {
        let cases = values.len();
        if cases == 0 {
            return None;
        }
        let count = cases as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        // One case tells nothing of how cases vary.
        let variance = if cases > 1 { squares / (count - 1.0) } else { f64::INFINITY };
        Some(Self { mean, deviation: (variance / count).sqrt(), cases })
    }

    fn bounds(&self, z: f64) -> (f64, f64) {
        let half = normal::student(z, self.cases.saturating_sub(1)) * self.deviation;
        (self.mean - half.min(WIDE), self.mean + half.min(WIDE))
    }
}
