//! Looks at a whole answer: chat completions, legacy completions, embeddings.

use serde_json::Value;

use super::super::wire::settle_finish;
use super::members::{walk_array, walk_object, whole_number};
use super::*;
use crate::chat::FinishReason;

/// What an answer holds.
#[derive(Debug, Default)]
struct Reply {
    summary: StreamSummary,
    /// Whether it has a list of alternatives, or what is in its place.
    has_choices: bool,
    /// The lowest index of an alternative.
    first: Option<u64>,
    /// Whether there is anything in any alternative.
    has_content: bool,
    /// Whether it has a list of vectors, and whether there is anything in it.
    data: Option<bool>,
    has_error: bool,
}

/// The members of an alternative that matter.
#[derive(Debug, Default)]
struct Choice<'a> {
    index: Option<&'a [u8]>,
    finish_reason: Option<&'a [u8]>,
    message: Option<Message<'a>>,
    text: Option<&'a [u8]>,
}

/// The members of a message that matter.
#[derive(Debug, Default)]
struct Message<'a> {
    content: Option<&'a [u8]>,
    refusal: Option<&'a [u8]>,
    reasoning_content: Option<&'a [u8]>,
    reasoning: Option<&'a [u8]>,
    tool_calls: Option<&'a [u8]>,
    function_call: Option<&'a [u8]>,
    /// Whether there is content of a kind that is not sampled.
    has_other: bool,
}

/// Looks at the body of an answer with HTTP 200.
///
/// # Errors
///
/// An error inside the 200 by what it says; [`FailureKind::Degenerate`] where the body cannot be
/// read or holds no answer.
pub(in super::super) fn scan_reply(body: &[u8]) -> Result<StreamSummary, Failure> {
    let body = body.trim_ascii();
    let reply = Reply::read(body).map_err(|broken| {
        let (expected, at) = (broken.expected, broken.at);
        degenerate(format!("the answer is not JSON: expected {expected} at byte {at}"))
    })?;
    if !reply.has_choices && reply.data.is_none() || reply.has_error {
        let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        if value.as_object().is_some_and(failure::is_error) {
            return Err(failure::failure_from_error_value(&value, FailureKind::Degenerate));
        }
    }
    reply.judge()
}

// === impl Reply ===

impl Reply {
    fn read(body: &[u8]) -> Result<Self, Broken> {
        if body.first() != Some(&b'{') {
            return Err(Broken { at: 0, expected: "an object" });
        }
        let mut reply = Self::default();
        let end = walk_object(body, 0, |key, at| {
            if key == b"choices" && body.get(at) == Some(&b'[') {
                return reply.take_choices(body, at);
            }
            let end = json::skip_value(body, at, 1)?;
            let raw = body.get(at..end).filter(|raw| *raw != b"null");
            match (key, raw) {
                (b"choices", Some(_)) => reply.has_choices = true,
                (b"usage", Some(raw)) => {
                    reply.summary.usage = WireUsage::scan(raw).map(WireUsage::disjoint);
                }
                (b"data", Some(raw)) => reply.data = Some(!is_empty(raw)),
                (b"model", Some(raw)) => {
                    reply.summary.model = text_of(raw).unwrap_or_default().into_owned();
                }
                (b"error", Some(_)) => reply.has_error = true,
                _ => {}
            }
            Ok(end)
        })?;
        match end == body.len() {
            true => Ok(reply),
            false => Err(Broken { at: end, expected: "nothing after the object" }),
        }
    }

    fn take_choices(&mut self, body: &[u8], at: usize) -> Result<usize, Broken> {
        self.has_choices = true;
        let mut position = 0;
        walk_array(body, at, |at| {
            let (choice, end) = Choice::read(body, at)?;
            self.take_choice(&choice, position);
            position += 1;
            Ok(end)
        })
    }

    fn take_choice(&mut self, choice: &Choice<'_>, position: u64) {
        let (is_filled, has_calls) = choice.take(&mut self.summary);
        self.has_content |= is_filled;
        self.summary.has_tool_calls |= has_calls;
        let index = choice.index.and_then(whole_number).unwrap_or(position);
        if self.first.is_none_or(|first| index < first) {
            self.first = Some(index);
            let finish = choice.finish_reason.and_then(text_of);
            let finish = finish.and_then(|finish| finish_reason(&finish));
            self.summary.finish = settle_finish(finish, has_calls);
        }
    }

