//! Whether a candidate is as good as the baseline, from their answers to the same cases.
//!
//! A run asks both sides the same cases, several times each; answer `i` of the one and answer `i`
//! of the other are a pair. [`judge`] looks at the pairs and says one of three things:
//!
//! - **compatible**: every criterion that gates shows that the candidate is not worse by more than
//!   its margin. Each is tested at the full error, since all must hold at once (an
//!   intersection-union test: Berger, Technometrics 24, 1982).
//! - **incompatible**: one criterion shows that it is worse. The error is divided among the
//!   criteria (see [`Terms::error`]), so that a candidate that is no different is called
//!   incompatible in at most 5 % of the runs, over all criteria and all looks together.
//! - **inconclusive**: neither, and how many more pairs it would take.
//!
//! What is judged is the suite's own cases, not cases like them: a candidate that fails what no
//! case asks is not found. Between cases of one suite answers vary all the same, and bounds count
//! that variation, which makes them a little wide where few cases are broken for good.
//!
//! | criterion | compatible | incompatible |
//! |---|---|---|
//! | pass rate | lower bound of the difference above `-margin` | difference significantly below 0, and at most `-margin` |
//! | critical cases | none is newly failed | one is newly failed, and again when asked once more |
//! | preference of the judge | lower bound of wins less losses above -5 points | upper bound below it |
//! | length, cost, latency | upper bound of the ratio below +15 % | lower bound above it |
//!
//! The pass rate's "incompatible" asks for a difference below *zero* whose estimate is beyond the
//! margin. To prove that the difference itself is beyond the margin takes 1,546 pairs for a loss of
//! 5 points (10 % of pairs differ, power 80 %) where this takes 247: nightly runs would never say
//! no. The price is that a candidate that is 2 points worse may be called incompatible, never one
//! that is no worse.

use serde::{Deserialize, Serialize};

use super::{Category, Preference};

mod critical;
mod drift;
mod looks;
mod normal;
mod plan;
mod rates;
mod ratios;
mod terms;
mod words;

use critical::Critical;
pub use drift::{CaseNight, CaseNights, Drift, MOST_NIGHTS, judge_nights};
use looks::Bounds;
pub use plan::{Plan, PlannedLook, plan};
use rates::Pairs;
pub use terms::{Bearing, Terms};

#[cfg(test)]
mod tests;

/// A case with what both sides answered to it. Answer `i` of both is a pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairedCase {
    /// The case.
    pub id: String,
    /// What it is there for.
    pub category: Category,
    /// Whether the candidate may not fail it where the baseline passes it.
    pub is_critical: bool,
    /// The baseline's answers.
    pub baseline: Vec<Sample>,
    /// The candidate's.
    pub candidate: Vec<Sample>,
    /// Which of a pair's answers a judge likes better, for those pairs of which it was asked.
    pub preferences: Vec<Preference>,
}

/// An answer, as far as it is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Whether it passes the case. `None`: there is no answer, or nobody could judge it; the pair
    /// is left out, and counted as unanswered.
    pub passed: Option<bool>,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// What it cost, in millionths of a dollar.
    pub cost_micro_usd: u64,
    /// From the request to the last byte, in milliseconds.
    pub latency_ms: u64,
}

/// One evaluation of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// How many pairs each case has by now: one of [`Terms::ladder`]. What a case has beyond them
    /// was asked to confirm a critical failure, and counts for nothing else.
    pub samples: u32,
    /// Whether more can be asked: there is money and time left.
    pub can_ask_more: bool,
}

/// What is said of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is as good as the baseline, within the margins.
    Compatible,
    /// It is worse.
    Incompatible,
    /// Nothing is proven.
    Inconclusive,
}

