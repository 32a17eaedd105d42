//! What callers do with jobs: hand them in, look at them, give them up.

use bytes::Bytes;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::queue::now_ms;
use super::{Delivery, Job, JobResult, Jobs, Particulars, new_id, outbox};
use crate::ids::CallerId;
use crate::policy::job::JobState;
use crate::store::{self, StoreError};
use crate::units::Priority;
use crate::webhook::receiver::Receiver;
use crate::webhook::signature::SigningSecret;

/// A request that is to be answered later.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Whose it is.
    pub caller: CallerId,
    /// The path of the endpoint that it is a request to.
    pub endpoint: &'static str,
    /// How much it matters.
    pub priority: Priority,
    /// Milliseconds until it expires.
    pub expires_in_ms: u64,
    /// What headers said.
    pub particulars: Particulars,
    /// What its caller wants kept with it: a JSON object.
    pub metadata: String,
    /// The request's body.
    pub body: Bytes,
    /// Who is told of its end.
    pub webhook: Option<NewWebhook>,
}

/// Where a caller wants to hear of a job.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// The URL.
    pub receiver: Receiver,
    /// What to sign with from now on. Absent: what was used before, or a new one.
    pub secret: Option<SigningSecret>,
}

/// A job that was accepted.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// The job.
    pub job: Job,
    /// The secret that was made for its webhook's receiver, to be shown this once.
    pub secret: Option<SigningSecret>,
}

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

/// Why a job was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The caller has as many waiting as it may.
    #[error("{limit} jobs are waiting already")]
    Full {
        /// That many.
        limit: u32,
    },
    /// The caller has as many receivers as it may.
    #[error("a caller can have webhooks sent to {limit} URLs, and there are that many already")]
    TooManyReceivers {
        /// That many.
        limit: u32,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

// === impl Jobs ===

impl Jobs {
    /// Accepts a job: when this returns it will be answered, whoever is killed meanwhile.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]; the limit may be passed by as many jobs as come in at the same moment.
    pub async fn submit(
        &self,
        new: NewJob,
        max_waiting: u32,
        now_ms: u64,
    ) -> Result<Submitted, SubmitError> {
        let failed = StoreError::query("accept a job");
        let shared = &self.shared;
        let mut connection = shared.store.writer().await?;
        let mut transaction =
            store::begin(&mut connection, shared.store.kind()).await.map_err(&failed)?;
        let waiting = waiting(&mut transaction, &new.caller, max_waiting).await.map_err(&failed)?;
        if waiting >= i64::from(max_waiting) {
            return Err(SubmitError::Full { limit: max_waiting });
        }
        let (receiver, secret) = match &new.webhook {
            None => (None, None),
            Some(webhook) => {
                let (id, secret) =
                    outbox::receiver_of(&mut transaction, &new.caller, webhook, now_ms).await?;
                (Some(id), secret)
            }
        };
        let job = self.insert(&mut transaction, &new, receiver, now_ms).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        shared.job_waits.notify_one();
        Ok(Submitted { job, secret })
    }

    async fn insert(
        &self,
        connection: &mut AnyConnection,
        new: &NewJob,
        receiver: Option<String>,
        unix_ms: u64,
    ) -> Result<Job, sqlx::Error> {
        let id = new_id("job_", unix_ms);
        let particulars = serde_json::to_string(&new.particulars).unwrap_or_default();
        let expires_in = i64::try_from(new.expires_in_ms).unwrap_or(i64::MAX / 2);
        let now = now_ms(self.shared.store.kind());
        let insert = format!(
            "INSERT INTO jobs (id, lane, priority, state, run_after_ms, token, attempts, losses,
                 deadline_ms, failures, endpoint, wishes, metadata, receiver, created_at_ms)
             VALUES ($1, $2, $3, 'queued', {now}, 0, 0, 0, {now} + $4, 0, $5, $6, $7, $8, {now})
             RETURNING *"
        );
        let row = sqlx::query(AssertSqlSafe(insert))
            .bind(&id)
            .bind(new.caller.as_str())
            .bind(i64::from(new.priority.level()))
            .bind(expires_in)
            .bind(new.endpoint)
            .bind(particulars)
            .bind(&new.metadata)
            .bind(receiver)
            .fetch_one(&mut *connection)
            .await?;
        sqlx::query("INSERT INTO job_requests (job, body) VALUES ($1, $2)")
            .bind(&id)
            .bind(&*new.body)
            .execute(connection)
            .await?;
        Job::read(&row)
    }

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

/// How many jobs of a caller wait; counted up to `most`.
async fn waiting(
    connection: &mut AnyConnection,
    caller: &CallerId,
    most: u32,
) -> Result<i64, sqlx::Error> {
    let row = sqlx::query(
        "SELECT count(*) AS waiting FROM (
             SELECT 1 FROM jobs WHERE lane = $1 AND state = 'queued' LIMIT $2) AS counted",
    )
    .bind(caller.as_str())
    .bind(i64::from(most))
    .fetch_one(connection)
    .await?;
    row.try_get("waiting")
}
