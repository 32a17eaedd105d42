//! Error answers, classified; and written for callers.

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::dialect::{retry_after, words};
use crate::failure::{Failure, FailureKind};
use crate::rejection::Rejection;

/// Classifies an error answer.
pub(super) fn decode(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    let retry_after = retry_after::of_headers(headers);
    let mut said = match serde_json::from_slice(body) {
        Ok(value) => read(&value),
        Err(_) => Words { message: words::quote(body), code: None },
    };
    said.message = words::or_silence(said.message, status, body);
    let header_code = headers
        .get("x-amzn-errortype")
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(':').next().unwrap_or(value).to_owned());
    let code = said.code.or(header_code);
    let by_status = FailureKind::from_status(status, retry_after);
    let kind = code
        .as_deref()
        .and_then(|code| kind_of(code, &said.message))
        // A word for the caller's fault says nothing where the status says that it is not his.
        .filter(|kind| *kind != FailureKind::CallerFault || by_status == FailureKind::CallerFault)
        .unwrap_or(by_status);
    let mut failure = Failure::new(refine(kind, &said.message), said.message);
    failure.status = Some(status);
    failure.retry_after = retry_after;
    failure.code = code;
    failure
}

/// The error that a success carries instead of an answer, if it does.
pub(super) fn inside_success(body: &Value) -> Option<Failure> {
    let is_error = body.get("type").and_then(Value::as_str) == Some("error");
    if !is_error && (body.get("error").is_none_or(Value::is_null) || body.get("content").is_some())
    {
        return None;
    }
    Some(event(body, FailureKind::ServerFault))
}

/// The failure that an error event tells of; `fallback` where its type says nothing.
pub(super) fn event(body: &Value, fallback: FailureKind) -> Failure {
    let said = read(body);
    let kind = said.code.as_deref().and_then(|code| kind_of(code, &said.message));
    let kind = refine(kind.unwrap_or(fallback), &said.message);
    let mut failure = Failure::new(kind, said.message);
    failure.code = said.code;
    failure
}

/// Writes an error answer's body.
pub(super) fn encode(rejection: &Rejection, request_id: &str) -> Vec<u8> {
    let status = rejection.face().status;
    let body = json!({
        "type": "error",
        "error": {"type": error_type(status), "message": rejection.to_string()},
        "request_id": request_id,
    });
    body.to_string().into_bytes()
}

/// This wire's word for a status.
pub(super) fn error_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        408 | 504 => "timeout_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

#[derive(Default)]
struct Words {
    message: String,
    code: Option<String>,
}

/// Finds message and type in the shapes that hosts of this dialect use: Anthropic's and Azure's
/// `{error: {type or code, message}}`, Vertex's with `status`, also as the element of an array,
/// Bedrock's flat `{message}`, and an error that is only a string.
fn read(body: &Value) -> Words {
    let body = body.as_array().and_then(|list| list.first()).unwrap_or(body);
    let error = body.get("error").unwrap_or(body);
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let message = text(error, "message")
        .or_else(|| error.as_str().map(str::to_owned))
        .or_else(|| text(body, "message"))
        .or_else(|| text(body, "Message"))
        .unwrap_or_default();
    let code = text(error, "type")
        .filter(|kind| kind != "error")
        .or_else(|| text(error, "code"))
        .or_else(|| text(error, "status"));
    Words { message, code }
}

fn kind_of(code: &str, message: &str) -> Option<FailureKind> {
    Some(match code {
        "overloaded_error" => FailureKind::Overloaded,
        "rate_limit_error" | "ThrottlingException" | "RESOURCE_EXHAUSTED" => {
            FailureKind::RateLimited
        }
        "billing_error" | "ServiceQuotaExceededException" => FailureKind::HardQuota,
        "authentication_error"
        | "permission_error"
        | "AccessDeniedException"
        | "UnrecognizedClientException"
        | "ExpiredTokenException" => FailureKind::AuthFault,
        "not_found_error" | "ResourceNotFoundException" => FailureKind::NotServed,
        "invalid_request_error" | "request_too_large" | "ValidationException" => {
            FailureKind::CallerFault
        }
        "ServiceUnavailableException" if message.contains("throttled") => FailureKind::Overloaded,
        "api_error"
        | "timeout_error"
        | "InternalServerException"
        | "ServiceUnavailableException"
        | "ModelTimeoutException"
        | "ModelErrorException" => FailureKind::ServerFault,
        _ => return None,
    })
}

/// Two things that the wire says only in words: an empty purse comes as an invalid request or as
/// a rate limit, and so does a filter's refusal to let an answer out.
fn refine(kind: FailureKind, message: &str) -> FailureKind {
    let lower = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let may_be_money = matches!(
        kind,
        FailureKind::CallerFault | FailureKind::RateLimited | FailureKind::AuthFault
    );
    if may_be_money && says(&["credit balance", "purchase credits", "usage limits", "spend limit"])
    {
        return FailureKind::HardQuota;
    }
    if kind == FailureKind::CallerFault && says(&["content filtering policy"]) {
        return FailureKind::Policy;
    }
    words::refine(kind, message)
}
