//! How a client takes in a streamed answer: the first token, and the end.

use bytes::Bytes;
use serde_json::Value;

use super::record::Ending;
use crate::dialect::sse::{FrameBuffer, frames, parse};

/// Reads a stream's events as they come.
#[derive(Debug)]
pub(super) struct Listener {
    frames: FrameBuffer,
    heard_token: bool,
    last: Last,
    broken: bool,
}

/// What the last event was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Terminal,
    Error,
    Other,
}

// === impl Listener ===

impl Listener {
    pub(super) fn new() -> Self {
        Self { frames: FrameBuffer::new(), heard_token: false, last: Last::Other, broken: false }
    }

    /// Takes bytes in and says whether the first token was among them.
    pub(super) fn hear(&mut self, chunk: Bytes) -> bool {
        let Ok(whole) = self.frames.push(chunk) else {
            self.broken = true;
            return false;
        };
        let before = self.heard_token;
        for frame in frames(&whole) {
            let event = parse(frame);
            if !event.data.is_empty() {
                self.event(event.name, &event.data);
            }
        }
        self.heard_token && !before
    }

    fn event(&mut self, name: &str, data: &str) {
        // After an end nothing may come.
        self.broken |= self.last != Last::Other;
        self.last = if data == "[DONE]" || name == "message_stop" {
            Last::Terminal
        } else if name == "error" || data.contains("\"error\"") && has_error(data) {
            Last::Error
        } else {
            Last::Other
        };
        self.heard_token = self.heard_token || self.last == Last::Other && has_token(data);
    }

    /// How the stream ended, now that its body has.
    pub(super) fn ending(&self) -> Ending {
        match self.last {
            Last::Terminal if !self.broken => Ending::Complete,
            Last::Error if !self.broken => Ending::Cut,
            Last::Terminal | Last::Error | Last::Other => Ending::Silent,
        }
    }
}

fn has_error(data: &str) -> bool {
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    data.get("error").is_some_and(Value::is_object)
}

/// Whether an event carries something of the answer: text, thinking, a call.
fn has_token(data: &str) -> bool {
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    let says = |value: Option<&Value>| match value {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(calls)) => !calls.is_empty(),
        _ => false,
    };
    let of = |delta: &Value, keys: &[&str]| keys.iter().any(|key| says(delta.get(key)));
    match data.get("choices").and_then(Value::as_array) {
        Some(choices) => choices.iter().filter_map(|choice| choice.get("delta")).any(|delta| {
            of(delta, &["content", "reasoning_content", "reasoning", "refusal", "tool_calls"])
        }),
        None => {
            let delta = data.get("delta");
            delta.is_some_and(|delta| of(delta, &["text", "thinking", "partial_json"]))
        }
    }
}
