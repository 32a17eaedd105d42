//! Prompts that stand in a suite.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::fill::Filler;
use super::read::{At, Fate, Reading};
use super::tree::{self, Yaml};
use super::{Case, InlineMessage, InlinePrompt};
use crate::problems::{KeyPath, nearest};
use crate::prompt::{RenderedMessage, Role};

/// The most messages of a conversation.
const MAX_MESSAGES: usize = 64;
/// The most prompts of a suite.
const MAX_PROMPTS: usize = 100;
/// How many characters of a prompt are its label where it has none.
const LABEL_CHARS: usize = 60;

#[rustfmt::skip] // A table reads best as a table.
const KEYS: &[(&str, Fate)] = &[
    ("config",   Fate::Unsupported("parameters stand at the model, in `providers`")),
    ("display",  Fate::Silent),
    ("function", Fate::Unsupported("suites run no code")),
    ("id",       Fate::Read),
    ("label",    Fate::Read),
    ("raw",      Fate::Read),
];

const ROLES: [(&str, Role); 4] = [
    ("system", Role::System),
    ("developer", Role::Developer),
    ("user", Role::User),
    ("assistant", Role::Assistant),
];

/// The prompts as they are filled in.
#[derive(Debug)]
pub(super) struct Inline {
    filler: Filler,
    prompts: Vec<InlinePrompt>,
    texts: BTreeSet<usize>,
}

/// The prompts as they are read.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) prompts: Vec<InlinePrompt>,
    /// Those that are a text which becomes a conversation when it is filled in.
    texts: BTreeSet<usize>,
    /// Where each stands: the file, the line, the key.
    places: Vec<(PathBuf, u32, KeyPath)>,
}

// === impl Inline ===

impl Inline {
    pub(super) fn new(listed: &Listed) -> Self {
        let Listed { prompts, texts, .. } = listed;
        Self { filler: Filler::new(), prompts: prompts.clone(), texts: texts.clone() }
    }

    pub(super) fn question(
        &self,
        index: usize,
        vars: &Map<String, Value>,
    ) -> Result<Vec<RenderedMessage>, String> {
        let prompt =
            self.prompts.get(index).ok_or_else(|| format!("there is no prompt {index}"))?;
        let mut messages = Vec::with_capacity(prompt.messages.len());
        for message in &prompt.messages {
            let text = self.filler.fill(&message.content, vars)?;
            messages.push(RenderedMessage { role: message.role, text });
        }
        if let (true, [only]) = (self.texts.contains(&index), messages.as_slice())
            && let Some(conversation) = conversation(&only.text)
        {
            let said = conversation?.into_iter();
            return Ok(said.map(|(role, text)| RenderedMessage { role, text }).collect());
        }
        Ok(messages)
    }
}

/// Fills in each prompt for each case that lacks a variable which the prompt uses, and says what
/// cannot be: the place of the prompt, and why.
pub(super) fn unfilled(
    inline: &Inline,
    listed: &Listed,
    cases: &[Case],
) -> Vec<((PathBuf, u32, KeyPath), String)> {
    let mut unfilled = Vec::new();
    for (index, (prompt, place)) in listed.prompts.iter().zip(&listed.places).enumerate() {
        let used: BTreeSet<String> = prompt
            .messages
            .iter()
            .flat_map(|message| inline.filler.names(&message.content))
            .collect();
        let lacks = |case: &Case| used.iter().any(|name| !case.vars.contains_key(name));
        for (at, case) in cases.iter().enumerate() {
            if at > 0 && !lacks(case) {
                continue;
            }
            if let Err(why) = inline.question(index, &case.vars) {
                let (id, (file, line)) = (&case.id, &case.place);
                let file = file.display();
                let message =
                    format!("cannot be filled in for the case `{id}` ({file}:{line}): {why}");
                unfilled.push((place.clone(), message));
            }
        }
    }
    unfilled
}

/// Reads `prompts`: a text, a list, or a table of files and labels.
pub(super) fn read(reading: &mut Reading<'_>, at: &At<'_>, listed: &mut Listed) {
    let Listed { prompts, texts, places } = listed;
    let entries = match &at.node.value {
        Yaml::List(_) => at.items(),
        Yaml::Text(_) => vec![at.clone()],
        Yaml::Table(_) | Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) => {
            return reading.wrong_kind(at, "a prompt or a list of prompts");
        }
    };
    // A file of several prompts is a list within the list.
    let is_several = |at: &At<'_>| {
        let items = at.items();
        !items.is_empty() && items.iter().all(|item| item.text().is_some())
    };
    let entries = entries.into_iter().flat_map(|entry| match is_several(&entry) {
        true => entry.items(),
        false => vec![entry],
    });
    for entry in entries {
        if prompts.len() >= MAX_PROMPTS {
            return reading.report(at, format!("has more than {MAX_PROMPTS} prompts"));
        }
        let Some((label, raw)) = entry_of(reading, &entry) else { continue };
        let label = label.unwrap_or_else(|| label_of(&raw));
        if prompts.iter().any(|prompt| prompt.label == label) {
            reading.report(&entry, format!("another prompt is called {label:?}, too"));
            continue;
        }
        let messages = match conversation(&raw) {
            None => {
                texts.insert(prompts.len());
                vec![InlineMessage { role: Role::User, content: raw }]
            }
            Some(Ok(said)) => {
                let message = |(role, content)| InlineMessage { role, content };
                said.into_iter().map(message).collect()
            }
            Some(Err(why)) => {
                reading.report(&entry, why);
                continue;
            }
        };
        for message in &messages {
            reading.template(&entry, &message.content);
        }
        // What variables hold makes no conversation of a text that does not begin as one.
        if !begins_conversation(messages.first().map_or("", |first| first.content.as_str())) {
            texts.remove(&prompts.len());
        }
        places.push((reading.file.to_owned(), entry.line, entry.path));
        prompts.push(InlinePrompt { label, messages });
    }
}

