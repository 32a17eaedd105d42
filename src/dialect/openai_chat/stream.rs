//! Streamed answers, both ways.

mod calls;
mod encoder;
mod plain;

use std::borrow::Cow;
use std::ops::Range;

use serde_json::{Map, Value, json};

pub(super) use encoder::Encoder;

use self::calls::Calls;
use self::plain::{PlainChoice, PlainChunk};
use super::error;
use super::reply::{MadeIds, Piece, arguments, piece_of, seconds};
use super::scan::{items, member, members};
use super::state::{self, Detail};
use super::usage::WireUsage;
use super::wire;
use crate::chat::{Delta, FinishReason, OpaqueKind};
use crate::dialect::mold::Mold;
use crate::dialect::sse::{self, SseEvent};
use crate::dialect::{Dialect, Expected, StreamDecoder, StreamFinish, keep_finish};
use crate::failure::{Failure, FailureKind};

/// Fields of a delta that are kept though they are not modelled. All others are bookkeeping of
/// providers that comes on every chunk.
const KEPT: [&str; 5] = ["annotations", "audio", "images", "citations", "search_results"];

/// Fields at the top of a chunk that belong to the answer: sources, as Perplexity sends them, all
/// of them again on every chunk.
const SOURCES: [&str; 2] = ["citations", "search_results"];

/// The most alternatives the API allows.
const MAX_CHOICES: usize = 128;

/// Reads one stream.
///
/// Finish reasons are held back until the end, because some providers repeat them, send more of
/// the answer after them, or say "stop" where tools are to be called.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    ids: Option<MadeIds>,
    choices: Vec<Open>,
    usage: Option<WireUsage>,
    sources: Map<String, Value>,
    has_content: bool,
    is_done: bool,
    expected: Option<Expected>,
    /// Whether there was a field for the reason of the end at all.
    has_finish_field: bool,
    /// Whether usage came in an event of its own.
    is_counted: bool,
    /// The last event with nothing but a piece of text, and of which alternative.
    mold: Mold,
    molded: u32,
}

/// An alternative that is being read.
#[derive(Debug, Default)]
struct Open {
    index: u32,
    finish: Option<FinishReason>,
    calls: Calls,
}

// === impl Decoder ===

impl StreamDecoder for Decoder {
    fn expect(&mut self, expected: Expected) {
        self.expected = Some(expected);
    }

    fn push(&mut self, event: &SseEvent<'_>, out: &mut Vec<Delta>) -> Result<(), Failure> {
        let data = event.data.trim();
        if self.is_done || (data.is_empty() && event.name != "error") {
            return Ok(());
        }
        if data == "[DONE]" {
            if self.lacks_finish() {
                return Err(wire::no_finish());
            }
            return self.end(out);
        }
        if let Some(text) = self.mold.read(data.as_bytes()).filter(|_| event.name != "error") {
            self.has_content |= !text.is_empty();
            push_text(self.molded, &text, out);
            return Ok(());
        }
        self.mold.break_up();
        let before = out.len();
        let knew = self.known();
        match PlainChunk::read(data).filter(|_| event.name != "error") {
            Some(chunk) => self.plain_chunk(&chunk, out),
            None => self.any_chunk(data, event.name, out)?,
        }
        let new = out.get(before..).unwrap_or_default();
        self.has_content |= new.iter().any(Delta::is_semantic);
        if let [Delta::Text { choice, .. }] = new
            && knew == self.known()
            && let Some(text) = only_text_in(data)
        {
            self.molded = *choice;
            self.mold.cast(data.as_bytes(), text);
        }
        Ok(())
    }

    fn text_of<'a>(&mut self, frame: &'a [u8]) -> Option<(u32, Cow<'a, str>)> {
        if self.is_done {
            return None;
        }
        let text = self.mold.read(sse::only_data(frame)?)?;
        self.has_content |= !text.is_empty();
        Some((self.molded, text))
    }

    fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), Failure> {
        let expected = self.expected.map_or(1, |expected| expected.choices) as usize;
        let has_ended = self.choices.len() >= expected.clamp(1, MAX_CHOICES)
            && self.choices.iter().all(|choice| choice.finish.is_some());
        match (self.is_done, has_ended) {
            (true, _) => Ok(()),
            (false, true) => self.end(out),
            (false, false) => Err(Failure::new(
                FailureKind::MidStream,
                "the stream ended before the answer was complete",
            )),
        }
    }
}

