//! Tests of the codec: recordings, round trips, and cases of our own.

mod inbound;
mod other_wires;
mod recordings;
mod requests;
mod round_trips;
mod schemas;
mod streams;

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::chat::{Delta, FinishReason, Media, MediaSource, Part};
use crate::dialect::sse::{self, SseEvent};
use crate::dialect::{FrameKind, Quirks, RequestTarget};
use crate::failure::FailureKind;

/// A target of a model, with no quirks but those given.
fn target<'a>(model: &'a str, quirks: &'a Quirks) -> RequestTarget<'a> {
    RequestTarget { model, label: "gemini/test", quirks, output_tokens: None }
}

fn context() -> ReplyContext {
    ReplyContext {
        request_id: "req-1".to_owned(),
        model: "gemini-test".to_owned(),
        created: 0,
        include_usage: true,
    }
}

fn png(data: &str) -> Part {
    Part::Media(Media {
        source: MediaSource::Base64(data.to_owned()),
        media_type: Some("image/png".to_owned()),
        name: None,
        detail: None,
        cache: None,
    })
}

/// Feeds a body to a decoder, frame by frame.
fn decode_sse(body: &[u8]) -> Result<Vec<Delta>, Failure> {
    decode_with(&Gemini, body)
}

fn decode_with(codec: &dyn Codec, body: &[u8]) -> Result<Vec<Delta>, Failure> {
    let mut decoder = codec.stream_decoder();
    let mut out = Vec::new();
    let mut rest = body;
    while let Some(len) = sse::frame_len(rest) {
        let (frame, tail) = rest.split_at(len);
        decoder.push(&sse::parse(frame), &mut out)?;
        rest = tail;
    }
    decoder.finish(&mut out)?;
    Ok(out)
}

/// Feeds values to a decoder, one event each.
fn decode_events(events: &[Value]) -> Result<Vec<Delta>, Failure> {
    let mut decoder = Gemini.stream_decoder();
    let mut out = Vec::new();
    for event in events {
        decoder.push(&SseEvent { name: "", data: event.to_string().into() }, &mut out)?;
    }
    decoder.finish(&mut out)?;
    Ok(out)
}

/// What a stream says in the end, by alternative: text, thinking, calls, finish; and the counts.
#[derive(Debug, Default, PartialEq)]
struct Said {
    text: Vec<String>,
    thoughts: Vec<String>,
    calls: Vec<Vec<(String, String, Value)>>,
    signatures: Vec<Vec<String>>,
    finish: Vec<Option<FinishReason>>,
    usage: Option<crate::chat::Usage>,
}

impl Said {
    fn room(&mut self, choice: u32) -> usize {
        let at = choice as usize;
        while self.text.len() <= at {
            self.text.push(String::new());
            self.thoughts.push(String::new());
            self.calls.push(Vec::new());
            self.signatures.push(Vec::new());
            self.finish.push(None);
        }
        at
    }

    fn of_deltas(deltas: &[Delta]) -> Self {
        let mut said = Self::default();
        let mut arguments: Vec<(usize, usize, String)> = Vec::new();
        for delta in deltas {
            match delta {
                // This wire tells a refusal as text.
                Delta::Text { choice, text } | Delta::Refusal { choice, text } => {
                    let at = said.room(*choice);
                    said.text[at].push_str(text);
                }
                Delta::Reasoning { choice, text } => {
                    let at = said.room(*choice);
                    said.thoughts[at].push_str(text);
                }
                Delta::ToolCall { choice, id, name, opaque, call } => {
                    let at = said.room(*choice);
                    assert_eq!(said.calls[at].len(), *call as usize, "ordinals have no gaps");
                    said.calls[at].push((id.clone(), name.clone(), Value::Null));
                    said.signatures[at].extend(opaque.iter().map(|opaque| opaque.value.clone()));
                    arguments.push((at, *call as usize, String::new()));
                }
                Delta::ToolArguments { choice, call, json } => {
                    let at = said.room(*choice);
                    let entry = arguments
                        .iter_mut()
                        .find(|(choice, ordinal, _)| *choice == at && *ordinal == *call as usize);
                    entry.unwrap().2.push_str(json);
                }
                Delta::TextOpaque { choice, opaque }
                | Delta::ReasoningOpaque { choice, opaque } => {
                    let at = said.room(*choice);
                    said.signatures[at].push(opaque.value.clone());
                }
                Delta::Finish { choice, reason } => {
                    let at = said.room(*choice);
                    assert_eq!(said.finish[at], None, "one finish for each alternative");
                    said.finish[at] = Some(reason.clone());
                }
                Delta::Usage { usage } => said.usage = Some(*usage),
                Delta::Start { .. } | Delta::Logprobs { .. } | Delta::Other { .. } | Delta::End => {
                }
            }
        }
        for (choice, call, json) in arguments {
            // No arguments are an empty object; cut ones stay text.
            let json = if json.is_empty() { "{}" } else { &json };
            said.calls[choice][call].2 = serde_json::from_str(json).unwrap_or_else(|_| json.into());
        }
        said
    }