/// A verdict and all that led to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, the weightiest first: sentences for people.
    pub reasons: Vec<String>,
    /// What was compared, each with its bounds.
    pub criteria: Vec<Criterion>,
    /// Critical cases that the candidate newly fails. Both sides are to be asked them once more,
    /// then judged again: until then they decide nothing.
    pub confirm: Vec<String>,
    /// Cases that both sides pass only now and then. They do not count.
    pub quarantined: Vec<String>,
    /// Cases that the baseline mostly passes and the candidate mostly does not, critical ones
    /// first.
    pub newly_failing: Vec<String>,
    /// Cases the other way round.
    pub newly_passing: Vec<String>,
    /// Which look it is, from 1, and of how many.
    pub look: (u32, u32),
    /// Pairs of each case that this look has seen.
    pub samples: u32,
    /// Pairs that count, of all cases.
    pub pairs: u64,
    /// The part of them in which one side alone passes: what [`plan`] wants to know of a suite.
    pub discordance: f64,
    /// Pairs that were left out because a side has no answer, or none that could be judged.
    pub unanswered: u64,
    /// How many pairs of each case the next look needs; `None` where there is no use in another.
    pub next_samples: Option<u32>,
    /// How many pairs beyond those there are it would take to tell, about; where that is known.
    pub samples_needed: Option<u64>,
    /// Where a prompt was held against itself: what its nights say. [`Self::pairs`] are answers of
    /// tonight then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The part of answers that pass. Differences are parts: -0.03 are three points.
    PassRate,
    /// How many critical cases are passed. Differences are cases.
    Critical,
    /// Wins less losses before the judge, from -1 to 1.
    Preference,
    /// Tokens of answers. Differences are relative: 0.15 is 15 % more.
    Length,
    /// Cost of answers, in millionths of a dollar. Differences are relative.
    Cost,
    /// Milliseconds to the last byte. Differences are relative.
    Latency,
}

/// What one measure says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Criterion {
    /// What was compared.
    pub measure: Measure,
    /// The baseline's: a rate, or the geometric mean.
    pub baseline: f64,
    /// The candidate's.
    pub candidate: f64,
    /// The difference, in the unit of the measure.
    pub difference: f64,
    /// The lower bound of the difference; one-sided.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
    /// How far the difference may be on the bad side: `-0.03` of rates, `0.15` of ratios.
    pub limit: f64,
    /// Whether the verdict hangs on it.
    pub gates: bool,
    /// What it says.
    pub outcome: Outcome,
    /// Of ratios: whether both sides are the same within the limit, either way (two one-sided
    /// tests).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equivalence: Option<Equivalence>,
    /// Of the pass rate: the test that says whether the candidate is worse. The bounds say whether
    /// it is as good, and may say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<ExactTest>,
    /// Pairs it is known from.
    pub pairs: u64,
}

/// An exact test of answers, case by case, for which a case that breaks for good is no chance; the
/// bounds reckon with what varies between cases besides.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ExactTest {
    /// The chance of what was seen, or worse, if nothing has changed.
    pub chance: f64,
    /// What it must be at most to say that something has.
    pub level: f64,
}

/// What a criterion says of the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is not worse by more than the limit.
    Holds,
    /// It is worse.
    Fails,
    /// Neither is proven.
    Unclear,
}

/// What two one-sided tests say of a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Equivalence {
    /// Both bounds are within the limit.
    Equivalent,
    /// The interval is beyond the limit, on one side.
    Different,
    /// Neither is proven.
    Unclear,
}

/// Judges the pairs that there are at a look. Where it is open, ask first what
/// [`Judgement::confirm`] names and judge again at the same look, then fill up to
/// [`Judgement::next_samples`] and judge at that.
///
/// The same pairs have the same judgement, in whatever order the cases are.
pub fn judge(cases: &[PairedCase], terms: &Terms, look: Look) -> Judgement {
    let ladder = terms.ladder();
    let number = ladder.iter().filter(|samples| **samples < look.samples).count();
    let number = number.min(ladder.len().saturating_sub(1));
    let bound = |error: f64| Bounds::until(&ladder, error, number + 1).at(number);
    let holds = bound(terms.error);
    let fails = |share: f64| bound(terms.error * share);

    let (quarantined, counted): (Vec<&PairedCase>, Vec<&PairedCase>) =
        cases.iter().partition(|case| case.is_flaky(look.samples));
    let pairs = Pairs::of(counted.iter().copied(), look.samples);

    let critical = Critical::of(cases, terms, look);
    let mut criteria = Vec::new();
    criteria.extend(rate(&pairs, terms, (holds, fails(terms::PASS_RATE))));
    criteria.extend(critical.criterion());
    let bounds = (holds, fails(terms::OTHERS));
    criteria.extend(ratios::preference(&counted, terms, bounds));
    criteria.extend(ratios::all(&counted, terms, look.samples, bounds));

    let unanswered = cases.iter().map(|case| case.unanswered(look.samples)).sum();
    let (newly_failing, newly_passing) = turned(cases, look.samples);
    let mut judgement = Judgement {
        criteria,
        quarantined: quarantined.iter().map(|case| case.id.clone()).collect(),
        newly_failing,
        newly_passing,
        look: (number as u32 + 1, ladder.len() as u32),
        samples: look.samples,
        pairs: pairs.count,
        discordance: pairs.discordance(),
        unanswered,
        ..Judgement::nothing()
    };
    judgement.decide(&critical, terms, look);
    judgement.say_what_is_missing(&pairs, terms, (look, holds), ladder.get(number + 1).copied());
    judgement.reasons = words::reasons(&judgement, &critical, terms);
    judgement
}

