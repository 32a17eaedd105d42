//! Handing jobs in: what is accepted, how much of it, and only once for a key.
//!
//! A job that comes with an `Idempotency-Key` has a row beside it in the table of keys, claimed
//! and written in the transaction that makes the job. Of requests with one key that come in at the
//! same moment, on any nodes, one makes the job; the others wait for its transaction and get the
//! reply that it has written down.

use std::time::Duration;

use bytes::Bytes;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::queue::now_ms;
use super::{Job, JobSettings, Jobs, Particulars, new_id, outbox};
use crate::clock::Instant;
use crate::idempotency::{Claim, Claimed, Kept};
use crate::ids::CallerId;
use crate::rejection::Duplicate;
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

/// The key of a request that makes one job, however often it comes.
#[derive(Debug, Clone)]
pub struct Once {
    /// The key, whose it is, and what the request says.
    pub claim: Claim,
    /// For how long the reply is repeated.
    pub ttl: Duration,
    /// Whether its caller may have another key. Those that are there are looked up in any case.
    pub may_be_new: bool,
}

/// A job that was accepted.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// The job.
    pub job: Job,
    /// The secret that was made for its webhook's receiver, to be shown this once.
    pub secret: Option<SigningSecret>,
}

/// What became of a request that came with a key.
#[derive(Debug, Clone)]
pub enum Accepted {
    /// It is the first, and made a job: the reply that was written down.
    First(Kept),
    /// The job was made before: the reply of then.
    Again(Kept),
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
    /// The requests of jobs that wait would take more than they may.
    #[error("waiting jobs may take {limit_bytes} bytes")]
    NoRoom {
        /// Whether it is about those of all callers, and not about this one's.
        of_all: bool,
        /// What they may take.
        limit_bytes: u64,
        /// What this one would take.
        bytes: u64,
    },
    /// The caller has as many receivers as it may.
    #[error("a caller can have webhooks sent to {limit} URLs, and there are that many already")]
    TooManyReceivers {
        /// That many.
        limit: u32,
    },
    /// Its key keeps the request from making a job.
    #[error(transparent)]
    Duplicate(#[from] Duplicate),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the requests of all jobs that wait take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Total {
    bytes: u64,
    counted: Instant,
}

/// What a caller's jobs that wait come to.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    jobs: u64,
    bytes: u64,
}

/// How long a count of all jobs' bytes is good for. To add them up takes the longer the more there
/// are.
const COUNTED_FOR: Duration = Duration::from_secs(1);

// === impl Jobs ===

impl Jobs {
    /// Accepts a job: when this returns it will be answered, whoever is killed meanwhile.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]. A limit of the caller's may be passed by as many jobs as come in at the
    /// same moment; that of all callers by what comes in within a second.
    pub async fn submit(
        &self,
        new: NewJob,
        settings: &JobSettings,
        now_ms: u64,
    ) -> Result<Submitted, SubmitError> {
        let shared = &self.shared;
        let failed = StoreError::query("accept a job");
        let mut connection = shared.store.writer().await?;
        let mut transaction =
            store::begin(&mut connection, shared.store.kind()).await.map_err(&failed)?;
        let submitted = self.submit_on(&mut transaction, &new, settings, now_ms).await;
        if submitted.is_err() {
            // Waited for, so that the connection can be used again.
            let _ = transaction.rollback().await;
            return submitted;
        }
        transaction.commit().await.map_err(&failed)?;
        self.accepted(&new);
        submitted
    }

    /// Accepts the job of a request with a key, unless that has been done. `reply` makes the reply
    /// that is kept and repeated.
    ///
    /// # Errors
    ///
    /// As [`Jobs::submit`], and [`SubmitError::Duplicate`]. Nothing is known of the key then, but
    /// where it belongs to another request, and the same request may be made again.
    pub async fn submit_once(
        &self,
        new: NewJob,
        once: &Once,
        settings: &JobSettings,
        now_ms: u64,
        reply: impl FnOnce(Submitted) -> Kept + Send,
    ) -> Result<Accepted, SubmitError> {
        let shared = &self.shared;
        let failed = StoreError::query("accept a job");
        let mut connection = shared.store.writer().await?;
        let mut transaction =
            store::begin(&mut connection, shared.store.kind()).await.map_err(&failed)?;
        let accepted = async {
            let fence = match self.claim(&mut transaction, once).await? {
                Claimed::Ours { fence, .. } => fence,
                Claimed::Done(kept) => return Ok(Accepted::Again(kept)),
                Claimed::Mismatch => return Err(Duplicate::Mismatch.into()),
                Claimed::Running { .. } => return Err(Duplicate::InProgress.into()),
            };
            let submitted = self.submit_on(&mut transaction, &new, settings, now_ms).await?;
            let kept = reply(submitted);
            shared.keys.finish_on(&mut transaction, fence, &kept, once.ttl).await?;
            Ok(Accepted::First(kept))
        };
        let accepted = accepted.await;
        if let Ok(Accepted::First(_)) = accepted {
            transaction.commit().await.map_err(&failed)?;
            self.accepted(&new);
        } else {
            let _ = transaction.rollback().await;
        }
        accepted
    }

