//! Thinking and opaque provider state in messages of this wire, both ways: `reasoning_content`,
//! `reasoning`, `reasoning_details` and `extra_content`. The convention is told in the module
//! above.

use serde_json::{Map, Value, json};

use super::wire;
use crate::chat::{Opaque, OpaqueKind, Part};

/// What Anthropic's state is called in a detail's `format`.
const ANTHROPIC: &str = "anthropic-claude-v1";
/// What Gemini's state is called in a detail's `format`.
const GEMINI: &str = "google-gemini-v1";

/// One entry of `reasoning_details`, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Detail {
    /// Thinking, or a piece of it.
    Thought(String),
    /// Thinking with its signature; the text may be empty where only the signature came.
    Signed(String, Opaque),
    /// Hidden thinking, or state that ends the thinking before it.
    Hidden(Opaque),
    /// State that belongs to the message's text.
    OfText(Opaque),
}

/// Reads one entry of `reasoning_details`.
pub(super) fn read_detail(value: &Value) -> Option<Detail> {
    let format = wire::text(value, "format");
    let signature = wire::text(value, "signature");
    let body = match wire::text(value, "type") {
        "reasoning.summary" => wire::text(value, "summary"),
        _ => wire::text(value, "text"),
    };
    let data = wire::text(value, "data");
    let verbatim = || Opaque { kind: OpaqueKind::ReasoningDetail, value: value.to_string() };
    let known = |kind, value: &str| Opaque { kind, value: value.to_owned() };
    // An id ties state to something only its provider knows.
    let has_id = !wire::text(value, "id").is_empty();
    match (wire::text(value, "type"), format) {
        ("reasoning.text", ANTHROPIC) if !signature.is_empty() => {
            Some(Detail::Signed(body.to_owned(), known(OpaqueKind::AnthropicSignature, signature)))
        }
        ("reasoning.text", GEMINI) if !signature.is_empty() => {
            Some(Detail::Signed(body.to_owned(), known(OpaqueKind::GeminiSignature, signature)))
        }
        ("reasoning.encrypted", ANTHROPIC) if !data.is_empty() && !has_id => {
            Some(Detail::Hidden(known(OpaqueKind::AnthropicRedacted, data)))
        }
        ("reasoning.encrypted", GEMINI) if !data.is_empty() && !has_id => {
            Some(Detail::OfText(known(OpaqueKind::GeminiSignature, data)))
        }
        ("reasoning.text" | "reasoning.summary", _) if signature.is_empty() => {
            (!body.is_empty()).then(|| Detail::Thought(body.to_owned()))
        }
        ("reasoning.text" | "reasoning.summary", _) => {
            Some(Detail::Signed(body.to_owned(), verbatim()))
        }
        _ if wire::is_blank(value) => None,
        _ => Some(Detail::Hidden(verbatim())),
    }
}

/// Reads all thinking of a message: the details where they hold any, else the plain text. The
/// state of the message's text comes second.
pub(super) fn read_thinking(message: &Value) -> (Vec<Part>, Option<Opaque>) {
    let details = message.get("reasoning_details").and_then(Value::as_array);
    let plain = plain_thinking(message).unwrap_or_default();
    let details: Vec<Detail> =
        details.map(|all| all.iter().filter_map(read_detail).collect()).unwrap_or_default();
    let has_text = details.iter().any(|detail| match detail {
        Detail::Thought(text) | Detail::Signed(text, _) => !text.is_empty(),
        Detail::Hidden(_) | Detail::OfText(_) => false,
    });
    let mut parts = Vec::new();
    let mut of_text = gemini_signature(message);
    if !has_text && !plain.is_empty() {
        parts.push(Part::Reasoning { text: plain.to_owned(), opaque: None });
    }
    for detail in details {
        match detail {
            Detail::Thought(text) => parts.push(Part::Reasoning { text, opaque: None }),
            Detail::Signed(text, opaque) if text.is_empty() => end_thought(&mut parts, opaque),
            Detail::Signed(text, opaque) => {
                parts.push(Part::Reasoning { text, opaque: Some(opaque) });
            }
            Detail::Hidden(opaque) if opaque.kind == OpaqueKind::AnthropicRedacted => {
                parts.push(Part::Reasoning { text: String::new(), opaque: Some(opaque) });
            }
            Detail::Hidden(opaque) => end_thought(&mut parts, opaque),
            Detail::OfText(opaque) => of_text = Some(opaque),
        }
    }
    (parts, of_text)
}

/// Signs the thought before, or stands alone where there is none that lacks a signature.
fn end_thought(parts: &mut Vec<Part>, state: Opaque) {
    match parts.last_mut() {
        Some(Part::Reasoning { opaque: opaque @ None, .. }) => *opaque = Some(state),
        _ => parts.push(Part::Reasoning { text: String::new(), opaque: Some(state) }),
    }
}

