//! Requests: what goes where, what is refused, what is left out.

use super::*;
use crate::chat::{
    Effort, Message, Opaque, OpaqueKind, Reasoning, ResponseFormat, Role, Tool, ToolChoice,
};

fn chat(messages: Vec<Message>) -> ChatRequest {
    ChatRequest { messages, extra_dialect: "openai-chat".to_owned(), ..ChatRequest::default() }
}

fn hello() -> ChatRequest {
    chat(vec![Message::text(Role::User, "hello")])
}

fn tool(name: &str, parameters: Option<Value>) -> Tool {
    Tool {
        name: name.to_owned(),
        description: Some("d".to_owned()),
        parameters,
        strict: None,
        cache: None,
        hosted: None,
    }
}

fn call(id: &str, name: &str, arguments: &str, opaque: Option<Opaque>) -> Part {
    Part::ToolCall { id: id.into(), name: name.into(), arguments: arguments.into(), opaque }
}

fn result(call_id: &str, text: &str, is_error: bool) -> Part {
    let parts = vec![Part::text(text)];
    Part::ToolResult { call_id: call_id.into(), name: None, parts, is_error, cache: None }
}

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message { role, parts, name: None }
}

fn gemini_signature(value: &str) -> Option<Opaque> {
    Some(Opaque { kind: OpaqueKind::GeminiSignature, value: value.to_owned() })
}

fn encode_for(model: &str, chat: &ChatRequest) -> Value {
    let quirks = Quirks::default();
    let mut dropped = Dropped::default();
    let wire = Gemini.encode_request(chat, &target(model, &quirks), &mut dropped).unwrap();
    serde_json::from_slice(&wire.body).unwrap()
}

fn encode(chat: &ChatRequest) -> Value {
    encode_for("gemini-2.5-flash", chat)
}

fn refused(chat: &ChatRequest) -> String {
    let quirks = Quirks::default();
    let mut dropped = Dropped::default();
    let target = target("gemini-2.5-flash", &quirks);
    let rejection = Gemini.encode_request(chat, &target, &mut dropped).unwrap_err();
    rejection.param().unwrap().to_owned()
}

#[test]
fn the_path_names_model_and_method() {
    let quirks = Quirks::default();
    let path = |model: &str, stream: bool, quirks: &Quirks| {
        let chat = ChatRequest { stream, ..hello() };
        let target = target(model, quirks);
        Gemini.encode_request(&chat, &target, &mut Dropped::default()).unwrap().path
    };
    assert_eq!(path("g", false, &quirks), "/models/g:generateContent");
    assert_eq!(path("models/g", true, &quirks), "/models/g:streamGenerateContent?alt=sse");
    let quirks =
        Quirks { path: Some("/publishers/google/models/{model}".to_owned()), ..Quirks::default() };
    assert_eq!(path("g", false, &quirks), "/publishers/google/models/g:generateContent");
}

#[test]
fn a_conversation_with_tools_keeps_its_turns() {
    let chat = chat(vec![
        Message::text(Role::System, "be brief"),
        Message::text(Role::Developer, "be kind"),
        Message::text(Role::User, "weather?"),
        Message::text(Role::User, "in two cities"),
        message(
            Role::Assistant,
            vec![
                Part::Reasoning { text: "foreign".into(), opaque: None },
                call("a", "get", "{\"c\":\"x\"}", gemini_signature("sig")),
                call("b", "get", "", None),
            ],
        ),
        message(Role::Tool, vec![result("a", "{\"t\":1}", false)]),
        message(Role::Tool, vec![result("b", "boom", true)]),
        Message::text(Role::User, "and?"),
        Message::text(Role::System, "answer in verse"),
    ]);
    assert_eq!(
        encode(&chat),
        json!({
            "contents": [
                { "role": "user", "parts": [{ "text": "weather?" }, { "text": "in two cities" }] },
                { "role": "model", "parts": [
                    { "functionCall": { "name": "get", "args": { "c": "x" }, "id": "a" }, "thoughtSignature": "sig" },
                    { "functionCall": { "name": "get", "args": {}, "id": "b" } },
                ]},
                { "role": "user", "parts": [
                    { "functionResponse": { "name": "get", "response": { "t": 1 }, "id": "a" } },
                    { "functionResponse": { "name": "get", "response": { "error": "boom" }, "id": "b" } },
                ]},
                { "role": "user", "parts": [{ "text": "and?" }, { "text": "answer in verse" }] },
            ],
            "systemInstruction": { "parts": [{ "text": "be brief" }, { "text": "be kind" }] },
        })
    );
}

