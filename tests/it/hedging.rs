//! A first token that is late is raced by another target, within budgets, and the loser is
//! cancelled.

use std::time::Duration;

use http_body_util::BodyExt;
use tidegate::clock::Instant;
use tokio::task::JoinSet;

use crate::rig::{Ask, End, Rig, read};

/// `chat` is nearly always asked first.
const ROUTES: &str = r#"
[routes.raced]
targets = [{ model = "chat/alpha", weight = 1000 }, { model = "claude/beta" }]
hedge = { enabled = true }
[routes.plain]
targets = [{ model = "chat/alpha", weight = 1000 }, { model = "claude/beta" }]
[providers.paid]
dialect = "openai-chat"
base_url = "sim://paid/v1"
credentials = [{ none = true }]
models = [{ id = "dear", usd_per_million = { input = "100", output = "0" } }]
[routes.paid]
targets = [{ model = "paid/dear", weight = 1000 }, { model = "claude/beta" }]
hedge = { enabled = true }
rank = { seconds_per_usd = 0 }
[routes.tiers]
targets = [{ model = "chat/alpha", weight = 1000 }, { model = "claude/alpha" }, { model = "gem/beta", tier = 1 }]
hedge = { enabled = true }
"#;

/// Enough requests that take 100 ms each to know what is late, and to pay for hedges.
async fn warm(rig: &Rig, model: &str) {
    for _ in 0..100 {
        let got = rig.ask(&Ask::chat(model, "[[sim:ttft=100ms]]")).await;
        assert_eq!((got.status.as_u16(), got.header("x-tidegate-hedged")), (200, "false"));
    }
}

fn silent() -> Ask {
    Ask::chat(
        "raced",
        "[[sim:on=alpha,stall_before_head]] [[sim:on=beta,ttft=100ms,say=claude speaks]]",
    )
}

#[tokio::test(start_paused = true)]
async fn a_hedge_takes_over_when_the_first_token_is_late() {
    let rig = Rig::instant(ROUTES);
    warm(&rig, "raced").await;
    let before = rig.sim.stats().total.cancelled;
    let got = rig.ask(&silent()).await;
    assert_eq!((got.status.as_u16(), got.end()), (200, End::Terminal), "{got:#?}");
    assert_eq!(got.text(), "claude speaks");
    assert_eq!(got.header("x-tidegate-hedged"), "true");
    assert_eq!(got.header("x-tidegate-attempts"), "2");
    assert_eq!(got.header("x-tidegate-served-by"), "claude/beta");
    // The shortest delay there is, and what the second took.
    let late = Duration::from_millis(150 + 100);
    assert!((late..late + Duration::from_millis(10)).contains(&got.head_after), "{got:#?}");
    assert_eq!(rig.sim.stats().total.cancelled - before, 1, "the loser sees that it has lost");
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
    let metrics = rig.gateway.metrics.render();
    assert!(metrics.contains("tidegate_hedges_total 1\n"), "{metrics}");
    let superseded = r#"tidegate_attempts_total{result="superseded",target="chat/alpha"} 1"#;
    assert!(metrics.contains(superseded), "{metrics}");
    let entry = rig.journal().await.pop().unwrap();
    assert_eq!((entry.attempts, entry.outcome.as_str()), (2, "complete"));
    assert_eq!(entry.target.as_deref(), Some("claude/beta"));
}

