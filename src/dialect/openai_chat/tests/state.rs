//! Thinking and opaque state: handed to callers and taken back without loss.

use serde_json::json;

use super::*;

fn opaque(kind: OpaqueKind, value: &str) -> Option<Opaque> {
    Some(Opaque { kind, value: value.to_owned() })
}

fn thought(text: &str, opaque: Option<Opaque>) -> Part {
    Part::Reasoning { text: text.to_owned(), opaque }
}

fn call(id: &str, opaque: Option<Opaque>) -> Part {
    let (name, arguments) = ("f".to_owned(), "{\"a\":1}".to_owned());
    Part::ToolCall { id: id.to_owned(), name, arguments, opaque }
}

/// Messages whose state must survive, in this wire's order of thinking, text, calls.
fn cases() -> Vec<Vec<Part>> {
    use OpaqueKind::{AnthropicRedacted, AnthropicSignature, GeminiSignature, ReasoningDetail};
    let foreign = json!({
        "type": "reasoning.encrypted", "data": "zzz", "format": "openai-responses-v1", "id": "rs_1",
        "index": 0
    });
    let signed = json!({
        "type": "reasoning.text", "text": "deep", "signature": "s", "format": "other-v1"
    });
    let text = |opaque| Part::Text { text: "Answer".to_owned(), cache: None, opaque };
    vec![
        vec![thought("just so", None), text(None)],
        vec![thought("first", opaque(AnthropicSignature, "sig1")), text(None), call("a", None)],
        vec![
            thought("first", opaque(AnthropicSignature, "sig1")),
            thought("", opaque(AnthropicRedacted, "hidden")),
            thought("second", opaque(AnthropicSignature, "sig2")),
            text(None),
        ],
        vec![thought("", opaque(AnthropicSignature, "only")), text(None)],
        vec![thought("", opaque(AnthropicRedacted, "hidden")), call("a", None), call("b", None)],
        vec![text(opaque(GeminiSignature, "g1")), call("a", opaque(GeminiSignature, "g2"))],
        vec![thought("hm", opaque(GeminiSignature, "g0")), call("a", None)],
        vec![thought("summary", opaque(ReasoningDetail, &foreign.to_string())), text(None)],
        vec![thought("deep", opaque(ReasoningDetail, &signed.to_string())), text(None)],
    ]
}

/// The parts as a caller gives them back who echoes the message it got.
fn echo(message: Value) -> Vec<Part> {
    let body = json!({ "model": "m", "messages": [message] });
    codec().decode_request(body.to_string().as_bytes()).unwrap().messages.remove(0).parts
}

#[test]
fn state_of_a_whole_answer_comes_back_exactly() {
    for parts in cases() {
        let choice = Choice { parts: parts.clone(), ..Choice::default() };
        let completion = Completion { choices: vec![choice], ..Completion::default() };
        let reply = codec().encode_reply(&completion, &context());
        let reply: Value = serde_json::from_slice(&reply).unwrap();
        assert_eq!(echo(reply["choices"][0]["message"].clone()), parts, "{reply}");
        let body = reply.to_string();
        assert_eq!(codec().decode_reply(body.as_bytes()).unwrap().choices[0].parts, parts);
    }
}

/// The deltas that a provider's decoder makes of these parts, texts in pieces.
fn deltas_of(parts: &[Part]) -> Vec<Delta> {
    let mut out = Vec::new();
    let mut calls = 0;
    for part in parts {
        match part {
            Part::Reasoning { text, opaque } => {
                for piece in text.split_inclusive(['e', ' ']) {
                    out.push(Delta::Reasoning { choice: 0, text: piece.to_owned() });
                }
                if let Some(opaque) = opaque.clone() {
                    out.push(Delta::ReasoningOpaque { choice: 0, opaque });
                }
            }
            Part::Text { text, opaque, .. } => {
                out.push(Delta::Text { choice: 0, text: text.clone() });
                if let Some(opaque) = opaque.clone() {
                    out.push(Delta::TextOpaque { choice: 0, opaque });
                }
            }
            Part::ToolCall { id, name, arguments, opaque } => {
                let (id, name, opaque) = (id.clone(), name.clone(), opaque.clone());
                out.push(Delta::ToolCall { choice: 0, call: calls, id, name, opaque });
                out.push(Delta::ToolArguments { choice: 0, call: calls, json: arguments.clone() });
                calls += 1;
            }
            Part::Media(_)
            | Part::ToolResult { .. }
            | Part::Refusal { .. }
            | Part::Other { .. } => {
                panic!("not among the cases")
            }
        }
    }
    out.push(Delta::Finish { choice: 0, reason: FinishReason::Stop });
    out.push(Delta::End);
    out
}