    fn of_completion(completion: &Completion) -> Self {
        let mut said = Self { usage: completion.usage, ..Self::default() };
        for choice in &completion.choices {
            let at = said.room(choice.index);
            said.finish[at].clone_from(&choice.finish);
            for part in &choice.parts {
                match part {
                    Part::Text { text, opaque, .. } => {
                        said.text[at].push_str(text);
                        said.signatures[at]
                            .extend(opaque.iter().map(|opaque| opaque.value.clone()));
                    }
                    Part::Reasoning { text, opaque } => {
                        said.thoughts[at].push_str(text);
                        said.signatures[at]
                            .extend(opaque.iter().map(|opaque| opaque.value.clone()));
                    }
                    Part::ToolCall { id, name, arguments, opaque } => {
                        let arguments = serde_json::from_str(arguments).unwrap();
                        said.calls[at].push((id.clone(), name.clone(), arguments));
                        said.signatures[at]
                            .extend(opaque.iter().map(|opaque| opaque.value.clone()));
                    }
                    Part::Media(_)
                    | Part::ToolResult { .. }
                    | Part::Refusal { .. }
                    | Part::Other { .. } => {}
                }
            }
        }
        said
    }
}

fn failure_of(status: u16, body: &Value) -> Failure {
    let status = StatusCode::from_u16(status).unwrap();
    Gemini.decode_failure(status, &HeaderMap::new(), body.to_string().as_bytes())
}

#[test]
fn errors_are_classified_by_their_word_and_details() {
    let error = |word: &str, details: Value| json!({ "error": { "code": 1, "message": "m", "status": word, "details": details } });
    let info = |reason: &str| json!([{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason }]);
    let quota = |id: &str| json!([{ "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{ "quotaId": id }] }]);
    let table = [
        (429, "RESOURCE_EXHAUSTED", json!([]), FailureKind::RateLimited),
        (
            429,
            "RESOURCE_EXHAUSTED",
            quota("GenerateRequestsPerMinutePerProject"),
            FailureKind::RateLimited,
        ),
        (
            429,
            "RESOURCE_EXHAUSTED",
            quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
            FailureKind::HardQuota,
        ),
        (503, "UNAVAILABLE", json!([]), FailureKind::Overloaded),
        (400, "INVALID_ARGUMENT", info("API_KEY_INVALID"), FailureKind::AuthFault),
        (400, "INVALID_ARGUMENT", json!([]), FailureKind::CallerFault),
        (400, "FAILED_PRECONDITION", json!([]), FailureKind::CallerFault),
        (404, "NOT_FOUND", json!([]), FailureKind::NotServed),
        (403, "PERMISSION_DENIED", json!([]), FailureKind::AuthFault),
        (401, "UNAUTHENTICATED", json!([]), FailureKind::AuthFault),
        (504, "DEADLINE_EXCEEDED", json!([]), FailureKind::ServerFault),
        (500, "INTERNAL", json!([]), FailureKind::ServerFault),
        (429, "", json!([]), FailureKind::RateLimited),
    ];
    for (status, word, details, kind) in table {
        let body = error(word, details);
        let failure = failure_of(status, &body);
        assert_eq!(failure.kind, kind, "{body}");
        assert_eq!(failure.message, "m");
        assert_eq!(failure_of(status, &json!([body])).kind, kind, "in an array: {body}");
    }
}

#[test]
fn the_delay_a_provider_asks_for_comes_from_the_details_and_the_header_wins() {
    let body = json!({ "error": { "status": "RESOURCE_EXHAUSTED", "message": "", "details": [
        { "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "13.5s" },
    ]}});
    assert_eq!(failure_of(429, &body).retry_after, Some(std::time::Duration::from_millis(13_500)));
    let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, "2".parse().unwrap())]);
    let body = body.to_string();
    let failure = Gemini.decode_failure(StatusCode::TOO_MANY_REQUESTS, &headers, body.as_bytes());
    assert_eq!(failure.retry_after, Some(std::time::Duration::from_secs(2)));
}

#[test]
fn an_error_that_is_no_json_is_classified_by_its_status() {
    let page = b"<html>502</html>";
    let failure = Gemini.decode_failure(StatusCode::BAD_GATEWAY, &HeaderMap::new(), page);
    assert_eq!(failure.kind, FailureKind::ServerFault);
    assert_eq!(failure.message, "the provider answered with a page of HTML");
    let failure = Gemini.decode_failure(StatusCode::NOT_FOUND, &HeaderMap::new(), b"");
    assert_eq!(failure.kind, FailureKind::NotServed);
    assert_eq!(failure.message, "the provider answered 404 with an empty body");
}

#[test]
fn a_prompt_that_is_too_long_is_told_by_its_words() {
    let message = "The input token count (1200000) exceeds the maximum number of tokens allowed.";
    let body = json!({ "error": { "code": 400, "status": "INVALID_ARGUMENT", "message": message }});
    assert_eq!(failure_of(400, &body).kind, FailureKind::ContextTooLong);
}

#[test]
fn our_own_errors_are_read_back_as_what_they_are() {
    let rejection = Rejection::invalid("contents[0].parts", "`contents[0].parts` must be a list");
    let body = Gemini.encode_error(&rejection, "req-1");
    let failure = Gemini.decode_failure(StatusCode::BAD_REQUEST, &HeaderMap::new(), &body);
    assert_eq!(failure.kind, FailureKind::CallerFault);
    assert_eq!(failure.param.as_deref(), Some("contents[0].parts"));
    let frame = Gemini.encode_stream_error(&Rejection::Draining, "req-1");
    assert_eq!(sse::frame_len(&frame), Some(frame.len()));
    let failure = decode_sse(&frame).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Overloaded);
    assert_eq!(failure.retry_after, Some(std::time::Duration::from_secs(1)));
}

