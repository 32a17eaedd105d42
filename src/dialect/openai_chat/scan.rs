//! Looks at chat completion chunks, and at legacy text completions, as they pass.
//!
//! A scanner steps over the JSON of a frame without building anything and stops only at what
//! counts. The frames of one stream begin alike (id, model, time), so it remembers how the last one
//! began, up to the value of `choices`, and where the next one begins with the same bytes it starts
//! there: the same bytes lead to the same place.

use std::borrow::Cow;

use serde_json::Value;

use super::failure;
use crate::chat::{FinishReason, Usage};
use crate::dialect::envelope::json::{self, Broken};
use crate::dialect::{FrameKind, Scanner, StreamSummary, TextSample, keep_finish, sse};
use crate::failure::{Failure, FailureKind};

#[cfg(test)]
mod tests;

mod reply;

pub(super) use reply::scan_reply;

/// Looks at the frames of one stream.
#[derive(Debug, Default)]
pub(super) struct ChatScanner {
    summary: StreamSummary,
    is_done: bool,
    choices: Choices,
    /// How the last frame's data began, up to the value of `choices`, with nothing in it that
    /// counts.
    opening: Vec<u8>,
}

/// Which alternatives came up, and which of them ended. The API allows 128; what lies beyond is
/// counted as the last.
#[derive(Debug, Default)]
struct Choices {
    seen: u128,
    finished: u128,
}

/// What one frame holds.
#[derive(Debug, Default)]
struct Found {
    has_choices: bool,
    has_content: bool,
    has_usage: bool,
    has_error: bool,
}

// === impl ChatScanner ===

impl Scanner for ChatScanner {
    fn scan(&mut self, frame: &[u8]) -> Result<FrameKind, Failure> {
        // Nearly every frame is one line of data; all others are read by the book.
        if let Some(data) = frame.strip_prefix(b"data: ") {
            let end = memchr::memchr2(b'\n', b'\r', data).unwrap_or(data.len());
            if let (Some(line), Some(rest)) = (data.get(..end), data.get(end..))
                && rest.iter().all(|byte| matches!(byte, b'\n' | b'\r'))
            {
                return self.scan_data(line, false);
            }
        }
        if let Some(error) = error_field(frame) {
            return Err(failure_of(error));
        }
        let event = sse::parse(frame);
        self.scan_data(event.data.as_bytes(), event.name == "error")
    }

    fn is_complete(&self) -> bool {
        self.is_done || (self.choices.seen != 0 && self.choices.seen == self.choices.finished)
    }

    fn saw_terminal(&self) -> bool {
        self.is_done
    }

    fn summary(&self) -> &StreamSummary {
        &self.summary
    }
}

impl ChatScanner {
    fn scan_data(&mut self, data: &[u8], is_error: bool) -> Result<FrameKind, Failure> {
        let data = data.trim_ascii();
        if is_error {
            return Err(failure_of(data));
        }
        if data.is_empty() {
            return Ok(FrameKind::Preamble);
        }
        if data == b"[DONE]" {
            self.is_done = true;
            return Ok(FrameKind::Terminal);
        }
        if data.first() != Some(&b'{') {
            return Err(unreadable("it is no JSON object"));
        }
        let found = self.walk(data).map_err(|broken| unreadable(broken.expected))?;
        if found.has_error || (!found.has_choices && !found.has_usage && is_flat_error(data)) {
            return Err(failure_of(data));
        }
        Ok(match found {
            Found { has_content: true, .. } => FrameKind::Semantic,
            Found { has_choices: false, has_usage: true, .. } => FrameKind::UsageOnly,
            _ => FrameKind::Preamble,
        })
    }

    /// Steps over the members of the event.
    fn walk(&mut self, data: &[u8]) -> Result<Found, Broken> {
        let mut found = Found::default();
        let mut at = 1;
        let mut known = !self.opening.is_empty() && data.starts_with(&self.opening);
        loop {
            let (key, value): (&[u8], usize) = if std::mem::take(&mut known) {
                (b"choices", self.opening.len())
            } else {
                let Some(member) = next_member(data, at)? else {
                    return end_of(data, at).map(|()| found);
                };
                member
            };
            at = match key {
                b"choices" => {
                    if !found.has_usage && !found.has_error && !found.has_choices {
                        self.remember(data, value);
                    }
                    self.walk_choices(data, value, &mut found)?
                }
                b"usage" => self.take_usage(data, value, &mut found)?,
                b"error" => {
                    let end = json::skip_value(data, value, 1)?;
                    found.has_error |= data.get(value..end) != Some(b"null");
                    end
                }
                _ => json::skip_value(data, value, 1)?,
            };
        }
    }