/// The pass rate.
fn rate(pairs: &Pairs, terms: &Terms, (holds, fails): (f64, f64)) -> Option<Criterion> {
    if pairs.count == 0 {
        return None;
    }
    let (low, high) = pairs.bounds(holds);
    let level = 1.0 - normal::below(fails);
    let chance = pairs.chance_if_equal();
    let is_worse = pairs.difference() <= -terms.margin && chance <= level;
    let outcome = if is_worse {
        Outcome::Fails
    } else if low > -terms.margin {
        Outcome::Holds
    } else {
        Outcome::Unclear
    };
    let count = pairs.count as f64;
    Some(Criterion {
        measure: Measure::PassRate,
        baseline: pairs.baseline as f64 / count,
        candidate: pairs.candidate as f64 / count,
        difference: pairs.difference(),
        low,
        high,
        limit: -terms.margin,
        gates: terms.pass_rate == Bearing::Gates,
        outcome,
        equivalence: None,
        test: Some(ExactTest { chance, level }),
        pairs: pairs.count,
    })
}

/// Cases that turned: the baseline mostly passes them and the candidate does not, and the other way
/// round. Critical ones first, then by id.
fn turned(cases: &[PairedCase], samples: u32) -> (Vec<String>, Vec<String>) {
    let mut sorted: Vec<&PairedCase> = cases.iter().collect();
    sorted.sort_by(|a, b| (!a.is_critical, &a.id).cmp(&(!b.is_critical, &b.id)));
    let turned = |wanted: (bool, bool)| {
        let mostly = |case: &&&PairedCase| {
            let (baseline, candidate, pairs) = case.passed(samples);
            pairs > 0 && (2 * baseline > pairs, 2 * candidate > pairs) == wanted
        };
        sorted.iter().filter(mostly).map(|case| case.id.clone()).collect()
    };
    (turned((true, false)), turned((false, true)))
}

// === impl Judgement ===

impl Judgement {
    /// That of nothing: no pairs, nothing compared.
    pub const fn nothing() -> Self {
        Self {
            verdict: Verdict::Inconclusive,
            reasons: Vec::new(),
            criteria: Vec::new(),
            confirm: Vec::new(),
            quarantined: Vec::new(),
            newly_failing: Vec::new(),
            newly_passing: Vec::new(),
            look: (1, 1),
            samples: 0,
            pairs: 0,
            discordance: 0.0,
            unanswered: 0,
            next_samples: None,
            samples_needed: None,
            drift: None,
        }
    }

    /// Whether it is that of nothing: every look has a pair of each case at least.
    pub fn is_nothing(&self) -> bool {
        self.samples == 0
    }

    /// What a measure says, where there is anything to compare.
    pub fn criterion(&self, measure: Measure) -> Option<&Criterion> {
        self.criteria.iter().find(|criterion| criterion.measure == measure)
    }

    /// Whether so many pairs are without an answer that the rest may not be like them.
    fn is_full_of_holes(&self, terms: &Terms) -> bool {
        let seen = self.pairs + self.unanswered;
        self.unanswered as f64 > terms.max_unanswered * seen as f64
    }