impl Decoder {
    /// What an event can change besides what it tells: alternatives, how many of them have ended,
    /// usage, sources.
    fn known(&self) -> (usize, usize, Option<WireUsage>, usize) {
        let ended = self.choices.iter().filter(|choice| choice.finish.is_some()).count();
        (self.choices.len(), ended, self.usage, self.sources.len())
    }

    /// Before the first token an error is what it says; after it, it is a broken stream.
    fn broken(&self, mut failure: Failure) -> Failure {
        if self.has_content {
            failure.kind = FailureKind::MidStream;
        }
        failure
    }

    /// Whether the last marker cannot be believed: an alternative did not say why it ended,
    /// although it should have.
    fn lacks_finish(&self) -> bool {
        let is_known_to_omit = !self.has_finish_field && self.is_counted;
        self.expected.is_some_and(|expected| expected.finish == StreamFinish::Required)
            && self.choices.iter().any(|choice| choice.finish.is_none())
            && !is_known_to_omit
    }

    /// Takes an event of any fields.
    fn any_chunk(&mut self, data: &str, name: &str, out: &mut Vec<Delta>) -> Result<(), Failure> {
        let chunk = match serde_json::from_str::<Value>(data) {
            Ok(chunk @ Value::Object(_)) => chunk,
            _ if name == "error" => {
                return Err(self.broken(Failure::new(FailureKind::MidStream, data)));
            }
            Ok(_) => return Err(unreadable("it is not a JSON object")),
            Err(error) => return Err(unreadable(&error.to_string())),
        };
        if let Some(failure) = error::embedded(&chunk, FailureKind::MidStream) {
            return Err(self.broken(failure));
        }
        if name == "error" {
            let failure = super::failure::failure_from_error_value(&chunk, FailureKind::MidStream);
            return Err(self.broken(failure));
        }
        self.chunk(&chunk, out);
        Ok(())
    }

    /// Takes an event of only the usual fields, as [`Decoder::chunk`] would.
    fn plain_chunk(&mut self, chunk: &PlainChunk<'_>, out: &mut Vec<Delta>) {
        let usage = chunk.usage();
        self.is_counted |= chunk.choices.is_empty() && usage.is_some();
        if self.ids.is_none() && !chunk.choices.is_empty() {
            self.start(chunk.id, chunk.model, chunk.created, out);
        }
        if let Some(usage) = usage.and_then(WireUsage::scan) {
            self.usage.get_or_insert_default().merge(usage);
        }
        for (PlainChoice { index, delta, finish_reason, .. }, position) in
            chunk.choices.iter().zip(0..)
        {
            let index = index.unwrap_or(position);
            let Some((open, _)) = self.open(index) else { continue };
            push_text(index, delta.content.unwrap_or_default(), out);
            if let Some(reason) = finish_reason.flatten().and_then(wire::finish_reason) {
                keep_finish(&mut open.finish, reason);
            }
            self.has_finish_field |= finish_reason.is_some();
        }
    }

    fn chunk(&mut self, chunk: &Value, out: &mut Vec<Delta>) {
        let choices = chunk.get("choices").and_then(Value::as_array);
        self.is_counted |=
            choices.is_none_or(Vec::is_empty) && chunk.get("usage").is_some_and(Value::is_object);
        // Azure's first chunk has no choices and an empty id: the envelope is that of the first
        // chunk with a choice.
        if self.ids.is_none() && choices.is_some_and(|choices| !choices.is_empty()) {
            let created = chunk.get("created").map_or(0, seconds);
            self.start(wire::text(chunk, "id"), wire::text(chunk, "model"), created, out);
        }
        let own_usage = [chunk.get("usage"), chunk.get("x_groq").and_then(|own| own.get("usage"))];
        for usage in own_usage.into_iter().flatten().filter_map(WireUsage::read) {
            self.usage.get_or_insert_default().merge(usage);
        }
        for key in SOURCES {
            if let Some(value) = chunk.get(key).filter(|value| !wire::is_blank(value)) {
                self.sources.insert(key.to_owned(), value.clone());
            }
        }
        for (choice, position) in choices.into_iter().flatten().zip(0..) {
            if let Some(usage) = choice.get("usage").and_then(WireUsage::read) {
                self.usage.get_or_insert_default().merge(usage);
            }
            self.choice(choice, position, out);
        }
    }