#[tokio::test(start_paused = true)]
async fn the_loser_is_cancelled_the_moment_the_other_speaks() {
    let rig = Rig::instant(ROUTES);
    warm(&rig, "raced").await;
    let ask = Ask::chat(
        "raced",
        "[[sim:on=alpha,stall_before_head]] [[sim:on=beta,ttft=100ms,gap=1s,tokens=20]]",
    );
    let began = Instant::now();
    let mut body = rig.open(&ask).await.into_body();
    assert!(body.frame().await.is_some());
    let spoke = began.elapsed();
    assert!(spoke < Duration::from_millis(260), "{spoke:?}");
    assert_eq!(rig.sim.stats().total.in_flight, 1, "only the winner goes on");
    drop(body);
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_raced_where_the_route_does_not_say_so() {
    let rig = Rig::instant(ROUTES);
    warm(&rig, "plain").await;
    let ask = Ask { model: "plain".to_owned(), ..silent() };
    let got = rig.ask(&ask.with("x-tidegate-timeout-ms", 2_000)).await;
    assert_eq!((got.status.as_u16(), got.header("x-tidegate-hedged")), (504, "false"), "{got:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_request_is_not_raced() {
    let rig = Rig::instant(ROUTES);
    warm(&rig, "raced").await;
    let ask = silent().with("x-tidegate-priority", 4).with("x-tidegate-timeout-ms", 2_000);
    let got = rig.ask(&ask).await;
    assert_eq!((got.status.as_u16(), got.header("x-tidegate-hedged")), (504, "false"), "{got:#?}");
}

#[tokio::test(start_paused = true)]
async fn another_tier_is_not_raced() {
    let rig = Rig::instant(ROUTES);
    warm(&rig, "tiers").await;
    let text = "[[sim:on=alpha,stall_before_head]] [[sim:on=beta,say=gem speaks]]";
    let ask = Ask::chat("tiers", text).with("x-tidegate-timeout-ms", 5_000);
    let got = rig.ask(&ask).await;
    assert_eq!((got.status.as_u16(), got.header("x-tidegate-hedged")), (504, "true"), "{got:#?}");
}

#[tokio::test(start_paused = true)]
async fn hedges_are_paid_from_a_budget() {
    let rig = Rig::instant(ROUTES);
    warm(&rig, "raced").await;
    let mut hedged = 0;
    for _ in 0..20 {
        let got = rig.ask(&silent().with("x-tidegate-timeout-ms", 1_000)).await;
        hedged += u32::from(got.header("x-tidegate-hedged") == "true");
    }
    assert!((5..=7).contains(&hedged), "{hedged} of 120 requests, at 5 %");
}

#[tokio::test(start_paused = true)]
async fn who_was_refused_a_second_attempt_gets_it_once_the_budget_allows() {
    let rig = Rig::instant(ROUTES);
    warm(&rig, "raced").await;
    // The budget is for five of them.
    let mut waiting = JoinSet::new();
    for _ in 0..8 {
        let router = rig.router.clone();
        waiting.spawn(async move { read(&router, &silent()).await });
    }
    for _ in 0..100 {
        let got = rig.ask(&Ask::chat("raced", "[[sim:ttft=100ms]]")).await;
        assert_eq!(got.status, 200);
    }
    let mut waited = Vec::new();
    for got in waiting.join_all().await {
        assert_eq!(got.text(), "claude speaks", "{got:#?}");
        waited.push(got.head_after);
    }
    waited.sort();
    let at_once = waited.partition_point(|waited| *waited < Duration::from_millis(300));
    assert!((5..=7).contains(&at_once), "{waited:?}");
    // Twenty requests pay for one, at ten a second.
    assert!(waited[7] < Duration::from_secs(8), "{waited:?}");
    let metrics = rig.gateway.metrics.render();
    let refused = waited.len() - at_once;
    let refused = format!("tidegate_hedges_refused_total{{reason=\"request_budget\"}} {refused}\n");
    assert!(metrics.contains(&refused), "once each: {metrics}");
}

#[tokio::test(start_paused = true)]
async fn what_the_loser_has_cost_is_booked() {
    let rig = Rig::instant(ROUTES);
    warm(&rig, "paid").await;
    let text = "[[sim:on=dear,stall_before_head]] [[sim:on=beta,ttft=100ms]]";
    let got = rig.ask(&Ask::chat("paid", text)).await;
    assert_eq!(got.header("x-tidegate-hedged"), "true", "{got:#?}");
    let metrics = rig.gateway.metrics.render();
    let waste = metrics
        .lines()
        .find(|line| line.starts_with("tidegate_waste_micro_usd_total{reason=\"hedge\"}"));
    let waste: u64 = waste.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!((1_000..10_000).contains(&waste), "some 30 tokens at 100 micro-dollars: {waste}");
    let entry = rig.journal().await.pop().unwrap();
    assert_eq!((entry.cost.0, entry.waste.cost.0), (0, waste), "the winner costs nothing");
    assert!(entry.waste.is_estimated, "{entry:?}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_does_not_win_while_another_may_say_something() {
    let rig = Rig::instant(ROUTES);
    warm(&rig, "raced").await;
    let text =
        "[[sim:on=alpha,ttft=200ms,empty_completion]] [[sim:on=beta,ttft=300ms,say=beta speaks]]";
    let got = rig.ask(&Ask::chat("raced", text)).await;
    assert_eq!(got.header("x-tidegate-hedged"), "true", "{got:#?}");
    assert_eq!((got.text().as_str(), got.end()), ("beta speaks", End::Terminal), "{got:#?}");
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_mistake_ends_a_race() {
    let rig = Rig::instant(ROUTES);
    warm(&rig, "raced").await;
    let text = "[[sim:on=alpha,ttft=200ms,status=400]] [[sim:on=beta,stall_before_head]]";
    let got = rig.ask(&Ask::chat("raced", text)).await;
    assert!(got.status == 400 || got.header("x-tidegate-hedged") == "false", "{got:#?}");
    assert!(got.end_after < Duration::from_secs(1), "{got:#?}");
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
}
