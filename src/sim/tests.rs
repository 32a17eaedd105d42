//! Tests of the simulation.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::chat::{Completion, Delta, Part};
use crate::dialect::{Dialect, sse};

mod changes;
mod engine;
mod faults;
mod limits;
mod plain;
mod play;
mod scenario;
mod schema;
mod skill;

/// A POST to an engine.
fn post(engine: &mut Engine, path: &str, body: &Value) -> Script {
    post_at(engine, path, body, Moment::default())
}

fn post_at(engine: &mut Engine, path: &str, body: &Value, now: Moment) -> Script {
    let mut headers = HeaderMap::new();
    headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    send(engine, &Method::POST, path, &headers, body.to_string().as_bytes(), now)
}

fn send(
    engine: &mut Engine,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
    now: Moment,
) -> Script {
    engine.answer(&SimRequest { host: "local", method, path, headers, body }, now)
}

fn head(script: &Script) -> (StatusCode, &HeaderMap, Duration) {
    match &script.opening {
        Opening::Answer { after, status, headers } => (*status, headers, *after),
        Opening::Refuse | Opening::Stall => panic!("there is no head"),
    }
}

fn body(script: &Script) -> Value {
    serde_json::from_slice(&script.bytes()).expect("the body is JSON")
}

/// Decodes a whole answer.
fn reply(dialect: Dialect, script: &Script) -> Completion {
    assert_eq!(head(script).0, StatusCode::OK, "{}", String::from_utf8_lossy(&script.bytes()));
    dialect.codec().decode_reply(&script.bytes()).expect("the answer decodes")
}

/// Decodes a streamed answer.
fn deltas(dialect: Dialect, script: &Script) -> Result<Vec<Delta>, crate::failure::Failure> {
    assert_eq!(head(script).0, StatusCode::OK, "{}", String::from_utf8_lossy(&script.bytes()));
    let bytes = script.bytes();
    let mut decoder = dialect.codec().stream_decoder();
    let mut out = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some(length) = sse::frame_len(rest) {
        let (frame, tail) = rest.split_at(length);
        rest = tail;
        decoder.push(&sse::parse(frame), &mut out)?;
    }
    decoder.finish(&mut out)?;
    Ok(out)
}

fn text_of(deltas: &[Delta]) -> String {
    let texts = deltas.iter().filter_map(|delta| {
        if let Delta::Text { text, .. } = delta { Some(text.as_str()) } else { None }
    });
    texts.collect()
}

/// A chat request that every dialect understands, with fields to add.
fn ask(dialect: Dialect, text: &str, more: Value) -> (String, Value) {
    let (path, mut body) = match dialect {
        Dialect::OpenAiChat => (
            "/v1/chat/completions".to_owned(),
            json!({"model": "tide-small", "messages": [{"role": "user", "content": text}]}),
        ),
        Dialect::Anthropic => (
            "/v1/messages".to_owned(),
            json!({"model": "tide-small", "max_tokens": 1000,
                "messages": [{"role": "user", "content": text}]}),
        ),
        Dialect::Gemini => {
            let stream = more.get("stream") == Some(&json!(true));
            let verb = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            (
                format!("/v1beta/models/tide-small:{verb}"),
                json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}),
            )
        }
    };
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().cloned().unwrap_or_default());
    if dialect == Dialect::Gemini {
        fields.remove("stream");
    }
    (path, body)
}
