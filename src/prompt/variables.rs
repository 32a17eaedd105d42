//! The variables of a prompt: a JSON Schema, compiled once, that refers to nothing outside.
//!
//! Prompts are stricter than JSON Schema: what is not named in `properties` is refused, and what is
//! named and has no `default` must be given, unless the schema itself says otherwise.

use std::collections::BTreeSet;
use std::fmt;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value, json};

use super::quoted;
use crate::problems::nearest;

#[cfg(test)]
mod tests;

/// More than anybody reads at once.
const MAX_PROBLEMS: usize = 8;
/// The longest name of a caller's that is repeated.
const MAX_ECHO_CHARS: usize = 60;

/// The largest pattern of a schema, compiled.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// The same of one that came with a request.
const MAX_CALLERS_PATTERN_BYTES: usize = 64 << 10;

/// What variables a prompt has.
#[derive(Debug)]
pub(super) struct Variables {
    schema: Value,
    validator: Validator,
    known: Vec<String>,
    required: Vec<String>,
    defaults: Vec<(String, Value)>,
}

/// What is wrong with one variable of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableProblem {
    /// The variable, and what within it: `name`, `items[2].price`.
    pub path: String,
    /// What is wrong and what would be right, beginning with the path.
    pub problem: String,
}

// === impl Variables ===

impl Variables {
    /// Compiles a schema.
    ///
    /// # Errors
    ///
    /// What is wrong: the place within the schema, as keys, and why.
    pub(super) fn compile(schema: &Value) -> Result<Self, (Vec<String>, String)> {
        let top = |problem: &str| (Vec::new(), problem.to_owned());
        let written = schema.as_object().ok_or_else(|| top("must be a table: a JSON Schema"))?;
        match written.get("type") {
            None => {}
            Some(kind) if kind == "object" => {}
            Some(_) => return Err(at("type", "must be \"object\": variables have names")),
        }
        let properties = match written.get("properties") {
            None => Map::new(),
            Some(Value::Object(properties)) => properties.clone(),
            Some(_) => return Err(at("properties", "must be a table of variables")),
        };
        let defaults: Vec<_> = properties
            .iter()
            .filter_map(|(name, property)| Some((name.clone(), property.get("default")?.clone())))
            .collect();
        let has_default = |name: &str| defaults.iter().any(|(with, _)| with == name);
        let mut strict = written.clone();
        strict.entry("type").or_insert_with(|| json!("object"));
        strict.entry("additionalProperties").or_insert_with(|| json!(false));
        strict.entry("required").or_insert_with(|| {
            properties.keys().filter(|name| !has_default(name)).cloned().collect()
        });
        let required: Vec<String> = strict
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect();
        if let Some(name) = required.iter().find(|name| !properties.contains_key(*name)) {
            return Err(at("required", &format!("{name:?} is not one of `properties`")));
        }
        let strict = Value::Object(strict);
        let validator = compile(&strict).map_err(|problem| (Vec::new(), problem))?;
        for (name, default) in &defaults {
            let alone = json!({ name: default });
            let mut errors = validator.iter_errors(&alone);
            if let Some(error) = errors.find(|error| !error.instance_path().as_str().is_empty()) {
                let keys = ["properties", name, "default"].map(str::to_owned).to_vec();
                return Err((keys, spoken(&error)));
            }
        }
        let known = properties.keys().cloned().collect();
        Ok(Self { schema: schema.clone(), validator, known, required, defaults })
    }

    /// As it is written.
    pub(super) fn schema(&self) -> &Value {
        &self.schema
    }

    /// The names.
    pub(super) fn known(&self) -> &[String] {
        &self.known
    }

    /// Those that need not be given and are then nothing.
    pub(super) fn optional(&self) -> Vec<&str> {
        let is_optional = |name: &&String| {
            !self.required.contains(name) && !self.defaults.iter().any(|(with, _)| with == *name)
        };
        self.known.iter().filter(is_optional).map(String::as_str).collect()
    }

    /// A value for each variable, of its kind where that is plain.
    pub(super) fn sample(&self) -> Value {
        let properties = self.schema.get("properties").and_then(Value::as_object);
        let sample = properties.into_iter().flatten().map(|(name, property)| {
            let first = || property.get("enum").and_then(|all| all.get(0));
            let value = property.get("default").or_else(first).cloned().unwrap_or_else(|| {
                match property.get("type").and_then(Value::as_str) {
                    Some("integer" | "number") => json!(1),
                    Some("boolean") => json!(true),
                    Some("array") => json!([]),
                    Some("object") => json!({}),
                    Some(_) | None => json!("word"),
                }
            });
            (name.clone(), value)
        });
        Value::Object(sample.collect())
    }

    /// Adds what has a default and checks everything.
    pub(super) fn fill(
        &self,
        given: Map<String, Value>,
    ) -> Result<Map<String, Value>, Vec<VariableProblem>> {
        let mut given = given;
        for (name, default) in &self.defaults {
            if !given.contains_key(name) {
                given.insert(name.clone(), default.clone());
            }
        }
        let given = Value::Object(given);
        if !self.validator.is_valid(&given) {
            let mut problems = Vec::new();
            for error in self.validator.iter_errors(&given) {
                self.tell(&error, &mut problems);
                if problems.len() >= MAX_PROBLEMS {
                    break;
                }
            }
            return Err(problems);
        }
        let Value::Object(filled) = given else { return Ok(Map::new()) };
        Ok(filled)
    }

