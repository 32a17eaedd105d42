//! Stores that fail, and runs that are killed.

use sqlx::{Connection, Executor};

use super::*;

#[tokio::test]
async fn a_locked_database_is_reported_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(&folder);
    let mut other = store.connect().await.unwrap();
    let health = while_writing(journal_at(&store, NOON), async |journal| {
        record(&journal, entry(0));
        journal.flush().await;
        let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
        record(&journal, entry(1));
        let mut trouble = journal.shared.trouble.subscribe();
        trouble.wait_for(Option::is_some).await.unwrap();
        let health = journal.health();
        assert_eq!((health.written, health.queued, health.degraded), (1, 1, true));
        assert!(health.last_error.unwrap().contains("database is locked"));
        lock.rollback().await.unwrap();
        journal.flush().await;
        assert_eq!(all(&journal).await.len(), 2);
        journal.health()
    })
    .await;
    assert_eq!((health.written, health.queued, health.dropped), (2, 0, 0));
    assert_eq!((health.degraded, health.last_error), (false, None));
}

#[tokio::test]
async fn a_store_that_refuses_every_row_fills_the_queue_and_the_loss_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(&folder);
    let mut other = store.connect().await.unwrap();
    let full = "CREATE TRIGGER full BEFORE INSERT ON requests
                BEGIN SELECT RAISE(ABORT, 'disk full'); END";
    other.execute(full).await.unwrap();
    let settings = JournalSettings { queue_entries: 5, ..JournalSettings::default() };
    let journal = Journal::new(&settings, store, Arc::new(FixedWallClock(NOON)));
    while_writing(journal, async |journal| {
        record(&journal, entry(0));
        let mut trouble = journal.shared.trouble.subscribe();
        trouble.wait_for(Option::is_some).await.unwrap();
        for n in 1..1_010 {
            record(&journal, entry(n));
        }
        let lost = journal.health().dropped;
        assert_eq!(lost, 1_004, "the queue holds five and the writer one");
        other.execute("DROP TRIGGER full").await.unwrap();
        journal.flush().await;
        let health = journal.health();
        assert_eq!((health.written, health.dropped, health.queued), (6, lost, 0));
        assert!(!health.degraded);
    })
    .await;
}

#[tokio::test]
async fn entries_that_the_store_refuses_are_counted_and_the_others_are_kept() {
    const ALL: u64 = 260;
    const REFUSED: [u64; 4] = [3, 150, 151, 259];
    for place in places() {
        let mut other = place.store.connect().await.unwrap();
        other.execute("CREATE UNIQUE INDEX once ON requests (request_id)").await.unwrap();
        let (journal, writer) = journal_at(&place.store, NOON);
        // All of them are one batch.
        for n in 0..ALL {
            let mut entry = entry(n);
            if REFUSED.contains(&n) {
                entry.request_id = RequestId::new("req_0");
            }
            record(&journal, entry);
        }
        let health = while_writing((journal, writer), async |journal| {
            journal.flush().await;
            let mut found = std::collections::BTreeSet::new();
            for request in all(&journal).await {
                found.insert(request.request_id);
            }
            let kept = (0..ALL).filter(|n| !REFUSED.contains(n));
            assert_eq!(found, kept.map(|n| format!("req_{n}")).collect());
            assert_eq!(journal.dropped(DropReason::Refused), 4);
            // What comes after them is not held up either, and the journal is well.
            record(&journal, entry(ALL));
            journal.flush().await;
            journal.health()
        })
        .await;
        assert_eq!((health.written, health.dropped, health.queued), (257, 4, 0));
        assert!(!health.degraded);
        // The run knows of them, so that none of its requests is unknown.
        let counts: (i64, i64, i64) = sqlx::query_as("SELECT accepted, written, dropped FROM runs")
            .fetch_one(&mut other)
            .await
            .unwrap();
        assert_eq!(counts, (261, 257, 4));
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_is_opened_when_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("data");
    std::fs::write(&in_the_way, "a file where the folder should be").unwrap();
    while_writing(journal_at(&store_in(&folder), NOON), async |journal| {
        record(&journal, entry(0));
        let mut trouble = journal.shared.trouble.subscribe();
        let error = trouble.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert!(error.starts_with("cannot make the folder "), "{error}");
        assert!(journal.requests(&RequestFilter::default(), None, 1).await.is_err());
        std::fs::remove_file(&in_the_way).unwrap();
        journal.flush().await;
        assert_eq!(all(&journal).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_file_that_was_deleted_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    while_writing(journal_at(&store_in(&folder), NOON), async |journal| {
        record(&journal, entry(0));
        journal.flush().await;
        std::fs::remove_dir_all(folder.path().join("data")).unwrap();
        record(&journal, entry(1));
        journal.flush().await;
        let found = all(&journal).await;
        assert_eq!(found.iter().map(|r| r.request_id.as_str()).collect::<Vec<_>>(), ["req_1"]);
    })
    .await;
}

#[tokio::test]
async fn a_killed_run_says_how_many_requests_it_cannot_know() {
    for place in places() {
        let store = place.store.clone();
        while_writing_until_killed(journal_at(&store, NOON), async |journal| {
            for n in 0..7 {
                record(&journal, entry(n));
            }
            // Three are still in flight when the last flush is made.
            (0..3).for_each(|_| journal.accepted());
            journal.flush().await;
        })
        .await;

        let lost = while_writing(journal_at(&store, NOON + 9_000), async |journal| {
            record(&journal, entry(7));
            journal.flush().await;
            assert_eq!(all(&journal).await.len(), 8);
            journal.health().lost_runs
        })
        .await;
        let expected = LostRun { run: 1, started_at_ms: NOON, flushed_at_ms: NOON, unknown: 3 };
        assert_eq!(lost, [expected]);

        // Said once; and a run that ended as it should is not lost.
        let lost = while_writing(journal_at(&store, NOON), async |journal| {
            record(&journal, entry(8));
            journal.flush().await;
            journal.health().lost_runs
        })
        .await;
        assert_eq!(lost, []);
    }
}
