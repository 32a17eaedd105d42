//! Requests for providers, written.

use serde_json::Value;

use super::*;
use crate::chat::{
    ChatRequest, Effort, Media, MediaSource, Message, Opaque, OpaqueKind, Reasoning,
    ResponseFormat, Role, Tool, ToolChoice,
};

fn write_with(chat: &ChatRequest, quirks: &Quirks) -> Result<(Value, Vec<String>), Rejection> {
    let mut dropped = Dropped::default();
    let wire = Anthropic.encode_request(chat, &target(quirks), &mut dropped)?;
    Ok((serde_json::from_slice(&wire.body).unwrap(), dropped.0))
}

pub(super) fn written(chat: &ChatRequest) -> Value {
    let (body, dropped) = write_with(chat, &Quirks::default()).unwrap();
    assert_eq!(dropped, Vec::<String>::new());
    body
}

fn unsupported(chat: &ChatRequest) -> String {
    match write_with(chat, &Quirks::default()).unwrap_err() {
        Rejection::Unsupported { param, target, .. } => {
            assert_eq!(target, "anthropic/claude-x");
            param
        }
        other => panic!("{other:?}"),
    }
}

/// A request of an OpenAI client with one user message.
fn foreign() -> ChatRequest {
    ChatRequest {
        model: "smart".into(),
        messages: vec![Message::text(Role::User, "hi")],
        extra_dialect: "openai-chat".into(),
        ..ChatRequest::default()
    }
}

fn tool(name: &str) -> Tool {
    Tool {
        name: name.into(),
        description: None,
        parameters: None,
        strict: None,
        cache: None,
        hosted: None,
    }
}

fn part_message(role: Role, parts: Vec<Part>) -> Message {
    Message { role, parts, name: None }
}

fn tool_call(id: &str, arguments: &str) -> Part {
    Part::ToolCall { id: id.into(), name: "f".into(), arguments: arguments.into(), opaque: None }
}

fn tool_result(id: &str, text: &str) -> Part {
    Part::ToolResult {
        call_id: id.into(),
        name: None,
        parts: vec![Part::text(text)],
        is_error: false,
        cache: None,
    }
}
#[test]
fn turns_are_merged_and_results_come_first() {
    let mut chat = foreign();
    chat.messages = vec![
        Message::text(Role::System, "one"),
        Message::text(Role::User, "a"),
        Message::text(Role::User, "b"),
        Message::text(Role::Assistant, ""),
        part_message(
            Role::Assistant,
            vec![tool_call("call|1", ""), tool_call("call_2", "{\"x\":1}")],
        ),
        part_message(Role::Tool, vec![tool_result("call|1", "r1")]),
        Message::text(Role::User, "c"),
        part_message(Role::Tool, vec![tool_result("call_2", "")]),
        Message::text(Role::Developer, "two"),
    ];
    let body = written(&chat);
    assert_eq!(
        body["system"],
        json!([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}])
    );
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": [
                {"type": "text", "text": "a"}, {"type": "text", "text": "b"},
            ]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "call_1", "name": "f", "input": {}},
                {"type": "tool_use", "id": "call_2", "name": "f", "input": {"x": 1}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "r1"},
                {"type": "tool_result", "tool_use_id": "call_2"},
                {"type": "text", "text": "c"},
            ]},
        ])
    );
}

#[test]
fn an_empty_turn_between_two_of_one_role_leaves_one_turn() {
    let mut chat = foreign();
    chat.messages = vec![
        Message::text(Role::User, "a"),
        Message::text(Role::Assistant, ""),
        Message::text(Role::User, "b"),
    ];
    assert_eq!(written(&chat)["messages"].as_array().unwrap().len(), 1);
    chat.messages = vec![Message::text(Role::System, "only")];
    assert_eq!(unsupported(&chat), "messages");
}

