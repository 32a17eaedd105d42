//! What operators see of targets: metrics, `/health`, and what looking at them must not change.

use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tidegate::clock::Instant;
use tidegate::fleet::Demand;
use tower::ServiceExt;

use crate::rig::{Ask, Rig};

const ROUTES: &str = r#"
[routes.pair]
targets = [{ model = "chat/alpha" }, { model = "chat/beta", tier = 1 }]
[routes.alone]
targets = [{ model = "chat/alpha" }]
"#;

fn metric(rig: &Rig, series: &str) -> f64 {
    let text = rig.gateway.render_metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
}

async fn health(rig: &Rig) -> Value {
    let request = http::Request::get("/health").body(Body::empty()).unwrap();
    let answer = rig.router.clone().oneshot(request).await.unwrap();
    serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_attempt_on_another_target_is_a_fallback_and_one_on_the_same_a_retry() {
    let rig = Rig::instant(ROUTES);
    let got = rig.ask(&Ask::chat("pair", "[[sim:on=alpha,status=500]]")).await;
    assert_eq!((got.status.as_u16(), got.header("x-tidegate-attempts")), (200, "2"));
    let counted = ["tidegate_fallbacks_total", "tidegate_retries_total"];
    assert_eq!(counted.map(|series| metric(&rig, series)), [1.0, 0.0]);

    let got = rig.ask(&Ask::chat("alone", "[[sim:status=500]]")).await;
    assert_eq!((got.status.as_u16(), got.header("x-tidegate-attempts")), (502, "2"));
    assert_eq!(counted.map(|series| metric(&rig, series)), [1.0, 1.0]);
}

#[tokio::test(start_paused = true)]
async fn metrics_say_what_each_target_is_worth() {
    let rig = Rig::instant(ROUTES);
    for _ in 0..30 {
        rig.ask(&Ask::chat("pair", "[[sim:on=alpha,status=429]]")).await;
    }
    let of =
        |name: &str, target: &str| metric(&rig, &format!("{name}{{target=\"chat/{target}\"}}"));
    assert!(of("tidegate_target_rank", "beta") < 5.0);
    assert!(of("tidegate_target_rank", "alpha") > 0.0);
    assert!((0.99..=1.0).contains(&of("tidegate_target_success_ratio", "beta")));
}

#[tokio::test(start_paused = true)]
async fn health_names_routes_that_have_nobody_to_ask() {
    let rig = Rig::instant(ROUTES);
    let fresh = health(&rig).await;
    let total = fresh["targets"]["total"].as_u64().unwrap();
    assert_eq!(fresh["status"], "ok");
    assert_eq!(fresh["targets"], json!({ "ready": total, "total": total, "open": 0 }));
    assert_eq!(fresh["routes_down"], json!([]));

    while rig.gateway.fleet().targets(Instant::now()).iter().all(|one| one.breaker == "closed") {
        rig.ask(&Ask::chat("alone", "[[sim:on=alpha,status=500]]")).await;
    }
    let down = health(&rig).await;
    assert_eq!(down["status"], "degraded");
    assert_eq!(down["targets"], json!({ "ready": total - 1, "total": total, "open": 1 }));
    // The pair still has its other tier.
    assert_eq!(down["routes_down"], json!(["alone"]));
}

#[tokio::test(start_paused = true)]
async fn in_a_panic_the_view_says_what_is_wrong_and_who_is_asked_all_the_same() {
    let rig = Rig::instant(ROUTES);
    let route = rig.gateway.snapshot().resolve("alone").unwrap();
    let look = || {
        let fleet = rig.gateway.fleet();
        fleet.look(std::slice::from_ref(&route), &Demand::usual(), Instant::now()).remove(0)
    };
    assert!(!look().is_panic);
    while !look().is_panic {
        rig.ask(&Ask::chat("alone", "[[sim:status=500]]")).await;
    }
    let view = look();
    let target = &view.targets[0];
    assert_eq!(target.score.excluded.unwrap().as_str(), "open");
    assert_eq!(target.expected_share, 1.0);
    assert_eq!(target.live.breaker_reason, Some("run"));
    assert!(target.live.ready_in_seconds.unwrap() > 1.0);
}

#[tokio::test(start_paused = true)]
async fn models_that_only_a_route_names_are_targets_of_their_own() {
    let rig = Rig::instant(
        r#"
[providers.own]
dialect = "openai-chat"
base_url = "sim://own/v1"
credentials = [{ none = true }]
[routes.open]
targets = [{ model = "own/one" }, { model = "own/two", tier = 1 }, { model = "own/three", tier = 2 }]
"#,
    );
    for _ in 0..100 {
        rig.ask(&Ask::chat("open", "[[sim:status=500]]")).await;
    }
    let now = Instant::now();
    let seen = rig.gateway.fleet().targets(now);
    let ids: Vec<_> = seen.iter().map(|target| target.id.as_str()).collect();
    assert_eq!(ids, ["own/one", "own/three", "own/two"], "{seen:#?}");
    let attempts: u64 = seen.iter().map(|target| target.attempts).sum();
    assert!(attempts <= 130, "{attempts} for 100 requests: the route's budget holds");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_on_whole_answers_is_left_though_its_share_of_the_time_is_short() {
    let rig = Rig::instant(
        r#"
[routes.short]
targets = [{ model = "chat/alpha" }, { model = "chat/beta", tier = 1 }]
timeouts = { first_token = "20s", total = "30s" }
"#,
    );
    let text = "[[sim:on=alpha,stall_before_head]] [[sim:on=beta,say=beta speaks]]";
    let mut quick = 0;
    for _ in 0..10 {
        let got = rig.ask(&Ask::chat("short", text).whole()).await;
        assert_eq!(got.status, 200, "{got:#?}");
        quick += u32::from(got.end_after < std::time::Duration::from_secs(1));
    }
    assert!(quick >= 4, "{quick} of 10: alpha is left after some");
}
