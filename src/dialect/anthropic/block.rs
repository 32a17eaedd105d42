//! Content blocks and parts: what requests and whole answers share.

use serde_json::{Map, Value, json};

use super::fields::{Fields, wrong_type};
use super::wire::{CITATION, NAME};
use super::{foreign, media};
use crate::chat::{Opaque, OpaqueKind, Part};
use crate::problems::KeyPath;
use crate::rejection::Rejection;

/// Reads `content`: a string or an array of blocks.
pub(super) fn decode_content(content: Value, path: &KeyPath) -> Result<Vec<Part>, Rejection> {
    match content {
        Value::String(text) => Ok(vec![Part::text(text)]),
        Value::Array(blocks) => {
            let mut parts = Vec::with_capacity(blocks.len());
            for (index, block) in blocks.into_iter().enumerate() {
                decode(block, path.index(index), &mut parts)?;
            }
            Ok(foreign::settle(parts))
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            Err(wrong_type(path, "a string or an array", &other))
        }
    }
}

/// Reads one block and appends its part; a text with citations is followed by one part for each.
pub(super) fn decode(value: Value, path: KeyPath, parts: &mut Vec<Part>) -> Result<(), Rejection> {
    let mut block = Fields::of(value, path)?;
    let kind = match block.peek("type") {
        Some(Value::String(kind)) => kind.clone(),
        _ => block.string("type")?,
    };
    let part = match kind.as_str() {
        "text" => {
            let citations = block.opt_array("citations")?.unwrap_or_default();
            let cache = block.take("cache_control");
            parts.push(Part::Text { text: block.string("text")?, cache, opaque: None });
            parts.extend(citations.into_iter().map(citation_part));
            return Ok(());
        }
        "image" => media::decode(block, false)?,
        "document" => media::decode(block, true)?,
        "tool_use" => {
            let id = block.string("id")?;
            let name = block.string("name")?;
            let arguments = match block.take("input") {
                None => String::new(),
                Some(input @ Value::Object(_)) => input.to_string(),
                Some(other) => return Err(wrong_type(&block.at("input"), "an object", &other)),
            };
            Part::ToolCall { id, name, arguments, opaque: None }
        }
        "tool_result" => Part::ToolResult {
            call_id: block.string("tool_use_id")?,
            name: None,
            is_error: block.opt_bool("is_error")?.unwrap_or(false),
            cache: block.take("cache_control"),
            parts: match block.take("content") {
                None => Vec::new(),
                Some(content) => decode_content(content, &block.at("content"))?,
            },
        },
        "thinking" => {
            let signature = block.opt_string("signature")?.filter(|value| !value.is_empty());
            let opaque =
                signature.map(|value| Opaque { kind: OpaqueKind::AnthropicSignature, value });
            Part::Reasoning { text: block.string("thinking")?, opaque }
        }
        "redacted_thinking" => {
            let opaque = Some(foreign::read(block.string("data")?));
            Part::Reasoning { text: String::new(), opaque }
        }
        _ => Part::Other { dialect: NAME.into(), value: Value::Object(block.rest()) },
    };
    parts.push(part);
    Ok(())
}

/// A citation as a part of its own.
pub(super) fn citation_part(citation: Value) -> Part {
    Part::Other { dialect: NAME.into(), value: json!({"type": CITATION, "citation": citation}) }
}

/// The citation that a part carries.
pub(super) fn citation_of(value: &Value) -> Option<&Value> {
    let is_citation = value.get("type").and_then(Value::as_str) == Some(CITATION);
    if is_citation { value.get("citation") } else { None }
}

/// A text block.
pub(super) fn text(text: &str, cache: Option<&Value>) -> Value {
    with_cache(json!({"type": "text", "text": text}), cache)
}

/// A block of the model's thinking; `None` where there is nothing that this wire knows to say.
pub(super) fn thinking(text: &str, opaque: Option<&Opaque>) -> Option<Value> {
    let ours = |kind| opaque.filter(|opaque| opaque.kind == kind).map(|opaque| &opaque.value);
    if let Some(data) = ours(OpaqueKind::AnthropicRedacted) {
        return Some(json!({"type": "redacted_thinking", "data": data}));
    }
    let signature = ours(OpaqueKind::AnthropicSignature);
    if text.is_empty() && signature.is_none() {
        return None;
    }
    Some(json!({
        "type": "thinking", "thinking": text, "signature": signature.map_or("", String::as_str),
    }))
}

/// A tool call.
pub(super) fn tool_use(id: &str, name: &str, input: Map<String, Value>) -> Value {
    json!({"type": "tool_use", "id": id, "name": name, "input": input})
}

/// Attaches a citation to the text block at the end of `blocks`, if there is one.
pub(super) fn attach_citation(blocks: &mut [Value], citation: &Value) {
    let Some(Value::Object(block)) = blocks.last_mut() else {
        return;
    };
    if block.get("type").and_then(Value::as_str) != Some("text") {
        return;
    }
    let list = block.entry("citations").or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(list) = list {
        list.push(citation.clone());
    }
}

/// A block with its `cache_control`.
pub(super) fn with_cache(mut block: Value, cache: Option<&Value>) -> Value {
    if let (Some(map), Some(cache)) = (block.as_object_mut(), cache) {
        map.insert("cache_control".into(), cache.clone());
    }
    block
}
