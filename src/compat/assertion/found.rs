//! An answer as tests see it, and what they find.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::compat::{Answer, Call};

/// The longest text that a reason repeats.
const MAX_ECHO_CHARS: usize = 80;

/// An answer as tests see it.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) answer: &'a Answer,
    /// The text; the calls as JSON where there are only calls.
    pub(super) text: Cow<'a, str>,
    pub(super) question: &'a str,
    /// An answer that is right, where there is one.
    pub(super) reference: Option<&'a str>,
    pub(super) tools: &'a [Value],
}

/// What a test finds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// `None`: it could not be found out.
    pub(super) passed: Option<bool>,
    /// From 0 to 1.
    pub(super) score: f64,
    /// Why; short.
    pub(super) reason: String,
}

// === impl Seen ===

impl<'a> Seen<'a> {
    pub(super) fn of(answer: &'a Answer, question: &'a str, tools: &'a [Value]) -> Self {
        let text = if answer.text.is_empty() && !answer.calls.is_empty() {
            let call = |Call { name, arguments }: &Call| json!({"type": "function", "function": {"name": name, "arguments": arguments}});
            Cow::Owned(Value::Array(answer.calls.iter().map(call).collect()).to_string())
        } else {
            Cow::Borrowed(answer.text.as_str())
        };
        Self { answer, text, question, reference: None, tools }
    }
}

// === impl Found ===

impl Found {
    /// Holds or does not, with a score of 1 or 0.
    pub(super) fn is(passed: bool, reason: impl Into<String>) -> Self {
        Self { passed: Some(passed), score: f64::from(u8::from(passed)), reason: reason.into() }
    }

    /// Holds from a threshold on.
    pub(super) fn scored(score: f64, threshold: f64, what: &str) -> Self {
        let score = if score.is_finite() { score.clamp(0.0, 1.0) } else { 0.0 };
        let passed = score + f64::EPSILON >= threshold;
        let sign = if passed { "reaches" } else { "is below" };
        Self {
            passed: Some(passed),
            score,
            reason: format!("{what} {score:.2} {sign} {threshold}"),
        }
    }

    /// Could not be found out.
    pub(super) fn open(reason: impl Into<String>) -> Self {
        Self { passed: None, score: 0.0, reason: reason.into() }
    }

    /// The same, asked the other way round.
    pub(super) fn negated(self) -> Self {
        let Self { passed, score, reason } = self;
        let score = if passed.is_some() { 1.0 - score } else { 0.0 };
        Self { passed: passed.map(|passed| !passed), score, reason }
    }
}

/// A text in quotes, cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(MAX_ECHO_CHARS).collect();
    let end = if chars.next().is_some() { "…" } else { "" };
    format!("“{start}{end}”")
}
