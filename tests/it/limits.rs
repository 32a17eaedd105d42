//! What callers may use: limits of requests, tokens, money and places, in virtual time.

use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::{Value, json};
use tidegate::clock::Instant;
use tidegate::dialect::Dialect;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

use crate::process::Program;
use crate::rig::{Ask, End, Got, Rig, events};

mod restored;
mod shared;

/// A priced model: a dollar a million tokens in, ten out.
const PRICED: &str = r#"
[providers.priced]
dialect = "openai-chat"
base_url = "sim://priced/v1"
credentials = [{ none = true }]
models = [{ id = "alpha", usd_per_million = { input = "1", output = "10" } }]
[providers.dear]
dialect = "anthropic"
base_url = "sim://dear/v1"
credentials = [{ none = true }]
models = [{ id = "alpha", usd_per_million = { input = "1", output = "10" } }]
"#;

fn rig(limits: &str) -> Rig {
    Rig::instant(&format!("{PRICED}\n{limits}"))
}

fn chat() -> Ask {
    Ask::chat("chat/alpha", "hello [[sim:tokens=5]]")
}

fn metric(rig: &Rig, line: &str) -> f64 {
    let text = rig.gateway.render_metrics();
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found.map_or(0.0, |value| value.parse().unwrap())
}

fn finish_reasons(got: &Got) -> Vec<String> {
    let all = events(&got.body).into_iter().filter_map(|(_, data)| {
        let data: Value = serde_json::from_str(&data).ok()?;
        let openai = data.pointer("/choices/0/finish_reason");
        let anthropic = data.pointer("/delta/stop_reason");
        openai.or(anthropic)?.as_str().map(str::to_owned)
    });
    all.collect()
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_requests_says_which_it_is_and_when_to_come_back() {
    let rig = rig("[limits.default]\nrequests_per_minute = 60");
    for left in (0..10).rev() {
        let got = rig.ask(&chat()).await;
        assert_eq!(got.status, 200);
        // Ten seconds of it may be used at once.
        assert_eq!(got.header("x-ratelimit-limit-requests"), "60");
        assert_eq!(got.header("x-ratelimit-remaining-requests"), left.to_string());
        assert_eq!(got.header("x-ratelimit-limit-tokens"), "");
    }
    let refused = rig.ask(&chat()).await;
    assert_eq!(refused.status, 429);
    let error = &refused.json()["error"];
    assert_eq!(error["type"], "rate_limit_error");
    assert_eq!(error["code"], "requests_per_minute");
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("the limit `default` is reached"), "{message}");
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), "0");
    // All ten were there at once, which is an advance on the next nine seconds.
    assert_eq!(refused.header("x-ratelimit-reset-requests"), "19s");
    let after_ms: u64 = refused.header("retry-after-ms").parse().unwrap();
    assert!((10_000..10_600).contains(&after_ms), "{after_ms}");
    advance(Duration::from_millis(after_ms)).await;
    assert_eq!(rig.ask(&chat()).await.status, 200);
    let line = "tidegate_limit_rejections_total{dimension=\"requests_per_minute\"}";
    assert_eq!(metric(&rig, line), 1.0);
    let journal = rig.journal().await;
    let rejected: Vec<_> = journal.iter().filter(|request| request.outcome == "rejected").collect();
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].error_code.as_deref(), Some("requests_per_minute"));
}