    /// Whether it is an answer.
    fn judge(self) -> Result<StreamSummary, Failure> {
        let what = match (self.has_choices, self.first, &self.summary.finish) {
            (false, ..) if self.data == Some(true) => return Ok(self.summary),
            (false, ..) => "the answer holds nothing",
            (true, None, _) => "the answer has no choices",
            // An answer may be cut, or taken away, before it began.
            (
                true,
                Some(_),
                Some(FinishReason::Length | FinishReason::ContentFilter | FinishReason::Refusal),
            ) => return Ok(self.summary),
            (true, Some(_), _) if self.has_content => return Ok(self.summary),
            (true, Some(_), _) => "the answer is empty",
        };
        Err(degenerate(what.to_owned()))
    }
}

// === impl Choice ===

impl<'a> Choice<'a> {
    /// Steps over the alternative at `at`; what it holds, and where it ends.
    fn read(body: &'a [u8], at: usize) -> Result<(Self, usize), Broken> {
        let mut found = Self::default();
        if body.get(at) != Some(&b'{') {
            return Ok((found, json::skip_value(body, at, 2)?));
        }
        let end = walk_object(body, at, |key, at| {
            if key == b"message" && body.get(at) == Some(&b'{') {
                let (message, end) = Message::read(body, at)?;
                found.message = Some(message);
                return Ok(end);
            }
            let end = json::skip_value(body, at, 3)?;
            match key {
                b"index" => found.index = body.get(at..end),
                b"finish_reason" => found.finish_reason = body.get(at..end),
                b"text" => found.text = body.get(at..end),
                _ => {}
            }
            Ok(end)
        })?;
        Ok((found, end))
    }

    /// Samples the alternative; whether there is anything in it, and whether it calls tools.
    fn take(&self, summary: &mut StreamSummary) -> (bool, bool) {
        match (&self.message, self.text) {
            (Some(message), _) => message.take(summary),
            // What completes a text may well be nothing, before a suffix for instance.
            (None, Some(text)) => {
                (push_text(&mut summary.text, text) || text.starts_with(b"\""), false)
            }
            (None, None) => (false, false),
        }
    }
}

// === impl Message ===

impl<'a> Message<'a> {
    /// Steps over the message at `at`; what it holds, and where it ends.
    fn read(body: &'a [u8], at: usize) -> Result<(Self, usize), Broken> {
        let mut found = Self::default();
        let end = walk_object(body, at, |key, at| {
            let end = json::skip_value(body, at, 4)?;
            let raw = body.get(at..end);
            match key {
                b"content" => found.content = raw,
                b"refusal" => found.refusal = raw,
                b"reasoning_content" => found.reasoning_content = raw,
                b"reasoning" => found.reasoning = raw,
                b"tool_calls" => found.tool_calls = raw,
                b"function_call" => found.function_call = raw,
                b"reasoning_details" | b"audio" | b"images" => {
                    let is_filled =
                        |raw: &[u8]| matches!(raw.first(), Some(b'[' | b'{')) && !is_empty(raw);
                    found.has_other |= raw.is_some_and(is_filled);
                }
                _ => {}
            }
            Ok(end)
        })?;
        Ok((found, end))
    }

    fn take(&self, summary: &mut StreamSummary) -> (bool, bool) {
        let text = &mut summary.text;
        // One provider sends both, with the same text.
        let mut thinking = [self.reasoning_content, self.reasoning].into_iter().flatten();
        let thinking = thinking.find(|thinking| thinking.starts_with(b"\""));
        let mut has_content = false;
        for part in [self.content, self.refusal, thinking].into_iter().flatten() {
            has_content |= push_text(text, part);
        }
        let mut has_calls = false;
        for calls in [self.tool_calls, self.function_call].into_iter().flatten() {
            has_calls |= push_calls(text, calls);
        }
        (has_content || has_calls || self.has_other, has_calls)
    }
}

fn degenerate(message: String) -> Failure {
    Failure::new(FailureKind::Degenerate, message)
}
