//! What a run lacks: answers that did not come, and assertions that nobody could judge, with the
//! commonest reason of each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::draft::{CaseAnswers, Graded};
use super::numbers::{self, counted};

/// Reasons that are told apart, of each kind.
const REASONS: usize = 100;
/// Characters of a reason that are told.
const REASON_CHARS: usize = 300;
/// Words that may stand before the colon of a reason to be what it is called.
const NAME_WORDS: usize = 3;

/// Answers that did not come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// How many, of both sides.
    pub answers: u64,
    /// Of so many that were asked for.
    pub of: u64,
    /// How many of them have the commonest reason.
    pub commonest: u64,
    /// The commonest reason: the provider's status and word where it gave them, and what it said.
    pub why: String,
    /// What was asked then: `provider/model`, or a route.
    pub model: String,
}

/// What was asserted and nobody could say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unjudged {
    /// Cases with such assertions: they were passed or failed by their others alone.
    pub cases: u64,
    /// Of so many.
    pub of: u64,
    /// The commonest reason.
    pub why: String,
}

/// What is lacking, as it is counted. The order of cases makes no difference.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    /// Answers that were asked for.
    asked: u64,
    unanswered: u64,
    /// By the model, and by the reason without its numbers, which may be those of requests: how
    /// many, and the least of these reasons.
    errors: BTreeMap<(String, String), (u64, String)>,
    cases: u64,
    unjudged: u64,
    reasons: BTreeMap<String, u64>,
}

// === impl Lacking ===

impl Lacking {
    /// Counts one case; `models` are those of baseline and candidate. Whether some of it was not
    /// judged.
    pub(super) fn add(&mut self, case: &CaseAnswers, models: [&str; 2]) -> bool {
        for (answers, model) in [&case.baseline, &case.candidate].into_iter().zip(models) {
            self.asked += answers.len() as u64;
            for why in answers.iter().filter_map(|one| one.answer.error.as_deref()) {
                self.unanswered += 1;
                self.note_error(model, why);
            }
        }
        self.cases += 1;
        let is_unjudged = self.note_unjudged(case.baseline.iter().chain(&case.candidate));
        self.unjudged += u64::from(is_unjudged);
        is_unjudged
    }

    fn note_error(&mut self, model: &str, why: &str) {
        let why: String = why.chars().take(REASON_CHARS).collect();
        let key = (model.to_owned(), without_numbers(&why));
        if self.errors.len() >= REASONS && !self.errors.contains_key(&key) {
            return;
        }
        let (count, least) = self.errors.entry(key).or_insert_with(|| (0, why.clone()));
        *count += 1;
        if why < *least {
            *least = why;
        }
    }

    fn note_unjudged<'a>(&mut self, answers: impl Iterator<Item = &'a Graded>) -> bool {
        let grades = answers.filter_map(|one| one.grade.as_ref());
        let mut is_unjudged = false;
        for check in grades.flat_map(|grade| &grade.checks).filter(|one| one.passed.is_none()) {
            is_unjudged = true;
            if self.reasons.len() < REASONS || self.reasons.contains_key(&check.reason) {
                *self.reasons.entry(check.reason.clone()).or_default() += 1;
            }
        }
        is_unjudged
    }

    /// What there is to say in the end.
    pub(super) fn told(self) -> (Option<Unanswered>, Option<Unjudged>) {
        let commonest = self.errors.into_iter().max_by_key(|(_, (count, _))| *count);
        let unanswered = commonest.map(|((model, _), (commonest, why))| Unanswered {
            answers: self.unanswered,
            of: self.asked,
            commonest,
            why,
            model,
        });
        let why = self.reasons.into_iter().max_by_key(|(_, count)| *count);
        let unjudged = why.map(|(why, _)| Unjudged { cases: self.unjudged, of: self.cases, why });
        (unanswered, unjudged)
    }
}

// === impl Unanswered ===

impl Unanswered {
    /// `12 of 39 answers failed (30.8 %): 11 x 401 authentication_error from sim/tide-small: the
    /// key is not known`
    pub fn in_words(&self) -> String {
        let Self { answers, of, commonest, why, model } = self;
        let answers_of = counted(*of, "answer");
        let share = numbers::percent(*answers as f64 / (*of).max(1) as f64);
        let times = match commonest == answers && *answers == 1 {
            true => String::new(),
            false => format!("{} x ", numbers::grouped(*commonest)),
        };
        let named = why.split_once(": ").filter(|(name, _)| is_name(name));
        let what = match named {
            Some((name, said)) => format!("{times}{name} from {model}: {said}"),
            None if is_name(why) => format!("{times}{why} from {model}"),
            None => format!("{times}from {model}: {why}"),
        };
        format!("{} of {answers_of} failed ({share}): {what}", numbers::grouped(*answers))
    }
}

/// With `#` for each number.
fn without_numbers(text: &str) -> String {
    let mut without: String =
        text.chars().map(|letter| if letter.is_ascii_digit() { '#' } else { letter }).collect();
    while without.contains("##") {
        without = without.replace("##", "#");
    }
    without
}

fn is_name(text: &str) -> bool {
    (1..=NAME_WORDS).contains(&text.split_whitespace().count())
}

// === impl Unjudged ===

impl Unjudged {
    /// `4 of 12 cases were not judged in full, and passed by the rest: nobody judges`
    pub fn in_words(&self) -> String {
        let Self { cases, of, why } = self;
        let of = counted(*of, "case");
        let were = if *cases == 1 { "was" } else { "were" };
        format!("{cases} of {of} {were} not judged in full, and passed by the rest: {why}")
    }
}
