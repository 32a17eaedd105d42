//! The openai_chat wire format.

use http::{HeaderMap, StatusCode};

use super::*;

mod failure;
mod scan;

/// The codec.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenAiChat;

impl Codec for OpenAiChat {
    fn dialect(&self) -> Dialect {
        Dialect::OpenAiChat
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
        Box::new(scan::ChatScanner::default())
    }
    fn scan_reply(&self, body: &[u8]) -> Result<StreamSummary, Failure> {
        scan::scan_reply(body)
    }
    fn decode_failure(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
        failure::decode_failure(status, headers, body)
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
    fn missing_terminal(&self) -> &'static [u8] {
        b"data: [DONE]\n\n"
    }
}
