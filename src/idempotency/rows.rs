//! The rows in the store.
//!
//! Each step is one statement, so nothing is locked for longer than it takes.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use super::{Decision, Fingerprint, Kept, Progress, Row, RowId, decide};
use crate::ids::{CallerId, RequestId};
use crate::store::{Kind, Sql, Store, StoreError};

/// The rows, as one process sees them. Clones are the same process.
#[derive(Debug, Clone)]
pub struct Rows {
    store: Store,
    owner: Owner,
}

/// The name of a process, unlike that of any other, one that ran before it included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner(String);

/// A request that is to be carried out if nobody has.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Which row it is.
    pub id: RowId,
    /// Whose key it is.
    pub caller: CallerId,
    /// What the request says.
    pub fingerprint: Fingerprint,
    /// Its id, should it be the one that is carried out.
    pub request_id: RequestId,
}

/// The right to write a row, for as long as nobody has taken it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence {
    id: RowId,
    token: i64,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The request is to be carried out.
    Ours {
        /// What its outcome is written with.
        fence: Fence,
        /// Whether somebody else was to do so and was not heard of any more.
        taken_over: bool,
    },
    /// Somebody carries it out.
    Running {
        /// The token of their claim.
        token: i64,
    },
    /// Somebody has.
    Done(Kept),
    /// The key belongs to another request.
    Mismatch,
}

/// Rows that are deleted at a time, so that others get their turn.
const SWEPT_AT_A_TIME: i64 = 500;
/// Rows that are renewed with one statement.
const RENEWED_AT_A_TIME: usize = 100;
/// How often a claim is tried where the row vanishes whenever it is looked at.
const CLAIM_TRIES: u32 = 5;

// === impl Rows ===

impl Rows {
    /// How long an owner is believed to be alive after it was heard of.
    pub const LEASE: Duration = Duration::from_secs(30);

    /// The rows of a store, for one process.
    pub fn new(store: Store, owner: Owner) -> Self {
        Self { store, owner }
    }

    /// Claims a row, to be kept for `ttl`, or tells why it cannot be claimed.
    ///
    /// # Errors
    ///
    /// Where the store does not answer. Nothing is known then: the row may have been claimed.
    pub async fn claim(&self, claim: &Claim, ttl: Duration) -> Result<Claimed, StoreError> {
        let mut connection = self.store.writer().await?;
        self.claim_on(&mut connection, claim, ttl).await
    }

    /// The same on a connection, where the claim is to be part of a transaction: nobody sees it
    /// before that is committed, and who claims the row meanwhile waits for it.
    ///
    /// # Errors
    ///
    /// Where the store does not answer.
    pub(crate) async fn claim_on(
        &self,
        connection: &mut AnyConnection,
        claim: &Claim,
        ttl: Duration,
    ) -> Result<Claimed, StoreError> {
        for _ in 0..CLAIM_TRIES {
            if let Some(ours) = self.take(connection, claim, ttl).await? {
                return Ok(ours);
            }
            // Where it may be claimed after all, it has changed between the two statements.
            if let Some(found) = self.find_on(connection, claim).await? {
                return Ok(found);
            }
        }
        Ok(Claimed::Running { token: 0 })
    }

