//! Writing requests for providers.

use serde_json::json;

use super::*;
use crate::chat::{Effort, Media, MediaSource, Reasoning, Sampling, Tool, ToolChoice};
use crate::dialect::{MaxTokensParam, StreamFinish, StreamUsage, SystemRole};

/// A request as it comes from Anthropic's side.
fn foreign(parts: Vec<Part>) -> ChatRequest {
    ChatRequest {
        model: "smart".to_owned(),
        messages: vec![Message { role: Role::User, parts, name: None }],
        extra_dialect: "anthropic".to_owned(),
        ..ChatRequest::default()
    }
}

fn native(body: Value) -> ChatRequest {
    codec().decode_request(body.to_string().as_bytes()).unwrap()
}

fn write(chat: &ChatRequest, quirks: &Quirks) -> Result<(Value, Vec<String>, String), Rejection> {
    let target =
        RequestTarget { model: "gpt x", label: "openai/gpt x", quirks, output_tokens: None };
    let mut dropped = Dropped::default();
    let wire = codec().encode_request(chat, &target, &mut dropped)?;
    Ok((serde_json::from_slice(&wire.body).unwrap(), dropped.0, wire.path))
}

fn plain(chat: &ChatRequest) -> Value {
    write(chat, &Quirks::default()).unwrap().0
}

