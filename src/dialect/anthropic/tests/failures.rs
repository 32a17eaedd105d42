//! Errors, both ways.

use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::failure::FailureKind as K;

fn classify(status: u16, body: &str) -> Failure {
    let status = StatusCode::from_u16(status).unwrap();
    Anthropic.decode_failure(status, &HeaderMap::new(), body.as_bytes())
}

fn error(kind: &str, message: &str) -> String {
    json!({"type": "error", "error": {"type": kind, "message": message}}).to_string()
}

#[test]
fn errors_are_classified_by_type_words_and_status() {
    for (status, body, expected) in [
        (529, error("overloaded_error", "Overloaded"), K::Overloaded),
        (500, error("overloaded_error", "Overloaded"), K::Overloaded),
        (429, error("rate_limit_error", "slow down"), K::RateLimited),
        (400, error("invalid_request_error", "Your credit balance is too low"), K::HardQuota),
        (402, error("billing_error", "pay"), K::HardQuota),
        (400, error("invalid_request_error", "billing_plan: unknown field"), K::CallerFault),
        (401, error("authentication_error", "invalid x-api-key"), K::AuthFault),
        (403, error("permission_error", "no"), K::AuthFault),
        (400, error("invalid_request_error", "max_tokens: too large"), K::CallerFault),
        (404, error("not_found_error", "model: x"), K::NotServed),
        (404, String::new(), K::NotServed),
        (400, error("invalid_request_error", "prompt is too long: 9 > 8"), K::ContextTooLong),
        (400, r#"{"message":"The provided model identifier is invalid."}"#.into(), K::NotServed),
        (413, error("request_too_large", "big"), K::CallerFault),
        (
            400,
            error("invalid_request_error", "Output blocked by content filtering policy"),
            K::Policy,
        ),
        (500, error("api_error", "oops"), K::ServerFault),
        (504, error("timeout_error", "late"), K::ServerFault),
        (401, error("invalid_request_error", "odd"), K::AuthFault),
        (503, r#"{"message":"Model is getting throttled."}"#.into(), K::ServerFault),
        (502, "<html>bad gateway</html>".into(), K::ServerFault),
        (400, String::new(), K::CallerFault),
        (
            429,
            r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"q"}}]"#.into(),
            K::RateLimited,
        ),
    ] {
        let failure = classify(status, &body);
        assert_eq!(failure.kind, expected, "{status} {body}");
        assert_eq!(failure.status.unwrap().as_u16(), status);
    }
}

#[test]
fn message_and_code_are_taken_over() {
    let failure = classify(400, &error("invalid_request_error", "bad field"));
    assert_eq!(failure.message, "bad field");
    assert_eq!(failure.code.as_deref(), Some("invalid_request_error"));
    assert_eq!(classify(400, r#"{"error":"only text"}"#).message, "only text");
    assert_eq!(classify(500, r#"{"message":"flat"}"#).message, "flat");
    assert_eq!(classify(404, "").message, "the provider answered 404 with an empty body");
}

#[test]
fn retry_after_is_taken_in_milliseconds_first() {
    let mut headers = HeaderMap::new();
    let ask = |headers: &HeaderMap| {
        Anthropic.decode_failure(StatusCode::TOO_MANY_REQUESTS, headers, b"").retry_after
    };
    assert_eq!(ask(&headers), None);
    headers.insert("retry-after", "12".parse().unwrap());
    assert_eq!(ask(&headers), Some(Duration::from_secs(12)));
    headers.insert("retry-after-ms", "250".parse().unwrap());
    assert_eq!(ask(&headers), Some(Duration::from_millis(250)));
    for nonsense in ["-1", "NaN", "1e300"] {
        headers.clear();
        headers.insert("retry-after", nonsense.parse().unwrap());
        assert_eq!(ask(&headers), None, "{nonsense}");
    }
}

#[test]
fn bedrocks_error_type_stands_in_a_header() {
    let mut headers = HeaderMap::new();
    headers.insert("x-amzn-errortype", "ThrottlingException:http://x".parse().unwrap());
    let failure =
        Anthropic.decode_failure(StatusCode::BAD_REQUEST, &headers, b"{\"message\":\"m\"}");
    assert_eq!(failure.kind, K::RateLimited);
    assert_eq!(failure.code.as_deref(), Some("ThrottlingException"));
}

#[test]
fn callers_get_this_wires_words() {
    let rejection = Rejection::invalid("messages[0].role", "wrong role");
    let body: Value = serde_json::from_slice(&Anthropic.encode_error(&rejection, "r-1")).unwrap();
    assert_eq!(
        body,
        json!({
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "wrong role"},
            "request_id": "r-1",
        })
    );
    let event = Anthropic.encode_stream_error(&Rejection::Draining, "r-1");
    let event = sse::parse(&event);
    assert_eq!(event.name, "error");
    let body: Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!(body["error"]["type"], "overloaded_error");

    let words =
        |status: u16| super::super::failure::error_type(StatusCode::from_u16(status).unwrap());
    let all = [400, 401, 402, 403, 404, 413, 422, 429, 500, 502, 503, 504].map(words);
    assert_eq!(
        all,
        [
            "invalid_request_error",
            "authentication_error",
            "billing_error",
            "permission_error",
            "not_found_error",
            "request_too_large",
            "invalid_request_error",
            "rate_limit_error",
            "api_error",
            "api_error",
            "overloaded_error",
            "timeout_error",
        ]
    );
}