    fn remember(&mut self, data: &[u8], choices: usize) {
        let opening = data.get(..choices).unwrap_or_default();
        if self.opening != opening {
            self.opening.clear();
            self.opening.extend_from_slice(opening);
        }
    }

    fn take_usage(
        &mut self,
        data: &[u8],
        value: usize,
        found: &mut Found,
    ) -> Result<usize, Broken> {
        let end = json::skip_value(data, value, 1)?;
        let raw = data.get(value..end).unwrap_or_default();
        if raw != b"null"
            && let Some(usage) = serde_json::from_slice(raw).ok().as_ref().and_then(usage_of)
        {
            found.has_usage = true;
            keep_usage(&mut self.summary.usage, usage);
        }
        Ok(end)
    }

    fn walk_choices(
        &mut self,
        data: &[u8],
        value: usize,
        found: &mut Found,
    ) -> Result<usize, Broken> {
        if data.get(value) != Some(&b'[') {
            return json::skip_value(data, value, 1);
        }
        let mut at = json::skip_space(data, value + 1);
        if data.get(at) == Some(&b']') {
            return Ok(at + 1);
        }
        loop {
            found.has_choices = true;
            at = self.walk_choice(data, at, found)?;
            at = json::skip_space(data, at);
            match data.get(at) {
                Some(b',') => at = json::skip_space(data, at + 1),
                Some(b']') => return Ok(at + 1),
                _ => return Err(Broken { at, expected: "`,` or `]`" }),
            }
        }
    }

    fn walk_choice(
        &mut self,
        data: &[u8],
        start: usize,
        found: &mut Found,
    ) -> Result<usize, Broken> {
        if data.get(start) != Some(&b'{') {
            return json::skip_value(data, start, 2);
        }
        let mut at = start + 1;
        let mut choice = 0;
        let mut finish = None;
        let (mut message, mut text) = (None, None);
        let mut has_delta = false;
        while let Some((key, value)) = next_member(data, at)? {
            at = match key {
                b"delta" if data.get(value) == Some(&b'{') => {
                    has_delta = true;
                    self.walk_delta(data, value, found)?
                }
                _ => json::skip_value(data, value, 3)?,
            };
            let raw = data.get(value..at).unwrap_or_default();
            match key {
                b"index" => choice = index_of(raw),
                b"finish_reason" => finish = text_of(raw).filter(|word| !word.is_empty()),
                b"message" if raw.first() == Some(&b'{') => message = Some(value),
                b"text" => text = Some(value),
                _ => {}
            }
        }
        // Some providers repeat the delta in `message` or `text`; only without one it counts.
        match (message, text) {
            _ if has_delta => {}
            (Some(message), _) => {
                self.walk_delta(data, message, found)?;
            }
            (None, Some(text)) => found.has_content |= self.take_text(data, text)?,
            (None, None) => {}
        }
        self.choices.seen |= 1 << choice;
        if let Some(word) = finish {
            self.choices.finished |= 1 << choice;
            found.has_content = true;
            keep_finish(&mut self.summary.finish, finish_reason(&word));
        }
        Ok(json::skip_space(data, at) + 1)
    }

