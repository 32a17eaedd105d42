//! Anthropic's Messages, both ways.
//!
//! `system` and results of tools stand elsewhere on this wire than in the canonical request, an
//! answer is a list of typed blocks, and a stream opens and closes each of them. What each file
//! decides is written at its top: `request` reads callers' requests, `encode` and `turns` write
//! providers', `reply` does whole answers, `stream` and `emit` read and write streams, `scan` looks
//! at them as they pass, `failure` does errors.
//!
//! Text with citations is text followed (in streams: preceded or followed) by one
//! [`Part::Other`](crate::chat::Part::Other) for each citation; neighbouring text blocks are one
//! text to other wires, and their borders are not kept.

mod block;
mod breakpoints;
mod emit;
mod encode;
mod event;
mod failure;
mod fields;
mod foreign;
mod media;
mod repair;
mod reply;
mod request;
mod scan;
mod stream;
mod turns;
mod wire;

pub use breakpoints::{Breakpoints, is_marked, mark};

use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::{
    Codec, Dialect, Dropped, ReplyContext, RequestTarget, Scanner, StreamBreak, StreamDecoder,
    StreamEncoder, StreamSummary, WireRequest, sse,
};
use crate::chat::{ChatRequest, Completion};
use crate::failure::Failure;
use crate::rejection::Rejection;

/// The codec.
#[derive(Debug, Clone, Copy)]
pub(super) struct Anthropic;

/// Reads a request to `/messages/count_tokens`: one for a message that needs no `max_tokens`.
///
/// # Errors
///
/// As [`Codec::decode_request`].
pub fn decode_count_tokens(body: &[u8]) -> Result<ChatRequest, Rejection> {
    request::decode_count(body)
}

/// Writes the answer to a request to `/messages/count_tokens`.
pub fn encode_count_tokens(input_tokens: u64) -> Vec<u8> {
    json!({"input_tokens": input_tokens}).to_string().into_bytes()
}

// === impl Anthropic ===

impl Codec for Anthropic {
    fn dialect(&self) -> Dialect {
        Dialect::Anthropic
    }

    fn encode_request(
        &self,
        chat: &ChatRequest,
        target: &RequestTarget<'_>,
        dropped: &mut Dropped,
    ) -> Result<WireRequest, Rejection> {
        encode::encode(chat, target, dropped)
    }

    fn decode_reply(&self, body: &[u8]) -> Result<Completion, Failure> {
        reply::decode(body)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::<stream::MessagesDecoder>::default()
    }

    fn scanner(&self) -> Box<dyn Scanner> {
        Box::<scan::MessagesScanner>::default()
    }

    fn scan_reply(&self, body: &[u8]) -> Result<StreamSummary, Failure> {
        reply::scan(body)
    }

    fn decode_failure(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
        failure::decode(status, headers, body)
    }

    fn decode_request(&self, body: &[u8]) -> Result<ChatRequest, Rejection> {
        request::decode(body)
    }

    fn encode_reply(&self, completion: &Completion, context: &ReplyContext) -> Vec<u8> {
        reply::encode(completion, context)
    }

    fn stream_encoder(&self, context: ReplyContext) -> Box<dyn StreamEncoder> {
        Box::new(emit::MessagesEncoder::new(context))
    }

    fn encode_error(&self, rejection: &Rejection, request_id: &str) -> Vec<u8> {
        failure::encode(rejection, request_id)
    }

    fn encode_stream_error(&self, broken: &StreamBreak<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        sse::write(&mut out, "error", failure::event_data(broken).to_string().as_bytes());
        out
    }

    fn missing_terminal(&self) -> &'static [u8] {
        scan::MESSAGE_STOP
    }

    fn holds_foreign_state(&self, messages: &[u8]) -> bool {
        foreign::is_in(messages)
    }
}

#[cfg(test)]
mod tests;
