//! Vectors that the gateway asks a provider for on its own behalf: over the same engine as callers'
//! requests, and in the journal as its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidegate::clock::Instant;
use tidegate::embed::{EmbedError, Embedder};
use tidegate::gateway::RemoteEmbedder;
use tidegate::sim::{Behaviour, Latency, Scenario, SimTransport};
use tidegate::units::MicroUsd;
use tidegate::upstream::Transport;

use crate::rig::Rig;
use crate::scripted::{Reply, scripted};

const TIMEOUT: Duration = Duration::from_secs(2);
/// Limits that would refuse whatever they hold for.
const TIGHT: &str = "[limits.default]\nrequests_per_minute = 1\n";
const PRICED: &str = r#"
[providers.priced]
dialect = "openai-chat"
base_url = "sim://priced/v1"
credentials = [{ none = true }]
models = [{ id = "vectors", kind = "embedding", usd_per_million = { input = "1000" } }]
[routes.kept]
targets = [{ model = "priced/vectors" }]
cache = { exact = true }
"#;
const TOO_LONG: &str = r#"{"error":{"message":"too many tokens","type":"invalid_request_error","param":"input","code":"context_length_exceeded"}}"#;

fn embedder(rig: &Rig, sim: &SimTransport, dimensions: usize) -> Embedder {
    over(rig, Arc::new(sim.clone()), "chat/vectors", dimensions)
}

fn over(rig: &Rig, transport: Arc<dyn Transport>, model: &str, dimensions: usize) -> Embedder {
    let lane = rig.gateway.lane(transport);
    let remote = RemoteEmbedder::new(&rig.gateway, lane, model, dimensions, TIMEOUT);
    Embedder::new("far", TIMEOUT, Arc::new(remote))
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn vectors_come_from_a_provider_and_are_the_gateways_own_requests() {
    let rig = Rig::instant(TIGHT);
    let embedder = embedder(&rig, &rig.sim, 64);
    assert_eq!((embedder.space(), embedder.dimensions()), ("chat/vectors-64", 64));
    let found = embedder.embed(texts(&["a red apple", "red apple a", "the moon"])).await;
    let found = found.expect("vectors").vectors;
    assert!(found[0].cosine(&found[1]) > 0.9, "{}", found[0].cosine(&found[1]));
    assert!(found[0].cosine(&found[2]) < 0.5, "{}", found[0].cosine(&found[2]));
    // No caller's limit holds for the gateway.
    for _ in 0..3 {
        assert!(embedder.embed(texts(&["the sun"])).await.is_ok());
    }
    drop(embedder);
    let journal = rig.journal().await;
    assert_eq!(journal.len(), 4);
    for request in journal {
        assert_eq!(request.caller, "gateway");
        assert_eq!(request.endpoint, "embeddings");
        assert_eq!(request.tags.as_deref(), Some(r#"{"tidegate":"embedding"}"#));
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_fails_or_is_slow_is_an_error_in_time() {
    let rig = Rig::instant("");
    let of = |behaviour: Behaviour| {
        let sim = SimTransport::starting_at(Scenario::uniform(behaviour), 1_700_000_000_000);
        embedder(&rig, &sim, 64)
    };
    let slow =
        of(Behaviour { ttft: Latency::constant(Duration::from_secs(30)), ..Behaviour::default() });
    let started = Instant::now();
    assert_eq!(slow.embed(texts(&["hello"])).await, Err(EmbedError::Busy));
    assert!(started.elapsed() <= TIMEOUT + Duration::from_millis(10), "{:?}", started.elapsed());
    let full = of(Behaviour { capacity: Some(0), ..Behaviour::default() });
    let found = full.embed(texts(&["hello"])).await;
    assert!(matches!(found, Err(EmbedError::Failed { .. })), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn what_vectors_cost_is_told_and_is_what_the_journal_has() {
    let rig = Rig::instant(PRICED);
    let sim: Arc<dyn Transport> = Arc::new(rig.sim.clone());
    let priced = over(&rig, Arc::clone(&sim), "priced/vectors", 64);
    let (_, first) = priced.embed_one(b"us", "a red apple").await.expect("a vector");
    let (_, again) = priced.embed_one(b"us", "a red apple").await.expect("a vector");
    assert!(first >= MicroUsd(1_000), "{first}");
    assert_eq!(again, MicroUsd(0));
    let both = priced.embed(texts(&["a red apple", "a red apple"])).await.expect("vectors");
    assert_eq!((both.vectors.len(), both.cost), (2, first + first));
    // A route that keeps vectors gives them again, at no cost.
    let kept = over(&rig, sim, "kept", 64);
    let mut costs = Vec::new();
    for _ in 0..2 {
        costs.push(kept.embed(texts(&["the moon"])).await.expect("a vector").cost);
    }
    assert!(costs[0] >= MicroUsd(1_000) && costs[1] == MicroUsd(0), "{costs:?}");
    drop((priced, kept));
    let billed = rig.journal().await.iter().map(|request| request.cost.0).collect::<Vec<_>>();
    assert_eq!(billed, [first.0, 2 * first.0, costs[0].0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_down_is_left_alone_and_one_that_refuses_a_text_is_not() {
    let rig = Rig::instant("");
    let asked = Arc::new(AtomicU32::new(0));
    let of = |status: u16, body: &'static str| {
        let asked = Arc::clone(&asked);
        let transport = scripted(move |_| {
            asked.fetch_add(1, Ordering::Relaxed);
            Reply::status(status).chunk(body)
        });
        over(&rig, transport, "chat/vectors", 64)
    };
    let refuses = of(400, TOO_LONG);
    for n in 1..=10 {
        let found = refuses.embed_one(b"us", "a long text").await;
        assert!(matches!(found, Err(EmbedError::Refused { .. })), "{found:?}");
        assert_eq!(asked.load(Ordering::Relaxed), n);
    }
    let garbage = of(200, "{}");
    for n in 0..10 {
        let found = garbage.embed_one(b"us", "hello").await.map(|_| ()).map_err(|e| e.as_str());
        assert_eq!(found, Err(if n < 3 { "failed" } else { "resting" }));
    }
    let before = asked.load(Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(garbage.embed_one(b"us", "hello").await.is_err());
    assert!(asked.load(Ordering::Relaxed) > before, "one tries again");
}
