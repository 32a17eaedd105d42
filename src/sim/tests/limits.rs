//! Rate limits.

use proptest::prelude::*;

use super::*;
use crate::sim::limits::{Meter, go_duration};

fn limited(requests: Option<u64>, tokens: Option<u64>) -> Engine {
    let mut scenario = Scenario::instant();
    scenario.models[0].1.limits =
        Limits { requests_per_minute: requests, tokens_per_minute: tokens };
    Engine::new(scenario)
}

fn at(seconds: f64) -> Moment {
    let since_start = Duration::from_secs_f64(seconds);
    Moment { since_start, unix_ms: 1_760_000_000_000 + (seconds * 1e3) as u64 }
}

fn header(script: &Script, name: &str) -> String {
    let value = head(script).1.get(name).unwrap_or_else(|| panic!("{name} is missing"));
    value.to_str().expect("text").to_owned()
}

#[test]
fn openai_counts_down_and_refuses_with_the_time_to_wait() {
    let mut engine = limited(Some(2), Some(60_000));
    let (path, chat) = ask(Dialect::OpenAiChat, "Hello", json!({}));
    let first = post_at(&mut engine, &path, &chat, at(0.0));
    assert_eq!(header(&first, "x-ratelimit-limit-requests"), "2");
    assert_eq!(header(&first, "x-ratelimit-remaining-requests"), "1");
    assert_eq!(header(&first, "x-ratelimit-reset-requests"), "30s");
    let used = reply(Dialect::OpenAiChat, &first).usage.expect("usage").total();
    assert_eq!(header(&first, "x-ratelimit-remaining-tokens"), (60_000 - used).to_string());
    assert_eq!(header(&first, "x-ratelimit-reset-tokens"), format!("{used}ms"));

    assert_eq!(head(&post_at(&mut engine, &path, &chat, at(0.0))).0, StatusCode::OK);
    let refused = post_at(&mut engine, &path, &chat, at(10.5));
    assert_eq!(head(&refused).0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&refused, "retry-after"), "20");
    assert_eq!(header(&refused, "retry-after-ms"), "19500");
    assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), "0");
    assert_eq!(body(&refused)["error"]["code"], "rate_limit_exceeded");
    assert_eq!(head(&post_at(&mut engine, &path, &chat, at(29.9))).0.as_u16(), 429);
    assert_eq!(head(&post_at(&mut engine, &path, &chat, at(30.0))).0.as_u16(), 200);
}

#[test]
fn anthropic_tells_when_the_bucket_is_full() {
    let mut engine = limited(Some(1), None);
    let (path, chat) = ask(Dialect::Anthropic, "Hello", json!({}));
    let first = post_at(&mut engine, &path, &chat, at(0.0));
    assert_eq!(header(&first, "anthropic-ratelimit-requests-limit"), "1");
    assert_eq!(header(&first, "anthropic-ratelimit-requests-remaining"), "0");
    assert_eq!(header(&first, "anthropic-ratelimit-requests-reset"), "2025-10-09T08:54:20Z");
    let refused = post_at(&mut engine, &path, &chat, at(0.0));
    assert_eq!(header(&refused, "retry-after"), "60");
    assert_eq!(body(&refused)["error"]["type"], "rate_limit_error");
}

#[test]
fn gemini_tells_the_wait_in_the_body() {
    let mut engine = limited(Some(1), None);
    let (path, chat) = ask(Dialect::Gemini, "Hello", json!({}));
    post_at(&mut engine, &path, &chat, at(0.0));
    let refused = post_at(&mut engine, &path, &chat, at(15.0));
    let error = body(&refused)["error"].clone();
    assert_eq!(error["status"], "RESOURCE_EXHAUSTED");
    assert_eq!(error["details"][0]["retryDelay"], "45s");
}

#[test]
fn every_key_and_model_has_its_own_bucket() {
    let mut engine = limited(Some(1), None);
    let mut status = |key: &'static str, model: &str| {
        let (path, mut chat) = ask(Dialect::OpenAiChat, "Hello", json!({}));
        chat["model"] = json!(model);
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static(key));
        let bytes = chat.to_string();
        let script = send(&mut engine, &Method::POST, &path, &headers, bytes.as_bytes(), at(0.0));
        head(&script).0.as_u16()
    };
    assert_eq!(status("Bearer a", "m"), 200);
    assert_eq!(status("Bearer a", "m"), 429);
    assert_eq!(status("Bearer b", "m"), 200);
    assert_eq!(status("Bearer a", "n"), 200);
}

#[test]
fn durations_are_written_as_openai_does() {
    for (ms, text) in [
        (0, "0s"),
        (6, "6ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (1_500, "1.5s"),
        (59_999, "59.999s"),
        (60_000, "1m0s"),
        (360_000, "6m0s"),
        (61_250, "1m1.25s"),
    ] {
        assert_eq!(go_duration(Duration::from_millis(ms)), text);
    }
}

proptest! {
    /// However requests come, no window of a minute admits more than twice the limit (a full
    /// bucket and what fills up), and whoever waits as long as told is admitted.
    #[test]
    fn a_bucket_never_admits_more_than_it_holds(
        limit in 1_u64..50,
        gaps in prop::collection::vec(0_u64..5_000, 1..200),
    ) {
        let limits = Limits { requests_per_minute: Some(limit), tokens_per_minute: None };
        let mut meter = Meter::default();
        let mut now = Duration::ZERO;
        let mut admitted = Vec::new();
        for gap in gaps {
            now += Duration::from_millis(gap);
            match meter.take(limits, ("m", "k"), 0, now).refused {
                None => admitted.push(now),
                Some((wait, what)) => {
                    prop_assert_eq!(what, "requests");
                    prop_assert!(wait > Duration::ZERO && wait <= Duration::from_secs(60));
                    now += wait;
                    prop_assert_eq!(meter.take(limits, ("m", "k"), 0, now).refused, None);
                    admitted.push(now);
                }
            }
        }
        for (index, start) in admitted.iter().enumerate() {
            let minute = admitted[index..].iter().take_while(|at| **at < *start + Duration::from_secs(60));
            prop_assert!(minute.count() as u64 <= 2 * limit);
        }
    }
}
