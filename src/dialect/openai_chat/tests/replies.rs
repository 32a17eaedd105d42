//! Whole answers and errors.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::dialect::StreamBreak;
use crate::failure::FailureKind;

fn reply(message: Value, finish: Value) -> Value {
    json!({ "id": "chatcmpl-9", "object": "chat.completion", "created": 5, "model": "m",
            "choices": [{ "index": 0, "message": message, "finish_reason": finish, "logprobs": null }] })
}

fn read(body: &Value) -> Completion {
    codec().decode_reply(body.to_string().as_bytes()).unwrap_or_else(|failure| panic!("{failure}"))
}

fn first(message: Value, finish: &str) -> Choice {
    read(&reply(message, finish.into())).choices.remove(0)
}

#[test]
fn finish_words_of_all_kinds_are_understood() {
    let call = json!([{ "id": "a", "function": { "name": "f", "arguments": null } }]);
    let cases = [
        ("stop", FinishReason::Stop),
        ("eos", FinishReason::Stop),
        ("max_tokens", FinishReason::Length),
        ("content_filter", FinishReason::ContentFilter),
        ("weird", FinishReason::Other("weird".to_owned())),
    ];
    for (word, reason) in cases {
        assert_eq!(first(json!({ "content": "x" }), word).finish, Some(reason));
    }
    for word in ["stop", "tool_call", "tool_calls", "function_call", ""] {
        let choice = first(json!({ "content": null, "tool_calls": call }), word);
        assert_eq!(choice.finish, Some(FinishReason::ToolCalls), "{word}");
    }
    let cut = first(json!({ "content": null, "tool_calls": call }), "length");
    assert_eq!(cut.finish, Some(FinishReason::Length));
    assert_eq!(first(json!({ "content": "x" }), "").finish, None);
}

#[test]
fn fields_that_say_nothing_are_not_parts() {
    let choice = first(
        json!({ "role": "assistant", "content": "x", "refusal": "", "annotations": [], "tool_calls": [],
                "audio": { "id": "", "data": "" }, "function_call": { "name": "", "arguments": "" } }),
        "stop",
    );
    assert_eq!(choice.parts, [Part::text("x")]);
}

#[test]
fn annotations_and_extra_fields_survive() {
    let mut body = reply(
        json!({ "role": "assistant", "content": "x", "refusal": null, "annotations": [{ "type": "url_citation" }] }),
        "stop".into(),
    );
    body["citations"] = json!(["https://a"]);
    body["system_fingerprint"] = "fp".into();
    let completion = read(&body);
    assert_eq!(completion.extra["citations"], json!(["https://a"]));
    let again = codec().encode_reply(&completion, &context());
    assert_eq!(serde_json::from_slice::<Value>(&again).unwrap(), body);
}

#[test]
fn an_answer_of_another_dialect_is_written_with_all_required_fields() {
    let completion = Completion {
        id: "msg_1".to_owned(),
        choices: vec![Choice {
            parts: vec![Part::ToolCall {
                id: "toolu_1".to_owned(),
                name: "f".to_owned(),
                arguments: "{}".to_owned(),
                opaque: None,
            }],
            finish: Some(FinishReason::ToolCalls),
            ..Choice::default()
        }],
        usage: Some(Usage { input: 1, cached_input: 2, cache_write: 4, output: 8, reasoning: 16 }),
        extra_dialect: "anthropic".to_owned(),
        extra: json!({ "container": 1 }).as_object().unwrap().clone(),
        ..Completion::default()
    };
    let written: Value =
        serde_json::from_slice(&codec().encode_reply(&completion, &context())).unwrap();
    assert_eq!(
        written,
        json!({
            "id": "chatcmpl-req1", "object": "chat.completion", "created": 1_700_000_000, "model": "smart",
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": null, "refusal": null, "tool_calls": [
                    { "id": "toolu_1", "type": "function", "function": { "name": "f", "arguments": "{}" } }] },
                "logprobs": null, "finish_reason": "tool_calls"
            }],
            "usage": {
                "prompt_tokens": 7, "completion_tokens": 24, "total_tokens": 31,
                "prompt_tokens_details": { "cached_tokens": 2, "cache_write_tokens": 4 },
                "completion_tokens_details": { "reasoning_tokens": 16 }
            }
        })
    );
    assert_eq!(read(&written).usage, completion.usage);
}

