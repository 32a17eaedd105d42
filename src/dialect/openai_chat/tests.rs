//! Tests of the codec: both directions of requests, answers and streams, and a sweep over the
//! recorded answers of real providers.

mod agreement;
mod golden;
mod legacy;
mod recorded;
mod replies;
mod requests;
mod state;
mod streams;
mod writing;

use serde_json::Value;

use crate::chat::{
    ChatRequest, Choice, Completion, Delta, FinishReason, Message, Opaque, OpaqueKind, Part, Role,
    Usage,
};
use crate::dialect::sse;
use crate::dialect::{Codec, Dialect, Dropped, Quirks, ReplyContext, RequestTarget};
use crate::failure::Failure;
use crate::rejection::Rejection;

fn codec() -> &'static dyn Codec {
    Dialect::OpenAiChat.codec()
}

fn context() -> ReplyContext {
    ReplyContext {
        request_id: "req1".to_owned(),
        model: "smart".to_owned(),
        created: 1_700_000_000,
        include_usage: true,
    }
}

/// Reads a stream that arrived in one piece.
fn decode_stream(bytes: &[u8]) -> Result<Vec<Delta>, Failure> {
    decode_pieces([bytes])
}

/// Reads a stream that arrived in pieces, the way the transport does: whole frames only. Frames
/// that say the text alone are read in both ways.
fn decode_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Delta>, Failure> {
    let mut buffer = Vec::new();
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(len) = sse::frame_len(&buffer) {
            frames.push(buffer.drain(..len).collect());
        }
    }
    frames.extend(Some(buffer).filter(|rest| !rest.is_empty()));
    let decoded = decode_frames(&frames, false);
    assert_eq!(decoded, decode_frames(&frames, true));
    decoded
}

fn decode_frames(frames: &[Vec<u8>], by_text: bool) -> Result<Vec<Delta>, Failure> {
    let mut decoder = codec().stream_decoder();
    let mut deltas = Vec::new();
    for frame in frames {
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

/// Writes deltas as a stream.
fn encode_stream(deltas: &[Delta]) -> Vec<u8> {
    let mut encoder = codec().stream_encoder(context());
    let mut out = Vec::new();
    for delta in deltas {
        encoder.push(delta, &mut out);
    }
    out
}

/// The JSON of each event of a stream, less `[DONE]`.
fn chunks(stream: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(stream).into_owned();
    text.split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

/// A stream of the given chunks.
fn stream_of(chunks: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in chunks {
        sse::write(&mut out, "", chunk.to_string().as_bytes());
    }
    out
}

fn with_done(chunks: &[Value]) -> Vec<u8> {
    let mut out = stream_of(chunks);
    sse::write(&mut out, "", b"[DONE]");
    out
}

/// What one alternative came to.
#[derive(Debug, Clone, Default, PartialEq)]
struct Told {
    text: String,
    thinking: String,
    refusal: String,
    /// Id, name and arguments.
    calls: Vec<(String, String, String)>,
    finish: Option<FinishReason>,
}

/// Adds a stream's deltas up, and checks their order on the way.
fn told(deltas: &[Delta]) -> (Vec<Told>, Option<Usage>) {
    let mut all: Vec<Told> = Vec::new();
    let mut usage = None;
    let mut ended = false;
    for (at, delta) in deltas.iter().enumerate() {
        assert!(!ended, "something after the end: {delta:?}");
        assert!(usage.is_none() || *delta == Delta::End, "something after usage: {delta:?}");
        match delta {
            Delta::Start { .. } => assert_eq!(at, 0, "a start that is not the first"),
            Delta::Text { choice, text } => {
                assert!(!text.is_empty());
                of(&mut all, *choice).text.push_str(text);
            }
            Delta::Reasoning { choice, text } => {
                assert!(!text.is_empty());
                of(&mut all, *choice).thinking.push_str(text);
            }
            Delta::Refusal { choice, text } => of(&mut all, *choice).refusal.push_str(text),
            Delta::ToolCall { choice, call, id, name, .. } => {
                let calls = &mut of(&mut all, *choice).calls;
                assert_eq!(calls.len(), *call as usize, "a gap in the calls");
                assert!(!id.is_empty() && !name.is_empty());
                calls.push((id.clone(), name.clone(), String::new()));
            }
            Delta::ToolArguments { choice, call, json } => {
                assert!(!json.is_empty());
                of(&mut all, *choice).calls[*call as usize].2.push_str(json);
            }
            Delta::Finish { choice, reason } => of(&mut all, *choice).finish = Some(reason.clone()),
            Delta::Usage { usage: counted } => usage = Some(*counted),
            Delta::End => ended = true,
            Delta::TextOpaque { .. }
            | Delta::ReasoningOpaque { .. }
            | Delta::Logprobs { .. }
            | Delta::Other { .. } => {}
        }
    }
    assert!(ended, "no end");
    (all, usage)
}

fn of(all: &mut Vec<Told>, choice: u32) -> &mut Told {
    let choice = choice as usize;
    all.resize_with(all.len().max(choice + 1), Told::default);
    assert!(all[choice].finish.is_none(), "content after the finish");
    &mut all[choice]
}

/// The same of a whole answer.
fn told_whole(completion: &Completion) -> (Vec<Told>, Option<Usage>) {
    let all = completion.choices.iter().map(|choice| {
        let mut told = Told { finish: choice.finish.clone(), ..Told::default() };
        for part in &choice.parts {
            match part {
                Part::Text { text, .. } => told.text.push_str(text),
                Part::Reasoning { text, .. } => told.thinking.push_str(text),
                Part::Refusal { text } => told.refusal.push_str(text),
                Part::ToolCall { id, name, arguments, .. } => {
                    told.calls.push((id.clone(), name.clone(), arguments.clone()));
                }
                Part::Media(_) | Part::ToolResult { .. } | Part::Other { .. } => {}
            }
        }
        told
    });
    (all.collect(), completion.usage)
}