/// The label and the text of one entry.
fn entry_of(reading: &mut Reading<'_>, at: &At<'_>) -> Option<(Option<String>, String)> {
    match &at.node.value {
        Yaml::Text(text) => Some((None, plain(reading, at, text)?)),
        Yaml::Table(_) => {
            let keys = reading.keys(at, "prompts", KEYS);
            let label = keys.get("label").and_then(|at| reading.text(at));
            let id = keys.get("id").and_then(|at| reading.text(at));
            let raw = match (keys.get("raw"), &id) {
                (Some(raw), _) => raw.clone(),
                (None, Some(_)) => keys.get("id")?.clone(),
                (None, None) => {
                    reading.report(at, "needs `raw`, the text of the prompt");
                    return None;
                }
            };
            let text = match &raw.node.value {
                Yaml::List(_) | Yaml::Table(_) => raw.node.json().to_string(),
                Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::Text(_) => {
                    let text = reading.text(&raw)?;
                    plain(reading, &raw, &text)?
                }
            };
            let id = id.filter(|_| keys.contains_key("raw"));
            Some((label.or(id), text))
        }
        // A conversation as YAML.
        Yaml::List(_) => Some((None, at.node.json().to_string())),
        Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) => {
            reading.wrong_kind(at, "a prompt");
            None
        }
    }
}

/// A text that is the prompt itself.
fn plain(reading: &mut Reading<'_>, at: &At<'_>, text: &str) -> Option<String> {
    if text.trim().is_empty() {
        reading.report(at, "must not be empty");
        return None;
    }
    let elsewhere = ["portkey://", "langfuse://", "helicone://", "package:", "exec:", "python:"];
    if let Some(scheme) = elsewhere.iter().find(|scheme| text.starts_with(**scheme)) {
        reading.report(at, format!("`{scheme}` is not supported: write the prompt itself"));
        return None;
    }
    if reading.is_file(at, text) {
        return None;
    }
    Some(text.to_owned())
}

/// What people call a prompt that has no label: how it begins.
fn label_of(raw: &str) -> String {
    let line = raw.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut chars = line.chars();
    let mut label: String = chars.by_ref().take(LABEL_CHARS).collect();
    if chars.next().is_some() {
        label.push('…');
    }
    label
}

/// The messages of a text that is a conversation: a JSON array of messages, or the same as YAML.
/// `None`: it is a plain text.
fn conversation(text: &str) -> Option<Result<Vec<(Role, String)>, String>> {
    if !begins_conversation(text) {
        return None;
    }
    let value = match serde_json::from_str::<Value>(text) {
        Ok(value) => value,
        Err(_) => tree::parse(text, &mut Vec::new()).ok()?.json(),
    };
    let messages = value.as_array()?;
    let is_message = |value: &Value| value.get("role").is_some();
    if messages.is_empty() || !messages.iter().all(is_message) {
        return None;
    }
    if messages.len() > MAX_MESSAGES {
        return Some(Err(format!("has more than {MAX_MESSAGES} messages")));
    }
    Some(messages.iter().enumerate().map(message).collect())
}

fn begins_conversation(text: &str) -> bool {
    let start = text.trim_start();
    start.starts_with('[') || start.starts_with("- role:")
}

fn message((index, value): (usize, &Value)) -> Result<(Role, String), String> {
    let name = value.get("role").and_then(Value::as_str).unwrap_or_default();
    let role = ROLES.iter().find(|(word, _)| *word == name).map(|(_, role)| *role);
    let Some(role) = role else {
        let hint = match nearest(name, ROLES.iter().map(|(word, _)| *word)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "there are `system`, `developer`, `user` and `assistant`".to_owned(),
        };
        return Err(format!("message {index}: the role {name:?} is not supported ({hint})"));
    };
    let content = value.get("content").unwrap_or(&Value::Null);
    let text = match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let text = |part: &Value| {
                let is_text = part.get("type").and_then(Value::as_str) == Some("text");
                part.get("text").filter(|_| is_text).and_then(Value::as_str).map(str::to_owned)
            };
            let texts: Option<Vec<String>> = parts.iter().map(text).collect();
            texts
                .ok_or_else(|| {
                    format!("message {index}: parts other than text are not supported in prompts")
                })?
                .join("\n")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            return Err(format!("message {index}: `content` must be a text"));
        }
    };
    let mut members = value.as_object().into_iter().flat_map(Map::keys);
    if let Some(other) = members.find(|key| !["role", "content"].contains(&key.as_str())) {
        return Err(format!("message {index}: `{other}` is not supported in prompts"));
    }
    Ok((role, text))
}
