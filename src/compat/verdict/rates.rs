//! Two rates of passed answers, to the same cases.
//!
//! Answers to one case are alike, so a case is a cluster. Bounds are those of Tango ("Equivalence
//! test and confidence interval for the difference in proportions for the paired-sample design",
//! Statistics in Medicine 17, 1998), which stay good where few pairs differ; where cases have several
//! pairs their counts are divided by the design effect first (Rao and Scott, "A simple method for the
//! analysis of clustered binary data", Biometrics 48, 1992), and Student's quantile is used. With one
//! pair a case this is Tango's own interval.
//!
//! Whether there is *any* difference is asked of a sign-flip test, whose error is exact however the
//! answers to a case hang together: if the candidate is no different, then the two sides of a case
//! could be exchanged, so that each case's difference is as likely negative as positive. Half the
//! chance of what was seen counts (mid-p: Fagerland, Lydersen and Laake, "The McNemar test for binary
//! matched-pairs data", BMC Medical Research Methodology 13, 2013).

use super::{PairedCase, normal};

/// Steps of a bisection of an interval of length 2.
const BISECTIONS: u32 = 50;
/// The most work that the exact distribution of a sign-flip test may be; beyond it is normal.
const EXACT_WORK: u64 = 4_000_000;

/// Pairs of answers, of many cases.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Pairs {
    /// Of each case that has any: the pairs, and how many more of them the candidate passes than
    /// the baseline.
    cases: Vec<(u32, i32)>,
    /// All pairs.
    pub(super) count: u64,
    /// Those that the baseline passes.
    pub(super) baseline: u64,
    /// Those that the candidate passes.
    pub(super) candidate: u64,
    /// Those that only the candidate passes.
    pub(super) gained: u64,
    /// Those that only the baseline passes.
    pub(super) lost: u64,
}

// === impl Pairs ===

impl Pairs {
    /// The first `samples` pairs of each case, where both sides have an answer that was judged.
    pub(super) fn of<'a>(cases: impl IntoIterator<Item = &'a PairedCase>, samples: u32) -> Self {
        let mut pairs = Self::default();
        for case in cases {
            let (mut count, mut difference) = (0, 0);
            for (baseline, candidate) in case.answered(samples) {
                count += 1;
                difference += i32::from(candidate) - i32::from(baseline);
                pairs.baseline += u64::from(baseline);
                pairs.candidate += u64::from(candidate);
                pairs.gained += u64::from(candidate && !baseline);
                pairs.lost += u64::from(baseline && !candidate);
            }
            pairs.count += u64::from(count);
            if count > 0 {
                pairs.cases.push((count, difference));
            }
        }
        pairs
    }

    /// The candidate's rate less the baseline's, from -1 to 1; 0 where there are no pairs.
    pub(super) fn difference(&self) -> f64 {
        (self.gained as f64 - self.lost as f64) / self.total()
    }

    /// The part of the pairs in which only one side passes.
    pub(super) fn discordance(&self) -> f64 {
        (self.gained + self.lost) as f64 / self.total()
    }

    fn total(&self) -> f64 {
        self.count.max(1) as f64
    }

    /// How many times as many pairs it takes to know as much, since some are of one case: 1 or more.
    pub(super) fn design_effect(&self) -> f64 {
        let (difference, total, cases) = (self.difference(), self.total(), self.cases.len() as f64);
        let alone = (self.discordance() - difference * difference) / total;
        if alone <= 0.0 || cases < 2.0 || self.count == self.cases.len() as u64 {
            return 1.0;
        }
        let squares: f64 = self
            .cases
            .iter()
            .map(|(count, more)| (f64::from(*more) - f64::from(*count) * difference).powi(2))
            .sum();
        let clustered = cases / (cases - 1.0) * squares / (total * total);
        (clustered / alone).max(1.0)
    }

    /// The bounds of the difference, each exceeded with the chance that the normal distribution
    /// exceeds `z` with.
    pub(super) fn bounds(&self, z: f64) -> (f64, f64) {
        if self.count == 0 {
            return (-1.0, 1.0);
        }
        let is_clustered = self.count > self.cases.len() as u64;
        let z =
            if is_clustered { normal::student(z, self.cases.len().saturating_sub(1)) } else { z };
        let effect = self.design_effect();
        let (gained, lost) = (self.gained as f64 / effect, self.lost as f64 / effect);
        tango(gained, lost, self.count as f64 / effect, z)
    }

    /// The chance to see so few passed answers of the candidate, or fewer, if it is no different.
    pub(super) fn chance_if_equal(&self) -> f64 {
        let moved: Vec<u64> = self
            .cases
            .iter()
            .filter(|(_, more)| *more != 0)
            .map(|(_, more)| u64::from(more.unsigned_abs()))
            .collect();
        let sum: i64 = self.cases.iter().map(|(_, more)| i64::from(*more)).sum();
        let reach: u64 = moved.iter().sum();
        if reach == 0 {
            return 0.5;
        }
        if reach.saturating_mul(moved.len() as u64) > EXACT_WORK {
            let squares: f64 = moved.iter().map(|more| (*more as f64).powi(2)).sum();
            return normal::below(sum as f64 / squares.sqrt());
        }
        // `sum` is `2 x - reach` where `x` is the sum of those cases that got better.
        sign_flips(&moved, reach as usize, (sum + reach as i64).unsigned_abs() as usize / 2)
    }
}

/// The chance that the sum of those cases whose coin fell well is below `seen`, and half the chance
/// that it is `seen`.
fn sign_flips(moved: &[u64], reach: usize, seen: usize) -> f64 {
    let mut chances = vec![0.0_f64; reach + 1];
    if let Some(first) = chances.first_mut() {
        *first = 1.0;
    }
    let mut end = 0;
    for more in moved {
        let more = *more as usize;
        end += more;
        for at in (0..=end).rev() {
            let stay = chances.get(at).copied().unwrap_or(0.0);
            let come = at.checked_sub(more).and_then(|from| chances.get(from)).copied();
            if let Some(chance) = chances.get_mut(at) {
                *chance = f64::midpoint(stay, come.unwrap_or(0.0));
            }
        }
    }
    let below: f64 = chances.iter().take(seen).sum();
    below + chances.get(seen).copied().unwrap_or(0.0) / 2.0
}

/// Tango's bounds of the difference of paired proportions: those differences whose score statistic
/// is `z` and `-z`. Counts need not be whole.
pub(super) fn tango(gained: f64, lost: f64, total: f64, z: f64) -> (f64, f64) {
    let estimate = (gained - lost) / total;
    let score = |difference: f64| {
        let linear = (2.0 * total - gained + lost) * difference - gained - lost;
        let constant = -lost * difference * (1.0 - difference);
        let root = (linear * linear - 8.0 * total * constant).max(0.0).sqrt();
        let only_baseline = (root - linear) / (4.0 * total);
        let variance = total * (2.0 * only_baseline + difference * (1.0 - difference));
        (gained - lost - total * difference) / variance.max(f64::MIN_POSITIVE).sqrt()
    };
    // The score falls as the difference grows.
    let find = |mut low: f64, mut high: f64, value: f64| {
        for _ in 0..BISECTIONS {
            let middle = f64::midpoint(low, high);
            if score(middle) > value { low = middle } else { high = middle }
        }
        f64::midpoint(low, high)
    };
    (find(-1.0, estimate, z), find(estimate, 1.0, -z))
}
