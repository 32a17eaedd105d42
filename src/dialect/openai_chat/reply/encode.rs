//! Writing whole answers.

use std::borrow::Cow;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::super::usage::Counted;
use super::super::{state, wire};
use crate::chat::{Choice, Completion, Extra, Part};
use crate::dialect::{Dialect, ReplyContext, json_bytes};

/// An answer as it is written.
#[derive(Serialize)]
struct Reply<'a> {
    id: Cow<'a, str>,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Alternative<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Counted>,
    #[serde(flatten)]
    rest: Rest<'a>,
}

#[derive(Serialize)]
struct Alternative<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Value,
    finish_reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    native_finish_reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<Cow<'a, str>>,
    refusal: Option<Cow<'a, str>>,
    #[serde(flatten)]
    thinking: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// Fields that are not modelled, less those that are written anyway.
struct Rest<'a>(Option<&'a Extra>);

/// Fields of an answer that are modelled.
const WRITTEN: [&str; 6] = ["id", "object", "created", "model", "choices", "usage"];

impl Serialize for Rest<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for (key, value) in self.0.into_iter().flatten() {
            if !WRITTEN.contains(&key.as_str()) {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

/// The id as it goes to callers of this dialect.
pub(in super::super) fn reply_id<'a>(id: &'a str, context: &ReplyContext) -> Cow<'a, str> {
    if id.starts_with("chatcmpl-") {
        id.into()
    } else {
        format!("chatcmpl-{}", context.request_id).into()
    }
}

/// Writes an answer.
pub(in super::super) fn encode(completion: &Completion, context: &ReplyContext) -> Vec<u8> {
    let Completion { id, model, created, choices, usage, extra, extra_dialect, .. } = completion;
    json_bytes(&Reply {
        id: reply_id(id, context),
        object: "chat.completion",
        created: if *created == 0 { context.created } else { *created },
        model: if model.is_empty() { &context.model } else { model },
        choices: choices.iter().map(alternative).collect(),
        usage: usage.as_ref().map(Counted::of),
        rest: Rest((extra_dialect == Dialect::OpenAiChat.as_str()).then_some(extra)),
    })
}

fn alternative(choice: &Choice) -> Alternative<'_> {
    let mut text = Cow::default();
    let mut refusal = Cow::default();
    let mut calls = Vec::new();
    let mut other = Map::new();
    for part in &choice.parts {
        match part {
            Part::Text { text: piece, .. } => text += piece.as_str(),
            Part::Refusal { text } => refusal += text.as_str(),
            Part::ToolCall { id, name, arguments, opaque } => {
                let mut call = json!({
                    "id": id, "type": "function",
                    "function": { "name": name, "arguments": arguments }
                });
                if let Some(extra) = opaque.as_ref().and_then(state::call_extra) {
                    call["extra_content"] = extra;
                }
                calls.push(call);
            }
            Part::Other { dialect, value } if dialect == Dialect::OpenAiChat.as_str() => {
                keep_other(value, &mut calls, &mut other);
            }
            // Blocks of other dialects and media have no place in an answer of this one.
            Part::Media(_)
            | Part::ToolResult { .. }
            | Part::Reasoning { .. }
            | Part::Other { .. } => {}
        }
    }
    let (has_calls, refused) = (!calls.is_empty(), !refusal.is_empty());
    let mut thinking = Map::new();
    state::write_thinking(&choice.parts, &mut thinking);
    other.retain(|key, _| {
        let is_written = matches!(key.as_str(), "role" | "content" | "refusal")
            || (has_calls && key == "tool_calls");
        !is_written && !thinking.contains_key(key)
    });
    let default = if has_calls { "tool_calls" } else { "stop" };
    let (finish_reason, native_finish_reason) = choice
        .finish
        .as_ref()
        .map_or((default, None), |reason| wire::finish_words(reason, refused));
    let content = Some(text).filter(|text| !text.is_empty() || !(has_calls || refused));
    Alternative {
        index: choice.index,
        message: Message {
            role: "assistant",
            content,
            refusal: Some(refusal).filter(|_| refused),
            thinking,
            tool_calls: calls,
            other,
        },
        logprobs: wire::logprobs_value(&choice.logprobs),
        finish_reason,
        native_finish_reason,
    }
}

/// Puts what is not modelled back in its place: fields of the message, or calls of custom tools.
/// Content parts have no place beside a text and are left out.
fn keep_other(value: &Value, calls: &mut Vec<Value>, other: &mut Map<String, Value>) {
    let Some(fields) = value.as_object().filter(|fields| !fields.contains_key("type")) else {
        return;
    };
    for (key, value) in fields {
        if let (Value::Array(more), "tool_calls") = (value, key.as_str()) {
            calls.extend(more.iter().cloned());
        } else {
            other.insert(key.clone(), value.clone());
        }
    }
}