#[test]
fn only_this_providers_own_state_goes_back() {
    let opaque = |kind| Some(Opaque { kind, value: "v".into() });
    let reasoning = |kind| Part::Reasoning { text: "t".into(), opaque: opaque(kind) };
    let mut chat = foreign();
    chat.messages.push(part_message(
        Role::Assistant,
        vec![
            Part::Reasoning { text: "unsigned".into(), opaque: None },
            reasoning(OpaqueKind::GeminiSignature),
            reasoning(OpaqueKind::ReasoningDetail),
            reasoning(OpaqueKind::AnthropicSignature),
            Part::Reasoning { text: String::new(), opaque: opaque(OpaqueKind::AnthropicRedacted) },
            Part::Other { dialect: "gemini".into(), value: json!({"executableCode": {}}) },
        ],
    ));
    assert_eq!(
        written(&chat)["messages"][1]["content"],
        json!([
            {"type": "thinking", "thinking": "t", "signature": "v"},
            {"type": "redacted_thinking", "data": "v"},
        ])
    );
}

#[test]
fn max_tokens_is_always_sent() {
    let mut chat = foreign();
    assert_eq!(written(&chat)["max_tokens"], 4096);
    chat.reasoning = Some(Reasoning { effort: Some(Effort::Low), ..Reasoning::default() });
    assert_eq!(written(&chat)["max_tokens"], 8192);
    let quirks = Quirks::default();
    let target = RequestTarget { output_tokens: Some(64_000), ..target(&quirks) };
    let wire = Anthropic.encode_request(&chat, &target, &mut Dropped::default()).unwrap();
    let body: Value = serde_json::from_slice(&wire.body).unwrap();
    assert_eq!(body["max_tokens"], 64_000);
    assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 4096}));
    chat.max_tokens = Some(3_000);
    let body = written(&chat);
    assert_eq!(body["max_tokens"], 3_000);
    assert_eq!(body["thinking"]["budget_tokens"], 2_999);
    chat.max_tokens = Some(500);
    assert_eq!(unsupported(&chat), "reasoning_effort");
}

#[test]
fn what_cannot_be_said_is_refused_by_name_or_dropped_by_a_quirk() {
    let with = |change: &dyn Fn(&mut ChatRequest)| {
        let mut chat = foreign();
        change(&mut chat);
        chat
    };
    let thinking = |chat: &mut ChatRequest| {
        chat.reasoning = Some(Reasoning { budget_tokens: Some(2_000), ..Reasoning::default() });
    };
    let cases: Vec<(&str, ChatRequest)> = vec![
        ("n", with(&|chat| chat.n = Some(2))),
        ("logprobs", with(&|chat| chat.logprobs = Some(0))),
        ("seed", with(&|chat| chat.sampling.seed = Some(7))),
        ("frequency_penalty", with(&|chat| chat.sampling.frequency_penalty = Some(0.5))),
        ("presence_penalty", with(&|chat| chat.sampling.presence_penalty = Some(-0.5))),
        ("temperature", with(&|chat| chat.sampling.temperature = Some(1.5))),
        ("response_format", with(&|chat| chat.response_format = Some(ResponseFormat::Json))),
        (
            "logit_bias",
            with(&|chat| {
                chat.extra.insert("logit_bias".into(), json!({"1": 2}));
            }),
        ),
        (
            "temperature",
            with(&|chat| {
                thinking(chat);
                chat.sampling.temperature = Some(0.3);
            }),
        ),
        (
            "top_k",
            with(&|chat| {
                thinking(chat);
                chat.sampling.top_k = Some(5);
            }),
        ),
        (
            "top_p",
            with(&|chat| {
                thinking(chat);
                chat.sampling.top_p = Some(0.5);
            }),
        ),
        (
            "tool_choice",
            with(&|chat| {
                thinking(chat);
                chat.tools = vec![tool("f")];
                chat.tool_choice = Some(ToolChoice::Required);
            }),
        ),
    ];
    for (field, chat) in cases {
        assert_eq!(unsupported(&chat), field);
        let quirks = Quirks { drop_params: vec![field.into()], ..Quirks::default() };
        let (body, dropped) = write_with(&chat, &quirks).unwrap();
        assert_eq!(dropped, [field]);
        assert_eq!(body.get(field), None);
    }
}

