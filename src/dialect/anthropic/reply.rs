//! Whole answers, read, looked at, and written.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::super::{ReplyContext, StreamSummary, json_bytes};
use super::fields::Fields;
use super::wire::{
    CITATION, NAME, Said, WireUsage, arguments_object, finish_reason, message_id, stop_reason,
    usage_value,
};
use super::{block, failure, foreign, repair};
use crate::chat::{Choice, Completion, Part};
use crate::failure::{Failure, FailureKind};
use crate::problems::KeyPath;
use crate::rejection::Rejection;

/// Reads a whole answer.
pub(super) fn decode(body: &[u8]) -> Result<Completion, Failure> {
    let mut value: Value = serde_json::from_slice(body).map_err(unreadable)?;
    modernise(&mut value);
    if let Some(failure) = failure::inside_success(&value) {
        return Err(failure);
    }
    let mut fields = Fields::of(value, KeyPath::root()).map_err(broken)?;
    let id = fields.opt_string("id").map_err(broken)?.unwrap_or_default();
    let model = fields.opt_string("model").map_err(broken)?.unwrap_or_default();
    let content = fields
        .opt_array("content")
        .map_err(broken)?
        .ok_or_else(|| Failure::new(FailureKind::Degenerate, "the answer has no `content`"))?;
    let mut parts = Vec::with_capacity(content.len());
    for (index, value) in content.into_iter().enumerate() {
        let value = tolerate(value, &id, index);
        let path = KeyPath::root().key("content").index(index);
        block::decode(value, path, &mut parts).map_err(broken)?;
    }
    let reason = fields.opt_string("stop_reason").map_err(broken)?;
    let sequence = fields.opt_string("stop_sequence").map_err(broken)?;
    let usage = fields.take("usage").and_then(|usage| WireUsage::deserialize(usage).ok());
    fields.take("type");
    fields.take("role");
    let choice = Choice {
        index: 0,
        parts,
        finish: reason.map(|word| finish_reason(&word, sequence)),
        logprobs: Vec::new(),
    };
    Ok(Completion {
        id,
        model,
        created: 0,
        choices: vec![choice],
        usage: usage.map(|usage| usage.canonical()),
        extra_dialect: NAME.to_owned(),
        extra: fields.rest(),
    })
}

/// Turns the answer of Bedrock's oldest Claude models, which is one text, into a message.
fn modernise(value: &mut Value) {
    let Some(map) = value.as_object_mut().filter(|map| !map.contains_key("content")) else {
        return;
    };
    if let Some(Value::String(text)) = map.shift_remove("completion") {
        map.insert("content".into(), json!([{"type": "text", "text": text}]));
        let stop = map.shift_remove("stop").unwrap_or_default();
        map.insert("stop_sequence".into(), stop);
    }
}

/// Makes good what providers that only follow this dialect leave out of a tool call: its id, and
/// arguments as an object.
fn tolerate(mut value: Value, message_id: &str, index: usize) -> Value {
    let Some(block) = value.as_object_mut() else {
        return value;
    };
    if block.get("type").and_then(Value::as_str) == Some("tool_use") {
        if block.get("id").and_then(Value::as_str).is_none_or(str::is_empty) {
            block.insert("id".into(), made_tool_id(message_id, index).into());
        }
        if let Some(Value::String(text)) = block.get("input") {
            let input = arguments_object(text).unwrap_or_default();
            block.insert("input".into(), Value::Object(input));
        }
    }
    value
}

/// The id of a tool call that came without one; unique within the conversation because the
/// answer's own id is part of it.
pub(super) fn made_tool_id(message_id: &str, index: usize) -> String {
    let stem = message_id.strip_prefix("msg_").unwrap_or(message_id);
    format!("toolu_{}_{index}", super::wire::safe_id(stem))
}

