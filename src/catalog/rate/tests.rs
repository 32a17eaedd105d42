//! Every format that a recorded or documented answer has.

use http::HeaderValue;

use super::*;

/// 2026-11-21T03:00:00Z.
const NOW: u64 = 1_795_230_000_000;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    pairs.iter().map(pair).collect()
}

fn own(requests: Option<&'static str>, tokens: Option<&'static str>) -> RateHeaders {
    let beside = |name| WindowHeaders::beside(HeaderName::from_static(name));
    RateHeaders { requests: requests.map(beside), tokens: tokens.map(beside) }
}

fn window(dimension: Dimension, limit: u64, remaining: u64, reset: Option<Duration>) -> RateWindow {
    RateWindow { dimension, limit: Some(limit), remaining: Some(remaining), reset }
}

#[test]
fn both_families_are_read_without_a_word_from_the_file() {
    let read = |pairs: &[_]| {
        let reading = RateReading::of(&headers(pairs), &RateHeaders::default(), NOW);
        reading.map(|reading| reading.windows().copied().collect::<Vec<_>>())
    };
    assert_eq!(read(&[]), None);
    assert_eq!(read(&[("content-type", "application/json")]), None);
    assert_eq!(
        read(&[
            ("x-ratelimit-limit-requests", "1000"),
            ("x-ratelimit-remaining-requests", "742"),
            ("x-ratelimit-reset-requests", "1h27m50.4s"),
            ("x-ratelimit-limit-tokens", "6000"),
            ("x-ratelimit-remaining-tokens", "1416"),
            ("x-ratelimit-reset-tokens", "7.66s"),
        ]),
        Some(vec![
            window(Dimension::Requests, 1_000, 742, Some(Duration::from_millis(5_270_400))),
            window(Dimension::Tokens, 6_000, 1_416, Some(Duration::from_millis(7_660))),
        ])
    );
    assert_eq!(
        read(&[
            ("anthropic-ratelimit-requests-limit", "4000"),
            ("anthropic-ratelimit-requests-remaining", "3999"),
            ("anthropic-ratelimit-requests-reset", "2026-11-21T03:00:01Z"),
            ("anthropic-ratelimit-tokens-limit", "2400000"),
            ("anthropic-ratelimit-tokens-remaining", "2399000"),
            ("anthropic-ratelimit-tokens-reset", "2026-11-21T02:59:00Z"),
            ("anthropic-ratelimit-input-tokens-limit", "2000000"),
            ("anthropic-ratelimit-input-tokens-remaining", "1999000"),
            ("anthropic-ratelimit-output-tokens-limit", "400000"),
            ("anthropic-ratelimit-output-tokens-remaining", "0"),
            ("anthropic-ratelimit-output-tokens-reset", "2026-11-21T04:01:30+01:00"),
        ]),
        Some(vec![
            window(Dimension::Requests, 4_000, 3_999, Some(Duration::from_secs(1))),
            window(Dimension::Tokens, 2_400_000, 2_399_000, Some(Duration::ZERO)),
            window(Dimension::InputTokens, 2_000_000, 1_999_000, None),
            window(Dimension::OutputTokens, 400_000, 0, Some(Duration::from_secs(90))),
        ])
    );
}

#[test]
#[rustfmt::skip] // A table reads best as a table.
fn names_of_a_providers_own_come_from_its_file() {
    use Dimension::{Requests, Tokens};
    let openrouter = own(Some("x-ratelimit-remaining"), None);
    let cerebras = own(Some("x-ratelimit-remaining-requests-day"), Some("x-ratelimit-remaining-tokens-minute"));
    let mistral = own(Some("x-ratelimit-remaining-req-minute"), Some("x-ratelimit-remaining-tokens-minute"));
    for (own, pairs, expected) in [
        (&openrouter, &[("x-ratelimit-limit", "20"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795230020000")][..],
            vec![window(Requests, 20, 0, Some(Duration::from_secs(20)))]),
        (&openrouter, &[("x-ratelimit-limit", "10"), ("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "2")],
            vec![window(Requests, 10, 1, Some(Duration::from_secs(2)))]),
        (&cerebras, &[("x-ratelimit-limit-requests-day", "1440000"), ("x-ratelimit-remaining-requests-day", "7"), ("x-ratelimit-reset-requests-day", "24482.75"),
                      ("x-ratelimit-limit-tokens-minute", "1000000"), ("x-ratelimit-remaining-tokens-minute", "8")],
            vec![window(Requests, 1_440_000, 7, Some(Duration::from_millis(24_482_750))), window(Tokens, 1_000_000, 8, None)]),
        (&mistral, &[("x-ratelimit-limit-req-minute", "100"), ("x-ratelimit-remaining-req-minute", "97")],
            vec![window(Requests, 100, 97, None)]),
    ] {
        let reading = RateReading::of(&headers(pairs), own, NOW).unwrap();
        assert_eq!(reading.windows().copied().collect::<Vec<_>>(), expected, "{pairs:?}");
        assert_eq!(reading.get(Requests), expected.first());
    }
}

#[test]
fn a_window_without_figures_is_none() {
    let azure = [
        ("x-ratelimit-limit-tokens", "-1"),
        ("x-ratelimit-remaining-tokens", "-1"),
        ("x-ratelimit-reset-tokens", "0"),
    ];
    assert_eq!(RateReading::of(&headers(&azure), &RateHeaders::default(), NOW), None);
    let odd = [("x-ratelimit-remaining-tokens", "many"), ("x-ratelimit-limit-tokens", "30")];
    let reading = RateReading::of(&headers(&odd), &RateHeaders::default(), NOW).unwrap();
    let tokens = reading.get(Dimension::Tokens).unwrap();
    assert_eq!((tokens.limit, tokens.remaining, tokens.reset), (Some(30), None, None));
}

#[test]
fn every_way_to_tell_a_reset_is_read() {
    for (text, millis) in [
        ("6m0s", 360_000),
        ("1s", 1_000),
        ("12ms", 12),
        ("0s", 0),
        ("1h27m50.4s", 5_270_400),
        ("59.70s", 59_700),
        ("2", 2_000),
        ("0.5", 500),
        ("1795230005", 5_000),
        ("1795230005250", 5_250),
        ("1759360551", 0),
        ("2026-11-21T03:01:00Z", 60_000),
        ("2026-11-21T02:01:00Z", 0),
    ] {
        assert_eq!(wait(text, NOW), Some(Duration::from_millis(millis)), "{text}");
    }
    for text in
        ["", "s", "5x", "1s2", "-1", "NaN", "inf", "1e400", "..s", "h", "2026-13-99T00:00:00Z"]
    {
        assert_eq!(wait(text, NOW), None, "{text:?}");
    }
}