#[test]
fn addresses_tell_model_and_stream() {
    let table = [
        ("/v1beta/models/gemini-2.5-flash:generateContent", Some(("gemini-2.5-flash", false))),
        ("/v1beta/models/a:b:streamGenerateContent?alt=sse", Some(("a:b", true))),
        (
            "/v1/projects/p/locations/l/publishers/google/models/m:generateContent",
            Some(("m", false)),
        ),
        ("/v1beta/models/m:countTokens", None),
        ("/v1beta/models/:generateContent", None),
        ("/v1beta/models/m", None),
    ];
    for (path, expected) in table {
        assert_eq!(parse_path(path), expected, "{path}");
    }
}

#[test]
fn embeddings_go_both_ways() {
    let quirks = Quirks::default();
    let body =
        json!({ "model": "x", "input": ["a", "b"], "dimensions": 2, "encoding_format": "base64" });
    let (request, wire) =
        encode_embeddings(body.to_string().as_bytes(), &target("e-1", &quirks)).unwrap();
    assert_eq!(wire.path, "/models/e-1:batchEmbedContents");
    let sent: Value = serde_json::from_slice(&wire.body).unwrap();
    assert_eq!(
        sent,
        json!({ "requests": [
            { "model": "models/e-1", "content": { "parts": [{ "text": "a" }] }, "outputDimensionality": 2 },
            { "model": "models/e-1", "content": { "parts": [{ "text": "b" }] }, "outputDimensionality": 2 },
        ]})
    );
    let answer = json!({ "embeddings": [{ "values": [1.0, -2.5] }, { "values": [0.0] }] });
    let reply = decode_embeddings(answer.to_string().as_bytes(), &request, "x").unwrap();
    // 1.0 is 00 00 80 3f and -2.5 is 00 00 20 c0 in little-endian 32-bit floats.
    assert_eq!(reply["data"][0]["embedding"], json!("AACAPwAAIMA="));
    assert_eq!(reply["data"][1]["embedding"], json!("AAAAAA=="));
    let fewer = json!({ "embeddings": [{ "values": [1.0] }] });
    let failure = decode_embeddings(fewer.to_string().as_bytes(), &request, "x").unwrap_err();
    assert_eq!(failure.kind, FailureKind::Degenerate);
    let tokens = json!({ "input": [[1, 2]] }).to_string();
    let refused = encode_embeddings(tokens.as_bytes(), &target("e-1", &quirks)).unwrap_err();
    assert_eq!(refused.param(), Some("input"));
}
