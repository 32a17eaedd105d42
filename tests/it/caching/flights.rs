//! Requests that ask the same at the same time: one of them is asked, all are answered.
#![expect(clippy::disallowed_methods, reason = "each caller is a task")]

use std::time::Duration;

use axum::Router;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tidegate::dialect::Dialect;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tower::ServiceExt;

use super::{ROUTES, cache, metric, rig, text, upstream};
use crate::rig::{Ask, End, Got, Rig, read};

mod sockets;
mod threads;
mod trouble;

/// Takes a second: the first token comes after 200 ms, and another every 20 ms.
const QUESTION: &str = "What is the capital of France? [[sim:ttft=200ms,gap=20ms,tokens=40]]";

/// How many were answered from somebody else's answer, or not, by the word for it.
fn coalesced(rig: &Rig, result: &str) -> u64 {
    metric(rig, &format!("tidegate_coalesced_total{{result=\"{result}\"}}"))
}

/// Asks in this order at the same moment; the first leads.
async fn together(rig: &Rig, asks: impl IntoIterator<Item = Ask>) -> Vec<Got> {
    together_over(&rig.router, asks).await
}

async fn together_over(router: &Router, asks: impl IntoIterator<Item = Ask>) -> Vec<Got> {
    let asking = asks.into_iter().map(|ask| {
        let router = router.clone();
        tokio::spawn(async move { read(&router, &ask).await })
    });
    let asking: Vec<_> = asking.collect();
    let mut all = Vec::new();
    for asked in asking {
        all.push(asked.await.unwrap());
    }
    all
}

