//! Tests of jobs that come with an `Idempotency-Key`.

use std::time::Duration;

use super::*;
use crate::idempotency::{Claim, Fingerprint, IdempotencyKey, Kept, Scope};
use crate::ids::RequestId;
use crate::rejection::Duplicate;

fn once(key: &str, says: &str) -> Once {
    let (caller, key) = (alice(), IdempotencyKey::parse(key).unwrap());
    let scope = Scope { caller: &caller, method: "POST", path: "/v1/jobs", key: &key };
    let claim = Claim {
        id: scope.row_id(),
        caller: caller.clone(),
        fingerprint: Fingerprint::of(says.as_bytes(), []),
        request_id: RequestId::new("req_1"),
    };
    Once { claim, ttl: Duration::from_secs(86_400), may_be_new: true }
}

/// A reply that names the job.
fn reply(submitted: Submitted) -> Kept {
    Kept { status: 202, headers: Vec::new(), body: Some(submitted.job.id.into()) }
}

async fn hand_in(jobs: &Jobs, once: &Once) -> Result<Accepted, SubmitError> {
    jobs.submit_once(new_job("key_alice"), once, &many(), NOW_MS, reply).await
}

/// The job that a request made.
async fn made(jobs: &Jobs, once: &Once) -> Kept {
    match hand_in(jobs, once).await.unwrap() {
        Accepted::First(kept) => kept,
        Accepted::Again(kept) => panic!("made before: {kept:?}"),
    }
}

async fn repeated(jobs: &Jobs, once: &Once) -> Kept {
    match hand_in(jobs, once).await.unwrap() {
        Accepted::Again(kept) => kept,
        Accepted::First(kept) => panic!("made again: {kept:?}"),
    }
}

async fn count(jobs: &Jobs) -> usize {
    jobs.list(&alice(), None, None, 100).await.unwrap().len()
}

#[tokio::test]
async fn a_key_makes_one_job_however_often_it_comes() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        let first = made(&jobs, &once("k1", "{}")).await;
        assert_eq!(repeated(&jobs, &once("k1", "{ }")).await, first);
        assert_eq!(repeated(&Jobs::new(place.again()), &once("k1", "{}")).await, first);
        let other = hand_in(&jobs, &once("k1", "[]")).await.unwrap_err();
        assert!(matches!(other, SubmitError::Duplicate(Duplicate::Mismatch)), "{other:?}");
        assert_ne!(made(&jobs, &once("k2", "{}")).await, first);
        assert_eq!(count(&jobs).await, 2);
        // Also when it is over, and deleted.
        for taken in take(&jobs, "w").await {
            jobs.end(&taken.held, &success()).await.unwrap();
        }
        execute(&place.store, "UPDATE jobs SET ended_at_ms = ended_at_ms - 60001").await;
        assert_eq!(jobs.sweep(60_000).await.unwrap(), 2);
        assert_eq!(repeated(&jobs, &once("k1", "{}")).await, first);
        assert_eq!(count(&jobs).await, 0);
    }
}

#[tokio::test]
async fn of_duplicates_at_the_same_moment_on_many_nodes_one_makes_the_job() {
    for place in places() {
        let node = async || {
            let jobs = Jobs::new(place.again());
            let once = once("k1", "{}");
            let all = tokio::join!(
                hand_in(&jobs, &once),
                hand_in(&jobs, &once),
                hand_in(&jobs, &once),
                hand_in(&jobs, &once)
            );
            [all.0.unwrap(), all.1.unwrap(), all.2.unwrap(), all.3.unwrap()]
        };
        let (a, b, c) = tokio::join!(node(), node(), node());
        let all: Vec<_> = [a, b, c].into_iter().flatten().collect();
        let first = all.iter().filter(|one| matches!(one, Accepted::First(_))).count();
        assert_eq!(first, 1);
        let ids: std::collections::HashSet<_> = all
            .iter()
            .map(|one| match one {
                Accepted::First(kept) | Accepted::Again(kept) => kept.body.clone().unwrap(),
            })
            .collect();
        assert_eq!(ids.len(), 1);
        assert_eq!(count(&Jobs::new(place.again())).await, 1);
    }
}

#[tokio::test]
async fn a_key_is_free_again_when_its_time_is_over_and_where_no_job_was_made() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        let first = made(&jobs, &once("k1", "{}")).await;
        execute(&place.store, "UPDATE idempotency SET expires_at_ms = 1").await;
        assert_ne!(made(&jobs, &once("k1", "[]")).await, first);

        let full = jobs
            .submit_once(new_job("key_alice"), &once("k2", "{}"), &room_for(1), NOW_MS, reply)
            .await
            .unwrap_err();
        assert!(matches!(full, SubmitError::Full { limit: 1 }), "{full:?}");
        made(&jobs, &once("k2", "[]")).await;
    }
}

#[tokio::test]
async fn who_has_too_many_keys_gets_no_other_but_those_it_has() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        let first = made(&jobs, &once("k1", "{}")).await;
        let crowded = |key| Once { may_be_new: false, ..once(key, "{}") };
        assert_eq!(repeated(&jobs, &crowded("k1")).await, first);
        let refused = hand_in(&jobs, &crowded("k2")).await.unwrap_err();
        assert!(matches!(refused, SubmitError::Duplicate(Duplicate::TooMany)), "{refused:?}");
        assert_eq!(count(&jobs).await, 1);
    }
}
