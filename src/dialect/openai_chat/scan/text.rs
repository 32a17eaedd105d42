//! Pieces of an answer's text, for the sample, from JSON that was stepped over.

use std::borrow::Cow;

use serde_json::Value;

use super::super::wire;
use super::members::{is_empty, items, member};
use crate::dialect::TextSample;

/// The text of a JSON string. Where it is not text (a lone surrogate), as it is written.
pub(in super::super) fn text_of(raw: &[u8]) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_some()
        && let Ok(text) = serde_json::from_slice::<String>(raw)
    {
        return Some(Cow::Owned(text));
    }
    // Answers are text nearly always, which is faster to see than to mend.
    Some(
        simdutf8::basic::from_utf8(inner)
            .map_or_else(|_| String::from_utf8_lossy(inner), Cow::Borrowed),
    )
}

/// Samples a text, or a list of parts with texts in them; whether there was any.
pub(super) fn push_text(sample: &mut TextSample, raw: &[u8]) -> bool {
    match raw.first() {
        Some(b'"') => {
            let text = text_of(raw).unwrap_or_default();
            sample.push(&text);
            !text.is_empty()
        }
        Some(b'[') => {
            let parts: Vec<Value> = serde_json::from_slice(raw).unwrap_or_default();
            push_parts(sample, &parts);
            !is_empty(raw)
        }
        _ => false,
    }
}

/// Mistral nests thinking one level deeper.
fn push_parts(sample: &mut TextSample, parts: &[Value]) {
    for part in parts {
        if let Some(text) = part.as_str().or_else(|| part.get("text")?.as_str()) {
            sample.push(text);
        }
        if let Some(Value::Array(thoughts)) = part.get("thinking") {
            let texts = thoughts.iter().filter_map(|thought| thought.get("text")?.as_str());
            texts.for_each(|text| sample.push(text));
        }
    }
}

/// Samples the arguments of tool calls, or of one legacy function call; whether there was any.
pub(super) fn push_calls(sample: &mut TextSample, raw: &[u8]) -> bool {
    let mut push = |function: &[u8]| {
        if let Some(text) = member(function, b"arguments").and_then(text_of) {
            sample.push(&text);
        }
    };
    match raw.first() {
        Some(b'{') => {
            push(raw);
            // One provider sends a call with nothing in it with every answer.
            serde_json::from_slice(raw).is_ok_and(|call| !wire::is_blank(&call))
        }
        Some(b'[') => {
            items(raw).filter_map(|call| member(call, b"function")).for_each(push);
            !is_empty(raw)
        }
        _ => false,
    }
}
