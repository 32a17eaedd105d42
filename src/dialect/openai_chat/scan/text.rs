//! Pieces of an answer's text, for the sample.

use std::borrow::Cow;

use serde_json::Value;

use super::super::wire;
use crate::dialect::TextSample;
use crate::dialect::envelope::json;

/// The text of a JSON string. Where it is not text (a lone surrogate), as it is written.
pub(super) fn text_of(raw: &[u8]) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_some()
        && let Ok(text) = serde_json::from_slice::<String>(raw)
    {
        return Some(Cow::Owned(text));
    }
    Some(String::from_utf8_lossy(inner))
}

/// Whether a text, an array or an object has nothing in it.
pub(super) fn is_empty(raw: &[u8]) -> bool {
    match raw.first() {
        Some(b'"') => raw.len() <= 2,
        _ => matches!(raw.get(json::skip_space(raw, 1)), Some(b']' | b'}')),
    }
}

/// Samples the texts in a list of parts; Mistral nests thinking one level deeper.
pub(super) fn push_texts(sample: &mut TextSample, parts: &[Value]) {
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
pub(super) fn push_calls(sample: &mut TextSample, calls: &Value) -> bool {
    let mut push = |function: Option<&Value>| {
        if let Some(text) = function.and_then(|function| function.get("arguments")?.as_str()) {
            sample.push(text);
        }
    };
    match calls {
        Value::Array(calls) => {
            calls.iter().for_each(|call| push(call.get("function")));
            !calls.is_empty()
        }
        Value::Object(_) => {
            push(Some(calls));
            // One provider sends a call with nothing in it with every answer.
            !wire::is_blank(calls)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
