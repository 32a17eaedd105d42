//! A streamed answer, read.
//!
//! `message_start`, then blocks that open, grow and close, then `message_delta` with the reason of
//! the end, then `message_stop`. Unknown events and blocks' unknown growth are skipped or kept
//! verbatim, because the provider adds to them without notice. Where `message_stop` is missing but
//! a reason was seen, the end is implied: Bedrock leaves it out at times.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::{Map, Value};

use super::super::mold::Mold;
use super::super::prompt::member;
use super::super::sse::{self, MAX_FRAME_BYTES, SseEvent};
use super::super::{StreamDecoder, keep_finish};
use super::event::{Event, Metrics, StartMessage, WireDelta};
use super::reply::made_tool_id;
use super::wire::{CITATION, NAME, WireUsage, finish_reason};
use crate::chat::{Delta, FinishReason, Opaque, OpaqueKind, Usage};
use crate::failure::{Failure, FailureKind};

/// How many blocks may be open at once. The wire opens one at a time; a provider that never closes
/// any is broken.
const MAX_OPEN_BLOCKS: usize = 256;

/// The event with which a block grows.
const TEXT_GROWS: &str = "content_block_delta";

/// Decodes one `message_start` … `message_stop` sequence.
#[derive(Debug, Default)]
pub(super) struct MessagesDecoder {
    id: String,
    is_started: bool,
    open: Vec<(u64, Open)>,
    calls: u32,
    usage: Option<WireUsage>,
    finish: Option<FinishReason>,
    is_begun: bool,
    is_over: bool,
    /// The last event with nothing but a piece of text.
    mold: Mold,
}

/// A block that has not closed.
#[derive(Debug)]
enum Open {
    Text,
    Thinking,
    /// `input` is what came at the opening; it counts where no piece follows.
    Tool {
        call: u32,
        input: Option<Map<String, Value>>,
    },
    /// A block of this dialect alone, kept until it is whole. `input` are pieces of JSON text.
    Other {
        block: Map<String, Value>,
        input: String,
    },
}

// === impl MessagesDecoder ===

impl StreamDecoder for MessagesDecoder {
    fn push(&mut self, event: &SseEvent<'_>, out: &mut Vec<Delta>) -> Result<(), Failure> {
        if self.is_over {
            return Ok(());
        }
        if event.name == TEXT_GROWS
            && let Some(text) = self.mold.read(event.data.trim().as_bytes())
        {
            self.is_begun |= !text.is_empty();
            push_text(text.into_owned(), out);
            return Ok(());
        }
        // A block may close, and its number may come again for one of another kind.
        self.mold.break_up();
        let from = out.len();
        if let Some(read) = Event::read(event, self.is_begun)? {
            self.on_event(read, &event.data, out)?;
        }
        let new = out.get(from..).unwrap_or_default();
        self.is_begun |= new.iter().any(Delta::is_semantic);
        if let ([Delta::Text { .. }], TEXT_GROWS) = (new, event.name) {
            let data = event.data.trim();
            if let Some(text) = text_in(data) {
                self.mold.cast(data.as_bytes(), text);
            }
        }
        Ok(())
    }

    fn text_of<'a>(&mut self, frame: &'a [u8]) -> Option<(u32, Cow<'a, str>)> {
        if self.is_over {
            return None;
        }
        let data = frame.strip_prefix(b"event: content_block_delta\n")?;
        let text = self.mold.read(sse::only_data(data)?)?;
        self.is_begun |= !text.is_empty();
        Some((0, text))
    }

    fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), Failure> {
        if self.is_over {
            return Ok(());
        }
        if self.finish.is_none() {
            let problem = "the stream ended before `message_stop`";
            return Err(Failure::new(FailureKind::MidStream, problem));
        }
        self.end(out);
        Ok(())
    }
}

