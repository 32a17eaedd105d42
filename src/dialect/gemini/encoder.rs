//! Streamed answers, written.
//!
//! As Gemini sends them: pieces of text as they come, function calls whole, and the finish reason
//! together with the counts in the last event. Calls are therefore held back until something else
//! follows in their alternative.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::parts;
use super::reply;
use super::wire::{self, NAME};
use crate::chat::{Delta, FinishReason, Opaque, Usage};
use crate::dialect::{ReplyContext, StreamEncoder, json_bytes};

/// Writes one streamed answer.
#[derive(Debug)]
pub(super) struct Encoder {
    context: ReplyContext,
    id: String,
    model: String,
    created: u64,
    choices: BTreeMap<u32, Pending>,
    usage: Option<Usage>,
}

/// What of an alternative is held back.
#[derive(Debug, Default)]
struct Pending {
    calls: BTreeMap<u32, Call>,
    finish: Option<FinishReason>,
    message: Option<String>,
}

#[derive(Debug)]
struct Call {
    id: String,
    name: String,
    arguments: String,
    opaque: Option<Opaque>,
}

impl Encoder {
    /// A writer that has written nothing yet.
    pub(super) fn new(context: ReplyContext) -> Self {
        Self {
            id: String::new(),
            model: String::new(),
            created: context.created,
            context,
            choices: BTreeMap::new(),
            usage: None,
        }
    }

    /// Writes the calls of an alternative that are whole now, then one more part.
    fn part(&mut self, choice: u32, part: Value, out: &mut Vec<u8>) {
        let mut parts = self.flush(choice);
        parts.push(part);
        self.content(choice, parts, out);
    }

    fn content(&self, choice: u32, parts: Vec<Value>, out: &mut Vec<u8>) {
        let content = json!({ "parts": parts, "role": "model" });
        self.event(vec![json!({ "content": content, "index": choice })], None, out);
    }

    /// The calls of an alternative as parts; one whose arguments the wire cannot carry is named
    /// in the candidate's finish message instead.
    fn flush(&mut self, choice: u32) -> Vec<Value> {
        let Some(pending) = self.choices.get_mut(&choice) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        for call in std::mem::take(&mut pending.calls).into_values() {
            let opaque = call.opaque.as_ref();
            match parts::function_call(&call.id, &call.name, &call.arguments, opaque) {
                Some(part) => out.push(part),
                None => pending.message = Some(reply::cut_call(&call.name)),
            }
        }
        out
    }

    fn event(&self, candidates: Vec<Value>, usage: Option<&Usage>, out: &mut Vec<u8>) {
        let mut chunk = Map::new();
        chunk.insert("candidates".into(), candidates.into());
        if let Some(usage) = usage {
            chunk.insert("usageMetadata".into(), wire::write_usage(usage));
        }
        reply::envelope(&mut chunk, &self.id, &self.model, self.created, &self.context);
        frame(&Value::Object(chunk), out);
    }

    /// The last event.
    fn end(&mut self, out: &mut Vec<u8>) {
        let choices: Vec<u32> = self.choices.keys().copied().collect();
        let mut candidates = Vec::new();
        for choice in choices {
            let parts = self.flush(choice);
            let Some(pending) = self.choices.remove(&choice) else {
                continue;
            };
            let mut candidate = Map::new();
            let mut content = Map::new();
            if !parts.is_empty() {
                content.insert("parts".into(), parts.into());
            }
            content.insert("role".into(), "model".into());
            candidate.insert("content".into(), content.into());
            if let Some(reason) = &pending.finish {
                candidate.insert("finishReason".into(), wire::write_finish(reason).into());
            }
            if let Some(message) = pending.message {
                candidate.insert("finishMessage".into(), message.into());
            }
            candidate.insert("index".into(), choice.into());
            candidates.push(Value::Object(candidate));
        }
        let usage = self.usage.take();
        self.event(candidates, usage.as_ref(), out);
    }

    fn other(&mut self, choice: u32, value: &Value, out: &mut Vec<u8>) {
        match value.as_object() {
            Some(block) if wire::is_candidate_extra(block) => {
                let mut candidate = block.clone();
                candidate.insert("index".into(), choice.into());
                self.event(vec![candidate.into()], None, out);
            }
            _ => self.part(choice, value.clone(), out),
        }
    }
}

impl StreamEncoder for Encoder {
    fn push(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        match delta {
            Delta::Start { id, model, created, .. } => {
                self.id.clone_from(id);
                self.model.clone_from(model);
                self.created = if *created == 0 { self.context.created } else { *created };
            }
            Delta::Text { choice, text } | Delta::Refusal { choice, text } => {
                self.part(*choice, parts::text(text, None), out);
            }
            Delta::TextOpaque { choice, opaque } => {
                self.part(*choice, parts::text("", Some(opaque)), out);
            }
            Delta::Reasoning { choice, text } => {
                self.part(*choice, parts::thought(text, None), out);
            }
            Delta::ReasoningOpaque { choice, opaque } => {
                self.part(*choice, parts::thought("", Some(opaque)), out);
            }
            Delta::ToolCall { choice, call, id, name, opaque } => {
                let pending = self.choices.entry(*choice).or_default();
                let held = Call {
                    id: id.clone(),
                    name: name.clone(),
                    arguments: String::new(),
                    opaque: opaque.clone(),
                };
                pending.calls.insert(*call, held);
            }
            Delta::ToolArguments { choice, call, json } => {
                let pending = self.choices.get_mut(choice);
                if let Some(call) = pending.and_then(|pending| pending.calls.get_mut(call)) {
                    call.arguments.push_str(json);
                }
            }
            Delta::Logprobs { choice, tokens } => {
                let logprobs = reply::write_logprobs(tokens);
                self.event(vec![json!({ "index": choice, "logprobsResult": logprobs })], None, out);
            }
            Delta::Other { choice, dialect, value } if dialect == NAME => {
                self.other(*choice, value, out);
            }
            Delta::Other { .. } => {}
            Delta::Finish { choice, reason } => {
                self.choices.entry(*choice).or_default().finish = Some(reason.clone());
            }
            Delta::Usage { usage } => self.usage = Some(*usage),
            Delta::End => self.end(out),
        }
    }

    /// Clients of this wire are generated from its schema and refuse fields they do not know.
    fn set_extension(&mut self, _: Value) {}
}

/// One event as the API frames it: with CRLF and without a name.
pub(super) fn frame(value: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(&json_bytes(value));
    out.extend_from_slice(b"\r\n\r\n");
}
