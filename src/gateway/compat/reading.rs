//! Chat completions to answers.

use serde::Deserialize;
use serde_json::Value;

use crate::compat::{Answer, Call};

#[derive(Deserialize)]
struct Reply {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<Value>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<ToolCall>>,
}

#[derive(Deserialize)]
struct ToolCall {
    #[serde(default)]
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: String,
}

#[derive(Default, Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// What a completion says; what it cost and took is not in it.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn read(body: &[u8]) -> Result<Answer, String> {
    let reply: Reply = serde_json::from_slice(body)
        .map_err(|error| format!("the answer is no chat completion: {error}"))?;
    let first = reply.choices.into_iter().next().ok_or("the answer has no choices")?;
    let Choice { message, finish_reason } = first;
    let usage = reply.usage.unwrap_or_default();
    let refused = message.refusal.is_some();
    let text = message.content.map(text).filter(|text| !text.is_empty());
    let calls = message.tool_calls.unwrap_or_default().into_iter();
    let calls = calls.filter_map(|call| call.function);
    Ok(Answer {
        text: text.or(message.refusal).unwrap_or_default(),
        calls: calls.map(|Function { name, arguments }| Call { name, arguments }).collect(),
        refused,
        finish_reason: finish_reason.unwrap_or_default(),
        input_tokens: usage.prompt_tokens,
        output_tokens: usage.completion_tokens,
        ..Answer::default()
    })
}

/// The text of a content, which may be one of parts.
fn text(content: Value) -> String {
    match content {
        Value::String(text) => text,
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str));
            texts.collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_calls_and_refusals_are_read() {
        let body = br#"{"choices": [{"message": {"content": "hi", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}"#;
        let answer = read(body).unwrap();
        assert_eq!((answer.text.as_str(), answer.finish_reason.as_str()), ("hi", "tool_calls"));
        assert_eq!(answer.calls, [Call { name: "f".to_owned(), arguments: "{}".to_owned() }]);
        assert_eq!((answer.input_tokens, answer.output_tokens), (3, 2));
        let refusal = br#"{"choices": [{"message": {"content": null, "refusal": "I cannot"}}]}"#;
        let answer = read(refusal).unwrap();
        assert!(answer.refused);
        assert_eq!(answer.text, "I cannot");
        let parts =
            br#"{"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"text": "b"}]}}]}"#;
        assert_eq!(read(parts).unwrap().text, "ab");
    }

    #[test]
    fn what_is_no_completion_is_told() {
        for wrong in ["", "[]", "{\"choices\": []}", "{\"error\": {}}"] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
