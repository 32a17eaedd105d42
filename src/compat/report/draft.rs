//! Draws up a report, case by case.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::lacking::Lacking;
use super::{
    Answer, CaseReport, Category, Check, Distribution, FORMAT, Grade, JudgeFacts, Judgement,
    Measure, Night, Plan, Preference, Report, RunFacts, RunState, Shown, ShownAnswer, ShownPair,
    Standing, Tally, Terms,
};
use crate::compat::verdict::{PairedCase, Sample};

/// Cases whose answers are shown, if nobody says otherwise.
const SHOWN: usize = 200;
/// Pairs of answers of a case that are shown.
const SHOWN_PAIRS: usize = 2;
/// Characters of an answer, or of a question, that are shown.
const SHOWN_CHARS: usize = 6_000;
/// Failing checks of a case that are told.
const FAILURES: usize = 5;
/// Bins of a distribution.
const BINS: usize = 24;
/// How finely readings are counted until all are there: steps a doubling.
const STEPS: f64 = 8.0;

/// A case with all that was answered to it.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseAnswers {
    /// The case.
    pub id: String,
    /// What it is, in words; empty if nobody says.
    pub description: String,
    /// What it is there for.
    pub category: Category,
    /// Whether the candidate may not newly fail it.
    pub is_critical: bool,
    /// The variables.
    pub vars: Map<String, Value>,
    /// What was asked, as it was rendered.
    pub question: String,
    /// The baseline's answers, in the order of pairs.
    pub baseline: Vec<Graded>,
    /// The candidate's.
    pub candidate: Vec<Graded>,
    /// What a judge prefers, of each pair it was asked of: by the pair's number.
    pub preferences: BTreeMap<u32, Preference>,
}

/// An answer with its grade.
#[derive(Debug, Clone, PartialEq)]
pub struct Graded {
    /// What was said.
    pub answer: Answer,
    /// What the assertions say; `None` where there is no answer, or nobody could judge it.
    pub grade: Option<Grade>,
    /// Whether an earlier run has asked for it.
    pub is_reused: bool,
}

/// A report that is being drawn up.
#[derive(Debug)]
pub struct Draft {
    state: RunState,
    run: RunFacts,
    terms: Terms,
    judgement: Judgement,
    plan: Option<Plan>,
    judge: Option<JudgeFacts>,
    trend: Vec<Night>,
    shown: usize,
    quarantined: BTreeSet<String>,
    cases: BTreeMap<Rank, CaseReport>,
    /// Those of [`Self::cases`] that have their answers.
    with_answers: BTreeSet<Rank>,
    counts: [BTreeMap<u32, (u64, u64)>; 3],
    lacking: Lacking,
}

/// How telling a case is: less is more. Critical cases that are not passed come before all others,
/// and before those of their standing.
type Rank = (bool, Standing, bool, String);

/// What an answer has of a measure.
type Reading = fn(&Answer) -> u64;

/// What distributions are of, with what each reads.
const MEASURES: [(Measure, Reading); 3] = [
    (Measure::Length, |answer| answer.output_tokens),
    (Measure::Cost, |answer| answer.cost_micro_usd),
    (Measure::Latency, |answer| answer.latency_ms),
];

// === impl CaseAnswers ===

