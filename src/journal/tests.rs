//! Tests of the journal, on files of their own.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::chat::Usage;
use crate::clock::FixedWallClock;
use crate::dialect::Dialect;
use crate::failure::FailureKind;
use crate::ids::{CallerId, ModelName, RequestId};
use crate::policy::rollout::{Arm, Share, Traits};
use crate::store::places::places;
use crate::units::{HumanDuration, MicroUsd, Priority};
use given::{entry, journal_at, store_in};

const NOON: u64 = 1_700_049_600_000;

mod faults;
mod usage;

pub(super) mod given {
    //! What the tests begin with.

    use super::*;

    pub(super) fn store_in(folder: &tempfile::TempDir) -> Store {
        let path = folder.path().join("data/tidegate.db");
        Store::new(format!("sqlite:{}", path.display()).parse().unwrap())
    }

    pub(super) fn journal_at(store: &Store, now_ms: u64) -> (Journal, JournalWriter) {
        let clock = Arc::new(FixedWallClock(now_ms));
        Journal::new(&JournalSettings::default(), store.clone(), clock)
    }

    /// The `n`-th request: it ended `n` milliseconds after noon.
    pub(in crate::journal) fn entry(n: u64) -> Entry {
        Entry {
            request_id: RequestId::new(format!("req_{n}")),
            started_at_ms: NOON + n - 40,
            caller: CallerId::new(if n.is_multiple_of(2) { "key_even" } else { "key_odd" }),
            endpoint: EndpointKind::Chat,
            dialect: Dialect::OpenAiChat,
            prompt: Some("help@1.2.0".into()),
            model_asked: Some("smart".into()),
            priority: Some(Priority::default()),
            route: Some("smart".into()),
            target: Some("openai/gpt-5".into()),
            provider: Some("openai".into()),
            model_served: Some("gpt-5".into()),
            streamed: true,
            outcome: Outcome::Complete,
            failure: None,
            error_code: None,
            status: 200,
            attempts: 1,
            degradation: 2,
            usage: Usage { input: 10, cached_input: 4, cache_write: 3, output: 20, reasoning: 5 },
            usage_estimated: false,
            cost: MicroUsd(1_250),
            waste: Waste { input: 17, output: 2, cost: MicroUsd(90), is_estimated: false },
            saved: MicroUsd(400),
            latency: Duration::from_millis(40),
            first_token: Some(Duration::from_millis(7)),
            overhead: Duration::from_micros(81),
            tags: Vec::new(),
            reuse: None,
            part: Some(Box::new(Part {
                rollout: "ro_1".into(),
                arm: Arm::Candidate,
                share: Share::ALL,
                unit: Some(7),
                traits: Traits::default(),
                pair: None,
                beside: None,
                is_refused: false,
                is_invalid: None,
            })),
        }
    }
}

/// Runs the writer beside `work` and ends it in an orderly way.
async fn while_writing<T>(
    (journal, writer): (Journal, JournalWriter),
    work: impl AsyncFnOnce(Journal) -> T,
) -> T {
    let done = async {
        let done = work(journal.clone()).await;
        journal.shut_down();
        done
    };
    tokio::join!(writer.run(), done).1
}

/// Runs the writer beside `work` and drops it where it stands, as a kill does.
async fn while_writing_until_killed(
    (journal, writer): (Journal, JournalWriter),
    work: impl AsyncFnOnce(Journal),
) {
    tokio::select! {
        () = writer.run() => panic!("the writer ended by itself"),
        () = work(journal) => {}
    }
}

async fn all(journal: &Journal) -> Vec<StoredRequest> {
    journal.requests(&RequestFilter::default(), None, 1_000).await.unwrap()
}

fn record(journal: &Journal, entry: Entry) {
    journal.accepted();
    journal.record(entry);
}

/// What the store holds of `entry(1)`.
fn stored_1() -> StoredRequest {
    StoredRequest {
        // The first run's own part of the millisecond.
        place: row::first_id_of(NOON + 1) | 1 << 10,
        ended_at_ms: NOON + 1,
        request_id: "req_1".to_owned(),
        started_at_ms: NOON - 39,
        caller: "key_odd".to_owned(),
        endpoint: "chat".to_owned(),
        dialect: "openai-chat".to_owned(),
        prompt: Some("help@1.2.0".to_owned()),
        rollout: Some("ro_1".to_owned()),
        arm: Some("candidate".to_owned()),
        model_asked: Some("smart".to_owned()),
        route: Some("smart".to_owned()),
        target: Some("openai/gpt-5".to_owned()),
        provider: Some("openai".to_owned()),
        model_served: Some("gpt-5".to_owned()),
        streamed: true,
        outcome: "complete".to_owned(),
        failure: None,
        error_code: None,
        status: 200,
        attempts: 1,
        degradation: 2,
        usage: entry(1).usage,
        usage_estimated: false,
        cost: MicroUsd(1_250),
        waste: entry(1).waste,
        saved: MicroUsd(400),
        latency_ms: 40,
        first_token_ms: Some(7),
        overhead_us: 81,
        tags: None,
        reuse: None,
        priority: Some(2),
    }
}