#[test]
fn endings_that_openai_has_no_word_for_keep_their_own_beside() {
    let word = |reason: FinishReason, parts: Vec<Part>| {
        let choice = Choice { finish: Some(reason), parts, ..Choice::default() };
        let completion = Completion { choices: vec![choice], ..Completion::default() };
        let reply = codec().encode_reply(&completion, &context());
        let mut reply: Value = serde_json::from_slice(&reply).unwrap();
        let choice = reply["choices"][0].take();
        (choice["finish_reason"].clone(), choice["native_finish_reason"].clone())
    };
    assert_eq!(word(FinishReason::StopSequence(None), vec![]), ("stop".into(), Value::Null));
    assert_eq!(word(FinishReason::Refusal, vec![]), ("content_filter".into(), "refusal".into()));
    let no = Part::Refusal { text: "no".to_owned() };
    assert_eq!(word(FinishReason::Refusal, vec![no]), ("stop".into(), "refusal".into()));
    assert_eq!(word(FinishReason::Other("x".to_owned()), vec![]), ("stop".into(), "x".into()));
}

#[test]
fn what_is_no_answer_is_a_failure() {
    let kind = |body: &[u8]| codec().decode_reply(body).unwrap_err().kind;
    assert_eq!(kind(b"<html>"), FailureKind::Degenerate);
    assert_eq!(kind(b"[]"), FailureKind::Degenerate);
    assert_eq!(kind(b"{}"), FailureKind::Degenerate);
    let overloaded = br#"{"error":{"message":"busy","code":"overloaded"}}"#;
    assert_eq!(kind(overloaded), FailureKind::Overloaded);
}

#[test]
fn errors_have_the_four_fields_that_sdks_read() {
    let error = |rejection: &Rejection| -> Value {
        serde_json::from_slice(&codec().encode_error(rejection, "req1")).unwrap()
    };
    assert_eq!(
        error(&Rejection::invalid("messages[0]", "`messages[0]` must be an object")),
        json!({ "error": {
            "message": "`messages[0]` must be an object", "type": "invalid_request_error",
            "param": "messages[0]", "code": "invalid_request"
        } })
    );
    let mut failure = Failure::new(FailureKind::CallerFault, "too long");
    failure.code = Some("context_length_exceeded".to_owned());
    let failed = error(&Rejection::AttemptsFailed { attempts: 1, failure, is_futile: false });
    assert_eq!(failed["error"]["code"], "context_length_exceeded");
    assert_eq!(failed["error"]["message"], "too long");
    let late = error(&Rejection::DeadlinePassed { within: Duration::from_secs(1) });
    assert_eq!(
        (&late["error"]["type"], &late["error"]["param"]),
        (&"server_error".into(), &Value::Null)
    );
}

#[test]
fn a_stream_ends_with_an_error_chunk_and_without_done() {
    let failure = Failure::new(FailureKind::MidStream, "cut");
    let rejection = Rejection::StreamFailed { failure };
    let broken =
        StreamBreak { rejection: &rejection, request_id: "req1", provider: None, summary: None };
    let bytes = codec().encode_stream_error(&broken);
    assert_eq!(chunks(&bytes)[0]["id"], "chatcmpl-req1");
    let mut scanner = codec().scanner();
    let seen = "data: {\"id\":\"gen-7\",\"created\":17.5,\"model\":\"m\",\"choices\":[{\"index\":0,\
        \"delta\":{\"content\":\"né\"}}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n";
    scanner.scan(seen.as_bytes()).unwrap();
    let summary = Some(scanner.summary());
    let bytes = codec().encode_stream_error(&StreamBreak {
        provider: Some("openrouter"),
        summary,
        ..broken
    });
    let chunk = &chunks(&bytes)[0];
    assert_eq!(
        (&chunk["id"], &chunk["created"], &chunk["model"]),
        (&"gen-7".into(), &17.into(), &"m".into())
    );
    let usage = json!({ "input_tokens": 3, "output_tokens": 1 });
    assert_eq!(
        chunk["tidegate"],
        json!({ "delivered_chars": 2, "provider": "openrouter", "retryable": true, "usage": usage })
    );
    assert_eq!(chunk["error"]["code"], "upstream_disconnected");
    assert_eq!(chunk["choices"][0]["finish_reason"], "error");
    assert!(!String::from_utf8_lossy(&bytes).contains("[DONE]"));
    assert_eq!(decode_stream(&bytes).unwrap_err().kind, FailureKind::ServerFault);
}