#[test]
fn instructions_alone_become_what_is_said() {
    let chat = chat(vec![Message::text(Role::System, "say hi")]);
    let expected = json!({ "contents": [{ "role": "user", "parts": [{ "text": "say hi" }] }] });
    assert_eq!(encode(&chat), expected);
}

#[test]
fn signatures_return_to_the_part_they_came_with() {
    let parts = vec![
        Part::Reasoning { text: "t".into(), opaque: gemini_signature("s1") },
        Part::Text { text: "x".into(), cache: None, opaque: gemini_signature("s2") },
        Part::text(""),
        Part::Text { text: String::new(), cache: None, opaque: gemini_signature("s3") },
        png("AAAA"),
        Part::Text { text: String::new(), cache: None, opaque: gemini_signature("s4") },
        Part::Reasoning {
            text: "other".into(),
            opaque: Some(Opaque { kind: OpaqueKind::AnthropicSignature, value: "no".into() }),
        },
    ];
    let body = encode(&chat(vec![message(Role::Assistant, parts)]));
    assert_eq!(
        body["contents"][0]["parts"],
        json!([
            { "text": "t", "thought": true, "thoughtSignature": "s1" },
            { "text": "x", "thoughtSignature": "s2" },
            { "text": "", "thoughtSignature": "s3" },
            { "inlineData": { "mimeType": "image/png", "data": "AAAA" }, "thoughtSignature": "s4" },
        ])
    );
}

#[test]
fn a_foreign_call_gets_the_documented_placeholder_where_the_model_checks() {
    let foreign = Some(Opaque { kind: OpaqueKind::AnthropicSignature, value: "no".into() });
    let parts = vec![call("a", "f", "{}", foreign), call("b", "f", "{}", None)];
    let history = chat(vec![message(Role::Assistant, parts)]);
    let signatures = |model: &str| -> Vec<Value> {
        let body = encode_for(model, &history);
        let parts = body["contents"][0]["parts"].as_array().unwrap();
        parts.iter().map(|part| part["thoughtSignature"].clone()).collect()
    };
    let skip = json!("skip_thought_signature_validator");
    assert_eq!(signatures("gemini-3-pro-preview"), [skip.clone(), Value::Null]);
    assert_eq!(signatures("models/gemini-3.5-flash"), [skip, Value::Null]);
    assert_eq!(signatures("gemini-2.5-flash"), [Value::Null, Value::Null]);
    let signed = chat(vec![message(
        Role::Assistant,
        vec![call("a", "f", "{}", gemini_signature("s")), call("b", "f", "{}", None)],
    )]);
    let body = encode_for("gemini-3-pro-preview", &signed);
    assert_eq!(body["contents"][0]["parts"][0]["thoughtSignature"], "s");
}

#[test]
fn media_goes_inline_or_by_address() {
    let media = |source: MediaSource, media_type: Option<&str>| {
        Part::Media(Media {
            source,
            media_type: media_type.map(str::to_owned),
            name: None,
            detail: None,
            cache: None,
        })
    };
    let url = "https://x.test/a.PNG?b=1";
    let parts = vec![
        media(MediaSource::Base64("AA==".into()), Some("audio/wav")),
        media(MediaSource::Url(url.into()), None),
        media(MediaSource::Url("gs://b/doc".into()), Some("application/pdf")),
    ];
    let body = encode(&chat(vec![message(Role::User, parts)]));
    assert_eq!(
        body["contents"][0]["parts"],
        json!([
            { "inlineData": { "mimeType": "audio/wav", "data": "AA==" } },
            { "fileData": { "mimeType": "image/png", "fileUri": url } },
            { "fileData": { "mimeType": "application/pdf", "fileUri": "gs://b/doc" } },
        ])
    );
    for part in [
        media(MediaSource::FileId("file-1".into()), None),
        media(MediaSource::Base64("AA==".into()), None),
    ] {
        let history = chat(vec![Message::text(Role::User, "x"), message(Role::User, vec![part])]);
        assert_eq!(refused(&history), "messages[1].content[0]");
    }
}