#[tokio::test(start_paused = true)]
async fn tokens_are_taken_by_estimate_and_put_right_by_what_was_used() {
    let rig = rig("[limits.default]\ntokens_per_minute = 60_000");
    let ask = chat().whole();
    let first = rig.ask(&ask).await;
    let usage = &first.json()["usage"];
    let used = usage["total_tokens"].as_u64().unwrap();
    // 10 s of the limit are there, and the caller's cap of 1,000 tokens is reserved.
    let reserved: u64 = first.header("x-ratelimit-remaining-tokens").parse().unwrap();
    assert!((8_900..=9_000).contains(&reserved), "{reserved}");
    let second = rig.ask(&ask).await;
    let left: u64 = second.header("x-ratelimit-remaining-tokens").parse().unwrap();
    assert_eq!(left, reserved - used);
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_money_is_402_and_no_client_tries_again() {
    // A thousand tokens of an answer cost a cent.
    let rig = rig("[limits.default]\nusd_per_month = \"0.02\"");
    let ask = Ask::chat("priced/alpha", "hello [[sim:tokens=900]]").whole();
    let first = rig.ask(&ask).await;
    assert_eq!(first.status, 200);
    assert_eq!(rig.ask(&ask).await.status, 200);
    let refused = rig.ask(&ask).await;
    assert_eq!(refused.status, 402);
    let error = &refused.json()["error"];
    assert_eq!(error["type"], "insufficient_quota");
    assert_eq!(error["code"], "usd_per_month");
    assert_eq!(refused.header("x-should-retry"), "false");
    for percent in [80, 100] {
        let line = format!(
            "tidegate_limit_thresholds_total{{dimension=\"usd_per_month\",percent=\"{percent}\"}}"
        );
        assert_eq!(metric(&rig, &line), 1.0, "{percent} %");
    }
    // Somebody else's model costs nothing, and there is room for nothing.
    assert_eq!(rig.ask(&chat()).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn anthropics_clients_read_their_own_headers_and_errors() {
    let limits = "[limits.default]\nrequests_per_minute = 1\ninput_tokens_per_minute = 10_000\n\
                  [limits.money]\nroutes = [\"dear/alpha\"]\nusd_per_day = \"0.000001\"";
    let rig = rig(limits);
    let ask = Ask::new(Dialect::Anthropic, "claude/alpha", "hello").whole();
    let got = rig.ask(&ask).await;
    assert_eq!(got.status, 200);
    assert_eq!(got.header("anthropic-ratelimit-requests-limit"), "1");
    assert_eq!(got.header("anthropic-ratelimit-requests-remaining"), "0");
    assert_eq!(got.header("anthropic-ratelimit-input-tokens-limit"), "10000");
    assert_eq!(got.header("anthropic-ratelimit-output-tokens-limit"), "");
    let reset = got.header("anthropic-ratelimit-requests-reset");
    assert!(reset.starts_with("20") && reset.ends_with("Z") && reset.len() == 20, "{reset}");
    assert_eq!(got.header("x-ratelimit-limit-tokens"), "10000");
    let refused = rig.ask(&ask).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    advance(Duration::from_secs(61)).await;
    let ask = Ask::new(Dialect::Anthropic, "dear/alpha", "hello").whole();
    let refused = rig.ask(&ask).await;
    assert_eq!(refused.status, 402);
    assert_eq!(refused.json()["error"]["type"], "billing_error");
    assert_eq!(refused.header("retry-after"), "", "it is more than the whole budget");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_gets_to_its_limit_ends_as_if_it_had_come_to_max_tokens() {
    let limits = "[limits.default]\noutput_tokens_per_minute = 6_000\nburst = \"5s\"\n\
                  on_stream_cap = \"length\"";
    for (dialect, model, reason) in [
        (Dialect::OpenAiChat, "chat/alpha", "length"),
        (Dialect::OpenAiChat, "claude/alpha", "length"),
        (Dialect::Anthropic, "claude/alpha", "max_tokens"),
        (Dialect::Anthropic, "gem/alpha", "max_tokens"),
    ] {
        let rig = rig(limits);
        let ask = Ask::new(dialect, model, "[[sim:tokens=5000,gap=1ms]]");
        let ask = ask.having("max_tokens", json!(100_000));
        let ask = match dialect {
            Dialect::OpenAiChat => ask.having("stream_options", json!({ "include_usage": true })),
            Dialect::Anthropic | Dialect::Gemini => ask,
        };
        let got = rig.ask(&ask).await;
        assert_eq!(got.status, 200);
        assert_eq!(got.end(), End::Terminal, "{model}: {}", got.body);
        assert_eq!(finish_reasons(&got), [reason], "{model}");
        let pieces = got.text().split_whitespace().count();
        // 500 are there, of which 1,024 are taken, and 500 more may be owed.
        assert!((900..1_400).contains(&pieces), "{model}: {pieces}");
        assert!(got.body.contains("usage"), "{model}");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(rig.sim.stats().total.cancelled, 1, "{model}: told to stop");
        let journal = rig.journal().await;
        assert_eq!(journal[0].outcome, "complete");
        assert!(journal[0].usage_estimated);
        assert!(journal[0].usage.output > 800, "{:?}", journal[0].usage);
        tokio::time::pause();
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_beyond_its_limit_and_others_wait_for_what_it_owes() {
    let rig = rig("[limits.default]\noutput_tokens_per_minute = 6_000\nburst = \"5s\"");
    let ask = Ask::chat("chat/alpha", "[[sim:tokens=5000]]").having("max_tokens", json!(100_000));
    let got = rig.ask(&ask).await;
    assert_eq!((got.end(), finish_reasons(&got)), (End::Terminal, vec!["stop".to_owned()]));
    let refused = rig.ask(&chat()).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["error"]["code"], "output_tokens_per_minute");
    // 4,500 tokens are owed, at 100 a second, and then there must be 500 for what is expected.
    let after: f64 = refused.header("retry-after-ms").parse::<f64>().unwrap() / 1_000.0;
    assert!((50.0..56.0).contains(&after), "{after}");
}

#[tokio::test(start_paused = true)]
async fn places_are_given_back_however_a_request_ends() {
    let rig = rig("[limits.default]\nconcurrent = 2");
    let slow = Ask::chat("chat/alpha", "[[sim:tokens=50,gap=100ms]]");
    let first = rig.open(&slow).await;
    let second = rig.open(&slow).await;
    let refused = rig.ask(&chat()).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["error"]["code"]),
        (429, &json!("concurrent"))
    );
    // A caller who leaves.
    drop(first);
    assert_eq!(rig.ask(&chat()).await.status, 200);
    second.into_body().collect().await.unwrap();
    let mut all = JoinSet::new();
    for _ in 0..2 {
        let failing = Ask::chat("chat/alpha", "[[sim:status=500]]");
        let router = rig.router.clone();
        all.spawn(async move { crate::rig::read(&router, &failing).await.status });
    }
    while let Some(status) = all.join_next().await {
        assert_eq!(status.unwrap(), 502);
    }
    assert_eq!(rig.ask(&chat()).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn what_fails_costs_no_tokens_and_what_is_refused_costs_nothing() {
    let rig = rig("[limits.default]\nrequests_per_minute = 600\ntokens_per_minute = 60_000");
    let failing = Ask::chat("chat/alpha", "[[sim:status=500]]").whole();
    for _ in 0..3 {
        assert_eq!(rig.ask(&failing).await.status, 502);
    }
    for _ in 0..3 {
        // Its members are checked after the limits.
        let bad =
            Ask::chat("claude/alpha", "hello").having("logit_bias", json!({ "1": 5 })).whole();
        assert_eq!(rig.ask(&bad).await.status, 400);
    }
    advance(Duration::from_secs(30)).await;
    let got = rig.ask(&chat()).await;
    assert_eq!(got.header("x-ratelimit-remaining-requests"), "99");
    let left: u64 = got.header("x-ratelimit-remaining-tokens").parse().unwrap();
    assert!(left >= 8_900, "{left}");
}

#[tokio::test(start_paused = true)]
async fn each_combination_is_a_subject_of_its_own_and_all_limits_hold() {
    let limits = r#"
        [limits.default]
        requests_per_minute = 600
        [limits.tags]
        by = ["tag:env", "route"]
        requests_per_minute = 1
        [limits.everybody]
        by = []
        routes = ["claude/alpha"]
        requests_per_minute = 2
    "#;
    let rig = rig(limits);
    let ask = |env: &str, model: &str| {
        Ask::chat(model, "hello").whole().with("x-tidegate-tags", format!("env={env}"))
    };
    assert_eq!(rig.ask(&ask("a", "chat/alpha")).await.status, 200);
    assert_eq!(rig.ask(&ask("b", "chat/alpha")).await.status, 200);
    assert_eq!(rig.ask(&ask("a", "chat/beta")).await.status, 200);
    let refused = rig.ask(&ask("a", "chat/alpha")).await;
    assert_eq!(refused.status, 429);
    assert!(refused.body.contains("`tags`"), "{}", refused.body);
    assert_eq!(rig.ask(&ask("a", "claude/alpha")).await.status, 200);
    assert_eq!(rig.ask(&ask("b", "claude/alpha")).await.status, 200);
    let refused = rig.ask(&ask("c", "claude/alpha")).await;
    assert!(refused.body.contains("`everybody`"), "{}", refused.body);
}

#[tokio::test(start_paused = true)]
async fn a_budget_holds_while_two_hundred_streams_run_at_once() {
    let rig = rig("[limits.default]\nusd_per_month = \"1\"");
    // So that it is known what an answer needs: 2,000 tokens, two cents.
    for _ in 0..30 {
        let ask = Ask::chat("priced/alpha", "[[sim:tokens=100]]").having("max_tokens", json!(100));
        assert_eq!(rig.ask(&ask).await.status, 200);
    }
    let mut all = JoinSet::new();
    for _ in 0..200 {
        let router = rig.router.clone();
        all.spawn(async move {
            let ask = Ask::chat("priced/alpha", "[[sim:tokens=2000,gap=1ms]]")
                .having("max_tokens", json!(4_000));
            crate::rig::read(&router, &ask).await.status.as_u16()
        });
    }
    let mut admitted = 0;
    while let Some(status) = all.join_next().await {
        match status.unwrap() {
            200 => admitted += 1,
            status => assert_eq!(status, 402),
        }
    }
    let spent: u64 = rig.journal().await.iter().map(|request| request.cost.0).sum();
    // Each was admitted for a hundred tokens, and what it used beyond that it took as it ran.
    let error = 2_000 * 10;
    assert!(spent <= 1_000_000 + admitted * error, "{spent} for {admitted}");
    assert!(admitted >= 45, "{admitted}");
}

#[tokio::test(start_paused = true)]
async fn bursts_are_admitted_up_to_the_limit_over_a_minute() {
    let rig = rig("[limits.default]\nrequests_per_minute = 600\ntokens_per_minute = 12_000");
    let start = Instant::now();
    let mut tokens = 0;
    let mut requests = 0;
    // 4 s of 50 requests a second, then 4 s of none.
    while start.elapsed() < Duration::from_secs(60) {
        if (start.elapsed().as_secs() / 4).is_multiple_of(2) {
            let ask = chat().having("max_tokens", json!(20)).whole();
            let got = rig.ask(&ask).await;
            if got.status == 200 {
                tokens += got.json()["usage"]["total_tokens"].as_u64().unwrap();
                requests += 1;
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    let share = (tokens as f64 / 12_000.0).max(f64::from(requests) / 600.0);
    assert!((0.95..=1.02).contains(&share), "{tokens} tokens, {requests} requests");
}

#[tokio::test]
async fn a_budget_outlives_a_gateway_that_is_killed() {
    let config = r#"
        [limits.default]
        by = ["tag:team"]
        output_tokens_per_month = 20
        [providers.sim]
    "#;
    let ask = json!({
        "model": "sim/tide-small", "max_tokens": 6,
        "messages": [{ "role": "user", "content": "[[sim:tokens=6]]" }],
    });
    let ask = ask.to_string();
    let gate = Program::serve(config);
    for _ in 0..3 {
        assert_eq!(gate.post("/v1/chat/completions", ask.clone()).await.status, 200);
    }
    assert_eq!(gate.post("/v1/chat/completions", ask.clone()).await.status, 429);
    gate.until("/health", |health| health["journal"]["written"] == 4).await;
    let gate = Program::serve_in(gate.kill(), config, None);
    let refused = gate.post("/v1/chat/completions", ask).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), "2");
}
