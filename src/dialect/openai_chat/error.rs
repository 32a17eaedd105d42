//! Errors, both ways: those a provider hides in a success, and those the gateway tells a caller.

use http::StatusCode;
use serde_json::{Value, json};

use super::wire;
use crate::dialect::sse;
use crate::failure::{Blame, Failure, FailureKind};
use crate::rejection::Rejection;

/// Finds an error in what should be an answer or a piece of one: at the top, in a choice, or flat
/// in place of choices.
pub(super) fn embedded(value: &Value) -> Option<Failure> {
    let present = |error: &&Value| !wire::is_blank(error);
    if let Some(error) = value.get("error").filter(present) {
        return Some(read(error, value));
    }
    let choices = value.get("choices").and_then(Value::as_array);
    if let Some(choices) = choices {
        return choices.iter().find_map(|choice| {
            let error = choice.get("error").filter(present);
            let ended = wire::text(choice, "finish_reason") == "error";
            error.map(|error| read(error, choice)).or_else(|| {
                ended.then(|| {
                    Failure::new(FailureKind::ServerFault, "the provider ended with an error")
                })
            })
        });
    }
    let is_flat = wire::text(value, "object") == "error"
        || wire::text(value, "type").contains("error")
        || value.get("message").is_some_and(Value::is_string)
        || value.get("detail").is_some();
    is_flat.then(|| read(value, value))
}

/// Classifies an error object.
fn read(error: &Value, around: &Value) -> Failure {
    let message = match error {
        Value::String(text) => text.clone(),
        _ => ["message", "detail", "error"]
            .iter()
            .find_map(|key| error.get(*key))
            .map(|said| said.as_str().map_or_else(|| said.to_string(), str::to_owned))
            .unwrap_or_default(),
    };
    let code_value = error.get("code").or_else(|| around.get("code")).unwrap_or(&Value::Null);
    let kind_word = wire::text(error, "type");
    let code = match code_value {
        Value::String(code) if !code.is_empty() => Some(code.clone()),
        Value::Number(code) => Some(code.to_string()),
        _ => (!kind_word.is_empty()).then(|| kind_word.to_owned()),
    };
    let numbers = [
        code_value,
        error.get("status_code").unwrap_or(&Value::Null),
        error.get("status").unwrap_or(&Value::Null),
    ];
    let status = numbers
        .iter()
        .find_map(|value| wire::count(value).or_else(|| value.as_str()?.parse().ok()))
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| (400..600).contains(number))
        .and_then(|number| StatusCode::from_u16(number).ok());
    let words = format!("{kind_word} {}", code.as_deref().unwrap_or_default());
    let mut failure = Failure::new(kind_of(&words.to_ascii_lowercase(), status), message);
    failure.status = status;
    failure.code = code;
    failure.param =
        Some(wire::text(error, "param")).filter(|param| !param.is_empty()).map(str::to_owned);
    failure
}

fn kind_of(words: &str, status: Option<StatusCode>) -> FailureKind {
    let says = |any: &[&str]| any.iter().any(|word| words.contains(word));
    if says(&["content_filter", "content_policy", "responsibleai", "moderation"]) {
        FailureKind::Policy
    } else if says(&["insufficient_quota", "billing", "quota_exceeded"]) {
        FailureKind::HardQuota
    } else if says(&["overloaded", "unavailable", "capacity"]) {
        FailureKind::Overloaded
    } else if says(&["rate_limit", "too_many_requests"]) {
        FailureKind::RateLimited
    } else if let Some(status) = status {
        FailureKind::from_status(status, None)
    } else if says(&["authentication", "permission", "invalid_api_key"]) {
        FailureKind::AuthFault
    } else if says(&["invalid_request", "context_length", "invalid_prompt"]) {
        FailureKind::CallerFault
    } else {
        FailureKind::ServerFault
    }
}

/// The `error` object of a rejection.
fn object(rejection: &Rejection) -> Value {
    let face = rejection.face();
    let own_code = match rejection {
        // SDK users look for the provider's own codes, `context_length_exceeded` above all.
        Rejection::AttemptsFailed { failure, .. } if failure.kind.blame() == Blame::Caller => {
            failure.code.as_deref()
        }
        _ => None,
    };
    json!({
        "message": rejection.to_string(),
        "type": face.kind,
        "param": rejection.param(),
        "code": own_code.unwrap_or(face.code),
    })
}

/// Writes an error answer's body.
pub(super) fn encode(rejection: &Rejection) -> Vec<u8> {
    json!({ "error": object(rejection) }).to_string().into_bytes()
}

/// Writes the chunk that ends a stream with an error. OpenAI's SDKs raise when a chunk has
/// `error` at its top; programs that read on see a finish reason that is no success.
pub(super) fn encode_in_stream(rejection: &Rejection, request_id: &str) -> Vec<u8> {
    let chunk = json!({
        "id": format!("chatcmpl-{request_id}"),
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "",
        "choices": [{ "index": 0, "delta": {}, "logprobs": null, "finish_reason": "error" }],
        "error": object(rejection),
    });
    let mut out = Vec::new();
    sse::write(&mut out, "", chunk.to_string().as_bytes());
    out
}