#[tokio::test]
async fn every_field_of_a_request_is_found_again() {
    for place in places() {
        let found = while_writing(journal_at(&place.store, NOON), async |journal| {
            record(&journal, entry(1));
            let refused = Entry {
                model_asked: None,
                route: None,
                target: None,
                provider: None,
                model_served: None,
                outcome: Outcome::Cut,
                failure: Some(FailureKind::MidStream),
                error_code: Some("upstream_disconnected"),
                usage_estimated: true,
                first_token: None,
                tags: vec![("team".to_owned(), "a \"b\"".to_owned())],
                reuse: Some(Reuse::Replayed),
                ..entry(2)
            };
            record(&journal, refused);
            journal.flush().await;
            all(&journal).await
        })
        .await;

        let whole = stored_1();
        let bare = StoredRequest {
            place: row::first_id_of(NOON + 2) | 1 << 10,
            ended_at_ms: NOON + 2,
            request_id: "req_2".to_owned(),
            started_at_ms: NOON - 38,
            caller: "key_even".to_owned(),
            model_asked: None,
            route: None,
            target: None,
            provider: None,
            model_served: None,
            outcome: "cut".to_owned(),
            failure: Some("mid_stream".to_owned()),
            error_code: Some("upstream_disconnected".to_owned()),
            usage_estimated: true,
            first_token_ms: None,
            tags: Some(r#"{"team":"a \"b\""}"#.to_owned()),
            reuse: Some("replayed".to_owned()),
            ..whole.clone()
        };
        assert_eq!(found, [bare, whole]);
    }
}

#[tokio::test]
async fn pages_go_back_in_time_without_gap_or_repetition() {
    for place in places() {
        while_writing(journal_at(&place.store, NOON), async |journal| {
            // More than one batch, several in each millisecond, and every size of insert.
            for n in 0..2_345 {
                record(
                    &journal,
                    Entry { request_id: RequestId::new(n.to_string()), ..entry(n / 7) },
                );
            }
            journal.flush().await;
            let mut seen = Vec::new();
            let mut before = None;
            loop {
                let page =
                    journal.requests(&RequestFilter::default(), before, 1_000).await.unwrap();
                let Some(last) = page.last() else { break };
                before = Some(last.place);
                seen.extend(page.into_iter().map(|request| request.request_id));
            }
            let expected: Vec<_> = (0..2_345).rev().map(|n: i32| n.to_string()).collect();
            assert_eq!(seen, expected);
        })
        .await;
    }
}

#[tokio::test]
async fn filters_restrict_and_combine() {
    for place in places() {
        while_writing(journal_at(&place.store, NOON), async |journal| {
            for n in 0..10 {
                let outcome = if n < 3 { Outcome::Failed } else { Outcome::Complete };
                record(&journal, Entry { outcome, ..entry(n) });
            }
            let other = Entry {
                route: Some("cheap".into()),
                target: Some("groq/llama".into()),
                model_asked: Some("cheap".into()),
                model_served: Some("llama".into()),
                ..entry(10)
            };
            record(&journal, other);
            journal.flush().await;
            let any = RequestFilter::default();
            let cases = [
                (RequestFilter { caller: Some("key_odd".into()), ..any.clone() }, "9 7 5 3 1"),
                (RequestFilter { route: Some("cheap".into()), ..any.clone() }, "10"),
                (RequestFilter { target: Some("groq/llama".into()), ..any.clone() }, "10"),
                (RequestFilter { model: Some("llama".into()), ..any.clone() }, "10"),
                (RequestFilter { model: Some("cheap".into()), ..any.clone() }, "10"),
                (RequestFilter { outcome: Some(Outcome::Failed), ..any.clone() }, "2 1 0"),
                (RequestFilter { since_ms: Some(NOON + 8), ..any.clone() }, "10 9 8"),
                (RequestFilter { until_ms: Some(NOON + 2), ..any.clone() }, "1 0"),
                (
                    RequestFilter {
                        outcome: Some(Outcome::Failed),
                        caller: Some("key_even".into()),
                        since_ms: Some(NOON + 1),
                        ..any.clone()
                    },
                    "2",
                ),
                (RequestFilter { caller: Some("' OR 1=1 --".into()), ..any }, ""),
            ];
            for (filter, expected) in cases {
                let found = journal.requests(&filter, None, 100).await.unwrap();
                let found: Vec<_> =
                    found.iter().filter_map(|r| r.request_id.strip_prefix("req_")).collect();
                assert_eq!(found.join(" "), expected, "{filter:?}");
            }
        })
        .await;
    }
}

#[test]
fn the_writer_may_run_on_any_thread() {
    fn assert_send<T: Send>(_: T) {}
    let folder = tempfile::tempdir().unwrap();
    assert_send(journal_at(&store_in(&folder), NOON).1.run());
}

#[test]
fn a_full_queue_drops_and_counts_and_never_waits() {
    let folder = tempfile::tempdir().unwrap();
    let settings = JournalSettings { queue_entries: 3, ..JournalSettings::default() };
    let clock = Arc::new(FixedWallClock(NOON));
    let (journal, writer) = Journal::new(&settings, store_in(&folder), clock);
    for n in 0..5 {
        record(&journal, entry(n));
    }
    let health = journal.health();
    assert_eq!((health.accepted, health.queued, health.dropped), (5, 3, 2));
    assert_eq!(journal.dropped(DropReason::QueueFull), 2);
    drop(writer);
    record(&journal, entry(5));
    assert_eq!(journal.dropped(DropReason::Closed), 1);
}

#[test]
fn what_callers_choose_is_cut_to_a_known_size() {
    let mut entry = Entry {
        model_asked: Some(ModelName::new("é".repeat(1_000))),
        tags: (0..1_000).map(|n| (format!("{n:04}"), "1234".to_owned())).collect(),
        ..entry(1)
    };
    entry.bound();
    assert_eq!(entry.model_asked.unwrap().as_str(), "é".repeat(128));
    assert_eq!(entry.tags.len(), 128);
}

#[tokio::test]
async fn an_orderly_end_writes_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(&folder);
    let (journal, writer) = journal_at(&store, NOON);
    for n in 0..1_500 {
        record(&journal, entry(n));
    }
    journal.shut_down();
    writer.run().await;
    let health = journal.health();
    assert_eq!((health.written, health.dropped, health.queued), (1_500, 0, 0));
}

