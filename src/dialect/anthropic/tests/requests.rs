//! Callers' requests, read.

use serde_json::Value;

use super::encoded::written;
use super::*;
use crate::chat::{
    ChatRequest, Choice, Effort, MediaSource, Opaque, OpaqueKind, Reasoning, ResponseFormat, Role,
    ToolChoice,
};

fn read(body: Value) -> ChatRequest {
    Anthropic.decode_request(body.to_string().as_bytes()).unwrap()
}

fn refused(body: &str) -> (String, Option<String>) {
    match Anthropic.decode_request(body.as_bytes()).unwrap_err() {
        Rejection::Invalid { problem, param } => (problem, param),
        other => panic!("{other:?}"),
    }
}

/// Everything that this dialect's clients send, in the shape in which the encoder writes it.
fn full_request() -> Value {
    json!({
        "model": "claude-x",
        "max_tokens": 4000,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}},
                {"type": "image", "source": {"type": "url", "url": "https://example.test/a.jpg"}},
                {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}, "title": "a.pdf"},
                {"type": "document", "source": {"type": "url", "url": "https://example.test/b"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "naïve text"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "citations": {"enabled": true}},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "ZGF0YQ=="},
                {"type": "text", "text": "As they say", "citations": [{"type": "char_location", "cited_text": "x"}]},
                {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "q"}},
                {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, {"b": null}]}},
                {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "plain"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "R0lGOD"}},
                ], "is_error": true, "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "go on"},
            ]},
        ],
        "tools": [
            {"name": "f", "description": "does f", "input_schema": {"type": "object", "properties": {"a": {}}}, "strict": true},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
        "stop_sequences": ["END"],
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "stream": true,
        "service_tier": "auto",
        "metadata": {"user_id": "u1"},
    })
}

#[test]
fn a_request_of_its_own_dialect_comes_out_as_it_went_in() {
    let body = full_request();
    let out = written(&read(body.clone()));
    for key in body.as_object().unwrap().keys() {
        assert_eq!(out[key], body[key], "{key}");
    }
    assert_eq!(out.as_object().unwrap().len(), body.as_object().unwrap().len());
}

#[test]
fn a_request_is_understood() {
    let chat = read(full_request());
    let roles: Vec<_> = chat.messages.iter().map(|message| message.role).collect();
    let expected = [Role::System, Role::User, Role::Assistant, Role::Tool, Role::Tool, Role::User];
    assert_eq!(roles, expected);
    assert_eq!(chat.max_tokens, Some(4000));
    assert_eq!(chat.user.as_deref(), Some("u1"));
    assert_eq!(chat.parallel_tool_calls, Some(false));
    assert_eq!(chat.tool_choice, Some(ToolChoice::Auto));
    assert_eq!(chat.sampling.stop, ["END"]);
    assert_eq!(chat.reasoning.unwrap().budget_tokens, Some(2000));
    assert!(chat.stream && chat.include_usage);
    assert!(chat.tools[1].hosted.is_some());
    assert!(matches!(chat.response_format, Some(ResponseFormat::JsonSchema { .. })));
    let Part::Media(text_document) = &chat.messages[1].parts[6] else { panic!() };
    assert_eq!(text_document.source, MediaSource::Base64("bmHDr3ZlIHRleHQ=".into()));
    assert_eq!(text_document.media_type.as_deref(), Some("text/plain"));
    assert_eq!(chat.extra.keys().collect::<Vec<_>>(), ["service_tier"]);
}

#[test]
fn the_older_output_format_is_understood_too() {
    let chat = read(json!({
        "model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}],
        "output_format": {"type": "json_schema", "schema": {"type": "object", "title": "T"}},
    }));
    let Some(ResponseFormat::JsonSchema { schema, .. }) = chat.response_format else { panic!() };
    assert_eq!(schema["title"], "T");
}

#[test]
fn adaptive_thinking_is_an_effort_elsewhere_and_verbatim_at_home() {
    let body = json!({
        "model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}],
        "thinking": {"type": "adaptive", "display": "summarized"},
        "output_config": {"effort": "low"},
    });
    let chat = read(body.clone());
    let reasoning =
        Reasoning { effort: Some(Effort::Low), budget_tokens: None, visible: Some(true) };
    assert_eq!(chat.reasoning, Some(reasoning));
    assert_eq!(written(&chat), body);
    let off = read(json!({
        "model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}],
        "thinking": {"type": "disabled"},
    }));
    assert_eq!(off.reasoning.unwrap().budget_tokens, Some(0));
    assert_eq!(written(&off)["thinking"], json!({"type": "disabled"}));
}

