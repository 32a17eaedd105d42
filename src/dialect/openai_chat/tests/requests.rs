//! Reading callers' requests.

use serde_json::json;

use super::*;
use crate::chat::{Effort, Media, MediaSource, Reasoning, ResponseFormat, ToolChoice};
use crate::dialect::{Envelope, PlainRequest};

fn read(body: Value) -> ChatRequest {
    codec().decode_request(body.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

/// A request with one message of the user and these fields.
fn with(fields: Value) -> Value {
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "Hi" }] });
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn of_messages(messages: Value) -> Vec<Message> {
    read(json!({ "model": "m", "messages": messages })).messages
}

fn refusal(body: &Value) -> (String, String) {
    match codec().decode_request(body.to_string().as_bytes()) {
        Err(Rejection::Invalid { problem, param }) => (param.unwrap_or_default(), problem),
        other => panic!("{other:?}"),
    }
}

#[test]
fn wrong_messages_are_refused_with_their_path() {
    let message = |message: Value| json!({ "model": "m", "messages": [message] });
    let part = |part: Value| message(json!({ "role": "user", "content": [part] }));
    let cases = [
        (json!({ "model": "m", "messages": [] }), "messages", "at least one message"),
        (json!({ "messages": [{ "role": "user", "content": "x" }] }), "model", "is missing"),
        (json!({ "model": 5, "messages": [] }), "model", "must be a string, not a number"),
        (json!({ "model": "m", "messages": {} }), "messages", "must be an array, not an object"),
        (json!({ "model": "m", "messages": ["x"] }), "messages[0]", "must be an object"),
        (message(json!({ "content": "x" })), "messages[0].role", "is missing"),
        (message(json!({ "role": "robot", "content": "x" })), "messages[0].role", "`robot`"),
        (message(json!({ "role": "user" })), "messages[0].content", "is missing"),
        (message(json!({ "role": "user", "content": 1 })), "messages[0].content", "not a number"),
        (message(json!({ "role": "assistant" })), "messages[0].content", "is missing"),
        (message(json!({ "role": "tool", "content": "x" })), "messages[0].tool_call_id", "missing"),
        (
            message(json!({ "role": "tool", "tool_call_id": 4, "content": "x" })),
            "messages[0].tool_call_id",
            "must be a string",
        ),
        (part(json!({ "text": "x" })), "messages[0].content[0].type", "is missing"),
        (part(json!({ "type": "text" })), "messages[0].content[0].text", "is missing"),
        (
            part(json!({ "type": "image_url", "image_url": { "url": 7 } })),
            "messages[0].content[0].image_url.url",
            "must be a string, not a number",
        ),
        (
            part(json!({ "type": "image_url", "image_url": { "url": "cat.png" } })),
            "messages[0].content[0].image_url.url",
            "`https://`",
        ),
        (
            part(json!({ "type": "image_url", "image_url": { "url": "data:image/png,xx" } })),
            "messages[0].content[0].image_url.url",
            "base64",
        ),
        (
            message(
                json!({ "role": "assistant", "tool_calls": [{ "id": "a", "type": "function" }] }),
            ),
            "messages[0].tool_calls[0].function",
            "is missing",
        ),
    ];
    assert_refused(&cases);
}

#[test]
fn wrong_parameters_are_refused_with_their_path() {
    let cases = [
        (with(json!({ "temperature": "hot" })), "temperature", "must be a number, not a string"),
        (with(json!({ "max_tokens": -1 })), "max_tokens", "whole number"),
        (with(json!({ "n": 0 })), "n", "1 or more"),
        (with(json!({ "stop": [1] })), "stop[0]", "must be a string"),
        (with(json!({ "stream": "yes" })), "stream", "true or false"),
        (with(json!({ "tools": [{ "type": "function" }] })), "tools[0].function", "is missing"),
        (
            with(json!({ "tools": [{ "type": "function", "function": { "name": "" } }] })),
            "tools[0].function.name",
            "must not be empty",
        ),
        (with(json!({ "tool_choice": "maybe" })), "tool_choice", "`required`"),
        (with(json!({ "reasoning_effort": "huge" })), "reasoning_effort", "`xhigh`"),
        (
            with(json!({ "response_format": { "type": "json_schema" } })),
            "response_format.json_schema",
            "is missing",
        ),
        (
            with(json!({ "stream_options": { "include_usage": 1 } })),
            "stream_options.include_usage",
            "true or false",
        ),
    ];
    assert_refused(&cases);
}

