//! Webhooks on their way: who receives them, and what has been sent.
//!
//! A webhook is written in the transaction that ends its job, and sent afterwards. It has one id
//! for all its attempts, made of the job's, so that a receiver can tell a repetition from news; the
//! table's keys rule out a second one.

use rand::RngExt;
use serde_json::json;
use serde_json::value::RawValue;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::queue::{Fence, Lease, now_ms};
use super::record::{count, maybe_time, time};
use super::{Job, Jobs, NewWebhook, SubmitError, new_id};
use crate::clock::rfc3339;
use crate::ids::CallerId;
use crate::policy::turns::Turns;
use crate::store::{self, Kind, StoreError};
use crate::webhook::signature::SigningSecret;

mod receivers;

pub use receivers::StoredReceiver;

/// A webhook, as its receiver's owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id, which is the `webhook-id` of every attempt.
    pub id: String,
    /// The job that it tells of.
    pub job: String,
    /// `queued`, `running`, `succeeded` or `failed`.
    pub state: String,
    /// How often it was sent.
    pub attempts: u32,
    /// When it is to be sent next, where it is.
    pub next_at_ms: Option<u64>,
    /// When it was delivered or given up.
    pub ended_at_ms: Option<u64>,
    /// The status of the last answer.
    pub last_status: Option<u16>,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// A webhook that was taken, and the right to say what became of it.
#[derive(Debug)]
pub struct Outgoing {
    /// Its id.
    pub id: String,
    /// What is sent, byte for byte.
    pub body: String,
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
    /// Where to; none where the receiver is switched off.
    pub to: Option<Addressee>,
    /// Its receiver's id.
    receiver: String,
    fence: Fence,
}

/// Where a webhook is sent, and how it is signed.
#[derive(Debug, Clone)]
pub struct Addressee {
    /// The URL.
    pub url: String,
    /// What to sign with: the secret, and while it is being changed the one before it.
    pub secrets: Vec<SigningSecret>,
}

/// How an attempt to send a webhook ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempted {
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// What went wrong, in a sentence.
    pub error: Option<String>,
    /// What follows.
    pub then: Then,
}

/// What follows an attempt to send a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing: it was delivered.
    Delivered,
    /// It is sent again.
    Again {
        /// After so many milliseconds.
        after_ms: u64,
        /// For so long nothing is sent to the receiver at all.
        throttle_ms: Option<u64>,
    },
    /// It is given up.
    GiveUp,
    /// It is given up, and the receiver is switched off: it wants no more.
    Gone,
}

/// Webhooks to one receiver at a time, on all nodes.
const PER_RECEIVER: u32 = 4;
/// Longer than all attempts together take.
const KEPT_TRYING_MS: i64 = 8 * 86_400_000;

/// Writes the webhook that tells of a job's end.
pub(super) async fn tell(
    connection: &mut AnyConnection,
    kind: Kind,
    job: &Job,
    receiver: &str,
    status: Option<u16>,
) -> Result<(), sqlx::Error> {
    let now = now_ms(kind);
    let insert = format!(
        "INSERT INTO webhook_deliveries (id, lane, priority, state, run_after_ms, token, attempts,
             losses, deadline_ms, job, body, created_at_ms)
         VALUES ($1, $2, 0, 'queued', {now}, 0, 0, 0, {now} + $3, $4, $5, {now})"
    );
    sqlx::query(AssertSqlSafe(insert))
        .bind(format!("msg_{}", job.id.trim_start_matches("job_")))
        .bind(receiver)
        .bind(KEPT_TRYING_MS)
        .bind(&job.id)
        .bind(event(job, status))
        .execute(connection)
        .await?;
    Ok(())
}

/// What a webhook says: which job ended, and how. The result itself is fetched with the job's id,
/// because a receiver proves nothing about itself and answers are large.
fn event(job: &Job, status: Option<u16>) -> String {
    let metadata = RawValue::from_string(job.metadata.clone()).ok();
    let error =
        job.error.as_ref().map(|error| json!({ "code": error.code, "message": error.message }));
    let event = json!({
        "type": format!("job.{}", job.state.as_str()),
        "timestamp": rfc3339(job.ended_at_ms.unwrap_or_default()),
        "data": {
            "id": job.id,
            "object": "job",
            "status": job.state.as_str(),
            "endpoint": job.endpoint,
            "metadata": metadata,
            "result_status": status,
            "error": error,
        },
    });
    event.to_string()
}

