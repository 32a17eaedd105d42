//! The smallest honest value for a JSON Schema, for tool arguments and structured answers.
//!
//! Covers what tools use: types, `required`, `enum`, `const`, bounds, `items`, `prefixItems`,
//! `$ref` into the same document, `anyOf`, `oneOf`, `allOf` and the common formats. Patterns are
//! not solved; where a schema gives `examples` or a `default`, those are used.

use serde_json::{Map, Number, Value};

/// Deep enough for every schema people write; recursion that never ends stops here with `null`.
const MAX_DEPTH: u32 = 24;

/// More elements are never made, whatever `minItems` says.
const MAX_ITEMS: u64 = 64;

/// A value that the schema accepts. `words` fills strings that may hold anything.
pub(super) fn sample(schema: &Value, words: &str) -> Value {
    Sampler { root: schema, words }.value(schema, "", MAX_DEPTH)
}

struct Sampler<'a> {
    root: &'a Value,
    words: &'a str,
}

impl<'a> Sampler<'a> {
    fn value(&self, schema: &'a Value, name: &str, depth: u32) -> Value {
        let Some(depth) = depth.checked_sub(1) else {
            return Value::Null;
        };
        let schema = self.resolve(schema);
        if let Some(given) = given(schema) {
            return given.clone();
        }
        if let Some(all) = schema.get("allOf").and_then(Value::as_array) {
            return self.value_of_all(schema, all, name, depth);
        }
        for key in ["anyOf", "oneOf"] {
            let options = schema.get(key).and_then(Value::as_array);
            if let Some(option) = options.and_then(|options| self.pick(options)) {
                return self.value(option, name, depth);
            }
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, name, depth),
            "integer" => Value::Number(integer(schema).into()),
            "number" => number(schema),
            "boolean" => Value::Bool(true),
            "null" => Value::Null,
            _ => Value::String(self.string(schema, name)),
        }
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let mut schema = schema;
        for _ in 0..MAX_DEPTH {
            let Some(reference) = schema.get("$ref").and_then(Value::as_str) else {
                break;
            };
            let Some(target) = reference.strip_prefix('#').and_then(|at| self.root.pointer(at))
            else {
                break;
            };
            schema = target;
        }
        schema
    }

    /// The first option that is not `null`, else the first.
    fn pick(&self, options: &'a [Value]) -> Option<&'a Value> {
        options.iter().find(|option| kind(self.resolve(option)) != "null").or(options.first())
    }

    fn value_of_all(&self, schema: &'a Value, all: &'a [Value], name: &str, depth: u32) -> Value {
        let mut merged = Map::new();
        let mut single = None;
        for part in all {
            let value = self.value(part, name, depth);
            match value.as_object() {
                Some(fields) => merged.extend(fields.clone()),
                None => single = Some(value),
            }
        }
        if let Value::Object(fields) = self.object(schema, depth) {
            merged.extend(fields);
        }
        if merged.is_empty() {
            single.unwrap_or_else(|| Value::Object(merged))
        } else {
            Value::Object(merged)
        }
    }

    fn object(&self, schema: &'a Value, depth: u32) -> Value {
        let mut fields = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            let property = properties.and_then(|properties| properties.get(name));
            let value = match property {
                Some(property) => self.value(property, name, depth),
                None => Value::String(self.words.to_owned()),
            };
            fields.insert(name.to_owned(), value);
        }
        Value::Object(fields)
    }

    fn array(&self, schema: &'a Value, name: &str, depth: u32) -> Value {
        let prefix = schema.get("prefixItems").and_then(Value::as_array);
        let mut items: Vec<Value> =
            prefix.into_iter().flatten().map(|item| self.value(item, name, depth)).collect();
        let most = schema.get("maxItems").and_then(Value::as_u64).unwrap_or(u64::MAX);
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1).min(MAX_ITEMS);
        let element = schema.get("items").filter(|items| items.is_object());
        while (items.len() as u64) < least.min(most) {
            let Some(element) = element else {
                items.push(Value::String(self.words.to_owned()));
                continue;
            };
            items.push(self.value(element, name, depth));
        }
        let unique = schema.get("uniqueItems") == Some(&Value::Bool(true));
        if unique {
            make_unique(&mut items);
        }
        Value::Array(items)
    }

    fn string(&self, schema: &Value, name: &str) -> String {
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        let mut text = match format {
            "date" => "2026-01-31".to_owned(),
            "date-time" => "2026-01-31T12:00:00Z".to_owned(),
            "time" => "12:00:00Z".to_owned(),
            "duration" => "PT1H".to_owned(),
            "email" => "sim@example.com".to_owned(),
            "hostname" => "example.com".to_owned(),
            "ipv4" => "192.0.2.1".to_owned(),
            "ipv6" => "2001:db8::1".to_owned(),
            "uuid" => "00000000-0000-4000-8000-000000000000".to_owned(),
            "uri" | "url" => "https://example.com/".to_owned(),
            _ if name.is_empty() => self.words.to_owned(),
            _ => format!("{} {}", self.words, name.replace('_', " ")),
        };
        let least = schema.get("minLength").and_then(Value::as_u64).unwrap_or(0).min(100_000);
        while (text.chars().count() as u64) < least {
            text.push('x');
        }
        if let Some(most) = schema.get("maxLength").and_then(Value::as_u64) {
            text = text.chars().take(usize::try_from(most).unwrap_or(usize::MAX)).collect();
        }
        text
    }
}

