use bytes::Bytes;
use serde_json::{Value, json};

use super::*;

fn read(body: &str) -> Result<Envelope, Rejection> {
    Envelope::read(Bytes::copy_from_slice(body.as_bytes()))
}

#[test]
fn takes_what_routing_needs() {
    let body = json!({
        "model": "fast", "stream": true, "max_tokens": 7, "max_completion_tokens": 9, "n": 2,
        "messages": [{"role": "user", "content": "hi"}], "tools": [{}],
        "response_format": {"type": "json_object"}, "stream_options": {"include_usage": true},
        "user": "u1",
    });
    let envelope = read(&body.to_string()).unwrap();
    assert_eq!(envelope.model, "fast");
    assert!(envelope.stream && envelope.has_tools && envelope.has_response_format);
    assert!(envelope.include_usage);
    assert_eq!((envelope.max_tokens, envelope.n), (Some(9), Some(2)));
    assert_eq!(envelope.text("user").as_deref(), Some("u1"));
    let messages: Value = serde_json::from_slice(envelope.raw("messages").unwrap()).unwrap();
    assert_eq!(messages, body["messages"]);
}

#[test]
fn edits_leave_the_rest_as_it_was() {
    let envelope =
        read(r#"{ "model" : "a", "x":1 , "max_tokens": 5,"y" : [ 1 ] , "stream":true }"#).unwrap();
    let quirks = Quirks {
        max_tokens_param: MaxTokensParam::MaxCompletionTokens,
        drop_params: vec!["y".into()],
        ..Quirks::default()
    };
    let (body, dropped) = envelope.for_anthropic("b", &quirks);
    assert_eq!(body, &br#"{ "model" : "b", "x":1 , "max_tokens": 5 , "stream":true }"#[..]);
    assert_eq!(dropped.0, ["y"]);
}
