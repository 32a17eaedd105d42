//! How long runs take, and what they leave to others.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::*;

/// Requests a minute that the provider of these tests allows each model.
const LIMIT: f64 = 600.0;
/// For how long production is watched.
const WATCHED: Duration = Duration::from_secs(8);

/// The part by which a run takes longer than its requests must at this concurrency, and the memory
/// that it took.
async fn overhead(cases: usize, latency_ms: u64, concurrency: usize) -> (f64, u64) {
    let provider = Counting::new(latency_ms, |_, _| Said::text("good")).await;
    let compat = format!("concurrency = {concurrency}\nsamples = 1\nmax_samples = 1");
    let gate = Program::serve(&config(&provider, &compat));
    push(&gate, &suite(cases, &contains_good())).await;
    let before = gate.resident_kb();
    let began = Instant::now();
    let id = begin(&gate, json!({})).await;
    let (mut most, path, mut run) = (0, format!("/admin/v1/compat/runs/{id}"), Value::Null);
    let is_done = eventually(PATIENCE * 20, async || {
        most = most.max(gate.resident_kb());
        run = gate.get_json(&path).await;
        run["state"] == "done"
    });
    assert!(is_done.await, "{run}");
    assert_eq!(run["samples"]["done"], 2 * cases, "{run}");
    let took = began.elapsed().as_secs_f64();
    assert_eq!(provider.count(), 2 * cases);
    assert!(provider.most_at_once() <= concurrency);
    let ideal = (2 * cases) as f64 * latency_ms as f64 / 1_000.0 / concurrency as f64;
    println!(
        "{cases} cases x 2 at {latency_ms} ms, {concurrency} at a time: {took:.2} s of {ideal:.2} s, \
         {before} KB before, {most} KB at most"
    );
    (took / ideal - 1.0, most.saturating_sub(before))
}

/// A tenth of the full figure, with room for a busy machine.
#[tokio::test]
async fn a_run_is_as_fast_as_it_may_be() {
    let (overhead, more_kb) = overhead(250, 200, 32).await;
    assert!(overhead < 0.5, "{overhead}");
    assert!(more_kb < 60_000, "{more_kb} KB");
}

/// The full figure; for a machine that does nothing else.
#[tokio::test]
#[ignore = "it takes more than a minute of an idle machine"]
async fn five_thousand_cases_of_two_models_take_a_tenth_longer_than_they_must() {
    let (overhead, more_kb) = overhead(5_000, 200, 32).await;
    assert!(overhead < 0.1, "{overhead}");
    assert!(more_kb < 100_000, "{more_kb} KB");
}

/// A provider that allows so much, of which `level` is left at first.
async fn metered(level: f64) -> Counting {
    let buckets: Mutex<HashMap<String, (f64, Instant)>> = Mutex::default();
    let says = move |call: &provider::Call, _: usize| {
        let now = Instant::now();
        let mut buckets = buckets.lock();
        let (left, at) = buckets.entry(call.model.clone()).or_insert((level, now));
        *left = (*left + (now - *at).as_secs_f64() * LIMIT / 60.0).min(LIMIT);
        *at = now;
        if *left < 1.0 {
            return Said::Busy(1);
        }
        *left -= 1.0;
        Said::Metered { limit: LIMIT as u64, left: *left as u64 }
    };
    Counting::new(100, says).await
}

/// A caller's requests to the new model, one every so often, for a while: how long the slowest but
/// one of a hundred took.
async fn production(gate: &Program, every: Duration) -> Duration {
    let body = json!({
        "model": "mock/claude-new", "messages": [{"role": "user", "content": "mine"}],
    });
    let body = body.to_string();
    let began = Instant::now();
    let mut ticks = tokio::time::interval(every);
    let mut asked = Vec::new();
    while began.elapsed() < WATCHED {
        ticks.tick().await;
        let (address, request) =
            (gate.address, crate::process::post("/v1/chat/completions", body.as_bytes()));
        asked.push(tokio::spawn(async move {
            let sent = Instant::now();
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, &request).await.unwrap();
            let answer = crate::process::read_answer(&mut stream).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            sent.elapsed()
        }));
    }
    let mut took = Vec::new();
    for asked in asked {
        took.push(asked.await.unwrap());
    }
    took.sort();
    took[took.len() * 99 / 100]
}

/// What runs have asked the new model.
fn of_runs(provider: &Counting) -> usize {
    let calls = provider.calls();
    calls.iter().filter(|call| call.model == "claude-new" && call.case.is_some()).count()
}

#[tokio::test]
async fn production_at_its_limit_feels_nothing_of_a_run() {
    let provider = metered(150.0).await;
    let gate = Program::serve(&config(&provider, "concurrency = 16\nsamples = 10"));
    push(&gate, &suite(100, &contains_good())).await;
    let every = Duration::from_millis(100);
    let before = production(&gate, every).await;
    begin(&gate, json!({})).await;
    let beside = production(&gate, every).await;
    let asked = of_runs(&provider);
    println!("p99 {before:?} alone, {beside:?} beside a run that asked {asked}");
    assert_eq!(asked, 0, "production uses all that comes back");
    // 5 %, and what a busy machine adds.
    assert!(beside <= before.mul_f64(1.05) + Duration::from_millis(100), "{before:?} {beside:?}");
}

#[tokio::test]
async fn a_run_takes_its_share_of_what_a_provider_allows() {
    let provider = metered(LIMIT).await;
    let gate = Program::serve(&config(&provider, "concurrency = 16\nsamples = 10"));
    push(&gate, &suite(100, &contains_good())).await;
    // The limits are known once somebody was answered.
    let every = Duration::from_millis(250);
    let before = production(&gate, every).await;
    begin(&gate, json!({})).await;
    let beside = production(&gate, every).await;
    let asked = of_runs(&provider);
    println!("p99 {before:?} alone, {beside:?} beside a run that asked {asked} in {WATCHED:?}");
    // Two a second are a fifth; five seconds of that may come at once.
    assert!((10..=30).contains(&asked), "{asked}");
}
