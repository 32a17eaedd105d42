//! The player in process: exact virtual times.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::*;
use crate::catalog::Origin;
use crate::failure::FailureKind;
use crate::upstream::{Transport, UpstreamReply, UpstreamRequest, collect, next_chunk};

const TTFT: Duration = Duration::from_millis(300);
const GAP: Duration = Duration::from_millis(20);

fn steady() -> SimTransport {
    let behaviour = Behaviour {
        ttft: Latency::constant(TTFT),
        token_gap: Latency::constant(GAP),
        ..Behaviour::default()
    };
    SimTransport::starting_at(Scenario::uniform(behaviour), 1_760_000_000_000)
}

fn request(text: &str, stream: bool) -> UpstreamRequest {
    let (path, body) = ask(Dialect::OpenAiChat, text, json!({"stream": stream}));
    UpstreamRequest {
        origin: Origin { https: false, host: Arc::from("local"), port: 0, sim: true },
        path,
        headers: HeaderMap::new(),
        body: Bytes::from(body.to_string()),
        connect_timeout: Duration::from_secs(1),
    }
}

async fn sent(sim: &SimTransport, text: &str, stream: bool) -> UpstreamReply {
    sim.send(request(text, stream)).await.expect("a head")
}

#[tokio::test(start_paused = true)]
async fn tokens_come_exactly_when_the_scenario_says() {
    let sim = steady();
    let start = Instant::now();
    let mut reply = sent(&sim, "[[sim:tokens=10]]", true).await;
    assert_eq!(start.elapsed(), TTFT / 2, "the head comes half way to the first token");
    let mut tokens = Vec::new();
    while let Some(chunk) = next_chunk(&mut *reply.body).await {
        let chunk = chunk.expect("no fault");
        if sse::parse(&chunk).data.contains("\"content\":\"") {
            tokens.push(start.elapsed());
        }
    }
    // An empty content may come with the role, before the first token.
    let tokens = tokens.split_off(tokens.len() - 10);
    let due = (0..10).map(|token| TTFT + token * GAP).collect::<Vec<_>>();
    assert_eq!(tokens, due);
    assert_eq!(start.elapsed(), TTFT + 10 * GAP);
    let counts = sim.stats().total;
    assert_eq!((counts.completed, counts.cancelled, counts.in_flight), (1, 0, 0));
    drop(reply);
    assert_eq!(sim.stats().total, counts, "leaving after the end is no cancellation");
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_takes_as_long_as_its_tokens() {
    let sim = steady();
    let start = Instant::now();
    let mut reply = sent(&sim, "[[sim:tokens=10]]", false).await;
    collect(&mut *reply.body, 1 << 20).await.expect("a body");
    assert_eq!(start.elapsed(), TTFT + 10 * GAP);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_does_not_slow_the_provider() {
    let sim = steady();
    let start = Instant::now();
    let mut reply = sent(&sim, "[[sim:tokens=10]]", true).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = Instant::now();
    collect(&mut *reply.body, 1 << 20).await.expect("a body");
    assert_eq!(before.elapsed(), Duration::ZERO, "everything was waiting");
    assert_eq!(start.elapsed(), TTFT / 2 + Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn latencies_scatter_around_their_median() {
    let behaviour = Behaviour {
        ttft: Latency { median: TTFT, sigma: 0.4 },
        token_gap: Latency::constant(Duration::ZERO),
        slow_share: 0.05,
        slow_factor: 100.0,
        ..Behaviour::default()
    };
    let sim = SimTransport::starting_at(Scenario::uniform(behaviour), 0);
    let mut times = Vec::new();
    for _ in 0..400 {
        let start = Instant::now();
        let mut reply = sent(&sim, "[[sim:tokens=1]]", false).await;
        collect(&mut *reply.body, 1 << 20).await.expect("a body");
        times.push(start.elapsed().as_secs_f64() / TTFT.as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    assert!((0.85..1.15).contains(&times[200]), "median {}", times[200]);
    let slow = times.iter().filter(|time| **time > 15.0).count();
    assert!((8..=40).contains(&slow), "stragglers {slow}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_body_is_a_cancelled_request() {
    let sim = steady();
    let mut reply = sent(&sim, "[[sim:tokens=100]]", true).await;
    _ = next_chunk(&mut *reply.body).await;
    assert_eq!(sim.stats().total.in_flight, 1);
    assert!(timeout(Duration::from_secs(9), sim.idle()).await.is_err());
    drop(reply);
    sim.idle().await;
    let counts = sim.stats();
    assert_eq!((counts.total.cancelled, counts.total.completed), (1, 0));
    assert_eq!(counts.models["tide-small"], counts.total);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_wait_for_the_head_is_a_cancelled_request() {
    let sim = steady();
    let waited =
        timeout(Duration::from_secs(90), sim.send(request("[[sim:stall_before_head]]", true)));
    assert!(waited.await.is_err(), "nothing ever comes");
    assert_eq!(sim.stats().total.cancelled, 1);
}

#[tokio::test(start_paused = true)]
async fn refusals_resets_and_stalls_are_failures_and_silence() {
    let sim = steady();
    let refused = sim.send(request("[[sim:connect_refused]]", true)).await;
    assert_eq!(refused.expect_err("no connection").kind, FailureKind::Transport);

    let mut reply = sent(&sim, "[[sim:reset_after=2]]", true).await;
    let torn = collect(&mut *reply.body, 1 << 20).await.expect_err("a reset");
    assert_eq!(torn.kind, FailureKind::MidStream);
    drop(reply);

    let start = Instant::now();
    let mut reply = sent(&sim, "[[sim:stall_after=2]]", true).await;
    let stalled = timeout(Duration::from_secs(3_600), collect(&mut *reply.body, 1 << 20)).await;
    assert!(stalled.is_err());
    assert_eq!(start.elapsed(), TTFT / 2 + Duration::from_secs(3_600));
    drop(reply);
    let counts = sim.stats().total;
    assert_eq!((counts.completed, counts.cancelled), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn limits_fill_up_with_virtual_time() {
    let mut scenario = Scenario::instant();
    scenario.models[0].1.limits = Limits { requests_per_minute: Some(1), tokens_per_minute: None };
    let sim = SimTransport::starting_at(scenario, 0);
    let mut statuses = Vec::new();
    for wait in [0, 0, 59, 1] {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        statuses.push(sent(&sim, "Hello", false).await.status.as_u16());
    }
    assert_eq!(statuses, [200, 429, 429, 200]);
}
