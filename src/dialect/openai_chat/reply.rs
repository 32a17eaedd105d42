//! Whole answers, both ways.

mod encode;

use serde_json::{Map, Value, json};

pub(super) use encode::{encode, reply_id};

use super::error;
use super::state;
use super::usage::WireUsage;
use super::wire;
use crate::chat::{Choice, Completion, Opaque, Part};
use crate::dialect::Dialect;
use crate::failure::{Failure, FailureKind};

/// Fields of a message that are modelled.
const KNOWN: [&str; 11] = [
    "role",
    "content",
    "refusal",
    "tool_calls",
    "function_call",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "extra_content",
    "thought_signature",
    "name",
];

/// Reads an answer.
pub(super) fn decode(body: &[u8]) -> Result<Completion, Failure> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        Failure::new(FailureKind::Degenerate, format!("the answer is not JSON: {error}"))
    })?;
    if let Some(failure) = error::embedded(&value, FailureKind::Degenerate) {
        return Err(failure);
    }
    let Value::Object(fields) = value else {
        return Err(Failure::new(FailureKind::Degenerate, "the answer is not a JSON object"));
    };
    let mut completion = Completion {
        extra_dialect: Dialect::OpenAiChat.as_str().to_owned(),
        ..Completion::default()
    };
    let mut choices = None;
    for (key, value) in fields {
        match key.as_str() {
            "id" => completion.id = value.as_str().unwrap_or_default().to_owned(),
            "model" => completion.model = value.as_str().unwrap_or_default().to_owned(),
            "created" => completion.created = seconds(&value),
            "object" => {}
            "usage" => completion.usage = WireUsage::read(&value).map(WireUsage::disjoint),
            "choices" => choices = Some(value),
            _ if value.is_null() => {}
            _ => {
                completion.extra.insert(key, value);
            }
        }
    }
    let Some(Value::Array(choices)) = choices else {
        return Err(Failure::new(FailureKind::Degenerate, "the answer has no `choices`"));
    };
    let mut ids = MadeIds::new(&completion.id, completion.created);
    completion.choices = choices
        .into_iter()
        .zip(0..)
        .map(|(choice, position)| read_choice(&choice, position, &mut ids))
        .collect();
    completion.choices.sort_by_key(|choice| choice.index);
    Ok(completion)
}

/// Seconds since 1970, which some send with a fraction.
pub(super) fn seconds(value: &Value) -> u64 {
    let whole = value.as_f64().map(|seconds| Value::from(seconds.trunc()));
    wire::count(value).or_else(|| whole.as_ref().and_then(wire::count)).unwrap_or(0)
}

fn read_choice(choice: &Value, position: u32, ids: &mut MadeIds) -> Choice {
    let index = choice.get("index").and_then(wire::count).and_then(|n| u32::try_from(n).ok());
    let index = index.unwrap_or(position);
    let empty = Value::Null;
    let message = choice.get("message").or_else(|| choice.get("delta")).unwrap_or(&empty);
    let mut parts = read_message(message, index, ids);
    if parts.is_empty() {
        let text = wire::text(choice, "text");
        if !text.is_empty() {
            parts.push(Part::text(text));
        }
    }
    let finish = choice.get("finish_reason").and_then(Value::as_str).and_then(wire::finish_reason);
    let has_calls = parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
    Choice {
        index,
        parts,
        finish: wire::settle_finish(finish, has_calls),
        logprobs: wire::read_logprobs(choice.get("logprobs")),
    }
}