impl MessagesDecoder {
    fn on_event(&mut self, event: Event, data: &str, out: &mut Vec<Delta>) -> Result<(), Failure> {
        match event.kind.as_str() {
            "message_start" => self.start(event.message.unwrap_or_default(), out),
            "content_block_start" => {
                if let Some(Value::Object(block)) = event.content_block {
                    self.open_block(event.index.unwrap_or_default(), block, out)?;
                }
            }
            "content_block_delta" => {
                let delta = event.delta.unwrap_or_default();
                self.grow_block(event.index.unwrap_or_default(), delta, data, out)?;
            }
            "content_block_stop" => {
                let index = event.index.unwrap_or_default();
                if let Some(at) = self.open.iter().position(|(open, _)| *open == index) {
                    close(self.open.remove(at).1, out);
                }
            }
            "message_delta" => {
                let delta = event.delta.unwrap_or_default();
                self.note_usage(event.usage);
                self.note_finish(delta.stop_reason, delta.stop_sequence, out);
            }
            "message_stop" => self.end(out),
            "completion" => {
                push_text(event.completion.unwrap_or_default(), out);
                self.note_usage(event.metrics.map(Metrics::usage));
                self.note_finish(event.stop_reason, event.stop, out);
            }
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, message: StartMessage, out: &mut Vec<Delta>) {
        if std::mem::replace(&mut self.is_started, true) {
            return;
        }
        self.note_usage(message.usage);
        self.id = message.id.unwrap_or_default();
        out.push(Delta::Start {
            id: self.id.clone(),
            model: message.model.unwrap_or_default(),
            created: 0,
            usage: self.usage.map_or_else(Usage::default, |usage| usage.canonical()),
        });
    }

    fn open_block(
        &mut self,
        index: u64,
        mut block: Map<String, Value>,
        out: &mut Vec<Delta>,
    ) -> Result<(), Failure> {
        if self.open.len() >= MAX_OPEN_BLOCKS {
            return Err(Failure::new(FailureKind::MidStream, "too many blocks are open at once"));
        }
        let mut text = |key: &str| match block.get_mut(key).map(Value::take) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let kind = block_kind(&text("type"));
        let open = match kind {
            BlockKind::Text => {
                push_text(text("text"), out);
                Open::Text
            }
            BlockKind::Thinking => {
                push_thinking(text("thinking"), out);
                push_opaque(OpaqueKind::AnthropicSignature, text("signature"), out);
                Open::Thinking
            }
            BlockKind::Redacted => {
                push_opaque(OpaqueKind::AnthropicRedacted, text("data"), out);
                Open::Thinking
            }
            BlockKind::Tool => {
                let call = self.calls;
                self.calls += 1;
                let id = Some(text("id")).filter(|id| !id.is_empty());
                let id = id.unwrap_or_else(|| made_tool_id(&self.id, call as usize));
                out.push(Delta::ToolCall { choice: 0, call, id, name: text("name"), opaque: None });
                let input = match block.remove("input") {
                    Some(Value::Object(input)) if !input.is_empty() => Some(input),
                    _ => None,
                };
                Open::Tool { call, input }
            }
            BlockKind::Other(word) => {
                block.insert("type".into(), word.into());
                Open::Other { block, input: String::new() }
            }
        };
        self.open.push((index, open));
        Ok(())
    }

    fn grow_block(
        &mut self,
        index: u64,
        delta: WireDelta,
        data: &str,
        out: &mut Vec<Delta>,
    ) -> Result<(), Failure> {
        let open = self.open.iter_mut().find(|(at, _)| *at == index).map(|(_, open)| open);
        match (open, delta.kind.as_deref()) {
            (Some(Open::Other { block, input }), kind) => {
                if kind == Some("input_json_delta") {
                    input.push_str(delta.partial_json.as_deref().unwrap_or_default());
                } else {
                    grow_other(block, data);
                }
                if input.len() > MAX_FRAME_BYTES {
                    let problem = "a tool's input is larger than any that is known";
                    return Err(Failure::new(FailureKind::MidStream, problem));
                }
            }
            (Some(Open::Tool { call, input }), Some("input_json_delta")) => {
                let json = delta.partial_json.unwrap_or_default();
                if !json.is_empty() {
                    *input = None;
                    out.push(Delta::ToolArguments { choice: 0, call: *call, json });
                }
            }
            (_, Some("text_delta")) => push_text(delta.text.unwrap_or_default(), out),
            (_, Some("thinking_delta")) => push_thinking(delta.thinking.unwrap_or_default(), out),
            (_, Some("signature_delta")) => {
                let signature = delta.signature.unwrap_or_default();
                push_opaque(OpaqueKind::AnthropicSignature, signature, out);
            }
            (_, Some(CITATION)) => {
                if let Some(value) = delta_value(data) {
                    out.push(Delta::Other { choice: 0, dialect: NAME.into(), value });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn note_usage(&mut self, usage: Option<WireUsage>) {
        if let Some(usage) = usage {
            self.usage.get_or_insert_default().merge(usage);
        }
    }

    fn note_finish(
        &mut self,
        word: Option<String>,
        sequence: Option<String>,
        out: &mut Vec<Delta>,
    ) {
        let Some(word) = word else {
            return;
        };
        self.close_all(out);
        if self.finish.is_none() {
            let reason = finish_reason(&word, sequence);
            out.push(Delta::Finish { choice: 0, reason: reason.clone() });
            keep_finish(&mut self.finish, reason);
        }
    }

    fn close_all(&mut self, out: &mut Vec<Delta>) {
        for (_, open) in self.open.drain(..) {
            close(open, out);
        }
    }

    fn end(&mut self, out: &mut Vec<Delta>) {
        self.close_all(out);
        if let Some(usage) = self.usage {
            out.push(Delta::Usage { usage: usage.canonical() });
        }
        out.push(Delta::End);
        self.is_over = true;
    }
}

/// What a block is to the canonical answer.
pub(super) enum BlockKind {
    Text,
    Thinking,
    Redacted,
    Tool,
    Other(String),
}

/// Tells blocks apart by their `type`.
pub(super) fn block_kind(word: &str) -> BlockKind {
    match word {
        "text" => BlockKind::Text,
        "thinking" => BlockKind::Thinking,
        "redacted_thinking" => BlockKind::Redacted,
        "tool_use" => BlockKind::Tool,
        other => BlockKind::Other(other.to_owned()),
    }
}

fn close(open: Open, out: &mut Vec<Delta>) {
    match open {
        Open::Text | Open::Thinking | Open::Tool { input: None, .. } => {}
        Open::Tool { call, input: Some(input) } => {
            let json = Value::Object(input).to_string();
            out.push(Delta::ToolArguments { choice: 0, call, json });
        }
        Open::Other { mut block, input } => {
            if !input.is_empty() {
                // Text that is no JSON (it was cut) is kept as text rather than lost.
                let value = serde_json::from_str(&input).unwrap_or_else(|_| Value::from(input));
                block.insert("input".into(), value);
            }
            let value = Value::Object(block);
            out.push(Delta::Other { choice: 0, dialect: NAME.into(), value });
        }
    }
}

/// Grows a block that only this dialect knows by whatever its delta holds: text is appended to
/// text, citations to the list of them, and what was empty is set.
fn grow_other(block: &mut Map<String, Value>, data: &str) {
    let Some(Value::Object(delta)) = delta_value(data) else {
        return;
    };
    for (key, value) in delta {
        match (block.get_mut(&key), value) {
            _ if key == "type" => {}
            (Some(Value::String(text)), Value::String(more)) => text.push_str(&more),
            (_, value) if key == "citation" => {
                let list = block.entry("citations").or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    list.push(value);
                }
            }
            (_, value) => {
                block.insert(key, value);
            }
        }
    }
}

/// Where the text that an event brings stands, in quotes.
fn text_in(data: &str) -> Option<Range<usize>> {
    let object = data.as_bytes();
    let text = member(member(object, b"delta")?, b"text").filter(|text| text.starts_with(b"\""))?;
    let start = (text.as_ptr() as usize).checked_sub(object.as_ptr() as usize)?;
    Some(start..start + text.len())
}

fn delta_value(data: &str) -> Option<Value> {
    let mut event: Value = serde_json::from_str(data).ok()?;
    event.get_mut("delta").map(Value::take)
}

fn push_text(text: String, out: &mut Vec<Delta>) {
    if !text.is_empty() {
        out.push(Delta::Text { choice: 0, text });
    }
}

fn push_thinking(text: String, out: &mut Vec<Delta>) {
    if !text.is_empty() {
        out.push(Delta::Reasoning { choice: 0, text });
    }
}

fn push_opaque(kind: OpaqueKind, value: String, out: &mut Vec<Delta>) {
    if !value.is_empty() {
        out.push(Delta::ReasoningOpaque { choice: 0, opaque: Opaque { kind, value } });
    }
}
