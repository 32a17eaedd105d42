//! What waits to be counted, and how much of it may.

use super::*;
use crate::callers::Caller;
use crate::clock::SystemWallClock;
use crate::dialect::Dialect;
use crate::dispatch::Account;
use crate::dispatch::Rolling;
use crate::ids::RequestId;
use crate::journal::{EndpointKind, Journal, JournalSettings};
use crate::rollout::Rollouts;
use crate::store::Store;
use crate::telemetry::Metrics;

const MB: usize = 1024 * 1024;

fn ledger() -> (Arc<Ledger>, Estimator, Arc<Metrics>) {
    let store = Store::new("sqlite:/nowhere/tidegate.db".parse().unwrap());
    let clock = Arc::new(SystemWallClock);
    let (journal, _writer) = Journal::new(&JournalSettings::default(), store, clock.clone());
    let metrics = Arc::new(Metrics::new());
    let (ledger, estimator) =
        Ledger::new(journal, Arc::clone(&metrics), clock, None, Rolling::new(Rollouts::new()));
    (ledger, estimator, metrics)
}

fn estimate_of(ledger: &Arc<Ledger>, metrics: &Metrics, prompt: &Bytes) -> Estimate {
    let (kind, dialect) = (EndpointKind::Chat, Dialect::OpenAiChat);
    let now = crate::clock::Instant::now();
    let caller = Caller::anonymous();
    let mut account: Account = ledger.open(RequestId::new("req_1"), &caller, kind, dialect, now);
    let entry = account.open.take().unwrap().entry;
    Estimate {
        reservation: None,
        entry,
        prompt: prompt.clone(),
        text: TextSample::default(),
        known: Usage::default(),
        model: Arc::new(Model::unlisted("m")),
        metrics: metrics.targets.of("p", "m", "p/m").into(),
        trace: None,
        seam: None,
        wasted: Wasted::default(),
    }
}

#[tokio::test]
async fn what_waits_to_be_counted_is_bounded_in_bytes() {
    let (ledger, mut estimator, metrics) = ledger();
    let prompt = Bytes::from(vec![b'a'; 20 * MB]);
    for _ in 0..5 {
        ledger.estimate(estimate_of(&ledger, &metrics, &prompt));
    }
    assert_eq!(estimator.waiting.len(), 3, "60 of 64 MB");
    let guessed = tokio::time::timeout(std::time::Duration::ZERO, ledger.count_tokens(&prompt));
    assert_eq!(guessed.await, Ok(5 * MB as u64), "there was no room for it");
    let small = Bytes::from_static(b"{}");
    ledger.estimate(estimate_of(&ledger, &metrics, &small));
    assert_eq!(estimator.waiting.len(), 4, "small ones still fit");
    // Room is given back by what is done.
    let done = estimator.waiting.try_recv().unwrap();
    ledger.carry_out(done);
    ledger.estimate(estimate_of(&ledger, &metrics, &prompt));
    assert_eq!(estimator.waiting.len(), 4);
    drop(estimator);
    assert_eq!(ledger.waiting.0.load(Ordering::Relaxed), 0, "and by what never will be");
    ledger.estimate(estimate_of(&ledger, &metrics, &prompt));
    assert_eq!(ledger.waiting.0.load(Ordering::Relaxed), 0);
}
