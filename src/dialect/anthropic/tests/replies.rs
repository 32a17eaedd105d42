//! Whole answers, both ways.

use serde_json::Value;

use super::*;
use crate::chat::{Opaque, OpaqueKind};
use crate::failure::FailureKind;

fn decode(body: Value) -> Completion {
    Anthropic.decode_reply(body.to_string().as_bytes()).unwrap()
}

fn encode(completion: &Completion) -> Value {
    serde_json::from_slice(&Anthropic.encode_reply(completion, &context())).unwrap()
}

fn answer(parts: Vec<Part>, finish: Option<FinishReason>) -> Completion {
    Completion {
        choices: vec![Choice { parts, finish, ..Choice::default() }],
        ..Completion::default()
    }
}

fn call(arguments: &str) -> Part {
    Part::ToolCall {
        id: "call_1".into(),
        name: "f".into(),
        arguments: arguments.into(),
        opaque: None,
    }
}

#[test]
fn an_answer_is_understood() {
    let completion = decode(json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "Hi", "citations": null},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"b": 1, "a": 2}},
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3,
            "output_tokens": 20, "output_tokens_details": {"thinking_tokens": 8}},
        "container": null,
    }));
    let usage = Usage { input: 10, cached_input: 5, cache_write: 3, output: 12, reasoning: 8 };
    assert_eq!(completion.usage, Some(usage));
    let choice = &completion.choices[0];
    assert_eq!(choice.finish, Some(FinishReason::ToolCalls));
    let signature = Opaque { kind: OpaqueKind::AnthropicSignature, value: "s".into() };
    assert_eq!(
        choice.parts,
        [
            Part::Reasoning { text: "hm".into(), opaque: Some(signature) },
            Part::text("Hi"),
            Part::ToolCall {
                id: "toolu_1".into(),
                name: "f".into(),
                arguments: "{\"b\":1,\"a\":2}".into(),
                opaque: None,
            },
        ]
    );
}

#[test]
fn all_stop_reasons_are_known() {
    for (word, sequence, expected) in [
        ("end_turn", None, FinishReason::Stop),
        ("stop_sequence", Some("END"), FinishReason::StopSequence(Some("END".into()))),
        ("max_tokens", None, FinishReason::Length),
        ("model_context_window_exceeded", None, FinishReason::Length),
        ("tool_use", None, FinishReason::ToolCalls),
        ("refusal", None, FinishReason::Refusal),
        ("pause_turn", None, FinishReason::Pause),
        ("compaction", None, FinishReason::Other("compaction".into())),
    ] {
        let body = json!({"content": [], "stop_reason": word, "stop_sequence": sequence});
        assert_eq!(decode(body).choices[0].finish, Some(expected.clone()));
        let out = encode(&answer(Vec::new(), Some(expected)));
        assert_eq!(out["stop_sequence"], json!(sequence));
        let word = if word.starts_with("model_") { "max_tokens" } else { word };
        assert_eq!(out["stop_reason"], word);
    }
}

#[test]
fn what_followers_of_the_dialect_leave_out_is_made_good() {
    let completion = decode(json!({
        "id": "msg_9",
        "content": [
            {"type": "tool_use", "name": "f", "input": "{\"a\":1}"},
            {"type": "tool_use", "id": "", "name": "g", "input": null},
        ],
    }));
    let calls = calls(&completion.choices[0].parts);
    assert_eq!(calls[0], ("toolu_9_0".into(), "f".into(), json!({"a": 1})));
    assert_eq!(calls[1], ("toolu_9_1".into(), "g".into(), json!({})));
    assert_eq!((completion.usage, completion.choices[0].finish.clone()), (None, None));
}

#[test]
fn an_answer_that_is_none_is_a_failure() {
    for body in ["", "<html>", "[]", "{}", "{\"content\":5}", "{\"content\":[{\"type\":\"text\"}]}"]
    {
        let failure = Anthropic.decode_reply(body.as_bytes()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Degenerate, "{body}");
        let scanned = Anthropic.scan_reply(body.as_bytes());
        assert!(scanned.is_ok() || scanned == Err(failure), "{body}");
    }
    let inside = br#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#;
    for failure in
        [Anthropic.decode_reply(inside).unwrap_err(), Anthropic.scan_reply(inside).unwrap_err()]
    {
        assert_eq!(failure.kind, FailureKind::Overloaded);
        assert_eq!(failure.message, "busy");
    }
}