    /// The reply to the request with a key that has made a job; `None` where it has made none.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn reply_of(&self, claim: &Claim) -> Result<Option<Kept>, StoreError> {
        Ok(match self.shared.keys.find(claim).await? {
            Some(Claimed::Done(kept)) => Some(kept),
            Some(Claimed::Ours { .. } | Claimed::Running { .. } | Claimed::Mismatch) | None => None,
        })
    }

    async fn claim(
        &self,
        connection: &mut AnyConnection,
        once: &Once,
    ) -> Result<Claimed, SubmitError> {
        let keys = &self.shared.keys;
        if once.may_be_new {
            return Ok(keys.claim_on(connection, &once.claim, once.ttl).await?);
        }
        Ok(keys.find_on(connection, &once.claim).await?.ok_or(Duplicate::TooMany)?)
    }

    /// Notes that a job is there which was not before.
    fn accepted(&self, new: &NewJob) {
        if let Some(total) = &mut *self.shared.total.lock() {
            total.bytes = total.bytes.saturating_add(new.bytes());
        }
        self.shared.job_waits.notify_one();
    }

    async fn submit_on(
        &self,
        connection: &mut AnyConnection,
        new: &NewJob,
        settings: &JobSettings,
        now_ms: u64,
    ) -> Result<Submitted, SubmitError> {
        self.check_room(connection, new, settings).await?;
        let (receiver, secret) = match &new.webhook {
            None => (None, None),
            Some(webhook) => {
                let (id, secret) =
                    outbox::receiver_of(connection, &new.caller, webhook, now_ms).await?;
                (Some(id), secret)
            }
        };
        let inserted = self.insert(connection, new, receiver, now_ms).await;
        let job = inserted.map_err(StoreError::query("accept a job"))?;
        Ok(Submitted { job, secret })
    }

    /// Whether another job may wait. One that would wait alone always may.
    async fn check_room(
        &self,
        connection: &mut AnyConnection,
        new: &NewJob,
        settings: &JobSettings,
    ) -> Result<(), SubmitError> {
        let failed = StoreError::query("count the jobs that wait");
        let waiting = Waiting::of(connection, &new.caller, settings.max_waiting);
        let waiting = waiting.await.map_err(&failed)?;
        if waiting.jobs >= u64::from(settings.max_waiting) {
            return Err(SubmitError::Full { limit: settings.max_waiting });
        }
        let total = self.total(connection).await.map_err(&failed)?;
        let bytes = new.bytes();
        for (of_all, used, limit_bytes) in [
            (false, waiting.bytes, settings.max_waiting_size.0),
            (true, total, settings.max_total_waiting_size.0),
        ] {
            if used > 0 && used.saturating_add(bytes) > limit_bytes {
                return Err(SubmitError::NoRoom { of_all, limit_bytes, bytes });
            }
        }
        Ok(())
    }

    /// What the requests of all jobs that wait take, as of the last second.
    async fn total(&self, connection: &mut AnyConnection) -> Result<u64, sqlx::Error> {
        let known = *self.shared.total.lock();
        if let Some(known) = known.filter(|known| known.counted.elapsed() < COUNTED_FOR) {
            return Ok(known.bytes);
        }
        let counted = Instant::now();
        let sum = "SELECT CAST(COALESCE(SUM(request_bytes), 0) AS BIGINT) FROM jobs
                   WHERE state = 'queued'";
        let bytes: i64 = sqlx::query_scalar(sum).fetch_one(connection).await?;
        let bytes = bytes.max(0).unsigned_abs();
        *self.shared.total.lock() = Some(Total { bytes, counted });
        Ok(bytes)
    }

    async fn insert(
        &self,
        connection: &mut AnyConnection,
        new: &NewJob,
        receiver: Option<String>,
        unix_ms: u64,
    ) -> Result<Job, sqlx::Error> {
        let id = new_id("job_", unix_ms);
        let expires_in = i64::try_from(new.expires_in_ms).unwrap_or(i64::MAX / 2);
        let now = now_ms(self.shared.store.kind());
        let insert = format!(
            "INSERT INTO jobs (id, lane, priority, state, run_after_ms, token, attempts, losses,
                 deadline_ms, failures, endpoint, wishes, metadata, receiver, created_at_ms,
                 request_bytes)
             VALUES ($1, $2, $3, 'queued', {now}, 0, 0, 0, {now} + $4, 0, $5, $6, $7, $8, {now},
                 $9)
             RETURNING *"
        );
        let row = sqlx::query(AssertSqlSafe(insert))
            .bind(&id)
            .bind(new.caller.as_str())
            .bind(i64::from(new.priority.level()))
            .bind(expires_in)
            .bind(new.endpoint)
            .bind(new.particulars.to_json())
            .bind(&new.metadata)
            .bind(receiver)
            .bind(i64::try_from(new.bytes()).unwrap_or(i64::MAX))
            .fetch_one(&mut *connection)
            .await?;
        sqlx::query("INSERT INTO job_requests (job, body) VALUES ($1, $2)")
            .bind(&id)
            .bind(&*new.body)
            .execute(connection)
            .await?;
        Job::read(&row)
    }
}

// === impl NewJob ===

impl NewJob {
    /// What is kept of it until it is answered, in bytes.
    fn bytes(&self) -> u64 {
        (self.body.len() + self.metadata.len() + self.particulars.to_json().len()) as u64
    }
}

// === impl Waiting ===

impl Waiting {
    /// What waits of a caller; counted up to `most` jobs.
    async fn of(
        connection: &mut AnyConnection,
        caller: &CallerId,
        most: u32,
    ) -> Result<Self, sqlx::Error> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS jobs, CAST(COALESCE(SUM(request_bytes), 0) AS BIGINT) AS bytes
             FROM (SELECT request_bytes FROM jobs WHERE lane = $1 AND state = 'queued' LIMIT $2)
                 AS counted",
        )
        .bind(caller.as_str())
        .bind(i64::from(most))
        .fetch_one(connection)
        .await?;
        let (jobs, bytes): (i64, i64) = (row.try_get("jobs")?, row.try_get("bytes")?);
        Ok(Self { jobs: jobs.unsigned_abs(), bytes: bytes.max(0).unsigned_abs() })
    }
}