/// A value the schema itself names.
fn given(schema: &Value) -> Option<&Value> {
    let first = |key: &str| schema.get(key).and_then(Value::as_array).and_then(|all| all.first());
    schema
        .get("const")
        .or_else(|| first("enum"))
        .or_else(|| schema.get("default"))
        .or_else(|| first("examples"))
}

fn kind(schema: &Value) -> &str {
    let named = match schema.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(Value::Array(kinds)) => {
            let mut names = kinds.iter().filter_map(Value::as_str);
            names.clone().find(|kind| *kind != "null").or(names.next()).unwrap_or_default()
        }
        _ => "",
    };
    match named {
        "" if schema.get("properties").is_some() || schema.get("required").is_some() => "object",
        "" if schema.get("items").is_some() || schema.get("prefixItems").is_some() => "array",
        "" if schema.get("minimum").is_some() || schema.get("maximum").is_some() => "number",
        // Gemini writes its types in capitals.
        "OBJECT" => "object",
        "ARRAY" => "array",
        "INTEGER" => "integer",
        "NUMBER" => "number",
        "BOOLEAN" => "boolean",
        "NULL" => "null",
        other => other,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "schema bounds beyond 2^53 are not met")]
fn integer(schema: &Value) -> i64 {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let low = bound("minimum")
        .map(f64::ceil)
        .or_else(|| bound("exclusiveMinimum").map(|low| low.floor() + 1.0));
    let high = bound("maximum")
        .map(f64::floor)
        .or_else(|| bound("exclusiveMaximum").map(|high| high.ceil() - 1.0));
    let step = bound("multipleOf").filter(|step| *step > 0.0).unwrap_or(1.0);
    nearest_multiple(low, high, step) as i64
}

fn number(schema: &Value) -> Value {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let low = bound("minimum").or_else(|| bound("exclusiveMinimum").map(|low| low + 0.5));
    let high = bound("maximum").or_else(|| bound("exclusiveMaximum").map(|high| high - 0.5));
    let exclusive = bound("exclusiveMinimum").zip(bound("exclusiveMaximum"));
    let value = match (exclusive, bound("multipleOf")) {
        (Some((low, high)), None) => low + (high - low) / 2.0,
        (_, Some(step)) if step > 0.0 => nearest_multiple(low, high, step),
        _ => 1.5_f64.clamp(
            low.unwrap_or(f64::MIN),
            high.or(low).unwrap_or(f64::MAX).max(low.unwrap_or(f64::MIN)),
        ),
    };
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// A multiple of `step` from `low` to `high` that is near 1.
fn nearest_multiple(low: Option<f64>, high: Option<f64>, step: f64) -> f64 {
    match (low, high) {
        (Some(low), _) if low > step => (low / step).ceil() * step,
        (_, Some(high)) if high < step => (high / step).floor() * step,
        _ => step,
    }
}

/// Numbers the elements, since equal ones are not allowed.
fn make_unique(items: &mut [Value]) {
    for (index, item) in items.iter_mut().enumerate().skip(1) {
        match item {
            Value::String(text) => *text = format!("{text} {index}"),
            Value::Number(number) => {
                if let Some(value) = number.as_i64() {
                    *item = Value::from(value.saturating_add(i64::try_from(index).unwrap_or(0)));
                }
            }
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {}
        }
    }
}
