//! Answers from the cache: the same request gets the same answer, nobody else gets it, and nothing
//! that should not be kept is.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tidegate::dialect::Dialect;
use tokio::time::advance;
use tower::ServiceExt;

use crate::rig::{Ask, End, Got, Rig, events};

mod flights;
mod poison;
mod shared;
mod stale;

const ROUTES: &str = r#"
[providers.priced]
dialect = "openai-chat"
base_url = "sim://priced/v1"
credentials = [{ none = true }]
models = [
  { id = "alpha", usd_per_million = { input = "1", output = "10" } },
  { id = "vectors", kind = "embedding", usd_per_million = { input = "1" } },
]
[routes.faq]
targets = [{ model = "priced/alpha" }]
cache = { exact = true, ttl = "10m" }
hold_back = { tokens = 0 }
[routes.crossed]
targets = [{ model = "claude/alpha" }]
cache = { exact = true }
hold_back = { tokens = 0 }
[routes.backward]
targets = [{ model = "chat/alpha" }]
cache = { exact = true }
[routes.tiers]
targets = [{ model = "chat/alpha" }, { model = "chat/beta", tier = 1 }]
cache = { exact = true }
degrade = { scripted = "Back soon." }
[routes.personal]
targets = [{ model = "chat/alpha" }]
cache = { exact = true, scope = "user" }
[routes.vectors]
targets = [{ model = "priced/vectors" }]
cache = { exact = true }
[routes.plain]
targets = [{ model = "priced/alpha" }]
[routes.early]
targets = [{ model = "chat/alpha" }]
keep_alive = { every = "1s", before_first_token = true }
cache = { exact = true }
"#;

const QUESTION: &str = "What is the capital of France? [[sim:tokens=120]]";

fn rig() -> Rig {
    Rig::instant(ROUTES)
}

/// How many requests providers were sent.
fn upstream(rig: &Rig) -> usize {
    rig.sim.bills().len()
}

fn cache(got: &Got) -> &str {
    assert_eq!(got.status, 200, "{got:#?}");
    got.header("x-tidegate-cache")
}

fn metric(rig: &Rig, line: &str) -> u64 {
    let text = rig.gateway.render_metrics();
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found.map_or(0, |value| value.parse().unwrap())
}

/// The text of an answer, however it came.
fn text(got: &Got) -> String {
    if got.body.starts_with('{') {
        let body = got.json();
        let places = ["/choices/0/message/content", "/content/0/text", "/choices/0/text"];
        return places.iter().find_map(|at| body.pointer(at)?.as_str()).unwrap().to_owned();
    }
    assert_eq!(got.end(), End::Terminal, "{got:#?}");
    got.text()
}

/// What an answer says of its tokens.
fn usage(got: &Got) -> Value {
    if got.body.starts_with('{') {
        return got.json()["usage"].clone();
    }
    let all = events(&got.body);
    let with_usage = all.iter().rev().filter_map(|(_, data)| {
        let data: Value = serde_json::from_str(data).ok()?;
        Some(data["usage"].clone()).filter(Value::is_object)
    });
    { with_usage }.next().unwrap_or_default()
}

