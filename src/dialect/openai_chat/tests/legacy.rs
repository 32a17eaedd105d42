//! Legacy text completions over a chat.

use serde_json::json;

use super::*;
use crate::dialect::{decode_text_request, encode_text_reply, text_stream_encoder};

fn read(body: &Value) -> Result<ChatRequest, Rejection> {
    decode_text_request(body.to_string().as_bytes())
}

#[test]
fn a_prompt_becomes_a_message_of_the_user() {
    for prompt in [json!("Once"), json!(["Once"])] {
        let body = json!({ "model": "m", "prompt": prompt, "max_tokens": 5, "best_of": 1,
                           "echo": false, "suffix": null, "stream": true });
        let chat = read(&body).unwrap();
        assert_eq!(chat.messages, [Message::text(Role::User, "Once")]);
        assert_eq!((chat.max_tokens, chat.stream, chat.extra.len()), (Some(5), true, 0));
    }
}

#[test]
fn what_a_chat_cannot_honour_is_refused_by_name() {
    let cases = [
        (json!({ "model": "m" }), "prompt"),
        (json!({ "prompt": "x" }), "model"),
        (json!({ "model": "m", "prompt": [1, 2] }), "prompt"),
        (json!({ "model": "m", "prompt": ["a", "b"] }), "prompt"),
        (json!({ "model": "m", "prompt": "x", "suffix": "y" }), "suffix"),
        (json!({ "model": "m", "prompt": "x", "echo": true }), "echo"),
        (json!({ "model": "m", "prompt": "x", "logprobs": 2 }), "logprobs"),
    ];
    for (body, param) in cases {
        assert_eq!(read(&body).unwrap_err().param(), Some(param), "{body}");
    }
}

#[test]
fn answers_come_back_in_the_old_shape() {
    let choice = Choice {
        parts: vec![
            Part::Reasoning { text: "hm".to_owned(), opaque: None },
            Part::text("upon a time"),
        ],
        finish: Some(FinishReason::Length),
        ..Choice::default()
    };
    let completion = Completion { choices: vec![choice], ..Completion::default() };
    let reply: Value = serde_json::from_slice(&encode_text_reply(&completion, &context())).unwrap();
    assert_eq!(
        reply,
        json!({
            "id": "cmpl-req1", "object": "text_completion", "created": 1_700_000_000, "model": "smart",
            "choices": [{ "index": 0, "text": "upon a time", "logprobs": null, "finish_reason": "length" }]
        })
    );
}

#[test]
fn streams_come_back_in_the_old_shape() {
    let mut encoder = text_stream_encoder(context());
    let mut out = Vec::new();
    for delta in [
        Delta::Reasoning { choice: 0, text: "hm".to_owned() },
        Delta::Text { choice: 0, text: "upon".to_owned() },
        Delta::Finish { choice: 0, reason: FinishReason::Stop },
        Delta::Usage { usage: Usage { input: 1, output: 2, ..Usage::default() } },
        Delta::End,
    ] {
        encoder.push(&delta, &mut out);
    }
    let chunks = chunks(&out);
    assert_eq!(chunks.len(), 3);
    assert_eq!(chunks[0]["choices"][0]["text"], "upon");
    assert_eq!(chunks[1]["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunks[2]["usage"]["total_tokens"], 3);
    assert!(out.ends_with(b"data: [DONE]\n\n"));
}
