//! How long a provider asks to be left alone.
//!
//! Headers come first, the finest of them foremost: `retry-after-ms` (OpenAI, Azure), then
//! `retry-after`, which RFC 9110 section 10.2.3 allows to be seconds or a date. A date is read
//! against the answer's own `date`, so that no clock is needed and none has to agree. Gemini says
//! it in the error's details instead. Hints are not capped here; whoever waits decides how long.

use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, HeaderName, RETRY_AFTER};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

#[cfg(test)]
mod tests;

/// The finer of the two headers, in milliseconds.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// How long the headers of an answer ask to be left alone; `None` where they do not, or where it
/// cannot be read.
pub fn of_headers(headers: &HeaderMap) -> Option<Duration> {
    let millis = text(headers, &RETRY_AFTER_MS).and_then(number).map(|ms| ms / 1_000.0);
    millis.and_then(seconds).or_else(|| {
        let value = text(headers, &RETRY_AFTER)?;
        match number(value) {
            Some(number) => seconds(number),
            None => until(value, text(headers, &DATE)?),
        }
    })
}

/// Reads protobuf's duration: seconds with a fraction and an `s`, such as `34s` or `0.25s`.
pub(super) fn protobuf(text: &str) -> Option<Duration> {
    text.strip_suffix('s').and_then(number).and_then(seconds)
}

/// The time from one HTTP date to another; none where the other has passed.
fn until(then: &str, now: &str) -> Option<Duration> {
    let wait = date(then)?.duration_since(date(now)?);
    Some(Duration::try_from(wait).unwrap_or_default())
}

fn date(text: &str) -> Option<Timestamp> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    PARSER.parse_timestamp(text).ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}
