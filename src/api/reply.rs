//! Answers as replies: bodies, and the headers that say how they came about.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use rand::RngExt;

use crate::clock::{SystemWallClock, WallClock, rfc3339};
use crate::dialect::Dialect;
use crate::dispatch::Served;
use crate::ids::{RequestId, TargetId};
use crate::limits::{Level, Standing};
use crate::prompt::Prompt;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where Anthropic's clients look for the same.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const SERVED_BY: HeaderName = HeaderName::from_static("x-tidegate-served-by");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-tidegate-attempts");
const HEDGED: HeaderName = HeaderName::from_static("x-tidegate-hedged");
const CACHE: HeaderName = HeaderName::from_static("x-tidegate-cache");
const SIMILARITY: HeaderName = HeaderName::from_static("x-tidegate-cache-similarity");
const PROMPT: HeaderName = HeaderName::from_static("x-tidegate-prompt");
const PROMPT_WARNING: HeaderName = HeaderName::from_static("x-tidegate-prompt-warning");
const ROLLOUT: HeaderName = HeaderName::from_static("x-tidegate-rollout");
const DEGRADATION: HeaderName = HeaderName::from_static("x-tidegate-degradation");
const DROPPED: HeaderName = HeaderName::from_static("x-tidegate-dropped");
const OVERHEAD_US: HeaderName = HeaderName::from_static("x-tidegate-overhead-us");
const COST_USD: HeaderName = HeaderName::from_static("x-tidegate-cost-usd");
/// Tells nginx and its kin not to collect a stream before they pass it on.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// The headers of one limit.
struct LimitNames {
    limit: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
}

/// Requests and tokens in OpenAI's words.
const OPENAI_LIMITS: [LimitNames; 2] = [
    LimitNames {
        limit: HeaderName::from_static("x-ratelimit-limit-requests"),
        remaining: HeaderName::from_static("x-ratelimit-remaining-requests"),
        reset: HeaderName::from_static("x-ratelimit-reset-requests"),
    },
    LimitNames {
        limit: HeaderName::from_static("x-ratelimit-limit-tokens"),
        remaining: HeaderName::from_static("x-ratelimit-remaining-tokens"),
        reset: HeaderName::from_static("x-ratelimit-reset-tokens"),
    },
];

/// Requests, tokens, and tokens of prompts and of answers, in Anthropic's words.
const ANTHROPIC_LIMITS: [LimitNames; 4] = [
    LimitNames {
        limit: HeaderName::from_static("anthropic-ratelimit-requests-limit"),
        remaining: HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
        reset: HeaderName::from_static("anthropic-ratelimit-requests-reset"),
    },
    LimitNames {
        limit: HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
        remaining: HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
        reset: HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
    },
    LimitNames {
        limit: HeaderName::from_static("anthropic-ratelimit-input-tokens-limit"),
        remaining: HeaderName::from_static("anthropic-ratelimit-input-tokens-remaining"),
        reset: HeaderName::from_static("anthropic-ratelimit-input-tokens-reset"),
    },
    LimitNames {
        limit: HeaderName::from_static("anthropic-ratelimit-output-tokens-limit"),
        remaining: HeaderName::from_static("anthropic-ratelimit-output-tokens-remaining"),
        reset: HeaderName::from_static("anthropic-ratelimit-output-tokens-reset"),
    },
];
/// How many headers a reply has, about; growing means to place them all again.
const USUAL_HEADERS: usize = 16;

/// A fresh id, unlike any other.
pub(super) fn new_request_id() -> RequestId {
    RequestId::at(SystemWallClock.unix_ms(), rand::rng().random())
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
    headers.insert(ATTEMPTS, number(served.attempts.into()));
    let hedged = if served.hedged { "true" } else { "false" };
    headers.insert(HEDGED, HeaderValue::from_static(hedged));
    headers.insert(CACHE, HeaderValue::from_static("miss"));
    if let Some(how) = served.from_cache {
        headers.insert(CACHE, HeaderValue::from_static(how.reuse().as_str()));
        headers.insert(AGE, HeaderValue::from(how.age.as_secs()));
        if let Some(similarity) = how.similarity {
            insert(headers, SIMILARITY, &format!("{similarity:.3}"));
        }
    }
    if served.coalesced {
        headers.insert(CACHE, HeaderValue::from_static("coalesced"));
    }
    headers.insert(DEGRADATION, number(served.degradation.into()));
    let overhead_us = u64::try_from(served.overhead.as_micros()).unwrap_or(u64::MAX);
    headers.insert(OVERHEAD_US, number(overhead_us));
    if let Some(standing) = &served.limits {
        insert_limits(headers, standing, served.dialect == Some(Dialect::Anthropic));
    }
    if let Some(prompt) = &served.prompt {
        insert(headers, PROMPT, &prompt.name);
        if let Some(warning) = prompt_warning(prompt, served.by.as_ref()) {
            insert(headers, PROMPT_WARNING, &warning);
        }
    }
    if let Some((rollout, arm)) = &served.rollout {
        insert(headers, ROLLOUT, &format!("{rollout}; variant={}", arm.as_str()));
    }
    if !served.dropped.0.is_empty() {
        insert(headers, DROPPED, &served.dropped.0.join(", "));
    }
}

