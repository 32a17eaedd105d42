//! The three wires of the mock: what an answer of so many tokens looks like, whole and streamed.
//!
//! Everything is made once at the start, so that an answer costs the mock no more than its writes.
//! A whole answer has the same text as a streamed one: a gateway may ask for a stream where its
//! caller wants the whole.

use std::ops::Range;

use hyper::body::Bytes;
use serde_json::{Value, json};

/// Stands once in every token and nowhere else in an answer, so that tokens can be counted on any
/// wire.
pub(crate) const MARK: &str = "wave";

/// Tokens that the mock says a prompt had.
const PROMPT_TOKENS: usize = 42;

/// One wire's answers.
#[derive(Debug)]
pub(crate) struct Wire {
    /// The body of a whole answer.
    pub(crate) whole: Bytes,
    /// The events of a streamed one.
    pub(crate) events: Vec<Bytes>,
    /// Which of them have the tokens. Those before come with the first, those after with the last.
    pub(crate) tokens: Range<usize>,
}

/// The text of one token.
fn token(number: usize) -> String {
    format!(" {MARK} {number}")
}

fn text(tokens: usize) -> String {
    (0..tokens).map(token).collect()
}

fn data(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

impl Wire {
    /// `POST …/chat/completions`
    pub(crate) fn openai(tokens: usize) -> Self {
        let usage = json!({
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": tokens,
            "total_tokens": PROMPT_TOKENS + tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        });
        let chunk = |choices: Value, usage: Value| {
            data(&json!({
                "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_760_000_000, "model": "mock",
                "system_fingerprint": "fp_1", "choices": choices, "usage": usage,
            }))
        };
        let choice = |delta: Value, finish: Value| {
            let choice =
                json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
            chunk(json!([choice]), Value::Null)
        };
        let mut events = vec![choice(json!({"role": "assistant", "content": ""}), Value::Null)];
        events.extend((0..tokens).map(|n| choice(json!({"content": token(n)}), Value::Null)));
        events.push(choice(json!({}), json!("stop")));
        events.push(chunk(json!([]), usage.clone()));
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));

        let message = json!({"role": "assistant", "content": text(tokens), "refusal": null});
        let choice =
            json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"});
        let whole = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1_760_000_000, "model": "mock",
            "system_fingerprint": "fp_1", "choices": [choice], "usage": usage,
        });
        Self { whole: whole.to_string().into(), events, tokens: 1..tokens + 1 }
    }

    /// `POST …/messages`
    pub(crate) fn anthropic(tokens: usize) -> Self {
        let event = |kind: &str, mut value: Value| {
            value["type"] = kind.into();
            Bytes::from(format!("event: {kind}\ndata: {value}\n\n"))
        };
        let message = |content: Value, stop: Value, output: usize| {
            json!({
                "id": "msg_1", "type": "message", "role": "assistant", "model": "mock", "content": content,
                "stop_reason": stop, "stop_sequence": null,
                "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": output},
            })
        };
        let start = json!({"message": message(json!([]), Value::Null, 1)});
        let block = json!({"index": 0, "content_block": {"type": "text", "text": ""}});
        let delta = |n| json!({"index": 0, "delta": {"type": "text_delta", "text": token(n)}});
        let stop = json!({
            "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": tokens},
        });
        let mut events = vec![event("message_start", start), event("content_block_start", block)];
        events.extend((0..tokens).map(|n| event("content_block_delta", delta(n))));
        events.push(event("content_block_stop", json!({"index": 0})));
        events.push(event("message_delta", stop));
        events.push(event("message_stop", json!({})));

        let content = json!([{"type": "text", "text": text(tokens)}]);
        let whole = message(content, json!("end_turn"), tokens);
        Self { whole: whole.to_string().into(), events, tokens: 2..tokens + 2 }
    }

    /// `POST …:generateContent` and `…:streamGenerateContent?alt=sse`
    pub(crate) fn gemini(tokens: usize) -> Self {
        let answer = |text: String, finish: Option<&str>, output: usize| {
            let mut candidate =
                json!({"content": {"parts": [{"text": text}], "role": "model"}, "index": 0});
            if let Some(finish) = finish {
                candidate["finishReason"] = finish.into();
            }
            let usage = json!({
                "promptTokenCount": PROMPT_TOKENS,
                "candidatesTokenCount": output,
                "totalTokenCount": PROMPT_TOKENS + output,
            });
            json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "mock", "responseId": "r1"})
        };
        let last = tokens.saturating_sub(1);
        let events = (0..tokens)
            .map(|n| data(&answer(token(n), (n == last).then_some("STOP"), n + 1)))
            .collect();
        let whole = answer(text(tokens), Some("STOP"), tokens);
        Self { whole: whole.to_string().into(), events, tokens: 0..tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wire_has_the_same_text_whole_and_streamed() {
        for wire in [Wire::openai(30), Wire::anthropic(30), Wire::gemini(30)] {
            let streamed = wire.events.concat();
            assert_eq!(memchr::memmem::find_iter(&wire.whole, MARK).count(), 30);
            assert_eq!(memchr::memmem::find_iter(&streamed, MARK).count(), 30);
            let with_token = |event: &Bytes| memchr::memmem::find(event, MARK.as_bytes()).is_some();
            assert!(wire.events[wire.tokens.clone()].iter().all(with_token));
            assert_eq!(wire.tokens.len(), 30);
            assert!(serde_json::from_slice::<Value>(&wire.whole).is_ok());
        }
    }
}
