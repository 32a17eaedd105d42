//! The worker: takes jobs out of the queue, has them run, and writes down what they came to.
//!
//! Every node has one, with a name that no other process has. It takes as many jobs as it has
//! places, says every third of a lease that it is alive, and looks every second for jobs that were
//! cancelled elsewhere or taken from it. Between taking a job and ending it no connection to the
//! store is held. An answer that cannot be written down because the store is away is kept until it
//! can: it has been paid for.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::tasks::Tasks;
use crate::clock::Instant;
use crate::ids::CallerId;
use crate::jobs::{End, Held, JobError, JobResult, JobSettings, Jobs, Taken};
use crate::policy::job::{JobState, Next, Setback};
use crate::policy::turns::Turns;
use crate::store::StoreError;
use crate::telemetry::Metrics;

#[cfg(test)]
mod tests;

/// What runs a job, once.
pub trait Runner: Send + Sync + 'static {
    /// The settings as they are now.
    fn settings(&self) -> JobSettings;

    /// Runs a job within `left`. Dropping the future gives it up, and cancels it upstream.
    fn run(&self, taken: &Taken, body: Bytes, left: Duration) -> impl Future<Output = Ran> + Send;
}

/// What one attempt at a job came to.
#[derive(Debug)]
pub enum Ran {
    /// An answer.
    Answered(JobResult),
    /// None.
    Failed {
        /// Whether another attempt may help.
        setback: Setback,
        /// The reply that the caller has if none does, where there is one.
        result: Option<JobResult>,
        /// The same for programs.
        error: JobError,
    },
}

/// Takes jobs and has them run.
#[derive(Debug)]
pub struct Worker<R> {
    shared: Arc<Shared<R>>,
    /// How long a job is this worker's without a sign of life.
    lease: Duration,
    /// Jobs at a time.
    places: u32,
}

#[derive(Debug)]
struct Shared<R> {
    jobs: Jobs,
    runner: R,
    metrics: Arc<Metrics>,
    /// No other process has this name.
    name: String,
    running: Mutex<HashMap<Held, AbortHandle>>,
    /// A job has left its place.
    ended: Notify,
    /// Jobs that made our own code panic, and how often they had failed before.
    fallen: Mutex<Vec<(Held, u32)>>,
    /// Callers one of whose jobs was refused before a provider was asked, and until when the others
    /// are not tried either.
    resting: Mutex<HashMap<CallerId, Instant>>,
}

/// A job's place among those that run. Whatever ends its task, the place is free again.
struct Place<R: Runner> {
    shared: Arc<Shared<R>>,
    held: Held,
    failures: u32,
}

/// How often jobs of other nodes are looked for, and cancelled ones.
const POLL: Duration = Duration::from_secs(1);
/// The longest that all jobs of a caller rest because one was refused.
const LONGEST_REST: Duration = Duration::from_secs(5);
/// The first and the longest pause after the store failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

// === impl Worker ===

impl<R: Runner> Worker<R> {
    /// A worker that does nothing yet.
    pub fn new(jobs: Jobs, runner: R, metrics: Arc<Metrics>) -> Self {
        let settings = runner.settings();
        let shared = Arc::new(Shared {
            jobs,
            runner,
            metrics,
            name: format!("{:032x}", rand::random::<u128>()),
            running: Mutex::default(),
            ended: Notify::new(),
            fallen: Mutex::default(),
            resting: Mutex::default(),
        });
        Self { shared, lease: settings.lease.0, places: settings.workers }
    }

    /// Works until `closing` says to stop; then jobs in hand may end within `drain`, and the rest
    /// is given back.
    pub async fn run(self, mut closing: watch::Receiver<bool>, drain: Duration) {
        if self.places == 0 {
            return;
        }
        let tasks = Tasks::new();
        tasks.spawn(Arc::clone(&self.shared).stay_alive(self.lease));
        tasks.spawn(Arc::clone(&self.shared).watch_for_loss());
        let work = self.take_and_start(&tasks);
        tokio::select! {
            never = work => match never {},
            // An error means that whoever would say so is gone.
            _ = closing.wait_for(|closing| *closing) => {}
        }
        let all_ended = async {
            while !self.shared.running.lock().is_empty() {
                self.shared.ended.notified().await;
            }
        };
        let _ = tokio::time::timeout(drain, all_ended).await;
        self.shared.give_back().await;
    }

