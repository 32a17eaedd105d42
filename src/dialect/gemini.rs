//! Gemini's `generateContent` and `streamGenerateContent`, on Google's Gemini API and on Vertex.
//!
//! <https://ai.google.dev/api/generate-content>. What the recordings add to the documents, and
//! what the modules here therefore do:
//! - a stream has no last marker: it is whole when every candidate has a finish reason and the
//!   connection ends; without `alt=sse` it is one JSON array, which [`JsonArrayReader`] takes
//!   apart;
//! - the finish reason of a tool call is `STOP`, enumerations may be numbers, `parts` and `content`
//!   may be absent, a blocked prompt has no candidates at all;
//! - calls mostly come without ids, so ids are made, the same ones each time;
//! - signatures ride on text, calls, or an empty text, and have to go back where they came from;
//! - counts are repeated, grow, shrink and vanish along a stream: the last one that is there
//!   stands.

use http::{HeaderMap, StatusCode};

use super::{
    ChatRequest, Codec, Completion, Dialect, Dropped, Failure, Rejection, ReplyContext,
    RequestTarget, Scanner, StreamBreak, StreamDecoder, StreamEncoder, StreamSummary, WireRequest,
};

mod array;
mod embed;
mod encoder;
mod failure;
mod inbound;
mod options;
mod parts;
mod reply;
mod request;
mod scan;
mod schema;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub use array::JsonArrayReader;
pub use embed::{EmbeddingsRequest, decode_embeddings, encode_embeddings};
pub use inbound::parse_path;

/// The codec.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gemini;

impl Codec for Gemini {
    fn dialect(&self) -> Dialect {
        Dialect::Gemini
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
        Box::new(scan::Frames::default())
    }

    fn scan_reply(&self, body: &[u8]) -> Result<StreamSummary, Failure> {
        scan::scan_reply(body)
    }

    fn decode_failure(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
        failure::decode(status, headers, body)
    }

    fn decode_request(&self, body: &[u8]) -> Result<ChatRequest, Rejection> {
        inbound::decode(body)
    }

    fn encode_reply(&self, completion: &Completion, context: &ReplyContext) -> Vec<u8> {
        reply::encode(completion, context)
    }

    fn stream_encoder(&self, context: ReplyContext) -> Box<dyn StreamEncoder> {
        Box::new(encoder::Encoder::new(context))
    }

    fn encode_error(&self, rejection: &Rejection, _: &str) -> Vec<u8> {
        failure::encode(rejection).to_string().into_bytes()
    }

    fn encode_stream_error(&self, broken: &StreamBreak<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encoder::frame(&failure::encode(broken.rejection), &mut out);
        out
    }
}
