//! Gemini's thought signatures on this wire, which has no place for them.
//!
//! Gemini wants the signature of a tool call back with the call. Callers of this wire return hidden
//! thinking untouched, so the signature goes out as such a block right before its call, under a
//! mark, and comes back onto the call that follows it. Anthropic itself would refuse such a block:
//! [`is_in`] finds it in a body that would otherwise pass through unread.

use memchr::memmem;
use serde_json::{Value, json};

use crate::chat::{Opaque, OpaqueKind, Part};

/// What the data of such a block begins with.
const MARK: &str = "tidegate.gemini:";

/// The block that carries a call's state, where it is state that this wire does not know.
pub(super) fn block(opaque: Option<&Opaque>) -> Option<Value> {
    let opaque = opaque.filter(|opaque| opaque.kind == OpaqueKind::GeminiSignature)?;
    Some(json!({"type": "redacted_thinking", "data": format!("{MARK}{}", opaque.value)}))
}

/// The state in the data of a block of hidden thinking: ours under the mark, else the provider's.
pub(super) fn read(data: String) -> Opaque {
    match data.strip_prefix(MARK) {
        Some(value) => Opaque { kind: OpaqueKind::GeminiSignature, value: value.to_owned() },
        None => Opaque { kind: OpaqueKind::AnthropicRedacted, value: data },
    }
}

/// Puts the state that stands right before a call onto the call.
pub(super) fn settle(parts: Vec<Part>) -> Vec<Part> {
    let mut settled: Vec<Part> = Vec::with_capacity(parts.len());
    for mut part in parts {
        if let Part::ToolCall { opaque: state @ None, .. } = &mut part
            && let Some(Part::Reasoning { text, opaque: Some(opaque) }) = settled.last()
            && text.is_empty()
            && opaque.kind == OpaqueKind::GeminiSignature
        {
            *state = Some(opaque.clone());
            settled.pop();
        }
        settled.push(part);
    }
    settled
}

/// Whether messages hold thinking of another provider's: state under our mark, or thoughts without
/// a signature. May be wrong about a text that merely contains the words.
pub(super) fn is_in(messages: &[u8]) -> bool {
    let find = |words: &str| memmem::find(messages, words.as_bytes()).is_some();
    find(MARK) || find(r#""signature":"""#) || find(r#""signature": """#)
}