/// The webhook that tells of a job.
pub(super) async fn delivery_of(
    connection: &mut AnyConnection,
    job: &str,
) -> Result<Option<Delivery>, sqlx::Error> {
    let row = sqlx::query("SELECT * FROM webhook_deliveries WHERE job = $1").bind(job);
    row.fetch_optional(connection).await?.map(|row| Delivery::read(&row)).transpose()
}

// === impl Jobs ===

impl Jobs {
    /// Takes up to `free` webhooks that are due.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; what was taken before it failed is due again when its lease runs out.
    pub async fn take_webhooks(
        &self,
        turns: &mut Turns,
        free: u32,
        worker: &str,
        lease_ms: i64,
    ) -> Result<Vec<Outgoing>, StoreError> {
        let failed = StoreError::query("take webhooks");
        let queue = self.shared.deliveries;
        let Some((heads, running)) = self.shared.waiting(queue, turns).await? else {
            return Ok(Vec::new());
        };
        let mut connection = self.shared.store.writer().await?;
        let lease = Lease { worker, for_ms: lease_ms };
        let mut taken = Vec::new();
        for share in turns.allot(heads, &running, PER_RECEIVER, free) {
            let rows = queue.take(&mut connection, &share, PER_RECEIVER, lease).await;
            let rows = rows.map_err(&failed)?;
            let to =
                receivers::addressee(&mut connection, self.shared.store.kind(), &share.head.lane);
            let to = to.await.map_err(&failed)?;
            for row in &rows {
                taken.push(Outgoing::read(row, to.clone()).map_err(&failed)?);
            }
        }
        Ok(taken)
    }

    /// Writes down what became of an attempt to send a webhook. `false` where somebody else has
    /// taken it meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it is then sent again when its lease runs out.
    pub async fn attempted(
        &self,
        outgoing: &Outgoing,
        attempted: &Attempted,
        disable_after_ms: u64,
    ) -> Result<bool, StoreError> {
        let failed = StoreError::query("note the end of a webhook");
        let shared = &self.shared;
        let mut connection = shared.store.writer().await?;
        let mut transaction =
            store::begin(&mut connection, shared.store.kind()).await.map_err(&failed)?;
        let noted = self.note(&mut transaction, outgoing, attempted).await.map_err(&failed)?;
        if noted {
            let kind = shared.store.kind();
            let receiver = &outgoing.receiver;
            receivers::note(&mut transaction, kind, receiver, attempted.then, disable_after_ms)
                .await
                .map_err(&failed)?;
            transaction.commit().await.map_err(&failed)?;
        }
        Ok(noted)
    }

    async fn note(
        &self,
        connection: &mut AnyConnection,
        outgoing: &Outgoing,
        attempted: &Attempted,
    ) -> Result<bool, sqlx::Error> {
        let now = now_ms(self.shared.store.kind());
        let queue = self.shared.deliveries;
        let (state, after_ms) = match attempted.then {
            Then::Delivered => ("succeeded", None),
            Then::Again { after_ms, .. } => ("queued", i64::try_from(after_ms).ok()),
            Then::GiveUp | Then::Gone => ("failed", None),
        };
        let set = format!(
            "state = $3, last_status = $4, last_error = $5, run_after_ms = {now} + $6,
             ended_at_ms = CASE WHEN $3 = 'queued' THEN NULL ELSE {now} END"
        );
        let note = match attempted.then {
            Then::Again { .. } => queue.postponing(&set),
            Then::Delivered | Then::GiveUp | Then::Gone => queue.ending(&set),
        };
        let row = sqlx::query(AssertSqlSafe(note))
            .bind(&outgoing.fence.id)
            .bind(outgoing.fence.token)
            .bind(state)
            .bind(attempted.status.map(i64::from))
            .bind(attempted.error.as_deref())
            .bind(after_ms.unwrap_or_default())
            .fetch_optional(connection)
            .await?;
        Ok(row.is_some())
    }