#[tokio::test]
async fn a_nul_in_what_callers_choose_holds_up_no_row() {
    for place in places() {
        while_writing(journal_at(&place.store, NOON), async |journal| {
            let asked = Some(ModelName::new("a\0b"));
            let tags = vec![("k\0".to_owned(), "\0v".to_owned())];
            record(&journal, Entry { model_asked: asked, tags, ..entry(0) });
            record(&journal, entry(1));
            journal.flush().await;
            let found = all(&journal).await;
            assert_eq!(found.len(), 2);
            assert_eq!(found[1].model_asked.as_deref(), Some("a\u{fffd}b"));
            assert_eq!(found[1].tags.as_deref(), Some("{\"k\u{fffd}\":\"\u{fffd}v\"}"));
        })
        .await;
    }
}

#[tokio::test]
async fn requests_beyond_their_retention_are_deleted() {
    for place in places() {
        let store = place.store.clone();
        while_writing(journal_at(&store, NOON), async |journal| {
            (0..20).for_each(|n| record(&journal, entry(n)));
            journal.flush().await;
        })
        .await;
        let settings =
            JournalSettings { retention: HumanDuration::secs(3_600), ..JournalSettings::default() };
        let clock = Arc::new(FixedWallClock(NOON + 3_600_000 + 15));
        let journal = Journal::new(&settings, store, clock);
        let reader = journal.0.clone();
        while_writing(journal, async |journal| {
            record(&journal, entry(3_600_000));
            journal.flush().await;
        })
        .await;
        let kept: Vec<_> = all(&reader).await.into_iter().map(|r| r.ended_at_ms - NOON).collect();
        assert_eq!(kept, [3_600_000, 19, 18, 17, 16, 15]);
    }
}

#[test]
fn ids_rise_even_when_the_clock_goes_back() {
    let mut ids = row::Ids::new(3, 0);
    let first = ids.of(&entry(500));
    let second = ids.of(&entry(3));
    assert_eq!(second, first + 1);
    assert_eq!(row::ended_at_ms(second), NOON + 500);
    let far = Entry { started_at_ms: u64::MAX, ..entry(1) };
    assert!(ids.of(&far) > second);
    // A file that another run wrote to, at a time that has not come yet.
    let mut ids = row::Ids::new(7, first);
    assert!(ids.of(&entry(3)) > first);
}

#[test]
fn runs_that_write_at_once_have_ids_of_their_own() {
    let mut runs = [row::Ids::new(1, 0), row::Ids::new(2, 0), row::Ids::new(1_023, 0)];
    let mut seen = std::collections::HashSet::new();
    for ids in &mut runs {
        let mut last = 0;
        // More than fit into a millisecond, of a clock that stands still.
        for _ in 0..5_000 {
            let id = ids.of(&entry(7));
            assert!(id > last && seen.insert(id), "{id} after {last}");
            last = id;
        }
        assert_eq!(row::ended_at_ms(last), NOON + 7 + 4);
    }
}
