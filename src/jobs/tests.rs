//! Tests of jobs, in a file and at a server.

use bytes::Bytes;

use super::*;
use crate::ids::CallerId;
use crate::policy::job::JobState;
use crate::policy::turns::Turns;
use crate::store::places::places;
use crate::units::{ByteCount, Priority};

mod keys;
mod taking;
mod webhooks;

const NOW_MS: u64 = 1_795_000_000_000;
const LEASE_MS: i64 = 60_000;

/// Room for many jobs.
fn many() -> JobSettings {
    JobSettings::default()
}

/// Room for so many jobs.
fn room_for(jobs: u32) -> JobSettings {
    JobSettings { max_waiting: jobs, ..JobSettings::default() }
}

fn alice() -> CallerId {
    CallerId::new("key_alice")
}

fn new_job(caller: &str) -> NewJob {
    NewJob {
        caller: CallerId::new(caller),
        endpoint: "/v1/chat/completions",
        priority: Priority::try_from(3).unwrap(),
        expires_in_ms: 3_600_000,
        particulars: Particulars { sticky: Some("u".to_owned()), ..Particulars::default() },
        metadata: r#"{"k":"v"}"#.to_owned(),
        body: Bytes::from_static(b"{\"model\":\"m\"}"),
        webhook: None,
    }
}

fn result() -> JobResult {
    JobResult {
        status: 200,
        headers: vec![("x-request-id".to_owned(), "req_1".to_owned())],
        body: Bytes::from_static(b"{\"ok\":true}"),
    }
}

fn success() -> End {
    End { state: JobState::Succeeded, result: Some(result()), error: None }
}

async fn submit(jobs: &Jobs, new: NewJob) -> Job {
    jobs.submit(new, &many(), NOW_MS).await.unwrap().job
}

/// Takes as much as there is.
async fn take(jobs: &Jobs, worker: &str) -> Vec<Taken> {
    jobs.take(&mut Turns::default(), 100, 100, worker, LEASE_MS).await.unwrap()
}

/// Runs a statement that stands for the passing of time.
async fn execute(store: &Store, sql: &'static str) {
    let mut connection = store.writer().await.unwrap();
    sqlx::query(sql).execute(&mut *connection).await.unwrap();
}

#[tokio::test]
async fn a_job_is_taken_answered_and_kept_with_its_result() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        let job = submit(&jobs, new_job("key_alice")).await;
        assert!(job.id.starts_with("job_") && job.id.len() == 36, "{}", job.id);
        assert_eq!(job.state, JobState::Queued);
        assert_eq!(job.deadline_ms - job.created_at_ms, 3_600_000);

        let taken = take(&jobs, "w").await.pop().unwrap();
        assert_eq!(taken.job.state, JobState::Running);
        assert_eq!((taken.job.attempts, taken.losses), (1, 0));
        assert_eq!(taken.particulars.sticky.as_deref(), Some("u"));
        assert!((3_590_000..=3_600_000).contains(&taken.left_ms), "{}", taken.left_ms);
        assert_eq!(&*jobs.request(&job.id).await.unwrap().unwrap(), b"{\"model\":\"m\"}");
        assert!(take(&jobs, "other").await.is_empty());

        assert!(jobs.end(&taken.held, &success()).await.unwrap());
        let found = jobs.find(&alice(), &job.id).await.unwrap().unwrap();
        assert_eq!(found.job.state, JobState::Succeeded);
        assert_eq!(found.result, Some(result()));
        assert_eq!(found.job.metadata, r#"{"k":"v"}"#);
        assert!(found.job.started_at_ms <= found.job.ended_at_ms);
        assert!(jobs.request(&job.id).await.unwrap().is_none(), "nobody needs it any more");
    }
}

#[tokio::test]
async fn only_its_caller_sees_a_job() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        let job = submit(&jobs, new_job("key_alice")).await;
        let mallory = CallerId::new("key_mallory");
        assert!(jobs.find(&mallory, &job.id).await.unwrap().is_none());
        assert!(jobs.cancel(&mallory, &job.id).await.unwrap().is_none());
        assert!(jobs.list(&mallory, None, None, 10).await.unwrap().is_empty());
        assert_eq!(
            jobs.find(&alice(), &job.id).await.unwrap().unwrap().job.state,
            JobState::Queued
        );
    }
}

