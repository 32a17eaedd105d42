//! JSON in an answer, and what a schema says of it.

use jsonschema::Validator;
use serde_json::{Deserializer, Value};

use super::found::Found;
use super::test::{Spec, Wrong};
use crate::prompt::compile_schema;

/// How often the search for JSON may read to the end of a text in vain.
const MAX_VAIN: usize = 64;

/// `is-json` and `contains-json`.
#[derive(Debug)]
pub(super) struct JsonTest {
    /// Whether the answer is nothing else.
    whole: bool,
    schema: Option<Validator>,
}

// === impl JsonTest ===

impl JsonTest {
    pub(super) fn of(spec: &Spec<'_>, whole: bool) -> Result<Self, Wrong> {
        let written = match spec.value {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.trim().is_empty() => None,
            // A schema may stand there as text.
            Some(Value::String(text)) => Some(
                crate::compat::suite::json_of_yaml(text)
                    .map_err(|(_, why)| Wrong::value(format!("must be a JSON Schema: {why}")))?,
            ),
            Some(value) => Some(value.clone()),
        };
        let schema = match written {
            None => None,
            Some(schema @ (Value::Object(_) | Value::Bool(_))) => {
                Some(compile_schema(&schema).map_err(Wrong::value)?)
            }
            Some(_) => return Err(Wrong::value("must be a JSON Schema: a table")),
        };
        Ok(Self { whole, schema })
    }

    pub(super) fn on(&self, text: &str) -> Found {
        match self.whole {
            true => match serde_json::from_str(text) {
                Ok(value) => self.fits(&value),
                Err(error) => Found::is(false, format!("is no JSON: {error}")),
            },
            false => {
                let objects = objects(text);
                let mut found = Found::is(false, "contains no JSON object");
                for object in &objects {
                    found = self.fits(object);
                    if found.passed == Some(true) {
                        break;
                    }
                }
                found
            }
        }
    }

    fn fits(&self, value: &Value) -> Found {
        let Some(schema) = &self.schema else { return Found::is(true, "is JSON") };
        match first_misfit(schema, value) {
            None => Found::is(true, "is JSON and fits its schema"),
            Some(misfit) => Found::is(false, format!("does not fit its schema: {misfit}")),
        }
    }
}

/// The first thing in which a value does not fit, without the value's own words.
pub(super) fn first_misfit(schema: &Validator, value: &Value) -> Option<String> {
    let error = schema.iter_errors(value).next()?;
    let place = error.instance_path().as_str();
    let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
    Some(format!("{place}{}", error.masked_with("it")))
}

/// The JSON objects of a text that are in no other, in order.
pub(super) fn objects(text: &str) -> Vec<Value> {
    let mut objects = Vec::new();
    let mut rest = text;
    let mut vain = 0;
    while let Some(start) = rest.find('{') {
        let at = rest.get(start..).unwrap_or_default();
        let mut values = Deserializer::from_str(at).into_iter::<Value>();
        let step = match values.next() {
            Some(Ok(value)) => {
                objects.push(value);
                values.byte_offset()
            }
            Some(Err(error)) => {
                vain += usize::from(error.is_eof() || error.line() > 1 || error.column() > 256);
                1
            }
            None => 1,
        };
        if vain > MAX_VAIN {
            break;
        }
        rest = at.get(step.max(1)..).unwrap_or_default();
    }
    objects
}
