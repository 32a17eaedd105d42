//! What a provider's answer says is left of its rate limits.
//!
//! Two families of headers cover nearly everyone: OpenAI's
//! `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` (Azure, Groq, xAI, the simulator) and
//! Anthropic's `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{…}`. Who has
//! names of its own says them in its file, see [`RateHeaders`]. When a window ends is told in four
//! ways, which no value of the one can be taken for a value of the other: Go's durations
//! (`1h27m50.4s`), RFC 3339, seconds, and seconds or milliseconds since 1970.
//!
//! This runs on every answer: without such headers it is a look at each name, and it never
//! allocates.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::RateHeaders;
use crate::units::Dimension;

#[cfg(test)]
mod tests;

/// A number this large is no number of seconds to wait, 31 years, but seconds since 1970.
const EPOCH_SECONDS: f64 = 1e9;
/// And this one is milliseconds since 1970.
const EPOCH_MILLIS: f64 = 1e11;

/// What one answer says of the provider's limits, as they were when its request was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateReading {
    windows: [Option<RateWindow>; 4],
}

/// One limit of a provider. At least one of `limit` and `remaining` is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateWindow {
    /// What it counts.
    pub dimension: Dimension,
    /// How much the window allows.
    pub limit: Option<u64>,
    /// How much of it is left.
    pub remaining: Option<u64>,
    /// How long until all of it is back; zero where that has passed. Not capped.
    pub reset: Option<Duration>,
}

/// The headers of one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowHeaders {
    /// How much is left. A window whose answer lacks it is not read.
    pub remaining: HeaderName,
    /// How much there is.
    pub limit: Option<HeaderName>,
    /// When all of it is back.
    pub reset: Option<HeaderName>,
}

/// The three names of a window, known when this is compiled.
macro_rules! window {
    ($limit:literal, $remaining:literal, $reset:literal) => {
        WindowHeaders {
            remaining: HeaderName::from_static($remaining),
            limit: Some(HeaderName::from_static($limit)),
            reset: Some(HeaderName::from_static($reset)),
        }
    };
}

static REQUESTS: WindowHeaders = window!(
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests"
);
static TOKENS: WindowHeaders =
    window!("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens");
static ANTHROPIC_REQUESTS: WindowHeaders = window!(
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset"
);
static ANTHROPIC_TOKENS: WindowHeaders = window!(
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset"
);
static ANTHROPIC_INPUT: WindowHeaders = window!(
    "anthropic-ratelimit-input-tokens-limit",
    "anthropic-ratelimit-input-tokens-remaining",
    "anthropic-ratelimit-input-tokens-reset"
);
static ANTHROPIC_OUTPUT: WindowHeaders = window!(
    "anthropic-ratelimit-output-tokens-limit",
    "anthropic-ratelimit-output-tokens-remaining",
    "anthropic-ratelimit-output-tokens-reset"
);

// === impl RateReading ===

impl RateReading {
    /// Reads an answer's headers: first by the names of the provider's own file, then by those of
    /// the two families. `unix_ms` is the time at which the answer came, in milliseconds since
    /// 1970. `None` where no header says what is left.
    pub fn of(headers: &HeaderMap, own: &RateHeaders, unix_ms: u64) -> Option<Self> {
        use Dimension as D;
        // Where an answer says nothing, a look at each name costs less than all the searches.
        let is_general = own.requests.is_none() && own.tokens.is_none();
        if is_general && !headers.keys().any(|name| is_of_a_family(name.as_str())) {
            return None;
        }
        let read = |dimension: D, names: &WindowHeaders| names.read(dimension, headers, unix_ms);
        let general = |dimension: D, names: &WindowHeaders, anthropic: &WindowHeaders| {
            read(dimension, names).or_else(|| read(dimension, anthropic))
        };
        let own_of = |dimension: D, names: &Option<WindowHeaders>| {
            names.as_ref().and_then(|names| read(dimension, names))
        };
        let requests = own_of(D::Requests, &own.requests)
            .or_else(|| general(D::Requests, &REQUESTS, &ANTHROPIC_REQUESTS));
        let tokens = own_of(D::Tokens, &own.tokens)
            .or_else(|| general(D::Tokens, &TOKENS, &ANTHROPIC_TOKENS));
        let windows = [
            requests,
            tokens,
            read(D::InputTokens, &ANTHROPIC_INPUT),
            read(D::OutputTokens, &ANTHROPIC_OUTPUT),
        ];
        windows.iter().any(Option::is_some).then_some(Self { windows })
    }

    /// The windows that the answer speaks of, at most one a dimension.
    pub fn windows(&self) -> impl Iterator<Item = &RateWindow> {
        self.windows.iter().flatten()
    }

    /// The window of one dimension.
    pub fn get(&self, dimension: Dimension) -> Option<&RateWindow> {
        self.windows().find(|window| window.dimension == dimension)
    }
}

/// Whether a header is of one of the two families.
fn is_of_a_family(name: &str) -> bool {
    name.starts_with("x-ratelimit-") || name.starts_with("anthropic-ratelimit-")
}

// === impl WindowHeaders ===

impl WindowHeaders {
    /// The headers of a window by the one that says what is left. Whoever writes `remaining` there
    /// writes `limit` and `reset` into the same place for the other two.
    pub fn beside(remaining: HeaderName) -> Self {
        let other = |word: &str| {
            let name = remaining.as_str();
            let other = name.contains("remaining").then(|| name.replacen("remaining", word, 1))?;
            HeaderName::try_from(other).ok()
        };
        let (limit, reset) = (other("limit"), other("reset"));
        Self { remaining, limit, reset }
    }

    fn read(&self, dimension: Dimension, headers: &HeaderMap, unix_ms: u64) -> Option<RateWindow> {
        let remaining = headers.get(&self.remaining)?.to_str().ok()?.trim();
        let text = |name: &Option<HeaderName>| -> Option<&str> {
            Some(headers.get(name.as_ref()?)?.to_str().ok()?.trim())
        };
        // -1, as Azure says it, is no limit.
        let remaining = remaining.parse().ok();
        let limit = text(&self.limit).and_then(|limit| limit.parse().ok());
        if remaining.is_none() && limit.is_none() {
            return None;
        }
        let reset = text(&self.reset).and_then(|reset| wait(reset, unix_ms));
        Some(RateWindow { dimension, limit, remaining, reset })
    }
}

/// How long it is until a time that is told in one of the four ways.
fn wait(text: &str, unix_ms: u64) -> Option<Duration> {
    if let Ok(number) = text.parse::<f64>() {
        let until = |then: f64| Duration::try_from_secs_f64((then - unix_ms as f64).max(0.0) / 1e3);
        return match number {
            number if number >= EPOCH_MILLIS => until(number).ok(),
            number if number >= EPOCH_SECONDS => until(number * 1e3).ok(),
            number => Duration::try_from_secs_f64(number).ok(),
        };
    }
    if text.contains('T') {
        let then: jiff::Timestamp = text.parse().ok()?;
        let then = u64::try_from(then.as_millisecond()).ok()?;
        return Some(Duration::from_millis(then.saturating_sub(unix_ms)));
    }
    go_duration(text)
}

/// Reads a duration as Go's `time.Duration` is written: numbers with units, largest first.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_ends = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_ends);
        let scale = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())
}
