//! Errors, both ways: `google.rpc.Status` in JSON.
//!
//! <https://cloud.google.com/apis/design/errors>. The status word tells more than the HTTP status,
//! and the details more than both: a bad key is an `INVALID_ARGUMENT`, and a used-up day's quota
//! has the same word as too many requests in one minute.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::wire;
use crate::dialect::{retry_after, words};
use crate::failure::{Failure, FailureKind};
use crate::rejection::Rejection;

/// Classifies an error answer.
pub(super) fn decode(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    let asked = retry_after::of_headers(headers);
    let mut failure = match find_error(body) {
        Some(error) => from_error(&error, Some(status)),
        None => Failure::new(FailureKind::from_status(status, asked), words::quote(body)),
    };
    failure.message = words::or_silence(failure.message, status, body);
    failure.status = Some(status);
    failure.retry_after = asked.or(failure.retry_after);
    if failure.kind == FailureKind::ServerFault
        && status == StatusCode::SERVICE_UNAVAILABLE
        && failure.retry_after.is_some()
    {
        failure.kind = FailureKind::Overloaded;
    }
    failure
}

/// The failure that a 200's body or an event of a stream reports: `{"error": {…}}`.
pub(super) fn from_value(value: &Value) -> Failure {
    match value.get("error").and_then(Value::as_object) {
        Some(error) => from_error(error, None),
        None => Failure::new(FailureKind::ServerFault, "the provider reports an error"),
    }
}

/// Writes an error answer's body.
pub(super) fn encode(rejection: &Rejection) -> Value {
    let face = rejection.face();
    json!({ "error": {
        "code": face.status.as_u16(),
        "message": rejection.to_string(),
        "status": status_word(face.status),
        "details": details(rejection, face.code),
    }})
}

fn from_error(error: &Map<String, Value>, http: Option<StatusCode>) -> Failure {
    let word = wire::text(error, "status");
    let code = wire::count(error, "code")
        .and_then(|code| u16::try_from(code).ok())
        .and_then(|code| StatusCode::from_u16(code).ok());
    let details = Details::read(wire::array(error, "details"));
    let message = wire::text(error, "message");
    let kind = words::refine(classify(word, http.or(code), &details), message);
    let mut failure = Failure::new(kind, message);
    failure.status = http.or(code);
    failure.retry_after = details.retry_after;
    failure.code = match (details.reason.is_empty(), word.is_empty()) {
        (false, _) => Some(details.reason),
        (true, false) => Some(word.to_owned()),
        (true, true) => None,
    };
    failure.param = details.field;
    failure
}

fn classify(word: &str, status: Option<StatusCode>, details: &Details) -> FailureKind {
    if details.reason.starts_with("API_KEY") || details.reason == "ACCESS_TOKEN_EXPIRED" {
        return FailureKind::AuthFault;
    }
    if let Some(status @ (StatusCode::UNAUTHORIZED | StatusCode::PAYMENT_REQUIRED)) = status {
        // What stands in front of Gemini has its own words.
        return FailureKind::from_status(status, None);
    }
    match word {
        "RESOURCE_EXHAUSTED" if details.is_long_quota => FailureKind::HardQuota,
        "RESOURCE_EXHAUSTED" => FailureKind::RateLimited,
        "UNAVAILABLE" => FailureKind::Overloaded,
        "PERMISSION_DENIED" | "UNAUTHENTICATED" => FailureKind::AuthFault,
        "NOT_FOUND" | "UNIMPLEMENTED" => FailureKind::NotServed,
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" | "ALREADY_EXISTS" => {
            FailureKind::CallerFault
        }
        "DEADLINE_EXCEEDED" | "INTERNAL" | "UNKNOWN" | "DATA_LOSS" | "ABORTED" | "CANCELLED" => {
            FailureKind::ServerFault
        }
        _ => match status {
            Some(StatusCode::TOO_MANY_REQUESTS) if details.is_long_quota => FailureKind::HardQuota,
            Some(status) => FailureKind::from_status(status, details.retry_after),
            None => FailureKind::ServerFault,
        },
    }
}

/// What the details of an error tell.
#[derive(Debug, Default)]
struct Details {
    /// `ErrorInfo.reason`.
    reason: String,
    /// `RetryInfo.retryDelay`.
    retry_after: Option<Duration>,
    /// The first field of `BadRequest.fieldViolations`.
    field: Option<String>,
    /// Whether a quota of a day or longer is used up, so that waiting out a delay is no help.
    is_long_quota: bool,
}

impl Details {
    fn read(details: &[Value]) -> Self {
        let mut read = Self::default();
        for detail in details.iter().filter_map(Value::as_object) {
            // Only the type's last word counts: `type.googleapis.com/google.rpc.RetryInfo`.
            let kind = wire::text(detail, "@type").rsplit('.').next().unwrap_or_default();
            match kind {
                "ErrorInfo" => wire::text(detail, "reason").clone_into(&mut read.reason),
                "RetryInfo" => {
                    read.retry_after = retry_after::protobuf(wire::text(detail, "retryDelay"))
                }
                "BadRequest" => read.field = first_field(detail),
                "QuotaFailure" => read.is_long_quota = is_long_quota(detail),
                _ => {}
            }
        }
        read
    }
}

fn is_long_quota(detail: &Map<String, Value>) -> bool {
    let violations = wire::array(detail, "violations").iter().filter_map(Value::as_object);
    violations.into_iter().any(|violation| {
        let words = ["quotaId", "quotaMetric", "description"].map(|name| {
            wire::text(violation, name).to_ascii_lowercase().replace(['_', '-', ' '], "")
        });
        words.iter().any(|word| {
            ["perday", "daily", "permonth", "monthly"].iter().any(|long| word.contains(long))
        })
    })
}

fn first_field(detail: &Map<String, Value>) -> Option<String> {
    let violations = wire::array(detail, "fieldViolations").iter().filter_map(Value::as_object);
    violations
        .map(|violation| wire::text(violation, "field"))
        .find(|field| !field.is_empty())
        .map(str::to_owned)
}

/// The error object of a body: bare, in an array of one, or in a frame of server-sent events.
fn find_error(body: &[u8]) -> Option<Map<String, Value>> {
    let value = serde_json::from_slice(body).ok().or_else(|| {
        crate::dialect::sse::first_data(body).and_then(|data| serde_json::from_slice(data).ok())
    })?;
    let error = wire::only(value).get("error")?.clone();
    if let Value::Object(error) = error {
        return Some(error);
    }
    error.as_str().map(|message| Map::from_iter([("message".into(), json!(message))]))
}

fn details(rejection: &Rejection, code: &str) -> Value {
    let mut details = vec![json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": code.to_ascii_uppercase(),
        "domain": "tidegate",
    })];
    if let Some(field) = rejection.param() {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{ "field": field, "description": rejection.to_string() }],
        }));
    }
    if let Some(delay) = rejection.retry_after() {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": format!("{}s", delay.as_secs_f64()),
        }));
    }
    details.into()
}

fn status_word(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        402 | 429 => "RESOURCE_EXHAUSTED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        400..=499 => "INVALID_ARGUMENT",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    }
}
