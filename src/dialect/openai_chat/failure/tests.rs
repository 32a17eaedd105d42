//! Which failure each status, code and header means.

use serde_json::json;

use super::*;

fn decode(status: u16, body: &Value) -> Failure {
    let status = StatusCode::from_u16(status).unwrap();
    decode_failure(status, &HeaderMap::new(), body.to_string().as_bytes())
}

#[test]
#[rustfmt::skip] // A table reads best as a table.
fn every_shape_of_error_is_read() {
    use FailureKind as K;
    let raw = r#"{"error":{"message":"too hot","type":"invalid_request_error","param":"temperature"}}"#;
    let refused = r#"{"code":"denied","error":"Content violates usage guidelines. Failed check: X"}"#;
    for (status, body, kind, message) in [
        (400, json!({"error": {"message": "m", "type": "invalid_request_error", "code": null}}), K::CallerFault, "m"),
        (429, json!({"error": {"message": "m", "code": "insufficient_quota"}}), K::HardQuota, "m"),
        (429, json!({"error": {"message": "m", "type": "tokens", "code": "rate_limit_exceeded"}}), K::RateLimited, "m"),
        (413, json!({"error": {"message": "m", "type": "tokens", "code": "rate_limit_exceeded"}}), K::RateLimited, "m"),
        (400, json!({"error": {"message": "m", "code": "context_length_exceeded"}}), K::ContextTooLong, "m"),
        (400, json!({"error": {"message": "m", "code": "content_filter"}}), K::Policy, "m"),
        (400, json!({"error": {"message": "m", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}), K::Policy, "m"),
        (400, json!({"error": {"message": "m", "code": "tool_use_failed"}}), K::Degenerate, "m"),
        (400, json!({"object": "error", "message": "m", "type": "invalid_model", "code": "1500"}), K::NotServed, "m"),
        (401, json!({"message": "m", "type": "invalid_request_error", "code": "wrong_api_key"}), K::AuthFault, "m"),
        (401, json!({"detail": "m"}), K::AuthFault, "m"),
        (422, json!({"detail": [{"type": "t", "loc": ["body"], "msg": "m"}]}), K::CallerFault, "m"),
        (400, json!({"code": "bad", "error": "Incorrect API key provided: x***y"}), K::AuthFault, "Incorrect API key provided: x***y"),
        (404, json!({"error": "m"}), K::NotServed, "m"),
        (403, json!({"error": {"message": "m", "code": "model_not_found"}}), K::NotServed, "m"),
        (404, json!({"error": {"message": "m", "code": "DeploymentNotFound"}}), K::NotServed, "m"),
        (400, json!({"error": {"message": "exceeded max context length by 9", "code": null}}), K::ContextTooLong, "exceeded max context length by 9"),
        (409, json!({"error": {"message": "m"}}), K::ServerFault, "m"),
        (499, json!({"error": {"message": "m"}}), K::ServerFault, "m"),
        (405, json!({"detail": "Method Not Allowed"}), K::NotServed, "Method Not Allowed"),
        (401, json!({"id": "1", "message": "m"}), K::AuthFault, "m"),
        (400, json!({"error": {"message": "p", "code": 400, "metadata": {"raw": raw}}}), K::CallerFault, "too hot"),
        (403, json!({"error": {"message": "p", "code": 403, "metadata": {"raw": refused}}}), K::Policy, "Content violates usage guidelines. Failed check: X"),
        (402, json!({"error": {"message": "Insufficient Balance"}}), K::HardQuota, "Insufficient Balance"),
        (500, json!({"error": {"code": 500, "message": "m", "type": "server_error"}}), K::ServerFault, "m"),
        (503, json!({"error": {"message": "m", "type": "engine_overloaded"}}), K::Overloaded, "m"),
        (429, json!({"error": {"code": "RateLimitReached", "message": "m"}}), K::RateLimited, "m"),
        (429, json!([{"error": {"code": 429, "message": "m"}}]), K::RateLimited, "m"),
        (500, json!(null), K::ServerFault, "the provider answered 500 without a message"),
    ] {
        let failure = decode(status, &body);
        assert_eq!((failure.kind, failure.message.as_str()), (kind, message), "{body}");
        assert_eq!(failure.status.map(|status| status.as_u16()), Some(status));
    }
}

#[test]
fn bodies_that_are_no_json_are_quoted_briefly() {
    let decode = |body: &[u8]| decode_failure(StatusCode::BAD_GATEWAY, &HeaderMap::new(), body);
    assert_eq!(decode(b"<html>..").message, "the provider answered with a page of HTML");
    assert_eq!(decode(b" upstream connect error\n").message, "upstream connect error");
    assert_eq!(decode(&[0xC3; 5_000]).message.chars().count(), words::QUOTE_CHARS);
    assert_eq!(decode(b"").message, "the provider answered 502 with an empty body");
}

#[test]
fn the_pause_that_is_asked_for_is_kept() {
    let headers =
        HeaderMap::from_iter([(http::header::RETRY_AFTER, http::HeaderValue::from_static("2"))]);
    let failure = decode_failure(StatusCode::TOO_MANY_REQUESTS, &headers, b"");
    assert_eq!(failure.retry_after, Some(std::time::Duration::from_secs(2)));
}

#[test]
fn an_error_inside_a_success_is_told_by_its_own_code() {
    let kind = |value: Value| failure_from_error_value(&value, FailureKind::MidStream).kind;
    assert_eq!(kind(json!({"error": {"code": 502, "message": "m"}})), FailureKind::ServerFault);
    assert_eq!(
        kind(json!({"error": {"status_code": 400, "message": "m"}})),
        FailureKind::CallerFault
    );
    assert_eq!(kind(json!({"error": {"type": "server_error"}})), FailureKind::ServerFault);
    assert_eq!(kind(json!({"error": {"type": "overloaded_error"}})), FailureKind::Overloaded);
    assert_eq!(kind(json!({"error": {"message": "odd"}})), FailureKind::MidStream);
    assert_eq!(kind(json!({"error": {"code": 3043}})), FailureKind::MidStream);
}

#[test]
fn nested_raw_errors_are_followed_once() {
    let mut body = json!({"error": {"message": "deep"}});
    for _ in 0..5 {
        body = json!({"error": {"message": "outer", "metadata": {"raw": body.to_string()}}});
    }
    assert_eq!(decode(500, &body).message, "outer");
}