#[test]
fn another_dialects_answer_gets_ids_and_words_of_this_one() {
    let mut completion = answer(
        vec![
            Part::Reasoning { text: "why".into(), opaque: None },
            Part::text("Hello"),
            call(""),
            Part::Other { dialect: "gemini".into(), value: json!({"x": 1}) },
        ],
        Some(FinishReason::Stop),
    );
    completion.id = "chatcmpl-5".into();
    completion.extra_dialect = "openai-chat".into();
    completion.extra.insert("system_fingerprint".into(), "fp".into());
    completion.usage =
        Some(Usage { input: 1, cached_input: 2, cache_write: 0, output: 4, reasoning: 3 });
    assert_eq!(
        encode(&completion),
        json!({
            "id": "msg_req-01", "type": "message", "role": "assistant", "model": "route",
            "content": [
                {"type": "thinking", "thinking": "why", "signature": ""},
                {"type": "text", "text": "Hello"},
                {"type": "tool_use", "id": "call_1", "name": "f", "input": {}},
            ],
            // Azure says `stop` although tools were called.
            "stop_reason": "tool_use", "stop_sequence": null,
            "usage": {"input_tokens": 1, "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 2, "output_tokens": 7,
                "output_tokens_details": {"thinking_tokens": 3}},
        })
    );
}

#[test]
fn cut_arguments_are_closed_after_their_last_whole_member() {
    for (cut, whole) in [
        ("{\"a\": 1, \"b\": [1, 2, {\"c\": \"d\"", json!({"a": 1, "b": [1, 2, {"c": "d"}]})),
        ("{\"a\": \"x, y\", \"b\": \"unfin", json!({"a": "x, y"})),
        ("{\"a\": \"quote \\\" , \", \"k\": tr", json!({"a": "quote \" , "})),
        ("{\"a\"", json!({})),
        ("{", json!({})),
        ("nonsense", json!({})),
        ("[1]", json!({})),
        ("null", json!({})),
    ] {
        let out = encode(&answer(vec![call(cut)], Some(FinishReason::Length)));
        assert_eq!(out["content"][0]["input"], whole, "{cut}");
        assert_eq!(out["stop_reason"], "max_tokens");
    }
}

#[test]
fn a_refusal_is_text_that_ends_in_one() {
    let out = encode(&answer(vec![Part::Refusal { text: "No.".into() }], Some(FinishReason::Stop)));
    assert_eq!(out["content"], json!([{"type": "text", "text": "No."}]));
    assert_eq!(out["stop_reason"], "refusal");
    assert_eq!(encode(&Completion::default())["content"], json!([]));
}

#[test]
fn citations_stay_with_their_text() {
    let body = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
        "content": [
            {"type": "text", "text": "cited", "citations": [{"cited_text": "a"}, {"cited_text": "b"}]},
            {"type": "text", "text": "not cited"},
        ],
        "stop_reason": "end_turn", "stop_sequence": null, "usage": {"output_tokens": 1},
    });
    let out = encode(&decode(body.clone()));
    assert_eq!(out["content"], body["content"]);
}

#[test]
fn the_oldest_models_answer_is_one_text() {
    let body =
        br#"{"type":"completion","completion":" Hi","stop_reason":"stop_sequence","stop":"X"}"#;
    let completion = Anthropic.decode_reply(body).unwrap();
    assert_eq!(completion.choices[0].parts, [Part::text(" Hi")]);
    let finish = Some(FinishReason::StopSequence(Some("X".into())));
    assert_eq!(completion.choices[0].finish, finish);
    let summary = Anthropic.scan_reply(body).unwrap();
    assert_eq!((summary.finish, summary.text.head()), (finish, " Hi"));
}
