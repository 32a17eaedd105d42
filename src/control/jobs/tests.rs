//! Tests of the worker, with a runner that does as it is told.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::ids::CallerId;
use crate::jobs::{Job, NewJob, Particulars};
use crate::store::Store;
use crate::units::{HumanDuration, Priority};

/// Answers at once, fails, or never ends, as the job's body says.
#[derive(Debug, Default)]
struct Obedient {
    begun: AtomicU32,
    dropped: Arc<AtomicU32>,
    settings: JobSettings,
}

/// Counts when it is dropped.
struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn failed(setback: Setback) -> Ran {
    let error = JobError { code: "upstream_failed".to_owned(), message: "no".to_owned() };
    let result = JobResult { status: 502, headers: Vec::new(), body: Bytes::from_static(b"{}") };
    Ran::Failed { setback, result: Some(result), error }
}

impl Runner for Arc<Obedient> {
    fn settings(&self) -> JobSettings {
        self.settings.clone()
    }

    async fn run(&self, _taken: &Taken, body: Bytes, _left: Duration) -> Ran {
        let times = self.begun.fetch_add(1, Ordering::Relaxed);
        let setback = Setback { passes: true, was_tried: true, retry_after: None };
        match &*body {
            b"fail" => failed(setback),
            b"hopeless" => failed(Setback { passes: false, ..setback }),
            b"refuse" => failed(Setback {
                was_tried: false,
                retry_after: Some(Duration::from_secs(20)),
                ..setback
            }),
            b"refuse once" if times == 0 => {
                failed(Setback { was_tried: false, retry_after: None, ..setback })
            }
            b"panic" => panic!("as it was told"),
            b"never" => {
                let _counted = Counted(Arc::clone(&self.dropped));
                std::future::pending().await
            }
            _ => Ran::Answered(JobResult { status: 200, headers: Vec::new(), body }),
        }
    }
}

/// A store in a file, and a worker of it that runs until this is dropped.
struct Bench {
    jobs: Jobs,
    runner: Arc<Obedient>,
    close: watch::Sender<bool>,
    tasks: Tasks,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/tidegate.db", folder.path().display());
        let jobs = Jobs::new(Store::new(url.parse().unwrap()));
        let settings = JobSettings {
            retry_pause: HumanDuration::millis(1),
            lease: HumanDuration::millis(300),
            ..JobSettings::default()
        };
        let runner = Arc::new(Obedient { settings, ..Obedient::default() });
        let (close, closing) = watch::channel(false);
        let worker = Worker::new(jobs.clone(), Arc::clone(&runner), Arc::new(Metrics::new()));
        let tasks = Tasks::new();
        tasks.spawn(worker.run(closing, Duration::from_millis(50)));
        Self { jobs, runner, close, tasks, _folder: folder }
    }

    async fn submit(&self, body: &'static str) -> Job {
        let new = NewJob {
            caller: CallerId::anonymous(),
            endpoint: "/v1/chat/completions",
            priority: Priority::LOWEST,
            expires_in_ms: 60_000,
            particulars: Particulars::default(),
            metadata: "{}".to_owned(),
            body: Bytes::from_static(body.as_bytes()),
            webhook: None,
        };
        self.jobs.submit(new, &JobSettings::default(), 1).await.unwrap().job
    }

    async fn job(&self, id: &str) -> (Job, Option<JobResult>) {
        let found = self.jobs.find(&CallerId::anonymous(), id).await.unwrap().unwrap();
        (found.job, found.result)
    }

    /// The job once it is as wanted.
    async fn until(&self, id: &str, is_so: impl Fn(&Job) -> bool) -> (Job, Option<JobResult>) {
        let wait = async {
            loop {
                let (job, result) = self.job(id).await;
                if is_so(&job) {
                    return (job, result);
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it becomes so")
    }
}

#[tokio::test]
async fn jobs_are_run_as_they_come_and_well_within_a_second() {
    let bench = Bench::new();
    let first = bench.submit("one").await;
    bench.until(&first.id, |job| job.state == JobState::Succeeded).await;
    // Now the worker sleeps until it is woken, or a second has passed.
    let started = Instant::now();
    for _ in 0..5 {
        let job = bench.submit("two").await;
        let (_, result) = bench.until(&job.id, |job| job.state == JobState::Succeeded).await;
        assert_eq!(&*result.unwrap().body, b"two");
    }
    assert!(started.elapsed() < Duration::from_millis(2_500), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_job_is_tried_three_times_and_then_has_its_last_reply() {
    let bench = Bench::new();
    let job = bench.submit("fail").await;
    let (job, result) = bench.until(&job.id, |job| job.state.is_final()).await;
    assert_eq!((job.state, job.attempts), (JobState::Failed, 3));
    assert_eq!(job.error.unwrap().code, "upstream_failed");
    assert_eq!(result.unwrap().status, 502);
    assert_eq!(bench.runner.begun.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_hopeless_job_is_tried_once_and_one_that_was_refused_is_put_off() {
    let bench = Bench::new();
    let put_off = bench.submit("refuse once").await;
    let (job, _) = bench.until(&put_off.id, |job| job.state.is_final()).await;
    assert_eq!((job.state, job.attempts, job.failures), (JobState::Succeeded, 2, 0));
    let hopeless = bench.submit("hopeless").await;
    let (job, _) = bench.until(&hopeless.id, |job| job.state.is_final()).await;
    assert_eq!((job.state, job.attempts), (JobState::Failed, 1));
}

#[tokio::test]
async fn a_caller_whose_job_is_refused_does_not_have_the_others_tried_at_once() {
    let bench = Bench::new();
    let first = bench.submit("refuse").await;
    bench.until(&first.id, |job| job.state == JobState::Queued && job.attempts == 1).await;
    let second = bench.submit("two").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(bench.job(&second.id).await.0.attempts, 0, "it was woken and has looked twice");
    bench.until(&second.id, |job| job.state == JobState::Succeeded).await;
}

#[tokio::test]
async fn a_job_that_is_cancelled_while_it_runs_is_dropped() {
    let bench = Bench::new();
    let job = bench.submit("never").await;
    bench.until(&job.id, |job| job.state == JobState::Running).await;
    while bench.runner.begun.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    let cancelled = bench.jobs.cancel(&CallerId::anonymous(), &job.id).await.unwrap().unwrap();
    assert_eq!(cancelled.state, JobState::Cancelled);
    let dropped = async {
        while bench.runner.dropped.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), dropped).await.expect("it is dropped");
    assert_eq!(bench.job(&job.id).await.0, cancelled);
}

#[tokio::test]
async fn a_job_that_makes_us_panic_gives_its_place_back_and_fails_in_the_end() {
    let bench = Bench::new();
    let job = bench.submit("panic").await;
    let (job, result) = bench.until(&job.id, |job| job.state.is_final()).await;
    assert_eq!((job.state, job.attempts, result), (JobState::Failed, 3, None));
    assert_eq!(job.error.unwrap().code, "internal_error");
}

#[tokio::test]
async fn a_worker_that_stops_gives_back_what_it_cannot_finish() {
    let bench = Bench::new();
    let job = bench.submit("never").await;
    bench.until(&job.id, |job| job.state == JobState::Running).await;
    bench.close.send(true).unwrap();
    bench.tasks.wait().await;
    let (job, _) = bench.job(&job.id).await;
    assert_eq!((job.state, job.failures), (JobState::Queued, 0));
    assert_eq!(bench.runner.dropped.load(Ordering::Relaxed), 1);
}
