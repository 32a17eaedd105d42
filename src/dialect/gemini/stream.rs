//! Streamed answers, read.
//!
//! The stream has no marker for its end, and older models send a finish reason with every piece:
//! what ends is therefore known only when the connection ends, and the last finish reason and the
//! last counts are the ones that stand.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::parts::{self, CallIds, Piece};
use super::wire::{self, Counts, NAME};
use super::{failure, reply};
use crate::chat::{Delta, FinishReason, Usage};
use crate::dialect::StreamDecoder;
use crate::dialect::sse::SseEvent;
use crate::failure::{Failure, FailureKind};

/// Reads one streamed answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    is_started: bool,
    is_over: bool,
    ids: CallIds,
    choices: BTreeMap<u32, Progress>,
    counts: Counts,
}

/// How far an alternative is.
#[derive(Debug, Default)]
struct Progress {
    calls: u32,
    finish: Option<FinishReason>,
}

/// Reads the JSON of an event: one object, or a list of some. Empty and `[DONE]`, which proxies
/// add, hold nothing.
pub(super) fn chunks(data: &str) -> Result<Vec<Map<String, Value>>, Failure> {
    let data = data.trim();
    if data.is_empty() || data == "[DONE]" {
        return Ok(Vec::new());
    }
    let unreadable = |problem: String| Failure::new(FailureKind::MidStream, problem);
    let value: Value = serde_json::from_str(data)
        .map_err(|error| unreadable(format!("an event of the stream is not JSON: {error}")))?;
    let items = if let Value::Array(items) = value { items } else { vec![value] };
    let mut chunks = Vec::with_capacity(items.len());
    for item in items {
        if item.get("error").is_some_and(Value::is_object) {
            return Err(failure::from_value(&item));
        }
        let Value::Object(chunk) = item else {
            return Err(unreadable("an event of the stream is no JSON object".to_owned()));
        };
        chunks.push(chunk);
    }
    Ok(chunks)
}

/// The failure of a stream that ended without a finish reason.
pub(super) fn cut() -> Failure {
    Failure::new(FailureKind::MidStream, "the stream ended without a finish reason")
}

impl StreamDecoder for Decoder {
    fn push(&mut self, event: &SseEvent<'_>, out: &mut Vec<Delta>) -> Result<(), Failure> {
        for chunk in chunks(&event.data)? {
            self.chunk(&chunk, out);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), Failure> {
        if self.is_over {
            return Ok(());
        }
        if self.choices.is_empty() || self.choices.values().any(|choice| choice.finish.is_none()) {
            return Err(cut());
        }
        self.is_over = true;
        for (choice, progress) in &self.choices {
            if let Some(reason) = progress.finish.clone() {
                out.push(Delta::Finish { choice: *choice, reason });
            }
        }
        if let Some(usage) = self.counts.usage() {
            out.push(Delta::Usage { usage });
        }
        out.push(Delta::End);
        Ok(())
    }
}

impl Decoder {
    fn chunk(&mut self, chunk: &Map<String, Value>, out: &mut Vec<Delta>) {
        if !self.is_started {
            self.is_started = true;
            self.ids = CallIds::for_answer(chunk);
            out.push(Delta::Start {
                id: wire::text(chunk, "responseId").to_owned(),
                model: wire::text(chunk, "modelVersion").to_owned(),
                created: wire::read_created(chunk),
                usage: Usage::default(),
            });
        }
        self.counts.read(chunk);
        let candidates = wire::array(chunk, "candidates");
        for (at, candidate) in candidates.iter().enumerate() {
            if let Some(candidate) = candidate.as_object() {
                self.candidate(reply::index_of(candidate, at), candidate, out);
            }
        }
        if candidates.is_empty() && reply::is_blocked(chunk) {
            self.choices.entry(0).or_default().finish = Some(FinishReason::ContentFilter);
        }
    }

    fn candidate(&mut self, choice: u32, candidate: &Map<String, Value>, out: &mut Vec<Delta>) {
        self.ids.enter(choice);
        let progress = self.choices.entry(choice).or_default();
        if let Some(turn) = wire::object(candidate, "content") {
            for part in wire::array(turn, "parts") {
                let Some(object) = part.as_object() else {
                    continue;
                };
                progress.part(choice, object, &mut self.ids, out);
            }
        }
        let tokens = reply::read_logprobs(candidate);
        if !tokens.is_empty() {
            out.push(Delta::Logprobs { choice, tokens });
        }
        if let Some(value) = wire::candidate_extras(candidate) {
            out.push(Delta::Other { choice, dialect: NAME.to_owned(), value });
        }
        let reason = wire::get(candidate, "finishReason")
            .and_then(|reason| wire::read_finish(reason, progress.calls > 0));
        if reason.is_some() {
            progress.finish = reason;
        }
    }
}

impl Progress {
    fn part(
        &mut self,
        choice: u32,
        part: &Map<String, Value>,
        ids: &mut CallIds,
        out: &mut Vec<Delta>,
    ) {
        let opaque = parts::signature(part);
        match parts::classify(part) {
            Piece::Text(text) => {
                if !text.is_empty() {
                    out.push(Delta::Text { choice, text: text.to_owned() });
                }
                out.extend(opaque.map(|opaque| Delta::TextOpaque { choice, opaque }));
            }
            Piece::Thought(text) => {
                if !text.is_empty() {
                    out.push(Delta::Reasoning { choice, text: text.to_owned() });
                }
                out.extend(opaque.map(|opaque| Delta::ReasoningOpaque { choice, opaque }));
            }
            Piece::Call(function) => {
                let call = self.calls;
                self.calls += 1;
                out.push(Delta::ToolCall {
                    choice,
                    call,
                    id: ids.name(wire::text(function, "id")),
                    name: wire::text(function, "name").to_owned(),
                    opaque,
                });
                let json = parts::arguments(function);
                out.push(Delta::ToolArguments { choice, call, json });
            }
            Piece::Inline(..) | Piece::File(..) | Piece::Other => {
                let value = Value::Object(part.clone());
                out.push(Delta::Other { choice, dialect: NAME.to_owned(), value });
            }
        }
    }
}
