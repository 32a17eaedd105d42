//! What the codec's tests share.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test that meets another variant fails")]
#![expect(clippy::too_many_lines, reason = "tables of cases")]

mod encoded;
mod failures;
mod recordings;
mod replies;
mod requests;
mod streams;

use super::*;
use crate::chat::{Choice, Delta, FinishReason, Part, Usage};
use crate::dialect::Quirks;

fn context() -> ReplyContext {
    ReplyContext {
        request_id: "req-01".into(),
        model: "route".into(),
        created: 1,
        include_usage: true,
    }
}

fn target(quirks: &Quirks) -> RequestTarget<'_> {
    RequestTarget { model: "claude-x", label: "anthropic/claude-x", quirks, output_tokens: None }
}

/// Splits a stream into its frames.
fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some(len) = sse::frame_len(bytes) {
        frames.push(&bytes[..len]);
        bytes = &bytes[len..];
    }
    if !bytes.is_empty() {
        frames.push(bytes);
    }
    frames
}

/// Frames that say the text alone are read in both ways.
fn decode_stream(bytes: &[u8]) -> Result<Vec<Delta>, Failure> {
    let decoded = decode_frames(bytes, false);
    assert_eq!(decoded, decode_frames(bytes, true));
    decoded
}

fn decode_frames(bytes: &[u8], by_text: bool) -> Result<Vec<Delta>, Failure> {
    let mut decoder = Anthropic.stream_decoder();
    let mut deltas = Vec::new();
    for frame in frames(bytes) {
        if by_text && let Some((choice, text)) = decoder.text_of(frame) {
            let text = Some(text.into_owned()).filter(|text| !text.is_empty());
            deltas.extend(text.map(|text| Delta::Text { choice, text }));
        } else {
            decoder.push(&sse::parse(frame), &mut deltas)?;
        }
    }
    decoder.finish(&mut deltas)?;
    Ok(deltas)
}

fn encode_stream(deltas: &[Delta]) -> Vec<u8> {
    let mut encoder = Anthropic.stream_encoder(context());
    let mut out = Vec::new();
    for delta in deltas {
        encoder.push(delta, &mut out);
    }
    out
}

/// Joins the pieces of a stream, so that two streams cut differently compare equal.
fn whole(deltas: &[Delta]) -> Completion {
    let mut completion = Completion { extra_dialect: "anthropic".into(), ..Completion::default() };
    let mut choice = Choice::default();
    let mut signed = true;
    for delta in deltas {
        match delta.clone() {
            Delta::Start { id, model, .. } => {
                completion.id = id;
                completion.model = model;
            }
            Delta::Text { text, .. } => match choice.parts.last_mut() {
                Some(Part::Text { text: before, .. }) => before.push_str(&text),
                _ => choice.parts.push(Part::text(text)),
            },
            Delta::Refusal { text, .. } => choice.parts.push(Part::Refusal { text }),
            Delta::Reasoning { text, .. } => match choice.parts.last_mut() {
                Some(Part::Reasoning { text: before, .. }) if !signed => before.push_str(&text),
                _ => {
                    signed = false;
                    choice.parts.push(Part::Reasoning { text, opaque: None });
                }
            },
            Delta::ReasoningOpaque { opaque, .. } => match choice.parts.last_mut() {
                Some(Part::Reasoning { opaque: slot @ None, .. })
                    if opaque.kind == crate::chat::OpaqueKind::AnthropicSignature =>
                {
                    signed = true;
                    *slot = Some(opaque);
                }
                _ => {
                    signed = true;
                    choice
                        .parts
                        .push(Part::Reasoning { text: String::new(), opaque: Some(opaque) });
                }
            },
            Delta::ToolCall { id, name, opaque, .. } => {
                choice.parts.push(Part::ToolCall { id, name, arguments: String::new(), opaque });
            }
            Delta::ToolArguments { call, json, .. } => {
                let mut calls = choice.parts.iter_mut().filter_map(|part| match part {
                    Part::ToolCall { arguments, .. } => Some(arguments),
                    _ => None,
                });
                calls.nth(call as usize).expect("a call that was opened").push_str(&json);
            }
            Delta::Other { dialect, value, .. } => {
                choice.parts.push(Part::Other { dialect, value });
            }
            Delta::Finish { reason, .. } => choice.finish = Some(reason),
            Delta::Usage { usage } => completion.usage = Some(usage),
            Delta::Logprobs { .. } | Delta::TextOpaque { .. } | Delta::End => {}
        }
    }
    completion.choices = vec![choice];
    completion
}

fn plain_text(parts: &[Part]) -> String {
    parts.iter().filter_map(Part::as_text).collect()
}

/// Names, ids and arguments of the calls among `parts`; arguments as values.
fn calls(parts: &[Part]) -> Vec<(String, String, serde_json::Value)> {
    let read = |part: &Part| match part {
        Part::ToolCall { id, name, arguments, .. } => {
            let input = serde_json::from_str(arguments).unwrap_or(json!({}));
            Some((id.clone(), name.clone(), input))
        }
        _ => None,
    };
    parts.iter().filter_map(read).collect()
}
