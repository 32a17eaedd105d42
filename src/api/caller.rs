//! Who calls, and in which dialect: what headers say before the body is read.

use axum::extract::Request;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::Edge;
use crate::callers::Caller;
use crate::dialect::Dialect;
use crate::rejection::Rejection;

/// The key of a request: `authorization: Bearer` as OpenAI's clients send it, or `x-api-key` as
/// Anthropic's do.
pub(super) fn key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok()))
}

/// Says who calls.
pub(super) fn authenticate(
    edge: &Edge,
    headers: &HeaderMap,
) -> Result<std::sync::Arc<Caller>, Rejection> {
    let mode = edge.gateway.snapshot().settings.auth.mode;
    edge.gateway.callers.authenticate(key(headers), mode, edge.is_loopback)
}

/// The dialect to answer in where the path does not settle it.
pub(super) fn dialect_of(request: &Request) -> Dialect {
    let anthropic = request.uri().path().starts_with("/v1/messages")
        || request.headers().contains_key("anthropic-version");
    if anthropic { Dialect::Anthropic } else { Dialect::OpenAiChat }
}
