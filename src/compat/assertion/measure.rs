//! How long, how quick and how dear an answer is.

use serde_json::Value;

use super::found::{Found, quoted};
use super::test::Wrong;
use crate::compat::Answer;
use crate::tokens;

/// From the least to the most, both included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    least: f64,
    most: f64,
}

/// `length`, which is ours: bounds of characters, words and tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Length {
    chars: Option<Range>,
    words: Option<Range>,
    tokens: Option<Range>,
}

// === impl Range ===

impl Range {
    /// A number, or `{min, max}`.
    pub(super) fn of(value: Option<&Value>) -> Result<Self, Wrong> {
        let exact = match value {
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) | None => None,
        };
        if let Some(exact) = exact {
            return Ok(Self { least: exact, most: exact });
        }
        let Some(Value::Object(bounds)) = value else {
            return Err(Wrong::value("must be a number, or a table of `min` and `max`"));
        };
        if let Some(name) = bounds.keys().find(|name| !["min", "max"].contains(&name.as_str())) {
            return Err(Wrong::value(format!("`{name}` is unknown; there are `min` and `max`")));
        }
        let bound = |name: &str| match bounds.get(name) {
            None => Ok(None),
            Some(value) => {
                let number = value.as_f64().filter(|number| *number >= 0.0);
                number.map(Some).ok_or_else(|| Wrong::value(format!("`{name}` must be a number")))
            }
        };
        let (least, most) = (bound("min")?, bound("max")?);
        if least.is_none() && most.is_none() {
            return Err(Wrong::value("needs `min` or `max`"));
        }
        let range = Self { least: least.unwrap_or(0.0), most: most.unwrap_or(f64::INFINITY) };
        match range.least <= range.most {
            true => Ok(range),
            false => Err(Wrong::value("`min` must not be more than `max`")),
        }
    }

    pub(super) fn on(self, count: usize, unit: &str) -> Found {
        let is = (self.least..=self.most).contains(&(count as f64));
        Found::is(is, format!("{count} {unit}"))
    }
}

// === impl Length ===

impl Length {
    pub(super) fn of(value: Option<&Value>) -> Result<Self, Wrong> {
        const SHAPE: &str =
            "must be a table of `chars`, `words` and `tokens`, each with `min` and `max`";
        let Some(Value::Object(written)) = value else { return Err(Wrong::value(SHAPE)) };
        let mut length = Self::default();
        for (name, range) in written {
            let range = Some(Range::of(Some(range))?);
            match name.as_str() {
                "chars" => length.chars = range,
                "words" => length.words = range,
                "tokens" => length.tokens = range,
                _ => return Err(Wrong::value(format!("`{name}` is unknown: {SHAPE}"))),
            }
        }
        match written.is_empty() {
            true => Err(Wrong::value(SHAPE)),
            false => Ok(length),
        }
    }

    pub(super) fn on(&self, text: &str) -> Found {
        let chars = self.chars.map(|range| range.on(text.chars().count(), "characters"));
        let words = self.words.map(|range| range.on(words(text), "words"));
        let count = || usize::try_from(tokens::count(text)).unwrap_or(usize::MAX);
        let tokens = self.tokens.map(|range| range.on(count(), "tokens"));
        let found: Vec<Found> = [chars, words, tokens].into_iter().flatten().collect();
        let is = found.iter().all(|found| found.passed == Some(true));
        let reasons: Vec<_> = found.into_iter().map(|found| found.reason).collect();
        Found::is(is, reasons.join(", "))
    }
}

/// Words, with white space between them.
pub(super) fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

pub(super) fn latency(most_ms: f64, answer: &Answer) -> Found {
    let took = answer.latency_ms;
    Found::is(took as f64 <= most_ms, format!("{took} ms of {most_ms}"))
}

pub(super) fn cost(most_usd: f64, answer: &Answer) -> Found {
    let cost = answer.cost_micro_usd as f64 / 1e6;
    Found::is(cost <= most_usd, format!("${cost:.6} of ${most_usd}"))
}

pub(super) fn finish(wanted: &str, answer: &Answer) -> Found {
    let reason = &answer.finish_reason;
    Found::is(reason.eq_ignore_ascii_case(wanted), format!("ended by {}", quoted(reason)))
}
