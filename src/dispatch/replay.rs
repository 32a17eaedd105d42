//! Writes a kept answer for whoever asks for it: a fresh id and time, in its dialect, whole or as a
//! stream that comes at once.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Call;
use crate::cache::{Cache, Kept, Key, Rendered, Wording};
use crate::chat::{Completion, Delta};
use crate::dialect::{self, ReplyContext, StreamEncoder};
use crate::journal::{EndpointKind, Reuse};

/// Bytes of text in one event of a stream: 16 to 32 tokens, at four bytes a token.
const PIECE_BYTES: std::ops::RangeInclusive<usize> = 64..=128;

/// The answer that is kept under `key` as the caller wants it; `created` is in seconds since 1970.
/// One that was written so before is not written anew. Nothing where what is kept cannot be read.
pub(super) fn write_again(
    call: &Call,
    (cache, key): (&Cache, &Key),
    kept: &Kept,
    reuse: Reuse,
    created: u64,
) -> Option<Bytes> {
    let form = Wording {
        key: *key,
        made_at_ms: kept.head.made_at_ms,
        dialect: call.dialect,
        endpoint: call.kind.as_str(),
        stream: call.envelope.stream,
        include_usage: call.envelope.include_usage,
        found: reuse.as_str(),
    };
    let (id, model) = (call.request_id.as_str(), &call.envelope.model);
    let again = cache.rendered(&form).and_then(|rendered| rendered.write(id, created, model));
    if again.is_some() {
        return again;
    }
    let bytes = write(call, kept, reuse, created)?;
    cache.keep_rendered(form, Rendered::of(bytes.clone(), id, created, model));
    Some(bytes)
}

/// The same for an answer that is kept elsewhere.
pub(super) fn write(call: &Call, kept: &Kept, reuse: Reuse, created: u64) -> Option<Bytes> {
    let by = kept.head.target.as_str();
    let words = json!({ "served_by": by, "cost_usd": "0.000000", "cache": reuse.as_str() });
    Some(write_completion(call, kept.read()?, created, &words))
}

/// An answer without an id as the caller wants it, at `created` seconds since 1970; where it is
/// streamed, with these words beside its usage.
pub(super) fn write_completion(
    call: &Call,
    mut completion: Completion,
    created: u64,
    words: &Value,
) -> Bytes {
    completion.created = created;
    if !call.envelope.stream {
        let context = context(call, created);
        return match call.kind == EndpointKind::Completions {
            true => dialect::encode_text_reply(&completion, &context).into(),
            false => call.dialect.codec().encode_reply(&completion, &context).into(),
        };
    }
    let mut encoder = encoder(call, created);
    let mut out = Vec::new();
    for delta in completion.into_deltas() {
        match &delta {
            Delta::Text { choice, text } => {
                for piece in pieces(text) {
                    let piece = Delta::Text { choice: *choice, text: piece.to_owned() };
                    encoder.push(&piece, &mut out);
                }
                continue;
            }
            Delta::Reasoning { choice, text } => {
                for piece in pieces(text) {
                    let piece = Delta::Reasoning { choice: *choice, text: piece.to_owned() };
                    encoder.push(&piece, &mut out);
                }
                continue;
            }
            Delta::Usage { .. } => encoder.set_extension(words.clone()),
            Delta::Start { .. }
            | Delta::TextOpaque { .. }
            | Delta::ReasoningOpaque { .. }
            | Delta::Refusal { .. }
            | Delta::ToolCall { .. }
            | Delta::ToolArguments { .. }
            | Delta::Logprobs { .. }
            | Delta::Other { .. }
            | Delta::Finish { .. }
            | Delta::End => {}
        }
        encoder.push(&delta, &mut out);
    }
    out.into()
}

/// Writes a stream for the caller of an answer without an id.
pub(super) fn encoder(call: &Call, created: u64) -> Box<dyn StreamEncoder> {
    let context = context(call, created);
    match call.kind == EndpointKind::Completions {
        true => dialect::text_stream_encoder(context),
        false => call.dialect.codec().stream_encoder(context),
    }
}

fn context(call: &Call, created: u64) -> ReplyContext {
    ReplyContext {
        request_id: call.request_id.to_string(),
        model: call.envelope.model.clone(),
        created,
        include_usage: call.envelope.include_usage,
    }
}

/// A text in pieces of [`PIECE_BYTES`], cut before blanks where there are any.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, left) = rest.split_at_checked(cut(rest)).unwrap_or((rest, ""));
        rest = left;
        Some(piece)
    })
}

/// Where the first piece of a text ends.
fn cut(text: &str) -> usize {
    let (least, most) = (*PIECE_BYTES.start(), *PIECE_BYTES.end());
    if text.len() <= most {
        return text.len();
    }
    let middle = usize::midpoint(least, most);
    let window = text.as_bytes().get(middle..most).unwrap_or_default();
    let at = match memchr::memchr2(b' ', b'\n', window) {
        Some(blank) => middle + blank,
        None => middle,
    };
    (at..=most).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_are_of_a_size_and_make_up_the_text(text in "[a-zé漢 \n]{0,900}") {
            let pieces: Vec<_> = pieces(&text).collect();
            prop_assert_eq!(&pieces.concat(), &text);
            for (at, piece) in pieces.iter().enumerate() {
                prop_assert!(piece.len() <= *PIECE_BYTES.end(), "{piece}");
                let is_last = at + 1 == pieces.len();
                prop_assert!(is_last || piece.len() >= *PIECE_BYTES.start(), "{piece}");
            }
        }
    }
}