    /// Tells what has become of a claim, without making one; `None` where it can be made.
    ///
    /// # Errors
    ///
    /// Where the store does not answer.
    pub async fn find(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError> {
        let mut connection = self.store.reader().await?;
        self.find_on(&mut connection, claim).await
    }

    /// The same on a connection.
    ///
    /// # Errors
    ///
    /// Where the store does not answer.
    pub(crate) async fn find_on(
        &self,
        connection: &mut AnyConnection,
        claim: &Claim,
    ) -> Result<Option<Claimed>, StoreError> {
        let Some((row, now_ms)) = self.look(connection, claim.id).await? else { return Ok(None) };
        Ok(match (decide(Some(&row), claim.fingerprint, now_ms), row.progress) {
            (Decision::Mismatch, _) => Some(Claimed::Mismatch),
            (Decision::Join, Progress::Running { token, .. }) => Some(Claimed::Running { token }),
            (Decision::Replay, Progress::Done(kept)) => Some(Claimed::Done(kept)),
            // The last two cannot be: each goes with one kind of progress.
            (
                Decision::Execute | Decision::TakeOver | Decision::Join | Decision::Replay,
                Progress::Running { .. } | Progress::Done(_),
            ) => None,
        })
    }

    /// Takes the row where [`decide`] says `Execute` or `TakeOver`: the same rules, as one
    /// statement.
    async fn take(
        &self,
        connection: &mut AnyConnection,
        claim: &Claim,
        ttl: Duration,
    ) -> Result<Option<Claimed>, StoreError> {
        let now = self.now();
        // The first token of a row is the time, so that a row which was deleted and made anew does
        // not give out the tokens of the one before.
        let sql = format!(
            "INSERT INTO idempotency (id, caller, fingerprint, done, owner, token, claims, \
             lease_until_ms, expires_at_ms, request_id) \
             VALUES ($1, $2, $3, 0, $4, {now}, 1, {now} + $5, {now} + $6, $7) \
             ON CONFLICT (id) DO UPDATE SET caller = excluded.caller, \
             fingerprint = excluded.fingerprint, done = 0, owner = excluded.owner, \
             token = CASE WHEN idempotency.expires_at_ms <= {now} \
                     THEN excluded.token ELSE idempotency.token + 1 END, \
             claims = CASE WHEN idempotency.expires_at_ms <= {now} \
                      THEN 1 ELSE idempotency.claims + 1 END, \
             lease_until_ms = excluded.lease_until_ms, \
             expires_at_ms = excluded.expires_at_ms, request_id = excluded.request_id, \
             status = NULL, headers = NULL, body = NULL \
             WHERE idempotency.expires_at_ms <= {now} \
             OR (idempotency.done = 0 AND idempotency.lease_until_ms <= {now} \
                 AND idempotency.fingerprint = excluded.fingerprint) \
             RETURNING token, claims"
        );
        let failed = StoreError::query("claim an idempotency key");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(claim.id.0.to_vec())
            .bind(claim.caller.as_str().to_owned())
            .bind(claim.fingerprint.0.to_vec())
            .bind(self.owner.0.clone())
            .bind(ms(Self::LEASE))
            .bind(ms(ttl))
            .bind(claim.request_id.as_str().to_owned())
            .fetch_optional(connection)
            .await
            .map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        let token: i64 = row.try_get("token").map_err(&failed)?;
        let claims: i64 = row.try_get("claims").map_err(&failed)?;
        let fence = Fence { id: claim.id, token };
        Ok(Some(Claimed::Ours { fence, taken_over: claims > 1 }))
    }

    /// What is known of a key, and what time it is.
    async fn look(
        &self,
        connection: &mut AnyConnection,
        id: RowId,
    ) -> Result<Option<(Row, i64)>, StoreError> {
        let sql = format!(
            "SELECT fingerprint, done, token, lease_until_ms, expires_at_ms, status, headers, body, \
             {now} AS now_ms FROM idempotency WHERE id = $1",
            now = self.now()
        );
        let failed = StoreError::query("look up an idempotency key");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(id.0.to_vec())
            .fetch_optional(connection)
            .await
            .map_err(&failed)?;
        row.map(|row| read(&row)).transpose().map_err(&failed)
    }

    /// Says that the owner of these rows is alive, and tells which of them are somebody else's now.
    ///
    /// # Errors
    ///
    /// Where the store does not answer.
    pub async fn renew(&self, fences: &[Fence]) -> Result<Vec<Fence>, StoreError> {
        let mut lost = Vec::new();
        for some in fences.chunks(RENEWED_AT_A_TIME) {
            let renewed = self.renew_some(some).await?;
            lost.extend(some.iter().filter(|fence| !renewed.contains(&fence.id)));
        }
        Ok(lost)
    }

    async fn renew_some(&self, fences: &[Fence]) -> Result<HashSet<RowId>, StoreError> {
        let failed = StoreError::query("renew idempotency keys");
        let mut sql = Sql::new("UPDATE idempotency SET lease_until_ms = ");
        sql.push(self.now()).push(" + ").bind(ms(Self::LEASE)).push(" WHERE done = 0 AND owner = ");
        sql.bind(self.owner.0.clone()).push(" AND (");
        for (index, fence) in fences.iter().enumerate() {
            sql.push(if index == 0 { "" } else { " OR " });
            sql.push("(id = ").bind(fence.id.0.to_vec()).push(" AND token = ").bind(fence.token);
            sql.push(")");
        }
        sql.push(") RETURNING id");
        let mut connection = self.store.writer().await?;
        let rows = sql
            .query()
            .map_err(&failed)?
            .fetch_all(&mut *connection as &mut AnyConnection)
            .await
            .map_err(&failed)?;
        let ids = rows.iter().map(|row| Ok(RowId(thirty_two(row, "id")?)));
        ids.collect::<Result<_, sqlx::Error>>().map_err(&failed)
    }

    /// Writes an outcome, to be kept for `ttl`; `false` where the row is somebody else's now. Doing
    /// so again changes nothing.
    ///
    /// # Errors
    ///
    /// Where the store does not answer.
    pub async fn finish(
        &self,
        fence: Fence,
        kept: &Kept,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let mut connection = self.store.writer().await?;
        self.finish_on(&mut connection, fence, kept, ttl).await
    }

    /// The same on a connection.
    ///
    /// # Errors
    ///
    /// Where the store does not answer.
    pub(crate) async fn finish_on(
        &self,
        connection: &mut AnyConnection,
        fence: Fence,
        kept: &Kept,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let sql = format!(
            "UPDATE idempotency SET done = 1, status = $1, headers = $2, body = $3, \
             expires_at_ms = {now} + $4 WHERE id = $5 AND token = $6 AND owner = $7",
            now = self.now()
        );
        let headers = serde_json::to_string(&kept.headers).unwrap_or_default();
        let finished = sqlx::query(AssertSqlSafe(sql))
            .bind(i64::from(kept.status))
            .bind(headers)
            .bind(kept.body.as_ref().map(|body| body.to_vec()))
            .bind(ms(ttl))
            .bind(fence.id.0.to_vec())
            .bind(fence.token)
            .bind(self.owner.0.clone())
            .execute(connection)
            .await
            .map_err(StoreError::query("write the outcome of an idempotency key"))?;
        Ok(finished.rows_affected() > 0)
    }

    /// Deletes a row, so that the request may be made again.
    ///
    /// # Errors
    ///
    /// Where the store does not answer.
    pub async fn forget(&self, fence: Fence) -> Result<(), StoreError> {
        let sql = "DELETE FROM idempotency WHERE id = $1 AND token = $2 AND owner = $3";
        let mut connection = self.store.writer().await?;
        sqlx::query(sql)
            .bind(fence.id.0.to_vec())
            .bind(fence.token)
            .bind(self.owner.0.clone())
            .execute(&mut *connection as &mut AnyConnection)
            .await
            .map_err(StoreError::query("forget an idempotency key"))?;
        Ok(())
    }

    /// Deletes rows that have expired, some at a time, and says how many there were.
    ///
    /// # Errors
    ///
    /// Where the store does not answer.
    pub async fn sweep(&self) -> Result<u64, StoreError> {
        let now = self.now();
        let sql = format!(
            "DELETE FROM idempotency WHERE expires_at_ms <= {now} AND id IN (SELECT id \
             FROM idempotency WHERE expires_at_ms <= {now} ORDER BY expires_at_ms LIMIT $1)"
        );
        let mut swept = 0;
        loop {
            let mut connection = self.store.writer().await?;
            let deleted = sqlx::query(AssertSqlSafe(sql.clone()))
                .bind(SWEPT_AT_A_TIME)
                .execute(&mut *connection as &mut AnyConnection)
                .await
                .map_err(StoreError::query("sweep idempotency keys"))?;
            swept += deleted.rows_affected();
            if deleted.rows_affected() < SWEPT_AT_A_TIME.unsigned_abs() {
                return Ok(swept);
            }
        }
    }

    /// Callers with so many rows or more, and how many.
    ///
    /// # Errors
    ///
    /// Where the store does not answer.
    pub async fn crowds(&self, at_least: u32) -> Result<Vec<(CallerId, u64)>, StoreError> {
        let sql = "SELECT caller, COUNT(*) AS count FROM idempotency GROUP BY caller \
                   HAVING COUNT(*) >= $1";
        let failed = StoreError::query("count idempotency keys");
        let mut connection = self.store.reader().await?;
        let rows = sqlx::query(sql)
            .bind(i64::from(at_least))
            .fetch_all(&mut *connection as &mut AnyConnection)
            .await
            .map_err(&failed)?;
        let crowds = rows.iter().map(|row| {
            let (caller, count): (String, i64) = (row.try_get("caller")?, row.try_get("count")?);
            Ok((CallerId::new(caller), count.unsigned_abs()))
        });
        crowds.collect::<Result<_, sqlx::Error>>().map_err(&failed)
    }

    /// The store's clock, in milliseconds since 1970; the same throughout a statement.
    fn now(&self) -> &'static str {
        match self.store.kind() {
            Kind::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Kind::Postgres => "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)",
        }
    }
}