/// Nothing is kept of answers on their way.
fn assert_landed(rig: &Rig) {
    let flights = rig.gateway.flights();
    assert_eq!((flights.len(), flights.bytes()), (0, 0));
    assert_eq!(rig.gateway.admitted(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_who_ask_at_once_one_is_asked_and_all_are_answered() {
    let rig = rig();
    let ask = Ask::chat("faq", QUESTION);
    let asks = (0..1_000).map(|n| if n % 2 == 0 { ask.clone() } else { ask.clone().whole() });
    let all = together(&rig, asks).await;
    assert_eq!(upstream(&rig), 1);
    let said = text(&all[0]);
    assert!(said.len() > 100, "{said}");
    for got in &all[1..] {
        assert_eq!((cache(got), text(got)), ("coalesced", said.clone()));
    }
    assert_eq!(cache(&all[0]), "miss");
    assert_eq!(coalesced(&rig, "shared"), 999);
    assert_landed(&rig);
    assert_eq!(cache(&rig.ask(&ask).await), "exact", "it is kept");
    let journal = rig.journal().await;
    let shared: Vec<_> =
        journal.iter().filter(|row| row.reuse.as_deref() == Some("coalesced")).collect();
    assert_eq!(shared.len(), 999);
    let paid = journal.iter().find(|row| row.reuse.is_none()).unwrap();
    assert!(paid.cost.0 > 0);
    for row in shared {
        assert_eq!((row.cost.0, row.saved, row.attempts), (0, paid.cost, 0), "{row:?}");
        assert_eq!((row.outcome.as_str(), row.status), ("complete", 200), "{row:?}");
        assert_eq!(row.target, paid.target);
    }
}

#[tokio::test(start_paused = true)]
async fn everybody_gets_an_answer_in_its_own_form() {
    for (dialect, route) in [
        (Dialect::OpenAiChat, "faq"),
        (Dialect::OpenAiChat, "crossed"),
        (Dialect::Anthropic, "crossed"),
        (Dialect::Anthropic, "faq"),
    ] {
        for leader_streams in [true, false] {
            let rig = rig();
            let stream = Ask::new(dialect, route, QUESTION);
            let whole = stream.clone().whole();
            let counted = match dialect {
                Dialect::OpenAiChat | Dialect::Gemini => {
                    stream.clone().having("stream_options", json!({ "include_usage": true }))
                }
                Dialect::Anthropic => stream.clone(),
            };
            let leader = if leader_streams { stream.clone() } else { whole.clone() };
            let all = together(&rig, [leader, stream, counted, whole]).await;
            assert_eq!(upstream(&rig), 1, "{dialect} {route}");
            let said = text(&all[0]);
            for got in &all[1..] {
                assert_eq!((cache(got), text(got)), ("coalesced", said.clone()), "{got:#?}");
                assert_eq!(got.header("x-tidegate-attempts"), "0");
                assert_ne!(got.header("x-tidegate-served-by"), "");
                // Forty tokens, as its leader paid for.
                let usage = ["\"completion_tokens\":40", "\"output_tokens\":40"];
                let is_told = usage.iter().any(|usage| got.body.contains(usage));
                let is_bare =
                    dialect == Dialect::OpenAiChat && std::ptr::eq(got, &raw const all[1]);
                assert_eq!(is_told, !is_bare, "{got:#?}");
            }
            let costs_nothing = "\"cost_usd\":\"0.000000\"";
            assert!(all[2].body.contains(costs_nothing), "{:#?}", all[2]);
            assert!(all[2].body.contains("\"cache\":\"coalesced\""), "{:#?}", all[2]);
            assert_eq!(all[3].header("x-tidegate-cost-usd"), "0.000000");
            assert_ne!(id(&all[1]), id(&all[2]));
            assert_ne!(id(&all[0]), id(&all[3]));
            if leader_streams {
                let first = all[1].pieces.first().unwrap().0;
                assert!(first < Duration::from_millis(400), "as it comes: {first:?}");
            }
            assert_landed(&rig);
        }
    }
}

/// The id of an answer.
fn id(got: &Got) -> String {
    let (_, rest) = got.body.split_once("\"id\":\"").expect("an id");
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn who_comes_late_gets_all_of_it() {
    let rig = rig();
    let ask = Ask::chat("faq", QUESTION);
    let leading = tokio::spawn({
        let (router, ask) = (rig.router.clone(), ask.clone());
        async move { read(&router, &ask).await }
    });
    sleep(Duration::from_millis(700)).await;
    let late = together(&rig, [ask.clone(), ask.clone().whole()]).await;
    let said = text(&leading.await.unwrap());
    for got in &late {
        assert_eq!((cache(got), text(got)), ("coalesced", said.clone()));
    }
    assert_eq!(late[0].pieces[0].0, Duration::ZERO, "what was said is there at once");
    assert!(late[0].end_after < Duration::from_millis(400), "{:?}", late[0].end_after);
    assert_eq!(upstream(&rig), 1);
    assert_landed(&rig);
}

#[tokio::test(start_paused = true)]
async fn vectors_and_text_completions_are_shared_too() {
    let rig = rig();
    for (path, body) in [
        ("/v1/embeddings", json!({"model": "vectors", "input": ["a", "b [[sim:ttft=100ms]]"]})),
        ("/v1/completions", json!({"model": "faq", "prompt": QUESTION, "max_tokens": 50})),
        (
            "/v1/completions",
            json!({"model": "crossed", "prompt": QUESTION, "max_tokens": 50, "stream": true}),
        ),
    ] {
        let before = upstream(&rig);
        let asking: Vec<_> = (0..3).map(|_| tokio::spawn(send(&rig, path, &body))).collect();
        let mut all = Vec::new();
        for asked in asking {
            all.push(asked.await.unwrap());
        }
        assert_eq!(upstream(&rig) - before, 1, "{path}");
        let words = |body: &str| -> String {
            let texts = body.split("\"text\":\"").skip(1);
            texts.filter_map(|rest| rest.split('"').next()).collect()
        };
        for (cache, got) in &all[1..] {
            // One that answers at once has answered before the others come.
            let is_at_once = path == "/v1/embeddings" && cache == "exact";
            assert!(is_at_once || cache == "coalesced", "{path}: {cache}");
            assert_eq!(words(got), words(&all[0].1), "{path}");
            assert!(!got.contains("\"error\""), "{got}");
        }
        if path == "/v1/embeddings" {
            assert_eq!(all[0].1, all[1].1);
        } else {
            assert!(words(&all[1].1).len() > 50, "{all:?}");
        }
    }
    assert_landed(&rig);
}

/// What the reply says of the cache, and its body.
fn send(rig: &Rig, path: &str, body: &Value) -> impl Future<Output = (String, String)> + use<> {
    let request = http::Request::post(path).header("content-type", "application/json");
    let request = request.body(axum::body::Body::from(body.to_string())).unwrap();
    let router = rig.router.clone();
    async move {
        let response = router.oneshot(request).await.unwrap();
        let cache = response.headers()["x-tidegate-cache"].to_str().unwrap().to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (cache, String::from_utf8(body.to_vec()).unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_goes_on_when_the_leader_leaves() {
    // Before the first token, and within the answer.
    for after in [100, 500] {
        let rig = rig();
        let ask = Ask::chat("faq", QUESTION);
        let leading = tokio::spawn({
            let (router, ask) = (rig.router.clone(), ask.clone());
            async move { read(&router, &ask).await }
        });
        let leave = async {
            sleep(Duration::from_millis(after)).await;
            leading.abort();
        };
        sleep(Duration::from_millis(10)).await;
        let (all, ()) = tokio::join!(together(&rig, [ask.clone(), ask.clone().whole()]), leave);
        assert!(leading.await.unwrap_err().is_cancelled());
        for got in &all {
            assert_eq!((cache(got), text(got).len() > 100), ("coalesced", true), "{got:#?}");
        }
        assert_eq!(text(&all[0]), text(&all[1]));
        assert_eq!(upstream(&rig), 1);
        assert!(!rig.sim.bills()[0].is_cancelled);
        assert_landed(&rig);
        assert_eq!(cache(&rig.ask(&ask).await), "exact", "and is kept");
    }
}

#[tokio::test(start_paused = true)]
async fn with_the_last_one_who_waits_the_provider_is_left() {
    let rig = rig();
    let ask = Ask::chat("faq", QUESTION);
    let mut waiting = JoinSet::new();
    for ask in [ask.clone(), ask.clone(), ask.whole()] {
        let router = rig.router.clone();
        waiting.spawn(async move { read(&router, &ask).await });
    }
    sleep(Duration::from_millis(400)).await;
    assert_eq!(rig.gateway.flights().len(), 1);
    waiting.shutdown().await;
    assert!(rig.sim.bills()[0].is_cancelled);
    assert_landed(&rig);
    let journal = rig.journal().await;
    assert_eq!(journal.len(), 3);
    assert!(journal.iter().all(|row| row.outcome == "client_gone"), "{journal:#?}");
}

#[tokio::test(start_paused = true)]
async fn those_who_want_no_shared_answer_take_no_part() {
    for ask in [
        Ask::chat("faq", QUESTION).with("cache-control", "no-cache"),
        Ask::chat("faq", QUESTION).with("cache-control", "no-store"),
        Ask::chat("faq", QUESTION).with("x-tidegate-cache", "off"),
        Ask::chat("faq", QUESTION).having("temperature", json!(0.9)),
        Ask::chat("plain", QUESTION),
    ] {
        let rig = rig();
        let all = together(&rig, [ask.clone(), ask.clone()]).await;
        assert!(all.iter().all(|got| cache(got) == "miss"), "{ask:?}");
        assert_eq!(upstream(&rig), 2, "{ask:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_matters_more_or_has_more_time_does_not_wait_for_who_does_not() {
    let ask = Ask::chat("faq", QUESTION);
    for (header, first, second, calls) in [
        ("x-tidegate-priority", "3", "2", 2),
        ("x-tidegate-priority", "2", "3", 1),
        ("x-tidegate-timeout-ms", "2000", "3000", 2),
        ("x-tidegate-timeout-ms", "3000", "2000", 1),
    ] {
        let rig = rig();
        let of = |value: &str| ask.clone().with(header, value);
        let all = together(&rig, [of(first), of(second), of(second)]).await;
        assert_eq!(upstream(&rig), calls, "{header} {first} {second}");
        assert_eq!(cache(&all[2]), "coalesced", "with the better one");
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_has_a_deadline_of_its_own() {
    let rig = rig();
    let ask = Ask::chat("faq", QUESTION);
    let hasty = |ms: u64| ask.clone().with("x-tidegate-timeout-ms", ms);
    let asks = [ask.clone(), hasty(100), hasty(500), hasty(500).whole()];
    let all = together(&rig, asks).await;
    assert!(!text(&all[0]).is_empty());
    assert_eq!((all[1].status.as_u16(), all[1].end_after), (504, Duration::from_millis(100)));
    assert_eq!((all[2].status.as_u16(), all[2].end()), (200, End::Error), "{:#?}", all[2]);
    assert_eq!(all[3].status, 504);
    assert_eq!(upstream(&rig), 1);
    assert_landed(&rig);
}

#[tokio::test(start_paused = true)]
async fn a_shared_answer_takes_a_request_of_limits_and_no_tokens() {
    let limits = "[limits.default]\nrequests_per_minute = 3\ntokens_per_minute = 100000";
    let rig = Rig::instant(&format!("{ROUTES}\n{limits}"));
    let ask = Ask::chat("faq", QUESTION).whole();
    let all = together(&rig, (0..4).map(|_| ask.clone())).await;
    let mut statuses: Vec<_> = all.iter().map(|got| got.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(upstream(&rig), 1);
    let left = |got: &Got, what: &str| -> u64 {
        got.header(&format!("x-ratelimit-remaining-{what}")).parse().unwrap()
    };
    assert_eq!(left(&all[1], "requests") - left(&all[2], "requests"), 1);
    assert_eq!(left(&all[1], "tokens"), left(&all[2], "tokens"));
    assert_landed(&rig);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_was_committed_early_is_shared() {
    let rig = rig();
    let ask = Ask::chat("early", "What is it? [[sim:ttft=3s,tokens=20]]");
    let all = together(&rig, [ask.clone(), ask.clone(), ask.whole()]).await;
    assert_eq!(upstream(&rig), 1);
    assert_eq!(all[1].head_after, Duration::from_secs(1));
    assert!(all[1].body.starts_with(": keep-alive"), "{:#?}", all[1]);
    assert!(all.iter().all(|got| text(got) == text(&all[0])));
    assert_landed(&rig);
}