fn refused(chat: &ChatRequest) -> String {
    match write(chat, &Quirks::default()) {
        Err(Rejection::Unsupported { param, target, problem }) => {
            assert_eq!(target, "openai/gpt x");
            assert!(!problem.is_empty());
            param
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn fields_of_other_dialects_are_refused_by_name_or_dropped_by_quirk() {
    let mut chat = foreign(vec![Part::text("Hi")]);
    chat.sampling.top_k = Some(40);
    assert_eq!(refused(&chat), "top_k");
    let quirks = Quirks { drop_params: vec!["top_k".to_owned()], ..Quirks::default() };
    let (body, dropped, _) = write(&chat, &quirks).unwrap();
    assert_eq!((body.get("top_k"), dropped), (None, vec!["top_k".to_owned()]));
    chat.sampling = Sampling::default();
    chat.extra.insert("mcp_servers".to_owned(), json!([1]));
    assert_eq!(refused(&chat), "mcp_servers");
    chat.extra.clear();
    chat.extra.insert("metadata".to_owned(), json!({ "user_id": "u" }));
    assert_eq!(plain(&chat).get("metadata"), None);
}

#[test]
fn what_this_wire_cannot_hold_is_refused() {
    let other = Part::Other { dialect: "anthropic".to_owned(), value: json!({ "type": "search" }) };
    assert_eq!(refused(&foreign(vec![Part::text("x"), other])), "messages[0].content");
    let media = |source, kind: &str| {
        let media_type = Some(kind.to_owned());
        Part::Media(Media { source, media_type, name: None, detail: None, cache: None })
    };
    let url = || MediaSource::Url("https://x".to_owned());
    assert_eq!(refused(&foreign(vec![media(url(), "application/pdf")])), "messages[0].content");
    let file = MediaSource::FileId("f".to_owned());
    assert_eq!(refused(&foreign(vec![media(file, "image/png")])), "messages[0].content");
    let result = Part::ToolResult {
        call_id: "c".to_owned(),
        name: None,
        parts: vec![media(url(), "image/png")],
        is_error: false,
        cache: None,
    };
    assert_eq!(refused(&foreign(vec![result])), "messages[0].content");
    let mut chat = foreign(vec![Part::text("x")]);
    chat.tools.push(Tool {
        name: "web_search".to_owned(),
        description: None,
        parameters: None,
        strict: None,
        cache: None,
        hosted: Some(("anthropic".to_owned(), json!({}))),
    });
    assert_eq!(refused(&chat), "tools[0]");
}

#[test]
fn quirks_rename_and_drop() {
    let body = json!({
        "model": "m", "max_tokens": 5, "stream": true, "seed": 1, "n": 1,
        "messages": [{ "role": "developer", "content": "Be brief" }]
    });
    let chat = native(body);
    let quirks = Quirks {
        max_tokens_param: MaxTokensParam::MaxCompletionTokens,
        system_role: SystemRole::System,
        drop_params: vec!["seed".to_owned(), "logit_bias".to_owned()],
        stream_usage: StreamUsage::Always,
        path: Some("/deployments/{model}/chat/completions?api-version=1".to_owned()),
        native_prefill: crate::dialect::NativePrefill::None,
        finish_reason: StreamFinish::Required,
        ..Quirks::default()
    };
    let (body, dropped, path) = write(&chat, &quirks).unwrap();
    assert_eq!(
        body.to_string(),
        r#"{"model":"gpt x","messages":[{"role":"system","content":"Be brief"}],"max_completion_tokens":5,"n":1,"stream":true}"#
    );
    assert_eq!(dropped, ["seed"]);
    assert_eq!(path, "/deployments/gpt%20x/chat/completions?api-version=1");
    let (body, dropped, path) = write(&chat, &Quirks::default()).unwrap();
    assert_eq!(body["messages"][0]["role"], "developer");
    assert_eq!(body["stream_options"], json!({ "include_usage": true }));
    assert_eq!((dropped.len(), path.as_str()), (0, "/chat/completions"));
}

#[test]
fn results_become_messages_of_their_own_before_what_the_user_says() {
    let result = |id: &str| Part::ToolResult {
        call_id: id.to_owned(),
        name: Some("f".to_owned()),
        parts: vec![Part::text("42")],
        is_error: true,
        cache: None,
    };
    let body = plain(&foreign(vec![result("a"), Part::text("and"), result("b")]));
    assert_eq!(
        body["messages"],
        json!([
            { "role": "tool", "tool_call_id": "a", "content": "42" },
            { "role": "tool", "tool_call_id": "b", "content": "42" },
            { "role": "user", "content": "and" },
        ])
    );
    assert_eq!(plain(&foreign(vec![result("a")]))["messages"].as_array().unwrap().len(), 1);
}

#[test]
fn thoughts_of_other_models_stay_behind() {
    let opaque = Opaque { kind: OpaqueKind::AnthropicSignature, value: "sig".to_owned() };
    let mut chat = foreign(vec![Part::text("Hi")]);
    chat.messages.push(Message {
        role: Role::Assistant,
        parts: vec![
            Part::Reasoning { text: "hm".to_owned(), opaque: Some(opaque) },
            Part::text("One "),
            Part::text("two"),
            Part::ToolCall {
                id: "c".to_owned(),
                name: "f".to_owned(),
                arguments: String::new(),
                opaque: Some(Opaque { kind: OpaqueKind::GeminiSignature, value: "g".to_owned() }),
            },
        ],
        name: None,
    });
    assert_eq!(
        plain(&chat)["messages"][1],
        json!({
            "role": "assistant", "content": "One two",
            "tool_calls": [{ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } }]
        })
    );
}

#[test]
fn cache_marks_go_only_where_the_caller_wrote_them_in_this_dialect() {
    let mark = json!({ "type": "ephemeral" });
    let text = Part::Text { text: "Hi".to_owned(), cache: Some(mark.clone()), opaque: None };
    let (body, dropped, _) = write(&foreign(vec![text]), &Quirks::default()).unwrap();
    assert_eq!(body["messages"][0]["content"], "Hi");
    assert_eq!(dropped, ["cache_control"]);
    let parts = json!([{ "type": "text", "text": "Hi", "cache_control": mark }]);
    let chat = native(json!({ "model": "m", "messages": [{ "role": "user", "content": parts }] }));
    let (body, dropped, _) = write(&chat, &Quirks::default()).unwrap();
    assert_eq!(body["messages"][0]["content"], parts);
    assert!(dropped.is_empty(), "{dropped:?}");
}

#[test]
fn budgets_become_efforts_except_where_the_caller_wrote_a_budget_here() {
    let mut chat = foreign(vec![Part::text("Hi")]);
    let budget = Reasoning { budget_tokens: Some(4_000), ..Reasoning::default() };
    chat.reasoning = Some(budget);
    let (body, dropped, _) = write(&chat, &Quirks::default()).unwrap();
    assert_eq!(body["reasoning_effort"], "low");
    assert_eq!(dropped, ["thinking.budget_tokens"]);
    chat.extra_dialect = "openai-chat".to_owned();
    assert_eq!(plain(&chat)["reasoning"], json!({ "max_tokens": 4000 }));
    chat.reasoning = Some(Reasoning { effort: Some(Effort::XHigh), ..Reasoning::default() });
    assert_eq!(plain(&chat)["reasoning_effort"], "xhigh");
}

#[test]
fn allowed_tools_are_written() {
    let mut chat = foreign(vec![Part::text("Hi")]);
    chat.tool_choice = Some(ToolChoice::Allowed { names: vec!["f".to_owned()], required: false });
    assert_eq!(plain(&chat).get("tool_choice"), None, "a choice among no tools");
    let (description, parameters, strict, cache) = (None, None, None, None);
    let name = "f".to_owned();
    chat.tools = vec![Tool { name, description, parameters, strict, cache, hosted: None }];
    assert_eq!(
        plain(&chat)["tool_choice"],
        json!({ "type": "allowed_tools", "allowed_tools": {
            "mode": "auto", "tools": [{ "type": "function", "function": { "name": "f" } }] } })
    );
}

#[test]
fn what_is_not_modelled_goes_through_a_decoded_request() {
    let body = json!({
        "model": "gpt x",
        "messages": [
            { "role": "user", "name": "ann", "content": [
                { "type": "text", "text": "See" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA", "detail": "low" } },
                { "type": "input_audio", "input_audio": { "data": "UklG", "format": "wav" } },
                { "type": "file", "file": { "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE" } },
            ]},
            { "role": "assistant", "content": "So", "prefix": true },
        ],
        "tools": [{ "type": "custom", "custom": { "name": "sql" } }],
        "tool_choice": { "type": "custom", "custom": { "name": "sql" } },
        "response_format": { "type": "json_schema", "json_schema": { "name": "o", "schema": {}, "strict": true } },
        "temperature": 1, "top_p": 0.5, "top_k": 3, "stop": ["a", "b"], "logprobs": true, "top_logprobs": 2,
        "stream": true, "stream_options": { "include_usage": true, "include_obfuscation": false },
        "user": "u", "logit_bias": { "5": 1 }, "prediction": { "type": "content", "content": "x" }
    });
    assert_eq!(plain(&native(body.clone())), body);
}
