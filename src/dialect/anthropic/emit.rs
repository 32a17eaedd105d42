//! A streamed answer, written.
//!
//! Blocks are opened when their first piece comes and closed when another kind follows. Tool calls
//! are blocks one after the other on this wire, while elsewhere their arguments may come mixed:
//! only the first unfinished call is written as it comes, those after it wait until it is whole.
//!
//! `message_delta` carries the reason of the end and the usage together, so the reason waits for
//! the usage, or for the end where none comes.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::super::around::Around;
use super::super::{ReplyContext, StreamEncoder, json_bytes, sse};
use super::scan::MESSAGE_STOP;
use super::wire::{NAME, Said, message_id, stop_reason, usage_value};
use super::{block, foreign};
use crate::chat::{Delta, FinishReason, Opaque, OpaqueKind, Usage};

/// Encodes one `message_start` … `message_stop` sequence.
#[derive(Debug)]
pub(super) struct MessagesEncoder {
    context: ReplyContext,
    extension: Option<Value>,
    is_started: bool,
    next_index: u64,
    open: Option<Open>,
    calls: VecDeque<Call>,
    said: Said,
    finish: Option<FinishReason>,
    start_usage: Usage,
    has_told_end: bool,
    /// An event of text, and of which block.
    around: Option<(u64, Around)>,
}

/// The kind of the block that is open, and whether its text has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    Tool,
}

/// A tool call that is not closed. The first of the queue is the open block.
#[derive(Debug)]
struct Call {
    call: u32,
    id: String,
    name: String,
    /// What could not be written yet.
    waiting: String,
    has_begun: bool,
    progress: Progress,
}

/// How far a JSON value has come.
#[derive(Debug, Default)]
struct Progress {
    depth: u32,
    in_string: bool,
    is_escaped: bool,
    is_whole: bool,
}

// === impl MessagesEncoder ===

impl StreamEncoder for MessagesEncoder {
    fn push_text(&mut self, choice: u32, text: &str, out: &mut Vec<u8>) {
        self.start("", "", out);
        // The wire has one alternative.
        if choice == 0 {
            self.text(text, out);
        }
    }

    fn push(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        if delta.is_semantic() {
            self.start("", "", out);
        }
        match delta {
            Delta::Start { id, model, usage, .. } => {
                self.start_usage = *usage;
                self.start(id, model, out);
            }
            Delta::Text { choice: 0, text } => self.text(text, out),
            Delta::Refusal { choice: 0, text } => {
                self.said.refusal = true;
                self.text(text, out);
            }
            Delta::Reasoning { choice: 0, text } => {
                self.ensure(Open::Thinking, out);
                self.delta(json!({"type": "thinking_delta", "thinking": text}), out);
            }
            Delta::ReasoningOpaque { choice: 0, opaque } => self.opaque(opaque, out),
            Delta::ToolCall { choice: 0, call, id, name, opaque } => {
                self.said.tool = true;
                if let Some(state) = foreign::block(opaque.as_ref()) {
                    self.close_all(out);
                    self.whole_block(&state, out);
                }
                self.calls.push_back(Call {
                    call: *call,
                    id: id.clone(),
                    name: name.clone(),
                    waiting: String::new(),
                    has_begun: false,
                    progress: Progress::default(),
                });
                self.advance_calls(out);
            }
            Delta::ToolArguments { choice: 0, call, json } => self.arguments(*call, json, out),
            Delta::Other { choice: 0, dialect, value } if dialect == NAME => {
                self.other(value, out);
            }
            Delta::Finish { choice: 0, reason } => {
                self.finish.get_or_insert_with(|| reason.clone());
            }
            Delta::Usage { usage } => self.tell_end(usage, out),
            Delta::End => {
                let usage = self.start_usage;
                self.tell_end(&usage, out);
                out.extend_from_slice(MESSAGE_STOP);
            }
            // Other alternatives, log probabilities and other providers' state cannot be said.
            Delta::Text { .. }
            | Delta::TextOpaque { .. }
            | Delta::Reasoning { .. }
            | Delta::ReasoningOpaque { .. }
            | Delta::Refusal { .. }
            | Delta::ToolCall { .. }
            | Delta::ToolArguments { .. }
            | Delta::Logprobs { .. }
            | Delta::Other { .. }
            | Delta::Finish { .. } => {}
        }
    }

    fn set_extension(&mut self, extension: Value) {
        self.extension = Some(extension);
    }
}

impl MessagesEncoder {
    pub(super) fn new(context: ReplyContext) -> Self {
        Self {
            context,
            extension: None,
            is_started: false,
            next_index: 0,
            open: None,
            calls: VecDeque::new(),
            said: Said::default(),
            finish: None,
            start_usage: Usage::default(),
            has_told_end: false,
            around: None,
        }
    }

    fn start(&mut self, id: &str, model: &str, out: &mut Vec<u8>) {
        if self.is_started {
            return;
        }
        self.is_started = true;
        let model = if model.is_empty() { &self.context.model } else { model };
        let message = json!({
            "id": message_id(id, &self.context.request_id),
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage_value(&self.start_usage),
        });
        write(out, "message_start", json!({"message": message}));
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        self.ensure(Open::Text, out);
        let index = self.next_index;
        if let Some((_, around)) = self.around.as_ref().filter(|(of, _)| *of == index) {
            around.write(text, out);
            return;
        }
        let mut empty = Vec::new();
        self.delta(json!({"type": "text_delta", "text": ""}), &mut empty);
        self.around = Around::of(&empty, "\"text\"").map(|around| (index, around));
        self.delta(json!({"type": "text_delta", "text": text}), out);
    }

