//! What requests of both wires need.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;

fn needs(body: &Value) -> Needs {
    Envelope::read(Bytes::from(body.to_string())).unwrap().needs()
}

#[test]
fn a_plain_request_needs_nothing() {
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": "is {\"type\": \"image\"} or \"image_url\" an \"image\"?"},
    ]});
    assert_eq!(
        needs(&body),
        Needs {
            tools: false,
            json_schema: false,
            images: false,
            choices: 1,
            max_tokens: None,
            body_bytes: body.to_string().len() as u64,
        }
    );
}

#[test]
fn each_need_is_seen_on_each_wire() {
    let with = |key: &str, value: Value| {
        let mut body = json!({"model": "m", "messages": []});
        body[key] = value;
        needs(&body)
    };
    assert!(with("tools", json!([{"type": "function"}])).tools);
    assert!(!with("tools", json!([])).tools);
    let schema = json!({"type": "json_schema", "json_schema": {"schema": {}}});
    assert!(with("response_format", schema).json_schema);
    assert!(!with("response_format", json!({"type": "json_object"})).json_schema);
    let format = json!({"type": "json_schema", "schema": {}});
    assert!(with("output_config", json!({"format": format})).json_schema);
    assert!(with("output_format", format).json_schema);
    assert_eq!(with("n", json!(3)).choices, 3);
    assert_eq!(with("n", json!(0)).choices, 1);
    assert_eq!(with("max_completion_tokens", json!(9)).max_tokens, Some(9));
    for part in [
        json!({"type": "image_url", "image_url": {"url": "data:"}}),
        json!({"type": "image", "source": {"type": "base64", "data": ""}}),
    ] {
        let messages = json!([{"role": "user", "content": [{"type": "text", "text": "?"}, part]}]);
        assert!(with("messages", messages).images);
    }
}

#[test]
fn spaces_in_the_json_do_not_hide_an_image() {
    let body = br#"{"model":"m","messages":[{"content":[{ "type" : "image" , "source":{}}]}]}"#;
    assert!(Envelope::read(Bytes::from_static(body)).unwrap().needs().images);
}