#[tokio::test]
async fn jobs_are_listed_newest_first_page_by_page_and_by_state() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        let mut ids = Vec::new();
        for number in 0..5 {
            let new = new_job("key_alice");
            ids.push(jobs.submit(new, &many(), NOW_MS + number).await.unwrap().job.id);
        }
        ids.reverse();
        let ids_of = |page: Vec<Job>| page.into_iter().map(|job| job.id).collect::<Vec<_>>();
        let first = ids_of(jobs.list(&alice(), None, None, 3).await.unwrap());
        assert_eq!(first, ids[..3]);
        let rest = ids_of(jobs.list(&alice(), None, Some(&first[2]), 3).await.unwrap());
        assert_eq!(rest, ids[3..]);
        jobs.cancel(&alice(), &ids[1]).await.unwrap().unwrap();
        let cancelled = jobs.list(&alice(), Some(JobState::Cancelled), None, 9).await.unwrap();
        assert_eq!(ids_of(cancelled), ids[1..2]);
    }
}

#[tokio::test]
async fn a_caller_may_have_so_many_waiting_and_others_are_not_concerned() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        for _ in 0..2 {
            jobs.submit(new_job("key_alice"), &room_for(2), NOW_MS).await.unwrap();
        }
        let refused = jobs.submit(new_job("key_alice"), &room_for(2), NOW_MS).await.unwrap_err();
        assert!(matches!(refused, SubmitError::Full { limit: 2 }), "{refused}");
        jobs.submit(new_job("key_bob"), &room_for(2), NOW_MS).await.unwrap();
        assert_eq!(take(&jobs, "w").await.len(), 3);
        jobs.submit(new_job("key_alice"), &room_for(2), NOW_MS).await.unwrap();
    }
}

/// A job whose request takes so many bytes.
fn of_size(caller: &str, bytes: usize) -> NewJob {
    let mut new = NewJob { body: Bytes::new(), ..new_job(caller) };
    let beside = new.metadata.len() + serde_json::to_string(&new.particulars).unwrap().len();
    new.body = vec![b' '; bytes - beside].into();
    new
}

fn no_room(error: SubmitError) -> (bool, u64, u64) {
    let SubmitError::NoRoom { of_all, limit_bytes, bytes } = error else { panic!("{error:?}") };
    (of_all, limit_bytes, bytes)
}

#[tokio::test]
async fn the_waiting_jobs_of_a_caller_take_so_many_bytes_and_those_of_all_callers() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        let settings = JobSettings {
            max_waiting_size: ByteCount(10_000),
            max_total_waiting_size: ByteCount(15_000),
            ..JobSettings::default()
        };
        let hand_in = async |caller: &str, bytes: usize| {
            jobs.submit(of_size(caller, bytes), &settings, NOW_MS).await
        };
        hand_in("key_alice", 4_000).await.unwrap();
        hand_in("key_alice", 6_000).await.unwrap();
        let refused = hand_in("key_alice", 500).await.unwrap_err();
        assert_eq!(no_room(refused), (false, 10_000, 500));
        // What was accepted here counts at once, though it is added up once a second.
        hand_in("key_bob", 5_000).await.unwrap();
        let refused = hand_in("key_carol", 500).await.unwrap_err();
        assert_eq!(no_room(refused), (true, 15_000, 500));
        // Another node counts what is in the store.
        let other = Jobs::new(place.again());
        let refused = other.submit(of_size("key_carol", 500), &settings, NOW_MS).await.unwrap_err();
        assert_eq!(no_room(refused), (true, 15_000, 500));

        // What is worked on waits no more.
        assert_eq!(take(&jobs, "w").await.len(), 3);
        let fresh = Jobs::new(place.again());
        fresh.submit(of_size("key_alice", 10_000), &settings, NOW_MS).await.unwrap();
        let alone = Jobs::new(place.again());
        execute(&place.store, "UPDATE jobs SET state = 'running', worker = 'w'").await;
        let large = of_size("key_alice", 20_000);
        alone.submit(large, &settings, NOW_MS).await.expect("one that waits alone always may");
    }
}

