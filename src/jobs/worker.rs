//! What workers do with jobs: take them, hold them, end them, and look after those of others.

use bytes::Bytes;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

pub(crate) use super::queue::Fence;
use super::queue::{Lease, now_ms};
use super::{Job, JobError, JobResult, Jobs, Particulars, outbox};
use crate::policy::job::JobState;
use crate::policy::turns::Turns;
use crate::store::{self, StoreError};

/// A job that was taken, and the right to end it.
#[derive(Debug)]
pub struct Taken {
    /// The job.
    pub job: Job,
    /// What headers said.
    pub particulars: Particulars,
    /// The right to write to it.
    pub held: Held,
    /// How often a worker vanished with it.
    pub losses: u32,
    /// Milliseconds until its deadline when it was taken, by the database's clock.
    pub left_ms: u64,
}

/// The right to write to a job, for as long as nobody else has taken it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Held(pub(crate) Fence);

/// How a job ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Where it ends; a final state.
    pub state: JobState,
    /// The reply, where there is one.
    pub result: Option<JobResult>,
    /// Why there is no answer.
    pub error: Option<JobError>,
}

/// What became of jobs whose worker vanished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// They are queued again.
    pub put_back: u32,
    /// They failed: too many of their workers vanished.
    pub failed: u32,
}

/// So many workers may vanish with a job before it is taken for the reason.
const MAX_LOSSES: u32 = 10;
/// Rows that one statement of the sweeper deletes.
const SWEEP: i64 = 500;

// === impl Jobs ===

impl Jobs {
    /// Takes up to `free` jobs, at most `cap` of one caller at a time.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where nothing was taken. Where the store fails later, what was taken is what
    /// is returned.
    pub async fn take(
        &self,
        turns: &mut Turns,
        free: u32,
        cap: u32,
        worker: &str,
        lease_ms: i64,
    ) -> Result<Vec<Taken>, StoreError> {
        let failed = StoreError::query("take jobs");
        let queue = self.shared.jobs;
        let Some((heads, running)) = self.shared.waiting(queue, turns).await? else {
            return Ok(Vec::new());
        };
        let mut connection = self.shared.store.writer().await?;
        let lease = Lease { worker, for_ms: lease_ms };
        let mut taken = Vec::new();
        for share in turns.allot(heads, &running, cap, free) {
            let rows = match queue.take(&mut connection, &share, cap, lease).await {
                Ok(rows) => rows,
                // Nobody would work on those until their leases run out.
                Err(_) if !taken.is_empty() => break,
                Err(error) => return Err(failed(error)),
            };
            for row in &rows {
                taken.push(Taken::read(row, lease_ms).map_err(&failed)?);
            }
        }
        Ok(taken)
    }

    /// The body of a job's request.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; `None` where it is gone, because the job is over.
    pub async fn request(&self, id: &str) -> Result<Option<Bytes>, StoreError> {
        let failed = StoreError::query("read the request of a job");
        let mut connection = self.shared.store.reader().await?;
        let body: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT body FROM job_requests WHERE job = $1")
                .bind(id)
                .fetch_optional(&mut *connection)
                .await
                .map_err(failed)?;
        Ok(body.map(Bytes::from))
    }

    /// Ends a job. `false` where that is not wanted any more: it was cancelled, or somebody else
    /// has it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the job is then as it was, or has ended.
    pub async fn end(&self, held: &Held, end: &End) -> Result<bool, StoreError> {
        let failed = StoreError::query("end a job");
        let shared = &self.shared;
        let mut connection = shared.store.writer().await?;
        let mut transaction =
            store::begin(&mut connection, shared.store.kind()).await.map_err(&failed)?;
        let ended = self.end_in(&mut transaction, held, end).await.map_err(&failed)?;
        if ended {
            transaction.commit().await.map_err(&failed)?;
            shared.webhook_waits.notify_one();
        }
        Ok(ended)
    }

