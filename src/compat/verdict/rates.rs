//! Two rates of passed answers, to the same cases.
//!
//! Answers to one case are alike, so a case is a cluster. Bounds are those of Tango ("Equivalence
//! test and confidence interval for the difference in proportions for the paired-sample design",
//! Statistics in Medicine 17, 1998), which stay good where few pairs differ; where cases have
//! several pairs their counts are divided by the design effect first (Rao and Scott, "A simple
//! method for the analysis of clustered binary data", Biometrics 48, 1992), and Student's quantile
//! is used. With one pair a case this is Tango's own interval.
//!
//! Whether there is *any* difference is asked of an exact test with cases as strata, as Mantel and
//! Haenszel have it (Journal of the National Cancer Institute 22, 1959): if the candidate is no
//! different then, of all answers to a case, any are as likely to be the candidate's, so that what
//! it passes is hypergeometric. The sum over cases has an exact distribution, whatever the cases
//! are like, and a case that breaks for good counts for what it is: 6 of 6 against 0 of 6 is no
//! chance. Half the chance of what was seen counts (mid-p: Fagerland, Lydersen and Laake, "The
//! McNemar test for binary matched-pairs data", BMC Medical Research Methodology 13, 2013). With
//! one pair a case this is McNemar's test.

use super::{PairedCase, normal};

/// Steps of a bisection of an interval of length 2.
const BISECTIONS: u32 = 50;
/// The most work that an exact distribution may be; beyond it the normal one is as good.
const EXACT_WORK: u64 = 1_000_000;

/// Pairs of answers, of many cases.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Pairs {
    /// Each case that has any.
    cases: Vec<CasePairs>,
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

/// The pairs of one case.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct CasePairs {
    count: u32,
    baseline: u32,
    candidate: u32,
}

/// What the candidate passes of a case's answers if they are dealt out by chance.
struct Dealt {
    /// The least it can pass.
    least: u32,
    /// The chances of that and of each more.
    chances: Vec<f64>,
}

// === impl CasePairs ===

impl CasePairs {
    fn difference(self) -> f64 {
        f64::from(self.candidate) - f64::from(self.baseline)
    }

    fn dealt(self) -> Dealt {
        Dealt::of(self.baseline + self.candidate, (self.count, self.count))
    }
}

// === impl Dealt ===

impl Dealt {
    /// The hypergeometric distribution: so many answers drawn of them and of others, of all of
    /// which `passed` are good.
    fn of(passed: u32, (drawn, others): (u32, u32)) -> Self {
        let least = passed.saturating_sub(others);
        let most = passed.min(drawn);
        let mut chances = vec![1.0];
        let (mut chance, mut sum) = (1.0, 1.0);
        for more in least..most {
            // C(d, k+1) C(o, p-k-1) / (C(d, k) C(o, p-k))
            chance *= f64::from(drawn - more) / f64::from(more + 1) * f64::from(passed - more)
                / f64::from(others + more + 1 - passed);
            chances.push(chance);
            sum += chance;
        }
        chances.iter_mut().for_each(|chance| *chance /= sum);
        Self { least, chances }
    }
}

// === impl Pairs ===

