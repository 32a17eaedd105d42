//! Vectors that the gateway asks a provider for on its own behalf: over the same engine as callers'
//! requests, and in the journal as its own.

use std::sync::Arc;
use std::time::Duration;

use tidegate::clock::Instant;
use tidegate::embed::{EmbedError, Embedder};
use tidegate::gateway::RemoteEmbedder;
use tidegate::sim::{Behaviour, Latency, Scenario, SimTransport};

use crate::rig::Rig;

const TIMEOUT: Duration = Duration::from_secs(2);
/// Limits that would refuse whatever they hold for.
const TIGHT: &str = "[limits.default]\nrequests_per_minute = 1\n";

fn embedder(rig: &Rig, sim: &SimTransport, dimensions: usize) -> Embedder {
    let lane = rig.gateway.lane(Arc::new(sim.clone()));
    let remote = RemoteEmbedder::new(&rig.gateway, lane, "chat/vectors", dimensions, TIMEOUT);
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
