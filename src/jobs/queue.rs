//! A queue in a table, shared by all nodes: who may take what, for how long, and what happens when
//! somebody does not come back.
//!
//! A row that is taken is leased. Its worker renews the lease while it works; where that stops, any
//! node puts the row back. The token of a row rises each time it is taken, and whoever writes names
//! the token under which it works: a worker that was given up for dead and comes back finds that
//! nothing of it is wanted. The clock of leases is the database's, so that clocks of nodes need not
//! agree. No transaction stays open while a row is worked on.
//!
//! Which rows are taken is decided in two steps. The heads of the queue are found by hopping over
//! the index from lane to lane, and [`Turns`](crate::policy::turns::Turns) divides the free places
//! among them; then each lane's rows are taken in a transaction of their own. On PostgreSQL a lock
//! for the lane makes its cap exact, and rows that others have locked are skipped; SQLite has one
//! writer at a time anyway.

use std::collections::HashMap;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::policy::turns::{Head, Share};
use crate::store::{self, Kind, Sql};

/// A queue: a table with the columns that queues have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queue {
    table: &'static str,
    kind: Kind,
}

/// Who takes rows, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease<'a> {
    /// The worker: a name that no other process has, nor an earlier run of this one.
    pub(crate) worker: &'a str,
    /// Milliseconds until others may take over.
    pub(crate) for_ms: i64,
}

/// The right to write to a row: what is written counts only while nobody else has taken it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Fence {
    /// The row.
    pub(crate) id: String,
    /// Under which token it was taken.
    pub(crate) token: i64,
}

/// Lanes that are looked at in one round. Those beyond it have their turn in the next.
const MAX_HEADS: i64 = 1_000;
/// Rows whose leases are renewed with one statement.
const RENEWED_AT_A_TIME: usize = 100;

// === impl Queue ===

impl Queue {
    /// The queue in `table`.
    pub(crate) const fn new(table: &'static str, kind: Kind) -> Self {
        Self { table, kind }
    }

    /// Lanes with rows that are due: those after the lane `after`, and where these are few, those
    /// up to it.
    pub(crate) async fn heads(
        &self,
        connection: &mut AnyConnection,
        after: &str,
    ) -> Result<Vec<Head>, sqlx::Error> {
        let mut heads = self.heads_after(connection, after).await?;
        if !after.is_empty() && (heads.len() as i64) < MAX_HEADS {
            let all = self.heads_after(connection, "").await?;
            heads.extend(all.into_iter().filter(|head| head.lane.as_str() <= after));
        }
        Ok(heads)
    }

    async fn heads_after(
        &self,
        connection: &mut AnyConnection,
        after: &str,
    ) -> Result<Vec<Head>, sqlx::Error> {
        let (table, now) = (self.table, now_ms(self.kind));
        let sql = format!(
            "WITH RECURSIVE lanes(priority, lane) AS (
                 SELECT p.priority,
                        (SELECT q.lane FROM {table} q WHERE q.state = 'queued'
                         AND q.priority = p.priority AND q.lane > $1 ORDER BY q.lane LIMIT 1)
                 FROM (SELECT 0 AS priority UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3
                       UNION ALL SELECT 4) AS p
                 UNION ALL
                 SELECT l.priority,
                        (SELECT q.lane FROM {table} q WHERE q.state = 'queued'
                         AND q.priority = l.priority AND q.lane > l.lane ORDER BY q.lane LIMIT 1)
                 FROM lanes l WHERE l.lane IS NOT NULL
             )
             SELECT CAST(l.priority AS BIGINT) AS priority, l.lane FROM lanes l
             WHERE l.lane IS NOT NULL AND EXISTS (
                 SELECT 1 FROM {table} q WHERE q.state = 'queued' AND q.priority = l.priority
                 AND q.lane = l.lane AND q.run_after_ms <= {now})
             LIMIT {MAX_HEADS}"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(after).fetch_all(connection).await?;
        let head = |row: &AnyRow| {
            let priority: i64 = row.try_get("priority")?;
            let priority = u8::try_from(priority).unwrap_or(u8::MAX);
            Ok(Head { priority, lane: row.try_get("lane")? })
        };
        rows.iter().map(head).collect()
    }