/// Jobs that were handed in before their bytes were noted.
#[tokio::test]
async fn jobs_of_an_older_version_are_measured_when_the_tables_are_brought_up_to_date() {
    let migration = include_str!("../../migrations/0012_room_for_jobs.sql");
    let measure = migration.split(';').find(|part| part.contains("UPDATE jobs")).unwrap();
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        let body = new_job("key_alice").body.len() as i64;
        submit(&jobs, new_job("key_alice")).await;
        let over = submit(&jobs, new_job("key_bob")).await;
        jobs.cancel(&CallerId::new("key_bob"), &over.id).await.unwrap();
        execute(&place.store, "UPDATE jobs SET request_bytes = 0").await;
        execute(&place.store, measure).await;
        let mut connection = place.store.reader().await.unwrap();
        let bytes: Vec<i64> = sqlx::query_scalar("SELECT request_bytes FROM jobs ORDER BY lane")
            .fetch_all(&mut *connection)
            .await
            .unwrap();
        assert_eq!(bytes, [body, 0]);
    }
}

#[test]
fn what_may_be_the_id_of_a_job_is_told_from_what_may_not() {
    assert!(is_job_id(&new_id("job_", NOW_MS)));
    let good = format!("job_{}", "0123456789abcdef".repeat(2));
    assert!(is_job_id(&good));
    for bad in [
        "",
        "job_",
        "job_none",
        &good.replacen('0', "", 1),
        &good.to_uppercase(),
        &format!("{good}0"),
    ] {
        assert!(!is_job_id(bad), "{bad}");
    }
    for odd in ['\0', '%', '~', 'g'] {
        assert!(!is_job_id(&good.replace('5', &odd.to_string())), "{odd:?}");
    }
}

#[tokio::test]
async fn a_cancelled_job_is_over_at_once_and_its_worker_finds_out() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        let (waiting, running) =
            (submit(&jobs, new_job("key_alice")).await, submit(&jobs, new_job("key_bob")).await);
        let taken = take(&jobs, "w").await;
        assert_eq!(taken.len(), 2);
        let taken = taken.into_iter().find(|taken| taken.job.id == running.id).unwrap();
        let bob = CallerId::new("key_bob");
        let cancelled = jobs.cancel(&bob, &running.id).await.unwrap().unwrap();
        assert_eq!(cancelled.state, JobState::Cancelled);
        let held = jobs.held("w").await.unwrap();
        assert_eq!(held.len(), 1);
        assert!(!held.contains(&taken.held));
        assert!(!jobs.end(&taken.held, &success()).await.unwrap(), "the answer is not wanted");
        assert!(!jobs.again(&taken.held, 0, true).await.unwrap());
        let found = jobs.find(&bob, &running.id).await.unwrap().unwrap();
        assert_eq!((found.job.state, found.result), (JobState::Cancelled, None));
        // Again, and one that is over otherwise: it stays as it is.
        let again = jobs.cancel(&bob, &running.id).await.unwrap().unwrap();
        assert_eq!(again, cancelled);
        let held = jobs.held("w").await.unwrap().pop().unwrap();
        assert!(jobs.end(&held, &success()).await.unwrap());
        let over = jobs.cancel(&alice(), &waiting.id).await.unwrap().unwrap();
        assert_eq!(over.state, JobState::Succeeded);
    }
}

#[tokio::test]
async fn jobs_expire_and_are_deleted_when_their_time_has_come() {
    for place in places() {
        let jobs = Jobs::new(place.store.clone());
        let short = NewJob { expires_in_ms: 0, ..new_job("key_alice") };
        let late = submit(&jobs, short).await;
        let other = submit(&jobs, new_job("key_alice")).await;
        assert_eq!(jobs.expire().await.unwrap(), 1);
        assert_eq!(jobs.expire().await.unwrap(), 0);
        let found = jobs.find(&alice(), &late.id).await.unwrap().unwrap();
        assert_eq!(found.job.state, JobState::Expired);
        assert_eq!(found.job.error.unwrap().code, "deadline_passed");
        assert_eq!(take(&jobs, "w").await.len(), 1, "the other one");

        assert_eq!(jobs.sweep(60_000).await.unwrap(), 0);
        execute(&place.store, "UPDATE jobs SET ended_at_ms = ended_at_ms - 60001").await;
        assert_eq!(jobs.sweep(60_000).await.unwrap(), 1);
        assert!(jobs.find(&alice(), &late.id).await.unwrap().is_none());
        assert!(jobs.find(&alice(), &other.id).await.unwrap().is_some());
    }
}
