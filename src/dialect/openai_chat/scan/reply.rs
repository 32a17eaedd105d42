//! Looks at a whole answer: chat completions, legacy completions, embeddings.

use serde_json::Value;

use super::super::wire::{self, settle_finish};
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
    let parse = |raw: &[u8]| serde_json::from_slice(raw).unwrap_or(Value::Null);
    let mut summary = StreamSummary {
        usage: members.usage.and_then(|raw| WireUsage::read(&parse(raw))).map(WireUsage::disjoint),
        model: members.model.and_then(text_of).unwrap_or_default().into_owned(),
        ..StreamSummary::default()
    };
    if let Some(raw) = members.choices {
        take_choices(&parse(raw), &mut summary)?;
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

fn take_choices(choices: &Value, summary: &mut StreamSummary) -> Result<(), Failure> {
    let choices = choices.as_array().map(Vec::as_slice).unwrap_or_default();
    if choices.is_empty() {
        return Err(degenerate("the answer has no choices".to_owned()));
    }
    let mut has_content = false;
    // The alternative with the lowest index so far.
    let mut first = u64::MAX;
    for (choice, position) in choices.iter().zip(0..) {
        let (is_filled, has_calls) = take_choice(choice, summary);
        has_content |= is_filled;
        summary.has_tool_calls |= has_calls;
        let index = choice.get("index").and_then(wire::count).unwrap_or(position);
        if index < first {
            first = index;
            let finish = choice.get("finish_reason").and_then(Value::as_str);
            summary.finish = settle_finish(finish.and_then(finish_reason), has_calls);
        }
    }
    match summary.finish {
        // An answer may be cut, or taken away, before it began.
        Some(FinishReason::Length | FinishReason::ContentFilter | FinishReason::Refusal) => Ok(()),
        _ if has_content => Ok(()),
        _ => Err(degenerate("the answer is empty".to_owned())),
    }
}

/// Samples one alternative; whether there is anything in it, and whether it calls tools.
fn take_choice(choice: &Value, summary: &mut StreamSummary) -> (bool, bool) {
    let Some(message) = choice.get("message").filter(|message| message.is_object()) else {
        // What completes a text may well be nothing, before a suffix for instance.
        let text = choice.get("text");
        return (take_part(text, summary) || text.is_some_and(Value::is_string), false);
    };
    let mut has_content = take_part(message.get("content"), summary);
    has_content |= take_part(message.get("refusal"), summary);
    let thinking = ["reasoning_content", "reasoning"].map(|key| message.get(key));
    has_content |= take_part(thinking.into_iter().flatten().find(|text| text.is_string()), summary);
    let mut has_calls = false;
    for key in ["tool_calls", "function_call"] {
        has_calls |= message.get(key).is_some_and(|calls| push_calls(&mut summary.text, calls));
    }
    let others = ["reasoning_details", "audio", "images"].map(|key| message.get(key));
    let has_other = others.into_iter().flatten().any(|other| match other {
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    });
    (has_content || has_calls || has_other, has_calls)
}

fn take_part(content: Option<&Value>, summary: &mut StreamSummary) -> bool {
    match content {
        Some(Value::String(text)) => {
            summary.text.push(text);
            !text.is_empty()
        }
        Some(Value::Array(parts)) => {
            push_texts(&mut summary.text, parts);
            !parts.is_empty()
        }
        _ => false,
    }
}

fn degenerate(message: String) -> Failure {
    Failure::new(FailureKind::Degenerate, message)
}
