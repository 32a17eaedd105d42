//! Answers as replies: bodies, and the headers that say how they came about.

use std::fmt::Write;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use rand::RngExt;

use crate::dispatch::Served;
use crate::ids::RequestId;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where Anthropic's clients look for the same.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const SERVED_BY: HeaderName = HeaderName::from_static("x-tidegate-served-by");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-tidegate-attempts");
const HEDGED: HeaderName = HeaderName::from_static("x-tidegate-hedged");
const CACHE: HeaderName = HeaderName::from_static("x-tidegate-cache");
const DEGRADATION: HeaderName = HeaderName::from_static("x-tidegate-degradation");
const DROPPED: HeaderName = HeaderName::from_static("x-tidegate-dropped");
const OVERHEAD_US: HeaderName = HeaderName::from_static("x-tidegate-overhead-us");
const COST_USD: HeaderName = HeaderName::from_static("x-tidegate-cost-usd");
/// Tells nginx and its kin not to collect a stream before they pass it on.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// How many headers a reply has, about; growing means to place them all again.
const USUAL_HEADERS: usize = 16;

/// A fresh id, unlike any other.
pub(super) fn new_request_id() -> RequestId {
    let mut id = String::with_capacity(36);
    // Writing to a string cannot fail.
    let _ = write!(id, "req_{:032x}", rand::rng().random::<u128>());
    RequestId::new(id)
}

/// A whole answer.
pub(super) fn whole(body: Bytes, request_id: &RequestId, served: &Served) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.reserve(USUAL_HEADERS);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    describe(headers, request_id.as_str(), served);
    if let Some(cost) = served.cost {
        insert(headers, COST_USD, &cost.to_usd_string());
    }
    response
}

/// An answer that is still coming.
pub(super) fn stream(stream: Body, request_id: &RequestId, served: &Served) -> Response {
    let mut response = Response::new(stream);
    let headers = response.headers_mut();
    headers.reserve(USUAL_HEADERS);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    describe(headers, request_id.as_str(), served);
    if served.by.is_none() && served.degradation == 0 {
        // Committed to keep the caller alive, before anybody has answered: nothing of this is
        // known yet.
        for unknown in [ATTEMPTS, HEDGED, DEGRADATION, OVERHEAD_US] {
            headers.remove(unknown);
        }
    }
    response
}

/// Adds what every reply says about how it came about.
pub(super) fn describe(headers: &mut HeaderMap, request_id: &str, served: &Served) {
    identify(headers, request_id);
    if let Some(by) = &served.by {
        // Which of a provider's credentials it was is no business of the caller's.
        let by = by.as_str();
        insert(headers, SERVED_BY, by.split_once('#').map_or(by, |(name, _)| name));
    }
    headers.insert(ATTEMPTS, HeaderValue::from(served.attempts));
    let hedged = if served.hedged { "true" } else { "false" };
    headers.insert(HEDGED, HeaderValue::from_static(hedged));
    headers.insert(CACHE, HeaderValue::from_static("miss"));
    headers.insert(DEGRADATION, HeaderValue::from(u16::from(served.degradation)));
    let overhead_us = u64::try_from(served.overhead.as_micros()).unwrap_or(u64::MAX);
    headers.insert(OVERHEAD_US, HeaderValue::from(overhead_us));
    if !served.dropped.0.is_empty() {
        insert(headers, DROPPED, &served.dropped.0.join(", "));
    }
}

/// Adds the id of the request.
pub(super) fn identify(headers: &mut HeaderMap, request_id: &str) {
    insert(headers, X_REQUEST_ID, request_id);
    insert(headers, REQUEST_ID, request_id);
}

/// Adds a header, unless the value cannot be one.
pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