    fn start(&mut self, id: &str, model: &str, created: u64, out: &mut Vec<Delta>) {
        self.ids = Some(MadeIds::new(id, created));
        out.push(Delta::Start {
            id: id.to_owned(),
            model: model.to_owned(),
            created,
            usage: crate::chat::Usage::default(),
        });
    }

    /// The alternative of that number, which may be a new one, and the ids for its calls. Nothing
    /// before the start.
    fn open(&mut self, index: u32) -> Option<(&mut Open, &mut MadeIds)> {
        let at = match self.choices.iter().position(|choice| choice.index == index) {
            Some(at) => at,
            None => {
                self.choices.push(Open { index, ..Open::default() });
                self.choices.len() - 1
            }
        };
        Some((self.choices.get_mut(at)?, self.ids.as_mut()?))
    }

    fn choice(&mut self, value: &Value, position: u32, out: &mut Vec<Delta>) {
        let index = value.get("index").and_then(wire::count).and_then(|n| u32::try_from(n).ok());
        let index = index.unwrap_or(position);
        let finish = value.get("finish_reason");
        self.has_finish_field |= finish.is_some();
        let Some((open, ids)) = self.open(index) else { return };
        let is_object = |key: &str| value.get(key).filter(|inner| inner.is_object());
        match is_object("delta").or_else(|| is_object("message")) {
            Some(delta) => open.delta(delta, ids, out),
            None => push_text(index, wire::text(value, "text"), out),
        }
        let tokens = wire::read_logprobs(value.get("logprobs"));
        if !tokens.is_empty() {
            out.push(Delta::Logprobs { choice: index, tokens });
        }
        if let Some(reason) = finish.and_then(Value::as_str).and_then(wire::finish_reason) {
            keep_finish(&mut open.finish, reason);
        }
    }

    /// The wire's end: what was held back, then usage, then the end.
    fn end(&mut self, out: &mut Vec<Delta>) -> Result<(), Failure> {
        if self.choices.iter().any(|choice| choice.calls.has_nameless()) {
            return Err(Failure::new(FailureKind::MidStream, "a tool call has no name"));
        }
        self.is_done = true;
        let sources = std::mem::take(&mut self.sources);
        if !sources.is_empty() {
            out.push(other(0, sources.into()));
        }
        self.choices.sort_by_key(|choice| choice.index);
        for choice in &mut self.choices {
            // A few never say why they ended; `[DONE]` then says that they did.
            let finish = choice.finish.take();
            let reason =
                wire::settle_finish(finish, !choice.calls.is_empty()).unwrap_or(FinishReason::Stop);
            out.push(Delta::Finish { choice: choice.index, reason });
        }
        if let Some(usage) = self.usage.take() {
            out.push(Delta::Usage { usage: usage.disjoint() });
        }
        out.push(Delta::End);
        Ok(())
    }
}

// === impl Open ===

