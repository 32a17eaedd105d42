//! What a simulated model can do beside small talk: fill in a schema, reply from facts, summarise,
//! choose a label, judge.
//!
//! It reads the request as a model would, what it is to do in the system message and the material
//! in what the user says, and works by plain rules: words in common, forms of dates and amounts, a
//! small dictionary. It knows no prompt and no case. What it does not recognise it leaves to the
//! small talk.
//!
//! Models err, and not all alike: now and then (a *slip*, whose chance is the model's), and in ways
//! of their own (*habits*), by which one model is worse than another for good.

mod amounts;
mod digest;
mod fields;
mod judging;
mod labels;
mod replies;
mod tongue;

use serde_json::Value;

/// A request, as far as it shapes what is said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Brief<'a> {
    /// What the model is told to do.
    pub(super) system: &'a str,
    /// What the user says.
    pub(super) said: &'a str,
    /// The schema of the answer, where it is to be JSON of one.
    pub(super) schema: Option<&'a Value>,
}

/// What a model is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Habits {
    /// The share of answers, 0 to 1, with a slip.
    pub(super) slips: f64,
    /// The share of comparisons, 0 to 1, in which a judge prefers what it is shown first.
    pub(super) bias: f64,
    /// Leaves out members that are null, whatever the schema requires.
    pub(super) omits_nulls: bool,
    /// Replies in English, whatever it was asked in.
    pub(super) only_english: bool,
    /// Says more than was asked for.
    pub(super) is_wordy: bool,
}

/// How chance has fallen for one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Luck {
    /// Something goes wrong, and which of the things that can.
    pub(super) slip: Option<u64>,
    /// A judge does not look at the answers and takes the first.
    pub(super) takes_first: bool,
}

/// What ends the names of models that are the next of their kind, and not as good yet.
const NEXT: &str = "-next";

// === impl Habits ===

impl Habits {
    /// Those of a model of this name; `slips` and `bias` where the scenario says them.
    pub(super) fn of(model: &str, slips: Option<f64>, bias: f64) -> Self {
        let is_next = model.ends_with(NEXT);
        // A judge that errs more often than those it judges would be of no use.
        let usual = if model.contains("judge") { 0.0 } else { 0.015 };
        let usual = if is_next { 0.04 } else { usual };
        Self {
            slips: slips.unwrap_or(usual),
            bias,
            omits_nulls: is_next,
            only_english: is_next,
            is_wordy: is_next,
        }
    }
}

/// What is said; `None`: this is nothing that it can do.
pub(super) fn answer(brief: &Brief<'_>, habits: &Habits, luck: Luck) -> Option<String> {
    if let Some(verdict) = judging::verdict(brief, luck) {
        return Some(verdict);
    }
    if brief.system.trim().is_empty() {
        return None;
    }
    if let Some(schema) = brief.schema {
        return Some(fields::filled(schema, brief, habits, luck));
    }
    labels::label(brief, luck)
        .or_else(|| replies::reply(brief, habits, luck))
        .or_else(|| digest::digest(brief, habits, luck))
}

/// A text's words in lower case, without punctuation around them.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| c.is_whitespace() || "/()[]{}\"“”:;,!?".contains(c))
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase())
        .filter(|word| !word.is_empty())
        .collect()
}

/// A text's sentences, each with its end. An abbreviation's point ends one only before a capital
/// letter, and then all the same.
fn sentences(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut open = String::new();
    let mut chars = text.chars().peekable();
    while let Some(character) = chars.next() {
        open.push(character);
        let is_end = match character {
            '.' | '!' | '?' => chars.peek().is_none_or(|next| next.is_whitespace()),
            '。' => true,
            _ => false,
        };
        if is_end {
            all.push(std::mem::take(&mut open));
        }
    }
    all.push(open);
    let clean = |sentence: String| sentence.split_whitespace().collect::<Vec<_>>().join(" ");
    all.into_iter().map(clean).filter(|sentence| !sentence.is_empty()).collect()
}