fn assert_refused(cases: &[(Value, &str, &str)]) {
    for (body, param, says) in cases {
        let (found, problem) = refusal(body);
        assert_eq!(found, *param, "{problem}");
        assert!(problem.contains(says), "{param}: {problem}");
    }
}

#[test]
fn broken_json_is_refused_with_its_position() {
    let bodies: [&[u8]; 4] = [b"{\"model\": \"m\",\n  oops}", b"", b"\xff\xfe", b"[1]"];
    for body in bodies {
        let Err(Rejection::Invalid { problem, param: None }) = codec().decode_request(body) else {
            panic!("{body:?} was taken");
        };
        assert!(problem.contains("line") || problem.contains("an array"), "{problem}");
    }
    let Err(error) = codec().decode_request(bodies[0]) else { panic!("taken") };
    assert!(error.to_string().contains("line 2 column 3"), "{error}");
    let deep = "[".repeat(100_000);
    assert!(codec().decode_request(deep.as_bytes()).is_err());
}

#[test]
fn all_modelled_fields_are_read() {
    let chat = read(with(json!({
        "parallel_tool_calls": false, "temperature": 0.5, "top_p": 0.9, "top_k": 40,
        "frequency_penalty": 1, "presence_penalty": -1, "seed": 7, "stop": "END",
        "max_tokens": 5, "max_completion_tokens": 9, "n": 2, "logprobs": true, "top_logprobs": 3,
        "reasoning_effort": "high", "stream": true, "stream_options": { "include_usage": true },
        "user": "u", "metadata": { "b": 1, "a": [2] }, "verbosity": "low", "store": null
    })));
    assert_eq!(chat.parallel_tool_calls, Some(false));
    assert_eq!((chat.sampling.temperature, chat.sampling.top_k), (Some(0.5), Some(40)));
    assert_eq!(
        (chat.sampling.seed, chat.sampling.stop.as_slice()),
        (Some(7), &["END".to_owned()][..])
    );
    assert_eq!((chat.max_tokens, chat.n, chat.logprobs), (Some(9), Some(2), Some(3)));
    assert_eq!(
        chat.reasoning,
        Some(Reasoning { effort: Some(Effort::High), ..Reasoning::default() })
    );
    assert!(chat.stream && chat.include_usage);
    assert_eq!(chat.user.as_deref(), Some("u"));
    let extra = serde_json::to_string(&chat.extra).unwrap();
    assert_eq!(extra, r#"{"metadata":{"b":1,"a":[2]},"verbosity":"low"}"#);
    assert_eq!(chat.extra_dialect, "openai-chat");
}

#[test]
fn openrouters_reasoning_object_is_read() {
    let reasoning = |value: Value| read(with(json!({ "reasoning": value }))).reasoning.unwrap();
    assert_eq!(
        reasoning(json!({ "max_tokens": 2000, "exclude": true })),
        Reasoning { effort: None, budget_tokens: Some(2000), visible: Some(false) }
    );
    assert_eq!(reasoning(json!({ "enabled": false })).effort, Some(Effort::None));
    assert_eq!(reasoning(json!({ "enabled": true })).effort, Some(Effort::Medium));
    let (param, problem) = refusal(&with(json!({ "reasoning": { "depth": 3 } })));
    assert_eq!(param, "reasoning.depth");
    assert!(problem.contains("`effort`"));
}

#[test]
fn every_shape_of_tool_choice_is_read() {
    let choice = |value: Value| read(with(json!({ "tool_choice": value }))).tool_choice.unwrap();
    let named = json!({ "name": "f" });
    assert_eq!(choice("auto".into()), ToolChoice::Auto);
    assert_eq!(choice("none".into()), ToolChoice::None);
    assert_eq!(choice("required".into()), ToolChoice::Required);
    assert_eq!(choice("any".into()), ToolChoice::Required);
    let tool = ToolChoice::Tool("f".to_owned());
    assert_eq!(choice(json!({ "type": "function", "function": named })), tool);
    assert_eq!(choice(json!({ "type": "custom", "custom": named })), tool);
    let tools = json!([{ "type": "function", "function": named }]);
    let allowed = json!({ "mode": "required", "tools": tools });
    assert_eq!(
        choice(json!({ "type": "allowed_tools", "allowed_tools": allowed })),
        ToolChoice::Allowed { names: vec!["f".to_owned()], required: true }
    );
}

#[test]
fn tools_are_read_and_hosted_ones_kept_whole() {
    let custom =
        json!({ "type": "custom", "custom": { "name": "sql", "format": { "type": "text" } } });
    let chat = read(with(json!({ "tools": [
        { "type": "function", "function": {
            "name": "f", "description": "d", "strict": true,
            "parameters": { "type": "object", "properties": { "z": {}, "a": {} } } } },
        custom,
    ]})));
    let [function, hosted] = chat.tools.as_slice() else { panic!("{:?}", chat.tools) };
    assert_eq!(
        function.parameters.as_ref().unwrap().to_string(),
        r#"{"type":"object","properties":{"z":{},"a":{}}}"#
    );
    assert_eq!((function.name.as_str(), function.strict), ("f", Some(true)));
    assert_eq!(hosted.name, "sql");
    assert_eq!(hosted.hosted, Some(("openai-chat".to_owned(), custom)));
}

#[test]
fn old_functions_are_read_as_tools() {
    let chat = read(json!({
        "model": "m",
        "functions": [{ "name": "f", "parameters": {} }],
        "function_call": { "name": "f" },
        "messages": [
            { "role": "user", "content": "Hi" },
            { "role": "assistant", "content": null, "function_call": { "name": "f", "arguments": "{}" } },
            { "role": "function", "name": "f", "content": "done" },
        ],
    }));
    assert_eq!(chat.tools[0].name, "f");
    assert_eq!(chat.tool_choice, Some(ToolChoice::Tool("f".to_owned())));
    let Part::ToolCall { id, .. } = &chat.messages[1].parts[0] else { panic!() };
    let Part::ToolResult { call_id, name, .. } = &chat.messages[2].parts[0] else { panic!() };
    assert_eq!((id, name.as_deref()), (call_id, Some("f")));
}

#[test]
fn media_are_read_in_all_forms() {
    let parts = of_messages(json!([{ "role": "user", "content": [
        { "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA", "detail": "low" } },
        { "type": "image_url", "image_url": "https://x/y.png" },
        { "type": "input_audio", "input_audio": { "data": "UklG", "format": "mp3" } },
        { "type": "file", "file": { "file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf" } },
        { "type": "file", "file": { "file_id": "file-1" } },
        { "type": "video_url", "video_url": { "url": "https://v" } },
    ]}]))
    .remove(0)
    .parts;
    let media = |source, kind: Option<&str>| Media {
        source,
        media_type: kind.map(str::to_owned),
        name: None,
        detail: None,
        cache: None,
    };
    let base64 = |data: &str| MediaSource::Base64(data.to_owned());
    let low = Some("low".to_owned());
    let png = Media { detail: low, ..media(base64("AAAA"), Some("image/png")) };
    assert_eq!(parts[0], Part::Media(png));
    assert_eq!(parts[1], Part::Media(media(MediaSource::Url("https://x/y.png".to_owned()), None)));
    assert_eq!(parts[2], Part::Media(media(base64("UklG"), Some("audio/mpeg"))));
    let name = Some("a.pdf".to_owned());
    let pdf = Media { name, ..media(base64("JVBE"), Some("application/pdf")) };
    assert_eq!(parts[3], Part::Media(pdf));
    assert_eq!(parts[4], Part::Media(media(MediaSource::FileId("file-1".to_owned()), None)));
    assert!(matches!(&parts[5], Part::Other { value, .. } if value["type"] == "video_url"));
}