    fn opaque(&mut self, opaque: &Opaque, out: &mut Vec<u8>) {
        match opaque.kind {
            OpaqueKind::AnthropicSignature => {
                self.ensure(Open::Thinking, out);
                self.delta(json!({"type": "signature_delta", "signature": opaque.value}), out);
                self.close(out);
            }
            OpaqueKind::AnthropicRedacted => {
                self.close_all(out);
                if let Some(value) = block::thinking("", Some(opaque)) {
                    self.whole_block(&value, out);
                }
            }
            OpaqueKind::GeminiSignature | OpaqueKind::ReasoningDetail => {}
        }
    }

    fn arguments(&mut self, call: u32, json: &str, out: &mut Vec<u8>) {
        if let Some(waiting) = self.calls.iter_mut().find(|waiting| waiting.call == call) {
            // What no client could take is not kept for it either.
            if waiting.waiting.len() < sse::MAX_FRAME_BYTES {
                waiting.waiting.push_str(json);
            }
            waiting.progress.push(json);
            self.advance_calls(out);
        }
    }

    /// Writes what the first call of the queue has, and goes on to the next where it is whole.
    fn advance_calls(&mut self, out: &mut Vec<u8>) {
        loop {
            if self.open != Some(Open::Tool) {
                self.close(out);
                let Some(first) = self.calls.front() else {
                    return;
                };
                let value = block::tool_use(&first.id, &first.name, Map::new());
                self.open_block(Open::Tool, &value, out);
                // The wire's own first piece is empty; some clients wait for it.
                self.delta(json!({"type": "input_json_delta", "partial_json": ""}), out);
            }
            let Some(first) = self.calls.front_mut() else {
                return;
            };
            // Some models write `null` for no arguments; this wire knows objects only.
            first.has_begun |= first.waiting.trim_start().starts_with('{');
            let is_whole = first.progress.is_whole;
            if first.has_begun && !first.waiting.is_empty() {
                let piece = std::mem::take(&mut first.waiting);
                self.delta(json!({"type": "input_json_delta", "partial_json": piece}), out);
            }
            if !is_whole || self.calls.len() == 1 {
                return;
            }
            self.calls.pop_front();
            self.close(out);
        }
    }

    fn other(&mut self, value: &Value, out: &mut Vec<u8>) {
        if block::citation_of(value).is_some() {
            self.ensure(Open::Text, out);
            self.delta(value.clone(), out);
            return;
        }
        self.close_all(out);
        self.whole_block(value, out);
    }

    /// A block that comes in one piece. The input of a server's tool comes as pieces on the wire,
    /// and clients build it from those.
    fn whole_block(&mut self, value: &Value, out: &mut Vec<u8>) {
        let mut value = value.clone();
        let is_call = value
            .get("type")
            .and_then(Value::as_str)
            .is_some_and(|kind| matches!(kind, "server_tool_use" | "mcp_tool_use"));
        let input = value
            .get_mut("input")
            .filter(|_| is_call)
            .map(|input| std::mem::replace(input, Value::Object(Map::new())));
        self.open_block(Open::Text, &value, out);
        if let Some(input) = input {
            let json = input.to_string();
            self.delta(json!({"type": "input_json_delta", "partial_json": json}), out);
        }
        self.close(out);
    }

    /// Makes sure that a block of text or thinking is open.
    fn ensure(&mut self, kind: Open, out: &mut Vec<u8>) {
        if self.open == Some(kind) {
            return;
        }
        self.close_all(out);
        let value = match kind {
            Open::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Open::Text | Open::Tool => json!({"type": "text", "text": ""}),
        };
        self.open_block(kind, &value, out);
    }

    fn open_block(&mut self, kind: Open, value: &Value, out: &mut Vec<u8>) {
        self.start("", "", out);
        self.open = Some(kind);
        let index = self.next_index;
        write(out, "content_block_start", json!({"index": index, "content_block": value}));
    }

    fn delta(&self, delta: Value, out: &mut Vec<u8>) {
        write(out, "content_block_delta", json!({"index": self.next_index, "delta": delta}));
    }

    /// Closes the open block.
    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            write(out, "content_block_stop", json!({"index": self.next_index}));
            self.next_index += 1;
        }
    }

    /// Closes the open block, and writes all calls that still wait.
    fn close_all(&mut self, out: &mut Vec<u8>) {
        while self.open == Some(Open::Tool) {
            self.calls.pop_front();
            self.close(out);
            if !self.calls.is_empty() {
                self.advance_calls(out);
            }
        }
        self.close(out);
    }

    fn tell_end(&mut self, usage: &Usage, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_told_end, true) {
            return;
        }
        self.start("", "", out);
        self.close_all(out);
        let (reason, sequence) = stop_reason(self.finish.as_ref(), self.said);
        let mut event = json!({
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": usage_value(usage),
        });
        if let (Some(map), Some(extension)) = (event.as_object_mut(), self.extension.take()) {
            map.insert("tidegate".into(), extension);
        }
        write(out, "message_delta", event);
    }
}

// === impl Progress ===

impl Progress {
    fn push(&mut self, json: &str) {
        for byte in json.bytes() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.is_whole |= self.depth == 0;
                }
                _ => {}
            }
        }
    }
}

/// Appends an event; its data begins with its type, as the provider's own does.
fn write(out: &mut Vec<u8>, name: &str, fields: Value) {
    let mut data = Map::new();
    data.insert("type".into(), name.into());
    if let Value::Object(fields) = fields {
        data.extend(fields);
    }
    sse::write(out, name, &json_bytes(&data));
}
