//! The assertions of a test.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::case::Tests;
use super::read::{At, Fate, Reading};
use super::written::list;
use crate::compat::assertion::{Entry, Known, Rule, RuleSet, Spec, Wrong, known, names};
use crate::problems::nearest;

#[rustfmt::skip] // A table reads best as a table.
const ASSERT: &[(&str, Fate)] = &[
    ("assert",           Fate::Read),
    ("config",           Fate::Unsupported("the assertions that are read take none")),
    ("contextTransform", Fate::Unsupported("suites run no code")),
    ("metric",           Fate::Read),
    ("provider",         Fate::LeftOut),
    ("rubricPrompt",     Fate::Unsupported("the judge's prompt is the gateway's own")),
    ("threshold",        Fate::Read),
    ("transform",        Fate::Unsupported("suites run no code")),
    ("type",             Fate::Read),
    ("value",            Fate::Read),
    ("weight",           Fate::Read),
];

/// The rules of one case, as they come together.
#[derive(Default)]
pub(super) struct Drafted {
    pub(super) entries: Vec<Entry>,
    pub(super) prefer: Option<String>,
    /// What they say, for the hash.
    pub(super) said: Vec<Value>,
}

// === impl Tests ===

impl Tests {
    pub(super) fn drafted(
        &mut self,
        reading: &mut Reading<'_>,
        asserts: &[At<'_>],
        vars: &Map<String, Value>,
    ) -> Drafted {
        let mut drafted = Drafted::default();
        for at in asserts {
            let Some((kind, keys)) = assertion(reading, at) else { continue };
            match kind.as_str() {
                "select-best" => {
                    let criteria = keys.get("value").map(|at| filled(reading, at, vars));
                    match criteria.flatten() {
                        Some(Value::String(criteria)) => {
                            drafted.said.push(json!(["select-best", criteria]));
                            drafted.prefer = Some(criteria);
                        }
                        _ => reading.report(at, "`select-best` needs a text as `value`"),
                    }
                }
                "assert-set" => self.set(reading, &keys, vars, &mut drafted),
                _ => {
                    if let Some((rule, said)) = self.rule(reading, (at, &kind), &keys, vars) {
                        drafted.said.push(said);
                        drafted.entries.push(Entry::One(rule));
                    }
                }
            }
        }
        drafted
    }

    fn set(
        &mut self,
        reading: &mut Reading<'_>,
        keys: &HashMap<&str, At<'_>>,
        vars: &Map<String, Value>,
        drafted: &mut Drafted,
    ) {
        let mut rules = Vec::new();
        let mut said = Vec::new();
        for at in keys.get("assert").map(|at| list(reading, at)).unwrap_or_default() {
            let Some((kind, keys)) = assertion(reading, &at) else { continue };
            if ["assert-set", "select-best"].contains(&kind.as_str()) {
                reading.report(&at, format!("`{kind}` cannot stand in an `assert-set`"));
            } else if let Some((rule, what)) = self.rule(reading, (&at, &kind), &keys, vars) {
                rules.push(rule);
                said.push(what);
            }
        }
        let mut number =
            |name: &str| keys.get(name).and_then(|at| reading.number(at, (0.0, f64::INFINITY)));
        let (threshold, weight) = (number("threshold"), number("weight").unwrap_or(1.0));
        drafted.said.push(json!(["assert-set", said, threshold, weight]));
        drafted.entries.push(Entry::Set(RuleSet { rules, threshold, weight }));
    }

    fn rule(
        &mut self,
        reading: &mut Reading<'_>,
        (at, kind): (&At<'_>, &str),
        keys: &HashMap<&str, At<'_>>,
        vars: &Map<String, Value>,
    ) -> Option<(Arc<Rule>, Value)> {
        let mut number =
            |name: &str| keys.get(name).map(|at| reading.number(at, (0.0, f64::INFINITY)));
        let (threshold, weight) = (number("threshold"), number("weight"));
        if threshold == Some(None) || weight == Some(None) {
            return None;
        }
        let (threshold, weight) = (threshold.flatten(), weight.flatten().unwrap_or(1.0));
        let value = match keys.get("value") {
            Some(at) => Some(filled(reading, at, vars)?),
            None => None,
        };
        let metric = keys.get("metric").and_then(|at| reading.text(at));
        let said = json!([kind, value, threshold, weight, metric]);
        let key = said.to_string();
        if let Some(rule) = self.rules.get(&key) {
            return Some((rule.clone(), said));
        }
        let metric = metric.as_deref();
        let spec = Spec { kind, value: value.as_ref(), threshold, weight, metric };
        match Rule::of(&spec) {
            Ok(rule) => {
                let rule = Arc::new(rule);
                self.rules.insert(key, rule.clone());
                Some((rule, said))
            }
            Err(Wrong { key, message }) => {
                let place = keys.get(key).unwrap_or(at);
                let place = At { path: at.path.key(key), ..place.clone() };
                reading.report(&place, message);
                None
            }
        }
    }
}

/// The type and the settings of an assertion; reports what is unknown or cannot be read.
fn assertion<'a>(
    reading: &mut Reading<'_>,
    at: &At<'a>,
) -> Option<(String, HashMap<&'a str, At<'a>>)> {
    if let Some(text) = at.text() {
        if !reading.is_file(at, text) {
            reading.wrong_kind(at, "an assertion");
        }
        return None;
    }
    if at.get("$ref").is_some() {
        reading.report(at, "`$ref` is not supported; use an anchor of YAML, `&name` and `*name`");
        return None;
    }
    let Some(place) = at.get("type") else {
        reading.report(at, "needs `type`");
        return None;
    };
    let kind = reading.text(&place)?;
    let is_ours = ["assert-set", "select-best"].contains(&kind.as_str());
    match known(&kind) {
        Known::Supported => {}
        _ if is_ours => {}
        Known::Unsupported(why) => {
            reading.report(&place, format!("`{kind}` is not supported: {why}"));
            return None;
        }
        Known::Unknown => {
            let hint = match nearest(kind.strip_prefix("not-").unwrap_or(&kind), names()) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => String::new(),
            };
            reading.report(&place, format!("`{kind}` is no assertion that is known{hint}"));
            return None;
        }
    }
    let keys = reading.keys(at, "assert", ASSERT);
    if kind != "assert-set"
        && let Some(at) = keys.get("assert")
    {
        reading.report(at, "only `assert-set` has assertions of its own");
    }
    Some((kind, keys))
}

/// The value of an assertion, its texts filled in: itself, or those of a list.
fn filled(reading: &mut Reading<'_>, at: &At<'_>, vars: &Map<String, Value>) -> Option<Value> {
    if at.text().is_some_and(|text| reading.is_file(at, text)) {
        return None;
    }
    let value = at.node.json();
    let texts = match &value {
        Value::String(_) => true,
        Value::Array(items) => !items.iter().any(Value::is_object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    };
    if !texts {
        return Some(value);
    }
    match reading.filler.fill_all(&value, vars) {
        Ok(value) => Some(value),
        Err(why) => {
            reading.report(at, why);
            None
        }
    }
}
