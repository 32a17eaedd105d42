//! What callers do with jobs that they have handed in: look at them, give them up.

use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

use super::queue::now_ms;
use super::{Delivery, Job, JobResult, Jobs, outbox};
use crate::ids::CallerId;
use crate::policy::job::JobState;
use crate::store::{self, StoreError};

/// A job as its caller sees it.
#[derive(Debug, Clone)]
pub struct Found {
    /// The job.
    pub job: Job,
    /// Its result, once there is one.
    pub result: Option<JobResult>,
    /// The webhook that tells of it, once it is over.
    pub delivery: Option<Delivery>,
}

// === impl Jobs ===

impl Jobs {
    /// One job of a caller, with its result. `None` where it has none of that id, also where
    /// somebody else has.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find(&self, caller: &CallerId, id: &str) -> Result<Option<Found>, StoreError> {
        let failed = StoreError::query("read a job");
        let mut connection = self.shared.store.reader().await?;
        let row = sqlx::query("SELECT * FROM jobs WHERE id = $1 AND lane = $2")
            .bind(id)
            .bind(caller.as_str())
            .fetch_optional(&mut *connection)
            .await
            .map_err(&failed)?;
        let Some(job) = row.map(|row| Job::read(&row)).transpose().map_err(&failed)? else {
            return Ok(None);
        };
        let result = sqlx::query("SELECT status, headers, body FROM job_results WHERE job = $1")
            .bind(id)
            .fetch_optional(&mut *connection)
            .await
            .and_then(|row| row.map(|row| JobResult::read(&row)).transpose())
            .map_err(&failed)?;
        let delivery = match job.receiver {
            Some(_) => outbox::delivery_of(&mut connection, id).await.map_err(&failed)?,
            None => None,
        };
        Ok(Some(Found { job, result, delivery }))
    }

    /// Jobs of a caller, newest first: those after the job `before`, at most `limit`, in any state
    /// or in one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list(
        &self,
        caller: &CallerId,
        state: Option<JobState>,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Job>, StoreError> {
        let failed = StoreError::query("list jobs");
        let mut connection = self.shared.store.reader().await?;
        // Ids are of characters below the tilde.
        let rows = sqlx::query(
            "SELECT * FROM jobs WHERE lane = $1 AND id < $2 AND ($3 = '' OR state = $3)
             ORDER BY id DESC LIMIT $4",
        )
        .bind(caller.as_str())
        .bind(before.unwrap_or("~"))
        .bind(state.map_or("", JobState::as_str))
        .bind(i64::from(limit))
        .fetch_all(&mut *connection)
        .await
        .map_err(&failed)?;
        rows.iter().map(Job::read).collect::<Result<_, _>>().map_err(failed)
    }

    /// Gives a job up: it ends now, whoever works on it. One that is over stays as it is.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn cancel(&self, caller: &CallerId, id: &str) -> Result<Option<Job>, StoreError> {
        let failed = StoreError::query("cancel a job");
        let shared = &self.shared;
        let mut connection = shared.store.writer().await?;
        let mut transaction =
            store::begin(&mut connection, shared.store.kind()).await.map_err(&failed)?;
        // The token rises, so that whatever its worker still writes is not wanted.
        let cancel = format!(
            "UPDATE jobs SET state = 'cancelled', token = token + 1, worker = NULL,
                 lease_until_ms = NULL, ended_at_ms = {}
             WHERE id = $1 AND lane = $2 AND state IN ('queued', 'running') RETURNING *",
            now_ms(shared.store.kind())
        );
        let row: Option<AnyRow> = sqlx::query(AssertSqlSafe(cancel))
            .bind(id)
            .bind(caller.as_str())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(&failed)?;
        let Some(row) = row else {
            drop(transaction);
            drop(connection);
            return Ok(self.find(caller, id).await?.map(|found| found.job));
        };
        let job = Job::read(&row).map_err(&failed)?;
        self.close(&mut transaction, &job, None).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        shared.cancelled.notify_one();
        shared.webhook_waits.notify_one();
        Ok(Some(job))
    }
}
