//! The words of the wire that several of this dialect's files share.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::chat::{FinishReason, Usage};

/// The dialect's name in `extra_dialect` and [`Part::Other`](crate::chat::Part::Other).
pub(super) const NAME: &str = "anthropic";

/// The value of the `anthropic-version` header. It is the only version there has ever been.
pub(super) const VERSION: &str = "2023-06-01";

/// The type of the blocks that carry a citation in [`Part::Other`](crate::chat::Part::Other): the
/// wire's own delta, because the canonical text has no place for it.
pub(super) const CITATION: &str = "citations_delta";

/// `usage` of a message and of `message_delta`. Every count may be absent or null.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireUsage {
    input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    thinking_tokens: Option<u64>,
}

// === impl WireUsage ===

impl WireUsage {
    /// Counts of prompt and answer alone.
    pub(super) fn of(input_tokens: Option<u64>, output_tokens: Option<u64>) -> Self {
        Self { input_tokens, output_tokens, ..Self::default() }
    }

    /// Merges what a later event says: the larger of two counts wins, as in
    /// [`merge_usage`](super::super::merge_usage). It is done on the wire's own counts because the
    /// share of thinking is told late and must then leave `output`.
    pub(super) fn merge(&mut self, later: Self) {
        self.input_tokens = self.input_tokens.max(later.input_tokens);
        self.cache_read_input_tokens =
            self.cache_read_input_tokens.max(later.cache_read_input_tokens);
        self.cache_creation_input_tokens =
            self.cache_creation_input_tokens.max(later.cache_creation_input_tokens);
        self.output_tokens = self.output_tokens.max(later.output_tokens);
        if later.output_tokens_details.is_some() {
            self.output_tokens_details = later.output_tokens_details;
        }
    }

    /// In the canonical, disjoint form.
    pub(super) fn canonical(&self) -> Usage {
        let output = self.output_tokens.unwrap_or(0);
        let thinking =
            self.output_tokens_details.and_then(|details| details.thinking_tokens).unwrap_or(0);
        let reasoning = thinking.min(output);
        Usage {
            input: self.input_tokens.unwrap_or(0),
            cached_input: self.cache_read_input_tokens.unwrap_or(0),
            cache_write: self.cache_creation_input_tokens.unwrap_or(0),
            output: output - reasoning,
            reasoning,
        }
    }
}

/// `usage` as this wire writes it.
pub(super) fn usage_value(usage: &Usage) -> Value {
    let mut value = json!({
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached_input,
        "output_tokens": usage.total_output(),
    });
    if let Some(map) = value.as_object_mut().filter(|_| usage.reasoning > 0) {
        map.insert("output_tokens_details".into(), json!({"thinking_tokens": usage.reasoning}));
    }
    value
}

/// What a `stop_reason` means.
pub(super) fn finish_reason(word: &str, sequence: Option<String>) -> FinishReason {
    match word {
        "end_turn" => FinishReason::Stop,
        "stop_sequence" => FinishReason::StopSequence(sequence),
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::Refusal,
        "pause_turn" => FinishReason::Pause,
        other => FinishReason::Other(other.to_owned()),
    }
}

/// What was said so far, as far as the `stop_reason` depends on it: some wires say `stop` although
/// tools were called, and clients of this one run tools only on `tool_use`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said {
    /// A tool was called.
    pub(super) tool: bool,
    /// The model declined in words.
    pub(super) refusal: bool,
}

/// `stop_reason` and `stop_sequence` for an ending.
pub(super) fn stop_reason(finish: Option<&FinishReason>, said: Said) -> (&str, Option<&str>) {
    match finish {
        None | Some(FinishReason::Stop) if said.tool => ("tool_use", None),
        None | Some(FinishReason::Stop) if said.refusal => ("refusal", None),
        None | Some(FinishReason::Stop) => ("end_turn", None),
        Some(FinishReason::StopSequence(text)) => ("stop_sequence", text.as_deref()),
        Some(FinishReason::Length) => ("max_tokens", None),
        Some(FinishReason::ToolCalls) => ("tool_use", None),
        Some(FinishReason::ContentFilter | FinishReason::Refusal) => ("refusal", None),
        Some(FinishReason::Pause) => ("pause_turn", None),
        Some(FinishReason::Other(word)) => (word, None),
    }
}

/// An id in this wire's manner: the provider's own where it has one, else made of the request's.
pub(super) fn message_id(id: &str, request_id: &str) -> String {
    if id.starts_with("msg_") {
        return id.to_owned();
    }
    format!("msg_{}", safe_id(request_id))
}

/// An id with nothing in it but what the wire allows in ids of tools calls.
pub(super) fn safe_id(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// Arguments of a tool call as the object this wire wants; `None` where they are none. An empty
/// string means no arguments.
pub(super) fn arguments_object(arguments: &str) -> Option<Map<String, Value>> {
    if arguments.trim().is_empty() {
        return Some(Map::new());
    }
    match serde_json::from_str(arguments) {
        Ok(Value::Object(map)) => Some(map),
        Ok(Value::Null) => Some(Map::new()),
        Ok(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) | Err(_) => None,
    }
}
