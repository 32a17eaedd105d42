//! Embedders over something that embeds as a test wants it, on a paused clock.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::task::Poll;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(2);
const COST: MicroUsd = MicroUsd(7);

/// Embeds what a test lets it.
#[derive(Debug)]
struct Fake {
    asked: Mutex<Vec<String>>,
    answer: Mutex<Result<(), EmbedError>>,
    /// One permit for each answer.
    turns: Semaphore,
}

impl Embeds for Fake {
    fn embed(&self, texts: Vec<String>) -> EmbedFuture<'_> {
        Box::pin(async move {
            self.asked.lock().extend(texts.iter().cloned());
            self.turns.acquire().await.expect("open").forget();
            self.answer.lock().clone()?;
            let towards = |text: &String| Embedding::towards(vec![text.len() as f32, 1.0]);
            let vectors = texts.iter().map(|text| towards(text).expect("a direction")).collect();
            Ok(Embedded { vectors, cost: COST })
        })
    }

    fn dimensions(&self) -> usize {
        2
    }

    fn space(&self) -> &str {
        "fake"
    }
}

/// An embedder that answers so many times, and what is behind it.
fn fake(turns: usize) -> (Embedder, Arc<Fake>) {
    let (asked, answer) = (Mutex::default(), Mutex::new(Ok(())));
    let fake = Arc::new(Fake { asked, answer, turns: Semaphore::new(turns) });
    (Embedder::new("fake", TIMEOUT, Arc::clone(&fake) as Arc<dyn Embeds>), fake)
}

fn failed() -> EmbedError {
    EmbedError::Failed { detail: "down".to_owned() }
}

// === impl Fake ===

impl Fake {
    /// How many texts it was asked for.
    fn asked(&self) -> usize {
        self.asked.lock().len()
    }

    fn answers(&self, answer: Result<(), EmbedError>) {
        *self.answer.lock() = answer;
    }
}

/// Asks for the same text so many times at once; gives the others time to wait.
async fn crowd(
    embedder: &Embedder,
    size: usize,
) -> JoinSet<Result<(Embedding, MicroUsd), EmbedError>> {
    let mut crowd = JoinSet::new();
    for _ in 0..size {
        let embedder = embedder.clone();
        crowd.spawn(async move { embedder.embed_one(b"us", "hello").await });
    }
    settle().await;
    crowd
}

/// Polls once.
async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    // With what tokio lets a task do in one go, which many polls would use up.
    tokio::task::yield_now().await;
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx).is_pending())).await
}