#[test]
fn tools_and_their_choice_are_written() {
    let schema = json!({ "type": "object", "properties": { "a": { "type": ["string", "null"] } } });
    let tools = vec![
        tool("f", Some(schema)),
        tool("g", Some(json!({ "type": "object", "properties": {} }))),
        Tool {
            hosted: Some(("gemini".into(), json!({ "googleSearch": {} }))),
            ..tool("googleSearch", None)
        },
    ];
    let body = encode(&ChatRequest { tools: tools.clone(), ..hello() });
    assert_eq!(
        body["tools"],
        json!([
            { "functionDeclarations": [
                { "name": "f", "description": "d", "parameters": {
                    "type": "object",
                    "properties": { "a": { "type": "string", "nullable": true } },
                }},
                { "name": "g", "description": "d" },
            ]},
            { "googleSearch": {} },
        ])
    );
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let table = [
        (ToolChoice::Auto, json!({ "mode": "AUTO" })),
        (ToolChoice::None, json!({ "mode": "NONE" })),
        (ToolChoice::Required, json!({ "mode": "ANY" })),
        (ToolChoice::Tool("f".into()), json!({ "mode": "ANY", "allowedFunctionNames": ["f"] })),
        (
            ToolChoice::Allowed { names: names(&["f", "g"]), required: true },
            json!({ "mode": "ANY", "allowedFunctionNames": ["f", "g"] }),
        ),
        (ToolChoice::Allowed { names: names(&["g"]), required: false }, json!({ "mode": "AUTO" })),
    ];
    for (choice, config) in table {
        let chat =
            ChatRequest { tools: tools.clone(), tool_choice: Some(choice.clone()), ..hello() };
        let body = encode(&chat);
        assert_eq!(body["toolConfig"]["functionCallingConfig"], config, "{choice:?}");
        if let ToolChoice::Allowed { required: false, .. } = choice {
            let declared = body["tools"][0]["functionDeclarations"].as_array().unwrap();
            assert_eq!(declared.len(), 1);
        }
    }
}

#[test]
fn settings_are_written_under_the_wires_names() {
    let mut chat = hello();
    chat.sampling.temperature = Some(0.5);
    chat.sampling.top_p = Some(0.9);
    chat.sampling.top_k = Some(40);
    chat.sampling.stop = vec!["END".into()];
    chat.sampling.seed = Some(7);
    chat.sampling.presence_penalty = Some(0.1);
    chat.sampling.frequency_penalty = Some(0.2);
    chat.max_tokens = Some(100);
    chat.n = Some(2);
    chat.logprobs = Some(3);
    chat.response_format = Some(ResponseFormat::JsonSchema {
        name: "n".into(),
        description: None,
        schema: json!({ "type": "object", "properties": { "a": { "const": "x" } }, "additionalProperties": false }),
        strict: Some(true),
    });
    chat.reasoning =
        Some(Reasoning { budget_tokens: Some(512), visible: Some(true), ..Reasoning::default() });
    assert_eq!(
        encode(&chat)["generationConfig"],
        json!({
            "temperature": 0.5, "topP": 0.9, "topK": 40, "maxOutputTokens": 100,
            "stopSequences": ["END"], "candidateCount": 2, "seed": 7, "presencePenalty": 0.1,
            "frequencyPenalty": 0.2, "responseLogprobs": true, "logprobs": 3,
            "responseMimeType": "application/json",
            "responseSchema": { "type": "object", "properties": { "a": { "type": "string", "enum": ["x"] } } },
            "thinkingConfig": { "thinkingBudget": 512, "includeThoughts": true },
        })
    );
    assert_eq!(encode(&hello()).get("generationConfig"), None);
}

