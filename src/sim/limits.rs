//! Rate limits that really count, and the headers that tell of them.
//!
//! Each model and key has a bucket of requests and one of tokens that fill up over a minute, as
//! OpenAI and Anthropic document theirs. `now` is an argument.

use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::scenario::Limits;
use crate::clock::rfc3339;
use crate::dialect::Dialect;

/// Time as the engine sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment {
    /// Since the simulation began.
    pub since_start: Duration,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
}

/// All buckets.
#[derive(Debug, Default)]
pub(super) struct Meter {
    buckets: HashMap<(String, String), Pair>,
}

/// What the buckets say to one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reading {
    requests: Option<Level>,
    tokens: Option<Level>,
    /// How long to wait, and for which bucket, where the request is refused.
    pub(super) refused: Option<(Duration, &'static str)>,
}

#[derive(Debug, Default)]
struct Pair {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    limit: f64,
    left: f64,
    at: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Level {
    limit: f64,
    left: f64,
}

/// More pairs of model and key than any test has; beyond them the oldest counts are forgotten.
const MAX_BUCKETS: usize = 10_000;

/// Refills in fractions leave errors of rounding behind: this share of the limit is forgiven.
const ROUNDING: f64 = 1e-6;

// === impl Meter ===

impl Meter {
    /// Takes one request with so many tokens out of the buckets, or nothing where it is refused.
    pub(super) fn take(
        &mut self,
        limits: Limits,
        (model, key): (&str, &str),
        tokens: u64,
        now: Duration,
    ) -> Reading {
        if limits == Limits::default() {
            return Reading { requests: None, tokens: None, refused: None };
        }
        if self.buckets.len() >= MAX_BUCKETS {
            self.buckets.clear();
        }
        let pair = self.buckets.entry((model.to_owned(), key.to_owned())).or_default();
        Bucket::refill(&mut pair.requests, limits.requests_per_minute, now);
        Bucket::refill(&mut pair.tokens, limits.tokens_per_minute, now);
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
        let tokens = tokens as f64;
        let wait = |bucket: &Option<Bucket>, amount: f64, word| {
            bucket.as_ref().and_then(|bucket| bucket.wait(amount)).map(|wait| (wait, word))
        };
        let refused =
            wait(&pair.requests, 1.0, "requests").or_else(|| wait(&pair.tokens, tokens, "tokens"));
        if refused.is_none() {
            for (bucket, amount) in [(&mut pair.requests, 1.0), (&mut pair.tokens, tokens)] {
                if let Some(bucket) = bucket {
                    bucket.left -= amount;
                }
            }
        }
        let level = |bucket: &Option<Bucket>| {
            bucket.as_ref().map(|bucket| Level { limit: bucket.limit, left: bucket.left })
        };
        Reading { requests: level(&pair.requests), tokens: level(&pair.tokens), refused }
    }
}

// === impl Bucket ===

impl Bucket {
    #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^53")]
    fn refill(slot: &mut Option<Self>, per_minute: Option<u64>, now: Duration) {
        let Some(limit) = per_minute.map(|limit| limit as f64) else {
            return;
        };
        let bucket = slot.get_or_insert(Self { limit, left: limit, at: now });
        let since = now.saturating_sub(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + since * limit / 60.0).min(limit);
        bucket.at = now;
    }

    /// How long until `amount` is there. A request larger than the bucket waits for a full one.
    fn wait(&self, amount: f64) -> Option<Duration> {
        let missing = amount.min(self.limit) - self.left;
        if amount <= self.limit && missing <= self.limit * ROUNDING {
            return None;
        }
        let missing = missing.max(self.limit / 1_000.0);
        Some(Duration::from_secs_f64(missing * 60.0 / self.limit))
    }
}

// === impl Level ===

impl Level {
    fn reset(self) -> Duration {
        Duration::from_secs_f64((self.limit - self.left).max(0.0) * 60.0 / self.limit)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped at 0")]
    fn whole(value: f64) -> u64 {
        (value + value.abs() * ROUNDING).floor().max(0.0) as u64
    }
}

// === impl Reading ===

impl Reading {
    /// Adds the headers in which the dialect's provider tells of its limits. Gemini tells nothing.
    pub(super) fn write(&self, dialect: Dialect, now: Moment, headers: &mut HeaderMap) {
        for (name, level) in [("requests", self.requests), ("tokens", self.tokens)] {
            let Some(level) = level else {
                continue;
            };
            let (limit, left) = (Level::whole(level.limit), Level::whole(level.left));
            match dialect {
                Dialect::OpenAiChat => {
                    insert(headers, &format!("x-ratelimit-limit-{name}"), limit.to_string());
                    insert(headers, &format!("x-ratelimit-remaining-{name}"), left.to_string());
                    insert(
                        headers,
                        &format!("x-ratelimit-reset-{name}"),
                        go_duration(level.reset()),
                    );
                }
                Dialect::Anthropic => {
                    let reset = u64::try_from(level.reset().as_millis()).unwrap_or(u64::MAX);
                    // Whole seconds, rounded up: at that time the bucket is full.
                    let reset_ms = now.unix_ms.saturating_add(reset).div_ceil(1_000) * 1_000;
                    let reset = rfc3339(reset_ms).replace(".000Z", "Z");
                    insert(
                        headers,
                        &format!("anthropic-ratelimit-{name}-limit"),
                        limit.to_string(),
                    );
                    insert(
                        headers,
                        &format!("anthropic-ratelimit-{name}-remaining"),
                        left.to_string(),
                    );
                    insert(headers, &format!("anthropic-ratelimit-{name}-reset"), reset);
                }
                Dialect::Gemini => {}
            }
        }
    }
}

/// A duration as OpenAI's headers write it: `6ms`, `1.5s`, `6m0s`.
pub(super) fn go_duration(duration: Duration) -> String {
    let ms = duration.as_nanos().div_ceil(1_000_000);
    match ms {
        0 => "0s".to_owned(),
        1..1_000 => format!("{ms}ms"),
        _ => {
            let (minutes, rest) = (ms / 60_000, ms % 60_000);
            let mut seconds = format!("{}.{:03}", rest / 1_000, rest % 1_000);
            seconds.truncate(seconds.trim_end_matches('0').trim_end_matches('.').len());
            if minutes == 0 { format!("{seconds}s") } else { format!("{minutes}m{seconds}s") }
        }
    }
}

/// Sets a header whose name and value are known to be good.
pub(super) fn insert(headers: &mut HeaderMap, name: &str, value: String) {
    let name = HeaderName::from_bytes(name.as_bytes());
    if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
        headers.insert(name, value);
    }
}