    fn walk_delta(
        &mut self,
        data: &[u8],
        start: usize,
        found: &mut Found,
    ) -> Result<usize, Broken> {
        let mut at = start + 1;
        let mut thinking = None;
        while let Some((key, value)) = next_member(data, at)? {
            at = json::skip_value(data, value, 3)?;
            if !matches!(data.get(value), Some(b'"' | b'[' | b'{')) {
                continue;
            }
            match key {
                b"content" | b"refusal" => found.has_content |= self.take_text(data, value)?,
                // One provider sends both, with the same text.
                b"reasoning_content" | b"reasoning" => {
                    let is_blank = matches!(data.get(value..at), Some(b"\"\"" | b"[]"));
                    thinking = thinking.or(Some(value).filter(|_| !is_blank));
                }
                b"tool_calls" | b"function_call" => {
                    if self.take_calls(data.get(value..at).unwrap_or_default()) {
                        self.summary.has_tool_calls = true;
                        found.has_content = true;
                    }
                }
                b"reasoning_details" | b"audio" | b"images" => {
                    found.has_content |= !is_empty(data.get(value..at).unwrap_or_default());
                }
                _ => {}
            }
        }
        if let Some(value) = thinking {
            found.has_content |= self.take_text(data, value)?;
        }
        Ok(json::skip_space(data, at) + 1)
    }

    /// Samples a text, or a list of parts with texts in them; whether there was any.
    fn take_text(&mut self, data: &[u8], start: usize) -> Result<bool, Broken> {
        let end = json::skip_value(data, start, 3)?;
        let raw = data.get(start..end).unwrap_or_default();
        match raw.first() {
            Some(b'"') => {
                let text = text_of(raw).unwrap_or_default();
                self.summary.text.push(&text);
                Ok(!text.is_empty())
            }
            Some(b'[') => {
                let parts: Vec<Value> = serde_json::from_slice(raw).unwrap_or_default();
                push_texts(&mut self.summary.text, &parts);
                Ok(!is_empty(raw))
            }
            _ => Ok(false),
        }
    }

    /// Samples the arguments of tool calls; whether there was any call.
    fn take_calls(&mut self, raw: &[u8]) -> bool {
        let calls = serde_json::from_slice(raw).unwrap_or(Value::Null);
        push_calls(&mut self.summary.text, &calls)
    }
}

