//! The gemini wire format.

use http::{HeaderMap, StatusCode};

use super::*;

/// The codec.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gemini;

impl Codec for Gemini {
    fn dialect(&self) -> Dialect {
        Dialect::Gemini
    }
    fn encode_request(
        &self,
        _: &ChatRequest,
        _: &RequestTarget<'_>,
        _: &mut Dropped,
    ) -> Result<WireRequest, Rejection> {
        todo!()
    }
    fn decode_reply(&self, _: &[u8]) -> Result<Completion, Failure> {
        todo!()
    }
    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        todo!()
    }
    fn scanner(&self) -> Box<dyn Scanner> {
        todo!()
    }
    fn scan_reply(&self, _: &[u8]) -> Result<StreamSummary, Failure> {
        todo!()
    }
    fn decode_failure(&self, _: StatusCode, _: &HeaderMap, _: &[u8]) -> Failure {
        todo!()
    }
    fn decode_request(&self, _: &[u8]) -> Result<ChatRequest, Rejection> {
        todo!()
    }
    fn encode_reply(&self, _: &Completion, _: &ReplyContext) -> Vec<u8> {
        todo!()
    }
    fn stream_encoder(&self, _: ReplyContext) -> Box<dyn StreamEncoder> {
        todo!()
    }
    fn encode_error(&self, _: &Rejection, _: &str) -> Vec<u8> {
        todo!()
    }
    fn encode_stream_error(&self, _: &Rejection, _: &str) -> Vec<u8> {
        todo!()
    }
}