    async fn end_in(
        &self,
        connection: &mut AnyConnection,
        held: &Held,
        end: &End,
    ) -> Result<bool, sqlx::Error> {
        let set = format!(
            "state = $3, ended_at_ms = {}, error_code = $4, error_message = $5",
            now_ms(self.shared.store.kind())
        );
        let error = end.error.as_ref();
        let row = sqlx::query(AssertSqlSafe(self.shared.jobs.ending(&set)))
            .bind(&held.0.id)
            .bind(held.0.token)
            .bind(end.state.as_str())
            .bind(error.map(|error| error.code.as_str()))
            .bind(error.map(|error| error.message.as_str()))
            .fetch_optional(&mut *connection)
            .await?;
        let Some(row) = row else { return Ok(false) };
        self.close(connection, &Job::read(&row)?, end.result.as_ref()).await?;
        Ok(true)
    }

    /// Writes what belongs to a job's end: its result, and the webhook that tells of it.
    pub(super) async fn close(
        &self,
        connection: &mut AnyConnection,
        job: &Job,
        result: Option<&JobResult>,
    ) -> Result<(), sqlx::Error> {
        if let Some(result) = result {
            let headers = serde_json::to_string(&result.headers).unwrap_or_default();
            sqlx::query(
                "INSERT INTO job_results (job, status, headers, body) VALUES ($1, $2, $3, $4)",
            )
            .bind(&job.id)
            .bind(i64::from(result.status))
            .bind(headers)
            .bind(&*result.body)
            .execute(&mut *connection)
            .await?;
        }
        sqlx::query("DELETE FROM job_requests WHERE job = $1")
            .bind(&job.id)
            .execute(&mut *connection)
            .await?;
        match &job.receiver {
            Some(receiver) => {
                let status = result.map(|result| result.status);
                outbox::tell(connection, self.shared.store.kind(), job, receiver, status).await
            }
            None => Ok(()),
        }
    }