impl CaseAnswers {
    /// What the verdict counts of it.
    pub fn paired(&self) -> PairedCase {
        let side = |graded: &[Graded]| graded.iter().map(Graded::counted).collect();
        PairedCase {
            id: self.id.clone(),
            category: self.category,
            is_critical: self.is_critical,
            baseline: side(&self.baseline),
            candidate: side(&self.candidate),
            preferences: self.preferences.values().copied().collect(),
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (&Graded, &Graded)> {
        self.baseline.iter().zip(&self.candidate)
    }

    /// What became of it, quarantine apart.
    fn standing(&self) -> Standing {
        let (mut pairs, mut baseline, mut candidate) = (0_usize, 0, 0);
        for (one, other) in self.pairs() {
            if let (Some(one), Some(other)) = (one.passed(), other.passed()) {
                pairs += 1;
                baseline += usize::from(one);
                candidate += usize::from(other);
            }
        }
        if pairs == 0 {
            return Standing::Unanswered;
        }
        match (2 * baseline > pairs, 2 * candidate > pairs) {
            (true, false) => Standing::NewlyFailing,
            (false, true) => Standing::NewlyPassing,
            (true | false, true | false) if candidate < baseline => Standing::Worse,
            (true | false, true | false) if candidate > baseline => Standing::Better,
            (true, true) => Standing::StillPassing,
            (false, false) => Standing::StillFailing,
        }
    }

    /// The checks that candidate's answers fail, each once.
    fn failures(&self) -> Vec<Check> {
        let mut failures: Vec<Check> = Vec::new();
        let grades = self.candidate.iter().filter_map(|graded| graded.grade.as_ref());
        for check in grades.filter(|grade| !grade.passed).flat_map(|grade| &grade.checks) {
            let is_known = failures.iter().any(|known| known.kind == check.kind);
            if check.passed == Some(false) && !is_known && failures.len() < FAILURES {
                failures.push(check.clone());
            }
        }
        failures
    }

    fn shown(&self) -> Shown {
        let mut order: Vec<(usize, (&Graded, &Graded))> = self.pairs().enumerate().collect();
        // A pair that differs tells most, then one that fails.
        order.sort_by_key(|(at, (one, other))| {
            let (one, other) = (one.passed(), other.passed());
            let telling = match (one, other) {
                (Some(true), Some(false)) => 0,
                (Some(false), Some(true)) => 1,
                (_, Some(false)) => 2,
                (_, Some(true) | None) => 3,
            };
            (telling, *at)
        });
        let pairs = order.iter().take(SHOWN_PAIRS).map(|(at, (baseline, candidate))| {
            let sample = u32::try_from(*at).unwrap_or(u32::MAX);
            ShownPair {
                sample,
                baseline: baseline.shown(),
                candidate: candidate.shown(),
                preference: self.preferences.get(&sample).copied(),
            }
        });
        Shown {
            vars: self.vars.iter().map(|(name, value)| (name.clone(), cut_value(value))).collect(),
            question: cut(&self.question).0,
            pairs: pairs.collect(),
            more: u32::try_from(order.len().saturating_sub(SHOWN_PAIRS)).unwrap_or(u32::MAX),
        }
    }
}

/// The text, as far as it is shown, and how many characters are not.
fn cut(text: &str) -> (String, u64) {
    let kept: String = text.chars().take(SHOWN_CHARS).collect();
    let more = text.get(kept.len()..).unwrap_or_default().chars().count();
    (kept, u64::try_from(more).unwrap_or(u64::MAX))
}

fn cut_value(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(cut(text).0),
        Value::Array(_) | Value::Object(_) => {
            let text = value.to_string();
            let (kept, more) = cut(&text);
            if more == 0 { value.clone() } else { Value::String(kept) }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

// === impl Graded ===

impl Graded {
    /// Whether it passes; `None` where nobody could say.
    fn passed(&self) -> Option<bool> {
        self.grade.as_ref().and_then(Grade::decided)
    }

    fn counted(&self) -> Sample {
        Sample {
            passed: self.passed(),
            output_tokens: self.answer.output_tokens,
            cost_micro_usd: self.answer.cost_micro_usd,
            latency_ms: self.answer.latency_ms,
        }
    }

    fn shown(&self) -> ShownAnswer {
        let (text, cut) = cut(&self.answer.text);
        ShownAnswer {
            text,
            cut,
            calls: self.answer.calls.clone(),
            error: self.answer.error.clone(),
            passed: self.passed(),
            checks: self.grade.as_ref().map(|grade| grade.checks.clone()).unwrap_or_default(),
            finish_reason: self.answer.finish_reason.clone(),
            served_by: self.answer.served_by.clone(),
            output_tokens: self.answer.output_tokens,
            cost_micro_usd: self.answer.cost_micro_usd,
            latency_ms: self.answer.latency_ms,
        }
    }
}

// === impl Tally ===

impl Tally {
    fn of(answers: &[Graded]) -> Self {
        let there = || answers.iter().filter(|graded| graded.answer.error.is_none());
        let grades = || {
            let grades = answers.iter().filter_map(|graded| graded.grade.as_ref());
            grades.filter(|grade| grade.decided().is_some())
        };
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mean = |sum: f64, of: usize| if of == 0 { 0.0 } else { sum / of as f64 };
        let sum = |of: fn(&Answer) -> u64| there().map(|graded| of(&graded.answer) as f64).sum();
        let mut times: Vec<u64> = there().map(|graded| graded.answer.latency_ms).collect();
        times.sort_unstable();
        let last = (times.len() * 95).div_ceil(100).saturating_sub(1);
        Self {
            passed: count(grades().filter(|grade| grade.passed).count()),
            answered: count(grades().count()),
            asked: count(answers.len()),
            reused: count(answers.iter().filter(|graded| graded.is_reused).count()),
            score: mean(grades().map(|grade| grade.score).sum(), grades().count()),
            output_tokens: mean(sum(|answer| answer.output_tokens), there().count()),
            cost_micro_usd: mean(sum(|answer| answer.cost_micro_usd), there().count()),
            p95_latency_ms: times.get(last).copied().unwrap_or(0),
        }
    }
}

// === impl Draft ===

impl Draft {
    /// Nothing but the facts and the verdict.
    pub fn new(run: RunFacts, terms: Terms, judgement: Judgement) -> Self {
        let quarantined = judgement.quarantined.iter().cloned().collect();
        Self {
            state: RunState::Done,
            run,
            terms,
            judgement,
            plan: None,
            judge: None,
            trend: Vec::new(),
            shown: SHOWN,
            quarantined,
            cases: BTreeMap::new(),
            with_answers: BTreeSet::new(),
            counts: Default::default(),
            lacking: Lacking::default(),
        }
    }

    /// With where the run is; it is done if nobody says otherwise.
    #[must_use]
    pub fn state(self, state: RunState) -> Self {
        Self { state, ..self }
    }

    /// With what was announced before the run began.
    #[must_use]
    pub fn plan(self, plan: Plan) -> Self {
        Self { plan: Some(plan), ..self }
    }

    /// With who judged.
    #[must_use]
    pub fn judge(self, judge: JudgeFacts) -> Self {
        Self { judge: Some(judge), ..self }
    }

    /// With earlier runs and this one, the oldest first.
    #[must_use]
    pub fn trend(self, trend: Vec<Night>) -> Self {
        Self { trend, ..self }
    }

    /// With the answers of so many cases, the most telling; 200 if nobody says otherwise.
    #[must_use]
    pub fn shown(self, shown: usize) -> Self {
        Self { shown, ..self }
    }

    /// Adds a case. Each is added once; in any order.
    pub fn add(&mut self, case: &CaseAnswers) {
        for ((_, reading), counts) in MEASURES.iter().zip(&mut self.counts) {
            for (baseline, candidate) in case.pairs() {
                if baseline.passed().is_some() && candidate.passed().is_some() {
                    counts.entry(bin(reading(&baseline.answer))).or_default().0 += 1;
                    counts.entry(bin(reading(&candidate.answer))).or_default().1 += 1;
                }
            }
        }
        let models = [self.run.baseline.model.as_str(), self.run.candidate.model.as_str()];
        let is_not_judged_in_full = self.lacking.add(case, models);
        let standing = if self.quarantined.contains(&case.id) {
            Standing::Quarantined
        } else {
            case.standing()
        };
        let comes_first = case.is_critical && standing.is_bad();
        let rank = (!comes_first, standing, !case.is_critical, case.id.clone());
        let is_shown = self.has_room_for(&rank);
        let report = CaseReport {
            id: case.id.clone(),
            description: case.description.clone(),
            category: case.category,
            is_critical: case.is_critical,
            standing,
            is_not_judged_in_full,
            baseline: Tally::of(&case.baseline),
            candidate: Tally::of(&case.candidate),
            failures: case.failures(),
            shown: is_shown.then(|| case.shown()),
        };
        self.cases.insert(rank, report);
    }

    /// Whether a case is among the most telling so far. It takes the place of the least telling.
    fn has_room_for(&mut self, rank: &Rank) -> bool {
        if self.shown == 0 {
            return false;
        }
        if self.with_answers.len() >= self.shown {
            let Some(last) = self.with_answers.last().filter(|last| *last > rank).cloned() else {
                return false;
            };
            self.with_answers.remove(&last);
            if let Some(case) = self.cases.get_mut(&last) {
                case.shown = None;
            }
        }
        self.with_answers.insert(rank.clone())
    }

    /// The report.
    pub fn finish(self) -> Report {
        let distributions = MEASURES
            .iter()
            .zip(&self.counts)
            .filter_map(|((measure, _), counts)| distribution(*measure, counts))
            .collect();
        let (unanswered, unjudged) = self.lacking.told();
        Report {
            format: FORMAT,
            state: self.state,
            run: self.run,
            terms: self.terms,
            plan: self.plan,
            judgement: self.judgement,
            judge: self.judge,
            unanswered,
            unjudged,
            cases: self.cases.into_values().collect(),
            trend: self.trend,
            distributions,
        }
    }
}

/// Which step a reading is in.
fn bin(reading: u64) -> u32 {
    ((reading as f64).ln_1p() / std::f64::consts::LN_2 * STEPS) as u32
}

/// Steps joined to bins of equal size on a scale of logarithms.
fn distribution(measure: Measure, counts: &BTreeMap<u32, (u64, u64)>) -> Option<Distribution> {
    let (first, last) = (*counts.first_key_value()?.0, *counts.last_key_value()?.0);
    let steps = (last - first) as usize + 1;
    let size = steps.div_ceil(BINS);
    let bins = steps.div_ceil(size);
    let edge = |bin: usize| (f64::from(first) + (bin * size) as f64) / STEPS;
    let mut distribution = Distribution {
        measure,
        edges: (0..=bins).map(|bin| edge(bin).exp2() - 1.0).collect(),
        baseline: vec![0; bins],
        candidate: vec![0; bins],
    };
    for (step, (baseline, candidate)) in counts {
        let bin = (step - first) as usize / size;
        if let Some(count) = distribution.baseline.get_mut(bin) {
            *count += baseline;
        }
        if let Some(count) = distribution.candidate.get_mut(bin) {
            *count += candidate;
        }
    }
    Some(distribution)
}