async fn send(router: &Router, path: &str, body: Value) -> (String, Value) {
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(Body::from(body.to_string())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let cache = response.headers()["x-tidegate-cache"].to_str().unwrap().to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (cache, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn the_same_request_gets_the_same_answer_and_nobody_is_asked_again() {
    let rig = rig();
    let ask = Ask::chat("faq", QUESTION).whole();
    let first = rig.ask(&ask).await;
    assert_eq!(cache(&first), "miss");
    assert_eq!(first.header("age"), "");
    let again = rig.ask(&ask).await;
    assert_eq!((cache(&again), again.header("age")), ("exact", "0"));
    assert_eq!(text(&again), text(&first));
    assert_eq!(usage(&again), usage(&first), "the original usage");
    assert_eq!(again.header("x-tidegate-served-by"), "priced/alpha");
    assert_eq!(again.header("x-tidegate-attempts"), "0");
    assert_eq!(again.header("x-tidegate-cost-usd"), "0.000000");
    assert_ne!(first.header("x-tidegate-cost-usd"), "0.000000");
    let (one, two) = (first.json(), again.json());
    assert_ne!(one["id"], two["id"], "a fresh id");
    assert_eq!(one["model"], two["model"]);
    assert_eq!(upstream(&rig), 1);
    assert_eq!(metric(&rig, "tidegate_cache_lookups_total{result=\"exact\"}"), 1);
    assert_eq!(metric(&rig, "tidegate_cache_lookups_total{result=\"miss\"}"), 1);
    assert_eq!(metric(&rig, "tidegate_cache_kept_total"), 1);
    assert_eq!(metric(&rig, "tidegate_cache_entries"), 1);
    let paid = metric(&rig, "tidegate_cache_saved_micro_usd_total");
    assert!(paid > 0);
    let journal = rig.journal().await;
    let [paid_for, kept] = journal.as_slice() else { panic!("{journal:#?}") };
    assert_eq!((paid_for.reuse.as_deref(), paid_for.saved.0), (None, 0));
    assert_eq!((kept.reuse.as_deref(), kept.saved), (Some("exact"), paid_for.cost));
    assert_eq!((kept.cost.0, kept.usage.total(), kept.attempts), (0, 0, 0));
    assert_eq!((kept.outcome.as_str(), kept.status), ("complete", 200));
    assert_eq!(kept.target.as_deref(), Some("priced/alpha"));
    assert_eq!(kept.route.as_deref(), Some("faq"));
    assert_eq!(paid, paid_for.cost.0);
}

#[tokio::test(start_paused = true)]
async fn one_entry_serves_whole_and_streamed_answers_on_any_wire() {
    for (dialect, route) in [
        (Dialect::OpenAiChat, "faq"),
        (Dialect::OpenAiChat, "crossed"),
        (Dialect::Anthropic, "crossed"),
        (Dialect::Anthropic, "backward"),
    ] {
        for first_is_whole in [true, false] {
            let rig = rig();
            let streamed = Ask::new(dialect, route, QUESTION);
            let streamed = match dialect {
                Dialect::OpenAiChat | Dialect::Gemini => {
                    streamed.having("stream_options", json!({"include_usage": true}))
                }
                Dialect::Anthropic => streamed,
            };
            let whole = Ask::new(dialect, route, QUESTION).whole();
            let (one, two) = if first_is_whole { (&whole, &streamed) } else { (&streamed, &whole) };
            let first = rig.ask(one).await;
            assert_eq!(cache(&first), "miss");
            for ask in [two, one] {
                let again = rig.ask(ask).await;
                assert_eq!(cache(&again), "exact", "{dialect} {route} {ask:?}");
                assert_eq!(text(&again), text(&first), "{again:#?}");
                let (now, then) = (usage(&again), usage(&first));
                let output = ["completion_tokens", "output_tokens"];
                for name in output.iter().filter(|name| !then[**name].is_null()) {
                    assert_eq!(now[*name], then[*name], "{again:#?}");
                }
                if ask.stream {
                    assert!(events(&again.body).len() > 5, "in pieces: {again:#?}");
                    assert!(again.body.contains("\"cost_usd\":\"0.000000\""), "{again:#?}");
                }
            }
            assert_eq!(upstream(&rig), 1, "{dialect} {route}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_usage_stays_without_it_and_the_entry_has_it() {
    let rig = rig();
    let ask = Ask::chat("faq", QUESTION);
    let first = rig.ask(&ask).await;
    let again = rig.ask(&ask).await;
    assert_eq!((cache(&first), cache(&again)), ("miss", "exact"));
    assert_eq!((usage(&first), usage(&again)), (Value::Null, Value::Null));
    let whole = rig.ask(&ask.whole()).await;
    assert_eq!(cache(&whole), "exact");
    assert_eq!(usage(&whole)["completion_tokens"], 120);
}

#[tokio::test(start_paused = true)]
async fn text_completions_and_vectors_are_kept_too() {
    let rig = rig();
    let ask = json!({"model": "crossed", "prompt": "The capital of France is", "max_tokens": 50});
    let (first, one) = send(&rig.router, "/v1/completions", ask.clone()).await;
    let (again, two) = send(&rig.router, "/v1/completions", ask).await;
    assert_eq!((first.as_str(), again.as_str()), ("miss", "exact"));
    assert_eq!(one["choices"], two["choices"]);
    let ask = json!({"model": "vectors", "input": ["today", "tomorrow"]});
    let (first, one) = send(&rig.router, "/v1/embeddings", ask.clone()).await;
    let (again, two) = send(&rig.router, "/v1/embeddings", ask).await;
    assert_eq!((first.as_str(), again.as_str()), ("miss", "exact"));
    assert_eq!(one, two);
    let other = json!({"model": "vectors", "input": ["tomorrow", "today"]});
    assert_eq!(send(&rig.router, "/v1/embeddings", other).await.0, "miss");
    assert_eq!(upstream(&rig), 3);
}

#[tokio::test(start_paused = true)]
async fn callers_may_do_without_or_ask_for_a_fresh_answer() {
    let rig = rig();
    let ask = Ask::chat("faq", QUESTION).whole();
    assert_eq!(cache(&rig.ask(&ask).await), "miss");
    for (name, value) in [
        ("x-tidegate-cache", "off"),
        ("cache-control", "no-store"),
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=60, no-store"),
    ] {
        assert_eq!(
            cache(&rig.ask(&ask.clone().with(name, value)).await),
            "miss",
            "{name}: {value}"
        );
    }
    for (name, value) in [("x-tidegate-cache", "exact"), ("cache-control", "max-age=60")] {
        let got = rig.ask(&ask.clone().with(name, value)).await;
        assert_eq!(cache(&got), "exact", "{name}: {value}");
    }
    assert_eq!(upstream(&rig), 5);
    assert_eq!(metric(&rig, "tidegate_cache_bypassed_total{reason=\"off\"}"), 1);
    assert_eq!(metric(&rig, "tidegate_cache_bypassed_total{reason=\"no_store\"}"), 2);
    assert_eq!(metric(&rig, "tidegate_cache_lookups_total{result=\"refresh\"}"), 1);
    assert_eq!(metric(&rig, "tidegate_cache_kept_total"), 2, "a fresh answer is kept");
    let wrong = rig.ask(&ask.with("x-tidegate-cache", "on")).await;
    assert_eq!(wrong.status, 400);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_not_given_again_when_its_time_is_over() {
    let rig = rig();
    let ask = Ask::chat("faq", QUESTION);
    assert_eq!(cache(&rig.ask(&ask).await), "miss");
    advance(Duration::from_secs(599)).await;
    assert_eq!(cache(&rig.ask(&ask).await), "exact");
    advance(Duration::from_secs(2)).await;
    assert_eq!(cache(&rig.ask(&ask).await), "miss");
    assert_eq!(upstream(&rig), 2);
}

#[tokio::test(start_paused = true)]
async fn a_route_without_a_cache_has_none_and_a_models_own_name_neither() {
    let rig = rig();
    for model in ["plain", "chat/alpha"] {
        let ask = Ask::chat(model, QUESTION).with("x-tidegate-cache", "exact");
        for _ in 0..2 {
            assert_eq!(cache(&rig.ask(&ask).await), "miss");
        }
    }
    assert_eq!(upstream(&rig), 4);
    assert!(!rig.gateway.render_metrics().contains("tidegate_cache_lookups_total{"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_from_the_cache_can_be_come_back_to() {
    let rig = rig();
    let ask = Ask::chat("faq", QUESTION);
    let first = rig.ask(&ask).await;
    let again = rig.ask(&ask.with("x-resumable", "true")).await;
    assert_eq!((cache(&again), text(&again)), ("exact", text(&first)));
    assert_ne!(again.header("x-tidegate-stream-id"), "");
    assert!(again.body.contains("id: "), "numbered events: {again:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_there_while_no_target_is() {
    let rig = rig();
    let ask = Ask::chat("faq", QUESTION);
    let first = rig.ask(&ask).await;
    rig.gateway.fleet().target("priced/alpha").unwrap().set_drained(true, None).unwrap();
    let again = rig.ask(&ask).await;
    assert_eq!((cache(&again), text(&again)), ("exact", text(&first)));
    let other = rig.ask(&Ask::chat("faq", "And of Spain?")).await;
    assert_eq!(other.status, 503);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_committed_early_is_kept_too() {
    let rig = rig();
    let ask = Ask::chat("early", "What is it? [[sim:first=1,ttft=3s]]");
    let first = rig.ask(&ask).await;
    assert_eq!(first.head_after, Duration::from_secs(1));
    let again = rig.ask(&ask).await;
    assert_eq!((cache(&again), text(&again)), ("exact", text(&first)));
    assert_eq!(again.end_after, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_the_cache_counts_as_a_request_and_nothing_else() {
    let limits = "[limits.default]\nrequests_per_minute = 60\ntokens_per_minute = 10000";
    let rig = Rig::instant(&format!("{ROUTES}\n{limits}"));
    let ask = Ask::chat("faq", QUESTION);
    let first = rig.ask(&ask).await;
    let second = rig.ask(&ask).await;
    let third = rig.ask(&ask).await;
    assert_eq!((cache(&second), cache(&third)), ("exact", "exact"));
    let left = |got: &Got, what: &str| -> u64 {
        got.header(&format!("x-ratelimit-remaining-{what}")).parse().unwrap()
    };
    assert_eq!(left(&first, "requests") - left(&third, "requests"), 2);
    assert_eq!(left(&second, "tokens"), left(&third, "tokens"));
}

#[tokio::test(start_paused = true)]
async fn the_cache_and_an_idempotency_key_get_along() {
    let rig = rig();
    let ask = Ask::chat("faq", QUESTION).whole();
    assert_eq!(cache(&rig.ask(&ask).await), "miss");
    tokio::time::resume();
    let keyed = ask.with("idempotency-key", "k");
    let first = rig.ask(&keyed).await;
    assert_eq!((cache(&first), first.header("idempotent-replayed")), ("exact", ""));
    let again = rig.ask(&keyed).await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(text(&again), text(&first));
    assert_eq!(upstream(&rig), 1);
}