    fn decide(&mut self, critical: &Critical, terms: &Terms, look: Look) {
        let gating = || self.criteria.iter().filter(|criterion| criterion.gates);
        let fails = gating().any(|criterion| criterion.outcome == Outcome::Fails);
        let holds = gating().all(|criterion| criterion.outcome == Outcome::Holds);
        let is_counted = self.criterion(Measure::PassRate).is_some();
        self.verdict = if fails && !self.is_full_of_holes(terms) {
            Verdict::Incompatible
        } else if is_counted && holds && !self.is_full_of_holes(terms) {
            Verdict::Compatible
        } else {
            Verdict::Inconclusive
        };
        if self.verdict == Verdict::Inconclusive && look.can_ask_more {
            self.confirm.clone_from(&critical.to_confirm);
        }
    }

    fn say_what_is_missing(
        &mut self,
        pairs: &Pairs,
        terms: &Terms,
        (look, z): (Look, f64),
        next: Option<u32>,
    ) {
        if self.verdict != Verdict::Inconclusive || pairs.count == 0 {
            return;
        }
        let is_open = self
            .criterion(Measure::PassRate)
            .is_some_and(|criterion| criterion.outcome == Outcome::Unclear);
        self.samples_needed = is_open.then(|| plan::further(pairs, terms, z)).flatten();
        if look.can_ask_more && self.confirm.is_empty() {
            self.next_samples = next;
        }
    }
}

// === impl PairedCase ===

impl PairedCase {
    /// The first `samples` pairs, of those that both sides have an answer to: whether the baseline
    /// passes, and the candidate.
    fn answered(&self, samples: u32) -> impl Iterator<Item = (bool, bool)> + '_ {
        let samples = usize::try_from(samples).unwrap_or(usize::MAX);
        self.baseline
            .iter()
            .zip(&self.candidate)
            .take(samples)
            .filter_map(|(baseline, candidate)| Some((baseline.passed?, candidate.passed?)))
    }

    /// How many pairs the baseline passes, how many the candidate, and how many there are.
    fn passed(&self, samples: u32) -> (u32, u32, u32) {
        self.answered(samples).fold((0, 0, 0), |(baseline, candidate, pairs), (one, other)| {
            (baseline + u32::from(one), candidate + u32::from(other), pairs + 1)
        })
    }

    /// Pairs that were asked and lack an answer.
    fn unanswered(&self, samples: u32) -> u64 {
        let asked = self.baseline.len().max(self.candidate.len());
        let asked = u64::try_from(asked).unwrap_or(u64::MAX).min(u64::from(samples));
        asked.saturating_sub(u64::from(self.passed(samples).2))
    }

    /// Whether both sides pass it only now and then: with at least six answers each, of which so
    /// many pass that the rate of all is between 20 % and 80 % (Wilson's interval, 10 % on either
    /// side), and that of each side is too. Three answers tell nothing: two of three are as likely
    /// at 90 % as at 40 %.
    ///
    /// The rule is the same for both sides. By the baseline alone it would leave out those cases in
    /// which the baseline was unlucky: the rest would be too good for it, by half a point where
    /// cases pass nine times in ten. And a flaky case that the candidate breaks for good still
    /// counts.
    ///
    /// Critical cases always count.
    fn is_flaky(&self, samples: u32) -> bool {
        const FLAKY: std::ops::RangeInclusive<f64> = 0.2..=0.8;
        const FEWEST: u32 = 6;
        // What a normal variable exceeds with a chance of 10 %.
        const Z: f64 = 1.281_552;
        let (baseline, candidate, pairs) = self.passed(samples);
        if self.is_critical || pairs < FEWEST {
            return false;
        }
        let is_open = |passed: u32| FLAKY.contains(&(f64::from(passed) / f64::from(pairs)));
        let count = 2.0 * f64::from(pairs);
        let rate = f64::from(baseline + candidate) / count;
        let centre = rate + Z * Z / (2.0 * count);
        let half = Z * (rate * (1.0 - rate) / count + Z * Z / (4.0 * count * count)).sqrt();
        let whole = 1.0 + Z * Z / count;
        is_open(baseline)
            && is_open(candidate)
            && FLAKY.contains(&((centre - half) / whole))
            && FLAKY.contains(&((centre + half) / whole))
    }
}

// === impl Verdict ===

impl Verdict {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Compatible => "compatible",
            Self::Incompatible => "incompatible",
            Self::Inconclusive => "inconclusive",
        }
    }

    /// What a command ends with: 0, 1 or 2.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Compatible => 0,
            Self::Incompatible => 1,
            Self::Inconclusive => 2,
        }
    }
}