#[test]
fn what_says_nothing_or_only_asks_for_bookkeeping_is_let_through() {
    let mut chat = foreign();
    chat.n = Some(1);
    chat.sampling.frequency_penalty = Some(0.0);
    chat.response_format = Some(ResponseFormat::Text);
    chat.extra.insert("logit_bias".into(), Value::Null);
    assert_eq!(written(&chat).as_object().unwrap().len(), 3);
    chat.extra.insert("store".into(), true.into());
    chat.messages[0].name = Some("Ada".into());
    let (_, dropped) = write_with(&chat, &Quirks::default()).unwrap();
    assert_eq!(dropped, ["messages.name", "store"]);
}

#[test]
fn tools_and_choices_are_said_in_this_wires_words() {
    let mut chat = foreign();
    chat.tools = vec![tool("f"), tool("g"), tool("h")];
    assert_eq!(
        written(&chat)["tools"][0],
        json!({"name": "f", "input_schema": {"type": "object"}})
    );
    assert_eq!(written(&chat).get("tool_choice"), None);
    let allowed = |required| ToolChoice::Allowed { names: vec!["g".into(), "h".into()], required };
    for (choice, expected) in [
        (ToolChoice::Auto, json!({"type": "auto"})),
        (ToolChoice::None, json!({"type": "none"})),
        (ToolChoice::Required, json!({"type": "any"})),
        (ToolChoice::Tool("g".into()), json!({"type": "tool", "name": "g"})),
        (allowed(false), json!({"type": "auto"})),
        (allowed(true), json!({"type": "any"})),
    ] {
        let count = if matches!(choice, ToolChoice::Allowed { .. }) { 2 } else { 3 };
        chat.tool_choice = Some(choice);
        let body = written(&chat);
        assert_eq!(body["tool_choice"], expected);
        assert_eq!(body["tools"].as_array().unwrap().len(), count);
    }
    chat.tool_choice = None;
    chat.parallel_tool_calls = Some(false);
    let expected = json!({"type": "auto", "disable_parallel_tool_use": true});
    assert_eq!(written(&chat)["tool_choice"], expected);
    chat.tools[0].hosted = Some(("gemini".into(), json!({"googleSearch": {}})));
    assert_eq!(unsupported(&chat), "tools[0]");
}

#[test]
fn media_are_carried_where_the_wire_can() {
    let media = |source: MediaSource, media_type: Option<&str>| {
        let mut chat = foreign();
        chat.messages[0].parts = vec![Part::Media(Media {
            source,
            media_type: media_type.map(Into::into),
            name: None,
            detail: Some("high".into()),
            cache: None,
        })];
        chat
    };
    let block = |chat: &ChatRequest| written(chat)["messages"][0]["content"][0].clone();
    let sniffed = block(&media(MediaSource::Base64("/9j/4AAQ".into()), None));
    assert_eq!(sniffed["source"]["media_type"], "image/jpeg");
    let address = block(&media(MediaSource::Url("https://e.test/x".into()), None));
    assert_eq!(
        address,
        json!({"type": "image", "source": {"type": "url", "url": "https://e.test/x"}})
    );
    let text = block(&media(MediaSource::Base64("aGk=".into()), Some("text/markdown")));
    assert_eq!(text["source"]["data"], "hi");
    for chat in [
        media(MediaSource::Base64("AAAA".into()), Some("audio/wav")),
        media(MediaSource::Url("gs://bucket/x.png".into()), Some("image/png")),
        media(MediaSource::FileId("file-1".into()), None),
        media(MediaSource::Base64("????".into()), Some("text/plain")),
    ] {
        assert_eq!(unsupported(&chat), "messages[0].content[0]");
    }
}

