//! Compares values with the JSON schema of what they should be and takes out what does not fit.
//!
//! It knows the part of JSON schema that `schemars` derives from settings structs. Unlike serde it
//! does not stop at the first thing that is wrong, and it knows what else could have been meant.
//! What is wrong is removed where its place may be empty, so that the rest can still be read and
//! checked for meaning.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::{Map, Value};

use super::{KeyPath, nearest};
use crate::units::{ByteCount, HumanDuration, Ratio, UsdAmount, UsdPerMillion};

/// Says something better than "unknown key" or "wrong type" about a value, where there is
/// something better to say: that a feature comes later, or that a secret does not belong there.
pub type Advice = fn(&KeyPath, &Value) -> Option<String>;

/// One comparison.
#[derive(Debug)]
pub(super) struct Shape<'a> {
    schema: &'a Value,
    advice: Advice,
    found: &'a mut Vec<(KeyPath, String)>,
    /// Keys that were written, but not as they are spelt.
    meant: Vec<KeyPath>,
}

/// The longest piece of a wrong value that is repeated in a message.
const MAX_ECHO_CHARS: usize = 60;

// === impl Shape ===

impl<'a> Shape<'a> {
    /// A comparison with `schema` that appends what it finds.
    pub(super) fn new(
        schema: &'a Value,
        advice: Advice,
        found: &'a mut Vec<(KeyPath, String)>,
    ) -> Self {
        Self { schema, advice, found, meant: Vec::new() }
    }

    /// Checks a whole file. False where it cannot be read even without what was taken out.
    pub(super) fn check(&mut self, root: &mut Value) -> bool {
        self.value(root, self.schema, &KeyPath::root())
    }

    /// False where the value as a whole must go.
    fn value(&mut self, value: &mut Value, schema: &'a Value, path: &KeyPath) -> bool {
        let schema = self.resolve(schema);
        if let Some(allowed) = allowed_words(schema) {
            return self.one_of(value, &allowed, path);
        }
        let expected = expected_type(schema);
        match (expected, &mut *value) {
            ("object", Value::Object(map)) => self.object(map, schema, path),
            ("array", Value::Array(items)) => self.array(items, schema, path),
            ("string", Value::String(text)) => {
                match format_problem(schema["format"].as_str().unwrap_or(""), text) {
                    Some(problem) => self.fail(path, value, problem),
                    None => true,
                }
            }
            ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) | ("", _) => true,
            ("integer", Value::Number(number)) => match range_problem(schema, number) {
                Some(problem) => self.fail(path, value, problem),
                None => true,
            },
            _ => {
                let problem = format!("expected {}, found {}", spoken(schema), echo(value));
                self.fail(path, value, problem)
            }
        }
    }

    fn object(&mut self, map: &mut Map<String, Value>, schema: &'a Value, path: &KeyPath) -> bool {
        let known = schema["properties"].as_object();
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        map.retain(|key, value| {
            let path = path.key(key);
            match known.and_then(|known| known.get(key)).or(others) {
                Some(schema) => self.value(value, schema, &path),
                None => self.unknown_key(key, value, known, &path),
            }
        });
        let required = schema["required"].as_array().into_iter().flatten();
        let mut whole = true;
        for key in required.filter_map(Value::as_str).filter(|key| !map.contains_key(*key)) {
            whole = false;
            let key = path.key(key);
            let said = self.found.iter().any(|(broken, _)| *broken == key);
            if !said && !self.meant.contains(&key) {
                self.found.push((key, "missing".to_owned()));
            }
        }
        whole
    }

    fn array(&mut self, items: &mut [Value], schema: &'a Value, path: &KeyPath) -> bool {
        let Some(schema) = schema.get("items") else { return true };
        let mut whole = true;
        for (index, item) in items.iter_mut().enumerate() {
            whole &= self.value(item, schema, &path.index(index));
        }
        whole
    }

    fn one_of(&mut self, value: &Value, allowed: &[&str], path: &KeyPath) -> bool {
        if value.as_str().is_some_and(|word| allowed.contains(&word)) {
            return true;
        }
        let list: Vec<_> = allowed.iter().map(|word| format!("{word:?}")).collect();
        let mut problem = format!("{} is not one of {}", echo(value), list.join(", "));
        if let Some(near) = value.as_str().and_then(|word| nearest(word, allowed.iter().copied())) {
            let _ = write!(problem, " (did you mean {near:?}?)");
        }
        self.fail(path, value, problem)
    }

    fn unknown_key(
        &mut self,
        key: &str,
        value: &Value,
        known: Option<&Map<String, Value>>,
        path: &KeyPath,
    ) -> bool {
        let names = || known.into_iter().flat_map(|known| known.keys().map(String::as_str));
        let problem = match nearest(key, names()) {
            Some(near) => {
                self.meant.extend(path.parent().map(|parent| parent.key(near)));
                format!("unknown key (did you mean `{near}`?)")
            }
            None => format!(
                "unknown key; known are {}",
                names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            ),
        };
        self.fail(path, value, problem)
    }

    fn fail(&mut self, path: &KeyPath, value: &Value, problem: String) -> bool {
        self.found.push((path.clone(), (self.advice)(path, value).unwrap_or(problem)));
        false
    }

    /// Follows references and skips the `null` of optional values.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let mut at = schema;
        // A schema is a finite tree of definitions; the bound only guards against a loop in it.
        for _ in 0..16 {
            if let Some(name) = at["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
                at = &self.schema["$defs"][name];
            } else if let Some(real) = at["anyOf"]
                .as_array()
                .and_then(|any| any.iter().find(|schema| schema["type"] != "null"))
            {
                at = real;
            } else {
                return at;
            }
        }
        at
    }
}