#[test]
fn a_message_as_sdks_echo_it_has_nothing_unknown_in_it() {
    let messages = of_messages(json!([{
        "role": "assistant", "content": "Hello", "refusal": null, "annotations": [], "audio": null,
        "function_call": null, "tool_calls": null
    }]));
    assert_eq!(messages, [Message::text(Role::Assistant, "Hello")]);
}

#[test]
fn unknown_fields_of_messages_are_kept() {
    let messages = of_messages(json!([{ "role": "assistant", "content": "So", "prefix": true }]));
    let other = Part::Other { dialect: "openai-chat".to_owned(), value: json!({ "prefix": true }) };
    assert_eq!(messages[0].parts, [Part::text("So"), other]);
}

#[test]
fn a_json_schema_is_read_with_its_key_order() {
    let schema = json!({ "type": "object", "properties": { "z": {}, "a": {} } });
    let format = json!({ "name": "out", "strict": true, "schema": schema });
    let chat =
        read(with(json!({ "response_format": { "type": "json_schema", "json_schema": format } })));
    let Some(ResponseFormat::JsonSchema { schema: found, strict, .. }) = chat.response_format
    else {
        panic!("{:?}", chat.response_format)
    };
    assert_eq!((found.to_string(), strict), (schema.to_string(), Some(true)));
    let grammar = json!({ "type": "grammar", "grammar": "x" });
    let chat = read(with(json!({ "response_format": grammar })));
    assert_eq!(chat.extra["response_format"], json!({ "grammar": "x", "type": "grammar" }));
}

