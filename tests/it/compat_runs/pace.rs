//! How long runs take, and what they leave to others.

use std::time::Duration;

use super::*;

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
    let (mut most, path) = (0, format!("/admin/v1/compat/runs/{id}"));
    loop {
        most = most.max(gate.resident_kb());
        let run = gate.get_json(&path).await;
        if run["state"] == "done" {
            assert_eq!(run["samples"]["done"], 2 * cases, "{run}");
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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