    /// Makes webhooks due again whose sender vanished. How many.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn take_over_webhooks(&self) -> Result<u32, StoreError> {
        let failed = StoreError::query("take over webhooks");
        let queue = self.shared.deliveries;
        let mut connection = self.shared.store.writer().await?;
        let mut put_back = 0;
        for (fence, _) in queue.lost(&mut connection).await.map_err(&failed)? {
            put_back += u32::from(queue.put_back(&mut connection, &fence).await.map_err(&failed)?);
        }
        Ok(put_back)
    }

    /// Sends a webhook again that was delivered or given up, under the same id and from the
    /// beginning of the schedule. `None` where the receiver
    /// has none of that id.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn redeliver(
        &self,
        receiver: &str,
        id: &str,
    ) -> Result<Option<Delivery>, StoreError> {
        let failed = StoreError::query("redeliver a webhook");
        let now = now_ms(self.shared.store.kind());
        let again = format!(
            "UPDATE webhook_deliveries SET state = 'queued', attempts = 0, run_after_ms = {now},
                 ended_at_ms = NULL, deadline_ms = {now} + {KEPT_TRYING_MS}, token = token + 1
             WHERE id = $1 AND lane = $2 AND state IN ('succeeded', 'failed')"
        );
        let mut connection = self.shared.store.writer().await?;
        sqlx::query(AssertSqlSafe(again))
            .bind(id)
            .bind(receiver)
            .execute(&mut *connection)
            .await
            .map_err(&failed)?;
        let row = sqlx::query("SELECT * FROM webhook_deliveries WHERE id = $1 AND lane = $2");
        let row =
            row.bind(id).bind(receiver).fetch_optional(&mut *connection).await.map_err(&failed)?;
        let delivery = row.map(|row| Delivery::read(&row)).transpose().map_err(&failed)?;
        self.shared.webhook_waits.notify_one();
        Ok(delivery)
    }
}

// === impl Outgoing ===

impl Outgoing {
    fn read(row: &AnyRow, to: Option<Addressee>) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            body: row.try_get("body")?,
            attempt: count(row, "attempts")?,
            to,
            receiver: row.try_get("lane")?,
            fence: Fence::read(row)?,
        })
    }
}

// === impl Delivery ===

impl Delivery {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let state: String = row.try_get("state")?;
        let status: Option<i64> = row.try_get("last_status")?;
        let next_at_ms = if state == "queued" { Some(time(row, "run_after_ms")?) } else { None };
        Ok(Self {
            id: row.try_get("id")?,
            job: row.try_get("job")?,
            state,
            attempts: count(row, "attempts")?,
            next_at_ms,
            ended_at_ms: maybe_time(row, "ended_at_ms")?,
            last_status: status.and_then(|status| u16::try_from(status).ok()),
            last_error: row.try_get("last_error")?,
        })
    }
}

/// Finds the receiver of a caller's webhook, or makes it. The secret is given where one was made up
/// here. A secret that differs from the one that is known takes its place; for a day webhooks are
/// signed with both.
pub(super) async fn receiver_of(
    connection: &mut AnyConnection,
    caller: &CallerId,
    webhook: &NewWebhook,
    now_ms: u64,
) -> Result<(String, Option<SigningSecret>), SubmitError> {
    let failed = StoreError::query("find the receiver of a webhook");
    let url = webhook.receiver.to_string();
    if let Some(id) = receivers::known(connection, caller, &url, webhook.secret.as_ref(), now_ms)
        .await
        .map_err(&failed)?
    {
        return Ok((id, None));
    }
    receivers::check_count(connection, caller).await?;
    let made = match &webhook.secret {
        Some(_) => None,
        None => Some(SigningSecret::of(&rand::rng().random())),
    };
    let id = new_id("whr_", now_ms);
    if let Some(secret) = webhook.secret.as_ref().or(made.as_ref()) {
        let inserted = receivers::insert(connection, &id, caller, &url, secret, now_ms).await;
        if inserted.map_err(&failed)? {
            return Ok((id, made));
        }
    }
    // Somebody else made it at the same moment.
    let known = receivers::known(connection, caller, &url, None, now_ms).await.map_err(&failed)?;
    known.map(|id| (id, None)).ok_or_else(|| failed(sqlx::Error::RowNotFound).into())
}