/// The plain text of thinking, under either name; `None` where neither is there, which differs
/// from an empty one.
pub(super) fn plain_thinking(message: &Value) -> Option<&str> {
    let get = |key: &str| message.get(key).and_then(Value::as_str);
    get("reasoning_content")
        .filter(|text| !text.is_empty())
        .or_else(|| get("reasoning"))
        .or_else(|| get("reasoning_content"))
}

/// The signature in `extra_content`, as Gemini's compatible endpoint gives it on messages and on
/// tool calls.
pub(super) fn gemini_signature(value: &Value) -> Option<Opaque> {
    let signature = value
        .get("extra_content")
        .and_then(|extra| extra.get("google")?.get("thought_signature"))
        .or_else(|| value.get("function")?.get("thought_signature"))
        .or_else(|| value.get("thought_signature"))
        .and_then(Value::as_str)
        .filter(|signature| !signature.is_empty())?;
    Some(Opaque { kind: OpaqueKind::GeminiSignature, value: signature.to_owned() })
}

/// Reads the state of a tool call: a signature, or else the whole `extra_content`, verbatim.
pub(super) fn call_state(call: &Value) -> Option<Opaque> {
    gemini_signature(call).or_else(|| {
        let extra = call.get("extra_content").filter(|extra| !wire::is_blank(extra))?;
        Some(Opaque { kind: OpaqueKind::ReasoningDetail, value: extra.to_string() })
    })
}

/// Writes the state of a tool call as its `extra_content`; `None` where it has no place there.
pub(super) fn call_extra(opaque: &Opaque) -> Option<Value> {
    match opaque.kind {
        OpaqueKind::GeminiSignature => {
            Some(json!({ "google": { "thought_signature": opaque.value } }))
        }
        OpaqueKind::ReasoningDetail => serde_json::from_str(&opaque.value).ok(),
        OpaqueKind::AnthropicSignature | OpaqueKind::AnthropicRedacted => None,
    }
}

/// Writes thinking and its state into a message: the text as `reasoning_content`, and all of it
/// as `reasoning_details` where some of it carries state.
pub(super) fn write_thinking(parts: &[Part], message: &mut Map<String, Value>) {
    let mut text = String::new();
    let mut details = Vec::new();
    let mut has_state = false;
    for part in parts {
        match part {
            Part::Reasoning { text: thought, opaque } => {
                text.push_str(thought);
                has_state |= opaque.is_some();
                push_details(thought, opaque.as_ref(), &mut details);
            }
            Part::Text { opaque: Some(opaque), .. } => {
                has_state = true;
                details.extend(text_detail(opaque, details.len()));
            }
            Part::Text { opaque: None, .. }
            | Part::Media(_)
            | Part::ToolCall { .. }
            | Part::ToolResult { .. }
            | Part::Refusal { .. }
            | Part::Other { .. } => {}
        }
    }
    if !text.is_empty() {
        message.insert("reasoning_content".to_owned(), text.into());
    }
    if has_state && !details.is_empty() {
        message.insert("reasoning_details".to_owned(), details.into());
    }
}

/// Appends the details of one thought.
pub(super) fn push_details(text: &str, opaque: Option<&Opaque>, details: &mut Vec<Value>) {
    let plain = |index: usize| json!({ "type": "reasoning.text", "text": text, "index": index });
    let signed = |signature: &str, format: &str, index: usize| {
        json!({
            "type": "reasoning.text", "text": text, "signature": signature, "format": format,
            "index": index
        })
    };
    let index = details.len();
    match opaque {
        None => details.push(plain(index)),
        Some(Opaque { kind: OpaqueKind::AnthropicSignature, value }) => {
            details.push(signed(value, ANTHROPIC, index));
        }
        Some(Opaque { kind: OpaqueKind::GeminiSignature, value }) => {
            details.push(signed(value, GEMINI, index));
        }
        Some(Opaque { kind: OpaqueKind::AnthropicRedacted, value }) => {
            if !text.is_empty() {
                details.push(plain(index));
            }
            let index = details.len();
            details.push(json!({
                "type": "reasoning.encrypted", "data": value, "format": ANTHROPIC, "index": index
            }));
        }
        Some(Opaque { kind: OpaqueKind::ReasoningDetail, value }) => {
            let Ok(detail) = serde_json::from_str::<Value>(value) else { return };
            let says_text = [detail.get("text"), detail.get("summary")]
                .into_iter()
                .flatten()
                .any(|said| said.as_str() == Some(text));
            if !text.is_empty() && !says_text {
                details.push(plain(index));
            }
            details.push(detail);
        }
    }
}

/// The detail of state that belongs to visible text.
pub(super) fn text_detail(opaque: &Opaque, index: usize) -> Option<Value> {
    match opaque.kind {
        OpaqueKind::GeminiSignature => Some(json!({
            "type": "reasoning.encrypted", "data": opaque.value, "format": GEMINI, "index": index
        })),
        OpaqueKind::ReasoningDetail => serde_json::from_str(&opaque.value).ok(),
        OpaqueKind::AnthropicSignature | OpaqueKind::AnthropicRedacted => None,
    }
}