    /// How many rows of each lane are being worked on, on all nodes.
    pub(crate) async fn running(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<HashMap<String, u32>, sqlx::Error> {
        let sql = format!(
            "SELECT lane, count(*) AS running FROM {} WHERE state = 'running' GROUP BY lane",
            self.table
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await?;
        let count = |row: &AnyRow| {
            let running: i64 = row.try_get("running")?;
            Ok((row.try_get("lane")?, u32::try_from(running).unwrap_or(u32::MAX)))
        };
        rows.iter().map(count).collect()
    }

    /// Takes rows of one lane and priority, the oldest first: as many as the share says, but no
    /// more than the lane's `cap` leaves.
    pub(crate) async fn take(
        &self,
        connection: &mut AnyConnection,
        share: &Share,
        cap: u32,
        lease: Lease<'_>,
    ) -> Result<Vec<AnyRow>, sqlx::Error> {
        let (table, now) = (self.table, now_ms(self.kind));
        let mut transaction = store::begin(connection, self.kind).await?;
        self.lock_lane(&mut transaction, &share.head.lane).await?;
        let count = format!("SELECT count(*) FROM {table} WHERE state = 'running' AND lane = $1");
        let running: i64 = sqlx::query_scalar(AssertSqlSafe(count))
            .bind(&share.head.lane)
            .fetch_one(&mut *transaction)
            .await?;
        let room = i64::from(cap).saturating_sub(running).min(i64::from(share.jobs));
        if room <= 0 {
            return Ok(Vec::new());
        }
        let skip = match self.kind {
            Kind::Sqlite => "",
            Kind::Postgres => "FOR UPDATE SKIP LOCKED",
        };
        let take = format!(
            "UPDATE {table} SET state = 'running', token = token + 1, attempts = attempts + 1,
                 worker = $1, lease_until_ms = {now} + $2,
                 started_at_ms = COALESCE(started_at_ms, {now})
             WHERE id IN (
                 SELECT id FROM {table} WHERE state = 'queued' AND priority = $3 AND lane = $4
                 AND run_after_ms <= {now} AND deadline_ms > {now}
                 ORDER BY run_after_ms LIMIT $5 {skip})
             RETURNING *"
        );
        let rows = sqlx::query(AssertSqlSafe(take))
            .bind(lease.worker)
            .bind(lease.for_ms)
            .bind(i64::from(share.head.priority))
            .bind(&share.head.lane)
            .bind(room)
            .fetch_all(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(rows)
    }

    /// Keeps others on PostgreSQL from taking rows of the same lane until the transaction ends.
    async fn lock_lane(
        &self,
        connection: &mut AnyConnection,
        lane: &str,
    ) -> Result<(), sqlx::Error> {
        match self.kind {
            Kind::Sqlite => Ok(()),
            Kind::Postgres => {
                let sql = "SELECT 1 FROM pg_advisory_xact_lock(hashtext($1), hashtext($2))";
                let lock = sqlx::query(sql).bind(self.table).bind(lane);
                lock.execute(connection).await.map(drop)
            }
        }
    }

    /// Renews the leases of rows that were taken, each under the token it was taken with. Those
    /// that are still held are returned. Rows that a worker was given without hearing of it are not
    /// among them: their leases run out, and others have them.
    pub(crate) async fn renew(
        &self,
        connection: &mut AnyConnection,
        fences: &[&Fence],
        for_ms: i64,
    ) -> Result<Vec<Fence>, sqlx::Error> {
        let mut held = Vec::new();
        for fences in fences.chunks(RENEWED_AT_A_TIME) {
            let mut sql = Sql::new("UPDATE ");
            sql.push(self.table).push(" SET lease_until_ms = ").push(now_ms(self.kind));
            sql.push(" + ").bind(for_ms).push(" WHERE state = 'running' AND (1 = 0");
            for fence in fences {
                sql.push(" OR (id = ").bind(fence.id.clone());
                sql.push(" AND token = ").bind(fence.token).push(")");
            }
            sql.push(") RETURNING id, token");
            let rows = sql.query()?.fetch_all(&mut *connection).await?;
            for row in &rows {
                held.push(Fence::read(row)?);
            }
        }
        Ok(held)
    }

    /// What `worker` has.
    pub(crate) async fn held(
        &self,
        connection: &mut AnyConnection,
        worker: &str,
    ) -> Result<Vec<Fence>, sqlx::Error> {
        let sql =
            format!("SELECT id, token FROM {} WHERE state = 'running' AND worker = $1", self.table);
        let held = sqlx::query(AssertSqlSafe(sql)).bind(worker);
        held.fetch_all(connection).await?.iter().map(Fence::read).collect()
    }

    /// Puts back everything that `worker` has. How many rows.
    pub(crate) async fn give_back(
        &self,
        connection: &mut AnyConnection,
        worker: &str,
    ) -> Result<u64, sqlx::Error> {
        let sql = format!(
            "UPDATE {} SET state = 'queued', worker = NULL, lease_until_ms = NULL
             WHERE state = 'running' AND worker = $1",
            self.table
        );
        Ok(sqlx::query(AssertSqlSafe(sql)).bind(worker).execute(connection).await?.rows_affected())
    }

    /// Rows whose worker has not renewed its lease, at most 100.
    pub(crate) async fn lost(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<Vec<(Fence, u32)>, sqlx::Error> {
        let sql = format!(
            "SELECT id, token, losses FROM {} WHERE state = 'running' AND lease_until_ms < {}
             LIMIT 100",
            self.table,
            now_ms(self.kind)
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await?;
        let lost = |row: &AnyRow| {
            let losses: i64 = row.try_get("losses")?;
            Ok((Fence::read(row)?, u32::try_from(losses).unwrap_or(u32::MAX)))
        };
        rows.iter().map(lost).collect()
    }

    /// Puts a row back whose lease has run out. Whether it did: somebody else may have been faster.
    pub(crate) async fn put_back(
        &self,
        connection: &mut AnyConnection,
        fence: &Fence,
    ) -> Result<bool, sqlx::Error> {
        let sql = format!(
            "UPDATE {} SET state = 'queued', worker = NULL, lease_until_ms = NULL,
                 losses = losses + 1
             WHERE id = $1 AND token = $2 AND state = 'running' AND lease_until_ms < {}",
            self.table,
            now_ms(self.kind)
        );
        let put = sqlx::query(AssertSqlSafe(sql)).bind(&fence.id).bind(fence.token);
        Ok(put.execute(connection).await?.rows_affected() > 0)
    }

    /// Ends a row: `SET` with these columns, for the holder of a fence. A result that comes after
    /// the lease ran out still counts while nobody else has begun.
    pub(crate) fn ending(&self, set: &str) -> String {
        self.fenced(set, "state IN ('running', 'queued')")
    }

    /// Puts a row back in the queue: `SET` with these columns, for the holder of a fence. Once: a
    /// row that waits already stays as it is, so that asking again for want of a reply is harmless.
    pub(crate) fn postponing(&self, set: &str) -> String {
        self.fenced(set, "state = 'running'")
    }

    fn fenced(&self, set: &str, condition: &str) -> String {
        format!(
            "UPDATE {} SET worker = NULL, lease_until_ms = NULL, {set}
             WHERE id = $1 AND token = $2 AND {condition} RETURNING *",
            self.table
        )
    }
}

// === impl Fence ===

impl Fence {
    /// The right that a row which was just taken gives.
    pub(crate) fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self { id: row.try_get("id")?, token: row.try_get("token")? })
    }
}

/// The database's clock, in milliseconds since 1970, as an expression that does not change within a
/// statement.
pub(crate) const fn now_ms(kind: Kind) -> &'static str {
    match kind {
        Kind::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        Kind::Postgres => "(EXTRACT(EPOCH FROM statement_timestamp()) * 1000)::BIGINT",
    }
}