#[test]
fn wrong_requests_are_refused_with_the_place() {
    let ok = r#""model":"m","max_tokens":1"#;
    for (body, param) in [
        (r#"{"max_tokens":1,"messages":[]}"#.to_owned(), "model"),
        (r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#.into(), "max_tokens"),
        (r#"{"model":"m","max_tokens":"9"}"#.into(), "max_tokens"),
        (format!("{{{ok}}}"), "messages"),
        (format!(r#"{{{ok},"messages":[]}}"#), "messages"),
        (format!(r#"{{{ok},"messages":{{}}}}"#), "messages"),
        (format!(r#"{{{ok},"messages":[{{"role":"user"}}]}}"#), "messages[0].content"),
        (format!(r#"{{{ok},"messages":[{{"role":"robot","content":""}}]}}"#), "messages[0].role"),
        (
            format!(
                r#"{{{ok},"messages":[{{"role":"user","content":[{{"type":"text","text":5}}]}}]}}"#
            ),
            "messages[0].content[0].text",
        ),
        (
            format!(r#"{{{ok},"messages":[{{"role":"user","content":[{{"text":"x"}}]}}]}}"#),
            "messages[0].content[0].type",
        ),
        (
            format!(
                r#"{{{ok},"messages":[{{"role":"user","content":[{{"type":"image","source":{{"type":"ftp"}}}}]}}]}}"#
            ),
            "messages[0].content[0].source.type",
        ),
        (
            format!(
                r#"{{{ok},"messages":[{{"role":"assistant","content":[{{"type":"tool_use","id":"i","name":"n","input":"x"}}]}}]}}"#
            ),
            "messages[0].content[0].input",
        ),
        (
            format!(
                r#"{{{ok},"messages":[{{"role":"user","content":"x"}}],"tools":[{{"name":"f"}}]}}"#
            ),
            "tools[0].input_schema",
        ),
        (
            format!(
                r#"{{{ok},"messages":[{{"role":"user","content":"x"}}],"tool_choice":{{"type":"some"}}}}"#
            ),
            "tool_choice.type",
        ),
        (
            format!(
                r#"{{{ok},"messages":[{{"role":"user","content":"x"}}],"stop_sequences":["a",1]}}"#
            ),
            "stop_sequences[1]",
        ),
        (
            format!(
                r#"{{{ok},"messages":[{{"role":"user","content":"x"}}],"thinking":{{"type":"enabled"}}}}"#
            ),
            "thinking.budget_tokens",
        ),
        (
            format!(r#"{{{ok},"messages":[{{"role":"user","content":"x"}}],"temperature":"hot"}}"#),
            "temperature",
        ),
    ] {
        let (problem, found) = refused(&body);
        assert_eq!(found.as_deref(), Some(param), "{body}: {problem}");
        assert!(problem.contains(param), "{problem}");
    }
}

#[test]
fn malformed_json_is_refused_with_its_position() {
    let (problem, param) = refused("{\n  \"model\": \"m\",\n  oops}");
    assert_eq!(param, None);
    assert!(problem.contains("line 3 column 3"), "{problem}");
    let (problem, _) = refused("[1]");
    assert!(problem.contains("must be an object, not an array"), "{problem}");
    assert!(Anthropic.decode_request(&[0xFF, 0xFE]).is_err());
    assert!(Anthropic.decode_request("[".repeat(100_000).as_bytes()).is_err());
}

#[test]
fn counting_needs_no_max_tokens() {
    let body = br#"{"model":"m","system":"s","messages":[{"role":"user","content":"hi"}]}"#;
    assert!(Anthropic.decode_request(body).is_err());
    let chat = decode_count_tokens(body).unwrap();
    assert_eq!(chat.messages.len(), 2);
    assert_eq!(encode_count_tokens(36), br#"{"input_tokens":36}"#);
}

#[test]
fn the_state_of_a_gemini_call_goes_out_before_it_and_comes_back_onto_it() {
    let opaque = Opaque { kind: OpaqueKind::GeminiSignature, value: "c2lnbmVk".to_owned() };
    let call = Part::ToolCall {
        id: "call_1".to_owned(),
        name: "tides".to_owned(),
        arguments: "{}".to_owned(),
        opaque: Some(opaque),
    };
    let choice = Choice { parts: vec![call.clone()], ..Choice::default() };
    let completion = Completion { choices: vec![choice], ..Completion::default() };
    let codec = Dialect::Anthropic.codec();
    let context = ReplyContext {
        request_id: "req_1".to_owned(),
        model: "m".to_owned(),
        created: 0,
        include_usage: false,
    };
    let reply: Value = serde_json::from_slice(&codec.encode_reply(&completion, &context)).unwrap();
    assert_eq!(reply["content"][0]["type"], "redacted_thinking");

    let body = json!({"model": "m", "max_tokens": 5, "messages": [
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": reply["content"]},
    ]});
    let body = body.to_string();
    assert!(codec.holds_foreign_state(body.as_bytes()));
    let chat = codec.decode_request(body.as_bytes()).unwrap();
    assert_eq!(chat.messages[1].parts, [call]);
}