impl Open {
    fn delta(&mut self, delta: &Value, ids: &mut MadeIds, out: &mut Vec<Delta>) {
        self.thinking(delta, out);
        self.content(delta.get("content").unwrap_or(&Value::Null), out);
        if let Some(opaque) = state::gemini_signature(delta) {
            out.push(Delta::TextOpaque { choice: self.index, opaque });
        }
        let refusal = wire::text(delta, "refusal");
        if !refusal.is_empty() {
            out.push(Delta::Refusal { choice: self.index, text: refusal.to_owned() });
        }
        let calls = delta.get("tool_calls").and_then(Value::as_array);
        for call in calls.into_iter().flatten().filter(|call| call.is_object()) {
            // Pieces of a custom tool's call, verbatim: its input is no JSON.
            if call.get("custom").is_some() {
                out.push(other(self.index, json!({ "tool_calls": [call] })));
            } else {
                self.calls.push(self.index, call, ids, out);
            }
        }
        if let Some(call) = delta.get("function_call").filter(|call| !wire::is_blank(call)) {
            let text = arguments(call);
            self.calls.push_legacy(self.index, wire::text(call, "name"), text, ids, out);
        }
        let kept: Map<String, Value> = KEPT
            .iter()
            .filter_map(|key| Some((*key, delta.get(*key)?)))
            .filter(|(_, value)| !wire::is_blank(value))
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .collect();
        if !kept.is_empty() {
            out.push(other(self.index, kept.into()));
        }
    }

    /// Thinking: the plain field, else the texts of the details; then the state in the details. An
    /// empty plain field says that the text of a signed detail was told before.
    fn thinking(&self, delta: &Value, out: &mut Vec<Delta>) {
        let choice = self.index;
        let plain = state::plain_thinking(delta);
        if let Some(text) = plain {
            push_reasoning(choice, text, out);
        }
        let details = delta.get("reasoning_details").and_then(Value::as_array);
        for detail in details.into_iter().flatten().filter_map(state::read_detail) {
            match detail {
                Detail::Thought(text) if plain.is_none_or(str::is_empty) => {
                    push_reasoning(choice, &text, out);
                }
                Detail::Thought(_) => {}
                Detail::Signed(text, opaque) => {
                    if plain.is_none() {
                        push_reasoning(choice, &text, out);
                    }
                    out.push(Delta::ReasoningOpaque { choice, opaque });
                }
                Detail::Hidden(opaque) => out.push(Delta::ReasoningOpaque { choice, opaque }),
                Detail::OfText(opaque) => {
                    debug_assert_eq!(opaque.kind, OpaqueKind::GeminiSignature);
                    out.push(Delta::TextOpaque { choice, opaque });
                }
            }
        }
    }

    fn content(&self, content: &Value, out: &mut Vec<Delta>) {
        match content {
            Value::String(text) => push_text(self.index, text, out),
            Value::Array(pieces) => {
                for piece in pieces {
                    match piece_of(piece) {
                        Some(Piece::Text(text)) => push_text(self.index, &text, out),
                        Some(Piece::Thought(text)) => push_reasoning(self.index, &text, out),
                        Some(Piece::Other) => out.push(other(self.index, piece.clone())),
                        None => {}
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {}
        }
    }
}

/// Where the text of an event's only alternative stands, in quotes, if nothing stands beside it.
fn only_text_in(data: &str) -> Option<Range<usize>> {
    let object = data.as_bytes();
    let choices = member(object, b"choices")?;
    let mut all = items(choices);
    let (Some(choice), None) = (all.next(), all.next()) else { return None };
    let mut text = None;
    for (key, value) in members(member(choice, b"delta")?) {
        match (key, value) {
            (b"content", value) if text.is_none() && value.starts_with(b"\"") => text = Some(value),
            (b"role", _) | (_, b"null" | b"\"\"" | b"[]") => {}
            _ => return None,
        }
    }
    let text = text?;
    let start = (text.as_ptr() as usize).checked_sub(object.as_ptr() as usize)?;
    Some(start..start + text.len())
}

fn push_text(choice: u32, text: &str, out: &mut Vec<Delta>) {
    if !text.is_empty() {
        out.push(Delta::Text { choice, text: text.to_owned() });
    }
}

fn push_reasoning(choice: u32, text: &str, out: &mut Vec<Delta>) {
    if !text.is_empty() {
        out.push(Delta::Reasoning { choice, text: text.to_owned() });
    }
}

fn other(choice: u32, value: Value) -> Delta {
    Delta::Other { choice, dialect: Dialect::OpenAiChat.as_str().to_owned(), value }
}

fn unreadable(why: &str) -> Failure {
    Failure::new(FailureKind::MidStream, format!("an event of the stream cannot be read: {why}"))
}
