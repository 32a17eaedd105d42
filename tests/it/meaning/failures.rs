//! What goes wrong around it: no request fails, nothing wrong is given, and all of it is counted.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate::clock::Instant;
use tidegate::semantic::threshold::Mode;

use super::*;
use crate::rig::read;
use crate::scripted::{Reply, scripted};

#[tokio::test(start_paused = true)]
async fn a_judge_that_lies_on_a_fifth_of_all_labels_lets_nothing_through() {
    let learner = Learner::new();
    let mut random = StdRng::seed_from_u64(3);
    for number in 0..1_200 {
        // Whether the answers are the same and what the judge says of it: a lie for one of five.
        let same = !random.random_bool(0.05);
        let says = if same == random.random_bool(0.8) { SAME } else { DIFFERENT };
        assert_eq!(cache(&learner.pair(number, says).await), "miss", "{number}");
    }
    let figures = learner.figures();
    assert_eq!((figures.mode, figures.counts.hits), (Mode::Shadow, 0));
    assert!(figures.counts.labelled >= 1_190, "{figures:?}");
}

#[tokio::test(start_paused = true)]
async fn an_embedder_that_is_down_or_slow_fails_no_request_and_soon_costs_nothing() {
    for (state, word, longest) in [(FAILING, "failed", 0), (HANGING, "busy", 3)] {
        let learner = Learner::proven().await;
        learner.embedder.state.store(state, Ordering::Relaxed);
        let (started, before) = (Instant::now(), learner.embedder.embedded.load(Ordering::Relaxed));
        for number in 0..200 {
            let (first, _) = wordings(30_000 + number, SAME);
            assert_eq!(cache(&learner.rig.ask(&Ask::chat("faq", &first).whole()).await), "miss");
        }
        let waited = started.elapsed();
        assert!(waited <= TIMEOUT * (longest + 3), "{word}: {waited:?}");
        let asked = learner.embedder.embedded.load(Ordering::Relaxed) - before;
        assert!(asked <= 6, "{word}: asked {asked} times");
        assert_eq!(learner.looked(word) + learner.looked("resting"), 200, "{word}");
        // When it is well again, so is the cache.
        learner.embedder.state.store(WELL, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(31)).await;
        learner.pair(40_000, SAME).await;
        let (_, second) = wordings(40_000, SAME);
        let again = second.replace("Hi, ", "");
        assert_eq!(cache(&learner.rig.ask(&Ask::chat("faq", &again).whole()).await), "semantic");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_judge_nothing_is_learnt_and_what_is_given_is_given_no_more() {
    for trouble in ["[[sim:on=judge,status=500]]", "[[sim:on=judge,status=404]]"] {
        let learner = Learner::proven().await;
        let mut given = 0;
        for number in 0..1_200 {
            given += u32::from(cache(&learner.pair(50_000 + number, trouble).await) == "semantic");
        }
        let figures = learner.figures();
        println!("{trouble}: {given} given until 20 audits had come to no verdict");
        assert!(figures.is_suspended, "{figures:?}");
        assert!((1..1_100).contains(&given), "{given}");
        assert!(figures.counts.unjudged >= 20, "{figures:?}");
        // One verdict and it goes on, once the judge has failed at all that waits.
        tokio::time::sleep(Duration::from_secs(2 * 3_600)).await;
        learner.pair(60_000, SAME).await;
        let got = [60_001, 60_002].map(|number| learner.pair(number, SAME));
        let [one, two] = got;
        let (one, two) = (one.await, two.await);
        assert!([cache(&one), cache(&two)].contains(&"semantic"));
    }
}

#[tokio::test]
async fn without_a_store_entries_stay_in_memory_and_are_counted() {
    let mut learner = Learner::new();
    learner.rig.break_store();
    let store = learner.rig.gateway.journal.store().clone();
    learner._tasks.spawn(learner.rig.gateway.meanings().clone().upkeep(store));
    for number in 0..5 {
        learner.pair(number, SAME).await;
    }
    let failed = || learner.rig.gateway.meanings().writes()[2];
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    while failed().1 < 10 {
        ticks.tick().await;
    }
    assert_eq!(failed(), ("failed", 10));
    assert_eq!(learner.rig.gateway.meanings().fill().entries, 10);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_down_during_an_audit_costs_nobody_the_answer() {
    let learner = Learner::proven().await;
    let numbers = 90_000..90_200;
    for number in numbers.clone() {
        let (first, _) = wordings(number, SAME);
        learner.rig.ask(&Ask::chat("faq", &first).whole()).await;
    }
    let dead = learner.rig.over(scripted(|_| Reply::status(500)));
    for number in numbers {
        let (_, second) = wordings(number, SAME);
        let ask = Ask::chat("faq", &second);
        let got = read(&dead, &if number % 2 == 0 { ask.whole() } else { ask }).await;
        assert_eq!(cache(&got), "semantic", "{number}");
        assert_eq!(got.header("x-tidegate-degradation"), "0");
    }
    let audits = learner.looked("audited");
    println!("{audits} of 200 hits were picked for an audit that could not be had");
    assert!(audits > 0 && learner.figures().counts.unjudged >= audits);
    assert!(!learner.figures().is_suspended, "the judge is well");
}

#[tokio::test(start_paused = true)]
async fn a_judge_that_rambles_is_no_proof() {
    let learner = Learner::new();
    for number in 0..400 {
        let got = learner.pair(number, "[[sim:on=judge,say=Perhaps.]]").await;
        assert_eq!(cache(&got), "miss");
    }
    let figures = learner.figures();
    // What it cannot say of some answers must not be left out: it would be given all the same.
    assert_eq!(figures.seen.1, figures.labels, "{figures:?}");
    assert_eq!(figures.labels, 400);
}

#[tokio::test(start_paused = true)]
async fn who_may_ask_no_more_does_not_use_the_embedder() {
    let learner = Learner::with("[limits.default]\nrequests_per_minute = 2\n");
    let mut statuses = Vec::new();
    for number in 0..8 {
        let (first, _) = wordings(number, SAME);
        statuses.push(learner.rig.ask(&Ask::chat("faq", &first).whole()).await.status.as_u16());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{statuses:?}");
    assert_eq!(learner.embedder.embedded.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_vector_is_waited_for_no_longer_than_its_caller_has_time() {
    let learner = Learner::new();
    learner.embedder.state.store(HANGING, Ordering::Relaxed);
    let (first, _) = wordings(1, SAME);
    let started = Instant::now();
    let ask = Ask::chat("faq", &first).whole().with("x-tidegate-timeout-ms", 200);
    let got = learner.rig.ask(&ask).await;
    assert!(started.elapsed() <= Duration::from_millis(250), "{:?}", started.elapsed());
    // A provider that answers at once is still in time.
    assert_eq!(cache(&got), "miss");
    assert_eq!(learner.looked("busy"), 1);
}
