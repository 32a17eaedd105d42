//! Tests of feedback, over both kinds of store.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::chat::Usage;
use crate::dialect::Dialect;
use crate::journal::{EndpointKind, Entry, Journal, JournalSettings, Outcome, Waste};
use crate::store::places::{Place as Kept, places};
use crate::units::{MicroUsd, Priority};

const NOW: u64 = 1_795_000_000_000;
const MINUTE: u64 = 60_000;

/// A clock that tests set.
#[derive(Debug)]
struct Hands(AtomicU64);

impl WallClock for Hands {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A node with feedback in a store.
struct Node {
    feedback: Feedback,
    clock: Arc<Hands>,
    metrics: Arc<Metrics>,
    store: Store,
}

impl Node {
    fn over(store: Store) -> Self {
        Self::keeping(store, Duration::ZERO)
    }

    fn keeping(store: Store, retention: Duration) -> Self {
        let clock = Arc::new(Hands(AtomicU64::new(NOW)));
        let metrics = Arc::new(Metrics::new());
        let wall: Arc<dyn WallClock> = clock.clone();
        let feedback = Feedback::new(store.clone(), retention, wall, Arc::clone(&metrics));
        Self { feedback, clock, metrics, store }
    }

    /// Writes a request of `caller` to the journal.
    async fn journal(&self, caller: &str, id: &RequestId) {
        let clock: Arc<dyn WallClock> = self.clock.clone();
        let (journal, writer) =
            Journal::new(&JournalSettings::default(), self.store.clone(), clock);
        journal.record(entry(caller, id));
        journal.shut_down();
        writer.run().await;
    }

    async fn give(&self, caller: &str, id: &RequestId, opinion: &Opinion) -> Given {
        self.feedback.give(&CallerId::new(caller), id, opinion).await.unwrap()
    }

    async fn refused(&self, caller: &str, id: &RequestId) -> FeedbackError {
        self.feedback.give(&CallerId::new(caller), id, &thumb(Thumb::Up)).await.unwrap_err()
    }

    async fn all(&self) -> Vec<StoredFeedback> {
        self.feedback.list(&FeedbackFilter::default(), None, 100).await.unwrap()
    }

    fn advance(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }

