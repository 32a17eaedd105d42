//! Answers past their time, where there is no other.

use std::time::Duration;

use serde_json::json;
use tokio::time::advance;

use super::{cache, metric, send, text};
use crate::rig::{Ask, End, Got, Rig};

const ROUTES: &str = r#"
[routes.faq]
targets = [{ model = "chat/alpha" }]
cache = { exact = true, ttl = "1m", stale_for = "1h" }
degrade = { stale_cache = true, scripted = "Back soon." }
[routes.strict]
targets = [{ model = "chat/alpha" }]
cache = { exact = true, ttl = "1m" }
[routes.vectors]
targets = [{ model = "chat/vectors" }]
cache = { exact = true, ttl = "1m" }
degrade = { stale_cache = true }
"#;

const QUESTION: &str = "What is the capital of France? [[sim:tokens=40]]";

fn drain(rig: &Rig, drained: bool) {
    for id in ["chat/alpha", "chat/vectors"] {
        if let Some(target) = rig.gateway.fleet().target(id) {
            target.set_drained(drained, None).unwrap();
        }
    }
}

fn how(got: &Got) -> (&str, &str, &str) {
    assert_eq!(got.status, 200, "{got:#?}");
    let of = |name| got.header(name);
    (of("x-tidegate-degradation"), of("x-tidegate-cache"), of("x-tidegate-served-by"))
}

#[tokio::test(start_paused = true)]
async fn an_answer_past_its_time_is_given_where_no_target_gives_another() {
    let rig = Rig::instant(ROUTES);
    let whole = Ask::chat("faq", QUESTION).whole();
    let first = rig.ask(&whole).await;
    advance(Duration::from_secs(90)).await;
    drain(&rig, true);
    for ask in [whole.clone(), Ask::chat("faq", QUESTION)] {
        let got = rig.ask(&ask).await;
        assert_eq!(how(&got), ("3", "exact", "chat/alpha"));
        assert_eq!(text(&got), text(&first));
        assert!(!got.header("age").is_empty());
        if ask.stream {
            assert_eq!(got.end(), End::Terminal);
        }
    }
    let unknown = rig.ask(&Ask::chat("faq", "Something else?")).await;
    assert_eq!((how(&unknown).0, unknown.text().as_str()), ("4", "Back soon."));
    drain(&rig, false);
    assert_eq!(how(&rig.ask(&whole).await).0, "0", "as soon as there is a fresh one");
    assert_eq!(metric(&rig, "tidegate_degraded_total{level=\"3\"}"), 2);
    let journal = rig.journal().await;
    let levels: Vec<_> = journal.iter().map(|entry| (entry.degradation, entry.cost.0)).collect();
    assert_eq!(levels, [(0, 0), (3, 0), (3, 0), (4, 0), (0, 0)]);
    assert_eq!(journal[1].reuse.as_deref(), Some("exact"));
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_it_fresh_never_gets_it_and_it_ends() {
    let rig = Rig::instant(ROUTES);
    let ask = Ask::chat("faq", QUESTION);
    assert_eq!(cache(&rig.ask(&ask).await), "miss");
    advance(Duration::from_secs(90)).await;
    drain(&rig, true);
    for (name, value) in [
        ("cache-control", "no-cache"),
        ("cache-control", "no-store"),
        ("cache-control", "max-age=10"),
        ("x-tidegate-cache", "off"),
    ] {
        assert_eq!(how(&rig.ask(&ask.clone().with(name, value)).await).0, "4", "{name}: {value}");
    }
    assert_eq!(how(&rig.ask(&ask).await).0, "3");
    advance(Duration::from_secs(3_600)).await;
    assert_eq!(how(&rig.ask(&ask).await).0, "4", "past all its time");
}

#[tokio::test(start_paused = true)]
async fn a_route_that_does_not_allow_it_has_none() {
    let rig = Rig::instant(ROUTES);
    let ask = Ask::chat("strict", QUESTION);
    assert_eq!(cache(&rig.ask(&ask).await), "miss");
    advance(Duration::from_secs(90)).await;
    drain(&rig, true);
    assert_eq!(rig.ask(&ask).await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn vectors_past_their_time_are_as_good_as_ever() {
    let rig = Rig::instant(ROUTES);
    let ask = json!({ "model": "vectors", "input": "a" });
    let (_, first) = send(&rig.router, "/v1/embeddings", ask.clone()).await;
    advance(Duration::from_secs(90)).await;
    drain(&rig, true);
    let (word, again) = send(&rig.router, "/v1/embeddings", ask).await;
    assert_eq!((word.as_str(), again), ("exact", first));
}