    async fn take_and_start(&self, tasks: &Tasks) -> std::convert::Infallible {
        let shared = &self.shared;
        let lease_ms = millis(self.lease);
        let mut turns = Turns::default();
        let mut failing = false;
        loop {
            let in_hand = u32::try_from(shared.running.lock().len()).unwrap_or(u32::MAX);
            let free = self.places.saturating_sub(in_hand);
            let mut took = 0;
            if free > 0 {
                let cap = shared.runner.settings().per_caller;
                turns.rest(shared.resting());
                let taken = shared.jobs.take(&mut turns, free, cap, &shared.name, lease_ms).await;
                note_failure(&mut failing, "take jobs", &taken);
                for taken in taken.unwrap_or_default() {
                    took += 1;
                    shared.start(tasks, taken);
                }
            }
            if took > 0 && took < free {
                // Who could not fill its share leaves room for others.
                continue;
            }
            let has_room = took < free;
            tokio::select! {
                () = shared.jobs.job_waits(), if has_room => {}
                () = shared.ended.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}

// === impl Shared ===

impl<R: Runner> Shared<R> {
    fn start(self: &Arc<Self>, tasks: &Tasks, taken: Taken) {
        self.metrics.jobs.started(taken.losses > 0);
        let held = taken.held.clone();
        // Held until the task is known, so that it cannot end before.
        let mut running = self.running.lock();
        let task = tasks.spawn(Arc::clone(self).work(taken));
        running.insert(held, task);
    }

    /// Has a job run and writes down what it came to.
    async fn work(self: Arc<Self>, taken: Taken) {
        let (shared, held) = (Arc::clone(&self), taken.held.clone());
        let _place = Place { shared, held, failures: taken.job.failures };
        let started = Instant::now();
        if let Some(body) = until_stored("read a job", || self.jobs.request(&taken.job.id)).await {
            let left = Duration::from_millis(taken.left_ms).saturating_sub(started.elapsed());
            let ran = self.runner.run(&taken, body, left).await;
            let left = Duration::from_millis(taken.left_ms).saturating_sub(started.elapsed());
            self.note_refusal(&taken.job.caller, &ran);
            self.settle(&taken.held, taken.job.failures, ran, left).await;
        }
    }

    /// Lets a caller rest whose job was refused without a provider being asked: most likely the
    /// next one would be, too, and each try is a row in the journal.
    fn note_refusal(&self, caller: &CallerId, ran: &Ran) {
        if let Ran::Failed { setback, .. } = ran
            && setback.passes
            && !setback.was_tried
        {
            let rest = setback.retry_after.unwrap_or(POLL).min(LONGEST_REST);
            self.resting.lock().insert(caller.clone(), Instant::now() + rest);
        }
    }

    /// Who rests now.
    fn resting(&self) -> HashSet<String> {
        let mut resting = self.resting.lock();
        let now = Instant::now();
        resting.retain(|_, until| *until > now);
        resting.keys().map(ToString::to_string).collect()
    }

    async fn settle(&self, held: &Held, failures: u32, ran: Ran, left: Duration) {
        let end = match ran {
            Ran::Answered(result) => {
                End { state: JobState::Succeeded, result: Some(result), error: None }
            }
            Ran::Failed { setback, result, error } => {
                let rule = self.runner.settings().retry_rule();
                match rule.after(setback, failures, left, rand::random()) {
                    Next::Again { after, counts } => {
                        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                        let again = || self.jobs.again(held, after, counts);
                        until_stored("put a job back", again).await;
                        return;
                    }
                    Next::Over(JobState::Expired) => End::expired(),
                    Next::Over(state) => End { state, result, error: Some(error) },
                }
            }
        };
        if until_stored("end a job", || self.jobs.end(held, &end)).await {
            self.metrics.jobs.ended(end.state.as_str());
        }
    }

    /// Renews the leases, three times in each.
    async fn stay_alive(self: Arc<Self>, lease: Duration) {
        let mut failing = false;
        loop {
            let pause = if failing { POLL.min(lease / 3) } else { lease / 3 };
            tokio::time::sleep(pause).await;
            self.settle_fallen().await;
            let before = self.in_hand();
            if before.is_empty() {
                continue;
            }
            let renewed = self.jobs.renew(&before, millis(lease)).await;
            note_failure(&mut failing, "renew the leases of jobs", &renewed);
            if let Ok(held) = renewed {
                self.let_go(&before, &held);
            }
        }
    }

    /// Ends or repeats jobs that made our own code panic.
    async fn settle_fallen(&self) {
        let fallen = std::mem::take(&mut *self.fallen.lock());
        for (held, failures) in fallen {
            let setback = Setback { passes: true, was_tried: true, retry_after: None };
            let message = "a fault of the gateway".to_owned();
            let error = JobError { code: "internal_error".to_owned(), message };
            let ran = Ran::Failed { setback, result: None, error };
            self.settle(&held, failures, ran, Duration::MAX).await;
        }
    }

    /// Looks for jobs that are this worker's no more.
    async fn watch_for_loss(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.jobs.cancelled() => {}
                () = tokio::time::sleep(POLL) => {}
            }
            // What is taken after this line is not in question.
            let before = self.in_hand();
            if before.is_empty() {
                continue;
            }
            // Where the store is away, renewing says so.
            if let Ok(held) = self.jobs.held(&self.name).await {
                self.let_go(&before, &held);
            }
        }
    }

    fn in_hand(&self) -> Vec<Held> {
        self.running.lock().keys().cloned().collect()
    }

    /// Gives up the jobs of `before` that are not `held`: their callers are gone or others have
    /// them.
    fn let_go(&self, before: &[Held], held: &[Held]) {
        for lost in before.iter().filter(|job| !held.contains(job)) {
            if let Some(task) = self.running.lock().remove(lost) {
                task.abort();
                self.ended.notify_one();
            }
        }
    }

    /// Stops what still runs, and lets others have it at once.
    async fn give_back(&self) {
        let left: Vec<_> = self.running.lock().drain().collect();
        left.iter().for_each(|(_, task)| task.abort());
        if let Err(error) = self.jobs.give_back(&self.name).await {
            // Their leases run out.
            tracing::warn!(error = %error.chain(), "cannot give jobs back");
        }
    }
}

// === impl Place ===

impl<R: Runner> Drop for Place<R> {
    fn drop(&mut self) {
        self.shared.running.lock().remove(&self.held);
        if std::thread::panicking() {
            self.shared.fallen.lock().push((self.held.clone(), self.failures));
        }
        self.shared.ended.notify_one();
    }
}

/// Looks after the queues for all nodes: takes over what vanished nodes had, ends what is past its
/// deadline, deletes what is old.
pub async fn upkeep(jobs: Jobs, settings: impl Fn() -> JobSettings) {
    let lease = settings().lease.0;
    let every = (lease / 3).min(Duration::from_secs(5));
    let mut failing = false;
    let mut swept = Instant::now();
    loop {
        // After the store was away, those who are alive may say so first.
        tokio::time::sleep(if failing { lease } else { every }).await;
        let done = async {
            let lost = jobs.take_over().await?;
            if lost.put_back + lost.failed > 0 {
                let (put_back, failed) = (lost.put_back, lost.failed);
                tracing::warn!(put_back, failed, "took over jobs of nodes that vanished");
            }
            jobs.take_over_webhooks().await?;
            while jobs.expire().await? > 0 {}
            if swept.elapsed() >= SWEEP_EVERY {
                let retention = settings().retention.0;
                while jobs.sweep(u64::try_from(retention.as_millis()).unwrap_or(u64::MAX)).await?
                    > 0
                {}
                swept = Instant::now();
            }
            Ok::<(), StoreError>(())
        };
        let done = done.await;
        note_failure(&mut failing, "look after jobs", &done);
    }
}

/// How often old jobs are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Does something with the store until it can be done.
pub(super) async fn until_stored<T, F>(what: &'static str, operation: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut failing = false;
    let mut pause = RETRY.0;
    loop {
        let done = operation().await;
        note_failure(&mut failing, what, &done);
        if let Ok(done) = done {
            return done;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

/// Says once that the store fails, not with every try.
pub(super) fn note_failure<T>(
    failing: &mut bool,
    what: &'static str,
    result: &Result<T, StoreError>,
) {
    match result {
        Ok(_) => *failing = false,
        Err(error) => {
            if !*failing {
                tracing::error!(error = %error.chain(), "cannot {what} for now");
            }
            *failing = true;
        }
    }
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}