#[test]
fn ten_megabytes_and_a_thousand_tools_are_read() {
    let tool = |n: usize| json!({ "type": "function", "function": { "name": format!("f{n}"), "parameters": {} } });
    let tools: Vec<Value> = (0..1000).map(tool).collect();
    let mut body = with(json!({ "tools": tools }));
    body["messages"][0]["content"] = "word ".repeat(2_000_000).into();
    let chat = read(body);
    assert_eq!(chat.tools.len(), 1000);
    assert_eq!(chat.messages[0].parts[0].as_text().map(str::len), Some(10_000_000));
}

#[test]
fn a_plain_request_says_what_the_whole_reading_says() {
    let messages = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "developer", "content": "Say \"no\"\n\u{e9}." },
        { "role": "user", "content": "Hi" },
        { "role": "assistant", "content": "" },
    ]);
    let common = json!({
        "messages": messages, "temperature": 0.7, "max_tokens": 5, "seed": 1, "stop": ["x"],
        "stream": true, "stream_options": { "include_usage": true }, "user": "u", "top_p": 1,
    });
    let body = with(common).to_string();
    let envelope = Envelope::read(body.clone().into()).expect("it is JSON");
    let plain = PlainRequest::read(&envelope).expect("it is plain");
    let read = codec().decode_request(body.as_bytes()).expect("it can be read");
    assert_eq!(plain.temperature, read.sampling.temperature);
    let texts: Vec<_> = plain.texts().filter(|(_, text)| !text.is_empty()).collect();
    let whole = read.messages.iter().flat_map(|message| {
        message.parts.iter().filter_map(|part| Some((message.role, part.as_text()?)))
    });
    assert_eq!(texts, whole.filter(|(_, text)| !text.is_empty()).collect::<Vec<_>>());
}

#[test]
fn whatever_is_to_be_looked_at_more_closely_is_no_plain_request() {
    let image = json!([{ "type": "image_url", "image_url": { "url": "https://x.test/y.png" } }]);
    let more = [
        json!({ "n": 2 }),
        json!({ "tools": [] }),
        json!({ "store": true }),
        json!({ "web_search_options": {} }),
        json!({ "modalities": ["audio"] }),
        json!({ "previous_response_id": "r" }),
        json!({ "best_of": 2 }),
        json!({ "temperature": "hot" }),
        json!({ "messages": [] }),
        json!({ "messages": [{ "role": "user", "content": image }] }),
        json!({ "messages": [{ "role": "tool", "content": "x", "tool_call_id": "c" }] }),
        json!({ "messages": [{ "role": "user", "content": "x", "name": "y" }] }),
        json!({ "messages": [{ "role": "assistant", "content": null }] }),
    ];
    for fields in more {
        let body = with(fields.clone()).to_string();
        let envelope = Envelope::read(body.into()).expect("it is JSON");
        assert!(PlainRequest::read(&envelope).is_none(), "{fields}");
    }
}
