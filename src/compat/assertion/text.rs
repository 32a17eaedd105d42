//! What an answer says, letter by letter.

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::found::{Found, quoted};
use super::test::{Spec, Wrong};

/// The longest pattern, compiled.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Texts that are looked for.
#[derive(Debug)]
pub(super) struct Needles {
    /// As they are written.
    written: Vec<String>,
    /// In lower case, where that makes no difference.
    folded: Option<Vec<String>>,
    all: bool,
}

// === impl Needles ===

impl Needles {
    pub(super) fn of(name: &str, spec: &Spec<'_>) -> Result<Self, Wrong> {
        let written = match (name.ends_with("-any") || name.ends_with("-all"), spec.value) {
            (true, Some(Value::String(list))) => separated(list),
            (true, _) => spec.texts()?,
            (false, _) => vec![spec.text()?],
        };
        if written.is_empty() {
            return Err(Wrong::value("must not be empty"));
        }
        let folded = name.starts_with('i');
        let folded = folded.then(|| written.iter().map(|text| text.to_lowercase()).collect());
        Ok(Self { written, folded, all: !name.ends_with("-any") })
    }

    pub(super) fn on(&self, text: &str) -> Found {
        let lower = self.folded.as_ref().map(|_| text.to_lowercase());
        let (needles, text) = match (&self.folded, &lower) {
            (Some(folded), Some(lower)) => (folded, lower.as_str()),
            (Some(_), None) | (None, _) => (&self.written, text),
        };
        let found = |needle: &&String| text.contains(needle.as_str());
        let first = |is: bool| {
            let at = needles.iter().position(|needle| found(&needle) == is);
            at.and_then(|at| self.written.get(at))
        };
        match (self.all, first(false), first(true)) {
            (true, Some(missing), _) => Found::is(false, format!("lacks {}", quoted(missing))),
            (true, None, _) if self.written.len() > 1 => Found::is(true, "contains all"),
            (false, _, None) => Found::is(false, "contains none of them"),
            (_, _, Some(first)) => Found::is(true, format!("contains {}", quoted(first))),
            (true, None, None) => Found::is(true, "contains all"),
        }
    }
}

/// A number, a truth or a text as promptfoo writes it.
pub(super) fn of_scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => {
            let whole = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 1e15);
            Some(whole.map_or_else(|| number.to_string(), |whole| format!("{whole:.0}")))
        }
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Values with commas between them; one that holds a comma stands in quotes.
pub(super) fn separated(list: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut is_quoted = false;
    for character in list.chars() {
        match (character, items.last_mut()) {
            ('"', _) => is_quoted = !is_quoted,
            (',', _) if !is_quoted => items.push(String::new()),
            (_, Some(item)) => item.push(character),
            (_, None) => {}
        }
    }
    let items = items.into_iter().map(|item| item.trim().to_owned());
    items.filter(|item| !item.is_empty()).collect()
}

/// Compiles a pattern that is matched in linear time.
pub(super) fn pattern(written: &str) -> Result<Regex, Wrong> {
    let built = RegexBuilder::new(written).size_limit(MAX_PATTERN_BYTES).build();
    built.map_err(|error| {
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        let hint = match why.contains("look-around") || why.contains("backreference") {
            true => "; patterns are matched in linear time, which leaves these out",
            false => "",
        };
        Wrong::value(format!("is no pattern: {why}{hint}"))
    })
}

pub(super) fn matches(pattern: &Regex, text: &str) -> Found {
    match pattern.find(text) {
        Some(found) => Found::is(true, format!("{} matches", quoted(found.as_str()))),
        None => Found::is(false, format!("nothing matches `{}`", pattern.as_str())),
    }
}

pub(super) fn starts_with(start: &str, text: &str) -> Found {
    let is = text.starts_with(start);
    Found::is(is, format!("begins with {}", quoted(if is { start } else { text })))
}

pub(super) fn ends_with(end: &str, text: &str) -> Found {
    let is = text.ends_with(end);
    let tail = text.chars().count().saturating_sub(40);
    let tail: String = text.chars().skip(tail).collect();
    Found::is(is, format!("ends with {}", quoted(if is { end } else { &tail })))
}

/// The same text, or for a table or a list the same JSON.
pub(super) fn equals(wanted: &Value, text: &str) -> Found {
    let is = match of_scalar(wanted) {
        Some(wanted) => wanted == text,
        None => serde_json::from_str(text).is_ok_and(|value: Value| is_same(wanted, &value)),
    };
    Found::is(is, if is { "is equal".to_owned() } else { format!("is {}", quoted(text)) })
}

/// The same JSON; 1 and 1.0 are the same number.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other
                || one.as_f64().zip(other.as_f64()).is_some_and(|(one, other)| one == other)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let is_in = |(name, value): (&String, &Value)| {
                other.get(name).is_some_and(|there| is_same(value, there))
            };
            one.len() == other.len() && one.iter().all(is_in)
        }
        (one, other) => one == other,
    }
}
