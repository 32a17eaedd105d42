//! OpenAI's chat completions, and the many that follow it, both ways.
//!
//! # Thinking and provider state
//!
//! OpenAI's own wire has no place for readable thinking, nor for state that a provider wants back
//! in the next turn. Callers of this dialect get both in the fields that have become customary,
//! on a message or a stream's delta, and send the message back as they got it:
//!
//! | what | where |
//! |---|---|
//! | thinking | `reasoning_content` (DeepSeek's name; `reasoning`, OpenRouter's, is read too) |
//! | Anthropic's signed thinking | an entry of `reasoning_details` (OpenRouter's list): `{"type": "reasoning.text", "text", "signature", "format": "anthropic-claude-v1", "index"}` |
//! | Anthropic's redacted thinking | `{"type": "reasoning.encrypted", "data", "format": "anthropic-claude-v1", "index"}` |
//! | Gemini's signature of a tool call | `tool_calls[].extra_content.google.thought_signature` (Google's own convention) |
//! | Gemini's signature of thinking | `{"type": "reasoning.text", "text", "signature", "format": "google-gemini-v1", "index"}` |
//! | Gemini's signature of text | `{"type": "reasoning.encrypted", "data", "format": "google-gemini-v1", "index"}` |
//! | a detail of any other provider | the entry, verbatim |
//!
//! Where a message has details with text, they are the whole of its thinking and the plain field
//! only repeats them. In a stream the plain field carries the pieces, and a detail comes once a
//! thought is signed, whole, with an empty `reasoning_content` beside it that says its text has
//! been told. Thinking stands before text and text before calls, as in the message.
//!
//! # What is left out towards a provider
//!
//! Thinking goes to a provider only if the caller spoke this dialect and so meant it for a
//! provider of this dialect; thoughts of another provider's model are no part of the request's
//! meaning. The same holds for Anthropic's `cache_control`, which is a hint. `is_error` of a tool's
//! result has no field here: the result's words say it. Whether thoughts are to be shown is a wish
//! that only some providers can grant.
//!
//! Fields of a message that are not modelled (`prefix`, `audio`, `annotations`) are a
//! [`Part::Other`](crate::chat::Part::Other) whose value has no `type`; content parts have one.

use http::{HeaderMap, StatusCode};

use super::{
    ChatRequest, Codec, Completion, Dialect, Dropped, Failure, Rejection, ReplyContext,
    RequestTarget, Scanner, StreamBreak, StreamDecoder, StreamEncoder, StreamSummary, WireRequest,
};

mod error;
mod failure;
mod legacy;
mod reply;
mod request;
mod scan;
mod state;
mod stream;
mod usage;
mod wire;

pub use legacy::{decode_text_request, encode_text_reply, text_stream_encoder};
pub use request::PlainRequest;

#[cfg(test)]
mod tests;

/// The codec.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenAiChat;

impl Codec for OpenAiChat {
    fn dialect(&self) -> Dialect {
        Dialect::OpenAiChat
    }

    fn encode_request(
        &self,
        chat: &ChatRequest,
        target: &RequestTarget<'_>,
        dropped: &mut Dropped,
    ) -> Result<WireRequest, Rejection> {
        request::encode(chat, target, dropped)
    }

    fn decode_reply(&self, body: &[u8]) -> Result<Completion, Failure> {
        reply::decode(body)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(stream::Decoder::default())
    }

    fn scanner(&self) -> Box<dyn Scanner> {
        Box::new(scan::ChatScanner::default())
    }

    fn scan_reply(&self, body: &[u8]) -> Result<StreamSummary, Failure> {
        scan::scan_reply(body)
    }

    fn decode_failure(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
        failure::decode_failure(status, headers, body)
    }

    fn decode_request(&self, body: &[u8]) -> Result<ChatRequest, Rejection> {
        request::decode(body)
    }

    fn encode_reply(&self, completion: &Completion, context: &ReplyContext) -> Vec<u8> {
        reply::encode(completion, context)
    }

    fn stream_encoder(&self, context: ReplyContext) -> Box<dyn StreamEncoder> {
        Box::new(stream::Encoder::new(context))
    }

    fn encode_error(&self, rejection: &Rejection, _: &str) -> Vec<u8> {
        error::encode(rejection)
    }

    fn encode_stream_error(&self, broken: &StreamBreak<'_>) -> Vec<u8> {
        error::encode_in_stream(broken)
    }

    fn missing_terminal(&self) -> &'static [u8] {
        b"data: [DONE]\n\n"
    }
}