impl Pairs {
    /// The first `samples` pairs of each case, where both sides have an answer that was judged.
    pub(super) fn of<'a>(cases: impl IntoIterator<Item = &'a PairedCase>, samples: u32) -> Self {
        let mut pairs = Self::default();
        for case in cases {
            let mut of_case = CasePairs::default();
            for (baseline, candidate) in case.answered(samples) {
                of_case.count += 1;
                of_case.baseline += u32::from(baseline);
                of_case.candidate += u32::from(candidate);
                pairs.gained += u64::from(candidate && !baseline);
                pairs.lost += u64::from(baseline && !candidate);
            }
            pairs.count += u64::from(of_case.count);
            pairs.baseline += u64::from(of_case.baseline);
            pairs.candidate += u64::from(of_case.candidate);
            if of_case.count > 0 {
                pairs.cases.push(of_case);
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

    /// How many times as many pairs it takes to know as much, since some are of one case: 1 or
    /// more.
    pub(super) fn design_effect(&self) -> f64 {
        let (difference, total, cases) = (self.difference(), self.total(), self.cases.len() as f64);
        let alone = (self.discordance() - difference * difference) / total;
        if alone <= 0.0 || cases < 2.0 || self.count == self.cases.len() as u64 {
            return 1.0;
        }
        let squares: f64 = self
            .cases
            .iter()
            .map(|case| (case.difference() - f64::from(case.count) * difference).powi(2))
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

    /// The lower bound as [`Self::bounds`] has it, if there were so many times as many pairs of so
    /// many times as many cases, with this difference and this discordance; at a bound that is
    /// `power` further out.
    pub(super) fn low_of_more(
        &self,
        times: f64,
        (difference, discordance): (f64, f64),
        z: f64,
        power: f64,
    ) -> f64 {
        let is_clustered = self.count > self.cases.len() as u64;
        let cases = (self.cases.len() as f64 * times) as usize;
        let z = if is_clustered { normal::student(z, cases.saturating_sub(1)) } else { z };
        let total = self.total() * times / self.design_effect();
        let (gained, lost) = ((discordance + difference) / 2.0, (discordance - difference) / 2.0);
        tango(gained * total, lost * total, total, z + power).0
    }

    /// The chance to see so few passed answers of the candidate, or fewer, if it is no different.
    pub(super) fn chance_if_equal(&self) -> f64 {
        self.chance_within(EXACT_WORK)
    }

    /// The same, exact if that is no more than so much work.
    pub(super) fn chance_within(&self, work: u64) -> f64 {
        chance_of_fewer(self.cases.iter().map(|case| case.dealt()), self.candidate, work)
    }
}

/// The chance to see so few passed answers, or fewer, where those of each case are dealt out by
/// chance; half the chance of what was seen counts. Exact if that is no more than so much work.
fn chance_of_fewer(cases: impl Iterator<Item = Dealt>, passed: u64, work: u64) -> f64 {
    let dealt: Vec<Dealt> = cases.collect();
    let least: u64 = dealt.iter().map(|case| u64::from(case.least)).sum();
    let seen = usize::try_from(passed.saturating_sub(least)).unwrap_or(usize::MAX);
    let open: Vec<&Dealt> = dealt.iter().filter(|case| case.chances.len() > 1).collect();
    let reach: usize = open.iter().map(|case| case.chances.len() - 1).sum();
    if (reach as u64).saturating_mul(reach as u64) > work {
        return normal_chance(&open, seen as f64);
    }
    let mut chances = vec![1.0];
    for case in open {
        let mut next = vec![0.0; chances.len() + case.chances.len() - 1];
        for (at, chance) in chances.iter().enumerate() {
            for (slot, more) in next.iter_mut().skip(at).zip(&case.chances) {
                *slot += chance * more;
            }
        }
        chances = next;
    }
    let fewer: f64 = chances.iter().take(seen).sum();
    fewer + chances.get(seen).copied().unwrap_or(0.0) / 2.0
}

/// The same of two parts that need not have as many answers: each case's first and second part, as
/// passed and all. The question is whether the first passes as many as it would by chance.
pub(super) fn chance_of_strata(
    strata: impl Iterator<Item = ((u32, u32), (u32, u32))> + Clone,
    work: u64,
) -> f64 {
    let passed = strata.clone().map(|((passed, _), _)| u64::from(passed)).sum();
    let dealt = strata.map(|(one, other)| Dealt::of(one.0 + other.0, (one.1, other.1)));
    chance_of_fewer(dealt, passed, work)
}

/// The same of very many cases.
fn normal_chance(open: &[&Dealt], seen: f64) -> f64 {
    let (mut mean, mut variance) = (0.0, 0.0);
    for case in open {
        let moment = |power: i32| -> f64 {
            let values = case.chances.iter().enumerate();
            values.map(|(more, chance)| chance * (more as f64).powi(power)).sum()
        };
        mean += moment(1);
        variance += moment(2) - moment(1).powi(2);
    }
    normal::below((seen - mean) / variance.max(f64::MIN_POSITIVE).sqrt())
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

/// The answers of some nights against those of others, case by case.
#[derive(Debug, Clone, Default)]
pub(super) struct Against {
    cases: Vec<CaseAgainst>,
}

/// One case of them.
#[derive(Debug, Clone, Copy)]
struct CaseAgainst {
    /// Answers of the first part.
    count: f64,
    /// The rate of those that pass.
    rate: f64,
    /// Answers of the other part, and their rate.
    others: f64,
    before: f64,
}

// === impl Against ===

impl Against {
    /// Of each case's two parts, as passed and all. Cases that lack either are left out.
    pub(super) fn of(cases: impl Iterator<Item = ((u32, u32), (u32, u32))>) -> Self {
        let part = |passed: u32, all: u32| f64::from(passed) / f64::from(all);
        let cases = cases.filter(|((_, count), (_, others))| *count > 0 && *others > 0);
        let case = |((passed, count), (before, others))| CaseAgainst {
            count: f64::from(count),
            rate: part(passed, count),
            others: f64::from(others),
            before: part(before, others),
        };
        Self { cases: cases.map(case).collect() }
    }

    /// Answers of the first part.
    pub(super) fn answers(&self) -> u64 {
        self.cases.iter().map(|case| case.count as u64).sum()
    }

    /// The rate of the first part.
    pub(super) fn rate(&self) -> f64 {
        self.mean(|case| case.rate)
    }

    /// That less the rate of the other part, to the same cases in the same proportions.
    pub(super) fn difference(&self) -> f64 {
        self.mean(|case| case.rate - case.before)
    }

    /// The part of pairs that would differ, if each answer of the first part were held against one
    /// of the other.
    pub(super) fn discordance(&self) -> f64 {
        self.mean(|case| case.rate * (1.0 - case.before) + case.before * (1.0 - case.rate))
    }

    fn mean(&self, of: impl Fn(&CaseAgainst) -> f64) -> f64 {
        let (sum, count) = self.cases.iter().fold((0.0, 0.0), |(sum, count), case| {
            (sum + case.count * of(case), count + case.count)
        });
        sum / f64::max(count, 1.0)
    }

    /// The bounds of the difference, each exceeded with the chance that the normal distribution
    /// exceeds `z` with: Tango's, of as many pairs as there are answers in the first part, with the
    /// design effect of cases as clusters. That is below 1 where the other part is known better
    /// than by one answer for each, but not by more than answers' own variance explains.
    pub(super) fn bounds(&self, z: f64) -> (f64, f64) {
        let cases = self.cases.len() as f64;
        let total: f64 = self.cases.iter().map(|case| case.count).sum();
        if total < 1.0 {
            return (-1.0, 1.0);
        }
        let (difference, discordance) = (self.difference(), self.discordance());
        let alone = (discordance - difference * difference) / total;
        let others: f64 = self.cases.iter().map(|case| case.count * case.count / case.others).sum();
        let least = f64::midpoint(1.0, (others / total).min(1.0));
        let squares =
            |case: &CaseAgainst| (case.count * (case.rate - case.before - difference)).powi(2);
        let squares: f64 = self.cases.iter().map(squares).sum();
        let clustered = cases / (cases - 1.0).max(1.0) * squares / (total * total);
        let effect = if alone > 0.0 { (clustered / alone).max(least) } else { least };
        let z = normal::student(z, self.cases.len().saturating_sub(1));
        let (gained, lost) = ((discordance + difference) / 2.0, (discordance - difference) / 2.0);
        let total = total / effect;
        tango(gained * total, lost * total, total, z)
    }
}