#[test]
fn effort_is_a_level_or_a_budget_by_the_models_age() {
    let table = [
        ("gemini-2.5-flash", Effort::None, json!({ "thinkingBudget": 0 })),
        ("gemini-2.5-pro", Effort::None, json!({ "thinkingBudget": 128 })),
        ("gemini-2.5-flash", Effort::XHigh, json!({ "thinkingBudget": 24_576 })),
        ("gemini-3-flash-preview", Effort::Minimal, json!({ "thinkingLevel": "minimal" })),
        ("gemini-3-pro-preview", Effort::Medium, json!({ "thinkingLevel": "high" })),
        ("gemini-3.1-pro-preview", Effort::Medium, json!({ "thinkingLevel": "medium" })),
        ("gemini-3.1-pro-preview", Effort::None, json!({ "thinkingLevel": "low" })),
    ];
    for (model, effort, config) in table {
        let reasoning = Some(Reasoning { effort: Some(effort), ..Reasoning::default() });
        let body = encode_for(model, &ChatRequest { reasoning, ..hello() });
        assert_eq!(body["generationConfig"]["thinkingConfig"], config, "{model} {effort:?}");
    }
}

#[test]
fn what_cannot_be_carried_is_refused_by_name() {
    let parallel =
        ChatRequest { parallel_tool_calls: Some(false), tools: vec![tool("f", None)], ..hello() };
    assert_eq!(refused(&parallel), "parallel_tool_calls");
    let mut seed = hello();
    seed.sampling.seed = Some(1 << 40);
    assert_eq!(refused(&seed), "seed");
    let mut bias = hello();
    bias.extra.insert("logit_bias".into(), json!({ "1": 5 }));
    assert_eq!(refused(&bias), "logit_bias");
    let hosted = Tool { hosted: Some(("anthropic".into(), json!({}))), ..tool("web", None) };
    assert_eq!(refused(&ChatRequest { tools: vec![hosted], ..hello() }), "tools[0]");
    let cut = chat(vec![message(Role::Assistant, vec![call("a", "f", "{\"x\":", None)])]);
    assert_eq!(refused(&cut), "messages[0].content[0]");
    let lost = chat(vec![message(Role::Tool, vec![result("z", "x", false)])]);
    assert_eq!(refused(&lost), "messages[0].tool_call_id");
}

#[test]
fn what_a_quirk_names_is_left_out_and_told() {
    let quirks = Quirks {
        drop_params: ["parallel_tool_calls", "topK", "logit_bias"].map(str::to_owned).to_vec(),
        ..Quirks::default()
    };
    let mut chat =
        ChatRequest { parallel_tool_calls: Some(false), tools: vec![tool("f", None)], ..hello() };
    chat.sampling.top_k = Some(3);
    chat.extra.insert("logit_bias".into(), json!({ "1": 5 }));
    chat.extra.insert("metadata".into(), json!({ "a": "b" }));
    let mut dropped = Dropped::default();
    let wire = Gemini.encode_request(&chat, &target("g", &quirks), &mut dropped).unwrap();
    let body: Value = serde_json::from_slice(&wire.body).unwrap();
    assert_eq!(body.get("generationConfig"), None);
    assert_eq!(dropped.0, ["parallel_tool_calls", "top_k", "logit_bias", "metadata"]);
}

#[test]
fn our_own_fields_ride_along_and_come_back() {
    let body = json!({
        "contents": [{ "role": "user", "parts": [{ "text": "x" }] }],
        "safetySettings": [{ "category": "C", "threshold": "BLOCK_NONE" }],
        "cachedContent": "cachedContents/1",
        "tools": [{ "functionDeclarations": [{ "name": "f" }] }],
        "toolConfig": {
            "functionCallingConfig": { "mode": "AUTO", "streamFunctionCallArguments": true },
            "retrievalConfig": { "languageCode": "de" },
        },
        "generationConfig": { "temperature": 1.0, "responseModalities": ["TEXT"] },
    });
    let chat = Gemini.decode_request(body.to_string().as_bytes()).unwrap();
    assert_eq!(encode(&chat), body);
}