/// The words an enumeration allows; none where the schema is not one.
fn allowed_words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(words) = schema["enum"].as_array() {
        return Some(words.iter().filter_map(Value::as_str).collect());
    }
    let variants = schema["oneOf"].as_array()?;
    let mut words = Vec::new();
    for variant in variants {
        match (variant["const"].as_str(), variant["enum"].as_array()) {
            (Some(word), _) => words.push(word),
            (None, Some(several)) => words.extend(several.iter().filter_map(Value::as_str)),
            (None, None) => return None,
        }
    }
    Some(words)
}

/// The JSON type a schema asks for; empty where it asks for none.
fn expected_type(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(one) => one,
        Value::Array(several) => {
            several.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "",
    }
}

/// What a schema asks for, in words.
fn spoken(schema: &Value) -> &'static str {
    match (expected_type(schema), schema["format"].as_str().unwrap_or("")) {
        (_, "human-duration") => "a duration in quotes such as \"20s\"",
        (_, "ratio") => "a share in quotes such as \"5%\"",
        (_, "byte-count") => "a size in quotes such as \"20MB\"",
        (_, "usd-amount") => "US dollars in quotes such as \"50\"",
        (_, "usd-per-million") => "a price in quotes such as \"0.59\"",
        (_, "socket-address") => "an address in quotes such as \"127.0.0.1:8080\"",
        ("object", _) => "a table",
        ("array", _) => "a list",
        ("string", _) => "text in quotes",
        ("boolean", _) => "true or false",
        ("integer", _) => "a whole number",
        _ => "something else",
    }
}

/// A wrong value, short enough for a message.
fn echo(value: &Value) -> String {
    match value {
        Value::Object(_) => "a table".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) if text.chars().count() > MAX_ECHO_CHARS => {
            let start: String = text.chars().take(MAX_ECHO_CHARS).collect();
            format!("{start:?}…")
        }
        other @ (Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null) => {
            other.to_string()
        }
    }
}

fn format_problem(format: &str, text: &str) -> Option<String> {
    match format {
        "human-duration" => text.parse::<HumanDuration>().err().map(|error| error.to_string()),
        "ratio" => text.parse::<Ratio>().err().map(|error| error.to_string()),
        "byte-count" => text.parse::<ByteCount>().err().map(|error| error.to_string()),
        "usd-amount" => text.parse::<UsdAmount>().err().map(|error| error.to_string()),
        "usd-per-million" => text.parse::<UsdPerMillion>().err().map(|error| error.to_string()),
        "socket-address" => text.parse::<SocketAddr>().err().map(|_| {
            format!(
                "{} is no address; write an IP address and a port like \"127.0.0.1:8080\"",
                echo(&Value::from(text))
            )
        }),
        _ => None,
    }
}

fn range_problem(schema: &Value, number: &serde_json::Number) -> Option<String> {
    let Some(number) = number.as_i64() else {
        return Some(format!("expected a whole number, found {number}"));
    };
    let by_format = match schema["format"].as_str() {
        Some("uint32") => Some(i64::from(u32::MAX)),
        _ => None,
    };
    let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
    let most = schema["maximum"].as_i64().or(by_format).unwrap_or(i64::MAX);
    if number < least {
        Some(format!("must be at least {least}, found {number}"))
    } else if number > most {
        Some(format!("must be at most {most}, found {number}"))
    } else {
        None
    }
}
