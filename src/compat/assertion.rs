//! What must be true of an answer.
//!
//! The types are promptfoo's, and mean what they mean there
//! (<https://www.promptfoo.dev/docs/configuration/expected-outputs/>, as of November 2025); where
//! its documentation leaves something open, its code decides. Two things are ours:
//!
//! - `not-` is the exact negation of every type, its score one minus the other's. What could not be
//!   found out stays so.
//! - What a judge says decides nothing where judges do not count, and neither does what nobody
//!   could say. Such a check has no weight either.

use std::sync::Arc;

use serde_json::Value;

use super::suite::Case;
use super::{Answer, Ask, AskKey, Check, Grade, Reply};

mod found;
mod json;
mod judged;
mod kinds;
mod measure;
mod overlap;
mod refusal;
mod test;
mod text;
mod tools;
mod written;

#[cfg(test)]
mod tests;

pub(super) use kinds::{Known, known, names};
pub(super) use test::{Spec, Wrong};

use found::{Found, Seen};
use test::Test;

/// What counts when an answer is graded.
#[derive(Debug, Clone, Copy, Default)]
pub struct GradeTerms<'a> {
    /// Whether what a judge says decides. If not, its checks have no `passed`.
    pub judges_count: bool,
    /// The tools that the model was given, in the form of chat completions, for
    /// `is-valid-openai-tools-call` and its like.
    pub tools: &'a [Value],
}

/// What came of grading.
#[derive(Debug, Clone, PartialEq)]
pub enum Graded {
    /// All is known.
    Done(Grade),
    /// Replies to these are needed first; never empty, none twice.
    Asks(Vec<Ask>),
}

/// All rules of a case.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    pub(super) entries: Vec<Entry>,
    /// The mean score from which the case is passed, whatever single rules say.
    pub(super) threshold: Option<f64>,
}

/// A rule, or several that count as one.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    One(Arc<Rule>),
    Set(RuleSet),
}

/// `assert-set`.
#[derive(Debug, Clone)]
pub(super) struct RuleSet {
    pub(super) rules: Vec<Arc<Rule>>,
    pub(super) threshold: Option<f64>,
    pub(super) weight: f64,
}

/// One assertion, checked and filled in.
#[derive(Debug)]
pub(super) struct Rule {
    /// As it is written: `not-contains`.
    kind: String,
    is_negated: bool,
    /// How much it counts. 0: it is shown and cannot fail.
    weight: f64,
    /// What people call what it measures; shown before the reason.
    metric: Option<String>,
    /// As they are written.
    value: Option<Value>,
    threshold: Option<f64>,
    test: Test,
}

/// Scores and their weights, as they add up.
#[derive(Debug, Default)]
struct Sum {
    score: f64,
    weight: f64,
    /// Whether something decided.
    is_decided: bool,
    has_failed: bool,
}

// === impl Case ===

impl Case {
    /// What the assertions say of an answer to `question`, which is what was asked, as text.
    ///
    /// `known` has the replies that have come. What it does not have is asked for, all at once;
    /// then this is called again. A case without assertions is passed with a score of 1.
    pub fn grade(
        &self,
        answer: &Answer,
        question: &str,
        known: &dyn Fn(&AskKey) -> Option<Reply>,
        terms: GradeTerms<'_>,
    ) -> Graded {
        let mut seen = Seen::of(answer, question, terms.tools);
        seen.reference = self.golden();
        let mut asks = Vec::new();
        let mut checks = Vec::new();
        let mut sum = Sum::default();
        let grading = Grading { seen: &seen, known, terms };
        for entry in &self.rules.entries {
            match entry {
                Entry::One(rule) => {
                    if let Some(check) = grading.check(rule, &mut asks) {
                        sum.add(&check, rule.weight);
                        checks.push(check);
                    }
                }
                Entry::Set(set) => grading.set(set, &mut sum, &mut checks, &mut asks),
            }
        }
        if !asks.is_empty() {
            return Graded::Asks(asks);
        }
        let (passed, score) = sum.result(self.rules.threshold);
        Graded::Done(Grade { passed, score, checks })
    }
}