/// A row, and the time at which it was read.
fn read(row: &AnyRow) -> Result<(Row, i64), sqlx::Error> {
    let fingerprint = Fingerprint(thirty_two(row, "fingerprint")?);
    let progress = if row.try_get::<i64, _>("done")? == 0 {
        let token = row.try_get("token")?;
        Progress::Running { lease_until_ms: row.try_get("lease_until_ms")?, token }
    } else {
        let status: Option<i64> = row.try_get("status")?;
        let headers: Option<String> = row.try_get("headers")?;
        let body: Option<Vec<u8>> = row.try_get("body")?;
        Progress::Done(Kept {
            status: status.and_then(|status| u16::try_from(status).ok()).unwrap_or_default(),
            headers: serde_json::from_str(&headers.unwrap_or_default()).unwrap_or_default(),
            body: body.map(Bytes::from),
        })
    };
    let expires_at_ms = row.try_get("expires_at_ms")?;
    Ok((Row { fingerprint, expires_at_ms, progress }, row.try_get("now_ms")?))
}

/// The bytes of a hash.
fn thirty_two(row: &AnyRow, column: &str) -> Result<[u8; 32], sqlx::Error> {
    let bytes: Vec<u8> = row.try_get(column)?;
    bytes.try_into().map_err(|_| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: "it has not 32 bytes".into(),
    })
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

// === impl Fence ===

impl Fence {
    /// The token of the claim.
    pub fn token(&self) -> i64 {
        self.token
    }
}

// === impl Owner ===

impl Owner {
    /// Wraps a name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

#[cfg(test)]
mod tests;
