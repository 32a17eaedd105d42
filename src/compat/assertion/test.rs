//! What one assertion looks for.

use regex::Regex;
use serde_json::Value;

use super::found::{Found, Seen};
use super::json::JsonTest;
use super::judged::{Judged, Similar};
use super::measure::{Length, Range};
use super::overlap::Overlap;
use super::text::{self, Needles};
use super::tools::{self, CallForm};
use super::{measure, refusal};
use crate::compat::{Ask, Reply};

/// An assertion as it is written, its templates filled in.
#[derive(Debug, Clone, Copy)]
pub(in crate::compat) struct Spec<'a> {
    /// With `not-`.
    pub(in crate::compat) kind: &'a str,
    pub(in crate::compat) value: Option<&'a Value>,
    pub(in crate::compat) threshold: Option<f64>,
    pub(in crate::compat) weight: f64,
    /// What people call what it measures.
    pub(in crate::compat) metric: Option<&'a str>,
}

/// What is wrong with an assertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::compat) struct Wrong {
    /// `value`, `threshold` or empty.
    pub(in crate::compat) key: &'static str,
    pub(in crate::compat) message: String,
}

/// What is looked for.
#[derive(Debug)]
pub(super) enum Test {
    Equals(Value),
    Contains(Needles),
    Regex(Regex),
    StartsWith(String),
    EndsWith(String),
    Json(JsonTest),
    Refusal,
    /// All calls are of given tools and fit their schemas.
    Calls(CallForm),
    /// The names of the tools that are called, and the least F1.
    CallNames {
        expected: Vec<String>,
        threshold: f64,
    },
    Words(Range),
    Length(Length),
    /// At most so many milliseconds.
    Latency(f64),
    /// At most so many dollars.
    Cost(f64),
    FinishReason(String),
    Overlap(Overlap),
    Similar(Similar),
    Judged(Judged),
}

/// Answers a question of a test, or notes it and says nothing.
pub(super) type Replies<'a> = dyn FnMut(Ask) -> Option<Reply> + 'a;

// === impl Wrong ===

impl Wrong {
    pub(super) fn value(message: impl Into<String>) -> Self {
        Self { key: "value", message: message.into() }
    }

    pub(super) fn threshold(message: impl Into<String>) -> Self {
        Self { key: "threshold", message: message.into() }
    }
}

// === impl Spec ===

impl Spec<'_> {
    /// The value as text, where it must be one.
    pub(super) fn text(&self) -> Result<String, Wrong> {
        match self.value.and_then(text::of_scalar) {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err(Wrong::value("must not be empty")),
            None if self.value.is_none() => Err(Wrong::value("missing")),
            None => Err(Wrong::value("must be a text")),
        }
    }

    /// The value as one text or several.
    pub(super) fn texts(&self) -> Result<Vec<String>, Wrong> {
        match self.value {
            Some(Value::Array(items)) if !items.is_empty() => items
                .iter()
                .map(|item| text::of_scalar(item).ok_or_else(|| Wrong::value("must be texts")))
                .collect(),
            Some(_) | None => self.text().map(|text| vec![text]),
        }
    }

    /// A threshold from 0 to 1.
    pub(super) fn share(&self, otherwise: f64) -> Result<f64, Wrong> {
        match self.threshold.unwrap_or(otherwise) {
            share if (0.0..=1.0).contains(&share) => Ok(share),
            _ => Err(Wrong::threshold("must be 0 to 1")),
        }
    }

    /// A threshold that must be there.
    pub(super) fn limit(&self, unit: &str) -> Result<f64, Wrong> {
        match self.threshold {
            Some(limit) if limit >= 0.0 => Ok(limit),
            Some(_) => Err(Wrong::threshold("must not be negative")),
            None => Err(Wrong::threshold(format!("missing: {unit}"))),
        }
    }
}

// === impl Test ===

impl Test {
    /// Reads what stands under a name of [`super::kinds`], without `not-`.
    pub(super) fn of(name: &str, spec: &Spec<'_>) -> Result<Self, Wrong> {
        Ok(match name {
            "equals" => Self::Equals(spec.value.cloned().ok_or_else(|| Wrong::value("missing"))?),
            "contains" | "icontains" | "contains-any" | "contains-all" | "icontains-any"
            | "icontains-all" => Self::Contains(Needles::of(name, spec)?),
            "regex" => Self::Regex(text::pattern(&spec.text()?)?),
            "starts-with" => Self::StartsWith(spec.text()?),
            "ends-with" => Self::EndsWith(spec.text()?),
            "is-json" => Self::Json(JsonTest::of(spec, true)?),
            "contains-json" => Self::Json(JsonTest::of(spec, false)?),
            "is-refusal" => Self::Refusal,
            "is-valid-openai-tools-call" => Self::Calls(CallForm::Some),
            "is-valid-function-call" | "is-valid-openai-function-call" => {
                Self::Calls(CallForm::One)
            }
            "tool-call-f1" => {
                let expected = tools::expected(spec)?;
                Self::CallNames { expected, threshold: spec.share(1.0)? }
            }
            "word-count" => Self::Words(Range::of(spec.value)?),
            "length" => Self::Length(Length::of(spec.value)?),
            "latency" => Self::Latency(spec.limit("milliseconds")?),
            "cost" => Self::Cost(spec.limit("dollars")?),
            "finish-reason" => Self::FinishReason(spec.text()?),
            "rouge-n" | "bleu" | "gleu" | "levenshtein" => Self::Overlap(Overlap::of(name, spec)?),
            "similar" | "similar:cosine" => Self::Similar(Similar::of(spec)?),
            _ => Self::Judged(Judged::of(name, spec)?),
        })
    }

    /// Whether it is a model's opinion.
    pub(super) const fn is_judged(&self) -> bool {
        matches!(self, Self::Judged(_))
    }

    /// The one text that an answer is to mean, where there is one.
    pub(super) fn reference(&self) -> Option<&str> {
        if let Self::Similar(similar) = self { similar.only_reference() } else { None }
    }

    /// `None`: a reply is needed first.
    pub(super) fn on(&self, seen: &Seen<'_>, replies: &mut Replies<'_>) -> Option<Found> {
        Some(match self {
            Self::Equals(wanted) => text::equals(wanted, &seen.text),
            Self::Contains(needles) => needles.on(&seen.text),
            Self::Regex(pattern) => text::matches(pattern, &seen.text),
            Self::StartsWith(start) => text::starts_with(start, &seen.text),
            Self::EndsWith(end) => text::ends_with(end, &seen.text),
            Self::Json(test) => test.on(&seen.text),
            Self::Refusal => refusal::on(seen.answer),
            Self::Calls(form) => tools::calls(*form, seen),
            Self::CallNames { expected, threshold } => {
                tools::names(expected, *threshold, &seen.answer.calls)
            }
            Self::Words(range) => range.on(measure::words(&seen.text), "words"),
            Self::Length(length) => length.on(&seen.text),
            Self::Latency(most) => measure::latency(*most, seen.answer),
            Self::Cost(most) => measure::cost(*most, seen.answer),
            Self::FinishReason(wanted) => measure::finish(wanted, seen.answer),
            Self::Overlap(overlap) => overlap.on(&seen.text),
            Self::Similar(similar) => return similar.on(seen, replies),
            Self::Judged(judged) => return judged.on(seen, replies),
        })
    }
}
