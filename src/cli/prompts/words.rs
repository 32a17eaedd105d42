//! What is said of prompts, wherever they were found.

use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use super::super::terms::{table, text};
use crate::prompt::Prompt;

/// All versions, each as an object with at least the members of the table.
pub(super) fn list(versions: &[Value], as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    if as_json {
        return writeln!(out, "{:#}", json!({ "data": versions }));
    }
    let heading = ["PROMPT", "VERSION", "LABELS", "TARGET MODEL", "HASH", "ABOUT"];
    let rows = versions.iter().map(|version| {
        let labels = version.get("labels").and_then(Value::as_array);
        let labels: Vec<_> = labels.into_iter().flatten().filter_map(Value::as_str).collect();
        let labels = if labels.is_empty() { "-".to_owned() } else { labels.join(", ") };
        let about = match version.get("deprecated_at").and_then(Value::as_str) {
            Some(at) => format!("deprecated since {at}: {}", text(version, "deprecation_reason")),
            None => text(version, "description"),
        };
        let hash: String = text(version, "hash").chars().take(12).collect();
        let [id, number, target] =
            ["prompt", "version", "target_model"].map(|member| text(version, member));
        [id, number, labels, target, hash, about]
    });
    let rows: Vec<_> = std::iter::once(heading.map(str::to_owned)).chain(rows).collect();
    table(&rows, out)
}

/// One version, as an object that holds `messages`.
pub(super) fn show(view: &Value, as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    if as_json {
        return writeln!(out, "{view:#}");
    }
    for (name, value) in view.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => writeln!(out, "{name}: {text}")?,
            Value::Array(list) if list.is_empty() || name == "messages" => {}
            Value::Object(map) if map.is_empty() => {}
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                writeln!(out, "{name}: {value:#}")?;
            }
        }
    }
    let messages = view.get("messages").and_then(Value::as_array);
    for message in messages.into_iter().flatten() {
        let (role, content) = (text(message, "role"), text(message, "content"));
        writeln!(out, "\n--- {role}\n{}", content.trim_end())?;
    }
    Ok(())
}

/// What differs between two versions.
pub(super) fn diff(view: &Value, as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    if as_json {
        return writeln!(out, "{view:#}");
    }
    let [from, to, change] = ["from", "to", "change"].map(|member| text(view, member));
    writeln!(out, "{} {from} to {to}: {change} change", text(view, "prompt"))?;
    let what = view.get("what").and_then(Value::as_array).into_iter().flatten();
    for one in what.filter_map(Value::as_str) {
        writeln!(out, "  {one}")?;
    }
    write!(out, "\n{}", view.get("lines").and_then(Value::as_str).unwrap_or_default())
}

/// Fills in variables and shows the messages; the exit code.
pub(super) fn render(
    prompt: &Prompt,
    given: Map<String, Value>,
    as_json: bool,
    (out, complaints): (&mut dyn Write, &mut dyn Write),
) -> anyhow::Result<u8> {
    let rendered = match prompt.render(given) {
        Ok(rendered) => rendered,
        Err(error) => {
            writeln!(complaints, "{}: {error}", prompt.name)?;
            return Ok(1);
        }
    };
    if as_json {
        let messages = rendered.messages.iter();
        let messages: Vec<_> = messages
            .map(|message| json!({"role": message.role.as_str(), "content": message.text}))
            .collect();
        writeln!(out, "{:#}", json!({ "prompt": &*prompt.name, "messages": messages }))?;
        return Ok(0);
    }
    writeln!(out, "{}", prompt.name)?;
    for message in &rendered.messages {
        writeln!(out, "\n--- {}\n{}", message.role.as_str(), message.text)?;
    }
    Ok(0)
}

/// The variables of a command: those of the file, and then each one that was named.
pub(super) fn given(vars: &[String], file: Option<&Path>) -> anyhow::Result<Map<String, Value>> {
    let mut given = match file {
        None => Map::new(),
        Some(path) => {
            let mut text = String::new();
            if path == Path::new("-") {
                io::stdin().read_to_string(&mut text)?;
            } else {
                text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
            }
            serde_json::from_str(&text)
                .with_context(|| format!("{} is no JSON object", path.display()))?
        }
    };
    for var in vars {
        let Some((name, value)) = var.split_once('=') else {
            bail!("--var {var}: write it as NAME=VALUE");
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        given.insert(name.to_owned(), value);
    }
    Ok(given)
}