#[test]
fn arguments_that_are_no_object_are_refused_with_their_place() {
    let mut chat = foreign();
    chat.messages.push(part_message(Role::Assistant, vec![tool_call("c", "{\"a\": ")]));
    assert_eq!(unsupported(&chat), "messages[1].content[0]");
}

#[test]
fn the_request_line_follows_the_quirks() {
    let quirks = Quirks::default();
    let wire =
        Anthropic.encode_request(&foreign(), &target(&quirks), &mut Dropped::default()).unwrap();
    assert_eq!(wire.path, "/messages");
    assert_eq!(wire.headers[0].0, "anthropic-version");
    assert_eq!(wire.headers[0].1, "2023-06-01");
    let quirks = Quirks {
        path: Some("/models/{model}:rawPredict".into()),
        drop_params: vec!["temperature".into()],
        ..Quirks::default()
    };
    let mut chat = foreign();
    chat.sampling.temperature = Some(0.5);
    let mut dropped = Dropped::default();
    let wire = Anthropic.encode_request(&chat, &target(&quirks), &mut dropped).unwrap();
    assert_eq!(wire.path, "/models/claude-x:rawPredict");
    assert_eq!(dropped.0, ["temperature"]);
    assert!(!String::from_utf8_lossy(&wire.body).contains("temperature"));
}

#[test]
fn thinking_stays_off_in_the_middle_of_tool_calls_whose_thoughts_are_gone() {
    let mut chat = foreign();
    chat.reasoning = Some(Reasoning { effort: Some(Effort::Low), ..Reasoning::default() });
    chat.messages.push(part_message(Role::Assistant, vec![tool_call("c1", "{}")]));
    chat.messages.push(part_message(Role::Tool, vec![tool_result("c1", "r")]));
    let (body, dropped) = write_with(&chat, &Quirks::default()).unwrap();
    assert_eq!((body.get("thinking"), dropped), (None, vec!["reasoning_effort".to_owned()]));

    let opaque = Some(Opaque { kind: OpaqueKind::AnthropicSignature, value: "s".into() });
    let thought = Part::Reasoning { text: "t".into(), opaque };
    chat.messages[1].parts.insert(0, thought);
    assert_eq!(written(&chat)["thinking"]["type"], "enabled");

    chat.messages[1].parts.remove(0);
    chat.messages.push(Message::text(Role::Assistant, "done"));
    chat.messages.push(Message::text(Role::User, "a new question"));
    assert_eq!(written(&chat)["thinking"]["type"], "enabled");
}

#[test]
fn a_limit_above_the_models_own_is_lowered_to_it() {
    let quirks = Quirks::default();
    let target = RequestTarget { output_tokens: Some(8_000), ..target(&quirks) };
    let sent = |chat: &ChatRequest| {
        let wire = Anthropic.encode_request(chat, &target, &mut Dropped::default()).unwrap();
        serde_json::from_slice::<Value>(&wire.body).unwrap()["max_tokens"].clone()
    };
    let mut chat = foreign();
    chat.max_tokens = Some(100_000);
    assert_eq!(sent(&chat), 8_000);
    chat.extra_dialect = "anthropic".into();
    assert_eq!(sent(&chat), 100_000);
}

#[test]
fn sampling_that_says_nothing_is_not_sent() {
    let mut chat = foreign();
    chat.sampling.temperature = Some(0.5);
    chat.sampling.top_p = Some(1.0);
    chat.messages.push(Message::text(Role::Assistant, " \n"));
    let body = written(&chat);
    assert_eq!((body["temperature"].clone(), body.get("top_p")), (json!(0.5), None));
    assert_eq!(body["messages"].as_array().unwrap().len(), 1);
}