/// A caller that puts a stream together: texts joined, details and calls collected.
fn collect(stream: &[u8]) -> Value {
    let mut message = json!({ "role": "assistant", "content": "" });
    let mut thinking = String::new();
    let mut content = String::new();
    let mut details = Vec::new();
    let mut calls: Vec<Value> = Vec::new();
    for chunk in chunks(stream) {
        let delta = &chunk["choices"][0]["delta"];
        thinking.push_str(delta["reasoning_content"].as_str().unwrap_or_default());
        content.push_str(delta["content"].as_str().unwrap_or_default());
        details.extend(delta["reasoning_details"].as_array().cloned().unwrap_or_default());
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = piece["index"].as_u64().unwrap() as usize;
            let more = piece["function"]["arguments"].as_str().unwrap();
            if index == calls.len() {
                calls.push(piece.clone());
            } else {
                let sofar = calls[index]["function"]["arguments"].as_str().unwrap().to_owned();
                calls[index]["function"]["arguments"] = (sofar + more).into();
            }
        }
    }
    message["content"] = content.into();
    message["reasoning_content"] = thinking.into();
    message["reasoning_details"] = details.into();
    message["tool_calls"] = calls.into();
    message
}

#[test]
fn state_of_a_stream_comes_back_exactly() {
    for parts in cases() {
        let stream = encode_stream(&deltas_of(&parts));
        assert_eq!(echo(collect(&stream)), parts, "{}", String::from_utf8_lossy(&stream));
    }
}

#[test]
fn a_stream_written_here_reads_as_the_same_deltas() {
    for parts in cases() {
        let deltas = deltas_of(&parts);
        let read = decode_stream(&encode_stream(&deltas)).unwrap();
        let content = |all: &[Delta]| -> Vec<Delta> {
            let kept =
                |delta: &&Delta| delta.is_semantic() && !matches!(delta, Delta::Finish { .. });
            all.iter().filter(kept).cloned().collect()
        };
        assert_eq!(content(&read), content(&deltas));
    }
}

#[test]
fn geminis_own_signatures_are_read() {
    let message = json!({
        "role": "assistant", "content": "Noon.",
        "extra_content": { "google": { "thought_signature": "sig", "thought": true } },
        "tool_calls": [{
            "id": "c", "type": "function", "function": { "name": "f", "arguments": "{\"a\":1}" },
            "extra_content": { "google": { "thought_signature": "other" } }
        }]
    });
    let text = Part::Text {
        text: "Noon.".to_owned(),
        cache: None,
        opaque: opaque(OpaqueKind::GeminiSignature, "sig"),
    };
    assert_eq!(echo(message), [text, call("c", opaque(OpaqueKind::GeminiSignature, "other"))]);
}

#[test]
fn a_plain_field_that_repeats_the_details_is_told_once() {
    let message = json!({
        "role": "assistant", "content": "x", "reasoning": "hm",
        "reasoning_details": [{ "type": "reasoning.text", "text": "hm", "format": null, "index": 0 }]
    });
    assert_eq!(echo(message), [thought("hm", None), Part::text("x")]);
}

#[test]
fn thinking_of_the_wrong_type_is_refused() {
    let message = json!({ "role": "assistant", "content": "x", "reasoning_details": "no" });
    let body = json!({ "model": "m", "messages": [message] });
    let error = codec().decode_request(body.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.param(), Some("messages[0].reasoning_details"));
}

#[test]
fn state_goes_back_to_a_provider_unless_a_quirk_drops_it() {
    let details = json!([{
        "type": "reasoning.text", "text": "hm", "signature": "s", "format": "anthropic-claude-v1",
        "index": 0
    }]);
    let message = json!({ "role": "assistant", "content": "x", "reasoning_details": details });
    let body = json!({ "model": "m", "messages": [message] });
    let chat = codec().decode_request(body.to_string().as_bytes()).unwrap();
    let write = |drop: &[&str]| -> (Value, Vec<String>) {
        let drop_params = drop.iter().map(|&param| param.to_owned()).collect();
        let quirks = Quirks { drop_params, ..Quirks::default() };
        let target =
            RequestTarget { model: "m", label: "p/m", quirks: &quirks, output_tokens: None };
        let mut dropped = Dropped::default();
        let wire = codec().encode_request(&chat, &target, &mut dropped).unwrap();
        let body: Value = serde_json::from_slice(&wire.body).unwrap();
        (body["messages"][0].clone(), dropped.0)
    };
    let (kept, _) = write(&[]);
    assert_eq!((&kept["reasoning_details"], &kept["reasoning_content"]), (&details, &"hm".into()));
    let (bare, dropped) = write(&["reasoning_content", "reasoning_details"]);
    assert_eq!(bare, json!({ "role": "assistant", "content": "x" }));
    assert_eq!(dropped, ["reasoning_content", "reasoning_details"]);
}