fn read_message(message: &Value, index: u32, ids: &mut MadeIds) -> Vec<Part> {
    let (mut parts, of_text) = state::read_thinking(message);
    read_content(message.get("content").unwrap_or(&Value::Null), &mut parts);
    if let Some(state) = of_text {
        attach(&mut parts, state);
    }
    let refusal = wire::text(message, "refusal");
    if !refusal.is_empty() {
        parts.push(Part::Refusal { text: refusal.to_owned() });
    }
    let calls = message.get("tool_calls").and_then(Value::as_array);
    for call in calls.into_iter().flatten() {
        read_call(call, index, ids, &mut parts);
    }
    if let Some(call) = message.get("function_call") {
        push_call("", call, None, (index, ids), &mut parts);
    }
    let other: Map<String, Value> = message
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| !KNOWN.contains(&key.as_str()) && !wire::is_blank(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if !other.is_empty() {
        parts.push(other_part(other.into()));
    }
    parts
}

fn other_part(value: Value) -> Part {
    Part::Other { dialect: Dialect::OpenAiChat.as_str().to_owned(), value }
}

/// Reads `content`: text, or parts as Mistral sends them.
fn read_content(content: &Value, parts: &mut Vec<Part>) {
    match content {
        Value::String(text) if !text.is_empty() => parts.push(Part::text(text)),
        Value::Array(pieces) => {
            for piece in pieces {
                match piece_of(piece) {
                    Some(Piece::Text(text)) => parts.push(Part::text(text)),
                    Some(Piece::Thought(text)) => {
                        parts.push(Part::Reasoning { text, opaque: None });
                    }
                    Some(Piece::Other) => parts.push(other_part(piece.clone())),
                    None => {}
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {}
    }
}

/// An element of a `content` array.
pub(super) enum Piece {
    /// Visible text, not empty.
    Text(String),
    /// Thinking, not empty.
    Thought(String),
    /// Something that is not modelled.
    Other,
}

/// Reads an element of a `content` array; `None` where it says nothing.
pub(super) fn piece_of(piece: &Value) -> Option<Piece> {
    if let Some(text) = piece.as_str() {
        return (!text.is_empty()).then(|| Piece::Text(text.to_owned()));
    }
    match wire::text(piece, "type") {
        "text" | "output_text" | "" => {
            let text = wire::text(piece, "text");
            (!text.is_empty()).then(|| Piece::Text(text.to_owned()))
        }
        "thinking" | "reasoning" => {
            let text = thinking_text(piece.get("thinking").or_else(|| piece.get("text")));
            (!text.is_empty()).then_some(Piece::Thought(text))
        }
        _ => Some(Piece::Other),
    }
}

/// The text of a thinking part: a string, or a list of text parts.
pub(super) fn thinking_text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(pieces)) => pieces
            .iter()
            .map(|piece| piece.as_str().unwrap_or_else(|| wire::text(piece, "text")))
            .collect(),
        _ => String::new(),
    }
}

fn attach(parts: &mut Vec<Part>, state: Opaque) {
    let text = parts.iter_mut().rev().find_map(|part| match part {
        Part::Text { opaque, .. } => Some(opaque),
        Part::Media(_)
        | Part::ToolCall { .. }
        | Part::ToolResult { .. }
        | Part::Reasoning { .. }
        | Part::Refusal { .. }
        | Part::Other { .. } => None,
    });
    match text {
        Some(opaque) => *opaque = Some(state),
        None => {
            parts.push(Part::Text { text: String::new(), cache: None, opaque: Some(state) });
        }
    }
}

fn read_call(call: &Value, index: u32, ids: &mut MadeIds, parts: &mut Vec<Part>) {
    let id = wire::text(call, "id");
    match call.get("function") {
        Some(function) => {
            push_call(id, function, state::call_state(call), (index, ids), parts);
        }
        // A call of a custom tool, verbatim: its input is no JSON.
        None if !wire::is_blank(call) => parts.push(other_part(json!({ "tool_calls": [call] }))),
        None => {}
    }
}

fn push_call(
    id: &str,
    function: &Value,
    opaque: Option<Opaque>,
    (index, ids): (u32, &mut MadeIds),
    parts: &mut Vec<Part>,
) {
    let name = wire::text(function, "name");
    if name.is_empty() {
        return;
    }
    let id = if id.is_empty() { ids.make(index) } else { id.to_owned() };
    let arguments = arguments(function);
    parts.push(Part::ToolCall { id, name: name.to_owned(), arguments, opaque });
}

/// A call's arguments as text; some send them as JSON.
pub(super) fn arguments(function: &Value) -> String {
    match function.get("arguments") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Makes ids for calls that came without: from the answer's id, so that the ids of several
/// answers in one conversation differ.
#[derive(Debug)]
pub(super) struct MadeIds {
    stem: String,
    count: u32,
}

impl MadeIds {
    pub(super) fn new(id: &str, created: u64) -> Self {
        // Anthropic takes only these in ids, and not many of them.
        let mut stem: String = id.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
        if stem.is_empty() {
            stem = created.to_string();
        }
        Self { stem, count: 0 }
    }

    pub(super) fn make(&mut self, choice: u32) -> String {
        let id = format!("call_{}_{choice}_{}", self.stem, self.count);
        self.count += 1;
        id
    }
}
