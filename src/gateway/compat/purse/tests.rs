//! Tests of what a run may spend.

#![expect(clippy::disallowed_methods, reason = "workers that share a purse are tasks")]

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::*;

/// Asks with so many workers until the purse is empty; what is spent, how many were asked, and how
/// many at a time at most.
async fn ask(
    purse: Purse,
    workers: usize,
    quote: Quote,
    costs: fn(u64) -> u64,
) -> (u64, u64, usize) {
    let purse = Arc::new(purse);
    let (asked, at_once) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
    let most = Arc::new(AtomicUsize::new(0));
    let work = |_| {
        let (purse, asked) = (Arc::clone(&purse), Arc::clone(&asked));
        let (at_once, most) = (Arc::clone(&at_once), Arc::clone(&most));
        tokio::spawn(async move {
            while let Some(hold) = purse.hold(quote).await {
                let number = asked.fetch_add(1, Ordering::Relaxed);
                most.fetch_max(at_once.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10 + number % 3)).await;
                at_once.fetch_sub(1, Ordering::Relaxed);
                purse.settle(hold, costs(number));
            }
        })
    };
    for worker in (0..workers).map(work).collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    assert!(purse.is_empty());
    (purse.spent_micro_usd(), asked.load(Ordering::Relaxed), most.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn a_small_cap_is_kept_from_the_first_answer_on() {
    // Each costs 30, and sixteen would like to be asked at once.
    let quote = Quote { expected: 40, most: 400 };
    let (spent, asked, at_once) = ask(Purse::new(100, 0), 16, quote, |_| 30).await;
    assert_eq!((spent, asked, at_once), (90, 3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_cap_is_passed_by_what_one_answer_is_misjudged_by_at_most() {
    // The answers grow dearer and dearer, up to the most that they can cost.
    let quote = Quote { expected: 10, most: 1_000 };
    let costs = |number: u64| (10 + number * 7).min(1_000);
    for cap in [5, 10, 100, 1_234, 20_000] {
        let (spent, asked, _) = ask(Purse::new(cap, 0), 16, quote, costs).await;
        let step = costs(asked.saturating_sub(1)).saturating_sub(10);
        assert!(spent <= cap + step.min(990), "{spent} of {cap}, {asked} asked");
        assert!(spent + 1_000 >= cap, "{spent} of {cap} is too little");
    }
}

#[tokio::test(start_paused = true)]
async fn with_money_enough_all_work_and_the_last_of_it_is_spent() {
    let quote = Quote { expected: 40, most: 300 };
    let (spent, asked, at_once) = ask(Purse::new(10_000, 0), 16, quote, |_| 30).await;
    assert_eq!((spent, asked, at_once), (9_990, 333, 16));
}

#[tokio::test(start_paused = true)]
async fn what_is_spent_already_counts_and_what_costs_nothing_needs_nothing() {
    let quote = Quote { expected: 30, most: 30 };
    assert_eq!(ask(Purse::new(100, 80), 4, quote, |_| 30).await, (80, 0, 0));
    let purse = Purse::new(100, 100);
    assert!(purse.hold(Quote::default()).await.is_some(), "a model of our own has no price");
}

#[test]
fn an_answer_is_reckoned_by_the_dearest_model_that_may_give_it() {
    let prices = |input: &str, output: &str| {
        let settings: crate::catalog::PriceSettings =
            serde_json::from_value(serde_json::json!({"input": input, "output": output})).unwrap();
        Prices::from(&settings)
    };
    let tariff = Tariff {
        models: vec![(prices("1", "2"), 100), (prices("3", "15"), 1_000)],
        more_bytes: 400,
    };
    // 1,000 bytes: 250 tokens, and 256 of an answer; 1,000 and 1,000 at most.
    let quote = tariff.quote(600);
    assert_eq!(quote, Quote { expected: 250 * 3 + 256 * 15, most: 1_000 * 3 + 1_000 * 15 });
    assert_eq!(Tariff::default().quote(600), Quote::default());
}