/// A number as a header has it. Most are one digit, for which no memory is taken.
fn number(number: u64) -> HeaderValue {
    const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let digit = usize::try_from(number).ok().and_then(|number| DIGITS.get(number));
    digit.map_or_else(|| HeaderValue::from(number), |digit| HeaderValue::from_static(digit))
}

/// What a caller should know of the prompt that it used.
fn prompt_warning(prompt: &Prompt, by: Option<&TargetId>) -> Option<String> {
    let served = by.and_then(|by| by.as_str().split('#').next()?.split_once('/'));
    let untested =
        served.filter(|(provider, model)| prompt.is_tested_with(provider, model) == Some(false));
    let untested = untested.map(|(provider, model)| format!("untested for {provider}/{model}"));
    let deprecated = prompt.deprecated.as_ref().map(|deprecated| {
        // A header takes one line of plain characters; the rest is in the file.
        let is_plain = |reason: &&str| reason.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        match Some(deprecated.reason.as_str()).filter(is_plain).filter(|said| !said.is_empty()) {
            Some(reason) => format!("deprecated since {}: {reason}", deprecated.at),
            None => format!("deprecated since {}", deprecated.at),
        }
    });
    let warnings: Vec<String> = untested.into_iter().chain(deprecated).collect();
    (!warnings.is_empty()).then(|| warnings.join("; "))
}

/// Adds the id of the request.
pub(super) fn identify(headers: &mut HeaderMap, request_id: &str) {
    insert(headers, X_REQUEST_ID, request_id);
    insert(headers, REQUEST_ID, request_id);
}

/// The same where none is there: a reply that is repeated has the id of the request that it was
/// made for.
pub(super) fn identify_new(headers: &mut HeaderMap, request_id: &str) {
    if !headers.contains_key(X_REQUEST_ID) {
        identify(headers, request_id);
    }
}

/// Adds what is left of the caller's limits: in OpenAI's words everywhere, and in Anthropic's to
/// those who speak its dialect.
fn insert_limits(headers: &mut HeaderMap, standing: &Standing, is_anthropic: bool) {
    headers.reserve(if is_anthropic { 18 } else { 6 });
    for (names, level) in OPENAI_LIMITS.into_iter().zip([standing.requests, standing.any_tokens()])
    {
        let Some(Level { limit, remaining, reset }) = level else { continue };
        headers.insert(names.limit, HeaderValue::from(limit));
        headers.insert(names.remaining, HeaderValue::from(remaining));
        insert(headers, names.reset, &go_duration(reset));
    }
    if !is_anthropic {
        return;
    }
    let all =
        [standing.requests, standing.any_tokens(), standing.input_tokens, standing.output_tokens];
    for (names, level) in ANTHROPIC_LIMITS.into_iter().zip(all) {
        let Some(Level { limit, remaining, reset }) = level else { continue };
        let reset_ms = u64::try_from(reset.as_millis()).unwrap_or(u64::MAX);
        let reset_at =
            standing.at_ms.saturating_add(reset_ms).div_ceil(1_000).saturating_mul(1_000);
        headers.insert(names.limit, HeaderValue::from(limit));
        headers.insert(names.remaining, HeaderValue::from(remaining));
        let reset_at = rfc3339(reset_at).replace(".000Z", "Z");
        insert(headers, names.reset, &reset_at);
    }
}

/// A duration as OpenAI's headers have it: `12ms`, `1s`, `7.66s`, `6m0s`, `1h0m0s`.
fn go_duration(duration: Duration) -> String {
    let ms = duration.as_nanos().div_ceil(1_000_000);
    if ms < 1_000 {
        return if ms == 0 { "0s".to_owned() } else { format!("{ms}ms") };
    }
    let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
    let (seconds, fraction) = (ms / 1_000 % 60, ms % 1_000);
    let fraction = format!("{fraction:03}");
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{seconds}{point}{fraction}s");
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

/// Adds a header, unless the value cannot be one.
pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_openai_does() {
        for (duration, written) in [
            (Duration::ZERO, "0s"),
            (Duration::from_millis(12), "12ms"),
            (Duration::from_micros(1), "1ms"),
            (Duration::from_secs(1), "1s"),
            (Duration::from_millis(7_660), "7.66s"),
            (Duration::from_secs(360), "6m0s"),
            (Duration::from_millis(61_005), "1m1.005s"),
            (Duration::from_secs(86_400), "24h0m0s"),
        ] {
            assert_eq!(go_duration(duration), written);
        }
    }
}
