//! Errors, both ways: those a provider hides in a success, and those the gateway tells a caller.

use serde_json::{Value, json};

use super::{failure, wire};
use crate::dialect::sse;
use crate::failure::{Blame, Failure, FailureKind};
use crate::rejection::Rejection;

/// Finds an error in what should be an answer or a piece of one: at the top, in a choice, or flat
/// in place of choices. What gives no hint is `otherwise`.
pub(super) fn embedded(value: &Value, otherwise: FailureKind) -> Option<Failure> {
    let top = value.as_object()?;
    let choices = value.get("choices").and_then(Value::as_array);
    if choices.is_none() || top.get("error").is_some_and(|error| !wire::is_blank(error)) {
        return failure::is_error(top).then(|| failure::failure_from_error_value(value, otherwise));
    }
    choices.into_iter().flatten().find_map(|choice| {
        let told = choice.get("error").is_some_and(|error| !wire::is_blank(error));
        let ended = wire::text(choice, "finish_reason") == "error";
        (told || ended).then(|| {
            let mut failure = failure::failure_from_error_value(choice, otherwise);
            if failure.message.is_empty() {
                "the provider ended with an error".clone_into(&mut failure.message);
            }
            failure
        })
    })
}

/// The `error` object of a rejection.
fn object(rejection: &Rejection) -> Value {
    let face = rejection.face();
    // SDK users look for the provider's own codes. `context_length_exceeded`, above all, is said
    // whatever the provider calls it.
    let own_code = if let Rejection::AttemptsFailed { failure, .. } = rejection
        && failure.kind.blame() == Blame::Caller
        && failure.kind != FailureKind::ContextTooLong
    {
        failure.code.as_deref()
    } else {
        None
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