/// The key and the position of the value of the object's next member; `None` at its end. `at` is
/// behind the opening brace or the last value.
fn next_member(data: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, Broken> {
    let is_first = data.get(at.wrapping_sub(1)) == Some(&b'{');
    let mut at = json::skip_space(data, at);
    match data.get(at) {
        Some(b'}') => return Ok(None),
        Some(b',') if !is_first => at = json::skip_space(data, at + 1),
        Some(b'"') if is_first => {}
        _ => return Err(Broken { at, expected: "`,` or `}`" }),
    }
    if data.get(at) != Some(&b'"') {
        return Err(Broken { at, expected: "a key in quotes" });
    }
    let end = json::skip_string(data, at)?.end;
    let value = json::skip_colon(data, end)?;
    Ok(Some((data.get(at + 1..end - 1).unwrap_or_default(), value)))
}

/// Demands that nothing follows the object whose closing brace is next.
fn end_of(data: &[u8], at: usize) -> Result<(), Broken> {
    let end = json::skip_space(data, at) + 1;
    match end == data.len() {
        true => Ok(()),
        false => Err(Broken { at: end, expected: "nothing after the object" }),
    }
}

/// The value of a field called `error`, which is no field of the format but is sent nevertheless.
fn error_field(frame: &[u8]) -> Option<&[u8]> {
    let mut lines = frame.split(|byte| matches!(byte, b'\n' | b'\r'));
    lines.find_map(|line| line.strip_prefix(b"error:"))
}

fn failure_of(data: &[u8]) -> Failure {
    match serde_json::from_slice::<Value>(data) {
        Ok(value) => failure::failure_from_error_value(&value, FailureKind::MidStream),
        Err(_) => Failure::new(FailureKind::MidStream, String::from_utf8_lossy(data)),
    }
}

fn unreadable(why: &str) -> Failure {
    let message = format!("the provider sent an event that cannot be read: expected {why}");
    Failure::new(FailureKind::MidStream, message)
}

fn is_flat_error(data: &[u8]) -> bool {
    serde_json::from_slice(data).is_ok_and(|object| failure::is_error(&object))
}

/// A provider repeats usage whole, and mostly growing; the fuller one counts.
fn keep_usage(kept: &mut Option<Usage>, next: Usage) {
    if kept.is_none_or(|kept| next.total() >= kept.total()) {
        *kept = Some(next);
    }
}

/// Reads a `usage` object. `None` where no counter is there.
pub(super) fn usage_of(usage: &Value) -> Option<Usage> {
    let count = |keys: [&str; 2]| keys.iter().find_map(|key| number(usage.get(*key)));
    let detail =
        |of: [&str; 2], key: &str| of.iter().find_map(|of| number(usage.get(*of)?.get(key)));
    let prompts = ["prompt_tokens_details", "input_tokens_details"];
    let completions = ["completion_tokens_details", "output_tokens_details"];
    let prompt = count(["prompt_tokens", "input_tokens"]);
    let completion = count(["completion_tokens", "output_tokens"]);
    let total = number(usage.get("total_tokens"));
    if prompt.or(completion).or(total).is_none() {
        return None;
    }
    let prompt =
        prompt.unwrap_or_else(|| total.unwrap_or(0).saturating_sub(completion.unwrap_or(0)));
    let completion = completion.unwrap_or(0);
    let cached = detail(prompts, "cached_tokens")
        .or_else(|| count(["prompt_cache_hit_tokens", "cached_tokens"]))
        .unwrap_or(0)
        .min(prompt);
    let written = detail(prompts, "cache_write_tokens").unwrap_or(0).min(prompt - cached);
    let reasoning = detail(completions, "reasoning_tokens").unwrap_or(0);
    // One provider counts thinking beside the completion, which shows in the sum.
    let sum = prompt.saturating_add(completion).saturating_add(reasoning);
    let is_beside = total.is_some_and(|total| total >= sum);
    let reasoning = if is_beside { reasoning } else { reasoning.min(completion) };
    Some(Usage {
        input: prompt - cached - written,
        cached_input: cached,
        cache_write: written,
        output: if is_beside { completion } else { completion - reasoning },
        reasoning,
    })
}

/// A count; some providers write it as a float.
fn number(value: Option<&Value>) -> Option<u64> {
    let value = value?;
    // The cast saturates and takes NaN for 0.
    value.as_u64().or_else(|| value.as_f64().map(|float| float as u64))
}

/// What a finish reason means. Providers have words of their own for the common ones.
pub(super) fn finish_reason(word: &str) -> FinishReason {
    match word {
        "stop" | "eos" | "eos_token" | "end_turn" => FinishReason::Stop,
        "stop_sequence" => FinishReason::StopSequence(None),
        "length" | "max_tokens" | "model_length" => FinishReason::Length,
        "tool_calls" | "tool_call" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        "refusal" => FinishReason::Refusal,
        other => FinishReason::Other(other.to_owned()),
    }
}

fn index_of(raw: &[u8]) -> u32 {
    let index = std::str::from_utf8(raw).ok().and_then(|text| text.parse::<u32>().ok());
    index.unwrap_or(0).min(u128::BITS - 1)
}

/// The text of a JSON string. Where it is not text (a lone surrogate), as it is written.
fn text_of(raw: &[u8]) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_some()
        && let Ok(text) = serde_json::from_slice::<String>(raw)
    {
        return Some(Cow::Owned(text));
    }
    Some(String::from_utf8_lossy(inner))
}

/// Whether an array or object has nothing in it.
fn is_empty(raw: &[u8]) -> bool {
    matches!(raw.get(json::skip_space(raw, 1)), Some(b']' | b'}'))
}

/// Samples the texts in a list of parts; Mistral nests thinking one level deeper.
fn push_texts(sample: &mut TextSample, parts: &[Value]) {
    for part in parts {
        match part {
            Value::String(text) => sample.push(text),
            other => {
                if let Some(text) = other.get("text").and_then(Value::as_str) {
                    sample.push(text);
                }
                for inner in other.get("thinking").and_then(Value::as_array).into_iter().flatten() {
                    if let Some(text) = inner.get("text").and_then(Value::as_str) {
                        sample.push(text);
                    }
                }
            }
        }
    }
}

/// Samples the arguments of tool calls, or of one legacy function call; whether there was any.
fn push_calls(sample: &mut TextSample, calls: &Value) -> bool {
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
        Value::Object(call) => {
            push(Some(calls));
            !call.is_empty()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
