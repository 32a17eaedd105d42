//! Cases that the candidate may not fail where the baseline passes them.
//!
//! Their margin is nothing, but a model's answers vary: of three answers to a case that is passed
//! in 95 % of them, one fails in every seventh run. So a new failure is asked once more, of both
//! sides, before it counts:
//!
//! - the candidate passes it then: it is told, and no more;
//! - it has failed *every* answer, and the baseline none, of enough: it is broken. A case that
//!   passes at a rate `p` does so by chance in `p^n (1-p)^n` of runs, which is `B(n+1, n+1)` where
//!   nothing is known of `p`: one in 630 with four answers, which is rare enough for up to six
//!   critical cases. With more of them, more answers are asked for: five for 27 cases, six for 120;
//! - it fails now and then: it is broken once Fisher's exact test says so at its part of the error,
//!   which is divided by the cases and the looks. Until then it is unsettled, which keeps the
//!   candidate from being called compatible.

use super::{Criterion, Look, Measure, Outcome, PairedCase, Terms, terms};

/// How many answers of either side it takes at least to call a case broken.
const FEWEST: u32 = 4;
/// How often a case is asked at most beyond the look's samples and what is enough.
const TRIES: u32 = 3;

/// What the critical cases say.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Critical {
    /// Cases of which both sides answered.
    count: usize,
    /// Those that the baseline passes always.
    passed: usize,
    /// Cases that are newly failed, for certain.
    pub(super) broken: Vec<String>,
    /// Cases to ask once more.
    pub(super) to_confirm: Vec<String>,
    /// Cases of which neither is certain, after they were asked once more.
    pub(super) unsettled: Vec<String>,
}

/// What one case says.
enum Finding {
    Fine,
    AskAgain,
    Broken,
    Unsettled,
}

// === impl Critical ===

impl Critical {
    /// Those that are newly failed, as somebody else has found.
    pub(super) fn newly(broken: Vec<String>) -> Self {
        Self { broken, ..Self::default() }
    }

    pub(super) fn of(cases: &[PairedCase], terms: &Terms, look: Look) -> Self {
        let critical: Vec<&PairedCase> = cases.iter().filter(|case| case.is_critical).collect();
        let tests = critical.len().max(1) * terms.ladder().len();
        let error = terms.error * terms::CRITICAL;
        let level = error / tests as f64;
        let enough = enough(critical.len(), error);
        let mut found = Self::default();
        for case in critical {
            let (baseline, _, pairs) = case.passed(u32::MAX);
            found.count += usize::from(pairs > 0);
            found.passed += usize::from(pairs > 0 && baseline == pairs);
            match find(case, look, (level, enough)) {
                Finding::Fine => {}
                Finding::AskAgain => found.to_confirm.push(case.id.clone()),
                Finding::Broken => found.broken.push(case.id.clone()),
                Finding::Unsettled => found.unsettled.push(case.id.clone()),
            }
        }
        for list in [&mut found.broken, &mut found.to_confirm, &mut found.unsettled] {
            list.sort();
        }
        found
    }

    pub(super) fn criterion(&self) -> Option<Criterion> {
        if self.count == 0 {
            return None;
        }
        let open = self.to_confirm.len() + self.unsettled.len();
        let worst = (self.broken.len() + open) as f64;
        let outcome = match (self.broken.is_empty(), open) {
            (false, _) => Outcome::Fails,
            (true, 0) => Outcome::Holds,
            (true, 1..) => Outcome::Unclear,
        };
        let lost = self.broken.len() as f64;
        Some(Criterion {
            measure: Measure::Critical,
            baseline: self.passed as f64,
            candidate: self.passed as f64 - lost,
            difference: -lost,
            low: -worst,
            high: -lost,
            limit: 0.0,
            gates: true,
            outcome,
            equivalence: None,
            test: None,
            pairs: self.count as u64,
        })
    }
}

fn find(case: &PairedCase, look: Look, (level, enough): (f64, u32)) -> Finding {
    let (baseline, candidate, pairs) = case.passed(u32::MAX);
    if pairs == 0 || baseline < pairs || candidate == pairs {
        return Finding::Fine;
    }
    let regular = case.answered(look.samples).count();
    let confirming = case.answered(u32::MAX).skip(regular);
    let again: Vec<bool> = confirming.map(|(_, candidate)| candidate).collect();
    if again.last() == Some(&true) {
        return Finding::Fine;
    }
    let asked = case.baseline.len().min(case.candidate.len());
    let asked = u32::try_from(asked).unwrap_or(u32::MAX);
    let is_enough = !again.is_empty() && (candidate > 0 || pairs >= enough);
    if !is_enough {
        let most = look.samples.max(enough) + TRIES;
        return if asked < most { Finding::AskAgain } else { Finding::Unsettled };
    }
    let is_broken = candidate == 0 || fisher(pairs, candidate) <= level;
    if is_broken { Finding::Broken } else { Finding::Unsettled }
}

/// How many answers of either side, all good and all bad, are rare enough with so many cases.
fn enough(cases: usize, error: f64) -> u32 {
    // B(n+1, n+1) of four answers; each more divides it by 2 (2n+3) / (n+1).
    let (mut answers, mut chance) = (FEWEST, 1.0 / 630.0);
    while chance * cases as f64 > error && answers < 12 {
        let next = f64::from(answers + 1);
        chance *= next / (2.0 * (2.0 * next + 1.0));
        answers += 1;
    }
    answers
}

/// The chance, by Fisher's exact test, that of two sides with `pairs` answers each that pass alike
/// all failures are the second's, which passes `passed`.
fn fisher(pairs: u32, passed: u32) -> f64 {
    // C(n, f) / C(2n, f) of f failures: each is the second's, one after the other.
    (0..pairs.saturating_sub(passed))
        .map(|taken| f64::from(pairs - taken) / f64::from(2 * pairs - taken))
        .product()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_critical_cases_need_more_answers_each() {
        let of = |cases| enough(cases, 0.01);
        assert_eq!([of(1), of(6), of(7), of(27), of(28), of(120)], [4, 4, 5, 5, 6, 6]);
    }

    #[test]
    fn fisher_agrees_with_the_tables_of_the_lady_tasting_tea() {
        assert!((fisher(4, 0) - 1.0 / 70.0).abs() < 1e-12);
        assert!((fisher(3, 0) - 1.0 / 20.0).abs() < 1e-12);
        assert!((fisher(4, 4) - 1.0).abs() < 1e-12);
        // Fisher's other table, 10 of 10 against 4 of 10: C(10, 6) / C(20, 6).
        assert!((fisher(10, 4) - 210.0 / 38_760.0).abs() < 1e-12);
    }
}