    #[track_caller]
    fn counts(&self, line: &str) {
        let metrics = self.metrics.render();
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
}

fn id(n: u128) -> RequestId {
    RequestId::at(NOW - 1_000, n)
}

fn thumb(thumb: Thumb) -> Opinion {
    Opinion { thumb: Some(thumb), ..Opinion::default() }
}

fn entry(caller: &str, id: &RequestId) -> Entry {
    Entry {
        request_id: id.clone(),
        started_at_ms: NOW - 1_000,
        caller: CallerId::new(caller),
        endpoint: EndpointKind::Chat,
        dialect: Dialect::OpenAiChat,
        prompt: Some("help@1.2.0".into()),
        model_asked: Some("smart".into()),
        priority: Some(Priority::default()),
        route: Some("smart".into()),
        target: Some("openai/gpt-5".into()),
        provider: Some("openai".into()),
        model_served: Some("gpt-5".into()),
        streamed: false,
        outcome: Outcome::Complete,
        failure: None,
        error_code: None,
        status: 200,
        attempts: 1,
        degradation: 0,
        usage: Usage::default(),
        usage_estimated: false,
        cost: MicroUsd(0),
        saved: MicroUsd(0),
        waste: Waste::default(),
        latency: Duration::from_millis(40),
        first_token: None,
        overhead: Duration::ZERO,
        tags: Vec::new(),
        reuse: None,
        part: None,
    }
}

#[tokio::test]
async fn the_latest_word_of_each_kind_counts_and_the_same_again_changes_nothing() {
    for place in places() {
        let node = Node::over(place.store.clone());
        node.journal("key_a", &id(1)).await;
        let mut heard = node.feedback.hear();
        let first = node.give("key_a", &id(1), &thumb(Thumb::Up)).await;
        assert_eq!((first.id.len(), first.is_news, first.waits), (35, true, false));
        let again = node.give("key_a", &id(1), &thumb(Thumb::Up)).await;
        assert_eq!(again, Given { is_news: false, ..first.clone() });
        node.advance(1);
        let label = Some("too long".to_owned());
        let more = Opinion { label, score: Some(0.25), ..thumb(Thumb::Down) };
        assert_eq!(node.give("key_a", &id(1), &more).await, first);

        let words: Vec<_> = node.all().await;
        let told: Vec<_> = words
            .iter()
            .map(|word| (&*word.kind, word.score, word.words.as_deref(), word.changes, word.at_ms))
            .collect();
        let at = NOW + 1;
        let expected = [
            ("label", None, Some("too long"), 1, at),
            ("thumb", Some(0.0), Some("down"), 2, at),
            ("score", Some(0.25), None, 1, at),
        ];
        assert_eq!(told, expected);
        assert!(words.iter().all(|word| word.id == first.id && !word.waits));
        assert_eq!(words[0].prompt.as_deref(), Some("help@1.2.0"));

        let rated = |score, is_first| Rated { request_id: id(1), score, is_first, variant: None };
        assert_eq!(heard.try_recv().unwrap(), rated(1.0, true));
        assert_eq!(heard.try_recv().unwrap(), rated(0.25, false), "a score says more than a thumb");
        heard.try_recv().unwrap_err();
        node.counts("tidegate_feedback_total{kind=\"thumb\"} 2");
        node.counts("tidegate_feedback_total{kind=\"label\"} 1");
        node.counts("tidegate_feedback_ratings_total{prompt=\"help@1.2.0\"} 2");
        node.counts("tidegate_feedback_score_sum_total{prompt=\"help@1.2.0\"} 1.25");
    }
}

#[tokio::test]
async fn nobody_says_anything_of_requests_that_are_not_his() {
    for place in places() {
        let node = Node::over(place.store.clone());
        node.journal("key_a", &id(1)).await;
        let long_ago = RequestId::at(NOW - 61 * MINUTE, 2);
        let not_yet = RequestId::at(NOW + 2 * MINUTE, 3);
        let made_up = RequestId::new("chatcmpl-123");
        for unknown in [&id(1), &long_ago, &not_yet, &made_up, &RequestId::new("")] {
            let error = node.refused("key_b", unknown).await;
            assert!(matches!(error, FeedbackError::UnknownRequest), "{unknown}: {error}");
        }
        assert_eq!(node.all().await, []);
    }
}

#[tokio::test]
async fn a_word_waits_for_its_request_and_any_node_joins_them() {
    for place in places() {
        let (node, other) = (Node::over(place.store.clone()), Node::over(place.again()));
        let mut heard = other.feedback.hear();
        let both = Opinion { regenerate: true, ..thumb(Thumb::Up) };
        let given = node.give("key_a", &id(1), &both).await;
        assert!(given.waits && given.is_news);
        assert!(other.feedback.round().await.unwrap(), "it waits");
        heard.try_recv().unwrap_err();
        assert!(node.all().await.iter().all(|word| word.waits && word.route.is_none()));
        assert_eq!(node.feedback.scores(&FeedbackFilter::default()).await.unwrap(), []);

        other.journal("key_a", &id(1)).await;
        assert!(!other.feedback.round().await.unwrap(), "nothing waits any more");
        let rated = Rated { request_id: id(1), score: 1.0, is_first: true, variant: None };
        assert_eq!(heard.try_recv().unwrap(), rated);
        heard.try_recv().unwrap_err();
        let words = node.all().await;
        assert_eq!(words.len(), 2);
        assert!(words.iter().all(|word| !word.waits && word.route.as_deref() == Some("smart")));
        node.feedback.round().await.unwrap();
        assert_eq!(
            node.give("key_a", &id(1), &both).await,
            Given { is_news: false, waits: false, ..given }
        );
    }
}

#[tokio::test]
async fn what_waits_in_vain_or_for_anothers_request_is_dropped_and_counted() {
    for place in places() {
        let node = Node::over(place.store.clone());
        assert!(node.give("key_b", &id(1), &thumb(Thumb::Up)).await.waits);
        assert!(node.give("key_b", &id(2), &thumb(Thumb::Up)).await.waits);
        node.journal("key_a", &id(1)).await;
        node.advance(9 * MINUTE);
        assert!(node.feedback.round().await.unwrap(), "one waits yet");
        node.counts("tidegate_feedback_lost_total{reason=\"not_theirs\"} 1");
        node.advance(2 * MINUTE);
        assert!(!node.feedback.round().await.unwrap());
        node.counts("tidegate_feedback_lost_total{reason=\"no_request\"} 1");
        assert_eq!(node.all().await, []);
    }
}

#[tokio::test]
async fn a_caller_cannot_fill_the_store_with_words_that_wait() {
    let place = Kept::file();
    let node = Node::over(place.store.clone());
    for n in 0..u128::from(Feedback::MAX_WAITING) {
        node.give("key_a", &id(n), &thumb(Thumb::Up)).await;
    }
    let error = node.refused("key_a", &id(9_999)).await;
    assert!(matches!(error, FeedbackError::TooManyWaiting), "{error}");
    assert!(node.give("key_b", &id(9_999), &thumb(Thumb::Up)).await.waits);
    node.journal("key_a", &id(7_777)).await;
    assert!(!node.give("key_a", &id(7_777), &thumb(Thumb::Up)).await.waits);
}

#[tokio::test]
async fn words_go_when_their_requests_go() {
    for place in places() {
        let node = Node::keeping(place.store.clone(), Duration::from_secs(3_600));
        for n in [1, 2] {
            node.journal("key_a", &id(n)).await;
            node.give("key_a", &id(n), &thumb(Thumb::Up)).await;
            node.advance(40 * MINUTE);
        }
        node.feedback.round().await.unwrap();
        let left: Vec<_> = node.all().await.into_iter().map(|word| word.request_id).collect();
        assert_eq!(left, [id(2).as_str()]);
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_an_error_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "in the way").unwrap();
    let url = format!("sqlite:{}/file/tidegate.db", folder.path().display());
    let node = Node::over(Store::new(url.parse().unwrap()));
    let error = node.refused("key_a", &id(1)).await;
    assert!(matches!(error, FeedbackError::Store(_)), "{error}");
    node.counts("tidegate_feedback_lost_total{reason=\"store_away\"} 1");
}

#[tokio::test]
async fn words_are_found_by_what_they_are_about_and_added_up() {
    for place in places() {
        let node = Node::over(place.store.clone());
        for n in 1..=4 {
            node.journal("key_a", &id(n)).await;
            let given = if n == 4 { Thumb::Down } else { Thumb::Up };
            node.give("key_a", &id(n), &thumb(given)).await;
            node.advance(1_000);
        }
        let count = async |filter: FeedbackFilter| {
            node.feedback.list(&filter, None, 100).await.unwrap().len()
        };
        let some = |text: &str| Some(text.to_owned());
        let all = FeedbackFilter::default();
        for (filter, found) in [
            (FeedbackFilter { route: some("smart"), ..all.clone() }, 4),
            (FeedbackFilter { route: some("other"), ..all.clone() }, 0),
            (FeedbackFilter { prompt: some("help"), ..all.clone() }, 4),
            (FeedbackFilter { prompt: some("help@1.2.0"), ..all.clone() }, 4),
            (FeedbackFilter { prompt: some("hel"), ..all.clone() }, 0),
            (FeedbackFilter { model: some("gpt-5"), ..all.clone() }, 4),
            (FeedbackFilter { model: some("openai/gpt-5"), ..all.clone() }, 4),
            (FeedbackFilter { model: some("gpt"), ..all.clone() }, 0),
            (FeedbackFilter { caller: some("key_b"), ..all.clone() }, 0),
            (FeedbackFilter { request_id: some(id(3).as_str()), ..all.clone() }, 1),
            (FeedbackFilter { kind: Some(FeedbackKind::Label), ..all.clone() }, 0),
            (FeedbackFilter { since_ms: Some(NOW + 2_000), ..all.clone() }, 2),
            (FeedbackFilter { until_ms: Some(NOW + 2_000), ..all.clone() }, 2),
        ] {
            assert_eq!(count(filter.clone()).await, found, "{filter:?}");
        }
        let page = node.feedback.list(&all, None, 3).await.unwrap();
        let rest = node.feedback.list(&all, Some(page[2].place), 3).await.unwrap();
        assert_eq!((page[0].request_id.as_str(), rest.len()), (id(4).as_str(), 1));
        let scores = node.feedback.scores(&all).await.unwrap();
        let expected = FeedbackScore {
            prompt: some("help@1.2.0"),
            provider: some("openai"),
            model: some("gpt-5"),
            ratings: 4,
            mean: 0.75,
        };
        assert_eq!(scores, [expected]);
    }
}