/// Looks at a whole answer without building its content.
pub(super) fn scan(body: &[u8]) -> Result<StreamSummary, Failure> {
    #[derive(Deserialize)]
    struct Glance {
        #[serde(default)]
        model: Option<String>,
        content: Option<Vec<GlanceBlock>>,
        stop_reason: Option<String>,
        stop_sequence: Option<String>,
        usage: Option<WireUsage>,
    }
    #[derive(Deserialize)]
    struct GlanceBlock {
        #[serde(rename = "type")]
        kind: String,
        text: Option<String>,
        thinking: Option<String>,
        input: Option<Box<RawValue>>,
    }
    let glance: Glance = match serde_json::from_slice(body) {
        Ok(glance) => glance,
        // Whatever it is, the decoder finds the words for it.
        Err(error) => return Err(decode(body).err().unwrap_or_else(|| unreadable(error))),
    };
    let Some(content) = glance.content else {
        return decode(body).map(|completion| summarise(&completion));
    };
    let mut summary = StreamSummary {
        usage: glance.usage.map(|usage| usage.canonical()),
        finish: glance.stop_reason.map(|word| finish_reason(&word, glance.stop_sequence)),
        model: glance.model.unwrap_or_default(),
        ..StreamSummary::default()
    };
    for block in content {
        match block.kind.as_str() {
            "text" => summary.text.push(&block.text.unwrap_or_default()),
            "thinking" => summary.text.push(&block.thinking.unwrap_or_default()),
            "tool_use" => {
                summary.has_tool_calls = true;
                summary.text.push(block.input.as_deref().map_or("", RawValue::get));
            }
            _ => {}
        }
    }
    Ok(summary)
}

fn summarise(completion: &Completion) -> StreamSummary {
    let mut summary = StreamSummary { usage: completion.usage, ..StreamSummary::default() };
    for choice in &completion.choices {
        summary.finish.clone_from(&choice.finish);
        choice.parts.iter().filter_map(Part::as_text).for_each(|text| summary.text.push(text));
    }
    summary
}

/// Writes a whole answer. The wire knows one alternative, so it is the first.
pub(super) fn encode(completion: &Completion, context: &ReplyContext) -> Vec<u8> {
    let choice = completion.choices.first();
    let mut said = Said::default();
    let mut blocks = Vec::new();
    for part in choice.map(|choice| choice.parts.as_slice()).unwrap_or_default() {
        encode_part(part, &mut said, &mut blocks);
    }
    let (reason, sequence) = stop_reason(choice.and_then(|choice| choice.finish.as_ref()), said);
    let model = if completion.model.is_empty() { &context.model } else { &completion.model };
    let mut value = json!({
        "id": message_id(&completion.id, &context.request_id),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": usage_value(&completion.usage.unwrap_or_default()),
    });
    if let Some(map) = value.as_object_mut().filter(|_| completion.extra_dialect == NAME) {
        for (key, value) in &completion.extra {
            map.entry(key.as_str()).or_insert_with(|| value.clone());
        }
    }
    json_bytes(&value)
}

fn encode_part(part: &Part, said: &mut Said, blocks: &mut Vec<Value>) {
    match part {
        Part::Text { text, .. } => push_text(text, blocks),
        Part::Refusal { text } => {
            said.refusal = true;
            push_text(text, blocks);
        }
        Part::ToolCall { id, name, arguments, opaque } => {
            said.tool = true;
            blocks.extend(foreign::block(opaque.as_ref()));
            let input: Map<String, Value> = arguments_object(arguments)
                .or_else(|| arguments_object(&repair::close(arguments)))
                .unwrap_or_default();
            blocks.push(block::tool_use(id, name, input));
        }
        Part::Reasoning { text, opaque } => blocks.extend(block::thinking(text, opaque.as_ref())),
        Part::Other { dialect, value } if dialect == NAME => match block::citation_of(value) {
            Some(citation) => block::attach_citation(blocks, citation),
            None if value.get("type").and_then(Value::as_str) == Some(CITATION) => {}
            None => blocks.push(value.clone()),
        },
        // A model sends no media on this wire, and no results of tools that the caller runs.
        Part::Other { .. } | Part::Media(_) | Part::ToolResult { .. } => {}
    }
}

fn push_text(text: &str, blocks: &mut Vec<Value>) {
    if !text.is_empty() {
        blocks.push(block::text(text, None));
    }
}

fn unreadable(error: serde_json::Error) -> Failure {
    Failure::new(FailureKind::Degenerate, format!("the answer is not valid JSON: {error}"))
}

fn broken(rejection: Rejection) -> Failure {
    Failure::new(FailureKind::Degenerate, format!("the answer cannot be read: {rejection}"))
}