impl Case {
    /// An answer that is known to be right: the one that is named, else the one text of `similar`.
    fn golden(&self) -> Option<&str> {
        let of_similar = || {
            let mut rules = self.rules.entries.iter().filter_map(|entry| match entry {
                Entry::One(rule) if !rule.is_negated => rule.test.reference(),
                Entry::One(_) | Entry::Set(_) => None,
            });
            rules.next()
        };
        self.reference.as_deref().or_else(of_similar)
    }
}

/// What is at hand while an answer is graded.
#[derive(Clone, Copy)]
struct Grading<'a> {
    seen: &'a Seen<'a>,
    known: &'a dyn Fn(&AskKey) -> Option<Reply>,
    terms: GradeTerms<'a>,
}

// === impl Grading ===

impl Grading<'_> {
    /// `None`: something must be asked first.
    fn check(&self, rule: &Rule, asks: &mut Vec<Ask>) -> Option<Check> {
        let found = rule.test.on(self.seen, &mut |ask| {
            let reply = (self.known)(&ask.key());
            if reply.is_none() && !asks.contains(&ask) {
                asks.push(ask);
            }
            reply
        })?;
        let by_judge = rule.test.is_judged();
        let Found { passed, score, reason } = if rule.is_negated { found.negated() } else { found };
        let counts = !by_judge || self.terms.judges_count;
        let passed = passed.filter(|_| counts).map(|passed| passed || rule.weight == 0.0);
        let reason = match &rule.metric {
            Some(metric) => format!("{metric}: {reason}"),
            None => reason,
        };
        Some(Check { kind: rule.kind.clone(), passed, score, reason, by_judge })
    }

    fn set(&self, set: &RuleSet, sum: &mut Sum, checks: &mut Vec<Check>, asks: &mut Vec<Ask>) {
        let mut within = Sum::default();
        let mut members = Vec::with_capacity(set.rules.len());
        for rule in &set.rules {
            if let Some(check) = self.check(rule, asks) {
                within.add(&check, rule.weight);
                members.push(check);
            }
        }
        let (passed, score) = within.result(set.threshold);
        let held = members.iter().filter(|check| check.passed == Some(true)).count();
        let check = Check {
            kind: "assert-set".to_owned(),
            passed: within.is_decided.then_some(passed || set.weight == 0.0),
            score,
            reason: format!("{held} of {} hold", members.len()),
            by_judge: false,
        };
        sum.add(&check, set.weight);
        checks.push(check);
        checks.append(&mut members);
    }
}

// === impl Rule ===

impl Rule {
    /// Reads an assertion whose templates are filled in.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn of(spec: &Spec<'_>) -> Result<Self, Wrong> {
        let name = spec.kind.strip_prefix("not-");
        let test = Test::of(name.unwrap_or(spec.kind), spec)?;
        let is_negated = name.is_some();
        let metric = spec.metric.map(str::to_owned);
        Ok(Self {
            kind: spec.kind.to_owned(),
            is_negated,
            weight: spec.weight,
            metric,
            value: spec.value.cloned(),
            threshold: spec.threshold,
            test,
        })
    }
}

// === impl Sum ===

impl Sum {
    fn add(&mut self, check: &Check, weight: f64) {
        if let Some(passed) = check.passed {
            self.is_decided = true;
            self.score += check.score * weight;
            self.weight += weight;
            self.has_failed |= !passed;
        }
    }

    /// Whether it is passed, and the mean score.
    fn result(&self, threshold: Option<f64>) -> (bool, f64) {
        let score = match self.weight > 0.0 {
            true => self.score / self.weight,
            false if self.is_decided => 0.0,
            false => 1.0,
        };
        let passed = match threshold.filter(|_| self.is_decided) {
            Some(threshold) => score >= threshold,
            None => !self.has_failed,
        };
        (passed, score)
    }
}