/// Lets all others do what they can do now.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_who_ask_for_one_text_at_once_have_it_embedded_once() {
    let (embedder, fake) = fake(0);
    let crowd = crowd(&embedder, 1_000).await;
    assert_eq!(fake.asked(), 1);
    fake.turns.add_permits(1_000);
    let found: Vec<_> = crowd.join_all().await.into_iter().collect::<Result<_, _>>().expect("all");
    assert_eq!(fake.asked(), 1);
    let expected = Embedding::towards(vec![5.0, 1.0]).expect("a direction");
    assert!(found.iter().all(|(vector, _)| *vector == expected));
    let costs: Vec<MicroUsd> = found.iter().map(|(_, cost)| *cost).collect();
    assert_eq!(costs.iter().filter(|cost| **cost == COST).count(), 1, "one is told the cost");
    assert_eq!(costs.iter().filter(|cost| **cost == MicroUsd(0)).count(), 999);
    // Nor is it later.
    assert_eq!(embedder.embed_one(b"us", "hello").await, Ok((expected, MicroUsd(0))));
    assert_eq!(fake.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn tenants_and_texts_share_nothing() {
    let (embedder, fake) = fake(100);
    for (tenant, text) in [("us", "hello"), ("them", "hello"), ("us", "Hello"), ("ush", "ello")] {
        for expected in [COST, MicroUsd(0)] {
            let found = embedder.embed_one(tenant.as_bytes(), text).await;
            assert_eq!(found.expect("a vector").1, expected, "{tenant}: {text}");
        }
    }
    assert_eq!(fake.asked(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_to_those_who_wait_and_not_remembered() {
    let (embedder, fake) = fake(0);
    fake.answers(Err(failed()));
    let crowd = crowd(&embedder, 50).await;
    fake.turns.add_permits(50);
    assert!(crowd.join_all().await.into_iter().all(|found| found == Err(failed())));
    assert_eq!(fake.asked(), 1);
    fake.answers(Ok(()));
    assert_eq!(embedder.embed_one(b"us", "hello").await.expect("a vector").1, COST);
    assert_eq!(fake.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_waits_beside_one_who_leaves_is_served_however_often_that_happens() {
    let (embedder, fake) = fake(0);
    let mut waiting = Vec::new();
    for _ in 0..501 {
        let embedder = embedder.clone();
        let mut one = Box::pin(async move { embedder.embed_one(b"us", "hello").await });
        assert!(is_pending(&mut one).await);
        waiting.push(one);
    }
    let mut last = waiting.pop().expect("a last one");
    assert_eq!(fake.asked(), 1);
    // Each of those who leave has begun to embed: they are in the order in which they came.
    for (left, mut one) in waiting.into_iter().enumerate() {
        assert!(is_pending(&mut one).await);
        assert_eq!(fake.asked(), left + 1);
        drop(one);
    }
    fake.turns.add_permits(1);
    assert_eq!(last.as_mut().await.expect("a vector").1, COST);
    assert_eq!(fake.asked(), 501);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_time_limit_whoever_embeds() {
    let (embedder, fake) = fake(0);
    let started = Instant::now();
    let first = crowd(&embedder, 1).await;
    tokio::time::advance(Duration::from_millis(1_500)).await;
    let second = crowd(&embedder, 1).await;
    // The first leaves after 1.5 s; the second takes over and has half a second less than it would.
    drop(first);
    assert_eq!(second.join_all().await, [Err(EmbedError::Busy)]);
    assert_eq!(started.elapsed(), Duration::from_millis(3_500));
    assert_eq!(fake.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn after_three_failures_it_is_left_alone_and_tried_by_one_at_a_time() {
    let (embedder, fake) = fake(1_000);
    fake.answers(Err(failed()));
    let ask = async |text: &str| embedder.embed_one(b"us", text).await.map(|(_, cost)| cost);
    for text in ["one", "two", "three"] {
        assert_eq!(ask(text).await, Err(failed()));
    }
    for text in ["four", "one"] {
        assert_eq!(ask(text).await, Err(EmbedError::Resting));
    }
    assert_eq!(embedder.embed(vec!["five".to_owned()]).await, Err(EmbedError::Resting));
    assert_eq!(fake.asked(), 3);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(ask("six").await, Err(failed()));
    assert_eq!(ask("seven").await, Err(EmbedError::Resting));
    tokio::time::advance(Duration::from_millis(1_999)).await;
    assert_eq!(ask("eight").await, Err(EmbedError::Resting));
    fake.answers(Ok(()));
    tokio::time::advance(Duration::from_millis(1)).await;
    for text in ["one", "eight"] {
        assert_eq!(ask(text).await, Ok(COST), "nothing of the failures is remembered");
    }
    assert_eq!(fake.asked(), 6);
    // What is remembered is there while it rests.
    fake.answers(Err(failed()));
    for text in ["nine", "ten", "eleven"] {
        assert_eq!(ask(text).await, Err(failed()));
    }
    assert_eq!(ask("twelve").await, Err(EmbedError::Resting));
    assert_eq!(ask("eight").await, Ok(MicroUsd(0)));
}

#[tokio::test(start_paused = true)]
async fn an_embedder_that_hangs_costs_the_time_limit_three_times_and_no_more() {
    let (embedder, fake) = fake(0);
    let started = Instant::now();
    for n in 0..100 {
        let found = embedder.embed_one(b"us", &n.to_string()).await;
        let expected = if n < 3 { EmbedError::Busy } else { EmbedError::Resting };
        assert_eq!(found, Err(expected), "{n}");
    }
    assert_eq!(started.elapsed(), TIMEOUT * 3);
    assert_eq!(fake.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_trial_whose_asker_leaves_is_made_by_the_next() {
    let (embedder, fake) = fake(3);
    fake.answers(Err(failed()));
    for n in 0..3 {
        assert_eq!(embedder.embed_one(b"us", &n.to_string()).await, Err(failed()));
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    let trial = crowd(&embedder, 1).await;
    assert_eq!(fake.asked(), 4);
    assert_eq!(embedder.embed_one(b"us", "beside").await, Err(EmbedError::Resting));
    drop(trial);
    settle().await;
    fake.turns.add_permits(2);
    fake.answers(Ok(()));
    assert_eq!(embedder.embed_one(b"us", "next").await.expect("a vector").1, COST);
}

#[tokio::test(start_paused = true)]
async fn a_text_that_is_not_taken_is_no_failure_of_the_embedder() {
    let (embedder, fake) = fake(1_000);
    let refused = EmbedError::Refused { detail: "against the policy".to_owned() };
    for error in [EmbedError::TooLong { limit: 256 }, refused] {
        fake.answers(Err(error.clone()));
        for n in 0..10 {
            assert_eq!(embedder.embed_one(b"us", &n.to_string()).await, Err(error.clone()));
        }
    }
    assert_eq!(fake.asked(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_memo_that_is_full_keeps_what_was_asked_for_last() {
    let memo = Memo::new(1 << 20);
    let vector = Embedding::towards(vec![1.0]).expect("a direction");
    let embeds = || {
        let vector = vector.clone();
        async move { Ok((vector, COST)) }
    };
    // Four vectors of four million bytes fill it.
    for n in 0..100 {
        let key = Key::of(b"us", &n.to_string());
        assert_eq!(memo.get_or(key, embeds()).await, Ok((vector.clone(), COST)), "{n}");
        assert_eq!(memo.get_or(key, embeds()).await, Ok((vector.clone(), MicroUsd(0))), "{n}");
    }
    assert_eq!(memo.len(), 4);
    assert_eq!(
        memo.get_or(Key::of(b"us", "99"), embeds()).await,
        Ok((vector.clone(), MicroUsd(0)))
    );
    assert_eq!(memo.get_or(Key::of(b"us", "0"), embeds()).await, Ok((vector, COST)));
}

#[test]
fn words_for_metrics_differ() {
    let detail = String::new();
    let all = [
        EmbedError::Busy,
        EmbedError::Resting,
        EmbedError::TooLong { limit: 1 },
        EmbedError::Refused { detail: detail.clone() },
        EmbedError::Failed { detail },
    ];
    let words: BTreeSet<_> = all.iter().map(EmbedError::as_str).collect();
    assert_eq!(words.len(), all.len());
}