    /// Puts an error of the schema into words, under the variable's name.
    #[expect(clippy::wildcard_enum_match_arm, reason = "another crate's, with forty kinds")]
    fn tell(&self, error: &ValidationError<'_>, problems: &mut Vec<VariableProblem>) {
        let path = path_of(error.instance_path().as_str());
        match error.kind() {
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                let path = within(&path, name);
                let problem = format!("`{path}` is missing{}", self.wanted(&path));
                problems.push(VariableProblem { path, problem });
            }
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                for name in unexpected.iter().take(MAX_PROBLEMS) {
                    let shown: String = name.chars().take(MAX_ECHO_CHARS).collect();
                    let full = within(&path, &shown);
                    let problem = match path.is_empty() {
                        true => self.unknown(&full, &shown),
                        false => format!("`{full}` is not known here"),
                    };
                    problems.push(VariableProblem { path: full, problem });
                }
            }
            _ => {
                let shown = if path.is_empty() { "variables" } else { &path };
                let problem = format!("`{shown}`: {}", spoken(error));
                problems.push(VariableProblem { path, problem });
            }
        }
    }

    fn unknown(&self, full: &str, name: &str) -> String {
        let names = || self.known.iter().map(String::as_str);
        let known = match nearest(name, names()) {
            Some(near) => format!("; did you mean `{near}`?"),
            None if self.known.is_empty() => "; it has none".to_owned(),
            None => format!("; it has {}", quoted(&self.known)),
        };
        format!("`{full}` is not a variable of this prompt{known}")
    }

    /// What a variable of this name should be.
    fn wanted(&self, name: &str) -> String {
        let Some(property) = self.schema.get("properties").and_then(|all| all.get(name)) else {
            return String::new();
        };
        let kind = property.get("type").and_then(Value::as_str).map(article).unwrap_or_default();
        let about = property.get("description").and_then(Value::as_str).unwrap_or_default();
        match (kind.is_empty(), about.is_empty()) {
            (true, true) => String::new(),
            (false, true) => format!("; it is {kind}"),
            (true, false) => format!("; it is: {about}"),
            (false, false) => format!("; it is {kind}: {about}"),
        }
    }
}

/// Compiles a schema that refers to nothing outside. Patterns are matched in linear time, and are
/// not large.
///
/// # Errors
///
/// Why it is none.
pub(crate) fn compile(schema: &Value) -> Result<Validator, String> {
    jsonschema::options()
        .offline()
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN_BYTES))
        .build(schema)
        .map_err(|error| {
            let place = error.instance_path().as_str();
            let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
            format!("is no JSON Schema{place}: {}", spoken(&error))
        })
}

/// Compiles a schema that came with a request: as [`compile`], but `format` says nothing, as JSON
/// Schema has it, and patterns are small. `None` where it cannot be used.
pub(crate) fn compile_of_caller(schema: &Value) -> Option<Validator> {
    jsonschema::options()
        .offline()
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_CALLERS_PATTERN_BYTES))
        .build(schema)
        .ok()
}

/// The names a set has and another does not.
pub(super) fn missing_in(used: &BTreeSet<String>, known: &[String]) -> Vec<String> {
    used.iter().filter(|name| !known.contains(name)).cloned().collect()
}

// === impl VariableProblem ===

impl VariableProblem {
    /// The field of the request.
    pub(super) fn param(&self) -> String {
        within("prompt.variables", &self.path)
    }
}

impl fmt::Display for VariableProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

/// An error without the caller's own words, which may be long.
#[expect(clippy::wildcard_enum_match_arm, reason = "another crate's, with forty kinds")]
fn spoken(error: &ValidationError<'_>) -> String {
    match error.kind() {
        ValidationErrorKind::Type { kind } => {
            let wanted = match kind {
                TypeKind::Single(one) => article(&one.to_string()),
                TypeKind::Multiple(several) => {
                    let names: Vec<_> =
                        several.iter().map(|one| article(&one.to_string())).collect();
                    names.join(" or ")
                }
            };
            format!("must be {wanted}, found {}", kind_of(error.instance()))
        }
        ValidationErrorKind::Referencing(_) => {
            "what it refers to is not in it; remote references are not followed".to_owned()
        }
        _ => error.masked_with("what was given").to_string(),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn article(kind: &str) -> String {
    match kind {
        "array" | "integer" | "object" => format!("an {kind}"),
        "null" => "null".to_owned(),
        other => format!("a {other}"),
    }
}

fn at(key: &str, problem: &str) -> (Vec<String>, String) {
    (vec![key.to_owned()], problem.to_owned())
}

/// A JSON pointer as people write it: `/items/2/price` is `items[2].price`.
fn path_of(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        if !path.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit()) {
            path = format!("{path}[{step}]");
        } else {
            path = within(&path, &step);
        }
    }
    path
}

fn within(path: &str, name: &str) -> String {
    match (path.is_empty(), name.is_empty()) {
        (_, true) => path.to_owned(),
        (true, false) => name.to_owned(),
        (false, false) => format!("{path}.{name}"),
    }
}
