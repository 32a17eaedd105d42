//! Looks at a whole answer: chat completions, legacy completions, embeddings.

use serde_json::Value;

use super::super::wire::settle_finish;
use super::members::{items, whole_number};
use super::*;
use crate::chat::FinishReason;

/// The members of an answer that matter.
#[derive(Debug, Default)]
struct Members<'a> {
    choices: Option<&'a [u8]>,
    usage: Option<&'a [u8]>,
    data: Option<&'a [u8]>,
    model: Option<&'a [u8]>,
}

/// The members of an alternative that matter.
#[derive(Debug, Default)]
struct Choice<'a> {
    index: Option<&'a [u8]>,
    finish_reason: Option<&'a [u8]>,
    message: Option<&'a [u8]>,
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
    let members = members_of(body).map_err(|broken| {
        let (expected, at) = (broken.expected, broken.at);
        degenerate(format!("the answer is not JSON: expected {expected} at byte {at}"))
    })?;
    if members.choices.is_none() && members.data.is_none() || has_error(body) {
        let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        if value.as_object().is_some_and(failure::is_error) {
            return Err(failure::failure_from_error_value(&value, FailureKind::Degenerate));
        }
    }
    let mut summary = StreamSummary {
        usage: members.usage.and_then(WireUsage::scan).map(WireUsage::disjoint),
        model: members.model.and_then(text_of).unwrap_or_default().into_owned(),
        ..StreamSummary::default()
    };
    if let Some(raw) = members.choices {
        take_choices(raw, &mut summary)?;
    } else if members.data.is_none_or(is_empty) {
        return Err(degenerate("the answer holds nothing".to_owned()));
    }
    Ok(summary)
}

fn members_of(body: &[u8]) -> Result<Members<'_>, Broken> {
    if body.first() != Some(&b'{') {
        return Err(Broken { at: 0, expected: "an object" });
    }
    let mut members = Members::default();
    let mut at = 1;
    while let Some((key, value)) = next_member(body, at)? {
        at = json::skip_value(body, value, 1)?;
        let raw = body.get(value..at).filter(|raw| *raw != b"null");
        match key {
            b"choices" => members.choices = raw,
            b"usage" => members.usage = raw,
            b"data" => members.data = raw,
            b"model" => members.model = raw,
            _ => {}
        }
    }
    end_of(body, at).map(|()| members)
}

/// A cheap look before a costly one.
fn has_error(body: &[u8]) -> bool {
    memchr::memmem::find(body, b"\"error\"").is_some()
}

fn take_choices(choices: &[u8], summary: &mut StreamSummary) -> Result<(), Failure> {
    let mut has_content = false;
    // The alternative with the lowest index so far.
    let mut first = None;
    for (choice, position) in items(choices).zip(0..) {
        let choice = Choice::of(choice);
        let (is_filled, has_calls) = choice.take(summary);
        has_content |= is_filled;
        summary.has_tool_calls |= has_calls;
        let index = choice.index.and_then(whole_number).unwrap_or(position);
        if first.is_none_or(|first| index < first) {
            first = Some(index);
            let finish = choice.finish_reason.and_then(text_of);
            summary.finish =
                settle_finish(finish.and_then(|finish| finish_reason(&finish)), has_calls);
        }
    }
    if first.is_none() {
        return Err(degenerate("the answer has no choices".to_owned()));
    }
    match summary.finish {
        // An answer may be cut, or taken away, before it began.
        Some(FinishReason::Length | FinishReason::ContentFilter | FinishReason::Refusal) => Ok(()),
        _ if has_content => Ok(()),
        _ => Err(degenerate("the answer is empty".to_owned())),
    }
}

// === impl Choice ===

impl<'a> Choice<'a> {
    fn of(choice: &'a [u8]) -> Self {
        let mut found = Self::default();
        for (key, value) in members(choice) {
            match key {
                b"index" => found.index = Some(value),
                b"finish_reason" => found.finish_reason = Some(value),
                b"message" => found.message = Some(value),
                b"text" => found.text = Some(value),
                _ => {}
            }
        }
        found
    }

    /// Samples the alternative; whether there is anything in it, and whether it calls tools.
    fn take(&self, summary: &mut StreamSummary) -> (bool, bool) {
        if let Some(message) = self.message.filter(|message| message.starts_with(b"{")) {
            return Message::of(message).take(summary);
        }
        let Some(text) = self.text else { return (false, false) };
        // What completes a text may well be nothing, before a suffix for instance.
        (push_text(&mut summary.text, text) || text.starts_with(b"\""), false)
    }
}

// === impl Message ===

impl<'a> Message<'a> {
    fn of(message: &'a [u8]) -> Self {
        let mut found = Self::default();
        for (key, value) in members(message) {
            match key {
                b"content" => found.content = Some(value),
                b"refusal" => found.refusal = Some(value),
                b"reasoning_content" => found.reasoning_content = Some(value),
                b"reasoning" => found.reasoning = Some(value),
                b"tool_calls" => found.tool_calls = Some(value),
                b"function_call" => found.function_call = Some(value),
                b"reasoning_details" | b"audio" | b"images" => {
                    found.has_other |=
                        matches!(value.first(), Some(b'[' | b'{')) && !is_empty(value);
                }
                _ => {}
            }
        }
        found
    }

    fn take(&self, summary: &mut StreamSummary) -> (bool, bool) {
        let text = &mut summary.text;
        // One provider sends both, with the same text.
        let thinking = [self.reasoning_content, self.reasoning].into_iter().flatten();
        let thinking = { thinking }.find(|thinking| thinking.starts_with(b"\""));
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