    /// Puts a job back, to be taken again after a pause. `false` as for [`Jobs::end`], and where it
    /// waits already: asked again for want of a reply, it counts one failure, not two.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn again(
        &self,
        held: &Held,
        after_ms: u64,
        counts: bool,
    ) -> Result<bool, StoreError> {
        let failed = StoreError::query("put a job back");
        let set = format!(
            "state = 'queued', run_after_ms = {} + $3, failures = failures + $4",
            now_ms(self.shared.store.kind())
        );
        let mut connection = self.shared.store.writer().await?;
        let row = sqlx::query(AssertSqlSafe(self.shared.jobs.postponing(&set)))
            .bind(&held.0.id)
            .bind(held.0.token)
            .bind(i64::try_from(after_ms).unwrap_or(i64::MAX / 2))
            .bind(i64::from(counts))
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed)?;
        Ok(row.is_some())
    }

    /// Renews the leases of these jobs; those that are still held are returned.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn renew(&self, jobs: &[Held], lease_ms: i64) -> Result<Vec<Held>, StoreError> {
        let mut connection = self.shared.store.writer().await?;
        let fences: Vec<&Fence> = jobs.iter().map(|held| &held.0).collect();
        let held = self.shared.jobs.renew(&mut connection, &fences, lease_ms).await;
        let held = held.map_err(StoreError::query("renew the leases of jobs"))?;
        Ok(held.into_iter().map(Held).collect())
    }

    /// Puts everything back that a worker holds, for others to take at once.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn give_back(&self, worker: &str) -> Result<u64, StoreError> {
        let mut connection = self.shared.store.writer().await?;
        let given = self.shared.jobs.give_back(&mut connection, worker).await;
        given.map_err(StoreError::query("give jobs back"))
    }

    /// The jobs that a worker holds. What was cancelled or taken over is not among them.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn held(&self, worker: &str) -> Result<Vec<Held>, StoreError> {
        let mut connection = self.shared.store.reader().await?;
        let held = self.shared.jobs.held(&mut connection, worker).await;
        let held = held.map_err(StoreError::query("read the leases of jobs"))?;
        Ok(held.into_iter().map(Held).collect())
    }

    /// Takes jobs from workers that have not renewed their leases.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn take_over(&self) -> Result<Lost, StoreError> {
        let failed = StoreError::query("take over jobs");
        let (shared, mut done) = (&self.shared, Lost::default());
        let mut connection = shared.store.writer().await?;
        for (fence, losses) in shared.jobs.lost(&mut connection).await.map_err(&failed)? {
            if losses + 1 < MAX_LOSSES {
                let put = shared.jobs.put_back(&mut connection, &fence).await.map_err(&failed)?;
                done.put_back += u32::from(put);
                continue;
            }
            let message = format!("{MAX_LOSSES} nodes vanished while they worked on the job");
            let error = JobError { code: "worker_lost".to_owned(), message };
            let end = End { state: JobState::Failed, result: None, error: Some(error) };
            let mut transaction =
                store::begin(&mut connection, shared.store.kind()).await.map_err(&failed)?;
            if self.end_in(&mut transaction, &Held(fence), &end).await.map_err(&failed)? {
                transaction.commit().await.map_err(&failed)?;
                done.failed += 1;
            }
        }
        if done.put_back > 0 {
            shared.job_waits.notify_one();
        }
        Ok(done)
    }

    /// Ends jobs that were not taken before their deadlines. How many: at most 100 at a time.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn expire(&self) -> Result<u32, StoreError> {
        let failed = StoreError::query("expire jobs");
        let shared = &self.shared;
        let mut connection = shared.store.writer().await?;
        let sql = format!(
            "SELECT id, token FROM jobs WHERE state = 'queued' AND deadline_ms <= {} LIMIT 100",
            now_ms(shared.store.kind())
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *connection).await;
        let rows = rows.map_err(&failed)?;
        let mut expired = 0;
        for row in &rows {
            let held = Held(Fence::read(row).map_err(&failed)?);
            let mut transaction =
                store::begin(&mut connection, shared.store.kind()).await.map_err(&failed)?;
            if self.end_in(&mut transaction, &held, &End::expired()).await.map_err(&failed)? {
                transaction.commit().await.map_err(&failed)?;
                expired += 1;
            }
        }
        if expired > 0 {
            shared.webhook_waits.notify_one();
        }
        Ok(expired)
    }

    /// Deletes jobs that have been over for longer than `retention_ms`, but for those whose webhook
    /// is still to be sent. How many.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn sweep(&self, retention_ms: u64) -> Result<u64, StoreError> {
        let failed = StoreError::query("delete old jobs");
        let shared = &self.shared;
        let now = now_ms(shared.store.kind());
        let old = format!(
            "SELECT id FROM jobs WHERE ended_at_ms < {now} - $1 AND NOT EXISTS (
                 SELECT 1 FROM webhook_deliveries d
                 WHERE d.job = jobs.id AND d.state IN ('queued', 'running'))
             LIMIT {SWEEP}"
        );
        let retention = i64::try_from(retention_ms).unwrap_or(i64::MAX / 2);
        let mut connection = shared.store.writer().await?;
        let mut transaction =
            store::begin(&mut connection, shared.store.kind()).await.map_err(&failed)?;
        let rows = sqlx::query(AssertSqlSafe(old)).bind(retention);
        let rows = rows.fetch_all(&mut *transaction).await.map_err(&failed)?;
        for row in &rows {
            let id: &str = row.try_get("id").map_err(&failed)?;
            for delete in [
                "DELETE FROM webhook_deliveries WHERE job = $1",
                "DELETE FROM job_results WHERE job = $1",
                "DELETE FROM jobs WHERE id = $1",
            ] {
                let delete = sqlx::query(delete).bind(id);
                delete.execute(&mut *transaction).await.map_err(&failed)?;
            }
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(rows.len() as u64)
    }
}

// === impl Taken ===

impl Taken {
    fn read(row: &AnyRow, lease_ms: i64) -> Result<Self, sqlx::Error> {
        let particulars: &str = row.try_get("wishes")?;
        let losses: i64 = row.try_get("losses")?;
        let (deadline, lease_until): (i64, Option<i64>) =
            (row.try_get("deadline_ms")?, row.try_get("lease_until_ms")?);
        let now = lease_until.unwrap_or_default().saturating_sub(lease_ms);
        Ok(Self {
            job: Job::read(row)?,
            particulars: serde_json::from_str(particulars).unwrap_or_default(),
            held: Held(Fence::read(row)?),
            losses: u32::try_from(losses).unwrap_or_default(),
            left_ms: deadline.saturating_sub(now).max(0).unsigned_abs(),
        })
    }
}

// === impl End ===

impl End {
    /// Its deadline passed first.
    pub fn expired() -> Self {
        let message = "the deadline of the job passed before it had an answer".to_owned();
        let error = JobError { code: "deadline_passed".to_owned(), message };
        Self { state: JobState::Expired, result: None, error: Some(error) }
    }
}
