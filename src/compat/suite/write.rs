//! Cases as a file: how what was captured becomes a part of a suite.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::compat::Category;

/// A case to be written down.
#[derive(Debug, Clone, PartialEq)]
pub struct NewCase {
    /// Its id.
    pub id: String,
    /// For people; may be empty.
    pub description: String,
    /// What it is there for.
    pub category: Category,
    /// Whether one new failure of it makes a candidate incompatible.
    pub is_critical: bool,
    /// The incident that it must not let happen again.
    pub incident: Option<String>,
    /// For people and for choosing.
    pub tags: Vec<String>,
    /// Further `metadata`, for people.
    pub metadata: Map<String, Value>,
    /// Variables of the prompt.
    pub vars: Map<String, Value>,
    /// Assertions in promptfoo's form: `{"type": "similar", "value": "…", "threshold": 0.8}`.
    pub asserts: Vec<Value>,
    /// The mean score from which it is passed, whatever single assertions say.
    pub threshold: Option<f64>,
}

/// Cases as a YAML file of promptfoo's that [`super::Suite::parse`] reads. Nothing in them is a
/// template: what looks like one is written so that it stays as it is.
pub fn write_cases(cases: &[NewCase]) -> String {
    let mut text = String::from("# Cases of a compatibility suite, in promptfoo's format.\n");
    text.push_str(
        "defaultTest:\n  options:\n    # A list is one value, not one case for each item.\n",
    );
    text.push_str("    disableVarExpansion: true\n");
    text.push_str(if cases.is_empty() { "tests: []\n" } else { "tests:\n" });
    for case in cases {
        let mut metadata = Map::new();
        metadata.insert("id".to_owned(), json!(case.id));
        metadata.insert("category".to_owned(), json!(case.category));
        if case.is_critical {
            metadata.insert("critical".to_owned(), json!(true));
        }
        if let Some(incident) = &case.incident {
            metadata.insert("incident".to_owned(), json!(incident));
        }
        if !case.tags.is_empty() {
            metadata.insert("tags".to_owned(), json!(case.tags));
        }
        metadata.extend(case.metadata.clone());
        let mut test = Map::new();
        if !case.description.is_empty() {
            test.insert("description".to_owned(), json!(literal(&case.description)));
        }
        test.insert("metadata".to_owned(), Value::Object(metadata));
        test.insert("vars".to_owned(), kept(&Value::Object(case.vars.clone())));
        if !case.asserts.is_empty() {
            test.insert("assert".to_owned(), literals(&Value::Array(case.asserts.clone())));
        }
        if let Some(threshold) = case.threshold {
            test.insert("threshold".to_owned(), json!(threshold));
        }
        let mut lead = "  - ";
        for (name, value) in &test {
            text.push_str(lead);
            member(&mut text, name, value, 4);
            lead = "    ";
        }
    }
    text
}

/// `name: value` at an indentation; the line's beginning stands there already.
fn member(text: &mut String, name: &str, value: &Value, indent: usize) {
    let plain = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain =
        plain && !["true", "false", "null", "y", "n", "yes", "no", "on", "off"].contains(&name);
    match plain {
        true => text.push_str(name),
        false => text.push_str(&json!(name).to_string()),
    }
    text.push(':');
    node(text, value, indent);
}

/// A value behind a key or a hyphen, with its line's end.
fn node(text: &mut String, value: &Value, indent: usize) {
    let pad = " ".repeat(indent + 2);
    match value {
        Value::Object(members) if !members.is_empty() => {
            text.push('\n');
            for (name, value) in members {
                text.push_str(&pad);
                member(text, name, value, indent + 2);
            }
        }
        Value::Array(items) if !items.is_empty() && items.iter().any(|item| !is_short(item)) => {
            text.push('\n');
            for item in items {
                text.push_str(&pad);
                text.push('-');
                match item {
                    Value::Object(members) if !members.is_empty() => {
                        let inner = " ".repeat(indent + 4);
                        for (at, (name, value)) in members.iter().enumerate() {
                            text.push_str(if at == 0 { " " } else { &inner });
                            member(text, name, value, indent + 4);
                        }
                    }
                    Value::Null
                    | Value::Bool(_)
                    | Value::Number(_)
                    | Value::String(_)
                    | Value::Array(_)
                    | Value::Object(_) => node(text, item, indent + 2),
                }
            }
        }
        Value::String(lines) if is_block(lines) => {
            // The indentation is told, because the first line may begin with spaces.
            let chomp = if lines.ends_with('\n') { "" } else { "-" };
            let _ = writeln!(text, " |2{chomp}");
            for line in lines.lines() {
                if !line.is_empty() {
                    text.push_str(&pad);
                    text.push_str(line);
                }
                text.push('\n');
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => {
            // JSON is YAML.
            let _ = writeln!(text, " {value}");
        }
    }
}

fn is_short(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => text.len() <= 40 && !text.contains('\n'),
        Value::Array(_) | Value::Object(_) => false,
    }
}

/// Whether a text of several lines can stand as it is.
fn is_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let is_plain = |c: char| {
        c == '\n'
            || (!c.is_control() && !matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{85}'))
    };
    text.contains('\n')
        && !body.ends_with('\n')
        && body.chars().all(is_plain)
        && !body
            .lines()
            .any(|line| line.ends_with(' ') || (line.trim().is_empty() && !line.is_empty()))
        && !body.trim().is_empty()
}

/// A template that gives the text itself: each mark that would begin something is said as a text.
fn literal(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = ["{{", "{%", "{#"].iter().filter_map(|mark| rest.find(mark)).min() {
        let (before, from) = rest.split_at(at);
        let (mark, after) = from.split_at(2);
        for piece in [before, "{{'", mark, "'}}"] {
            whole.push_str(piece);
        }
        rest = after;
    }
    whole.push_str(rest);
    whole
}

fn literals(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(literal(text)),
        Value::Array(items) => items.iter().map(literals).collect(),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.clone(), literals(value)));
            Value::Object(members.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Variables are no templates; a reference to a file would be followed.
fn kept(value: &Value) -> Value {
    match value {
        Value::String(text) if text.starts_with("file://") => Value::String(format!(" {text}")),
        Value::Array(items) => items.iter().map(kept).collect(),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.clone(), kept(value)));
            Value::Object(members.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}
