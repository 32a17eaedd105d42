//! Requests that callers send in Gemini's words.

use super::*;
use crate::chat::{Opaque, OpaqueKind, Role, ToolChoice};

#[test]
fn snake_case_is_read_as_camel_case_is() {
    let snake = json!({
        "system_instruction": { "parts": { "text": "s" } },
        "contents": [
            { "parts": [{ "text": "x" }, { "inline_data": { "mime_type": "image/png", "data": "AA==" } }] },
            { "role": "model", "parts": [{ "function_call": { "name": "f", "args": {} }, "thought_signature": "t" }] },
            { "role": "function", "parts": [{ "function_response": { "name": "f", "response": { "result": 1 } } }] },
        ],
        "tools": { "function_declarations": [{ "name": "f", "parameters_json_schema": { "type": "object" } }] },
        "tool_config": { "function_calling_config": { "mode": "ANY", "allowed_function_names": ["f"] } },
        "generation_config": { "max_output_tokens": 5, "thinking_config": { "thinking_budget": 0 } },
    });
    let chat = Gemini.decode_request(snake.to_string().as_bytes()).unwrap();
    assert_eq!(chat.messages.len(), 4);
    assert_eq!(chat.messages[3].role, Role::Tool);
    assert_eq!(chat.tools[0].name, "f");
    assert_eq!(chat.tool_choice, Some(ToolChoice::Tool("f".into())));
    assert_eq!(chat.max_tokens, Some(5));
    assert_eq!(chat.reasoning.unwrap().budget_tokens, Some(0));
    let signature = Opaque { kind: OpaqueKind::GeminiSignature, value: "t".to_owned() };
    let Part::ToolCall { id, opaque, .. } = &chat.messages[2].parts[0] else { panic!("a call") };
    assert_eq!(*opaque, Some(signature));
    let Part::ToolResult { call_id, parts, .. } = &chat.messages[3].parts[0] else {
        panic!("a result")
    };
    assert_eq!(call_id, id);
    assert_eq!(parts[0].as_text(), Some("1"));
    assert!(chat.extra.is_empty());
}

#[test]
fn a_wrong_request_is_refused_with_the_path_of_what_is_wrong() {
    let turn = |part: Value| json!({ "contents": [{ "parts": [part] }] });
    let table = [
        (json!({}), "contents"),
        (json!({ "contents": [] }), "contents"),
        (json!({ "contents": "x" }), "contents"),
        (json!({ "contents": [3] }), "contents[0]"),
        (json!({ "contents": [{ "role": "system", "parts": [] }] }), "contents[0].role"),
        (json!({ "contents": [{ "parts": 1 }] }), "contents[0].parts"),
        (turn(json!("x")), "contents[0].parts[0]"),
        (turn(json!({ "text": 1 })), "contents[0].parts[0].text"),
        (turn(json!({ "functionCall": {} })), "contents[0].parts[0].functionCall.name"),
        (
            turn(json!({ "functionCall": { "name": "f", "args": [] } })),
            "contents[0].parts[0].functionCall.args",
        ),
        (
            turn(json!({ "functionResponse": { "name": "f", "response": {} } })),
            "contents[0].parts[0].functionResponse.name",
        ),
        (turn(json!({ "inlineData": {} })), "contents[0].parts[0].inlineData.data"),
        (json!({ "contents": [{ "parts": [] }], "tools": 1 }), "tools"),
        (
            json!({ "contents": [{ "parts": [] }], "generationConfig": { "topK": "x" } }),
            "generationConfig.topK",
        ),
        (
            json!({ "contents": [{ "parts": [] }], "generationConfig": { "stopSequences": [1] } }),
            "generationConfig.stopSequences",
        ),
    ];
    for (body, path) in table {
        let rejection = Gemini.decode_request(body.to_string().as_bytes()).unwrap_err();
        assert_eq!(rejection.param(), Some(path), "{body}");
    }
    let rejection = Gemini.decode_request(b"{\"contents\": [}").unwrap_err();
    assert!(rejection.to_string().contains("line 1 column"), "{rejection}");
}

#[test]
fn results_find_their_calls_by_id_or_by_name_in_order() {
    let call = |args: u32| json!({ "functionCall": { "name": "f", "args": { "n": args } } });
    let answer = |n: u32| json!({ "functionResponse": { "name": "f", "response": { "n": n } } });
    let body = json!({ "contents": [
        { "role": "user", "parts": [{ "text": "x" }] },
        { "role": "model", "parts": [call(1), call(2)] },
        { "role": "user", "parts": [answer(1), answer(2)] },
        { "role": "model", "parts": [{ "functionCall": { "name": "f", "args": {}, "id": "own" } }] },
        { "role": "user", "parts": [
            { "functionResponse": { "name": "f", "response": { "error": "no" }, "id": "own" } },
            { "text": "and now?" },
        ]},
    ]});
    let chat = Gemini.decode_request(body.to_string().as_bytes()).unwrap();
    let ids = chat.messages.iter().flat_map(|message| &message.parts).filter_map(|part| {
        if let Part::ToolCall { id, .. } = part { Some(id.clone()) } else { None }
    });
    let ids: Vec<_> = ids.collect();
    let answered = chat.messages.iter().flat_map(|message| &message.parts).filter_map(|part| {
        if let Part::ToolResult { call_id, .. } = part { Some(call_id.clone()) } else { None }
    });
    assert_eq!(answered.collect::<Vec<_>>(), ids);
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[2], "own");
    assert_eq!(chat.messages[2].role, Role::Tool);
    assert_eq!(chat.messages[4].role, Role::User, "a turn that also says something is the user's");
    let Part::ToolResult { is_error, parts, .. } = &chat.messages[4].parts[0] else {
        panic!("a result")
    };
    assert!(is_error);
    assert_eq!(parts[0].as_text(), Some("no"));
}

#[test]
fn a_clip_with_bounds_stays_what_it_is() {
    let part = json!({
        "fileData": { "fileUri": "https://x.test/v.mp4" }, "videoMetadata": { "startOffset": "1s" },
    });
    let body = json!({ "contents": [{ "role": "user", "parts": [part] }] });
    let chat = Gemini.decode_request(body.to_string().as_bytes()).unwrap();
    assert!(
        matches!(&chat.messages[0].parts[0], Part::Other { dialect, .. } if dialect == "gemini")
    );
    let quirks = Quirks::default();
    let wire =
        Gemini.encode_request(&chat, &target("g", &quirks), &mut Dropped::default()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&wire.body).unwrap(), body);
}
